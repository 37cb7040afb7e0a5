//! What invalidations said: of each bucket that somebody here holds an answer
//! of, or waits for one, the version that it changed to.
//!
//! A mark is taken before a bucket is asked for, so that no change slips in
//! between; whoever holds it sees every later change of the bucket.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::versions::Place;
use crate::{
    bucket::{BucketNumber, PrefixBits},
    wire::Invalidation,
};

/// How many changes of buckets that nobody holds are remembered: an answer that
/// comes from before them is marked all the same.
const RECENT: usize = 8192;

/// The version of a bucket of which any version may be out of date.
const EVERYTHING: u64 = u64::MAX;

/// How far a row that is retrieved may be behind its bucket: the server has ten
/// seconds to follow a change, and the change may be told before.
const BEHIND: Duration = Duration::from_secs(60);

/// The highest version that an invalidation named; 0 for none.
#[derive(Default)]
pub(super) struct Mark {
    version: AtomicU64,
    /// When it was told.
    raised: Mutex<Option<Instant>>,
}

impl Mark {
    /// Whether an answer of this version is out of date.
    pub(super) fn is_after(&self, version: u64) -> bool {
        self.get() > version
    }

    pub(super) fn get(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The version that a row counts as which is asked for now and does not say
    /// its own: after a change that was just told it may still be the one before,
    /// and counts as out of date.
    pub(super) fn settled(&self) -> u64 {
        let raised = *self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = raised.is_some_and(|raised| raised.elapsed() < BEHIND);
        self.get().saturating_sub(is_new.into())
    }

    fn raise(&self, version: u64) {
        if self.version.fetch_max(version, Ordering::AcqRel) < version {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
    }
}

#[derive(Default)]
struct Table {
    /// Everybody's marks; those that nobody holds are dropped now and then.
    marks: HashMap<Place, Weak<Mark>>,
    /// Holds the latest.
    recent: VecDeque<Arc<Mark>>,
    /// How many marks there may be before the next clearing.
    room: usize,
}

impl Table {
    fn mark(&mut self, place: Place) -> Arc<Mark> {
        if let Some(mark) = self.marks.get(&place).and_then(Weak::upgrade) {
            return mark;
        }
        if self.marks.len() >= self.room {
            self.marks.retain(|_, mark| mark.strong_count() > 0);
            self.room = 2 * self.marks.len() + RECENT;
        }
        let mark = Arc::new(Mark::default());
        self.marks.insert(place, Arc::downgrade(&mark));
        mark
    }
}

/// The marks of one directory.
#[derive(Default)]
pub(super) struct Marks(Mutex<Table>);

impl Marks {
    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves at worst a mark that nobody holds.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marks of some buckets, from now on.
    pub(super) fn of(
        &self,
        bits: PrefixBits,
        numbers: impl Iterator<Item = BucketNumber>,
    ) -> Vec<Arc<Mark>> {
        let mut table = self.table();
        numbers.map(|number| table.mark((bits, number))).collect()
    }

    /// A mark as it was stored.
    pub(super) fn restore(&self, place: Place, version: u64) -> Arc<Mark> {
        if version == EVERYTHING {
            // An answer that came later may be of the same bucket, and good.
            return Arc::new(Mark { version: EVERYTHING.into(), raised: Mutex::default() });
        }
        let mark = self.table().mark(place);
        mark.version.fetch_max(version, Ordering::AcqRel);
        mark
    }

    /// Buckets changed.
    pub(super) fn changed(&self, bits: PrefixBits, changed: &[Invalidation]) {
        let mut table = self.table();
        for Invalidation { number, version } in changed {
            let mark = table.mark((bits, *number));
            mark.raise(*version);
            table.recent.push_back(mark);
        }
        let over = table.recent.len().saturating_sub(RECENT);
        table.recent.drain(..over);
    }

    /// Any bucket may have changed. What is asked for from now on has new marks.
    pub(super) fn everything(&self) {
        let mut table = self.table();
        for mark in table.marks.drain().filter_map(|(_, mark)| mark.upgrade()) {
            mark.raise(EVERYTHING);
        }
        table.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(bits: u32) -> PrefixBits {
        PrefixBits::new(bits).unwrap()
    }

    fn number(number: u32) -> BucketNumber {
        BucketNumber::new(number, bits(20)).unwrap()
    }

    fn mark(marks: &Marks, n: u32) -> Arc<Mark> {
        marks.of(bits(20), [number(n)].into_iter()).remove(0)
    }

    fn change(marks: &Marks, n: u32, version: u64) {
        marks.changed(bits(20), &[Invalidation { number: number(n), version }]);
    }

    #[test]
    fn whoever_holds_a_mark_sees_the_changes_of_its_bucket_and_of_no_other() {
        let marks = Marks::default();
        let (one, other) = (mark(&marks, 1), mark(&marks, 2));
        change(&marks, 1, 5);
        change(&marks, 1, 3);
        assert_eq!((one.get(), other.get()), (5, 0));
        assert!(one.is_after(4));
        assert!(!one.is_after(5));
        marks.changed(bits(21), &[Invalidation { number: number(1), version: 9 }]);
        assert_eq!(one.get(), 5);
    }

    #[test]
    fn a_row_that_is_asked_for_right_after_a_change_counts_as_the_one_before() {
        let marks = Marks::default();
        let one = mark(&marks, 1);
        assert!(!one.is_after(one.settled()));
        change(&marks, 1, 5);
        assert!(one.is_after(one.settled()));
        *one.raised.lock().unwrap() = Instant::now().checked_sub(BEHIND);
        assert!(!one.is_after(one.settled()));
        // What was told before this process began is long past.
        assert_eq!(marks.restore((bits(20), number(2)), 7).settled(), 7);
    }

    #[test]
    fn everything_marks_what_was_asked_for_before_and_nothing_after() {
        let marks = Marks::default();
        let before = mark(&marks, 1);
        marks.everything();
        let after = mark(&marks, 1);
        assert!(before.is_after(u64::MAX - 1));
        assert_eq!(after.get(), 0);
        change(&marks, 1, 7);
        assert_eq!(after.get(), 7);
        assert!(marks.restore((bits(20), number(1)), before.get()).is_after(7));
        assert_eq!(mark(&marks, 1).get(), 7);
    }

    #[test]
    fn a_change_is_remembered_for_a_while_even_if_nobody_held_its_bucket() {
        let marks = Marks::default();
        change(&marks, 0, 9);
        for n in 1..u32::try_from(RECENT).unwrap() {
            change(&marks, n, 1);
        }
        assert_eq!(mark(&marks, 0).get(), 9);
        change(&marks, 1, 2);
        assert_eq!(mark(&marks, 0).get(), 0);
    }

    #[test]
    fn marks_that_nobody_holds_do_not_pile_up() {
        let marks = Marks::default();
        let held = mark(&marks, 0);
        for n in 0..10 * u32::try_from(RECENT).unwrap() {
            change(&marks, n, 4);
        }
        assert_eq!(held.get(), 4);
        assert!(marks.table().marks.len() <= 4 * RECENT);
    }
}
