//! A client connection, whatever it speaks.

use std::{future::poll_fn, pin::pin, rc::Rc, task::Poll};

use super::{
    Local,
    roll::{Ending, Ticket},
};
use crate::seat::Seat;

/// A client connection and all that must be undone when it ends, however it ends.
pub(crate) struct Guest {
    pub(crate) local: Rc<Local>,
    /// The listener as it was when the connection was accepted (I4).
    pub(crate) seat: Rc<Seat>,
    ticket: Ticket,
}

impl Guest {
    /// A connection that was just accepted. Takes over a place in the listener's connection limit.
    pub(crate) fn new(local: &Rc<Local>, seat: &Rc<Seat>) -> Self {
        local.common.threads.of(local.index).accepted.bump();
        Self {
            local: Rc::clone(local),
            seat: Rc::clone(seat),
            ticket: local.roll(seat.state.listener.id).enter(),
        }
    }

    /// How this connection is asked to end.
    pub(crate) fn ending(&self) -> Ending {
        self.ticket.slot().ending()
    }

    /// Notes which member it is with, by its serial; `None` when a request has ended.
    pub(crate) fn is_with(&self, member: Option<u64>) {
        self.ticket.slot().is_with(member);
    }

    /// A place of its own for one of many requests at once.
    pub(crate) fn place_for_request(&self) -> Ticket {
        self.ticket.beside()
    }

    /// Serves the connection until it has ended or must.
    pub(crate) async fn attend<F: Future<Output = ()>>(self, serve: impl FnOnce(Rc<Self>) -> F) {
        let guest = Rc::new(self);
        let mut serving = pin!(serve(Rc::clone(&guest)));
        let slot = guest.ticket.slot();
        poll_fn(|cx| {
            slot.attend(cx.waker());
            if slot.ending() == Ending::Now {
                return Poll::Ready(());
            }
            serving.as_mut().poll(cx)
        })
        .await;
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.seat.lane().ended.bump();
        let threads = &self.local.common.threads;
        threads.of(self.local.index).ended.bump();
        self.seat.state.shared.limit.release();
        if std::thread::panicking() {
            self.local.common.count_bug();
        }
    }
}
