//! [`Pending`] that outlives the process: what is open lies in memory and,
//! sealed under names that say nothing, in the directory's metadata.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::{Pending, PendingError, PendingKey};
use crate::{
    keyring::Keyring,
    store::{Generations, StoreError},
};

/// Where it lies in the metadata.
const PREFIX: &str = "pending/";

/// Parts that change without waiting for one another's disk.
const SHARDS: usize = 64;

/// Expired values that are removed from the disk at once.
const MAX_REMOVED: usize = 1024;

/// A value as it is sealed: the hash that names it, expiry, value.
const NAME_BYTES: usize = 32;

/// [`Pending`] in memory and on disk, bounded. A change is durable when it
/// returns; counters too, so that nobody gets more codes by a restart.
#[derive(Clone)]
pub struct StoredPending(Arc<Inner>);

struct Inner {
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    shards: Vec<Mutex<Shard>>,
    open: AtomicUsize,
    most: usize,
}

#[derive(Default)]
struct Shard {
    values: HashMap<PendingKey, (Vec<u8>, u64)>,
    /// The same, by the time at which they expire.
    expiries: BTreeSet<(u64, PendingKey)>,
}

impl Shard {
    fn insert(&mut self, key: PendingKey, value: Vec<u8>, expires_s: u64) {
        self.remove(&key);
        self.values.insert(key, (value, expires_s));
        self.expiries.insert((expires_s, key));
    }

    fn remove(&mut self, key: &PendingKey) {
        if let Some((_, expires_s)) = self.values.remove(key) {
            self.expiries.remove(&(expires_s, *key));
        }
    }

    /// The value, unless it has expired.
    fn get(&self, key: &PendingKey, now_s: u64) -> Option<&[u8]> {
        let (value, expires_s) = self.values.get(key)?;
        (*expires_s > now_s).then_some(value)
    }
}

impl fmt::Debug for StoredPending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPending(..)")
    }
}

impl StoredPending {
    /// Reads what is open; keeps at most `most` values.
    ///
    /// # Errors
    /// [`PendingError::Failed`]: the store failed, or what lies there was
    /// written under other keys or is damaged.
    pub async fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        most: usize,
    ) -> Result<Self, PendingError> {
        let mut shards: Vec<Shard> = (0..SHARDS).map(|_| Shard::default()).collect();
        let stored = generations.meta_list(PREFIX).await.map_err(failed)?;
        let open = AtomicUsize::new(stored.len());
        for (name, sealed) in stored {
            let (key, expires_s, value) = unseal(&keyring, &name, &sealed)
                .ok_or_else(|| failed(StoreError::Damaged("an open verification is malformed")))?;
            if let Some(shard) = shards.get_mut(shard_of(&key)) {
                shard.insert(key, value, expires_s);
            }
        }
        let shards = shards.into_iter().map(Mutex::new).collect();
        Ok(Self(Arc::new(Inner { generations, keyring, shards, open, most })))
    }

    /// Removes what has expired, a stretch at a time: to be called now and then.
    ///
    /// # Errors
    /// [`PendingError::Failed`]: the store failed; the rest goes the next time.
    pub async fn sweep(&self, now_s: u64) -> Result<(), PendingError> {
        for shard in &self.0.shards {
            let mut shard = shard.lock().await;
            loop {
                let expired =
                    shard.expiries.iter().take_while(|(expires_s, _)| *expires_s <= now_s);
                let expired: Vec<_> = expired.take(MAX_REMOVED).map(|(_, key)| *key).collect();
                if expired.is_empty() {
                    break;
                }
                let names = expired.iter().map(|key| self.0.name(key)).collect();
                self.0.generations.meta_remove(names).await.map_err(failed)?;
                self.0.open.fetch_sub(expired.len(), Ordering::Relaxed);
                for key in &expired {
                    shard.remove(key);
                }
            }
        }
        Ok(())
    }
}

impl Inner {
    fn shard(&self, key: &PendingKey) -> Result<&Mutex<Shard>, PendingError> {
        let misuse = || failed(StoreError::Misuse("a shard of open verifications is missing"));
        self.shards.get(shard_of(key)).ok_or_else(misuse)
    }

    fn name(&self, key: &PendingKey) -> String {
        name(&self.keyring.pending_key(&key.0))
    }

