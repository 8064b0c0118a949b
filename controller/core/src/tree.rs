//! The load balancer with all its children: the unit of consistency, of ordering and of shipping (D11).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use jiff::Timestamp;
use krater_amphora_api::{
    Generation, HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    model::{HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool, ProjectId},
    resource::ResourceId,
    status::{OperatingStatus, ProvisioningStatus, Reason},
};

/// A resource with what was last done to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<T> {
    /// The resource as the tenant wants it.
    pub value: T,
    /// What the last change was.
    pub touch: Touch,
    /// The generation of the tree that last touched it.
    pub generation: Generation,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed by a request.
    pub updated_at: Option<Timestamp>,
}

impl<T> Row<T> {
    /// Whether it is being deleted: still shown, no longer wanted.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.touch == Touch::Delete
    }

    /// Whether its last change has not settled while `settled` is the generation that did.
    #[must_use]
    pub fn is_pending(&self, settled: Option<Generation>) -> bool {
        settled.is_none_or(|settled| settled < self.generation)
    }
}

/// What was last done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touch {
    /// It was created.
    Create,
    /// It, or something in it, was changed.
    Update,
    /// It was deleted; the row goes when the data plane has let go of it.
    Delete,
}

/// A load balancer with its children, in creation order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancerTree {
    /// The load balancer. Its row's generation is that of the tree: every change of any child touches it.
    pub load_balancer: Row<LoadBalancer>,
    /// Its listeners.
    pub listeners: Vec<Row<Listener>>,
    /// Its pools.
    pub pools: Vec<Row<Pool>>,
    /// The members of all its pools.
    pub members: Vec<Row<Member>>,
    /// The health monitors of its pools, at most one each.
    pub health_monitors: Vec<Row<HealthMonitor>>,
    /// The L7 policies of all its listeners; their order is in their listeners.
    pub l7_policies: Vec<Row<L7Policy>>,
    /// The rules of all its L7 policies.
    pub l7_rules: Vec<Row<L7Rule>>,
}

/// What all rows have in common, whatever kind of resource they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which resource.
    pub id: ResourceId,
    /// What was last done to it.
    pub touch: Touch,
    /// The generation that last touched it.
    pub generation: Generation,
    /// When a request last named it: its creation, or its last change.
    pub changed_at: Timestamp,
}

impl LoadBalancerTree {
    /// A load balancer without children.
    #[must_use]
    pub const fn bare(load_balancer: Row<LoadBalancer>) -> Self {
        Self {
            load_balancer,
            listeners: Vec::new(),
            pools: Vec::new(),
            members: Vec::new(),
            health_monitors: Vec::new(),
            l7_policies: Vec::new(),
            l7_rules: Vec::new(),
        }
    }

    /// Which load balancer this is.
    #[must_use]
    pub const fn id(&self) -> LoadBalancerId {
        self.load_balancer.value.id
    }

    /// Whose it is, with all its children.
    #[must_use]
    pub const fn project(&self) -> &ProjectId {
        &self.load_balancer.value.project
    }

