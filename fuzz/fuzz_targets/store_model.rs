//! What a store must answer, kept in plain maps, and the operations that are
//! tried on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arbitrary::Arbitrary;
use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, PrefixBits},
    epoch::Epoch,
    store::{
        BulkBucket, Change, Committed, Generations, MAX_META_BYTES, MAX_ROW_BYTES, Row, RowChange,
        RowKey, Store, StoreError,
    },
};

/// Few, so that logs are cut.
pub const KEPT_CHANGES: u64 = 4;

/// Directories of one bucket, of a few, and of two partitions.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Bits {
    Zero,
    Three,
    Seventeen,
}

impl Bits {
    pub fn bits(self) -> PrefixBits {
        let bits = match self {
            Self::Zero => 0,
            Self::Three => 3,
            Self::Seventeen => 17,
        };
        PrefixBits::new(bits).expect("few bits")
    }
}

/// One of the buckets that the script uses, first and last among them.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Which {
    First,
    Second,
    Middle,
    Last,
}

impl Which {
    const ALL: [Self; 4] = [Self::First, Self::Second, Self::Middle, Self::Last];

    fn number(self, bits: PrefixBits) -> BucketNumber {
        let last = u32::try_from(bits.buckets() - 1).expect("few buckets");
        let number = match self {
            Self::First => 0,
            Self::Second => last.min(1),
            Self::Middle => last / 2,
            Self::Last => last,
        };
        BucketNumber::new(number, bits).expect("within the directory")
    }
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Size {
    Empty,
    Small,
    Page,
    Most,
    TooMuch,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct RowEdit {
    key: u8,
    /// `None` deletes.
    put: Option<Size>,
}

#[derive(Arbitrary, Debug, Clone)]
pub enum Operation {
    /// `stale`: expects a version that the bucket has not; `same`: does not
    /// raise the version.
    Commit {
        which: Which,
        stale: bool,
        same: bool,
        step: u8,
        rows: Vec<RowEdit>,
    },
    /// A bucket of a directory of other bits.
    CommitElsewhere(Which),
    Read(Which),
    Changes {
        which: Which,
        mark: u8,
        limit: u8,
    },
    Scan {
        which: Which,
        count: u8,
    },
    Bulk {
        which: Which,
        version: u8,
        keys: Vec<u8>,
        ordered: bool,
    },
    Sync,
    Meta {
        key: u8,
        size: u16,
    },
    Reopen,
    Resplit(Bits),
}

type Rows = BTreeMap<[u8; 16], Vec<u8>>;

#[derive(Default)]
struct Log {
    changes: Vec<Change>,
    /// Bulk writes so far: each cuts the log.
    bulks: usize,
    /// What the store gave as a checkpoint, and after how many bulk writes.
    marks: Vec<(u64, usize)>,
}

/// One generation as it must be, and the directory's metadata.
pub struct Model {
    store: Option<Arc<dyn Store>>,
    bits: PrefixBits,
    buckets: BTreeMap<u32, (Bucket, Rows)>,
    logs: BTreeMap<u32, Log>,
    meta: BTreeMap<String, Vec<u8>>,
}

fn bucket(number: BucketNumber, bits: PrefixBits, version: u64) -> Bucket {
    let fill = (version as u8).wrapping_mul(31) ^ (number.get() as u8);
    let mut entries = vec![fill; BUCKET_BYTES];
    // Differs from page to page, so that a mixture would show.
    for (page, bytes) in entries.chunks_mut(4096).enumerate() {
        bytes[0] = page as u8;
        bytes[1..9].copy_from_slice(&version.to_be_bytes());
    }
    let signature = [fill; 64];
    Bucket::from_parts(Epoch::FIRST, bits, number, version, entries.into(), signature)
        .expect("the right length")
}

fn row(key: u8, bytes: usize) -> Row {
    Row { key: RowKey([key % 8; 16]), sealed: vec![key; bytes] }
}

fn misused<T>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Misuse(_)))
}

impl Model {
    pub async fn begin(generations: &dyn Generations, bits: PrefixBits) -> Self {
        assert!(generations.current().await.expect("opens").is_none(), "a new directory is empty");
        let (buckets, logs, meta) = Default::default();
        let empty = Self { store: None, bits, buckets, logs, meta };
        empty.resplit(generations, bits).await
    }

