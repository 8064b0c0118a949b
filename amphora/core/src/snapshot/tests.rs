use std::{borrow::ToOwned, format, string::ToString, vec};

use krater_amphora_api::{
    AccessLogSpec, ExpectedCodes, HttpProbeSpec, HttpVersion, InsertHeadersSpec, ListenerSpec,
    MonitorSpec, PoolSpec, ProbeSpec, Subject, TimeoutsSpec,
};

use super::*;
use crate::{
    limits,
    monitor::Probe,
    sample::{
        self, http_probe, listener, listener_id, member, member_id, monitor, monitor_id, pool,
        pool_id, spec,
    },
};

mod announcement;
mod arbitrary;
mod policy;
mod probe;
mod tls;

fn parsed(change: impl FnOnce(&mut SnapshotSpec)) -> Result<Snapshot, Vec<Rejection>> {
    let mut spec = spec();
    change(&mut spec);
    Snapshot::parse(spec)
}

fn accepted(change: impl FnOnce(&mut SnapshotSpec)) -> Snapshot {
    parsed(change).unwrap()
}

/// The changed spec is refused for this one reason, which holds that text.
fn refused(subject: Subject, text: &str, change: impl FnOnce(&mut SnapshotSpec)) {
    let rejections = parsed(change).unwrap_err();
    let [only] = rejections.as_slice() else {
        panic!("not one reason: {rejections:?}")
    };
    assert_eq!(only.subject, subject, "{only}");
    assert!(
        only.reason.contains(text),
        "{:?} does not say {text:?}",
        only.reason
    );
}

const LISTENER: Subject = Subject::Listener(listener_id(1));
const MEMBER: Subject = Subject::Member(member_id(1));
const MONITOR: Subject = Subject::HealthMonitor(monitor_id(1));

fn first_member(spec: &mut SnapshotSpec) -> &mut krater_amphora_api::MemberSpec {
    &mut spec.pools[0].members[0]
}

fn first_monitor(spec: &mut SnapshotSpec) -> &mut MonitorSpec {
    spec.pools[0].monitor.as_mut().unwrap()
}

#[test]
fn session_peers_are_few_and_no_two_alike() {
    let peer = |number| krater_amphora_api::SessionPeerSpec {
        amphora: krater_amphora_api::AmphoraId::new(uuid::Uuid::from_u128(number)),
        agent: None,
    };
    let snapshot = accepted(|spec| spec.session_peers = vec![peer(1), peer(2)]);
    assert_eq!(snapshot.session_peers(), [peer(1), peer(2)]);
    let text = format!("session peer {} is given twice", peer(1).amphora);
    refused(Subject::LoadBalancer, &text, |spec| {
        spec.session_peers = vec![peer(1), peer(1)];
    });
    refused(
        Subject::LoadBalancer,
        "9 session peers, at most 8 are allowed",
        |spec| {
            spec.session_peers = (0..9).map(peer).collect();
        },
    );
}

#[test]
fn a_good_spec_becomes_a_snapshot_that_says_the_same() {
    let spec = spec();
    let snapshot = Snapshot::parse(spec.clone()).unwrap();
    assert_eq!(snapshot.spec(), &spec);
    assert_eq!(
        (snapshot.name(), snapshot.enabled(), snapshot.generation()),
        ("web", true, Generation::FIRST)
    );
    assert_eq!(snapshot.load_balancer(), spec.load_balancer);
    assert_eq!(
        snapshot
            .vips()
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["192.0.2.10"]
    );
    let listener = &snapshot.listeners()[0];
    assert_eq!(
        (listener.id, listener.mode, listener.port),
        (listener_id(1), Mode::Http, 80)
    );
    assert!(listener.enabled && listener.gate.is_everybody());
    let pool = snapshot.pool(listener.default_pool.unwrap()).unwrap();
    assert_eq!(
        (pool.id, pool.protocol, pool.members.len()),
        (pool_id(1), PoolProtocol::Http, 2)
    );
    assert_eq!(pool.members[0].address.to_string(), "198.51.100.1:8080");
    let monitor = pool.monitor.as_ref().unwrap();
    assert_eq!(
        (
            monitor.delay.as_secs(),
            monitor.timeout.as_secs(),
            monitor.rise,
            monitor.fall
        ),
        (5, 2, 2, 3)
    );
    assert_eq!(snapshot.pool(pool_id(2)), None);
}

