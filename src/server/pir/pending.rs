//! What changed and is not in the matrix yet, and what of it is put in place
//! together: what was read of a row at once always, so that no commit is seen in
//! half, with whatever costs nothing more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    bucket::ENTRY_BYTES,
    pir::{Part, RING},
};

/// Blocks that hold whole entries, so that no entry joins one group to the next.
const GROUP: usize = {
    let mut blocks = 1;
    while !(blocks * RING).is_multiple_of(ENTRY_BYTES) {
        blocks += 1;
    }
    blocks
};

type Groups = BTreeSet<usize>;

/// What one reading of a row found changed, with all that it overlaps: one commit,
/// or several.
struct Unit {
    groups: Groups,
    /// When it came, counted.
    turn: u64,
}

struct Row {
    /// As read last.
    bytes: Bytes,
    /// No group is in two.
    units: Vec<Unit>,
}

#[derive(Default)]
pub(super) struct Pending {
    rows: BTreeMap<usize, Row>,
    turn: u64,
}

impl Pending {
    /// How many rows wait.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row was read. If nothing of it waits, `differing` tells the blocks in which
    /// the matrix has other bytes.
    pub(super) fn put(
        &mut self,
        row: usize,
        bytes: Bytes,
        differing: impl FnOnce(&[u8]) -> Vec<usize>,
    ) {
        let changed: Groups = match self.rows.get(&row) {
            Some(waiting) => differing_groups(&waiting.bytes, &bytes),
            None => differing(&bytes).into_iter().map(|block| block / GROUP).collect(),
        };
        if changed.is_empty() {
            return;
        }
        self.turn += 1;
        let waiting =
            self.rows.entry(row).or_insert(Row { bytes: Bytes::new(), units: Vec::new() });
        waiting.bytes = bytes;
        let mut unit = Unit { groups: changed.clone(), turn: self.turn };
        // Who changes the same again and again does not put it off.
        for joined in waiting.units.extract_if(.., |unit| !unit.groups.is_disjoint(&changed)) {
            unit.turn = unit.turn.min(joined.turn);
            unit.groups.extend(joined.groups);
        }
        waiting.units.push(unit);
    }

    /// The groups of what waits longest; or all in which anything waits, where that
    /// makes clearly more units for each group.
    pub(super) fn next(&self) -> Groups {
        let units = || self.rows.values().flat_map(|row| &row.units);
        let Some(oldest) = units().min_by_key(|unit| unit.turn) else { return Groups::new() };
        let all: Groups = units().flat_map(|unit| unit.groups.iter().copied()).collect();
        let groups = &oldest.groups;
        let joined = units().filter(|unit| unit.groups.is_subset(groups)).count();
        let few = 4 * joined * all.len() < 3 * units().count() * groups.len();
        if few { all } else { groups.clone() }
    }

    /// All that changes in these groups only.
    pub(super) fn parts(&self, groups: &Groups) -> Vec<Part<Bytes>> {
        let part = |row, bytes: &Bytes, group: usize| {
            let block = group * GROUP;
            let end = bytes.len().min((block + GROUP) * RING);
            Part { row, block, bytes: bytes.slice(block * RING..end) }
        };
        let mut parts = Vec::new();
        for (number, row) in &self.rows {
            let units = row.units.iter().filter(|unit| unit.groups.is_subset(groups));
            let groups = units.flat_map(|unit| &unit.groups);
            parts.extend(groups.map(|group| part(*number, &row.bytes, *group)));
        }
        parts
    }

    /// All that changes in these groups only is in the matrix now.
    pub(super) fn placed(&mut self, groups: &Groups) {
        self.rows.retain(|_, row| {
            row.units.retain(|unit| !unit.groups.is_subset(groups));
            !row.units.is_empty()
        });
    }
}

