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

use std::{collections::VecDeque, net::SocketAddr, rc::Rc, sync::Arc, time::Duration};

use krater_amphora_api::{Cause, ListenerId};
use krater_amphora_core::snapshot::Timeouts;
use rustix::fd::OwnedFd;

use super::{
    flow::{Flow, Last, Means, Moved, Turn},
    reactor::{Flags, Kind, Reactor, Token},
    slab::Id,
    socket::{Inherits, Socket},
    timers::{Moment, Timers},
};
use crate::{
    connect::{Link, Load, Tries},
    limits::BULK_PAUSE,
    seat::Seat,
    world::MemberState,
};

mod account;
mod bulk;
mod dial;

use account::Account;
use bulk::{Bulk, Reports, State};

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
    bulk: Bulk,
    /// Why the last try to reach a member failed.
    unreached: Option<Cause>,
    /// Why it failed, if it did.
    cause: Option<Cause>,
    /// What is noted of it, if it may be told in the access log.
    account: Option<Account>,
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
    /// Bulk that is looked at again at that moment, in its order.
    pub(super) pauses: VecDeque<(Moment, Id)>,
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
        let account = seat.is_logged().then(Account::new);
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
            bulk: Bulk::default(),
            unreached: None,
            cause: None,
            account,
        }
    }

    /// Has it end as a failure, for that reason.
    pub(super) fn fails(&mut self, cause: Cause) -> Fate {
        self.cause.get_or_insert(cause);
        Fate::Ends
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
            _ if self.client.has_failed() => self.fails(Cause::ClientGone),
            _ => Fate::GoesOn,
        }
    }

    /// It was bulk that had been left alone for long enough.
    pub(super) fn on_look(&mut self, shared: &mut Shared, id: Id) -> Fate {
        if self.bulk.looks() {
            return self.queue(shared, id);
        }
        Fate::GoesOn
    }

    /// It is its turn to move what it has.
    pub(super) fn on_turn(&mut self, shared: &mut Shared, id: Id) -> Fate {
        self.queued = Queued::No;
        // What is not reported may be there.
        match (self.bulk.unreported(), &mut self.member) {
            (Some(Side::Client), _) => self.client.note(Flags::IN),
            (Some(Side::Member), Far::Linked { socket, .. }) => socket.note(Flags::IN),
            _ => {}
        }
        match self.stage {
            Stage::Relaying => self.relay(shared, id),
            _ => Fate::GoesOn,
        }
    }

    /// Its timer has run out, or it is looked at without need.
    pub(super) fn on_time(&mut self, shared: &mut Shared, id: Id) -> Fate {
        let now = shared.now;
        if self.ends_at <= now {
            return self.fails(Cause::LbDrained);
        }
        let due = match self.stage {
            Stage::Inspecting(until) if until <= now => return self.dial(shared, id),
            Stage::Pausing(until) if until <= now => return self.dial(shared, id),
            Stage::Dialing(until) if until <= now => {
                return self.not_reached(&std::io::ErrorKind::TimedOut.into(), shared, id);
            }
            Stage::Inspecting(until) | Stage::Pausing(until) | Stage::Dialing(until) => until,
            Stage::Relaying => {
                let (allowed, silent) = self.allowance();
                let due = self.moved_at.after(allowed);
                if due <= now {
                    tracing::trace!(peer = %self.peer, ?silent, "a connection is idle");
                    return self.fell_silent(silent);
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
            Err(_) => self.fails(Cause::LbExhausted),
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
        if let Some(account) = &mut self.account {
            account.add(sent, answered);
        }
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
            other.abort();
            let cause = match side {
                Side::Client => Cause::ClientGone,
                Side::Member => broken_by_member(link),
            };
            return self.fails(cause);
        }
        if over {
            link.prove();
            return Fate::Ends;
        }
        if up == Turn::Yields || down == Turn::Yields {
            let _goes_on = self.queue(shared, id);
        }
        if self.watch_for_room(shared, id) == Fate::Ends {
            return Fate::Ends;
        }
        self.pace(sent, answered, shared, id)
    }

    /// Learns from a turn whether this is bulk, which is looked at now and then instead of being reported.
    fn pace(&mut self, sent: Moved, answered: Moved, shared: &mut Shared, id: Id) -> Fate {
        let flow = match self.bulk.sender_after(sent.read, answered.read) {
            Side::Client => &self.up,
            Side::Member => &self.down,
        };
        let state = if !flow.is_stream() {
            State::Messages
        } else if self.queued == Queued::Yes || flow.has_rest() {
            // A sink that takes nothing is reported when it does again.
            State::Busy
        } else {
            State::Dry
        };
        let plan = self.bulk.after(sent.read, answered.read, state);
        if plan.look {
            shared.pauses.push_back((shared.now.after(BULK_PAUSE), id));
        }
        match plan.change {
            None => Fate::GoesOn,
            Some((side, reports)) => self.report(side, reports, shared, id),
        }
    }

    /// Has the reactor report what a side sends, or not.
    fn report(&mut self, side: Side, reports: Reports, shared: &mut Shared, id: Id) -> Fate {
        let mut flags = FOR_BYTES | Flags::OUT;
        if reports == Reports::No {
            flags.remove(Flags::IN);
        }
        if side == Side::Client {
            self.client.is_watched_for_room();
        }
        let (socket, kind) = match (side, &self.member) {
            (Side::Client, _) => (&self.client, Kind::Client),
            (Side::Member, Far::Linked { socket, .. }) => (socket, Kind::Member),
            (Side::Member, _) => return Fate::GoesOn,
        };
        match shared.reactor.modify(socket, Token { kind, id }, flags) {
            Ok(()) => Fate::GoesOn,
            Err(_) => self.fails(Cause::LbExhausted),
        }
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
            Err(_) => self.fails(Cause::LbExhausted),
        }
    }

    /// Nothing moved for too long, and that side was to move.
    fn fell_silent(&mut self, side: Side) -> Fate {
        let cause = match (side, &self.member) {
            (Side::Member, Far::Linked { link, .. }) => {
                let cause = if link.is_proven() {
                    Cause::MemberStalled
                } else {
                    Cause::MemberTimeout
                };
                link.count(cause);
                cause
            }
            _ => Cause::ClientTimeout,
        };
        self.fails(cause)
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
        let lane = self.seat.lane();
        lane.ended.bump();
        if let Some(cause) = self.cause {
            lane.failures.count(cause);
        }
        self.tell();
        self.seat.state.shared.limit.release();
    }
}

/// The member broke the connection off.
fn broken_by_member(link: &Link) -> Cause {
    link.note_break();
    let cause = if link.is_proven() {
        Cause::MemberResetMidAnswer
    } else {
        Cause::MemberResetBeforeAnswer
    };
    link.count(cause);
    cause
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
