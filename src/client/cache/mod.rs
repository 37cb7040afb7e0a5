//! What was answered, kept for the directory's refresh period: within it every
//! lookup of an identifier is answered from here, hit, miss and refusal alike.
//! Decoys are kept as contacts are, so that they are asked as contacts are.
//!
//! OPRF outputs are kept for longer, until their epoch ends: a bucket that is
//! fetched again opens with them. What is kept, and for how long, depends on
//! what was asked and when, never on what was found: the oldest goes first.

mod entry;
mod record;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use zeroize::Zeroizing;

pub(super) use entry::{Aside, Entry, Key, Outcome, Outputs};

use super::{
    ClientError,
    blocking::blocking,
    marks::{Mark, Marks},
    state::{Part, Parts, Shard},
};
use crate::{
    bucket::{BucketNumber, Circle, PrefixBits},
    epoch::Epoch,
    wire::Invalidations,
};

/// Names the circle under which answers were found, without telling its secret.
const CIRCLE_ID_BYTES: usize = 16;

#[derive(Default)]
struct Table {
    entries: HashMap<Key, (u64, Arc<Entry>)>,
    /// By the order in which they came.
    order: BTreeMap<u64, Key>,
    next: u64,
    /// Shards that the state does not hold as they are, a bit for each.
    unsaved: u16,
}

impl Table {
    fn insert(&mut self, entry: Arc<Entry>, capacity: usize) {
        self.unsaved |= bit(Shard::of(&entry.placement));
        let key = entry.key.clone();
        if let Some((turn, _)) = self.entries.insert(key.clone(), (self.next, entry)) {
            self.order.remove(&turn);
        }
        self.order.insert(self.next, key);
        self.next += 1;
        while self.entries.len() > capacity
            && let Some((_, oldest)) = self.order.pop_first()
        {
            if let Some((_, gone)) = self.entries.remove(&oldest) {
                self.unsaved |= bit(Shard::of(&gone.placement));
            }
        }
    }
}

fn bit(shard: Shard) -> u16 {
    Shard::all().position(|other| other == shard).map_or(0, |n| 1 << n)
}

/// The cached answers of one directory, and what invalidations said of them.
pub(super) struct Cache {
    table: RwLock<Table>,
    marks: Marks,
    capacity: usize,
    circle: [u8; CIRCLE_ID_BYTES],
    /// Held while the state is written, so that who waits for it finds written
    /// what it changed.
    saving: Arc<tokio::sync::Mutex<()>>,
    parts: Parts,
}

