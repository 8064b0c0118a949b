//! One listening socket of a thread: for whom it accepts, and until when.

use std::{
    future::Future,
    io,
    net::{SocketAddr, TcpListener},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use krater_amphora_api::{Cause, ListenerId};
use krater_amphora_core::snapshot::Mode;

use super::{
    reactor::{Flags, Kind, Reactor, Token},
    slab::Id,
};
use crate::{
    limits::ACCEPT_BURST_MAX,
    listen::{Accepted, accept, deafen},
    seat::{Seat, Seats},
    world::Leave,
};

/// A listening socket, watched level-triggered: who is left over after a burst is reported again.
pub(super) struct Door {
    pub(super) address: SocketAddr,
    socket: Arc<TcpListener>,
    /// The listener as it was last seen, and under which epoch.
    seat: Rc<Seat>,
    epoch: u64,
    hearing: Hearing,
    /// A place in the listener's connection limit that is waited for; meanwhile nobody is accepted.
    place: Option<Pin<Box<dyn Future<Output = ()>>>>,
    /// How many to accept at once, and how often in a row that was too few.
    burst: u32,
    too_few: u32,
}

/// Whether connections begin at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hearing {
    Hears,
    Deaf,
}

impl Door {
    /// Begins to accept on `socket` for the listener of `seat`.
    pub(super) fn new(address: SocketAddr, seat: Rc<Seat>, socket: Arc<TcpListener>) -> Self {
        Self {
            address,
            socket,
            seat,
            epoch: 0,
            hearing: Hearing::Hears,
            place: None,
            burst: 1,
            too_few: 0,
        }
    }

    /// Has the reactor report who comes.
    pub(super) fn watch(&self, reactor: &Reactor, id: Id) -> io::Result<()> {
        Ok(reactor.add(&*self.socket, token(id), Flags::IN)?)
    }

    /// Has the reactor report nothing, or who comes, from now on.
    pub(super) fn heed(&self, flags: Flags, reactor: &Reactor, id: Id) {
        if let Err(error) = reactor.modify(&*self.socket, token(id), flags) {
            tracing::error!(address = %self.address, %error, "a listening socket cannot be watched");
        }
    }

    /// Ends watching: the socket stays open for another thread, or for whoever else holds it.
    pub(super) fn unwatch(&self, reactor: &Reactor) {
        // Fails only if it was not watched.
        let _ = reactor.delete(&*self.socket);
    }

    /// Accepts for another listener from now on.
    pub(super) fn reassign(&mut self, seat: Rc<Seat>) {
        self.seat = seat;
        self.place = None;
    }

    /// Leaves new connections to another amphora that listens on the same address.
    pub(super) fn deafen(&mut self) {
        self.hearing = Hearing::Deaf;
        if let Err(error) = deafen(&self.socket) {
            // Then a few clients may be refused that come between the last look and the end of the socket.
            tracing::warn!(%error, "a socket cannot be deafened");
        }
    }

    /// Whose door it is.
    pub(super) fn listener(&self) -> ListenerId {
        self.seat.state.listener.id
    }

    /// Why the door's listener is left, should it be.
    pub(super) const fn leave(&self) -> Leave {
        match self.hearing {
            Hearing::Hears => Leave::Gone,
            Hearing::Deaf => Leave::Moved,
        }
    }

    /// The listener as it is now; as it was last if it is gone, since who waits at a socket that is being closed is
    /// served, or if it no longer takes streams, since then another thread is about to take over.
    pub(super) fn seat(&mut self, seats: &mut Seats) -> &Rc<Seat> {
        let epoch = seats.epoch();
        if self.epoch != epoch {
            self.epoch = epoch;
            if let Some(seat) = seats.find(self.seat.state.listener.id)
                && seat.state.listener.mode == Mode::Tcp
            {
                self.seat = seat;
            }
        }
        &self.seat
    }

    /// How many to accept before others get their turn.
    pub(super) const fn burst(&self) -> u32 {
        self.burst
    }

    /// Learns from a burst. Asking once more than there are clients costs as much as serving part of one, so a burst
    /// grows only when it was too short again and again.
    pub(super) fn learn(&mut self, accepted: u32) {
        if accepted < self.burst {
            self.burst = accepted.max(1);
            self.too_few = 0;
        } else {
            self.too_few += 1;
            if self.too_few >= BURSTS_BEFORE_GROWTH {
                self.burst = (self.burst * 2).min(ACCEPT_BURST_MAX);
                self.too_few = 0;
            }
        }
    }

    /// Accepts one, with a place in the connection limit; `None` if there is no place.
    pub(super) fn accept(&mut self, descriptors_max: i32) -> Option<Accepted> {
        let limit = &self.seat.state.shared.limit;
        if !limit.take() {
            return None;
        }
        let accepted = accept(&self.socket, descriptors_max);
        if !matches!(accepted, Accepted::One(..)) {
            limit.release();
        }
        if matches!(accepted, Accepted::Shed) {
            let lane = self.seat.lane();
            lane.shed.bump();
            lane.failures.count(Cause::LbExhausted);
        }
        Some(accepted)
    }

    /// Waits for a place in the connection limit: `waker` is woken when [`Door::has_place`] is worth asking.
    pub(super) fn wait_for_place(&mut self) {
        let state = Arc::clone(&self.seat.state);
        self.place = Some(Box::pin(async move {
            // Only a sign that there may be one: it is taken again when somebody has come for it.
            state.shared.limit.take_when_free().await;
            state.shared.limit.release();
        }));
    }

    /// Whether a place has become free since it was waited for.
    pub(super) fn has_place(&mut self, waker: &Waker) -> bool {
        let Some(place) = &mut self.place else {
            return true;
        };
        match place.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(()) => {
                self.place = None;
                true
            }
            Poll::Pending => false,
        }
    }
}

const fn token(id: Id) -> Token {
    Token {
        kind: Kind::Door,
        id,
    }
}

/// Bursts in a row that were too short before they are made longer.
const BURSTS_BEFORE_GROWTH: u32 = 8;
