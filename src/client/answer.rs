//! What a lookup finds, verified.

use super::{ClientError, directory::View, pins::Trust};
use crate::{
    bucket::{Audience, Opened, SignedMapping},
    identifier::{Sii, Ssi},
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

/// What was found under an identifier: nothing, too, is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The identifier.
    pub sii: Sii,
    /// Its mappings: the open ones in the directory's order, then those of the
    /// client's circle.
    pub mappings: Vec<Found>,
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
        for signed in open.mappings.iter().chain(&circle.mappings) {
            check(sii, signed, view)?;
        }
        let damaged = open.damaged + circle.damaged;
        let opened = open.mappings.into_iter().map(|signed| (signed.mapping, false));
        let of_circle = circle.mappings.into_iter().map(|signed| (signed.mapping, true));
        let opened: Vec<_> = opened.chain(of_circle).collect();
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
        Ok(Self { sii: sii.clone(), mappings, damaged, answered_at_s, stale: false })
    }
}

fn check(sii: &Sii, signed: &SignedMapping, view: &View) -> Result<(), ClientError> {
    let provider = signed.mapping.ssi.provider();
    match view.trust.get(provider) {
        Some(Trust::Key(key)) => signed
            .verify(sii, key)
            .map_err(|fault| ClientError::MappingForged { provider: provider.clone(), fault }),
        Some(Trust::Changed) => Err(ClientError::ProviderKeyChanged { provider: provider.clone() }),
        None => Err(ClientError::ProviderUnknown { provider: provider.clone() }),
    }
}
