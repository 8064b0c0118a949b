//! One client and its member.

use std::{net::IpAddr, rc::Rc, sync::Arc};

use krater_amphora_core::time::Instant;
use rustix::fd::OwnedFd;

use super::wire::{Pace, Segments};
use crate::{
    connect::{Link, Load},
    meter::MemberLane,
    seat::Seat,
    world::MemberState,
};

/// What is kept with a session. Counted for as long as it is there.
pub(super) struct Session {
    /// The listener as it was when the session was last looked at under it.
    pub(super) seat: Rc<Seat>,
    /// The address that the client last sent to, where one socket has several.
    pub(super) to: Option<IpAddr>,
    /// Its end at the member.
    pub(super) bond: Bond,
    /// From when on its datagrams go to another member, since its own takes no new sessions.
    pub(super) drains_until: Option<Instant>,
}

/// A session's end at a member.
pub(super) struct Bond {
    pub(super) socket: OwnedFd,
    link: Link,
    /// Where its pool listed the member when it was chosen.
    pub(super) position: usize,
    pub(super) segments: Segments,
    pub(super) pace: Pace,
    _load: Load,
}

impl Session {
    /// A session that begins. Takes over a place in the listener's limit.
    pub(super) fn new(seat: Rc<Seat>, to: Option<IpAddr>, bond: Bond) -> Self {
        seat.lane().accepted.bump();
        Self {
            seat,
            to,
            bond,
            drains_until: None,
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.seat.lane().ended.bump();
        self.seat.state.shared.limit.release();
    }
}

impl Bond {
    pub(super) fn new(socket: OwnedFd, link: Link, position: usize, load: Load) -> Self {
        Self {
            socket,
            link,
            position,
            segments: Segments::ANY,
            pace: Pace::default(),
            _load: load,
        }
    }

    pub(super) const fn member(&self) -> &Arc<MemberState> {
        &self.link.member
    }

    /// The member has said something.
    pub(super) fn prove(&self) {
        self.link.prove();
    }

    /// The meters of the member, of this thread.
    pub(super) fn lane(&self) -> &MemberLane {
        self.link.lane()
    }
}
