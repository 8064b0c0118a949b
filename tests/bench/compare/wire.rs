//! Sockets that never block and a queue of events: what the load generator and its members are made of.
//!
//! One thread and raw readiness, so that they cost as little as possible beside the program that is measured.

use std::{
    net::SocketAddr,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    io::Errno,
    net::{
        self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, socket_with,
        sockopt,
    },
};

pub(super) use rustix::event::epoll::EventFlags;

/// Says which of many sockets has something.
pub(super) struct Readiness {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Readiness {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll")?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Watches a socket, edge by edge, under a number.
    pub(super) fn watch(&self, socket: &OwnedFd, key: usize) -> Result<()> {
        self.watch_for(
            socket,
            key,
            EventFlags::IN | EventFlags::OUT | EventFlags::ET,
        )
    }

    /// Watches a socket for some events.
    pub(super) fn watch_for(&self, socket: &OwnedFd, key: usize, what: EventFlags) -> Result<()> {
        let key = epoll::EventData::new_u64(key as u64);
        epoll::add(&self.epoll, socket, key, what).context("epoll_ctl")
    }

    /// Waits at most that long; the numbers of the sockets, and what each has.
    pub(super) fn wait(&mut self, most: Duration) -> Result<Vec<(usize, EventFlags)>> {
        let timeout = Timespec {
            tv_sec: most.as_secs().cast_signed(),
            tv_nsec: most.subsec_nanos().into(),
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        let key = |event: &epoll::Event| usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
        Ok(self
            .events
            .iter()
            .map(|event| (key(event), event.flags))
            .collect())
    }
}

/// Begins a connection.
pub(super) fn dial(address: SocketAddr) -> Result<OwnedFd> {
    let socket = open(address, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error).context("connect"),
    }
}

/// A socket of datagrams that speaks to one address.
pub(super) fn datagrams(address: SocketAddr) -> Result<OwnedFd> {
    let socket = open(address, SocketType::DGRAM)?;
    connect(&socket, &address).context("connect")?;
    Ok(socket)
}

fn open(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(family, kind, flags, None).context("socket")
}

/// What came of a call.
pub(super) enum Io {
    Bytes(usize),
    /// Not now.
    Later,
    /// The other side has ended.
    End,
    Failed,
}

pub(super) fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Io {
    match net::recv(socket, buffer, RecvFlags::empty()) {
        Ok((_, 0)) => Io::End,
        Ok((_, count)) => Io::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Io::Later,
        Err(_) => Io::Failed,
    }
}

/// Receives without looking: the kernel copies nothing.
pub(super) fn discard(socket: &OwnedFd, buffer: &mut [u8]) -> Io {
    match net::recv(socket, buffer, RecvFlags::TRUNC) {
        Ok((_, 0)) => Io::End,
        Ok((_, count)) => Io::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Io::Later,
        Err(_) => Io::Failed,
    }
}

pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> Io {
    match net::send(socket, bytes, SendFlags::NOSIGNAL) {
        Ok(count) => Io::Bytes(count),
        Err(Errno::AGAIN | Errno::INTR) => Io::Later,
        Err(_) => Io::Failed,
    }
}

/// Whether a connection that was begun came about.
pub(super) fn is_connected(events: EventFlags) -> bool {
    events.contains(EventFlags::OUT) && !events.intersects(EventFlags::ERR | EventFlags::HUP)
}

/// Microseconds since `start`.
pub(super) fn micros_since(start: Instant) -> u32 {
    u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)
}

const EVENTS_MAX: usize = 512;
