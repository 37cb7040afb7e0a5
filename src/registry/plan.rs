//! How many buckets a directory has and how much of one a provider may fill.
//! Both follow from exact counts alone, so that a load that was killed and
//! started again decides as the first did.

use crate::bucket::{BUCKET_ENTRIES, BucketNumber, PrefixBits};

/// Most mappings per bucket on average; with twice as many buckets the mean
/// stays above half of it.
pub(super) const MAX_MEAN: u64 = 140;

/// As many bits of a placement as number any bucket.
const LEADING_BITS: u32 = 32;

/// The leading 32 bits of a placement: what spilled records are sorted by.
pub(super) fn leading_bits() -> PrefixBits {
    PrefixBits::new(LEADING_BITS).unwrap_or(PrefixBits::ZERO)
}

/// The bucket of a record, from the leading 32 bits of its placement.
pub(super) fn bucket_of(leading: BucketNumber, bits: PrefixBits) -> BucketNumber {
    // Never `None`: no directory has more than 32 bits.
    leading.above(leading_bits(), bits).unwrap_or(leading)
}

/// The fewest prefix bits that keep the mean load within (70, 140].
pub(super) fn prefix_bits(mappings: u64) -> PrefixBits {
    (0..=LEADING_BITS)
        .filter_map(|bits| PrefixBits::new(bits).ok())
        .find(|bits| mappings.div_ceil(bits.buckets()) <= MAX_MEAN)
        .unwrap_or_else(leading_bits)
}

/// Most entries of one provider in one bucket: `m + 8 * sqrt(m) + 16`, m being
/// its mean per bucket, and never more than a bucket holds.
pub(super) fn share(mappings: u64, bits: PrefixBits) -> usize {
    let mean = mappings as f64 / bits.buckets() as f64;
    let share = 8.0_f64.mul_add(mean.sqrt(), mean + 16.0);
    (0..BUCKET_ENTRIES).take_while(|entries| ((entries + 1) as f64) <= share).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_stays_within_70_and_140() {
        for (mappings, bits) in [
            (0, 0),
            (140, 0),
            (141, 1),
            (280, 1),
            (281, 2),
            (100_000, 10),
            (9_000_000, 16),
            (9_175_040, 16),
            (9_175_041, 17),
            (u64::MAX, 32),
        ] {
            assert_eq!(u32::from(prefix_bits(mappings).get()), bits, "{mappings}");
        }
        for mappings in (141..2_000_000).step_by(997) {
            let buckets = prefix_bits(mappings).buckets();
            assert!(mappings <= 140 * buckets && mappings > 70 * buckets, "{mappings}");
        }
    }

    #[test]
    fn a_share_is_the_mean_with_room_for_chance_and_at_most_a_bucket() {
        let bits = PrefixBits::new(10).unwrap();
        for (mean, entries) in [(0, 16), (1, 25), (4, 36), (100, 196), (121, 225), (140, 250)] {
            assert_eq!(share(mean * 1024, bits), entries, "{mean}");
        }
        assert_eq!(share(200 * 1024, bits), BUCKET_ENTRIES);
    }

    #[test]
    fn the_bucket_of_the_leading_bits_is_that_of_the_placement() {
        let placement = crate::bucket::Placement::from_bytes([0xa5; 32]);
        let leading = placement.bucket(leading_bits());
        for bits in 0..=32 {
            let bits = PrefixBits::new(bits).unwrap();
            assert!(bucket_of(leading, bits) == placement.bucket(bits));
        }
    }
}
