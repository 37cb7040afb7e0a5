//! Follows the directory's log of changes, so that a kept answer says when it
//! may be out of date. Nothing that is told here ever causes a question.
//!
//! No change is missed. A mark is taken before its bucket is asked for; what is
//! told is marked, then stored, and only then the checkpoint is stored that
//! lies behind it; a connection that was lost goes on from there. Without a
//! checkpoint nobody knows what changed, and every kept answer counts as stale.

use std::{convert::Infallible, sync::Arc, time::Duration};

use rand::RngExt as _;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::Code;

use super::{
    ClientError, Clock,
    blocking::blocking,
    cache::Cache,
    compiled,
    connect::Pool,
    options::Reconnect,
    state::{Part, Parts},
};
use crate::wire::{Checkpoint, Invalidations, Watch};

/// Checkpoints are stored at least so far apart while the connection holds.
/// What a crash takes with it is told again.
const STORE_EVERY_S: u64 = 10;

/// Whether a [`Follower`] is told what changes.
#[derive(Debug, Clone)]
pub enum Link {
    /// Not yet.
    Connecting,
    /// Every change is told.
    Connected,
    /// Not now: why, and until it is connected again. Nothing is lost.
    Lost(ClientError),
}

impl Link {
    /// Whether every change is told.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// All that following needs; one for all clones of a client.
pub(super) struct Following {
    pool: Arc<Pool>,
    cache: Arc<Cache>,
    parts: Parts,
    reconnect: Reconnect,
    clock: Clock,
    /// The checkpoint that the state holds. Locked by who follows: two would
    /// store over each other.
    checkpoint: tokio::sync::Mutex<Option<Checkpoint>>,
}

impl Following {
    pub(super) async fn load(
        pool: &Arc<Pool>,
        cache: &Arc<Cache>,
        parts: &Parts,
        reconnect: Reconnect,
        clock: Clock,
    ) -> Result<Arc<Self>, ClientError> {
        let part = Part::Checkpoint;
        let checkpoint = match parts.load(part).await? {
            Some(payload) => Some(
                Checkpoint::from_bytes(&payload).map_err(|_| ClientError::StateDamaged(part))?,
            ),
            None => None,
        };
        let (pool, cache, parts) = (Arc::clone(pool), Arc::clone(cache), parts.clone());
        let checkpoint = tokio::sync::Mutex::new(checkpoint);
        Ok(Arc::new(Self { pool, cache, parts, reconnect, clock, checkpoint }))
    }

    /// Has stored what was told before `checkpoint`, then stores it.
    async fn store(
        &self,
        checkpoint: &Checkpoint,
        stored: &mut Option<Checkpoint>,
    ) -> Result<(), ClientError> {
        if stored.as_ref() == Some(checkpoint) {
            return Ok(());
        }
        self.cache.note_marks();
        self.cache.save().await?;
        let (parts, payload) = (self.parts.clone(), checkpoint.to_bytes());
        blocking(move || parts.store(Part::Checkpoint, &payload)).await?;
        *stored = Some(checkpoint.clone());
        Ok(())
    }
}

/// Follows the directory's changes for a client while it runs.
pub struct Follower {
    following: Arc<Following>,
    link: watch::Sender<Link>,
}

impl Follower {
    pub(super) fn new(following: Arc<Following>) -> Self {
        Self { following, link: watch::Sender::new(Link::Connecting) }
    }

    /// Tells whether the follower is connected, from now on.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// Follows for ever: it ends when it is dropped, and goes on from where it
    /// was when it is run again. While another one of the same client runs, it
    /// waits for that one's end.
    pub fn run(self) -> impl Future<Output = Infallible> + Send {
        compiled(self.running())
    }

    async fn running(self) -> Infallible {
        let mut stored = self.following.checkpoint.lock().await;
        let Reconnect { first, longest } = self.following.reconnect;
        let mut pause = first;
        loop {
            let mut latest = stored.clone();
            let mut held = false;
            let mut lost = self.follow(&mut latest, &mut stored, &mut held).await;
            // What is kept until the next time it is due is kept now, instead
            // of being told again.
            if let Some(latest) = latest
                && let Err(error) = self.following.store(&latest, &mut stored).await
            {
                lost = error;
            }
            tracing::debug!(error = %lost, "the directory's changes are not told for now");
            self.link.send_replace(Link::Lost(lost));
            if held {
                pause = first;
            }
            sleep(jittered(pause)).await;
            pause = (2 * pause).min(longest);
        }
    }

    /// Follows one connection until it is lost. `latest` is the last checkpoint
    /// behind which everything is marked; `held`, whether anything was told.
    async fn follow(
        &self,
        latest: &mut Option<Checkpoint>,
        stored: &mut Option<Checkpoint>,
        held: &mut bool,
    ) -> ClientError {
        let Following { pool, cache, clock, .. } = &*self.following;
        let failed = |status| ClientError::from_status(&status, pool.deadline);
        let watch = Watch { checkpoint: latest.clone() };
        let mut stream = match timeout(pool.deadline, pool.watch().ask(watch)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(status)) => {
                let refused = matches!(
                    status.code(),
                    Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange
                );
                if refused {
                    // It cannot go on from there: next time from where it is.
                    *latest = None;
                    *stored = None;
                }
                return failed(status);
            }
            Err(_) => return ClientError::DeadlineExceeded(pool.deadline),
        };
        if latest.is_none() {
            cache.invalidate_everything();
        }
        self.link.send_replace(Link::Connected);
        let mut store_at_s = 0;
        loop {
            let message = match stream.message().await {
                Ok(Some(message)) => message,
                Ok(None) => return ClientError::Unreachable(None),
                Err(status) => return failed(status),
            };
            let known = latest.as_ref().map(Checkpoint::prefix_bits);
            let told = match Invalidations::check(message, known) {
                Ok(told) => told,
                Err(error) => return ClientError::InvalidationsMalformed(error),
            };
            let bits = told.checkpoint.as_ref().map(Checkpoint::prefix_bits).or(known);
            if let Some(bits) = bits {
                cache.invalidate(bits, &told);
            }
            *held = true;
            if told.checkpoint.is_some() {
                *latest = told.checkpoint;
            }
            let now_s = clock.now_s();
            // A clock set back must not put it off for good.
            let due = now_s >= store_at_s || now_s + STORE_EVERY_S < store_at_s;
            if let Some(checkpoint) = latest.as_ref().filter(|_| due) {
                if let Err(error) = self.following.store(checkpoint, stored).await {
                    return error;
                }
                store_at_s = now_s.saturating_add(STORE_EVERY_S);
            }
        }
    }
}

/// Between half and one and a half.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}
