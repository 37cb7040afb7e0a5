//! What anonymous tokens pay for: which keys issue and redeem when, and when the
//! tokens of a request are good. Pure; whether they were spent is the store's to
//! say.

mod redemption;

use std::sync::Arc;

use crate::token::{Day, PublicKey, SecretKey};

pub use self::redemption::{Redeemed, redeem};

/// The secret keys of a directory, by day.
#[derive(Debug, Clone, Default)]
pub struct IssuerKeys(Vec<(Day, Arc<SecretKey>)>);

impl IssuerKeys {
    /// Adds the key of a day that has none.
    pub fn add(&mut self, day: Day, key: SecretKey) {
        if self.key(day).is_none() {
            self.0.push((day, Arc::new(key)));
            self.0.sort_by_key(|(day, _)| *day);
        }
    }

    /// The key of a day.
    #[must_use]
    pub fn key(&self, day: Day) -> Option<&Arc<SecretKey>> {
        self.0.iter().find(|(of, _)| *of == day).map(|(_, key)| key)
    }

    /// The key that issues at a time, if this is its day.
    #[must_use]
    pub fn issuing(&self, day: Day, now_s: u64) -> Option<&Arc<SecretKey>> {
        if day.issues(now_s) { self.key(day) } else { None }
    }

    /// The public keys, ascending by day.
    pub fn public(&self) -> impl Iterator<Item = (Day, &PublicKey)> {
        self.0.iter().map(|(day, key)| (*day, key.public()))
    }

    /// Drops the keys that no longer redeem, and says the days of those.
    pub fn expire(&mut self, now_s: u64) -> Vec<Day> {
        let first = Day::at(now_s).before();
        let expired = self.0.iter().map(|(day, _)| *day).filter(|day| *day < first).collect();
        self.0.retain(|(day, _)| *day >= first);
        expired
    }
}
