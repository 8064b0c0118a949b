//! The body of a request on its way to a member: passed on frame by frame, nothing is read ahead of what the member
//! takes.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::{Body, Frame, SizeHint};

use super::progress::{Progress, Turn};
use crate::{
    channel::{Dialogue, Unfinished},
    h1::harmless,
    h2::{Incoming, Lost},
};

/// A request's body on its way to a member.
pub(crate) enum Outgoing {
    /// There is none.
    Empty,
    /// As it comes from a client that speaks HTTP/1.
    Client(Rc<Dialogue>, Rc<Progress>),
    /// A piece that was taken before and could not be sent, and what follows it.
    Again(Bytes, Box<Self>),
    /// As it comes from one that speaks HTTP/2.
    Stream(Box<Inflow>, Rc<Progress>),
}

/// A body that comes by HTTP/2. The engine sees to it that it is as long as its head says.
pub(crate) struct Inflow {
    stream: Incoming,
    /// What is still to come of it, if that is known.
    left: Option<u64>,
}

/// Why a body has ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// As HTTP/1 knows it.
    #[error(transparent)]
    Http1(#[from] Unfinished),
    /// As HTTP/2 knows it.
    #[error(transparent)]
    Http2(#[from] Lost),
}

impl Outgoing {
    /// The body of the request that a client makes at present by HTTP/1.
    pub(crate) fn new(dialogue: &Rc<Dialogue>, progress: &Rc<Progress>) -> Self {
        if dialogue.is_read() {
            progress.unread.set(false);
            return Self::Empty;
        }
        progress.unread.set(true);
        Self::Client(Rc::clone(dialogue), Rc::clone(progress))
    }

    /// It with a piece ahead of it that was taken from it before.
    pub(crate) fn with_first(self, first: Option<Bytes>) -> Self {
        match first {
            Some(first) => Self::Again(first, Box::new(self)),
            None => self,
        }
    }

    /// The body of a request that came by HTTP/2, with that head.
    pub(crate) fn from_stream(
        stream: Option<Incoming>,
        headers: &HeaderMap,
        progress: &Rc<Progress>,
    ) -> Self {
        let Some(stream) = stream else {
            return Self::Empty;
        };
        let length = headers.get(CONTENT_LENGTH);
        // The engine has read it as a number.
        let left = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Self::Stream(Box::new(Inflow { stream, left }), Rc::clone(progress))
    }
}

impl Inflow {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match ready!(self.stream.poll_data(cx)) {
            Some(Ok(data)) => {
                let length = data.len();
                progress.held.set(progress.held.get() + length);
                progress.moved.set(true);
                self.left = self.left.map(|left| left.saturating_sub(length as u64));
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Some(Err(lost)) => Poll::Ready(Some(Err(lost.into()))),
            None => {
                let trailers = self.stream.take_trailers().map(harmless);
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }
}

/// Whether a body could not be read because what came is none, and not because it broke off.
pub(super) fn is_malformed(error: &Broken) -> bool {
    match error {
        Broken::Http1(error) => matches!(error, Unfinished::Malformed(_)),
        Broken::Http2(lost) => *lost == Lost::Wrong,
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
        let (frame, progress) = match this {
            Self::Empty | Self::Again(..) => return Poll::Ready(None),
            Self::Client(body, progress) => {
                let frame = body.poll_frame(cx);
                if matches!(frame, Poll::Ready(None)) || body.is_read() {
                    progress.unread.set(false);
                }
                (frame.map_err(Broken::from), progress)
            }
            Self::Stream(inflow, progress) => {
                progress.wanted.set(true);
                (inflow.poll_frame(cx, progress), progress)
            }
        };
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            progress.taken.set(progress.taken.get() + data.len() as u64);
        }
        // While an answer is under way its own body says whose turn it is.
        let waits = if frame.is_pending() {
            Turn::Client
        } else {
            Turn::Member
        };
        if !progress.responding.get() {
            progress.turn.set(waits);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body, _) => body.is_read(),
            Self::Again(..) => false,
            Self::Stream(inflow, _) => inflow.stream.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body, _) => body.size_hint(),
            Self::Again(first, rest) => exactly(
                rest.size_hint()
                    .exact()
                    .map(|rest| first.len() as u64 + rest),
            ),
            Self::Stream(inflow, _) => exactly(inflow.left),
        }
    }
}

fn exactly(length: Option<u64>) -> SizeHint {
    length.map_or_else(SizeHint::default, SizeHint::with_exact)
}
