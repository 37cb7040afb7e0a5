//! What the sidecar has of the SDK: one directory's client, and its answers as
//! the sidecar gives them on. Nothing else here knows the client's calls.

use std::sync::Arc;

use crate::{
    client::{Answer, Client, ClientError, ClientOptions, Clock, Found, State},
    identifier::Sii,
};

/// One directory, whose parameters are known.
#[derive(Clone)]
pub(super) struct Source {
    client: Client,
    clock: Clock,
}

/// What a directory answered.
pub(super) struct Resolved {
    pub(super) mappings: Vec<Found>,
    /// When, seconds since 1970.
    pub(super) answered_at_s: u64,
    /// Whether it may have changed since.
    pub(super) stale: bool,
    pub(super) damaged: usize,
}

impl Source {
    /// Reads the state, and fetches the parameters unless it holds them.
    pub(super) async fn connect(
        options: ClientOptions,
        state: Arc<dyn State>,
    ) -> Result<Self, ClientError> {
        let clock = options.clock.clone();
        Ok(Self { client: Client::connect(options, state).await?, clock })
    }

    /// Whether the parameters are known; fetched anew when their schedule says
    /// so.
    pub(super) async fn check(&self) -> Result<(), ClientError> {
        self.client.parameters().await.map(drop)
    }

    /// One identifier.
    pub(super) async fn one(&self, sii: &Sii, refresh: bool) -> Result<Resolved, ClientError> {
        // The client keeps no answers: every one is fresh.
        let _ = refresh;
        Ok(self.resolved(self.client.lookup(sii).await?))
    }

    /// Many: one result each, in order.
    pub(super) async fn many(
        &self,
        siis: &[Sii],
        refresh: bool,
    ) -> Result<Vec<Result<Resolved, ClientError>>, ClientError> {
        let _ = refresh;
        let answers = self.client.lookup_many(siis).await?;
        Ok(answers.into_iter().map(|answer| Ok(self.resolved(answer?))).collect())
    }

    fn resolved(&self, answer: Answer) -> Resolved {
        Resolved {
            mappings: answer.mappings,
            answered_at_s: self.clock.now_s(),
            stale: false,
            damaged: answer.damaged,
        }
    }
}
