//! The least that a tonic server does for a fetch: the same service, call and
//! messages, and always the same answer from memory. No bounds, checks, cache
//! or store.

use blindbook::wire::proto::{
    EvaluateRequest, EvaluateResponse, FetchBucketsRequest, FetchBucketsResponse,
    GetParametersRequest, GetParametersResponse, ListProvidersRequest, ListProvidersResponse,
    discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
};
use tokio_stream::Once;
use tonic::{
    Request, Response, Status,
    transport::{Identity, Server, ServerTlsConfig, server::TcpIncoming},
};

use super::{
    directory::Directory,
    serving::{Serving, until},
};

struct Echo(FetchBucketsResponse);

/// Serves `answer` to every fetch.
pub(super) async fn serve(
    directory: &Directory,
    answer: FetchBucketsResponse,
    tls: bool,
) -> anyhow::Result<Serving> {
    let mut server = Server::builder();
    if tls {
        let identity = Identity::from_pem(&directory.tls.cert, directory.tls.key.as_bytes());
        server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
    }
    let service = DiscoveryServiceServer::new(Echo(answer));
    Serving::start(tls, |listener, stopped| async move {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        server.serve_with_incoming_shutdown(service, incoming, until(stopped)).await?;
        Ok(())
    })
    .await
}

#[tonic::async_trait]
impl DiscoveryService for Echo {
    type FetchBucketsStream = Once<Result<FetchBucketsResponse, Status>>;

    async fn fetch_buckets(
        &self,
        _: Request<FetchBucketsRequest>,
    ) -> Result<Response<Self::FetchBucketsStream>, Status> {
        Ok(Response::new(tokio_stream::once(Ok(self.0.clone()))))
    }

    async fn get_parameters(
        &self,
        _: Request<GetParametersRequest>,
    ) -> Result<Response<GetParametersResponse>, Status> {
        Err(only_fetches())
    }

    async fn list_providers(
        &self,
        _: Request<ListProvidersRequest>,
    ) -> Result<Response<ListProvidersResponse>, Status> {
        Err(only_fetches())
    }

    async fn evaluate(
        &self,
        _: Request<EvaluateRequest>,
    ) -> Result<Response<EvaluateResponse>, Status> {
        Err(only_fetches())
    }
}

fn only_fetches() -> Status {
    Status::unimplemented("an echo answers fetches only")
}
