//! What changes a mapping that is there: preferences, releases, ports.

use super::{
    CircleIdBytes, Claim, Claimed, MappingName, Proof, WireError, array, audience_number,
    audience_said, circle_id, mapping, optional, proof, proto, provider, sii, user,
};
use crate::{
    bucket::Audience,
    identifier::{Provider, Sii, User},
};

/// Changes preferences of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPreferences {
    /// Whose.
    pub sii: Sii,
    /// What to change.
    pub change: SetPreference,
}

/// What to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetPreference {
    /// For whom a mapping of the caller's own provider is meant.
    Audience {
        /// The user at the caller's provider.
        user: User,
        /// The circle that finds it; `None` if everybody does.
        circle: Option<CircleIdBytes>,
        /// Whom it is meant for from now on.
        audience: Audience,
        /// The mapping signed anew.
        signature: [u8; 64],
    },
    /// Which mapping is the default.
    Default {
        /// Which.
        mapping: MappingName,
        /// Shows control of the identifier.
        proof: Proof,
    },
}

impl TryFrom<proto::SetPreferencesRequest> for SetPreferences {
    type Error = WireError;

    fn try_from(request: proto::SetPreferencesRequest) -> Result<Self, WireError> {
        use proto::set_preferences_request::Change;
        let sii = sii("sii", &request.sii)?;
        let change = match request.change.ok_or(WireError::Missing("change"))? {
            Change::Audience(change) => SetPreference::Audience {
                user: user("user", &change.user)?,
                circle: circle_id("circle_id", &change.circle_id)?,
                audience: audience_said("audience", change.audience)?,
                signature: array("signature", &change.signature)?,
            },
            Change::Default(change) => SetPreference::Default {
                mapping: mapping(change.mapping)?,
                proof: proof::proof(change.proof)?,
            },
        };
        Ok(Self { sii, change })
    }
}

impl From<SetPreferences> for proto::SetPreferencesRequest {
    fn from(set: SetPreferences) -> Self {
        use proto::set_preferences_request::Change;
        let change = match set.change {
            SetPreference::Audience { user, circle, audience, signature } => {
                Change::Audience(proto::AudienceChange {
                    user: user.as_str().into(),
                    circle_id: optional(circle),
                    audience: audience_number(audience),
                    signature: signature.to_vec().into(),
                })
            }
            SetPreference::Default { mapping, proof } => Change::Default(proto::DefaultChange {
                mapping: Some(mapping.into()),
                proof: Some(proof.into()),
            }),
        };
        Self { sii: set.sii.as_str().into(), change: Some(change) }
    }
}

/// Removes mappings of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub sii: Sii,
    /// Which, and by what right.
    pub releases: Releases,
}

/// Which mappings to remove, and by what right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Releases {
    /// The caller's own, in whatever circles.
    Own {
        /// The user at the caller's provider.
        user: User,
    },
    /// Every one, by an authority over the number or domain.
    All,
    /// Any one, by whoever proves control.
    Control {
        /// Which.
        mapping: MappingName,
        /// Shows control of the identifier.
        proof: Proof,
    },
}

impl TryFrom<proto::ReleaseRequest> for Release {
    type Error = WireError;

    fn try_from(request: proto::ReleaseRequest) -> Result<Self, WireError> {
        use proto::release_request::Release as Right;
        let sii = sii("sii", &request.sii)?;
        let releases = match request.release.ok_or(WireError::Missing("release"))? {
            Right::Own(own) => Releases::Own { user: user("user", &own.user)? },
            Right::Authority(proto::AuthorityRelease {}) => Releases::All,
            Right::Control(control) => Releases::Control {
                mapping: mapping(control.mapping)?,
                proof: proof::proof(control.proof)?,
            },
        };
        Ok(Self { sii, releases })
    }
}

impl From<Release> for proto::ReleaseRequest {
    fn from(release: Release) -> Self {
        use proto::release_request::Release as Right;
        let right = match release.releases {
            Releases::Own { user } => Right::Own(proto::OwnRelease { user: user.as_str().into() }),
            Releases::All => Right::Authority(proto::AuthorityRelease {}),
            Releases::Control { mapping, proof } => Right::Control(proto::ControlRelease {
                mapping: Some(mapping.into()),
                proof: Some(proof.into()),
            }),
        };
        Self { sii: release.sii.as_str().into(), release: Some(right) }
    }
}

/// Mappings are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released {
    /// How many.
    pub released: u32,
}

impl From<Released> for proto::ReleaseResponse {
    fn from(released: Released) -> Self {
        Self { released: released.released }
    }
}

impl From<proto::ReleaseResponse> for Released {
    fn from(response: proto::ReleaseResponse) -> Self {
        Self { released: response.released }
    }
}

/// Moves an identifier from one operator to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Which.
    pub sii: Sii,
    /// The old operator's provider; `None` if it is none.
    pub from: Option<Provider>,
    /// The new operator's claim of this identifier; `None` if it is no
    /// provider.
    pub claim: Option<Claim>,
}

impl TryFrom<proto::PortRequest> for Port {
    type Error = WireError;

    fn try_from(request: proto::PortRequest) -> Result<Self, WireError> {
        let sii = sii("sii", &request.sii)?;
        let from = match request.from_provider.as_str() {
            "" => None,
            name => Some(provider("from_provider", name)?),
        };
        let claim = request.claim.map(|claim| Claim::read(claim, Some(&sii))).transpose()?;
        Ok(Self { sii, from, claim })
    }
}

impl From<Port> for proto::PortRequest {
    fn from(port: Port) -> Self {
        Self {
            sii: port.sii.as_str().into(),
            from_provider: port.from.map_or_else(String::new, |from| from.as_str().into()),
            claim: port.claim.map(Into::into),
        }
    }
}

/// It moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ported {
    /// Mappings of the old operator that are gone.
    pub released: u32,
    /// The new operator's, if it claimed.
    pub claimed: Option<Claimed>,
}

impl From<Ported> for proto::PortResponse {
    fn from(ported: Ported) -> Self {
        Self { released: ported.released, claimed: ported.claimed.map(Into::into) }
    }
}

impl From<proto::PortResponse> for Ported {
    fn from(response: proto::PortResponse) -> Self {
        Self { released: response.released, claimed: response.claimed.map(Into::into) }
    }
}
