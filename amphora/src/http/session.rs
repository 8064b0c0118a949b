//! What the parts of one client connection tell each other: whose turn it is, and whether it is overdue.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use krater_amphora_core::snapshot::{Mode, Timeouts};

use super::upstream::Tunnel;
use crate::worker::{Guest, Seat};

/// One client connection, as seen by its server side, its service and the bodies under way.
pub(super) struct Session {
    pub(super) guest: Rc<Guest>,
    pub(super) peer: SocketAddr,
    /// Whose move it is.
    pub(super) turn: Cell<Turn>,
    /// The head of the present answer has been given away: it is too late for another one.
    pub(super) responding: Cell<bool>,
    /// Whose move has taken too long: the service is to give up.
    pub(super) overdue: Cell<Option<Turn>>,
    /// Bytes went to or came from a member since the server side last looked.
    pub(super) moved: Cell<bool>,
    /// The timers were changed since the server side last looked.
    pub(super) retimed: Cell<bool>,
    /// The client has more of a request body to send than was read.
    pub(super) unread: Cell<bool>,
    /// A member has agreed to speak another protocol: what to join the client with.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    seat: RefCell<Rc<Seat>>,
    epoch: Cell<u64>,
    gone: Cell<bool>,
}

/// Who is expected to move next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The client, with the head of a request.
    Request,
    /// The client, with more of a request's body, or by taking more of an answer.
    Client,
    /// The member.
    Member,
    /// We: a connection is being made, under a timer of its own.
    Ours,
}

impl Session {
    pub(super) fn new(guest: Rc<Guest>, peer: SocketAddr) -> Rc<Self> {
        let seat = Rc::clone(&guest.seat);
        Rc::new(Self {
            guest,
            peer,
            turn: Cell::new(Turn::Request),
            responding: Cell::new(false),
            overdue: Cell::new(None),
            moved: Cell::new(false),
            retimed: Cell::new(false),
            unread: Cell::new(false),
            tunnel: RefCell::default(),
            seat: RefCell::new(seat),
            epoch: Cell::new(0),
            gone: Cell::new(false),
        })
    }

    /// The listener under which a request runs whose head is complete now (I4).
    ///
    /// If it is gone, or no longer reads HTTP, the request still runs as the connection was last served, and
    /// [`Session::is_last`] has the connection closed after it.
    pub(super) fn current_seat(&self) -> Rc<Seat> {
        let worker = &self.guest.worker;
        if worker.epoch() != self.epoch.get() {
            let id = self.seat.borrow().state.listener.id;
            match worker.seat(id) {
                Some(seat) if seat.state.enabled && seat.state.listener.mode == Mode::Http => {
                    self.seat.replace(seat);
                    self.retimed.set(true);
                    self.gone.set(false);
                }
                _ => self.gone.set(true),
            }
            self.epoch.set(worker.epoch());
        }
        Rc::clone(&self.seat.borrow())
    }

    /// Whether the present request is the connection's last.
    pub(super) const fn is_last(&self) -> bool {
        self.gone.get()
    }

    /// The timers in force.
    pub(super) fn timeouts(&self) -> Timeouts {
        self.seat.borrow().state.listener.timeouts
    }

    /// How long nothing may move as things stand; `None` while another timer watches.
    pub(super) fn allowance(&self) -> Option<Duration> {
        let Timeouts {
            client_data,
            member_data,
            ..
        } = self.timeouts();
        match self.turn.get() {
            Turn::Request | Turn::Client => Some(client_data),
            Turn::Member => Some(member_data),
            Turn::Ours => None,
        }
    }
}
