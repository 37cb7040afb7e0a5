//! The body of an answer on its way: what it holds while any byte of it is in
//! memory, and what the peer owes for it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tonic::Status;

use super::{
    connection::{Call, Debt},
    frames::Frames,
    gate::CallError,
    metrics::Measured,
    transcript::Recording,
};

/// What an answer holds while any byte of it is in memory.
pub(super) struct Leaving {
    pub(super) call: Call,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
    pub(super) measured: Measured,
}

/// The body of an answer.
pub(super) struct Answer {
    pub(super) body: tonic::body::Body,
    pub(super) leaving: Arc<Leaving>,
    pub(super) recording: Option<Recording>,
    pub(super) frames: Frames,
    /// When the caller stops waiting: nothing is read for it from then on.
    pub(super) deadline: Option<Instant>,
}

/// A piece of an answer: the peer owes its taking, and its call is not over,
/// until the transport has written it and lets go of it.
struct Piece {
    bytes: Bytes,
    _debt: Debt,
    _leaving: Arc<Leaving>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let late = this.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let frame = if late && !this.body.is_end_stream() {
            // What was read last has left: the rest is nobody's any more.
            this.deadline = None;
            this.body = tonic::body::Body::empty();
            let mut trailers = HeaderMap::new();
            let told = Status::from(CallError::Deadline).add_header(&mut trailers);
            Some(told.map(|()| Frame::trailers(trailers)))
        } else {
            ready!(Pin::new(&mut this.body).poll_frame(cx))
        };
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        if let Some(trailers) = frame.trailers_ref() {
            this.leaving.measured.ends(trailers);
            this.leaving.call.ends();
        }
        if let Some(recording) = &this.recording {
            if let Some(piece) = frame.data_ref() {
                recording.leaves(&mut this.frames, piece);
            }
            if let Some(trailers) = frame.trailers_ref() {
                recording.ends(trailers);
            }
        }
        let frame = frame.map_data(|bytes| {
            Bytes::from_owner(Piece {
                bytes,
                _debt: this.leaving.call.connection().owe(),
                _leaving: this.leaving.clone(),
            })
        });
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
