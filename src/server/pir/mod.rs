//! Private information retrieval: the matrices of a directory in memory, made at
//! the start, answered from by threads of their own, and kept as the store is.
//!
//! Whatever row a query is for, the server does the same with it: it reads all of
//! the partition's matrix. Nothing of a query is logged or counted but that it
//! was there.

mod answers;
mod follow;
mod make;
mod options;
mod pending;
mod shared;

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use tokio::task::JoinSet;

pub use self::options::PirOptions;
use self::{
    answers::Answers,
    follow::{Following, Subject},
};
use super::{
    ServerError,
    metrics::Metrics,
    quota::{Paid, Returning},
};
use crate::{
    bucket::DirectoryId,
    pir::{Kernel, OutOfMemory, Public, QueryError, Shape},
    store::{Store, StoreError},
    wire::{pir_seed, pir_shape},
};

/// Why there is no private information retrieval, or no answer to a query.
#[derive(Debug, thiserror::Error)]
pub enum PirError {
    // The operator's to mend.
    /// The memory that may be used does not suffice.
    #[error(
        "private information retrieval over {partitions} partitions of {rows} rows takes {} of \
         memory, and [pir] memory_bytes allows {}: allow more, or serve without it",
        gib(*.needed_bytes),
        gib(*.budget_bytes)
    )]
    Memory {
        /// Partitions of the directory.
        partitions: u32,
        /// Rows of each.
        rows: usize,
        /// Bytes it takes.
        needed_bytes: u64,
        /// Bytes it may.
        budget_bytes: u64,
    },
    /// The system gives less than was allowed.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// A bucket is missing.
    #[error("the directory lacks a bucket that it must have: load it again")]
    NoBucket,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),

    // The peer's fault.
    /// The query is none.
    #[error(transparent)]
    Query(#[from] QueryError),

    // Ours.
    /// As many queries wait as may.
    #[error("too many queries wait")]
    Busy,
    /// The matrix is not made yet.
    #[error("private information retrieval is being prepared: ask again later")]
    NotReady,
    /// The work panicked, or the runtime stops.
    #[error("the query was not answered to its end")]
    Stopped,
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1_u64 << 30) as f64)
}

/// Private information retrieval over one generation of a directory. Clones share
/// it.
#[derive(Clone)]
pub(super) struct Pir(Arc<Inner>);

struct Inner {
    store: Arc<dyn Store>,
    directory: DirectoryId,
    answers: Arc<Answers>,
    metrics: Arc<Metrics>,
    /// Queries under way that there is room for.
    room: usize,
}

impl Pir {
    /// Checks that there is memory enough, and makes nothing yet: [`Self::keep`].
    pub(super) fn new(
        store: Arc<dyn Store>,
        directory: DirectoryId,
        options: &PirOptions,
        metrics: Arc<Metrics>,
    ) -> Result<Self, ServerError> {
        let bits = store.prefix_bits();
        options.admit(bits)?;
        let (threads, partitions) = (options.threads(), bits.partitions());
        let answers = Answers::new(partitions, threads, options.max_waiting, metrics.clone());
        let room = options.max_waiting * partitions as usize + threads * crate::pir::BATCH;
        let answers = Arc::new(answers);
        Ok(Self(Arc::new(Inner { store, directory, answers, metrics, room })))
    }

    /// How many queries may be under way, with those that still arrive.
    pub(super) fn room(&self) -> usize {
        self.0.room
    }

    /// The shape of every partition's matrix.
    pub(super) fn shape(&self) -> Shape {
        pir_shape(self.0.store.prefix_bits())
    }

    /// Answers a query when it is its turn.
    ///
    /// What is not begun costs nothing: what was paid is given back.
    pub(super) async fn answer(
        &self,
        partition: u32,
        query: Bytes,
        paid: Returning,
    ) -> Result<(Bytes, Paid), PirError> {
        self.0.answers.answer(partition, query, paid).await
    }

    /// Makes all matrices, calls `ready`, and follows changes for ever.
    pub(super) async fn keep(
        self,
        ready: impl Future<Output = ()> + Send,
    ) -> Result<Infallible, PirError> {
        let inner = &self.0;
        let begun = std::time::Instant::now();
        let (partitions, kernel) = (inner.store.prefix_bits().partitions(), Kernel::best());
        let (seed, shape) = (pir_seed(&inner.directory), self.shape());
        let expand = move || Arc::new(Public::expand(&seed, shape));
        let public = tokio::task::spawn_blocking(expand).await.map_err(|_| PirError::Stopped)?;
        let mut following = JoinSet::new();
        for partition in 0..partitions {
            // What changes while it is read is read again.
            let checkpoint = Following::end_of(inner.store.as_ref(), partition).await?;
            let made = make::make(inner.store.as_ref(), partition, &public, kernel).await?;
            inner.answers.put(partition, made.matrix);
            let (store, answers) = (inner.store.clone(), inner.answers.clone());
            let subject = Subject { store, partition, answers, metrics: inner.metrics.clone() };
            let (follower, preparer) = (made.follower, made.preparer);
            let follows = Following::new(subject, checkpoint, follower, preparer, public.clone());
            following.spawn(follows.keep());
        }
        tracing::info!(
            partitions,
            rows = shape.rows(),
            kernel = kernel.name(),
            seconds = begun.elapsed().as_secs(),
            "private retrieval is ready"
        );
        ready.await;
        match following.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(_)) | None => Err(PirError::Stopped),
        }
    }
}
