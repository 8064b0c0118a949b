//! Datagrams: sockets that clients send to, and a session for each client, with a connected socket toward its member.
//!
//! A socket of its own tells the answers for one client from those for another, lets nobody but the member answer, and
//! hears of it when the member's host says that nobody is there. What is decided (who is known, who expires, who gives
//! way) is the core's; here is what moves. No datagram costs an allocation, and many of them share a call.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use hashbrown::HashMap;
use krater_amphora_api::Cause;
use krater_amphora_core::{
    flow::{FlowId, FlowKey, Flows, Standing},
    time::Instant,
};
use quinn_udp::BATCH_SIZE;
use rustix::io::Errno;

use super::{
    reactor::{Flags, Kind, Reactor, Token},
    slab::{Id, Slab},
};
use crate::{
    limits::{DATAGRAM_ROUNDS_MAX, DRAIN_LINGER, MEMBER_BATCH_MAX},
    local::Common,
    meter::{ListenerLane, Loss},
    seat::{Seat, Seats},
    world::PoolState,
};

mod bonding;
mod door;
mod replies;
mod session;
mod unreachable;
mod wire;

use door::Door;
use replies::Replies;
use session::{Bond, Session};
use unreachable::Unreachables;
pub(super) use unreachable::may_tell;
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
    replies: Replies,
    unreachables: Unreachables,
    /// Counts turns of the loop.
    turns: u64,
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
            replies: Replies::new(),
            unreachables: Unreachables::new(common.may_tell),
            turns: 1,
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
        self.read_out(id, turn);
        send_replies(&mut self.replies, &mut self.doors);
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

    /// Sends what waits, and ends sessions whose time is over. To be called when all that one wake brought is done.
    pub(super) fn end_turn(&mut self, now: Instant) {
        self.turns += 1;
        send_replies(&mut self.replies, &mut self.doors);
        while self.flows.expire(now).is_some() {}
    }

    /// When to call [`Datagrams::end_turn`] next, if nothing comes before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.flows.poll_timeout()
    }

    /// Clients have sent something.
    pub(super) fn on_door(&mut self, id: Id, turn: &mut Turn<'_>) {
        let Some(door) = self.doors.find(id) else {
            return;
        };
        if door.pace.is_stream(self.turns) {
            return self.read_out(id, turn);
        }
        let Ok(mut means) = self.take_means() else {
            return;
        };
        if let Some(door) = self.doors.find(id)
            && means.batch.receive_one(&*door.socket).is_ok()
        {
            self.pass_all_on(id, &mut means, turn);
        }
        self.means = Some(means);
    }

    /// Takes all that clients have sent, within measure.
    fn read_out(&mut self, id: Id, turn: &mut Turn<'_>) {
        let Ok(mut means) = self.take_means() else {
            return;
        };
        for _ in 0..DATAGRAM_ROUNDS_MAX {
            let Some(door) = self.doors.find(id) else {
                break;
            };
            // An error says that nothing has come, or that there is no memory for it: the next look will tell.
            let Means { batch, calls } = &mut *means;
            let Ok(rest) = batch.receive(calls, &*door.socket, &mut door.pace, BATCH_SIZE) else {
                break;
            };
            self.pass_all_on(id, &mut means, turn);
            if rest == Rest::Nothing {
                break;
            }
        }
        self.means = Some(means);
    }

    fn pass_all_on(&mut self, id: Id, means: &mut Means, turn: &mut Turn<'_>) {
        let Some(door) = self.doors.find(id) else {
            return;
        };
        door.refresh(turn.seats, turn.now);
        let (seat, since) = (Rc::clone(&door.seat), door.since);
        while let Some((origin, parcel)) = means.batch.next() {
            self.pass_on((id, &seat, since), origin, parcel, turn);
        }
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
            Err(why) => {
                lane.lose(why, parcel.count());
                if why == Loss::NoMember {
                    self.tell(door, origin, parcel.bytes.len(), (lane, turn.now));
                }
            }
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
        if !session.bond.member().counts_as_up() {
            let down = session.bond.position;
            self.redirect(id, Some(down), turn)?;
        } else if is_over {
            // As if it began now: with the same member again if its clients are kept (reference 19.4).
            self.redirect(id, None, turn)?;
        }
        Ok(id)
    }

    /// Tells a client that nobody takes what it sent to a door, so many bytes.
    fn tell(&mut self, door: Id, client: Origin, bytes: usize, at: (&ListenerLane, Instant)) {
        let Some(door) = self.doors.find(door) else {
            return;
        };
        let mut address = door.address;
        if let Some(to) = client.to {
            address.set_ip(to);
        }
        self.unreachables.tell(client.sender, address, bytes, at);
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
            if let Some(mut gone) = self.flows.remove(id) {
                gone.value.ends_by(Cause::LbDeniedCidr);
            }
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

    fn forward(&mut self, id: FlowId, parcel: Parcel<'_>, turn: &Turn<'_>) {
        let Some(session) = self.flows.get_mut(id) else {
            return;
        };
        let bond = &mut session.bond;
        if wire::send_together(&bond.socket, None, parcel, &mut bond.segments) {
            session.sent(parcel.bytes.len());
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
                Ok(()) => session.sent(datagram.len()),
                Err(_) => session.seat.lane().lose(Loss::ToMember, 1),
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
        let Means { batch, calls } = means;
        let Some(session) = self.flows.get_mut(id) else {
            return;
        };
        let Bond { socket, pace, .. } = &mut session.bond;
        let outcome = if pace.is_stream(self.turns) {
            let received = batch.receive(calls, &*socket, pace, MEMBER_BATCH_MAX);
            received
                .map(drop)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
        } else {
            batch.receive_one(&*socket)
        };
        if let Err(error) = outcome {
            if error == Errno::CONNREFUSED {
                self.refused(id, turn);
            }
            return;
        }
        let (Some(key), Some(session)) = (self.flows.key(id), self.flows.get(id)) else {
            return;
        };
        let Some(at) = self.doors.id_at(key.door) else {
            return;
        };
        let Some(door) = self.doors.find(at) else {
            return;
        };
        door.refresh(turn.seats, turn.now);
        let (seat, since) = (Rc::clone(&door.seat), door.since);
        session.bond.prove();
        while let Some((_, parcel)) = batch.next() {
            session.received(parcel.bytes.len());
            let waits = session.to.is_none() && parcel.is_single();
            if waits && self.replies.takes(at, parcel.bytes) {
                self.replies.put(at, key.client, parcel.bytes);
                continue;
            }
            // In the order in which they came.
            send_replies(&mut self.replies, &mut self.doors);
            if waits && self.replies.takes(at, parcel.bytes) {
                self.replies.put(at, key.client, parcel.bytes);
            } else if let Some(door) = self.doors.find(at) {
                door.answer(key.client, session.to, parcel, calls);
            }
        }
        let is_current = Rc::ptr_eq(&session.seat, &seat);
        self.flows.touch(id, turn.now);
        // Who may no longer come in is told so by silence from now on: nothing is left to be done about it.
        if !is_current && self.review(id, &seat, since, turn.now).is_err() {
            self.flows.remove(id);
        }
    }
}

/// Sends the answers that wait.
fn send_replies(replies: &mut Replies, doors: &mut Slab<Door>) {
    if let Some(door) = replies.door() {
        if let Some(door) = doors.find(door) {
            replies.send(door);
        }
        replies.clear();
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

/// Whether there is only no room for now, and another try would find none either.
const fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM)
}

#[cfg(test)]
mod tests;
