//! The queries that wait, and who answers them: few threads, so that buckets are
//! served meanwhile, and several queries in one pass over the memory.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{PirError, shared::Shared};
use crate::{
    pir::{BATCH, Matrix, Query, QueryError},
    server::{
        metrics::Metrics,
        quota::{Paid, Returning},
    },
};

type Reply = oneshot::Sender<Result<(Bytes, Paid), QueryError>>;

/// A query that waits.
struct Waiting {
    query: Bytes,
    /// Given back to who leaves the queue.
    paid: Returning,
    reply: Reply,
    since: Instant,
}

struct Queues {
    /// By partition.
    waiting: Vec<VecDeque<Waiting>>,
    running: usize,
}

/// Answers queries over the matrices of a directory.
pub(super) struct Answers {
    /// By partition; not there until it is made.
    matrices: Vec<OnceLock<Shared<Matrix>>>,
    queues: Mutex<Queues>,
    threads: usize,
    max_waiting: usize,
    metrics: Arc<Metrics>,
}

impl Answers {
    pub(super) fn new(
        partitions: u32,
        threads: usize,
        max_waiting: usize,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            matrices: (0..partitions).map(|_| OnceLock::new()).collect(),
            queues: Mutex::new(Queues {
                waiting: (0..partitions).map(|_| VecDeque::new()).collect(),
                running: 0,
            }),
            threads,
            max_waiting,
            metrics,
        }
    }

    /// A matrix is there, and is answered from.
    pub(super) fn put(&self, partition: u32, matrix: Matrix) {
        if let Some(place) = self.matrices.get(partition as usize) {
            // Each is made once.
            let _ = place.set(Shared::new(matrix));
        }
    }

    /// The matrix of a partition, once it is there.
    pub(super) fn matrix(&self, partition: u32) -> Option<&Shared<Matrix>> {
        self.matrices.get(partition as usize)?.get()
    }

    /// Answers a query when it is its turn. A caller who gives up leaves the queue.
    pub(super) async fn answer(
        self: &Arc<Self>,
        partition: u32,
        query: Bytes,
        paid: Returning,
    ) -> Result<(Bytes, Paid), PirError> {
        if self.matrix(partition).is_none() {
            return Err(PirError::NotReady);
        }
        let (reply, answer) = oneshot::channel();
        {
            let mut queues = self.queues();
            let Queues { waiting, running } = &mut *queues;
            let queue = waiting.get_mut(partition as usize).ok_or(PirError::NotReady)?;
            if queue.len() >= self.max_waiting {
                queue.retain(|waiting| !waiting.reply.is_closed());
            }
            if queue.len() >= self.max_waiting {
                self.metrics.query_refused();
                return Err(PirError::Busy);
            }
            queue.push_back(Waiting { query, paid, reply, since: Instant::now() });
            if *running < self.threads {
                *running += 1;
                let answers = Arc::clone(self);
                // It runs while there is something to do.
                tokio::task::spawn_blocking(move || answers.work());
            }
            self.metrics.queries_waiting(waiting.iter().map(VecDeque::len).sum());
        }
        Ok(answer.await.map_err(|_| PirError::Stopped)??)
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut at_work = AtWork { answers: self, left: false };
        while let Some((partition, batch)) = at_work.next() {
            self.answer_together(partition, batch);
        }
    }

    /// Answers the queries of one partition that waited together.
    fn answer_together(&self, partition: usize, batch: Vec<Waiting>) {
        let Some(matrix) = self.matrices.get(partition).and_then(OnceLock::get) else { return };
        // One state of the matrix for the whole of each answer.
        let matrix = matrix.read();
        let mut good = Vec::with_capacity(batch.len());
        for Waiting { query, paid, reply, .. } in batch {
            match Query::parse(matrix.shape(), &query) {
                // From here on it is paid for.
                Ok(query) => good.push((query, (paid.keep(), reply))),
                Err(error) => {
                    // Given back before anybody hears of it.
                    drop(paid);
                    // A caller that went away needs no answer, here and below.
                    drop(reply.send(Err(error)));
                }
            }
        }
        let queries: Vec<&Query> = good.iter().map(|(query, _)| query).collect();
        let begun = Instant::now();
        let answers = matrix.answer(&queries);
        drop(matrix);
        self.metrics.queries_answered(answers.len(), begun.elapsed());
        for ((_, (paid, reply)), answer) in good.into_iter().zip(answers) {
            drop(reply.send(Ok((answer.into(), paid))));
        }
    }
}

/// A thread at work, counted even if it panics.
struct AtWork<'a> {
    answers: &'a Answers,
    left: bool,
}

impl AtWork<'_> {
    /// The queries to answer next: of the partition whose first waits longest. If
    /// there are none this thread is not at work any more.
    fn next(&mut self) -> Option<(usize, Vec<Waiting>)> {
        let mut queues = self.answers.queues();
        let Queues { waiting, running } = &mut *queues;
        for queue in waiting.iter_mut() {
            // Who gave up, or whose deadline passed, costs nothing.
            queue.retain(|waiting| !waiting.reply.is_closed());
        }
        let firsts = waiting.iter_mut().enumerate().filter(|(_, queue)| !queue.is_empty());
        let next = firsts.min_by_key(|(_, queue)| queue.front().map(|waiting| waiting.since));
        let batch = next
            .map(|(partition, queue)| (partition, queue.drain(..queue.len().min(BATCH)).collect()));
        if batch.is_none() {
            *running -= 1;
            self.left = true;
        }
        self.answers.metrics.queries_waiting(waiting.iter().map(VecDeque::len).sum());
        batch
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.answers.queues().running -= 1;
        }
    }
}
