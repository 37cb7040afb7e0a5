//! The arithmetic of a lookup, off the threads that talk to peers: as many
//! batches at once as there are cores, a short queue, and beyond it a refusal.

use std::sync::Arc;

use tokio::sync::{AcquireError, Semaphore, TryAcquireError};

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
    admitted: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl Evaluator {
    /// `threads` batches run, `queued` more wait for each.
    pub(super) fn new(threads: usize, queued: usize) -> Self {
        Self {
            admitted: Arc::new(Semaphore::new(threads.saturating_mul(queued.saturating_add(1)))),
            running: Arc::new(Semaphore::new(threads)),
        }
    }

    /// Whether a batch would be refused now.
    pub(super) fn is_full(&self) -> bool {
        self.admitted.available_permits() == 0
    }

    /// Runs one batch. A caller who gives up leaves the queue.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EvaluatorError> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|error| match error {
            TryAcquireError::NoPermits => EvaluatorError::Busy,
            TryAcquireError::Closed => EvaluatorError::Stopped,
        })?;
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
            tokio::spawn(async move { evaluator.run(work).await })
        };
        let first = run(Box::new(move || held.recv().unwrap()));
        let second = run(Box::new(|| ()));
        while evaluator.admitted.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(evaluator.is_full());
        assert_eq!(evaluator.run(|| ()).await, Err(EvaluatorError::Busy));
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(()));
        assert_eq!(second.await.unwrap(), Ok(()));
        assert_eq!(evaluator.run(|| 5).await, Ok(5));
        assert!(!evaluator.is_full());
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_place_back() {
        let evaluator = Evaluator::new(1, 0);
        assert_eq!(evaluator.run(|| panic!("on purpose")).await, Err(EvaluatorError::Stopped));
        assert_eq!(evaluator.run(|| 5).await, Ok(5));
    }
}
