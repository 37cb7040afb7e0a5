//! The sidecar: the SDK for a backend that is written in another language, as a
//! gRPC service on its own machine.
//!
//! It is told identifiers in plain text, so it listens on loopback or a Unix
//! socket only ([`Listen`]). It canonicalises them, asks the one directory that
//! the caller names or that the configured [`Route`]s choose, and gives on what
//! the SDK verified. Whatever comes back, a miss or a failure included, no
//! other directory is asked: who is sought would be told to all of them.
//!
//! [`Sidecar::open`] checks the options; [`Sidecar::run`] serves at once. A
//! directory that cannot be reached is tried again and again, meanwhile its
//! identifiers are answered with UNAVAILABLE, and the others are served; health
//! is SERVING only while every directory is known.
//!
//! No part of a request or an answer is logged here at any level. The crates
//! beneath make no such promise: whoever sets up logs holds all others at
//! warnings.

mod accept;
mod directory;
mod gate;
mod health;
mod listen;
mod options;
mod resolve;
mod routes;
mod source;
mod status;

use std::{future::Future, pin::Pin, sync::Arc};

use tokio::task::JoinSet;

use self::{directory::Directories, gate::Gate, health::Health, resolve::Resolver};
pub use self::{
    listen::{Listen, ListenError, Listener, SOCKET_MODE, SocketFile},
    options::{DirectoryOptions, SidecarOptions},
    resolve::MAX_SIIS,
    routes::{Route, RouteError},
    status::ERROR_DOMAIN,
};
use crate::client::ClientError;

/// Why a sidecar cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    // The operator's to mend.
    /// An option that cannot be.
    #[error("{name} {rule}")]
    Option {
        /// Which option.
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// A route behind others that take all of it.
    #[error(
        "no identifier would take the route {0}: an earlier one takes all of them; put the \
         narrower route first, or give the directory no routes (serves = []) if callers name it"
    )]
    Unreached(
        /// Which.
        Route,
    ),
    /// A directory's options or state are of no use.
    #[error("directory {name}: {error}")]
    Directory {
        /// Which.
        name: String,
        /// What its client says.
        error: ClientError,
    },

    // Ours.
    /// The service descriptors do not hold together.
    #[error("reflection cannot be served: {0}")]
    Reflection(String),
}

/// Work that is compiled with the library, and not once more with each crate that
/// awaits it.
type Compiled<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A sidecar that is ready to run.
#[derive(Debug)]
pub struct Sidecar {
    options: SidecarOptions,
}

impl Sidecar {
    /// Checks that the options can be. Nothing is asked yet.
    ///
    /// # Errors
    /// An option is out of range, or a directory out of reach of its routes.
    pub fn open(options: SidecarOptions) -> Result<Self, SidecarError> {
        options.check()?;
        Ok(Self { options })
    }

    /// Serves until `shutdown` ends; then takes no new calls, and returns when
    /// those under way have ended or the drain timeout has passed.
    ///
    /// # Errors
    /// A directory's options or state turn out to be of no use, which no
    /// patience mends.
    pub fn run<'a>(
        self,
        listener: Listener,
        shutdown: impl Future<Output = ()> + Send + 'a,
    ) -> impl Future<Output = Result<(), SidecarError>> + Send + 'a {
        self.run_until(listener, Box::pin(shutdown))
    }

    fn run_until(
        self,
        listener: Listener,
        shutdown: Compiled<'_, ()>,
    ) -> Compiled<'_, Result<(), SidecarError>> {
        Box::pin(self.running(listener, shutdown))
    }

    async fn running(
        self,
        listener: Listener,
        shutdown: Compiled<'_, ()>,
    ) -> Result<(), SidecarError> {
        let Self { options } = self;
        let health = Arc::new(Health::new().await);
        let directories = Arc::new(Directories::new(&options.directories));
        let resolver = Resolver { directories: directories.clone(), region: options.region };
        let gate = Gate::new(&resolver, health.service(), &options)?;
        let mut keepers = JoinSet::new();
        for (directory, its) in directories.iter().zip(&options.directories) {
            let keeper = directory::keep(
                directory.clone(),
                its.clone(),
                directories.clone(),
                health.clone(),
            );
            keepers.spawn(keeper);
        }
        tokio::select! {
            () = accept::serve(listener, gate, &options, &health, shutdown) => Ok(()),
            fault = fault(&mut keepers) => Err(fault),
        }
    }
}

/// Ends when a keeper meets what no patience mends.
async fn fault(
    keepers: &mut JoinSet<Result<std::convert::Infallible, SidecarError>>,
) -> SidecarError {
    loop {
        match keepers.join_next().await {
            Some(Ok(Err(fault))) => return fault,
            Some(Ok(Ok(never))) => match never {},
            Some(Err(_)) => tracing::error!("internal error: a directory's task panicked"),
            None => std::future::pending().await,
        }
    }
}
