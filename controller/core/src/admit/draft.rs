//! A tree while a command is changing it: every row that is touched gets the next generation (I7).

use alloc::{collections::BTreeSet, vec::Vec};

use jiff::Timestamp;
use krater_amphora_api::{
    Generation, HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, MemberId, PoolId,
};
use uuid::Uuid;

use crate::{
    change::Change,
    model::{HealthMonitor, L7Policy, L7Rule, Listener, LoadBalancer, Member, Pool},
    quota::Growth,
    refusal::Refusal,
    resource::ResourceId,
    tree::{LoadBalancerTree, Row, Touch},
};

/// A tree that is being changed.
pub(super) struct Draft<'a> {
    /// The tree as it is so far. Rows are changed through the methods below, which see to their generation.
    pub(super) tree: LoadBalancerTree,
    basis: Option<Generation>,
    /// What stayed in it before.
    before: Growth,
    stamp: Stamp,
    ids: &'a mut dyn FnMut() -> Uuid,
}

/// What a touched row is marked with.
#[derive(Clone, Copy)]
struct Stamp {
    generation: Generation,
    settled: Option<Generation>,
    now: Timestamp,
}

/// In which way a change touches a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// The request named it.
    Named,
    /// Something in it, or that it uses, changes (reference 18.3).
    Along,
    /// It is deleted.
    Leaves,
}

impl<'a> Draft<'a> {
    /// A tree of a load balancer alone, new.
    pub(super) fn of_new(
        balancer: LoadBalancer,
        ids: &'a mut dyn FnMut() -> Uuid,
        now: Timestamp,
    ) -> Self {
        let stamp = Stamp {
            generation: Generation::FIRST,
            settled: None,
            now,
        };
        let tree = LoadBalancerTree {
            load_balancer: stamp.fresh(balancer),
            listeners: Vec::new(),
            pools: Vec::new(),
            members: Vec::new(),
            health_monitors: Vec::new(),
            l7_policies: Vec::new(),
            l7_rules: Vec::new(),
        };
        Self {
            tree,
            basis: None,
            before: Growth::default(),
            stamp,
            ids,
        }
    }

    /// A tree that exists.
    pub(super) fn of_tree(
        tree: LoadBalancerTree,
        settled: Option<Generation>,
        ids: &'a mut dyn FnMut() -> Uuid,
        now: Timestamp,
    ) -> Self {
        let basis = tree.generation();
        // Clocks step back. Within a tree time does not: what a request named is then always the youngest.
        let now = tree
            .facts()
            .map(|facts| facts.changed_at)
            .fold(now, Timestamp::max);
        Self {
            before: Growth::staying(&tree),
            tree,
            basis: Some(basis),
            stamp: Stamp {
                generation: basis.next(),
                settled,
                now,
            },
            ids,
        }
    }

    /// The change, if any of the tree was touched; the load balancer is touched by all of them.
    pub(super) fn finish(mut self, subject: ResourceId) -> Change {
        self.stamp.mark(&mut self.tree.load_balancer, Mark::Along);
        self.into_change(subject)
    }

    /// The change of a command that named the load balancer itself.
    pub(super) fn finish_balancer(mut self, mark: Mark) -> Change {
        self.stamp.mark(&mut self.tree.load_balancer, mark);
        let subject = ResourceId::LoadBalancer(self.tree.id());
        self.into_change(subject)
    }

    /// A change of nothing.
    pub(super) fn unchanged(self, subject: ResourceId) -> Change {
        Change {
            basis: self.basis,
            tree: self.tree,
            touched: Vec::new(),
            growth: Growth::default(),
            subject,
            offers: Vec::new(),
        }
    }

    fn into_change(self, subject: ResourceId) -> Change {
        let generation = self.stamp.generation;
        let touched = self
            .tree
            .facts()
            .filter(|facts| facts.generation == generation)
            .map(|facts| facts.id)
            .collect();
        Change {
            basis: self.basis,
            growth: Growth::staying(&self.tree).since(&self.before),
            tree: self.tree,
            touched,
            subject,
            offers: Vec::new(),
        }
    }

    /// Refuses when the load balancer is being deleted.
    pub(super) fn require_balancer(&self) -> Result<(), Refusal> {
        if self.tree.load_balancer.is_leaving() {
            return Err(Refusal::BeingDeleted(ResourceId::LoadBalancer(
                self.tree.id(),
            )));
        }
        Ok(())
    }

    /// Refuses when the load balancer, or the resource of the row, is being deleted.
    pub(super) fn require_staying<T>(&self, row: &Row<T>, id: ResourceId) -> Result<(), Refusal> {
        self.require_balancer()?;
        if row.is_leaving() {
            return Err(Refusal::BeingDeleted(id));
        }
        Ok(())
    }

    /// A new id.
    pub(super) fn next_id(&mut self) -> Uuid {
        (self.ids)()
    }

    pub(super) fn add_listener(&mut self, listener: Listener) {
        let row = self.stamp.fresh(listener);
        self.tree.listeners.push(row);
    }

    pub(super) fn add_pool(&mut self, pool: Pool) {
        let row = self.stamp.fresh(pool);
        self.tree.pools.push(row);
    }

    pub(super) fn add_member(&mut self, member: Member) {
        let row = self.stamp.fresh(member);
        self.tree.members.push(row);
    }

    pub(super) fn add_health_monitor(&mut self, monitor: HealthMonitor) {
        let row = self.stamp.fresh(monitor);
        self.tree.health_monitors.push(row);
    }