    /// The generation of the tree: that of its load balancer's row.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.load_balancer.generation
    }

    /// The listener of that id, even while it is being deleted; so do the next five.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> Option<&Row<Listener>> {
        self.listeners.iter().find(|row| row.value.id == id)
    }

    /// The pool of that id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> Option<&Row<Pool>> {
        self.pools.iter().find(|row| row.value.id == id)
    }

    /// The member of that id, in whichever pool.
    #[must_use]
    pub fn member(&self, id: MemberId) -> Option<&Row<Member>> {
        self.members.iter().find(|row| row.value.id == id)
    }

    /// The health monitor of that id.
    #[must_use]
    pub fn health_monitor(&self, id: HealthMonitorId) -> Option<&Row<HealthMonitor>> {
        self.health_monitors.iter().find(|row| row.value.id == id)
    }

    /// The L7 policy of that id.
    #[must_use]
    pub fn l7_policy(&self, id: L7PolicyId) -> Option<&Row<L7Policy>> {
        self.l7_policies.iter().find(|row| row.value.id == id)
    }

    /// The L7 rule of that id, in whichever policy.
    #[must_use]
    pub fn l7_rule(&self, id: L7RuleId) -> Option<&Row<L7Rule>> {
        self.l7_rules.iter().find(|row| row.value.id == id)
    }

    /// The listeners that use `pool`, without those being deleted (reference 18.3, "users of a pool").
    pub fn users_of(&self, pool: PoolId) -> impl Iterator<Item = &Row<Listener>> {
        let through = self.listeners_through_policies(pool);
        self.listeners.iter().filter(move |row| {
            let listener = &row.value;
            let uses = listener.default_pool == Some(pool) || through.contains(&listener.id);
            !row.is_leaving() && uses
        })
    }

    /// The listeners with a policy that sends to `pool`: one that is enabled and has a rule (reference 18.3).
    #[must_use]
    pub fn listeners_through_policies(&self, pool: PoolId) -> BTreeSet<ListenerId> {
        let sends: BTreeMap<L7PolicyId, ListenerId> = self
            .l7_policies
            .iter()
            .filter(|row| !row.is_leaving() && row.value.admin_state_up)
            .filter(|row| row.value.action.pool() == Some(&pool))
            .map(|row| (row.value.id, row.value.listener))
            .collect();
        if sends.is_empty() {
            return BTreeSet::new();
        }
        let rules = self.l7_rules.iter().filter(|row| !row.is_leaving());
        rules
            .filter_map(|row| sends.get(&row.value.policy).copied())
            .collect()
    }

    /// The pools that policies of `listener` send to, as [`Self::listeners_through_policies`] says.
    #[must_use]
    pub fn pools_through_policies(&self, listener: ListenerId) -> BTreeSet<PoolId> {
        let sends: BTreeMap<L7PolicyId, PoolId> = self
            .l7_policies
            .iter()
            .filter(|row| !row.is_leaving() && row.value.admin_state_up)
            .filter(|row| row.value.listener == listener)
            .filter_map(|row| Some((row.value.id, *row.value.action.pool()?)))
            .collect();
        if sends.is_empty() {
            return BTreeSet::new();
        }
        let rules = self.l7_rules.iter().filter(|row| !row.is_leaving());
        rules
            .filter_map(|row| sends.get(&row.value.policy).copied())
            .collect()
    }

    /// The policies of `listener` in the order of their positions, those being deleted too.
    #[must_use]
    pub fn policies_of(&self, listener: &Listener) -> Vec<&Row<L7Policy>> {
        let own = self
            .l7_policies
            .iter()
            .filter(|row| row.value.listener == listener.id);
        let own: BTreeMap<L7PolicyId, &Row<L7Policy>> =
            own.map(|row| (row.value.id, row)).collect();
        let order = listener.l7_policies.iter();
        order.filter_map(|id| own.get(id).copied()).collect()
    }

    /// The positions of all policies, from 1 for each listener. One that is being deleted has given its place up: it
    /// is shown where it would be.
    #[must_use]
    pub fn positions(&self) -> BTreeMap<L7PolicyId, u32> {
        let rows: BTreeMap<L7PolicyId, &Row<L7Policy>> = self
            .l7_policies
            .iter()
            .map(|row| (row.value.id, row))
            .collect();
        let mut positions = BTreeMap::new();
        for listener in &self.listeners {
            let mut position = 1_u32;
            for id in &listener.value.l7_policies {
                let Some(row) = rows.get(id) else {
                    continue;
                };
                positions.insert(*id, position);
                if !row.is_leaving() {
                    position = position.saturating_add(1);
                }
            }
        }
        positions
    }

    /// The rules of `policy`, those being deleted too, in creation order.
    pub fn rules_of(&self, policy: L7PolicyId) -> impl Iterator<Item = &Row<L7Rule>> {
        self.l7_rules
            .iter()
            .filter(move |row| row.value.policy == policy)
    }

    /// The members of `pool`, those being deleted too, in creation order.
    pub fn members_of(&self, pool: PoolId) -> impl Iterator<Item = &Row<Member>> {
        self.members
            .iter()
            .filter(move |row| row.value.pool == pool)
    }

    /// The health monitor of `pool`; one that is being deleted only when there is no other.
    #[must_use]
    pub fn monitor_of(&self, pool: PoolId) -> Option<&Row<HealthMonitor>> {
        let monitors = || {
            self.health_monitors
                .iter()
                .filter(move |row| row.value.pool == pool)
        };
        monitors()
            .find(|row| !row.is_leaving())
            .or_else(|| monitors().next())
    }

    /// What all rows have in common, the load balancer's first.
    pub fn facts(&self) -> impl Iterator<Item = Facts> {
        let balancer = facts(ResourceId::LoadBalancer(self.id()), &self.load_balancer);
        let listeners = self
            .listeners
            .iter()
            .map(|row| facts(ResourceId::Listener(row.value.id), row));
        let pools = self
            .pools
            .iter()
            .map(|row| facts(ResourceId::Pool(row.value.id), row));
        let members = self
            .members
            .iter()
            .map(|row| facts(ResourceId::Member(row.value.id), row));
        let monitors = self
            .health_monitors
            .iter()
            .map(|row| facts(ResourceId::HealthMonitor(row.value.id), row));
        let policies = self
            .l7_policies
            .iter()
            .map(|row| facts(ResourceId::L7Policy(row.value.id), row));
        let rules = self
            .l7_rules
            .iter()
            .map(|row| facts(ResourceId::L7Rule(row.value.id), row));
        core::iter::once(balancer)
            .chain(listeners)
            .chain(pools)
            .chain(members)
            .chain(monitors)
            .chain(policies)
            .chain(rules)
    }

    /// Whether the resource is in the tree, even while it is being deleted.
    #[must_use]
    pub fn contains(&self, id: ResourceId) -> bool {
        match id {
            ResourceId::LoadBalancer(id) => self.id() == id,
            ResourceId::Listener(id) => self.listener(id).is_some(),
            ResourceId::Pool(id) => self.pool(id).is_some(),
            ResourceId::Member(id) => self.member(id).is_some(),
            ResourceId::HealthMonitor(id) => self.health_monitor(id).is_some(),
            ResourceId::L7Policy(id) => self.l7_policy(id).is_some(),
            ResourceId::L7Rule(id) => self.l7_rule(id).is_some(),
        }
    }
}

