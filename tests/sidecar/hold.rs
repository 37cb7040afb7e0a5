//! A line to a server that a test can hold: what is sent waits until it is let
//! go.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Notify, watch},
    time::timeout,
};

use crate::estate::PATIENCE;

pub(crate) struct Hold {
    pub(crate) address: SocketAddr,
    held: watch::Sender<bool>,
    waiting: Arc<Notify>,
}

impl Hold {
    /// In front of a server, open.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (held, _) = watch::channel(false);
        let waiting = Arc::new(Notify::new());
        let (gate, notify) = (held.clone(), waiting.clone());
        tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                let (gate, notify) = (gate.subscribe(), notify.clone());
                tokio::spawn(pass(peer, server, gate, notify));
            }
        });
        Self { address, held, waiting }
    }

    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    pub(crate) fn let_go(&self) {
        self.held.send_replace(false);
    }

    /// Until something waits to be let go.
    pub(crate) async fn something_waits(&self) {
        timeout(PATIENCE, self.waiting.notified()).await.expect("something in time");
    }
}

async fn pass(
    peer: TcpStream,
    server: SocketAddr,
    mut gate: watch::Receiver<bool>,
    waiting: Arc<Notify>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_peer, mut to_peer), (mut from_server, mut to_server)) =
        (peer.into_split(), server.into_split());
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_peer).await });
    let mut piece = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from_peer.read(&mut piece).await {
        if *gate.borrow() {
            waiting.notify_one();
        }
        if gate.wait_for(|held| !held).await.is_err()
            || to_server.write_all(&piece[..length]).await.is_err()
        {
            return;
        }
    }
}
