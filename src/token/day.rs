//! The days of token keys.

use std::fmt;

const DAY_S: u64 = 86_400;

/// A day of 86,400 seconds, counted from 1970, and the key of that day. The key
/// issues on its day, and redeems until the end of the next: whoever gets tokens
/// has them for a day at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(u32);

impl Day {
    /// The day of this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The day of a time in seconds since 1970.
    #[must_use]
    pub fn at(now_s: u64) -> Self {
        Self(u32::try_from(now_s / DAY_S).unwrap_or(u32::MAX))
    }

    /// Days since 1970.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// The day before, whose key redeems still.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The day after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether its key issues at this time.
    #[must_use]
    pub fn issues(self, now_s: u64) -> bool {
        self == Self::at(now_s)
    }

    /// Whether its key redeems at this time.
    #[must_use]
    pub fn redeems(self, now_s: u64) -> bool {
        let today = Self::at(now_s);
        self == today || self == today.before()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_issues_for_its_day_and_redeems_for_one_more() {
        let day = Day::new(20_000);
        let begin = 20_000 * DAY_S;
        for (now_s, issues, redeems) in [
            (begin - 1, false, false),
            (begin, true, true),
            (begin + DAY_S - 1, true, true),
            (begin + DAY_S, false, true),
            (begin + 2 * DAY_S - 1, false, true),
            (begin + 2 * DAY_S, false, false),
        ] {
            assert_eq!((day.issues(now_s), day.redeems(now_s)), (issues, redeems), "{now_s}");
        }
        assert!(!Day::at(u64::MAX).redeems(0));
    }
}
