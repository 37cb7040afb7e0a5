//! Who may change a bucket: one at a time within this process, so that changes
//! of one bucket need not race each other's versions. Buckets do not wait for
//! one another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use crate::bucket::BucketNumber;

/// Turns that are remembered at least before those nobody waits for are
/// forgotten.
const MIN_REMEMBERED: usize = 1024;

/// What holders of a turn hold: whoever has it locked may change the bucket.
type Turn = tokio::sync::Mutex<()>;

/// The turns of all buckets that are being changed.
#[derive(Default)]
pub(super) struct Turns(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    turns: HashMap<BucketNumber, Weak<Turn>>,
    forget_at: usize,
}

impl Turns {
    /// The turn of a bucket, to be locked.
    pub(super) fn of(&self, number: BucketNumber) -> Arc<Turn> {
        // Nothing panics while the lock is held.
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = inner.turns.get(&number).and_then(Weak::upgrade) {
            return turn;
        }
        if inner.turns.len() >= inner.forget_at {
            inner.turns.retain(|_, turn| turn.strong_count() > 0);
            inner.forget_at = (inner.turns.len() * 2).max(MIN_REMEMBERED);
        }
        let turn = Arc::default();
        inner.turns.insert(number, Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::PrefixBits;

    fn number(number: u32) -> BucketNumber {
        BucketNumber::new(number, PrefixBits::new(32).unwrap()).unwrap()
    }

    #[test]
    fn a_bucket_has_one_turn_and_another_bucket_another() {
        let turns = Turns::default();
        let turn = turns.of(number(1));
        let held = turn.try_lock().unwrap();
        assert!(turns.of(number(1)).try_lock().is_err());
        assert!(turns.of(number(2)).try_lock().is_ok());
        drop(held);
        assert!(turns.of(number(1)).try_lock().is_ok());
    }

    #[test]
    fn turns_that_nobody_holds_are_forgotten() {
        let turns = Turns::default();
        let kept = turns.of(number(0));
        for n in 1..100_000 {
            drop(turns.of(number(n)));
        }
        let remembered = turns.0.lock().unwrap().turns.len();
        assert!(remembered <= MIN_REMEMBERED, "{remembered}");
        assert!(Arc::ptr_eq(&kept, &turns.of(number(0))));
    }
}
