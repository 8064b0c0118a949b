//! Datagrams: sockets that clients send to, and a session for each client, with a connected socket toward its member.
//!
//! A socket of its own tells the answers for one client from those for another, lets nobody but the member answer, and
//! hears of it when the member's host says that nobody is there. What is decided (who is known, who expires, who gives
//! way) is the core's; here is what moves. No datagram costs an allocation, and many of them share a call.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use krater_amphora_core::{
    flow::{FlowId, FlowKey, Flows, Standing},
    limits::MEMBER_TRIES_MAX,
    time::Instant,
};
use quinn_udp::BATCH_SIZE;
use rustix::{fd::OwnedFd, io::Errno};

use super::{
    reactor::{Flags, Kind, Reactor, Token},
    slab::{Id, Slab},
};
use crate::{
    connect::{Link, Load, note_failure},
    limits::{DATAGRAM_ROUNDS_MAX, DRAIN_LINGER, MEMBER_BATCH_MAX},
    local::Common,
    meter::Loss,
    seat::{Seat, Seats},
    world::PoolState,
};

mod door;
mod session;
mod wire;

use door::Door;
use session::{Bond, Session};
use wire::{Means, Origin, Parcel, Rest};

/// All that one thread has to do with datagrams.
pub(super) struct Datagrams {
    lane: usize,
    /// How long sessions may go on with a member that takes no new ones.
    drain: Duration,
    /// Descriptors from this number on are not for sessions.
    descriptors_max: i32,
    doors: Slab<Door>,
    places: HashMap<SocketAddr, Id>,
    flows: Flows<Session>,
    /// Made when the first door opens: most threads need none.
    means: Option<Box<Means>>,
}

/// What is lent for one piece of work.
pub(super) struct Turn<'a> {
    pub(super) reactor: &'a Reactor,
    pub(super) seats: &'a mut Seats,
    pub(super) now: Instant,
}

impl Datagrams {
    /// For the thread that has that lane in every meter. `seed` is nobody else's to know.
    pub(super) fn new(lane: usize, common: &Common, seed: u64) -> Self {
        Self {
            lane,
            drain: common.drain,
            descriptors_max: common.descriptors_max,
            doors: Slab::new(),
            places: HashMap::new(),
            flows: Flows::new(common.sessions_max, seed),
            means: None,
        }
    }

    /// Takes what clients send to a socket.
    pub(super) fn open(
        &mut self,
        address: SocketAddr,
        seat: Rc<Seat>,
        socket: Arc<UdpSocket>,
        turn: &Turn<'_>,
    ) {
        if let Err(error) = self.watch_door(address, seat, socket, turn) {
            tracing::error!(%address, %error, "a thread cannot take datagrams from a socket");
        }
    }

    fn watch_door(
        &mut self,
        address: SocketAddr,
        seat: Rc<Seat>,
        socket: Arc<UdpSocket>,
        turn: &Turn<'_>,
    ) -> io::Result<()> {
        self.means = Some(self.take_means()?);
        let door = Door::new(socket, address, seat, turn.now)?;
        let id = self.doors.insert(door);
        let Some(door) = self.doors.find(id) else {
            return Ok(());
        };
        let token = Token {
            kind: Kind::DatagramDoor,
            id,
        };
        if let Err(error) = turn.reactor.add(&*door.socket, token, Flags::IN) {
            self.doors.remove(id);
            return Err(error.into());
        }
        self.places.insert(address, id);
        Ok(())
    }

    /// Lends what the calls need; to be put back. Made for the first door, and after a panic that has lost it.
    fn take_means(&mut self) -> io::Result<Box<Means>> {
        match self.means.take() {
            Some(means) => Ok(means),
            None => Means::new().map(Box::new),
        }
    }

    /// What comes to an address is another listener's from now on.
    pub(super) fn reassign(&mut self, address: SocketAddr, seat: Rc<Seat>, now: Instant) {
        if let Some(id) = self.places.get(&address)
            && let Some(door) = self.doors.find(*id)
        {
            door.reassign(seat, now);
        }
    }

    /// Leaves what clients send to an address to another amphora. Answers that are under way still reach them.
    pub(super) fn deafen(&mut self, address: SocketAddr) {
        if let Some(id) = self.places.get(&address)
            && let Some(door) = self.doors.find(*id)
            && let Err(error) = door.deafen()
        {
            // Then half of what clients send comes here until the socket is closed, and is served.
            tracing::warn!(%address, %error, "a socket cannot be deafened");
        }
    }

