//! The registry, live: what partners change while the server serves. Who asks
//! is known by the connection; what they may is decided here; what they prove
//! and what they change is the registry's.
//!
//! No part of a request is logged. A refusal names its reason and changes
//! nothing.

mod bulk;
mod changes;
mod claims;
mod error;
mod options;
mod proofs;
mod sweeper;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use self::bulk::Outcomes;
pub use self::options::{RegistryOptions, Verification};
pub(super) use self::{error::RegistryError, sweeper::keep_swept};
use super::{
    Clock,
    feed::{self, Feed},
    peer::Caller,
};
use crate::{
    access::{Partner, Role},
    identifier::{Provider, Region, Sii},
    registry::Ledger,
    wire::{
        Watch, WireError,
        proto::{self, registry_service_server::RegistryService},
    },
};

/// The registry's side of the server. Clones share everything.
#[derive(Clone)]
pub(super) struct Registry(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    feed: Feed,
    options: RegistryOptions,
    /// Where numbers must be from; empty for anywhere.
    regions: Vec<Region>,
    clock: Clock,
}

impl Registry {
    pub(super) fn new(
        ledger: Ledger,
        feed: Feed,
        options: RegistryOptions,
        regions: Vec<Region>,
        clock: Clock,
    ) -> Self {
        Self(Arc::new(Inner { ledger, feed, options, regions, clock }))
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.0.feed
    }

    pub(super) fn sweep_period(&self) -> std::time::Duration {
        self.0.options.sweep_period
    }
}

/// The provider that asks.
fn provider<T>(request: &Request<T>) -> Result<Provider, RegistryError> {
    caller(request)?.partner.provider().cloned()
}

/// Who asks.
fn caller<T>(request: &Request<T>) -> Result<&Caller, RegistryError> {
    Ok(Caller::of(request)?)
}

impl Partner {
    fn provider(&self) -> Result<&Provider, RegistryError> {
        match &self.role {
            Role::Ap(provider) => Ok(provider),
            Role::Peer | Role::Authority(_) | Role::Admin => Err(RegistryError::NotAProvider),
        }
    }

    /// An authority that speaks for this identifier.
    fn covers(&self, sii: &Sii) -> Result<(), RegistryError> {
        match &self.role {
            Role::Authority(coverage) if coverage.covers(sii) => Ok(()),
            Role::Authority(_) => Err(RegistryError::NotCovered),
            Role::Ap(_) | Role::Peer | Role::Admin => Err(RegistryError::NotAnAuthority),
        }
    }
}

impl Inner {
    fn now_s(&self) -> u64 {
        self.clock.now_s()
    }

    /// Refuses numbers of other regions than those that are served.
    fn check_region(&self, sii: &Sii) -> Result<(), RegistryError> {
        if self.regions.is_empty() || sii.is_in(&self.regions) {
            Ok(())
        } else {
            Err(RegistryError::Region)
        }
    }
}

/// What a watcher is told, as it is sent.
pub(super) struct Told(feed::Told);

impl Stream for Told {
    type Item = Result<proto::WatchInvalidationsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let told = ready!(self.0.poll_recv(cx));
        Poll::Ready(told.map(|told| Ok(told.map_err(RegistryError::from)?.into())))
    }
}

/// The checked form of a request.
fn checked<P, T: TryFrom<P, Error = WireError>>(request: Request<P>) -> Result<T, RegistryError> {
    Ok(request.into_inner().try_into()?)
}

#[tonic::async_trait]
impl RegistryService for Registry {
    async fn start_verification(
        &self,
        request: Request<proto::StartVerificationRequest>,
    ) -> Result<Response<proto::StartVerificationResponse>, Status> {
        let provider = provider(&request)?;
        let started = self.0.start_verification(&provider, checked(request)?).await?;
        Ok(Response::new(started.into()))
    }

    async fn finish_verification(
        &self,
        request: Request<proto::FinishVerificationRequest>,
    ) -> Result<Response<proto::FinishVerificationResponse>, Status> {
        let provider = provider(&request)?;
        let finished = self.0.finish_verification(&provider, checked(request)?).await?;
        Ok(Response::new(finished.into()))
    }

    async fn start_challenge(
        &self,
        request: Request<proto::StartChallengeRequest>,
    ) -> Result<Response<proto::StartChallengeResponse>, Status> {
        let provider = provider(&request)?;
        let started = self.0.start_challenge(&provider, checked(request)?).await?;
        Ok(Response::new(started.into()))
    }

    async fn claim(
        &self,
        request: Request<proto::ClaimRequest>,
    ) -> Result<Response<proto::ClaimResponse>, Status> {
        let provider = provider(&request)?;
        let claimed = self.0.claim(&provider, checked(request)?).await?;
        Ok(Response::new(claimed.into()))
    }

    type ClaimManyStream = Outcomes;

    async fn claim_many(
        &self,
        request: Request<Streaming<proto::ClaimManyRequest>>,
    ) -> Result<Response<Outcomes>, Status> {
        let provider = provider(&request)?;
        let caller = caller(&request)?.clone();
        Ok(Response::new(Outcomes::new(self.0.clone(), caller, provider, request.into_inner())))
    }

    async fn set_preferences(
        &self,
        request: Request<proto::SetPreferencesRequest>,
    ) -> Result<Response<proto::SetPreferencesResponse>, Status> {
        let provider = provider(&request)?;
        self.0.set_preferences(&provider, checked(request)?).await?;
        Ok(Response::new(proto::SetPreferencesResponse {}))
    }

    async fn release(
        &self,
        request: Request<proto::ReleaseRequest>,
    ) -> Result<Response<proto::ReleaseResponse>, Status> {
        let partner = caller(&request)?.partner.clone();
        let released = self.0.release(&partner, checked(request)?).await?;
        Ok(Response::new(released.into()))
    }

    async fn port(
        &self,
        request: Request<proto::PortRequest>,
    ) -> Result<Response<proto::PortResponse>, Status> {
        let partner = caller(&request)?.partner.clone();
        let ported = self.0.port(&partner, checked(request)?).await?;
        Ok(Response::new(ported.into()))
    }

    async fn list(
        &self,
        request: Request<proto::ListRequest>,
    ) -> Result<Response<proto::ListResponse>, Status> {
        let provider = provider(&request)?;
        let listed = self.0.list(&provider, checked(request)?).await?;
        Ok(Response::new(listed.into()))
    }

    type WatchInvalidationsStream = Told;

    async fn watch_invalidations(
        &self,
        request: Request<proto::WatchInvalidationsRequest>,
    ) -> Result<Response<Told>, Status> {
        let watch: Watch = checked(request)?;
        Ok(Response::new(Told(self.0.feed.watch(watch))))
    }
}
