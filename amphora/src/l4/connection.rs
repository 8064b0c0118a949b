//! A client connection of a TCP listener: choose a member, reach it, move bytes both ways until both sides are done.
//!
//! A connection is driven by what happens to it: [`Connection::on_ready`] when the reactor reports one of its sockets,
//! [`Connection::on_time`] when its timer has run out, [`Connection::on_turn`] when it has yielded to others. Each
//! answers whether it goes on.
//!
//! It is closed for inactivity when neither side has moved a byte for the smaller of the two timeouts while both
//! directions are open; once a direction has ended, only the timeout of the side that is still expected to send counts.
//!
//! A break is passed on as a break: when one side was broken off, the other is, after all that the broken side had
//! sent before was handed on. An end is passed on as an end, and the other direction goes on.

use std::{collections::VecDeque, io, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use krater_amphora_api::ListenerId;
use krater_amphora_core::{
    proxy_protocol::{Header, Origin},
    snapshot::Timeouts,
};
use rustix::{
    fd::{AsRawFd, OwnedFd},
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with},
};

use super::{
    flow::{Flow, Last, Means, Moved, Turn},
    reactor::{Flags, Kind, Reactor, Token},
    slab::Id,
    socket::{Inherits, Socket, failure_of},
    timers::{Moment, Timers},
};
use crate::{
    connect::{Link, Load, Next, Tries, note_failure},
    seat::Seat,
    world::MemberState,
};

/// A client, and the member it was given.
pub(super) struct Connection {
    /// The listener as it was when the connection was accepted (I4).
    seat: Rc<Seat>,
    peer: SocketAddr,
    client: Socket,
    client_watched: Watched,
    member: Far,
    stage: Stage,
    tries: Tries,
    /// From the client to the member.
    up: Flow,
    /// From the member to the client.
    down: Flow,
    moved_at: Moment,
    /// When it must end, however busy it is.
    ends_at: Moment,
    queued: Queued,
    tended: Tended,
}

/// What all connections of a thread share.
pub(super) struct Shared {
    /// The thread's lane in every meter.
    pub(super) lane: usize,
    pub(super) reactor: Reactor,
    pub(super) timers: Timers,
    /// The time, read once per wake.
    pub(super) now: Moment,
    pub(super) means: Means,
    /// Connections that wait for their turn: streams, and those that have yielded to others.
    pub(super) turns: VecDeque<Id>,
    /// Descriptors from this number on are left to the rest of the process.
    pub(super) descriptors_max: i32,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The client's first bytes, before a member is chosen.
    Inspecting(Moment),
    /// A member that is being connected to.
    Dialing(Moment),
    /// The next round of tries.
    Pausing(Moment),
    /// Bytes.
    Relaying,
}

/// The member's side.
enum Far {
    Nobody,
    /// The member is counted as busy while connecting, so that a burst does not all go to the one that was idle a
    /// moment ago.
    Dialed(Socket, Arc<MemberState>, Load),
    Linked {
        socket: Socket,
        link: Link,
        _load: Load,
    },
}

/// Whether its sockets were told what connections that last want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tended {
    No,
    Yes,
}

/// Whether it waits for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    No,
    Yes,
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Member,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    GoesOn,
    Ends,
}

impl Connection {
    /// One that was just accepted. Takes over a place in the listener's connection limit.
    pub(super) fn new(seat: Rc<Seat>, client: OwnedFd, peer: SocketAddr) -> Self {
        Self {
            seat,
            peer,
            client: Socket::accepted(client),
            client_watched: Watched::No,
            member: Far::Nobody,
            stage: Stage::Relaying,
            tries: Tries::default(),
            up: Flow::default(),
            down: Flow::default(),
            moved_at: Moment::default(),
            ends_at: Moment::NEVER,
            queued: Queued::No,
            tended: Tended::No,
        }
    }

    /// Which listener it came in by.
    pub(super) fn listener(&self) -> ListenerId {
        self.seat.state.listener.id
    }

    /// The member it is with, or is being connected to.
    pub(super) fn member(&self) -> Option<&MemberState> {
        match &self.member {
            Far::Nobody => None,
            Far::Dialed(_, member, _) => Some(member),
            Far::Linked { link, .. } => Some(&link.member),
        }
    }

