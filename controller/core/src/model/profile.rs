//! What flavors and availability zones are made of: profiles, which operators write and tenants never see
//! (reference 14.1, 15, 20.8).

use alloc::{collections::BTreeSet, string::String};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Allotment, Family, Name, Tenancy, Topology, Treatment};

/// The id of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProfileId(Uuid);

impl ProfileId {
    /// Names a profile.
    #[must_use]
    pub const fn new(id: Uuid) -> Self {
        Self(id)
    }

    /// The bare UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

/// A flavor profile or an availability zone profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its id.
    pub id: ProfileId,
    /// Its name, not unique.
    pub name: Name,
    /// The provider it is for.
    pub provider: String,
    /// What it says, as it was written: JSON in a string.
    pub data: String,
    /// The same, understood.
    pub terms: Terms,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Profile {
    /// Its family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.terms.family()
    }
}

/// What a profile says, understood.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Terms {
    /// Of a flavor profile.
    Flavor(FlavorTerms),
    /// Of an availability zone profile.
    Zone(ZoneTerms),
}

impl Terms {
    /// The family of profiles that can say so.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Flavor(_) => Family::Flavor,
            Self::Zone(_) => Family::Zone,
        }
    }
}

/// What a flavor profile can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FlavorTerms {
    /// [`TOPOLOGY_KEY`]
    pub topology: Topology,
    /// [`TENANCY_KEY`]
    pub tenancy: Tenancy,
    /// [`LOAD_BALANCERS_KEY`], at least 1.
    pub load_balancers_max: Option<u32>,
    /// [`CONNECTIONS_KEY`], at least 1.
    pub connections_max: Option<u32>,
    /// [`PASSIVE_FAILURES_KEY`] and those after it.
    pub treatment: Treatment,
    /// [`MEMORY_KEY`] and [`CPU_KEY`], of dedicated amphorae alone.
    pub allotment: Allotment,
}

/// What an availability zone profile can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZoneTerms {
    /// [`COMPUTE_ZONE_KEY`]
    pub compute_zone: Option<String>,
    /// [`VIP_NETWORKS_KEY`]
    pub vip_networks: Option<BTreeSet<Uuid>>,
}

/// Flavor key: how many amphorae carry a load balancer.
pub const TOPOLOGY_KEY: &str = "loadbalancer_topology";
/// Flavor key: with whom it shares its amphora.
pub const TENANCY_KEY: &str = "krater_tenancy";
/// Flavor key: the most load balancers on its amphora.
pub const LOAD_BALANCERS_KEY: &str = "krater_load_balancers_max";
/// Flavor key: the most connections of each of its listeners.
pub const CONNECTIONS_KEY: &str = "krater_connections_max";
/// Flavor key: failed connections in a row that take a member out.
pub const PASSIVE_FAILURES_KEY: &str = "krater_passive_failures";
/// Flavor key: how long it is out the first time.
pub const PASSIVE_SECONDS_KEY: &str = "krater_passive_seconds";
/// Flavor key: how many members of a pool may be out at once.
pub const PASSIVE_SHARE_KEY: &str = "krater_passive_share";
/// Flavor key: how long a slow start takes.
pub const SLOW_START_KEY: &str = "krater_slow_start_seconds";
/// Flavor key: connections of one source a second.
pub const SOURCE_RATE_KEY: &str = "krater_source_rate";
/// Flavor key: how long connections of members go on that may not be chosen any more.
pub const MEMBER_DRAIN_KEY: &str = "krater_member_drain_seconds";
/// Flavor key: HTTP requests that one member may have at once.
pub const MEMBER_REQUESTS_KEY: &str = "krater_member_requests";
/// Flavor key: requests or connections there are for one in the access log.
pub const ACCESS_LOG_KEY: &str = "krater_access_log_one_in";
/// Flavor key: the congestion control of TCP towards clients.
pub const CONGESTION_KEY: &str = "krater_congestion_control";
/// Flavor key: the most memory of its amphora.
pub const MEMORY_KEY: &str = "krater_memory_mib";
/// Flavor key: the most processor time of its amphora.
pub const CPU_KEY: &str = "krater_cpu_percent";
/// Zone key: where its amphorae are.
pub const COMPUTE_ZONE_KEY: &str = "compute_zone";
/// Zone key: where its VIP may be.
pub const VIP_NETWORKS_KEY: &str = "valid_vip_networks";

