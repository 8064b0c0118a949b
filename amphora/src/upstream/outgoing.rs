//! The body of a request on its way to a member: passed on frame by frame, nothing is read ahead of what the member
//! takes.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::progress::{Progress, Turn};

/// A request's body on its way to a member.
pub(crate) enum Outgoing {
    /// There is none.
    Empty,
    /// As it comes from the client.
    Client(Incoming, Rc<Progress>),
}

impl Outgoing {
    pub(crate) fn new(body: Incoming, progress: &Rc<Progress>) -> Self {
        if body.is_end_stream() {
            progress.unread.set(false);
            return Self::Empty;
        }
        progress.unread.set(true);
        Self::Client(body, Rc::clone(progress))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self::Client(body, progress) = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(&mut *body).poll_frame(cx);
        // While an answer is under way its own body says whose turn it is.
        let waits = if frame.is_pending() {
            Turn::Client
        } else {
            Turn::Member
        };
        if !progress.responding.get() {
            progress.turn.set(waits);
        }
        if matches!(frame, Poll::Ready(None)) || body.is_end_stream() {
            progress.unread.set(false);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
        }
    }
}
