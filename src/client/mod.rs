//! The SDK: looks people up in a directory that learns neither whom nor
//! whether they were found, and believes nothing that it cannot check.
//!
//! A lookup is one round trip of two calls that go out at once: the identifier,
//! blinded, beside an element of chance, for the OPRF (RFC 9497); and the
//! leading bits of the identifier's hash, for the bucket in which it would lie.
//! The first is left out when its output is known from an earlier lookup.
//! What comes back is verified whole, with the key that is pinned in
//! [`ClientOptions`]: the evaluation's proof, the bucket's signature and
//! version, each mapping's signature. Then the entry opens, or there is none.
//!
//! Where the directory offers private information retrieval a single lookup asks
//! for the row of its bucket in that way instead, and tells no bits: see [`Mode`].
//!
//! [`Client::lookup_many`] asks in batches of fixed sizes that stored decoys
//! fill up. Hits and misses, found and damaged entries make the same calls, of
//! the same sizes, and leave the same traces in the [`State`]; nothing in an
//! answer ever causes a request, but that a server which has moved to another
//! epoch is asked once more, under its new signed parameters.
//!
//! ```
//! use std::sync::Arc;
//!
//! use blindbook::{
//!     client::{Client, ClientError, ClientOptions, MemoryState},
//!     identifier::Sii,
//! };
//!
//! # mod directory { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fake_directory/mod.rs")); }
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let running = directory::Running::example().await;
//! # let (address, identity) = (running.address(), running.identity());
//! // The address says where, the identity key who: no certificate can replace it.
//! let options = ClientOptions::new(address, identity);
//! // A `FolderState` remembers across restarts what protects against old answers.
//! let client = Client::connect(options, Arc::new(MemoryState::new())).await?;
//!
//! let alice = Sii::parse("+1 415 555 0100", None)?;
//! let answer = client.lookup(&alice).await?;
//! let found = answer.default().ok_or("nobody")?;
//! assert_eq!(found.ssi.provider().as_str(), "wa.example");
//! assert_eq!(found.ssi.user().as_str(), "alice");
//!
//! // A miss is an answer like any other.
//! let nobody = Sii::parse("nobody@example.org", None)?;
//! assert!(client.lookup(&nobody).await?.mappings.is_empty());
//!
//! // Many at once: one result each, in the order given.
//! let answers = client.lookup_many(&[nobody, alice]).await?;
//! let found: Vec<usize> = answers
//!     .into_iter()
//!     .map(|answer| Ok(answer?.mappings.len()))
//!     .collect::<Result<_, ClientError>>()?;
//! assert_eq!(found, [0, 1]);
//! # Ok(())
//! # }
//! ```
//!
//! # Errors
//! [`ClientError`] has a variant for each way in which a server can lie, and
//! [`ClientError::fault`] tells whether the server, the network, the caller or
//! this side is to blame. No error holds an identifier or a text that the
//! server chose.

pub mod admin;
mod answer;
mod blocking;
mod cache;
mod connect;
mod decoys;
mod dial;
mod directory;
mod error;
mod exchange;
mod follow;
mod lookup;
mod marks;
mod options;
mod pins;
mod question;
pub mod registry;
mod retrieval;
mod state;
mod throttle;
pub mod tokens;
mod versions;

use std::{fmt, pin::Pin, sync::Arc};

pub use answer::{Answer, Distrust, Found, Unverified};
pub use error::{ClientError, Fault};
pub use follow::{Follower, Link};
pub use options::{ClientCertificate, ClientOptions, Mode, Reconnect};
pub use state::{FolderState, MemoryState, Part, Shard, State, StateError};
pub use throttle::Throttle;

pub use crate::{bucket::Circle, clock::Clock};

use self::{
    cache::{Cache, Outcome},
    connect::Pool,
    decoys::Decoys,
    directory::Directory,
    follow::Following,
    lookup::{Lookups, When},
    retrieval::{Offer, Way},
    state::Parts,
    tokens::Wallet,
    versions::Versions,
};
use crate::{bucket::DirectoryId, identifier::Sii, wire::Parameters};

/// A client of one directory. Clones share connections, parameters, cached
/// answers and state.
#[derive(Clone)]
pub struct Client {
    lookups: Arc<Lookups>,
    following: Arc<Following>,
}

/// Work that is compiled with the library, and not once more with each crate that
/// awaits it.
type Compiled<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

