//! All that tenants and operators may ask to be changed (D6). Holding a [`Command`] means it is well formed; not that
//! it is permitted or admissible.

use alloc::{boxed::Box, collections::BTreeSet, string::String, vec::Vec};
use core::net::IpAddr;

use krater_amphora_api::{
    AmphoraId, HealthMonitorId, HttpVersion, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId,
    MemberId, PoolId,
};
use uuid::Uuid;

use crate::{
    model::{
        Chosen, Description, Hsts, InsertHeaders, LbAlgorithm, ListenerProtocol, ListenerTls, Name,
        PoolProtocol, PoolTls, ProjectId, SessionPersistence, Tags, Timeouts, VipRequest,
    },
    quota::QuotaUpdate,
    refusal::Refusal,
    resource::ResourceId,
};

mod extent;
mod l7;
mod tls;

pub use l7::{L7PolicyUpdate, L7RuleUpdate, NewL7Policy, NewL7Rule, Redirect};
pub use tls::{HstsUpdate, ListenerTlsUpdate, PersistenceUpdate, PoolTlsUpdate, TlsTermsUpdate};

/// A change somebody asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// POST /loadbalancers, with or without children (reference 17).
    CreateLoadBalancer(Box<NewLoadBalancer>),
    /// PUT /loadbalancers/{id}
    UpdateLoadBalancer(LoadBalancerId, LoadBalancerUpdate),
    /// DELETE /loadbalancers/{id}
    DeleteLoadBalancer(LoadBalancerId, Cascade),
    /// PUT /loadbalancers/{id}/failover: away from this amphora. Nothing is left while it is on none, or on its way;
    /// then, and when it was there no more, nothing changes.
    FailOver(LoadBalancerId, Option<AmphoraId>, Option<AmphoraId>),
    /// POST /listeners
    CreateListener(LoadBalancerId, Box<NewListener>),
    /// PUT /listeners/{id}
    UpdateListener(ListenerId, Box<ListenerUpdate>),
    /// DELETE /listeners/{id}
    DeleteListener(ListenerId),
    /// POST /pools
    CreatePool(PoolParent, Box<NewPool>),
    /// PUT /pools/{id}
    UpdatePool(PoolId, Box<PoolUpdate>),
    /// DELETE /pools/{id}
    DeletePool(PoolId),
    /// POST /pools/{id}/members
    CreateMember(PoolId, Box<NewMember>),
    /// PUT /pools/{id}/members/{id}
    UpdateMember(PoolId, MemberId, MemberUpdate),
    /// DELETE /pools/{id}/members/{id}
    DeleteMember(PoolId, MemberId),
    /// PUT /pools/{id}/members
    BatchMembers(PoolId, Vec<BatchMember>, BatchMode),
    /// POST /healthmonitors
    CreateHealthMonitor(PoolId, Box<NewHealthMonitor>),
    /// PUT /healthmonitors/{id}
    UpdateHealthMonitor(HealthMonitorId, Box<HealthMonitorUpdate>),
    /// DELETE /healthmonitors/{id}
    DeleteHealthMonitor(HealthMonitorId),
    /// POST /l7policies
    CreateL7Policy(ListenerId, Box<NewL7Policy>),
    /// PUT /l7policies/{id}
    UpdateL7Policy(L7PolicyId, Box<L7PolicyUpdate>),
    /// DELETE /l7policies/{id}
    DeleteL7Policy(L7PolicyId),
    /// POST /l7policies/{id}/rules
    CreateL7Rule(L7PolicyId, Box<NewL7Rule>),
    /// PUT /l7policies/{id}/rules/{id}
    UpdateL7Rule(L7PolicyId, L7RuleId, L7RuleUpdate),
    /// DELETE /l7policies/{id}/rules/{id}
    DeleteL7Rule(L7PolicyId, L7RuleId),
}

impl Command {
    /// The resource whose tree the command is admitted against; `None` when it makes a tree of its own. (A pool that
    /// names no parent at all is not well formed and has no target either.)
    #[must_use]
    pub const fn target(&self) -> Option<ResourceId> {
        Some(match self {
            Self::CreateLoadBalancer(_) => return None,
            Self::UpdateLoadBalancer(id, _)
            | Self::DeleteLoadBalancer(id, _)
            | Self::FailOver(id, ..)
            | Self::CreateListener(id, _) => ResourceId::LoadBalancer(*id),
            Self::UpdateListener(id, _)
            | Self::DeleteListener(id)
            | Self::CreateL7Policy(id, _) => ResourceId::Listener(*id),
            Self::CreatePool(parent, _) => match (parent.load_balancer, parent.listener) {
                (Some(id), _) => ResourceId::LoadBalancer(id),
                (None, Some(id)) => ResourceId::Listener(id),
                (None, None) => return None,
            },
            Self::UpdatePool(id, _)
            | Self::DeletePool(id)
            | Self::CreateMember(id, _)
            | Self::UpdateMember(id, _, _)
            | Self::DeleteMember(id, _)
            | Self::BatchMembers(id, _, _)
            | Self::CreateHealthMonitor(id, _) => ResourceId::Pool(*id),
            Self::UpdateHealthMonitor(id, _) | Self::DeleteHealthMonitor(id) => {
                ResourceId::HealthMonitor(*id)
            }
            Self::UpdateL7Policy(id, _)
            | Self::DeleteL7Policy(id)
            | Self::CreateL7Rule(id, _)
            | Self::UpdateL7Rule(id, _, _)
            | Self::DeleteL7Rule(id, _) => ResourceId::L7Policy(*id),
        })
    }

