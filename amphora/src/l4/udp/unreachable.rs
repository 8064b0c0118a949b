//! Tells clients, in the VIP's name, that nobody takes their datagrams, as the system does for ports where nobody
//! listens: who asks once then need not wait for an answer that will not come.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use krater_amphora_core::{
    icmp::{Budget, Unreachable},
    time::Instant,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::meter::ListenerLane;

/// What one thread may tell clients.
pub(super) struct Unreachables {
    budget: Budget,
    may_tell: bool,
}

impl Unreachables {
    /// `may_tell` is whether the system lets this process have raw sockets.
    pub(super) fn new(may_tell: bool) -> Self {
        Self {
            budget: Budget::default(),
            may_tell,
        }
    }

    /// Tells a client that nobody takes what it sent to `door`, so many bytes, within measure.
    pub(super) fn tell(
        &mut self,
        client: SocketAddr,
        door: SocketAddr,
        bytes: usize,
        (lane, now): (&ListenerLane, Instant),
    ) {
        let Some(message) = Unreachable::message(client, door, bytes) else {
            return;
        };
        let told = self.may_tell && self.budget.spend(now) && send(client, door, &message).is_ok();
        if told {
            lane.told.bump();
        } else {
            lane.untold.bump();
        }
    }
}

/// Sends one message over a socket of its own: they are few, and one that was kept would be given a copy of all that
/// ICMP says to this host.
fn send(client: SocketAddr, door: SocketAddr, message: &Unreachable) -> io::Result<()> {
    let socket = open(door.ip())?;
    if door.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
    }
    let (mut from, mut to) = (door, client);
    from.set_port(0);
    to.set_port(0);
    socket.bind(&from.into())?;
    socket.send_to(message.as_bytes(), &to.into())?;
    Ok(())
}

/// Whether the system lets this process tell clients (CAP_NET_RAW).
pub(crate) fn may_tell() -> bool {
    open(IpAddr::from([127, 0, 0, 1])).is_ok()
}

fn open(family_of: IpAddr) -> io::Result<Socket> {
    let protocol = if family_of.is_ipv4() {
        Protocol::ICMPV4
    } else {
        Protocol::ICMPV6
    };
    let domain = Domain::for_address(SocketAddr::new(family_of, 0));
    Socket::new(domain, Type::RAW.nonblocking(), Some(protocol))
}
