//! Claims, one or many, and what came of them.

use std::fmt;

use super::{
    Proof, WireError, array, audience_number, audience_said, optional, proof, proto, sii, user,
};
use crate::{
    bucket::Audience,
    identifier::{Sii, User},
    secret::Secret,
};

/// A mapping of the caller's own provider, as it signed it, with its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who is to be found.
    pub sii: Sii,
    /// The user at the caller's provider.
    pub user: User,
    /// Whom the mapping is meant for.
    pub audience: Audience,
    /// Seconds for which an answer may be kept.
    pub ttl_s: u32,
    /// Until when it counts as verified, seconds since 1970.
    pub verified_until_s: u32,
    /// The provider's signature.
    pub signature: [u8; 64],
    /// Shows control of the identifier.
    pub proof: Proof,
    /// Only who holds it finds the mapping; `None` if everybody is to.
    pub circle: Option<Secret<32>>,
}

impl Claim {
    /// Checks a claim; one without an identifier is for `of`, if that is given.
    pub(super) fn read(claim: proto::ClaimRequest, of: Option<&Sii>) -> Result<Self, WireError> {
        let sii = match of {
            Some(of) if claim.sii.is_empty() => of.clone(),
            Some(of) if claim.sii != of.as_str() => {
                let rule = "must be empty, or the identifier that is ported";
                return Err(WireError::Rule { field: "claim.sii", rule });
            }
            Some(of) => of.clone(),
            None => sii("sii", &claim.sii)?,
        };
        let circle = match claim.circle_secret.as_ref() {
            [] => None,
            secret => Some(Secret::new(array("circle_secret", secret)?)),
        };
        Ok(Self {
            sii,
            user: user("user", &claim.user)?,
            audience: audience_said("audience", claim.audience)?,
            ttl_s: claim.ttl_s,
            verified_until_s: claim.verified_until_s,
            signature: array("signature", &claim.signature)?,
            proof: proof::proof(claim.proof)?,
            circle,
        })
    }
}

impl TryFrom<proto::ClaimRequest> for Claim {
    type Error = WireError;

    fn try_from(claim: proto::ClaimRequest) -> Result<Self, WireError> {
        Self::read(claim, None)
    }
}

impl From<Claim> for proto::ClaimRequest {
    fn from(claim: Claim) -> Self {
        Self {
            sii: claim.sii.as_str().into(),
            user: claim.user.as_str().into(),
            audience: audience_number(claim.audience),
            ttl_s: claim.ttl_s,
            verified_until_s: claim.verified_until_s,
            signature: claim.signature.to_vec().into(),
            proof: Some(claim.proof.into()),
            circle_secret: optional(claim.circle.map(|secret| *secret.expose())),
        }
    }
}

impl TryFrom<proto::ClaimManyRequest> for Claim {
    type Error = WireError;

    fn try_from(request: proto::ClaimManyRequest) -> Result<Self, WireError> {
        request.claim.ok_or(WireError::Missing("claim"))?.try_into()
    }
}

impl From<Claim> for proto::ClaimManyRequest {
    fn from(claim: Claim) -> Self {
        Self { claim: Some(claim.into()) }
    }
}

/// The mapping is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimed {
    /// Whether it was there before.
    pub renewed: bool,
}

impl From<Claimed> for proto::ClaimResponse {
    fn from(claimed: Claimed) -> Self {
        Self { renewed: claimed.renewed }
    }
}

impl From<proto::ClaimResponse> for Claimed {
    fn from(response: proto::ClaimResponse) -> Self {
        Self { renewed: response.renewed }
    }
}

/// Why one of many was refused: what a status would say. The words are the server's,
/// which may put into them whatever it likes: nothing of them is printed with
/// [`fmt::Debug`].
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A gRPC status code.
    pub code: i32,
    /// As in `google.rpc.ErrorInfo`: stable, programs may rely on it.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusal").field("code", &self.code).finish_non_exhaustive()
    }
}

impl From<Refusal> for proto::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self { code: refusal.code, reason: refusal.reason, message: refusal.message }
    }
}

impl From<proto::Refusal> for Refusal {
    fn from(refusal: proto::Refusal) -> Self {
        Self { code: refusal.code, reason: refusal.reason, message: refusal.message }
    }
}

/// What came of one of many claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which of the stream, from 0.
    pub index: u64,
    /// What came of it.
    pub outcome: Result<Claimed, Refusal>,
}

impl From<Outcome> for proto::ClaimManyResponse {
    fn from(outcome: Outcome) -> Self {
        use proto::claim_many_response::Outcome as One;
        let one = match outcome.outcome {
            Ok(claimed) => One::Claimed(claimed.into()),
            Err(refusal) => One::Refusal(refusal.into()),
        };
        Self { index: outcome.index, outcome: Some(one) }
    }
}

impl TryFrom<proto::ClaimManyResponse> for Outcome {
    type Error = WireError;

    fn try_from(response: proto::ClaimManyResponse) -> Result<Self, WireError> {
        use proto::claim_many_response::Outcome as One;
        let outcome = match response.outcome.ok_or(WireError::Missing("outcome"))? {
            One::Claimed(claimed) => Ok(claimed.into()),
            One::Refusal(refusal) => Err(refusal.into()),
        };
        Ok(Self { index: response.index, outcome })
    }
}
