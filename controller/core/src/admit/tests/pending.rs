//! Reference 18.3: which rows become pending, row by row.

use alloc::{boxed::Box, vec};

use crate::{
    command::{BatchMode, Cascade, Command, LoadBalancerUpdate, MemberUpdate, PoolParent},
    model::{ListenerProtocol, PoolProtocol},
    sample::{
        House, entry, new_balancer, new_listener, new_member, new_monitor, new_pool, pending,
        tcp_kind,
    },
    tree::Touch,
};

fn after(mut house: House, command: Command) -> alloc::vec::Vec<alloc::string::String> {
    house.run(command).unwrap();
    pending(&house.view())
}

#[test]
fn creating_a_load_balancer_makes_it_and_its_children_pending_create() {
    assert_eq!(
        pending(&House::of(new_balancer()).unwrap().view()),
        ["Load Balancer PENDING_CREATE"]
    );
    let mut graph = House::furnished();
    graph.settled = None;
    assert_eq!(
        pending(&graph.view()),
        [
            "Load Balancer PENDING_CREATE",
            "Listener PENDING_CREATE",
            "Pool PENDING_CREATE",
            "Member PENDING_CREATE",
            "Member PENDING_CREATE",
            "Health Monitor PENDING_CREATE"
        ]
    );
}

#[test]
fn updating_a_load_balancer_touches_it_alone() {
    let house = House::furnished();
    let command = Command::UpdateLoadBalancer(house.id(), LoadBalancerUpdate::default());
    assert_eq!(after(house, command), ["Load Balancer PENDING_UPDATE"]);
}

#[test]
fn deleting_a_load_balancer_marks_its_children_too() {
    let house = House::furnished();
    let command = Command::DeleteLoadBalancer(house.id(), Cascade::WithChildren);
    let rows = after(house, command);
    assert_eq!(rows.len(), 6);
    assert!(
        rows.iter().all(|row| row.ends_with("PENDING_DELETE")),
        "{rows:?}"
    );
}

#[test]
fn a_listener_touches_itself_and_the_load_balancer() {
    let house = House::furnished();
    let create = Command::CreateListener(
        house.id(),
        Box::new(new_listener(ListenerProtocol::Tcp, 81)),
    );
    assert_eq!(
        after(house, create),
        ["Load Balancer PENDING_UPDATE", "Listener PENDING_CREATE"]
    );
    let house = House::furnished();
    let update = Command::UpdateListener(house.listener(), Box::default());
    assert_eq!(
        after(house, update),
        ["Load Balancer PENDING_UPDATE", "Listener PENDING_UPDATE"]
    );
    let house = House::furnished();
    let delete = Command::DeleteListener(house.listener());
    assert_eq!(
        after(house, delete),
        ["Load Balancer PENDING_UPDATE", "Listener PENDING_DELETE"]
    );
}

#[test]
fn a_pool_touches_the_listeners_that_use_it() {
    let house = House::furnished();
    let parent = PoolParent {
        load_balancer: Some(house.id()),
        listener: None,
    };
    let create = Command::CreatePool(parent, Box::new(new_pool(PoolProtocol::Tcp)));
    assert_eq!(
        after(house, create),
        ["Load Balancer PENDING_UPDATE", "Pool PENDING_CREATE"]
    );
    let house = House::furnished();
    let update = Command::UpdatePool(house.pool(), Box::default());
    assert_eq!(
        after(house, update),
        [
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "Pool PENDING_UPDATE"
        ]
    );
    let house = House::furnished();
    let delete = Command::DeletePool(house.pool());
    assert_eq!(
        after(house, delete),
        [
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "Pool PENDING_DELETE",
            "Member PENDING_DELETE",
            "Member PENDING_DELETE",
            "Health Monitor PENDING_DELETE"
        ]
    );
}

#[test]
fn a_pool_made_for_a_listener_touches_that_listener() {
    let mut house = House::empty();
    house
        .add_listener(new_listener(ListenerProtocol::Http, 80))
        .unwrap();
    house.settle();
    let parent = PoolParent {
        load_balancer: None,
        listener: Some(house.listener()),
    };
    let create = Command::CreatePool(parent, Box::new(new_pool(PoolProtocol::Http)));
    assert_eq!(
        after(house, create),
        [
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "Pool PENDING_CREATE"
        ]
    );
}

