//! More than there is room for: descriptors and ports that run out, and thousands of connections at once.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use krater_tests::{Namespace, Standalone, UdpClient, UdpMember, fetch, until};
use rustix::{
    net::sockopt::set_socket_linger,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use serde_json::{Value, json};

use crate::scene::SETTLE_MAX;

/// A member that says its name, and ends no connection by itself.
fn member(name: &'static [u8; 1]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            stream.write_all(name).expect("the name is sent");
            held.push(stream);
        }
    });
    address
}

fn snapshot(members: &[(SocketAddr, u16)]) -> Value {
    let members: Vec<_> = members
        .iter()
        .map(|(member, weight)| {
            json!({"address": member.ip(), "port": member.port(), "weight": weight})
        })
        .collect();
    json!({"load_balancers": [{
        "vips": [vip().ip(), second_vip().ip()],
        "listeners": [{"protocol": "tcp", "port": vip().port(), "default_pool": "p"}],
        "pools": [{"name": "p", "protocol": "tcp", "members": members}],
    }]})
}

/// A host with a member that answers datagrams and what an amphora there serves, and clients elsewhere.
struct Datagrams {
    host: Namespace,
    elsewhere: Namespace,
    snapshot: Value,
    /// Listens once the amphora serves.
    ready: SocketAddr,
    vip: SocketAddr,
    _member: UdpMember,
}

impl Datagrams {
    fn new() -> Self {
        let (host, elsewhere) = (Namespace::new(), Namespace::new());
        host.link(
            "near",
            &["10.9.0.1/24"],
            &elsewhere,
            "far",
            &["10.9.0.2/24"],
        );
        let member = host.run(|| UdpMember::start("a", "127.0.0.1:7001"));
        let snapshot = json!({"load_balancers": [{
            "vips": ["10.9.0.1"],
            "listeners": [
                {"protocol": "udp", "port": 53, "default_pool": "p"},
                {"protocol": "tcp", "port": 80},
            ],
            "pools": [{"name": "p", "protocol": "udp",
                "members": [{"address": member.address().ip(), "port": member.address().port()}]}],
        }]});
        Self {
            host,
            elsewhere,
            snapshot,
            ready: "10.9.0.1:80".parse().expect("an address"),
            vip: "10.9.0.1:53".parse().expect("an address"),
            _member: member,
        }
    }
}

/// The name of the member that a connection was given; `None` if it was closed or broken off before.
fn served_by(mut stream: &TcpStream) -> Option<u8> {
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    let mut name = [0];
    match stream.read(&mut name) {
        Ok(1) => Some(name[0]),
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
        Err(error) => panic!("neither served nor closed: {error}"),
    }
}

/// The sum of a series over all its labels.
fn metric(name: &str) -> u64 {
    let answer = fetch(metrics(), "/metrics").expect("the metrics endpoint answers");
    let text = answer.text();
    let lines = text.lines().filter(|line| line.starts_with(name));
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[test]
fn clients_beyond_the_descriptors_are_reset_and_counted_and_the_rest_goes_on() {
    let _network = Namespace::enter_new();
    let amphora = Standalone::start_limited(
        &snapshot(&[(member(b"a"), 1)]),
        vip(),
        &["--metrics", &metrics().to_string()],
        400,
    );
    // Whoever found out that it listens may be let in later than others: it is not to be counted among them.
    until("the first connection has come and gone", SETTLE_MAX, || {
        metric("krater_amphora_listener_connections_total{") > 0
            && metric("krater_amphora_listener_connections_active{") == 0
    });
    let clients: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(vip()).expect("the kernel takes everybody"))
        .collect();
    let served: Vec<_> = clients.iter().map(served_by).collect();
    let count = served.iter().filter(|name| name.is_some()).count();
    assert!((50..200).contains(&count), "{count} of 300 were served");
    assert_eq!(
        metric("krater_amphora_listener_shed_total{"),
        (300 - count) as u64
    );
    assert_eq!(metric("krater_amphora_accept_exhaustions_total"), 0);
    assert_eq!(
        metric("krater_amphora_listener_connections_active{"),
        count as u64
    );
    clients.into_iter().for_each(reset);
    until("there is room again", SETTLE_MAX, || {
        served_by(&TcpStream::connect(vip()).expect("a connection")) == Some(b'a')
    });
    drop(amphora);
}

#[test]
fn a_flood_of_clients_by_datagrams_costs_bounded_memory_and_the_rest_goes_on() {
    let Datagrams {
        host,
        elsewhere,
        snapshot,
        ready,
        vip,
        _member,
    } = Datagrams::new();
    // Half of the descriptors are for sessions.
    let mut amphora =
        host.run(|| Standalone::start_limited(&snapshot, ready, &["--workers", "1"], 200));
    let pid = amphora.program().pid();
    elsewhere.run(|| {
        let faithful = UdpClient::of(vip);
        assert_eq!(faithful.ask("x").expect("an answer"), "a x");
        let mut held = 0;
        for round in 0..20 {
            for _ in 0..200 {
                let stranger = UdpSocket::bind("10.9.0.2:0").expect("a port");
                stranger.send_to(b"once", vip).expect("room");
            }
            // Whoever goes on asking is served all the time, by another session where need be.
            assert_eq!(faithful.ask_until_heard("x", SETTLE_MAX), "a x");
            let now = resident_kib(pid);
            if round == 4 {
                held = now;
            }
            assert!(
                round < 5 || now < held + 2_048,
                "{held} KiB after 1,000 clients, {now} after {}",
                (round + 1) * 200
            );
        }
    });
    assert!(open_descriptors(pid) <= 200);
}