    /// The refusal when `target`, the command's own, is nowhere: for members their pool is a part of the path, for
    /// rules their policy (reference 1.5).
    #[must_use]
    pub const fn target_missing(&self, target: ResourceId) -> Refusal {
        match self {
            Self::CreateMember(pool, _)
            | Self::UpdateMember(pool, _, _)
            | Self::DeleteMember(pool, _)
            | Self::BatchMembers(pool, _, _) => Refusal::ParentPoolNotFound(*pool),
            Self::CreateL7Rule(policy, _)
            | Self::UpdateL7Rule(policy, _, _)
            | Self::DeleteL7Rule(policy, _) => Refusal::ParentPolicyNotFound(*policy),
            _ => Refusal::NotFound(target),
        }
    }

    /// The subnets that members of the command are to be reached through, which must exist (reference 8.3).
    #[must_use]
    pub fn member_subnets(&self) -> BTreeSet<Uuid> {
        match self {
            Self::CreateLoadBalancer(new) => new.member_subnets(),
            Self::CreatePool(_, new) => new
                .members
                .iter()
                .filter_map(|member| member.subnet_id)
                .collect(),
            Self::CreateMember(_, new) => new.subnet_id.into_iter().collect(),
            Self::BatchMembers(_, entries, _) => entries
                .iter()
                .filter_map(|entry| entry.member.subnet_id)
                .collect(),
            _ => BTreeSet::new(),
        }
    }
}

/// A change of what a project may have, which no tree takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaCommand {
    /// PUT /quotas/{project}
    Set(ProjectId, QuotaUpdate),
    /// DELETE /quotas/{project}
    Reset(ProjectId),
}

/// A change of the fleet rather than of what tenants asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// PUT /amphorae/{id}/failover: what it carries moves to others, then it ends.
    FailOver(AmphoraId),
    /// PUT /amphorae/{id}/config: it gets a new certificate, and everything it carries once more.
    Configure(AmphoraId),
    /// POST /krater/v1/amphorae/{id}/upgrade: the program that is on its host's disk takes over.
    Upgrade(AmphoraId),
    /// POST /krater/v1/secrets/refresh: all secrets in use are read again.
    RefreshSecrets,
    /// DELETE /amphorae/{id}: as a failover, but only of one that is silent or carries nothing.
    Delete(AmphoraId),
}

/// Whether deleting a load balancer takes its children along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cascade {
    /// With all children.
    WithChildren,
    /// Only when it has none.
    OnlyIfEmpty,
}

/// What happens to members that a batch does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchMode {
    /// They are deleted.
    Replace,
    /// They stay (`additive_only`).
    Additive,
}

/// A field of an update: left out, or set (null already turned into what null means for that field).
pub type Set<T> = Option<T>;

/// A load balancer to create, with its children. Ids are not chosen yet: pools are referred to by position.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLoadBalancer {
    /// The project asked for; the caller's own when `None`.
    pub project: Option<ProjectId>,
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// Whether it is to answer.
    pub admin_state_up: bool,
    /// The address wanted.
    pub vip: VipRequest,
    /// The provider as named; `None` is the flavor's, or the default.
    pub provider: Option<String>,
    /// The flavor named.
    pub flavor_id: Option<Uuid>,
    /// The availability zone named.
    pub availability_zone: Option<String>,
    /// What both make of it; nothing until the catalogue was asked.
    pub chosen: Chosen,
    /// Its tags.
    pub tags: Tags,
    /// Its listeners. A `default_pool` of theirs is [`PoolRef::New`].
    pub listeners: Vec<NewListener>,
    /// Its pools, those given inline hoisted to here.
    pub pools: Vec<NewPool>,
}

impl NewLoadBalancer {
    /// The subnets that its members are to be reached through.
    #[must_use]
    pub fn member_subnets(&self) -> BTreeSet<Uuid> {
        self.pools
            .iter()
            .flat_map(|pool| &pool.members)
            .filter_map(|member| member.subnet_id)
            .collect()
    }
}

