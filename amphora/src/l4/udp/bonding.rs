//! Sessions begin, and go on with another member.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use krater_amphora_api::Cause;
use krater_amphora_core::{
    flow::{FlowId, FlowKey},
    limits::MEMBER_TRIES_MAX,
};
use rustix::{fd::OwnedFd, io::Errno};

use super::{
    Datagrams, Turn, idle,
    session::{Bond, Session},
    wire::{self, Origin},
};
use crate::{
    connect::{Link, Load, note_failure},
    l4::{
        reactor::{Flags, Kind, Token},
        slab::Id,
    },
    meter::Loss,
    seat::Seat,
    world::PoolState,
};

impl Datagrams {
    /// Begins a session with the member that its pool chooses.
    pub(super) fn begin(
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
        if !state.shared.admits(key.client.ip()) {
            return Err(Loss::TooOften);
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
        let vip = self.doors.id_at(key.door).and_then(|id| {
            let mut vip = self.doors.find(id)?.address;
            vip.set_ip(to.unwrap_or_else(|| vip.ip()));
            Some(vip)
        });
        let session = Session::new(Rc::clone(seat), (key.client, vip), to, bond);
        let (id, gone) = self.flows.admit(key, turn.now, idle(seat), session);
        if let Some(mut gone) = gone {
            gone.value.give_way();
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

    /// Opens a socket to a member. If there is no descriptor or no port, the session that was silent longest gives its own.
    fn connect(&mut self, member: SocketAddr) -> Result<OwnedFd, Errno> {
        match wire::connected(member, self.descriptors_max) {
            Err(error) if is_exhaustion(error) => {
                let oldest = self.flows.oldest().ok_or(error)?;
                if let Some(mut gone) = self.flows.remove(oldest) {
                    gone.value.give_way();
                }
                wire::connected(member, self.descriptors_max)
            }
            outcome => outcome,
        }
    }

    /// Has a session go on with the member that is chosen now, if there is one; `not` is passed over.
    pub(super) fn redirect(
        &mut self,
        id: FlowId,
        not: Option<usize>,
        turn: &Turn<'_>,
    ) -> Result<(), Loss> {
        let (Some(key), Some(session)) = (self.flows.key(id), self.flows.get(id)) else {
            return Err(Loss::Exhausted);
        };
        let client = key.client;
        let seat = Rc::clone(&session.seat);
        let pool = seat.state.pool.as_deref().ok_or(Loss::NoMember)?;
        let bond = self.bond(pool, client, not)?;
        // Whose descriptor it took may have been this very session.
        let session = self.flows.get_mut(id).ok_or(Loss::Exhausted)?;
        session.bond = bond;
        if session.drains_until.take().is_some() {
            self.flows.end_at(id, None, turn.now);
        }
        if !self.watch(id, turn) {
            self.flows.remove(id);
            return Err(Loss::Exhausted);
        }
        seat.lane().moved.bump();
        Ok(())
    }

    /// The member's host has said that nobody is there. If that is so everywhere, the client is told.
    pub(super) fn refused(&mut self, id: FlowId, turn: &Turn<'_>) {
        let (Some(key), Some(session)) = (self.flows.key(id).copied(), self.flows.get(id)) else {
            return;
        };
        let lane = session.bond.lane();
        lane.connect_failures.bump();
        lane.failures.count(Cause::MemberRefused);
        session.bond.member().conduct.note_failure();
        let (refused, seat) = (session.bond.position, Rc::clone(&session.seat));
        let origin = Origin {
            sender: key.client,
            to: session.to,
        };
        if self.redirect(id, Some(refused), turn) == Err(Loss::NoMember)
            && let Some(door) = self.doors.id_at(key.door)
        {
            // Which of its datagrams it was that was refused is not known, nor asked for by anybody.
            self.tell(door, origin, 0, (seat.lane(), turn.now));
        }
    }
}

/// Whether there is no descriptor, no memory, or (`AGAIN`) no port left, which all UDP sockets of a host share.
const fn is_exhaustion(error: Errno) -> bool {
    matches!(
        error,
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN
    )
}
