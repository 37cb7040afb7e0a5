//! How a change comes about: its bucket is read, the change planned and what
//! it comes to sealed and signed, on one thread; then it is committed, and
//! planned anew if somebody else was quicker.

use std::{sync::Arc, thread, time::Duration};

use tokio::{
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
};

use super::{
    Inner, LedgerError,
    draft::{Draft, Finished, Stored},
};
use crate::{
    bucket::BucketNumber,
    keyring::Keyring,
    store::{Committed, Held, RowKey, StoredRows, Wanted},
};

/// How often a change is tried while others change the same bucket. Within one
/// process they take turns, so that a second attempt is rare.
const ATTEMPTS: u32 = 16;

/// The pause before the second attempt; it grows with each.
const PAUSE: Duration = Duration::from_millis(2);

/// Changes that are read and planned at once, for each processor: some compute
/// while others wait for the disk or for a thread. More would only crowd lookups
/// out.
const WORKING_PER_CORE: usize = 4;

/// How a bucket is opened to be changed.
#[derive(Clone, Copy)]
pub(super) enum Opening {
    /// For a change of one row: the others are opened only if nothing is known
    /// of them.
    One(RowKey),
    /// All rows.
    All,
    /// To build its entries anew, whatever they are.
    Rebuild,
}

/// Room for those who work.
pub(super) fn working() -> Arc<Semaphore> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores * WORKING_PER_CORE))
}

/// What a plan came to; `None` if too little is known of the bucket, so that all
/// rows have to be opened.
type Planned<T> = Option<(T, Finished)>;

impl Inner {
    /// Plans a change, commits it, and plans it anew when somebody else was
    /// quicker.
    pub(super) async fn commit<T: Send + 'static>(
        self: Arc<Self>,
        number: BucketNumber,
        opening: Opening,
        now_s: u64,
        plan: impl Fn(&Self, &mut Draft) -> Result<T, LedgerError> + Send + Sync + 'static,
    ) -> Result<T, LedgerError> {
        let open = self.open.read().await;
        if !*open {
            return Err(LedgerError::Closed);
        }
        let turn = self.turns.of(number);
        let _turn = turn.lock().await;
        let plan = Arc::new(plan);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(PAUSE * attempt).await;
            }
            let (outcome, finished) = self.plan(number, opening, now_s, &plan).await?;
            let Finished { commit, version, summary } = finished;
            let Some(commit) = commit else {
                self.known.put(number, version, summary);
                return Ok(outcome);
            };
            self.totals.begin(&*self.generations).await?;
            let committed =
                self.store.commit(commit.bucket, commit.expected_version, commit.rows).await?;
            match committed {
                Committed::Done { .. } => {
                    self.known.put(number, version, summary);
                    (self.observer)(number);
                    if !matches!(opening, Opening::Rebuild) {
                        self.totals.add(commit.delta);
                    }
                    return Ok(outcome);
                }
                Committed::Conflict { .. } => {}
            }
        }
        Err(LedgerError::Busy)
    }

    async fn plan<T: Send + 'static>(
        self: &Arc<Self>,
        number: BucketNumber,
        opening: Opening,
        now_s: u64,
        plan: &Arc<impl Fn(&Self, &mut Draft) -> Result<T, LedgerError> + Send + Sync + 'static>,
    ) -> Result<(T, Finished), LedgerError> {
        if let Opening::One(row) = opening
            && self.known.has(number)
        {
            let planned = self.work(number, Wanted::One(row), now_s, opening, plan).await?;
            if let Some(planned) = planned {
                return Ok(planned);
            }
        }
        // Never too little when all rows are at hand.
        self.work(number, Wanted::All, now_s, opening, plan).await?.ok_or(LedgerError::Worker)
    }

    /// Reads a bucket and plans its change, on one thread.
    async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        number: BucketNumber,
        wanted: Wanted,
        now_s: u64,
        opening: Opening,
        plan: &Arc<impl Fn(&Self, &mut Draft) -> Result<T, LedgerError> + Send + Sync + 'static>,
    ) -> Result<Planned<T>, LedgerError> {
        let (inner, plan) = (Arc::clone(self), Arc::clone(plan));
        let (done, result) = oneshot::channel();
        let working = Arc::clone(&self.working).acquire_owned().await;
        let working = working.map_err(|_| LedgerError::Worker)?;
        let work = move |held: Option<Held>| {
            let draft = inner.draft(number, held, wanted, now_s, opening);
            let planned = draft.and_then(|draft| {
                let Some(mut draft) = draft else { return Ok(None) };
                let outcome = plan(&inner, &mut draft)?;
                Ok(Some((outcome, draft.finish(&mut rand::rng())?)))
            });
            // The next one need not wait until this one's caller has been woken.
            drop(working);
            // Whoever asked waits for it.
            let _ = done.send(planned);
        };
        self.store.look(number, wanted, Box::new(work)).await?;
        result.await.map_err(|_| LedgerError::Worker)?
    }

    /// Opens what was read; `None` if only one row was, and nothing is known of
    /// the others.
    fn draft(
        &self,
        number: BucketNumber,
        held: Option<Held>,
        wanted: Wanted,
        now_s: u64,
        opening: Opening,
    ) -> Result<Option<Draft>, LedgerError> {
        let (keyring, rng) = (Arc::clone(&self.keyring), &mut rand::rng());
        let (bucket, rows) = match held {
            None => (None, StoredRows { version: 0, rows: Vec::new() }),
            Some(Held { bucket, rows }) => {
                let version = bucket.version;
                (Some(bucket), StoredRows { version, rows })
            }
        };
        let stored = Stored { bits: self.store.prefix_bits(), number, bucket, rows };
        let draft = match (opening, wanted) {
            (Opening::Rebuild, _) => Draft::rebuild(keyring, stored, now_s, rng),
            (_, Wanted::All) => Draft::open(keyring, stored, now_s, rng),
            (_, Wanted::One(_)) => {
                let Some(known) = self.known.get(number, stored.rows.version) else {
                    return Ok(None);
                };
                Draft::open_one(keyring, stored, &known, now_s, rng)
            }
        };
        draft.map(Some)
    }

    /// Looks into a bucket without changing it.
    pub(super) async fn look<T: Send + 'static>(
        self: &Arc<Self>,
        number: BucketNumber,
        look: impl Fn(&Keyring, &Stored) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let rows = self.store.rows(number).await?;
        let stored = Stored { bits: self.store.prefix_bits(), number, bucket: None, rows };
        let inner = Arc::clone(self);
        spawn_blocking(move || look(&inner.keyring, &stored))
            .await
            .map_err(|_| LedgerError::Worker)?
    }
}
