//! Rows that changed and are not in the matrix yet, and which of them are put in
//! place together: a row always whole, with those that change nowhere else or with
//! all, so that each is there soon.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{bucket::ENTRY_BYTES, pir::RING};

/// Blocks that hold whole entries, so that no entry joins one group to the next.
const GROUP: usize = {
    let mut blocks = 1;
    while !(blocks * RING).is_multiple_of(ENTRY_BYTES) {
        blocks += 1;
    }
    blocks
};

struct Row {
    bytes: Bytes,
    /// Where it is other than the matrix.
    groups: BTreeSet<usize>,
    /// When it came, counted.
    turn: u64,
}

#[derive(Default)]
pub(super) struct Pending {
    rows: BTreeMap<usize, Row>,
    turn: u64,
}

impl Pending {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row has these bytes now, other than the matrix in some blocks; in none, if
    /// it is as the matrix again.
    pub(super) fn put(&mut self, row: usize, bytes: Bytes, blocks: &[usize]) {
        if blocks.is_empty() {
            self.rows.remove(&row);
            return;
        }
        self.turn += 1;
        // Who changes it again and again does not put it off.
        let turn = self.rows.get(&row).map_or(self.turn, |waiting| waiting.turn);
        let groups = blocks.iter().map(|block| block / GROUP).collect();
        self.rows.insert(row, Row { bytes, groups, turn });
    }

    /// Takes out the row that waits longest, and all that change in no other group
    /// than it does; or everything, where that makes clearly more rows for each
    /// group.
    pub(super) fn take(&mut self) -> Vec<(usize, Bytes)> {
        let Some(oldest) = self.rows.values().min_by_key(|row| row.turn) else {
            return Vec::new();
        };
        let all: BTreeSet<usize> =
            self.rows.values().flat_map(|row| row.groups.iter().copied()).collect();
        let groups = &oldest.groups;
        let joined = self.rows.values().filter(|row| row.groups.is_subset(groups)).count();
        let few = 4 * joined * all.len() < 3 * self.rows.len() * groups.len();
        let groups = if few { all } else { groups.clone() };
        let (taken, left): (BTreeMap<_, _>, _) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|(_, row)| row.groups.is_subset(&groups));
        self.rows = left;
        taken.into_iter().map(|(number, row)| (number, row.bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(pending: &mut Pending, row: u8, blocks: &[usize]) {
        pending.put(row.into(), vec![row].into(), blocks);
    }

    fn taken(pending: &mut Pending) -> Vec<usize> {
        pending.take().into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn the_oldest_is_taken_with_those_that_change_nowhere_else() {
        assert_eq!(GROUP, 3);
        let mut pending = Pending::default();
        put(&mut pending, 9, &[20]);
        put(&mut pending, 8, &[18, 19]);
        put(&mut pending, 1, &[0, 1]);
        put(&mut pending, 2, &[2]);
        put(&mut pending, 3, &[1, 8]);
        put(&mut pending, 7, &[]);
        assert_eq!(pending.len(), 5);
        // Changed again it keeps its turn, and is taken as it is now.
        pending.put(9, vec![19].into(), &[20]);
        assert_eq!(pending.take(), [(8, vec![8].into()), (9, vec![19].into())]);
        assert_eq!(taken(&mut pending), [1, 2], "3 changes elsewhere, too");
        // As the matrix has it again.
        put(&mut pending, 3, &[]);
        assert!(taken(&mut pending).is_empty());
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn where_few_change_in_the_same_groups_all_are_taken() {
        let mut pending = Pending::default();
        let blocks: [&[usize]; 6] = [&[0], &[3], &[0, 3, 6], &[0, 9], &[3, 6], &[6, 9]];
        for (row, blocks) in (1..).zip(blocks) {
            put(&mut pending, row, blocks);
        }
        assert_eq!(taken(&mut pending), [1, 2, 3, 4, 5, 6]);
        assert_eq!(pending.len(), 0);
    }
}
