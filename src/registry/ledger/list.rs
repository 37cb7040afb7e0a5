//! What is listed: to a provider its own mappings, bucket by bucket; to whoever
//! controls an identifier all of its mappings. Nothing is changed.

use super::{
    LedgerError, Which,
    change::check_unused,
    draft::{self, Stored},
};
use crate::{
    bucket::{Audience, BucketNumber, PrefixBits},
    identifier::{Provider, Sii},
    keyring::Keyring,
    registry::{
        circle::Circle,
        row::{Listing, Placed},
        verified::VerifiedControl,
    },
    store::RowKey,
};

/// Buckets that one page looks through, at most.
pub(super) const PAGE_BUCKETS: u32 = 1024;

/// One mapping, listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// The identifier.
    pub sii: Sii,
    /// Whom it leads to, and in which circle.
    pub which: Which,
    /// Whom it is meant for.
    pub audience: Audience,
    /// When it was made the default, seconds since 1970, or 0.
    pub default_since: u32,
    /// Until when it counts as verified, seconds since 1970; 0 if its provider
    /// vouches for it.
    pub verified_until: u32,
    /// Seconds for which an answer may be kept.
    pub ttl_s: u32,
}

/// Some mappings, and where to go on. A page may be empty and have a next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In no order that means anything.
    pub mappings: Vec<Mapped>,
    /// `None` at the end.
    pub next: Option<PageToken>,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageToken {
    bits: PrefixBits,
    number: BucketNumber,
}

impl PageToken {
    pub(super) const fn new(bits: PrefixBits, number: BucketNumber) -> Self {
        Self { bits, number }
    }

    /// The bucket where the page begins in a directory of so many bits.
    ///
    /// # Errors
    /// The directory was split since: [`LedgerError::PageToken`].
    pub(super) fn number(self, bits: PrefixBits) -> Result<BucketNumber, LedgerError> {
        if self.bits == bits { Ok(self.number) } else { Err(LedgerError::PageToken) }
    }

    /// The token for the one who lists.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.number.get().to_be_bytes();
        [self.bits.get(), a, b, c, d]
    }

    /// Reads a token that came back.
    ///
    /// # Errors
    /// [`LedgerError::PageToken`] if it is none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, LedgerError> {
        let bytes: [u8; 5] = bytes.try_into().map_err(|_| LedgerError::PageToken)?;
        let [bits, a, b, c, d] = bytes;
        let bits = PrefixBits::new(bits.into()).map_err(|_| LedgerError::PageToken)?;
        let number = BucketNumber::new(u32::from_be_bytes([a, b, c, d]), bits);
        Ok(Self { bits, number: number.map_err(|_| LedgerError::PageToken)? })
    }
}

/// The mappings of a provider in a bucket.
pub(super) fn of_provider(
    keyring: &Keyring,
    stored: &Stored,
    provider: &Provider,
) -> Result<Vec<Mapped>, LedgerError> {
    let mut mapped = Vec::new();
    for listing in draft::open_rows(keyring, stored)?.values() {
        let all = all(listing);
        mapped.extend(all.into_iter().filter(|mapped| mapped.which.ssi.provider() == provider));
    }
    Ok(mapped)
}

/// All mappings of an identifier. Listing does not use its proof up: whoever
/// lists goes on to release or to re-order.
pub(super) fn of_control(
    keyring: &Keyring,
    stored: &Stored,
    control: &VerifiedControl,
    now_s: u64,
) -> Result<Vec<Mapped>, LedgerError> {
    let key = RowKey(keyring.row_key(control.sii()));
    let mut listings = draft::open_rows(keyring, stored)?;
    let listing = listings.remove(&key).unwrap_or_else(|| Listing::new(control.sii().clone()));
    check_unused(&listing, control.proof(), now_s)?;
    Ok(all(&listing))
}

fn all(listing: &Listing) -> Vec<Mapped> {
    let sequences = listing.sequences.iter();
    let placed = sequences.flat_map(|sequence| {
        sequence.placed.iter().map(|Placed { signed, .. }| Mapped {
            sii: listing.sii.clone(),
            which: Which {
                ssi: signed.mapping.ssi.clone(),
                circle: sequence.circle.as_ref().map(Circle::id),
            },
            audience: signed.mapping.audience,
            default_since: signed.mapping.default_since,
            verified_until: signed.mapping.verified_until,
            ttl_s: signed.mapping.ttl_s,
        })
    });
    placed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_holds_for_one_size_of_the_directory() {
        let bits = |bits| PrefixBits::new(bits).unwrap();
        let token = PageToken::new(bits(10), BucketNumber::new(1023, bits(10)).unwrap());
        assert_eq!(PageToken::from_bytes(&token.to_bytes()).unwrap(), token);
        assert!(matches!(token.number(bits(11)), Err(LedgerError::PageToken)));
        assert_eq!(token.number(bits(10)).unwrap().get(), 1023);
        for bytes in [&[][..], &[10, 0, 0, 4], &[10, 0, 0, 4, 0], &[33, 0, 0, 0, 0], &[0; 6]] {
            assert!(matches!(PageToken::from_bytes(bytes), Err(LedgerError::PageToken)));
        }
        assert!(!format!("{token:?}").contains("1023"));
    }
}
