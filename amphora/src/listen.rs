//! Listening sockets: a reuse-port group per address, one socket for each core.
//!
//! Options that accepted sockets inherit from the listening one (no delay, keep-alive) are set here, once, instead of
//! on each connection.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::Arc,
    time::Duration,
};

use krater_amphora_core::{snapshot::Transport, transition::Place};
use rustix::{
    fd::{AsRawFd, OwnedFd},
    io::Errno,
    net::{SocketFlags, acceptfrom_with, sockopt::set_socket_linger},
};
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, TcpKeepalive, Type};

use crate::limits::{
    ACCEPT_BACKLOG_MAX, DATAGRAM_BACKLOG_BYTES, KEEPALIVE_IDLE, KEEPALIVE_INTERVAL,
    KEEPALIVE_PROBES,
};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("address {0} is already in use")]
    InUse(SocketAddr),
    #[error("no permission to listen on {0}")]
    NoPermission(SocketAddr),
    #[error("address {0} cannot be listened on")]
    Io(SocketAddr, #[source] io::Error),
}

/// Opens `size` sockets on one address, among which the kernel shares out connections.
///
/// Sockets of a reuse-port group are shared with whoever else of the same user asks for the same address, be it another
/// listener or another process, and silently. So the first one is bound without that option, which fails if the address
/// is somebody else's, and gets it before it listens: then the others may join it.
///
/// Unless it is known to be another amphora's, from which it passes to this one: then both share it for a while.
pub(crate) fn open_group(
    Place { transport, address }: Place,
    size: usize,
    claim: Claim,
) -> Result<Vec<Listening>, ListenError> {
    let failed = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => ListenError::InUse(address),
        Some(Errno::ACCESS | Errno::PERM) => ListenError::NoPermission(address),
        _ => ListenError::Io(address, error),
    };
    (0..size)
        .map(|index| {
            let sharing = match claim {
                Claim::Sole if index == 0 => Sharing::Later,
                _ => Sharing::Group,
            };
            let socket = bind(transport, address, sharing)?;
            Ok(match transport {
                Transport::Stream => {
                    socket.set_tcp_nodelay(true)?;
                    socket.set_tcp_keepalive(
                        &TcpKeepalive::new()
                            .with_time(KEEPALIVE_IDLE)
                            .with_interval(KEEPALIVE_INTERVAL)
                            .with_retries(KEEPALIVE_PROBES),
                    )?;
                    socket.listen(ACCEPT_BACKLOG_MAX)?;
                    Listening::Streams(Arc::new(socket.into()))
                }
                Transport::Datagram => {
                    // What the system grants, if that is less.
                    socket.set_recv_buffer_size(DATAGRAM_BACKLOG_BYTES)?;
                    Listening::Datagrams(Arc::new(socket.into()))
                }
            })
        })
        .collect::<io::Result<_>>()
        .map_err(failed)
}

/// A socket at which clients come in, held by whoever may have to pass it on.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    /// Of connections.
    Streams(Arc<TcpListener>),
    /// Of datagrams.
    Datagrams(Arc<UdpSocket>),
}

/// Whose an address may be already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nobody's.
    Sole,
    /// Another amphora's that is about to let go of it.
    TakesOver,
}

/// Has the kernel drop who would begin a connection at the socket, rather than put them in its queue: they ask again
/// within a second, and find whoever else listens on the address. Handshakes under way are finished.
pub(crate) fn deafen(socket: &TcpListener) -> io::Result<()> {
    // Classic BPF over the TCP header: keep everything but a SYN without ACK.
    const FLAGS_OFFSET: u32 = 13;
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    const LOAD_BYTE: u16 = 0x30;
    const AND: u16 = 0x54;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET),
        SockFilter::new(AND, 0, 0, SYN_AND_ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// Has the system take no more than so many bytes that it cannot send yet, from connections accepted from now on; as many
/// as it likes if 0.
pub(crate) fn bound_unsent(socket: &TcpListener, bytes: u32) -> io::Result<()> {
    SockRef::from(socket).set_tcp_notsent_lowat(bytes)
}

/// What became of one try to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A client.
    One(OwnedFd, SocketAddr),
    /// This one is lost, the next may be well.
    Lost,
    /// One was turned away, since the process has too few descriptors left.
    Shed,
    /// Nobody waits.
    Nobody,
    /// No descriptors or no memory.
    Exhausted,
}

