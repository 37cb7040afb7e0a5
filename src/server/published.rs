//! What the server has published: the signed parameters and the signed list of
//! providers, one set for all clients.

use std::sync::{PoisonError, RwLock};

use crate::wire::{SignedBody, proto};

/// The two signed bodies, as they are sent.
#[derive(Clone)]
struct Bodies {
    parameters: proto::GetParametersResponse,
    providers: proto::ListProvidersResponse,
}

/// Holds what is published; empty until the first set is.
#[derive(Default)]
pub(super) struct Published(RwLock<Option<Bodies>>);

impl Published {
    /// Both at once, for every client from here on.
    pub(super) fn replace(&self, parameters: SignedBody, providers: SignedBody) {
        let bodies = Bodies { parameters: parameters.into(), providers: providers.into() };
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(bodies);
    }

    pub(super) fn parameters(&self) -> Option<proto::GetParametersResponse> {
        self.read(|bodies| bodies.parameters.clone())
    }

    pub(super) fn providers(&self) -> Option<proto::ListProvidersResponse> {
        self.read(|bodies| bodies.providers.clone())
    }

    fn read<T>(&self, take: impl FnOnce(&Bodies) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(take)
    }
}
