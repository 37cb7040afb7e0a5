//! The store in memory, for tests and small tools. It keeps the contract but
//! for durability: nothing outlives the process.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use super::{
    BulkBucket, Change, Changes, Committed, DEFAULT_CHANGE_LOG_ENTRIES, Generations, Held, Look,
    Row, RowChange, RowKey, Store, StoreError, StoredRows, Wanted,
    check::{self, LogEnds},
    spent::{MemorySpent, SpentTokens},
};
use crate::bucket::{Bucket, BucketNumber, PrefixBits};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No lock is held across a panic: nothing in here panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A directory in memory.
pub struct MemoryGenerations {
    change_log_entries: u64,
    inner: Mutex<Inner>,
    spent: Arc<MemorySpent>,
}

#[derive(Default)]
struct Inner {
    made: u64,
    current: Option<Arc<MemoryStore>>,
    staged: Option<Arc<MemoryStore>>,
    meta: BTreeMap<String, Vec<u8>>,
}

impl MemoryGenerations {
    /// An empty directory whose partitions log at least so many changes.
    #[must_use]
    pub fn new(change_log_entries: u64) -> Self {
        Self { change_log_entries, inner: Mutex::default(), spent: Arc::default() }
    }
}

impl Default for MemoryGenerations {
    fn default() -> Self {
        Self::new(DEFAULT_CHANGE_LOG_ENTRIES)
    }
}

impl fmt::Debug for MemoryGenerations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryGenerations(..)")
    }
}

#[async_trait]
impl Generations for MemoryGenerations {
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        Ok(lock(&self.inner).current.clone().map(|store| store as Arc<dyn Store>))
    }

    async fn stage(&self, bits: PrefixBits) -> Result<Arc<dyn Store>, StoreError> {
        let mut inner = lock(&self.inner);
        inner.made += 1;
        let store = Arc::new(MemoryStore {
            bits,
            base: check::base_sequence(inner.made),
            change_log_entries: self.change_log_entries,
            retired: AtomicBool::new(false),
            partitions: Mutex::default(),
        });
        if let Some(discarded) = inner.staged.replace(Arc::clone(&store)) {
            discarded.retired.store(true, Ordering::SeqCst);
        }
        Ok(store)
    }

    async fn promote(&self) -> Result<Arc<dyn Store>, StoreError> {
        let mut inner = lock(&self.inner);
        let staged = inner
            .staged
            .take()
            .ok_or(StoreError::Misuse("no generation is staged that could be promoted"))?;
        if let Some(old) = inner.current.replace(Arc::clone(&staged)) {
            old.retired.store(true, Ordering::SeqCst);
        }
        Ok(staged)
    }

    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        check::meta_key(key)?;
        Ok(lock(&self.inner).meta.get(key).cloned())
    }

    async fn meta_put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        check::meta(key, &value)?;
        lock(&self.inner).meta.insert(key.to_owned(), value);
        Ok(())
    }

    async fn meta_remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        keys.iter().try_for_each(|key| check::meta_key(key))?;
        lock(&self.inner).meta.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn meta_list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        Ok(lock(&self.inner)
            .meta
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect())
    }

    async fn spent_tokens(&self) -> Result<Arc<dyn SpentTokens>, StoreError> {
        Ok(self.spent.clone())
    }
}

/// One generation in memory.
struct MemoryStore {
    bits: PrefixBits,
    base: u64,
    change_log_entries: u64,
    retired: AtomicBool,
    partitions: Mutex<HashMap<u32, Partition>>,
}

struct Partition {
    buckets: HashMap<BucketNumber, (Bucket, BTreeMap<RowKey, Vec<u8>>)>,
    log: VecDeque<Change>,
    ends: LogEnds,
}

impl MemoryStore {
    fn in_partition<T>(&self, partition: u32, read: impl FnOnce(&mut Partition) -> T) -> T {
        let base = self.base;
        read(lock(&self.partitions).entry(partition).or_insert_with(|| Partition {
            buckets: HashMap::new(),
            log: VecDeque::new(),
            ends: LogEnds { base, floor: base, last: base },
        }))
    }

