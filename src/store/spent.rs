//! Which tokens were spent, and for which request: remembered until their day's
//! key expires.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;

use super::StoreError;

/// What is known of the tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// None of them was spent before.
    New,
    /// They were spent for this very request.
    Again,
    /// One of them was spent for another request.
    Other,
}

/// The spent tokens of a directory, by the day of their key. Names and requests
/// are hashes: they say nothing of tokens or of what was asked.
#[async_trait]
pub trait SpentTokens: Send + Sync + 'static {
    /// Remembers that these tokens pay this request: all of them, or none when
    /// one has paid another. Of two requests at once one is the first. `New` and
    /// `Again` are durable when they are returned.
    async fn spend(
        &self,
        day: u32,
        names: Vec<[u8; 16]>,
        request: [u8; 32],
    ) -> Result<Spent, StoreError>;

    /// What [`Self::spend`] would find; nothing is remembered. It may read the
    /// disk: to be called where the thread may wait.
    ///
    /// # Errors
    /// The store failed.
    fn look(&self, day: u32, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError>;

    /// Forgets all days before this one, whose tokens nobody takes any more.
    async fn forget_before(&self, day: u32) -> Result<(), StoreError>;
}

/// What the names and the requests that they are remembered with come to.
pub(super) fn judge(
    found: impl Iterator<Item = Result<Option<[u8; 32]>, StoreError>>,
    request: &[u8; 32],
) -> Result<Spent, StoreError> {
    let (mut new, mut again) = (false, false);
    for found in found {
        match found? {
            None => new = true,
            Some(other) if other != *request => return Ok(Spent::Other),
            Some(_) => again = true,
        }
    }
    Ok(match (new, again) {
        // A request names its tokens: some of them alone are another's.
        (true, true) => Spent::Other,
        (false, true) => Spent::Again,
        (_, false) => Spent::New,
    })
}

/// Spent tokens in memory, for tests: nothing outlives the process.
#[derive(Default)]
pub(super) struct MemorySpent(Mutex<BTreeMap<u32, OfDay>>);

/// By name, for which request.
type OfDay = HashMap<[u8; 16], [u8; 32]>;

#[async_trait]
impl SpentTokens for MemorySpent {
    async fn spend(
        &self,
        day: u32,
        names: Vec<[u8; 16]>,
        request: [u8; 32],
    ) -> Result<Spent, StoreError> {
        let mut days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = days.entry(day).or_default();
        let outcome = judge(names.iter().map(|name| Ok(spent.get(name).copied())), &request)?;
        if outcome == Spent::New {
            spent.extend(names.into_iter().map(|name| (name, request)));
        }
        Ok(outcome)
    }

    fn look(&self, day: u32, names: &[[u8; 16]], request: &[u8; 32]) -> Result<Spent, StoreError> {
        let days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let spent = days.get(&day);
        let found = |name| Ok(spent.and_then(|spent| spent.get(name)).copied());
        judge(names.iter().map(found), request)
    }

    async fn forget_before(&self, day: u32) -> Result<(), StoreError> {
        let mut days = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *days = days.split_off(&day);
        Ok(())
    }
}
