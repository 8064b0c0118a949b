//! Tells the neighbours on a link who has an address from now on.

use std::{
    io,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    os::fd::AsRawFd,
};

use krater_amphora_core::vrrp::neighbour::{ALL_NODES, gratuitous_arp, unsolicited_advertisement};
use nix::sys::socket::bind;
use socket2::{Domain, Protocol, Socket, Type};

use super::links::Link;

/// Tells everybody on the link that it has the address.
pub(super) fn tell(link: &Link, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V4(address) => {
            let socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), None)?;
            bind(socket.as_raw_fd(), &link.place)?;
            socket.send(&gratuitous_arp(link.hardware, address))?;
        }
        IpAddr::V6(address) => {
            let socket = Socket::new(
                Domain::IPV6,
                Type::RAW.nonblocking(),
                Some(Protocol::ICMPV6),
            )?;
            socket.set_multicast_hops_v6(255)?;
            socket.set_multicast_if_v6(link.index)?;
            let to = SocketAddr::V6(SocketAddrV6::new(ALL_NODES, 0, 0, link.index));
            let message = unsolicited_advertisement(link.hardware, address);
            socket.send_to(&message, &to.into())?;
        }
    }
    Ok(())
}
