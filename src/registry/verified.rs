//! What a checked proof comes to: that somebody controls an identifier, and
//! for which provider they said so. Only the registry's own proof checks can
//! make these values: whoever holds one need not ask again.

use std::fmt;

use super::proof::Proven;
use crate::identifier::{Provider, Sii};

/// What remains of a proof once it was used: a hash that names it, and until
/// when it could be shown again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ProofRecord {
    /// Names the proof. The same proof, however it is encoded, has the same.
    pub hash: [u8; 32],
    /// From when on the proof is refused for its age, seconds since 1970.
    pub expires_s: u64,
}

impl fmt::Debug for ProofRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProofRecord(..)")
    }
}

/// A fresh proof that a user controls an identifier, made for one provider.
#[derive(Debug, Clone)]
pub struct VerifiedClaim {
    sii: Sii,
    provider: Provider,
    proof: ProofRecord,
    proven_s: u64,
}

impl From<Proven> for ProofRecord {
    fn from(proven: Proven) -> Self {
        Self { hash: *proven.proof_id(), expires_s: proven.expires_s() }
    }
}

impl From<Proven> for VerifiedClaim {
    fn from(proven: Proven) -> Self {
        let (sii, provider) = (proven.sii().clone(), proven.provider().clone());
        Self::new(sii, provider, proven.clone().into(), proven.proof_time_s())
    }
}

impl From<Proven> for VerifiedControl {
    fn from(proven: Proven) -> Self {
        Self::new(proven.sii().clone(), proven.into())
    }
}

impl VerifiedClaim {
    /// To be called where a proof was checked, and nowhere else.
    pub(in crate::registry) const fn new(
        sii: Sii,
        provider: Provider,
        proof: ProofRecord,
        proven_s: u64,
    ) -> Self {
        Self { sii, provider, proof, proven_s }
    }

    /// The identifier.
    #[must_use]
    pub const fn sii(&self) -> &Sii {
        &self.sii
    }

    /// The provider that the proof was made for.
    #[must_use]
    pub const fn provider(&self) -> &Provider {
        &self.provider
    }

    pub(in crate::registry) const fn proof(&self) -> ProofRecord {
        self.proof
    }

    /// When the user proved it, seconds since 1970.
    #[must_use]
    pub const fn proven_s(&self) -> u64 {
        self.proven_s
    }
}

/// A fresh proof that somebody controls an identifier, whatever the provider.
#[derive(Debug, Clone)]
pub struct VerifiedControl {
    sii: Sii,
    proof: ProofRecord,
}

impl VerifiedControl {
    /// To be called where a proof was checked, and nowhere else.
    pub(in crate::registry) const fn new(sii: Sii, proof: ProofRecord) -> Self {
        Self { sii, proof }
    }

    /// The identifier.
    #[must_use]
    pub const fn sii(&self) -> &Sii {
        &self.sii
    }

    pub(in crate::registry) const fn proof(&self) -> ProofRecord {
        self.proof
    }
}
