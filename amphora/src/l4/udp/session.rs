//! One client and its member.

use std::{
    cell::Cell,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
};

use krater_amphora_api::Cause;
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
    /// What is noted of it, if it may be told in the access log.
    account: Option<Account>,
}

/// What is noted of a session while it lasts.
struct Account {
    began: std::time::Instant,
    client: SocketAddr,
    vip: Option<SocketAddr>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    cause: Option<Cause>,
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
    pub(super) fn new(
        seat: Rc<Seat>,
        (client, vip): (SocketAddr, Option<SocketAddr>),
        to: Option<IpAddr>,
        bond: Bond,
    ) -> Self {
        seat.lane().accepted.bump();
        let account = seat.is_logged().then(|| Account {
            began: std::time::Instant::now(),
            client,
            vip,
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            cause: None,
        });
        Self {
            seat,
            to,
            bond,
            drains_until: None,
            account,
        }
    }

    /// Notes bytes that went to the member.
    pub(super) fn sent(&self, bytes: usize) {
        self.bond.lane().bytes_out.add(bytes as u64);
        if let Some(account) = &self.account {
            add(&account.bytes_in, bytes);
        }
    }

    /// Notes bytes that came from the member.
    pub(super) fn received(&self, bytes: usize) {
        self.bond.lane().bytes_in.add(bytes as u64);
        if let Some(account) = &self.account {
            add(&account.bytes_out, bytes);
        }
    }

    /// It gives way to another one.
    pub(super) fn give_way(&mut self) {
        self.seat.lane().evict();
        self.ends_by(Cause::LbLimit);
    }

    /// Notes why it ends, if that is a failure.
    pub(super) fn ends_by(&mut self, cause: Cause) {
        if let Some(account) = &mut self.account {
            account.cause = Some(cause);
        }
    }

    fn tell(&self) {
        let Some(account) = &self.account else { return };
        let Some(mut draft) = self.seat.draft() else {
            return;
        };
        draft.note(|record| {
            let member = self.bond.member();
            record.began = Some(account.began);
            record.client = Some(account.client);
            record.vip = account.vip;
            record.bytes_in = account.bytes_in.get();
            record.bytes_out = account.bytes_out.get();
            record.member = Some((member.id, member.address));
            record.tries = 1;
            record.cause = account.cause;
            let pool = self.seat.state.pool.as_ref();
            record.pool = pool.map(|pool| pool.pool.id);
        });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.seat.lane().ended.bump();
        self.seat.state.shared.limit.release();
        self.tell();
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

fn add(count: &Cell<u64>, bytes: usize) {
    count.set(count.get() + bytes as u64);
}