#[test]
fn every_reason_is_given_at_once_and_in_order() {
    let rejections = parsed(|spec| {
        spec.vips.clear();
        spec.listeners[0].port = 0;
        spec.listeners[0].connection_limit = 0;
        first_member(spec).weight = 257;
        first_monitor(spec).rise = 0;
        first_monitor(spec).fall = 11;
    })
    .unwrap_err();
    let subjects: Vec<_> = rejections
        .iter()
        .map(|rejection| rejection.subject)
        .collect();
    assert_eq!(
        subjects,
        [
            Subject::LoadBalancer,
            LISTENER,
            LISTENER,
            MEMBER,
            MONITOR,
            MONITOR
        ]
    );
}

#[test]
fn there_is_a_vip_and_none_is_listed_twice() {
    let whole = Subject::LoadBalancer;
    refused(whole, "no VIP", |spec| spec.vips.clear());
    refused(whole, "listed twice", |spec| spec.vips.push(spec.vips[0]));
    refused(whole, "listed twice", |spec| {
        spec.vips.push(sample::vip("::ffff:192.0.2.10"))
    });
    refused(whole, "multicast", |spec| {
        spec.vips.push(sample::vip("ff02::1"))
    });
    refused(whole, "broadcast", |spec| {
        spec.vips.push(sample::vip("255.255.255.255"))
    });
    let both = accepted(|spec| {
        spec.vips
            .extend([sample::vip("2001:db8::1"), sample::vip("0.0.0.0")])
    });
    assert_eq!(both.vips().len(), 3);
}

#[test]
fn names_are_bounded_in_characters() {
    let (longest, too_long) = (
        "ü".repeat(limits::NAME_CHARACTERS_MAX),
        "ü".repeat(limits::NAME_CHARACTERS_MAX + 1),
    );
    let all = |name: &str| {
        let name = name.to_owned();
        move |spec: &mut SnapshotSpec| {
            first_member(spec).name.clone_from(&name);
            spec.listeners[0].name.clone_from(&name);
            spec.pools[0].name.clone_from(&name);
            spec.name = name;
        }
    };
    assert_eq!(accepted(all(&longest)).name(), longest);
    let subjects: Vec<_> = parsed(all(&too_long))
        .unwrap_err()
        .into_iter()
        .map(|rejection| rejection.subject)
        .collect();
    assert_eq!(
        subjects,
        [
            Subject::LoadBalancer,
            LISTENER,
            Subject::Pool(pool_id(1)),
            MEMBER
        ]
    );
}

#[test]
fn ids_are_unique() {
    refused(LISTENER, "listed twice", |spec| {
        spec.listeners.push(listener(1, ListenerProtocol::Tcp, 81))
    });
    refused(Subject::Pool(pool_id(1)), "listed twice", |spec| {
        spec.pools.push(pool(1, PoolProtocol::Http, vec![]))
    });
    refused(MEMBER, "listed twice", |spec| {
        spec.pools.push(pool(2, PoolProtocol::Tcp, vec![member(1)]))
    });
    refused(MONITOR, "listed twice", |spec| {
        let monitor = Some(monitor(1, ProbeSpec::Tcp));
        spec.pools.push(PoolSpec {
            monitor,
            ..pool(2, PoolProtocol::Tcp, vec![])
        });
    });
}

