//! Proofs of control, as they travel.

use bytes::Bytes;

use super::{WireError, proto, verification::said};
use crate::secret::SecretText;

/// A proof as a caller hands it over: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// A claim token.
    Token(SecretText),
    /// A PASSporT in answer to a challenge.
    Passport {
        /// The challenge.
        challenge: SecretText,
        /// The PASSporT, in full form.
        token: SecretText,
        /// Its certificates in DER, the signer's first.
        certificates: Vec<Bytes>,
    },
    /// An OIDC `id_token` in answer to a challenge.
    Identity {
        /// The challenge.
        challenge: SecretText,
        /// The `id_token`.
        token: SecretText,
    },
}

impl TryFrom<proto::Proof> for Proof {
    type Error = WireError;

    fn try_from(proof: proto::Proof) -> Result<Self, WireError> {
        match proof.proof.ok_or(WireError::Missing("proof"))? {
            proto::proof::Proof::Token(token) => Ok(Self::Token(said("proof.token", token)?)),
            proto::proof::Proof::Passport(proof) => Ok(Self::Passport {
                challenge: said("proof.passport.challenge", proof.challenge)?,
                token: said("proof.passport.token", proof.token)?,
                certificates: proof.certificates,
            }),
            proto::proof::Proof::Identity(proof) => Ok(Self::Identity {
                challenge: said("proof.identity.challenge", proof.challenge)?,
                token: said("proof.identity.token", proof.token)?,
            }),
        }
    }
}

impl From<Proof> for proto::Proof {
    fn from(proof: Proof) -> Self {
        let proof = match proof {
            Proof::Token(token) => proto::proof::Proof::Token(token.expose().into()),
            Proof::Passport { challenge, token, certificates } => {
                proto::proof::Proof::Passport(proto::PassportProof {
                    challenge: challenge.expose().into(),
                    token: token.expose().into(),
                    certificates,
                })
            }
            Proof::Identity { challenge, token } => {
                proto::proof::Proof::Identity(proto::IdentityProof {
                    challenge: challenge.expose().into(),
                    token: token.expose().into(),
                })
            }
        };
        Self { proof: Some(proof) }
    }
}

/// A proof that must be there.
pub(super) fn proof(proof: Option<proto::Proof>) -> Result<Proof, WireError> {
    proof.ok_or(WireError::Missing("proof"))?.try_into()
}