/// How a new listener names its default pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRef {
    /// A pool that exists.
    Existing(PoolId),
    /// The n-th pool of the same request.
    New(usize),
}

/// Changes of a load balancer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadBalancerUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Description.
    pub description: Set<Description>,
    /// Whether it is to answer.
    pub admin_state_up: Set<bool>,
    /// Policy of the network; `None` takes it away.
    pub vip_qos_policy_id: Set<Option<Uuid>>,
    /// Security groups, each once.
    pub vip_sg_ids: Set<Vec<Uuid>>,
    /// Tags.
    pub tags: Set<Tags>,
}

/// A listener to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewListener {
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// Whether the port is to be open.
    pub admin_state_up: bool,
    /// What clients speak.
    pub protocol: ListenerProtocol,
    /// The port.
    pub protocol_port: u16,
    /// Concurrent connections; `None` is the default.
    pub connection_limit: Option<u32>,
    /// Where connections go.
    pub default_pool: Option<PoolRef>,
    /// Networks clients may come from, masked and without duplicates.
    pub allowed_cidrs: Vec<String>,
    /// Timers.
    pub timeouts: Timeouts,
    /// Headers to add.
    pub insert_headers: InsertHeaders,
    /// TLS toward clients.
    pub tls: ListenerTls,
    /// What browsers are told about coming back over TLS.
    pub hsts: Hsts,
    /// Its L7 policies, in the order in which they are to be created; only with a whole tree.
    pub l7_policies: Vec<NewL7Policy>,
    /// Its tags.
    pub tags: Tags,
}

/// Changes of a listener. Null has become the value null means (reference 6.2, last column).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ListenerUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Description.
    pub description: Set<Description>,
    /// Whether the port is open.
    pub admin_state_up: Set<bool>,
    /// Concurrent connections.
    pub connection_limit: Set<Option<u32>>,
    /// Where connections go.
    pub default_pool: Set<Option<PoolId>>,
    /// Networks clients may come from.
    pub allowed_cidrs: Set<Vec<String>>,
    /// Client inactivity, ms.
    pub client_data_ms: Set<u32>,
    /// Connecting to a member, ms.
    pub member_connect_ms: Set<u32>,
    /// Member inactivity, ms.
    pub member_data_ms: Set<u32>,
    /// Wait for the client's first bytes, ms.
    pub tcp_inspect_ms: Set<u32>,
    /// Headers to add; replaces the whole map.
    pub insert_headers: Set<InsertHeaders>,
    /// TLS toward clients.
    pub tls: ListenerTlsUpdate,
    /// What browsers are told about coming back over TLS.
    pub hsts: HstsUpdate,
    /// Tags.
    pub tags: Set<Tags>,
}

/// Under what a pool is created: one of both is given, or both (reference 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolParent {
    /// The load balancer.
    pub load_balancer: Option<LoadBalancerId>,
    /// The listener whose default pool it becomes.
    pub listener: Option<ListenerId>,
}

/// A pool to create. Members and monitor only come with a whole tree.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPool {
    /// Its name.
    pub name: Name,
    /// Its description.
    pub description: Description,
    /// Whether it is used.
    pub admin_state_up: bool,
    /// What members speak.
    pub protocol: PoolProtocol,
    /// How a member is chosen.
    pub lb_algorithm: LbAlgorithm,
    /// How a client is kept with its member.
    pub session_persistence: Option<SessionPersistence>,
    /// TLS toward members.
    pub tls: PoolTls,
    /// Its tags.
    pub tags: Tags,
    /// Its members.
    pub members: Vec<NewMember>,
    /// Its monitor.
    pub health_monitor: Option<NewHealthMonitor>,
}

/// Changes of a pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Description.
    pub description: Set<Description>,
    /// Whether it is used.
    pub admin_state_up: Set<bool>,
    /// How a member is chosen.
    pub lb_algorithm: Set<LbAlgorithm>,
    /// How a client is kept with its member; replaces the whole object but for its type.
    pub session_persistence: Set<Option<PersistenceUpdate>>,
    /// TLS toward members.
    pub tls: PoolTlsUpdate,
    /// Tags.
    pub tags: Set<Tags>,
}

/// A member to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewMember {
    /// Its name.
    pub name: Name,
    /// Whether it is in rotation.
    pub admin_state_up: bool,
    /// Where it listens.
    pub address: IpAddr,
    /// The port it listens on.
    pub protocol_port: u16,
    /// Its share, 0–256.
    pub weight: u16,
    /// Used only while no other can be.
    pub backup: bool,
    /// The subnet through which it is reached.
    pub subnet_id: Option<Uuid>,
    /// Probed instead of `address`.
    pub monitor_address: Option<IpAddr>,
    /// Probed instead of `protocol_port`.
    pub monitor_port: Option<u16>,
    /// Whether it is to be reached through a part of a network card (SR-IOV).
    pub request_sriov: bool,
    /// Its tags.
    pub tags: Tags,
}

