//! Rows that changed and are not in the matrix yet, and which of them are put in
//! place together: all that share a block, so that no row is ever half new, and
//! no more, so that each is there soon.

use std::collections::{BTreeMap, BTreeSet};

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
    bytes: Vec<u8>,
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
    pub(super) fn put(&mut self, row: usize, bytes: Vec<u8>, blocks: &[usize]) {
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

    /// Takes the row out that waits longest, and all that must come with it.
    pub(super) fn take(&mut self) -> Vec<(usize, Vec<u8>)> {
        let Some(oldest) = self.rows.values().min_by_key(|row| row.turn) else {
            return Vec::new();
        };
        let mut groups = oldest.groups.clone();
        loop {
            let joined = self.rows.values().filter(|row| !row.groups.is_disjoint(&groups));
            let all: BTreeSet<usize> = joined.flat_map(|row| row.groups.iter().copied()).collect();
            if all.len() == groups.len() {
                break;
            }
            groups = all;
        }
        let (taken, left) = std::mem::take(&mut self.rows)
            .into_iter()
            .partition(|(_, row)| !row.groups.is_disjoint(&groups));
        self.rows = left;
        let taken: BTreeMap<usize, Row> = taken;
        taken.into_iter().map(|(number, row)| (number, row.bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pending: &mut Pending) -> Vec<usize> {
        pending.take().into_iter().map(|(row, _)| row).collect()
    }

    #[test]
    fn rows_that_share_blocks_are_taken_together_and_the_oldest_first() {
        assert_eq!(GROUP, 3);
        let mut pending = Pending::default();
        pending.put(9, vec![1], &[20]);
        pending.put(1, vec![1], &[0, 1]);
        pending.put(2, vec![2], &[2]);
        pending.put(3, vec![3], &[3]);
        pending.put(4, vec![4], &[5, 6]);
        pending.put(5, vec![5], &[8]);
        pending.put(6, vec![6], &[9]);
        pending.put(7, vec![7], &[]);
        assert_eq!(pending.len(), 7);
        // Changed again it keeps its turn.
        pending.put(9, vec![9], &[21]);
        assert_eq!(pending.take(), [(9, vec![9])]);
        assert_eq!(taken(&mut pending), [1, 2]);
        // 3 and 4 share one group, 4 and 5 another.
        assert_eq!(taken(&mut pending), [3, 4, 5]);
        // As the matrix has it again.
        pending.put(6, vec![0], &[]);
        assert!(taken(&mut pending).is_empty());
        assert_eq!(pending.len(), 0);
    }
}
