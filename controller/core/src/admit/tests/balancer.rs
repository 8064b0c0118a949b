//! Rules of load balancers and whole trees.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
};

use krater_amphora_api::AmphoraId;
use uuid::Uuid;

use crate::{
    command::{
        Cascade, Command, ListenerUpdate, LoadBalancerUpdate, NewListener, NewLoadBalancer,
        NewPool, PoolRef,
    },
    limits,
    model::{ListenerProtocol, LoadBalancerId, PoolId, PoolProtocol, VnicType},
    refusal::Refusal,
    resource::ResourceId,
    rules::Rules,
    sample::{
        House, at, http_kind, name, new_balancer, new_listener, new_member, new_monitor, new_pool,
        pending,
    },
};

fn check_new(new: &NewLoadBalancer) -> Result<(), Refusal> {
    crate::admit::check_new(new, &Rules::default())
}

#[test]
fn additional_addresses_are_bounded() {
    let mut new = new_balancer();
    new.vip.additional = vec![(Uuid::nil(), None); limits::ADDITIONAL_VIPS_MAX];
    assert_eq!(check_new(&new), Ok(()));
    new.vip.additional.push((Uuid::nil(), None));
    assert!(matches!(check_new(&new), Err(Refusal::Invalid(_))));
}

#[test]
fn the_provider_stays_as_named_and_is_amphora_otherwise() {
    assert_eq!(House::empty().tree.load_balancer.value.provider, "amphora");
    let mut new = new_balancer();
    new.provider = Some("octavia".into());
    assert_eq!(
        House::of(new).unwrap().tree.load_balancer.value.provider,
        "octavia"
    );
}

#[test]
fn a_graph_keeps_the_rules_of_separate_calls() {
    let mut new = new_balancer();
    let listener = new_listener(ListenerProtocol::Http, 80);
    new.pools = vec![new_pool(PoolProtocol::Tcp)];
    new.listeners = vec![NewListener {
        default_pool: Some(PoolRef::New(0)),
        ..listener.clone()
    }];
    let mismatch = Refusal::ProtocolMismatch {
        listener: ListenerProtocol::Http,
        pool: PoolProtocol::Tcp,
    };
    assert_eq!(check_new(&new), Err(mismatch));
    new.listeners = vec![listener.clone(), new_listener(ListenerProtocol::Tcp, 80)];
    assert_eq!(
        check_new(&new),
        Err(Refusal::DuplicatePort {
            protocol: ListenerProtocol::Tcp,
            port: 80
        })
    );
    new.listeners = vec![NewListener {
        default_pool: Some(PoolRef::New(1)),
        ..listener.clone()
    }];
    assert!(matches!(check_new(&new), Err(Refusal::Defect(_))));
    let elsewhere = PoolId::new(Uuid::nil());
    new.listeners = vec![NewListener {
        default_pool: Some(PoolRef::Existing(elsewhere)),
        ..listener.clone()
    }];
    assert_eq!(
        check_new(&new),
        Err(Refusal::NotFound(ResourceId::Pool(elsewhere)))
    );
    new.listeners = vec![listener];
    let member = new_member("10.1.0.1", 80);
    new.pools = vec![NewPool {
        members: vec![member.clone(), member],
        ..new_pool(PoolProtocol::Tcp)
    }];
    assert!(matches!(
        check_new(&new),
        Err(Refusal::DuplicateMember { port: 80, .. })
    ));
    let reserved = vec![new_member("169.254.169.254", 80)];
    new.pools = vec![NewPool {
        members: reserved,
        ..new_pool(PoolProtocol::Tcp)
    }];
    assert!(matches!(
        check_new(&new),
        Err(Refusal::InvalidOption { .. })
    ));
}

#[test]
fn networks_of_a_graph_fit_the_address_it_gets() {
    let mut new = new_balancer();
    let cidrs = vec!["2001:db8::/32".to_string()];
    new.listeners = vec![NewListener {
        allowed_cidrs: cidrs,
        ..new_listener(ListenerProtocol::Tcp, 80)
    }];
    assert_eq!(check_new(&new), Ok(()));
    let refusal = House::of(new).err().unwrap();
    assert_eq!(
        refusal.to_string(),
        "CIDR 2001:db8::/32 IP version incompatible with all VIPs [10.0.0.2] IP version."
    );
}

