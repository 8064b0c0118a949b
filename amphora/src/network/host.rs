//! The host's side of a network: its bridge, the tunnel to other hosts, and a cable into each namespace.
//!
//! What is made here carries our mark, and only what carries it is ever removed. One process at a time changes anything.

use std::{
    fs::{File, OpenOptions},
    io,
    net::IpAddr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use krater_amphora_api::AmphoraId;
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute},
};
use rustix::fs::{FlockOperation, flock};

use super::{
    INTERFACE, Settings, Vxlan,
    kernel::{Kernel, alias_of, bridge_of},
};

/// The cable of an amphora, as it is called on the host.
pub(super) fn cable(amphora: AmphoraId) -> String {
    let id = amphora.uuid().simple().to_string();
    format!("kv-{}", id.get(..12).unwrap_or(&id))
}

/// The hardware address inside: the same for the life of an amphora, so that nobody has to learn another one.
fn hardware_address(amphora: AmphoraId) -> Vec<u8> {
    let id = amphora.uuid();
    let local = std::iter::once(&0x02);
    local.chain(id.as_bytes().iter().take(5)).copied().collect()
}

/// Joins a namespace to the network; what is missing of that is made.
pub(super) async fn join(
    amphora: AmphoraId,
    settings: &Settings,
    namespace: &OwnedFd,
) -> io::Result<()> {
    let _alone = Turn::take()?;
    let kernel = Kernel::connect()?;
    let bridge = ensure_bridge(&kernel, settings).await?;
    if let Some(vxlan) = &settings.vxlan {
        ensure_tunnel(&kernel, settings, vxlan, bridge).await?;
    }
    let name = cable(amphora);
    let cable = match kernel.index(&name).await? {
        Some(index) => index,
        None => {
            kernel
                .add_link(new_cable(amphora, settings, namespace))
                .await?;
            kernel.index(&name).await?.ok_or_else(vanished)?
        }
    };
    let joined = LinkUnspec::new_with_index(cable)
        .alias(CABLE)
        .controller(bridge)
        .up();
    kernel.change_link(joined.build()).await
}

/// Removes the cable of an amphora, and what of the network nobody uses any more.
pub(super) async fn leave(amphora: AmphoraId) -> io::Result<()> {
    let _alone = Turn::take()?;
    let kernel = Kernel::connect()?;
    // Its name is ours alone, whether it was marked or the process that made it ended before that.
    if let Some(index) = kernel.index(&cable(amphora)).await? {
        kernel.remove_link(index).await?;
    }
    remove_unused(&kernel).await.map(drop)
}

/// Removes bridges and tunnels of ours that nothing is joined to; their names.
pub(super) async fn sweep() -> io::Result<Vec<String>> {
    let _alone = Turn::take()?;
    remove_unused(&Kernel::connect()?).await
}

/// One whose other end is gone was removed with it: a cable that is there leads to a namespace that lives.
async fn remove_unused(kernel: &Kernel) -> io::Result<Vec<String>> {
    let links = kernel.links().await?;
    let mut removed = Vec::new();
    let ours = |role: &'static str| {
        links
            .iter()
            .filter(move |link| alias_of(link) == Some(role))
    };
    for bridge in ours(BRIDGE) {
        let ports = || {
            links
                .iter()
                .filter(|link| bridge_of(link) == Some(bridge.header.index))
        };
        if ports().any(|port| alias_of(port) != Some(TUNNEL)) {
            continue;
        }
        for link in ports().chain([bridge]) {
            kernel.remove_link(link.header.index).await?;
            removed.extend(name_of(&link.attributes));
        }
    }
    let bridged = |link: &&_| bridge_of(link).is_none();
    for tunnel in ours(TUNNEL).filter(bridged) {
        kernel.remove_link(tunnel.header.index).await?;
        removed.extend(name_of(&tunnel.attributes));
    }
    Ok(removed)
}

/// The bridge of the network. One that somebody else has made is used as it is.
async fn ensure_bridge(kernel: &Kernel, settings: &Settings) -> io::Result<u32> {
    let name = &settings.bridge;
    if kernel.link(name).await?.is_none() {
        let bridge = LinkBridge::new(name).mtu(settings.mtu);
        kernel.add_link(bridge.build()).await?;
        // Unmarked for a moment: should this process end here, a bridge stays that somebody else might have made.
        let index = kernel.index(name).await?.ok_or_else(vanished)?;
        mark(kernel, index, BRIDGE).await?;
    }
    let bridge = kernel.link(name).await?.ok_or_else(vanished)?;
    if alias_of(&bridge) == Some(BRIDGE) {
        kernel.up(bridge.header.index).await?;
    }
    Ok(bridge.header.index)
}

/// The tunnel to the other hosts, with exactly those at its other end.
async fn ensure_tunnel(
    kernel: &Kernel,
    settings: &Settings,
    vxlan: &Vxlan,
    bridge: u32,
) -> io::Result<()> {
    let name = tunnel(vxlan);
    if kernel.link(&name).await?.is_none() {
        let link = LinkVxlan::new(&name, vxlan.vni)
            .port(vxlan.port)
            .mtu(settings.mtu);
        let link = match vxlan.local {
            IpAddr::V4(local) => link.local(local),
            IpAddr::V6(local) => link.local6(local),
        };
        kernel.add_link(link.build()).await?;
    }
    let index = kernel.index(&name).await?.ok_or_else(vanished)?;
    mark(kernel, index, TUNNEL).await?;
    let joined = LinkUnspec::new_with_index(index).controller(bridge).up();
    kernel.change_link(joined.build()).await?;
    let known = kernel.tunnel_peers(index).await?;
    for peer in vxlan.peers.iter().filter(|peer| !known.contains(*peer)) {
        kernel.add_tunnel_peer(index, *peer).await?;
    }
    for peer in known.iter().filter(|peer| !vxlan.peers.contains(*peer)) {
        kernel.remove_tunnel_peer(index, *peer).await?;
    }
    Ok(())
}

/// A tunnel, as it is called: there is one of a number on a host.
fn tunnel(vxlan: &Vxlan) -> String {
    format!("kx-{}", vxlan.vni)
}

fn new_cable(
    amphora: AmphoraId,
    settings: &Settings,
    namespace: &OwnedFd,
) -> rtnetlink::packet_route::link::LinkMessage {
    let inner = LinkMessageBuilder::<LinkUnspec>::new()
        .name(INTERFACE)
        .mtu(settings.mtu)
        .address(hardware_address(amphora))
        .setns_by_fd(namespace.as_raw_fd());
    LinkMessageBuilder::<LinkVeth>::new(&cable(amphora), INTERFACE)
        .mtu(settings.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build())))
        .build()
}

async fn mark(kernel: &Kernel, index: u32, role: &str) -> io::Result<()> {
    let marked = LinkUnspec::new_with_index(index).alias(role);
    kernel.change_link(marked.build()).await
}

fn name_of(attributes: &[LinkAttribute]) -> Option<String> {
    attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })
}

fn vanished() -> io::Error {
    io::Error::other("an interface vanished as soon as it was made")
}

/// The right to change the host's networks, as long as this lives.
struct Turn {
    _file: File,
}

impl Turn {
    fn take() -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(LOCK)
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot open {LOCK}: {error}"))
            })?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(Self { _file: file })
    }
}

const LOCK: &str = "/run/krater-network.lock";
/// What our interfaces are marked with, for people and for whoever sweeps.
const BRIDGE: &str = "krater: bridge of a network";
const TUNNEL: &str = "krater: tunnel of a network";
const CABLE: &str = "krater: cable of an amphora";
