//! The tree that tests look at: one of everything, two members.

use core::net::IpAddr;
use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, Counters, Generation};
use krater_controller_core::{
    model::{
        AdditionalVip, CompareType, Description, ExpectedCodes, HealthMonitor, HealthMonitorId,
        HttpMonitor, HttpVersion, InsertHeaders, L7Action, L7Policy, L7PolicyId, L7Rule, L7RuleId,
        L7RuleType, LbAlgorithm, Listener, ListenerId, ListenerProtocol, LoadBalancer,
        LoadBalancerId, Member, MemberId, MonitorKind, Name, Pool, PoolId, PoolProtocol, ProjectId,
        RedirectCode, RedirectUrl, Tags, Tenancy, Timeouts, Vip, VnicType,
    },
    query::{AmphoraStatus, AmphoraView, Answer, ListenerStatistics, NetworkView, SubnetView},
    refusal::Refusal,
    status::OperatingStatus,
    tree::{LoadBalancerTree, Observed, Row, Touch, TreeView},
};
use uuid::Uuid;

pub(crate) const PROJECT: &str = "7d1c7d3f5b3e4f6f9a5f0f6f8d2b1a90";
pub(crate) const LOAD_BALANCER: &str = "0b9f0d4e-3c0c-4f0e-8d57-1f5f6a2f7b11";
pub(crate) const LISTENER: &str = "d3b0c2c0-57bb-4a43-9b4a-2b7a0b1a9f10";
pub(crate) const POOL: &str = "a4a4f9d6-21c0-4cf2-8f0c-6f5f4b0a7e04";
pub(crate) const MEMBER_1: &str = "5ed3c0d5-0b8c-4b57-9ac8-0d5f5e0fd206";
pub(crate) const MEMBER_2: &str = "e0b7b8ab-c3e8-4a0d-9f0e-8d4c9d0b7c07";
pub(crate) const MONITOR: &str = "77b39f5b-8d4b-4d8e-9dd0-13d5f0a64c05";
pub(crate) const POLICY: &str = "31fba4c5-44e1-4f10-8e5e-2b3f9a0a4c0a";
pub(crate) const RULE: &str = "f0e4de5a-39a6-4f4b-8b25-d0e0c1ad4c0c";
pub(crate) const PORT: &str = "5a0f7c1e-86a6-4a39-8f02-0f0a2b7a2a77";
pub(crate) const SUBNET: &str = "2c1b8a5e-5f4e-4a54-9f3a-1d8c6d1f0e01";
pub(crate) const SUBNET_6: &str = "9e0d4b77-7a4c-4c0e-bb33-5b1a0a6a1c03";
pub(crate) const NETWORK: &str = "c95f0f2a-1fd5-4b68-a5c8-9c6c9d7f3a02";
pub(crate) const STRANGER: &str = "00000000-0000-4000-8000-00000000beef";

/// A UUID made of a number.
pub(crate) const fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 | number)
}

/// A moment, some seconds after another.
pub(crate) fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_740_000_000 + seconds).unwrap()
}

/// The UUID written in `text`.
pub(crate) fn id(text: &str) -> Uuid {
    Uuid::parse_str(text).unwrap()
}

/// The sample, in force.
pub(crate) fn view() -> TreeView {
    let operating = [
        (LOAD_BALANCER, OperatingStatus::Degraded),
        (LISTENER, OperatingStatus::Online),
        (POOL, OperatingStatus::Degraded),
        (MEMBER_1, OperatingStatus::Online),
        (MEMBER_2, OperatingStatus::Error),
    ];
    TreeView {
        tree: LoadBalancerTree {
            load_balancer: row(
                load_balancer(),
                "2025-03-04T10:11:12.123456Z",
                Some("2025-03-04T10:12:40.9Z"),
            ),
            listeners: vec![row(
                listener(),
                "2025-03-04T10:12:00Z",
                Some("2025-03-04T10:12:40Z"),
            )],
            pools: vec![row(pool(), "2025-03-04T10:12:10Z", None)],
            members: vec![
                row(
                    member(MEMBER_1, "a1", "10.1.0.11"),
                    "2025-03-04T10:13:00Z",
                    None,
                ),
                row(
                    member(MEMBER_2, "a2", "10.1.0.12"),
                    "2025-03-04T10:13:01Z",
                    None,
                ),
            ],
            health_monitors: vec![row(health_monitor(), "2025-03-04T10:13:30Z", None)],
            l7_policies: vec![row(policy(), "2025-03-04T10:14:00Z", None)],
            l7_rules: vec![row(rule(), "2025-03-04T10:14:30Z", None)],
        },
        observed: Observed {
            settled: Some(Generation::FIRST),
            errors: BTreeMap::new(),
            operating: operating
                .into_iter()
                .map(|(text, status)| (id(text), status))
                .collect(),
        },
    }
}

