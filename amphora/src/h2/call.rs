//! A stream in the hands of whoever answers it.

use std::{
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    engine::Line,
    frame::Reason,
    streams::{Key, Stream},
};

pub(crate) use super::streams::Lost;

/// A request of a client and the answer to it. Dropped before that is complete, it ends the stream.
pub(crate) struct Call {
    line: Line,
    key: Key,
}

/// The body of a request.
pub(crate) struct Incoming {
    line: Line,
    key: Key,
}

impl Call {
    /// The request at that place.
    pub(crate) fn new(line: &Line, key: Key) -> Self {
        Self {
            line: Rc::clone(line),
            key,
        }
    }

    /// The body of the request; `None` if it has none.
    pub(crate) fn incoming(&self) -> Option<Incoming> {
        let incoming = Incoming {
            line: Rc::clone(&self.line),
            key: self.key,
        };
        Some(incoming).filter(|incoming| !incoming.is_ended())
    }

    /// Whether there is nobody to answer any more.
    pub(crate) fn is_lost(&self) -> bool {
        with(&self.line, self.key, |stream| stream.lost.is_some()).unwrap_or(true)
    }

    /// Ready when there is nobody to answer any more.
    pub(crate) fn poll_lost(&self, cx: &Context<'_>) -> Poll<()> {
        with(&self.line, self.key, |stream| {
            if stream.lost.is_some() {
                return Poll::Ready(());
            }
            stream.attend(cx);
            Poll::Pending
        })
        .unwrap_or(Poll::Ready(()))
    }

    /// Sends an interim answer (RFC 9110 section 15.2).
    pub(crate) fn send_interim(&self, status: StatusCode, fields: &HeaderMap) {
        let mut engine = self.line.borrow_mut();
        engine.answer(self.key, (status, fields), None, false);
    }

    /// Sends the head of the answer, with that `Date` if it has none of its own; `ends` if it has no body.
    pub(crate) fn send_head(
        &self,
        status: StatusCode,
        fields: &HeaderMap,
        date: &[u8],
        ends: bool,
    ) {
        let mut engine = self.line.borrow_mut();
        engine.answer(self.key, (status, fields), Some(date), ends);
    }

    /// Whether a piece of the answer could be sent now. If not, whoever polls is woken when one could be.
    pub(crate) fn poll_window(&self, cx: &Context<'_>) -> Poll<()> {
        let mut engine = self.line.borrow_mut();
        if engine.has_window(self.key) {
            return Poll::Ready(());
        }
        engine.wait(cx, self.key);
        Poll::Pending
    }

    /// Sends as much of `piece` as there is room for, with the end behind it if it is the `last`. Ready when that was all,
    /// or nobody wants it.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        piece: &mut Bytes,
        last: bool,
    ) -> Poll<()> {
        let mut engine = self.line.borrow_mut();
        engine.poll_send(cx, self.key, piece, last)
    }

    /// Sends fields behind the body, and with them its end.
    pub(crate) fn send_trailers(&self, fields: &HeaderMap) {
        self.line.borrow_mut().send_trailers(self.key, fields);
    }

    /// Sends the end of the body.
    pub(crate) fn send_end(&self) {
        self.line.borrow_mut().send_end(self.key);
    }

    /// Ends the stream in the middle of its answer.
    pub(crate) fn break_off(&self, reason: Reason) {
        self.line.borrow_mut().break_off(self.key, reason);
    }

    /// Lets the client send as much of the body again.
    pub(crate) fn release(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.line.borrow_mut().release_of(self.key, bytes);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.line.borrow_mut().let_go(self.key);
    }
}

impl Incoming {
    /// The next piece of it.
    pub(crate) fn poll_data(&self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Lost>>> {
        with(&self.line, self.key, |stream| {
            if let Some(piece) = stream.inbox.take() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match stream.lost {
                Some(lost) => Poll::Ready(Some(Err(lost))),
                None if stream.received => Poll::Ready(None),
                None => {
                    stream.attend(cx);
                    Poll::Pending
                }
            }
        })
        .unwrap_or(Poll::Ready(Some(Err(Lost::TakenBack))))
    }

    /// The fields behind it, once they have come.
    pub(crate) fn take_trailers(&self) -> Option<HeaderMap> {
        with(&self.line, self.key, |stream| stream.trailers.take()).flatten()
    }

    /// Whether all of it was taken.
    pub(crate) fn is_ended(&self) -> bool {
        let is_ended = |stream: &mut Stream| {
            stream.received && stream.inbox.is_empty() && stream.trailers.is_none()
        };
        with(&self.line, self.key, is_ended).unwrap_or(true)
    }
}

fn with<T>(line: &Line, key: Key, look: impl FnOnce(&mut Stream) -> T) -> Option<T> {
    line.borrow_mut().streams.at(key).map(look)
}
