//! What the sidecar has of the SDK: one directory's client, and its answers as
//! the sidecar gives them on. Nothing else here knows the client's calls.

use std::{convert::Infallible, future::pending, sync::Arc};

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
    answer: Arc<Answer>,
    answered_at_s: u64,
    stale: bool,
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

    /// Is told what changes, for as long as it runs.
    pub(super) async fn follow(&self) -> Infallible {
        // The client keeps no answers that could grow stale.
        pending().await
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
        Resolved { answer: Arc::new(answer), answered_at_s: self.clock.now_s(), stale: false }
    }
}

impl Resolved {
    /// All mappings, in the directory's order.
    pub(super) fn mappings(&self) -> &[Found] {
        &self.answer.mappings
    }

    /// When the directory was asked, seconds since 1970.
    pub(super) const fn answered_at_s(&self) -> u64 {
        self.answered_at_s
    }

    /// Whether it may have changed since.
    pub(super) const fn is_stale(&self) -> bool {
        self.stale
    }

    /// Entries that did not open.
    pub(super) fn damaged(&self) -> usize {
        self.answer.damaged
    }
}