impl Cache {
    /// Reads what is stored. Answers that were found under another circle are
    /// none: they lack what this one finds.
    pub(super) async fn load(
        parts: &Parts,
        capacity: usize,
        circle: Option<&Circle>,
    ) -> Result<Arc<Self>, ClientError> {
        let this = Self {
            table: RwLock::default(),
            marks: Marks::default(),
            capacity,
            circle: circle_id(circle),
            saving: Arc::default(),
            parts: parts.clone(),
        };
        if capacity > 0 {
            let mut entries = Vec::new();
            let mut unsaved = 0;
            for shard in Shard::all() {
                let part = Part::Answers(shard);
                let Some(payload) = parts.load(part).await?.map(Zeroizing::new) else { continue };
                let damaged = || ClientError::StateDamaged(part);
                let (circle, records) = payload.split_first_chunk().ok_or_else(damaged)?;
                if *circle == this.circle {
                    entries.extend(this.decode(records).ok_or_else(damaged)?);
                } else {
                    unsaved |= bit(shard);
                }
            }
            // As they came; those of one time in an order that tells nothing.
            entries.sort_by(|one, other| {
                let order = one.asked_at_s.cmp(&other.asked_at_s);
                order.then_with(|| one.placement.expose().cmp(other.placement.expose()))
            });
            let mut table = this.table.write().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                table.insert(Arc::new(entry), usize::MAX);
            }
            table.unsaved = unsaved;
        }
        Ok(Arc::new(this))
    }

    /// What came of the last lookup of this input, if its time has not ended.
    pub(super) fn get(&self, input: &[u8], now_s: u64, period_s: u64) -> Option<Arc<Entry>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let (_, entry) = table.entries.get(input)?;
        (!entry.is_due(now_s, period_s)).then(|| Arc::clone(entry))
    }

    /// The outputs of these inputs, by epoch and in their order, if all are
    /// known under all of these epochs, however old they are.
    pub(super) fn outputs<'a>(
        &self,
        inputs: impl Iterator<Item = &'a [u8]>,
        epochs: &[Epoch],
    ) -> Option<Vec<(Epoch, Vec<Outputs>)>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut known: Vec<_> = epochs.iter().map(|epoch| (*epoch, Vec::new())).collect();
        for input in inputs {
            let (_, entry) = table.entries.get(input)?;
            for ((_, known), outputs) in known.iter_mut().zip(entry.outputs(epochs)?) {
                known.push(outputs.clone());
            }
        }
        Some(known)
    }

    /// The marks of buckets that are about to be asked for.
    pub(super) fn marks(
        &self,
        bits: PrefixBits,
        numbers: impl Iterator<Item = BucketNumber>,
    ) -> Vec<Arc<Mark>> {
        self.marks.of(bits, numbers)
    }

    /// Keeps what was answered, in this order.
    pub(super) fn keep(&self, entries: impl Iterator<Item = Arc<Entry>>) {
        if self.capacity == 0 {
            return;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        entries.for_each(|entry| table.insert(entry, self.capacity));
    }

    /// Takes over what a message of the directory's log of changes says.
    pub(super) fn invalidate(&self, bits: PrefixBits, told: &Invalidations) {
        if told.everything {
            self.marks.everything();
        }
        self.marks.changed(bits, &told.changed);
    }

    /// Any answer may be out of date.
    pub(super) fn invalidate_everything(&self) {
        self.marks.everything();
    }

    /// Has the shards of marked entries written, too, when [`Self::save`] is
    /// next called.
    pub(super) fn note_marks(&self) {
        let marked = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            let marked = table.entries.values().filter(|(_, entry)| entry.has_news());
            marked.fold(0, |bits, (_, entry)| bits | bit(Shard::of(&entry.placement)))
        };
        self.table.write().unwrap_or_else(PoisonError::into_inner).unsaved |= marked;
    }

    /// Returns once the state holds all that was kept before.
    pub(super) async fn save(self: &Arc<Self>) -> Result<(), ClientError> {
        if self.capacity == 0 {
            return Ok(());
        }
        let saving = Arc::clone(&self.saving).lock_owned().await;
        let this = Arc::clone(self);
        blocking(move || {
            let _saving = saving;
            let unsaved = {
                let mut table = this.table.write().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut table.unsaved)
            };
            let mut left = unsaved;
            for shard in Shard::all().filter(|shard| unsaved & bit(*shard) != 0) {
                if let Err(error) = this.parts.store(Part::Answers(shard), &this.encode(shard)) {
                    let mut table = this.table.write().unwrap_or_else(PoisonError::into_inner);
                    table.unsaved |= left;
                    return Err(error);
                }
                left &= !bit(shard);
            }
            Ok(())
        })
        .await
    }

    /// The circle's name, then the entries of a shard.
    fn encode(&self, shard: Shard) -> Zeroizing<Vec<u8>> {
        let entries: Vec<Arc<Entry>> = {
            let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
            let of_shard = table.order.values().filter_map(|key| table.entries.get(key));
            of_shard
                .filter(|(_, entry)| Shard::of(&entry.placement) == shard)
                .map(|(_, entry)| Arc::clone(entry))
                .collect()
        };
        let records = entries.len() * record::MAX_BYTES;
        // Room for all of it, so that no copy of secrets is left behind.
        let mut payload = Zeroizing::new(Vec::with_capacity(CIRCLE_ID_BYTES + records));
        payload.extend_from_slice(&self.circle);
        for entry in entries {
            record::write(&entry, &mut payload);
        }
        payload
    }

    /// `None`: damaged.
    fn decode(&self, mut records: &[u8]) -> Option<Vec<Entry>> {
        let mut entries = Vec::new();
        while !records.is_empty() {
            entries.push(record::read(&mut records, &self.marks)?);
        }
        Some(entries)
    }
}

