//! The bytes on disk: keys, the header of a bucket, and its rows packed in
//! pages. Pure; every decoder bounds what it reads.
//!
//! A leaf of sled's tree holds up to 17 values, 20 while it merges, and spills
//! into a file that is never synced when it exceeds 128 KiB. So no value here
//! exceeds [`PAGE_BYTES`].

use std::collections::BTreeMap;

use crate::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, ENTRY_BYTES, PrefixBits},
    epoch::Epoch,
    store::{Row, RowChange, RowKey, StoreError},
};

/// Most bytes of a value: 32 entries.
pub(super) const PAGE_BYTES: usize = 32 * ENTRY_BYTES;

/// Pages of a bucket's entries.
pub(super) const ENTRY_PAGES: usize = BUCKET_BYTES / PAGE_BYTES;

/// Bulk writes leave room in a page, so that a later claim rarely splits it.
const BULK_FILL_BYTES: usize = PAGE_BYTES * 5 / 6;

const HEADER_FORMAT: u8 = 1;
const HEADER_FIXED_BYTES: usize = 1 + 1 + 4 + 8 + 64 + 2;
const FENCE_BYTES: usize = 2 + 16;
const MAX_ROW_PAGES: usize = (PAGE_BYTES - HEADER_FIXED_BYTES) / FENCE_BYTES;
const ROW_OVERHEAD_BYTES: usize = 16 + 2;

const _: () = assert!(ENTRY_PAGES * PAGE_BYTES == BUCKET_BYTES);
const _: () = assert!(crate::store::MAX_ROW_BYTES + ROW_OVERHEAD_BYTES <= PAGE_BYTES);

/// Parts of together `N` bytes, one after another.
pub(super) fn joined<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, part) in bytes.iter_mut().zip(parts.iter().copied().flatten()) {
        *byte = *part;
    }
    bytes
}

/// Keys. Entries, change log and rows each have a range of their own: a fetch
/// reads no rows.
pub(super) mod key {
    use super::{BucketNumber, joined};

    pub(in super::super) fn header(number: BucketNumber) -> [u8; 6] {
        joined(&[&[0x00], &number.get().to_be_bytes(), &[0x00]])
    }

    pub(in super::super) fn entries(number: BucketNumber, page: u8) -> [u8; 7] {
        joined(&[&[0x00], &number.get().to_be_bytes(), &[0x01, page]])
    }

    pub(in super::super) fn change(sequence: u64) -> [u8; 9] {
        joined(&[&[0x01], &sequence.to_be_bytes()])
    }

    pub(in super::super) const FLOOR: [u8; 1] = [0x02];

    pub(in super::super) fn rows(number: BucketNumber, page: u16) -> [u8; 7] {
        joined(&[&[0x03], &number.get().to_be_bytes(), &page.to_be_bytes()])
    }
}

/// Where a page of rows begins: it holds the keys from `from` up to the next
/// fence's. The first fence of a bucket begins at zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Fence {
    pub(super) page: u16,
    from: RowKey,
}

/// What lies under [`key::header`].
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    pub(super) version: u64,
    pub(super) signature: [u8; 64],
    /// Ascending by `from`.
    pub(super) fences: Vec<Fence>,
}

impl Header {
    pub(super) fn of(bucket: &Bucket, fences: Vec<Fence>) -> Self {
        Self {
            epoch: bucket.epoch,
            version: bucket.version,
            signature: *bucket.signature(),
            fences,
        }
    }

