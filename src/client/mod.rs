//! The SDK: looks people up in a directory that learns neither whom nor
//! whether they were found, and believes nothing that it cannot check.
//!
//! A lookup is one round trip of two calls that go out at once: the identifier,
//! blinded, beside an element of chance, for the OPRF (RFC 9497); and the
//! leading bits of the identifier's hash, for the bucket in which it would lie.
//! What comes back is verified whole, with the key that is pinned in
//! [`ClientOptions`]: the evaluation's proof, the bucket's signature and
//! version, each mapping's signature. Then the entry opens, or there is none.
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

mod blocking;
mod connect;
mod decoys;
mod directory;
mod error;
mod lookup;
mod options;
mod pins;
mod question;
pub mod registry;
mod state;
mod versions;

use std::{fmt, sync::Arc};

pub use error::{ClientError, Fault};
pub use options::ClientOptions;

pub use crate::clock::Clock;
pub use state::{FolderState, MemoryState, Part, State, StateError};

use self::{
    connect::Pool, decoys::Decoys, directory::Directory, lookup::Lookups, state::Parts,
    versions::Versions,
};
use crate::{
    bucket::{Audience, DirectoryId},
    identifier::{Sii, Ssi},
    wire::Parameters,
};

/// One mapping of an identifier, verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Who is found, and where.
    pub ssi: Ssi,
    /// Whom the mapping is meant for.
    pub audience: Audience,
    /// Whether the identifier's owner prefers this mapping; one of them is.
    pub default: bool,
    /// Seconds for which the mapping may be kept.
    pub ttl_s: u32,
    /// Until when the mapping counts as verified, seconds since 1970; 0 when
    /// its provider vouches without end.
    pub verified_until_s: u32,
}

/// What was found under an identifier: nothing, too, is an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The identifier.
    pub sii: Sii,
    /// Its mappings, in the directory's order.
    pub mappings: Vec<Found>,
    /// How many entries of this identifier did not open and were skipped: the
    /// directory is damaged, or its server lies. Not told to anybody.
    pub damaged: usize,
}

impl Answer {
    /// The mapping that the identifier's owner prefers.
    #[must_use]
    pub fn default(&self) -> Option<&Found> {
        self.mappings.iter().find(|found| found.default)
    }
}

/// A client of one directory. Clones share connections, parameters and state.
#[derive(Clone)]
pub struct Client(Arc<Lookups>);

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
    pub async fn connect(
        options: ClientOptions,
        state: Arc<dyn State>,
    ) -> Result<Self, ClientError> {
        options.check()?;
        let pool = Arc::new(Pool::open(&options)?);
        let parts = Parts::new(state, DirectoryId::of(&options.identity));
        let versions = Versions::load(&parts).await?;
        let decoys = Arc::new(Decoys::load(&parts).await?);
        let directory = Directory::open(&options, &pool, &parts).await?;
        let pinned = options.max_prefix_bits;
        Ok(Self(Arc::new(Lookups { pool, directory, versions, decoys, pinned })))
    }

    /// Looks one identifier up.
    ///
    /// # Errors
    /// The server cannot be reached in time or lies, or a mapping cannot be
    /// trusted.
    pub async fn lookup(&self, sii: &Sii) -> Result<Answer, ClientError> {
        let mut answers = self.lookup_many(std::slice::from_ref(sii)).await?;
        answers.pop().ok_or(ClientError::Computation)?
    }

    /// Looks many identifiers up, in batches of up to 256: one result for each
    /// that is given, in the order given. The same identifier twice is asked
    /// once.
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
    ) -> Result<Vec<Result<Answer, ClientError>>, ClientError> {
        self.0.many(siis).await
    }

    /// The directory's parameters, fetched anew when the schedule says so.
    ///
    /// # Errors
    /// They are due, and the server cannot be reached or lies.
    pub async fn parameters(&self) -> Result<Parameters, ClientError> {
        Ok(self.0.directory.view().await?.parameters.clone())
    }
}
