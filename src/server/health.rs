//! Readiness, over gRPC health checking: serving only while lookups can be
//! answered, and never again once the server begins to stop.

use tokio::sync::Mutex;
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
    stopping: Mutex<bool>,
}

impl Health {
    /// Not ready yet.
    pub(super) async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), stopping: Mutex::new(false) };
        health.report(ServingStatus::NotServing).await;
        health
    }

    /// The service that tells it.
    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    /// Ready, or not; has no effect once the server stops.
    pub(super) async fn set(&self, ready: bool) {
        let stopping = self.stopping.lock().await;
        if !*stopping {
            self.report(if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        }
    }

    /// Not ready any more; who watches is told so and let go.
    pub(super) async fn stop(&self) {
        let mut stopping = self.stopping.lock().await;
        *stopping = true;
        self.report(ServingStatus::NotServing).await;
        let mut reporter = self.reporter.clone();
        for service in SERVICES {
            reporter.clear_service_status(service).await;
        }
    }

    async fn report(&self, status: ServingStatus) {
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
    }
}
