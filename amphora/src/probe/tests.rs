//! Probing: what is watched, when, and what its outcomes do; and the probes themselves against real sockets.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    thread,
};

use krater_amphora_api::SnapshotSpec;
use krater_amphora_core::{monitor::Stage, proxy_protocol::Version};
use serde_json::json;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn id(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}

/// One load balancer with one pool nobody uses, of that many members.
fn snapshot(members: u32, monitor: serde_json::Value) -> Snapshot {
    let members: Vec<_> = (0..members)
        .map(
            |number| json!({"id": id(100 + number), "address": "192.0.2.1", "port": 1000 + number}),
        )
        .collect();
    let protocol = if monitor["probe"]["type"] == "udp_connect" {
        "udp"
    } else {
        "tcp"
    };
    let pool = json!({"id": id(2), "protocol": protocol, "members": members, "monitor": monitor});
    let spec = json!({"load_balancer": id(1), "generation": 1, "vips": [{"address": "127.0.0.1"}], "pools": [pool]});
    let spec: SnapshotSpec = serde_json::from_value(spec).unwrap();
    Snapshot::parse(spec).unwrap()
}

fn monitor(delay_ms: u32) -> serde_json::Value {
    json!({"id": id(3), "probe": {"type": "tcp"}, "delay_ms": delay_ms, "timeout_ms": 500, "rise": 1, "fall": 1})
}

fn at(seconds: u64) -> Instant {
    Instant::default().saturating_add(SECOND * u32::try_from(seconds).unwrap())
}

fn done(job: &Job, outcome: Result<(), ProbeFailure>) -> Done {
    Done {
        key: job.key,
        number: job.number,
        outcome,
        took: SECOND,
    }
}

#[test]
fn members_of_unused_pools_are_probed_and_a_failure_is_made_known() {
    let mut probes = Probes::default();
    let verdicts = probes.reconcile(&snapshot(2, monitor(5_000)), |_| None, at(0), || 0);
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.health == MemberHealth::Unproven)
    );
    let jobs = probes.start_due(at(0), 10);
    assert_eq!(jobs.len(), 2);
    let verdict = probes
        .finish(done(&jobs[0], Err(ProbeFailure::Refused)), at(0))
        .unwrap();
    assert_eq!(verdict.health, MemberHealth::Down);
    assert_eq!(verdict.reason.as_deref(), Some("connection refused"));
    let again = probes.start_due(at(5), 10);
    assert_eq!(again.len(), 1, "the other one is still under way");
    let verdict = probes.finish(done(&again[0], Ok(())), at(5)).unwrap();
    assert_eq!((verdict.health, verdict.reason), (MemberHealth::Up, None));
    assert_eq!(
        probes.finish(done(&again[0], Ok(())), at(5)),
        None,
        "an outcome counts once"
    );
}

#[test]
fn a_changed_reason_is_made_known_though_the_verdict_stays() {
    let mut probes = Probes::default();
    probes.reconcile(&snapshot(1, monitor(1_000)), |_| None, at(0), || 0);
    let jobs = probes.start_due(at(0), 1);
    assert!(
        probes
            .finish(done(&jobs[0], Err(ProbeFailure::Refused)), at(0))
            .is_some()
    );
    let jobs = probes.start_due(at(1), 1);
    let timeout = ProbeFailure::Timeout {
        after: SECOND,
        stage: Stage::Connect,
    };
    let verdict = probes.finish(done(&jobs[0], Err(timeout)), at(1)).unwrap();
    assert_eq!(verdict.reason.as_deref(), Some("no connection within 1s"));
}

#[test]
fn no_more_probes_start_than_there_is_room_for_and_the_rest_come_next() {
    let mut probes = Probes::default();
    probes.reconcile(&snapshot(5, monitor(5_000)), |_| None, at(0), || 0);
    assert_eq!(probes.start_due(at(1), 3).len(), 3);
    assert!(probes.next_due().unwrap() <= at(1));
    assert_eq!(probes.start_due(at(1), 3).len(), 2);
}

