//! One connection under watch: when it last gave a sign, what its peer owes,
//! and when it has to go. A peer owes a request that it began, and the taking
//! of every piece of an answer; who owes for too long is cut off.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep},
};

use super::ServerOptions;

/// Bytes of the HTTP/2 client preface, RFC 9113 section 3.4.
const PREFACE_BYTES: u64 = 24;

/// What a peer may take the time for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    handshake: Duration,
    stall: Duration,
    idle: Duration,
    silence: Duration,
}

impl Patience {
    pub(super) fn of(options: &ServerOptions) -> Self {
        Self {
            handshake: options.handshake_timeout,
            stall: options.stall_timeout,
            idle: options.idle_timeout,
            // HTTP/2 itself closes a connection whose ping is not answered;
            // this catches one whose ping cannot even be written.
            silence: options.keepalive_interval * 2 + options.keepalive_timeout,
        }
    }

    /// How often to look.
    fn pace(&self) -> Duration {
        let shortest = self.handshake.min(self.stall).min(self.idle).min(self.silence);
        (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(5))
    }
}

/// Why a connection has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// No HTTP/2 preface came.
    NoPreface,
    /// The peer owed too long.
    Stalled,
    /// Nothing came for too long, not even the answer to a ping.
    Silent,
    /// No call for too long: it may end in good order.
    Idle,
    /// The peer began calls and called them off, again and again.
    Resets,
}

/// Calls that a peer may call off beyond those that it lets end, before its
/// connection is closed. To begin a call costs a peer next to nothing; whoever
/// takes each back at once has the server do all the work there is
/// (CVE-2023-44487, and CVE-2025-8671 where the peer has the server reset them).
const MAX_CALLED_OFF: usize = 256;

/// How soon one that was called off is forgotten.
const FORGET: Duration = Duration::from_millis(100);

/// What is known of one connection.
pub(super) struct Connection {
    /// Counts the connections of this server.
    pub(super) id: u64,
    accepted: Instant,
    read_bytes: AtomicU64,
    /// Milliseconds after `accepted`.
    last_read_ms: AtomicU64,
    last_call_ms: AtomicU64,
    calls: AtomicUsize,
    debts: Mutex<Debts>,
    called_off: Mutex<CalledOff>,
    resets: Notify,
}

/// How many calls were called off, less those that ended and those that are
/// forgotten.
struct CalledOff {
    count: usize,
    since: Instant,
}

#[derive(Default)]
struct Debts {
    next: u64,
    /// Since when, in order: the first is the oldest.
    owed: BTreeMap<u64, Instant>,
}

impl Connection {
    pub(super) fn new(id: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            accepted: Instant::now(),
            read_bytes: AtomicU64::new(0),
            last_read_ms: AtomicU64::new(0),
            last_call_ms: AtomicU64::new(0),
            calls: AtomicUsize::new(0),
            debts: Mutex::default(),
            called_off: Mutex::new(CalledOff { count: 0, since: Instant::now() }),
            resets: Notify::new(),
        })
    }

    /// The peer owes something from now on, until the debt is dropped.
    pub(super) fn owe(self: &Arc<Self>) -> Debt {
        let mut debts = self.debts();
        let id = debts.next;
        debts.next += 1;
        debts.owed.insert(id, Instant::now());
        drop(debts);
        Debt { connection: self.clone(), id }
    }

    /// A call begins; it ends when the guard is dropped.
    pub(super) fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Call {
            connection: self.clone(),
            begun: Instant::now(),
            deadline: None,
            ended: AtomicBool::new(false),
        }
    }

    /// A call is over, and the peer let it end or did not.
    fn over(&self, ended: bool) {
        let mut off = self.called_off.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = off.since.elapsed().as_millis() / FORGET.as_millis();
        if forgotten > 0 {
            off.count = off.count.saturating_sub(usize::try_from(forgotten).unwrap_or(usize::MAX));
            off.since = Instant::now();
        }
        if ended {
            off.count = off.count.saturating_sub(1);
        } else {
            off.count += 1;
            if off.count > MAX_CALLED_OFF {
                self.resets.notify_one();
            }
        }
    }

    /// Waits until the connection has to go.
    pub(super) async fn watch(&self, patience: Patience) -> End {
        let since = |ms: &AtomicU64| {
            self.accepted
                .elapsed()
                .saturating_sub(Duration::from_millis(ms.load(Ordering::Relaxed)))
        };
        loop {
            tokio::select! {
                () = self.resets.notified() => return End::Resets,
                () = sleep(patience.pace()) => {}
            }
            if self.read_bytes.load(Ordering::Relaxed) < PREFACE_BYTES
                && self.accepted.elapsed() > patience.handshake
            {
                return End::NoPreface;
            }
            let oldest = self.debts().owed.first_key_value().map(|(_, since)| since.elapsed());
            if oldest.is_some_and(|oldest| oldest > patience.stall) {
                return End::Stalled;
            }
            if since(&self.last_read_ms) > patience.silence {
                return End::Silent;
            }
            if self.calls.load(Ordering::Relaxed) == 0 && since(&self.last_call_ms) > patience.idle
            {
                return End::Idle;
            }
        }
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that the peer owes.
pub(super) struct Debt {
    connection: Arc<Connection>,
    id: u64,
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.connection.debts().owed.remove(&self.id);
    }
}

