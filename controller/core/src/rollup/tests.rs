//! Reference 18.5, row by row.

use alloc::{boxed::Box, vec, vec::Vec};

use krater_amphora_api::{Counters, MemberReport, PoolReport};

use super::*;
use crate::{
    command::{
        Command, HealthMonitorUpdate, L7PolicyUpdate, ListenerUpdate, LoadBalancerUpdate,
        MemberUpdate, PoolUpdate,
    },
    model::{ListenerProtocol, PoolProtocol},
    sample::{House, new_listener, new_member, new_pool},
    status::OperatingStatus::{Degraded, Draining, Error, NoMonitor, Offline, Online},
};

/// What an amphora says that has all of `house` in force; members as in `health`.
fn report(house: &House, health: &[MemberHealth]) -> LoadBalancerReport {
    let tree = &house.tree;
    let state = |up: bool| {
        if up {
            ListenerState::Open
        } else {
            ListenerState::Disabled
        }
    };
    let listeners = tree.listeners.iter().map(|row| ListenerReport {
        id: row.value.id,
        state: state(row.value.admin_state_up && tree.load_balancer.value.admin_state_up),
        counters: Counters::default(),
        failures: Default::default(),
    });
    let pools = tree.pools.iter().map(|pool| PoolReport {
        id: pool.value.id,
        members: tree
            .members
            .iter()
            .zip(health)
            .filter(|(row, _)| row.value.pool == pool.value.id)
            .map(|(row, health)| MemberReport {
                id: row.value.id,
                health: *health,
                reason: None,
                active_connections: 0,
                out: false,
            })
            .collect(),
    });
    LoadBalancerReport {
        announcement: None,
        id: tree.id(),
        generation: tree.generation(),
        listeners: listeners.collect(),
        pools: pools.collect(),
    }
}

struct Picture {
    members: Vec<Option<OperatingStatus>>,
    pool: Option<OperatingStatus>,
    listener: Option<OperatingStatus>,
    balancer: Option<OperatingStatus>,
}

fn picture(house: &House, reports: &[LoadBalancerReport]) -> Picture {
    let statuses = rollup(&house.tree, reports);
    let of = |id: Uuid| statuses.get(&id).copied();
    Picture {
        members: house
            .tree
            .members
            .iter()
            .map(|row| of(row.value.id.uuid()))
            .collect(),
        pool: of(house.pool().uuid()),
        listener: of(house.listener().uuid()),
        balancer: of(house.id().uuid()),
    }
}

fn seen(house: &House, health: &[MemberHealth]) -> Picture {
    picture(house, &[report(house, health)])
}

fn with(command: impl Fn(&House) -> Command) -> House {
    let mut house = House::furnished();
    let command = command(&house);
    house.run(command).unwrap();
    house.settle();
    house
}

fn member_update(position: usize, update: MemberUpdate) -> impl Fn(&House) -> Command {
    move |house| Command::UpdateMember(house.pool(), house.member(position), update.clone())
}

const UP: MemberHealth = MemberHealth::Up;
const DOWN: MemberHealth = MemberHealth::Down;
const UNJUDGED: MemberHealth = MemberHealth::NoMonitor;

#[track_caller]
fn assert_picture(
    got: &Picture,
    members: &[OperatingStatus],
    pool: OperatingStatus,
    balancer: OperatingStatus,
) {
    let members: Vec<_> = members.iter().copied().map(Some).collect();
    assert_eq!(
        (&got.members, got.pool, got.balancer),
        (&members, Some(pool), Some(balancer))
    );
}

#[test]
fn a_pool_without_a_monitor_is_online() {
    let house = with(|house| Command::DeleteHealthMonitor(house.monitor()));
    assert_picture(
        &seen(&house, &[UNJUDGED, UNJUDGED]),
        &[NoMonitor, NoMonitor],
        Online,
        Online,
    );
}

#[test]
fn probes_that_all_pass_make_all_online() {
    let picture = seen(&House::furnished(), &[UP, UP]);
    assert_picture(&picture, &[Online, Online], Online, Online);
    assert_eq!(picture.listener, Some(Online));
}

#[test]
fn some_failing_probes_degrade_pool_and_load_balancer_but_not_the_listener() {
    let picture = seen(&House::furnished(), &[UP, DOWN]);
    assert_picture(&picture, &[Online, Error], Degraded, Degraded);
    assert_eq!(picture.listener, Some(Online));
}

