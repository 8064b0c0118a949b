//! What tenants' words become.

use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec,
};

use krater_amphora_api::{ExpectedCodes, HttpVersion};
use uuid::Uuid;

use super::*;
use crate::{
    command::{
        Cascade, Command, L7PolicyUpdate, L7RuleUpdate, ListenerUpdate, MemberUpdate, NewL7Policy,
        NewL7Rule, NewPool, PoolUpdate,
    },
    model::{
        AdditionalVip, Congestion, MemberDrain, MonitorType, PoolTls, RedirectCode, RedirectUrl,
        SessionPersistence, Treatment,
    },
    sample::{
        House, generation, http_kind, new_listener, new_monitor, new_policy, new_pool, new_rule,
        path_rule, tcp_kind,
    },
};

mod tls;

fn spec(house: &House) -> SnapshotSpec {
    compile(&house.tree, &Defaults::default(), &Secrets::default())
}

#[test]
fn a_flavor_bounds_the_connections_of_every_listener_whatever_it_asks_for() {
    let mut house = House::furnished();
    // What the flavor allows, what the listener asks for, what it gets.
    for (most, asked, limit) in [
        (None, Some(70_000), 70_000),
        (Some(10), None, 10),
        (Some(10), Some(9), 9),
        (Some(10), Some(11), 10),
        (Some(70_000), None, 50_000),
    ] {
        house.tree.load_balancer.value.steering.connections_max = most;
        house.tree.listeners[0].value.connection_limit = asked;
        assert_eq!(spec(&house).listeners[0].connection_limit, limit);
    }
}

#[test]
fn a_furnished_tree_is_shipped_whole() {
    let house = House::furnished();
    let spec = spec(&house);
    assert_eq!(
        (spec.load_balancer, spec.generation, spec.enabled),
        (house.id(), generation(1), true)
    );
    assert_eq!((spec.name.as_str(), spec.vips.len()), ("edge", 1));
    let listener = &spec.listeners[0];
    assert_eq!(
        (listener.protocol, listener.port, listener.enabled),
        (Spoken::Http, 80, true)
    );
    assert_eq!(
        (listener.default_pool, listener.connection_limit),
        (Some(house.pool()), 50_000)
    );
    assert_eq!(listener.timeouts, TimeoutsSpec::default());
    let pool = &spec.pools[0];
    assert_eq!(
        (pool.protocol, pool.algorithm),
        (SpokenToMembers::Http, Algorithm::RoundRobin)
    );
    assert_eq!(pool.members[1].address.to_string(), "10.1.0.2");
    assert_eq!(
        (
            pool.members[1].port,
            pool.members[1].weight,
            pool.members[1].backup
        ),
        (8080, 1, false)
    );
    let monitor = pool.monitor.as_ref().unwrap();
    assert_eq!(
        (
            monitor.delay_ms,
            monitor.timeout_ms,
            monitor.rise,
            monitor.fall
        ),
        (5_000, 3_000, 2, 3)
    );
    let ProbeSpec::Http(probe) = &monitor.probe else {
        panic!("not an HTTP probe")
    };
    assert_eq!(
        (probe.method.as_str(), probe.path.as_str()),
        ("GET", "/ready")
    );
    assert_eq!(
        probe.expected_codes,
        [ExpectedCodes {
            first: 200,
            last: 204
        }]
    );
}

