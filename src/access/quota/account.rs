//! What one partner has left, of all that is counted.

use super::{Charge, Limit, Meter, Outcome};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Blinded elements that are evaluated, decoys too: whoever looks people up
    /// one after the other pays here.
    Elements,
    /// Bytes of buckets.
    Bytes,
    /// Blind tokens for users, each of which pays two elements.
    Tokens,
    /// Queries for rows: each reads all of a partition's matrix.
    Queries,
}

/// The limits of one partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Evaluated elements: two for each lookup.
    pub elements: Limit,
    /// Bytes of buckets.
    pub bytes: Limit,
    /// Tokens for users.
    pub tokens: Limit,
    /// Queries for rows.
    pub queries: Limit,
}

impl Limits {
    /// What a user gets in a day: 128 lookups, and so the 50 of the drafts
    /// however they are batched.
    pub const TOKENS_PER_USER: u64 = 256;

    /// What a partner has unless told otherwise: a million elements a day, with
    /// the buckets of twice as many lookups, the tokens of 10,000 users, and 20,000
    /// queries for rows, which take a core an hour or two.
    pub const DEFAULT: Self = Self {
        elements: Limit::known(1_000_000, 65_536),
        bytes: Limit::known(64 << 30, 8 << 30),
        tokens: Limit::known(10_000 * Self::TOKENS_PER_USER, 1000 * Self::TOKENS_PER_USER),
        queries: Limit::known(20_000, 2000),
    };

    /// One of them.
    #[must_use]
    pub const fn of(&self, counted: Counted) -> Limit {
        match counted {
            Counted::Elements => self.elements,
            Counted::Bytes => self.bytes,
            Counted::Tokens => self.tokens,
            Counted::Queries => self.queries,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What is written down of an account: how far each balance may be spent, in
/// nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Leases {
    elements: u64,
    bytes: u64,
    tokens: u64,
    queries: u64,
}

/// The form of what is written down, and the one before it, without queries.
const FORMAT: u8 = 2;
const OLD_FORMAT: u8 = 1;

impl Leases {
    /// A format byte and four moments, big-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let moments = [self.elements, self.bytes, self.tokens, self.queries];
        std::iter::once(FORMAT).chain(moments.into_iter().flat_map(u64::to_be_bytes)).collect()
    }

    /// Reads what [`Self::encode`] wrote, or wrote before there were queries;
    /// `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first()?;
        let (moments, []) = rest.as_chunks::<8>() else { return None };
        let at = |moment: &[u8; 8]| u64::from_be_bytes(*moment);
        let (elements, bytes, tokens, queries) = match (*format, moments) {
            (FORMAT, [elements, bytes, tokens, queries]) => (elements, bytes, tokens, at(queries)),
            (OLD_FORMAT, [elements, bytes, tokens]) => (elements, bytes, tokens, 0),
            _ => return None,
        };
        Some(Self { elements: at(elements), bytes: at(bytes), tokens: at(tokens), queries })
    }
}

/// The meters of a partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    elements: Meter,
    bytes: Meter,
    tokens: Meter,
    queries: Meter,
}

impl Account {
    /// An account as a crash may have left it.
    #[must_use]
    pub const fn new(limits: &Limits, leases: Leases) -> Self {
        Self {
            elements: Meter::new(limits.elements, leases.elements),
            bytes: Meter::new(limits.bytes, leases.bytes),
            tokens: Meter::new(limits.tokens, leases.tokens),
            queries: Meter::new(limits.queries, leases.queries),
        }
    }

    /// One of the meters.
    #[must_use]
    pub const fn meter(&self, counted: Counted) -> &Meter {
        match counted {
            Counted::Elements => &self.elements,
            Counted::Bytes => &self.bytes,
            Counted::Tokens => &self.tokens,
            Counted::Queries => &self.queries,
        }
    }

    const fn meter_mut(&mut self, counted: Counted) -> &mut Meter {
        match counted {
            Counted::Elements => &mut self.elements,
            Counted::Bytes => &mut self.bytes,
            Counted::Tokens => &mut self.tokens,
            Counted::Queries => &mut self.queries,
        }
    }