#[test]
fn a_graph_has_no_more_than_the_limits_allow() {
    let mut new = new_balancer();
    let listeners = u16::try_from(limits::LISTENERS_MAX).unwrap();
    new.listeners = (1..=listeners)
        .map(|port| new_listener(ListenerProtocol::Tcp, port))
        .collect();
    assert_eq!(check_new(&new), Ok(()));
    new.listeners
        .push(new_listener(ListenerProtocol::Tcp, listeners + 1));
    assert_eq!(check_new(&new), Err(Refusal::QuotaMet("Listener")));
    new.listeners.clear();
    new.pools = vec![new_pool(PoolProtocol::Tcp); limits::POOLS_MAX];
    assert_eq!(check_new(&new), Ok(()));
    new.pools.push(new_pool(PoolProtocol::Tcp));
    assert_eq!(check_new(&new), Err(Refusal::QuotaMet("Pool")));
    let members = u16::try_from(limits::MEMBERS_MAX).unwrap();
    let members: alloc::vec::Vec<_> = (1..=members)
        .map(|port| new_member("10.1.0.1", port))
        .collect();
    new.pools = vec![NewPool {
        members,
        ..new_pool(PoolProtocol::Tcp)
    }];
    assert_eq!(check_new(&new), Ok(()));
    new.pools[0].members.push(new_member("10.1.0.2", 80));
    assert_eq!(check_new(&new), Err(Refusal::QuotaMet("Member")));
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let mut house = House::furnished();
    let update = LoadBalancerUpdate {
        name: Some(name("renamed")),
        ..LoadBalancerUpdate::default()
    };
    let change = house
        .run(Command::UpdateLoadBalancer(house.id(), update))
        .unwrap();
    let row = &change.tree.load_balancer;
    assert_eq!(row.value.name.as_str(), "renamed");
    assert!(row.value.admin_state_up);
    assert_eq!(row.updated_at, Some(at(1)));
    let off = LoadBalancerUpdate {
        admin_state_up: Some(false),
        ..LoadBalancerUpdate::default()
    };
    let change = house
        .run(Command::UpdateLoadBalancer(house.id(), off))
        .unwrap();
    assert!(!change.tree.load_balancer.value.admin_state_up);
    assert_eq!(change.tree.load_balancer.value.name.as_str(), "renamed");
}

#[test]
fn a_tree_answers_for_its_own_load_balancer_only() {
    let stranger = LoadBalancerId::new(Uuid::nil());
    let unknown = Err(Refusal::NotFound(ResourceId::LoadBalancer(stranger)));
    let mut house = House::empty();
    assert_eq!(
        house.ask(Command::UpdateLoadBalancer(
            stranger,
            LoadBalancerUpdate::default()
        )),
        unknown
    );
    assert_eq!(
        house.ask(Command::DeleteLoadBalancer(stranger, Cascade::OnlyIfEmpty)),
        unknown
    );
    let new = Command::CreateLoadBalancer(alloc::boxed::Box::new(new_balancer()));
    assert!(matches!(house.ask(new), Err(Refusal::Defect(_))));
}

#[test]
fn one_with_children_is_deleted_only_with_them() {
    let mut house = House::furnished();
    let alone = Command::DeleteLoadBalancer(house.id(), Cascade::OnlyIfEmpty);
    assert_eq!(
        house.ask(alone.clone()),
        Err(Refusal::HasChildren(house.id()))
    );
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    assert_eq!(
        house.ask(alone.clone()),
        Err(Refusal::HasChildren(house.id()))
    );
    house.run(Command::DeletePool(house.pool())).unwrap();
    // They are on their way out, and go with it.
    house.run(alone.clone()).unwrap();
    let again = house.run(alone).unwrap();
    assert!(again.is_empty());
    assert_eq!(again.subject, ResourceId::LoadBalancer(house.id()));
}

#[test]
fn nothing_but_deletion_is_admitted_of_one_that_is_being_deleted() {
    let mut house = House::furnished();
    let before = House::furnished();
    house
        .run(Command::DeleteLoadBalancer(
            house.id(),
            Cascade::WithChildren,
        ))
        .unwrap();
    let deleting = Err(Refusal::BeingDeleted(ResourceId::LoadBalancer(house.id())));
    for command in super::sequences::one_of_each(&before) {
        let deletes = matches!(
            command,
            Command::DeleteLoadBalancer(..)
                | Command::DeleteListener(_)
                | Command::DeletePool(_)
                | Command::DeleteMember(..)
                | Command::DeleteHealthMonitor(_)
        );
        let answer = house.ask(command.clone());
        if deletes {
            assert!(answer.unwrap().is_empty(), "{command:?}");
        } else {
            assert_eq!(answer, deleting, "{command:?}");
        }
    }
}

#[test]
fn a_monitor_in_a_graph_is_checked_too() {
    let mut new = new_balancer();
    let mut monitor = new_monitor(http_kind());
    monitor.delay_seconds = limits::MONITOR_SECONDS_MAX + 1;
    new.pools = vec![NewPool {
        health_monitor: Some(monitor),
        ..new_pool(PoolProtocol::Tcp)
    }];
    assert!(matches!(check_new(&new), Err(Refusal::Invalid(_))));
}

