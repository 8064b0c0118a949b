//! Answers that leave together: one call for what many members have said in one turn of the loop.
//!
//! Sending wakes the client, and whoever is woken on this core may be let run before we go on; so it is worth more than
//! the calls it saves.

use std::{io::IoSlice, net::SocketAddr, ops::Range};

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sendto};

use super::door::Door;
use crate::{
    l4::slab::Id,
    limits::{REPLIES_MAX, REPLY_BYTES_MAX},
    meter::Loss,
};

/// Answers that wait for the end of the turn, all at one door.
pub(super) struct Replies {
    door: Option<Id>,
    to: Vec<SocketAddrAny>,
    at: Vec<Range<usize>>,
    bytes: Vec<u8>,
}

impl Replies {
    pub(super) fn new() -> Self {
        Self {
            door: None,
            to: Vec::with_capacity(REPLIES_MAX),
            at: Vec::with_capacity(REPLIES_MAX),
            bytes: Vec::with_capacity(REPLIES_MAX * REPLY_BYTES_MAX),
        }
    }

    /// Whose they are; `None` if there is none.
    pub(super) const fn door(&self) -> Option<Id> {
        self.door
    }

    /// Whether an answer at `door` may wait with those that do.
    pub(super) fn takes(&self, door: Id, datagram: &[u8]) -> bool {
        datagram.len() <= REPLY_BYTES_MAX
            && self.to.len() < REPLIES_MAX
            && self.door.is_none_or(|held| held == door)
    }

    /// Has an answer wait.
    pub(super) fn put(&mut self, door: Id, client: SocketAddr, datagram: &[u8]) {
        self.door = Some(door);
        let from = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.at.push(from..self.bytes.len());
        self.to.push(client.into());
    }

    /// Sends all that wait, in the order in which they came.
    pub(super) fn send(&mut self, door: &Door) {
        match self.to.as_slice() {
            [] => {}
            [to] => self.send_one(door, to),
            _ => self.send_many(door),
        }
    }

    fn send_one(&self, door: &Door, to: &SocketAddrAny) {
        let lane = door.seat.lane();
        if sendto(&*door.socket, &self.bytes, SendFlags::NOSIGNAL, to).is_ok() {
            lane.datagrams_out.bump();
            lane.bytes_out.add(self.bytes.len() as u64);
        } else {
            lane.losses.count(Loss::ToClient, 1);
        }
    }

    fn send_many(&self, door: &Door) {
        // Three allocations for all of them: what a call is given borrows from what is kept here.
        let slices: Vec<_> = self
            .at
            .iter()
            .map(|range| {
                [IoSlice::new(
                    self.bytes.get(range.clone()).unwrap_or_default(),
                )]
            })
            .collect();
        let mut controls: Vec<_> = slices
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = self
            .to
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|((to, slice), control)| MMsgHdr::new_with_addr(to, slice, control))
            .collect();
        let lane = door.seat.lane();
        let mut first = 0;
        while let Some(left) = messages.get_mut(first..).filter(|left| !left.is_empty()) {
            let Ok(sent) = sendmmsg(&*door.socket, left, SendFlags::NOSIGNAL) else {
                // It is about the first of them, which was not sent.
                lane.losses.count(Loss::ToClient, 1);
                first += 1;
                continue;
            };
            let bytes = left
                .iter()
                .take(sent)
                .map(MMsgHdr::bytes_sent)
                .sum::<usize>();
            lane.datagrams_out.add(sent as u64);
            lane.bytes_out.add(bytes as u64);
            first += sent.max(1);
        }
    }

    /// Forgets those that were sent, or have nowhere to go any more.
    pub(super) fn clear(&mut self) {
        self.door = None;
        self.to.clear();
        self.at.clear();
        self.bytes.clear();
    }
}
