//! What the kernel is asked over netlink, in the namespace of the thread that connects: links, addresses, routes, rules.
//!
//! Everything is idempotent: what is there already is as good as made, what is gone as good as removed.

use std::{collections::BTreeSet, io, net::IpAddr};

use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use rtnetlink::{
    Error, Handle, IpVersion, LinkUnspec, RouteMessageBuilder, new_connection,
    packet_core::{
        NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope},
        link::{LinkAttribute, LinkMessage},
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
        },
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope},
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};
use tokio::task::JoinHandle;

use super::{Prefix, Route};

/// A connection to the kernel. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Kernel {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Addresses from there are routed by a table of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rule {
    pub(super) from: IpAddr,
    pub(super) table: u8,
}

impl Kernel {
    /// Connects, in the namespace of this thread. On a thread that runs local tasks.
    pub(crate) fn connect() -> io::Result<Self> {
        let (connection, handle, _) = new_connection()?;
        let connection = tokio::task::spawn_local(connection);
        Ok(Self { handle, connection })
    }

    /// The number of an interface, if there is one of that name.
    pub(crate) async fn index(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(self.link(name).await?.map(|link| link.header.index))
    }

    /// An interface, if there is one of that name.
    pub(super) async fn link(&self, name: &str) -> io::Result<Option<LinkMessage>> {
        let found = self.handle.link().get().match_name(name).execute();
        match first(found).await {
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            other => other,
        }
    }

    /// All interfaces.
    pub(super) async fn links(&self) -> io::Result<Vec<LinkMessage>> {
        all(self.handle.link().get().execute()).await
    }

    /// Makes an interface; that there is one of its name already is an error.
    pub(super) async fn add_link(&self, link: LinkMessage) -> io::Result<()> {
        self.handle.link().add(link).execute().await.map_err(io)
    }

    /// Changes an interface.
    pub(super) async fn change_link(&self, link: LinkMessage) -> io::Result<()> {
        self.handle.link().change(link).execute().await.map_err(io)
    }

    /// Has an interface take part.
    pub(super) async fn up(&self, index: u32) -> io::Result<()> {
        self.change_link(LinkUnspec::new_with_index(index).up().build())
            .await
    }

    /// Removes an interface.
    pub(super) async fn remove_link(&self, index: u32) -> io::Result<()> {
        done(self.handle.link().del(index).execute().await, Errno::ENODEV)
    }

    /// The addresses of an interface, those aside that the kernel gives it itself.
    pub(crate) async fn addresses(&self, index: u32) -> io::Result<BTreeSet<(IpAddr, u8)>> {
        let found: Vec<AddressMessage> = all(self
            .handle
            .address()
            .get()
            .set_link_index_filter(index)
            .execute())
        .await?;
        let ours = found.iter().filter(|address| {
            address.header.index == index && address.header.scope == AddressScope::Universe
        });
        Ok(ours.filter_map(address_of).collect())
    }

    /// Gives an interface an address, at once: nobody is asked whether it is free, since it was handed out.
    pub(crate) async fn add_address(
        &self,
        index: u32,
        address: IpAddr,
        length: u8,
    ) -> io::Result<()> {
        let mut request = self.handle.address().add(index, address, length);
        if address.is_ipv6() {
            let message = request.message_mut();
            let flags = AddressFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        done(request.execute().await, Errno::EEXIST)
    }

    /// Takes an address away from an interface.
    pub(crate) async fn remove_address(
        &self,
        index: u32,
        address: IpAddr,
        length: u8,
    ) -> io::Result<()> {
        let mut request = self.handle.address().add(index, address, length);
        let message = request.message_mut().clone();
        let removed = self.handle.address().del(message).execute().await;
        done(removed, Errno::EADDRNOTAVAIL)
    }

    /// A way to addresses on the interface itself (`via` nobody) or beyond a router, in a table; an earlier one to the
    /// same destination is replaced.
    pub(super) async fn put_route(
        &self,
        index: u32,
        destination: Prefix,
        via: Option<IpAddr>,
        table: u8,
    ) -> io::Result<()> {
        let route = route(index, destination, via, table)?;
        let request = self.handle.route().add(route).replace();
        request.execute().await.map_err(io)
    }

    /// Removes all routes of a table that lead through the interface, but for those to keep.
    pub(super) async fn keep_routes(
        &self,
        index: u32,
        table: u8,
        keep: &[Route],
    ) -> io::Result<()> {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            // Without a destination, which would ask for the one way to it.
            let mut query = RouteMessage::default();
            query.header.address_family = family;
            let found: Vec<RouteMessage> = all(self.handle.route().get(query).execute()).await?;
            for message in found {
                let is_ours = message.header.table == table
                    && output_of(&message) == Some(index)
                    && message.header.protocol == RouteProtocol::Static;
                if is_ours && !keep.iter().any(|kept| leads_to(&message, kept.destination)) {
                    let removed = self.handle.route().del(message).execute().await;
                    done(removed, Errno::ESRCH)?;
                }
            }
        }
        Ok(())
    }

