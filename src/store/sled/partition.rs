//! One partition: 65,536 buckets, their rows and their change log in one sled
//! database. Readers see whole commits, and only durable ones.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{
    durable::Database,
    lock::FolderLock,
    pages::{ENTRY_PAGES, Header, PAGE_BYTES, RowPlan, decode_rows, joined, key},
};
use crate::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, PrefixBits},
    store::{
        BulkBucket, Change, Changes, Held, Row, RowChange, StoreError, StoredRows, Wanted,
        check::LogEnds,
    },
};

/// Locks over which the buckets of a partition are spread.
const STRIPES: u32 = 1024;

/// Most changes cut from the log at once.
const MAX_CUT: u64 = 256;

pub(super) struct Partition {
    bits: PrefixBits,
    database: Database,
    /// A bucket's stripe is held for writing until its commit is durable.
    stripes: Box<[RwLock<()>]>,
    log: Mutex<Log>,
    change_log_entries: u64,
    _lock: Arc<FolderLock>,
}

/// Commits that are applied in one batch, each of another bucket. sled begins a
/// write to the disk with every batch, and wakes all its threads for it.
#[derive(Default)]
pub(super) struct Writing {
    batch: ::sled::Batch,
    bytes: usize,
    changed: Vec<(BucketNumber, u64)>,
}

impl Writing {
    /// Whether there is nothing to apply.
    pub(super) const fn is_empty(&self) -> bool {
        self.changed.is_empty()
    }

    /// Whether a commit of this bucket is among them, so that no other can be
    /// planned yet.
    pub(super) fn holds(&self, number: BucketNumber) -> bool {
        self.changed.iter().any(|(held, _)| *held == number)
    }
}

struct Log {
    /// What was applied.
    ends: LogEnds,
    /// What is durable, and may be told.
    durable: LogEnds,
}

impl Partition {
    pub(super) fn new(
        bits: PrefixBits,
        base: u64,
        change_log_entries: u64,
        database: Database,
        lock: Arc<FolderLock>,
    ) -> Result<Self, StoreError> {
        let floor = database.get(&key::FLOOR)?.map(|bytes| sequence(&bytes)).transpose()?;
        let floor = floor.unwrap_or(base);
        let last = match database.range(&key::change(0), &key::change(u64::MAX)).next_back() {
            Some(entry) => logged_sequence(&entry?.0)?.max(floor),
            None => floor,
        };
        let ends = LogEnds { base, floor, last };
        Ok(Self {
            bits,
            database,
            stripes: (0..STRIPES).map(|_| RwLock::new(())).collect(),
            log: Mutex::new(Log { ends, durable: ends }),
            change_log_entries: change_log_entries.max(1),
            _lock: lock,
        })
    }

    /// Which stripe a bucket belongs to.
    pub(super) fn stripe(number: BucketNumber) -> usize {
        (number.get() % STRIPES) as usize
    }

