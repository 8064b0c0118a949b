//! What amphorae report → operating status of every resource (reference 18.5).
//!
//! Where several amphorae carry a load balancer the worst of what they say counts: what one of them cannot do,
//! clients notice.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    vec::Vec,
};

use krater_amphora_api::{
    Generation, ListenerId, ListenerReport, ListenerState, LoadBalancerReport, MemberHealth,
    MemberId, PoolId,
};
use uuid::Uuid;

use crate::{
    blame::STEP_BIND,
    model::{Listener, Member, Pool},
    status::{OperatingStatus, Reason},
    tree::{LoadBalancerTree, Row, Touch},
};

/// Rolls reports of a load balancer up: one of each amphora that carries it.
///
/// Ids that are absent from the answer keep the status they have, or the first one a resource of their kind has
/// (see [`initial`]). Without any report that is all of them.
#[must_use]
pub fn rollup(
    tree: &LoadBalancerTree,
    reports: &[LoadBalancerReport],
) -> BTreeMap<Uuid, OperatingStatus> {
    let mut statuses = BTreeMap::new();
    let Some(seen) = Seen::of(tree, reports) else {
        return statuses;
    };
    let mut balancer = Worst::default();
    for row in tree.listeners.iter().filter(|row| !row.is_leaving()) {
        let status = seen.listener(row);
        // One that is full degrades the load balancer; one that is broken is its own affair.
        if status == OperatingStatus::Degraded {
            balancer.note(status);
        }
        statuses.insert(row.value.id.uuid(), status);
    }
    let mut members = BTreeMap::<PoolId, Vec<&Row<Member>>>::new();
    for row in tree.members.iter().filter(|row| !row.is_leaving()) {
        members.entry(row.value.pool).or_default().push(row);
    }
    for row in tree.pools.iter().filter(|row| !row.is_leaving()) {
        let members = members.remove(&row.value.id).unwrap_or_default();
        let status = seen.pool(row, &members);
        balancer.note(status);
        statuses.insert(row.value.id.uuid(), status);
        seen.members(row, &members, &mut statuses);
    }
    mirror(
        &tree.health_monitors,
        seen.applied,
        &mut statuses,
        |value| (value.id.uuid(), value.admin_state_up),
    );
    mirror(&tree.l7_policies, seen.applied, &mut statuses, |value| {
        (value.id.uuid(), value.admin_state_up)
    });
    mirror(&tree.l7_rules, seen.applied, &mut statuses, |value| {
        (value.id.uuid(), value.admin_state_up)
    });
    let status = if seen.enabled {
        balancer.0
    } else {
        OperatingStatus::Offline
    };
    statuses.insert(tree.id().uuid(), status);
    statuses
}

/// The status a resource has before anything was heard of it: by its id, for every row of the tree.
#[must_use]
pub fn initial(tree: &LoadBalancerTree) -> BTreeMap<Uuid, OperatingStatus> {
    let monitored = monitored(tree);
    let mut statuses: BTreeMap<_, _> = tree
        .facts()
        .map(|facts| (facts.id.uuid(), OperatingStatus::Offline))
        .collect();
    for row in tree
        .members
        .iter()
        .filter(|row| !monitored.contains(&row.value.pool))
    {
        statuses.insert(row.value.id.uuid(), OperatingStatus::NoMonitor);
    }
    statuses
}

/// The statuses while every amphora of the load balancer is silent: what is enabled does not work. Ids that are
/// absent, pools and members, keep the status they have: nobody knows better.
#[must_use]
pub fn unserved(tree: &LoadBalancerTree) -> BTreeMap<Uuid, OperatingStatus> {
    let enabled = tree.load_balancer.value.admin_state_up;
    let status = |wanted: bool| {
        if wanted {
            OperatingStatus::Error
        } else {
            OperatingStatus::Offline
        }
    };
    tree.listeners
        .iter()
        .filter(|row| !row.is_leaving())
        .map(|row| {
            (
                row.value.id.uuid(),
                status(enabled && row.value.admin_state_up),
            )
        })
        .chain([(tree.id().uuid(), status(enabled))])
        .collect()
}