fn facts<T>(id: ResourceId, row: &Row<T>) -> Facts {
    let changed_at = row.updated_at.unwrap_or(row.created_at);
    Facts {
        id,
        touch: row.touch,
        generation: row.generation,
        changed_at,
    }
}

/// What is known of a load balancer from outside the tenant's wishes. Written by reconciler and intake only (I5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The last generation that settled, with success or not.
    pub settled: Option<Generation>,
    /// Why resources are in `ERROR`, by resource id; the load balancer's own id for the whole.
    pub errors: BTreeMap<Uuid, Reason>,
    /// Operating status by resource id, as last reported; absent when nothing was heard yet.
    pub operating: BTreeMap<Uuid, OperatingStatus>,
}

impl Observed {
    /// The provisioning status of a row with the resource id `id` (I7): pending while its generation has not settled,
    /// then the settled outcome.
    #[must_use]
    pub fn provisioning_status<T>(&self, id: Uuid, row: &Row<T>) -> ProvisioningStatus {
        if row.is_pending(self.settled) {
            return match row.touch {
                Touch::Create => ProvisioningStatus::PendingCreate,
                Touch::Update => ProvisioningStatus::PendingUpdate,
                Touch::Delete => ProvisioningStatus::PendingDelete,
            };
        }
        if self.errors.contains_key(&id) {
            return ProvisioningStatus::Error;
        }
        ProvisioningStatus::Active
    }
}

/// A tree with what is known of it: what a query answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeView {
    /// What the tenant wants.
    pub tree: LoadBalancerTree,
    /// What is.
    pub observed: Observed,
}

impl TreeView {
    /// [`Observed::provisioning_status`] of a row of the tree.
    #[must_use]
    pub fn provisioning_status<T>(&self, id: Uuid, row: &Row<T>) -> ProvisioningStatus {
        self.observed.provisioning_status(id, row)
    }

    /// The operating status of a resource: as last reported, else the one its kind begins with (reference 18.5).
    #[must_use]
    pub fn operating_status(&self, id: ResourceId) -> OperatingStatus {
        if let Some(status) = self.observed.operating.get(&id.uuid()) {
            return *status;
        }
        let judged = |pool| {
            self.tree
                .monitor_of(pool)
                .is_some_and(|monitor| !monitor.is_leaving())
        };
        match id {
            ResourceId::Member(id)
                if self
                    .tree
                    .member(id)
                    .is_some_and(|row| !judged(row.value.pool)) =>
            {
                OperatingStatus::NoMonitor
            }
            _ => OperatingStatus::Offline,
        }
    }

    /// Why the resource `id` is in `ERROR`, if it is.
    #[must_use]
    pub fn reason(&self, id: Uuid) -> Option<&Reason> {
        self.observed.errors.get(&id)
    }

