//! Proofs that a user controls an identifier, for one provider, now.
//!
//! [`Proofs::verify`] is the only door to a [`Proven`], which is all that
//! the rest of the registry believes. The time is passed in, nothing is fetched,
//! and whatever is not proved is refused with the fault's name.
//!
//! | proof | who signs | bound to identifier and provider by | single use by |
//! |---|---|---|---|
//! | claim token (ES256 JWT) | a directory that we trust, after its own one-time code | `sub`, `aud` | its `jti` |
//! | PASSporT (RFC 8225, RFC 9475) | the number's operator | `orig` and our [`Challenge`]: `dest` is our address for this provider, or `msgi` digests a text that names both | challenge, and its signed bytes |
//! | OIDC `id_token` | an issuer trusted for the mail domain | `email`, `aud`, and our [`Challenge`] as `nonce` | challenge |
//!
//! A PASSporT by itself is handed to everyone who is called and proves nothing;
//! that is why it counts only as the answer to a challenge. Certificates are not
//! checked for revocation, which would mean a request: keep chains short-lived
//! and take an authority that misissues off the list.

mod certificate;
mod challenge;
mod code;
mod error;
mod jose;
mod jwk;
mod oidc;
mod passport;
mod pending;
mod sender;
mod stored;
mod tn_auth_list;
mod token;
mod verify;
mod webhook;

use std::fmt;

use crate::identifier::{Provider, Sii};

pub use self::{
    certificate::TrustAnchors,
    challenge::{Challenge, Challenges, MAX_CHALLENGE_LIFETIME_S},
    code::{CodeConfirmed, CodeLimits, Codes},
    error::{Fault, ProofError},
    jwk::{IssuerKeys, TokenKey},
    oidc::{IdentityIssuer, IdentityIssuers},
    passport::{MAX_PASSPORT_AGE_S, PassportRules, VerificationAddress},
    pending::{MemoryPending, Pending, PendingError, PendingKey},
    sender::{CodeMessage, CodeSender, SendError, SpoolSender},
    stored::StoredPending,
    tn_auth_list::{NumberRange, TnAuthList},
    token::{TOKEN_LIFETIME_S, TokenIssuers, TokenSigner},
    verify::{Proof, Proofs},
    webhook::WebhookSender,
};

/// How far the clocks of signers and ours may lie apart.
pub const CLOCK_SKEW_S: u64 = 5;

/// Which kind of proof it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProofKind {
    /// A directory's claim token.
    Token,
    /// A PASSporT in answer to our challenge.
    Passport,
    /// An OIDC `id_token` over our nonce.
    Identity,
}

impl ProofKind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Token => b"token",
            Self::Passport => b"passport",
            Self::Identity => b"identity",
        }
    }
}

/// A user controls `sii` and wants it said for `provider`. Only this room makes
/// one. `Debug` prints nothing of the identifier.
#[derive(Clone)]
pub struct Proven {
    sii: Sii,
    provider: Provider,
    kind: ProofKind,
    proof_id: [u8; 32],
    proof_time_s: u64,
    expires_s: u64,
}

impl Proven {
    /// What is controlled.
    #[must_use]
    pub const fn sii(&self) -> &Sii {
        &self.sii
    }

    /// The provider that the proof was made for.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    /// The kind of proof.
    #[must_use]
    pub const fn kind(&self) -> ProofKind {
        self.kind
    }

    /// Names the proof, the same however it is encoded: record it in the commit
    /// that uses it, and refuse it when it is recorded already.
    #[must_use]
    pub const fn proof_id(&self) -> &[u8; 32] {
        &self.proof_id
    }

    /// When control was shown.
    #[must_use]
    pub const fn proof_time_s(&self) -> u64 {
        self.proof_time_s
    }

    /// From then on the proof is refused as expired, and its record may go.
    #[must_use]
    pub const fn expires_s(&self) -> u64 {
        self.expires_s
    }
}

impl fmt::Debug for Proven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proven")
            .field("provider", &self.provider)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// The name of a proof, from what its signature covers and nobody can vary. An
/// ECDSA signature has a second form, so it is not part of it.
fn proof_id(kind: ProofKind, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("blindbook v1 proof id");
    for part in [kind.label()].iter().chain(parts) {
        hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
    }
    hasher.finalize().into()
}