#[test]
fn a_tcp_and_a_udp_listener_may_share_a_port() {
    let snapshot = accepted(|spec| spec.listeners.push(listener(2, ListenerProtocol::Udp, 80)));
    assert_eq!(snapshot.listeners().len(), 2);
    refused(
        Subject::Listener(listener_id(3)),
        "port 80 is also that of listener",
        |spec| {
            for number in [2, 3] {
                spec.listeners
                    .push(listener(number, ListenerProtocol::Udp, 80));
            }
        },
    );
}

#[test]
fn no_two_listeners_share_a_port_not_even_a_disabled_one() {
    let second = Subject::Listener(listener_id(2));
    refused(second, "port 80 is also that of listener", |spec| {
        spec.listeners.push(ListenerSpec {
            enabled: false,
            ..listener(2, ListenerProtocol::Tcp, 80)
        });
    });
    assert_eq!(
        accepted(|spec| spec.listeners.push(listener(2, ListenerProtocol::Tcp, 81)))
            .listeners()
            .len(),
        2
    );
}

#[test]
fn ports_and_limits_of_connections_start_at_one() {
    refused(LISTENER, "port 0", |spec| spec.listeners[0].port = 0);
    refused(LISTENER, "connection limit", |spec| {
        spec.listeners[0].connection_limit = 0
    });
    let edge =
        accepted(|spec| (spec.listeners[0].port, spec.listeners[0].connection_limit) = (65_535, 1));
    assert_eq!(
        (
            edge.listeners()[0].port,
            edge.listeners()[0].connection_limit
        ),
        (65_535, 1)
    );
}

#[test]
fn pools_resolve_and_protocols_fit() {
    refused(LISTENER, "is not in the spec", |spec| {
        spec.listeners[0].default_pool = Some(pool_id(9))
    });
    refused(LISTENER, "tcp pool", |spec| {
        spec.pools[0].protocol = PoolProtocol::Tcp
    });
    refused(
        LISTENER,
        "an http listener cannot send to a udp pool",
        |spec| spec.pools[0].protocol = PoolProtocol::Udp,
    );
    refused(
        LISTENER,
        "a udp listener cannot send to an http pool",
        |spec| spec.listeners[0].protocol = ListenerProtocol::Udp,
    );
    let (tcp, http) = (ListenerProtocol::Tcp, ListenerProtocol::Http);
    let udp = ListenerProtocol::Udp;
    for (protocol, pool, mode) in [
        (tcp, Some(PoolProtocol::Tcp), Mode::Tcp),
        (tcp, Some(PoolProtocol::Http), Mode::Http),
        (tcp, None, Mode::Tcp),
        (http, Some(PoolProtocol::Http), Mode::Http),
        (http, None, Mode::Http),
        (udp, Some(PoolProtocol::Udp), Mode::Udp),
        (udp, None, Mode::Udp),
    ] {
        let snapshot = accepted(|spec| {
            spec.listeners[0].protocol = protocol;
            spec.listeners[0].default_pool = pool.map(|_| pool_id(1));
            spec.pools[0].protocol = pool.unwrap_or(PoolProtocol::Tcp);
        });
        let listener = &snapshot.listeners()[0];
        assert_eq!(
            (listener.protocol, listener.mode),
            (protocol, mode),
            "{pool:?}"
        );
    }
}

#[test]
fn allowed_cidrs_are_read_and_each_bad_one_is_named() {
    let snapshot = accepted(|spec| spec.listeners[0].allowed_cidrs = vec!["203.0.113.0/24".into()]);
    assert!(
        !snapshot.listeners()[0]
            .gate
            .allows("192.0.2.1".parse().unwrap())
    );
    let rejections =
        parsed(|spec| spec.listeners[0].allowed_cidrs = vec!["x".into(), "10.0.0.0/40".into()])
            .unwrap_err();
    assert_eq!(rejections.len(), 2);
    assert_eq!(
        rejections[1].to_string(),
        format!("{LISTENER}: allowed CIDR \"10.0.0.0/40\" is not a network in CIDR notation")
    );
}

