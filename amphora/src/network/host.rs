//! The host's side of a network: its bridge, the tunnel to other hosts, and a cable into each namespace.
//!
//! What is made here carries our mark, and only what carries it is ever removed. One process at a time changes anything.

use std::{
    fs::{File, OpenOptions, Permissions},
    io,
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
    time::Duration,
};

use krater_amphora_api::AmphoraId;
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan,
    packet_route::link::{InfoData, InfoVeth, LinkAttribute},
};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tokio::time::{Instant, sleep};

use super::{
    INTERFACE, Settings, Vxlan,
    kernel::{Kernel, alias_of, bridge_of},
    settings::VXLAN_PORT,
};
use crate::limits::{LOCK_PAUSE, NETWORK_TURN_TIME_MAX};

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
    let _alone = Turn::take().await?;
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
    let _alone = Turn::take().await?;
    let kernel = Kernel::connect()?;
    // Its name is ours alone, whether it was marked or the process that made it ended before that.
    if let Some(index) = kernel.index(&cable(amphora)).await? {
        kernel.remove_link(index).await?;
    }
    remove_unused(&kernel).await.map(drop)
}

/// Has the tunnel of a network, if it is there, end at the hosts that its settings name at present.
pub(super) async fn tell_peers(vxlan: &Vxlan) -> io::Result<()> {
    let _alone = Turn::take().await?;
    let kernel = Kernel::connect()?;
    match kernel.index(&tunnel(vxlan)).await? {
        Some(index) => settle_peers(&kernel, index, vxlan).await,
        // Whoever makes it reads them.
        None => Ok(()),
    }
}

/// Makes what networks are made of, in a namespace that is nobody's: whether the kernel has all of it.
pub(super) async fn rehearse() -> io::Result<()> {
    let kernel = Kernel::connect()?;
    kernel.add_link(LinkBridge::new(DRAFT).build()).await?;
    let tunnel = LinkVxlan::new("kx-draft", 1)
        .port(VXLAN_PORT)
        .local(Ipv4Addr::LOCALHOST);
    kernel.add_link(tunnel.build()).await?;
    let cable = LinkMessageBuilder::<LinkVeth>::new("kv-draft", INTERFACE);
    kernel.add_link(cable.build()).await
}

/// Whether the right to change networks of this host could be taken, some time.
pub(super) fn may_take_turns() -> io::Result<()> {
    Turn::open_at(Path::new(LOCK)).map(drop)
}

/// Removes bridges and tunnels of ours that nothing is joined to; their names.
pub(super) async fn sweep() -> io::Result<Vec<String>> {
    let _alone = Turn::take().await?;
    remove_unused(&Kernel::connect()?).await
}

/// One whose other end is gone was removed with it: a cable that is there leads to a namespace that lives.
async fn remove_unused(kernel: &Kernel) -> io::Result<Vec<String>> {
    remove_draft(kernel).await?;
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
        remove_draft(kernel).await?;
        let bridge = LinkBridge::new(DRAFT).mtu(settings.mtu);
        kernel.add_link(bridge.build()).await?;
        // Named and marked at once: should this process end before, nobody takes it for a bridge that somebody else has
        // made, which would be used as it is, down.
        let index = kernel.index(DRAFT).await?.ok_or_else(vanished)?;
        let named = LinkUnspec::new_with_index(index).name(name.clone());
        kernel.change_link(named.alias(BRIDGE).build()).await?;
    }
    let bridge = kernel.link(name).await?.ok_or_else(vanished)?;
    if alias_of(&bridge) == Some(BRIDGE) {
        kernel.up(bridge.header.index).await?;
    }
    Ok(bridge.header.index)
}

/// Removes a bridge that was begun and not finished.
async fn remove_draft(kernel: &Kernel) -> io::Result<()> {
    match kernel.index(DRAFT).await? {
        Some(left) => kernel.remove_link(left).await,
        None => Ok(()),
    }
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
    settle_peers(kernel, index, vxlan).await
}

/// Has a tunnel end at the hosts that it is to end at, and nowhere else.
async fn settle_peers(kernel: &Kernel, index: u32, vxlan: &Vxlan) -> io::Result<()> {
    let (known, wanted) = (kernel.tunnel_peers(index).await?, vxlan.peers.read()?);
    for peer in wanted.difference(&known) {
        kernel.add_tunnel_peer(index, *peer).await?;
    }
    for peer in known.difference(&wanted) {
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
    async fn take() -> io::Result<Self> {
        Self::take_at(Path::new(LOCK), NETWORK_TURN_TIME_MAX).await
    }

    /// Waits for it no longer than `patience`.
    async fn take_at(path: &Path, patience: Duration) -> io::Result<Self> {
        let file = Self::open_at(path)?;
        let deadline = Instant::now() + patience;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => sleep(LOCK_PAUSE).await,
                Err(Errno::WOULDBLOCK) => {
                    let reason = format!(
                        "another process has had it for {patience:?}, and nobody else can change networks of this host"
                    );
                    let error = io::Error::new(io::ErrorKind::TimedOut, reason);
                    return Err(named("lock", path, &error));
                }
                Err(errno) => return Err(named("lock", path, &errno.into())),
            }
        }
    }

    fn open_at(path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(MODE)
            .open(path)
            .map_err(|error| named("open", path, &error))?;
        // Whoever may read it can hold it for ever. One that is not ours is for its owner to close.
        let _ = file.set_permissions(Permissions::from_mode(MODE));
        Ok(file)
    }
}

fn named(doing: &str, path: &Path, error: &io::Error) -> io::Error {
    let sentence = format!("cannot {doing} {}: {error}", path.display());
    io::Error::new(error.kind(), sentence)
}

/// A bridge that is being made.
const DRAFT: &str = "kb-draft";
const LOCK: &str = "/run/krater-network.lock";
/// For us alone.
const MODE: u32 = 0o600;
/// What our interfaces are marked with, for people and for whoever sweeps.
const BRIDGE: &str = "krater: bridge of a network";
const TUNNEL: &str = "krater: tunnel of a network";
const CABLE: &str = "krater: cable of an amphora";

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_lock_of_networks_is_ours_alone_and_waited_for_no_longer_than_is_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let other = File::create(&path).unwrap();
        other
            .set_permissions(Permissions::from_mode(0o644))
            .unwrap();
        flock(&other, FlockOperation::LockShared).unwrap();
        let refused = Turn::take_at(&path, Duration::ZERO).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::TimedOut);
        let (refused, name) = (refused.to_string(), path.display().to_string());
        assert!(
            refused.contains(&name) && refused.contains("another process"),
            "{refused}"
        );
        drop(other);
        let _turn = Turn::take_at(&path, Duration::ZERO).await.unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }
}
