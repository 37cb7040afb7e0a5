//! The least that a tonic server does for a fetch or a resolve: the same service,
//! call and messages, and always the same answer from memory. No bounds, checks,
//! cache or store.

use blindbook::wire::proto::{
    EvaluateRequest, EvaluateResponse, FetchBucketsRequest, FetchBucketsResponse,
    GetParametersRequest, GetParametersResponse, ListProvidersRequest, ListProvidersResponse,
    QueryPirRequest, QueryPirResponse, ResolveManyRequest, ResolveManyResponse, ResolveRequest,
    ResolveResponse,
    discovery_service_server::{DiscoveryService, DiscoveryServiceServer},
    sidecar_service_server::{SidecarService, SidecarServiceServer},
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

    async fn query_pir(
        &self,
        _: Request<QueryPirRequest>,
    ) -> Result<Response<QueryPirResponse>, Status> {
        Err(only_fetches())
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

struct ResolveEcho(ResolveResponse);

/// Serves `answer` to every resolve.
pub(super) async fn serve_resolves(answer: ResolveResponse) -> anyhow::Result<Serving> {
    let service = SidecarServiceServer::new(ResolveEcho(answer));
    Serving::start(false, |listener, stopped| async move {
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder();
        server.serve_with_incoming_shutdown(service, incoming, until(stopped)).await?;
        Ok(())
    })
    .await
}

#[tonic::async_trait]
impl SidecarService for ResolveEcho {
    async fn resolve(
        &self,
        _: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }

    async fn resolve_many(
        &self,
        _: Request<ResolveManyRequest>,
    ) -> Result<Response<ResolveManyResponse>, Status> {
        Err(Status::unimplemented("an echo answers single resolves only"))
    }
}
