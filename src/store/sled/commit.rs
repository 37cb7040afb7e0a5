//! Group commit: one thread per partition applies the commits that wait, syncs
//! once for all of them, and only then lets anyone see or hear of them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::partition::Partition;
use crate::{
    bucket::Bucket,
    store::{Committed, RowChange, StoreError},
};

/// Most commits that one sync makes durable.
const MAX_GROUP: usize = 64;

/// Commits that may wait before callers wait.
const MAX_WAITING: usize = 256;

/// How long a group waits for one more commit at most, and for all of them.
const MAX_PATIENCE: Duration = Duration::from_millis(2);
const MAX_GATHERING: Duration = Duration::from_millis(8);

struct Request {
    bucket: Bucket,
    expected_version: u64,
    rows: Vec<RowChange>,
    reply: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The door to a partition's committing thread, which ends with it.
pub(super) struct Committer {
    requests: mpsc::Sender<Request>,
}

impl Committer {
    pub(super) fn start(partition: Arc<Partition>) -> Result<Self, StoreError> {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || run(&partition, waiting))
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self { requests })
    }

    /// Resolves once the commit is durable. A caller that goes away does not
    /// stop a commit that was handed over.
    pub(super) async fn commit(
        &self,
        bucket: Bucket,
        expected_version: u64,
        rows: Vec<RowChange>,
    ) -> Result<Committed, StoreError> {
        let (reply, outcome) = oneshot::channel();
        let request = Request { bucket, expected_version, rows, reply };
        self.requests.send(request).await.map_err(|_| stopped())?;
        outcome.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError::Disk("the thread that commits has stopped".into())
}

fn run(partition: &Partition, mut waiting: mpsc::Receiver<Request>) {
    let mut patience = Duration::ZERO;
    while let Some(first) = waiting.blocking_recv() {
        let group = gather(first, &mut waiting, patience);
        let (begun, alone) = (Instant::now(), group.len() == 1);
        for (reply, outcome) in commit(partition, group) {
            // A caller that went away needs no answer.
            let _ = reply.send(outcome);
        }
        // Where several commit, waiting half as long as a sync takes for one more
        // commit spares it a sync of its own; whoever is alone waits for nobody.
        patience = if alone { Duration::ZERO } else { (begun.elapsed() / 2).min(MAX_PATIENCE) };
    }
}

/// The commits of one group: those that wait, and those that come while others
/// do.
fn gather(
    first: Request,
    waiting: &mut mpsc::Receiver<Request>,
    patience: Duration,
) -> Vec<Request> {
    let mut group = vec![first];
    let begun = Instant::now();
    let mut newest = begun;
    while group.len() < MAX_GROUP {
        if let Ok(next) = waiting.try_recv() {
            group.push(next);
            newest = Instant::now();
        } else if newest.elapsed() < patience && begun.elapsed() < MAX_GATHERING {
            thread::sleep(patience / 8);
        } else {
            break;
        }
    }
    group
}

type Outcome = (oneshot::Sender<Result<Committed, StoreError>>, Result<Committed, StoreError>);

fn commit(partition: &Partition, group: Vec<Request>) -> Vec<Outcome> {
    let mut held = HashMap::new();
    let mut outcomes: Vec<Outcome> = group
        .into_iter()
        .map(|Request { bucket, expected_version, rows, reply }| {
            let stripe = Partition::stripe(bucket.number);
            if let Entry::Vacant(vacant) = held.entry(stripe) {
                vacant.insert(partition.hold(stripe));
            }
            (reply, partition.apply(&bucket, expected_version, rows))
        })
        .collect();
    let applied = |outcome: &Outcome| matches!(outcome.1, Ok(Committed::Done { .. }));
    let synced = if outcomes.iter().any(applied) { partition.sync() } else { Ok(()) };
    if synced.is_err() {
        for (_, outcome) in &mut outcomes {
            // A conflict may be with a commit that is not durable now.
            if let (Ok(_), Err(error)) = (&outcome, partition.usable()) {
                *outcome = Err(error);
            }
        }
    }
    outcomes
}