#[test]
fn a_timer_of_zero_means_the_default_except_for_the_inspection() {
    let zero = TimeoutsSpec {
        client_data_ms: 0,
        member_connect_ms: 0,
        member_data_ms: 0,
        tcp_inspect_ms: 0,
    };
    let timeouts = accepted(|spec| spec.listeners[0].timeouts = zero).listeners()[0].timeouts;
    let seconds = |duration: Duration| duration.as_secs();
    assert_eq!(
        (
            seconds(timeouts.client_data),
            seconds(timeouts.member_connect),
            seconds(timeouts.member_data)
        ),
        (50, 5, 50)
    );
    assert_eq!(timeouts.tcp_inspect, None);
    let own = TimeoutsSpec {
        client_data_ms: 1,
        member_connect_ms: 2,
        member_data_ms: 3,
        tcp_inspect_ms: 4,
    };
    let timeouts = accepted(|spec| spec.listeners[0].timeouts = own).listeners()[0].timeouts;
    let ms = Duration::from_millis;
    assert_eq!(
        (
            timeouts.client_data,
            timeouts.member_connect,
            timeouts.member_data
        ),
        (ms(1), ms(2), ms(3))
    );
    assert_eq!(timeouts.tcp_inspect, Some(ms(4)));
}

#[test]
fn timers_have_a_longest() {
    let timers = |ms| TimeoutsSpec {
        client_data_ms: ms,
        member_connect_ms: ms,
        member_data_ms: ms,
        tcp_inspect_ms: ms,
    };
    accepted(|spec| spec.listeners[0].timeouts = timers(limits::TIMER_MS_MAX));
    let rejections =
        parsed(|spec| spec.listeners[0].timeouts = timers(limits::TIMER_MS_MAX + 1)).unwrap_err();
    assert_eq!(rejections.len(), 4);
    refused(MONITOR, "a delay of", |spec| {
        first_monitor(spec).delay_ms = u32::MAX
    });
    refused(MONITOR, "a timeout of", |spec| {
        first_monitor(spec).timeout_ms = limits::TIMER_MS_MAX + 1
    });
}

#[test]
fn a_metrics_listener_answers_itself_and_sends_to_nobody() {
    let metrics = |spec: &mut SnapshotSpec| {
        spec.listeners[0].protocol = ListenerProtocol::Prometheus;
        spec.listeners[0].insert_headers = InsertHeadersSpec::default();
    };
    let snapshot = accepted(|spec| {
        metrics(spec);
        spec.listeners[0].default_pool = None;
    });
    assert_eq!(snapshot.listeners()[0].mode, Mode::Http);
    refused(
        LISTENER,
        "a prometheus listener cannot send to an http pool",
        |spec| {
            metrics(spec);
            spec.listeners[0].default_pool = Some(pool_id(1));
        },
    );
}

#[test]
fn an_access_log_tells_one_in_at_least_one() {
    let told = |one_in| {
        move |spec: &mut SnapshotSpec| {
            spec.listeners[0].access_log = Some(AccessLogSpec { one_in });
        }
    };
    let snapshot = accepted(told(5));
    let one_in = snapshot.listeners()[0]
        .access_log
        .map(|one_in| one_in.get());
    assert_eq!(one_in, Some(5));
    refused(LISTENER, "not one in 0", told(0));
}

#[test]
fn congestion_control_is_of_listeners_of_tcp() {
    let controlled = |protocol| {
        move |spec: &mut SnapshotSpec| {
            spec.listeners[0].protocol = protocol;
            spec.listeners[0].default_pool = None;
            spec.listeners[0].congestion_control = Some("cubic".parse().unwrap());
        }
    };
    for protocol in [
        ListenerProtocol::Tcp,
        ListenerProtocol::Http,
        ListenerProtocol::Prometheus,
    ] {
        let snapshot = accepted(controlled(protocol));
        let named = snapshot.listeners()[0].congestion_control.unwrap();
        assert_eq!(named.as_str(), "cubic");
    }
    refused(
        LISTENER,
        "a udp listener has no congestion control",
        controlled(ListenerProtocol::Udp),
    );
}

