//! One client connection, or one of the many requests it carries at once, as its parts share it: whom it is, under which listener it runs, how far it has come.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use krater_amphora_api::Cause;
use krater_amphora_core::{
    proxy_protocol::Origin,
    snapshot::{Mode, Timeouts},
};
use tokio::net::TcpStream;

use crate::{
    access::Draft,
    channel::Pieces,
    limits::IDLE_UPSTREAMS_PER_CLIENT_MAX,
    local::{Ending, Guest, Ticket},
    seat::Seat,
    tls::{Connector, Peer},
    upstream::{Progress, Seal, Tunnel, Turn, Upstream, Upstreams, Whose},
};

/// Between whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) peer: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
}

impl Ends {
    /// Those of `stream`, which was accepted at `listening`. The system is asked only by whoever listens on every address.
    pub(crate) fn new(stream: &TcpStream, peer: SocketAddr, listening: SocketAddr) -> Self {
        let local = if listening.ip().is_unspecified() {
            // Of a connection that is gone already nothing can be told, and nobody will be.
            stream.local_addr().unwrap_or(listening)
        } else {
            listening
        };
        Self { peer, local }
    }
}

/// One client connection, as seen by its server side, its service and the bodies under way. Where a connection carries many
/// requests at once, each has one of its own.
pub(super) struct Session {
    pub(super) guest: Rc<Guest>,
    pub(super) peer: SocketAddr,
    /// How far the present exchange has come.
    pub(super) progress: Rc<Progress>,
    /// The timers were changed since the server side last looked.
    pub(super) retimed: Cell<bool>,
    /// Where the client connected to.
    local: SocketAddr,
    /// What is known of the client by TLS, if it came by that.
    pub(super) tls: Option<Rc<Peer>>,
    /// Idle connections to members that know who this client is.
    own_upstreams: Rc<Upstreams>,
    /// A member has agreed to speak another protocol: what to join the client with.
    pub(super) tunnel: RefCell<Option<Tunnel>>,
    /// What is told of that in the access log when it ends.
    pub(super) tunnelled: RefCell<Option<Draft>>,
    seat: RefCell<Rc<Seat>>,
    epoch: Cell<u64>,
    gone: Cell<bool>,
    /// Its place on the roll, if it is one request of many.
    place: Option<Ticket>,
    /// Why the connection, or this request of many, is given up, once it is.
    pub(super) verdict: Cell<Option<Cause>>,
    /// A request was counted as failed that was under way when the connection ended.
    pub(super) blamed: Cell<bool>,
}

impl Session {
    pub(super) fn new(guest: Rc<Guest>, ends: Ends, tls: Option<Rc<Peer>>) -> Rc<Self> {
        let Ends { peer, local } = ends;
        let seat = Rc::clone(&guest.seat);
        Rc::new(Self {
            guest,
            peer,
            local,
            own_upstreams: Rc::new(Upstreams::new(IDLE_UPSTREAMS_PER_CLIENT_MAX)),
            tls,
            progress: Rc::new(Progress::new(Pieces::Large)),
            retimed: Cell::new(false),
            tunnel: RefCell::default(),
            tunnelled: RefCell::default(),
            seat: RefCell::new(seat),
            epoch: Cell::new(0),
            gone: Cell::new(false),
            place: None,
            verdict: Cell::new(None),
            blamed: Cell::new(false),
        })
    }

    /// One of the requests that this connection carries at once, whose head is complete now.
    pub(super) fn of_one_request(&self) -> Rc<Self> {
        let seat = self.current_seat();
        Rc::new(Self {
            guest: Rc::clone(&self.guest),
            peer: self.peer,
            local: self.local,
            tls: self.tls.clone(),
            own_upstreams: Rc::clone(&self.own_upstreams),
            progress: Rc::new(Progress::new(Pieces::Small)),
            retimed: Cell::new(false),
            tunnel: RefCell::default(),
            tunnelled: RefCell::default(),
            seat: RefCell::new(seat),
            epoch: self.epoch.clone(),
            gone: self.gone.clone(),
            place: Some(self.guest.place_for_request()),
            verdict: Cell::new(None),
            blamed: Cell::new(false),
        })
    }

