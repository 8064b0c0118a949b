//! The loop of one thread: waits for events and gives each to what it belongs to.
//!
//! One turn of the loop: wait, read the clock once, look at what timers say is due, hand out events, then let one of
//! those go on that wait for their turn: streams, and whoever has moved enough at once. Whoever adds a kind of
//! descriptor (as sockets of datagrams are one) adds a [`Kind`], a place for its
//! state beside `doors` and `connections`, and a line in [`Engine::dispatch`]; orders for it arrive in
//! [`Engine::handle_order`].

use std::{
    collections::VecDeque,
    io,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::TryRecvError},
    task::Waker,
    time::{Duration, Instant},
};

use hashbrown::HashMap;
use krater_amphora_api::{Cause, ListenerId};
use krater_amphora_core::snapshot::Transport;

use super::{
    bell::Inbox,
    connection::{Connection, Fate, Shared, Side},
    door::Door,
    flow::Means,
    neighbours::Berth,
    pipes::Pipes,
    reactor::{Event, Events, Flags, Kind, Reactor, Token},
    slab::{Id, Slab},
    timers::{Moment, Timers},
    udp::{Datagrams, Turn},
};
use crate::{
    limits::SCRATCH_BYTES,
    listen::{Listening, bound_unsent},
    local::Common,
    order::Order,
    seat::{Seat, Seats},
    world::Leave,
};

mod admission;

use admission::Accepting;

/// The sockets of one thread, and all that their connections share.
pub(super) struct Engine {
    common: Common,
    began: Instant,
    seats: Seats,
    shared: Shared,
    inbox: Inbox,
    berth: Berth,
    waker: Waker,
    doors: Slab<Door>,
    addresses: HashMap<SocketAddr, Id>,
    /// Doors that wait for a place in their listener's connection limit.
    full: Vec<Id>,
    /// Doors that rest because descriptors or memory had run out, and until when.
    resting: Vec<(Moment, Id)>,
    connections: Slab<Connection>,
    datagrams: Datagrams,
    /// When the last connections end, once it is told to stop.
    stopping: Option<Moment>,
    /// What is being worked on, to be closed if that panics.
    current: Option<Id>,
}

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Onward,
    End,
}

