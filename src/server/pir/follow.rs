//! Follows the changes of a partition: what was acknowledged is read from the
//! store, prepared beside the queries, and put in place between two of them.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    PirError,
    answers::Answers,
    make::{number_of, rows_of},
    pending::Pending,
};
use crate::{
    bucket::BucketNumber,
    pir::{Follower, OutOfMemory, Preparer, Public},
    server::metrics::Metrics,
    store::{Store, StoreError},
    wire::{pir_row, pir_shape},
};

/// Between two looks at what changed, while nothing does.
const PERIOD: Duration = Duration::from_millis(100);

/// Rows that may wait to be put in place: 200 MB.
const MAX_PENDING: usize = 4096;

type Rows = Vec<(usize, Bytes)>;

/// What changes are prepared with, on a thread that may block.
struct Bench {
    follower: Follower,
    preparer: Preparer,
    public: Arc<Public>,
    pending: Pending,
}

impl Bench {
    /// Takes in rows that changed, and puts in place what waits longest, with what
    /// costs nothing more. Says of how many rows that was.
    fn step(
        &mut self,
        answers: &Answers,
        partition: u32,
        rows: Rows,
    ) -> Result<usize, OutOfMemory> {
        let Some(matrix) = answers.matrix(partition) else { return Ok(0) };
        let Self { follower, preparer, public, pending } = self;
        // Only this thread changes it: nothing comes between what is read here and
        // what is put in place below.
        let now = matrix.read();
        for (row, bytes) in rows {
            pending.put(row, bytes, |bytes| now.differing(row, bytes));
        }
        let groups = pending.next();
        let parts = pending.parts(&groups);
        if parts.is_empty() {
            return Ok(0);
        }
        let change = follower.prepare(&now, public, preparer, &parts)?;
        drop(now);
        let spare = matrix.write().apply(change);
        preparer.recycle(spare);
        pending.placed(&groups);
        Ok(parts.chunk_by(|one, next| one.row == next.row).count())
    }
}

/// What is followed, and who is told.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) store: Arc<dyn Store>,
    pub(super) partition: u32,
    pub(super) answers: Arc<Answers>,
    pub(super) metrics: Arc<Metrics>,
}

/// Follows one partition.
pub(super) struct Following {
    subject: Subject,
    /// How far the log was read.
    checkpoint: u64,
    bench: Option<Bench>,
    waiting: usize,
}

impl Following {
    /// Where the log of a partition ends now: to be asked before its buckets are
    /// read.
    pub(super) async fn end_of(store: &dyn Store, partition: u32) -> Result<u64, StoreError> {
        // No log reaches so far: the answer says where it ends.
        Ok(store.changes_since(partition, u64::MAX, 1).await?.checkpoint)
    }

    pub(super) fn new(
        subject: Subject,
        checkpoint: u64,
        follower: Follower,
        preparer: Preparer,
        public: Arc<Public>,
    ) -> Self {
        let bench = Bench { follower, preparer, public, pending: Pending::default() };
        Self { subject, checkpoint, bench: Some(bench), waiting: 0 }
    }

    /// Follows for ever; what fails is tried again. An error is a fault of ours.
    pub(super) async fn keep(mut self) -> Result<Infallible, PirError> {
        loop {
            match self.catch_up().await {
                Ok(()) if self.waiting == 0 => tokio::time::sleep(PERIOD).await,
                Ok(()) => {}
                Err(PirError::Stopped) => return Err(PirError::Stopped),
                Err(error) => {
                    tracing::error!(%error, "changes are not in private retrieval yet");
                    tokio::time::sleep(PERIOD).await;
                }
            }
        }
    }

    /// Reads what changed, and puts in place what waits longest.
    async fn catch_up(&mut self) -> Result<(), PirError> {
        let Subject { store, partition, .. } = self.subject.clone();
        let room = MAX_PENDING.saturating_sub(self.waiting);
        let mut rows = Vec::new();
        if room > 0 {
            let changes = store.changes_since(partition, self.checkpoint, room).await?;
            if changes.truncated {
                tracing::warn!("the log of changes was cut: all buckets are read again");
                self.all_again().await?;
            }
            let numbers: BTreeSet<BucketNumber> =
                changes.changes.iter().map(|change| change.number).collect();
            let bits = store.prefix_bits();
            for number in numbers {
                let bucket = store.bucket(number).await?.ok_or(PirError::NoBucket)?;
                rows.push((pir_row(number, bits).1, bucket.entries().clone()));
            }
            self.checkpoint = changes.checkpoint;
        }
        self.step(rows).await
    }

    /// Holds every row against the store.
    async fn all_again(&mut self) -> Result<(), PirError> {
        let Subject { store, partition, .. } = self.subject.clone();
        let bits = store.prefix_bits();
        let mut first = 0;
        while first < pir_shape(bits).rows() && number_of(partition, first, bits).is_some() {
            let rows = rows_of(store.as_ref(), partition, first).await?;
            first += rows.len().max(1);
            self.step(rows).await?;
            while self.waiting > 0 {
                self.step(Vec::new()).await?;
            }
        }
        Ok(())
    }

    async fn step(&mut self, rows: Rows) -> Result<(), PirError> {
        let mut bench = self.bench.take().ok_or(PirError::Stopped)?;
        let Subject { answers, partition, .. } = self.subject.clone();
        let stepped = tokio::task::spawn_blocking(move || {
            let stepped = bench.step(&answers, partition, rows);
            (bench, stepped)
        });
        let (bench, stepped) = stepped.await.map_err(|_| PirError::Stopped)?;
        self.waiting = bench.pending.len();
        self.bench = Some(bench);
        self.subject.metrics.rows_renewed(stepped?);
        Ok(())
    }
}
