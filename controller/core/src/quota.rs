//! How many resources of each kind a project may have (reference 12).

use alloc::vec::Vec;

use crate::{
    resource::ResourceId,
    tree::{LoadBalancerTree, Touch},
};

/// The kinds of resources that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counted {
    /// Load balancers.
    LoadBalancer,
    /// Listeners.
    Listener,
    /// Pools.
    Pool,
    /// Members.
    Member,
    /// Health monitors.
    HealthMonitor,
    /// L7 policies.
    L7Policy,
    /// L7 rules.
    L7Rule,
}

impl Counted {
    /// All of them, in the order in which a request that breaks several quotas is told of one.
    pub const ALL: [Self; 7] = [
        Self::LoadBalancer,
        Self::Listener,
        Self::Pool,
        Self::Member,
        Self::HealthMonitor,
        Self::L7Policy,
        Self::L7Rule,
    ];

    /// The kind of a resource.
    #[must_use]
    pub const fn of(id: ResourceId) -> Self {
        match id {
            ResourceId::LoadBalancer(_) => Self::LoadBalancer,
            ResourceId::Listener(_) => Self::Listener,
            ResourceId::Pool(_) => Self::Pool,
            ResourceId::Member(_) => Self::Member,
            ResourceId::HealthMonitor(_) => Self::HealthMonitor,
            ResourceId::L7Policy(_) => Self::L7Policy,
            ResourceId::L7Rule(_) => Self::L7Rule,
        }
    }

    /// The key under which the API shows one.
    #[must_use]
    pub const fn root(self) -> &'static str {
        match self {
            Self::LoadBalancer => "loadbalancer",
            Self::Listener => "listener",
            Self::Pool => "pool",
            Self::Member => "member",
            Self::HealthMonitor => "healthmonitor",
            Self::L7Policy => "l7policy",
            Self::L7Rule => "rule",
        }
    }

    /// What the API calls the kind in "Quota has been met for resources: …" (reference 1.6).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoadBalancer => "Load Balancer",
            Self::Listener => "Listener",
            Self::Pool => "Pool",
            Self::Member => "Member",
            Self::HealthMonitor => "Health Monitor",
            Self::L7Policy => "L7 Policy",
            Self::L7Rule => "L7 Rule",
        }
    }
}

/// One value per kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerKind<T> {
    /// Of load balancers.
    pub load_balancer: T,
    /// Of listeners.
    pub listener: T,
    /// Of pools.
    pub pool: T,
    /// Of members.
    pub member: T,
    /// Of health monitors.
    pub health_monitor: T,
    /// Of L7 policies.
    pub l7_policy: T,
    /// Of L7 rules.
    pub l7_rule: T,
}

impl<T> PerKind<T> {
    /// The value of a kind.
    #[must_use]
    pub const fn get(&self, kind: Counted) -> &T {
        match kind {
            Counted::LoadBalancer => &self.load_balancer,
            Counted::Listener => &self.listener,
            Counted::Pool => &self.pool,
            Counted::Member => &self.member,
            Counted::HealthMonitor => &self.health_monitor,
            Counted::L7Policy => &self.l7_policy,
            Counted::L7Rule => &self.l7_rule,
        }
    }

    /// The place of the value of a kind.
    #[must_use]
    pub const fn get_mut(&mut self, kind: Counted) -> &mut T {
        match kind {
            Counted::LoadBalancer => &mut self.load_balancer,
            Counted::Listener => &mut self.listener,
            Counted::Pool => &mut self.pool,
            Counted::Member => &mut self.member,
            Counted::HealthMonitor => &mut self.health_monitor,
            Counted::L7Policy => &mut self.l7_policy,
            Counted::L7Rule => &mut self.l7_rule,
        }
    }

    /// One value per kind, made by `make`.
    pub fn of(mut make: impl FnMut(Counted) -> T) -> Self {
        Self {
            load_balancer: make(Counted::LoadBalancer),
            listener: make(Counted::Listener),
            pool: make(Counted::Pool),
            member: make(Counted::Member),
            health_monitor: make(Counted::HealthMonitor),
            l7_policy: make(Counted::L7Policy),
            l7_rule: make(Counted::L7Rule),
        }
    }
}

/// How many more, or fewer, there are to be of each kind.
pub type Growth = PerKind<i64>;

impl Growth {
    /// The resources of a tree that stay, by kind.
    #[must_use]
    pub fn staying(tree: &LoadBalancerTree) -> Self {
        let mut count = Self::default();
        for facts in tree.facts().filter(|facts| facts.touch != Touch::Delete) {
            *count.get_mut(Counted::of(facts.id)) += 1;
        }
        count
    }

    /// From `before` to this.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self::of(|kind| self.get(kind).saturating_sub(*before.get(kind)))
    }

    /// The kinds there are to be more of, and how many.
    pub fn more(&self) -> impl Iterator<Item = (Counted, u64)> {
        let more = |kind| {
            let more = u64::try_from(*self.get(kind)).unwrap_or(0);
            (more > 0).then_some((kind, more))
        };
        let kinds: Vec<_> = Counted::ALL.into_iter().filter_map(more).collect();
        kinds.into_iter()
    }
}

/// The most of one kind that a project may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Limit {
    /// As many as it likes.
    #[default]
    Unlimited,
    /// So many; with 0 there can be none.
    AtMost(u32),
}