#[test]
fn what_the_data_plane_has_no_words_for_is_left_out() {
    let mut house = House::furnished();
    for (port, protocol) in (90..).zip(ListenerProtocol::ALL) {
        house.add_listener(new_listener(protocol, port)).unwrap();
    }
    let sent: Vec<_> = spec(&house)
        .listeners
        .iter()
        .map(|listener| listener.port)
        .collect();
    let carried = [
        ListenerProtocol::Tcp,
        ListenerProtocol::Http,
        ListenerProtocol::Https,
        ListenerProtocol::Udp,
        ListenerProtocol::Prometheus,
    ];
    let ports = (90..).zip(ListenerProtocol::ALL);
    let ports = ports.filter(|(_, protocol)| carried.contains(protocol));
    let ports: Vec<_> = [80]
        .into_iter()
        .chain(ports.map(|(port, _)| port))
        .collect();
    assert_eq!(sent, ports);
    for protocol in PoolProtocol::ALL {
        house.add_pool(new_pool(protocol)).unwrap();
    }
    let tls = NewPool {
        tls: PoolTls {
            enabled: true,
            ..PoolTls::default()
        },
        ..new_pool(PoolProtocol::Http)
    };
    house.add_pool(tls.clone()).unwrap();
    assert_eq!(spec(&house).pools.len(), 8);
    let streams = NewPool {
        protocol: PoolProtocol::Tcp,
        ..tls
    };
    house.add_pool(streams).unwrap();
    assert_eq!(spec(&house).pools.len(), 8);
    house
        .run(Command::DeleteHealthMonitor(house.monitor()))
        .unwrap();
    for monitor in MonitorType::ALL {
        let kind = MonitorKind::new(monitor, http_kind().http().unwrap().clone());
        // Those of UDP fit another pool only, and are compiled like any other.
        let pool = &mut house.tree.pools[0].value;
        pool.protocol = if matches!(monitor, MonitorType::UdpConnect | MonitorType::Sctp) {
            PoolProtocol::Udp
        } else {
            PoolProtocol::Http
        };
        let new = Command::CreateHealthMonitor(house.pool(), Box::new(new_monitor(kind)));
        house.run(new).unwrap();
        house.tree.pools[0].value.protocol = PoolProtocol::Http;
        let carried = monitor != MonitorType::Sctp;
        assert_eq!(
            spec(&house).pools[0].monitor.is_some(),
            carried,
            "{monitor:?}"
        );
        let id = house.tree.monitor_of(house.pool()).unwrap().value.id;
        house.run(Command::DeleteHealthMonitor(id)).unwrap();
    }
}

#[test]
fn a_limit_of_none_or_zero_is_the_default() {
    let mut house = House::furnished();
    let defaults = Defaults {
        connection_limit: 7,
        ..Defaults::default()
    };
    for (limit, expected) in [(None, 7), (Some(0), 7), (Some(3), 3)] {
        house.tree.listeners[0].value.connection_limit = limit;
        assert_eq!(
            compile(&house.tree, &defaults, &Secrets::default()).listeners[0].connection_limit,
            expected
        );
    }
    house.tree.listeners[0].value.connection_limit = None;
    assert_eq!(
        compile(
            &house.tree,
            &Defaults {
                connection_limit: 0,
                ..Defaults::default()
            },
            &Secrets::default()
        )
        .listeners[0]
            .connection_limit,
        1
    );
}

#[test]
fn what_is_being_deleted_is_left_out_and_what_named_it_is_left_without() {
    let mut house = House::furnished();
    house
        .run(Command::DeleteMember(house.pool(), house.member(0)))
        .unwrap();
    house
        .run(Command::DeleteHealthMonitor(house.monitor()))
        .unwrap();
    let before = spec(&house);
    assert_eq!(before.pools[0].members.len(), 1);
    assert_eq!(before.pools[0].monitor, None);
    house.run(Command::DeletePool(house.pool())).unwrap();
    let after = spec(&house);
    assert_eq!(
        (after.pools.len(), after.listeners[0].default_pool),
        (0, None)
    );
    house
        .run(Command::DeleteListener(house.listener()))
        .unwrap();
    assert!(spec(&house).listeners.is_empty());
    // Even a name that nobody cleared.
    let mut house = House::furnished();
    house.tree.pools.clear();
    assert_eq!(spec(&house).listeners[0].default_pool, None);
}

#[test]
fn admin_states_are_passed_on() {
    let mut house = House::furnished();
    house.tree.load_balancer.value.admin_state_up = false;
    house.tree.listeners[0].value.admin_state_up = false;
    house.tree.pools[0].value.admin_state_up = false;
    house.tree.members[0].value.admin_state_up = false;
    house.tree.health_monitors[0].value.admin_state_up = false;
    let spec = spec(&house);
    assert!(!spec.enabled && !spec.listeners[0].enabled && !spec.pools[0].enabled);
    assert!(!spec.pools[0].members[0].enabled && spec.pools[0].members[1].enabled);
    assert!(!spec.pools[0].monitor.as_ref().unwrap().enabled);
    let mut house = House::furnished();
    house
        .run(Command::DeleteLoadBalancer(
            house.id(),
            Cascade::WithChildren,
        ))
        .unwrap();
    assert!(!self::spec(&house).enabled);
}

