//! How several amphorae take turns at the addresses of a load balancer.

use alloc::vec::Vec;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A virtual router of VRRPv3 (RFC 9568) whose members speak to each other alone. Whoever is active has all VIPs of the
/// load balancer; adverts name those of the family they travel by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnnouncementSpec {
    /// The number of the virtual router, 1–255, the same for all of its members. Load balancers that share amphorae may
    /// share it: their addresses tell them apart.
    pub virtual_router: u8,
    /// Who is preferred when nobody is active, or several are: 1–254, the highest.
    pub priority: u8,
    /// Time between two adverts, in milliseconds: a multiple of 10.
    #[serde(default = "second")]
    pub advert_interval_ms: u32,
    /// The own address toward the others. The VIPs come and go on the link that has it.
    pub address: IpAddr,
    /// The addresses of the others; nobody else is heard.
    pub peers: Vec<IpAddr>,
    /// Whether the preferred one takes over from another one that serves.
    #[serde(default, skip_serializing_if = "super::is_not")]
    pub preempt: bool,
}

/// As Octavia (reference 20.10).
const fn second() -> u32 {
    1_000
}