/// The listeners that are in `ERROR` because an amphora could not have their port, and why.
#[must_use]
pub fn listener_errors(
    tree: &LoadBalancerTree,
    reports: &[LoadBalancerReport],
) -> BTreeMap<Uuid, Reason> {
    let mut errors = BTreeMap::new();
    let listeners = reports
        .iter()
        .filter(|report| report.id == tree.id())
        .flat_map(|report| &report.listeners);
    for ListenerReport { id, state, .. } in listeners {
        let wanted = tree.listener(*id).is_some_and(|row| !row.is_leaving());
        if let (ListenerState::Failed { reason }, true) = (state, wanted) {
            let code = if reason.contains("in use") {
                "port_in_use"
            } else {
                "bind_failed"
            };
            let reason = Reason {
                code: code.into(),
                message: format!("the port cannot be opened: {reason}"),
                step: STEP_BIND.into(),
                heals: true,
            };
            debug_assert!(reason.is_known(), "{reason:?} is not in the table of codes");
            errors.entry(id.uuid()).or_insert(reason);
        }
    }
    errors
}

/// What the reports say together, and what of the tree their meaning depends on.
struct Seen<'a> {
    /// Whether the load balancer is.
    enabled: bool,
    /// The generation that is in force everywhere.
    applied: Generation,
    listeners: BTreeMap<ListenerId, &'a ListenerState>,
    pools: BTreeSet<PoolId>,
    members: BTreeMap<MemberId, MemberHealth>,
    /// Pools that an enabled listener sends to.
    used: BTreeSet<PoolId>,
    monitored: BTreeSet<PoolId>,
}

impl<'a> Seen<'a> {
    /// `None` when nothing was reported of the load balancer.
    fn of(tree: &LoadBalancerTree, reports: &'a [LoadBalancerReport]) -> Option<Self> {
        let about = || reports.iter().filter(|report| report.id == tree.id());
        let users = tree
            .listeners
            .iter()
            .filter(|row| !row.is_leaving() && row.value.admin_state_up);
        let mut seen = Self {
            enabled: tree.load_balancer.value.admin_state_up,
            applied: about().map(|report| report.generation).min()?,
            listeners: BTreeMap::new(),
            pools: BTreeSet::new(),
            members: BTreeMap::new(),
            used: users
                .flat_map(|row| {
                    let through = tree.pools_through_policies(row.value.id);
                    through.into_iter().chain(row.value.default_pool)
                })
                .collect(),
            monitored: monitored(tree),
        };
        for report in about() {
            for listener in &report.listeners {
                let worst = seen.listeners.entry(listener.id).or_insert(&listener.state);
                if listener_gravity(&listener.state) > listener_gravity(worst) {
                    *worst = &listener.state;
                }
            }
            seen.pools.extend(report.pools.iter().map(|pool| pool.id));
            for member in report.pools.iter().flat_map(|pool| &pool.members) {
                let worst = seen.members.entry(member.id).or_insert(member.health);
                if member_gravity(member.health) > member_gravity(*worst) {
                    *worst = member.health;
                }
            }
        }
        Some(seen)
    }

    fn listener(&self, row: &Row<Listener>) -> OperatingStatus {
        if !self.enabled || !row.value.admin_state_up {
            return OperatingStatus::Offline;
        }
        match self.listeners.get(&row.value.id) {
            Some(ListenerState::Open) => OperatingStatus::Online,
            Some(ListenerState::Full) => OperatingStatus::Degraded,
            Some(ListenerState::Failed { .. }) => OperatingStatus::Error,
            // Enabled a moment ago, or created: not there yet.
            Some(ListenerState::Disabled) => OperatingStatus::Offline,
            None if row.generation > self.applied => OperatingStatus::Offline,
            None => OperatingStatus::Error,
        }
    }

    fn pool(&self, row: &Row<Pool>, members: &[&Row<Member>]) -> OperatingStatus {
        let pool = &row.value;
        let serves = self.enabled && pool.admin_state_up && self.used.contains(&pool.id);
        if !serves || !self.pools.contains(&pool.id) {
            return OperatingStatus::Offline;
        }
        let down = |row: &&Row<Member>| {
            row.value.admin_state_up && self.members.get(&row.value.id) == Some(&MemberHealth::Down)
        };
        let usable =
            |row: &&Row<Member>| row.value.admin_state_up && row.value.weight > 0 && !down(row);
        if !members.is_empty() && !members.iter().any(usable) {
            return OperatingStatus::Error;
        }
        if members.iter().any(down) {
            OperatingStatus::Degraded
        } else {
            OperatingStatus::Online
        }
    }

