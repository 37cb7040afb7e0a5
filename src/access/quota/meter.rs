//! One token bucket, as the generic cell rate algorithm has it: a single moment,
//! until which all that was granted is paid for by the time that passes.

use super::limit::{Limit, NS};

/// A lease is so much of the burst ahead of what is spent: a crash loses at most
/// that, and a balance is written down at most so often.
const LEASES_PER_BURST: u64 = 16;

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Charged.
    Granted(Charge),
    /// There is enough, but it must be written down first that it may be spent:
    /// [`Meter::lease`].
    NeedsLease,
    /// There is not enough: nothing was charged.
    Refused(Refused),
}

/// What was charged, to give it back by [`Meter::refund`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    cost_ns: u64,
    at_ns: u64,
}

/// Too much was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// When the same could be granted, if nothing else is until then. For more
    /// than the burst, which never could, when all of it is back.
    pub retry_after_s: u64,
}

/// A token bucket. It holds when all that was granted will be paid for, and how
/// far that may go without being written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meter {
    limit: Limit,
    /// Nanoseconds since 1970; before now: all is there.
    paid_at_ns: u64,
    /// Written down: never less than `paid_at_ns`.
    leased_ns: u64,
}

impl Meter {
    /// A bucket as a crash may have left it: what was leased counts as spent. 0
    /// for a full one.
    #[must_use]
    pub const fn new(limit: Limit, leased_ns: u64) -> Self {
        Self { limit, paid_at_ns: leased_ns, leased_ns }
    }

    /// The rate and the burst.
    #[must_use]
    pub const fn limit(&self) -> Limit {
        self.limit
    }

