//! Listening sockets: a reuse-port group per address, one socket for each worker.
//!
//! Options that accepted sockets inherit from the listening one (no delay, keep-alive) are set here, once, instead of
//! on each connection.

use std::{
    io,
    net::{SocketAddr, TcpListener},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::ACCEPT_BACKLOG_MAX;

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
/// listener or another process, and silently. So the address is first bound without that option: if that fails, it is
/// somebody else's.
pub(crate) fn open_group(
    address: SocketAddr,
    size: usize,
) -> Result<Vec<TcpListener>, ListenError> {
    let failed = |error: io::Error| match Errno::from_io_error(&error) {
        Some(Errno::ADDRINUSE) => ListenError::InUse(address),
        Some(Errno::ACCESS | Errno::PERM) => ListenError::NoPermission(address),
        _ => ListenError::Io(address, error),
    };
    drop(bind(address, Sharing::Alone).map_err(failed)?);
    (0..size)
        .map(|_| {
            let socket = bind(address, Sharing::Group)?;
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            socket.listen(ACCEPT_BACKLOG_MAX)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()
        .map_err(failed)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Group,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    // Old connections in TIME_WAIT must not keep a listener from coming back.
    socket.set_reuse_address(true)?;
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
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shares_one_port_and_nobody_else_gets_it() {
        let first = open_group("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = first[0].local_addr().unwrap();
        let error = open_group(address, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("address {address} is already in use")
        );
        drop(first);
        assert_eq!(open_group(address, 2).unwrap().len(), 2);
    }

    #[test]
    fn an_address_that_is_not_on_this_host_yet_can_be_listened_on() {
        for address in ["192.0.2.77:0", "[2001:db8::77]:0"] {
            assert_eq!(open_group(address.parse().unwrap(), 1).unwrap().len(), 1);
        }
    }
}