#[test]
fn only_a_true_value_inserts_a_header() {
    let mut house = House::furnished();
    let headers = [
        ("X-Forwarded-For", "TRUE"),
        ("X-Forwarded-Port", "yes"),
        ("X-Forwarded-Proto", "true"),
        ("X-Forwarded-IP", "true"),
        ("X-Client-IP", "false"),
        ("X-Real-IP", "True"),
    ];
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    let update = ListenerUpdate {
        insert_headers: Some(InsertHeaders(headers)),
        ..ListenerUpdate::default()
    };
    house
        .run(Command::UpdateListener(house.listener(), Box::new(update)))
        .unwrap();
    let headers = spec(&house).listeners[0].insert_headers;
    assert!(headers.x_forwarded_for && !headers.x_forwarded_port && headers.x_forwarded_proto);
    assert!(headers.x_forwarded_ip && !headers.x_client_ip && headers.x_real_ip);
}

#[test]
fn every_address_is_bound_once() {
    let mut house = House::empty();
    let of = |address: &str| AdditionalVip {
        address: address.parse().unwrap(),
        subnet_id: Uuid::nil(),
    };
    house.tree.load_balancer.value.additional_vips =
        vec![of("2001:db8::1"), of("::ffff:10.0.0.2"), of("10.0.0.3")];
    let vips: Vec<_> = spec(&house)
        .vips
        .iter()
        .map(|vip| vip.address.to_string())
        .collect();
    assert_eq!(vips, ["10.0.0.2", "2001:db8::1", "10.0.0.3"]);
}

#[test]
fn every_algorithm_protocol_and_probe_has_its_counterpart() {
    let mut house = House::furnished();
    for (named, meant) in LbAlgorithm::ALL.into_iter().zip([
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::SourceIp,
        Algorithm::SourceIpPort,
    ]) {
        house.tree.pools[0].value.lb_algorithm = named;
        assert_eq!(spec(&house).pools[0].algorithm, meant);
    }
    house.tree.listeners[0].value.protocol = ListenerProtocol::Tcp;
    house.tree.pools[0].value.protocol = PoolProtocol::Tcp;
    let tcp = spec(&house);
    assert_eq!(
        (tcp.listeners[0].protocol, tcp.pools[0].protocol),
        (Spoken::Tcp, SpokenToMembers::Tcp)
    );
    for (named, meant) in [
        (PoolProtocol::Https, SpokenToMembers::Tcp),
        (PoolProtocol::Proxy, SpokenToMembers::Proxy),
        (PoolProtocol::ProxyV2, SpokenToMembers::ProxyV2),
    ] {
        house.tree.listeners[0].value.protocol = ListenerProtocol::Https;
        house.tree.pools[0].value.protocol = named;
        let passed = spec(&house);
        assert_eq!(
            (passed.listeners[0].protocol, passed.pools[0].protocol),
            (Spoken::Tcp, meant)
        );
    }
    let named = |domain_name: Option<&str>| MonitorKind::TlsHello {
        http_version: None,
        domain_name: domain_name.map(String::from),
    };
    for (kind, probe) in [
        (tcp_kind(), ProbeSpec::Tcp),
        (named(None), ProbeSpec::TlsHello { server_name: None }),
        (
            named(Some("app.example.test")),
            ProbeSpec::TlsHello {
                server_name: Some("app.example.test".into()),
            },
        ),
        (
            MonitorKind::Ping {
                http_version: None,
                domain_name: None,
            },
            ProbeSpec::Ping,
        ),
    ] {
        house.tree.health_monitors[0].value.kind = kind;
        assert_eq!(spec(&house).pools[0].monitor.as_ref().unwrap().probe, probe);
    }
}

