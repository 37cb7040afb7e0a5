//! Metrics and probes, in plain HTTP on a listener of their own: whoever probes
//! has no client certificate, and nobody else need reach it.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | what is counted, `OpenMetrics` 1.0 |
//! | `/healthz` | 200 while the process serves |
//! | `/readyz` | 200 while lookups can be answered, else 503 |

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::metrics::Metrics;

/// Connections at once; one more is closed.
const MAX_CONNECTIONS: usize = 32;

/// Longest time for one request and its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Longest head of a request.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is told.
#[derive(Clone)]
pub(super) struct Probes {
    pub(super) metrics: Arc<Metrics>,
    pub(super) ready: watch::Receiver<bool>,
}

impl Probes {
    /// Answers for as long as it is polled.
    pub(super) async fn serve(self, listener: TcpListener) -> Infallible {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => if let Ok(place) = room.clone().try_acquire_owned() {
                        let probes = self.clone();
                        connections.spawn(async move {
                            // What becomes of a probe is its own affair.
                            let _ = timeout(PATIENCE, connection(stream, probes)).await;
                            drop(place);
                        });
                    },
                    Err(error) => {
                        tracing::warn!(%error, "a probe could not be accepted");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Whole> {
        if method != Method::GET {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n");
        }
        match path {
            "/metrics" => match self.metrics.encode() {
                Ok(text) => response(StatusCode::OK, OPENMETRICS, text),
                Err(_) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "not encoded\n"),
            },
            "/healthz" => response(StatusCode::OK, TEXT, "serving\n"),
            "/readyz" if *self.ready.borrow() => response(StatusCode::OK, TEXT, "ready\n"),
            "/readyz" => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
            _ => response(StatusCode::NOT_FOUND, TEXT, "/metrics, /healthz, /readyz\n"),
        }
    }
}

fn response(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Whole> {
    let mut response = Response::new(Whole(Some(text.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// A body that is there as a whole.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.take().map(|text| Ok(http_body::Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.0.as_ref().map_or(0, |text| text.len() as u64))
    }
}

async fn connection(stream: TcpStream, probes: Probes) -> Result<(), hyper::Error> {
    let answer = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = probes.answer(request.method(), request.uri().path());
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_are_told_what_they_ask_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ready, told) = watch::channel(false);
        let probes = Probes { metrics: Arc::new(Metrics::new()), ready: told };
        let serving = tokio::spawn(probes.serve(listener));
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        assert!(ask(address, &get("/healthz")).await.starts_with("HTTP/1.1 200 "));
        assert!(ask(address, &get("/readyz")).await.starts_with("HTTP/1.1 503 "));
        ready.send_replace(true);
        assert!(ask(address, &get("/readyz")).await.ends_with("\r\n\r\nready\n"));
        let metrics = ask(address, &get("/metrics")).await;
        assert!(metrics.contains("content-type: application/openmetrics-text"), "{metrics}");
        assert!(metrics.contains("blindbook_connections 0") && metrics.ends_with("# EOF\n"));
        assert!(ask(address, &get("/other")).await.starts_with("HTTP/1.1 404 "));
        let post = "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n";
        assert!(ask(address, post).await.starts_with("HTTP/1.1 405 "));
        assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
        serving.abort();
    }
}
