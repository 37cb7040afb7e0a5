//! Where buckets and their registry rows lie: one async trait that speaks in
//! buckets, and its engines. What is acknowledged is durable.
//!
//! A [`Store`] is one generation of the directory: all buckets of one
//! `prefix_bits`. [`Generations`] holds the current one, builds the next beside
//! it when the directory is re-split, and keeps the directory's small metadata.
//! The store knows neither identifiers nor keys: rows come sealed, under keys
//! that say nothing.

mod check;
mod memory;
mod sled;
mod spent;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::{
    memory::MemoryGenerations,
    sled::{SledGenerations, SledOptions},
    spent::{Spent, SpentTokens},
};
use crate::bucket::{Bucket, BucketNumber, PrefixBits};

/// Most bytes of one sealed row.
pub const MAX_ROW_BYTES: usize = 4096;

/// Most bytes of a metadata value.
pub const MAX_META_BYTES: usize = 8192;

/// Most bytes of a metadata key.
pub const MAX_META_KEY_BYTES: usize = 512;

/// Changes that a partition's log keeps at least, unless told otherwise.
pub const DEFAULT_CHANGE_LOG_ENTRIES: u64 = 65_536;

/// Names a row within its bucket: a keyed hash, meaningless without the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey(pub [u8; 16]);

impl std::fmt::Debug for RowKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RowKey(..)")
    }
}

/// One registry row, sealed by the registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name within the bucket.
    pub key: RowKey,
    /// At most [`MAX_ROW_BYTES`].
    pub sealed: Vec<u8>,
}

/// One change of a bucket's rows.
#[derive(Clone, PartialEq, Eq)]
pub enum RowChange {
    /// Writes a row, new or not.
    Put(Row),
    /// Removes a row; removing an absent one changes nothing.
    Delete(RowKey),
}

/// The rows of one bucket, with the bucket's version they belong to.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredRows {
    /// The version of the bucket; 0 while it was never written.
    pub version: u64,
    /// Ascending by key.
    pub rows: Vec<Row>,
}

/// Which rows of a bucket are read with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The one of this name, if it is there.
    One(RowKey),
    /// All of them.
    All,
}

/// A bucket and those of its rows that were wanted, all of one commit.
#[derive(Clone, PartialEq, Eq)]
pub struct Held {
    /// The bucket.
    pub bucket: Bucket,
    /// Ascending by key.
    pub rows: Vec<Row>,
}

/// What is done with what was read; `None` while the bucket was never written.
pub type Look = Box<dyn FnOnce(Option<Held>) + Send>;

/// The outcome of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Done and durable; its place in the partition's change log.
    Done {
        /// Rises with every commit in the partition.
        sequence: u64,
    },
    /// The bucket had another version than expected: nothing changed.
    Conflict {
        /// The version it has; 0 while it was never written.
        version: u64,
    },
}

/// One entry of a partition's change log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its place in the log.
    pub sequence: u64,
    /// Which bucket changed.
    pub number: BucketNumber,
    /// The version it got.
    pub version: u64,
}

/// A stretch of a partition's change log.
#[derive(Clone, PartialEq, Eq)]
pub struct Changes {
    /// Ascending by sequence.
    pub changes: Vec<Change>,
    /// Where to go on.
    pub checkpoint: u64,
    /// Whether the log was cut before the checkpoint asked for: the caller
    /// must treat every bucket as changed.
    pub truncated: bool,
}

/// A whole bucket with all its rows, for bulk writes.
#[derive(Clone, PartialEq, Eq)]
pub struct BulkBucket {
    /// The bucket; its version replaces any other.
    pub bucket: Bucket,
    /// All rows of the bucket, ascending by key.
    pub rows: Vec<Row>,
}

/// Why a store could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The data folder could not be opened: it is in use, or not permitted.
    #[error("the data folder cannot be opened: {0}")]
    Open(String),
    /// What is on disk is not what was written.
    #[error("the data folder is damaged: {0}; restore it from a backup")]
    Damaged(&'static str),
    /// The disk failed or is full. After a failed sync nothing more is
    /// acknowledged until the process is started again.
    #[error("the disk failed: {0}; nothing was acknowledged")]
    Disk(String),
    /// The caller asked for something that this generation cannot hold.
    #[error("{0}")]
    Misuse(&'static str),
}

/// One generation of the directory.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The prefix bits of every bucket of this generation.
    fn prefix_bits(&self) -> PrefixBits;

    /// One bucket, whole: never a mixture of two commits. `None` while it was
    /// never written.
    async fn bucket(&self, number: BucketNumber) -> Result<Option<Bucket>, StoreError>;

    /// The registry rows of one bucket.
    async fn rows(&self, number: BucketNumber) -> Result<StoredRows, StoreError>;

    /// Reads a bucket with rows of it and hands both to `look`, on the thread that
    /// read them and may block: whoever computes on what he reads spares a change
    /// of threads. `look` is not called if reading fails.
    async fn look(
        &self,
        number: BucketNumber,
        wanted: Wanted,
        look: Look,
    ) -> Result<(), StoreError>;

    /// Replaces a bucket and changes its rows, atomically and durably, if the
    /// bucket still has the expected version (0: never written). The new
    /// bucket's version must be greater.
    async fn commit(
        &self,
        bucket: Bucket,
        expected_version: u64,
        rows: Vec<RowChange>,
    ) -> Result<Committed, StoreError>;

    /// Up to `limit` changes of a partition after a checkpoint (0: from the
    /// beginning of the log).
    async fn changes_since(
        &self,
        partition: u32,
        checkpoint: u64,
        limit: usize,
    ) -> Result<Changes, StoreError>;

    /// The buckets `first`, `first + 1`, ... as [`Store::bucket`] gives them,
    /// `count` of them or fewer at the end of the directory.
    async fn scan(
        &self,
        first: BucketNumber,
        count: usize,
    ) -> Result<Vec<Option<Bucket>>, StoreError>;

    /// Writes whole buckets, each atomically, none durable before
    /// [`Store::sync`]. For bulk loads, with nobody else writing.
    async fn bulk_put(&self, buckets: Vec<BulkBucket>) -> Result<(), StoreError>;

    /// Makes everything written so far durable.
    async fn sync(&self) -> Result<(), StoreError>;
}

/// All generations of a directory, and its metadata.
#[async_trait]
pub trait Generations: Send + Sync + 'static {
    /// The generation that serves; `None` in a new directory.
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError>;

    /// Begins the next generation, empty, discarding what an interrupted run
    /// left of one.
    async fn stage(&self, bits: PrefixBits) -> Result<Arc<dyn Store>, StoreError>;

    /// Makes the staged generation, which its writer has synced, the current
    /// one, durably, and discards the old: one or the other after a crash,
    /// never a mixture.
    async fn promote(&self) -> Result<Arc<dyn Store>, StoreError>;

    /// A metadata value.
    async fn meta_get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a metadata value of at most [`MAX_META_BYTES`] under a key of at
    /// most [`MAX_META_KEY_BYTES`], durably.
    async fn meta_put(&self, key: &str, value: Vec<u8>) -> Result<(), StoreError>;

    /// Removes metadata values, all or none of them, durably; absent ones change
    /// nothing.
    async fn meta_remove(&self, keys: Vec<String>) -> Result<(), StoreError>;

    /// All metadata whose key begins with `prefix`, ascending by key.
    async fn meta_list(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// The tokens that were spent here; every call gives the same.
    async fn spent_tokens(&self) -> Result<Arc<dyn SpentTokens>, StoreError>;
}