#[test]
fn requests_of_monitors_are_the_same_inside_tls() {
    let mut house = House::furnished();
    let mut kind = http_kind();
    if let MonitorKind::Http(http) = &mut kind {
        http.http_version = Some(HttpVersion::Http11);
        http.domain_name = Some("app.example.test".into());
    }
    house.tree.health_monitors[0].value.kind = match kind.clone() {
        MonitorKind::Http(http) => MonitorKind::Https(http),
        other => other,
    };
    let ProbeSpec::Https(over_tls) = spec(&house).pools[0].monitor.clone().unwrap().probe else {
        panic!("not HTTPS")
    };
    house.tree.health_monitors[0].value.kind = kind;
    let ProbeSpec::Http(probe) = spec(&house).pools[0].monitor.clone().unwrap().probe else {
        panic!("not HTTP")
    };
    assert_eq!(probe, over_tls);
    assert_eq!(
        (probe.version, probe.domain_name.as_deref()),
        (Some(HttpVersion::Http11), Some("app.example.test"))
    );
}

#[test]
fn clients_are_kept_by_address_and_forgotten_where_there_are_no_streams() {
    let mut house = House::furnished();
    let mut compiled = |protocol, kind, timeout_seconds, granularity: Option<&str>| {
        house.tree.pools[0].value.protocol = protocol;
        house.tree.pools[0].value.session_persistence = Some(SessionPersistence {
            kind,
            cookie_name: None,
            timeout_seconds,
            granularity: granularity.map(|mask| mask.parse().unwrap()),
        });
        compile_persistence(&house.tree.pools[0].value)
    };
    let by = |timeout_seconds, granularity: Option<&str>| {
        Some(PersistenceSpec::SourceIp {
            timeout_seconds,
            granularity: granularity.map(|mask| mask.parse().unwrap()),
        })
    };
    let (tcp, udp) = (PoolProtocol::Tcp, PoolProtocol::Udp);
    let source = PersistenceType::SourceIp;
    for protocol in [tcp, PoolProtocol::Http] {
        assert_eq!(compiled(protocol, source, None, None), by(None, None));
    }
    let mask = Some("255.255.255.0");
    for (given, meant) in [
        (None, 360),
        (Some(0), 360),
        (Some(7), 7),
        (Some(u32::MAX), PERSISTENCE_SECONDS_MAX),
    ] {
        assert_eq!(compiled(udp, source, given, mask), by(Some(meant), mask));
    }
    house.tree.pools[0].value.protocol = tcp;
    assert_eq!(spec(&house).pools[0].persistence, by(None, mask));
    let mut by_cookie = |kind, cookie_name: Option<&str>| {
        house.tree.pools[0].value.session_persistence = Some(SessionPersistence {
            kind,
            cookie_name: cookie_name.map(String::from),
            timeout_seconds: None,
            granularity: None,
        });
        compile_persistence(&house.tree.pools[0].value)
    };
    assert_eq!(
        by_cookie(PersistenceType::HttpCookie, None),
        Some(PersistenceSpec::HttpCookie)
    );
    let name = "SESSION".to_string();
    assert_eq!(
        by_cookie(PersistenceType::AppCookie, Some("SESSION")),
        Some(PersistenceSpec::AppCookie { name })
    );
}

#[test]
fn the_longest_timer_fits_what_an_amphora_counts_in() {
    let mut house = House::furnished();
    house.tree.health_monitors[0].value.delay_seconds = u32::MAX;
    let delay = spec(&house).pools[0].monitor.as_ref().unwrap().delay_ms;
    assert!(delay <= i32::MAX.cast_unsigned() && delay >= 2_147_483_000);
}

#[test]
fn what_is_probed_instead_is_passed_on() {
    let mut house = House::furnished();
    let update = MemberUpdate {
        monitor_address: Some(Some("10.1.0.99".parse().unwrap())),
        monitor_port: Some(Some(9_000)),
        backup: Some(true),
        weight: Some(256),
        ..MemberUpdate::default()
    };
    house
        .run(Command::UpdateMember(house.pool(), house.member(0), update))
        .unwrap();
    let member = spec(&house).pools[0].members[0].clone();
    assert_eq!(
        (member.monitor_port, member.backup, member.weight),
        (Some(9_000), true, 256)
    );
    assert_eq!(member.monitor_address.unwrap().to_string(), "10.1.0.99");
}

