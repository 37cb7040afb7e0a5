//! The arithmetic of a lookup, off the threads that talk to peers: on as many
//! threads as there are cores, which take one batch after another from a short
//! queue; beyond it a refusal.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crossbeam_channel::{Sender, unbounded};
use tokio::sync::oneshot;

/// Why a batch was not evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum EvaluatorError {
    /// The queue is full.
    #[error("too many evaluations wait")]
    Busy,
    /// The work panicked.
    #[error("the evaluation did not end")]
    Stopped,
}

/// Work that waits for a thread, while its caller waits for it.
#[derive(Clone)]
struct Waiting(Arc<Mutex<Option<Work>>>);

type Work = Box<dyn FnOnce() + Send>;

impl Waiting {
    fn new(work: impl FnOnce() + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(work)))))
    }

    fn take(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A caller who waits, and takes its work along when it goes.
struct Caller(Waiting);

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// Runs batches. Its threads end with it.
pub(super) struct Evaluator {
    /// The sizes of all that run or wait.
    admitted: Arc<AtomicUsize>,
    most: usize,
    queue: Sender<Waiting>,
}

impl Evaluator {
    /// `threads` batches run, `queued` more of size 1 wait for each.
    pub(super) fn new(threads: usize, queued: usize) -> io::Result<Self> {
        let (queue, waiting) = unbounded::<Waiting>();
        for _ in 0..threads {
            let waiting = waiting.clone();
            let run = move || {
                for work in waiting.iter().filter_map(|waiting| waiting.take()) {
                    // Whoever waits for it learns that it did not end.
                    let _ = catch_unwind(AssertUnwindSafe(work));
                }
            };
            thread::Builder::new().name("evaluate".into()).spawn(run)?;
        }
        let most = threads.saturating_mul(queued.saturating_add(1));
        Ok(Self { admitted: Arc::default(), most, queue })
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
    /// up leaves the queue; what runs then runs on.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        size: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, EvaluatorError> {
        let admitted = self.admit(size)?;
        let (reply, result) = oneshot::channel();
        let waiting = Waiting::new(move || {
            let result = {
                let _admitted = admitted;
                work()
            };
            // Its caller may be gone.
            let _ = reply.send(result);
        });
        let _caller = Caller(waiting.clone());
        self.queue.send(waiting).map_err(|_| EvaluatorError::Stopped)?;
        result.await.map_err(|_| EvaluatorError::Stopped)
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
    use std::{
        pin::Pin,
        sync::mpsc,
        task::{Context, Poll, Waker},
    };

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn work_beyond_the_queue_is_refused_and_room_comes_back() {
        let evaluator = Arc::new(Evaluator::new(1, 1).unwrap());
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
        let evaluator = Evaluator::new(1, 4).unwrap();
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
        let evaluator = Evaluator::new(1, 0).unwrap();
        let panicked = evaluator.run(1, || panic!("on purpose")).await;
        assert_eq!(panicked, Err(EvaluatorError::Stopped));
        assert_eq!(evaluator.run(1, || 5).await, Ok(5));
    }

    #[tokio::test]
    async fn a_caller_who_gives_up_leaves_the_queue_with_its_work() {
        let evaluator = Evaluator::new(1, 1).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let mut first = Box::pin(evaluator.run(1, move || held.recv().unwrap()));
        assert!(poll(&mut first).is_none());
        let mine = Arc::new(());
        let work = Arc::clone(&mine);
        let mut second = Box::pin(evaluator.run(1, move || drop(work)));
        assert!(poll(&mut second).is_none() && evaluator.is_full());
        drop(second);
        assert!(!evaluator.is_full());
        assert_eq!(Arc::strong_count(&mine), 1, "its work is dropped, and never run");
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(()));
        assert_eq!(evaluator.run(1, || 5).await, Ok(5));
    }

    /// The result of work, if it is there already.
    fn poll<T>(running: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
        match Pin::new(running).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }
}
