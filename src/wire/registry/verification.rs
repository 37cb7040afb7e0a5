//! One-time codes and challenges: how a proof begins.

use super::{WireError, proto, sii};
use crate::{identifier::Sii, secret::SecretText};

/// Asks for a one-time code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartVerification {
    /// Where it is sent.
    pub sii: Sii,
}

impl TryFrom<proto::StartVerificationRequest> for StartVerification {
    type Error = WireError;

    fn try_from(request: proto::StartVerificationRequest) -> Result<Self, WireError> {
        Ok(Self { sii: sii("sii", &request.sii)? })
    }
}

impl From<StartVerification> for proto::StartVerificationRequest {
    fn from(start: StartVerification) -> Self {
        Self { sii: start.sii.as_str().into() }
    }
}

/// A code is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationStarted {
    /// From then on it is refused, seconds since 1970.
    pub expires_s: u64,
}

impl From<VerificationStarted> for proto::StartVerificationResponse {
    fn from(started: VerificationStarted) -> Self {
        Self { expires_s: started.expires_s }
    }
}

impl From<proto::StartVerificationResponse> for VerificationStarted {
    fn from(response: proto::StartVerificationResponse) -> Self {
        Self { expires_s: response.expires_s }
    }
}

/// Gives a code back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishVerification {
    /// Where it was sent.
    pub sii: Sii,
    /// What came back.
    pub code: SecretText,
}

impl TryFrom<proto::FinishVerificationRequest> for FinishVerification {
    type Error = WireError;

    fn try_from(request: proto::FinishVerificationRequest) -> Result<Self, WireError> {
        Ok(Self { sii: sii("sii", &request.sii)?, code: said("code", request.code)? })
    }
}

impl From<FinishVerification> for proto::FinishVerificationRequest {
    fn from(finish: FinishVerification) -> Self {
        Self { sii: finish.sii.as_str().into(), code: finish.code.expose().into() }
    }
}

/// The code was right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationFinished {
    /// A claim token.
    pub token: SecretText,
}

impl From<VerificationFinished> for proto::FinishVerificationResponse {
    fn from(finished: VerificationFinished) -> Self {
        Self { token: finished.token.expose().into() }
    }
}

impl TryFrom<proto::FinishVerificationResponse> for VerificationFinished {
    type Error = WireError;

    fn try_from(response: proto::FinishVerificationResponse) -> Result<Self, WireError> {
        Ok(Self { token: said("token", response.token)? })
    }
}

/// Asks for a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartChallenge {
    /// What is to be proved to be controlled.
    pub sii: Sii,
}

impl TryFrom<proto::StartChallengeRequest> for StartChallenge {
    type Error = WireError;

    fn try_from(request: proto::StartChallengeRequest) -> Result<Self, WireError> {
        Ok(Self { sii: sii("sii", &request.sii)? })
    }
}

impl From<StartChallenge> for proto::StartChallengeRequest {
    fn from(start: StartChallenge) -> Self {
        Self { sii: start.sii.as_str().into() }
    }
}

/// A challenge, and the ways to answer it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeStarted {
    /// Names it; the nonce of an `id_token`.
    pub challenge: SecretText,
    /// What a message PASSporT digests.
    pub text: SecretText,
    /// Where a call leads; `None` if there is nowhere to call.
    pub destination: Option<String>,
    /// From then on it is refused, seconds since 1970.
    pub expires_s: u64,
}

impl From<ChallengeStarted> for proto::StartChallengeResponse {
    fn from(started: ChallengeStarted) -> Self {
        Self {
            challenge: started.challenge.expose().into(),
            text: started.text.expose().into(),
            destination: started.destination.unwrap_or_default(),
            expires_s: started.expires_s,
        }
    }
}

impl TryFrom<proto::StartChallengeResponse> for ChallengeStarted {
    type Error = WireError;

    fn try_from(response: proto::StartChallengeResponse) -> Result<Self, WireError> {
        Ok(Self {
            challenge: said("challenge", response.challenge)?,
            text: said("text", response.text)?,
            destination: Some(response.destination).filter(|address| !address.is_empty()),
            expires_s: response.expires_s,
        })
    }
}

/// Text that must not be empty.
pub(super) fn said(field: &'static str, text: String) -> Result<SecretText, WireError> {
    if text.is_empty() { Err(WireError::Missing(field)) } else { Ok(text.into()) }
}