    /// Keeps readers of a stripe out.
    pub(super) fn hold(&self, stripe: usize) -> Option<RwLockWriteGuard<'_, ()>> {
        let stripe = self.stripes.get(stripe)?;
        Some(stripe.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn reading(&self, number: BucketNumber) -> Option<RwLockReadGuard<'_, ()>> {
        let stripe = self.stripes.get(Self::stripe(number))?;
        Some(stripe.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn header(&self, number: BucketNumber) -> Result<Option<Header>, StoreError> {
        self.database
            .get(&key::header(number))?
            .map(|bytes| Header::decode(&bytes, self.bits))
            .transpose()
    }

    fn row_page(&self, number: BucketNumber, page: u16) -> Result<Vec<Row>, StoreError> {
        let bytes = self.database.get(&key::rows(number, page))?;
        decode_rows(&bytes.ok_or(StoreError::Damaged("a page of rows is missing"))?)
    }

    pub(super) fn bucket(&self, number: BucketNumber) -> Result<Option<Bucket>, StoreError> {
        let _reading = self.reading(number);
        self.database.usable()?;
        let Some(header) = self.header(number)? else { return Ok(None) };
        self.assemble(number, &header).map(Some)
    }

    fn assemble(&self, number: BucketNumber, header: &Header) -> Result<Bucket, StoreError> {
        let mut entries = Vec::with_capacity(BUCKET_BYTES);
        // Page by page rather than by an iterator: sled counts what it caches
        // when pages are asked for, and evicts only then.
        for page in (0..=u8::MAX).take(ENTRY_PAGES) {
            let bytes = self.database.get(&key::entries(number, page))?;
            entries.extend_from_slice(&bytes.ok_or(StoreError::Damaged("a page is missing"))?);
        }
        header.bucket(self.bits, number, entries)
    }

    /// A bucket with rows of it, all of one commit.
    pub(super) fn held(
        &self,
        number: BucketNumber,
        wanted: Wanted,
    ) -> Result<Option<Held>, StoreError> {
        let _reading = self.reading(number);
        self.database.usable()?;
        let Some(header) = self.header(number)? else { return Ok(None) };
        let bucket = self.assemble(number, &header)?;
        let rows = match wanted {
            Wanted::All => self.all_rows(number, &header)?,
            Wanted::One(key) => match header.page_of(key) {
                Some(page) => {
                    let mut rows = self.row_page(number, page)?;
                    ascending(&rows)?;
                    rows.retain(|row| row.key == key);
                    rows
                }
                None => Vec::new(),
            },
        };
        Ok(Some(Held { bucket, rows }))
    }

    pub(super) fn rows(&self, number: BucketNumber) -> Result<StoredRows, StoreError> {
        let _reading = self.reading(number);
        let Some(header) = self.header(number)? else {
            return Ok(StoredRows { version: 0, rows: Vec::new() });
        };
        let rows = self.all_rows(number, &header)?;
        Ok(StoredRows { version: header.version, rows })
    }

    fn all_rows(&self, number: BucketNumber, header: &Header) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        for fence in &header.fences {
            rows.extend(self.row_page(number, fence.page)?);
        }
        ascending(&rows)?;
        Ok(rows)
    }

    /// Adds one commit to what is written next; the version that the bucket has
    /// instead if it is not the expected one. The caller holds the bucket's stripe
    /// until [`Self::sync`] has returned.
    pub(super) fn plan(
        &self,
        writing: &mut Writing,
        bucket: &Bucket,
        expected_version: u64,
        changes: Vec<RowChange>,
    ) -> Result<Option<u64>, StoreError> {
        let number = bucket.number;
        let old = self.header(number)?;
        let version = old.as_ref().map_or(0, |old| old.version);
        if version != expected_version {
            return Ok(Some(version));
        }
        // Whatever may fail comes before anything is added.
        let mut pages = Vec::new();
        for (index, page) in entry_pages(bucket) {
            let key = key::entries(number, index);
            let same = old.is_some() && self.database.get(&key)?.is_some_and(|old| old == page);
            if !same {
                pages.push((key, page));
            }
        }
        let fences = old.map(|old| old.fences).unwrap_or_default();
        let rows = if changes.is_empty() {
            RowPlan { fences, ..RowPlan::default() }
        } else {
            RowPlan::change(changes, &fences, |page| self.row_page(number, page))?
        };
        let header = Header::of(bucket, rows.fences.clone()).encode(self.bits)?;
        let lengths = pages.iter().map(|(_, page)| page.len());
        writing.bytes += PAGE_BYTES + lengths.sum::<usize>();
        writing.bytes += rows.written.iter().map(|(_, page)| page.len()).sum::<usize>();
        for (key, page) in pages {
            writing.batch.insert(&key, page);
        }
        put_rows(&mut writing.batch, number, rows);
        writing.batch.insert(&key::header(number), header);
        writing.changed.push((number, bucket.version));
        Ok(None)
    }

    /// Applies what was planned in one batch; the sequence that its first change
    /// comes after.
    pub(super) fn apply(&self, writing: Writing) -> Result<u64, StoreError> {
        let Writing { mut batch, bytes, changed } = writing;
        let mut log = self.log();
        let mut ends = log.ends;
        for (number, version) in changed {
            ends.last += 1;
            batch.insert(&key::change(ends.last), &logged(number, version));
        }
        let step = MAX_CUT.min(self.change_log_entries / 16 + 1);
        if ends.last - ends.floor >= self.change_log_entries + step {
            let floor = ends.last - self.change_log_entries;
            (ends.floor + 1..=floor).for_each(|cut| batch.remove(&key::change(cut)));
            batch.insert(&key::FLOOR, &floor.to_be_bytes());
            ends.floor = floor;
        }
        self.database.apply(batch, bytes)?;
        let before = std::mem::replace(&mut log.ends, ends).last;
        Ok(before)
    }

    /// Makes everything applied durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let ends = self.log().ends;
        self.database.sync()?;
        let mut log = self.log();
        log.durable.floor = ends.floor.max(log.durable.floor);
        log.durable.last = ends.last.max(log.durable.last);
        Ok(())
    }