fn circle_id(circle: Option<&Circle>) -> [u8; CIRCLE_ID_BYTES] {
    let mut id = [0; CIRCLE_ID_BYTES];
    if let Some(circle) = circle {
        blake3::Hasher::new_derive_key("blindbook client circle")
            .update(circle.secret().expose())
            .finalize_xof()
            .fill(&mut id);
    }
    id
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    };

    use super::*;
    use crate::{
        bucket::{DirectoryId, Placement},
        client::state::{MemoryState, State, StateError},
        secret::Secret,
        wire::Invalidation,
    };

    /// Writes down what is stored, and can refuse to.
    #[derive(Default)]
    struct Watched {
        state: MemoryState,
        stored: Mutex<Vec<Part>>,
        fails: AtomicBool,
    }

    impl State for Watched {
        fn load(&self, directory: &DirectoryId, part: Part) -> Result<Option<Vec<u8>>, StateError> {
            self.state.load(directory, part)
        }

        fn store(
            &self,
            directory: &DirectoryId,
            part: Part,
            bytes: &[u8],
        ) -> Result<(), StateError> {
            if self.fails.load(Ordering::Relaxed) {
                return Err(StateError::Other("the disk is full".into()));
            }
            self.stored.lock().unwrap().push(part);
            self.state.store(directory, part, bytes)
        }
    }

    impl Watched {
        fn take(&self) -> Vec<Part> {
            std::mem::take(&mut *self.stored.lock().unwrap())
        }
    }

    fn parts(state: &Arc<Watched>) -> Parts {
        Parts::new(state.clone(), DirectoryId::from_bytes([1; 16]))
    }

    const BITS: PrefixBits = PrefixBits::ZERO;

    /// An answer of nobody in the shard of `fill`.
    fn entry(cache: &Cache, fill: u8) -> Arc<Entry> {
        let placement = Placement::from_bytes([fill; 32]);
        let mark = cache.marks(BITS, [placement.bucket(BITS)].into_iter()).remove(0);
        Arc::new(Entry {
            key: Key::of(&[fill; 32]),
            placement,
            asked_at_s: 100,
            bits: BITS,
            version: 1,
            mark,
            outputs: vec![(Epoch::FIRST, Outputs { open: Secret::new([fill; 64]), circle: None })],
            outcome: None,
            aside: Aside::default(),
        })
    }

    fn shards(fills: &[u8]) -> Vec<Part> {
        let of = |fill: &u8| Part::Answers(Shard::of(&Placement::from_bytes([*fill; 32])));
        fills.iter().map(of).collect()
    }

    #[tokio::test]
    async fn only_what_changed_is_written_and_again_if_it_could_not_be() {
        let state = Arc::new(Watched::default());
        let cache = Cache::load(&parts(&state), 10, None).await.unwrap();
        cache.save().await.unwrap();
        assert!(state.take().is_empty());
        cache.keep([entry(&cache, 0x35), entry(&cache, 0x81), entry(&cache, 0x36)].into_iter());
        state.fails.store(true, Ordering::Relaxed);
        assert!(matches!(cache.save().await, Err(ClientError::State(_))));
        state.fails.store(false, Ordering::Relaxed);
        cache.save().await.unwrap();
        assert_eq!(state.take(), shards(&[0x35, 0x81]));
        cache.save().await.unwrap();
        assert!(state.take().is_empty());

        // What was told is written when it is noted, and once.
        let number = BucketNumber::new(0, BITS).unwrap();
        let changed = vec![Invalidation { number, version: 2 }];
        let told = Invalidations { everything: false, changed, checkpoint: None };
        cache.invalidate(BITS, &told);
        cache.save().await.unwrap();
        assert!(state.take().is_empty());
        cache.note_marks();
        cache.save().await.unwrap();
        assert_eq!(state.take(), shards(&[0x35, 0x81]));
        cache.note_marks();
        cache.save().await.unwrap();
        assert!(state.take().is_empty());

        let again = Cache::load(&parts(&state), 10, None).await.unwrap();
        let read = again.get(&[0x35; 32], 100, 1).unwrap();
        assert!(read.mark.is_after(read.version));
        let epochs = [Epoch::FIRST];
        let inputs = || [&[0x36; 32][..], &[0x81; 32]].into_iter();
        let known = again.outputs(inputs(), &epochs).unwrap();
        assert!(known[0].1[0].open == Secret::new([0x36; 64]));
        assert!(again.outputs(inputs(), &[Epoch::new(2).unwrap()]).is_none());
        assert!(again.outputs(inputs().chain([&[9][..]]), &epochs).is_none());
    }

    #[tokio::test]
    async fn what_another_circle_left_is_written_over() {
        let state = Arc::new(Watched::default());
        let circle = Circle::new(Secret::new([7; 32]));
        let cache = Cache::load(&parts(&state), 10, Some(&circle)).await.unwrap();
        cache.keep([entry(&cache, 0x35)].into_iter());
        cache.save().await.unwrap();
        let other = Cache::load(&parts(&state), 10, None).await.unwrap();
        assert!(other.get(&[0x35; 32], 100, 1).is_none());
        state.take();
        other.save().await.unwrap();
        assert_eq!(state.take(), shards(&[0x35]));
        let cache = Cache::load(&parts(&state), 10, Some(&circle)).await.unwrap();
        assert!(cache.get(&[0x35; 32], 100, 1).is_none());
    }

    #[tokio::test]
    async fn an_answer_lasts_for_the_period_and_no_longer() {
        let state = Arc::new(Watched::default());
        let cache = Cache::load(&parts(&state), 10, None).await.unwrap();
        cache.keep([entry(&cache, 0x35)].into_iter());
        let is_there = |now_s, period_s| cache.get(&[0x35; 32], now_s, period_s).is_some();
        assert!(is_there(100, 1) && is_there(109, 10));
        assert!(!is_there(100, 0) && !is_there(110, 10));
        assert!(is_there(u64::MAX - 1, u64::MAX));
    }
}
