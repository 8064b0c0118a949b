//! Readiness of descriptors: one epoll per thread, edge-triggered for connections.
//!
//! What is registered carries a [`Token`]: what kind of thing it is, and which. A new kind of descriptor is a new
//! [`Kind`] and a line in the engine's dispatch; the reactor knows nothing else of it.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
};

pub(super) use epoll::EventFlags as Flags;

use super::slab::Id;
use crate::limits::EVENTS_MAX;

/// What kind of thing a descriptor belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The bell of the inbox.
    Bell,
    /// A listening socket.
    Door,
    /// The client's socket of a connection.
    Client,
    /// The member's socket of a connection.
    Member,
    /// A socket that clients send datagrams to.
    DatagramDoor,
    /// The socket of a UDP session toward its member.
    DatagramMember,
}

impl Kind {
    const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Bell),
            1 => Some(Self::Door),
            2 => Some(Self::Client),
            3 => Some(Self::Member),
            4 => Some(Self::DatagramDoor),
            5 => Some(Self::DatagramMember),
            _ => None,
        }
    }
}

/// Whose a descriptor is. Fits the 64 bits that the kernel carries along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) id: Id,
}

impl Token {
    /// Kind in the upper eight bits, then the generation, then the index.
    const fn encode(self) -> epoll::EventData {
        epoll::EventData::new_u64((self.kind as u64) << 56 | self.id.to_bits())
    }

    const fn decode(number: u64) -> Option<Self> {
        match Kind::from_number(number >> 56) {
            Some(kind) => Some(Self {
                kind,
                id: Id::from_bits(number & ((1 << 56) - 1)),
            }),
            None => None,
        }
    }
}

/// What happened to a descriptor.
pub(super) type Event = (Token, Flags);

/// The descriptors of one thread.
pub(super) struct Reactor {
    epoll: rustix::fd::OwnedFd,
}

/// Where events are put: reused from one wait to the next.
pub(super) struct Events(Vec<epoll::Event>);

impl Events {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(EVENTS_MAX))
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len()
    }

    /// The event at that position.
    pub(super) fn at(&self, position: usize) -> Option<Event> {
        let event = *self.0.get(position)?;
        let (flags, data) = (event.flags, event.data);
        Some((Token::decode(data.u64())?, flags))
    }
}

impl Reactor {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        })
    }

    /// Begins to watch. What is ready already is reported by the next wait.
    pub(super) fn add(
        &self,
        descriptor: impl AsFd,
        token: Token,
        flags: Flags,
    ) -> Result<(), Errno> {
        epoll::add(&self.epoll, descriptor, token.encode(), flags)
    }

    /// Watches for something else. What is ready already is reported by the next wait.
    pub(super) fn modify(
        &self,
        descriptor: impl AsFd,
        token: Token,
        flags: Flags,
    ) -> io::Result<()> {
        Ok(epoll::modify(
            &self.epoll,
            descriptor,
            token.encode(),
            flags,
        )?)
    }

    /// Ends watching. Needed only for what stays open elsewhere: closing a descriptor does it as well.
    pub(super) fn delete(&self, descriptor: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, descriptor)?)
    }

    /// Waits until something happens, at most that long (`None` for as long as it takes), and replaces `events`.
    pub(super) fn wait(&self, events: &mut Events, most: Option<Duration>) -> io::Result<()> {
        events.0.clear();
        // Whole milliseconds rounded up, or a timer would be looked for a little too early, again and again.
        let most = most.map(|most| Timespec {
            tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(
                most.subsec_nanos()
                    .next_multiple_of(1_000_000)
                    .min(999_000_000),
            ),
        });
        match epoll::wait(&self.epoll, spare_capacity(&mut events.0), most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
