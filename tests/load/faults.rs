//! A store that fails, or stands still, at a chosen write.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use blindbook::{
    bucket::{Bucket, BucketNumber, PrefixBits},
    store::{
        BulkBucket, Changes, Committed, Generations, Look, RowChange, SpentTokens, Store,
        StoreError, StoredRows, Wanted,
    },
};

/// What happens when the writes run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The write is refused.
    Before,
    /// The write is done, and its acknowledgement lost.
    After,
    /// The write never returns.
    Hang,
}

struct Fuse {
    writes_left: AtomicI64,
    fault: Fault,
}

impl Fuse {
    /// Passes through as many writes as there are left.
    async fn write<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>> + Send,
    ) -> Result<T, StoreError> {
        let left = self.writes_left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 {
            return write.await;
        }
        match self.fault {
            Fault::After if left == 0 => drop(write.await?),
            Fault::Before | Fault::After => {}
            Fault::Hang => std::future::pending().await,
        }
        Err(StoreError::Disk("it was pulled out".into()))
    }
}

/// All generations, with a fuse.
pub(crate) struct FaultyGenerations {
    inner: Arc<dyn Generations>,
    fuse: Arc<Fuse>,
}

struct FaultyStore {
    inner: Arc<dyn Store>,
    fuse: Arc<Fuse>,
}

impl FaultyGenerations {
    pub(crate) fn new(inner: Arc<dyn Generations>, writes: i64, fault: Fault) -> Self {
        Self { inner, fuse: Arc::new(Fuse { writes_left: AtomicI64::new(writes), fault }) }
    }

    /// Whether the fuse has blown.
    pub(crate) fn blown(&self) -> bool {
        self.fuse.writes_left.load(Ordering::SeqCst) < 0
    }

    fn store(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        Arc::new(FaultyStore { inner, fuse: Arc::clone(&self.fuse) })
    }
}

#[async_trait]
impl Generations for FaultyGenerations {
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        Ok(self.inner.current().await?.map(|store| self.store(store)))
    }

    async fn stage(&self, bits: PrefixBits) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.store(self.fuse.write(self.inner.stage(bits)).await?))
    }

    async fn promote(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(self.store(self.fuse.write(self.inner.promote()).await?))
    }

    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.meta_get(key).await
    }

    async fn meta_put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError> {
        self.fuse.write(self.inner.meta_put(key, value)).await
    }

    async fn meta_remove(&self, keys: Vec<String>) -> Result<(), StoreError> {
        self.fuse.write(self.inner.meta_remove(keys)).await
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
        self.fuse.write(self.inner.commit(bucket, expected_version, rows)).await
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
        self.fuse.write(self.inner.bulk_put(buckets)).await
    }

    async fn sync(&self) -> Result<(), StoreError> {
        self.fuse.write(self.inner.sync()).await
    }
}
