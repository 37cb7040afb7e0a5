//! The gate that every call passes: what it may ask for, how long its message
//! may be and how long it may take, and how many calls there may be.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::{Code, Status, codegen::Service, server::NamedService};
use tonic_health::{pb::health_server::HealthServer, server::HealthService};

use super::{
    SidecarError, SidecarOptions,
    resolve::{MAX_SIIS, Resolver},
};
use crate::wire::{
    grpc_timeout,
    proto::{FILE_DESCRIPTOR_SET, sidecar_service_server::SidecarServiceServer},
};

/// Calls that may last, health watches and reflection, at once.
const MAX_LASTING_CALLS: usize = 64;

/// Bytes of an identifier as it may be written, with its tag and length, and of
/// all else in a message.
const SII_BYTES: usize = 1024 + 4;
const SLACK_BYTES: usize = 256;

/// Longest message of health and reflection.
const MAX_SERVICE_MESSAGE_BYTES: usize = 1024;

/// Why a call does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    #[error("compressed messages are not taken: send grpc-encoding: identity or none")]
    Encoding,
    #[error("the request is not one encoded message of its kind")]
    Undecodable,
    #[error("the message is longer than any good one of this method")]
    TooLong,
    #[error("there is no such method")]
    Method,
    #[error("the deadline passed before there was an answer")]
    Deadline,
    #[error("grpc-timeout must be at most eight digits and one of H, M, S, m, u, n")]
    Timeout,
    #[error("the sidecar has too much to do: ask again later")]
    Busy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Resolve,
    ResolveMany,
    HealthCheck,
    HealthWatch,
    Reflection,
}

