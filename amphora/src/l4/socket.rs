//! A non-blocking stream socket and what is known of its readiness.
//!
//! Readiness is edge-triggered: an edge says that something may be had, and what is known then stays true until a call
//! says otherwise. A read that fills less than its buffer has emptied the socket, so nothing is asked again before the
//! next edge; if the end of the stream was announced before such a read, the end is what follows it.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        RecvFlags, SendFlags, Shutdown, getsockname, recv, send, shutdown,
        sockopt::{
            set_socket_keepalive, set_socket_linger, set_tcp_keepcnt, set_tcp_keepidle,
            set_tcp_keepintvl, set_tcp_nodelay, set_tcp_user_timeout,
        },
    },
    pipe::{SpliceFlags, splice},
};

use super::reactor::Flags;
use crate::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, UNACKNOWLEDGED_MAX};

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    descriptor: OwnedFd,
    /// A read may bring something.
    readable: bool,
    /// A write may be taken.
    writable: bool,
    /// The peer has said that it will send no more; what it sent before may still wait to be read.
    ended: bool,
    /// All that the peer sent was read, and its end.
    over: bool,
    /// The connection was broken off, by the peer or by the network.
    failed: bool,
    /// Urgent data came by: a read stops there, so a short one says nothing.
    urgent: bool,
    /// The reactor reports when a write may be taken.
    watched_for_room: bool,
    delay: Delay,
}

/// Whether small pieces wait for the acknowledgement of those before them (Nagle's algorithm).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delay {
    /// They would, but nothing was sent yet.
    Unused,
    /// They would.
    Used,
    /// They do not.
    Off,
}

/// What a socket has from the listening one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inherits {
    Keepalive,
    Nothing,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer sends no more.
    End,
    /// The connection was broken off.
    Broken,
}

/// What a write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// So many were taken; if not all, no more for now.
    Bytes(usize),
    /// The peer takes no more, ever.
    Broken,
}

impl Socket {
    /// Of a client that was just accepted. Nothing is known of what it sent.
    pub(super) const fn accepted(descriptor: OwnedFd) -> Self {
        Self {
            descriptor,
            readable: true,
            writable: true,
            ended: false,
            over: false,
            failed: false,
            urgent: false,
            watched_for_room: false,
            // Inherited from the listening socket.
            delay: Delay::Off,
        }
    }

    /// One that is being connected and watched for everything.
    pub(super) const fn connecting(descriptor: OwnedFd) -> Self {
        Self {
            descriptor,
            readable: false,
            writable: false,
            ended: false,
            over: false,
            failed: false,
            urgent: false,
            watched_for_room: true,
            delay: Delay::Unused,
        }
    }

    /// Takes in what the reactor reports.
    pub(super) fn note(&mut self, flags: Flags) {
        let gone = Flags::HUP | Flags::ERR;
        self.readable |= flags.intersects(Flags::IN | Flags::RDHUP | gone);
        self.writable |= flags.intersects(Flags::OUT | gone);
        self.ended |= flags.intersects(Flags::RDHUP | Flags::HUP);
        self.failed |= flags.contains(Flags::ERR);
        self.urgent |= flags.contains(Flags::PRI);
    }

    /// Whether a read may bring something.
    pub(super) const fn is_readable(&self) -> bool {
        self.readable
    }

    /// Whether a write may be taken.
    pub(super) const fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether the end follows what was read.
    pub(super) const fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the connection was broken off.
    pub(super) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Whether the reactor must be asked to report when a write may be taken.
    pub(super) const fn waits_unwatched(&self) -> bool {
        !self.writable && !self.watched_for_room
    }

    /// The reactor has been asked.
    pub(super) const fn is_watched_for_room(&mut self) {
        self.watched_for_room = true;
    }

    /// Where the peer connected to, while it is connected.
    pub(super) fn local_address(&self) -> Option<SocketAddr> {
        getsockname(&self.descriptor)
            .ok()
            .and_then(|address| SocketAddr::try_from(address).ok())
    }

