//! The feed of changes: tells all watchers which buckets changed, the same to
//! each, and nothing of who watches. It is read from the store's change log:
//! one task reads on for everybody, and a watcher who comes late, or reads
//! slowly, catches up from the log by itself.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Notify, broadcast, mpsc, watch};

use crate::{
    bucket::{BucketNumber, PrefixBits},
    store::{Store, StoreError},
    wire::{Checkpoint, Invalidation, Invalidations, MAX_INVALIDATIONS, Watch, WireError},
};

/// Changes are collected for so long before they are told.
const PAUSE: Duration = Duration::from_millis(100);

/// When to try again after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Public checkpoints lie so many changes of a partition apart: whoever resumes
/// at one names one of very few places, not where it was cut off.
const CHECKPOINT_STEP: u64 = 256;

/// Messages that a watcher may be behind before it has to catch up.
const BEHIND: usize = 64;

/// Messages that wait for a slow watcher.
const WAITING: usize = 2;

/// Why a watcher is not told more.
#[derive(Debug, thiserror::Error)]
pub(super) enum FeedError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint does not hold together.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The server stops.
    #[error("the server stops: go on with another, from the last checkpoint")]
    Stopping,
}

/// What changed since the batch before, for everybody.
struct Batch {
    /// The log was cut before it was read.
    everything: bool,
    changed: Vec<Invalidation>,
    /// Where each partition's log was read to.
    positions: Vec<u64>,
}

struct Inner {
    store: Arc<dyn Store>,
    /// Partitions that changed and were not read yet.
    changed: Mutex<BTreeSet<u32>>,
    wake: Notify,
    /// Where each partition's log was read to. Locked while a batch is sent, so
    /// that who subscribes with it locked misses none.
    positions: Mutex<Vec<u64>>,
    /// The oldest checkpoint that is given out, for each partition.
    oldest: Vec<u64>,
    batches: broadcast::Sender<Arc<Batch>>,
    stopping: watch::Sender<bool>,
}

/// The feed of one generation of a directory. Clones share it.
#[derive(Clone)]
pub(super) struct Feed(Arc<Inner>);

/// What a watcher receives.
pub(super) type Told = mpsc::Receiver<Result<Invalidations, FeedError>>;

/// A watcher is gone, or was told that it gets no more.
struct Gone;

impl Feed {
    pub(super) async fn open(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut positions = Vec::new();
        let mut oldest = Vec::new();
        for partition in 0..store.prefix_bits().partitions() {
            // No log reaches so far: the answer says where it ends.
            let last = store.changes_since(partition, u64::MAX, 1).await?.checkpoint;
            let round = last - last % CHECKPOINT_STEP;
            let cut = store.changes_since(partition, round, 1).await?.truncated;
            positions.push(last);
            oldest.push(if cut { last } else { round });
        }
        let (batches, _) = broadcast::channel(BEHIND);
        Ok(Self(Arc::new(Inner {
            store,
            changed: Mutex::default(),
            wake: Notify::new(),
            positions: Mutex::new(positions),
            oldest,
            batches,
            stopping: watch::Sender::new(false),
        })))
    }

    /// A bucket was committed.
    pub(super) fn changed(&self, number: BucketNumber) {
        lock(&self.0.changed).insert(number.partition(self.0.bits()));
        self.0.wake.notify_one();
    }

    /// Reads on for all watchers, for ever.
    pub(super) async fn keep(&self) -> Infallible {
        loop {
            self.0.wake.notified().await;
            tokio::time::sleep(PAUSE).await;
            let partitions = std::mem::take(&mut *lock(&self.0.changed));
            if let Err(error) = self.0.read_on(&partitions).await {
                tracing::error!(%error, "the log of changes could not be read");
                lock(&self.0.changed).extend(partitions);
                tokio::time::sleep(RETRY).await;
                self.0.wake.notify_one();
            }
        }
    }

    /// Tells a watcher what changes, until it goes or the server stops.
    pub(super) fn watch(&self, watch: Watch) -> Told {
        let (teller, told) = mpsc::channel(WAITING);
        let inner = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut stopping = inner.stopping.subscribe();
            tokio::select! {
                // Either way the stream has ended.
                _ = inner.tell(watch, &teller) => {}
                () = teller.closed() => {}
                _ = stopping.wait_for(|stopping| *stopping) => {
                    // A watcher that reads nothing learns it when the connection ends.
                    let _ = teller.try_send(Err(FeedError::Stopping));
                }
            }
        });
        told
    }

    /// Lets all watchers go.
    pub(super) fn stop(&self) {
        self.0.stopping.send_replace(true);
    }
}

