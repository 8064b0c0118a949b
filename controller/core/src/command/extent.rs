//! What a command reaches, as far as it says so by itself.

use super::Command;
use crate::{quota::Growth, resource::ResourceId};

impl Command {
    /// The resource that the command changes or deletes; none when it creates one.
    #[must_use]
    pub const fn names(&self) -> Option<ResourceId> {
        Some(match self {
            Self::CreateLoadBalancer(_)
            | Self::CreateListener(..)
            | Self::CreatePool(..)
            | Self::CreateMember(..)
            | Self::CreateHealthMonitor(..)
            | Self::CreateL7Policy(..)
            | Self::CreateL7Rule(..) => return None,
            Self::UpdateLoadBalancer(id, _)
            | Self::DeleteLoadBalancer(id, _)
            | Self::FailOver(id, ..) => ResourceId::LoadBalancer(*id),
            Self::UpdateListener(id, _) | Self::DeleteListener(id) => ResourceId::Listener(*id),
            Self::UpdatePool(id, _) | Self::DeletePool(id) | Self::BatchMembers(id, _, _) => {
                ResourceId::Pool(*id)
            }
            Self::UpdateMember(_, id, _) | Self::DeleteMember(_, id) => ResourceId::Member(*id),
            Self::UpdateHealthMonitor(id, _) | Self::DeleteHealthMonitor(id) => {
                ResourceId::HealthMonitor(*id)
            }
            Self::UpdateL7Policy(id, _) | Self::DeleteL7Policy(id) => ResourceId::L7Policy(*id),
            Self::UpdateL7Rule(_, id, _) | Self::DeleteL7Rule(_, id) => ResourceId::L7Rule(*id),
        })
    }

    /// What the command creates at least, as far as it says by itself: for what must be judged before, or although it
    /// cannot be, admitted. Exactly it is [`crate::change::Change::growth`].
    #[must_use]
    pub fn creates(&self) -> Growth {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let mut growth = Growth::default();
        match self {
            Self::CreateLoadBalancer(new) => {
                let monitors = new
                    .pools
                    .iter()
                    .filter(|pool| pool.health_monitor.is_some());
                growth.load_balancer = 1;
                growth.listener = count(new.listeners.len());
                growth.pool = count(new.pools.len());
                growth.member = count(new.pools.iter().map(|pool| pool.members.len()).sum());
                growth.health_monitor = count(monitors.count());
                let policies = || {
                    new.listeners
                        .iter()
                        .flat_map(|listener| &listener.l7_policies)
                };
                growth.l7_policy = count(policies().count());
                growth.l7_rule = count(policies().map(|policy| policy.rules.len()).sum());
            }
            Self::CreateListener(..) => growth.listener = 1,
            Self::CreatePool(..) => growth.pool = 1,
            Self::CreateMember(..) => growth.member = 1,
            Self::CreateHealthMonitor(..) => growth.health_monitor = 1,
            Self::CreateL7Policy(..) => growth.l7_policy = 1,
            Self::CreateL7Rule(..) => growth.l7_rule = 1,
            _ => {}
        }
        growth
    }
}