    pub(super) fn encode(&self, bits: PrefixBits) -> Result<Vec<u8>, StoreError> {
        let count = u16::try_from(self.fences.len())
            .ok()
            .filter(|count| usize::from(*count) <= MAX_ROW_PAGES)
            .ok_or(StoreError::Misuse("a bucket cannot hold so many rows"))?;
        let mut bytes = Vec::with_capacity(HEADER_FIXED_BYTES + FENCE_BYTES * self.fences.len());
        bytes.extend_from_slice(&[HEADER_FORMAT, bits.get()]);
        bytes.extend_from_slice(&self.epoch.get().to_be_bytes());
        bytes.extend_from_slice(&self.version.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes.extend_from_slice(&count.to_be_bytes());
        for fence in &self.fences {
            bytes.extend_from_slice(&fence.page.to_be_bytes());
            bytes.extend_from_slice(&fence.from.0);
        }
        Ok(bytes)
    }

    pub(super) fn decode(bytes: &[u8], bits: PrefixBits) -> Result<Self, StoreError> {
        Self::parse(bytes, bits).ok_or(StoreError::Damaged("the header of a bucket is malformed"))
    }

    fn parse(mut bytes: &[u8], bits: PrefixBits) -> Option<Self> {
        let input = &mut bytes;
        if take(input)? != [HEADER_FORMAT, bits.get()] {
            return None;
        }
        let epoch = Epoch::new(u32::from_be_bytes(take(input)?))?;
        let version = u64::from_be_bytes(take(input)?);
        let signature = take(input)?;
        let count = usize::from(u16::from_be_bytes(take(input)?));
        if input.len() != count * FENCE_BYTES {
            return None;
        }
        let mut fences = Vec::with_capacity(count);
        for _ in 0..count {
            fences
                .push(Fence { page: u16::from_be_bytes(take(input)?), from: RowKey(take(input)?) });
        }
        let sorted = fences.is_sorted_by(|a, b| a.from < b.from);
        (version > 0 && sorted).then_some(Self { epoch, version, signature, fences })
    }

    /// The page that holds a row, if any does.
    pub(super) fn page_of(&self, row: RowKey) -> Option<u16> {
        let after = self.fences.partition_point(|fence| fence.from <= row);
        self.fences.get(after.checked_sub(1)?).map(|fence| fence.page)
    }

    /// The bucket of this header.
    pub(super) fn bucket(
        &self,
        bits: PrefixBits,
        number: BucketNumber,
        entries: Vec<u8>,
    ) -> Result<Bucket, StoreError> {
        let entries = entries.into();
        Bucket::from_parts(self.epoch, bits, number, self.version, entries, self.signature)
            .map_err(|_| StoreError::Damaged("a bucket lacks pages"))
    }
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = input.split_first_chunk::<N>()?;
    *input = rest;
    Some(*head)
}

/// The rows of one page.
pub(super) fn decode_rows(mut bytes: &[u8]) -> Result<Vec<Row>, StoreError> {
    const DAMAGED: StoreError = StoreError::Damaged("a page of rows is malformed");
    let mut rows = Vec::new();
    let input = &mut bytes;
    while !input.is_empty() {
        let key = RowKey(take(input).ok_or(DAMAGED)?);
        let length = u16::from_be_bytes(take(input).ok_or(DAMAGED)?);
        let (sealed, rest) = input.split_at_checked(usize::from(length)).ok_or(DAMAGED)?;
        rows.push(Row { key, sealed: sealed.to_vec() });
        *input = rest;
    }
    Ok(rows)
}

fn encode_rows(rows: &[Row]) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(size(rows));
    for row in rows {
        let length = u16::try_from(row.sealed.len())
            .map_err(|_| StoreError::Misuse("a sealed row is too long for its page"))?;
        bytes.extend_from_slice(&row.key.0);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&row.sealed);
    }
    Ok(bytes)
}

fn row_bytes(row: &Row) -> usize {
    ROW_OVERHEAD_BYTES + row.sealed.len()
}

fn size(rows: &[Row]) -> usize {
    rows.iter().map(row_bytes).sum()
}

/// Splits ascending rows into runs of at most `fill` bytes each; a single row
/// may exceed that.
fn runs(rows: Vec<Row>, fill: usize) -> Vec<Vec<Row>> {
    let mut runs = Vec::new();
    let mut run = Vec::new();
    let mut used = 0;
    for row in rows {
        let bytes = row_bytes(&row);
        if used + bytes > fill && !run.is_empty() {
            runs.push(std::mem::take(&mut run));
            used = 0;
        }
        used += bytes;
        run.push(row);
    }
    if !run.is_empty() {
        runs.push(run);
    }
    runs
}

