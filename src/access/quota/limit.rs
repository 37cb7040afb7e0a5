//! A rate and a burst.

/// Seconds of the day that rates are counted for.
pub const DAY_S: u64 = 86_400;

pub(super) const NS: u64 = 1_000_000_000;
const DAY_NS: u64 = DAY_S * NS;

/// The longest time that a burst may take to come back.
const MAX_REFILL_DAYS: u64 = 30;

/// Why a limit cannot be. The operator's to mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Nothing, or more than a nanosecond each could count.
    #[error("a day's limit must lie between 1 and {DAY_NS}")]
    PerDay,
    /// A burst of nothing, or one that a month does not bring back.
    #[error("a burst must be at least 1, and at most what {MAX_REFILL_DAYS} days allow")]
    Burst,
}

/// So many a day, spread evenly, of which up to a burst may be saved up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    per_day: u64,
    burst: u64,
}

impl Limit {
    /// At most `per_day * t + burst` within any time of `t` days.
    ///
    /// # Errors
    /// [`LimitError`].
    pub const fn new(per_day: u64, burst: u64) -> Result<Self, LimitError> {
        if per_day == 0 || per_day > DAY_NS {
            return Err(LimitError::PerDay);
        }
        if burst == 0 || burst > per_day.saturating_mul(MAX_REFILL_DAYS) {
            return Err(LimitError::Burst);
        }
        Ok(Self { per_day, burst })
    }

    /// One that is known to be.
    pub(super) const fn known(per_day: u64, burst: u64) -> Self {
        Self { per_day, burst }
    }

    /// How many in 86,400 seconds.
    #[must_use]
    pub const fn per_day(self) -> u64 {
        self.per_day
    }

    /// How many at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    /// Nanoseconds in which `count` come back, rounded up.
    pub(super) fn time_of(self, count: u64) -> u64 {
        let ns = (u128::from(count) * u128::from(DAY_NS)).div_ceil(u128::from(self.per_day));
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// How many come back in so many nanoseconds, rounded down.
    pub(super) fn count_in(self, ns: u64) -> u64 {
        let count = u128::from(ns) * u128::from(self.per_day) / u128::from(DAY_NS);
        u64::try_from(count).unwrap_or(u64::MAX).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_nothing_and_without_end_are_refused() {
        assert_eq!(Limit::new(0, 1), Err(LimitError::PerDay));
        assert_eq!(Limit::new(DAY_NS + 1, 1), Err(LimitError::PerDay));
        assert_eq!(Limit::new(10, 0), Err(LimitError::Burst));
        assert_eq!(Limit::new(10, 301), Err(LimitError::Burst));
        for (per_day, burst) in [(1, 1), (10, 300), (DAY_NS, u64::MAX / 1_000_000)] {
            let limit = Limit::new(per_day, burst).unwrap();
            assert_eq!((limit.per_day(), limit.burst()), (per_day, burst));
            assert_eq!(limit.count_in(limit.time_of(burst)), burst);
        }
    }
}