#[test]
fn an_apply_keeps_verdicts_and_overtakes_probes_of_what_changed() {
    let mut probes = Probes::default();
    probes.reconcile(&snapshot(1, monitor(5_000)), |_| None, at(0), || 0);
    let jobs = probes.start_due(at(0), 1);
    probes.finish(done(&jobs[0], Err(ProbeFailure::Refused)), at(0));
    let verdicts = probes.reconcile(&snapshot(2, monitor(1_000)), |_| None, at(1), || 0);
    assert_eq!(verdicts[0].health, MemberHealth::Down);
    assert_eq!(verdicts[1].health, MemberHealth::Unproven);
    let jobs = probes.start_due(at(3), 10);
    let http = json!({"id": id(3), "delay_ms": 1_000, "timeout_ms": 500, "rise": 1, "fall": 1,
        "probe": {"type": "http", "method": "GET", "path": "/", "expected_codes": [{"first": 200, "last": 200}]}});
    probes.reconcile(&snapshot(2, http), |_| None, at(3), || 0);
    assert_eq!(
        probes.finish(done(&jobs[0], Ok(())), at(3)),
        None,
        "it answers a question nobody asks any more"
    );
}

#[test]
fn what_goes_is_forgotten() {
    let mut probes = Probes::default();
    probes.reconcile(&snapshot(3, monitor(5_000)), |_| None, at(0), || 0);
    probes.reconcile(&snapshot(1, monitor(5_000)), |_| None, at(0), || 0);
    assert_eq!(probes.agenda.len(), 1);
    let verdicts = probes.reconcile(&snapshot(1, json!(null)), |_| None, at(0), || 0);
    assert_eq!(verdicts[0].health, MemberHealth::NoMonitor);
    assert!(probes.agenda.is_empty());
    probes.reconcile(&snapshot(1, monitor(5_000)), |_| None, at(0), || 0);
    let jobs = probes.start_due(at(0), 1);
    probes.forget(snapshot(1, json!(null)).load_balancer());
    assert!(probes.agenda.is_empty() && probes.watches.is_empty());
    assert_eq!(probes.finish(done(&jobs[0], Ok(())), at(0)), None);
}

/// Answers one connection with `answer`, and hands out what it was asked.
fn server(answer: &'static [u8]) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
            asked.push(byte[0]);
        }
        let _ = stream.write_all(answer);
        asked
    });
    (address, asked)
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self {
            address,
            header: None,
        }
    }
}