/// What a change of rows does to a bucket's pages.
#[derive(Default)]
pub(super) struct RowPlan {
    pub(super) fences: Vec<Fence>,
    pub(super) written: Vec<(u16, Vec<u8>)>,
    pub(super) removed: Vec<u16>,
}

impl RowPlan {
    fn push(&mut self, page: u16, rows: &[Row]) -> Result<(), StoreError> {
        // The first page also takes the keys before its first row.
        let from = match (self.fences.is_empty(), rows.first()) {
            (false, Some(row)) => row.key,
            _ => RowKey([0; 16]),
        };
        self.fences.push(Fence { page, from });
        self.written.push((page, encode_rows(rows)?));
        Ok(())
    }

    /// Writes all rows anew over pages that a bucket had.
    pub(super) fn replace(rows: Vec<Row>, old: &[Fence]) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        for (page, run) in (0..=u16::MAX).zip(runs(rows, BULK_FILL_BYTES)) {
            plan.push(page, &run)?;
        }
        let kept = plan.fences.len();
        plan.removed
            .extend(old.iter().map(|old| old.page).filter(|page| usize::from(*page) >= kept));
        Ok(plan)
    }

    /// Applies changes in their order; `read` gives the rows of a page. Pages
    /// that no change touches are neither read nor written, but for a
    /// neighbour that a nearly empty page joins.
    pub(super) fn change(
        changes: Vec<RowChange>,
        old: &[Fence],
        mut read: impl FnMut(u16) -> Result<Vec<Row>, StoreError>,
    ) -> Result<Self, StoreError> {
        let mut slots: Vec<Slot> = old
            .iter()
            .map(|fence| Slot { fence: Some(*fence), rows: None, dirty: false })
            .collect();
        if slots.is_empty() {
            slots.push(Slot { fence: None, rows: None, dirty: false });
        }
        for (at, changes) in by_page(changes, old) {
            if let Some(slot) = slots.get_mut(at) {
                slot.dirty = true;
                let rows = slot.load(&mut read)?;
                for change in changes {
                    apply(rows, change);
                }
            }
        }
        join_small(&mut slots, &mut read)?;
        Self::emit(slots, old)
    }

    fn emit(slots: Vec<Slot>, old: &[Fence]) -> Result<Self, StoreError> {
        let mut plan = Self::default();
        let kept: Vec<u16> = slots.iter().filter_map(|slot| slot.fence).map(|f| f.page).collect();
        let mut fresh = (0..=u16::MAX).filter(|page| !old.iter().any(|fence| fence.page == *page));
        for slot in slots {
            let (true, Some(rows)) = (slot.dirty, slot.rows) else {
                plan.fences.extend(slot.fence);
                continue;
            };
            // A page that overflows leaves room in each of its parts.
            let bytes = size(&rows);
            let fill = if bytes > PAGE_BYTES { PAGE_BYTES * 2 / 3 } else { PAGE_BYTES };
            let mut own = slot.fence.map(|fence| fence.page);
            for run in runs(rows, fill) {
                let page = own
                    .take()
                    .or_else(|| fresh.next())
                    .ok_or(StoreError::Misuse("a bucket cannot hold so many rows"))?;
                plan.push(page, &run)?;
            }
            plan.removed.extend(own);
        }
        plan.removed.extend(old.iter().map(|f| f.page).filter(|page| !kept.contains(page)));
        if let Some(first) = plan.fences.first_mut() {
            first.from = RowKey([0; 16]);
        }
        Ok(plan)
    }
}

/// One page while its bucket's rows change; `rows` is `None` until it is read.
struct Slot {
    fence: Option<Fence>,
    rows: Option<Vec<Row>>,
    dirty: bool,
}

impl Slot {
    fn load(
        &mut self,
        read: &mut impl FnMut(u16) -> Result<Vec<Row>, StoreError>,
    ) -> Result<&mut Vec<Row>, StoreError> {
        let rows = match (self.rows.take(), self.fence) {
            (Some(rows), _) => rows,
            (None, Some(fence)) => read(fence.page)?,
            (None, None) => Vec::new(),
        };
        Ok(self.rows.insert(rows))
    }
}

