//! What partners ask of the registry, and what they are answered: each request
//! and response of `RegistryService` in its checked form, both ways.
//!
//! Identifiers, users and providers are parsed here and must be canonical. What
//! a proof says is the registry's to judge; here it is text.

mod change;
mod claim;
mod list;
mod proof;
mod verification;

#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use self::{
    change::{Port, Ported, Release, Released, Releases, SetPreference, SetPreferences},
    claim::{Claim, Claimed, Outcome, Refusal},
    list::{List, Listed, ListedMapping, MAX_PAGE_SIZE},
    proof::Proof,
    verification::{
        ChallengeStarted, FinishVerification, StartChallenge, StartVerification,
        VerificationFinished, VerificationStarted,
    },
};
use super::{WireError, array, proto};
use crate::{
    bucket::Audience,
    identifier::{IdentifierError, Provider, Sii, Ssi, User},
};

/// Names a circle without telling its secret.
pub type CircleIdBytes = [u8; 16];

/// One mapping of an identifier, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappingName {
    /// Whom it leads to.
    pub ssi: Ssi,
    /// The circle that finds it; `None` if everybody does.
    pub circle: Option<CircleIdBytes>,
}

impl TryFrom<proto::MappingName> for MappingName {
    type Error = WireError;

    fn try_from(name: proto::MappingName) -> Result<Self, WireError> {
        let provider = provider("mapping.provider", &name.provider)?;
        let user = user("mapping.user", &name.user)?;
        let ssi = identified("mapping.user", Ssi::new(provider, user))?;
        Ok(Self { ssi, circle: circle_id("mapping.circle_id", &name.circle_id)? })
    }
}

impl From<MappingName> for proto::MappingName {
    fn from(name: MappingName) -> Self {
        Self {
            provider: name.ssi.provider().as_str().into(),
            user: name.ssi.user().as_str().into(),
            circle_id: optional(name.circle),
        }
    }
}

/// The name of a mapping, which must be there.
fn mapping(name: Option<proto::MappingName>) -> Result<MappingName, WireError> {
    name.ok_or(WireError::Missing("mapping"))?.try_into()
}

fn identified<T>(field: &'static str, parsed: Result<T, IdentifierError>) -> Result<T, WireError> {
    parsed.map_err(|error| WireError::Identifier { field, error })
}

fn sii(field: &'static str, text: &str) -> Result<Sii, WireError> {
    identified(field, Sii::from_canonical(text))
}

fn user(field: &'static str, text: &str) -> Result<User, WireError> {
    identified(field, User::from_canonical(text))
}

fn provider(field: &'static str, text: &str) -> Result<Provider, WireError> {
    identified(field, Provider::from_canonical(text))
}

/// Whom a mapping is meant for; `None` if the message does not say.
pub(super) fn audience(field: &'static str, number: i32) -> Result<Option<Audience>, WireError> {
    match proto::Audience::try_from(number) {
        Ok(proto::Audience::Unspecified) => Ok(None),
        Ok(proto::Audience::Personal) => Ok(Some(Audience::Personal)),
        Ok(proto::Audience::Business) => Ok(Some(Audience::Business)),
        Err(_) => Err(WireError::Rule { field, rule: "must be personal or business" }),
    }
}

/// Whom a mapping is meant for, which must be said.
fn audience_said(field: &'static str, number: i32) -> Result<Audience, WireError> {
    audience(field, number)?.ok_or(WireError::Missing(field))
}

fn audience_number(audience: Audience) -> i32 {
    match audience {
        Audience::Personal => proto::Audience::Personal,
        Audience::Business => proto::Audience::Business,
    }
    .into()
}

fn circle_id(field: &'static str, bytes: &[u8]) -> Result<Option<CircleIdBytes>, WireError> {
    if bytes.is_empty() { Ok(None) } else { array(field, bytes).map(Some) }
}

/// The bytes, or none.
fn optional<const N: usize>(bytes: Option<[u8; N]>) -> Bytes {
    bytes.map_or_else(Bytes::new, |bytes| Bytes::copy_from_slice(&bytes))
}