    /// Notes which member the request is with, by its serial; `None` when it has ended.
    pub(super) fn is_with(&self, member: Option<u64>) {
        match &self.place {
            Some(place) => place.slot().is_with(member),
            None => self.guest.is_with(member),
        }
    }

    /// How the request, or the connection, is asked to end.
    pub(super) fn ending(&self) -> Ending {
        match &self.place {
            Some(place) => place.slot().ending(),
            None => self.guest.ending(),
        }
    }

    /// Has `waker` woken when the answer of [`Session::ending`] changes. A connection's task is woken anyway.
    pub(super) fn attend(&self, waker: &Waker) {
        if let Some(place) = &self.place {
            place.slot().attend(waker);
        }
    }

    /// The shortest of the timeouts: how often a timer needs to look.
    pub(super) fn period(&self) -> Duration {
        let timeouts = self.timeouts();
        timeouts.client_data.min(timeouts.member_data)
    }

    /// The listener under which a request runs whose head is complete now (I4).
    ///
    /// If it is gone, or no longer reads HTTP, the request still runs as the connection was last served, and
    /// [`Session::is_last`] has the connection closed after it.
    pub(super) fn current_seat(&self) -> Rc<Seat> {
        let local = &self.guest.local;
        if local.epoch() != self.epoch.get() {
            let id = self.seat.borrow().state.listener.id;
            match local.seat(id) {
                Some(seat) if seat.state.enabled && seat.state.listener.mode == Mode::Http => {
                    self.seat.replace(seat);
                    self.retimed.set(true);
                    self.gone.set(false);
                }
                _ => self.gone.set(true),
            }
            self.epoch.set(local.epoch());
        }
        Rc::clone(&self.seat.borrow())
    }

    /// What members of a pool that is sealed are to be spoken to by: they are asked for the name that the client asked for
    /// (reference 19.10).
    pub(super) fn seal<'a>(&'a self, connector: Option<&'a Arc<Connector>>) -> Option<Seal<'a>> {
        connector.map(|connector| Seal {
            connector,
            name: self.tls.as_deref().and_then(Peer::server_name),
        })
    }

    /// Between whom it is.
    pub(super) const fn ends(&self) -> Ends {
        Ends {
            peer: self.peer,
            local: self.local,
        }
    }

    /// Whom a member is told that a connection is for.
    pub(super) fn origin(&self) -> Origin {
        Origin::between(self.peer, self.local)
    }

    /// A connection to a member that waits for a request which this client may make over it.
    pub(super) fn take_upstream(
        &self,
        whose: Whose,
        serial: u64,
        seal: Option<Seal<'_>>,
        patience: Duration,
    ) -> Option<Upstream> {
        self.upstreams(whose).take(serial, seal, patience)
    }

    /// Where connections are kept over which this client may make requests.
    pub(super) fn upstreams(&self, whose: Whose) -> &Upstreams {
        match whose {
            Whose::Anybody => &self.guest.local.upstreams,
            Whose::OneClient => &self.own_upstreams,
        }
    }

    /// Takes back a connection to a member whose answer is complete.
    pub(super) fn put_upstream(&self, upstream: Upstream) {
        match upstream.whose() {
            Whose::Anybody => self.guest.local.upstreams.put(upstream),
            Whose::OneClient => {
                // What waits here is watched by nobody: whoever was closed or has waited for too long makes room.
                self.own_upstreams.expire(Instant::now());
                self.own_upstreams.put(upstream);
            }
        }
    }

    /// Whether the present request is the connection's last.
    pub(super) const fn is_last(&self) -> bool {
        self.gone.get()
    }

    /// Why a request is given up that is under way now.
    pub(super) fn given_up_for(&self) -> Cause {
        if std::thread::panicking() {
            Cause::LbInternal
        } else if self.ending() == Ending::Now {
            Cause::LbDrained
        } else {
            self.verdict.get().unwrap_or(Cause::ClientGone)
        }
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
        match self.progress.turn.get() {
            Turn::Request | Turn::Client => Some(client_data),
            Turn::Member => Some(member_data),
            Turn::Ours => None,
        }
    }
}
