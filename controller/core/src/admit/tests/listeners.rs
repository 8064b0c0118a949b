//! Rules of listeners.

use alloc::{boxed::Box, collections::BTreeMap, format, string::ToString, vec};

use uuid::Uuid;

use crate::{
    command::{Command, ListenerUpdate, NewListener, PoolRef},
    limits, matrix,
    model::{
        InsertHeaders, ListenerId, ListenerProtocol, LoadBalancerId, PoolId, PoolProtocol, Timeouts,
    },
    refusal::Refusal,
    resource::ResourceId,
    sample::{House, new_listener, new_pool},
};

const HTTP: ListenerProtocol = ListenerProtocol::Http;
const TCP: ListenerProtocol = ListenerProtocol::Tcp;

fn headers() -> InsertHeaders {
    InsertHeaders(BTreeMap::from([(
        "X-Forwarded-For".to_string(),
        "true".to_string(),
    )]))
}

fn update(house: &House, update: ListenerUpdate) -> Command {
    Command::UpdateListener(house.listener(), Box::new(update))
}

#[test]
fn a_port_is_taken_by_one_listener_whatever_it_speaks() {
    let mut house = House::furnished();
    assert_eq!(
        house.add_listener(new_listener(TCP, 80)),
        Err(Refusal::DuplicatePort {
            protocol: TCP,
            port: 80
        })
    );
    house.add_listener(new_listener(TCP, 81)).unwrap();
    // Ports of other families are other ports.
    for protocol in [ListenerProtocol::Udp, ListenerProtocol::Sctp] {
        house.add_listener(new_listener(protocol, 80)).unwrap();
        assert_eq!(
            house.add_listener(new_listener(protocol, 80)),
            Err(Refusal::DuplicatePort { protocol, port: 80 })
        );
    }
    // One that is being deleted has given its port up.
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    house.add_listener(new_listener(TCP, 80)).unwrap();
}

#[test]
fn a_listener_sends_to_the_pools_the_table_names() {
    for (listener, allowed) in matrix::LISTENER_TO_POOL {
        for pool in PoolProtocol::ALL {
            let mut house = House::empty();
            house.add_pool(new_pool(pool)).unwrap();
            let default_pool = Some(PoolRef::Existing(house.pool()));
            let direct = house.ask(Command::CreateListener(
                house.id(),
                Box::new(NewListener {
                    default_pool,
                    ..new_listener(*listener, 80)
                }),
            ));
            house.add_listener(new_listener(*listener, 80)).unwrap();
            let change = ListenerUpdate {
                default_pool: Some(Some(house.pool())),
                ..ListenerUpdate::default()
            };
            let later = house.ask(update(&house, change));
            let mismatch = if *listener == ListenerProtocol::Prometheus {
                Refusal::ChildOfPrometheus
            } else {
                Refusal::ProtocolMismatch {
                    listener: *listener,
                    pool,
                }
            };
            if allowed.contains(&pool) {
                assert_eq!(
                    direct.unwrap().tree.listeners[0].value.default_pool,
                    Some(house.pool())
                );
                assert_eq!(
                    later.unwrap().tree.listeners[0].value.default_pool,
                    Some(house.pool())
                );
            } else {
                assert_eq!(direct, Err(mismatch.clone()));
                assert_eq!(later, Err(mismatch));
            }
        }
    }
}

#[test]
fn its_pool_is_one_of_the_same_load_balancer_that_stays() {
    let mut house = House::furnished();
    let stranger = PoolId::new(Uuid::nil());
    let with = |pool| NewListener {
        default_pool: Some(pool),
        ..new_listener(HTTP, 81)
    };
    let unknown = Err(Refusal::NotFound(ResourceId::Pool(stranger)));
    assert_eq!(
        house.add_listener(with(PoolRef::Existing(stranger))),
        unknown
    );
    let change = ListenerUpdate {
        default_pool: Some(Some(stranger)),
        ..ListenerUpdate::default()
    };
    assert_eq!(house.ask(update(&house, change)), unknown);
    assert!(matches!(
        house.add_listener(with(PoolRef::New(0))),
        Err(Refusal::Invalid(_))
    ));
    house.run(Command::DeletePool(house.pool())).unwrap();
    let leaving = Err(Refusal::BeingDeleted(ResourceId::Pool(house.pool())));
    assert_eq!(
        house.add_listener(with(PoolRef::Existing(house.pool()))),
        leaving
    );
    let change = ListenerUpdate {
        default_pool: Some(Some(house.pool())),
        ..ListenerUpdate::default()
    };
    assert_eq!(house.ask(update(&house, change)), leaving);
}

#[test]
fn only_http_takes_headers() {
    let mut house = House::empty();
    let refusal = house.add_listener(NewListener {
        insert_headers: headers(),
        ..new_listener(TCP, 80)
    });
    assert_eq!(
        refusal.unwrap_err().to_string(),
        "insert-headers is not a valid option for a TCP protocol listener."
    );
    house.add_listener(new_listener(TCP, 80)).unwrap();
    let change = ListenerUpdate {
        insert_headers: Some(headers()),
        ..ListenerUpdate::default()
    };
    assert!(matches!(
        house.ask(update(&house, change.clone())),
        Err(Refusal::InvalidOption { .. })
    ));
    let none = ListenerUpdate {
        insert_headers: Some(InsertHeaders::default()),
        ..ListenerUpdate::default()
    };
    house.run(update(&house, none)).unwrap();
    let mut house = House::furnished();
    let change = house.run(update(&house, change)).unwrap();
    assert!(
        change.tree.listeners[0]
            .value
            .insert_headers
            .inserts("X-Forwarded-For")
    );
}