    /// Begins: waits for the client's first bytes if so configured, else chooses a member at once.
    pub(super) fn start(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let Some(wait) = self.timeouts().tcp_inspect else {
            return self.dial(shared, id);
        };
        let until = shared.now.after(wait);
        self.stage = Stage::Inspecting(until);
        shared.timers.arm(id.index(), until);
        self.watch_client(shared, id)
    }

    /// Has it end not later than `at`, unless that was said before.
    pub(super) fn end_by(&mut self, at: Moment, shared: &mut Shared, id: Id) {
        if self.ends_at == Moment::NEVER {
            self.ends_at = at;
            shared.timers.arm(id.index(), at);
        }
    }

    /// Something happened to one of its sockets.
    pub(super) fn on_ready(
        &mut self,
        side: Side,
        flags: Flags,
        shared: &mut Shared,
        id: Id,
    ) -> Fate {
        match side {
            Side::Client => self.client.note(flags),
            Side::Member => match &mut self.member {
                Far::Nobody => {}
                Far::Dialed(socket, ..) | Far::Linked { socket, .. } => socket.note(flags),
            },
        }
        match (self.stage, side) {
            // Messages first. A stream is better moved late than often.
            (Stage::Relaying, _) if self.up.is_stream() || self.down.is_stream() => {
                self.queue(shared, id)
            }
            (Stage::Relaying, _) => self.relay(shared, id),
            (Stage::Inspecting(_), Side::Client) => self.dial(shared, id),
            (Stage::Dialing(_), Side::Member) => self.dialed(shared, id),
            // A client that broke off wants no member. One that has said all it had to may want the answer.
            _ if self.client.has_failed() => Fate::Ends,
            _ => Fate::GoesOn,
        }
    }

    /// It is its turn to move what it has.
    pub(super) fn on_turn(&mut self, shared: &mut Shared, id: Id) -> Fate {
        self.queued = Queued::No;
        match self.stage {
            Stage::Relaying => self.relay(shared, id),
            _ => Fate::GoesOn,
        }
    }

    /// Its timer has run out, or it is looked at without need.
    pub(super) fn on_time(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let now = shared.now;
        if self.ends_at <= now {
            return Fate::Ends;
        }
        let due = match self.stage {
            Stage::Inspecting(until) if until <= now => return self.dial(shared, id),
            Stage::Pausing(until) if until <= now => return self.dial(shared, id),
            Stage::Dialing(until) if until <= now => {
                return self.not_reached(&io::ErrorKind::TimedOut.into(), shared, id);
            }
            Stage::Inspecting(until) | Stage::Pausing(until) | Stage::Dialing(until) => until,
            Stage::Relaying => {
                let (allowed, silent) = self.allowance();
                let due = self.moved_at.after(allowed);
                if due <= now {
                    tracing::trace!(peer = %self.peer, ?silent, "a connection is idle");
                    return Fate::Ends;
                }
                self.tend();
                // Never further away than the shortest allowance, since a half-close may shorten it meanwhile.
                due.min(now.after(self.shortest_allowance()))
            }
        };
        shared.timers.arm(id.index(), due.min(self.ends_at));
        Fate::GoesOn
    }

    /// Tells the sockets of a connection that lasts what others end without.
    fn tend(&mut self) {
        if self.tended == Tended::Yes {
            return;
        }
        self.tended = Tended::Yes;
        let Timeouts {
            client_data,
            member_data,
            ..
        } = self.timeouts();
        self.client.tend(client_data, Inherits::Keepalive);
        if let Far::Linked { socket, .. } = &self.member {
            socket.tend(member_data, Inherits::Nothing);
        }
    }

