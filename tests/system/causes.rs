//! Every failure has one cause, named and counted (amphora/CAUSES.md).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use krater_tests::{
    HttpMember, Namespace, Standalone, TcpMember, binary, fetch, run_to_end, until,
};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, listener_json};

/// One listener of one load balancer, and what its failures are to be.
struct Case {
    listener: Value,
    pool: Option<Value>,
    provoke: fn(SocketAddr),
    causes: &'static [&'static str],
}

/// A member of which a test says what it does with a connection once something came.
fn member(serve: fn(&mut TcpStream)) -> Value {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                serve(&mut stream);
            });
        }
    });
    json!({"address": "127.0.0.1", "port": port})
}

fn reset(stream: &mut TcpStream) {
    set_socket_linger(&*stream, Some(Duration::ZERO)).expect("a socket");
}

fn wait_for_the_end(stream: &mut TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

fn get(address: SocketAddr) {
    let _ = fetch(address, "/");
}

/// Says something and reads to the end.
fn say(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    let _ = stream.write_all(text.as_bytes());
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn say_something(address: SocketAddr) {
    say(address, "something");
}

/// Says something, waits for a first byte of an answer and breaks off.
fn break_off(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n");
    let _ = stream.read(&mut [0]);
    reset(&mut stream);
}

fn nobody() -> Value {
    // The port of one that has gone.
    let gone = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = gone.local_addr().expect("an address").port();
    json!({"address": "127.0.0.1", "port": port})
}

fn with_member(
    protocol: &str,
    member: &Value,
    provoke: fn(SocketAddr),
    causes: &'static [&'static str],
) -> Case {
    let timeouts =
        json!({"client_data_ms": 60_000, "member_connect_ms": 150, "member_data_ms": 400});
    Case {
        listener: json!({"protocol": protocol, "timeouts": timeouts}),
        pool: Some(json!({"protocol": protocol, "members": [member]})),
        provoke,
        causes,
    }
}

impl Case {
    fn with(mut self, name: &str, value: Value) -> Self {
        self.listener[name] = value;
        self
    }

    fn without_pool(mut self) -> Self {
        self.pool = None;
        self
    }

    fn impatient_with_clients(self) -> Self {
        let timeouts =
            json!({"client_data_ms": 300, "member_connect_ms": 150, "member_data_ms": 60_000});
        self.with("timeouts", timeouts)
    }
}

fn members_and_networks() -> Vec<Case> {
    let half = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        thread::sleep(Duration::from_millis(50));
        reset(stream);
    };
    let half_and_silence = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
        wait_for_the_end(stream);
    };
    let nonsense = |stream: &mut TcpStream| drop(stream.write_all(b"SSH-2.0-x\r\n\r\n"));
    let far = json!({"address": "192.0.2.9", "port": 80});
    let nowhere = json!({"address": "198.51.100.1", "port": 80});
    let mut cases = Vec::new();
    for (protocol, provoke) in [
        ("http", get as fn(SocketAddr)),
        ("tcp", say_something as fn(SocketAddr)),
    ] {
        cases.extend([
            with_member(protocol, &nobody(), provoke, &["member_refused"]),
            with_member(protocol, &far, provoke, &["member_connect_timeout"]),
            with_member(protocol, &nowhere, provoke, &["member_unreachable"]),
            with_member(
                protocol,
                &member(reset),
                provoke,
                &["member_reset_before_answer"],
            ),
            with_member(
                protocol,
                &member(half),
                provoke,
                &["member_reset_mid_answer"],
            ),
            with_member(
                protocol,
                &member(wait_for_the_end),
                provoke,
                &["member_timeout"],
            ),
            with_member(
                protocol,
                &member(half_and_silence),
                provoke,
                &["member_stalled"],
            ),
            with_member(protocol, &nobody(), provoke, &["lb_no_member"]).without_pool(),
            with_member(protocol, &nobody(), provoke, &["lb_denied_cidr"])
                .with("allowed_cidrs", json!(["10.0.0.0/8"])),
        ]);
    }
    cases.push(with_member(
        "http",
        &member(nonsense),
        get,
        &["member_malformed"],
    ));
    cases
}

