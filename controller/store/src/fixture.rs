//! Trees and changes to test with.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use krater_amphora_api::{
    Generation, HealthMonitorId, L7PolicyId, L7RuleId, ListenerId, LoadBalancerId, MemberId, PoolId,
};
use krater_controller_core::{
    change::Change,
    model::{
        AdditionalVip, CompareType, Description, HealthMonitor, InsertHeaders, L7Action, L7Policy,
        L7Rule, L7RuleType, LbAlgorithm, Listener, ListenerProtocol, LoadBalancer, Member,
        MonitorKind, Name, Pool, PoolProtocol, ProjectId, RedirectCode, RedirectUrl, Tags,
        Timeouts, Vip,
    },
    query::ResourceId,
    quota::Growth,
    tree::{LoadBalancerTree, Row, Touch},
};
use uuid::Uuid;

use crate::{ServerSettings, Store};

#[path = "../../../tests/src/postgres.rs"]
#[expect(
    unreachable_pub,
    dead_code,
    reason = "a module of the harness, which others use from outside"
)]
pub(crate) mod postgres;

/// The network of all test load balancers.
pub(crate) const NETWORK: Uuid = Uuid::from_u128(0xaa);

/// An empty store: in memory, or on a database server for the tests of a module that is named for it.
pub(crate) async fn new_store(module: &str) -> Store {
    if module.ends_with("tests_on_server") {
        Store::connect(&new_database()).await.unwrap()
    } else {
        Store::in_memory().await.unwrap()
    }
}

/// An empty database on the server of this process.
pub(crate) fn new_database() -> ServerSettings {
    settings_of(postgres::Postgres::shared().database().0)
}

pub(crate) fn settings_of(url: String) -> ServerSettings {
    ServerSettings {
        url,
        password: None,
        connections_max: 8,
        statement_timeout: std::time::Duration::from_secs(20),
    }
}

/// A moment, `us` microseconds after the epoch.
pub(crate) fn at(us: i64) -> Timestamp {
    Timestamp::from_microsecond(us).unwrap()
}

/// The n-th id of a kind; kinds do not overlap.
fn id(kind: u128, lb: u32, n: u32) -> Uuid {
    Uuid::from_u128((kind << 96) | (u128::from(lb) << 32) | u128::from(n))
}

pub(crate) fn lb_id(lb: u32) -> LoadBalancerId {
    LoadBalancerId::new(id(1, lb, 0))
}

pub(crate) fn listener_id(lb: u32, n: u32) -> ListenerId {
    ListenerId::new(id(2, lb, n))
}

pub(crate) fn pool_id(lb: u32, n: u32) -> PoolId {
    PoolId::new(id(3, lb, n))
}

pub(crate) fn member_id(lb: u32, n: u32) -> MemberId {
    MemberId::new(id(4, lb, n))
}

pub(crate) fn monitor_id(lb: u32) -> HealthMonitorId {
    HealthMonitorId::new(id(5, lb, 0))
}

fn policy_id(lb: u32) -> L7PolicyId {
    L7PolicyId::new(id(8, lb, 0))
}

fn rule_id(lb: u32) -> L7RuleId {
    L7RuleId::new(id(9, lb, 0))
}

pub(crate) fn address(lb: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x7f4d_0002 + lb))
}

fn name(text: String) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn row<T>(value: T, now: Timestamp) -> Row<T> {
    Row {
        value,
        touch: Touch::Create,
        generation: Generation::FIRST,
        created_at: now,
        updated_at: None,
    }
}

pub(crate) fn load_balancer(lb: u32) -> LoadBalancer {
    LoadBalancer {
        id: lb_id(lb),
        project: ProjectId::parse(&format!("project-{}", lb % 2)).unwrap(),
        name: name(format!("lb-{lb}")),
        description: Description::parse("äöü \"quoted\" 🏺".to_owned()).unwrap(),
        admin_state_up: true,
        vip: Vip {
            address: address(lb),
            port_id: id(6, lb, 0),
            subnet_id: id(7, 0, 0),
            network_id: NETWORK,
        },
        additional_vips: Vec::new(),
        vip_qos_policy_id: None,
        vip_sg_ids: Vec::new(),
        vip_vnic_type: krater_controller_core::model::VnicType::Normal,
        provider: "amphora".to_owned(),
        flavor_id: None,
        availability_zone: None,
        steering: krater_controller_core::model::Steering::default(),
        secrets: std::collections::BTreeMap::new(),
        tags: Tags::parse(["a".to_owned(), "b".to_owned()]).unwrap(),
    }
}

pub(crate) fn listener(lb: u32, n: u32) -> Listener {
    Listener {
        id: listener_id(lb, n),
        name: name(format!("listener-{n}")),
        description: Description::default(),
        admin_state_up: true,
        protocol: ListenerProtocol::Http,
        protocol_port: 80,
        connection_limit: Some(7),
        default_pool: Some(pool_id(lb, 0)),
        l7_policies: vec![policy_id(lb)],
        allowed_cidrs: vec!["10.0.0.0/8".to_owned()],
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders::default(),
        tls: Default::default(),
        hsts: Default::default(),
        tags: Tags::default(),
    }
}

pub(crate) fn pool(lb: u32, n: u32) -> Pool {
    Pool {
        id: pool_id(lb, n),
        name: name(format!("pool-{n}")),
        description: Description::default(),
        admin_state_up: true,
        protocol: PoolProtocol::Http,
        lb_algorithm: LbAlgorithm::RoundRobin,
        session_persistence: None,
        tls: Default::default(),
        tags: Tags::default(),
    }
}