/// One call of a connection.
pub(super) struct Call {
    connection: Arc<Connection>,
    begun: Instant,
    deadline: Option<Instant>,
    ended: AtomicBool,
}

impl Call {
    pub(super) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Its caller waits no longer than until then.
    pub(super) const fn until(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Whether its caller waited for most of the time that it allowed itself: by
    /// its own clock, which began before ours, for all of it.
    fn was_waited_for(&self) -> bool {
        self.deadline.is_some_and(|deadline| {
            let allowed = deadline.saturating_duration_since(self.begun);
            self.begun.elapsed() >= allowed / 2
        })
    }

    /// Its answer was made to the end: the peer did not call it off before.
    pub(super) fn ends(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let ended = self.ended.load(Ordering::Relaxed) || self.was_waited_for();
        let connection = &self.connection;
        connection.last_call_ms.store(connection.age_ms(), Ordering::Relaxed);
        connection.calls.fetch_sub(1, Ordering::Relaxed);
        connection.over(ended);
    }
}

/// A stream of bytes that tells its connection what it reads.
pub(super) struct Watched<S> {
    stream: S,
    connection: Arc<Connection>,
}

impl<S> Watched<S> {
    pub(super) const fn new(stream: S, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before) as u64;
        if read > 0 {
            self.connection.read_bytes.fetch_add(read, Ordering::Relaxed);
            self.connection.last_read_ms.store(self.connection.age_ms(), Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt as _,
        time::{advance, timeout},
    };

    use super::*;

    const PATIENCE: Patience = Patience {
        handshake: Duration::from_secs(10),
        stall: Duration::from_secs(20),
        idle: Duration::from_secs(300),
        silence: Duration::from_secs(60),
    };

    async fn greeted() -> Arc<Connection> {
        let connection = Connection::new(0);
        let mut stream = Watched::new(&[1; 24][..], connection.clone());
        stream.read_exact(&mut [0; 24]).await.unwrap();
        connection
    }

    /// The peer gives a sign of life.
    fn sign(connection: &Connection) {
        connection.last_read_ms.store(connection.age_ms(), Ordering::Relaxed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_is_cut_off_soon() {
        let connection = Connection::new(0);
        let end = timeout(Duration::from_secs(15), connection.watch(PATIENCE)).await;
        assert_eq!(end, Ok(End::NoPreface));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_falls_silent_is_cut_off() {
        let connection = greeted().await;
        let end = timeout(Duration::from_secs(70), connection.watch(PATIENCE)).await;
        assert_eq!(end, Ok(End::Silent));
    }

    #[tokio::test(start_paused = true)]
    async fn one_old_debt_is_enough_however_many_are_paid() {
        let connection = greeted().await;
        let _call = connection.call();
        let _debt = connection.owe();
        let paying = async {
            loop {
                let debt = connection.owe();
                sleep(Duration::from_secs(1)).await;
                sign(&connection);
                drop(debt);
            }
        };
        tokio::select! {
            end = connection.watch(PATIENCE) => assert_eq!(end, End::Stalled),
            () = paying => {}
        }
        assert!(connection.accepted.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_are_called_off_in_masses_end_the_connection() {
        let connection = greeted().await;
        let (off, ends) = (|| drop(connection.call()), || connection.call().ends());
        // Whoever gives up when its time is over calls nothing off.
        let calls: Vec<_> = (0..2 * MAX_CALLED_OFF).map(|_| connection.call()).collect();
        let deadline = Some(Instant::now() + Duration::from_millis(10));
        let late = calls.into_iter().map(|mut call| {
            call.until(deadline);
            call
        });
        let late: Vec<_> = late.collect();
        advance(Duration::from_millis(8)).await;
        drop(late);
        // As many as are let end, or spread over time: it stays.
        for _ in 0..10 * MAX_CALLED_OFF {
            off();
            ends();
        }
        for _ in 0..MAX_CALLED_OFF {
            off();
        }
        advance(FORGET * 100).await;
        for _ in 0..100 {
            off();
        }
        let calm = timeout(Duration::from_millis(10), connection.watch(PATIENCE));
        assert!(calm.await.is_err());
        for _ in 0..MAX_CALLED_OFF {
            off();
        }
        let end = timeout(Duration::from_millis(10), connection.watch(PATIENCE)).await;
        assert_eq!(end, Ok(End::Resets));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_without_calls() {
        let connection = greeted().await;
        let alive = async {
            loop {
                sleep(Duration::from_secs(5)).await;
                sign(&connection);
            }
        };
        let call = connection.call();
        tokio::select! {
            _ = timeout(Duration::from_secs(3000), connection.watch(PATIENCE)) => {}
            () = alive => {}
        }
        assert!(connection.accepted.elapsed() >= Duration::from_secs(3000));
        drop(call);
        advance(Duration::from_secs(1)).await;
        let alive = async {
            loop {
                sign(&connection);
                sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::select! {
            end = connection.watch(PATIENCE) => assert_eq!(end, End::Idle),
            () = alive => {}
        }
    }
}