#[test]
fn a_failover_touches_the_load_balancer_alone_and_once_until_it_has_left() {
    let mut house = House::furnished();
    let from = |number| Some(AmphoraId::new(Uuid::from_u128(number)));
    let fail_over = |house: &House, from| Command::FailOver(house.id(), from, None);
    let change = house.run(fail_over(&house, from(1))).unwrap();
    assert_eq!(change.touched, [ResourceId::LoadBalancer(house.id())]);
    assert_eq!(house.tree.load_balancer.value.steering.avoid, from(1));
    assert_eq!(pending(&house.view()), ["Load Balancer PENDING_UPDATE"]);
    assert!(house.run(fail_over(&house, from(1))).unwrap().is_empty());
    assert!(house.run(fail_over(&house, None)).unwrap().is_empty());
    assert!(!house.run(fail_over(&house, from(2))).unwrap().is_empty());
}

#[test]
fn what_is_being_deleted_does_not_fail_over() {
    let mut house = House::furnished();
    let id = house.id();
    house
        .run(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .unwrap();
    let from = Some(AmphoraId::new(Uuid::from_u128(1)));
    assert_eq!(
        house.run(Command::FailOver(id, from, None)).unwrap_err(),
        Refusal::BeingDeleted(ResourceId::LoadBalancer(id))
    );
}

#[test]
fn security_groups_and_allowed_networks_exclude_each_other() {
    const REFUSED: &str = "Allowed CIDRs are not allowed when using custom VIP Security Groups.";
    let groups = vec![Uuid::from_u128(7)];
    let networks = vec![String::from("10.0.0.0/8")];
    let listener = |port, networks: &[String]| NewListener {
        allowed_cidrs: networks.to_vec(),
        ..new_listener(ListenerProtocol::Http, port)
    };
    let refused = Refusal::Invalid(REFUSED.into());

    let mut new = new_balancer();
    new.vip.security_group_ids = groups.clone();
    new.listeners = vec![listener(80, &[])];
    assert_eq!(check_new(&new), Ok(()));
    new.listeners = vec![listener(80, &networks)];
    assert_eq!(check_new(&new), Err(refused.clone()));
    new.vip.security_group_ids.clear();
    assert_eq!(check_new(&new), Ok(()));

    // Groups first, then networks.
    let mut house = House::empty();
    let update = |groups: &[Uuid]| LoadBalancerUpdate {
        vip_sg_ids: Some(groups.to_vec()),
        ..LoadBalancerUpdate::default()
    };
    let id = house.id();
    house
        .run(Command::UpdateLoadBalancer(id, update(&groups)))
        .unwrap();
    assert_eq!(house.tree.load_balancer.value.vip_sg_ids, groups);
    assert_eq!(
        house.add_listener(listener(80, &networks)),
        Err(refused.clone())
    );
    house.add_listener(listener(80, &[])).unwrap();
    let allow = ListenerUpdate {
        allowed_cidrs: Some(networks.clone()),
        ..ListenerUpdate::default()
    };
    let allow = Command::UpdateListener(house.listener(), Box::new(allow));
    assert_eq!(house.ask(allow.clone()), Err(refused.clone()));

    // Networks first, then groups.
    house
        .run(Command::UpdateLoadBalancer(id, update(&[])))
        .unwrap();
    house.run(allow).unwrap();
    assert_eq!(
        house.ask(Command::UpdateLoadBalancer(id, update(&groups))),
        Err(refused)
    );
    let gone = house.listener();
    house.run(Command::DeleteListener(gone)).unwrap();
    house
        .run(Command::UpdateLoadBalancer(id, update(&groups)))
        .unwrap();
}

#[test]
fn groups_need_a_virtual_port_and_are_not_too_many() {
    let mut house = House::empty();
    let id = house.id();
    let update = |count: u128| {
        let update = LoadBalancerUpdate {
            vip_sg_ids: Some((0..count).map(Uuid::from_u128).collect()),
            ..LoadBalancerUpdate::default()
        };
        Command::UpdateLoadBalancer(id, update)
    };
    let most = limits::SECURITY_GROUPS_MAX as u128;
    assert!(house.ask(update(most)).is_ok());
    assert!(matches!(
        house.ask(update(most + 1)),
        Err(Refusal::Invalid(_))
    ));
    house.tree.load_balancer.value.vip_vnic_type = VnicType::Direct;
    assert_eq!(house.ask(update(1)), Err(Refusal::VnicWithGroups));
    assert!(house.ask(update(0)).is_ok());
}

#[test]
fn a_policy_of_the_network_is_set_and_taken_away() {
    let mut new = new_balancer();
    new.vip.qos_policy_id = Some(Uuid::from_u128(7));
    let mut house = House::of(new).unwrap();
    let policy = |house: &House| house.tree.load_balancer.value.vip_qos_policy_id;
    assert_eq!(policy(&house), Some(Uuid::from_u128(7)));
    for wanted in [Some(Uuid::from_u128(8)), None] {
        let update = LoadBalancerUpdate {
            vip_qos_policy_id: Some(wanted),
            ..LoadBalancerUpdate::default()
        };
        house
            .run(Command::UpdateLoadBalancer(house.id(), update))
            .unwrap();
        assert_eq!(policy(&house), wanted);
    }
}
