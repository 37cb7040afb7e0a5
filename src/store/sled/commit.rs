//! Group commit: one thread per partition applies the commits that wait in one
//! batch, syncs once for all of them, and only then lets anyone see or hear of
//! them.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    group::{self, Patience},
    partition::{Partition, Writing},
};
use crate::{
    bucket::Bucket,
    store::{Committed, RowChange, StoreError},
};

/// Commits that may wait before callers wait.
const MAX_WAITING: usize = 256;

/// A commit that was not applied yet. Sequences begin at 1.
const UNNUMBERED: u64 = 0;

pub(super) struct Request {
    bucket: Bucket,
    expected_version: u64,
    rows: Vec<RowChange>,
    reply: oneshot::Sender<Result<Committed, StoreError>>,
}

/// Commits to a partition.
pub(super) enum Committer {
    /// Through its committing thread, which ends with this.
    Grouped(mpsc::Sender<Request>),
    /// Each for itself.
    Alone(Arc<Partition>),
}

impl Committer {
    pub(super) const fn alone(partition: Arc<Partition>) -> Self {
        Self::Alone(partition)
    }

    pub(super) fn start(partition: Arc<Partition>) -> Result<Self, StoreError> {
        let (requests, waiting) = mpsc::channel(MAX_WAITING);
        thread::Builder::new()
            .name("store-commit".into())
            .spawn(move || run(&partition, waiting))
            .map_err(|error| StoreError::Open(error.to_string()))?;
        Ok(Self::Grouped(requests))
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
        match self {
            Self::Grouped(requests) => requests.send(request).await.map_err(|_| stopped())?,
            Self::Alone(partition) => {
                let partition = Arc::clone(partition);
                let work = move || answer(commit(&partition, vec![request]).outcomes);
                spawn_blocking(work).await.map_err(|_| stopped())?;
            }
        }
        outcome.await.map_err(|_| stopped())?
    }
}

fn stopped() -> StoreError {
    StoreError::Disk("the thread that commits has stopped".into())
}

fn run(partition: &Partition, waiting: mpsc::Receiver<Request>) {
    group::run(waiting, Patience::of_syncs, |group| {
        let Group { outcomes, syncing, .. } = commit(partition, group);
        answer(outcomes);
        syncing
    });
}

fn answer(outcomes: Vec<Outcome>) {
    for (reply, outcome) in outcomes {
        // A caller that went away needs no answer.
        let _ = reply.send(outcome);
    }
}

type Outcome = (oneshot::Sender<Result<Committed, StoreError>>, Result<Committed, StoreError>);

fn commit(partition: &Partition, requests: Vec<Request>) -> Group<'_> {
    let mut held = HashMap::new();
    let mut group = Group::of(partition);
    let mut applied = Ok(());
    for request in requests {
        let stripe = Partition::stripe(request.bucket.number);
        if let Entry::Vacant(vacant) = held.entry(stripe) {
            vacant.insert(partition.hold(stripe));
        }
        if group.writing.holds(request.bucket.number) {
            applied = applied.and(group.apply());
        }
        group.plan(request);
    }
    applied = applied.and(group.apply());
    let done = |outcome: &Outcome| matches!(outcome.1, Ok(Committed::Done { .. }));
    if group.outcomes.iter().any(done) {
        let begun = Instant::now();
        applied = applied.and_then(|()| partition.sync());
        group.syncing = begun.elapsed();
    }
    if let Err(error) = applied {
        // A conflict may be with a commit that is not durable now.
        for (_, outcome) in group.outcomes.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
            *outcome = Err(partition.usable().err().unwrap_or_else(|| error.clone()));
        }
    }
    group
}

/// Commits that one sync makes durable.
struct Group<'a> {
    partition: &'a Partition,
    writing: Writing,
    outcomes: Vec<Outcome>,
    /// How long the sync took.
    syncing: Duration,
}