#[test]
fn all_failing_probes_are_an_error_of_pool_and_load_balancer() {
    let picture = seen(&House::furnished(), &[DOWN, DOWN]);
    assert_picture(&picture, &[Error, Error], Error, Error);
    assert_eq!(picture.listener, Some(Online));
}

#[test]
fn an_empty_pool_is_online() {
    let house = with(|house| {
        Command::BatchMembers(house.pool(), vec![], crate::command::BatchMode::Replace)
    });
    assert_picture(&seen(&house, &[]), &[], Online, Online);
}

#[test]
fn a_udp_member_of_weight_zero_drains_whether_it_is_probed_or_not() {
    let mut house = with(member_update(
        0,
        MemberUpdate {
            weight: Some(0),
            ..MemberUpdate::default()
        },
    ));
    assert_picture(
        &seen(&house, &[UNJUDGED, UP]),
        &[NoMonitor, Online],
        Online,
        Online,
    );
    house.tree.pools[0].value.protocol = PoolProtocol::Udp;
    assert_picture(
        &seen(&house, &[UNJUDGED, UP]),
        &[Draining, Online],
        Online,
        Online,
    );
}

#[test]
fn a_member_of_weight_zero_drains_while_others_serve() {
    let drained = MemberUpdate {
        weight: Some(0),
        ..MemberUpdate::default()
    };
    let house = with(member_update(0, drained.clone()));
    assert_picture(
        &seen(&house, &[UP, UP]),
        &[Draining, Online],
        Online,
        Online,
    );
    assert_picture(
        &seen(&house, &[UNJUDGED, UNJUDGED]),
        &[NoMonitor, NoMonitor],
        Online,
        Online,
    );
    assert_picture(
        &seen(&house, &[DOWN, UP]),
        &[Error, Online],
        Degraded,
        Degraded,
    );
}

#[test]
fn when_all_members_are_disabled_or_drained_the_pool_is_in_error() {
    let mut house = with(member_update(
        0,
        MemberUpdate {
            weight: Some(0),
            ..MemberUpdate::default()
        },
    ));
    let off = MemberUpdate {
        admin_state_up: Some(false),
        ..MemberUpdate::default()
    };
    house.run(member_update(1, off)(&house)).unwrap();
    house.settle();
    assert_picture(&seen(&house, &[UP, UP]), &[Draining, Offline], Error, Error);
}

#[test]
fn a_disabled_member_is_offline_and_the_others_decide() {
    let house = with(member_update(
        0,
        MemberUpdate {
            admin_state_up: Some(false),
            ..MemberUpdate::default()
        },
    ));
    assert_picture(&seen(&house, &[UP, UP]), &[Offline, Online], Online, Online);
    // What it was last probed as does not matter.
    assert_picture(
        &seen(&house, &[DOWN, UP]),
        &[Offline, Online],
        Online,
        Online,
    );
    assert_picture(&seen(&house, &[UP, DOWN]), &[Offline, Error], Error, Error);
}

#[test]
fn a_disabled_pool_is_offline_leaves_its_members_and_does_not_matter() {
    let off = PoolUpdate {
        admin_state_up: Some(false),
        ..PoolUpdate::default()
    };
    let house = with(|house| Command::UpdatePool(house.pool(), Box::new(off.clone())));
    let picture = seen(&house, &[DOWN, DOWN]);
    assert_eq!(picture.members, [None, None]);
    assert_eq!(
        (picture.pool, picture.balancer),
        (Some(Offline), Some(Online))
    );
}

#[test]
fn a_disabled_monitor_leaves_members_unjudged() {
    let off = HealthMonitorUpdate {
        admin_state_up: Some(false),
        ..HealthMonitorUpdate::default()
    };
    let house = with(|house| Command::UpdateHealthMonitor(house.monitor(), Box::new(off.clone())));
    assert_picture(
        &seen(&house, &[UNJUDGED, UNJUDGED]),
        &[NoMonitor, NoMonitor],
        Online,
        Online,
    );
    let statuses = rollup(&house.tree, &[report(&house, &[UNJUDGED, UNJUDGED])]);
    assert_eq!(statuses.get(&house.monitor().uuid()), Some(&Offline));
}