    /// Changes rate and burst; what was granted is paid for at the moment at which
    /// it was.
    pub const fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
    }

    fn whole_ns(&self) -> u64 {
        self.limit.time_of(self.limit.burst())
    }

    /// Where the balance stands. A clock that was set back finds at worst
    /// nothing left: more cannot have been spent.
    fn paid_at(&self, at_ns: u64) -> u64 {
        self.paid_at_ns.clamp(at_ns, at_ns.saturating_add(self.whole_ns()))
    }

    fn after(&self, count: u64, at_ns: u64) -> Result<u64, Refused> {
        let (cost_ns, whole_ns) = (self.limit.time_of(count), self.whole_ns());
        let paid_at_ns = self.paid_at(at_ns).saturating_add(cost_ns);
        let latest_ns = at_ns.saturating_add(whole_ns);
        if paid_at_ns <= latest_ns {
            return Ok(paid_at_ns);
        }
        let wait_ns = if cost_ns > whole_ns { whole_ns } else { paid_at_ns - latest_ns };
        Err(Refused { retry_after_s: wait_ns.div_ceil(NS).max(1) })
    }

    /// Charges `count`, whole or not at all.
    pub fn charge(&mut self, count: u64, now_s: u64) -> Outcome {
        let at_ns = now_s.saturating_mul(NS);
        // After a clock was set back nobody waits until it has caught up.
        self.paid_at_ns = self.paid_at_ns.min(at_ns.saturating_add(self.whole_ns()));
        match self.after(count, at_ns) {
            Err(refused) => Outcome::Refused(refused),
            Ok(paid_at_ns) if paid_at_ns > self.leased_ns => Outcome::NeedsLease,
            Ok(paid_at_ns) => {
                self.paid_at_ns = paid_at_ns;
                Outcome::Granted(Charge { cost_ns: self.limit.time_of(count), at_ns })
            }
        }
    }

    /// What must be written down before `count` can be charged; after that,
    /// [`Self::leased`].
    #[must_use]
    pub fn lease(&self, count: u64, now_s: u64) -> u64 {
        let at_ns = now_s.saturating_mul(NS);
        match self.after(count, at_ns) {
            Ok(paid_at_ns) if paid_at_ns > self.leased_ns => {
                paid_at_ns.saturating_add((self.whole_ns() / LEASES_PER_BURST).max(NS))
            }
            _ => self.leased_ns,
        }
    }

    /// It is written down, durably.
    pub fn leased(&mut self, leased_ns: u64) {
        self.leased_ns = self.leased_ns.max(leased_ns);
    }

    /// Gives up what was leased and not spent, and says what to write down for
    /// it. As long as that is not written, a crash loses more, never less.
    pub fn settle(&mut self) -> u64 {
        self.leased_ns = self.paid_at_ns;
        self.leased_ns
    }

    /// Gives back what was charged for nothing, but for what the time since
    /// then has brought back already: else a refund would grant more than if it
    /// had never been charged.
    pub fn refund(&mut self, charge: Charge, now_s: u64) {
        let since_ns = now_s.saturating_mul(NS).checked_sub(charge.at_ns);
        // A clock that was set back knows nothing of the time since.
        let back_ns = since_ns.map_or(0, |since_ns| charge.cost_ns.saturating_sub(since_ns));
        self.paid_at_ns = self.paid_at_ns.saturating_sub(back_ns);
    }

    /// How many could be charged now.
    #[must_use]
    pub fn available(&self, now_s: u64) -> u64 {
        let at_ns = now_s.saturating_mul(NS);
        let owed_ns = self.paid_at(at_ns) - at_ns;
        self.limit.count_in(self.whole_ns().saturating_sub(owed_ns))
    }

    /// In how many seconds the whole burst is back.
    #[must_use]
    pub fn full_in_s(&self, now_s: u64) -> u64 {
        let at_ns = now_s.saturating_mul(NS);
        (self.paid_at(at_ns) - at_ns).div_ceil(NS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START_S: u64 = 1_800_000_000;

    fn meter(per_day: u64, burst: u64) -> Meter {
        Meter::new(Limit::new(per_day, burst).unwrap(), 0)
    }

    /// Charges as a server does, whose writes never fail.
    fn charge(meter: &mut Meter, count: u64, now_s: u64) -> Result<Charge, Refused> {
        let lease = meter.lease(count, now_s);
        meter.leased(lease);
        match meter.charge(count, now_s) {
            Outcome::Granted(charge) => Ok(charge),
            Outcome::Refused(refused) => Err(refused),
            Outcome::NeedsLease => panic!("it was leased"),
        }
    }

    #[test]
    fn a_burst_is_there_at_once_and_comes_back_at_the_rate() {
        let mut meter = meter(86_400, 100);
        assert_eq!(meter.available(START_S), 100);
        charge(&mut meter, 60, START_S).unwrap();
        assert_eq!((meter.available(START_S), meter.full_in_s(START_S)), (40, 60));
        let refused = charge(&mut meter, 50, START_S).unwrap_err();
        assert_eq!(refused.retry_after_s, 10);
        assert_eq!(meter.available(START_S), 40);
        charge(&mut meter, 50, START_S + 10).unwrap();
        assert_eq!(meter.available(START_S + 10), 0);
        assert_eq!(meter.available(START_S + 1000), 100);
    }

    #[test]
    fn more_than_the_burst_is_never_granted_and_says_when_all_is_back() {
        let mut meter = meter(86_400, 100);
        assert_eq!(charge(&mut meter, 101, START_S).unwrap_err().retry_after_s, 100);
        assert_eq!(charge(&mut meter, u64::MAX, START_S).unwrap_err().retry_after_s, 100);
        assert_eq!(meter.available(START_S), 100);
    }

    #[test]
    fn nothing_is_spent_that_was_not_written_down() {
        let mut meter = meter(86_400, 1600);
        assert_eq!(meter.charge(1, START_S), Outcome::NeedsLease);
        let lease = meter.lease(1, START_S);
        meter.leased(lease);
        // One write for a sixteenth of the burst.
        for _ in 0..101 {
            assert!(matches!(meter.charge(1, START_S), Outcome::Granted(_)));
        }
        assert_eq!(meter.charge(1, START_S), Outcome::NeedsLease);
        let after_a_crash = Meter::new(meter.limit(), lease);
        assert_eq!(after_a_crash.available(START_S), 1600 - 101);
        // A stop in order loses nothing, and grants nothing unwritten.
        let settled = meter.settle();
        assert_eq!(Meter::new(meter.limit(), settled).available(START_S), 1600 - 101);
        assert_eq!(meter.charge(1, START_S), Outcome::NeedsLease);
    }

    #[test]
    fn a_refund_restores_what_would_be_there() {
        let mut meter = meter(86_400, 100);
        let charged = charge(&mut meter, 40, START_S).unwrap();
        meter.refund(charged, START_S);
        assert_eq!(meter.available(START_S), 100);
        let charged = charge(&mut meter, 40, START_S).unwrap();
        meter.refund(charged, START_S + 30);
        assert_eq!(meter.available(START_S + 30), 100);
        charge(&mut meter, 100, START_S + 30).unwrap();
        assert!(charge(&mut meter, 1, START_S + 30).is_err());
    }

    #[test]
    fn a_clock_that_is_set_back_neither_grants_nor_locks() {
        let mut meter = meter(86_400, 100);
        charge(&mut meter, 100, START_S + 1_000_000).unwrap();
        assert_eq!(meter.available(START_S), 0);
        assert_eq!(charge(&mut meter, 1, START_S).unwrap_err().retry_after_s, 1);
        assert!(charge(&mut meter, 50, START_S + 50).is_ok());
    }

    #[derive(Debug, Clone)]
    enum Step {
        Passes(u64),
        SetBack(u64),
        Charges(u64),
        Refunds,
        Crashes,
        CrashesWithin(u64),
        Stops,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..40_u64).prop_map(Step::Passes),
            1 => (0..5_000_u64).prop_map(Step::SetBack),
            8 => (1..70_u64).prop_map(Step::Charges),
            1 => Just(Step::Refunds),
            1 => Just(Step::Crashes),
            1 => (1..70_u64).prop_map(Step::CrashesWithin),
            1 => Just(Step::Stops),
        ]
    }

    proptest! {
        /// In any window, whatever crashes and clocks that are set back.
        #[test]
        fn never_more_than_rate_and_burst(
            per_day in 1_u64..2_000_000,
            burst in 1_u64..200,
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let limit = Limit::new(per_day, burst.min(per_day * 30)).unwrap();
            let (mut meter, mut durable) = (Meter::new(limit, 0), 0);
            let (mut true_s, mut clock_s) = (START_S, START_S);
            let mut granted: Vec<(u64, u64)> = Vec::new();
            let mut last = None;
            for step in steps {
                match step {
                    Step::Passes(s) => { true_s += s; clock_s += s; }
                    Step::SetBack(s) => clock_s -= s,
                    Step::Charges(count) => {
                        let mut outcome = meter.charge(count, clock_s);
                        if outcome == Outcome::NeedsLease {
                            durable = meter.lease(count, clock_s);
                            meter.leased(durable);
                            outcome = meter.charge(count, clock_s);
                        }
                        prop_assert_ne!(outcome, Outcome::NeedsLease);
                        if let Outcome::Granted(charge) = outcome {
                            granted.push((true_s, count));
                            last = Some(charge);
                        }
                    }
                    Step::Refunds => if let Some(charge) = last.take() {
                        meter.refund(charge, clock_s);
                        granted.pop();
                    },
                    Step::Crashes => { meter = Meter::new(limit, durable); last = None; }
                    Step::CrashesWithin(count) => {
                        // Written down, and never granted.
                        durable = durable.max(meter.lease(count, clock_s));
                        meter = Meter::new(limit, durable);
                        last = None;
                    }
                    Step::Stops => {
                        durable = meter.settle();
                        meter = Meter::new(limit, durable);
                        last = None;
                    }
                }
            }
            for (first, (from_s, _)) in granted.iter().enumerate() {
                let mut sum = 0;
                for (to_s, count) in &granted[first..] {
                    sum += count;
                    let most = u128::from(limit.per_day()) * u128::from(to_s - from_s)
                        + u128::from(limit.burst() * 86_400);
                    prop_assert!(u128::from(sum * 86_400) <= most);
                }
            }
        }
    }
}