#[test]
fn only_an_http_listener_inserts_headers() {
    let all = InsertHeadersSpec {
        x_forwarded_for: true,
        x_forwarded_port: true,
        x_forwarded_proto: true,
        x_forwarded_ip: true,
        x_client_ip: true,
        x_real_ip: true,
        ..InsertHeadersSpec::default()
    };
    let snapshot = accepted(|spec| spec.listeners[0].insert_headers = all);
    let InsertHeaders {
        x_forwarded_for,
        x_forwarded_port,
        x_forwarded_proto,
        x_forwarded_ip,
        x_client_ip,
        x_real_ip,
    } = snapshot.listeners()[0].insert_headers;
    assert!(x_forwarded_for && x_forwarded_port && x_forwarded_proto);
    assert!(x_forwarded_ip && x_client_ip && x_real_ip);
    refused(LISTENER, "insert headers", |spec| {
        spec.listeners[0].protocol = ListenerProtocol::Tcp;
        spec.listeners[0].insert_headers.x_forwarded_proto = true;
    });
}

#[test]
fn members_have_an_address_a_port_and_a_bounded_weight() {
    refused(MEMBER, "port 0", |spec| first_member(spec).port = 0);
    refused(MEMBER, "weight 257", |spec| {
        first_member(spec).weight = limits::WEIGHT_MAX + 1
    });
    refused(MEMBER, "unspecified", |spec| {
        first_member(spec).address = "0.0.0.0".parse().unwrap()
    });
    refused(MEMBER, "unspecified", |spec| {
        first_member(spec).address = "::ffff:0.0.0.0".parse().unwrap()
    });
    refused(MEMBER, "multicast", |spec| {
        first_member(spec).address = "224.0.0.1".parse().unwrap()
    });
    refused(MEMBER, "monitor port 0", |spec| {
        first_member(spec).monitor_port = Some(0)
    });
    refused(MEMBER, "monitor address ::", |spec| {
        first_member(spec).monitor_address = "::".parse().ok()
    });
    for weight in [0, limits::WEIGHT_MAX] {
        assert_eq!(
            accepted(|spec| first_member(spec).weight = weight).pools()[0].members[0].weight,
            weight
        );
    }
    let mapped = accepted(|spec| first_member(spec).address = "::ffff:192.0.2.1".parse().unwrap());
    assert_eq!(
        mapped.pools()[0].members[0].address.to_string(),
        "192.0.2.1:8080"
    );
}

#[test]
fn a_member_is_probed_where_it_serves_unless_told_otherwise() {
    let probed = |address: Option<&str>, port| {
        let snapshot = accepted(|spec| {
            first_member(spec).monitor_address = address.map(|address| address.parse().unwrap());
            first_member(spec).monitor_port = port;
        });
        snapshot.pools()[0].members[0].probe_address.to_string()
    };
    assert_eq!(probed(None, None), "198.51.100.1:8080");
    assert_eq!(probed(None, Some(9)), "198.51.100.1:9");
    assert_eq!(probed(Some("192.0.2.3"), None), "192.0.2.3:8080");
    assert_eq!(probed(Some("2001:db8::3"), Some(9)), "[2001:db8::3]:9");
}

#[test]
fn a_fault_of_the_member_is_not_told_twice_for_its_monitor_address() {
    refused(MEMBER, "port 0", |spec| {
        first_member(spec).port = 0;
        first_member(spec).monitor_address = Some(first_member(spec).address);
    });
}

