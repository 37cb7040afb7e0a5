//! The discovery provider's server: answers lookups over gRPC without learning
//! whom they are about, and keeps on its feet whatever its peers send.
//!
//! [`Server::open`] checks that the directory, its keys and the options belong
//! together; [`Server::run`] is the only door. Every call passes the gate
//! (whole, uncompressed, bounded), then the lookup path, which imports neither
//! the registry nor the identifier. What the directory says about itself is
//! signed and kept fresh by the publisher.
//!
//! [`Server::with_registry`] also lets partners change the directory, each by
//! its client certificate, tells watchers what changed, and removes what lapsed.
//!
//! No part of a request is logged here at any level. The crates beneath make no
//! such promise (h2 prints malformed headers at `debug`, sled its keys at
//! `trace`): whoever sets up logs holds all others at warnings.

mod accept;
mod admin;
mod answer;
mod cache;
mod connection;
mod evaluate;
mod feed;
mod frames;
mod gate;
mod health;
mod lookup;
mod metrics;
mod options;
mod peer;
mod pir;
mod probes;
mod publish;
mod published;
mod quota;
mod registry;
mod request;
mod route;
mod status;
mod tls;
mod transcript;

use std::{convert::Infallible, fmt, future::Future, io, pin::Pin, sync::Arc};

use tokio::{net::TcpListener, task::JoinSet};

pub use crate::clock::Clock;

use self::{
    admin::Admin,
    feed::Feed,
    gate::{Gate, Services},
    health::Health,
    options::cores,
    pir::Pir,
    publish::Publisher,
    published::Published,
    quota::{QuotaError, Quotas},
    registry::{Registry, keep_swept},
};
pub use self::{
    lookup::{Buckets, Lookup},
    options::ServerOptions,
    pir::{PirError, PirOptions},
    quota::{Anonymous, QuotaOptions},
    registry::{RegistryOptions, Verification},
    status::ERROR_DOMAIN,
    tls::{Lists, Reload, Tls, TlsFiles, TlsKeeper, TlsPem, mutual_tls_config, tls_config},
    transcript::{Call, Transcript},
};
use self::{metrics::Metrics, probes::Probes};
use crate::{
    access::{Partner, Partners, PartnersError},
    bucket::{BucketNumber, PrefixBits},
    epoch::Epoch,
    identifier::Region,
    keyring::Keyring,
    registry::{Ledger, LedgerError, ProviderKeys},
    store::{Generations, Store, StoreError},
};

/// Most epochs that are active at once: the old and the new of a rotation.
const MAX_ACTIVE_EPOCHS: usize = 2;

