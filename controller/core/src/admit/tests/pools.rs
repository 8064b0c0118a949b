//! Rules of pools.

use alloc::{boxed::Box, vec};

use uuid::Uuid;

use crate::{
    command::{Command, NewPool, PoolParent, PoolUpdate},
    limits,
    model::{LbAlgorithm, ListenerId, ListenerProtocol, LoadBalancerId, PoolId, PoolProtocol},
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, http_kind, new_listener, new_member, new_monitor, new_pool},
};

fn create(parent: PoolParent, protocol: PoolProtocol) -> Command {
    Command::CreatePool(parent, Box::new(new_pool(protocol)))
}

#[test]
fn a_pool_for_a_listener_becomes_its_default() {
    let mut house = House::empty();
    house
        .add_listener(new_listener(ListenerProtocol::Http, 80))
        .unwrap();
    let listener = Some(house.listener());
    for load_balancer in [None, Some(house.id())] {
        let parent = PoolParent {
            load_balancer,
            listener,
        };
        let mismatch = Refusal::ProtocolMismatch {
            listener: ListenerProtocol::Http,
            pool: PoolProtocol::Tcp,
        };
        assert_eq!(house.ask(create(parent, PoolProtocol::Tcp)), Err(mismatch));
        let change = house.ask(create(parent, PoolProtocol::Http)).unwrap();
        assert_eq!(
            change.tree.listeners[0].value.default_pool,
            Some(change.tree.pools[0].value.id)
        );
        assert_eq!(
            change.subject,
            ResourceId::Pool(change.tree.pools[0].value.id)
        );
    }
    let parent = PoolParent {
        load_balancer: None,
        listener,
    };
    house.run(create(parent, PoolProtocol::Http)).unwrap();
    assert_eq!(
        house.ask(create(parent, PoolProtocol::Http)),
        Err(Refusal::AlreadyHasPool(house.listener()))
    );
}

#[test]
fn its_parents_are_of_the_tree_and_stay() {
    let mut house = House::furnished();
    let listener = ListenerId::new(Uuid::nil());
    for load_balancer in [None, Some(house.id())] {
        let parent = PoolParent {
            load_balancer,
            listener: Some(listener),
        };
        let unknown = Err(Refusal::NotFound(ResourceId::Listener(listener)));
        assert_eq!(house.ask(create(parent, PoolProtocol::Http)), unknown);
    }
    let balancer = LoadBalancerId::new(Uuid::nil());
    let parent = PoolParent {
        load_balancer: Some(balancer),
        listener: Some(house.listener()),
    };
    assert_eq!(
        house.ask(create(parent, PoolProtocol::Http)),
        Err(Refusal::NotFound(ResourceId::LoadBalancer(balancer)))
    );
    let nobody = PoolParent {
        load_balancer: None,
        listener: None,
    };
    assert!(matches!(
        house.ask(create(nobody, PoolProtocol::Http)),
        Err(Refusal::Invalid(_))
    ));
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    let parent = PoolParent {
        load_balancer: None,
        listener: Some(house.listener()),
    };
    assert_eq!(
        house.ask(create(parent, PoolProtocol::Http)),
        Err(Refusal::BeingDeleted(ResourceId::Listener(
            house.listener()
        )))
    );
}

#[test]
fn a_pool_brings_its_members_and_monitor_along() {
    let mut house = House::empty();
    let member = new_member("10.1.0.1", 80);
    let new = NewPool {
        members: vec![member.clone()],
        health_monitor: Some(new_monitor(http_kind())),
        ..new_pool(PoolProtocol::Tcp)
    };
    let change = house.add_pool(new.clone()).unwrap();
    assert_eq!(change.tree.members[0].value.pool, house.pool());
    assert_eq!(
        change.tree.monitor_of(house.pool()).unwrap().value.id,
        house.monitor()
    );
    let twice = house.add_pool(NewPool {
        members: vec![member.clone(), member],
        ..new
    });
    assert!(matches!(twice, Err(Refusal::DuplicateMember { .. })));
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let mut house = House::furnished();
    let update = PoolUpdate {
        lb_algorithm: Some(LbAlgorithm::SourceIp),
        ..PoolUpdate::default()
    };
    let change = house
        .run(Command::UpdatePool(house.pool(), Box::new(update)))
        .unwrap();
    let pool = &change.tree.pools[0].value;
    assert_eq!(
        (pool.lb_algorithm, pool.name.as_str(), pool.admin_state_up),
        (LbAlgorithm::SourceIp, "app", true)
    );
    let stranger = PoolId::new(Uuid::nil());
    let unknown = Err(Refusal::NotFound(ResourceId::Pool(stranger)));
    assert_eq!(
        house.ask(Command::UpdatePool(stranger, Box::default())),
        unknown
    );
    assert_eq!(house.ask(Command::DeletePool(stranger)), unknown);
}

#[test]
fn deleting_a_pool_leaves_its_listener_without_one() {
    let mut house = House::furnished();
    let id = house.pool();
    let change = house.run(Command::DeletePool(id)).unwrap();
    assert_eq!(change.tree.listeners[0].value.default_pool, None);
    assert!(house.run(Command::DeletePool(id)).unwrap().is_empty());
    let leaving = Err(Refusal::BeingDeleted(ResourceId::Pool(id)));
    assert_eq!(house.ask(Command::UpdatePool(id, Box::default())), leaving);
    assert_eq!(
        house.ask(Command::CreateMember(
            id,
            Box::new(new_member("10.1.0.9", 80))
        )),
        leaving
    );
    assert_eq!(
        house.ask(Command::CreateHealthMonitor(
            id,
            Box::new(new_monitor(http_kind()))
        )),
        leaving
    );
    house.settle();
    assert!(house.tree.members.is_empty() && house.tree.health_monitors.is_empty());
}

#[test]
fn a_load_balancer_has_no_more_pools_than_the_limit() {
    let mut house = House::empty();
    for _ in 0..limits::POOLS_MAX {
        house.add_pool(new_pool(PoolProtocol::Tcp)).unwrap();
    }
    assert_eq!(
        house.add_pool(new_pool(PoolProtocol::Tcp)),
        Err(Refusal::QuotaMet("Pool"))
    );
}
