//! What is told of a load balancer.

use krater_amphora_api::{AnnouncementReport, ListenerReport, LoadBalancerReport, PoolReport};

use super::Balancer;

impl Balancer {
    /// This load balancer in the terms of the contract.
    #[must_use]
    pub fn report(&self) -> LoadBalancerReport {
        LoadBalancerReport {
            id: self.snapshot.load_balancer(),
            generation: self.snapshot.generation(),
            listeners: self
                .listeners
                .iter()
                .map(|state| ListenerReport {
                    id: state.listener.id,
                    state: state.serving(),
                    counters: state.shared.meter.counters(),
                    failures: state.shared.meter.failures().named(),
                })
                .collect(),
            pools: self
                .pools
                .iter()
                .map(|state| PoolReport {
                    id: state.pool.id,
                    members: state.members.iter().map(|member| member.report()).collect(),
                })
                .collect(),
            announcement: self.announcement(),
        }
    }

    /// How it stands at its addresses; `None` if it does not take turns, or has not begun to.
    pub(crate) fn announcement(&self) -> Option<AnnouncementReport> {
        let standing = self.standing.as_ref()?.load();
        standing.as_deref().cloned()
    }
}