    async fn write(
        &self,
        key: &PendingKey,
        value: &[u8],
        expires_s: u64,
    ) -> Result<(), PendingError> {
        let sealed_as = self.keyring.pending_key(&key.0);
        let text = [&key.0[..], &expires_s.to_be_bytes(), value].concat();
        let sealed = self.keyring.seal_row(&sealed_as, &text, &mut rand::rng());
        let sealed = sealed.map_err(|error| PendingError::Failed(error.into()))?;
        self.generations.meta_put(&name(&sealed_as), sealed).await.map_err(failed)
    }

    async fn swap(
        &self,
        key: &PendingKey,
        expected: Option<&[u8]>,
        new: Option<(&[u8], u64)>,
        now_s: u64,
    ) -> Result<bool, PendingError> {
        // Held until the disk has it: nobody builds on what a crash takes back.
        let mut shard = self.shard(key)?.lock().await;
        if shard.get(key, now_s) != expected {
            return Ok(false);
        }
        let stored = shard.values.contains_key(key);
        match new {
            Some((value, expires_s)) => {
                if !stored && self.open.fetch_add(1, Ordering::Relaxed) >= self.most {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                    return Err(PendingError::Full);
                }
                let written = self.write(key, value, expires_s).await;
                if written.is_err() && !stored {
                    self.open.fetch_sub(1, Ordering::Relaxed);
                }
                written?;
                shard.insert(*key, value.to_vec(), expires_s);
            }
            None if stored => {
                self.generations.meta_remove(vec![self.name(key)]).await.map_err(failed)?;
                self.open.fetch_sub(1, Ordering::Relaxed);
                shard.remove(key);
            }
            None => {}
        }
        Ok(true)
    }
}

#[async_trait]
impl Pending for StoredPending {
    async fn get(&self, key: &PendingKey, now_s: u64) -> Result<Option<Vec<u8>>, PendingError> {
        let shard = self.0.shard(key)?.lock().await;
        Ok(shard.get(key, now_s).map(<[u8]>::to_vec))
    }

    async fn swap(
        &self,
        key: &PendingKey,
        expected: Option<&[u8]>,
        new: Option<(&[u8], u64)>,
        now_s: u64,
    ) -> Result<bool, PendingError> {
        let (inner, key) = (Arc::clone(&self.0), *key);
        let expected = expected.map(<[u8]>::to_vec);
        let new = new.map(|(value, expires_s)| (value.to_vec(), expires_s));
        // Once begun it comes to its end: memory and disk agree, whoever waits.
        tokio::spawn(async move {
            let new = new.as_ref().map(|(value, expires_s)| (value.as_slice(), *expires_s));
            inner.swap(&key, expected.as_deref(), new, now_s).await
        })
        .await
        .map_err(|error| PendingError::Failed(error.into()))?
    }
}

fn shard_of(key: &PendingKey) -> usize {
    let [first, ..] = key.0;
    usize::from(first) % SHARDS
}

fn name(sealed_as: &[u8; 16]) -> String {
    format!("{PREFIX}{:032x}", u128::from_be_bytes(*sealed_as))
}

fn unseal(keyring: &Keyring, name: &str, sealed: &[u8]) -> Option<(PendingKey, u64, Vec<u8>)> {
    let sealed_as = u128::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?.to_be_bytes();
    let text = keyring.open_row(&sealed_as, sealed).ok()?;
    let (key, rest) = text.split_first_chunk::<NAME_BYTES>()?;
    let (expires_s, value) = rest.split_first_chunk()?;
    let named = keyring.pending_key(key) == sealed_as;
    named.then(|| (PendingKey(*key), u64::from_be_bytes(*expires_s), value.to_vec()))
}