fn clients(web: &HttpMember, echo: &TcpMember) -> Vec<Case> {
    let web = json!({"address": "127.0.0.1", "port": web.address().port()});
    let echo = json!({"address": "127.0.0.1", "port": echo.address().port()});
    let endless = member(|stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    let quick_after_quick = |address| (0..3).for_each(|_| get(address));
    let reads_nothing = |address: SocketAddr| {
        let mut stream = TcpStream::connect(address).expect("a connection");
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n");
        thread::sleep(Duration::from_secs(2));
    };
    vec![
        with_member("http", &web, |at| drop(say(at, "nonsense\r\n\r\n")), &["client_bad_request"]),
        with_member("http", &web, |at| drop(say(at, "GET / HTTP/1.1\r\n\r\n")), &["client_bad_request"])
            .impatient_with_clients(),
        with_member(
            "http",
            &web,
            |at| drop(say(at, &format!("GET / HTTP/1.1\r\nx: {}\r\n", "x".repeat(100_000)))),
            &["client_head_too_large"],
        ),
        with_member(
            "http",
            &web,
            |at| drop(say(at, "CONNECT h:80 HTTP/1.1\r\nhost: h:80\r\n\r\n")),
            &["client_method_refused"],
        )
        .impatient_with_clients(),
        with_member("http", &web, |at| drop(say(at, "GET / HT")), &["client_timeout_head"])
            .impatient_with_clients(),
        with_member(
            "http",
            &web,
            |at| drop(say(at, "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 9\r\n\r\nhalf")),
            &["client_timeout_body"],
        )
        .impatient_with_clients(),
        with_member("http", &endless, reads_nothing, &["client_timeout"]).impatient_with_clients(),
        with_member("tcp", &endless, reads_nothing, &["client_timeout"]).impatient_with_clients(),
        with_member("http", &endless, break_off, &["client_gone"]),
        with_member("tcp", &endless, break_off, &["client_gone"]),
        with_member("tcp", &echo, say_something, &["client_timeout"]).impatient_with_clients(),
        with_member("http", &web, quick_after_quick, &["lb_rate"]).with("source_rate", json!(1)),
        with_member("http", &web, get, &["lb_policy_rejected"]).with(
            "policies",
            json!([{"action": "reject", "rules": [{"subject": "path", "comparison": "starts_with", "value": "/"}]}]),
        ),
        with_member(
            "http",
            &web,
            |at| {
                say(at, "POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n");
            },
            &["client_bad_request"],
        )
        .impatient_with_clients(),
        // What went well is no failure.
        with_member("http", &web, get, &[]),
        with_member(
            "tcp",
            &echo,
            |at| {
                let mut stream = TcpStream::connect(at).expect("a connection");
                let _ = stream.shutdown(Shutdown::Write);
                wait_for_the_end(&mut stream);
            },
            &[],
        ),
    ]
}

fn datagrams() -> Vec<Case> {
    let datagram = |address: SocketAddr| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.send_to(b"x", address).expect("room");
    };
    vec![
        with_member("udp", &nobody(), datagram, &["lb_no_member"]).without_pool(),
        with_member("udp", &nobody(), datagram, &["lb_denied_cidr"])
            .with("allowed_cidrs", json!(["10.0.0.0/8"])),
    ]
}

#[test]
fn each_failure_is_counted_under_its_cause() {
    let network = Namespace::enter_new();
    // Behind it nobody has the member's address.
    let behind = Namespace::new();
    network.link("far", &["192.0.2.1/24"], &behind, "near", &["192.0.2.2/24"]);
    let web = HttpMember::start("a", "127.0.0.1:0");
    let echo = TcpMember::start("b", "127.0.0.1:0");
    let mut cases = members_and_networks();
    cases.extend(clients(&web, &echo));
    cases.extend(datagrams());
    let (mut listeners, mut pools) = (Vec::new(), Vec::new());
    for (place, case) in cases.iter().enumerate() {
        let mut listener = case.listener.clone();
        listener["id"] = json!(id(place));
        listener["port"] = json!(8_000 + place);
        listener["access_log"] = json!({"one_in": 1});
        if let Some(pool) = &case.pool {
            let mut pool = pool.clone();
            pool["name"] = json!(format!("p{place}"));
            pool["algorithm"] = json!("round_robin");
            listener["default_pool"] = pool["name"].clone();
            pools.push(pool);
        }
        listeners.push(listener);
    }
    let snapshot = json!({"load_balancers": [
        {"name": "lb", "vips": ["127.0.0.1"], "listeners": listeners, "pools": pools}
    ]});
    let metrics: SocketAddr = ([127, 0, 0, 1], 9_445).into();
    let at = |place: usize| {
        SocketAddr::from((
            [127, 0, 0, 1],
            u16::try_from(8_000 + place).expect("a port"),
        ))
    };
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let (metrics_at, log_at) = (metrics.to_string(), format!("file:{}", log.display()));
    let arguments = ["--metrics", &metrics_at, "--access-log", &log_at];
    let _amphora = Standalone::start_with(&snapshot, metrics, &arguments);
    thread::scope(|scope| {
        for (place, case) in cases.iter().enumerate() {
            scope.spawn(move || (case.provoke)(at(place)));
        }
    });
    for (place, case) in cases.iter().enumerate() {
        let wanted: Vec<_> = case.causes.to_vec();
        let mut found = BTreeMap::new();
        until(
            &format!("{} at {} fails by {wanted:?}", case.listener, id(place)),
            NOTICE_MAX,
            || {
                found = failures(metrics, &id(place));
                found.keys().eq(wanted.iter())
            },
        );
        if case.listener["protocol"] == "udp" {
            // Datagrams that begin no session are counted alone.
            continue;
        }
        until(
            &format!("{} at {} is told with {wanted:?}", case.listener, id(place)),
            NOTICE_MAX,
            || told(&log, &id(place)).iter().eq(wanted.iter()),
        );
    }
}

