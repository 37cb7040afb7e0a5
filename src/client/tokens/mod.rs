//! Anonymous tokens, where a directory asks for them: had from the user's
//! application provider, spent at the directory, and linked by neither.
//!
//! The client blinds, the provider has the directory sign ([`TokenSource`]), the
//! client unblinds. Each is forgotten before it is sent, and never sent for
//! anything else, not even when the request was refused: who saw one twice would
//! know two requests for one client's.

mod wallet;

use std::{fmt, sync::Arc};

pub use crate::{
    token::{Day, SIGNATURE_BYTES},
    wire::{IssueTokens, MAX_ISSUED},
};

pub(super) use self::wallet::Wallet;

/// Why a provider gave no tokens, in its own words. Do not name the user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct TokenSourceError(pub String);

/// The way to the user's application provider, whose backend calls `IssueTokens`
/// of the directory with its certificate.
///
/// A provider bounds what each of its users has signed; 256 a day pay 128
/// lookups. It learns when tokens are asked for, and nothing of their use: ask on
/// schedule ([`super::Client::stock_tokens`]), not when a lookup needs them.
#[tonic::async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// Has blinded messages signed: as many signatures, in their order.
    async fn issue(
        &self,
        request: IssueTokens,
    ) -> Result<Vec<[u8; SIGNATURE_BYTES]>, TokenSourceError>;
}

/// A token source as options hold it.
#[derive(Clone)]
pub struct TokenSupply(Arc<dyn TokenSource>);

impl TokenSupply {
    /// Tokens from this source.
    #[must_use]
    pub fn new(source: impl TokenSource) -> Self {
        Self(Arc::new(source))
    }
}

impl fmt::Debug for TokenSupply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSupply(..)")
    }
}