#[test]
fn there_are_at_most_so_many_of_each() {
    let whole = Subject::LoadBalancer;
    let vips = |count: usize| {
        move |spec: &mut SnapshotSpec| {
            let address = |number: usize| sample::vip(&format!("2001:db8::{number:x}"));
            spec.vips = (1..=count).map(address).collect();
        }
    };
    accepted(vips(limits::VIPS_MAX));
    refused(whole, "65 VIPs, at most 64", vips(limits::VIPS_MAX + 1));
    let listeners = |count: usize| {
        move |spec: &mut SnapshotSpec| {
            let one = |port: u16| listener(u128::from(port), ListenerProtocol::Http, port);
            spec.listeners = (1..=u16::try_from(count).unwrap()).map(one).collect();
        }
    };
    accepted(listeners(limits::LISTENERS_MAX));
    refused(
        whole,
        "1001 listeners",
        listeners(limits::LISTENERS_MAX + 1),
    );
    let pools = |count: usize| {
        move |spec: &mut SnapshotSpec| {
            spec.pools
                .extend((2..=count).map(|number| pool(number as u128, PoolProtocol::Tcp, vec![])));
        }
    };
    accepted(pools(limits::POOLS_MAX));
    refused(whole, "1001 pools", pools(limits::POOLS_MAX + 1));
    let members = |count: usize| {
        move |spec: &mut SnapshotSpec| {
            spec.pools[0].members = (0..count).map(|number| member(number as u128)).collect();
        }
    };
    accepted(members(limits::MEMBERS_MAX));
    refused(whole, "10001 members", members(limits::MEMBERS_MAX + 1));
    let cidrs = |count: usize| {
        move |spec: &mut SnapshotSpec| {
            spec.listeners[0].allowed_cidrs = vec!["10.0.0.0/8".into(); count];
        }
    };
    accepted(cidrs(limits::ALLOWED_CIDRS_MAX));
    refused(
        LISTENER,
        "1001 allowed CIDRs",
        cidrs(limits::ALLOWED_CIDRS_MAX + 1),
    );
    let cidrs_in_all = |last: usize| {
        move |spec: &mut SnapshotSpec| {
            listeners(101)(spec);
            for listener in &mut spec.listeners {
                listener.allowed_cidrs = vec!["10.0.0.0/8".into(); limits::ALLOWED_CIDRS_MAX];
            }
            spec.listeners[100].allowed_cidrs.truncate(last);
        }
    };
    accepted(cidrs_in_all(0));
    refused(whole, "100001 allowed CIDRs in all", cidrs_in_all(1));
}

#[test]
fn what_no_member_or_source_can_be_held_to_is_refused() {
    let passive = |failures, out_ms, out_max_ms, share_percent| {
        let mut spec = spec();
        spec.pools[0].passive_health = Some(krater_amphora_api::PassiveHealthSpec {
            failures,
            out_ms,
            out_max_ms,
            share_percent,
        });
        Snapshot::parse(spec)
    };
    assert!(passive(1, 1, 1, 1).is_ok() && passive(1_000, 1_000, 3_600_000, 100).is_ok());
    for (refused, word) in [
        (passive(0, 1, 1, 1), "failures"),
        (passive(1_001, 1, 1, 1), "failures"),
        (passive(1, 0, 1, 1), "out for at least"),
        (passive(1, 2, 1, 1), "out for at least"),
        (passive(1, 1, 3_600_001, 1), "out for at least"),
        (passive(1, 1, 1, 0), "share"),
        (passive(1, 1, 1, 101), "share"),
    ] {
        let rejections = refused.unwrap_err();
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0].subject, Subject::Pool(pool_id(1)));
        assert!(rejections[0].reason.contains(word), "{rejections:?}");
    }
    let mut slow = spec();
    slow.pools[0].slow_start_ms = 3_600_001;
    slow.pools[0].member_requests = Some(0);
    slow.listeners[0].source_rate = Some(0);
    slow.member_drain_ms = Some(u32::MAX);
    let rejections = Snapshot::parse(slow).unwrap_err();
    let subjects: Vec<_> = rejections
        .iter()
        .map(|rejection| rejection.subject)
        .collect();
    let listener = Subject::Listener(sample::listener_id(1));
    assert_eq!(
        subjects,
        [
            Subject::LoadBalancer,
            listener,
            Subject::Pool(pool_id(1)),
            Subject::Pool(pool_id(1))
        ]
    );
}