    /// Members of a pool that is not configured keep what they were last seen as.
    fn members(
        &self,
        pool: &Row<Pool>,
        members: &[&Row<Member>],
        statuses: &mut BTreeMap<Uuid, OperatingStatus>,
    ) {
        if !self.enabled || !pool.value.admin_state_up || !self.pools.contains(&pool.value.id) {
            return;
        }
        for row in members {
            if let Some(status) = self.member(row, &pool.value) {
                statuses.insert(row.value.id.uuid(), status);
            }
        }
    }

    fn member(&self, row: &Row<Member>, pool: &Pool) -> Option<OperatingStatus> {
        if !row.value.admin_state_up {
            return Some(OperatingStatus::Offline);
        }
        match self.members.get(&row.value.id) {
            Some(MemberHealth::Up) if row.value.weight == 0 => Some(OperatingStatus::Draining),
            Some(MemberHealth::Up) => Some(OperatingStatus::Online),
            Some(MemberHealth::Down) => Some(OperatingStatus::Error),
            // Of UDP one that drains is told whether it is probed or not.
            Some(MemberHealth::NoMonitor)
                if row.value.weight == 0 && pool.protocol.is_streamless() =>
            {
                Some(OperatingStatus::Draining)
            }
            Some(MemberHealth::NoMonitor) => Some(OperatingStatus::NoMonitor),
            // The first verdict is a moment away; until then the last one stands, as over a restart.
            Some(MemberHealth::Unproven) => None,
            None if row.generation > self.applied => None,
            None if self.monitored.contains(&row.value.pool) => Some(OperatingStatus::Offline),
            None => Some(OperatingStatus::NoMonitor),
        }
    }
}

/// Pools with a health monitor that stays.
fn monitored(tree: &LoadBalancerTree) -> BTreeSet<PoolId> {
    tree.health_monitors
        .iter()
        .filter(|row| !row.is_leaving())
        .map(|row| row.value.pool)
        .collect()
}

/// The statuses of what nobody reports of: it mirrors what was asked for, from when it first is in force.
fn mirror<T>(
    rows: &[Row<T>],
    applied: Generation,
    statuses: &mut BTreeMap<Uuid, OperatingStatus>,
    asked: impl Fn(&T) -> (Uuid, bool),
) {
    for row in rows.iter().filter(|row| !row.is_leaving()) {
        if row.touch == Touch::Create && row.generation > applied {
            continue;
        }
        let (id, admin_state_up) = asked(&row.value);
        let status = if admin_state_up {
            OperatingStatus::Online
        } else {
            OperatingStatus::Offline
        };
        statuses.insert(id, status);
    }
}

const fn listener_gravity(state: &ListenerState) -> u8 {
    match state {
        ListenerState::Disabled => 0,
        ListenerState::Open => 1,
        ListenerState::Full => 2,
        ListenerState::Failed { .. } => 3,
    }
}

const fn member_gravity(health: MemberHealth) -> u8 {
    match health {
        MemberHealth::NoMonitor => 0,
        MemberHealth::Unproven => 1,
        MemberHealth::Up => 2,
        MemberHealth::Down => 3,
    }
}

/// What children make of an enabled load balancer: `ERROR` beats `DEGRADED` beats `ONLINE`.
struct Worst(OperatingStatus);

impl Default for Worst {
    fn default() -> Self {
        Self(OperatingStatus::Online)
    }
}

impl Worst {
    fn note(&mut self, child: OperatingStatus) {
        self.0 = match (self.0, child) {
            (OperatingStatus::Error, _) | (_, OperatingStatus::Error) => OperatingStatus::Error,
            (OperatingStatus::Degraded, _) | (_, OperatingStatus::Degraded) => {
                OperatingStatus::Degraded
            }
            (same, _) => same,
        };
    }
}

#[cfg(test)]
mod tests;
