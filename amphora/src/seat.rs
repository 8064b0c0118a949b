//! A listener as one thread of the data path holds it, and the world it is looked up in.

use std::{ptr, rc::Rc, sync::Arc};

use arc_swap::{ArcSwap, Cache};
use hashbrown::HashMap;
use http::{HeaderMap, HeaderValue, header::STRICT_TRANSPORT_SECURITY};
use krater_amphora_api::ListenerId;
use krater_amphora_core::snapshot::Mode;

use crate::{
    access::{Draft, Kind, Pen},
    meter::ListenerLane,
    world::{ListenerState, World},
};

/// The state of a listener and the thread that looks at it: counting references to it touches no shared cache line.
pub(crate) struct Seat {
    pub(crate) state: Arc<ListenerState>,
    /// What browsers are told with each answer (RFC 6797). Of this thread: it is counted how many answers hold it.
    hsts: Option<HeaderValue>,
    lane: usize,
    /// What its records are written by; `None` if there are none of it.
    pen: Option<Rc<Pen>>,
}

impl Seat {
    /// The listener of `state`, for the thread that has that lane in every meter, and that pen.
    fn new(state: Arc<ListenerState>, lane: usize, pen: Option<Rc<Pen>>) -> Rc<Self> {
        let hsts = state.listener.hsts.as_ref();
        // The words of it can stand in any header.
        let hsts = hsts.and_then(|hsts| HeaderValue::from_str(hsts.value()).ok());
        let pen = pen.filter(|_| state.listener.access_log.is_some());
        Rc::new(Self {
            state,
            hsts,
            lane,
            pen,
        })
    }

    /// Has an answer to a client that came by TLS tell it to come by that alone, whatever a member says of it.
    pub(crate) fn tell_hsts(&self, headers: &mut HeaderMap) {
        if let Some(value) = &self.hsts {
            headers.insert(STRICT_TRANSPORT_SECURITY, value.clone());
        }
    }

    /// The same as a line, of an answer written by hand.
    pub(crate) fn hsts(&self) -> Option<&HeaderValue> {
        self.hsts.as_ref()
    }

    /// Which lane this thread has in every meter.
    pub(crate) const fn lane_number(&self) -> usize {
        self.lane
    }

    /// Whether any of what it serves is told in the access log.
    pub(crate) const fn is_logged(&self) -> bool {
        self.pen.is_some()
    }

    /// A record of what begins, or began, if it is one of those that are told in the access log.
    pub(crate) fn draft(&self) -> Option<Draft> {
        let pen = self.pen.as_ref()?;
        let listener = &self.state.listener;
        let mut draft = pen.begin(listener.access_log?)?;
        draft.note(|record| {
            record.of = Some((self.state.balancer, listener.id));
            record.kind = match listener.mode {
                Mode::Http => Kind::Http,
                Mode::Tcp => Kind::Tcp,
                Mode::Udp => Kind::Udp,
            };
        });
        Some(draft)
    }

    /// The meters of the listener, of this thread.
    pub(crate) fn lane(&self) -> &ListenerLane {
        self.state.shared.meter.of(self.lane)
    }
}

/// The world as one thread sees it: a look at it costs one comparison unless it has changed.
pub(crate) struct Seats {
    lane: usize,
    world: Cache<Arc<ArcSwap<World>>, Arc<World>>,
    /// Address of the world that `seats` was filled from. Compared, never followed.
    seen: *const World,
    epoch: u64,
    seats: HashMap<ListenerId, Rc<Seat>>,
    pen: Option<Rc<Pen>>,
}

impl Seats {
    /// Of the thread that has that lane in every meter, and that pen.
    pub(crate) fn new(world: Arc<ArcSwap<World>>, lane: usize, pen: Option<Pen>) -> Self {
        Self {
            lane,
            pen: pen.map(Rc::new),
            world: Cache::new(world),
            seen: ptr::null(),
            epoch: 0,
            seats: HashMap::new(),
        }
    }

    /// Changes whenever the world has changed: what was looked up under the same epoch is still current.
    pub(crate) fn epoch(&mut self) -> u64 {
        let world = Arc::as_ptr(self.world.load());
        if world != self.seen {
            // The cache keeps the world that was seen until it loads another, so no two have the same address.
            self.seen = world;
            self.epoch += 1;
            self.seats.clear();
        }
        self.epoch
    }

    /// What traffic is served by now.
    pub(crate) fn world(&mut self) -> &Arc<World> {
        self.epoch();
        self.world.load()
    }

    /// The listener as it is in the current world.
    pub(crate) fn find(&mut self, listener: ListenerId) -> Option<Rc<Seat>> {
        self.epoch();
        if let Some(seat) = self.seats.get(&listener) {
            return Some(Rc::clone(seat));
        }
        let state = Arc::clone(self.world.load().listeners.get(&listener)?);
        let seat = self.seat_of(state);
        self.seats.insert(listener, Rc::clone(&seat));
        Some(seat)
    }

    /// A listener that the current world may no longer have.
    pub(crate) fn seat_of(&self, state: Arc<ListenerState>) -> Rc<Seat> {
        Seat::new(state, self.lane, self.pen.clone())
    }
}
