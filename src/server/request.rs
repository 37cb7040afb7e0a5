//! The body of a request on its way in: of one that is answered, and of one that
//! is refused before it was read.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{sync::Semaphore, time::timeout};
use tonic::Status;

use super::{
    ServerOptions,
    connection::{Connection, Debt},
    frames::{Frames, HEADER_BYTES},
    gate::CallError,
    route::Route,
    transcript::Recording,
};

/// The body of a request, checked frame by frame as it arrives: nothing is
/// kept of a message that is too long.
pub(super) struct Checked {
    body: Incoming,
    frames: Frames,
    messages: usize,
    route: Route,
    /// The peer owes the rest of the request.
    debt: Option<Debt>,
    recording: Option<Recording>,
}

impl Checked {
    pub(super) fn new(
        body: Incoming,
        route: Route,
        connection: &Arc<Connection>,
        recording: Option<&Recording>,
    ) -> Self {
        Self {
            body,
            frames: Frames::default(),
            messages: 0,
            route,
            debt: route.one_message.then(|| connection.owe()),
            recording: recording.cloned(),
        }
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), CallError> {
        let (route, messages) = (self.route, &mut self.messages);
        self.frames.read(piece, |flag, length| {
            *messages += 1;
            match flag {
                0 => {}
                1 => return Err(CallError::CompressedFlag),
                _ => return Err(CallError::Flag),
            }
            if length > route.max_message_bytes {
                return Err(CallError::TooLong { limit: route.max_message_bytes });
            }
            if route.one_message && *messages > 1 {
                return Err(CallError::Surplus);
            }
            Ok(())
        })
    }

    fn check_end(&self) -> Result<(), CallError> {
        let enough = self.messages > 0 || !self.route.one_message;
        if enough && self.frames.is_between_messages() { Ok(()) } else { Err(CallError::CutShort) }
    }
}

impl Body for Checked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => {
                // The stream was reset or the connection broke: nobody reads
                // the status.
                this.debt = None;
                return Poll::Ready(Some(Err(CallError::CutShort.into())));
            }
            None => {
                this.debt = None;
                let end = this.check_end().err().map(|error| Err(error.into()));
                return Poll::Ready(end);
            }
        };
        let checked = if let Some(piece) = frame.data_ref() {
            if let Some(recording) = &this.recording {
                recording.arrived(piece);
            }
            this.check(piece)
        } else {
            this.check_end()
        };
        if this.body.is_end_stream() {
            this.debt = None;
        }
        Poll::Ready(Some(checked.map(|()| frame).map_err(Status::from)))
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Requests that are refused and have not ended, at once.
const MAX_UNREAD: usize = 16 << 10;

/// The requests that are refused before they were read. An answer resets the
/// stream of a request that nobody wants the rest of, RFC 9113 section 8.1: what
/// the peer has on its way then finds no stream, and is a fault for which HTTP/2
/// closes the connection in the end, with all other calls on it.
pub(super) struct Unread {
    room: Arc<Semaphore>,
    patience: Duration,
}

impl Unread {
    pub(super) fn new(options: &ServerOptions) -> Self {
        Self { room: Arc::new(Semaphore::new(MAX_UNREAD)), patience: options.stall_timeout }
    }

    /// Lets `body` come to its end beside the answer, if it is one message, and
    /// keeps nothing of it. Its stream is reset after all where it takes too long,
    /// or more comes than the longest message, or too many are waited for.
    pub(super) fn let_end(&self, route: Option<Route>, body: Incoming) {
        let Some(route) = route.filter(|route| route.one_message) else { return };
        let mut rest = Rest { body, left: HEADER_BYTES + route.max_message_bytes };
        // Most often it is there to its end.
        if Pin::new(&mut rest).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        if let Ok(place) = self.room.clone().try_acquire_owned() {
            let ending = timeout(self.patience, rest);
            tokio::spawn(async move {
                let _place = place;
                let _ = ending.await;
            });
        }
    }
}

/// Ends with a body, or when more came than it may have.
struct Rest {
    body: Incoming,
    left: usize,
}

impl Future for Rest {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            let piece = frame.data_ref().map_or(0, Bytes::len);
            let Some(left) = self.left.checked_sub(piece) else { break };
            self.left = left;
        }
        Poll::Ready(())
    }
}