/// The causes in the access log of what a listener has served.
fn told(log: &Path, listener: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(log).unwrap_or_default();
    let records = text.lines().filter_map(|line| {
        let record: Value = serde_json::from_str(line).ok()?;
        (record["listener"] == listener).then_some(record)
    });
    let causes = records.filter_map(|record| Some(record["cause"].as_str()?.to_owned()));
    causes.collect()
}

/// What a listener counted, by cause.
fn failures(metrics: SocketAddr, listener: &str) -> BTreeMap<String, u64> {
    let text = fetch(metrics, "/metrics").expect("metrics").text();
    let lines = text.lines().filter(|line| {
        line.starts_with("krater_amphora_listener_failures_total{") && line.contains(listener)
    });
    let read = |line: &str| {
        let cause = line.split("cause=\"").nth(1)?.split('"').next()?;
        Some((cause.to_owned(), line.rsplit(' ').next()?.parse().ok()?))
    };
    lines.filter_map(read).collect()
}

fn id(place: usize) -> String {
    format!("00000000-0000-4000-8000-{place:012}")
}

#[test]
fn an_operator_is_told_why_requests_failed_lately() {
    let mut scene = Scene::up();
    let mut web = HttpMember::start("a", "127.0.0.1:0");
    let members = json!([{"address": "127.0.0.1", "protocol_port": web.address().port()}]);
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["timeout_member_connect"] = json!(20);
    let tree = scene.tree(&json!([listener]));
    let address = tree.at(80);
    assert_eq!(fetch(address, "/").expect("an answer").status, 200);
    assert_eq!(causes(&tree.id), BTreeMap::new());
    web.stop();
    for _ in 0..3 {
        let answer = fetch(address, "/").expect("an answer");
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("x-krater-cause"), Some("member_refused"));
    }
    say(address, "nonsense\r\n\r\n");
    let wanted: BTreeMap<String, u64> = [("client_bad_request", 1), ("member_refused", 3)]
        .map(|(cause, times)| (cause.to_owned(), times))
        .into();
    until("all four are told", NOTICE_MAX, || {
        causes(&tree.id) == wanted
    });
    // A run that begins anew takes nothing away, and what it counts is added.
    let pids = scene.krater.amphorae();
    scene.krater.kill_amphorae();
    until("another run serves", NOTICE_MAX, || {
        scene.krater.amphorae() != pids && TcpStream::connect(address).is_ok()
    });
    say(address, "nonsense\r\n\r\n");
    until("the fifth is told", NOTICE_MAX, || {
        causes(&tree.id).get("client_bad_request") == Some(&2)
    });
    assert_eq!(causes(&tree.id).get("member_refused"), Some(&3));
    let (status, table) = run_to_end(
        Command::new(binary("krater")).args(["lb", "causes", "test"]),
        Duration::from_secs(20),
    );
    assert!(status.success(), "{table}");
    assert!(table.contains("listener l80 (HTTP, port 80)"), "{table}");
    assert!(table.contains("member_refused"), "{table}");
    assert!(table.lines().all(|line| line.len() <= 80), "{table}");
}

/// What failed in the last hour at the only listener.
fn causes(balancer: &str) -> BTreeMap<String, u64> {
    let (status, said) = run_to_end(
        Command::new(binary("krater")).args(["lb", "causes", balancer, "--output", "json"]),
        Duration::from_secs(20),
    );
    assert!(status.success(), "{said}");
    let seen: Value = serde_json::from_str(&said).expect("JSON");
    let causes = seen["listeners"][0]["causes"].as_array().expect("a list");
    let pair = |cause: &Value| {
        let times = cause["last_60_minutes"].as_u64().expect("a number");
        assert!(
            cause["side"].is_string() && cause["meaning"].is_string(),
            "{cause}"
        );
        (cause["cause"].as_str().expect("a name").to_owned(), times)
    };
    causes.iter().map(pair).collect()
}