/// Changes of a member.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Whether it is in rotation.
    pub admin_state_up: Set<bool>,
    /// Its share.
    pub weight: Set<u16>,
    /// Used only while no other can be.
    pub backup: Set<bool>,
    /// Probed instead of `address`.
    pub monitor_address: Set<Option<IpAddr>>,
    /// Probed instead of `protocol_port`.
    pub monitor_port: Set<Option<u16>>,
    /// Tags.
    pub tags: Set<Tags>,
}

/// One entry of a batch (reference 8.4): the match key and POST defaults are in `member`; what keeps its old value
/// when omitted is told apart here.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchMember {
    /// The member with the defaults of a POST filled in.
    pub member: NewMember,
    /// `false`: an existing member keeps its name.
    pub names: bool,
    /// `false`: an existing member keeps its tags.
    pub tags: bool,
    /// `false`: an existing member keeps its subnet.
    pub subnet: bool,
}

/// A health monitor to create.
#[derive(Clone, Debug, PartialEq)]
pub struct NewHealthMonitor {
    /// Its name.
    pub name: Name,
    /// Whether it probes.
    pub admin_state_up: bool,
    /// What a probe does, defaults filled in.
    pub kind: crate::model::MonitorKind,
    /// Seconds between probes.
    pub delay_seconds: u32,
    /// Seconds a probe may take.
    pub timeout_seconds: u32,
    /// Rise.
    pub max_retries: u8,
    /// Fall.
    pub max_retries_down: u8,
    /// Its tags.
    pub tags: Tags,
}

/// Changes of a health monitor. Whether the HTTP fields fit its type is for `admit` to say, since only the stored
/// monitor knows its type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthMonitorUpdate {
    /// Name.
    pub name: Set<Name>,
    /// Whether it probes.
    pub admin_state_up: Set<bool>,
    /// Seconds between probes.
    pub delay_seconds: Set<u32>,
    /// Seconds a probe may take.
    pub timeout_seconds: Set<u32>,
    /// Rise.
    pub max_retries: Set<u8>,
    /// Fall.
    pub max_retries_down: Set<u8>,
    /// Method, HTTP only.
    pub http_method: Set<String>,
    /// Path, HTTP only.
    pub url_path: Set<String>,
    /// Codes as written and parsed, HTTP only.
    pub expected_codes: Set<(String, Vec<krater_amphora_api::ExpectedCodes>)>,
    /// Version in the request line.
    pub http_version: Set<Option<HttpVersion>>,
    /// Host header.
    pub domain_name: Set<Option<String>>,
    /// Tags.
    pub tags: Set<Tags>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{new_balancer, new_pool};

    #[test]
    fn a_command_is_admitted_against_the_tree_of_what_it_names() {
        let id = Uuid::from_u128(4);
        let (balancer, listener, pool) = (
            LoadBalancerId::new(id),
            ListenerId::new(id),
            PoolId::new(id),
        );
        let create_pool = |load_balancer, listener| {
            let new = new_pool(PoolProtocol::Tcp);
            Command::CreatePool(
                PoolParent {
                    load_balancer,
                    listener,
                },
                Box::new(new),
            )
            .target()
        };
        assert_eq!(
            Command::CreateLoadBalancer(Box::new(new_balancer())).target(),
            None
        );
        let update = Command::UpdateLoadBalancer(balancer, LoadBalancerUpdate::default());
        assert_eq!(update.target(), Some(ResourceId::LoadBalancer(balancer)));
        assert_eq!(
            Command::DeleteListener(listener).target(),
            Some(ResourceId::Listener(listener))
        );
        assert_eq!(
            create_pool(Some(balancer), Some(listener)),
            Some(ResourceId::LoadBalancer(balancer))
        );
        assert_eq!(
            create_pool(None, Some(listener)),
            Some(ResourceId::Listener(listener))
        );
        assert_eq!(create_pool(None, None), None);
        let member = Command::DeleteMember(pool, MemberId::new(id));
        assert_eq!(member.target(), Some(ResourceId::Pool(pool)));
        let monitor = HealthMonitorId::new(id);
        let target = ResourceId::HealthMonitor(monitor);
        assert_eq!(Command::DeleteHealthMonitor(monitor).target(), Some(target));
        assert_eq!(
            Command::DeleteHealthMonitor(monitor).target_missing(target),
            Refusal::NotFound(target)
        );
    }
}