#[test]
fn allowed_networks_are_of_the_family_of_an_address() {
    let mut house = House::furnished();
    let change = |cidr: &str| ListenerUpdate {
        allowed_cidrs: Some(vec![cidr.to_string()]),
        ..ListenerUpdate::default()
    };
    house
        .run(update(&house, change("198.51.100.0/24")))
        .unwrap();
    assert!(matches!(
        house.ask(update(&house, change("::/0"))),
        Err(Refusal::Invalid(_))
    ));
    for nonsense in ["198.51.100.0", "198.51.100.0/33", "all/0", "/8"] {
        assert!(
            matches!(
                house.ask(update(&house, change(nonsense))),
                Err(Refusal::Invalid(_))
            ),
            "{nonsense}"
        );
    }
}

#[test]
fn allowed_networks_are_counted_per_listener_and_over_all() {
    let mut house = House::empty();
    let many = |count: usize| {
        (0..count)
            .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
            .collect()
    };
    let with = |count, port| NewListener {
        allowed_cidrs: many(count),
        ..new_listener(TCP, port)
    };
    assert!(matches!(
        house.add_listener(with(limits::ALLOWED_CIDRS_MAX + 1, 80)),
        Err(Refusal::Invalid(_))
    ));
    for port in 1..=100 {
        house
            .add_listener(with(limits::ALLOWED_CIDRS_MAX, port))
            .unwrap();
    }
    assert!(matches!(
        house.add_listener(with(1, 101)),
        Err(Refusal::Invalid(_))
    ));
    // Replacing a listener's own does not count them twice.
    let change = ListenerUpdate {
        allowed_cidrs: Some(many(1_000)),
        ..ListenerUpdate::default()
    };
    house.run(update(&house, change)).unwrap();
    house.add_listener(with(0, 101)).unwrap();
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    let mut house = House::furnished();
    let pool = house.pool();
    let change = ListenerUpdate {
        connection_limit: Some(Some(7)),
        client_data_ms: Some(1_000),
        tcp_inspect_ms: Some(5),
        admin_state_up: Some(false),
        ..ListenerUpdate::default()
    };
    let change = house.run(update(&house, change)).unwrap();
    let listener = &change.tree.listeners[0].value;
    assert_eq!(listener.connection_limit, Some(7));
    let timeouts = Timeouts {
        client_data_ms: 1_000,
        tcp_inspect_ms: 5,
        ..Timeouts::default()
    };
    assert_eq!(
        (listener.timeouts, listener.admin_state_up),
        (timeouts, false)
    );
    assert_eq!(
        (listener.default_pool, listener.protocol_port),
        (Some(pool), 80)
    );
    let clear = ListenerUpdate {
        default_pool: Some(None),
        ..ListenerUpdate::default()
    };
    let change = house.run(update(&house, clear)).unwrap();
    assert_eq!(change.tree.listeners[0].value.default_pool, None);
    assert_eq!(change.subject, ResourceId::Listener(house.listener()));
}

#[test]
fn a_listener_of_elsewhere_is_not_found() {
    let mut house = House::furnished();
    let stranger = ListenerId::new(Uuid::nil());
    let unknown = Err(Refusal::NotFound(ResourceId::Listener(stranger)));
    assert_eq!(
        house.ask(Command::UpdateListener(stranger, Box::default())),
        unknown
    );
    assert_eq!(house.ask(Command::DeleteListener(stranger)), unknown);
    let balancer = LoadBalancerId::new(Uuid::nil());
    assert_eq!(
        house.ask(Command::CreateListener(
            balancer,
            Box::new(new_listener(TCP, 1))
        )),
        Err(Refusal::NotFound(ResourceId::LoadBalancer(balancer)))
    );
}

#[test]
fn one_that_is_being_deleted_may_be_deleted_again_and_nothing_else() {
    let mut house = House::furnished();
    let id = house.listener();
    assert!(!house.run(Command::DeleteListener(id)).unwrap().is_empty());
    assert!(house.run(Command::DeleteListener(id)).unwrap().is_empty());
    assert_eq!(
        house.ask(Command::UpdateListener(id, Box::default())),
        Err(Refusal::BeingDeleted(ResourceId::Listener(id)))
    );
}

#[test]
fn a_load_balancer_has_no_more_listeners_than_the_limit() {
    let mut house = House::empty();
    for port in 1..=u16::try_from(limits::LISTENERS_MAX).unwrap() {
        house.add_listener(new_listener(TCP, port)).unwrap();
    }
    assert_eq!(
        house.add_listener(new_listener(TCP, 2_000)),
        Err(Refusal::QuotaMet("Listener"))
    );
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    house.add_listener(new_listener(TCP, 2_000)).unwrap();
}
