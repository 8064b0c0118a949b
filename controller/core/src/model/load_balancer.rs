//! The load balancer (reference 5).

use alloc::{collections::BTreeMap, string::String, vec::Vec};
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
    /// How much may go through it: a policy of the network.
    #[serde(default)]
    pub vip_qos_policy_id: Option<Uuid>,
    /// The security groups that decide who reaches it, instead of its listeners' own rules.
    #[serde(default)]
    pub vip_sg_ids: Vec<Uuid>,
    /// How its amphorae are plugged into the network.
    #[serde(default)]
    pub vip_vnic_type: VnicType,
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
    /// The digests of the secrets that it is to have, by a digest of what they are for and where they lie: another
    /// content behind a reference is another wish, and so another generation. Nothing secret is in them (I13).
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
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

/// How something is plugged into a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VnicType {
    /// By a virtual port.
    #[default]
    Normal,
    /// By a part of the network card itself (SR-IOV).
    Direct,
}

impl VnicType {
    /// Its name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Direct => "direct",
        }
    }
}

/// Where a tenant wants a load balancer to be reached, and under which rules of the network.
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
    /// A policy of the network on how much may go through.
    pub qos_policy_id: Option<Uuid>,
    /// Security groups, each once.
    pub security_group_ids: Vec<Uuid>,
}
