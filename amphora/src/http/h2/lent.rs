//! A connection lent to the engine, which does not give it back by itself.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::census::Census;
use crate::http::preface::Opening;

/// The connection, and what is known of its use.
pub(super) struct Lender {
    opening: Opening,
    pub(super) census: Census,
    /// The socket took less than it was given when last written to.
    blocked: bool,
    deaf: bool,
}

impl Lender {
    pub(super) fn new(opening: Opening) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            opening,
            census: Census::new(),
            blocked: false,
            deaf: false,
        }))
    }

    /// Whether something waits for the client to take it.
    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Reads nothing more.
    pub(super) const fn deafen(&mut self) {
        self.deaf = true;
    }

    pub(super) fn into_opening(self) -> Opening {
        self.opening
    }

    fn note<T>(&mut self, outcome: Poll<T>) -> Poll<T> {
        self.blocked = outcome.is_pending();
        outcome
    }
}

/// The engine's hold on a connection.
pub(super) struct Lent(Rc<RefCell<Lender>>);

impl Lent {
    pub(super) fn new(lender: &Rc<RefCell<Lender>>) -> Self {
        Self(Rc::clone(lender))
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut lender = self.0.borrow_mut();
        let lender = &mut *lender;
        // Whoever polls the engine looks at the census next.
        if lender.deaf || lender.census.fault().is_some() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut lender.opening).poll_read(cx, buffer);
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        lender.census.read(fresh);
        if lender.census.fault().is_some() {
            // The engine would have another word for it.
            buffer.set_filled(before);
            return Poll::Pending;
        }
        outcome
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut lender = self.0.borrow_mut();
        let outcome = Pin::new(&mut lender.opening).poll_write(cx, bytes);
        lender.note(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut lender = self.0.borrow_mut();
        let outcome = Pin::new(&mut lender.opening).poll_write_vectored(cx, slices);
        lender.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().opening.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lender = self.0.borrow_mut();
        let outcome = Pin::new(&mut lender.opening).poll_flush(cx);
        lender.blocked |= outcome.is_pending();
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut lender = self.0.borrow_mut();
        let outcome = Pin::new(&mut lender.opening).poll_shutdown(cx);
        lender.note(outcome)
    }
}
