//! What a lookup finds, verified.

use super::{ClientError, directory::View, pins::Trust};
use crate::{
    bucket::{Audience, MappingError, Opened, SignedMapping},
    identifier::{Provider, Sii, Ssi},
};

/// One mapping of an identifier, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who is found, and where.
    pub ssi: Ssi,
    /// Whom the mapping is meant for.
    pub audience: Audience,
    /// Whether the identifier's owner prefers this mapping; one of them is.
    pub default: bool,
    /// Whether only the members of the client's circle find it.
    pub circle: bool,
    /// Seconds for which the mapping may be kept.
    pub ttl_s: u32,
    /// Until when the mapping counts as verified, seconds since 1970; 0 when
    /// its provider vouches without end.
    pub verified_until_s: u32,
}

/// A mapping that was found and is not to be believed: its provider's signature
/// could not be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unverified {
    /// Whose it claims to be.
    pub provider: Provider,
    /// Why it is not believed.
    pub distrust: Distrust,
}

/// Why a mapping is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// The provider's key did not sign it: the directory lies, or its provider.
    #[error("its provider did not sign it")]
    Forged,
    /// The provider stands in no list yet: it may be new.
    #[error("its provider is not in the directory's list")]
    ProviderUnknown,
    /// The provider has another key than the pinned one, and no word of it.
    #[error("its provider's key changed without the old key's word")]
    KeyChanged,
}

/// What was found under an identifier: nothing, too, is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The identifier.
    pub sii: Sii,
    /// Its mappings: the open ones in the directory's order, then those of the
    /// client's circle.
    pub mappings: Vec<Found>,
    /// What was found beside them and is not to be believed. Where there is
    /// nothing else, a lookup fails instead.
    pub unverified: Vec<Unverified>,
    /// How many entries of this identifier did not open and were skipped: the
    /// directory is damaged, or its server lies. Not told to anybody.
    pub damaged: usize,
    /// When the directory was asked, seconds since 1970.
    pub answered_at_s: u64,
    /// Whether it may have changed since: a mapping's TTL has passed, or the
    /// directory said that the bucket changed. Nothing is asked because of it;
    /// [`Client::refresh`](super::Client::refresh) is the caller's choice.
    pub stale: bool,
}

impl Answer {
    /// The mapping that the identifier's owner prefers.
    #[must_use]
    pub fn default(&self) -> Option<&Found> {
        self.mappings.iter().find(|found| found.default)
    }

    /// Whether the TTL of a mapping has passed.
    pub(super) fn has_lapsed(&self, now_s: u64) -> bool {
        let age_s = now_s.saturating_sub(self.answered_at_s);
        self.mappings.iter().any(|found| age_s > found.ttl_s.into())
    }

    /// Verifies what opened in the identifier's bucket.
    pub(super) fn verify(
        sii: &Sii,
        open: Opened,
        circle: Opened,
        answered_at_s: u64,
        view: &View,
    ) -> Result<Self, ClientError> {
        let damaged = open.damaged + circle.damaged;
        let opened = open.mappings.into_iter().map(|signed| (signed, false));
        let of_circle = circle.mappings.into_iter().map(|signed| (signed, true));
        let mut unverified = Vec::new();
        let mut opened: Vec<_> = opened.chain(of_circle).collect();
        opened.retain(|(signed, _)| match check(sii, signed, view) {
            Ok(()) => true,
            Err(distrust) => {
                let provider = signed.mapping.ssi.provider().clone();
                unverified.push(Unverified { provider, distrust });
                false
            }
        });
        if let (true, Some(first)) = (opened.is_empty(), unverified.first()) {
            return Err(first.clone().into());
        }
        let opened: Vec<_> =
            opened.into_iter().map(|(signed, circle)| (signed.mapping, circle)).collect();
        // The greatest time, and of equal ones the first.
        let since = opened.iter().map(|(mapping, _)| mapping.default_since);
        let latest = since.clone().max();
        let default = since.clone().position(|since| Some(since) == latest);
        let mappings = opened.into_iter().enumerate().map(|(n, (mapping, circle))| Found {
            ssi: mapping.ssi,
            audience: mapping.audience,
            default: Some(n) == default,
            circle,
            ttl_s: mapping.ttl_s,
            verified_until_s: mapping.verified_until,
        });
        let mappings = mappings.collect();
        Ok(Self { sii: sii.clone(), mappings, unverified, damaged, answered_at_s, stale: false })
    }
}

impl From<Unverified> for ClientError {
    fn from(Unverified { provider, distrust }: Unverified) -> Self {
        match distrust {
            Distrust::Forged => Self::MappingForged { provider, fault: MappingError::Signature },
            Distrust::ProviderUnknown => Self::ProviderUnknown { provider },
            Distrust::KeyChanged => Self::ProviderKeyChanged { provider },
        }
    }
}

fn check(sii: &Sii, signed: &SignedMapping, view: &View) -> Result<(), Distrust> {
    match view.trust.get(signed.mapping.ssi.provider()) {
        Some(Trust::Key(key)) => signed.verify(sii, key).map_err(|_| Distrust::Forged),
        Some(Trust::Changed) => Err(Distrust::KeyChanged),
        None => Err(Distrust::ProviderUnknown),
    }
}
