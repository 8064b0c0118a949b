//! What a load balancer's flavor and availability zone ask of its placement (reference 14, 15, 20.8).

use alloc::string::String;
use core::net::IpAddr;

use krater_amphora_api::AmphoraId;
use serde::{Deserialize, Serialize};

use super::Treatment;

/// The wishes of a flavor and a zone, resolved when the load balancer was created: profiles in use cannot change, and
/// what a load balancer runs under must not depend on a later look-up. The default asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Steering {
    /// How many amphorae carry it, and how.
    pub topology: Topology,
    /// With whom it shares its amphora.
    pub tenancy: Tenancy,
    /// The zone of the amphorae that may carry it; any when `None`.
    pub zone: Option<String>,
    /// The most load balancers on the amphora that carries it, itself included; at least 1. The deployment's own limit
    /// when `None`.
    pub load_balancers_max: Option<u32>,
    /// The most concurrent connections each of its listeners may have, at least 1, whatever the listener asks for.
    pub connections_max: Option<u32>,
    /// How its members and clients are treated.
    pub treatment: Treatment,
    /// What its amphora may take of the host.
    #[serde(skip_serializing_if = "Allotment::is_unbounded")]
    pub allotment: Allotment,
    /// Whether members may be reached through a part of a network card (SR-IOV).
    pub member_sriov: bool,
    /// The amphora that a failover told it to leave: no wish of a flavor, but of whoever asked for the failover. Not
    /// undone by arriving elsewhere; only being on it means that there is still something to do.
    pub avoid: Option<AmphoraId>,
    /// The one that it leaves once it has left that: of two that take turns never both at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avoid_then: Option<AmphoraId>,
    /// How the two that carry it take turns: as above no wish of a flavor, but what was found when they were there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
}

/// Two amphorae that take turns at a load balancer's addresses, with the address of each toward the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    /// The preferred one.
    pub first: (AmphoraId, IpAddr),
    /// The other one.
    pub second: (AmphoraId, IpAddr),
}

/// What the amphora of one load balancer may take of its host; nothing is bounded where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Allotment {
    /// Memory, in MiB.
    pub memory_mib: Option<u32>,
    /// Processor time, in percent of one processor.
    pub cpu_percent: Option<u32>,
}

impl Allotment {
    /// Whether nothing is bounded.
    #[must_use]
    pub const fn is_unbounded(&self) -> bool {
        self.memory_mib.is_none() && self.cpu_percent.is_none()
    }
}

/// How many amphorae carry a load balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topology {
    /// One.
    #[default]
    Single,
    /// Two, one of which takes over.
    ActiveStandby,
}

impl Topology {
    /// The places of a load balancer.
    #[must_use]
    pub const fn seats(self) -> &'static [Seat] {
        match self {
            Self::Single => &[Seat::First],
            Self::ActiveStandby => &[Seat::First, Seat::Second],
        }
    }
}

/// One of the places of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seat {
    /// On the amphora that is preferred, or the only one.
    First,
    /// On the one that takes over.
    Second,
}

/// With whom a load balancer shares its amphora.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tenancy {
    /// With others (D13).
    #[default]
    Shared,
    /// With nobody.
    Dedicated,
}