    /// Whether anything in the tree has not settled yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.tree.load_balancer.is_pending(self.observed.settled)
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::String, vec::Vec};

    use super::*;
    use crate::{
        command::Command,
        model::PoolProtocol,
        sample::{House, generation, http_kind, new_monitor, new_pool},
    };

    fn reason() -> Reason {
        Reason {
            code: String::from("x"),
            message: String::from("y"),
            step: String::from("apply"),
            heals: true,
        }
    }

    #[test]
    fn a_row_is_pending_exactly_while_its_generation_has_not_settled() {
        let mut view = House::furnished().view();
        let id = view.tree.listeners[0].value.id.uuid();
        for (touch, pending) in [
            (Touch::Create, ProvisioningStatus::PendingCreate),
            (Touch::Update, ProvisioningStatus::PendingUpdate),
            (Touch::Delete, ProvisioningStatus::PendingDelete),
        ] {
            let row = Row {
                touch,
                generation: generation(5),
                ..view.tree.listeners[0].clone()
            };
            for settled in [None, Some(generation(1)), Some(generation(4))] {
                view.observed.settled = settled;
                assert_eq!(view.provisioning_status(id, &row), pending);
            }
            for settled in [generation(5), generation(9)] {
                view.observed.settled = Some(settled);
                view.observed.errors.clear();
                assert_eq!(
                    view.provisioning_status(id, &row),
                    ProvisioningStatus::Active
                );
                view.observed.errors.insert(id, reason());
                assert_eq!(
                    view.provisioning_status(id, &row),
                    ProvisioningStatus::Error
                );
                assert_eq!(view.reason(id), Some(&reason()));
            }
        }
    }

    #[test]
    fn everything_in_a_tree_is_found_by_its_id() {
        let house = House::furnished();
        let tree = &house.tree;
        assert_eq!(tree.facts().count(), 6);
        assert!(tree.facts().all(|facts| tree.contains(facts.id)));
        let nobody = Uuid::nil();
        for id in [
            ResourceId::LoadBalancer(LoadBalancerId::new(nobody)),
            ResourceId::Listener(ListenerId::new(nobody)),
            ResourceId::Pool(PoolId::new(nobody)),
            ResourceId::Member(MemberId::new(nobody)),
            ResourceId::HealthMonitor(HealthMonitorId::new(nobody)),
            ResourceId::L7Policy(L7PolicyId::new(nobody)),
            ResourceId::L7Rule(L7RuleId::new(nobody)),
        ] {
            assert!(!tree.contains(id));
        }
    }

    #[test]
    fn the_parts_of_a_pool_are_told_from_those_of_others() {
        let mut house = House::furnished();
        house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
        let (first, second) = (house.pool(), house.tree.pools[1].value.id);
        assert_eq!(
            (
                house.tree.users_of(first).count(),
                house.tree.users_of(second).count()
            ),
            (1, 0)
        );
        assert_eq!(
            (
                house.tree.members_of(first).count(),
                house.tree.members_of(second).count()
            ),
            (2, 0)
        );
        assert!(house.tree.monitor_of(second).is_none());
    }

    #[test]
    fn a_monitor_that_goes_is_shown_until_another_comes() {
        let mut house = House::furnished();
        let (pool, old) = (house.pool(), house.monitor());
        house.run(Command::DeleteHealthMonitor(old)).unwrap();
        assert_eq!(house.tree.monitor_of(pool).unwrap().value.id, old);
        let new = new_monitor(http_kind());
        house
            .run(Command::CreateHealthMonitor(
                pool,
                alloc::boxed::Box::new(new),
            ))
            .unwrap();
        assert_ne!(house.tree.monitor_of(pool).unwrap().value.id, old);
    }

    #[test]
    fn an_operating_status_begins_as_its_kind_does() {
        let mut house = House::furnished();
        let mut view = house.view();
        let member = ResourceId::Member(house.member(0));
        assert_eq!(view.operating_status(member), OperatingStatus::Offline);
        view.observed
            .operating
            .insert(member.uuid(), OperatingStatus::Online);
        assert_eq!(view.operating_status(member), OperatingStatus::Online);
        house
            .run(Command::DeleteHealthMonitor(house.monitor()))
            .unwrap();
        let view = house.view();
        let statuses: Vec<_> = view
            .tree
            .facts()
            .map(|facts| view.operating_status(facts.id))
            .collect();
        assert_eq!(
            statuses
                .iter()
                .filter(|status| **status == OperatingStatus::NoMonitor)
                .count(),
            2
        );
        let first = crate::rollup::initial(&view.tree);
        assert!(
            view.tree
                .facts()
                .all(|facts| first[&facts.id.uuid()] == view.operating_status(facts.id))
        );
    }
}
