//! Readiness, over gRPC health checking: serving only while lookups can be
//! answered, and never again once the server begins to stop.

use tokio::sync::{Mutex, watch};
use tonic::server::NamedService as _;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::lookup::Lookup;
use crate::wire::proto::discovery_service_server::DiscoveryServiceServer;

/// The services that are reported: the server as a whole, and discovery.
const SERVICES: [&str; 2] = ["", DiscoveryServiceServer::<Lookup>::NAME];

/// Reports readiness.
pub(super) struct Health {
    reporter: HealthReporter,
    state: Mutex<State>,
    told: watch::Sender<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// What is said of the directory is in date, and what answers from memory is
    /// made.
    Ready {
        published: bool,
        prepared: bool,
    },
    Stopping,
}

impl State {
    const fn is_ready(self) -> bool {
        matches!(self, Self::Ready { published: true, prepared: true })
    }
}

impl Health {
    /// Not ready yet; if there is something to prepare, not before
    /// [`Self::prepared`].
    pub(super) async fn new(prepared: bool) -> Self {
        let state = Mutex::new(State::Ready { published: false, prepared });
        let told = watch::Sender::new(false);
        let health = Self { reporter: HealthReporter::new(), state, told };
        health.report(ServingStatus::NotServing).await;
        health
    }

    /// The service that tells it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Whether what is said of the directory is in date; has no effect once the
    /// server stops.
    pub(super) async fn set(&self, published: bool) {
        self.change(|state| match state {
            State::Ready { prepared, .. } => State::Ready { published, prepared },
            State::Stopping => State::Stopping,
        })
        .await;
    }

    /// What there was to prepare is prepared.
    pub(super) async fn prepared(&self) {
        self.change(|state| match state {
            State::Ready { published, .. } => State::Ready { published, prepared: true },
            State::Stopping => State::Stopping,
        })
        .await;
    }

    async fn change(&self, change: impl FnOnce(State) -> State + Send) {
        let mut state = self.state.lock().await;
        let before = *state;
        *state = change(before);
        if state.is_ready() != before.is_ready() {
            let serving = ServingStatus::Serving;
            self.report(if state.is_ready() { serving } else { ServingStatus::NotServing }).await;
        }
    }

    /// Not ready any more; who watches is told so and let go.
    pub(super) async fn stop(&self) {
        let mut state = self.state.lock().await;
        *state = State::Stopping;
        self.report(ServingStatus::NotServing).await;
        let mut reporter = self.reporter.clone();
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    }

    /// Whether it is ready, for as long as it lasts.
    pub(super) fn ready(&self) -> watch::Receiver<bool> {
        self.told.subscribe()
    }

    async fn report(&self, status: ServingStatus) {
        self.told.send_replace(status == ServingStatus::Serving);
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
