//! The links of this host: what is on them, whether they carry anything, and addresses that come and go.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use futures_util::StreamExt;
use krater_amphora_api::LinkAddress;
use krater_amphora_core::vrrp::neighbour::Hardware;
use nix::{
    ifaddrs::getifaddrs,
    net::if_::InterfaceFlags,
    sys::socket::{LinkAddr, SockaddrStorage},
};
use rtnetlink::{
    AddressMessageBuilder, Error, Handle, MulticastGroup, new_multicast_connection,
    packet_core::NetlinkMessage,
    packet_route::{
        RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage},
    },
    sys::SocketAddr,
};

use tokio::time::timeout;

use crate::limits::{ADDRESS_TIME_MAX, OWN_ADDRESSES_MAX};

/// One look at a link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) hardware: Hardware,
    /// The link as a packet socket binds to it.
    pub(super) place: LinkAddr,
    /// Whether it carries anything.
    pub(super) is_up: bool,
    pub(super) addresses: Vec<IpAddr>,
}

/// All links that can have neighbours, or the loopback.
pub(super) fn look() -> io::Result<Vec<Link>> {
    let all: Vec<_> = getifaddrs()?.collect();
    let mut links: Vec<Link> = all
        .iter()
        .filter_map(|entry| {
            let place = *entry.address.as_ref()?.as_link_addr()?;
            let working = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
            Some(Link {
                name: entry.interface_name.clone(),
                index: u32::try_from(place.ifindex()).ok()?,
                hardware: place.addr()?,
                place,
                is_up: entry.flags.contains(working),
                addresses: Vec::new(),
            })
        })
        .collect();
    for entry in &all {
        let link = links
            .iter_mut()
            .find(|link| link.name == entry.interface_name);
        if let (Some(link), Some(address)) = (link, entry.address.as_ref().and_then(ip_of)) {
            link.addresses.push(address);
        }
    }
    Ok(links)
}

/// The addresses of this host's links, but for those that are its own alone.
pub(crate) fn own_addresses() -> Vec<LinkAddress> {
    let mut own: Vec<_> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            Some(LinkAddress {
                address: ip_of(entry.address.as_ref()?)?,
                prefix_bits: bits_of(ip_of(entry.netmask.as_ref()?)?),
            })
        })
        .filter(|own| !own.address.is_loopback())
        .take(OWN_ADDRESSES_MAX)
        .collect();
    own.sort_unstable();
    own
}

fn bits_of(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(mask) => u32::from(mask).count_ones(),
        IpAddr::V6(mask) => u128::from(mask).count_ones(),
    };
    u8::try_from(ones).unwrap_or_default()
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
}

/// The system's table of addresses, and word of what changes in it.
pub(super) struct Table {
    handle: Handle,
    changes: Box<dyn futures_util::Stream<Item = ()> + Unpin>,
}

type Message = (NetlinkMessage<RouteNetlinkMessage>, SocketAddr);

impl Table {
    /// Opens it, on a local set.
    pub(super) fn open() -> io::Result<Self> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let (connection, handle, messages) = new_multicast_connection(&groups)?;
        tokio::task::spawn_local(connection);
        Ok(Self {
            handle,
            changes: Box::new(messages.map(|_: Message| ())),
        })
    }

    /// Returns when something may have changed.
    pub(super) async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            // What comes by itself is looked at each second all the same.
            std::future::pending().await
        }
    }

    /// Has an address on a link; that it is there is fine.
    pub(super) async fn add(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let mut request = self.handle.address().add(index, address, bits(address));
        if address.is_ipv6() {
            // The others say who has it; waiting for objections would cost a second.
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        in_time(request.execute(), EXISTS).await
    }

    /// Takes an address away from a link; that it is not there is fine, and so is that the link is not.
    pub(super) async fn remove(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let removing = self.handle.address().del(message(index, address));
        match in_time(removing.execute(), IS_NOT_THERE).await {
            Err(error) if error.raw_os_error() == Some(NO_LINK) => Ok(()),
            other => other,
        }
    }
}

fn message(index: u32, address: IpAddr) -> AddressMessage {
    match address {
        IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
            .index(index)
            .address(v4, bits(address))
            .build(),
        IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new()
            .index(index)
            .address(v6, bits(address))
            .build(),
    }
}

/// A VIP comes without a network: the own address brings that.
const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// An answer that does not come must not hold up adverts.
async fn in_time(request: impl Future<Output = Result<(), Error>>, fine: i32) -> io::Result<()> {
    match timeout(ADDRESS_TIME_MAX, request).await {
        Ok(outcome) => tolerate(outcome, fine),
        Err(_) => {
            let reason = "the kernel does not answer";
            Err(io::Error::new(io::ErrorKind::TimedOut, reason))
        }
    }
}

fn tolerate(outcome: Result<(), Error>, fine: i32) -> io::Result<()> {
    match outcome {
        Ok(()) => Ok(()),
        Err(Error::NetlinkError(message)) => match message.code.map(|code| -code.get()) {
            Some(code) if code == fine => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Ok(()),
        },
        Err(error) => Err(io::Error::other(error.to_string())),
    }
}

const EXISTS: i32 = 17;
const IS_NOT_THERE: i32 = 99;
const NO_LINK: i32 = 19;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let error = in_time(std::future::pending(), EXISTS).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