pub(super) fn perform(
    probe: serde_json::Value,
    target: impl Into<Target>,
) -> Result<(), ProbeFailure> {
    let monitor = json!({"id": id(3), "probe": probe, "delay_ms": 1_000, "timeout_ms": 300, "rise": 1, "fall": 1});
    let config = snapshot(1, monitor).pools()[0].monitor.clone().unwrap();
    let key = (
        snapshot(0, json!(null)).load_balancer(),
        id(1).parse().unwrap(),
    );
    let job = Job {
        tls: None,
        key,
        number: 1,
        target: target.into(),
        config: Arc::new(config),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(job.perform()).outcome
}

fn http(path: &str) -> serde_json::Value {
    json!({"type": "http", "method": "GET", "path": path, "expected_codes": [{"first": 200, "last": 204}]})
}

#[test]
fn an_http_probe_asks_as_octavia_does_and_judges_the_status() {
    let (address, asked) = server(b"HTTP/1.0 204 No Content\r\n\r\n");
    assert_eq!(perform(http("/ready?x=1"), address), Ok(()));
    assert_eq!(
        asked.join().unwrap(),
        b"GET /ready?x=1 HTTP/1.0\r\nConnection: close\r\n\r\n"
    );
    let mut with_host = http("/");
    with_host["version"] = json!("1.1");
    with_host["domain_name"] = json!("www.example.com");
    let (address, asked) = server(b"HTTP/1.1 301 Moved\r\n\r\n");
    assert_eq!(perform(with_host, address), Err(ProbeFailure::Status(301)));
    assert_eq!(
        asked.join().unwrap(),
        b"GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"
    );
}

#[test]
fn an_answer_that_is_none_fails_with_its_own_reason() {
    let (address, _) = server(b"SSH-2.0-OpenSSH\r\n");
    assert_eq!(perform(http("/"), address), Err(ProbeFailure::Malformed));
    let (address, _) = server(b"");
    assert_eq!(perform(http("/"), address), Err(ProbeFailure::Closed));
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let outcome = perform(http("/"), silent.local_addr().unwrap());
    assert!(
        matches!(
            outcome,
            Err(ProbeFailure::Timeout {
                stage: Stage::Answer,
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn a_tcp_probe_is_a_handshake() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(perform(json!({"type": "tcp"}), address), Ok(()));
    drop(listener);
    assert_eq!(
        perform(json!({"type": "tcp"}), address),
        Err(ProbeFailure::Refused)
    );
}

#[test]
fn a_udp_connect_probe_fails_where_nobody_is_and_takes_silence_for_somebody() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let member = UdpSocket::bind(address).unwrap();
        let address = member.local_addr().unwrap();
        let probe = || perform(json!({"type": "udp_connect"}), address);
        assert_eq!(probe(), Ok(()));
        let mut asked = [0; 1];
        assert_eq!(member.recv(&mut asked).unwrap(), 0);
        let answering = thread::spawn(move || {
            let (_, from) = member.recv_from(&mut asked).unwrap();
            member.send_to(b"what?", from).unwrap();
        });
        assert_eq!(probe(), Ok(()));
        answering.join().unwrap();
        assert_eq!(probe(), Err(ProbeFailure::Refused));
    }
}

#[test]
fn members_of_proxy_pools_are_sent_a_header_first_that_speaks_for_nobody() {
    for (header, sent) in [
        (Version::V1, &b"PROXY UNKNOWN\r\n"[..]),
        (Version::V2, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = Target {
            address: listener.local_addr().unwrap(),
            header: Some(header),
        };
        let heard = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut heard = Vec::new();
            // To its end: the header is not overtaken by a reset.
            stream.read_to_end(&mut heard).unwrap();
            heard
        });
        assert_eq!(perform(json!({"type": "tcp"}), target), Ok(()));
        assert_eq!(heard.join().unwrap(), sent);
        let (address, asked) = server(b"HTTP/1.0 200 OK\r\n\r\n");
        let target = Target {
            address,
            header: Some(Version::V1),
        };
        assert_eq!(perform(http("/"), target), Ok(()));
        assert_eq!(
            asked.join().unwrap(),
            b"PROXY UNKNOWN\r\nGET / HTTP/1.0\r\nConnection: close\r\n\r\n"
        );
    }
}

#[test]
fn who_is_probed_apart_is_spoken_to_plainly() {
    let pool = |protocol: &str, member: serde_json::Value| {
        let pool = json!({"id": id(2), "protocol": protocol, "members": [member], "monitor": monitor(1_000)});
        let spec = json!({"load_balancer": id(1), "generation": 1, "vips": [{"address": "127.0.0.1"}], "pools": [pool]});
        let spec: SnapshotSpec = serde_json::from_value(spec).unwrap();
        let snapshot = Snapshot::parse(spec).unwrap();
        let pool = &snapshot.pools()[0];
        Target::of(pool, &pool.members[0])
    };
    let plain = json!({"id": id(7), "address": "192.0.2.1", "port": 80});
    let mut apart = plain.clone();
    apart["monitor_port"] = json!(81);
    assert_eq!(pool("proxy", plain.clone()).header, Some(Version::V1));
    assert_eq!(pool("proxy_v2", plain.clone()).header, Some(Version::V2));
    assert_eq!(pool("tcp", plain).header, None);
    assert_eq!(pool("proxy", apart).header, None);
}

#[test]
fn a_ping_is_answered_or_says_what_is_missing() {
    for target in ["127.0.0.1:1", "[::1]:1"] {
        let address: SocketAddr = target.parse().unwrap();
        match perform(json!({"type": "ping"}), address) {
            Ok(()) => {}
            // Not every system lets tests send echoes, and not every one has IPv6.
            Err(ProbeFailure::Unreachable(reason)) => {
                assert!(
                    reason.contains("ping_group_range") || target.starts_with('['),
                    "{reason}"
                );
            }
            Err(ProbeFailure::Local(_)) if target.starts_with('[') => {}
            other => panic!("{target}: {other:?}"),
        }
    }
}
