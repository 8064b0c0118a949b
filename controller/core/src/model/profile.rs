//! What flavors and availability zones are made of: profiles, which operators write and tenants never see
//! (reference 14.1, 15, 20.8).

use alloc::{collections::BTreeSet, string::String};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Family, Name, Tenancy, Topology};

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
/// Zone key: where its amphorae are.
pub const COMPUTE_ZONE_KEY: &str = "compute_zone";
/// Zone key: where its VIP may be.
pub const VIP_NETWORKS_KEY: &str = "valid_vip_networks";

impl Family {
    /// The keys that profiles of the family can say something with, and what each does (reference 13).
    #[must_use]
    pub const fn capabilities(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Flavor => &[
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
            ],
            Self::Zone => &[
                (
                    COMPUTE_ZONE_KEY,
                    "The zone of the fleet whose amphorae carry load balancers of this availability zone.",
                ),
                (
                    VIP_NETWORKS_KEY,
                    "The ids of the networks that VIPs may be on, in place of those the deployment allows.",
                ),
            ],
        }
    }
}
