//! A peer that speaks HTTP/2 by hand, and so can say what no client would.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::{net::TcpStream, task::JoinHandle, time::timeout};
use tonic::Status;

pub(crate) const EVALUATE: &str = "/blindbook.v1.DiscoveryService/Evaluate";
pub(crate) const FETCH: &str = "/blindbook.v1.DiscoveryService/FetchBuckets";
pub(crate) const PARAMETERS: &str = "/blindbook.v1.DiscoveryService/GetParameters";

/// Longer than any timeout of a server under test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A length-prefixed message of gRPC.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[flag][..], &length.to_be_bytes(), message].concat()
}

/// What came back.
pub(crate) struct Outcome {
    pub(crate) http: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) status: Option<Status>,
    pub(crate) body: usize,
}

pub(crate) struct Peer {
    send: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::with_window(address, 1 << 20).await
    }

    /// Takes no more than `window` bytes of an answer before it reads.
    pub(crate) async fn with_window(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let (send, connection) = Builder::new()
            .initial_window_size(window)
            .handshake::<_, Bytes>(stream)
            .await
            .expect("a handshake");
        Self { send, driver: tokio::spawn(connection) }
    }

    /// Begins a call, its body still open.
    pub(crate) async fn begin(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://directory.example{path}"))
            .header("te", "trailers");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/grpc");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send = self.send.clone().ready().await?;
        self.send.send_request(request.body(()).expect("a request"), false)
    }

    /// A whole call.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Outcome {
        let calling = async {
            let (response, mut stream) = self.begin(method, path, headers).await.expect("a call");
            // A server that has heard enough resets the stream.
            let _ = stream.send_data(body.into(), true);
            outcome(response).await.expect("an answer")
        };
        timeout(PATIENCE, calling).await.expect("an answer in time")
    }

    pub(crate) async fn post(&mut self, path: &str, body: Vec<u8>) -> Outcome {
        self.call(Method::POST, path, &[], body).await
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn closed(self) {
        drop(self.send);
        let _ = timeout(PATIENCE, self.driver).await.expect("the server closes the connection");
    }
}

/// The whole answer of a call.
pub(crate) async fn outcome(response: ResponseFuture) -> Result<Outcome, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let mut body = 0;
    while let Some(piece) = data(&mut stream).await? {
        body += piece.len();
    }
    let trailers = stream.trailers().await?;
    let status = Status::from_header_map(trailers.as_ref().unwrap_or(&head.headers));
    Ok(Outcome { http: head.status, headers: head.headers, status, body })
}

/// The next piece of an answer.
pub(crate) async fn data(stream: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    // A server may say that it needs no more of the request, RFC 9113 section
    // 8.1: its answer is whole.
    match stream.data().await {
        Some(Ok(piece)) => {
            stream.flow_control().release_capacity(piece.len())?;
            Ok(Some(piece))
        }
        Some(Err(error)) if error.reason() == Some(h2::Reason::NO_ERROR) => Ok(None),
        Some(Err(error)) => Err(error),
        None => Ok(None),
    }
}