    fn writable(&self) -> Result<(), StoreError> {
        if self.retired.load(Ordering::SeqCst) { Err(check::RETIRED) } else { Ok(()) }
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn prefix_bits(&self) -> PrefixBits {
        self.bits
    }

    async fn bucket(&self, number: BucketNumber) -> Result<Option<Bucket>, StoreError> {
        check::number(self.bits, number)?;
        Ok(self.in_partition(number.partition(self.bits), |partition| {
            partition.buckets.get(&number).map(|(bucket, _)| bucket.clone())
        }))
    }

    async fn rows(&self, number: BucketNumber) -> Result<StoredRows, StoreError> {
        check::number(self.bits, number)?;
        Ok(self.in_partition(number.partition(self.bits), |partition| {
            partition.buckets.get(&number).map_or_else(
                || StoredRows { version: 0, rows: Vec::new() },
                |(bucket, rows)| StoredRows {
                    version: bucket.version,
                    rows: rows
                        .iter()
                        .map(|(key, sealed)| Row { key: *key, sealed: sealed.clone() })
                        .collect(),
                },
            )
        }))
    }

    async fn look(
        &self,
        number: BucketNumber,
        wanted: Wanted,
        look: Look,
    ) -> Result<(), StoreError> {
        check::number(self.bits, number)?;
        let row = |(key, sealed): (&RowKey, &Vec<u8>)| Row { key: *key, sealed: sealed.clone() };
        let held = self.in_partition(number.partition(self.bits), |partition| {
            let (bucket, rows) = partition.buckets.get(&number)?;
            let rows = match wanted {
                Wanted::One(key) => rows.get_key_value(&key).map(row).into_iter().collect(),
                Wanted::All => rows.iter().map(row).collect(),
            };
            Some(Held { bucket: bucket.clone(), rows })
        });
        tokio::task::spawn_blocking(move || look(held))
            .await
            .map_err(|_| StoreError::Disk("the memory engine stopped unexpectedly".into()))
    }

    async fn commit(
        &self,
        bucket: Bucket,
        expected_version: u64,
        rows: Vec<RowChange>,
    ) -> Result<Committed, StoreError> {
        check::commit(self.bits, &bucket, expected_version, &rows)?;
        self.writable()?;
        let keep = self.change_log_entries;
        Ok(self.in_partition(bucket.number.partition(self.bits), |partition| {
            let stored = partition.buckets.get(&bucket.number);
            let version = stored.map_or(0, |(bucket, _)| bucket.version);
            if version != expected_version {
                return Committed::Conflict { version };
            }
            partition.ends.last += 1;
            let sequence = partition.ends.last;
            let change = Change { sequence, number: bucket.number, version: bucket.version };
            partition.log.push_back(change);
            while partition.log.len() as u64 > keep {
                if let Some(cut) = partition.log.pop_front() {
                    partition.ends.floor = cut.sequence;
                }
            }
            let mut all =
                partition.buckets.remove(&bucket.number).map(|(_, rows)| rows).unwrap_or_default();
            for change in rows {
                match change {
                    RowChange::Put(row) => drop(all.insert(row.key, row.sealed)),
                    RowChange::Delete(key) => drop(all.remove(&key)),
                }
            }
            partition.buckets.insert(bucket.number, (bucket, all));
            Committed::Done { sequence }
        }))
    }

    async fn changes_since(
        &self,
        partition: u32,
        checkpoint: u64,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        check::partition(self.bits, partition)?;
        Ok(self.in_partition(partition, |partition| {
            let after = match partition.ends.resume(checkpoint) {
                Ok(after) => after,
                Err(truncated) => return truncated,
            };
            let skipped = partition.log.partition_point(|change| change.sequence <= after);
            let changes: Vec<_> = partition.log.iter().skip(skipped).take(limit).copied().collect();
            let checkpoint = changes.last().map_or(after, |change| change.sequence);
            Changes { changes, checkpoint, truncated: false }
        }))
    }

    async fn scan(
        &self,
        first: BucketNumber,
        count: usize,
    ) -> Result<Vec<Option<Bucket>>, StoreError> {
        let mut buckets = Vec::new();
        for number in check::scanned(self.bits, first, count)? {
            buckets.push(self.bucket(number).await?);
        }
        Ok(buckets)
    }

    async fn bulk_put(&self, buckets: Vec<BulkBucket>) -> Result<(), StoreError> {
        buckets.iter().try_for_each(|bulk| check::bulk(self.bits, bulk))?;
        self.writable()?;
        for BulkBucket { bucket, rows } in buckets {
            self.in_partition(bucket.number.partition(self.bits), |partition| {
                partition.log.clear();
                partition.ends.last += 1;
                partition.ends.floor = partition.ends.last;
                let rows = rows.into_iter().map(|row| (row.key, row.sealed)).collect();
                partition.buckets.insert(bucket.number, (bucket, rows));
            });
        }
        Ok(())
    }

    async fn sync(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