impl Inner {
    fn bits(&self) -> PrefixBits {
        self.store.prefix_bits()
    }

    async fn read_on(&self, partitions: &BTreeSet<u32>) -> Result<(), StoreError> {
        let mut positions = lock(&self.positions).clone();
        let mut changed = Vec::new();
        let mut everything = false;
        for partition in partitions {
            let Some(position) = positions.get_mut(*partition as usize) else { continue };
            loop {
                let read =
                    self.store.changes_since(*partition, *position, MAX_INVALIDATIONS).await?;
                *position = read.checkpoint;
                everything |= read.truncated;
                if read.changes.is_empty() {
                    break;
                }
                changed.extend(
                    read.changes.iter().map(|change| Invalidation {
                        number: change.number,
                        version: change.version,
                    }),
                );
            }
        }
        let mut shared = lock(&self.positions);
        shared.clone_from(&positions);
        // Nobody may be watching.
        let _ = self.batches.send(Arc::new(Batch { everything, changed, positions }));
        Ok(())
    }

    async fn tell(
        &self,
        watch: Watch,
        teller: &mpsc::Sender<Result<Invalidations, FeedError>>,
    ) -> Result<Infallible, Gone> {
        let (mut batches, here) = self.subscribe();
        let mut at = None;
        let mut lost = false;
        if let Some(asked) = watch.checkpoint {
            if asked.prefix_bits() == self.bits() {
                at = Some(asked.sequences().to_vec());
            } else {
                lost = true;
            }
        }
        // Who names no place is told what follows the last public one.
        let at = at.unwrap_or_else(|| self.public(&here));
        self.catch_up(at, &here, lost, true, teller).await?;
        let mut at = here;
        loop {
            match batches.recv().await {
                Ok(batch) => {
                    let checkpoint = self.public(&batch.positions);
                    let news = batch.everything || checkpoint != self.public(&at);
                    at.clone_from(&batch.positions);
                    let mut changed = batch.changed.chunks(MAX_INVALIDATIONS).peekable();
                    let mut everything = batch.everything;
                    while let Some(chunk) = changed.next() {
                        // The checkpoint stands behind all that it covers.
                        let ends = changed.peek().is_none() && news;
                        let checkpoint = (ends || everything).then_some(&checkpoint);
                        self.send(everything, chunk.to_vec(), checkpoint, teller).await?;
                        everything = false;
                    }
                    if everything {
                        self.send(true, Vec::new(), Some(&checkpoint), teller).await?;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    let (again, here) = self.subscribe();
                    batches = again;
                    self.catch_up(at, &here, false, false, teller).await?;
                    at = here;
                }
                // Its sender lives as long as we do.
                Err(broadcast::error::RecvError::Closed) => return Err(Gone),
            }
        }
    }

    fn subscribe(&self) -> (broadcast::Receiver<Arc<Batch>>, Vec<u64>) {
        let positions = lock(&self.positions);
        (self.batches.subscribe(), positions.clone())
    }

    /// Tells what changed between two places, from the log; all of it if the log
    /// does not reach back. `lost` if that is known already, `first` if nothing
    /// was told yet.
    async fn catch_up(
        &self,
        from: Vec<u64>,
        to: &[u64],
        lost: bool,
        first: bool,
        teller: &mpsc::Sender<Result<Invalidations, FeedError>>,
    ) -> Result<(), Gone> {
        let checkpoint = self.public(to);
        let mut reached = Vec::new();
        for ((partition, from), to) in (0..).zip(&from).zip(to) {
            if lost {
                break;
            }
            // Nobody was told of a place behind the end of the log.
            reached.push(from <= to && self.reaches(partition, *from, teller).await?);
        }
        if lost || reached.contains(&false) {
            return self.send(true, Vec::new(), Some(&checkpoint), teller).await;
        }
        if first {
            // Where a watcher stands that is cut off before it heard the rest.
            self.send(false, Vec::new(), Some(&self.public(&from)), teller).await?;
        }
        for ((partition, from), to) in (0..).zip(from).zip(to) {
            let mut at = from;
            while at < *to {
                let read = self.store.changes_since(partition, at, MAX_INVALIDATIONS).await;
                let read = self.or_end(read, teller).await?;
                if read.truncated {
                    return self.send(true, Vec::new(), Some(&checkpoint), teller).await;
                }
                if read.changes.is_empty() {
                    break;
                }
                at = read.checkpoint;
                let changed = read
                    .changes
                    .iter()
                    .map(|change| Invalidation { number: change.number, version: change.version });
                self.send(false, changed.collect(), None, teller).await?;
            }
        }
        self.send(false, Vec::new(), Some(&checkpoint), teller).await
    }

    async fn reaches(
        &self,
        partition: u32,
        from: u64,
        teller: &mpsc::Sender<Result<Invalidations, FeedError>>,
    ) -> Result<bool, Gone> {
        let read = self.store.changes_since(partition, from, 1).await;
        Ok(!self.or_end(read, teller).await?.truncated)
    }

    /// The last public places before these.
    fn public(&self, positions: &[u64]) -> Vec<u64> {
        let round = |position: &u64| position - position % CHECKPOINT_STEP;
        positions.iter().zip(&self.oldest).map(|(at, oldest)| round(at).max(*oldest)).collect()
    }

    async fn send(
        &self,
        everything: bool,
        changed: Vec<Invalidation>,
        checkpoint: Option<&Vec<u64>>,
        teller: &mpsc::Sender<Result<Invalidations, FeedError>>,
    ) -> Result<(), Gone> {
        let checkpoint = checkpoint.map(|at| Checkpoint::new(self.bits(), at.clone())).transpose();
        let checkpoint = self.or_end(checkpoint, teller).await?;
        let told = Invalidations { everything, changed, checkpoint };
        teller.send(Ok(told)).await.map_err(|_| Gone)
    }

    /// What succeeded, or the end of the stream with the reason.
    async fn or_end<T, E: Into<FeedError>>(
        &self,
        result: Result<T, E>,
        teller: &mpsc::Sender<Result<Invalidations, FeedError>>,
    ) -> Result<T, Gone> {
        match result {
            Ok(value) => Ok(value),
            Err(error) => {
                let error = error.into();
                tracing::error!(%error, "a watcher could not be told of changes");
                let _ = teller.send(Err(error)).await;
                Err(Gone)
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while it is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bucket::{BUCKET_BYTES, Bucket},
        epoch::Epoch,
        store::{BulkBucket, Generations as _, MemoryGenerations},
    };

    /// Two partitions.
    const BITS: u32 = 17;

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    fn number(number: u32) -> BucketNumber {
        BucketNumber::new(number, bits(BITS)).unwrap()
    }

    fn bucket(at: u32, version: u64) -> Bucket {
        let entries = vec![0; BUCKET_BYTES].into();
        Bucket::from_parts(Epoch::FIRST, bits(BITS), number(at), version, entries, [0; 64]).unwrap()
    }

    struct Scene {
        store: Arc<dyn Store>,
        feed: Feed,
        version: u64,
    }

    impl Scene {
        async fn new(log_entries: u64) -> Self {
            let generations = MemoryGenerations::new(log_entries);
            let store = generations.stage(bits(BITS)).await.unwrap();
            generations.promote().await.unwrap();
            let feed = Feed::open(Arc::clone(&store)).await.unwrap();
            Self { store, feed, version: 0 }
        }

        /// Commits one more change of a bucket.
        async fn change(&mut self, at: u32) -> Invalidation {
            let before = self.store.bucket(number(at)).await.unwrap();
            self.version += 1;
            let expected = before.map_or(0, |bucket| bucket.version);
            self.store.commit(bucket(at, self.version), expected, Vec::new()).await.unwrap();
            self.feed.changed(number(at));
            Invalidation { number: number(at), version: self.version }
        }

        /// What the feed's own task does, at once.
        async fn read_on(&self) {
            let partitions = std::mem::take(&mut *lock(&self.feed.0.changed));
            self.feed.0.read_on(&partitions).await.unwrap();
        }

        fn watch(&self, checkpoint: Option<Checkpoint>) -> Watcher {
            let told = self.feed.watch(Watch { checkpoint });
            Watcher { told, everything: false, changed: Vec::new(), checkpoints: Vec::new() }
        }
    }

    struct Watcher {
        told: Told,
        everything: bool,
        changed: Vec<Invalidation>,
        checkpoints: Vec<Checkpoint>,
    }

    impl Watcher {
        async fn hear(&mut self) {
            let told = self.told.recv().await.unwrap().unwrap();
            self.everything |= told.everything;
            self.changed.extend(told.changed);
            self.checkpoints.extend(told.checkpoint);
        }

        /// Hears on until it was told of this change.
        async fn hear_of(&mut self, last: Invalidation) {
            while !self.changed.contains(&last) {
                self.hear().await;
            }
        }
    }

    #[tokio::test]
    async fn every_watcher_hears_every_change_wherever_it_resumes() {
        let mut scene = Scene::new(100_000).await;
        let mut first = scene.watch(None);
        first.hear().await;
        assert!(first.changed.is_empty());
        let mut made = Vec::new();
        for n in 0..1500_u32 {
            made.push(scene.change(n % 7 + (n % 2) * 65_536).await);
            if n % 50 == 0 {
                scene.read_on().await;
            }
        }
        let last = scene.change(9).await;
        made.push(last);
        scene.read_on().await;
        first.hear_of(last).await;
        assert_eq!(first.changed.len(), made.len());
        assert!(made.iter().all(|change| first.changed.contains(change)));
        assert!(!first.everything);

        // Checkpoints are few and public.
        let mut places = first.checkpoints.clone();
        places.dedup();
        assert!((3..10).contains(&places.len()), "{}", places.len());
        for place in places {
            assert!(place.sequences().iter().all(|sequence| sequence % CHECKPOINT_STEP == 0));
            let before = |change: &&Invalidation| {
                let partition = change.number.partition(bits(BITS)) as usize;
                let of_partition = made
                    .iter()
                    .filter(|made| made.number.partition(bits(BITS)) as usize == partition);
                let nth = of_partition.take_while(|made| made != change).count() as u64;
                nth >= place.sequences()[partition]
            };
            let mut resumed = scene.watch(Some(place.clone()));
            // The second stands behind all that came from the log.
            while resumed.checkpoints.len() < 2 {
                resumed.hear().await;
            }
            assert!(!resumed.everything);
            assert!(made.iter().filter(before).all(|change| resumed.changed.contains(change)));
            assert_eq!(resumed.checkpoints.first(), Some(&place));
        }
    }

    #[tokio::test]
    async fn a_checkpoint_that_is_too_old_or_of_another_directory_means_everything() {
        let mut scene = Scene::new(64).await;
        let mut watcher = scene.watch(None);
        watcher.hear().await;
        let old = watcher.checkpoints[0].clone();
        for n in 0..1000 {
            scene.change(n % 5).await;
        }
        scene.read_on().await;
        let split = Checkpoint::new(bits(16), vec![0]).unwrap();
        let ahead = Checkpoint::new(bits(BITS), vec![1 << 30, 0]).unwrap();
        for place in [old, split, ahead] {
            let mut resumed = scene.watch(Some(place));
            resumed.hear().await;
            assert!(resumed.everything);
            let news = scene.change(3).await;
            scene.read_on().await;
            resumed.hear_of(news).await;
        }
    }

    #[tokio::test]
    async fn a_watcher_who_does_not_read_catches_up_and_costs_no_memory() {
        let mut scene = Scene::new(100_000).await;
        let mut slow = scene.watch(None);
        slow.hear().await;
        let mut made = Vec::new();
        for n in 0..3 * u32::try_from(BEHIND).unwrap() {
            made.push(scene.change(n).await);
            scene.read_on().await;
        }
        let last = made[made.len() - 1];
        slow.hear_of(last).await;
        assert!(made.iter().all(|change| slow.changed.contains(change)));
        assert!(!slow.everything);
    }

    #[tokio::test]
    async fn a_log_that_was_cut_means_everything_and_the_next_checkpoint_holds() {
        let mut scene = Scene::new(100_000).await;
        scene.change(1).await;
        scene.read_on().await;
        let mut watcher = scene.watch(None);
        watcher.hear().await;
        let bulk = BulkBucket { bucket: bucket(1, 1000), rows: Vec::new() };
        scene.store.bulk_put(vec![bulk]).await.unwrap();
        scene.feed.changed(number(1));
        scene.read_on().await;
        while !watcher.everything {
            watcher.hear().await;
        }
        // A server that starts on such a log gives a place out that holds.
        scene.feed = Feed::open(Arc::clone(&scene.store)).await.unwrap();
        let mut fresh = scene.watch(None);
        fresh.hear().await;
        let mut resumed = scene.watch(fresh.checkpoints.pop());
        let news = scene.change(2).await;
        scene.read_on().await;
        resumed.hear_of(news).await;
        assert!(!resumed.everything);
    }

    #[tokio::test]
    async fn watchers_are_let_go_when_the_server_stops_and_cost_nothing_once_gone() {
        let scene = Scene::new(64).await;
        let mut watcher = scene.watch(None);
        watcher.hear().await;
        drop(scene.watch(None));
        scene.feed.stop();
        loop {
            match watcher.told.recv().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    assert!(matches!(error, FeedError::Stopping));
                    break;
                }
                None => panic!("no reason was told"),
            }
        }
        assert!(watcher.told.recv().await.is_none());
        let mut late = scene.watch(None).told;
        while let Some(told) = late.recv().await {
            if let Err(error) = told {
                assert!(matches!(error, FeedError::Stopping));
            }
        }
        while scene.feed.0.batches.receiver_count() > 0 {
            tokio::task::yield_now().await;
        }
    }
}