#[test]
fn policies_are_shipped_by_position_with_what_they_do() {
    let mut house = House::with_policy();
    let pool = house.tree.pools[1].value.id;
    let url = |text: &str| RedirectUrl::parse(text.into()).unwrap();
    let actions = [
        L7Action::Reject,
        L7Action::RedirectToUrl {
            url: url("http://u"),
            code: RedirectCode::SeeOther,
        },
        L7Action::RedirectPrefix {
            prefix: url("http://p"),
            code: RedirectCode::Permanent,
        },
    ];
    for action in actions {
        let new = NewL7Policy {
            position: Some(1),
            ..new_policy(action)
        };
        house.add_policy(new).unwrap();
        let id = house.tree.l7_policies.last().unwrap().value.id;
        let rule = Command::CreateL7Rule(id, Box::new(path_rule()));
        house.run(rule).unwrap();
    }
    // Without a rule it is none.
    house.add_policy(new_policy(L7Action::Reject)).unwrap();
    let spec = spec(&house);
    let actions: Vec<_> = spec.listeners[0]
        .policies
        .iter()
        .map(|policy| policy.action.clone())
        .collect();
    assert_eq!(
        actions,
        [
            PolicyAction::RedirectPrefix {
                prefix: "http://p".into(),
                code: 308
            },
            PolicyAction::RedirectToUrl {
                url: "http://u".into(),
                code: 303
            },
            PolicyAction::Reject,
            PolicyAction::RedirectToPool(pool),
        ]
    );
    assert_eq!(
        spec.listeners[0].policies[3].rules,
        [RuleSpec {
            subject: RuleSubject::Path,
            comparison: Comparison::StartsWith,
            value: "/shop".into(),
            invert: false
        }]
    );
}

#[test]
fn rules_are_said_in_the_words_of_the_data_plane() {
    use CompareType as Way;
    use L7RuleType::{Cookie, FileType, Header, HostName, Path};
    let subject = |rule_type| match rule_type {
        HostName => RuleSubject::HostName,
        Header => RuleSubject::Header("X-A".into()),
        Cookie => RuleSubject::Cookie("X-A".into()),
        _ => RuleSubject::Path,
    };
    let cases = [
        (HostName, Way::EqualTo, "a", Comparison::EqualTo, "a"),
        (Path, Way::EndsWith, "/a", Comparison::EndsWith, "/a"),
        // A file type is how a path ends.
        (FileType, Way::EqualTo, "jpg", Comparison::EndsWith, "jpg"),
        (FileType, Way::Regex, "jpe?g", Comparison::Regex, "jpe?g"),
        // Quotes hold spaces together, except in patterns.
        (
            Header,
            Way::Contains,
            "\"a b\"",
            Comparison::Contains,
            "a b",
        ),
        (
            Header,
            Way::StartsWith,
            "\"a",
            Comparison::StartsWith,
            "\"a",
        ),
        (Header, Way::EqualTo, "\"", Comparison::EqualTo, "\""),
        (Header, Way::Regex, "\"a\"", Comparison::Regex, "\"a\""),
        (Cookie, Way::EqualTo, "v", Comparison::EqualTo, "v"),
    ];
    for (rule_type, compare, value, comparison, bare) in cases {
        let mut house = House::with_policy();
        let new = NewL7Rule {
            key: Some("X-A".into()),
            invert: true,
            ..new_rule(rule_type, compare, value)
        };
        house.add_rule(new).unwrap();
        let expected = RuleSpec {
            subject: subject(rule_type),
            comparison,
            value: bare.into(),
            invert: true,
        };
        assert_eq!(spec(&house).listeners[0].policies[0].rules[1], expected);
    }
}

