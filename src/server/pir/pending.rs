//! Rows that changed and are not in the matrix yet, and which parts of them are
//! put in place together: all that lie in one group of blocks, so that each is
//! there soon. An entry is whole in its group, and a change touches no entry but
//! its own: a row that is new in one group and old in another is as if its
//! changes had come in another order.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use bytes::Bytes;

use crate::{bucket::ENTRY_BYTES, pir::RING};

/// Blocks that hold whole entries, so that no entry joins one group to the next.
pub(super) const GROUP: usize = {
    let mut blocks = 1;
    while !(blocks * RING).is_multiple_of(ENTRY_BYTES) {
        blocks += 1;
    }
    blocks
};

struct Row {
    bytes: Bytes,
    /// Where it is other than the matrix, and when that came, counted.
    groups: BTreeMap<usize, u64>,
}

/// What is put in place together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) blocks: Range<usize>,
    /// Rows that change there, whole.
    pub(super) rows: Vec<(usize, Bytes)>,
}

#[derive(Default)]
pub(super) struct Pending {
    rows: BTreeMap<usize, Row>,
    turn: u64,
}

impl Pending {
    /// Rows of which something waits.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// A row has these bytes now, other than the matrix in some blocks; in none, if
    /// it is as the matrix again.
    pub(super) fn put(&mut self, row: usize, bytes: Bytes, blocks: &[usize]) {
        let before = self.rows.remove(&row).map(|row| row.groups).unwrap_or_default();
        if blocks.is_empty() {
            return;
        }
        self.turn += 1;
        let groups: BTreeSet<usize> = blocks.iter().map(|block| block / GROUP).collect();
        // Who changes it again and again does not put it off.
        let turn = |group| before.get(&group).copied().unwrap_or(self.turn);
        let groups = groups.into_iter().map(|group| (group, turn(group))).collect();
        self.rows.insert(row, Row { bytes, groups });
    }

    /// Takes out the part that waits longest, and all that lies in the same group.
    pub(super) fn take(&mut self) -> Option<Part> {
        let waiting = self.rows.values().flat_map(|row| &row.groups);
        let (group, _) = waiting.min_by_key(|(_, turn)| **turn)?;
        let group = *group;
        let mut rows = Vec::new();
        self.rows.retain(|number, row| {
            if row.groups.remove(&group).is_some() {
                rows.push((*number, row.bytes.clone()));
            }
            !row.groups.is_empty()
        });
        Some(Part { blocks: group * GROUP..(group + 1) * GROUP, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(pending: &mut Pending, row: u8, blocks: &[usize]) {
        pending.put(row.into(), vec![row].into(), blocks);
    }

    fn taken(pending: &mut Pending) -> (Range<usize>, Vec<usize>) {
        let part = pending.take().unwrap();
        (part.blocks, part.rows.into_iter().map(|(row, _)| row).collect())
    }

    #[test]
    fn parts_that_share_a_group_are_taken_together_and_the_oldest_first() {
        assert_eq!(GROUP, 3);
        let mut pending = Pending::default();
        put(&mut pending, 9, &[20]);
        put(&mut pending, 1, &[0, 1, 8]);
        put(&mut pending, 2, &[2]);
        put(&mut pending, 3, &[3, 8]);
        put(&mut pending, 7, &[]);
        assert_eq!(pending.len(), 4);
        // Changed again it keeps its turn, and is taken as it is now.
        pending.put(9, vec![19].into(), &[19, 21]);
        let rows = vec![(9, vec![19].into())];
        assert_eq!(pending.take(), Some(Part { blocks: 18..21, rows }));
        assert_eq!(taken(&mut pending), (0..3, vec![1, 2]));
        assert_eq!(pending.len(), 3, "the rest of 1 and 9 waits, and 3");
        assert_eq!(taken(&mut pending), (6..9, vec![1, 3]));
        assert_eq!(taken(&mut pending), (3..6, vec![3]));
        assert_eq!(taken(&mut pending), (21..24, vec![9]));
        assert_eq!((pending.len(), pending.take()), (0, None));
    }

    #[test]
    fn what_is_as_the_matrix_again_is_not_taken() {
        let mut pending = Pending::default();
        put(&mut pending, 1, &[0, 3]);
        put(&mut pending, 1, &[3]);
        put(&mut pending, 2, &[6]);
        put(&mut pending, 2, &[]);
        assert_eq!(taken(&mut pending), (3..6, vec![1]));
        assert_eq!(pending.take(), None);
    }
}
