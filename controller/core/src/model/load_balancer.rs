//! The load balancer (reference 5).

use alloc::{string::String, vec::Vec};
use core::{fmt, net::IpAddr};

use krater_amphora_api::LoadBalancerId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Description, Name, Steering, Tags};

/// The project that owns a resource: at most 36 characters, as Keystone names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(String);

impl ProjectId {
    /// Takes a project id of 1 to 36 characters; `None` for any other.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.chars().count() <= 36).then(|| Self(text.into()))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A load balancer as the tenant wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Its id.
    pub id: LoadBalancerId,
    /// Its owner; all its children belong to the same project.
    pub project: ProjectId,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// `false`: the VIP answers nothing.
    pub admin_state_up: bool,
    /// Where it is reached.
    pub vip: Vip,
    /// Further addresses on the same port (of the network).
    pub additional_vips: Vec<AdditionalVip>,
    /// The provider as the tenant named it, `amphora` or its alias `octavia`.
    pub provider: String,
    /// The flavor it was created with.
    #[serde(default)]
    pub flavor_id: Option<Uuid>,
    /// The availability zone it was created in, by name.
    #[serde(default)]
    pub availability_zone: Option<String>,
    /// What both ask of its placement.
    #[serde(default)]
    pub steering: Steering,
    /// Its tags.
    pub tags: Tags,
}

/// The address of a load balancer, as the network driver allocated it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// The network's port that holds it.
    pub port_id: Uuid,
    /// The subnet it is from.
    pub subnet_id: Uuid,
    /// The network of that subnet.
    pub network_id: Uuid,
}

/// One more address of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdditionalVip {
    /// The address.
    pub address: IpAddr,
    /// The subnet it is from.
    pub subnet_id: Uuid,
}

/// The address a tenant asks for; at least one of port, network and subnet is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VipRequest {
    /// An address of the tenant's choice.
    pub address: Option<IpAddr>,
    /// An existing port.
    pub port_id: Option<Uuid>,
    /// A subnet.
    pub subnet_id: Option<Uuid>,
    /// A network.
    pub network_id: Option<Uuid>,
    /// Additional addresses: a subnet each and, if the tenant chose one, the address.
    pub additional: Vec<(Uuid, Option<IpAddr>)>,
}
