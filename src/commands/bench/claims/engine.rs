//! The engine alone: what a ledger committed is recorded on its way into one
//! data folder, and committed again by as many writers into others that were its
//! copies.

use std::{
    collections::HashMap,
    fs, io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use anyhow::{Context as _, anyhow};
use async_trait::async_trait;
use blindbook::{
    bucket::{Bucket, BucketNumber, PrefixBits},
    store::{
        BulkBucket, Changes, Committed, Generations, Look, RowChange, SpentTokens, Store,
        StoreError, StoredRows, Wanted,
    },
};
use tokio::task::JoinSet;

use super::super::{cpu, rounds::Pace};

/// One commit, as the ledger made it.
#[derive(Clone)]
pub(super) struct Commit {
    bucket: Bucket,
    expected_version: u64,
    rows: Vec<RowChange>,
}

type Commits = Arc<Mutex<Vec<Commit>>>;

/// A directory that records what is committed to it.
pub(super) struct Recorder {
    inner: Arc<dyn Generations>,
    commits: Commits,
}

impl Recorder {
    pub(super) fn new(inner: Arc<dyn Generations>) -> Arc<Self> {
        Arc::new(Self { inner, commits: Commits::default() })
    }

    /// What was committed since the last call, in an order that holds for each
    /// bucket.
    pub(super) fn take(&self) -> Vec<Commit> {
        std::mem::take(&mut *self.commits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Recording {
    inner: Arc<dyn Store>,
    commits: Commits,
}

#[async_trait]
impl Generations for Recorder {
    async fn current(&self) -> Result<Option<Arc<dyn Store>>, StoreError> {
        let commits = &self.commits;
        Ok(self.inner.current().await?.map(|inner| {
            Arc::new(Recording { inner, commits: Arc::clone(commits) }) as Arc<dyn Store>
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
impl Store for Recording {
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
        let commit = Commit { bucket: bucket.clone(), expected_version, rows: rows.clone() };
        let committed = self.inner.commit(bucket, expected_version, rows).await?;
        if let Committed::Done { .. } = committed {
            self.commits.lock().unwrap_or_else(PoisonError::into_inner).push(commit);
        }
        Ok(committed)
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

/// Commits what was recorded, by so many writers; those of one bucket one after
/// the other.
pub(super) async fn commit(
    store: &Arc<dyn Store>,
    commits: Vec<Commit>,
    writers: usize,
) -> anyhow::Result<Pace> {
    let count = commits.len();
    let mut turns: HashMap<BucketNumber, Arc<tokio::sync::Mutex<()>>> = HashMap::new();
    let jobs: Vec<_> = commits
        .into_iter()
        .map(|commit| {
            let turn = Arc::clone(turns.entry(commit.bucket.number).or_default());
            Mutex::new(Some((turn, commit)))
        })
        .collect();
    let (jobs, next) = (Arc::new(jobs), Arc::new(AtomicUsize::new(0)));
    let cpu_before = cpu::used();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..writers {
        let (store, jobs, next) = (Arc::clone(store), Arc::clone(&jobs), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let job = job.lock().unwrap_or_else(PoisonError::into_inner).take();
                let (turn, Commit { bucket, expected_version, rows }) =
                    job.ok_or_else(|| anyhow!("a commit was taken twice"))?;
                loop {
                    let _turn = turn.lock().await;
                    let (bucket, rows) = (bucket.clone(), rows.clone());
                    match store.commit(bucket, expected_version, rows).await? {
                        Committed::Done { .. } => break,
                        // The one before has not come to its turn yet.
                        Committed::Conflict { version } if version < expected_version => {}
                        Committed::Conflict { .. } => {
                            return Err(anyhow!("the copy is not what was copied"));
                        }
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.context("a writer ended early")??;
    }
    Ok(Pace::of(count, begun, cpu_before))
}

/// Copies a folder that nobody has open.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