impl Limit {
    /// The largest there is (reference 12).
    pub const MAX: i64 = 2_000_000_000;
    /// How the API writes that there is none.
    pub const UNLIMITED: i64 = -1;

    /// Takes a number as the API writes it; `None` when it is out of bounds.
    #[must_use]
    pub fn from_number(number: i64) -> Option<Self> {
        match number {
            Self::UNLIMITED => Some(Self::Unlimited),
            0..=Self::MAX => u32::try_from(number).ok().map(Self::AtMost),
            _ => None,
        }
    }

    /// The number the API writes for it.
    #[must_use]
    pub fn number(self) -> i64 {
        match self {
            Self::Unlimited => Self::UNLIMITED,
            Self::AtMost(most) => i64::from(most),
        }
    }

    /// How many there may be before `more` come; `None` when any number will do. Not even none when the inner one is.
    #[must_use]
    pub fn before(self, more: u64) -> Option<Option<u64>> {
        match self {
            Self::Unlimited => None,
            Self::AtMost(most) => Some(u64::from(most).checked_sub(more)),
        }
    }
}

/// The most of each kind that a project may have.
pub type Limits = PerKind<Limit>;

/// What was set for one project; what was not is as configured.
pub type QuotaRecord = PerKind<Option<Limit>>;

impl QuotaRecord {
    /// What holds for the project where `defaults` are configured.
    #[must_use]
    pub fn over(&self, defaults: &Limits) -> Limits {
        Limits::of(|kind| self.get(kind).unwrap_or(*defaults.get(kind)))
    }

    /// The record as an update leaves it.
    #[must_use]
    pub fn updated(&self, update: &QuotaUpdate) -> Self {
        Self::of(|kind| update.get(kind).unwrap_or(*self.get(kind)))
    }
}

/// What is to be set for a project: nothing, the default again, or a limit.
pub type QuotaUpdate = PerKind<Option<Option<Limit>>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command::{BatchMode, Cascade, Command},
        sample::{House, entry},
    };

    #[test]
    fn limits_are_written_as_the_reference_does() {
        for (number, limit) in [
            (-1, Some(Limit::Unlimited)),
            (0, Some(Limit::AtMost(0))),
            (2_000_000_000, Some(Limit::AtMost(2_000_000_000))),
            (-2, None),
            (2_000_000_001, None),
            (i64::MIN, None),
            (i64::MAX, None),
        ] {
            assert_eq!(Limit::from_number(number), limit, "{number}");
            if let Some(limit) = limit {
                assert_eq!(limit.number(), number);
            }
        }
    }

    #[test]
    fn what_is_not_set_is_as_configured_and_can_be_so_again() {
        let defaults = Limits {
            pool: Limit::AtMost(5),
            ..Limits::default()
        };
        let update = QuotaUpdate {
            pool: Some(Some(Limit::AtMost(9))),
            member: Some(Some(Limit::AtMost(0))),
            ..QuotaUpdate::default()
        };
        let record = QuotaRecord::default().updated(&update);
        let limits = record.over(&defaults);
        assert_eq!(limits.pool, Limit::AtMost(9));
        assert_eq!(limits.member, Limit::AtMost(0));
        assert_eq!(limits.listener, Limit::Unlimited);
        let back = QuotaUpdate {
            pool: Some(None),
            ..QuotaUpdate::default()
        };
        let limits = record.updated(&back).over(&defaults);
        assert_eq!(limits.pool, Limit::AtMost(5));
        assert_eq!(limits.member, Limit::AtMost(0), "what is left out stays");
    }

    #[test]
    fn a_change_grows_a_tree_by_what_comes_less_what_leaves() {
        let mut house = House::furnished();
        let pool = house.pool();
        // Two members; one stays, one leaves, two come.
        let kept = house.tree.members[0].value.address;
        let port = house.tree.members[0].value.protocol_port;
        let entries = [
            (alloc::string::ToString::to_string(&kept), port),
            ("10.9.0.1".into(), 80),
            ("10.9.0.2".into(), 80),
        ];
        let entries = entries.map(|(address, port)| entry(&address, port));
        let batch = Command::BatchMembers(pool, entries.into(), BatchMode::Replace);
        let growth = house.run(batch).unwrap().growth;
        assert_eq!(growth.member, 1);
        assert_eq!(growth.more().collect::<Vec<_>>(), [(Counted::Member, 1)]);
        let all = Command::DeleteLoadBalancer(house.id(), Cascade::WithChildren);
        let growth = house.run(all).unwrap().growth;
        assert_eq!(
            growth,
            Growth {
                load_balancer: -1,
                listener: -1,
                pool: -1,
                member: -3,
                health_monitor: -1,
                ..Growth::default()
            }
        );
        assert_eq!(growth.more().count(), 0);
    }

    #[test]
    fn every_kind_has_a_place_of_its_own() {
        let mut places = PerKind::of(|_| 0);
        for (number, kind) in Counted::ALL.into_iter().enumerate() {
            *places.get_mut(kind) = number + 1;
        }
        let read: Vec<_> = Counted::ALL
            .into_iter()
            .map(|kind| *places.get(kind))
            .collect();
        assert_eq!(read, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(PerKind::of(|kind| *places.get(kind)), places);
    }
}
