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
    };

    use super::*;

    /// Two who read in turns, so that there is never nobody, and one who writes:
    /// he gets in after those who were there, each time.
    #[test]
    fn who_writes_is_not_kept_out_by_who_reads() {
        let shared = Shared::new(0_u64);
        let (stop, begun) = (AtomicBool::new(false), AtomicU64::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let content = shared.read();
                        begun.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(std::time::Duration::from_millis(2));
                        drop(content);
                    }
                });
            }
            while begun.load(Ordering::Relaxed) < 2 {
                thread::yield_now();
            }
            let before = begun.load(Ordering::Relaxed);
            for _ in 0..50 {
                *shared.write() += 1;
            }
            let passed = begun.load(Ordering::Relaxed) - before;
            stop.store(true, Ordering::Relaxed);
            // Between two writes each reader may come in some times, not for ever.
            assert!(passed < 50 * 50, "{passed} came in before 50 writes");
        });
        assert_eq!(*shared.read(), 50);
    }
}
