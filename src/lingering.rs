//! The end of a connection that loses nothing. Whoever closes a socket that
//! holds unread bytes has the system reset the connection and throw away what
//! the peer has not got yet (RFC 1122 section 4.2.2.13, RFC 2525 section 2.17),
//! and HTTP/2 peers always have something on its way: window updates, answers
//! to pings. So the end is told first, and the peer waited for.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// A peer that is told the end and says nothing for so long takes no more of it.
const SILENCE: Duration = Duration::from_secs(5);

/// The most that a peer is waited for, whatever it says.
const PATIENCE: Duration = Duration::from_secs(30);

/// A stream of bytes whose [`poll_shutdown`](AsyncWrite::poll_shutdown), once it is
/// to part in good order, ends when the peer has closed as well, or was waited for
/// long enough. What still comes is thrown away. Whoever broke the protocol is not
/// waited for.
pub(crate) struct Lingering<S> {
    stream: S,
    parting: Parting,
    farewell: Option<Farewell>,
}

/// Whether a stream is to part from its peer in good order.
#[derive(Clone, Default)]
pub(crate) struct Parting(Arc<AtomicBool>);

impl Parting {
    /// From now on it is.
    pub(crate) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The end was told, and the peer's is waited for.
struct Farewell {
    told: Instant,
    patience: Pin<Box<Sleep>>,
}

impl<S> Lingering<S> {
    pub(crate) const fn new(stream: S, parting: Parting) -> Self {
        Self { stream, parting, farewell: None }
    }
}

impl<S: AsyncRead + Unpin> Lingering<S> {
    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let farewell = self.farewell.get_or_insert_with(|| Farewell {
            told: Instant::now(),
            patience: Box::pin(sleep(SILENCE)),
        });
        let mut scratch = [0; 2048];
        loop {
            if farewell.patience.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {
                    let until = (Instant::now() + SILENCE).min(farewell.told + PATIENCE);
                    farewell.patience.as_mut().reset(until);
                }
                // It has closed, or is gone.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Lingering<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<S> {
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
        if self.farewell.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.parting.0.load(Ordering::Relaxed) {
            self.poll_farewell(cx)
        } else {
            Poll::Ready(Ok(()))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    fn parting<S>(stream: S) -> Lingering<S> {
        let parting = Parting::default();
        parting.begin();
        Lingering::new(stream, parting)
    }

    /// More than the system sends ahead of a peer that does not read.
    const ANSWER: usize = 8 << 20;

    #[tokio::test]
    async fn a_peer_that_has_said_more_gets_the_answer_to_its_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let answering = tokio::spawn(async move {
            let mut stream = parting(stream);
            stream.write_all(&vec![7; ANSWER]).await.unwrap();
            stream.shutdown().await.unwrap();
        });
        let mut got = vec![0; ANSWER - (64 << 10)];
        peer.read_exact(&mut got).await.unwrap();
        // Nobody reads it: closed now, the rest would be lost.
        peer.write_all(b"a window update").await.unwrap();
        sleep(Duration::from_millis(100)).await;
        peer.write_all(b"another").await.unwrap();
        peer.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), ANSWER);
        assert!(!answering.is_finished(), "it waits for the peer");
        drop(peer);
        timeout(SILENCE / 2, answering).await.expect("it ends with the peer").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_close_is_not_waited_for_for_ever() {
        let begun = Instant::now();
        let (_peer, stream) = duplex(1 << 10);
        Lingering::new(stream, Parting::default()).shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 0, "it broke the protocol");

        let (silent, stream) = duplex(1 << 10);
        parting(stream).shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), SILENCE.as_secs());
        drop(silent);

        let begun = Instant::now();
        let (mut talker, stream) = duplex(1 << 10);
        let talking = tokio::spawn(async move {
            while talker.write_all(b"ping").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        parting(stream).shutdown().await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), PATIENCE.as_secs());
        talking.await.unwrap();
    }
}