fn failed(error: StoreError) -> PendingError {
    PendingError::Failed(error.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keyring, store::MemoryGenerations};

    struct Scene {
        generations: Arc<MemoryGenerations>,
        keyring: Arc<Keyring>,
    }

    impl Scene {
        fn new() -> Self {
            let keys = tempfile::tempdir().unwrap();
            keyring::generate(keys.path(), &mut rand::rng()).unwrap();
            let keyring = Arc::new(Keyring::load(keys.path()).unwrap());
            Self { generations: Arc::default(), keyring }
        }

        async fn open(&self, most: usize) -> StoredPending {
            let generations: Arc<dyn Generations> = self.generations.clone();
            StoredPending::open(generations, self.keyring.clone(), most).await.unwrap()
        }

        async fn stored(&self) -> Vec<(String, Vec<u8>)> {
            self.generations.meta_list("").await.unwrap()
        }
    }

    fn key(name: &str) -> PendingKey {
        PendingKey::of("test", &[name.as_bytes()])
    }

    #[tokio::test]
    async fn what_is_open_outlives_the_process_and_what_was_taken_back_does_not_return() {
        let scene = Scene::new();
        let pending = scene.open(8).await;
        let (a, b) = (key("a"), key("b"));
        assert!(pending.swap(&a, None, Some((b"1", 10)), 1).await.unwrap());
        assert!(pending.swap(&a, Some(b"1"), Some((b"2", 20)), 1).await.unwrap());
        assert!(!pending.swap(&a, Some(b"1"), None, 1).await.unwrap());
        assert!(pending.swap(&b, None, Some((b"1", 10)), 1).await.unwrap());
        assert!(pending.swap(&b, Some(b"1"), None, 1).await.unwrap());
        let again = scene.open(8).await;
        assert_eq!(again.get(&a, 19).await.unwrap().as_deref(), Some(b"2".as_slice()));
        assert_eq!(again.get(&a, 20).await.unwrap(), None);
        assert_eq!(again.get(&b, 1).await.unwrap(), None);
        // An expired value counts as none.
        assert!(again.swap(&a, None, Some((b"3", 30)), 20).await.unwrap());
        assert_eq!(
            scene.open(8).await.get(&a, 20).await.unwrap().as_deref(),
            Some(b"3".as_slice())
        );
    }

    #[tokio::test]
    async fn a_full_store_refuses_more_until_what_expired_is_swept() {
        let scene = Scene::new();
        let pending = scene.open(2).await;
        for name in ["a", "b"] {
            assert!(pending.swap(&key(name), None, Some((b"1", 10)), 1).await.unwrap());
        }
        for pending in [&pending, &scene.open(2).await] {
            let more = pending.swap(&key("c"), None, Some((b"1", 20)), 1).await;
            assert!(matches!(more, Err(PendingError::Full)));
        }
        assert!(pending.swap(&key("a"), Some(b"1"), Some((b"2", 30)), 1).await.unwrap());
        pending.sweep(9).await.unwrap();
        assert_eq!(scene.stored().await.len(), 2);
        pending.sweep(10).await.unwrap();
        assert_eq!(scene.stored().await.len(), 1);
        assert!(pending.swap(&key("c"), None, Some((b"1", 20)), 10).await.unwrap());
    }

    #[tokio::test]
    async fn the_disk_shows_neither_name_nor_value_and_alterations_are_noticed() {
        let scene = Scene::new();
        let (a, value) = (key("a"), b"a value that is searched for");
        assert!(scene.open(8).await.swap(&a, None, Some((value, 10)), 1).await.unwrap());
        let [(name, sealed)] = scene.stored().await.try_into().unwrap();
        let hash = blake3::Hash::from(a.0).to_hex();
        assert!(!name.contains(&hash[..32]));
        assert!(!sealed.windows(8).any(|part| a.0.windows(8).any(|name| name == part)));
        assert!(!sealed.windows(8).any(|part| value.windows(8).any(|value| value == part)));

        let generations: Arc<dyn Generations> = scene.generations.clone();
        let other = format!("{PREFIX}{:032x}", 7);
        generations.meta_put(&other, sealed.clone()).await.unwrap();
        let moved = StoredPending::open(generations.clone(), scene.keyring.clone(), 8).await;
        assert!(matches!(moved, Err(PendingError::Failed(_))));
        generations.meta_remove(vec![other]).await.unwrap();
        let foreign = Scene::new().keyring;
        let opened = StoredPending::open(generations, foreign, 8).await;
        assert!(matches!(opened, Err(PendingError::Failed(_))));
    }

    #[tokio::test]
    async fn of_many_who_swap_at_once_one_succeeds() {
        let scene = Scene::new();
        let pending = Arc::new(scene.open(8).await);
        let swaps: Vec<_> = (0..32_u8)
            .map(|n| {
                let pending = Arc::clone(&pending);
                tokio::spawn(async move {
                    pending.swap(&key("a"), None, Some((&[n], 10)), 1).await.unwrap()
                })
            })
            .collect();
        let mut done = 0;
        for swap in swaps {
            done += usize::from(swap.await.unwrap());
        }
        assert_eq!(done, 1);
    }
}