impl<'a> Group<'a> {
    fn of(partition: &'a Partition) -> Self {
        let (writing, outcomes) = (Writing::default(), Vec::new());
        Self { partition, writing, outcomes, syncing: Duration::ZERO }
    }

    fn plan(&mut self, request: Request) {
        let Request { bucket, expected_version, rows, reply } = request;
        let planned = self.partition.plan(&mut self.writing, &bucket, expected_version, rows);
        let outcome = planned.map(|conflict| match conflict {
            Some(version) => Committed::Conflict { version },
            None => Committed::Done { sequence: UNNUMBERED },
        });
        self.outcomes.push((reply, outcome));
    }

    /// Applies what was planned since the last time, and numbers it.
    fn apply(&mut self) -> Result<(), StoreError> {
        let writing = std::mem::take(&mut self.writing);
        if writing.is_empty() {
            return Ok(());
        }
        let mut last = self.partition.apply(writing)?;
        for (_, outcome) in &mut self.outcomes {
            if let Ok(Committed::Done { sequence }) = outcome
                && *sequence == UNNUMBERED
            {
                last += 1;
                *sequence = last;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::{BUCKET_BYTES, BucketNumber, PrefixBits},
        epoch::Epoch,
        store::sled::{durable::Database, lock::FolderLock},
    };

    fn partition(folder: &std::path::Path) -> Partition {
        let lock = Arc::new(FolderLock::take(folder).unwrap());
        let data = folder.join("partition");
        std::fs::create_dir(&data).unwrap();
        let database = Database::open(&data, 8 << 20).unwrap();
        let bits = PrefixBits::new(4).unwrap();
        Partition::new(bits, 0, 100, database, lock).unwrap()
    }

    fn bucket(number: u32, version: u64) -> Bucket {
        let bits = PrefixBits::new(4).unwrap();
        let number = BucketNumber::new(number, bits).unwrap();
        let entries = vec![u8::try_from(version).unwrap(); BUCKET_BYTES];
        Bucket::from_parts(Epoch::FIRST, bits, number, version, entries.into(), [0; 64]).unwrap()
    }

    fn outcomes(partition: &Partition, asked: &[(u32, u64, u64)]) -> Vec<Committed> {
        let request = |&(number, expected_version, version): &(u32, u64, u64)| {
            let (reply, _) = oneshot::channel();
            Request { bucket: bucket(number, version), expected_version, rows: Vec::new(), reply }
        };
        let group = commit(partition, asked.iter().map(request).collect());
        group.outcomes.into_iter().map(|(_, outcome)| outcome.unwrap()).collect()
    }

    #[test]
    fn commits_of_one_bucket_in_one_group_follow_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let partition = partition(folder.path());
        let done = |sequence| Committed::Done { sequence };
        let conflict = |version| Committed::Conflict { version };
        let first = [(1, 0, 1), (2, 0, 1), (1, 1, 2), (2, 0, 3), (3, 0, 1), (1, 2, 4), (3, 7, 8)];
        let told = outcomes(&partition, &first);
        let expected = [done(1), done(2), done(3), conflict(1), done(4), done(5), conflict(1)];
        assert_eq!(told, expected);
        assert_eq!(outcomes(&partition, &[(1, 3, 9), (2, 1, 5)]), [conflict(4), done(6)]);
        for (number, version) in [(1, 4), (2, 5), (3, 1)] {
            let bucket = bucket(number, version);
            assert!(partition.bucket(bucket.number).unwrap() == Some(bucket));
        }
        let changes = partition.changes_since(0, 100).unwrap();
        let told: Vec<_> = changes
            .changes
            .iter()
            .map(|change| (change.sequence, change.number.get(), change.version))
            .collect();
        assert_eq!(told, [(1, 1, 1), (2, 2, 1), (3, 1, 2), (4, 3, 1), (5, 1, 4), (6, 2, 5)]);
    }
}
