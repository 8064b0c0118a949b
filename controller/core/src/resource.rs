//! A resource of any kind, by its id.

use krater_amphora_api::{
    HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use uuid::Uuid;

/// The child or the load balancer a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResourceId {
    /// A load balancer.
    LoadBalancer(LoadBalancerId),
    /// A listener.
    Listener(ListenerId),
    /// A pool.
    Pool(PoolId),
    /// A member.
    Member(MemberId),
    /// A health monitor.
    HealthMonitor(HealthMonitorId),
    /// An L7 policy.
    L7Policy(L7PolicyId),
    /// An L7 rule.
    L7Rule(L7RuleId),
}

impl ResourceId {
    /// The bare UUID.
    #[must_use]
    pub const fn uuid(self) -> Uuid {
        match self {
            Self::LoadBalancer(id) => id.uuid(),
            Self::Listener(id) => id.uuid(),
            Self::Pool(id) => id.uuid(),
            Self::Member(id) => id.uuid(),
            Self::HealthMonitor(id) => id.uuid(),
            Self::L7Policy(id) => id.uuid(),
            Self::L7Rule(id) => id.uuid(),
        }
    }

    /// What the API calls the kind in "… not found" (reference 1.6).
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::LoadBalancer(_) => "Load Balancer",
            Self::Listener(_) => "Listener",
            Self::Pool(_) => "Pool",
            Self::Member(_) => "Member",
            Self::HealthMonitor(_) => "Health Monitor",
            Self::L7Policy(_) => "L7 Policy",
            Self::L7Rule(_) => "L7 Rule",
        }
    }
}
