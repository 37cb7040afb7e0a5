//! Takes connections in and lets them go: a bounded number, each with bounded
//! streams and windows; at the end a bounded farewell.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};

use super::{
    SidecarOptions,
    gate::{Entrance, Gate},
    health::Health,
    listen::{Listener, Stream},
};
use crate::lingering::{Lingering, Parting};

/// Unread bytes of one request, and of all of one connection.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes of the headers of one request.
const MAX_HEADER_LIST_BYTES: u32 = 8 << 10;

/// A peer of the same machine is gone when its socket is; these find one that
/// hangs.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Pause after a failed accept, as when file descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
struct Host {
    entrance: Entrance,
    http: http2::Builder<TokioExecutor>,
}

impl Host {
    fn new(gate: Gate, options: &SidecarOptions) -> Self {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .auto_date_header(false)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .max_concurrent_streams(options.max_streams)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        Self { entrance: Entrance(Arc::new(gate)), http }
    }

    /// One connection, from its first byte to its last.
    async fn serve(self: Arc<Self>, stream: Stream, stopping: watch::Receiver<bool>) {
        match stream {
            Stream::Tcp(stream) => {
                // A frame that waits for others costs a round trip.
                if stream.set_nodelay(true).is_ok() {
                    self.drive(stream, stopping).await;
                }
            }
            #[cfg(unix)]
            Stream::Unix(stream) => self.drive(stream, stopping).await,
        }
    }

    async fn drive<S>(&self, stream: S, mut stopping: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let parting = Parting::default();
        let stream = TokioIo::new(Lingering::new(stream, parting.clone()));
        let mut http = pin!(self.http.serve_connection(stream, self.entrance.clone()));
        tokio::select! {
            // What a peer did to its connection is nobody's news.
            _ = &mut http => return,
            _ = stopping.wait_for(|stopping| *stopping) => {}
        }
        parting.begin();
        http.as_mut().graceful_shutdown();
        let _ = http.await;
    }
}

/// Serves until `shutdown` ends, then lets the calls under way end, for as long
/// as the options say.
pub(super) async fn serve(
    listener: Listener,
    gate: Gate,
    options: &SidecarOptions,
    health: &Health,
    shutdown: impl Future<Output = ()>,
) {
    let host = Arc::new(Host::new(gate, options));
    let room = Arc::new(Semaphore::new(options.max_connections));
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(ended) = connections.join_next() => tell(ended),
            accepted = listener.accept() => match accepted {
                // Without room the stream is closed at once: its peer need not
                // wait to learn that there is none.
                Ok(stream) => if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                    let serving = Arc::clone(&host).serve(stream, stopping.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(place);
                    });
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