/// An unremarkable load balancer without children.
pub(crate) fn bare_view(number: u128, name: &str, project: &str) -> TreeView {
    let mut view = view();
    let load_balancer = LoadBalancer {
        id: LoadBalancerId::new(uuid(number)),
        project: ProjectId::parse(project).unwrap(),
        name: Name::parse(name.into()).unwrap(),
        tags: Tags::default(),
        additional_vips: Vec::new(),
        ..load_balancer()
    };
    let second = u8::try_from(number % 60).unwrap();
    view.tree = LoadBalancerTree {
        load_balancer: row(
            load_balancer,
            &format!("2025-03-04T11:00:{second:02}Z"),
            None,
        ),
        listeners: Vec::new(),
        pools: Vec::new(),
        members: Vec::new(),
        health_monitors: Vec::new(),
        l7_policies: Vec::new(),
        l7_rules: Vec::new(),
    };
    view
}

pub(crate) fn row<T>(value: T, created_at: &str, updated_at: Option<&str>) -> Row<T> {
    Row {
        value,
        touch: Touch::Create,
        generation: Generation::FIRST,
        created_at: time(created_at),
        updated_at: updated_at.map(time),
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn tags(words: &[&str]) -> Tags {
    Tags::parse(words.iter().map(|word| (*word).to_owned())).unwrap()
}

fn load_balancer() -> LoadBalancer {
    LoadBalancer {
        id: LoadBalancerId::new(id(LOAD_BALANCER)),
        project: ProjectId::parse(PROJECT).unwrap(),
        name: Name::parse("edge-1".into()).unwrap(),
        description: Description::parse("public entry".into()).unwrap(),
        admin_state_up: true,
        vip: Vip {
            address: address("203.0.113.40"),
            port_id: id(PORT),
            subnet_id: id(SUBNET),
            network_id: id(NETWORK),
        },
        additional_vips: vec![AdditionalVip {
            address: address("2001:db8::40"),
            subnet_id: id(SUBNET_6),
        }],
        vip_qos_policy_id: None,
        vip_sg_ids: vec![],
        vip_vnic_type: krater_controller_core::model::VnicType::Normal,
        provider: "amphora".into(),
        flavor_id: None,
        availability_zone: None,
        steering: Default::default(),
        secrets: Default::default(),
        tags: tags(&["prod"]),
    }
}

pub(crate) fn listener() -> Listener {
    let headers = [("X-Forwarded-For", "true"), ("X-Forwarded-Proto", "true")];
    Listener {
        id: ListenerId::new(id(LISTENER)),
        name: Name::parse("web".into()).unwrap(),
        description: Description::default(),
        admin_state_up: true,
        protocol: ListenerProtocol::Http,
        protocol_port: 80,
        connection_limit: Some(2000),
        default_pool: Some(PoolId::new(id(POOL))),
        l7_policies: vec![L7PolicyId::new(id(POLICY))],
        allowed_cidrs: vec!["198.51.100.0/24".into()],
        timeouts: Timeouts::default(),
        insert_headers: InsertHeaders(
            headers
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        ),
        tls: Default::default(),
        hsts: Default::default(),
        tags: Tags::default(),
    }
}

pub(crate) fn pool() -> Pool {
    Pool {
        id: PoolId::new(id(POOL)),
        name: Name::parse("app".into()).unwrap(),
        description: Description::default(),
        admin_state_up: true,
        protocol: PoolProtocol::Http,
        lb_algorithm: LbAlgorithm::RoundRobin,
        session_persistence: None,
        tls: Default::default(),
        tags: Tags::default(),
    }
}

pub(crate) fn member(text: &str, name: &str, at: &str) -> Member {
    Member {
        id: MemberId::new(id(text)),
        pool: PoolId::new(id(POOL)),
        name: Name::parse(name.into()).unwrap(),
        admin_state_up: true,
        address: address(at),
        protocol_port: 8080,
        weight: 5,
        backup: false,
        subnet_id: Some(id(SUBNET)),
        monitor_address: None,
        monitor_port: Some(9000),
        vnic_type: VnicType::Normal,
        tags: tags(&["blue"]),
    }
}

pub(crate) fn health_monitor() -> HealthMonitor {
    HealthMonitor {
        id: HealthMonitorId::new(id(MONITOR)),
        pool: PoolId::new(id(POOL)),
        name: Name::parse("ready".into()).unwrap(),
        admin_state_up: true,
        kind: MonitorKind::Http(HttpMonitor {
            http_method: "GET".into(),
            url_path: "/ready".into(),
            expected_codes: "200-204".into(),
            expected: vec![ExpectedCodes {
                first: 200,
                last: 204,
            }],
            http_version: Some(HttpVersion::Http11),
            domain_name: Some("app.example.test".into()),
        }),
        delay_seconds: 5,
        timeout_seconds: 3,
        max_retries: 2,
        max_retries_down: 3,
        tags: Tags::default(),
    }
}

pub(crate) fn policy() -> L7Policy {
    L7Policy {
        id: L7PolicyId::new(id(POLICY)),
        listener: ListenerId::new(id(LISTENER)),
        name: Name::parse("to-shop".into()).unwrap(),
        description: Description::default(),
        admin_state_up: true,
        action: L7Action::RedirectPrefix {
            prefix: RedirectUrl::parse("https://shop.example.test".into()).unwrap(),
            code: RedirectCode::Permanent,
        },
        tags: Tags::default(),
    }
}

pub(crate) fn rule() -> L7Rule {
    L7Rule {
        id: L7RuleId::new(id(RULE)),
        policy: L7PolicyId::new(id(POLICY)),
        admin_state_up: true,
        rule_type: L7RuleType::Path,
        compare_type: CompareType::StartsWith,
        key: None,
        value: "/shop".into(),
        invert: false,
        tags: Tags::default(),
    }
}

pub(crate) fn network() -> NetworkView {
    let subnet = |text, name: &str, cidr: &str, first, last| SubnetView {
        id: id(text),
        name: name.into(),
        cidr: cidr.into(),
        gateway: None,
        allocation: (address(first), address(last)),
    };
    NetworkView {
        id: id(NETWORK),
        name: "local".into(),
        audience: krater_controller_core::network::Audience::Everybody,
        ports: vec![],
        subnets: vec![
            subnet(
                SUBNET,
                "local-v4",
                "203.0.113.0/24",
                "203.0.113.2",
                "203.0.113.254",
            ),
            subnet(
                SUBNET_6,
                "local-v6",
                "2001:db8::/64",
                "2001:db8::2",
                "2001:db8::ffff",
            ),
        ],
    }
}

pub(crate) const AMPHORAE: [Uuid; 3] = [uuid(0xa0), uuid(0xa1), uuid(0xa2)];

/// One that carries the sample alone, one that carries another too, and one that is silent.
pub(crate) fn amphorae() -> Vec<AmphoraView> {
    let own = LoadBalancerId::new(id(LOAD_BALANCER));
    let amphora = |id: Uuid, created_at: &str| AmphoraView {
        id: AmphoraId::new(id),
        agent: "192.0.2.21:12000".into(),
        status: AmphoraStatus::Allocated,
        last_seen: None,
        version: None,
        pid: None,
        metrics: None,
        load_balancers: vec![own],
        projects: Vec::new(),
        behind: 0,
        zone: "north".into(),
        tenancy: Tenancy::Shared,
        created_at: created_at.parse().unwrap(),
        updated_at: None,
        certified_until: Some("2025-04-03T10:11:12Z".parse().unwrap()),
        is_renewing: false,
        turn: None,
        recent_failures: 0,
    };
    let [first, second, third] = AMPHORAE;
    vec![
        AmphoraView {
            projects: vec![ProjectId::parse(PROJECT).unwrap()],
            ..amphora(first, "2025-03-04T10:11:20Z")
        },
        AmphoraView {
            agent: "[2001:db8::1]:12000".into(),
            zone: "south".into(),
            load_balancers: vec![own, LoadBalancerId::new(uuid(9))],
            is_renewing: true,
            recent_failures: 0,
            ..amphora(second, "2025-03-04T10:11:21Z")
        },
        AmphoraView {
            agent: String::new(),
            status: AmphoraStatus::Error,
            load_balancers: Vec::new(),
            ..amphora(third, "2025-03-04T10:11:22Z")
        },
    ]
}

pub(crate) fn amphora_statistics(of: AmphoraId) -> Result<Answer, Refusal> {
    if of.uuid() != AMPHORAE[0] {
        let kind = "Amphora stats for";
        return Err(Refusal::AmphoraNotFound { kind, id: of });
    }
    Ok(Answer::AmphoraStatistics(vec![ListenerStatistics {
        load_balancer: LoadBalancerId::new(id(LOAD_BALANCER)),
        listener: ListenerId::new(id(LISTENER)),
        counters: Counters {
            active_connections: 3,
            bytes_in: 81_923,
            bytes_out: 612_003,
            request_errors: 0,
            total_connections: 4_211,
        },
    }]))
}
