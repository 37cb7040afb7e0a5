//! `blindbook bench --attack enumerate`: how long it takes to try every number of
//! a country under the default limits, with the quotas' own code and a clock that
//! is only counted.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use blindbook::{
    access::quota::{Account, Counted, DAY_S, Leases, Limit, Limits, Outcome},
    token::ELEMENTS_PER_TOKEN,
};
use serde::Serialize;

const START_S: u64 = 1_800_000_000;

/// How many a scraper has.
const IDENTITIES: [usize; 4] = [1, 10, 100, 1000];

/// How many numbers there are to try, and where about that many are.
const COUNTRIES: [(&str, u64); 3] = [
    ("100 million: the mobile numbers in use in a country like Germany", 100_000_000),
    ("500 million: the mobile numbers that can be assigned in the US", 500_000_000),
    ("1 billion: all numbers of nine digits", 1_000_000_000),
];

/// What the figures rest on.
const ASSUMPTIONS: [&str; 4] = [
    "default limits; every element of a batch tries a number, so one number costs one element",
    "all buckets were downloaded before: only evaluations count",
    "identities never pause, none is found out, and numbers are shared out without overlap",
    "users: 256 tokens a day each, as their provider bounds them, and the provider's own limit",
];

/// What an identity is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Of one application provider, with its tokens.
    Users,
    /// Application providers with certificates of their own.
    Partners,
}

/// One line: how many days each number of identities takes.
#[derive(Serialize)]
struct Line {
    identities: Kind,
    numbers: u64,
    days: Vec<f64>,
}

/// All of them.
#[derive(Serialize)]
pub(super) struct Enumeration {
    assumptions: [&'static str; 4],
    identity_counts: [usize; 4],
    lines: Vec<Line>,
}

/// Charges all that is there, and says how much that was.
fn drain(account: &mut Account, counted: Counted, most: u64, now_s: u64) -> anyhow::Result<u64> {
    let count = account.meter(counted).available(now_s).min(most);
    if count == 0 {
        return Ok(0);
    }
    let leases = account.lease(counted, count, now_s);
    account.leased(leases);
    match account.charge(counted, count, now_s) {
        Outcome::Granted(_) => Ok(count),
        refused => Err(anyhow!("what is available is not granted: {refused:?}")),
    }
}

/// In how many days so many identities try all numbers.
fn days(kind: Kind, identities: usize, numbers: u64) -> anyhow::Result<f64> {
    let per_user = Limit::new(Limits::TOKENS_PER_USER, Limits::TOKENS_PER_USER)?;
    let limits = match kind {
        Kind::Users => Limits { tokens: per_user, ..Limits::DEFAULT },
        Kind::Partners => Limits::DEFAULT,
    };
    let mut accounts = vec![Account::new(&limits, Leases::default()); identities];
    let mut provider = Account::new(&Limits::DEFAULT, Leases::default());
    let per_token = ELEMENTS_PER_TOKEN as u64;
    // No longer than a burst takes to come back: nothing is left lying. That of a
    // user takes a day, if its provider has all users' tokens at once.
    let at_once = provider.meter(Counted::Tokens).available(START_S);
    let all_users = Limits::TOKENS_PER_USER.saturating_mul(identities as u64);
    let step_s = match kind {
        Kind::Users if all_users <= at_once => DAY_S,
        Kind::Users | Kind::Partners => 3600,
    };
    let (mut now_s, mut tried) = (START_S, 0);
    loop {
        for account in &mut accounts {
            tried += match kind {
                Kind::Users => {
                    let most = provider.meter(Counted::Tokens).available(now_s);
                    let tokens = drain(account, Counted::Tokens, most, now_s)?;
                    drain(&mut provider, Counted::Tokens, tokens, now_s)? * per_token
                }
                Kind::Partners => drain(account, Counted::Elements, u64::MAX, now_s)?,
            };
        }
        if tried >= numbers {
            return Ok((now_s - START_S) as f64 / DAY_S as f64);
        }
        now_s += step_s;
    }
}

/// Runs all of them.
pub(super) fn simulate() -> anyhow::Result<Enumeration> {
    let mut lines = Vec::new();
    for identities in [Kind::Users, Kind::Partners] {
        for (_, numbers) in COUNTRIES {
            let days = IDENTITIES.into_iter().map(|count| days(identities, count, numbers));
            let days = days.collect::<Result<_, _>>().context("the simulation failed")?;
            lines.push(Line { identities, numbers, days });
        }
    }
    Ok(Enumeration { assumptions: ASSUMPTIONS, identity_counts: IDENTITIES, lines })
}

/// Days as a person reads them.
fn readable(days: f64) -> String {
    if days >= 3650.0 {
        format!("{:.0} years", days / 365.25)
    } else if days >= 10.0 {
        format!("{days:.0} days")
    } else {
        format!("{days:.1} days")
    }
}

impl Enumeration {
    /// A table, with what it rests on.
    pub(super) fn table(&self) -> String {
        let mut text = String::from("Days to try every number, by identities of the scraper\n");
        let _ = write!(text, "{:>15} {:>9}", "numbers", "who");
        for count in self.identity_counts {
            let _ = write!(text, " {count:>12}");
        }
        text.push('\n');
        for line in &self.lines {
            let who = match line.identities {
                Kind::Users => "users",
                Kind::Partners => "partners",
            };
            let _ = write!(text, "{:>15} {who:>9}", line.numbers);
            for days in &line.days {
                let _ = write!(text, " {:>12}", readable(*days));
            }
            text.push('\n');
        }
        for (what, _) in COUNTRIES {
            let _ = writeln!(text, "{what}");
        }
        for assumption in self.assumptions {
            let _ = writeln!(text, "- {assumption}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_numbers_over_rates_whatever_the_steps() {
        // 512 numbers a day and user, the first day's at once.
        assert!((days(Kind::Users, 1, 512).unwrap() - 0.0).abs() < 1e-9);
        assert!((days(Kind::Users, 1, 513).unwrap() - 1.0).abs() < 1e-9);
        let thousand = days(Kind::Users, 1000, 100_000_000).unwrap();
        assert!((thousand - (100_000_000.0_f64 / 512_000.0).floor()).abs() <= 1.0, "{thousand}");
        // A million a day and partner, after the burst.
        let partner = days(Kind::Partners, 1, 100_000_000).unwrap();
        assert!((partner - 99.93).abs() < 0.1, "{partner}");
        // More users than their provider has tokens for are no use.
        let many = days(Kind::Users, 20_000, 100_000_000).unwrap();
        assert!((many - 100_000_000.0 / 5_120_000.0).abs() <= 1.5, "{many}");
    }

    #[test]
    fn long_times_are_told_in_years() {
        assert_eq!(readable(0.04), "0.0 days");
        assert_eq!(readable(195.2), "195 days");
        assert_eq!(readable(195_312.0), "535 years");
    }
}