    /// A new generation replaces the old, which takes no more writes.
    pub async fn resplit(self, generations: &dyn Generations, bits: PrefixBits) -> Self {
        let staged = generations.stage(bits).await.expect("a generation begins");
        assert_eq!(staged.prefix_bits(), bits);
        staged.sync().await.expect("syncs");
        let store = generations.promote().await.expect("a staged generation is promoted");
        assert!(misused(generations.promote().await), "nothing is staged any more");
        if let Some(old) = self.store {
            let number = Which::First.number(self.bits);
            let version = self.buckets.get(&number.get()).map_or(0, |(bucket, _)| bucket.version);
            let late = old.commit(bucket(number, self.bits, version + 1), version, Vec::new());
            assert!(late.await.is_err(), "a replaced generation took a commit");
        }
        let (buckets, logs) = Default::default();
        Self { store: Some(store), bits, buckets, logs, meta: self.meta }
    }

    /// Lets go of the store, all of it durable.
    pub async fn without_store(mut self) -> Self {
        if let Some(store) = self.store.take() {
            store.sync().await.expect("syncs");
        }
        self
    }

    pub async fn with_store(&mut self, generations: &dyn Generations) {
        let store = generations.current().await.expect("opens").expect("was promoted");
        assert_eq!(store.prefix_bits(), self.bits);
        self.store = Some(store);
        self.check_everything(generations).await;
    }

    pub async fn apply(&mut self, generations: &dyn Generations, operation: &Operation) {
        let store = Arc::clone(self.store.as_ref().expect("a store is open"));
        match operation {
            Operation::Commit { which, stale, same, step, rows } => {
                self.commit(&*store, *which, *stale, *same, *step, rows).await;
            }
            Operation::CommitElsewhere(which) => {
                let other = PrefixBits::new(u32::from(self.bits.get()) + 1).expect("few bits");
                let bucket = bucket(which.number(other), other, 1);
                assert!(misused(store.commit(bucket, 0, Vec::new()).await));
            }
            Operation::Read(which) => self.read(&*store, which.number(self.bits)).await,
            Operation::Changes { which, mark, limit } => {
                self.changes(&*store, *which, *mark, usize::from(*limit % 8) + 1).await;
            }
            Operation::Scan { which, count } => {
                self.scan(&*store, which.number(self.bits), usize::from(*count % 16)).await;
            }
            Operation::Bulk { which, version, keys, ordered } => {
                self.bulk(&*store, *which, *version, keys, *ordered).await;
            }
            Operation::Sync => store.sync().await.expect("syncs"),
            Operation::Meta { key, size } => self.put_meta(generations, *key, *size).await,
            Operation::Reopen | Operation::Resplit(_) => unreachable!("the caller's"),
        }
    }

    async fn commit(
        &mut self,
        store: &dyn Store,
        which: Which,
        stale: bool,
        same: bool,
        step: u8,
        edits: &[RowEdit],
    ) {
        let number = which.number(self.bits);
        let version = self.buckets.get(&number.get()).map_or(0, |(bucket, _)| bucket.version);
        let expected = version + u64::from(stale);
        let new = if same { expected } else { expected + 1 + u64::from(step) };
        let mut too_much = false;
        let changes: Vec<RowChange> = edits
            .iter()
            .take(12)
            .map(|edit| match edit.put {
                None => RowChange::Delete(row(edit.key, 0).key),
                Some(size) => RowChange::Put(row(
                    edit.key,
                    match size {
                        Size::Empty => 0,
                        Size::Small => 40 + usize::from(edit.key),
                        Size::Page => 2048,
                        Size::Most => MAX_ROW_BYTES,
                        Size::TooMuch => {
                            too_much = true;
                            MAX_ROW_BYTES + 1
                        }
                    },
                )),
            })
            .collect();
        let bucket = bucket(number, self.bits, new);
        let answer = store.commit(bucket.clone(), expected, changes.clone()).await;
        if same || too_much {
            assert!(misused(answer), "a commit that no store may take");
            return;
        }
        let partition = number.partition(self.bits);
        match answer.expect("the disk holds") {
            Committed::Conflict { version: found } => {
                assert!(stale, "a conflict without a reason");
                assert_eq!(found, version);
            }
            Committed::Done { sequence } => {
                assert!(!stale, "a commit over another version");
                let log = self.logs.entry(partition).or_default();
                let before = log.changes.last().map_or(0, |change| change.sequence);
                assert!(sequence > before, "sequences rise");
                log.changes.push(Change { sequence, number, version: new });
                let (stored, rows) = self
                    .buckets
                    .entry(number.get())
                    .or_insert_with(|| (bucket.clone(), Rows::new()));
                *stored = bucket;
                for change in changes {
                    match change {
                        RowChange::Put(row) => drop(rows.insert(row.key.0, row.sealed)),
                        RowChange::Delete(key) => drop(rows.remove(&key.0)),
                    }
                }
            }
        }
    }

