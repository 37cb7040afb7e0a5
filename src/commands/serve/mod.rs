//! `blindbook serve`: a directory, to whoever asks.

mod registry;
mod reload;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Outcome, input, logs, runtime};
use anyhow::{Context as _, anyhow};
use blindbook::{
    config::{Config, Tls},
    keyring::Keyring,
    server::{Anonymous, Clock, Server, ServerOptions},
    store::{Generations, SledGenerations, SledOptions},
};
use tokio::{net::TcpListener, task::JoinSet};

/// Serve a directory
#[derive(clap::Args)]
pub(crate) struct Serve {
    /// A file with all settings, instead of the flags
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "data", "keys", "listen", "tls_cert", "tls_key", "insecure_plaintext",
    ])]
    config: Option<PathBuf>,
    /// The data folder that `load` filled
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    data: Option<PathBuf>,
    /// The folder that `keygen` made
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    keys: Option<PathBuf>,
    /// Where to listen, as 0.0.0.0:4433
    #[arg(long, value_name = "ADDR", required_unless_present = "config")]
    listen: Option<SocketAddr>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// No TLS: only behind a proxy that ends it
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    insecure_plaintext: bool,
}

impl Serve {
    pub(crate) fn run(self, log: Option<&str>) -> Outcome {
        let config = self.config().map_err(input)?;
        logs(log, &config.log)?;
        runtime()?.block_on(serve(config))
    }

    fn config(self) -> anyhow::Result<Config> {
        if let Some(path) = &self.config {
            return Config::read(path).with_context(|| format!("{} is refused", path.display()));
        }
        let missing = || anyhow!("--data, --keys and --listen are needed, or --config");
        Ok(Config::from_flags(
            self.data.ok_or_else(missing)?,
            self.keys.ok_or_else(missing)?,
            self.listen.ok_or_else(missing)?,
            self.tls_cert,
            self.tls_key,
            self.insecure_plaintext,
        )?)
    }
}

async fn serve(config: Config) -> Outcome {
    let keyring = Keyring::load(&config.keys).map_err(input)?;
    if shares_device(&config.keys, &config.data) {
        tracing::warn!(
            "the keys lie on the device of the data: who steals the disk can read the directory; \
             mount them from elsewhere"
        );
    }
    let (tls, keeper) = match config.tls {
        Tls::Files(files) => {
            let (tls, keeper) = files.open(Clock::system()).map_err(input)?;
            (Some(tls), Some(keeper))
        }
        Tls::InsecurePlaintext => (None, None),
    };
    let registry = config.registry.as_ref().map(|settings| registry::prepare(settings, &keyring));
    let registry = registry.transpose().map_err(input)?;
    let store = SledOptions { cache_bytes: config.store_cache_bytes, ..SledOptions::default() };
    let generations: Arc<dyn Generations> =
        Arc::new(SledGenerations::open(&config.data, store).await?);
    let keyring = Arc::new(keyring);
    let registry = match registry {
        Some(prepared) => Some(prepared.open(keyring.clone(), generations.clone()).await?),
        None => None,
    };
    let options = ServerOptions {
        tls,
        refresh_period_s: config.refresh_period_s,
        cache_bytes: config.bucket_cache_bytes,
        regions: config.regions,
        quotas: config.quotas,
        pir: config.pir,
        ..config.limits.over(ServerOptions::default())
    };
    if options.quotas.anonymous == Anonymous::Open {
        tracing::warn!(
            "anybody may evaluate without limit, and so walk through all numbers of a country: \
             set [quota] anonymous = \"tokens\", or put something that limits before the server"
        );
    }
    let server = Server::open(generations, keyring, options, Clock::system()).await?;
    let mut server = server.with_partners(config.partners).await?;
    let mut tasks = JoinSet::new();
    if let Some((registry, pending)) = registry {
        server = server.with_registry(registry).await?;
        // Let go of, it ends.
        tasks.spawn(registry::keep_pending(pending, Clock::system()));
    }
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}", config.listen))?;
    if let Some(address) = config.probe_listen {
        let probes = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))?;
        tracing::info!(address = %probes.local_addr()?, "telling metrics and probes");
        server = server.with_probes(probes);
    }
    // Whoever reads that it serves may ask it to stop, or to look at its files, at
    // once.
    let stop = shutdown()?;
    let asked = reload::asked()?;
    tasks.spawn(reload::keep(keeper, asked));
    tracing::info!(address = %listener.local_addr()?, "serving");
    server.run(listener, stop).await?;
    tracing::info!("stopped");
    Ok(())
}

#[cfg(unix)]
fn shares_device(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path| fs::metadata(path).map(|metadata| metadata.dev());
    matches!((device(one), device(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(not(unix))]
const fn shares_device(_: &Path, _: &Path) -> bool {
    false
}

/// Ends with an interrupt or, on Unix, a request to terminate.
#[cfg(unix)]
pub(super) fn shutdown() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
pub(super) fn shutdown() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        // Without a handler nobody can ask, and the server runs on.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}
