//! One generation on disk: its partitions, opened when first needed.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use super::{
    SledOptions, blocking,
    commit::Committer,
    durable::{self, Database},
    lock::FolderLock,
    meta::{Generation, Meta},
    partition::Partition,
};
use crate::{
    bucket::{Bucket, BucketNumber, PrefixBits},
    store::{
        BulkBucket, Changes, Committed, Look, RowChange, Store, StoreError, StoredRows, Wanted,
        check::{self, RETIRED},
    },
};

/// Least cache of one partition.
const MIN_CACHE_BYTES: u64 = 8 << 20;

#[derive(Clone)]
struct Opened {
    partition: Arc<Partition>,
    committer: Arc<Committer>,
}

/// One generation; clones share it.
#[derive(Clone)]
pub(super) struct SledStore(Arc<Inner>);

struct Inner {
    generation: Generation,
    folder: PathBuf,
    options: SledOptions,
    meta: Arc<Meta>,
    lock: Arc<FolderLock>,
    live: AtomicBool,
    retired: AtomicBool,
    partitions: Mutex<HashMap<u32, Arc<Mutex<Option<Opened>>>>>,
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SledStore(..)")
    }
}

/// The folder of a generation.
pub(super) fn folder(data: &Path, generation: u64) -> PathBuf {
    data.join(format!("generation-{generation:06}"))
}

impl SledStore {
    pub(super) fn new(
        data: &Path,
        generation: Generation,
        options: SledOptions,
        meta: Arc<Meta>,
        lock: Arc<FolderLock>,
    ) -> Self {
        Self(Arc::new(Inner {
            generation,
            folder: folder(data, generation.number),
            options,
            meta,
            lock,
            live: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            partitions: Mutex::default(),
        }))
    }

    pub(super) fn generation(&self) -> Generation {
        self.0.generation
    }

    /// This generation is, or is about to become, the current one.
    pub(super) fn set_live(&self) {
        self.0.live.store(true, Ordering::SeqCst);
        self.0.opened().iter().for_each(|opened| opened.partition.set_live());
    }

    /// Refuses writes from now on; its files are about to go away.
    pub(super) fn retire(&self) {
        self.0.retired.store(true, Ordering::SeqCst);
    }

    /// Makes everything written to any partition durable.
    pub(super) fn sync_all(&self) -> Result<(), StoreError> {
        self.0.opened().iter().try_for_each(|opened| opened.partition.sync())
    }

    async fn with<T: Send + 'static>(
        &self,
        partition: u32,
        work: impl FnOnce(&Partition) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner.partition(partition)?.partition)).await
    }

    fn partition_of(&self, number: BucketNumber) -> Result<u32, StoreError> {
        check::number(self.0.generation.bits, number)?;
        Ok(number.partition(self.0.generation.bits))
    }
}

impl Inner {
    fn writable(&self) -> Result<(), StoreError> {
        if self.retired.load(Ordering::SeqCst) { Err(RETIRED) } else { Ok(()) }
    }

    fn opened(&self) -> Vec<Opened> {
        let partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let slots: Vec<_> = partitions.values().cloned().collect();
        drop(partitions);
        slots
            .iter()
            .filter_map(|slot| slot.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect()
    }

    /// A partition, if that can be told without waiting for anybody.
    fn opened_before(&self, number: u32) -> Option<Opened> {
        let slot = Arc::clone(self.partitions.try_lock().ok()?.get(&number)?);
        let slot = slot.try_lock().ok()?;
        slot.clone()
    }

    fn partition(&self, number: u32) -> Result<Opened, StoreError> {
        let slot = {
            let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(partitions.entry(number).or_default())
        };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opened) = &*slot {
            return Ok(opened.clone());
        }
        self.writable()?;
        Ok(slot.insert(self.open(number)?).clone())
    }