/// Accepts one client, unless its descriptor would be numbered `descriptors_max` or above.
///
/// By hand, which saves what a library asks for and nobody needs: the peer comes with the call, the socket is
/// non-blocking from the start, its options are inherited.
pub(crate) fn accept(socket: &TcpListener, descriptors_max: i32) -> Accepted {
    match acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok((descriptor, _)) if descriptor.as_raw_fd() >= descriptors_max => {
            // Reset rather than ended, or it would look as if a member had said nothing.
            let _ = set_socket_linger(&descriptor, Some(Duration::ZERO));
            Accepted::Shed
        }
        Ok((descriptor, peer)) => match peer.map(SocketAddr::try_from) {
            Some(Ok(peer)) => Accepted::One(descriptor, peer),
            _ => Accepted::Lost,
        },
        Err(Errno::AGAIN) => Accepted::Nobody,
        // The client has gone, or the network reports through the call what befell it: accept(2).
        Err(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PERM
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH,
        ) => Accepted::Lost,
        // No descriptors, no memory; and whatever is unknown must not become a busy loop.
        Err(_) => Accepted::Exhausted,
    }
}

/// Whether the kernel itself passes on who waits at a socket that closes, to another one on the same address.
pub(crate) fn kernel_migrates() -> bool {
    std::fs::read_to_string("/proc/sys/net/ipv4/tcp_migrate_req")
        .is_ok_and(|text| text.trim() == "1")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    /// Bound to an address that is nobody's, then open to others.
    Later,
    Group,
}

fn bind(transport: Transport, address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let (kind, protocol) = match transport {
        Transport::Stream => (Type::STREAM, Protocol::TCP),
        Transport::Datagram => (Type::DGRAM, Protocol::UDP),
    };
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
    // Old connections in TIME_WAIT must not keep a listener from coming back. Of datagrams there are none, and the
    // option would let others take the same address.
    if transport == Transport::Stream {
        socket.set_reuse_address(true)?;
    }
    if sharing == Sharing::Group {
        socket.set_reuse_port(true)?;
    }
    // A VIP may arrive on this host later than its listener (failover).
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    if sharing == Sharing::Later {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(transport: Transport, address: &str) -> Place {
        let address = address.parse().unwrap();
        Place { transport, address }
    }

    fn bound_to(socket: &Listening) -> SocketAddr {
        match socket {
            Listening::Streams(socket) => socket.local_addr().unwrap(),
            Listening::Datagrams(socket) => socket.local_addr().unwrap(),
        }
    }

    #[test]
    fn a_group_shares_one_port_and_nobody_else_gets_it() {
        for transport in [Transport::Stream, Transport::Datagram] {
            let first = open_group(at(transport, "127.0.0.1:0"), 1, Claim::Sole).unwrap();
            let address = bound_to(&first[0]);
            let place = Place { transport, address };
            let error = open_group(place, 2, Claim::Sole).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("address {address} is already in use")
            );
            drop(first);
            assert_eq!(open_group(place, 2, Claim::Sole).unwrap().len(), 2);
        }
    }

    #[test]
    fn an_address_that_is_not_on_this_host_yet_can_be_listened_on() {
        for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
            for transport in [Transport::Stream, Transport::Datagram] {
                let opened = open_group(at(transport, address), 1, Claim::Sole);
                assert_eq!(opened.unwrap().len(), 1);
            }
        }
    }

    #[test]
    fn an_address_that_passes_over_is_shared_until_the_old_one_closes() {
        let transport = Transport::Stream;
        let old = open_group(at(transport, "127.0.0.1:0"), 1, Claim::Sole).unwrap();
        let address = bound_to(&old[0]);
        let place = Place { transport, address };
        let _new = open_group(place, 1, Claim::TakesOver).unwrap();
        let Listening::Streams(socket) = &old[0] else {
            panic!("{old:?}")
        };
        deafen(socket).unwrap();
        // The kernel asks the old one first for about half of them.
        let clients: Vec<_> = (0..16)
            .map(|_| std::thread::spawn(move || std::net::TcpStream::connect(address)))
            .collect();
        drop(old);
        for client in clients {
            client.join().unwrap().unwrap();
        }
    }
}
