//! What is remembered of buckets: which slots are taken, and by how many
//! mappings of each provider. With it, one row can be changed without opening
//! the others. It holds for one version of its bucket, which every change of any
//! writer raises, and is never used for another.

use std::{collections::BTreeMap, sync::Arc};

use quick_cache::{Weighter, sync::Cache};

use crate::{
    bucket::{BucketNumber, Slots},
    identifier::Provider,
    registry::row::Listing,
};

/// Most bytes that are remembered: more than a hundred thousand buckets of a few
/// providers each.
const MAX_BYTES: u64 = 32 << 20;

/// What a remembered bucket takes beside its providers.
const OVERHEAD_BYTES: usize = 192;

/// What a provider takes beside its name.
const PROVIDER_BYTES: usize = 64;

/// How many mappings each provider has; no provider has none.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct PerProvider(BTreeMap<Provider, usize>);

impl PerProvider {
    pub(super) fn of<'a>(listings: impl IntoIterator<Item = &'a Listing>) -> Self {
        let mut counts = Self::default();
        counts.add(listings);
        counts
    }

    pub(super) fn add<'a>(&mut self, listings: impl IntoIterator<Item = &'a Listing>) {
        for placed in listings.into_iter().flat_map(Listing::placed) {
            let provider = placed.signed.mapping.ssi.provider();
            if let Some(count) = self.0.get_mut(provider) {
                *count += 1;
            } else {
                self.0.insert(provider.clone(), 1);
            }
        }
    }

    pub(super) fn get(&self, provider: &Provider) -> usize {
        self.0.get(provider).copied().unwrap_or(0)
    }

    /// Without some of what was counted; `None` if it was not.
    fn without<'a>(&self, listings: impl IntoIterator<Item = &'a Listing>) -> Option<Self> {
        let mut rest = self.clone();
        for (provider, count) in Self::of(listings).0 {
            let left = rest.get(&provider).checked_sub(count)?;
            if left == 0 {
                rest.0.remove(&provider);
            } else {
                rest.0.insert(provider, left);
            }
        }
        Some(rest)
    }
}

/// What the rows of one bucket come to.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) slots: Slots,
    pub(super) counts: PerProvider,
}

impl Summary {
    /// The counts without those rows that are at hand; `None` if the two
    /// contradict each other.
    pub(super) fn others<'a>(
        &self,
        listings: impl IntoIterator<Item = &'a Listing> + Clone,
    ) -> Option<PerProvider> {
        let mut placed = listings.clone().into_iter().flat_map(Listing::placed);
        if placed.any(|placed| !self.slots.contains(placed.slot)) {
            return None;
        }
        self.counts.without(listings)
    }
}

#[derive(Clone)]
struct Bytes;

impl Weighter<BucketNumber, Remembered> for Bytes {
    fn weight(&self, _: &BucketNumber, (_, summary): &Remembered) -> u64 {
        let providers = summary.counts.0.keys();
        let names = providers.map(|provider| PROVIDER_BYTES + provider.as_str().len());
        (OVERHEAD_BYTES + names.sum::<usize>()) as u64
    }
}

type Remembered = (u64, Arc<Summary>);

/// The buckets that are remembered, as many as fit.
pub(super) struct Known(Cache<BucketNumber, Remembered, Bytes>);

impl Default for Known {
    fn default() -> Self {
        Self::within(MAX_BYTES)
    }
}

impl Known {
    fn within(bytes: u64) -> Self {
        let buckets = usize::try_from(bytes).unwrap_or(usize::MAX) / (2 * OVERHEAD_BYTES);
        Self(Cache::with_weighter(buckets, bytes, Bytes))
    }

    /// Whether any version of a bucket is remembered.
    pub(super) fn has(&self, number: BucketNumber) -> bool {
        self.0.get(&number).is_some()
    }

    /// What is known of one version of a bucket.
    pub(super) fn get(&self, number: BucketNumber, version: u64) -> Option<Arc<Summary>> {
        let (of, summary) = self.0.get(&number)?;
        (of == version).then_some(summary)
    }

    /// Remembers a version of a bucket.
    pub(super) fn put(&self, number: BucketNumber, version: u64, summary: Summary) {
        self.0.insert(number, (version, Arc::new(summary)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::{Audience, Mapping, PrefixBits, SignedMapping},
        identifier::{Sii, Ssi, User},
        registry::row::{Placed, Sequence},
    };

    fn provider(name: &str) -> Provider {
        Provider::parse(name).unwrap()
    }

    fn listing(mappings: &[(&str, u8)]) -> Listing {
        let placed = mappings.iter().map(|(name, slot)| {
            let ssi = Ssi::new(provider(name), User::parse(&format!("user-{slot}")).unwrap());
            let mapping = Mapping {
                ssi: ssi.unwrap(),
                audience: Audience::Personal,
                default_since: 0,
                verified_until: 0,
                ttl_s: 1,
            };
            Placed { signed: SignedMapping { mapping, signature: [0; 64] }, slot: *slot }
        });
        let sequences = vec![Sequence { circle: None, placed: placed.collect() }];
        Listing { sequences, ..Listing::new(Sii::from_canonical("tel:+14155550100").unwrap()) }
    }

    fn summary(listings: &[Listing]) -> Summary {
        let mut slots = Slots::default();
        for placed in listings.iter().flat_map(Listing::placed) {
            assert!(slots.take(placed.slot));
        }
        Summary { slots, counts: PerProvider::of(listings) }
    }

    fn number(number: u32) -> BucketNumber {
        BucketNumber::new(number, PrefixBits::new(32).unwrap()).unwrap()
    }

    #[test]
    fn the_others_are_all_but_those_at_hand() {
        let rows = [
            listing(&[("a.example", 1), ("b.example", 2)]),
            listing(&[("a.example", 3), ("c.example", 4)]),
        ];
        let whole = summary(&rows);
        let others = whole.others([&rows[0]]).unwrap();
        assert!(others == PerProvider::of([&rows[1]]));
        assert_eq!(
            ["a", "b", "c"].map(|name| others.get(&provider(&format!("{name}.example")))),
            [1, 0, 1]
        );
        assert!(whole.others([]).unwrap() == whole.counts);
    }

    #[test]
    fn a_row_that_contradicts_what_is_known_is_not_taken() {
        let whole = summary(&[listing(&[("a.example", 1), ("b.example", 2)])]);
        assert!(whole.others([&listing(&[("a.example", 9)])]).is_none());
        assert!(whole.others([&listing(&[("c.example", 1)])]).is_none());
        assert!(whole.others([&listing(&[("a.example", 1), ("a.example", 2)])]).is_none());
    }

    #[test]
    fn only_the_version_that_was_remembered_is_known() {
        let known = Known::default();
        let first = summary(&[listing(&[("a.example", 1)])]);
        known.put(number(1), 7, first.clone());
        assert!(known.get(number(1), 7).is_some_and(|known| *known == first));
        for version in [0, 6, 8] {
            assert!(known.get(number(1), version).is_none());
        }
        assert!(known.get(number(2), 7).is_none());
        known.put(number(1), 8, summary(&[]));
        assert!(known.get(number(1), 7).is_none());
        assert!(known.has(number(1)) && !known.has(number(2)));
    }

    #[test]
    fn what_is_remembered_keeps_to_its_bytes() {
        let known = Known::within(64 << 10);
        for n in 0..10_000 {
            known.put(number(n), 1, summary(&[listing(&[("a.example", 1), ("b.example", 2)])]));
        }
        assert!(known.0.weight() <= 64 << 10);
        assert!(known.0.len() > 50);
    }
}
