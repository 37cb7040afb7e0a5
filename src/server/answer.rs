//! The body of an answer on its way: what it holds while any byte of it is in
//! memory, and what the peer owes for it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::{
    connection::{Call, Debt},
    frames::Frames,
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
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        if let Some(trailers) = frame.trailers_ref() {
            this.leaving.measured.ends(trailers);
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