const SIDECAR: &str = <SidecarServiceServer<Resolver> as NamedService>::NAME;
const HEALTH: &str = <HealthServer<HealthService> as NamedService>::NAME;
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path.strip_prefix('/')?.split_once('/')? {
            (SIDECAR, "Resolve") => Some(Self::Resolve),
            (SIDECAR, "ResolveMany") => Some(Self::ResolveMany),
            (HEALTH, "Check") => Some(Self::HealthCheck),
            (HEALTH, "Watch") => Some(Self::HealthWatch),
            (REFLECTION, "ServerReflectionInfo") => Some(Self::Reflection),
            _ => None,
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Response<tonic::body::Body>> + Send>>;
type Door = Arc<dyn Fn(Request<tonic::body::Body>) -> Answering + Send + Sync>;

/// What lies behind the gate, for all connections.
pub(super) struct Gate {
    one: SidecarServiceServer<Resolver>,
    many: SidecarServiceServer<Resolver>,
    health: HealthServer<HealthService>,
    reflection: Door,
    calls: Arc<Semaphore>,
    batches: Arc<Semaphore>,
    lasting: Arc<Semaphore>,
    call_timeout: Duration,
}

impl Gate {
    pub(super) fn new(
        resolver: &Resolver,
        health: HealthServer<HealthService>,
        options: &SidecarOptions,
    ) -> Result<Self, SidecarError> {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .map_err(|error| SidecarError::Reflection(error.to_string()))?
            .max_decoding_message_size(MAX_SERVICE_MESSAGE_BYTES);
        let reflection = move |request| -> Answering {
            let mut reflection = reflection.clone();
            Box::pin(async move {
                let Ok(response) = reflection.call(request).await;
                response
            })
        };
        let takes = |siis: usize| {
            SidecarServiceServer::new(resolver.clone())
                .max_decoding_message_size(siis * SII_BYTES + SLACK_BYTES)
        };
        Ok(Self {
            one: takes(1),
            many: takes(MAX_SIIS),
            health: health.max_decoding_message_size(MAX_SERVICE_MESSAGE_BYTES),
            reflection: Arc::new(reflection),
            calls: Arc::new(Semaphore::new(options.max_calls)),
            batches: Arc::new(Semaphore::new(options.max_batches)),
            lasting: Arc::new(Semaphore::new(MAX_LASTING_CALLS)),
            call_timeout: options.call_timeout,
        })
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Answer> {
        let (response, place) = self.pass(request).await;
        response.map(|body| Answer { body, _place: place })
    }

    async fn pass(
        &self,
        request: Request<Incoming>,
    ) -> (Response<tonic::body::Body>, Option<OwnedSemaphorePermit>) {
        if !is_grpc(request.headers()) {
            let mut response = Response::new(tonic::body::Body::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return (response, None);
        }
        let (route, patience, place) = match self.admit(&request) {
            Ok(admitted) => admitted,
            Err(error) => {
                self.let_end(request);
                return (refuse(error), None);
            }
        };
        let answering = self.enter(route, request);
        let response = match patience {
            None => answering.await,
            Some(patience) => match timeout(patience, answering).await {
                Ok(response) => response,
                Err(_) => refuse(CallError::Deadline),
            },
        };
        (explain(response), place)
    }

    /// Lets a request that is refused come to its end beside the answer, and keeps
    /// nothing of it. An answer resets the stream of a request that nobody wants the
    /// rest of: what the peer has on its way then is a fault, and for many of them
    /// HTTP/2 closes the connection with all other calls on it, RFC 9113 section 5.1.
    fn let_end(&self, request: Request<Incoming>) {
        let mut left = match Route::of(request.uri().path()) {
            Some(Route::Resolve) => SII_BYTES + SLACK_BYTES,
            Some(Route::ResolveMany) => MAX_SIIS * SII_BYTES + SLACK_BYTES,
            _ => return,
        };
        let mut body = request.into_body();
        if body.is_end_stream() {
            return;
        }
        let rest = async move {
            while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                let piece = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(piece) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        // No more of them than there are streams.
        tokio::spawn(timeout(self.call_timeout, rest));
    }

    /// Whether there is a way and a place for a call, and how long it may take.
    fn admit<B>(
        &self,
        request: &Request<B>,
    ) -> Result<(Route, Option<Duration>, Option<OwnedSemaphorePermit>), CallError> {
        let route = Route::of(request.uri().path()).ok_or(CallError::Method)?;
        let identity = |encoding: &http::HeaderValue| encoding.as_bytes() == b"identity";
        if !request.headers().get_all("grpc-encoding").iter().all(identity) {
            return Err(CallError::Encoding);
        }
        let (room, lasts) = match route {
            Route::Resolve => (Some(&self.calls), false),
            Route::ResolveMany => (Some(&self.batches), false),
            // A sidecar that has much to do is in good health.
            Route::HealthCheck => (None, false),
            Route::HealthWatch | Route::Reflection => (Some(&self.lasting), true),
        };
        let asked = asked_timeout(request.headers())?.unwrap_or(Duration::MAX);
        let place = room.map(|room| Arc::clone(room).try_acquire_owned()).transpose();
        let place = place.map_err(|_| CallError::Busy)?;
        Ok((route, (!lasts).then(|| asked.min(self.call_timeout)), place))
    }

    async fn enter(&self, route: Route, request: Request<Incoming>) -> Response<tonic::body::Body> {
        let Ok(response) = match route {
            Route::Resolve => self.one.clone().call(request).await,
            Route::ResolveMany => self.many.clone().call(request).await,
            Route::HealthCheck | Route::HealthWatch => self.health.clone().call(request).await,
            Route::Reflection => Ok((self.reflection)(request.map(tonic::body::Body::new)).await),
        };
        response
    }
}

/// Anything else gets an HTTP status.
fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

fn asked_timeout(headers: &HeaderMap) -> Result<Option<Duration>, CallError> {
    let read = |value: &http::HeaderValue| grpc_timeout(value.as_bytes());
    headers.get("grpc-timeout").map(|value| read(value).ok_or(CallError::Timeout)).transpose()
}

fn refuse(error: CallError) -> Response<tonic::body::Body> {
    Status::from(error).into_http()
}

/// Puts our words for a status that the library made: its own have no details.
fn explain(response: Response<tonic::body::Body>) -> Response<tonic::body::Body> {
    let Some(status) = response.extensions().get::<Status>() else { return response };
    if !status.details().is_empty() {
        return response;
    }
    match status.code() {
        Code::Internal => refuse(CallError::Undecodable),
        Code::OutOfRange => refuse(CallError::TooLong),
        Code::Unimplemented => refuse(CallError::Method),
        // Health says NOT_FOUND for a service that it does not know.
        _ => response,
    }
}

/// The gate as one connection sees it.
#[derive(Clone)]
pub(super) struct Entrance(pub(super) Arc<Gate>);

impl hyper::service::Service<Request<Incoming>> for Entrance {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let gate = Arc::clone(&self.0);
        Box::pin(async move { Ok(gate.answer(request).await) })
    }
}

/// The body of an answer: its call keeps its place until it has left.
pub(super) struct Answer {
    body: tonic::body::Body,
    _place: Option<OwnedSemaphorePermit>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn every_declared_method_has_a_route_and_no_other_has() {
        for (path, route) in [
            ("/blindbook.v1.SidecarService/Resolve", Route::Resolve),
            ("/blindbook.v1.SidecarService/ResolveMany", Route::ResolveMany),
            ("/grpc.health.v1.Health/Check", Route::HealthCheck),
            ("/grpc.health.v1.Health/Watch", Route::HealthWatch),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Route::Reflection),
        ] {
            assert_eq!(Route::of(path), Some(route));
        }
        for path in ["", "/", "Resolve", "/blindbook.v1.SidecarService/", "/x/Resolve"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_timeout_that_is_none_is_refused() {
        let mut headers = HeaderMap::new();
        assert_eq!(asked_timeout(&headers), Ok(None));
        headers.insert("grpc-timeout", HeaderValue::from_static("3S"));
        assert_eq!(asked_timeout(&headers), Ok(Some(Duration::from_secs(3))));
        headers.insert("grpc-timeout", HeaderValue::from_static("3s"));
        assert_eq!(asked_timeout(&headers), Err(CallError::Timeout));
    }

    #[test]
    fn only_grpc_passes() {
        let kind = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
            is_grpc(&headers)
        };
        assert!(kind("application/grpc") && kind("application/grpc+proto"));
        assert!(
            !kind("application/grpc-web") && !kind("text/plain") && !is_grpc(&HeaderMap::new())
        );
    }
}
