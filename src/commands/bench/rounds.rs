//! Two ways of doing one thing, measured by turns: the machine's other work
//! then falls on both, and the ratio of a round holds where its rates do not.

use std::time::{Duration, Instant};

use super::cpu;

/// How fast something was done.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    pub(super) per_s: f64,
    /// For each second of processor time, where the system tells it.
    pub(super) per_cpu_s: Option<f64>,
}

impl Pace {
    pub(super) fn of(units: usize, begun: Instant, cpu_before: Option<Duration>) -> Self {
        let per_cpu_s = cpu::since(cpu_before).map(|used| rate(units, used));
        Self { per_s: rate(units, begun.elapsed()), per_cpu_s }
    }

    pub(super) fn mean(self, other: Self) -> Self {
        let cpu = self.per_cpu_s.zip(other.per_cpu_s);
        Self {
            per_s: f64::midpoint(self.per_s, other.per_s),
            per_cpu_s: cpu.map(|(one, other)| f64::midpoint(one, other)),
        }
    }
}

/// Rates of both sides, round by round.
#[derive(Default)]
pub(super) struct Rounds {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Rounds {
    pub(super) fn push(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.ours.is_empty()
    }

    /// Runs both sides `rounds` times on this thread, each run doing `units` of
    /// work. Rates are those of the thread's processor time, where the system
    /// tells it: whoever shares the core then slows down neither.
    pub(super) fn alternate(
        rounds: usize,
        units: usize,
        mut ours: impl FnMut() -> anyhow::Result<()>,
        mut theirs: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for round in 0..rounds {
            // The second of a round may find a warmer cache or a hotter core.
            let (one, other) = if round % 2 == 0 {
                (timed(units, &mut ours)?, timed(units, &mut theirs)?)
            } else {
                let other = timed(units, &mut theirs)?;
                (timed(units, &mut ours)?, other)
            };
            all.push(one, other);
        }
        Ok(all)
    }

    /// Our median rate.
    pub(super) fn ours(&self) -> f64 {
        median(self.ours.clone())
    }

    /// Their median rate.
    pub(super) fn theirs(&self) -> f64 {
        median(self.theirs.clone())
    }

    /// How many times as fast we are: the median of the rounds' ratios.
    pub(super) fn ratio(&self) -> f64 {
        median(self.ours.iter().zip(&self.theirs).map(|(ours, theirs)| ours / theirs).collect())
    }
}

/// Units for each second.
pub(super) fn rate(units: usize, time: Duration) -> f64 {
    units as f64 / time.as_secs_f64().max(1e-9)
}

fn timed(units: usize, work: &mut impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let cpu_before = cpu::of_thread();
    let begun = Instant::now();
    work()?;
    let elapsed = begun.elapsed();
    let used = cpu_before.zip(cpu::of_thread()).map(|(before, after)| after.saturating_sub(before));
    Ok(rate(units, used.unwrap_or(elapsed)))
}

/// The middle value, or the mean of the middle two; no value for none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2);
    let lower = values.get(values.len().saturating_sub(1) / 2);
    lower.zip(upper).map_or(f64::NAN, |(lower, upper)| f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_disturbed_round_moves_neither_ratio_nor_rates() {
        let mut rounds = Rounds::default();
        for (ours, theirs) in [(20.0, 10.0), (1.0, 10.0), (22.0, 11.0), (18.0, 9.0), (20.0, 0.1)] {
            rounds.push(ours, theirs);
        }
        assert!((rounds.ratio() - 2.0).abs() < 1e-9);
        assert!((rounds.ours() - 20.0).abs() < 1e-9);
        assert!((rounds.theirs() - 10.0).abs() < 1e-9);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert!((median(vec![4.0, 1.0, 3.0, 100.0]) - 3.5).abs() < 1e-9);
        assert!((median(vec![7.0]) - 7.0).abs() < 1e-9);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn both_sides_run_in_every_round_and_an_error_ends_them() {
        let (mut ours, mut theirs) = (0, 0);
        let count = |counter: &mut i32| {
            *counter += 1;
            Ok(())
        };
        Rounds::alternate(4, 1, || count(&mut ours), || count(&mut theirs)).unwrap();
        assert_eq!((ours, theirs), (4, 4));
        let refused = Rounds::alternate(4, 1, || Ok(()), || Err(anyhow::anyhow!("no")));
        assert!(refused.is_err());
    }
}
