//! The version of this contract, and what each one added.

use serde::{Deserialize, Serialize};

/// Version of the contract that a process speaks; a controller drives amphorae of its own and the previous one.
///
/// 1: the first: TCP, UDP and HTTP/1.1 listeners, four algorithms, persistence by address, PROXY headers, TCP, HTTP,
/// HTTPS, TLS-HELLO, PING and UDP-CONNECT monitors, L7 policies, addresses that pass from one amphora to another,
/// members that are taken out between probes or begin slowly, rates of sources, drains of members, requests that wait for
/// a member, access logs, addresses at which amphorae take turns, congestion control of listeners.
///
/// 2: reports that tell what changed since the one before, to controllers that say that they remember it; amphorae that
/// carry the same load balancer tell each other of sessions; one of two that have the same addresses stands aside when it
/// is told to; hosts build networks of tenants: they say whether they can and where tunnels reach them
/// ([`HostFacts::networks`](crate::HostFacts::networks)), and are told what to build
/// ([`HostOrder::segment`](crate::HostOrder::segment)). A host of version 1 is asked to run amphorae on its own network
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContractVersion(pub u32);

impl ContractVersion {
    /// The version this crate describes.
    pub const CURRENT: Self = Self(2);

    /// The first in which amphorae are told of others to exchange sessions with.
    pub const SESSION_PEERS: Self = Self(2);
    /// The first in which hosts build networks of tenants.
    pub const BUILDS_NETWORKS: Self = Self(2);
    /// The first in which one of two that have the same addresses stands aside when it is told to.
    pub const STANDS_ASIDE: Self = Self(2);
}
