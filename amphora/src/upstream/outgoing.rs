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
    /// A piece that was taken before and could not be sent, and what follows it.
    Again(Bytes, Box<Self>),
}

/// Why a body has ended early.
pub(crate) type Broken = hyper::Error;

impl Outgoing {
    pub(crate) fn new(body: Incoming, progress: &Rc<Progress>) -> Self {
        if body.is_end_stream() {
            progress.unread.set(false);
            return Self::Empty;
        }
        progress.unread.set(true);
        Self::Client(body, Rc::clone(progress))
    }

    /// It with a piece ahead of it that was taken from it before.
    pub(crate) fn with_first(self, first: Option<Bytes>) -> Self {
        match first {
            Some(first) => Self::Again(first, Box::new(self)),
            None => self,
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        if let Self::Again(first, rest) = this {
            let first = std::mem::take(first);
            *this = std::mem::replace(rest, Self::Empty);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Self::Client(body, progress) = this else {
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
            Self::Again(..) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
            Self::Again(first, rest) => match rest.size_hint().exact() {
                Some(rest) => SizeHint::with_exact(first.len() as u64 + rest),
                None => SizeHint::default(),
            },
        }
    }
}
