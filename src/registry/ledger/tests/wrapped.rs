//! A store that fails, stands still or refuses at its commits, as told.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;

use crate::{
    bucket::{Bucket, BucketNumber, PrefixBits},
    store::{
        BulkBucket, Changes, Committed, Generations, Look, RowChange, SpentTokens, Store,
        StoreError, StoredRows, Wanted,
    },
};

/// What becomes of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is refused.
    Before,
    /// It is done, and its acknowledgement lost.
    After,
    /// It never returns, in this bucket.
    Hang(BucketNumber),
    /// Somebody else was quicker, so often.
    Conflict(usize),
}

/// A directory whose commits fail.
pub(super) struct Faulty {
    inner: Arc<dyn Generations>,
    fault: Fault,
    /// Commits that were tried.
    tried: Arc<AtomicUsize>,
}

impl Faulty {
    pub(super) fn new(inner: &Arc<dyn Generations>, fault: Fault) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), fault, tried: Arc::default() })
    }

    pub(super) fn tried(&self) -> usize {
        self.tried.load(Ordering::SeqCst)
    }
}

struct FaultyStore {
    inner: Arc<dyn Store>,
    fault: Fault,
    tried: Arc<AtomicUsize>,
}

#[async_trait]
impl Generations for Faulty {
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let (fault, tried) = (self.fault, &self.tried);
        Ok(self.inner.current().await?.map(|inner| {
            Arc::new(FaultyStore { inner, fault, tried: Arc::clone(tried) }) as Arc<dyn Store>
        }))
    }

    async fn stage(&self, bits: PrefixBits) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.stage(bits).await
    }

    async fn promote(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.inner.promote().await
    }

    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.meta_get(key).await
    }

    async fn meta_put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        self.inner.meta_put(key, value).await
    }

    async fn meta_remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.inner.meta_remove(keys).await
    }

    async fn meta_list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.meta_list(prefix).await
    }

    async fn spent_tokens(&self) -> Result<Arc<dyn SpentTokens>, StoreError> {
        self.inner.spent_tokens().await
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn prefix_bits(&self) -> PrefixBits {
        self.inner.prefix_bits()
    }

    async fn bucket(&self, number: BucketNumber) -> Result<Option<Bucket>, StoreError> {
        self.inner.bucket(number).await
    }

    async fn rows(&self, number: BucketNumber) -> Result<StoredRows, StoreError> {
        self.inner.rows(number).await
    }

    async fn look(
        &self,
        number: BucketNumber,
        wanted: Wanted,
        look: Look,
    ) -> Result<(), StoreError> {
        self.inner.look(number, wanted, look).await
    }

    async fn commit(
        &self,
        bucket: Bucket,
        expected_version: u64,
        rows: Vec<RowChange>,
    ) -> Result<Committed, StoreError> {
        let tried = self.tried.fetch_add(1, Ordering::SeqCst);
        let pulled = || StoreError::Disk("it was pulled out".into());
        match self.fault {
            Fault::Before => return Err(pulled()),
            Fault::After => {
                self.inner.commit(bucket, expected_version, rows).await?;
                return Err(pulled());
            }
            Fault::Hang(number) if number == bucket.number => std::future::pending().await,
            Fault::Conflict(often) if tried < often => {
                return Ok(Committed::Conflict { version: expected_version + 1 });
            }
            Fault::Hang(_) | Fault::Conflict(_) => {}
        }
        self.inner.commit(bucket, expected_version, rows).await
    }

    async fn changes_since(
        &self,
        partition: u32,
        checkpoint: u64,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.inner.changes_since(partition, checkpoint, limit).await
    }

    async fn scan(
        &self,
        first: BucketNumber,
        count: usize,
    ) -> Result<Vec<Option<Bucket>>, StoreError> {
        self.inner.scan(first, count).await
    }

    async fn bulk_put(&self, buckets: Vec<BulkBucket>) -> Result<(), StoreError> {
        self.inner.bulk_put(buckets).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.inner.sync().await
    }
}