pub(crate) fn member(lb: u32, n: u32) -> Member {
    Member {
        id: member_id(lb, n),
        pool: pool_id(lb, 0),
        name: name(format!("member-{n}")),
        admin_state_up: true,
        address: IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n)),
        protocol_port: 8080,
        weight: 1,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: Some(9),
        vnic_type: Default::default(),
        tags: Tags::default(),
    }
}

/// A tree of a load balancer, a listener with a policy of one rule, a pool with members, and a monitor.
pub(crate) fn tree(lb: u32, members: u32) -> LoadBalancerTree {
    let now = at(1_000_000 + i64::from(lb));
    LoadBalancerTree {
        load_balancer: row(load_balancer(lb), now),
        listeners: vec![row(listener(lb, 0), now)],
        pools: vec![row(pool(lb, 0), now)],
        members: (0..members).map(|n| row(member(lb, n), now)).collect(),
        health_monitors: vec![row(
            HealthMonitor {
                id: monitor_id(lb),
                pool: pool_id(lb, 0),
                name: Name::default(),
                admin_state_up: true,
                kind: MonitorKind::Tcp {
                    http_version: None,
                    domain_name: None,
                },
                delay_seconds: 5,
                timeout_seconds: 3,
                max_retries: 3,
                max_retries_down: 3,
                tags: Tags::default(),
            },
            now,
        )],
        l7_policies: vec![row(policy(lb), now)],
        l7_rules: vec![row(rule(lb), now)],
    }
}

fn policy(lb: u32) -> L7Policy {
    L7Policy {
        id: policy_id(lb),
        listener: listener_id(lb, 0),
        name: name("policy".to_owned()),
        description: Description::default(),
        admin_state_up: true,
        action: L7Action::RedirectPrefix {
            prefix: RedirectUrl::parse("https://shop.example.test".to_owned()).unwrap(),
            code: RedirectCode::Permanent,
        },
        tags: Tags::default(),
    }
}

fn rule(lb: u32) -> L7Rule {
    L7Rule {
        id: rule_id(lb),
        policy: policy_id(lb),
        admin_state_up: true,
        rule_type: L7RuleType::Header,
        compare_type: CompareType::Regex,
        key: Some("X-A".to_owned()),
        value: r#"^\d "äöü'"#.to_owned(),
        invert: true,
        tags: Tags::parse(["r".to_owned()]).unwrap(),
    }
}

/// An additional address of a load balancer, in a subnet of its own.
pub(crate) fn additional(lb: u32) -> AdditionalVip {
    AdditionalVip {
        address: address(lb),
        subnet_id: id(7, 0, 1),
    }
}

/// The change that creates a tree.
pub(crate) fn creation(tree: LoadBalancerTree) -> Change {
    let touched = all_of(&tree);
    Change {
        basis: None,
        growth: Growth::staying(&tree),
        subject: ResourceId::LoadBalancer(tree.load_balancer.value.id),
        tree,
        touched,
        offers: Vec::new(),
    }
}

/// The change that touches one more resource, `subject`, which `edit` edits in the tree with the generation to use.
pub(crate) fn update(
    mut tree: LoadBalancerTree,
    subject: ResourceId,
    edit: impl FnOnce(&mut LoadBalancerTree, Generation),
) -> Change {
    let before = Growth::staying(&tree);
    let basis = tree.load_balancer.generation;
    let next = basis.next();
    tree.load_balancer.generation = next;
    tree.load_balancer.touch = Touch::Update;
    edit(&mut tree, next);
    let root = ResourceId::LoadBalancer(tree.load_balancer.value.id);
    let touched = if subject == root {
        vec![root]
    } else {
        vec![root, subject]
    };
    Change {
        basis: Some(basis),
        growth: Growth::staying(&tree).since(&before),
        tree,
        touched,
        subject,
        offers: Vec::new(),
    }
}

/// The change that deletes the n-th member.
pub(crate) fn member_deletion(tree: LoadBalancerTree, n: usize) -> Change {
    let subject = ResourceId::Member(tree.members[n].value.id);
    update(tree, subject, |tree, next| {
        tree.members[n].touch = Touch::Delete;
        tree.members[n].generation = next;
    })
}

/// The change that deletes the load balancer.
pub(crate) fn deletion(tree: LoadBalancerTree) -> Change {
    let root = ResourceId::LoadBalancer(tree.load_balancer.value.id);
    update(tree, root, |tree, _| {
        tree.load_balancer.touch = Touch::Delete
    })
}

/// All resources of a tree.
pub(crate) fn all_of(tree: &LoadBalancerTree) -> Vec<ResourceId> {
    let mut all = vec![ResourceId::LoadBalancer(tree.load_balancer.value.id)];
    all.extend(
        tree.listeners
            .iter()
            .map(|row| ResourceId::Listener(row.value.id)),
    );
    all.extend(tree.pools.iter().map(|row| ResourceId::Pool(row.value.id)));
    all.extend(
        tree.members
            .iter()
            .map(|row| ResourceId::Member(row.value.id)),
    );
    all.extend(
        tree.health_monitors
            .iter()
            .map(|row| ResourceId::HealthMonitor(row.value.id)),
    );
    all.extend(
        tree.l7_policies
            .iter()
            .map(|row| ResourceId::L7Policy(row.value.id)),
    );
    all.extend(
        tree.l7_rules
            .iter()
            .map(|row| ResourceId::L7Rule(row.value.id)),
    );
    all
}