fn differing_groups(one: &[u8], other: &[u8]) -> Groups {
    let chunks = one.chunks(GROUP * RING).zip(other.chunks(GROUP * RING)).enumerate();
    chunks.filter(|(_, (one, other))| one != other).map(|(group, _)| group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 24;

    /// A row that has this byte in these blocks, and otherwise zeros.
    fn row(byte: u8, blocks: &[usize]) -> Bytes {
        let mut bytes = vec![0; BLOCKS * RING];
        for block in blocks {
            bytes[block * RING..][..RING].fill(byte);
        }
        bytes.into()
    }

    /// Beside a matrix of zeros.
    fn put(pending: &mut Pending, number: usize, byte: u8, blocks: &[usize]) {
        pending.put(number, row(byte, blocks), |_| blocks.to_vec());
    }

    /// The rows and groups that come next, each of them once.
    fn taken(pending: &mut Pending) -> Vec<(usize, usize)> {
        let groups = pending.next();
        let parts = pending.parts(&groups);
        pending.placed(&groups);
        parts.iter().map(|part| (part.row, part.block / GROUP)).collect()
    }

    #[test]
    fn the_oldest_is_taken_with_what_changes_nowhere_else() {
        assert_eq!(GROUP, 3);
        let mut pending = Pending::default();
        put(&mut pending, 9, 1, &[20]);
        put(&mut pending, 8, 1, &[18, 19]);
        put(&mut pending, 1, 1, &[0, 1]);
        put(&mut pending, 2, 1, &[2]);
        put(&mut pending, 3, 1, &[1, 8]);
        put(&mut pending, 7, 1, &[]);
        assert_eq!(pending.len(), 5);
        // Changed again it keeps its turn, and is taken as it is now.
        put(&mut pending, 9, 2, &[20]);
        let groups = pending.next();
        let nine = pending.parts(&groups).pop().unwrap();
        assert_eq!((nine.row, nine.block), (9, 18));
        assert_eq!(nine.bytes, row(2, &[20]).slice(18 * RING..21 * RING));
        assert_eq!(taken(&mut pending), [(8, 6), (9, 6)]);
        assert_eq!(taken(&mut pending), [(1, 0), (2, 0)], "3 changes elsewhere, too");
        assert_eq!(taken(&mut pending), [(3, 0), (3, 2)]);
        assert_eq!((taken(&mut pending), pending.len()), (vec![], 0));
    }

    #[test]
    fn what_was_read_at_once_stays_together_and_other_changes_of_the_row_apart() {
        let mut pending = Pending::default();
        put(&mut pending, 5, 1, &[0, 8]);
        put(&mut pending, 5, 1, &[0, 8, 15]);
        assert_eq!(taken(&mut pending), [(5, 0), (5, 2)]);
        // The rest of the row waits on, and another reading joins what it overlaps.
        put(&mut pending, 3, 1, &[15]);
        put(&mut pending, 4, 1, &[22]);
        put(&mut pending, 5, 1, &[0, 3, 8, 16]);
        put(&mut pending, 5, 1, &[0, 3, 8, 16, 23]);
        assert_eq!(pending.len(), 3);
        assert_eq!(taken(&mut pending), [(3, 5), (5, 1), (5, 5)]);
        assert_eq!(taken(&mut pending), [(4, 7), (5, 7)]);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn what_is_not_placed_waits_on() {
        let mut pending = Pending::default();
        put(&mut pending, 5, 1, &[0]);
        let groups = pending.next();
        assert_eq!(pending.parts(&groups).len(), 1);
        assert_eq!((pending.next(), pending.len()), (groups, 1));
        // Back to what the matrix has.
        put(&mut pending, 5, 0, &[]);
        assert_eq!(taken(&mut pending), [(5, 0)]);
    }

    #[test]
    fn where_little_changes_in_the_same_groups_all_is_taken() {
        let mut pending = Pending::default();
        let blocks: [&[usize]; 6] = [&[0], &[3], &[0, 3, 6], &[0, 9], &[3, 6], &[6, 9]];
        for (row, blocks) in (1..).zip(blocks) {
            put(&mut pending, row, 1, blocks);
        }
        let rows: Groups = taken(&mut pending).into_iter().map(|(row, _)| row).collect();
        assert!(rows.into_iter().eq(1..=6));
        assert_eq!(pending.len(), 0);
    }
}