    /// Passes on what has come to an address, then closes its socket and ends its sessions.
    pub(super) fn close(&mut self, address: SocketAddr, turn: &mut Turn<'_>) {
        let Some(id) = self.places.remove(&address) else {
            return;
        };
        self.on_door(id, turn);
        if let Some(door) = self.doors.remove(id) {
            // Should it be open elsewhere, it is not to wake us any more.
            let _ = turn.reactor.delete(&*door.socket);
        }
        let door = id.index();
        self.flows.remove_where(|key, _| key.door == door, drop);
    }

    /// Closes all.
    pub(super) fn close_all(&mut self, turn: &mut Turn<'_>) {
        for address in self.places.keys().copied().collect::<Vec<_>>() {
            self.close(address, turn);
        }
    }

    /// Ends sessions whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        while self.flows.expire(now).is_some() {}
    }

    /// When to call [`Datagrams::expire`] next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.flows.poll_timeout()
    }

    /// Clients have sent something.
    pub(super) fn on_door(&mut self, id: Id, turn: &mut Turn<'_>) {
        let Ok(mut means) = self.take_means() else {
            return;
        };
        for _ in 0..DATAGRAM_ROUNDS_MAX {
            let Some(door) = self.doors.find(id) else {
                break;
            };
            door.refresh(turn.seats, turn.now);
            // An error says that nothing has come, or that there is no memory for it: the next look will tell.
            let Means { batch, calls } = &mut *means;
            let Ok(rest) = batch.receive(calls, &*door.socket, BATCH_SIZE) else {
                break;
            };
            let (seat, since) = (Rc::clone(&door.seat), door.since);
            while let Some((origin, parcel)) = batch.next() {
                self.pass_on((id, &seat, since), origin, parcel, turn);
            }
            if rest == Rest::Nothing {
                break;
            }
        }
        self.means = Some(means);
    }

    fn pass_on(
        &mut self,
        (door, seat, since): (Id, &Rc<Seat>, Instant),
        origin: Origin,
        parcel: Parcel<'_>,
        turn: &Turn<'_>,
    ) {
        let lane = seat.lane();
        lane.datagrams_in.add(parcel.count());
        lane.bytes_in.add(parcel.bytes.len() as u64);
        let key = FlowKey {
            door: door.index(),
            client: origin.sender,
        };
        let found = match self.flows.find(&key) {
            Some(id) => self.attend(id, seat, since, turn),
            None => self.begin(key, seat, origin.to, turn),
        };
        match found {
            Ok(id) => {
                if let Some(session) = self.flows.get_mut(id) {
                    session.to = origin.to;
                }
                self.flows.touch(id, turn.now);
                self.forward(id, parcel, turn);
            }
            Err(why) => lane.losses.count(why, parcel.count()),
        }
    }

    /// Looks at a session before it is used: the listener may have changed, its member be down.
    fn attend(
        &mut self,
        id: FlowId,
        seat: &Rc<Seat>,
        since: Instant,
        turn: &Turn<'_>,
    ) -> Result<FlowId, Loss> {
        let session = self.flows.get(id).ok_or(Loss::NoMember)?;
        if !Rc::ptr_eq(&session.seat, seat) {
            self.review(id, seat, since, turn.now)?;
        }
        let session = self.flows.get(id).ok_or(Loss::NoMember)?;
        let is_over = session.drains_until.is_some_and(|until| until <= turn.now);
        let stays = if !session.bond.member().counts_as_up() {
            let down = session.bond.position;
            self.redirect(id, Some(down), turn)
        } else if is_over {
            // As if it began now: with the same member again if its clients are kept (reference 19.4).
            self.redirect(id, None, turn)
        } else {
            true
        };
        if stays { Ok(id) } else { Err(Loss::NoMember) }
    }

    /// Applies to a session what has changed of its listener since it was last looked at.
    fn review(
        &mut self,
        id: FlowId,
        seat: &Rc<Seat>,
        since: Instant,
        now: Instant,
    ) -> Result<(), Loss> {
        let client = self.flows.key(id).ok_or(Loss::Denied)?.client;
        let listener = &seat.state.listener;
        if !listener.gate.allows(client.ip()) {
            self.flows.remove(id);
            return Err(Loss::Denied);
        }
        let session = self.flows.get_mut(id).ok_or(Loss::NoMember)?;
        let before = std::mem::replace(&mut session.seat, Rc::clone(seat));
        let pool = seat.state.pool.as_deref();
        let place = pool.and_then(|pool| place_of(&session.bond, pool));
        session.bond.position = place.unwrap_or(usize::MAX);
        let member = pool
            .zip(place)
            .and_then(|(pool, place)| pool.pool.members.get(place));
        let standing = Standing::of(
            pool.map(|pool| &pool.pool),
            member,
            session.bond.member().counts_as_up(),
        );
        let until = match standing {
            Standing::Drains => session
                .drains_until
                .or_else(|| Some(since.saturating_add(self.drain))),
            Standing::Keeps => None,
            // Whoever is down is left at once, if there is another; until then nothing changes.
            Standing::Leaves => session.drains_until,
        };
        if std::mem::replace(&mut session.drains_until, until) != until {
            // What is still to be answered by then is.
            let end = until.map(|until| until.saturating_add(DRAIN_LINGER));
            self.flows.end_at(id, end, now);
        }
        let timeouts = listener.timeouts;
        if timeouts != before.state.listener.timeouts {
            self.flows.set_idle(id, idle(seat), now);
        }
        Ok(())
    }

    /// Begins a session with the member that its pool chooses.
    fn begin(
        &mut self,
        key: FlowKey,
        seat: &Rc<Seat>,
        to: Option<IpAddr>,
        turn: &Turn<'_>,
    ) -> Result<FlowId, Loss> {
        let state = &seat.state;
        if !state.listener.gate.allows(key.client.ip()) {
            return Err(Loss::Denied);
        }
        let pool = state.pool.as_deref().ok_or(Loss::NoMember)?;
        if !state.shared.limit.take() {
            return Err(Loss::Limit);
        }
        let bond = match self.bond(pool, key.client, None) {
            Ok(bond) => bond,
            Err(why) => {
                state.shared.limit.release();
                return Err(why);
            }
        };
        let session = Session::new(Rc::clone(seat), to, bond);
        let (id, gone) = self.flows.admit(key, turn.now, idle(seat), session);
        if let Some(gone) = gone {
            gone.value.seat.lane().evicted.bump();
        }
        if self.watch(id, turn) {
            Ok(id)
        } else {
            self.flows.remove(id);
            Err(Loss::Exhausted)
        }
    }

    fn watch(&self, id: FlowId, turn: &Turn<'_>) -> bool {
        let token = Token {
            kind: Kind::DatagramMember,
            id: Id::from_bits(id.to_bits()),
        };
        self.flows.get(id).is_some_and(|session| {
            let added = turn.reactor.add(&session.bond.socket, token, Flags::IN);
            added.is_ok()
        })
    }

    /// Chooses a member and opens a socket to it; `not` is passed over.
    fn bond(
        &mut self,
        pool: &PoolState,
        client: SocketAddr,
        not: Option<usize>,
    ) -> Result<Bond, Loss> {
        let mut tried = [usize::MAX; MEMBER_TRIES_MAX + 1];
        if let (Some(first), Some(not)) = (tried.first_mut(), not) {
            *first = not;
        }
        for attempt in 1..=MEMBER_TRIES_MAX {
            let passed_over = tried.get(..attempt).unwrap_or_default();
            let Some(position) = pool.choose(client, passed_over) else {
                break;
            };
            let Some(member) = pool.members.get(position) else {
                break;
            };
            match self.connect(member.address) {
                Ok(socket) => {
                    let load = Load::new(pool, member);
                    let link = Link::new(Arc::clone(member), self.lane);
                    return Ok(Bond::new(socket, link, position, load));
                }
                Err(error) => {
                    if is_exhaustion(error) {
                        return Err(Loss::Exhausted);
                    }
                    note_failure(member, self.lane, &error.into());
                    if let Some(place) = tried.get_mut(attempt) {
                        *place = position;
                    }
                }
            }
        }
        Err(Loss::NoMember)
    }

    /// Opens a socket to a member. If there is no descriptor, the session that was silent longest gives its own.
    fn connect(&mut self, member: SocketAddr) -> Result<OwnedFd, Errno> {
        match wire::connected(member, self.descriptors_max) {
            Err(error) if is_exhaustion(error) => {
                let oldest = self.flows.oldest().ok_or(error)?;
                if let Some(gone) = self.flows.remove(oldest) {
                    gone.value.seat.lane().evicted.bump();
                }
                wire::connected(member, self.descriptors_max)
            }
            outcome => outcome,
        }
    }

    /// Has a session go on with the member that is chosen now, if there is one; `not` is passed over.
    fn redirect(&mut self, id: FlowId, not: Option<usize>, turn: &Turn<'_>) -> bool {
        let (Some(key), Some(session)) = (self.flows.key(id), self.flows.get(id)) else {
            return false;
        };
        let client = key.client;
        let seat = Rc::clone(&session.seat);
        let Some(pool) = seat.state.pool.as_deref() else {
            return false;
        };
        let Ok(bond) = self.bond(pool, client, not) else {
            return false;
        };
        // Whose descriptor it took may have been this very session.
        let Some(session) = self.flows.get_mut(id) else {
            return false;
        };
        session.bond = bond;
        if session.drains_until.take().is_some() {
            self.flows.end_at(id, None, turn.now);
        }
        if !self.watch(id, turn) {
            self.flows.remove(id);
            return false;
        }
        seat.lane().moved.bump();
        true
    }

    /// The member's host has said that nobody is there.
    fn refused(&mut self, id: FlowId, turn: &Turn<'_>) {
        if let Some(session) = self.flows.get(id) {
            session.bond.lane().connect_failures.bump();
            let refused = session.bond.position;
            self.redirect(id, Some(refused), turn);
        }
    }

    fn forward(&mut self, id: FlowId, parcel: Parcel<'_>, turn: &Turn<'_>) {
        let Some(session) = self.flows.get_mut(id) else {
            return;
        };
        let bond = &mut session.bond;
        if wire::send_together(&bond.socket, None, parcel, &mut bond.segments) {
            bond.lane().bytes_out.add(parcel.bytes.len() as u64);
            return;
        }
        for datagram in parcel.each() {
            let mut sent = self.send_once(id, datagram);
            // What befell an earlier datagram is told when the next one is sent, which then was not.
            if let Err(error) = sent
                && !is_shortage(error)
            {
                if error == Errno::CONNREFUSED {
                    self.refused(id, turn);
                }
                sent = self.send_once(id, datagram);
            }
            let Some(session) = self.flows.get(id) else {
                return;
            };
            match sent {
                Ok(()) => session.bond.lane().bytes_out.add(datagram.len() as u64),
                Err(_) => session.seat.lane().losses.count(Loss::ToMember, 1),
            }
        }
    }

    fn send_once(&self, id: FlowId, datagram: &[u8]) -> Result<(), Errno> {
        let session = self.flows.get(id).ok_or(Errno::BADF)?;
        wire::send_connected(&session.bond.socket, datagram)
    }

    /// A member has sent something, or its host has.
    pub(super) fn on_member(&mut self, id: Id, turn: &mut Turn<'_>) {
        let id = FlowId::from_bits(id.to_bits());
        if let Ok(mut means) = self.take_means() {
            self.pass_back(id, &mut means, turn);
            self.means = Some(means);
        }
    }

    fn pass_back(&mut self, id: FlowId, means: &mut Means, turn: &mut Turn<'_>) {
        let (Some(key), Some(session)) = (self.flows.key(id), self.flows.get(id)) else {
            return;
        };
        let Means { batch, calls } = means;
        if let Err(error) = batch.receive(calls, &session.bond.socket, MEMBER_BATCH_MAX) {
            if Errno::from_io_error(&error) == Some(Errno::CONNREFUSED) {
                self.refused(id, turn);
            }
            return;
        }
        let Some(door) = self
            .doors
            .id_at(key.door)
            .and_then(|door| self.doors.find(door))
        else {
            return;
        };
        door.refresh(turn.seats, turn.now);
        let member = session.bond.lane();
        while let Some((_, parcel)) = batch.next() {
            member.bytes_in.add(parcel.bytes.len() as u64);
            door.answer(key.client, session.to, parcel, calls);
        }
        let (seat, since) = (Rc::clone(&door.seat), door.since);
        let is_current = Rc::ptr_eq(&session.seat, &seat);
        self.flows.touch(id, turn.now);
        // Who may no longer come in is told so by silence from now on: nothing is left to be done about it.
        if !is_current && self.review(id, &seat, since, turn.now).is_err() {
            self.flows.remove(id);
        }
    }
}

/// Where a pool lists the member of a bond: mostly where it did before.
fn place_of(bond: &Bond, pool: &PoolState) -> Option<usize> {
    let is_it = |member: &Arc<_>| Arc::ptr_eq(member, bond.member());
    if pool.members.get(bond.position).is_some_and(is_it) {
        return Some(bond.position);
    }
    pool.members.iter().position(is_it)
}

/// How long a session of a listener may be silent.
fn idle(seat: &Seat) -> Duration {
    let timeouts = seat.state.listener.timeouts;
    timeouts.client_data.max(timeouts.member_data)
}

const fn is_exhaustion(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS
    )
}

/// Whether there is only no room for now, and another try would find none either.
const fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM)
}

#[cfg(test)]
mod tests;