impl Family {
    /// The keys that profiles of the family can say something with, and what each does (reference 13).
    #[must_use]
    pub const fn capabilities(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Flavor => FLAVOR_CAPABILITIES,
            Self::Zone => ZONE_CAPABILITIES,
        }
    }
}

/// What flavor profiles can say something with.
const FLAVOR_CAPABILITIES: &[(&str, &str)] = &[
    (
        TOPOLOGY_KEY,
        "How many amphorae carry a load balancer: SINGLE, which is one, or ACTIVE_STANDBY, which is two of \
                     which one takes over.",
    ),
    (
        TENANCY_KEY,
        "With whom a load balancer shares its amphora: shared, which is with others, or dedicated, which \
                     is with nobody.",
    ),
    (
        LOAD_BALANCERS_KEY,
        "The most load balancers on the amphora that carries one of this flavor, a number of at least 1.",
    ),
    (
        CONNECTIONS_KEY,
        "The most concurrent connections of each listener, a number of at least 1, whatever the listener \
                     asks for.",
    ),
    (
        PASSIVE_FAILURES_KEY,
        "Connections to a member in a row that are refused, reset or not answered until it is passed over \
                     for a while, a number of at most 1000; 0 passes over nobody.",
    ),
    (
        PASSIVE_SECONDS_KEY,
        "How long such a member is passed over the first time, 1 to 3600 seconds; each further time in a \
                     row is twice as long.",
    ),
    (
        PASSIVE_SHARE_KEY,
        "How many members of a pool may be passed over at once, 1 to 100 percent; one always may, all \
                     never.",
    ),
    (
        SLOW_START_KEY,
        "How long the share of a member that recovered or was added takes to grow to its weight, at most \
                     3600 seconds; 0 gives it at once.",
    ),
    (
        SOURCE_RATE_KEY,
        "Connections that one client address, or 64 bits of an IPv6 network, may begin a second at each \
                     listener, a number of at most 100000; 0 allows any number.",
    ),
    (
        MEMBER_DRAIN_KEY,
        "How long connections of a member go on that is deleted, disabled or of weight 0, at most 86400 \
                     seconds; never ends none.",
    ),
    (
        MEMBER_REQUESTS_KEY,
        "HTTP requests, and tunnels that have come of them, that one member may have under way at once, a \
                     number of at most 1000000; further ones wait for as long as a connection to it may take. 0 allows \
                     any number.",
    ),
    (
        ACCESS_LOG_KEY,
        "Requests or connections there are for one that is told in the access log, where the deployment \
                     has one, a number of at most 1000000; 1 tells all, 0 none.",
    ),
    (
        CONGESTION_KEY,
        "The congestion control of TCP towards clients by its name, as cubic, bbr or reno, at most 15 \
                     characters; system is that of the amphora's host, which is also used in place of one that it \
                     does not have.",
    ),
    (
        MEMORY_KEY,
        "The most memory of the amphora of a load balancer that is dedicated to it, 128 to 1048576 MiB; one \
                     that goes beyond is ended and started again.",
    ),
    (
        CPU_KEY,
        "The most processor time of the amphora of a load balancer that is dedicated to it, 10 to 25600 \
                     percent of one processor.",
    ),
];

/// The same of availability zone profiles.
const ZONE_CAPABILITIES: &[(&str, &str)] = &[
    (
        COMPUTE_ZONE_KEY,
        "The zone of the fleet whose amphorae carry load balancers of this availability zone.",
    ),
    (
        VIP_NETWORKS_KEY,
        "The ids of the networks that VIPs may be on, in place of those the deployment allows.",
    ),
];