/// Why a server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    // The operator's to mend.
    /// The data folder has no directory.
    #[error("the data folder holds no directory: load one first, with `blindbook load`")]
    NoDirectory,
    /// The buckets are signed by another identity key.
    #[error("these keys are not the directory's: name the folder of keys that it was loaded with")]
    ForeignKeys,
    /// The buckets are sealed under an epoch whose seed is not there, or is
    /// followed by too many others.
    #[error("the directory is sealed under epoch {epoch}, which is not among the newest two seeds")]
    NoSeed {
        /// Which epoch.
        epoch: Epoch,
    },
    /// An option that cannot be.
    #[error("{name} {rule}")]
    Option {
        /// Which option.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// Certificate and key do not serve.
    #[error("TLS: {0}")]
    Tls(String),

    // The disk's.
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bucket is missing.
    #[error("the directory lacks a bucket that it must have: load it again")]
    NoBucket,
    /// What is remembered of the published sets is damaged.
    #[error("the record of what was published is damaged: restore the data folder from a backup")]
    Published,

    /// Private information retrieval cannot be offered, or no longer.
    #[error(transparent)]
    Pir(#[from] PirError),
    /// The partners cannot be opened.
    #[error(transparent)]
    Partners(#[from] PartnersError),
    /// A sealed token key does not open.
    #[error("a token key does not open: restore the data folder and its keys from one backup")]
    TokenKey,

    /// The registry cannot be opened, or its end not be written down.
    #[error(transparent)]
    Registry(#[from] LedgerError),

    /// The system gives no more threads.
    #[error("no thread to evaluate on: {0}; raise the limit of the service's tasks")]
    Threads(io::Error),

    // Ours.
    /// The service descriptors do not hold together.
    #[error("reflection cannot be served: {0}")]
    Reflection(String),
}

/// Work that is compiled with the library, and not once more with each crate that
/// awaits it.
type Compiled<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn compiled<'a, T>(work: impl Future<Output = T> + Send + 'a) -> Compiled<'a, T> {
    Box::pin(work)
}

/// A server that is ready to run.
pub struct Server {
    options: ServerOptions,
    lookup: Lookup,
    publisher: Arc<Publisher>,
    transcript: Option<Arc<Transcript>>,
    generations: Arc<dyn Generations>,
    keyring: Arc<Keyring>,
    bits: PrefixBits,
    clock: Clock,
    partners: Option<Partners>,
    registry: Option<Registry>,
    metrics: Arc<Metrics>,
    probes: Option<TcpListener>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Opens the current generation of a directory, checks that it can be
    /// served with these keys, and signs what is to be published.
    ///
    /// # Errors
    /// The options cannot be, the folder holds no directory or that of other
    /// keys, or the store fails.
    pub fn open(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        options: ServerOptions,
        clock: Clock,
    ) -> impl Future<Output = Result<Self, ServerError>> + Send {
        compiled(Self::opened(generations, keyring, options, clock))
    }

    async fn opened(
        generations: Arc<dyn Generations>,
        keyring: Arc<Keyring>,
        options: ServerOptions,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        options.check()?;
        let store = generations.current().await?.ok_or(ServerError::NoDirectory)?;
        let active = active_epochs(&keyring);
        check_directory(store.as_ref(), &keyring, &active).await?;
        let signed = Arc::new(Published::default());
        let bits = store.prefix_bits();
        let publisher = Publisher::new(
            generations.clone(),
            keyring.clone(),
            bits,
            active.clone(),
            &options,
            clock.clone(),
            signed.clone(),
        );
        publisher.refresh().await?;
        let metrics = Arc::new(Metrics::new());
        let quotas = Quotas::open(
            generations.clone(),
            keyring.clone(),
            options.quotas.clone(),
            quota::signers(options.threads()).map_err(ServerError::Threads)?,
            clock.clone(),
            metrics.clone(),
        );
        let quotas = quotas.await.map_err(|error| match error {
            QuotaError::Store(error) => ServerError::Store(error),
            _ => ServerError::TokenKey,
        })?;
        let pir = options
            .pir
            .as_ref()
            .map(|pir| Pir::new(store.clone(), *keyring.directory(), pir, metrics.clone()));
        let pir = pir.transpose()?;
        let lookup = Lookup::new(store, keyring.clone(), active, signed, quotas, pir, &options)
            .map_err(ServerError::Threads)?;
        let (transcript, partners, registry) = (None, None, None);
        Ok(Self {
            options,
            lookup,
            publisher: Arc::new(publisher),
            transcript,
            generations,
            keyring,
            bits,
            clock,
            partners,
            registry,
            metrics,
            probes: None,
        })
    }

    /// Opens the directory of partners: those that were put while a server ran,
    /// and those that are configured. Administrators may change it from now on.
    ///
    /// # Errors
    /// There are configured partners and no TLS that could know them, they
    /// contradict those that were put, or the store fails.
    pub async fn with_partners(mut self, configured: Vec<Partner>) -> Result<Self, ServerError> {
        let known = self.options.tls.as_ref().is_some_and(Tls::knows_partners);
        if !configured.is_empty() && !known {
            let rule = "are known by client certificates, which need TLS and a client_ca";
            return Err(ServerError::Option { name: "partners", rule });
        }
        let (generations, keyring) = (self.generations.clone(), self.keyring.clone());
        self.partners = Some(Partners::open(generations, keyring, configured).await?);
        Ok(self)
    }

    /// The directory of partners, if it was opened.
    #[must_use]
    pub fn partners(&self) -> Option<Partners> {
        self.partners.clone()
    }

    /// Lets partners change the directory while it is served: what they change,
    /// the next fetch of its bucket shows.
    ///
    /// # Errors
    /// The options cannot be, or the store fails.
    pub fn with_registry(
        self,
        options: RegistryOptions,
    ) -> impl Future<Output = Result<Self, ServerError>> + Send {
        compiled(self.registering(options))
    }

    async fn registering(mut self, options: RegistryOptions) -> Result<Self, ServerError> {
        options.check()?;
        let regions = self.options.regions.iter().map(|code| code.parse());
        let regions = regions.collect::<Result<Vec<Region>, _>>().map_err(|_| {
            let rule = "must be regions with a numbering plan, such as DE";
            ServerError::Option { name: "regions", rule }
        })?;
        let store = self.generations.current().await?.ok_or(ServerError::NoDirectory)?;
        let feed = Feed::open(store).await?;
        let (lookup, told) = (self.lookup.clone(), feed.clone());
        let changed = move |number| {
            lookup.changed(number);
            told.changed(number);
        };
        let (generations, keyring) = (self.generations.clone(), self.keyring.clone());
        let ledger = Ledger::open_observed(generations, keyring, changed).await?;
        self.registry = Some(Registry::new(ledger, feed, options, regions, self.clock.clone()));
        Ok(self)
    }

    /// The ledger that partners change, if they may.
    #[must_use]
    pub fn ledger(&self) -> Option<Ledger> {
        self.registry.as_ref().map(|registry| registry.ledger().clone())
    }

    /// Tells metrics and probes to whoever asks here, in plain HTTP: see the
    /// operator's guide for the paths. Partners stand in it by their alias alone.
    #[must_use]
    pub fn with_probes(mut self, listener: TcpListener) -> Self {
        self.probes = Some(listener);
        self
    }

    /// Records every call from the bytes that arrive. For demos and tests: a
    /// transcript grows for as long as the server runs, and holds what no log
    /// may.
    #[must_use]
    pub fn record(mut self, transcript: Arc<Transcript>) -> Self {
        self.transcript = Some(transcript);
        self
    }

    /// The lookup path, for whoever changes buckets while it serves.
    #[must_use]
    pub fn lookup(&self) -> Lookup {
        self.lookup.clone()
    }

    /// Serves until `shutdown` ends; then takes no new calls, and returns when
    /// those under way have ended or the drain timeout has passed, and what they
    /// began to change is changed.
    ///
    /// # Errors
    /// The store fails before the first connection is taken, or when the
    /// registry is closed.
    pub fn run<'a>(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'a,
    ) -> impl Future<Output = Result<(), ServerError>> + Send + 'a {
        self.run_until(listener, compiled(shutdown))
    }

    fn run_until(
        self,
        listener: TcpListener,
        shutdown: Compiled<'_, ()>,
    ) -> Compiled<'_, Result<(), ServerError>> {
        compiled(self.running(listener, shutdown))
    }

    async fn running(
        self,
        listener: TcpListener,
        shutdown: Compiled<'_, ()>,
    ) -> Result<(), ServerError> {
        let pir = self.lookup.pir().cloned();
        let health = Health::new(pir.is_none()).await;
        let mut tasks: JoinSet<Infallible> = JoinSet::new();
        let mut ledger = None;
        if let Some(registry) = &self.registry {
            let open = ledger.insert(registry.ledger().clone()).clone();
            let period = registry.sweep_period();
            // Let go of, they end.
            tasks.spawn(keep_swept(open, self.bits, self.clock, period));
            let feed = registry.feed().clone();
            tasks.spawn(async move { feed.keep().await });
        }
        let feed = self.registry.as_ref().map(|registry| registry.feed().clone());
        let shutdown = async {
            shutdown.await;
            // A watch has no end of its own that draining could wait for.
            if let Some(feed) = feed {
                feed.stop();
            }
        };
        let quotas = self.lookup.quotas().clone();
        let keys = ProviderKeys::new(self.generations);
        let admin = self
            .partners
            .clone()
            .map(|partners| Admin::new(partners, keys, self.publisher.clone(), ledger.clone()));
        let services = Services {
            lookup: self.lookup,
            registry: self.registry,
            admin,
            health: health.service(),
        };
        let metrics = self.metrics.clone();
        let gate =
            Gate::new(services, self.partners, metrics.clone(), self.transcript, &self.options)?;
        if let Some(listener) = self.probes {
            let probes = Probes { metrics: metrics.clone(), ready: health.ready() };
            tasks.spawn(async move { probes.serve(listener).await });
        }
        // It may have been opened long ago.
        self.publisher.refresh().await?;
        health.set(true).await;
        let retrieval = async {
            match pir {
                Some(pir) => match pir.keep(health.prepared()).await {
                    Ok(never) => match never {},
                    Err(error) => error,
                },
                None => std::future::pending().await,
            }
        };
        let failed = tokio::select! {
            () = accept::serve(listener, gate, metrics, &self.options, &health, shutdown) => None,
            never = self.publisher.keep(&health) => match never {},
            error = retrieval => Some(error),
        };
        tasks.shutdown().await;
        let settled = quotas.settle().await;
        if let Some(ledger) = ledger {
            ledger.close().await?;
        }
        settled?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// The epochs that clients may use: the newest two that there are seeds of.
fn active_epochs(keyring: &Keyring) -> Vec<Epoch> {
    let mut epochs: Vec<Epoch> = keyring.epochs().map(|(epoch, _)| epoch).collect();
    let old = epochs.len().saturating_sub(MAX_ACTIVE_EPOCHS);
    epochs.drain(..old);
    epochs
}

/// Whether the directory's first bucket is there, signed and sealed by these
/// keys.
async fn check_directory(
    store: &dyn Store,
    keyring: &Keyring,
    active: &[Epoch],
) -> Result<(), ServerError> {
    let Ok(first) = BucketNumber::new(0, PrefixBits::ZERO) else {
        return Err(ServerError::NoBucket);
    };
    let bucket = store.bucket(first).await?.ok_or(ServerError::NoBucket)?;
    bucket
        .verify(keyring.directory(), &keyring.identity().verifying_key())
        .map_err(|_| ServerError::ForeignKeys)?;
    if active.contains(&bucket.epoch) {
        Ok(())
    } else {
        Err(ServerError::NoSeed { epoch: bucket.epoch })
    }
}