    /// The rules that are ours.
    pub(super) async fn rules(&self) -> io::Result<BTreeSet<Rule>> {
        let mut rules = BTreeSet::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let found: Vec<RuleMessage> = all(self.handle.rule().get(version).execute()).await?;
            rules.extend(found.iter().filter_map(rule_of));
        }
        Ok(rules)
    }

    pub(super) async fn add_rule(&self, rule: Rule) -> io::Result<()> {
        let mut request = self.handle.rule().add();
        *request.message_mut() = rule_message(rule);
        done(request.execute().await, Errno::EEXIST)
    }

    pub(super) async fn remove_rule(&self, rule: Rule) -> io::Result<()> {
        let removed = self.handle.rule().del(rule_message(rule)).execute().await;
        done(removed, Errno::ENOENT)
    }

    /// The hosts that a tunnel sends what is for everybody to.
    pub(super) async fn tunnel_peers(&self, index: u32) -> io::Result<BTreeSet<IpAddr>> {
        let request = self.handle.neighbours().get();
        let found: Vec<NeighbourMessage> =
            all(request.set_address_family(AddressFamily::Bridge).execute()).await?;
        let for_everybody = found.iter().filter(|entry| {
            let mut attributes = entry.attributes.iter();
            let everybody =
                |it: &NeighbourAttribute| matches!(it, NeighbourAttribute::LinkLayerAddress(mac) if *mac == EVERYBODY);
            entry.header.ifindex == index && attributes.any(everybody)
        });
        Ok(for_everybody
            .flat_map(|entry| &entry.attributes)
            .filter_map(|attribute| match attribute {
                NeighbourAttribute::Destination(address) => peer_of(address),
                _ => None,
            })
            .collect())
    }

    /// Has a tunnel send what is for everybody to one more host.
    pub(super) async fn add_tunnel_peer(&self, index: u32, peer: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::NewNeighbour(peer_message(index, peer));
        // There may be others already, which is what "append" allows.
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
        done(self.request(message, flags).await, Errno::EEXIST)
    }

    pub(super) async fn remove_tunnel_peer(&self, index: u32, peer: IpAddr) -> io::Result<()> {
        let message = RouteNetlinkMessage::DelNeighbour(peer_message(index, peer));
        let removed = self.request(message, NLM_F_REQUEST | NLM_F_ACK).await;
        done(removed, Errno::ENOENT)
    }

    async fn request(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        let mut answers = self.handle.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

/// The address of a host in an entry of a bridge's table, whose family says nothing of that of the address.
fn peer_of(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(peer) => Some(IpAddr::V4(*peer)),
        NeighbourAddress::Inet6(peer) => Some(IpAddr::V6(*peer)),
        NeighbourAddress::Other(bytes) => {
            let four = <[u8; 4]>::try_from(&bytes[..]).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(IpAddr::from))
                .ok()
        }
        _ => None,
    }
}

fn address_of(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let length = message.header.prefix_len;
    let mut attributes = message.attributes.iter();
    attributes.find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some((*address, length)),
        _ => None,
    })
}

fn route(
    index: u32,
    destination: Prefix,
    via: Option<IpAddr>,
    table: u8,
) -> io::Result<RouteMessage> {
    let wrong = |_| io::Error::new(io::ErrorKind::InvalidInput, "a route of two families");
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .output_interface(index)
        .table_id(table.into())
        .destination_prefix(destination.address, destination.length)
        .map_err(wrong)?;
    builder = match via {
        Some(via) => builder.gateway(via).map_err(wrong)?,
        None => builder.scope(RouteScope::Link),
    };
    Ok(builder.build())
}

fn output_of(message: &RouteMessage) -> Option<u32> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        })
}

fn leads_to(message: &RouteMessage, destination: Prefix) -> bool {
    let found = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        });
    let is_v4 = message.header.address_family == AddressFamily::Inet;
    message.header.destination_prefix_length == destination.length
        && is_v4 == destination.address.is_ipv4()
        && found.unwrap_or_else(|| Prefix::everything(destination.address).address)
            == destination.address
}

fn rule_message(rule: Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family(rule.from);
    message.header.src_len = if rule.from.is_ipv4() { 32 } else { 128 };
    message.header.table = rule.table;
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Source(rule.from));
    message
        .attributes
        .push(RuleAttribute::Priority(RULE_PRIORITY));
    message
}

fn rule_of(message: &RuleMessage) -> Option<Rule> {
    let mut attributes = message.attributes.iter();
    let is_ours = attributes.any(|it| matches!(it, RuleAttribute::Priority(RULE_PRIORITY)));
    let from = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RuleAttribute::Source(from) => Some(*from),
            _ => None,
        });
    let table = message.header.table;
    Some(Rule { from: from?, table }).filter(|_| is_ours)
}

fn peer_message(index: u32, peer: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    let destination = match peer {
        IpAddr::V4(peer) => NeighbourAddress::Inet(peer),
        IpAddr::V6(peer) => NeighbourAddress::Inet6(peer),
    };
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(EVERYBODY.to_vec()),
        NeighbourAttribute::Destination(destination),
    ];
    message
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// What is written of a link in an attribute.
pub(super) fn alias_of(link: &LinkMessage) -> Option<&str> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::IfAlias(alias) => Some(alias.as_str()),
            _ => None,
        })
}

/// The bridge that a link belongs to.
pub(super) fn bridge_of(link: &LinkMessage) -> Option<u32> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Controller(index) if *index != 0 => Some(*index),
            _ => None,
        })
}

async fn first<T>(found: impl Stream<Item = Result<T, Error>>) -> io::Result<Option<T>> {
    let mut found = std::pin::pin!(found);
    found.try_next().await.map_err(io)
}

async fn all<T>(found: impl Stream<Item = Result<T, Error>>) -> io::Result<Vec<T>> {
    found.try_collect().await.map_err(io)
}

/// One failure says that there is nothing to do.
fn done(outcome: Result<(), Error>, unless: Errno) -> io::Result<()> {
    match outcome.map_err(io) {
        Err(error) if is(&error, unless) => Ok(()),
        other => other,
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn io(error: Error) -> io::Error {
    match error {
        Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

/// What is for everybody, and for whomever nobody knows.
const EVERYBODY: [u8; 6] = [0; 6];
/// Before those that the kernel begins with.
const RULE_PRIORITY: u32 = 1_000;
