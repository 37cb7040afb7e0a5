//! A small directory in memory, and a real server over it.

use std::{fs, net::SocketAddr, sync::Arc};

use blindbook::{
    bucket::{BUCKET_BYTES, Bucket, BucketNumber, PrefixBits},
    keyring::{self, Keyring},
    server::{Clock, Server, ServerError, ServerOptions},
    store::{BulkBucket, Generations, MemoryGenerations},
    wire::proto::discovery_service_client::DiscoveryServiceClient,
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::{Channel, Endpoint};

/// Keys and buckets that belong together.
pub(crate) struct Directory {
    pub(crate) generations: Arc<MemoryGenerations>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) bits: PrefixBits,
}

impl Directory {
    /// A directory with every bucket of `bits` prefix bits, version 1, and
    /// seeds of `epochs` epochs; the first seals the buckets.
    pub(crate) async fn new(bits: u32, epochs: u32) -> Self {
        let keys = tempfile::tempdir().expect("a folder");
        keyring::generate(keys.path(), &mut rand::rng()).expect("keys");
        let seed = keys.path().join("oprf-1.seed");
        for epoch in 2..=epochs {
            // Copied with its permissions: the same seed gives another key.
            let copy = keys.path().join(format!("oprf-{epoch}.seed"));
            fs::copy(&seed, copy).expect("a seed");
        }
        let directory = Self {
            generations: Arc::default(),
            keyring: Arc::new(Keyring::load(keys.path()).expect("a keyring")),
            bits: PrefixBits::new(bits).expect("bits"),
        };
        let store = directory.generations.stage(directory.bits).await.expect("a store");
        let all = directory.bits.numbers().map(|number| directory.bulk(number)).collect();
        store.bulk_put(all).await.expect("put");
        store.sync().await.expect("sync");
        directory.generations.promote().await.expect("promoted");
        directory
    }

    /// A bucket as no other is, signed.
    pub(crate) fn bucket(&self, number: BucketNumber, version: u64) -> Bucket {
        let mut entries = vec![0; BUCKET_BYTES];
        let mut hash = blake3::Hasher::new();
        hash.update(&number.get().to_be_bytes()).update(&version.to_be_bytes());
        hash.finalize_xof().fill(&mut entries);
        Bucket::sign(
            self.keyring.epochs().next().expect("an epoch").0,
            self.bits,
            number,
            version,
            entries.into(),
            self.keyring.directory(),
            self.keyring.identity(),
        )
        .expect("a bucket")
    }

    fn bulk(&self, number: BucketNumber) -> BulkBucket {
        BulkBucket { bucket: self.bucket(number, 1), rows: Vec::new() }
    }

    /// A server over this directory, opened and not yet running.
    pub(crate) async fn server(&self, options: ServerOptions) -> Server {
        Server::open(self.generations.clone(), self.keyring.clone(), options, Clock::system())
            .await
            .expect("a server")
    }

    /// A running server.
    pub(crate) async fn serve(&self, options: ServerOptions) -> Running {
        Running::start(self.server(options).await).await
    }
}

/// A server on a port of its own.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), ServerError>>,
}

impl Running {
    pub(crate) async fn start(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(listener, async {
            let _ = stopped.await;
        }));
        Self { address, stop, task }
    }

    /// A connection of its own.
    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL");
        endpoint.connect().await.expect("a connection")
    }

    /// A client on a connection of its own.
    pub(crate) async fn client(&self) -> DiscoveryServiceClient<Channel> {
        DiscoveryServiceClient::new(self.channel().await)
    }

    /// Tells the server to stop, and waits until it has, without any fault.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic").expect("no fault");
    }

    /// Ends it at once, and everything that it does.
    #[allow(dead_code, reason = "shared with tests that stop theirs")]
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()));
    }
}