    pub(super) fn add_l7_policy(&mut self, policy: L7Policy) {
        let row = self.stamp.fresh(policy);
        self.tree.l7_policies.push(row);
    }

    pub(super) fn add_l7_rule(&mut self, rule: L7Rule) {
        let row = self.stamp.fresh(rule);
        self.tree.l7_rules.push(row);
    }

    /// Changes the load balancer itself; [`Draft::finish_balancer`] marks it.
    pub(super) const fn balancer_mut(&mut self) -> &mut LoadBalancer {
        &mut self.tree.load_balancer.value
    }

    /// Changes the listeners that `which` picks, of those that stay; so do the others below with their
    /// kind.
    pub(super) fn change_listeners(
        &mut self,
        mark: Mark,
        which: impl Fn(&Listener) -> bool,
        edit: impl FnMut(&mut Listener),
    ) {
        self.stamp
            .change(&mut self.tree.listeners, mark, which, edit);
    }

    pub(super) fn change_listener(
        &mut self,
        id: ListenerId,
        mark: Mark,
        edit: impl FnMut(&mut Listener),
    ) {
        self.change_listeners(mark, |listener| listener.id == id, edit);
    }

    pub(super) fn change_pools(
        &mut self,
        mark: Mark,
        which: impl Fn(&Pool) -> bool,
        edit: impl FnMut(&mut Pool),
    ) {
        self.stamp.change(&mut self.tree.pools, mark, which, edit);
    }

    pub(super) fn change_members(
        &mut self,
        mark: Mark,
        which: impl Fn(&Member) -> bool,
        edit: impl FnMut(&mut Member),
    ) {
        self.stamp.change(&mut self.tree.members, mark, which, edit);
    }

    pub(super) fn change_member(
        &mut self,
        id: MemberId,
        mark: Mark,
        edit: impl FnMut(&mut Member),
    ) {
        self.change_members(mark, |member| member.id == id, edit);
    }

    pub(super) fn change_monitors(
        &mut self,
        mark: Mark,
        which: impl Fn(&HealthMonitor) -> bool,
        edit: impl FnMut(&mut HealthMonitor),
    ) {
        self.stamp
            .change(&mut self.tree.health_monitors, mark, which, edit);
    }

    pub(super) fn change_monitor(
        &mut self,
        id: HealthMonitorId,
        mark: Mark,
        edit: impl FnMut(&mut HealthMonitor),
    ) {
        self.change_monitors(mark, |monitor| monitor.id == id, edit);
    }

    pub(super) fn change_l7_policies(
        &mut self,
        mark: Mark,
        which: impl Fn(&L7Policy) -> bool,
        edit: impl FnMut(&mut L7Policy),
    ) {
        self.stamp
            .change(&mut self.tree.l7_policies, mark, which, edit);
    }

    pub(super) fn change_l7_policy(
        &mut self,
        id: L7PolicyId,
        mark: Mark,
        edit: impl FnMut(&mut L7Policy),
    ) {
        self.change_l7_policies(mark, |policy| policy.id == id, edit);
    }

    pub(super) fn change_l7_rules(
        &mut self,
        mark: Mark,
        which: impl Fn(&L7Rule) -> bool,
        edit: impl FnMut(&mut L7Rule),
    ) {
        self.stamp
            .change(&mut self.tree.l7_rules, mark, which, edit);
    }

    pub(super) fn change_l7_rule(
        &mut self,
        id: L7RuleId,
        mark: Mark,
        edit: impl FnMut(&mut L7Rule),
    ) {
        self.change_l7_rules(mark, |rule| rule.id == id, edit);
    }

    /// Touches what a change in `pool` goes along with: the pool and the listeners that use it (reference 18.3).
    pub(super) fn touch_pool_and_users(&mut self, pool: PoolId) {
        self.change_pools(Mark::Along, |row| row.id == pool, |_| ());
        self.touch_users(pool);
    }

    /// Touches the listeners that use `pool`.
    pub(super) fn touch_users(&mut self, pool: PoolId) {
        let users: BTreeSet<ListenerId> =
            self.tree.users_of(pool).map(|row| row.value.id).collect();
        self.change_listeners(Mark::Along, |listener| users.contains(&listener.id), |_| ());
    }
}

impl Stamp {
    fn fresh<T>(self, value: T) -> Row<T> {
        Row {
            value,
            touch: Touch::Create,
            generation: self.generation,
            created_at: self.now,
            updated_at: None,
        }
    }

    fn change<T>(
        self,
        rows: &mut [Row<T>],
        mark: Mark,
        which: impl Fn(&T) -> bool,
        mut edit: impl FnMut(&mut T),
    ) {
        for row in rows
            .iter_mut()
            .filter(|row| !row.is_leaving() && which(&row.value))
        {
            edit(&mut row.value);
            self.mark(row, mark);
        }
    }

    fn mark<T>(self, row: &mut Row<T>, mark: Mark) {
        // What never was in force is still being created, whatever else is asked of it meanwhile.
        let unborn = row.touch == Touch::Create && row.is_pending(self.settled);
        row.touch = match (mark, row.touch) {
            (Mark::Leaves, _) | (_, Touch::Delete) => Touch::Delete,
            _ if unborn => Touch::Create,
            _ => Touch::Update,
        };
        // A row made by this very change has not been changed since.
        if mark != Mark::Along && row.generation != self.generation {
            row.updated_at = Some(self.now);
        }
        row.generation = self.generation;
    }
}
