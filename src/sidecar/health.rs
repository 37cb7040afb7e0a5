//! Readiness, over gRPC health checking: serving only while every directory is
//! known, and never again once the sidecar begins to stop.

use tokio::sync::Mutex;
use tonic::server::NamedService as _;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use super::resolve::Resolver;
use crate::wire::proto::sidecar_service_server::SidecarServiceServer;

/// The services that are reported: the sidecar as a whole, and its own.
const SERVICES: [&str; 2] = ["", SidecarServiceServer::<Resolver>::NAME];

/// Reports readiness.
pub(super) struct Health {
    reporter: HealthReporter,
    state: Mutex<State>,
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
        let health = Self { reporter: HealthReporter::new(), state };
        health.report(false).await;
        health
    }

    /// The service that tells it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Looks again whether all is ready; has no effect once the sidecar stops.
    pub(super) async fn look(&self, ready: impl FnOnce() -> bool) {
        let mut state = self.state.lock().await;
        // Looked at under the lock: the last report is of the last look.
        let ready = ready();
        if *state == State::Ready(!ready) {
            *state = State::Ready(ready);
            self.report(ready).await;
        }
    }

    /// Not ready any more; who watches is told so and let go.
    pub(super) async fn stop(&self) {
        let mut state = self.state.lock().await;
        *state = State::Stopping;
        self.report(false).await;
        let mut reporter = self.reporter.clone();
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    }

    async fn report(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
