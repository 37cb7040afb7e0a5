//! The gate that every call passes: what it may ask for, how long its messages
//! may be, how many calls there may be, and how its answer leaves. Behind it a
//! request is one whole, uncompressed message of bounded size.

use std::{
    convert::Infallible,
    future::{Future, ready},
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use hyper::body::Incoming;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tonic::{Code, Status, codegen::Service};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use super::{
    ServerError, ServerOptions,
    admin::Admin,
    answer::{Answer, Leaving},
    connection::Connection,
    frames::Frames,
    lookup::Lookup,
    metrics::Metrics,
    peer::{Caller, Peer, PeerError},
    pir::Pir,
    quota::{Payer, Quotas},
    registry::Registry,
    request::{Checked, Unread},
    route::{ADMIN, DISCOVERY, HEALTH, QUOTA, REFLECTION, REGISTRY, Room, Route, To},
    transcript::{Recording, Transcript},
};
use crate::{
    access::{Partners, right_of, who_may},
    wire::{
        grpc_timeout,
        proto::{
            FILE_DESCRIPTOR_SET, admin_service_server::AdminServiceServer,
            discovery_service_server::DiscoveryServiceServer,
            quota_service_server::QuotaServiceServer,
            registry_service_server::RegistryServiceServer,
        },
    },
};

/// Calls that may last, health watches and reflection, at once.
const MAX_LASTING_CALLS: usize = 64;

/// Queries for rows at once where none are answered.
const MAX_QUERIES_REFUSED: usize = 16;

/// Calls with many claims, at once.
const MAX_BULK_CALLS: usize = 64;

/// Why a call does not pass. The peer is at fault, but for `Busy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The request names a compression.
    #[error("compressed messages are not taken: send grpc-encoding: identity or none")]
    Encoding,
    /// The request sets the flag of a compressed message and names none.
    #[error("a message has the compressed flag, but no grpc-encoding is named, nor would be taken")]
    CompressedFlag,
    /// The first byte of a frame is neither 0 nor 1.
    #[error("a frame must begin with the flag 0")]
    Flag,
    /// The message is longer than any good one.
    #[error("a message of this method has at most {limit} bytes")]
    TooLong {
        /// The most that the method takes.
        limit: usize,
    },
    /// The body ends within a message, or without one.
    #[error("the request ends before its message is whole")]
    CutShort,
    /// A second message.
    #[error("this method takes one message")]
    Surplus,
    /// The bytes are no protobuf message of the method's kind.
    #[error("the request is not an encoded message of its kind")]
    Undecodable,
    /// No such service or method.
    #[error("there is no such method")]
    Method,
    /// As many calls are under way as the server takes.
    #[error("too many calls are under way")]
    Busy,
    /// As many evaluations wait as may.
    #[error("too many evaluations wait")]
    Full,
    /// The deadline is none.
    #[error("grpc-timeout must be at most eight digits and one of H, M, S, m, u, n")]
    Timeout,
    /// There was no answer in the time that the caller, or the server, allows.
    #[error("the deadline passed before there was an answer")]
    Deadline,
    /// Who calls is not let in.
    #[error(transparent)]
    Peer(#[from] PeerError),
}

type Answering = Pin<Box<dyn Future<Output = Response<tonic::body::Body>> + Send>>;
type Door = Arc<dyn Fn(Request<tonic::body::Body>) -> Answering + Send + Sync>;

/// What a server serves.
pub(super) struct Services {
    pub(super) lookup: Lookup,
    pub(super) registry: Option<Registry>,
    pub(super) admin: Option<Admin>,
    pub(super) health: HealthServer<HealthService>,
}

/// What lies behind the gate, for all connections.
pub(super) struct Gate {
    partners: Option<Partners>,
    metrics: Arc<Metrics>,
    lookup: Lookup,
    discovery: DiscoveryServiceServer<Lookup>,
    quota: QuotaServiceServer<Quotas>,
    registry: Option<RegistryServiceServer<Registry>>,
    admin: Option<AdminServiceServer<Admin>>,
    health: HealthServer<HealthService>,
    reflection: Door,
    calls: Arc<Semaphore>,
    queries: Arc<Semaphore>,
    lasting: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    unread: Unread,
    max_call_time: Duration,
    transcript: Option<Arc<Transcript>>,
}

impl Gate {
    pub(super) fn new(
        services: Services,
        partners: Option<Partners>,
        metrics: Arc<Metrics>,
        transcript: Option<Arc<Transcript>>,
        options: &ServerOptions,
    ) -> Result<Self, ServerError> {
        let Services { lookup, registry, admin, health } = services;
        let mut reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        // The descriptors hold more services than there are here.
        let services = [
            Some(DISCOVERY),
            Some(QUOTA),
            registry.as_ref().map(|_| REGISTRY),
            admin.as_ref().map(|_| ADMIN),
            Some(HEALTH),
        ];
        for service in services.into_iter().flatten().chain([REFLECTION]) {
            reflection = reflection.with_service_name(service);
        }
        let reflection =
            reflection.build_v1().map_err(|error| ServerError::Reflection(error.to_string()))?;
        let reflection = move |request| -> Answering {
            let mut reflection = reflection.clone();
            Box::pin(async move {
                let Ok(response) = reflection.call(request).await;
                response
            })
        };
        let queries = lookup.pir().map_or(MAX_QUERIES_REFUSED, Pir::room);
        Ok(Self {
            partners,
            metrics,
            quota: QuotaServiceServer::new(lookup.quotas().clone()),
            lookup: lookup.clone(),
            discovery: DiscoveryServiceServer::new(lookup),
            registry: registry.map(RegistryServiceServer::new),
            admin: admin.map(AdminServiceServer::new),
            health,
            reflection: Arc::new(reflection),
            calls: Arc::new(Semaphore::new(options.max_calls)),
            queries: Arc::new(Semaphore::new(queries)),
            lasting: Arc::new(Semaphore::new(MAX_LASTING_CALLS)),
            bulk: Arc::new(Semaphore::new(MAX_BULK_CALLS)),
            watches: Arc::new(Semaphore::new(options.max_watches)),
            unread: Unread::new(options),
            max_call_time: options.max_call_time,
            transcript,
        })
    }

    /// Whether a call is refused at once, for there is too much to do: nothing else
    /// is looked at, least of all its body.
    fn sheds(&self, request: &Request<Incoming>) -> bool {
        let evaluates = Route::of(request.uri().path()).is_some_and(|route| route.evaluates);
        evaluates && self.lookup.is_full() && check_http(request).is_ok()
    }

    /// Refuses a call, at the least cost there is.
    fn shed(&self, connection: &Arc<Connection>, request: Request<Incoming>) -> Response<Answer> {
        let call = connection.call();
        let path = request.uri().path();
        let measured = self.metrics.begin(right_of(path).map(|right| right.method));
        let recording = self
            .transcript
            .as_ref()
            .map(|transcript| transcript.begin(connection.id, path, request.headers()));
        self.unread.let_end(Route::of(path), request.into_body());
        let response = refuse(CallError::Full);
        if let Some(recording) = &recording {
            recording.ends(response.headers());
        }
        measured.ends(response.headers());
        call.ends();
        let leaving = Arc::new(Leaving { call, _permit: None, measured });
        let (frames, deadline) = (Frames::default(), None);
        response.map(|body| Answer { body, leaving, recording, frames, deadline })
    }

    async fn answer(
        self: Arc<Self>,
        connection: Arc<Connection>,
        peer: Arc<Peer>,
        mut request: Request<Incoming>,
    ) -> Response<Answer> {
        let mut call = connection.call();
        let method = right_of(request.uri().path()).map(|right| right.method);
        let measured = self.metrics.begin(method);
        let recording = self.transcript.as_ref().map(|transcript| {
            transcript.begin(connection.id, request.uri().path(), request.headers())
        });
        request.extensions_mut().insert(Payer::of(&peer, self.partners.as_ref()));
        let passing = match self.caller(&peer, request.uri().path()) {
            Ok(Some(caller)) => {
                request.extensions_mut().insert(caller);
                Ok(())
            }
            other => other.map(drop),
        };
        let asked = asked_timeout(request.headers());
        // From here on: what waits for a place waits on the caller's time.
        let deadline = asked.ok().flatten().and_then(|asked| Instant::now().checked_add(asked));
        call.until(deadline);
        let passing = passing.map_err(CallError::from).and(asked.map(drop));
        let passing = self.pass(&connection, request, passing, deadline, recording.as_ref());
        let (response, permit) = passing.await;
        if let Some(recording) = &recording {
            recording.ends(response.headers());
        }
        measured.ends(response.headers());
        if response.headers().contains_key("grpc-status") || !response.status().is_success() {
            call.ends();
        }
        let leaving = Arc::new(Leaving { call, _permit: permit, measured });
        response.map(|body| Answer {
            body,
            leaving,
            recording,
            frames: Frames::default(),
            deadline,
        })
    }

    /// Who calls, if the method asks who: the one place that decides what a role
    /// may call.
    fn caller(&self, peer: &Arc<Peer>, path: &str) -> Result<Option<Caller>, PeerError> {
        Caller::admit(peer, self.partners.as_ref(), who_may(path))
    }

    /// Whether the service is here.
    const fn serves(&self, to: To) -> bool {
        match to {
            To::Registry => self.registry.is_some(),
            To::Admin => self.admin.is_some(),
            To::Discovery | To::Quota | To::Health | To::Reflection => true,
        }
    }

    async fn pass(
        &self,
        connection: &Arc<Connection>,
        request: Request<Incoming>,
        caller: Result<(), CallError>,
        deadline: Option<Instant>,
        recording: Option<&Recording>,
    ) -> (Response<tonic::body::Body>, Option<OwnedSemaphorePermit>) {
        if let Err(status) = check_http(&request) {
            let mut response = Response::new(tonic::body::Body::empty());
            *response.status_mut() = status;
            return (response, None);
        }
        let route = Route::of(request.uri().path()).filter(|route| self.serves(route.to));
        let admitted = route.ok_or(CallError::Method).and_then(|route| {
            caller?;
            check_encoding(&request)?;
            let room = match route.room {
                Room::Brief => &self.calls,
                Room::Query => &self.queries,
                Room::Lasting => &self.lasting,
                Room::Bulk => &self.bulk,
                Room::Watch => &self.watches,
            };
            let permit = room.clone().try_acquire_owned().map_err(|_| CallError::Busy)?;
            Ok((route, permit))
        });
        let (route, permit) = match admitted {
            Ok(admitted) => admitted,
            Err(error) => {
                self.unread.let_end(route, request.into_body());
                return (refuse(error), None);
            }
        };
        let request = request.map(|body| Checked::new(body, route, connection, recording));
        let answering = self.enter(route, request);
        let response = match (route.room, deadline) {
            // It lasts until its caller ends it.
            (Room::Lasting | Room::Bulk | Room::Watch, None) => answering.await,
            (Room::Lasting | Room::Bulk | Room::Watch, Some(deadline)) => {
                timeout_at(deadline, answering)
                    .await
                    .unwrap_or_else(|_| refuse(CallError::Deadline))
            }
            (Room::Brief | Room::Query, deadline) => {
                let last = Instant::now() + self.max_call_time;
                let deadline = deadline.map_or(last, |deadline| deadline.min(last));
                timeout_at(deadline, answering)
                    .await
                    .unwrap_or_else(|_| refuse(CallError::Deadline))
            }
        };
        (explain(response), Some(permit))
    }

    async fn enter(&self, route: Route, request: Request<Checked>) -> Response<tonic::body::Body> {
        match route.to {
            To::Discovery => {
                let Ok(response) = self.discovery.clone().call(request).await;
                response
            }
            To::Quota => {
                let Ok(response) = self.quota.clone().call(request).await;
                response
            }
            To::Registry => match self.registry.clone() {
                Some(mut registry) => {
                    let Ok(response) = registry.call(request).await;
                    response
                }
                None => refuse(CallError::Method),
            },
            To::Admin => match self.admin.clone() {
                Some(mut admin) => {
                    let Ok(response) = admin.call(request).await;
                    response
                }
                None => refuse(CallError::Method),
            },
            To::Health => {
                let Ok(response) = self.health.clone().call(request).await;
                response
            }
            To::Reflection => (self.reflection)(request.map(tonic::body::Body::new)).await,
        }
    }
}

fn asked_timeout(headers: &HeaderMap) -> Result<Option<Duration>, CallError> {
    let read = |value: &HeaderValue| grpc_timeout(value.as_bytes());
    headers.get("grpc-timeout").map(|value| read(value).ok_or(CallError::Timeout)).transpose()
}

/// gRPC over HTTP/2 is POST with its own content type; anything else is no
/// gRPC and gets an HTTP status.
fn check_http<B>(request: &Request<B>) -> Result<(), StatusCode> {
    if request.method() != Method::POST {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let is_grpc = |kind: &HeaderValue| {
        let rest = kind.as_bytes().strip_prefix(b"application/grpc");
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    };
    if request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        Ok(())
    } else {
        Err(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    }
}

fn check_encoding<B>(request: &Request<B>) -> Result<(), CallError> {
    let identity = |encoding: &HeaderValue| encoding.as_bytes() == b"identity";
    if request.headers().get_all("grpc-encoding").iter().all(identity) {
        Ok(())
    } else {
        Err(CallError::Encoding)
    }
}

/// The refusals that an overload is answered with: the same bytes each time, made
/// once.
static BUSY: LazyLock<[HeaderMap; 2]> = LazyLock::new(|| {
    [CallError::Busy, CallError::Full].map(|error| {
        let refused: Response<()> = Status::from(error).into_http();
        refused.into_parts().0.headers
    })
});

fn refuse(error: CallError) -> Response<tonic::body::Body> {
    let [busy, full] = &*BUSY;
    let made = match error {
        CallError::Busy => Some(busy),
        CallError::Full => Some(full),
        _ => None,
    };
    if let Some(headers) = made {
        let mut response = Response::new(tonic::body::Body::empty());
        headers.clone_into(response.headers_mut());
        return response;
    }
    let mut response = Status::from(error).into_http();
    if error == CallError::Encoding {
        // The algorithms that are taken, as gRPC's compression page asks for.
        response.headers_mut().insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    }
    response
}

/// Puts our words for a status that the library made: its own have no details,
/// and what they quote is not ours to say. All others have details.
fn explain(response: Response<tonic::body::Body>) -> Response<tonic::body::Body> {
    let Some(status) = response.extensions().get::<Status>() else { return response };
    if !status.details().is_empty() {
        return response;
    }
    match status.code() {
        // Behind the checks of the frames, only the decoder is left to fail.
        Code::Internal => refuse(CallError::Undecodable),
        Code::Unimplemented => refuse(CallError::Method),
        // Health says NOT_FOUND for a service that it does not know.
        _ => response,
    }
}

/// The gate as one connection sees it.
pub(super) struct Entrance {
    pub(super) gate: Arc<Gate>,
    pub(super) connection: Arc<Connection>,
    pub(super) peer: Arc<Peer>,
}

impl hyper::service::Service<Request<Incoming>> for Entrance {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        if self.gate.sheds(&request) {
            // Under overload this is most of what there is to do.
            return Box::pin(ready(Ok(self.gate.shed(&self.connection, request))));
        }
        let (gate, connection) = (self.gate.clone(), self.connection.clone());
        let peer = self.peer.clone();
        Box::pin(async move { Ok(gate.answer(connection, peer, request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_without_compression_passes() {
        let request = |method: &str, kind: &str, encoding: &str| {
            let mut request = Request::builder().method(method).header("content-type", kind);
            if !encoding.is_empty() {
                request = request.header("grpc-encoding", encoding);
            }
            request.body(()).unwrap()
        };
        let status = |method, kind| check_http(&request(method, kind, "")).err();
        assert_eq!(status("POST", "application/grpc"), None);
        assert_eq!(status("POST", "application/grpc+proto"), None);
        assert_eq!(status("GET", "application/grpc"), Some(StatusCode::METHOD_NOT_ALLOWED));
        let other = Some(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(status("POST", "application/grpc-web"), other);
        assert_eq!(status("POST", "text/plain"), other);
        let encoding = |name| check_encoding(&request("POST", "application/grpc", name)).err();
        assert_eq!(encoding(""), None);
        assert_eq!(encoding("identity"), None);
        assert_eq!(encoding("gzip"), Some(CallError::Encoding));
    }
}