    /// Changes the limits: what was spent stays spent.
    pub const fn set_limits(&mut self, limits: &Limits) {
        self.elements.set_limit(limits.elements);
        self.bytes.set_limit(limits.bytes);
        self.tokens.set_limit(limits.tokens);
        self.queries.set_limit(limits.queries);
    }

    /// Charges `count`, whole or not at all.
    pub fn charge(&mut self, counted: Counted, count: u64, now_s: u64) -> Outcome {
        self.meter_mut(counted).charge(count, now_s)
    }

    /// Gives back what was charged for nothing.
    pub fn refund(&mut self, counted: Counted, charge: Charge, now_s: u64) {
        self.meter_mut(counted).refund(charge, now_s);
    }

    /// What must be written down before `count` can be charged.
    #[must_use]
    pub fn lease(&self, counted: Counted, count: u64, now_s: u64) -> Leases {
        let ahead =
            |which, meter: &Meter| meter.lease(if which == counted { count } else { 0 }, now_s);
        Leases {
            elements: ahead(Counted::Elements, &self.elements),
            bytes: ahead(Counted::Bytes, &self.bytes),
            tokens: ahead(Counted::Tokens, &self.tokens),
            queries: ahead(Counted::Queries, &self.queries),
        }
    }

    /// It is written down, durably.
    pub fn leased(&mut self, leases: Leases) {
        self.elements.leased(leases.elements);
        self.bytes.leased(leases.bytes);
        self.tokens.leased(leases.tokens);
        self.queries.leased(leases.queries);
    }

    /// Gives up what was leased and not spent, and says what to write down.
    pub fn settle(&mut self) -> Leases {
        Leases {
            elements: self.elements.settle(),
            bytes: self.bytes.settle(),
            tokens: self.tokens.settle(),
            queries: self.queries.settle(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Counted; 4] =
        [Counted::Elements, Counted::Bytes, Counted::Tokens, Counted::Queries];

    #[test]
    fn leases_are_read_as_they_were_written_and_not_otherwise() {
        let leases = Leases { elements: 1, bytes: u64::MAX, tokens: 3, queries: 4 };
        let bytes = leases.encode();
        assert_eq!(Leases::decode(&bytes), Some(leases));
        for length in 0..bytes.len() {
            assert_eq!(Leases::decode(&bytes[..length]), None);
        }
        assert_eq!(Leases::decode(&[bytes.as_slice(), &[0]].concat()), None);
        let old = [&[OLD_FORMAT], &bytes[1..25]].concat();
        assert_eq!(Leases::decode(&old), Some(Leases { queries: 0, ..leases }));
        for format in [0, OLD_FORMAT, 3] {
            let mut other = bytes.clone();
            other[0] = format;
            assert_eq!(Leases::decode(&other), None);
        }
    }

    #[test]
    fn each_count_has_a_balance_of_its_own() {
        let now_s = 1_800_000_000;
        let mut account = Account::new(&Limits::DEFAULT, Leases::default());
        for counted in ALL {
            let before = account;
            let burst = Limits::DEFAULT.of(counted).burst();
            assert_eq!(account.charge(counted, burst, now_s), Outcome::NeedsLease);
            let leases = account.lease(counted, burst, now_s);
            account.leased(leases);
            let Outcome::Granted(charge) = account.charge(counted, burst, now_s) else { panic!() };
            assert_eq!(account.meter(counted).available(now_s), 0);
            let crashed = Account::new(&Limits::DEFAULT, leases);
            assert_eq!(crashed.meter(counted).available(now_s), 0);
            for other in ALL {
                if other != counted {
                    let left = account.meter(other).available(now_s);
                    assert_eq!(left, before.meter(other).available(now_s));
                }
            }
            account.refund(counted, charge, now_s);
            assert_eq!(account.meter(counted).available(now_s), burst);
        }
    }

    #[test]
    fn the_defaults_cover_the_largest_batch_and_the_largest_fetch() {
        for counted in ALL {
            let limit = Limits::DEFAULT.of(counted);
            assert_eq!(Limit::new(limit.per_day(), limit.burst()), Ok(limit));
        }
        assert!(Limits::DEFAULT.elements.burst() >= 512);
        assert!(Limits::DEFAULT.bytes.burst() >= 65_536 * 50_000);
        assert!(Limits::DEFAULT.tokens.burst() >= 256);
    }
}
