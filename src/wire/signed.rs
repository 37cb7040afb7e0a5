//! A body and the directory's signature over it, verified before it is decoded.

use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::{WireError, array};

/// What a signed body is: the word that separates its signature from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Parameters,
    Providers,
    TokenKeys,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Parameters => "parameters",
            Self::Providers => "providers",
            Self::TokenKeys => "token keys",
        }
    }

    /// `"blindbook v1 " name || 0x00 || body`.
    fn signature_input(self, body: &[u8]) -> Vec<u8> {
        [b"blindbook v1 ", self.name().as_bytes(), &[0], body].concat()
    }
}

/// An encoded body and its signature, as they travel and are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBody {
    /// The encoded message.
    pub body: Bytes,
    /// Ed25519 by the directory's identity key.
    pub signature: [u8; 64],
}

impl SignedBody {
    pub(super) fn sign(kind: Kind, body: Vec<u8>, identity: &SigningKey) -> Self {
        let signature = identity.sign(&kind.signature_input(&body)).to_bytes();
        Self { body: body.into(), signature }
    }

    pub(super) fn verify(&self, kind: Kind, identity: &VerifyingKey) -> Result<(), WireError> {
        identity
            .verify_strict(
                &kind.signature_input(&self.body),
                &Signature::from_bytes(&self.signature),
            )
            .map_err(|_| WireError::Signature(kind.name()))
    }

    /// Takes the two fields of a message.
    ///
    /// # Errors
    /// The signature has not 64 bytes.
    pub fn from_parts(body: Bytes, signature: &[u8]) -> Result<Self, WireError> {
        Ok(Self { body, signature: array("signature", signature)? })
    }

    /// One byte string for a state folder or a store: signature, then body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.signature.as_slice(), &self.body].concat()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// Fewer than 64 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let (signature, body) = bytes.split_first_chunk().ok_or(WireError::Length {
            field: "signature",
            expected: 64,
            got: bytes.len(),
        })?;
        Ok(Self { body: Bytes::copy_from_slice(body), signature: *signature })
    }
}
