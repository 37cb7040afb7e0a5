//! A TCP proxy on the same machine that counts what passes: the bytes of a
//! lookup as the network sees them, TLS and HTTP/2 included.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Bytes that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Passed {
    /// From clients to the server.
    pub(super) sent: u64,
    /// From the server to clients.
    pub(super) received: u64,
}

impl Passed {
    /// What passed since an earlier look.
    pub(super) const fn since(self, earlier: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(earlier.sent),
            received: self.received.saturating_sub(earlier.received),
        }
    }
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    received: AtomicU64,
}

/// A proxy that runs; dropping it closes its connections.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    counters: Arc<Counters>,
    _accepting: JoinSet<io::Result<()>>,
}

impl Proxy {
    pub(super) async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, counters.clone()));
        Ok(Self { address, counters, _accepting: accepting })
    }

    /// What has passed until now.
    pub(super) fn passed(&self) -> Passed {
        Passed {
            sent: self.counters.sent.load(Ordering::Relaxed),
            received: self.counters.received.load(Ordering::Relaxed),
        }
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    counters: Arc<Counters>,
) -> io::Result<()> {
    // Ends with this task, and its connections with it.
    let mut connections = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await?;
        let counters = counters.clone();
        connections.spawn(async move {
            let server = TcpStream::connect(server).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::try_join!(
                pass(from_client, to_server, &counters.sent),
                pass(from_server, to_client, &counters.received),
            )?;
            io::Result::Ok(())
        });
    }
}

/// Passes bytes on until the sender ends, then ends too.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    counter: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return to.shutdown().await;
        };
        to.write_all(bytes).await?;
        counter.fetch_add(read as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ways_are_counted_and_an_end_is_passed_on() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address).await.unwrap();
        client.write_all(&[1; 100]).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        let mut request = Vec::new();
        accepted.read_to_end(&mut request).await.unwrap();
        assert_eq!(request, [1; 100]);
        accepted.write_all(&[2; 5000]).await.unwrap();
        drop(accepted);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [2; 5000]);
        assert_eq!(proxy.passed(), Passed { sent: 100, received: 5000 });
        let earlier = Passed { sent: 40, received: 5000 };
        assert_eq!(proxy.passed().since(earlier), Passed { sent: 60, received: 0 });
    }
}