#[test]
fn a_disabled_listener_takes_its_pool_along_unless_another_uses_it() {
    let off = ListenerUpdate {
        admin_state_up: Some(false),
        ..ListenerUpdate::default()
    };
    let mut house = with(|house| Command::UpdateListener(house.listener(), Box::new(off.clone())));
    let picture = seen(&house, &[DOWN, DOWN]);
    assert_eq!(
        (picture.listener, picture.pool, picture.balancer),
        (Some(Offline), Some(Offline), Some(Online))
    );
    let default_pool = Some(crate::command::PoolRef::Existing(house.pool()));
    let other = crate::command::NewListener {
        default_pool,
        ..new_listener(ListenerProtocol::Http, 81)
    };
    house.add_listener(other).unwrap();
    house.settle();
    assert_eq!(seen(&house, &[DOWN, DOWN]).pool, Some(Error));
}

#[test]
fn a_disabled_load_balancer_is_offline_with_its_listeners_and_pools() {
    let off = LoadBalancerUpdate {
        admin_state_up: Some(false),
        ..LoadBalancerUpdate::default()
    };
    let house = with(|house| Command::UpdateLoadBalancer(house.id(), off.clone()));
    let picture = seen(&house, &[DOWN, UP]);
    assert_eq!(picture.members, [None, None]);
    assert_eq!(
        (picture.listener, picture.pool, picture.balancer),
        (Some(Offline), Some(Offline), Some(Offline))
    );
}

#[test]
fn a_listener_at_its_limit_is_degraded_with_its_load_balancer() {
    let house = House::furnished();
    let mut report = report(&house, &[UP, UP]);
    report.listeners[0].state = ListenerState::Full;
    let picture = picture(&house, &[report]);
    assert_eq!(
        (picture.listener, picture.balancer),
        (Some(Degraded), Some(Degraded))
    );
}

#[test]
fn a_broken_listener_does_not_change_the_load_balancer() {
    let house = House::furnished();
    let mut failed = report(&house, &[UP, UP]);
    failed.listeners[0].state = ListenerState::Failed {
        reason: "address 10.0.0.2:80 is already in use".into(),
    };
    let got = picture(&house, core::slice::from_ref(&failed));
    assert_eq!((got.listener, got.balancer), (Some(Error), Some(Online)));
    let errors = listener_errors(&house.tree, &[failed.clone()]);
    let reason = &errors[&house.listener().uuid()];
    assert_eq!(
        (reason.code.as_str(), reason.step.as_str(), reason.heals),
        ("port_in_use", "bind", true)
    );
    assert!(
        reason
            .message
            .ends_with("address 10.0.0.2:80 is already in use")
    );
    failed.listeners[0].state = ListenerState::Failed {
        reason: "permission denied".into(),
    };
    assert_eq!(
        listener_errors(&house.tree, &[failed.clone()])[&house.listener().uuid()].code,
        "bind_failed"
    );
    failed.listeners.clear();
    assert!(listener_errors(&house.tree, &[failed.clone()]).is_empty());
    // One that should be there and is not.
    assert_eq!(picture(&house, &[failed]).listener, Some(Error));
}

#[test]
fn what_is_not_in_force_yet_is_offline() {
    let mut house = House::furnished();
    let old = report(&house, &[UP, UP]);
    house
        .add_listener(new_listener(ListenerProtocol::Tcp, 81))
        .unwrap();
    house
        .add_pool(new_pool(crate::model::PoolProtocol::Tcp))
        .unwrap();
    house.add_member(new_member("10.1.0.9", 80)).unwrap();
    let statuses = rollup(&house.tree, &[old]);
    let of = |id: Uuid| statuses.get(&id).copied();
    assert_eq!(of(house.tree.listeners[1].value.id.uuid()), Some(Offline));
    assert_eq!(of(house.tree.pools[1].value.id.uuid()), Some(Offline));
    assert_eq!(of(house.tree.members[2].value.id.uuid()), None);
    assert_eq!(of(house.id().uuid()), Some(Online));
}

#[test]
fn members_of_an_unattached_pool_are_judged_though_it_is_offline() {
    let clear = ListenerUpdate {
        default_pool: Some(None),
        ..ListenerUpdate::default()
    };
    let house = with(|house| Command::UpdateListener(house.listener(), Box::new(clear.clone())));
    let picture = seen(&house, &[UP, DOWN]);
    assert_picture(&picture, &[Online, Error], Offline, Online);
}

#[test]
fn a_member_that_was_not_probed_yet_keeps_its_status_and_counts_as_usable() {
    let picture = seen(&House::furnished(), &[MemberHealth::Unproven, DOWN]);
    assert_eq!(picture.members, [None, Some(Error)]);
    assert_eq!(picture.pool, Some(Degraded));
}