fn by_page(changes: Vec<RowChange>, fences: &[Fence]) -> BTreeMap<usize, Vec<RowChange>> {
    let mut pages: BTreeMap<usize, Vec<RowChange>> = BTreeMap::new();
    for change in changes {
        let key = match &change {
            RowChange::Put(row) => row.key,
            RowChange::Delete(key) => *key,
        };
        let at = fences.partition_point(|fence| fence.from <= key).saturating_sub(1);
        pages.entry(at).or_default().push(change);
    }
    pages
}

fn apply(rows: &mut Vec<Row>, change: RowChange) {
    match change {
        RowChange::Put(row) => match rows.binary_search_by_key(&row.key, |row| row.key) {
            Ok(at) => {
                if let Some(old) = rows.get_mut(at) {
                    *old = row;
                }
            }
            Err(at) => rows.insert(at, row),
        },
        RowChange::Delete(key) => {
            if let Ok(at) = rows.binary_search_by_key(&key, |row| row.key) {
                rows.remove(at);
            }
        }
    }
}

/// Joins a page that has become nearly empty with the page after it, or before
/// it at the end, if both together leave room.
fn join_small(
    slots: &mut Vec<Slot>,
    read: &mut impl FnMut(u16) -> Result<Vec<Row>, StoreError>,
) -> Result<(), StoreError> {
    let mut at = 0;
    while let Some(used) = slots.get(at).map(|slot| slot.rows.as_deref().map(size)) {
        let small = used.is_some_and(|used| used <= PAGE_BYTES / 4);
        if !small || slots.len() < 2 {
            at += 1;
            continue;
        }
        let left = at.min(slots.len() - 2);
        let [Some(a), Some(b)] = [left, left + 1]
            .map(|at| slots.get_mut(at).map(|slot| slot.load(read).map(|rows| size(rows))))
        else {
            return Ok(());
        };
        if a? + b? > PAGE_BYTES * 3 / 4 {
            at += 1;
            continue;
        }
        let joined = slots.remove(left + 1).rows.unwrap_or_default();
        if let Some(slot) = slots.get_mut(left) {
            slot.rows.get_or_insert_default().extend(joined);
            slot.dirty = true;
        }
        at = left;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn row(key: u16, bytes: usize) -> Row {
        let mut name = [0; 16];
        name[..2].copy_from_slice(&key.to_be_bytes());
        Row { key: RowKey(name), sealed: vec![key.to_be_bytes()[1]; bytes] }
    }

    /// A disk of row pages, as the partition keeps it.
    #[derive(Default)]
    struct Disk {
        fences: Vec<Fence>,
        pages: BTreeMap<u16, Vec<u8>>,
    }

    impl Disk {
        fn store(&mut self, plan: RowPlan) {
            for (page, bytes) in plan.written {
                assert!(bytes.len() <= PAGE_BYTES);
                self.pages.insert(page, bytes);
            }
            for page in plan.removed {
                assert!(self.pages.remove(&page).is_some());
            }
            self.fences = plan.fences;
            let named: std::collections::BTreeSet<_> =
                self.fences.iter().map(|fence| fence.page).collect();
            assert!(named.iter().eq(self.pages.keys()), "every page has one fence");
            assert_eq!(named.len(), self.fences.len());
        }

        fn change(&mut self, changes: Vec<RowChange>) {
            let plan =
                RowPlan::change(changes, &self.fences, |page| decode_rows(&self.pages[&page]))
                    .unwrap();
            self.store(plan);
        }

        fn rows(&self) -> Vec<Row> {
            let pages = self.fences.iter().map(|fence| &self.pages[&fence.page]);
            pages.flat_map(|page| decode_rows(page).unwrap()).collect()
        }
    }

    /// The key of a change, and how many bytes are put there, if any.
    type Drawn = (u16, Option<usize>);

    fn changes() -> impl Strategy<Value = Vec<Drawn>> {
        let change = prop_oneof![
            3 => (0_u16..300, 0_usize..400).prop_map(|(key, bytes)| (key, Some(bytes))),
            1 => (0_u16..300, 3000_usize..=4096).prop_map(|(key, bytes)| (key, Some(bytes))),
            3 => (0_u16..300).prop_map(|key| (key, None)),
        ];
        proptest::collection::vec(change, 0..40)
    }

    proptest! {
        #[test]
        fn rows_change_as_a_sorted_map_does(
            bulk in proptest::collection::btree_map(0_u16..300, 0_usize..600, 0..120),
            commits in proptest::collection::vec(changes(), 0..12),
        ) {
            let mut model: BTreeMap<RowKey, Row> = BTreeMap::new();
            let mut disk = Disk::default();
            for (key, bytes) in bulk {
                model.insert(row(key, 0).key, row(key, bytes));
            }
            disk.store(RowPlan::replace(model.values().cloned().collect(), &[]).unwrap());
            for drawn in commits {
                let mut changes = Vec::new();
                for (key, bytes) in drawn {
                    let row = row(key, bytes.unwrap_or(0));
                    if bytes.is_some() {
                        model.insert(row.key, row.clone());
                        changes.push(RowChange::Put(row));
                    } else {
                        model.remove(&row.key);
                        changes.push(RowChange::Delete(row.key));
                    }
                }
                disk.change(changes);
                prop_assert!(disk.rows().iter().eq(model.values()));
            }
            let fences = disk.fences.clone();
            disk.store(RowPlan::replace(vec![row(1, 1)], &fences).unwrap());
            prop_assert!(disk.rows() == [row(1, 1)]);
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_rows(&bytes);
            let _ = Header::decode(&bytes, PrefixBits::ZERO);
        }
    }

    #[test]
    fn one_new_row_writes_one_page() {
        let mut disk = Disk::default();
        let rows = (0..140).map(|key| row(2 * key, 200)).collect();
        disk.store(RowPlan::replace(rows, &[]).unwrap());
        assert!((5..=7).contains(&disk.pages.len()));
        let plan = RowPlan::change(vec![RowChange::Put(row(33, 200))], &disk.fences, |page| {
            decode_rows(&disk.pages[&page])
        })
        .unwrap();
        assert_eq!((plan.written.len(), plan.removed.len()), (1, 0));
    }

    #[test]
    fn emptied_pages_go_away() {
        let mut disk = Disk::default();
        let rows = (0..140).map(|key| row(key, 200)).collect();
        disk.store(RowPlan::replace(rows, &[]).unwrap());
        for key in 0..138 {
            disk.change(vec![RowChange::Delete(row(key, 0).key)]);
        }
        assert_eq!(disk.pages.len(), 1);
        disk.change(vec![RowChange::Delete(row(138, 0).key), RowChange::Delete(row(139, 0).key)]);
        assert!(disk.pages.is_empty());
    }

    #[test]
    fn a_header_survives_and_a_malformed_one_is_refused() {
        let bits = PrefixBits::new(12).unwrap();
        let plan = RowPlan::replace((0..60).map(|key| row(key, 300)).collect(), &[]).unwrap();
        let header =
            Header { epoch: Epoch::FIRST, version: 7, signature: [9; 64], fences: plan.fences };
        let bytes = header.encode(bits).unwrap();
        assert!(Header::decode(&bytes, bits).unwrap() == header);
        for cut in 0..bytes.len() {
            assert!(Header::decode(&bytes[..cut], bits).is_err());
        }
        assert!(Header::decode(&bytes, PrefixBits::new(13).unwrap()).is_err());
    }

    #[test]
    fn more_rows_than_a_header_can_name_are_refused() {
        let rows = (0..1000).map(|key| row(key, 4096)).collect();
        let plan = RowPlan::replace(rows, &[]).unwrap();
        let header =
            Header { epoch: Epoch::FIRST, version: 1, signature: [0; 64], fences: plan.fences };
        assert!(matches!(header.encode(PrefixBits::ZERO), Err(StoreError::Misuse(_))));
    }
}
