//! Everything that the server sees of its callers, kept for a test or a demo:
//! taken from the bytes as they arrived, before anything is decoded. A server
//! that nobody asked to record keeps nothing.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use super::frames::Frames;

/// One call, as the server saw it.
#[derive(Clone, PartialEq, Eq)]
pub struct Call {
    /// Which connection it came on, counted from 0.
    pub connection: u64,
    /// Service and method.
    pub path: String,
    /// Every header but HTTP/2's own, in order; bytes that are no text escaped.
    pub request_headers: Vec<(String, String)>,
    /// The body, gRPC frames and all.
    pub request: Bytes,
    /// Bytes of each message of the answer.
    pub response_messages: Vec<usize>,
    /// The gRPC status code; -1 while, or if, there is none.
    pub status: i32,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A request's bytes are for those who ask for them, not for a log.
        f.debug_struct("Call")
            .field("path", &self.path)
            .field("request_bytes", &self.request.len())
            .field("response_messages", &self.response_messages)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The calls of a server, in the order in which they arrived.
#[derive(Default)]
pub struct Transcript(Mutex<Vec<Recorded>>);

struct Recorded {
    call: Call,
    request: BytesMut,
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transcript(..)")
    }
}

impl Transcript {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All calls so far, those under way included.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        let with_request = |recorded: &Recorded| Call {
            request: Bytes::copy_from_slice(&recorded.request),
            ..recorded.call.clone()
        };
        self.recorded().iter().map(with_request).collect()
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        connection: u64,
        path: &str,
        headers: &HeaderMap,
    ) -> Recording {
        let request_headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.as_bytes().escape_ascii().to_string()))
            .collect();
        let call = Call {
            connection,
            path: path.into(),
            request_headers,
            request: Bytes::new(),
            response_messages: Vec::new(),
            status: -1,
        };
        let mut recorded = self.recorded();
        recorded.push(Recorded { call, request: BytesMut::new() });
        let index = recorded.len() - 1;
        drop(recorded);
        Recording { transcript: self.clone(), index }
    }

    fn recorded(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes one call into its transcript.
#[derive(Clone)]
pub(super) struct Recording {
    transcript: Arc<Transcript>,
    index: usize,
}

impl Recording {
    /// A piece of the request arrived.
    pub(super) fn arrived(&self, piece: &[u8]) {
        self.edit(|recorded| recorded.request.extend_from_slice(piece));
    }

    /// A piece of the answer leaves.
    pub(super) fn leaves(&self, frames: &mut Frames, piece: &[u8]) {
        let Ok(()) = frames.read::<Infallible>(piece, |_, length| {
            self.edit(|recorded| recorded.call.response_messages.push(length));
            Ok(())
        });
    }

    /// The answer ends, if these headers or trailers hold a status.
    pub(super) fn ends(&self, headers: &HeaderMap) {
        let status =
            headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
        if let Some(status) = status {
            self.edit(|recorded| recorded.call.status = status);
        }
    }

    fn edit(&self, edit: impl FnOnce(&mut Recorded)) {
        if let Some(recorded) = self.transcript.recorded().get_mut(self.index) {
            edit(recorded);
        }
    }
}
