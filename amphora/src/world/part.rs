//! What can be part of one load balancer only.

use krater_amphora_api::{ListenerId, LoadBalancerId, MemberId, PoolId, Rejection, Subject};
use krater_amphora_core::snapshot::Snapshot;

/// Something that is filed under its id alone, so that no two load balancers may have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A listener.
    Listener(ListenerId),
    /// A pool.
    Pool(PoolId),
    /// A member of a pool.
    Member(MemberId),
}

impl Part {
    /// All parts of a load balancer.
    pub fn all_of(snapshot: &Snapshot) -> impl Iterator<Item = Self> {
        let listeners = snapshot.listeners().iter();
        let pools = snapshot.pools().iter();
        let members = pools.clone().flat_map(|pool| &pool.members);
        listeners
            .map(|listener| Self::Listener(listener.id))
            .chain(pools.map(|pool| Self::Pool(pool.id)))
            .chain(members.map(|member| Self::Member(member.id)))
    }

    /// Why another load balancer may not have what is part of `owner`.
    #[must_use]
    pub fn taken_by(self, owner: LoadBalancerId) -> Rejection {
        let (subject, kind) = match self {
            Self::Listener(id) => (Subject::Listener(id), "listener"),
            Self::Pool(id) => (Subject::Pool(id), "pool"),
            Self::Member(id) => (Subject::Member(id), "member"),
        };
        Rejection {
            subject,
            reason: format!("the {kind} is already part of load balancer {owner}"),
        }
    }
}
