//! What is open for a few minutes: codes, challenges and the counters that limit
//! them. Keys are hashes, so neither a dump nor a disk shows an identifier.

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    error::Error,
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;

use super::ProofError;

/// Tries of a compare-and-swap before its contention is taken for a failure.
const MAX_SWAPS: usize = 64;

/// Names something open: a hash that says nothing of what it names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PendingKey(pub [u8; 32]);

impl PendingKey {
    /// Hashes what is named, each part with its length.
    pub(super) fn of(kind: &'static str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("blindbook v1 pending");
        for part in [kind.as_bytes()].iter().chain(parts) {
            hasher.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        Self(hasher.finalize().into())
    }
}

impl fmt::Debug for PendingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PendingKey(..)")
    }
}

/// Why something open could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PendingError {
    /// As much is open as may be.
    #[error("too many verifications are open: try later")]
    Full,
    /// What lies beneath failed.
    #[error("open verifications cannot be kept: {0}")]
    Failed(Box<dyn Error + Send + Sync>),
}

/// Keeps small values (under 64 bytes) until they expire.
///
/// One kept in memory forgets codes and challenges at a restart, which users
/// notice, and the counters of the last hour, which lets a few codes more be
/// sent. Nothing used comes back: used proofs are recorded with their bucket.
#[async_trait]
pub trait Pending: Send + Sync {
    /// The value, unless it has expired.
    ///
    /// # Errors
    /// [`PendingError::Failed`].
    async fn get(&self, key: &PendingKey, now_s: u64) -> Result<Option<Vec<u8>>, PendingError>;

    /// Puts `new`, with the time at which it expires, where `expected` stands, an
    /// expired value counting as none. False, and nothing changed, if something
    /// else stands there. Atomic.
    ///
    /// # Errors
    /// [`PendingError::Full`] for one more, [`PendingError::Failed`].
    async fn swap(
        &self,
        key: &PendingKey,
        expected: Option<&[u8]>,
        new: Option<(&[u8], u64)>,
        now_s: u64,
    ) -> Result<bool, PendingError>;
}

/// [`Pending`] in the memory of one process, bounded.
#[derive(Debug)]
pub struct MemoryPending {
    open: Mutex<Open>,
    most: usize,
}

#[derive(Default)]
struct Open {
    values: HashMap<PendingKey, (Vec<u8>, u64)>,
    /// The same, by the time at which they expire.
    expiries: BTreeSet<(u64, PendingKey)>,
}

impl Open {
    fn expire(&mut self, now_s: u64) {
        while let Some((expires_s, key)) = self.expiries.first().copied() {
            if expires_s > now_s {
                break;
            }
            self.expiries.pop_first();
            self.values.remove(&key);
        }
    }
}

impl fmt::Debug for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open", self.values.len())
    }
}

impl MemoryPending {
    /// Keeps at most `most` values.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }
}

#[async_trait]
impl Pending for MemoryPending {
    async fn get(&self, key: &PendingKey, now_s: u64) -> Result<Option<Vec<u8>>, PendingError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.expire(now_s);
        Ok(open.values.get(key).map(|(value, _)| value.clone()))
    }

    async fn swap(
        &self,
        key: &PendingKey,
        expected: Option<&[u8]>,
        new: Option<(&[u8], u64)>,
        now_s: u64,
    ) -> Result<bool, PendingError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.expire(now_s);
        let Open { values, expiries } = &mut *open;
        let full = values.len() >= self.most;
        let entry = values.entry(*key);
        let found = match &entry {
            Entry::Occupied(entry) => Some(entry.get().0.as_slice()),
            Entry::Vacant(_) => None,
        };
        if found != expected {
            return Ok(false);
        }
        match (entry, new) {
            (Entry::Vacant(_), Some(_)) if full => return Err(PendingError::Full),
            (Entry::Vacant(_), None) => {}
            (Entry::Vacant(entry), Some((value, expires_s))) => {
                entry.insert((value.to_vec(), expires_s));
                expiries.insert((expires_s, *key));
            }
            (Entry::Occupied(entry), None) => {
                let (_, expires_s) = entry.remove();
                expiries.remove(&(expires_s, *key));
            }
            (Entry::Occupied(mut entry), Some((value, expires_s))) => {
                let (_, before_s) = entry.insert((value.to_vec(), expires_s));
                expiries.remove(&(before_s, *key));
                expiries.insert((expires_s, *key));
            }
        }
        Ok(true)
    }
}