fn compiled<'a, T>(work: impl Future<Output = T> + Send + 'a) -> Compiled<'a, T> {
    Box::pin(work)
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Reads the state and, unless it holds them, fetches the directory's
    /// parameters and providers. Connections are made as they are needed.
    ///
    /// # Errors
    /// The options are of no use, the state cannot be read or is damaged, the
    /// server cannot be reached, or it is not the one of the pinned identity.
    pub fn connect(
        options: ClientOptions,
        state: Arc<dyn State>,
    ) -> impl Future<Output = Result<Self, ClientError>> + Send {
        compiled(Self::connected(options, state))
    }

    async fn connected(options: ClientOptions, state: Arc<dyn State>) -> Result<Self, ClientError> {
        options.check()?;
        let pool = Arc::new(Pool::open(&options)?);
        let parts = Parts::new(state, DirectoryId::of(&options.identity));
        let versions = Versions::load(&parts).await?;
        let decoys = Arc::new(Decoys::load(&parts).await?);
        let (capacity, circle) = (options.cached_answers, options.circle.clone());
        let cache = Cache::load(&parts, capacity, circle.as_ref()).await?;
        let clock = options.clock.clone();
        let following =
            Following::load(&pool, &cache, &parts, options.reconnect, clock.clone()).await?;
        let directory = Directory::open(&options, &pool, &parts).await?;
        let (pinned, mode) = (options.max_prefix_bits, options.mode);
        let offer = Offer::load(&parts).await?;
        let wallet = match options.tokens.clone() {
            Some(supply) => {
                Some(Wallet::load(supply, &pool, options.identity, &parts, clock.clone()).await?)
            }
            None => None,
        };
        let lookups = Lookups {
            pool,
            directory,
            versions,
            decoys,
            cache,
            circle,
            pinned,
            clock,
            wallet,
            mode,
            offer,
            public: Arc::default(),
            evaluations: Throttle::default(),
            queries: Throttle::default(),
        };
        Ok(Self { lookups: Arc::new(lookups), following })
    }

    /// Looks one identifier up: in the cache, or, once in the directory's
    /// refresh period, in the directory.
    ///
    /// # Errors
    /// The server cannot be reached in time or lies, or a mapping cannot be
    /// trusted. The last, too, is kept until the period's end.
    pub async fn lookup(&self, sii: &Sii) -> Result<Arc<Answer>, ClientError> {
        self.one(sii, When::Due).await
    }

    /// Looks one identifier up in the directory, whatever is cached. A caller
    /// that refreshes because an answer is stale, or because it is a hit, tells
    /// the server so: refresh for reasons of one's own.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub async fn refresh(&self, sii: &Sii) -> Result<Arc<Answer>, ClientError> {
        self.one(sii, When::Now).await
    }

    /// What [`Self::lookup`] would answer from the cache; `None` when it would
    /// ask the directory. Neither waits nor asks nor reads a file.
    #[must_use]
    pub fn cached(&self, sii: &Sii) -> Option<Result<Arc<Answer>, ClientError>> {
        self.lookups.cached(sii, self.lookups.clock.now_s())
    }

    /// Looks many identifiers up, in batches of up to 256: one result for each
    /// that is given, in the order given. The same identifier twice is asked
    /// once, and what the cache answers is not asked.
    ///
    /// Who syncs an address book gives all of it each time: what is asked
    /// today and was not yesterday is new to the server too.
    ///
    /// # Errors
    /// A batch failed as a whole: the server cannot be reached in time, or
    /// lies. What concerns one identifier only is that one's error.
    pub async fn lookup_many(
        &self,
        siis: &[Sii],
    ) -> Result<Vec<Result<Arc<Answer>, ClientError>>, ClientError> {
        self.ask(siis, When::Due, false).await
    }

    /// Looks many identifiers up in the directory, whatever is cached.
    ///
    /// # Errors
    /// As [`Self::lookup_many`].
    pub async fn refresh_many(
        &self,
        siis: &[Sii],
    ) -> Result<Vec<Result<Arc<Answer>, ClientError>>, ClientError> {
        self.ask(siis, When::Now, false).await
    }

    /// Follows the directory's changes while [`Follower::run`] runs, so that
    /// cached answers that may be out of date say so. It never asks for one.
    #[must_use]
    pub fn follow(&self) -> Follower {
        Follower::new(Arc::clone(&self.following))
    }

    /// Has at least so many unspent tokens of today, on one's own schedule: what
    /// is asked of the provider when a lookup needs it tells that there is one.
    /// Without [`ClientOptions::tokens`] nothing is done.
    ///
    /// # Errors
    /// The provider gives none, or the directory cannot be reached or lies.
    pub fn stock_tokens(
        &self,
        count: usize,
    ) -> impl Future<Output = Result<(), ClientError>> + Send {
        compiled(async move {
            match &self.lookups.wallet {
                Some(wallet) => wallet.stock(count).await,
                None => Ok(()),
            }
        })
    }

    /// The directory's parameters, fetched anew when the schedule says so.
    ///
    /// # Errors
    /// They are due, and the server cannot be reached or lies.
    pub fn parameters(&self) -> impl Future<Output = Result<Parameters, ClientError>> + Send {
        compiled(async move { Ok(self.lookups.directory.view().await?.parameters.clone()) })
    }

    async fn one(&self, sii: &Sii, when: When) -> Result<Arc<Answer>, ClientError> {
        if when == When::Due
            && let Some(outcome) = self.cached(sii)
        {
            return outcome;
        }
        let mut answers = self.ask(std::slice::from_ref(sii), when, true).await?;
        answers.pop().ok_or(ClientError::Computation)?
    }

    fn ask<'a>(
        &'a self,
        siis: &'a [Sii],
        when: When,
        alone: bool,
    ) -> Compiled<'a, Result<Vec<Outcome>, ClientError>> {
        compiled(async move {
            let way = if alone || self.lookups.mode == Some(Mode::Pir) {
                self.lookups.way().await?
            } else {
                Way::Bucket
            };
            self.lookups.many(siis, when, way).await
        })
    }
}