impl Engine {
    pub(super) fn new(lane: usize, common: Common, inbox: Inbox, berth: Berth) -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let bell = Token {
            kind: Kind::Bell,
            id: Id::SOLE,
        };
        reactor.add(&*inbox.bell, bell, Flags::IN)?;
        Ok(Self {
            began: Instant::now(),
            seats: Seats::new(Arc::clone(&common.world), lane, common.access.pen(lane)),
            shared: Shared {
                lane,
                reactor,
                timers: Timers::new(),
                now: Moment::default(),
                means: Means {
                    scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
                    pipes: Pipes::new(),
                },
                turns: VecDeque::new(),
                pauses: VecDeque::new(),
                descriptors_max: common.descriptors_max,
            },
            waker: Waker::from(Arc::clone(&inbox.bell)),
            inbox,
            berth,
            doors: Slab::new(),
            addresses: HashMap::new(),
            full: Vec::new(),
            resting: Vec::new(),
            connections: Slab::new(),
            datagrams: Datagrams::new(lane, &common, rand::random()),
            stopping: None,
            current: None,
            common,
        })
    }

    /// Works until it is told to stop and the last connection has ended, or until nobody is left to give orders.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events = Events::new();
        let mut due = Vec::new();
        loop {
            let most = self.patience();
            self.shared.reactor.wait(&mut events, most)?;
            self.shared.now = self.clock();
            self.shared.timers.expire(self.shared.now, &mut due);
            let mut next = 0;
            if self.guarded(|engine| engine.turn(&events, &mut next, &mut due)) == Course::End {
                return Ok(());
            }
        }
    }

    /// Repeats a step until it comes to its end: a panic is a bug that costs the connection that was being worked on,
    /// and what is left to do is done after it.
    fn guarded(&mut self, mut step: impl FnMut(&mut Self) -> Course) -> Course {
        loop {
            match catch_unwind(AssertUnwindSafe(|| step(self))) {
                Ok(course) => return course,
                Err(_) => self.bury(),
            }
        }
    }

    /// Everything that one wake brings. What has been begun is not begun again if it is called twice.
    fn turn(&mut self, events: &Events, next: &mut usize, due: &mut Vec<u32>) -> Course {
        while let Some(place) = due.pop() {
            if let Some(id) = self.connections.id_at(place) {
                self.drive(id, Connection::on_time);
            }
        }
        while *next < events.len() {
            let event = events.at(*next);
            *next += 1;
            if let Some(event) = event
                && self.dispatch(event) == Course::End
            {
                return Course::End;
            }
        }
        while let Some((at, id)) = self.shared.pauses.front().copied()
            && at <= self.shared.now
        {
            self.shared.pauses.pop_front();
            self.drive(id, Connection::on_look);
        }
        // One at a time, so that messages that came meanwhile do not wait for many.
        if let Some(id) = self.shared.turns.pop_front() {
            self.drive(id, Connection::on_turn);
        }
        self.wake_doors();
        self.datagrams.end_turn(self.shared.now.instant());
        if self.stopping.is_some() && self.connections.len() == 0 {
            self.take_passed();
            if self.connections.len() == 0 {
                return Course::End;
            }
        }
        Course::Onward
    }

    fn dispatch(&mut self, (Token { kind, id }, flags): Event) -> Course {
        match kind {
            Kind::Client => self.drive(id, |connection, shared, id| {
                connection.on_ready(Side::Client, flags, shared, id)
            }),
            Kind::Member => self.drive(id, |connection, shared, id| {
                connection.on_ready(Side::Member, flags, shared, id)
            }),
            Kind::Door => self.admit(id),
            Kind::DatagramDoor => {
                self.with_datagrams(|datagrams, turn| datagrams.on_door(id, turn))
            }
            Kind::DatagramMember => {
                self.with_datagrams(|datagrams, turn| datagrams.on_member(id, turn));
            }
            Kind::Bell => {
                self.inbox.bell.hush();
                self.look_for_places();
                let course = self.take_orders();
                self.take_passed();
                return course;
            }
        }
        Course::Onward
    }

    /// Has a connection do something, and takes it away if it has ended. Events of one that has ended already find
    /// nothing.
    fn drive(&mut self, id: Id, act: impl FnOnce(&mut Connection, &mut Shared, Id) -> Fate) {
        self.current = Some(id);
        if let Some(connection) = self.connections.find(id)
            && act(connection, &mut self.shared, id) == Fate::Ends
        {
            self.take_away(id);
        }
    }

    fn take_away(&mut self, id: Id) {
        if self.connections.remove(id).is_some() {
            self.common.threads.of(self.shared.lane).ended.bump();
        }
    }

    fn with_datagrams(&mut self, act: impl FnOnce(&mut Datagrams, &mut Turn<'_>)) {
        self.current = None;
        let mut turn = Turn {
            reactor: &self.shared.reactor,
            seats: &mut self.seats,
            now: self.shared.now.instant(),
        };
        act(&mut self.datagrams, &mut turn);
    }

    /// Ends the connection that was being worked on when something panicked.
    fn bury(&mut self) {
        self.common.count_bug();
        if let Some(id) = self.current.take() {
            if let Some(connection) = self.connections.find(id) {
                let _ends = connection.fails(Cause::LbInternal);
            }
            self.take_away(id);
        }
    }

    /// How long there is nothing to do if nothing happens.
    fn patience(&self) -> Option<Duration> {
        if !self.shared.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let rests = self.resting.iter().map(|(until, _)| *until);
        let sessions = self.datagrams.poll_timeout().map(Moment::not_before);
        let timers = self.shared.timers.next().into_iter().chain(sessions);
        let pause = self.shared.pauses.front().map(|(at, _)| *at);
        let next = rests.chain(timers).chain(pause).min()?;
        Some(next.since(self.clock()))
    }

    fn clock(&self) -> Moment {
        Moment::from_millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn take_orders(&mut self) -> Course {
        loop {
            match self.inbox.orders.try_recv() {
                Ok(Order::Stop { grace, .. }) => self.stop(grace),
                Ok(order) => self.handle_order(order),
                Err(TryRecvError::Empty) => return Course::Onward,
                Err(TryRecvError::Disconnected) => return Course::End,
            }
        }
    }

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Adopt {
                place,
                state,
                socket,
            } => {
                let seat = self.seats.seat_of(state);
                match socket {
                    Listening::Streams(socket) => self.open(place.address, seat, socket),
                    Listening::Datagrams(socket) => self.with_datagrams(|datagrams, turn| {
                        datagrams.open(place.address, seat, socket, turn);
                    }),
                }
            }
            Order::Reassign { place, state } => {
                let seat = self.seats.seat_of(state);
                match place.transport {
                    Transport::Stream => self.reassign(place.address, seat),
                    Transport::Datagram => self.with_datagrams(|datagrams, turn| {
                        datagrams.reassign(place.address, seat, turn.now);
                    }),
                }
            }
            Order::Release { place } => {
                if let Some(door) = self.take_door(place.address) {
                    door.unwatch(&self.shared.reactor);
                }
            }
            Order::Close { place, closed } => {
                match place.transport {
                    Transport::Stream => self.close(place.address),
                    Transport::Datagram => self.with_datagrams(|datagrams, turn| {
                        datagrams.close(place.address, turn);
                    }),
                }
                // Who asked may have stopped waiting.
                let _ = closed.send(());
            }
            Order::Deafen { place } => match place.transport {
                Transport::Stream => self.deafen(place.address),
                Transport::Datagram => self.datagrams.deafen(place.address),
            },
            Order::Retire { listener, leave } => self.retire(listener, leave),
            Order::Cut { members } => self.end_by(self.shared.now, |connection| {
                let member = connection.member();
                member.is_some_and(|member| members.contains(&member.serial))
            }),
            Order::Answer { count } => {
                count.fetch_add(1, Relaxed);
            }
            // The look lets go of the world that was.
            Order::Tidy { .. } => {
                self.seats.epoch();
            }
            Order::Stop { .. } => {}
        }
    }

    fn reassign(&mut self, address: SocketAddr, seat: Rc<Seat>) {
        if let Some(id) = self.addresses.get(&address).copied()
            && let Some(door) = self.doors.find(id)
        {
            door.reassign(seat);
            door.heed(Flags::IN, &self.shared.reactor, id);
        }
    }

    fn deafen(&mut self, address: SocketAddr) {
        if let Some(id) = self.addresses.get(&address).copied()
            && let Some(door) = self.doors.find(id)
        {
            door.deafen();
        }
    }

    fn open(&mut self, address: SocketAddr, seat: Rc<Seat>, socket: Arc<TcpListener>) {
        // It may have been one for HTTP. Streams are moved in larger pieces than those.
        if let Err(error) = bound_unsent(&socket, 0) {
            tracing::debug!(%address, %error, "what waits to be sent stays bounded");
        }
        let id = self.doors.insert(Door::new(address, seat, socket));
        let Some(door) = self.doors.find(id) else {
            return;
        };
        match door.watch(&self.shared.reactor, id) {
            Ok(()) => {
                self.addresses.insert(address, id);
            }
            Err(error) => {
                self.doors.remove(id);
                tracing::error!(%address, %error, "a thread cannot accept on a socket");
            }
        }
    }

    /// Accepts who already waits, then closes the socket.
    fn close(&mut self, address: SocketAddr) {
        let Some(id) = self.addresses.get(&address).copied() else {
            return;
        };
        while self.accept_at(id, u32::MAX) == Accepting::More {}
        if let Some(door) = self.take_door(address) {
            door.unwatch(&self.shared.reactor);
            let listener = door.listener();
            let leave = door.leave();
            drop(door);
            if !self
                .seats
                .find(listener)
                .is_some_and(|seat| seat.state.enabled)
            {
                // It was retired before its last connections came in through this door.
                self.retire(listener, leave);
            }
        }
    }

    fn take_door(&mut self, address: SocketAddr) -> Option<Door> {
        let id = self.addresses.remove(&address)?;
        self.doors.remove(id)
    }

    /// Gives the connections of a listener that is gone until the drain timeout, however it has gone: a stream cannot
    /// be told to end.
    fn retire(&mut self, listener: ListenerId, _leave: Leave) {
        self.end_by(self.shared.now.after(self.common.drain), |connection| {
            connection.listener() == listener
        });
    }

    fn stop(&mut self, grace: Duration) {
        let until = self.shared.now.after(grace);
        self.stopping = Some(until);
        for address in self.addresses.keys().copied().collect::<Vec<_>>() {
            self.close(address);
        }
        self.with_datagrams(Datagrams::close_all);
        self.end_by(until, |_| true);
    }

    fn end_by(&mut self, at: Moment, which: impl Fn(&Connection) -> bool) {
        for id in self.connections.ids() {
            if let Some(connection) = self.connections.find(id)
                && which(connection)
            {
                connection.end_by(at, &mut self.shared, id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::{
        l4::{bell::inbox, berths},
        testbed::{Bed, echo, eventually},
    };

    #[test]
    fn a_panic_ends_one_connection_gives_its_place_back_and_is_counted() {
        let bed = Bed::tcp(&[echo()]).started();
        let common = Common::new(1, Duration::from_secs(1));
        common.world.store(bed.plane.world());
        let berth = berths(1..2).unwrap().remove(0);
        let (_outbox, inbox) = inbox(Arc::clone(&berth.bell));
        let mut engine = Engine::new(1, common, inbox, berth).unwrap();
        let seat = engine.seats.find(bed.spec.listeners[0].id).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut let_in = || {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            assert!(seat.state.shared.limit.take());
            let (inside, peer): (TcpStream, SocketAddr) = listener.accept().unwrap();
            engine.let_in(Rc::clone(&seat), inside.into(), peer);
            client
        };
        let _clients = [let_in(), let_in()];
        assert_eq!(engine.connections.len(), 2);
        let mut steps = 0;
        let id = engine.connections.ids()[0];
        let course = engine.guarded(|engine| {
            steps += 1;
            if steps == 1 {
                engine.drive(id, |_, _, _| panic!("an invariant was broken"));
            }
            Course::Onward
        });
        assert_eq!((course, steps), (Course::Onward, 2));
        assert_eq!(engine.connections.len(), 1);
        assert_eq!(
            engine
                .common
                .bugs
                .load(std::sync::atomic::Ordering::Relaxed),
            1
        );
        assert_eq!(engine.common.threads.of(1).active(), 1);
        eventually("one place is taken", || {
            bed.listener().counters.active_connections == 1
        });
    }
}