#[test]
fn a_member_touches_its_pool_and_the_listeners_that_use_it() {
    let parents = [
        "Load Balancer PENDING_UPDATE",
        "Listener PENDING_UPDATE",
        "Pool PENDING_UPDATE",
    ];
    let house = House::furnished();
    let (pool, member) = (house.pool(), house.member(0));
    for (command, row) in [
        (
            Command::CreateMember(pool, Box::new(new_member("10.1.0.9", 80))),
            "Member PENDING_CREATE",
        ),
        (
            Command::UpdateMember(pool, member, MemberUpdate::default()),
            "Member PENDING_UPDATE",
        ),
        (Command::DeleteMember(pool, member), "Member PENDING_DELETE"),
    ] {
        let mut expected = parents.to_vec();
        expected.push(row);
        assert_eq!(after(House::furnished(), command), expected);
    }
}

#[test]
fn a_monitor_touches_its_pool_and_the_listeners_that_use_it() {
    let parents = [
        "Load Balancer PENDING_UPDATE",
        "Listener PENDING_UPDATE",
        "Pool PENDING_UPDATE",
    ];
    let monitor = House::furnished().monitor();
    for (command, row) in [
        (
            Command::UpdateHealthMonitor(monitor, Box::default()),
            "Health Monitor PENDING_UPDATE",
        ),
        (
            Command::DeleteHealthMonitor(monitor),
            "Health Monitor PENDING_DELETE",
        ),
    ] {
        let mut expected = parents.to_vec();
        expected.push(row);
        assert_eq!(after(House::furnished(), command), expected);
    }
    let mut house = House::furnished();
    house.run(Command::DeleteHealthMonitor(monitor)).unwrap();
    house.settle();
    let create = Command::CreateHealthMonitor(house.pool(), Box::new(new_monitor(tcp_kind())));
    let mut expected = parents.to_vec();
    expected.push("Health Monitor PENDING_CREATE");
    assert_eq!(after(house, create), expected);
}

#[test]
fn a_batch_touches_each_member_and_its_parents_once() {
    let house = House::furnished();
    let entries = vec![entry("10.1.0.2", 8080), entry("10.1.0.3", 8080)];
    let command = Command::BatchMembers(house.pool(), entries, BatchMode::Replace);
    assert_eq!(
        after(house, command),
        [
            "Load Balancer PENDING_UPDATE",
            "Listener PENDING_UPDATE",
            "Pool PENDING_UPDATE",
            "Member PENDING_DELETE",
            "Member PENDING_UPDATE",
            "Member PENDING_CREATE"
        ]
    );
}

#[test]
fn what_never_was_in_force_stays_pending_create() {
    let mut house = House::of(new_balancer()).unwrap();
    house
        .add_listener(new_listener(ListenerProtocol::Tcp, 80))
        .unwrap();
    house
        .run(Command::UpdateListener(house.listener(), Box::default()))
        .unwrap();
    assert_eq!(
        pending(&house.view()),
        ["Load Balancer PENDING_CREATE", "Listener PENDING_CREATE"]
    );
    house.settle();
    house
        .run(Command::UpdateListener(house.listener(), Box::default()))
        .unwrap();
    assert_eq!(
        pending(&house.view()),
        ["Load Balancer PENDING_UPDATE", "Listener PENDING_UPDATE"]
    );
}

#[test]
fn only_rows_the_request_named_get_a_new_time() {
    let mut house = House::furnished();
    let (pool, member) = (house.pool(), house.member(0));
    let change = house
        .run(Command::UpdateMember(pool, member, MemberUpdate::default()))
        .unwrap();
    let tree = &change.tree;
    assert!(tree.member(member).unwrap().updated_at.is_some());
    assert_eq!(tree.load_balancer.updated_at, None);
    assert_eq!(tree.listeners[0].updated_at, None);
    assert_eq!(tree.pools[0].updated_at, None);
    assert_eq!(tree.listeners[0].touch, Touch::Update);
}

#[test]
fn a_clock_that_steps_back_does_not_make_a_change_older() {
    let mut house = House::furnished();
    house.tree.load_balancer.updated_at = Some(crate::sample::at(1_000));
    let change = house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    assert_eq!(
        change.tree.listeners[0].updated_at,
        Some(crate::sample::at(1_000))
    );
}
