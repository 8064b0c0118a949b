//! The difference between two snapshots of one load balancer, as far as sockets are concerned.

use alloc::{collections::BTreeSet, vec::Vec};
use core::{fmt, net::SocketAddr};

use krater_amphora_api::ListenerId;

use crate::snapshot::{Snapshot, Transport};

/// A listening socket, on every worker: whose it is and where it is bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketKey {
    /// The listener it accepts for.
    pub listener: ListenerId,
    /// Where it is bound.
    pub place: Place,
}

/// Where a socket is bound. Ports of streams and of datagrams have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// What the socket is of.
    pub transport: Transport,
    /// A VIP and the listener's port.
    pub address: SocketAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.transport)
    }
}

/// What to do with listening sockets when one snapshot follows another.
///
/// Computed by the receiver and never sent. `open` and `keep` together are the sockets of the new snapshot, `close`
/// and `keep` those of the old one. Whatever else changes leaves the socket open, and so costs no connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transition {
    /// To be bound, in the order of the new snapshot.
    pub open: Vec<SocketKey>,
    /// To be left as they are, in the order of the new snapshot.
    pub keep: Vec<SocketKey>,
    /// To be closed, in the order of the old snapshot. Close before opening: a port may move between listeners.
    pub close: Vec<SocketKey>,
}

impl Transition {
    /// From `old` to `new`; `None` is the absence of the load balancer.
    #[must_use]
    pub fn between(old: Option<&Snapshot>, new: Option<&Snapshot>) -> Self {
        let before: Vec<_> = old.into_iter().flat_map(sockets).collect();
        let after: Vec<_> = new.into_iter().flat_map(sockets).collect();
        let held: BTreeSet<_> = before.iter().copied().collect();
        let wanted: BTreeSet<_> = after.iter().copied().collect();
        let (keep, open) = after.into_iter().partition(|socket| held.contains(socket));
        let close = before
            .into_iter()
            .filter(|socket| !wanted.contains(socket))
            .collect();
        Self { open, keep, close }
    }

    /// `true` if no socket is opened or closed.
    #[must_use]
    pub const fn changes_nothing(&self) -> bool {
        self.open.is_empty() && self.close.is_empty()
    }
}

/// The sockets that `snapshot` wants open: those of each enabled listener on each VIP, none if it is disabled.
pub fn sockets(snapshot: &Snapshot) -> impl Iterator<Item = SocketKey> {
    let listeners = if snapshot.enabled() {
        snapshot.listeners()
    } else {
        &[]
    };
    listeners
        .iter()
        .filter(|listener| listener.enabled)
        .flat_map(|listener| {
            snapshot.vips().iter().map(|vip| SocketKey {
                listener: listener.id,
                place: Place {
                    transport: listener.mode.transport(),
                    address: SocketAddr::new(*vip, listener.port),
                },
            })
        })
}

#[cfg(test)]
mod tests;
