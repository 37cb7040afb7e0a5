//! What the sidecar has of the SDK: one directory's client, its answers, and
//! the following of its changes. Nothing else here knows the client's calls.

use std::{convert::Infallible, sync::Arc};

use crate::{
    client::{Answer, Client, ClientError, ClientOptions, State},
    identifier::Sii,
};

/// One directory, whose parameters are known.
#[derive(Clone)]
pub(super) struct Source(Client);

impl Source {
    /// Reads the state, and fetches the parameters unless it holds them.
    pub(super) async fn connect(
        options: ClientOptions,
        state: Arc<dyn State>,
    ) -> Result<Self, ClientError> {
        Ok(Self(Client::connect(options, state).await?))
    }

    /// Whether the parameters are known; fetched anew when their schedule says
    /// so.
    pub(super) async fn check(&self) -> Result<(), ClientError> {
        self.0.parameters().await.map(drop)
    }

    /// Follows what changes, for ever: answers that are kept then say when they
    /// may be out of date.
    pub(super) async fn follow(&self) -> Infallible {
        self.0.follow().run().await
    }

    /// One identifier, from the cache where it may be.
    pub(super) async fn one(&self, sii: &Sii, refresh: bool) -> Result<Arc<Answer>, ClientError> {
        if refresh {
            return self.0.refresh(sii).await;
        }
        match self.0.cached(sii) {
            Some(answer) => answer,
            None => self.0.lookup(sii).await,
        }
    }

    /// Many: one result each, in order.
    pub(super) async fn many(
        &self,
        siis: &[Sii],
        refresh: bool,
    ) -> Result<Vec<Result<Arc<Answer>, ClientError>>, ClientError> {
        if refresh { self.0.refresh_many(siis).await } else { self.0.lookup_many(siis).await }
    }
}
