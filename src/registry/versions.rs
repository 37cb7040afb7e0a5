//! The versions of buckets: each starts at the time of its generation and
//! counts up from there, so that no bucket of a later generation is older than
//! one of an earlier.

/// Room for so many changes per second of a generation's life, as a power of
/// two.
const VERSION_TIME_BITS: u32 = 20;

/// The first version of a bucket. Never 0, which means that a bucket was never
/// written.
pub(super) fn first(now_s: u64) -> u64 {
    now_s.saturating_mul(1 << VERSION_TIME_BITS).max(1)
}

/// The version after `version`, which is not the greatest there is.
pub(super) const fn next(version: u64) -> Option<u64> {
    version.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_generation_has_greater_versions() {
        assert_eq!(first(0), 1);
        assert!(first(1_800_000_001) > first(1_800_000_000) + 1_000_000);
        assert_eq!((next(7), next(u64::MAX)), (Some(8), None));
    }
}