    /// Chooses a member and begins to connect to it, or gives up: then the connection is closed (reference 19.8).
    fn dial(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let seat = Rc::clone(&self.seat);
        let Some(pool) = seat.state.pool.as_deref() else {
            return self.nobody();
        };
        loop {
            match self.tries.next(pool, self.peer, &seat) {
                Next::Nobody => return self.nobody(),
                Next::Pause(pause) => {
                    let until = shared.now.after(pause);
                    self.stage = Stage::Pausing(until);
                    shared.timers.arm(id.index(), until);
                    return Fate::GoesOn;
                }
                Next::Member(member) => {
                    let load = Load::new(pool, member);
                    match begin(member.address, shared, id) {
                        Ok(socket) => {
                            let until = shared.now.after(self.timeouts().member_connect);
                            self.member = Far::Dialed(socket, Arc::clone(member), load);
                            self.stage = Stage::Dialing(until);
                            shared.timers.arm(id.index(), until);
                            return Fate::GoesOn;
                        }
                        Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                            return self.shed();
                        }
                        Err(error) => {
                            if error == Errno::ADDRNOTAVAIL {
                                member.meter.of(shared.lane).ports_exhausted.bump();
                            }
                            note_failure(member, shared.lane, &error.into());
                        }
                    }
                }
            }
        }
    }

    fn nobody(&self) -> Fate {
        self.seat.lane().no_member.bump();
        Fate::Ends
    }

    /// The process has no descriptor or no memory for the other side.
    fn shed(&self) -> Fate {
        self.seat.lane().shed.bump();
        // Not ended, or it would look as if a member had said nothing.
        self.client.abort();
        Fate::Ends
    }

    /// The member has answered, one way or the other.
    fn dialed(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let Far::Dialed(socket, ..) = &self.member else {
            return Fate::GoesOn;
        };
        if socket.has_failed() {
            let error = failure_of(socket);
            return self.not_reached(&error, shared, id);
        }
        if !socket.is_writable() {
            return Fate::GoesOn;
        }
        if let Far::Dialed(socket, member, load) = std::mem::replace(&mut self.member, Far::Nobody)
        {
            self.member = Far::Linked {
                socket,
                link: Link::new(member, shared.lane),
                _load: load,
            };
        }
        self.introduce();
        self.stage = Stage::Relaying;
        self.moved_at = shared.now;
        let due = shared.now.after(self.shortest_allowance());
        shared.timers.arm(id.index(), due);
        // What the client has sent by now goes first; only then is the client watched, for what comes after.
        match self.relay(shared, id) {
            Fate::GoesOn => self.watch_client(shared, id),
            Fate::Ends => Fate::Ends,
        }
    }

    /// Tells a member that expects it whom the connection is for.
    fn introduce(&mut self) {
        let pool = self.seat.state.pool.as_deref();
        let Some(version) = pool.and_then(|pool| pool.pool.proxy_header()) else {
            return;
        };
        let origin = self
            .client
            .local_address()
            .map_or(Origin::Own, |local| Origin::between(self.peer, local));
        self.up.begin_with(Header::new(version, origin).as_bytes());
    }

    /// The member that was dialed cannot be reached; nothing was sent to it. Another one is tried.
    fn not_reached(&mut self, error: &io::Error, shared: &mut Shared, id: Id) -> Fate {
        if let Far::Dialed(_, member, _) = std::mem::replace(&mut self.member, Far::Nobody) {
            note_failure(&member, shared.lane, error);
        }
        // It takes longer than it should: who gives up meanwhile is to be noticed.
        match self.watch_client(shared, id) {
            Fate::GoesOn => self.dial(shared, id),
            Fate::Ends => Fate::Ends,
        }
    }

    fn watch_client(&mut self, shared: &mut Shared, id: Id) -> Fate {
        if self.client_watched == Watched::Yes {
            return Fate::GoesOn;
        }
        self.client_watched = Watched::Yes;
        let token = Token {
            kind: Kind::Client,
            id,
        };
        let mut flags = FOR_BYTES;
        if self.client.waits_unwatched() {
            flags |= Flags::OUT;
            self.client.is_watched_for_room();
        }
        match shared.reactor.add(&self.client, token, flags) {
            Ok(()) => Fate::GoesOn,
            // No memory, or too many are watched: nothing could come of it.
            Err(_) => Fate::Ends,
        }
    }

    /// Moves what can be moved, both ways.
    fn relay(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let Far::Linked {
            socket: member,
            link,
            ..
        } = &mut self.member
        else {
            return Fate::GoesOn;
        };
        let (mut sent, mut answered) = (Moved::default(), Moved::default());
        let last = last_if(self.down.is_done());
        let up = self
            .up
            .run(&mut self.client, member, last, &mut shared.means, &mut sent);
        let last = last_if(self.up.is_done());
        let down = self.down.run(
            member,
            &mut self.client,
            last,
            &mut shared.means,
            &mut answered,
        );
        count(&self.seat, link, sent, answered);
        if sent != Moved::default() || answered != Moved::default() {
            self.moved_at = shared.now;
        }
        if answered.read > 0 {
            link.prove();
        }
        let over = up == Turn::Done && down == Turn::Done;
        let broken = if up == Turn::Broken
            || self.client.has_failed() && (over || !self.up.is_open())
        {
            Some((Side::Client, &*member))
        } else if down == Turn::Broken || member.has_failed() && (over || !self.down.is_open()) {
            Some((Side::Member, &self.client))
        } else {
            None
        };
        if let Some((side, other)) = broken {
            tracing::trace!(peer = %self.peer, ?side, "a connection was broken off");
            if side == Side::Member {
                link.note_break();
            }
            other.abort();
            return Fate::Ends;
        }
        if over {
            link.prove();
            return Fate::Ends;
        }
        if up == Turn::Yields || down == Turn::Yields {
            let _goes_on = self.queue(shared, id);
        }
        self.watch_for_room(shared, id)
    }

    /// Has it wait for its turn.
    fn queue(&mut self, shared: &mut Shared, id: Id) -> Fate {
        if self.queued == Queued::No {
            self.queued = Queued::Yes;
            shared.turns.push_back(id);
        }
        Fate::GoesOn
    }

    /// Has the reactor report when sockets that take nothing now take something again.
    fn watch_for_room(&mut self, shared: &mut Shared, id: Id) -> Fate {
        if !self.client.waits_unwatched() || self.client_watched == Watched::No {
            // The member's socket is watched for everything from the beginning.
            return Fate::GoesOn;
        }
        let token = Token {
            kind: Kind::Client,
            id,
        };
        let flags = FOR_BYTES | Flags::OUT;
        match shared.reactor.modify(&self.client, token, flags) {
            Ok(()) => {
                self.client.is_watched_for_room();
                Fate::GoesOn
            }
            Err(_) => Fate::Ends,
        }
    }

    fn timeouts(&self) -> Timeouts {
        self.seat.state.listener.timeouts
    }

    /// How long nothing may move as things stand, and whose silence it would be.
    fn allowance(&self) -> (Duration, Side) {
        let Timeouts {
            client_data,
            member_data,
            ..
        } = self.timeouts();
        match (self.up.is_open(), self.down.is_open()) {
            (true, true) if client_data <= member_data => (client_data, Side::Client),
            (_, true) => (member_data, Side::Member),
            (true, false) => (client_data, Side::Client),
            // Both have ended and somebody does not take the rest.
            (false, false) => (client_data.min(member_data), Side::Client),
        }
    }

    fn shortest_allowance(&self) -> Duration {
        let Timeouts {
            client_data,
            member_data,
            ..
        } = self.timeouts();
        client_data.min(member_data)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.seat.lane().ended.bump();
        self.seat.state.shared.limit.release();
    }
}

