//! The arithmetic of a lookup, off the threads that talk to peers: as many
//! batches at once as there are cores, a short queue, and beyond it a refusal.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{AcquireError, Semaphore};

/// Why a batch was not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EvaluatorError {
    /// The queue is full.
    #[error("too many evaluations wait")]
    Busy,
    /// The work panicked, or the runtime stops.
    #[error("the evaluation did not end")]
    Stopped,
}

/// Runs batches.
pub(super) struct Evaluator {
    /// The sizes of all that run or wait.
    admitted: Arc<AtomicUsize>,
    most: usize,
    running: Arc<Semaphore>,
}

impl Evaluator {
    /// `threads` batches run, `queued` more of size 1 wait for each.
    pub(super) fn new(threads: usize, queued: usize) -> Self {
        Self {
            admitted: Arc::default(),
            most: threads.saturating_mul(queued.saturating_add(1)),
            running: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Whether a batch would be refused now.
    pub(super) fn is_full(&self) -> bool {
        self.admitted.load(Ordering::Relaxed) >= self.most
    }

    /// Takes a batch in while there is any room: the last may need more of it than
    /// there is, so that a large one is not passed by small ones for ever.
    fn admit(&self, size: usize) -> Result<Admitted, EvaluatorError> {
        let more = |now: usize| (now < self.most).then(|| now.saturating_add(size));
        self.admitted
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| EvaluatorError::Busy)?;
        Ok(Admitted { of: self.admitted.clone(), size })
    }

    /// Runs one batch, which takes as long as `size` of size 1. A caller who gives
    /// up leaves the queue.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EvaluatorError> {
        let admitted = self.admit(size)?;
        let running = self.running.clone().acquire_owned().await;
        let running = running.map_err(|AcquireError { .. }| EvaluatorError::Stopped)?;
        tokio::task::spawn_blocking(move || {
            // Given back by the work itself: it runs on when its caller is gone.
            let _permits = (admitted, running);
            work()
        })
        .await
        .map_err(|_| EvaluatorError::Stopped)
    }
}

/// A batch that runs or waits.
struct Admitted {
    of: Arc<AtomicUsize>,
    size: usize,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.of.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_beyond_the_queue_is_refused_and_room_comes_back() {
        let evaluator = Arc::new(Evaluator::new(1, 1));
        let (release, held) = mpsc::channel::<()>();
        let run = |work: Box<dyn FnOnce() + Send>| {
            let evaluator = evaluator.clone();
            tokio::spawn(async move { evaluator.run(1, work).await })
        };
        let first = run(Box::new(move || held.recv().unwrap()));
        let second = run(Box::new(|| ()));
        while !evaluator.is_full() {
            tokio::task::yield_now().await;
        }
        assert_eq!(evaluator.run(1, || ()).await, Err(EvaluatorError::Busy));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(second.await.unwrap(), Ok(()));
        assert_eq!(evaluator.run(1, || 5).await, Ok(5));
        assert!(!evaluator.is_full());
    }

    #[test]
    fn a_large_batch_takes_the_room_of_several_and_the_last_is_taken_in_whole() {
        let evaluator = Evaluator::new(1, 4);
        let first = evaluator.admit(4).unwrap();
        assert!(!evaluator.is_full());
        let last = evaluator.admit(4).unwrap();
        assert!(evaluator.is_full());
        assert_eq!(evaluator.admit(1).err(), Some(EvaluatorError::Busy));
        drop(first);
        let small = evaluator.admit(1).unwrap();
        assert!(evaluator.is_full());
        drop((last, small));
        assert_eq!(evaluator.admitted.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_place_back() {
        let evaluator = Evaluator::new(1, 0);
        let panicked = evaluator.run(1, || panic!("on purpose")).await;
        assert_eq!(panicked, Err(EvaluatorError::Stopped));
        assert_eq!(evaluator.run(1, || 5).await, Ok(5));
    }
}