    /// Reads what there is.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Received {
        let room = buffer.len();
        match recv(&self.descriptor, buffer, RecvFlags::empty()) {
            Ok((0, _)) => self.end(),
            Ok((read, _)) => {
                if read < room && !self.urgent && !self.failed {
                    self.readable = false;
                    self.over = self.ended;
                }
                Received::Bytes(read)
            }
            Err(error) => self.not_received(error),
        }
    }

    /// Moves what there is into a pipe, without copying it.
    pub(super) fn receive_into(&mut self, pipe: impl AsFd, most: usize) -> Received {
        match splice(&self.descriptor, None, pipe, None, most, SPLICE) {
            Ok(0) => self.end(),
            Ok(read) => Received::Bytes(read),
            Err(error) => self.not_received(error),
        }
    }

    /// Writes what is taken.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Sent {
        if !self.writable {
            return Sent::Bytes(0);
        }
        self.hurry();
        match send(&self.descriptor, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => {
                self.writable = sent == bytes.len();
                Sent::Bytes(sent)
            }
            Err(error) => self.not_sent(error),
        }
    }

    /// Moves so many bytes out of a pipe, or what is taken of them.
    pub(super) fn send_from(&mut self, pipe: impl AsFd, bytes: usize) -> Sent {
        if !self.writable {
            return Sent::Bytes(0);
        }
        self.hurry();
        match splice(pipe, None, &self.descriptor, None, bytes, SPLICE) {
            // Whether more would be taken is found out by asking: a pipe may end a write early for reasons of its own.
            Ok(sent) => Sent::Bytes(sent),
            Err(error) => self.not_sent(error),
        }
    }

    /// Tells the peer that no more will come.
    pub(super) fn finish(&self) {
        // Fails only if the peer is gone, which reading from it finds out.
        let _ = shutdown(&self.descriptor, Shutdown::Write);
    }

    /// Has the system find out when the peer is gone: by asking it when it is silent, and by giving up when it does not
    /// acknowledge for as long as it may be silent. For connections that last, since it takes calls; what is inherited
    /// from the listening socket is not set again.
    pub(super) fn tend(&self, silence: Duration, inherits: Inherits) {
        let socket = &self.descriptor;
        let give_up = u32::try_from(silence.as_millis()).unwrap_or(0);
        let set = || -> Result<(), Errno> {
            if silence <= UNACKNOWLEDGED_MAX {
                set_tcp_user_timeout(socket, give_up)?;
            }
            if inherits == Inherits::Nothing {
                set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
                set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
                set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
                set_socket_keepalive(socket, true)?;
            }
            Ok(())
        };
        // Fails only on a socket that is gone, as its next event says.
        let _ = set();
    }

    /// Has closing break the connection off, so that what was cut short does not look complete.
    pub(super) fn abort(&self) {
        // If it fails the peer is gone as well.
        let _ = set_socket_linger(&self.descriptor, Some(Duration::ZERO));
    }

    const fn end(&mut self) -> Received {
        self.readable = false;
        self.over = true;
        Received::End
    }

    const fn not_received(&mut self, error: Errno) -> Received {
        match error {
            Errno::AGAIN => {
                self.readable = false;
                Received::Nothing
            }
            Errno::INTR => Received::Nothing,
            _ => {
                self.readable = false;
                self.failed = true;
                Received::Broken
            }
        }
    }

    const fn not_sent(&mut self, error: Errno) -> Sent {
        match error {
            Errno::AGAIN => {
                self.writable = false;
                Sent::Bytes(0)
            }
            Errno::INTR => Sent::Bytes(0),
            _ => {
                self.failed = true;
                Sent::Broken
            }
        }
    }

    /// Ends delaying before the second write: the first has nothing to wait for, and often there is only one.
    fn hurry(&mut self) {
        match self.delay {
            Delay::Off => {}
            Delay::Unused => self.delay = Delay::Used,
            Delay::Used => {
                // Fails only on a socket that is gone, as the write will find out.
                let _ = set_tcp_nodelay(&self.descriptor, true);
                self.delay = Delay::Off;
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// What befell a socket, once: asking takes the answer away.
pub(super) fn failure_of(socket: &Socket) -> io::Error {
    match rustix::net::sockopt::socket_error(&socket.descriptor) {
        Ok(Err(error)) | Err(error) => error.into(),
        Ok(Ok(())) => io::ErrorKind::ConnectionAborted.into(),
    }
}

const SPLICE: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