#[test]
fn a_member_missing_from_a_reported_pool_is_offline_unless_nothing_judges_it() {
    let house = House::furnished();
    assert_eq!(seen(&house, &[]).members, [Some(Offline), Some(Offline)]);
    let house = with(|house| Command::DeleteHealthMonitor(house.monitor()));
    assert_eq!(
        seen(&house, &[]).members,
        [Some(NoMonitor), Some(NoMonitor)]
    );
}

#[test]
fn the_worst_of_several_amphorae_counts() {
    let house = House::furnished();
    let mut full = report(&house, &[DOWN, MemberHealth::Unproven]);
    full.listeners[0].state = ListenerState::Full;
    let mut late = report(&house, &[UP, UP]);
    late.generation = crate::sample::generation(1);
    for reports in [[full.clone(), late.clone()], [late, full]] {
        let picture = picture(&house, &reports);
        assert_eq!(picture.listener, Some(Degraded));
        assert_eq!(picture.members, [Some(Error), Some(Online)]);
    }
}

#[test]
fn reports_of_others_and_none_at_all_change_nothing() {
    let house = House::furnished();
    assert!(rollup(&house.tree, &[]).is_empty());
    let mut other = report(&house, &[UP, UP]);
    other.id = krater_amphora_api::LoadBalancerId::new(Uuid::nil());
    assert!(rollup(&house.tree, &[other]).is_empty());
}

#[test]
fn monitors_mirror_their_admin_state_once_in_force() {
    let mut house = House::furnished();
    let statuses = rollup(&house.tree, &[report(&house, &[UP, UP])]);
    assert_eq!(statuses.get(&house.monitor().uuid()), Some(&Online));
    let monitor = house.monitor();
    house.tree.health_monitors[0].generation = crate::sample::generation(9);
    let statuses = rollup(&house.tree, &[report(&house, &[UP, UP])]);
    assert_eq!(statuses.get(&monitor.uuid()), None);
}

#[test]
fn first_statuses_are_offline_and_no_monitor() {
    let house = House::furnished();
    let statuses = initial(&house.tree);
    assert_eq!(statuses.len(), 6);
    assert!(statuses.values().all(|status| *status == Offline));
    let house = with(|house| Command::DeleteHealthMonitor(house.monitor()));
    assert_eq!(initial(&house.tree)[&house.member(0).uuid()], NoMonitor);
}

#[test]
fn nothing_enabled_works_while_all_amphorae_are_silent() {
    let mut house = House::furnished();
    let statuses = unserved(&house.tree);
    assert_eq!(statuses[&house.id().uuid()], Error);
    assert_eq!(statuses[&house.listener().uuid()], Error);
    assert_eq!(statuses.len(), 2);
    house.tree.load_balancer.value.admin_state_up = false;
    assert!(
        unserved(&house.tree)
            .values()
            .all(|status| *status == Offline)
    );
}

#[test]
fn policies_and_rules_mirror_what_was_asked_from_when_they_are_in_force() {
    let mut house = House::with_policy();
    let (policy, rule) = (house.policy(0), house.rule(0));
    let ids = [policy.uuid(), rule.uuid()];
    let statuses = |house: &House, report: &LoadBalancerReport| {
        let statuses = rollup(&house.tree, core::slice::from_ref(report));
        ids.map(|id| statuses.get(&id).copied())
    };
    let early = LoadBalancerReport {
        generation: crate::sample::generation(1),
        ..report(&house, &[UP, UP])
    };
    assert_eq!(statuses(&house, &early), [None, None]);
    let now = report(&house, &[UP, UP]);
    assert_eq!(statuses(&house, &now), [Some(Online); 2]);
    let off = L7PolicyUpdate {
        admin_state_up: Some(false),
        ..L7PolicyUpdate::default()
    };
    let command = Command::UpdateL7Policy(policy, Box::new(off));
    house.run(command).unwrap();
    assert_eq!(statuses(&house, &now), [Some(Offline), Some(Online)]);
    house.run(Command::DeleteL7Policy(policy)).unwrap();
    assert_eq!(statuses(&house, &now), [None, None]);
}

#[test]
fn a_pool_of_a_policy_is_in_use() {
    let house = House::with_policy();
    let pool = house.tree.pools[1].value.id.uuid();
    let used = rollup(&house.tree, &[report(&house, &[UP, UP])]);
    assert_eq!(used[&pool], Online);
    let mut house = house;
    house
        .run(Command::DeleteL7Rule(house.policy(0), house.rule(0)))
        .unwrap();
    let unused = rollup(&house.tree, &[report(&house, &[UP, UP])]);
    assert_eq!(unused[&pool], Offline);
}
