//! Who comes in: accepts at doors, lets in, leaves to other threads, and rests when there is no room.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use krater_amphora_api::Cause;
use rustix::fd::OwnedFd;

use super::Engine;
use crate::{
    l4::{connection::Connection, neighbours::Passed, reactor::Flags, slab::Id},
    limits::EXHAUSTION_PAUSE,
    listen::Accepted,
    seat::Seat,
    world::Leave,
};

impl Engine {
    /// Accepts a burst at a door where somebody waits.
    pub(super) fn admit(&mut self, id: Id) {
        let Some(door) = self.doors.find(id) else {
            return;
        };
        let burst = door.burst();
        self.accept_at(id, burst);
    }

    pub(super) fn accept_at(&mut self, id: Id, most: u32) -> Accepting {
        let mut accepted = 0;
        while accepted < most {
            let Some(door) = self.doors.find(id) else {
                return Accepting::Over;
            };
            let seat = Rc::clone(door.seat(&mut self.seats));
            match door.accept(self.shared.descriptors_max) {
                Some(Accepted::One(client, peer)) => {
                    accepted += 1;
                    self.seat(seat, client, peer);
                }
                Some(Accepted::Lost | Accepted::Shed) => accepted += 1,
                Some(Accepted::Nobody) => {
                    door.learn(accepted);
                    return Accepting::Over;
                }
                None => {
                    door.wait_for_place();
                    if !door.has_place(&self.waker) {
                        door.heed(Flags::empty(), &self.shared.reactor, id);
                        self.full.push(id);
                    }
                    return Accepting::Over;
                }
                Some(Accepted::Exhausted) => {
                    self.common.count_exhaustion();
                    door.heed(Flags::empty(), &self.shared.reactor, id);
                    let until = self.shared.now.after(EXHAUSTION_PAUSE);
                    self.resting.push((until, id));
                    return Accepting::Over;
                }
            }
        }
        if let Some(door) = self.doors.find(id) {
            door.learn(accepted);
        }
        Accepting::More
    }

    /// Lets a connection in, here or, if this thread is crowded, where less is to be done.
    fn seat(&mut self, seat: Rc<Seat>, client: OwnedFd, peer: SocketAddr) {
        // Who drains leaves nothing to others: they may have ended before it arrives.
        if self.stopping.is_none()
            && let Some(to) = self.berth.choose(
                self.shared.lane,
                &self.common.threads,
                self.shared.now.instant(),
            )
        {
            let passed = Passed {
                state: Arc::clone(&seat.state),
                client,
                peer,
            };
            match self.berth.pass_on(to, passed) {
                None => self.common.threads.of(self.shared.lane).passed.bump(),
                Some(kept) => self.let_in(seat, kept.client, kept.peer),
            }
        } else {
            self.let_in(seat, client, peer);
        }
    }

    /// Lets in whom other threads have left here.
    pub(super) fn take_passed(&mut self) {
        while let Some(passed) = self.berth.take() {
            let listener = passed.state.listener.id;
            let current = self.seats.find(listener);
            let is_gone = !current.as_ref().is_some_and(|seat| seat.state.enabled);
            let seat = match current {
                Some(seat) if Arc::ptr_eq(&seat.state, &passed.state) => seat,
                _ => self.seats.seat_of(passed.state),
            };
            self.let_in(seat, passed.client, passed.peer);
            // What befell the others while this one was on its way befalls it too.
            if is_gone {
                self.retire(listener, Leave::Gone);
            }
            if let Some(until) = self.stopping {
                self.end_by(until, |_| true);
            }
        }
    }

    /// Lets a connection in, or closes it if its address is not allowed, or not that often.
    pub(super) fn let_in(&mut self, seat: Rc<Seat>, client: OwnedFd, peer: SocketAddr) {
        let lane = seat.lane();
        lane.accepted.bump();
        let refused = if !seat.state.listener.gate.allows(peer.ip()) {
            lane.denied.bump();
            Some(Cause::LbDeniedCidr)
        } else if !seat.state.shared.admits(peer.ip()) {
            lane.too_often.bump();
            Some(Cause::LbRate)
        } else {
            None
        };
        let mut connection = Connection::new(seat, client, peer);
        if let Some(cause) = refused {
            let _ends = connection.fails(cause);
        } else {
            let id = self.connections.insert(connection);
            self.common.threads.of(self.shared.lane).accepted.bump();
            self.drive(id, Connection::start);
        }
    }

    /// Opens doors again that have rested long enough.
    pub(super) fn wake_doors(&mut self) {
        if self.resting.is_empty() {
            return;
        }
        let now = self.shared.now;
        let (doors, reactor) = (&mut self.doors, &self.shared.reactor);
        self.resting.retain(|(until, id)| {
            if *until > now {
                return true;
            }
            if let Some(door) = doors.find(*id) {
                door.heed(Flags::IN, reactor, *id);
            }
            false
        });
    }

    /// Opens doors again whose listener has a place free.
    pub(super) fn look_for_places(&mut self) {
        let (doors, reactor, waker) = (&mut self.doors, &self.shared.reactor, &self.waker);
        self.full.retain(|id| {
            let Some(door) = doors.find(*id) else {
                return false;
            };
            if !door.has_place(waker) {
                return true;
            }
            door.heed(Flags::IN, reactor, *id);
            false
        });
    }
}

/// Whether somebody may still wait at a door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepting {
    More,
    Over,
}
