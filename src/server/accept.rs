//! Takes connections in and lets them go: a bounded number, each with bounded
//! streams, windows and patience; at the end a bounded farewell.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    ServerOptions, Tls,
    connection::{Connection, End, Patience, Watched},
    gate::{Entrance, Gate},
    health::Health,
    metrics::Metrics,
    peer::Peer,
};
use crate::lingering::{Lingering, Parting};

/// Unread bytes of one request. Room for every good one but the largest batch
/// with tokens, whose answer is a hundred times as long.
const STREAM_WINDOW_BYTES: u32 = 32 << 10;

/// Unread bytes of all requests of one connection.
const CONNECTION_WINDOW_BYTES: u32 = 128 << 10;

/// The same where queries for rows are taken: the longest arrives in one round
/// trip.
const QUERY_STREAM_WINDOW_BYTES: u32 = 288 << 10;
const QUERY_CONNECTION_WINDOW_BYTES: u32 = 320 << 10;

/// Unsent bytes of one answer that HTTP/2 takes before it waits for the peer.
const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Bytes of the headers of one request.
const MAX_HEADER_LIST_BYTES: u32 = 8 << 10;

/// Streams of one connection that we reset since the peer broke the protocol.
const MAX_LOCAL_RESETS: usize = 128;

/// Pause after a failed accept, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Host {
    gate: Arc<Gate>,
    metrics: Arc<Metrics>,
    tls: Option<Tls>,
    http: http2::Builder<TokioExecutor>,
    patience: Patience,
    handshake_timeout: Duration,
    stall_timeout: Duration,
}

impl Host {
    fn new(gate: Gate, metrics: Arc<Metrics>, options: &ServerOptions) -> Self {
        let (stream_window, connection_window) = match options.pir {
            Some(_) => (QUERY_STREAM_WINDOW_BYTES, QUERY_CONNECTION_WINDOW_BYTES),
            None => (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES),
        };
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .max_concurrent_streams(options.max_streams)
            // Beneath our own limit on calls that are called off: of streams that
            // no call came of yet, as when a peer gives up all at once, and of
            // streams that the peer has us reset.
            .max_pending_accept_reset_streams(options.max_streams as usize)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .keep_alive_interval(options.keepalive_interval)
            .keep_alive_timeout(options.keepalive_timeout);
        Self {
            gate: Arc::new(gate),
            metrics,
            tls: options.tls.clone(),
            http,
            patience: Patience::of(options),
            handshake_timeout: options.handshake_timeout,
            stall_timeout: options.stall_timeout,
        }
    }

    /// One connection, from its first byte to its last.
    async fn serve(self: Arc<Self>, stream: TcpStream, id: u64, stopping: watch::Receiver<bool>) {
        let connection = Connection::new(id);
        let _connected = self.metrics.connected();
        // A frame that waits for others costs a round trip.
        if stream.set_nodelay(true).is_err() {
            return; // It is gone already.
        }
        match &self.tls {
            None => self.drive(stream, Peer::Plaintext, connection, stopping).await,
            Some(tls) => {
                let current = tls.current();
                let acceptor = TlsAcceptor::from(current.config.clone());
                let handshake = timeout(self.handshake_timeout, acceptor.accept(stream));
                if let Ok(Ok(stream)) = handshake.await {
                    let chain = stream.get_ref().1.peer_certificates();
                    let peer = Peer::of_tls(chain, tls, current.generation);
                    self.drive(stream, peer, connection, stopping).await;
                }
            }
        }
    }

    async fn drive<S>(
        &self,
        stream: S,
        peer: Peer,
        connection: Arc<Connection>,
        mut stopping: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let parting = Parting::default();
        let stream = Lingering::new(Watched::new(stream, connection.clone()), parting.clone());
        let stream = TokioIo::new(stream);
        let (gate, peer) = (self.gate.clone(), Arc::new(peer));
        let entrance = Entrance { gate, connection: connection.clone(), peer };
        let mut http = pin!(self.http.serve_connection(stream, entrance));
        let mut watch = pin!(connection.watch(self.patience));
        let mut stops = pin!(async move { stopping.wait_for(|stopping| *stopping).await.is_ok() });
        let mut told = false;
        loop {
            tokio::select! {
                // What a peer did to its connection is nobody's news.
                _ = &mut http => return,
                end = &mut watch => match end {
                    End::Idle => {
                        parting.begin();
                        http.as_mut().graceful_shutdown();
                        let _ = timeout(self.stall_timeout, http).await;
                        return;
                    }
                    End::NoPreface | End::Stalled | End::Silent | End::Resets => {
                        self.metrics.cut_off(end);
                        tracing::debug!(?end, "connection cut off");
                        return;
                    }
                },
                _ = &mut stops, if !told => {
                    told = true;
                    parting.begin();
                    http.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Serves until `shutdown` ends, then lets the calls under way end, for as long
/// as the options say.
pub(super) async fn serve(
    listener: TcpListener,
    gate: Gate,
    metrics: Arc<Metrics>,
    options: &ServerOptions,
    health: &Health,
    shutdown: impl Future<Output = ()>,
) {
    let host = Arc::new(Host::new(gate, metrics, options));
    let room = Arc::new(Semaphore::new(options.max_connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let mut ids = 0..;
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => tell(ended),
            accepted = listener.accept() => match accepted {
                // Without room the stream is closed at once: its peer need not
                // wait to learn that there is none.
                Ok((stream, _)) => if let Ok(place) = room.clone().try_acquire_owned() {
                    let serving =
                        host.clone().serve(stream, ids.next().unwrap_or(u64::MAX), stopping.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
                } else {
                    host.metrics.turned_away();
                },
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // From here on a new peer is refused by the system.
    drop(listener);
    health.stop().await;
    stop.send_replace(true);
    let drained = timeout(options.drain_timeout, async {
        while let Some(ended) = connections.join_next().await {
            tell(ended);
        }
    });
    if drained.await.is_err() {
        tracing::warn!(connections = connections.len(), "calls under way were cut off");
    }
    connections.shutdown().await;
}

/// A connection that panicked is our fault and must not pass unseen.
fn tell(ended: Result<(), JoinError>) {
    if ended.is_err_and(|error| error.is_panic()) {
        tracing::error!("internal error: a connection's task panicked");
    }
}