/// Counts one more within the current window, a fixed part of time; false, and
/// nothing counted, when `most` have been.
pub(super) async fn count(
    pending: &dyn Pending,
    kind: &'static str,
    parts: &[&[u8]],
    most: u32,
    window_s: u64,
    now_s: u64,
) -> Result<bool, ProofError> {
    let window = now_s / window_s;
    let end_s = window.saturating_add(1).saturating_mul(window_s);
    let number = window.to_be_bytes();
    let parts: Vec<&[u8]> = parts.iter().copied().chain([number.as_slice()]).collect();
    let key = PendingKey::of(kind, &parts);
    for _ in 0..MAX_SWAPS {
        let found = pending.get(&key, now_s).await?;
        let counted = found.as_deref().map_or(Some(0), read_count).ok_or_else(damaged)?;
        if counted >= most {
            return Ok(false);
        }
        let next = (counted + 1).to_be_bytes();
        if pending.swap(&key, found.as_deref(), Some((&next, end_s)), now_s).await? {
            return Ok(true);
        }
    }
    Err(contended())
}

fn read_count(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Whoever loses the race this often is not alone with the key.
pub(super) fn contended() -> ProofError {
    PendingError::Failed("one of them is written all the time".into()).into()
}

/// A value that this room did not write.
pub(super) fn damaged() -> ProofError {
    PendingError::Failed("one of them is damaged".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> PendingKey {
        PendingKey::of("test", &[name.as_bytes()])
    }

    #[tokio::test]
    async fn a_value_is_there_until_it_expires_and_is_swapped_only_for_itself() {
        let pending = MemoryPending::new(8);
        let a = key("a");
        assert!(!pending.swap(&a, Some(b"0"), Some((b"1", 10)), 1).await.unwrap());
        assert!(pending.swap(&a, None, Some((b"1", 10)), 1).await.unwrap());
        assert!(!pending.swap(&a, None, Some((b"2", 10)), 1).await.unwrap());
        assert_eq!(pending.get(&a, 9).await.unwrap().as_deref(), Some(b"1".as_slice()));
        assert!(pending.swap(&a, Some(b"1"), Some((b"2", 20)), 9).await.unwrap());
        assert_eq!(pending.get(&a, 10).await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert!(pending.swap(&a, Some(b"2"), None, 11).await.unwrap());
        assert!(pending.swap(&a, None, Some((b"3", 30)), 12).await.unwrap());
        assert_eq!(pending.get(&a, 30).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_full_store_refuses_more_until_something_expires() {
        let pending = MemoryPending::new(2);
        for name in ["a", "b"] {
            assert!(pending.swap(&key(name), None, Some((b"1", 10)), 1).await.unwrap());
        }
        let more = pending.swap(&key("c"), None, Some((b"1", 20)), 9).await;
        assert!(matches!(more, Err(PendingError::Full)));
        assert!(pending.swap(&key("a"), Some(b"1"), Some((b"2", 20)), 9).await.unwrap());
        assert!(pending.swap(&key("c"), None, Some((b"1", 20)), 10).await.unwrap());
    }

    #[tokio::test]
    async fn a_counter_counts_within_its_window() {
        let pending = MemoryPending::new(8);
        for (now_s, counted) in [(10, true), (11, true), (19, false), (20, true), (25, true)] {
            let more = count(&pending, "test", &[b"a"], 2, 10, now_s).await.unwrap();
            assert_eq!(more, counted, "{now_s}");
        }
        assert!(count(&pending, "test", &[b"b"], 2, 10, 25).await.unwrap());
    }
}
