//! A lock for many who read and one who writes, who waits no longer than for
//! those that read already.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is read under way and changed between. The standard lock alone lets those
/// who read one after another without a pause keep the writer out for seconds.
pub(super) struct Shared<T> {
    /// Held by who comes next; a writer holds it until all have left.
    turn: Mutex<()>,
    content: RwLock<T>,
}

impl<T> Shared<T> {
    pub(super) const fn new(content: T) -> Self {
        Self { turn: Mutex::new(()), content: RwLock::new(content) }
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, T> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.content.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        thread,
        time::Duration,
    };

    use super::*;

    /// One who reads again and again without a pause, and one who writes: he gets in
    /// after the one reading that was under way.
    #[test]
    fn who_writes_is_not_kept_out_by_who_reads() {
        const WRITES: u64 = 50;
        let shared = Shared::new(0_u64);
        let (stop, begun) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let content = shared.read();
                    begun.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(2));
                    drop(content);
                }
            });
            let mut passed = 0;
            for _ in 0..WRITES {
                let before = begun.load(Ordering::Relaxed);
                while begun.load(Ordering::Relaxed) == before {
                    thread::yield_now();
                }
                let before = begun.load(Ordering::Relaxed);
                *shared.write() += 1;
                passed += begun.load(Ordering::Relaxed) - before;
            }
            stop.store(true, Ordering::Relaxed);
            assert!(passed < WRITES, "{passed} readings came in before {WRITES} writes");
        });
        assert_eq!(*shared.read(), WRITES);
    }
}