    fn open(&self, number: u32) -> Result<Opened, StoreError> {
        let path = self.folder.join(format!("partition-{number:05}"));
        let Generation { number: generation, bits } = self.generation;
        let exists = self.meta.has_partition(generation, number)?;
        if exists && !path.join("db").exists() {
            return Err(StoreError::Damaged("a partition's files are missing"));
        }
        if !exists {
            // What a crash left of its making holds nothing acknowledged.
            durable::remove_dir(&path)?;
            durable::create_dir(&path)?;
        }
        let share = self.options.cache_bytes / u64::from(bits.partitions());
        let database = Database::open(&path, share.max(MIN_CACHE_BYTES))?;
        if !exists {
            self.meta.add_partition(generation, number)?;
        }
        let partition = Arc::new(Partition::new(
            bits,
            check::base_sequence(generation),
            self.options.change_log_entries,
            database,
            Arc::clone(&self.lock),
        )?);
        if self.live.load(Ordering::SeqCst) {
            partition.set_live();
        }
        let committer = if self.options.group_commits {
            Committer::start(Arc::clone(&partition))?
        } else {
            Committer::alone(Arc::clone(&partition))
        };
        let committer = Arc::new(committer);
        Ok(Opened { partition, committer })
    }
}

#[async_trait]
impl Store for SledStore {
    fn prefix_bits(&self) -> PrefixBits {
        self.0.generation.bits
    }

    async fn bucket(&self, number: BucketNumber) -> Result<Option<Bucket>, StoreError> {
        let partition = self.partition_of(number)?;
        self.with(partition, move |partition| partition.bucket(number)).await
    }

    async fn rows(&self, number: BucketNumber) -> Result<StoredRows, StoreError> {
        let partition = self.partition_of(number)?;
        self.with(partition, move |partition| partition.rows(number)).await
    }

    async fn look(
        &self,
        number: BucketNumber,
        wanted: Wanted,
        look: Look,
    ) -> Result<(), StoreError> {
        let partition = self.partition_of(number)?;
        self.with(partition, move |partition| {
            look(partition.held(number, wanted)?);
            Ok(())
        })
        .await
    }

    async fn commit(
        &self,
        bucket: Bucket,
        expected_version: u64,
        rows: Vec<RowChange>,
    ) -> Result<Committed, StoreError> {
        let partition = self.partition_of(bucket.number)?;
        check::commit(self.0.generation.bits, &bucket, expected_version, &rows)?;
        self.0.writable()?;
        let committer = if let Some(opened) = self.0.opened_before(partition) {
            opened.committer
        } else {
            let inner = Arc::clone(&self.0);
            blocking(move || Ok(inner.partition(partition)?.committer)).await?
        };
        committer.commit(bucket, expected_version, rows).await
    }

    async fn changes_since(
        &self,
        partition: u32,
        checkpoint: u64,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        check::partition(self.0.generation.bits, partition)?;
        self.with(partition, move |partition| partition.changes_since(checkpoint, limit)).await
    }

    async fn scan(
        &self,
        first: BucketNumber,
        count: usize,
    ) -> Result<Vec<Option<Bucket>>, StoreError> {
        let bits = self.0.generation.bits;
        let numbers = check::scanned(bits, first, count)?;
        let inner = Arc::clone(&self.0);
        blocking(move || {
            numbers
                .map(|number| inner.partition(number.partition(bits))?.partition.bucket(number))
                .collect()
        })
        .await
    }

    async fn bulk_put(&self, buckets: Vec<BulkBucket>) -> Result<(), StoreError> {
        let bits = self.0.generation.bits;
        buckets.iter().try_for_each(|bulk| check::bulk(bits, bulk))?;
        self.0.writable()?;
        let inner = Arc::clone(&self.0);
        blocking(move || {
            let mut partitions: HashMap<u32, Vec<BulkBucket>> = HashMap::new();
            for bulk in buckets {
                partitions.entry(bulk.bucket.number.partition(bits)).or_default().push(bulk);
            }
            partitions.into_iter().try_for_each(|(partition, buckets)| {
                inner.partition(partition)?.partition.bulk_put(buckets)
            })
        })
        .await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.0.writable()?;
        let store = self.clone();
        blocking(move || store.sync_all()).await
    }
}
