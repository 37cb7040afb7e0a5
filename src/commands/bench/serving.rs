//! A server of this process on a port of its own, until it is stopped.

use std::{future::Future, path::Path, sync::Arc};

use anyhow::Context as _;
use blindbook::{
    client::{ClientOptions, MemoryState},
    server::{self, Clock, Lookup, Server, ServerOptions},
    sidecar::{DirectoryOptions, Listener, Route, Sidecar, SidecarOptions},
    store::{Generations, SledGenerations, SledOptions},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

use super::directory::Directory;

/// A server that runs.
pub(super) struct Serving {
    pub(super) url: String,
    stop: oneshot::Sender<()>,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Serving {
    /// Runs what `serve` makes of a listener and of the word to stop.
    pub(super) async fn start<F>(
        tls: bool,
        serve: impl FnOnce(TcpListener, oneshot::Receiver<()>) -> F,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let scheme = if tls { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listener, stopped));
        Ok(Self { url, stop, task })
    }

    /// Runs the real server.
    pub(super) async fn directory(
        directory: &Directory,
        generations: Arc<dyn Generations>,
        tls: bool,
        cache_bytes: u64,
    ) -> anyhow::Result<Self> {
        Ok(Self::observed(directory, generations, tls, cache_bytes).await?.0)
    }

    /// Runs the real server, which is to be told of every bucket that changes.
    pub(super) async fn observed(
        directory: &Directory,
        generations: Arc<dyn Generations>,
        tls: bool,
        cache_bytes: u64,
    ) -> anyhow::Result<(Self, Lookup)> {
        let options = ServerOptions { cache_bytes, ..ServerOptions::default() };
        Self::with(directory, generations, tls, options).await
    }

    /// Runs the real server with options of one's own.
    pub(super) async fn with(
        directory: &Directory,
        generations: Arc<dyn Generations>,
        tls: bool,
        mut options: ServerOptions,
    ) -> anyhow::Result<(Self, Lookup)> {
        let (cert, key) = (directory.tls.cert.as_bytes(), directory.tls.key.as_bytes());
        options.tls = if tls { Some(server::tls_config(cert, key)?) } else { None };
        let server =
            Server::open(generations, directory.keyring.clone(), options, Clock::system()).await?;
        let buckets = server.lookup();
        let serving = Self::start(tls, |listener, stopped| async move {
            server.run(listener, until(stopped)).await?;
            Ok(())
        });
        Ok((serving.await?, buckets))
    }

    /// Runs the real sidecar of a directory's server, plain text.
    pub(super) async fn sidecar(directory: &Directory, server: &str) -> anyhow::Result<Self> {
        let identity = directory.keyring.identity().verifying_key();
        let options = SidecarOptions::new(vec![DirectoryOptions {
            name: "bench".into(),
            client: ClientOptions::new(server, identity),
            state: Arc::new(MemoryState::new()),
            serves: Route::all(),
        }]);
        let sidecar = Sidecar::open(options)?;
        let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
        let url = format!("http://{}", listener.place()?);
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            sidecar.run(listener, until(stopped)).await?;
            anyhow::Ok(())
        });
        Ok(Self { url, stop, task })
    }

    /// Stops the server and waits for its end.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        // It may have ended already, and then says why.
        let _ = self.stop.send(());
        self.task.await.context("a server ended early")?
    }
}

/// Ends when the server is to stop, or nobody is left who could say so.
pub(super) async fn until(stopped: oneshot::Receiver<()>) {
    let _ = stopped.await;
}

/// Opens what was loaded.
pub(super) async fn open(data: &Path) -> anyhow::Result<Arc<dyn Generations>> {
    Ok(Arc::new(SledGenerations::open(data, SledOptions::default()).await?))
}