/// Begins to connect; the reactor tells how it ends.
fn begin(address: SocketAddr, shared: &Shared, id: Id) -> Result<Socket, Errno> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let descriptor = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if descriptor.as_raw_fd() >= shared.descriptors_max {
        return Err(Errno::MFILE);
    }
    match connect(&descriptor, &address) {
        // Even if it is connected already, the reactor says so.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error),
    }
    let token = Token {
        kind: Kind::Member,
        id,
    };
    shared
        .reactor
        .add(&descriptor, token, FOR_BYTES | Flags::OUT)?;
    Ok(Socket::connecting(descriptor))
}

fn count(seat: &Seat, link: &Link, sent: Moved, answered: Moved) {
    let (listener, member) = (seat.lane(), link.lane());
    if sent != Moved::default() {
        listener.bytes_in.add(sent.read as u64);
        member.bytes_out.add(sent.written as u64);
    }
    if answered != Moved::default() {
        member.bytes_in.add(answered.read as u64);
        listener.bytes_out.add(answered.written as u64);
    }
}

const fn last_if(done: bool) -> Last {
    if done { Last::Yes } else { Last::No }
}

/// What a socket is watched for while bytes are expected from it.
const FOR_BYTES: Flags = Flags::IN
    .union(Flags::RDHUP)
    .union(Flags::PRI)
    .union(Flags::ET);
