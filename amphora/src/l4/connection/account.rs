//! What of a connection is told in the access log.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use krater_amphora_api::MemberId;

use super::Connection;
use crate::{l4::flow::Moved, world::MemberState};

/// What is noted while it lasts.
pub(super) struct Account {
    began: Instant,
    connected: Option<Duration>,
    bytes_in: u64,
    bytes_out: u64,
    /// The member that was dialed last.
    member: Option<(MemberId, SocketAddr)>,
}

impl Account {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            connected: None,
            bytes_in: 0,
            bytes_out: 0,
            member: None,
        }
    }

    /// Notes who is dialed.
    pub(super) fn dials(&mut self, member: &MemberState) {
        self.member = Some((member.id, member.address));
    }

    /// Notes that the member was reached.
    pub(super) fn connects(&mut self) {
        self.connected = Some(self.began.elapsed());
    }

    /// Notes what has moved.
    pub(super) fn add(&mut self, sent: Moved, answered: Moved) {
        self.bytes_in += sent.read as u64;
        self.bytes_out += answered.written as u64;
    }
}

impl Connection {
    /// Tells of the connection, which ends.
    pub(super) fn tell(&self) {
        let Some(account) = &self.account else { return };
        let Some(mut draft) = self.seat.draft() else {
            return;
        };
        draft.note(|record| {
            record.began = Some(account.began);
            record.client = Some(self.peer);
            record.vip = self.client.local_address();
            record.bytes_in = account.bytes_in;
            record.bytes_out = account.bytes_out;
            record.connected = account.connected;
            record.member = account.member;
            record.tries = self.tries.made();
            record.cause = self.cause;
            let pool = self.seat.state.pool.as_ref();
            record.pool = pool.map(|pool| pool.pool.id);
        });
    }
}