#[test]
fn what_is_switched_off_is_not_shipped() {
    let policies = |house: &House| -> Vec<usize> {
        let policies = spec(house).listeners[0].policies.clone();
        policies.iter().map(|policy| policy.rules.len()).collect()
    };
    let house = || {
        let mut house = House::with_policy();
        house.add_rule(path_rule()).unwrap();
        house
    };
    assert_eq!(policies(&house()), [2]);
    let rule_off = |house: &House, number| {
        let off = L7RuleUpdate {
            admin_state_up: Some(false),
            ..L7RuleUpdate::default()
        };
        Command::UpdateL7Rule(house.policy(0), house.rule(number), off)
    };
    let mut fewer = house();
    fewer.run(rule_off(&fewer, 0)).unwrap();
    assert_eq!(policies(&fewer), [1], "what is left of the rules decides");
    fewer.run(rule_off(&fewer, 1)).unwrap();
    assert_eq!(policies(&fewer), []);

    let mut off = house();
    let update = L7PolicyUpdate {
        admin_state_up: Some(false),
        ..L7PolicyUpdate::default()
    };
    let command = Command::UpdateL7Policy(off.policy(0), Box::new(update));
    off.run(command).unwrap();
    assert_eq!(policies(&off), []);

    let mut pool_off = house();
    let update = PoolUpdate {
        admin_state_up: Some(false),
        ..PoolUpdate::default()
    };
    let pool = pool_off.tree.pools[1].value.id;
    pool_off
        .run(Command::UpdatePool(pool, Box::new(update)))
        .unwrap();
    assert_eq!(policies(&pool_off), [], "evaluation goes on to the next");

    let mut deleted = house();
    deleted
        .run(Command::DeleteL7Policy(deleted.policy(0)))
        .unwrap();
    assert_eq!(policies(&deleted), []);
}

#[test]
fn what_rules_ask_of_certificates_is_said_in_numbers() {
    let mut house = House::with_policy();
    let add = |house: &mut House, kind, value| {
        house
            .add_rule(new_rule(kind, CompareType::EqualTo, value))
            .unwrap();
    };
    add(&mut house, L7RuleType::SslConnHasCert, "true");
    assert!(
        spec(&house).listeners[0].policies.is_empty(),
        "no TLS ends there"
    );
    let mut house = House::with_policy();
    for (kind, value) in [
        (L7RuleType::SslConnHasCert, "TRUE"),
        (L7RuleType::SslVerifyResult, "007"),
        (L7RuleType::SslVerifyResult, "00"),
    ] {
        add(&mut house, kind, value);
    }
    let listener = &mut house.tree.listeners[0].value;
    listener.protocol = ListenerProtocol::TerminatedHttps;
    let mut policies = compile_policies(&house.tree);
    let listener = house.tree.listeners[0].value.id;
    let rules = policies.remove(&listener).unwrap().remove(0).rules;
    let said: Vec<_> = rules
        .into_iter()
        .skip(1)
        .map(|rule| (rule.subject, rule.value))
        .collect();
    assert_eq!(
        said,
        [
            (RuleSubject::CertificateShown, "1".to_string()),
            (RuleSubject::CertificateVerified, "7".to_string()),
            (RuleSubject::CertificateVerified, "0".to_string()),
        ]
    );
}

#[test]
fn members_and_clients_are_treated_as_the_flavor_says_and_else_as_the_deployment_has_it() {
    let mut house = House::furnished();
    let usual = spec(&house);
    assert_eq!(usual.member_drain_ms, None);
    assert!(
        usual
            .listeners
            .iter()
            .all(|listener| listener.source_rate.is_none())
    );
    assert!(usual.pools.iter().all(|pool| {
        pool.slow_start_ms == 0
            && pool
                .passive_health
                .is_some_and(|passive| passive.failures == 3)
    }));
    assert!(
        usual
            .listeners
            .iter()
            .all(|listener| listener.congestion_control.is_none())
    );
    let reno = "reno".parse().unwrap();
    house.tree.load_balancer.value.steering.treatment = Treatment {
        congestion_control: Some(Congestion::Named(reno)),
        passive_failures: Some(0),
        slow_start_seconds: Some(30),
        source_rate: Some(5),
        member_drain: Some(MemberDrain::Seconds(60)),
        member_requests: Some(9),
        ..Treatment::default()
    };
    let asked = spec(&house);
    assert_eq!(asked.member_drain_ms, Some(60_000));
    assert!(asked.listeners.iter().all(|listener| {
        listener.source_rate == Some(5) && listener.congestion_control == Some(reno)
    }));
    assert!(
        asked
            .pools
            .iter()
            .all(|pool| pool.slow_start_ms == 30_000 && pool.passive_health.is_none())
    );
    house.tree.listeners[0].value.protocol = ListenerProtocol::Udp;
    assert_eq!(
        spec(&house).listeners[0].congestion_control,
        None,
        "datagrams have none"
    );
}