    /// See [`Database::set_live`].
    pub(super) fn set_live(&self) {
        self.database.set_live();
    }

    /// Whether the disk still takes writes.
    pub(super) fn usable(&self) -> Result<(), StoreError> {
        self.database.usable()
    }

    pub(super) fn changes_since(
        &self,
        checkpoint: u64,
        limit: usize,
    ) -> Result<Changes, StoreError> {
        self.database.usable()?;
        // Held, so that nothing is cut meanwhile.
        let log = self.log();
        let after = match log.durable.resume(checkpoint) {
            Ok(after) => after,
            Err(truncated) => return Ok(truncated),
        };
        let mut changes = Vec::new();
        let (first, last) = (key::change(after.saturating_add(1)), key::change(log.durable.last));
        if first <= last {
            for entry in self.database.range(&first, &last).take(limit) {
                let (key, value) = entry?;
                changes.push(self.change(&key, &value)?);
            }
        }
        let checkpoint = changes.last().map_or(after, |change| change.sequence);
        Ok(Changes { changes, checkpoint, truncated: false })
    }

    fn change(&self, key: &[u8], value: &[u8]) -> Result<Change, StoreError> {
        const DAMAGED: StoreError = StoreError::Damaged("the change log is malformed");
        let (number, version) = value.split_first_chunk::<4>().ok_or(DAMAGED)?;
        let number = BucketNumber::new(u32::from_be_bytes(*number), self.bits);
        Ok(Change {
            sequence: logged_sequence(key)?,
            number: number.map_err(|_| DAMAGED)?,
            version: sequence(version)?,
        })
    }

    /// Writes whole buckets, each in one batch. None is logged: the first and
    /// the last batch cut the log, so that whoever follows it starts anew.
    pub(super) fn bulk_put(&self, buckets: Vec<BulkBucket>) -> Result<(), StoreError> {
        let last = buckets.len().saturating_sub(1);
        for (index, BulkBucket { bucket, rows }) in buckets.into_iter().enumerate() {
            let number = bucket.number;
            let _held = self.hold(Self::stripe(number));
            let old = self.header(number)?;
            let mut batch = ::sled::Batch::default();
            for (page, bytes) in entry_pages(&bucket) {
                batch.insert(&key::entries(number, page), bytes);
            }
            let bytes = BUCKET_BYTES + rows.iter().map(|row| row.sealed.len()).sum::<usize>();
            let fences = old.map(|old| old.fences).unwrap_or_default();
            let fences = put_rows(&mut batch, number, RowPlan::replace(rows, &fences)?);
            batch.insert(&key::header(number), Header::of(&bucket, fences).encode(self.bits)?);
            if index == 0 || index == last {
                let mut log = self.log();
                let mut ends = log.ends;
                (ends.floor + 1..=ends.last).for_each(|cut| batch.remove(&key::change(cut)));
                ends.last += 1;
                ends.floor = ends.last;
                batch.insert(&key::FLOOR, &ends.floor.to_be_bytes());
                self.database.apply(batch, bytes)?;
                *log = Log { ends, durable: ends };
            } else {
                self.database.apply(batch, bytes)?;
            }
        }
        Ok(())
    }
}

fn ascending(rows: &[Row]) -> Result<(), StoreError> {
    if rows.is_sorted_by(|a, b| a.key < b.key) {
        Ok(())
    } else {
        Err(StoreError::Damaged("the rows of a bucket are out of order"))
    }
}

fn entry_pages(bucket: &Bucket) -> impl Iterator<Item = (u8, &[u8])> {
    const { assert!(ENTRY_PAGES <= 256) };
    (0..=u8::MAX).zip(bucket.entries().chunks(PAGE_BYTES))
}

fn put_rows(
    batch: &mut ::sled::Batch,
    number: BucketNumber,
    plan: RowPlan,
) -> Vec<super::pages::Fence> {
    for (page, bytes) in plan.written {
        batch.insert(&key::rows(number, page), bytes);
    }
    for page in plan.removed {
        batch.remove(&key::rows(number, page));
    }
    plan.fences
}

fn logged(number: BucketNumber, version: u64) -> [u8; 12] {
    joined(&[&number.get().to_be_bytes(), &version.to_be_bytes()])
}

fn sequence(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged("a sequence is malformed"))?;
    Ok(u64::from_be_bytes(bytes))
}

fn logged_sequence(key: &[u8]) -> Result<u64, StoreError> {
    sequence(key.get(1..).unwrap_or_default())
}
