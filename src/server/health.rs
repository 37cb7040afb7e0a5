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
    Ready(bool),
    Stopping,
}

impl Health {
    /// Not ready yet.
    pub(super) async fn new() -> Self {
        let state = Mutex::new(State::Ready(false));
        let told = watch::Sender::new(false);
        let health = Self { reporter: HealthReporter::new(), state, told };
        health.report(ServingStatus::NotServing).await;
        health
    }

    /// The service that tells it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Ready, or not; has no effect once the server stops.
    pub(super) async fn set(&self, ready: bool) {
        let mut state = self.state.lock().await;
        if *state == State::Ready(!ready) {
            *state = State::Ready(ready);
            let serving = ServingStatus::Serving;
            self.report(if ready { serving } else { ServingStatus::NotServing }).await;
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