#[test]
fn when_the_ports_towards_one_member_are_used_up_another_is_tried() {
    let _network = Namespace::enter_new();
    let members = [(member(b"a"), 9), (member(b"b"), 1)];
    let _amphora = Standalone::start_with(
        &snapshot(&members),
        vip(),
        &["--metrics", &metrics().to_string(), "--workers", "1"],
    );
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007")
        .expect("the range of this namespace can be set");
    // To two addresses, since the ports of clients are of the same range.
    let clients: Vec<_> = [vip(), second_vip()]
        .iter()
        .cycle()
        .take(14)
        .map(|vip| TcpStream::connect(vip).expect("a connection"))
        .collect();
    let names: Vec<_> = clients.iter().filter_map(served_by).collect();
    assert_eq!(names.len(), 14, "everybody is served: {names:?}");
    let first = names.iter().filter(|name| **name == b'a').count();
    assert!(
        (4..=8).contains(&first),
        "as many as there are ports: {first}"
    );
    assert!(metric("krater_amphora_pool_ports_exhausted_total{") > 0);
}

#[test]
fn when_the_ports_towards_the_only_member_are_used_up_the_cause_is_told() {
    let _network = Namespace::enter_new();
    let member = member(b"a");
    let mut snapshot = snapshot(&[(member, 1)]);
    let balancer = &mut snapshot["load_balancers"][0];
    let web = SocketAddr::new(vip().ip(), 81);
    let listener = json!({"protocol": "http", "port": web.port(), "default_pool": "w"});
    let only = json!([{"address": member.ip(), "port": member.port()}]);
    let pool = json!({"name": "w", "protocol": "http", "members": only});
    for (list, value) in [("listeners", listener), ("pools", pool)] {
        balancer[list].as_array_mut().expect("a list").push(value);
    }
    let metrics = metrics();
    let arguments = ["--metrics", &metrics.to_string(), "--workers", "1"];
    let _amphora = Standalone::start_with(&snapshot, vip(), &arguments);
    let ports = |range: &str| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", range)
            .expect("the range of this namespace can be set");
    };
    ports("40000 40007");
    let clients: Vec<_> = [vip(), second_vip()]
        .iter()
        .cycle()
        .take(8)
        .map(|vip| TcpStream::connect(vip).expect("a connection"))
        .collect();
    for client in &clients {
        assert_eq!(served_by(client), Some(b'a'));
    }
    assert_eq!(served_by(&TcpStream::connect(vip()).expect("one")), None);
    let answer = fetch(web, "/").expect("an answer");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("x-krater-cause"), Some("lb_ports_exhausted"));
    // Who looks at the metrics needs ports too.
    ports("50000 60000");
    until("both are counted", SETTLE_MAX, || {
        let text = fetch(metrics, "/metrics").expect("metrics").text();
        let of_cause = |line: &&str| {
            line.starts_with("krater_amphora_listener_failures_total{")
                && line.contains("cause=\"lb_ports_exhausted\"")
        };
        let counts = text.lines().filter(of_cause);
        let numbers = counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        numbers.sum::<u64>() == 2
    });
    // Nothing is broken: whoever comes once there is a port again is served.
    ports("40000 40007");
    clients.into_iter().for_each(reset);
    until("there is a port again", SETTLE_MAX, || {
        served_by(&TcpStream::connect(second_vip()).expect("one")) == Some(b'a')
    });
}

#[test]
fn when_the_ports_are_used_up_the_datagrams_of_new_clients_cost_who_was_silent_longest() {
    let Datagrams {
        host,
        elsewhere,
        snapshot,
        ready,
        vip,
        _member,
    } = Datagrams::new();
    let _amphora = host.run(|| {
        let amphora = Standalone::start_with(&snapshot, ready, &["--workers", "1"]);
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40007")
            .expect("the range of this namespace can be set");
        amphora
    });
    elsewhere.run(|| {
        let clients: Vec<_> = (0..30).map(|_| UdpClient::of(vip)).collect();
        for _ in 0..2 {
            for client in &clients {
                assert_eq!(client.ask("x").expect("an answer"), "a x");
            }
        }
    });
}

#[test]
fn thousands_of_streams_at_once_under_load() {
    let _network = Namespace::enter_new();
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, limit).expect("the limit may be raised as far as it may");
    let descriptors = usize::try_from(maximum.unwrap_or(20_000)).expect("a number");
    // Both ends are of this process, so it needs as many descriptors as the amphora.
    let count = (descriptors.saturating_sub(800) / 2).min(9_000);
    let _amphora = Standalone::start_with(
        &snapshot(&[(member(b"a"), 1), (member(b"a"), 1)]),
        vip(),
        &["--metrics", &metrics().to_string()],
    );
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535")
        .expect("the range of this namespace can be set");
    let mut clients: Vec<_> = (0..count)
        .map(|_| {
            let stream = TcpStream::connect(vip()).expect("a connection");
            assert_eq!(served_by(&stream), Some(b'a'));
            stream
        })
        .collect();
    let active = "krater_amphora_thread_connections_active{";
    assert_eq!(metric(active), count as u64);
    for stream in &mut clients {
        stream.write_all(b"x").expect("every one of them is alive");
    }
    clients.into_iter().for_each(reset);
    until("all have ended", Duration::from_secs(20), || {
        metric(active) == 0
    });
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is alive");
    let line = status.lines().find(|line| line.starts_with("RssAnon:"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|text| text.parse().ok()).expect("a number")
}

fn open_descriptors(pid: u32) -> usize {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it is alive");
    folder.count()
}

/// Breaks a connection off.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

fn second_vip() -> SocketAddr {
    SocketAddr::from(([127, 77, 0, 2], 80))
}

fn vip() -> SocketAddr {
    SocketAddr::from(([127, 77, 0, 1], 80))
}

fn metrics() -> SocketAddr {
    SocketAddr::from(([127, 77, 0, 1], 9_100))
}