    async fn read(&self, store: &dyn Store, number: BucketNumber) {
        let known = self.buckets.get(&number.get());
        let found = store.bucket(number).await.expect("the disk holds");
        assert!(found.as_ref() == known.map(|(bucket, _)| bucket), "another bucket");
        let found = store.rows(number).await.expect("the disk holds");
        assert_eq!(found.version, known.map_or(0, |(bucket, _)| bucket.version));
        let rows = found.rows.iter().map(|row| (&row.key.0, &row.sealed));
        assert!(rows.eq(known.iter().flat_map(|(_, rows)| rows)), "other rows");
    }

    /// The change log, from a checkpoint that the store gave or from 0.
    async fn changes(&mut self, store: &dyn Store, which: Which, mark: u8, limit: usize) {
        let partition = which.number(self.bits).partition(self.bits);
        let log = self.logs.entry(partition).or_default();
        let places = log.marks.len() + 1;
        let (checkpoint, bulks) =
            log.marks.get(usize::from(mark) % places).copied().unwrap_or((0, 0));
        let answer = store.changes_since(partition, checkpoint, limit).await.expect("reads");
        let missed: Vec<Change> =
            log.changes.iter().filter(|change| change.sequence > checkpoint).copied().collect();
        let cut = bulks < log.bulks;
        if answer.truncated {
            assert!(cut || missed.len() as u64 > KEPT_CHANGES, "a log was cut too early");
            assert!(answer.changes.is_empty());
        } else {
            assert!(!cut, "bulk writes were passed over in silence");
            assert!(answer.changes.iter().eq(missed.iter().take(limit)), "another log");
            let last = answer.changes.last().map_or(answer.checkpoint, |last| last.sequence);
            assert_eq!(answer.checkpoint, last);
        }
        if answer.checkpoint > 0 {
            let read = if answer.truncated { log.bulks } else { bulks };
            log.marks.push((answer.checkpoint, read));
        }
    }

    async fn scan(&self, store: &dyn Store, first: BucketNumber, count: usize) {
        let found = store.scan(first, count).await.expect("the disk holds");
        let left = self.bits.buckets() - u64::from(first.get());
        assert_eq!(found.len() as u64, left.min(count as u64));
        for (found, number) in found.iter().zip(first.get()..) {
            let known = self.buckets.get(&number).map(|(bucket, _)| bucket);
            assert!(found.as_ref() == known, "another bucket in a scan");
        }
    }

    async fn bulk(
        &mut self,
        store: &dyn Store,
        which: Which,
        version: u8,
        keys: &[u8],
        ordered: bool,
    ) {
        let number = which.number(self.bits);
        let mut rows: Vec<Row> = keys
            .iter()
            .map(|key| key % 8)
            .take(12)
            .collect::<BTreeSet<u8>>()
            .into_iter()
            .map(|key| row(key, usize::from(key) * 500))
            .collect();
        if !ordered {
            rows.reverse();
        }
        let refused = version == 0 || (!ordered && rows.len() > 1);
        let bucket = bucket(number, self.bits, version.into());
        let bulk = BulkBucket { bucket: bucket.clone(), rows: rows.clone() };
        let answer = store.bulk_put(vec![bulk]).await;
        if refused {
            assert!(misused(answer), "a bulk write that no store may take");
            return;
        }
        answer.expect("the disk holds");
        let rows = rows.into_iter().map(|row| (row.key.0, row.sealed)).collect();
        self.buckets.insert(number.get(), (bucket, rows));
        let log = self.logs.entry(number.partition(self.bits)).or_default();
        log.changes.clear();
        log.bulks += 1;
    }

    async fn put_meta(&mut self, generations: &dyn Generations, key: u8, size: u16) {
        let key = format!("fuzz/{}", key % 5);
        let value = vec![7; usize::from(size) % (MAX_META_BYTES + 2)];
        let fits = value.len() <= MAX_META_BYTES;
        let answer = generations.meta_put(&key, value.clone()).await;
        assert_eq!(misused(answer), !fits);
        if fits {
            self.meta.insert(key, value);
        }
    }

    pub async fn check_everything(&mut self, generations: &dyn Generations) {
        let store = Arc::clone(self.store.as_ref().expect("a store is open"));
        for which in Which::ALL {
            self.read(&*store, which.number(self.bits)).await;
            self.scan(&*store, which.number(self.bits), 3).await;
            for mark in 0..4 {
                self.changes(&*store, which, mark, 100).await;
            }
        }
        let listed = generations.meta_list("fuzz/").await.expect("the disk holds");
        assert!(listed.iter().map(|(key, value)| (key, value)).eq(&self.meta), "other metadata");
        for (key, value) in &self.meta {
            assert_eq!(generations.meta_get(key).await.expect("reads").as_ref(), Some(value));
        }
        assert!(generations.meta_get("fuzz/never").await.expect("reads").is_none());
    }
}
