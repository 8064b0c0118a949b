//! HTTP/2 as its clients load it and as its enemies abuse it.

use std::{fs, net::SocketAddr, process::Command, thread, time::Duration};

use krater_tests::{
    Authority, HttpMember, Namespace, Standalone, fetch,
    frames::{CALM, Framed, flag, frame, get, kind},
    run_to_end, until,
};
use serde_json::{Value, json};

const PLAIN: SocketAddr = SocketAddr::new(VIP, 80);
const SEALED: SocketAddr = SocketAddr::new(VIP, 443);
const VIP: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 77, 0, 1));

/// An amphora with a listener in the clear and one that ends TLS, in front of one member.
struct Stage {
    amphora: Standalone,
    _network: Namespace,
}

impl Stage {
    fn new(network: Namespace, member: SocketAddr) -> Self {
        let tls = json!({
            "default_certificate": Authority::new("authority").issue(&["a.example"]).spec(),
            "versions": ["1.2", "1.3"],
            "cipher_suites": ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            "alpn": ["h2", "http/1.1"],
        });
        let snapshot = json!({"load_balancers": [{
            "name": "two", "vips": [VIP.to_string()],
            "listeners": [
                {"name": "plain", "protocol": "http", "port": PLAIN.port(), "default_pool": "web"},
                {"name": "sealed", "protocol": "http", "port": SEALED.port(), "default_pool": "web", "tls": tls},
            ],
            "pools": [{"name": "web", "protocol": "http", "members": [member_of(member)]}],
        }]});
        let amphora = Standalone::start_with(&snapshot, PLAIN, &["--workers", "2"]);
        Self {
            amphora,
            _network: network,
        }
    }

    /// Memory of the amphora that is in use, in KiB.
    fn memory(&mut self) -> u64 {
        let path = format!("/proc/{}/status", self.amphora.program().pid());
        let text = fs::read_to_string(path).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }
}

fn member_of(address: SocketAddr) -> Value {
    json!({"address": address.ip().to_string(), "port": address.port()})
}

/// Every one of so many requests is answered with 200.
fn load(requests: usize, arguments: &[&str], url: &str) {
    let mut command = Command::new("h2load");
    command
        .args(["-n", &requests.to_string()])
        .args(arguments)
        .arg(url);
    let (status, said) = run_to_end(&mut command, Duration::from_secs(100));
    assert!(status.success(), "{said}");
    let all = format!(
        "requests: {requests} total, {requests} started, {requests} done, {requests} succeeded, 0 failed, 0 errored, \
         0 timeout"
    );
    assert!(said.contains(&all), "{arguments:?} {url}:\n{said}");
    let codes = format!("status codes: {requests} 2xx, 0 3xx, 0 4xx, 0 5xx");
    assert!(said.contains(&codes), "{arguments:?} {url}:\n{said}");
}

#[test]
fn h2load_has_every_request_answered() {
    let network = Namespace::enter_new();
    let member = HttpMember::start("m", "127.0.0.1:0");
    let stage = Stage::new(network, member.address());
    let body = tempfile::NamedTempFile::new().expect("a file");
    fs::write(body.path(), vec![b'x'; 100_000]).expect("it can be written");
    let body = body.path().to_str().expect("a path");
    let before = member.served();
    for url in [format!("http://{PLAIN}/"), format!("https://{SEALED}/x?y")] {
        load(2_000, &["-c", "4", "-m", "50"], &url);
        load(200, &["-c", "50", "-m", "4"], &url);
        load(100, &["-c", "2", "-m", "10", "-d", body], &url);
        load(100, &["-c", "2", "-m", "10", "-w", "1", "-W", "1"], &url);
        load(200, &["-c", "4", "-m", "1", "--h1"], &url);
    }
    assert_eq!(member.served() - before, 2 * 2_600);
    drop(stage);
}

/// What a client sends over and over, by its number.
type Flood = fn(u32) -> Vec<u8>;

#[test]
fn floods_are_ended_with_a_word_and_others_go_on() {
    let network = Namespace::enter_new();
    let member = HttpMember::start("m", "127.0.0.1:0");
    let mut stage = Stage::new(network, member.address());
    let mut other = Framed::to(PLAIN, &[]);
    other.send(&get(1, "/"));
    assert!(other.answer(1).last().is_some_and(|frame| frame.ends()));
    let floods: [(&str, Flood); 7] = [
        ("pings", |_| frame(kind::PING, 0, 0, &[7; 8])),
        ("settings", |_| frame(kind::SETTINGS, 0, 0, &[])),
        ("priorities", |n| frame(2, 0, n * 2 + 1, &[0, 0, 0, 0, 7])),
        ("windows", |_| {
            frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])
        }),
        ("unknown frames", |_| frame(0xfa, 0, 0, &[])),
        ("rapid resets", |n| {
            let reset = frame(kind::RST_STREAM, 0, n * 2 + 1, &[0, 0, 0, 8]);
            [get(n * 2 + 1, "/"), reset].concat()
        }),
        ("resets that we are made to send", |n| {
            let window = frame(kind::WINDOW_UPDATE, 0, n * 2 + 1, &[0x7f, 0xff, 0xff, 0xff]);
            [get(n * 2 + 1, "/"), window].concat()
        }),
    ];
    let before = stage.memory();
    for (at, (name, one)) in floods.into_iter().enumerate() {
        let mut client = Framed::to(PLAIN, &[]);
        let mut sent = 0;
        while sent < 20_000 && client.send(&one(sent)) {
            sent += 1;
        }
        assert_eq!(client.goodbye(), Some(CALM), "{name}");
        // Who was there goes on over the same connection, and who comes is served.
        let stream = u32::try_from(at * 2 + 3).expect("a stream");
        other.send(&get(stream, "/"));
        let answer = other.answer(stream);
        assert_eq!(answer[0].status(), 200, "{name}");
        assert_eq!(fetch(PLAIN, "/").expect("an answer").status, 200, "{name}");
    }
    // A head without end: its connection ends, with whatever word.
    let mut client = Framed::to(PLAIN, &[]);
    client.send(&frame(
        kind::HEADERS,
        flag::END_STREAM,
        1,
        &[0x82, 0x86, 0x84],
    ));
    let piece = frame(
        kind::CONTINUATION,
        0,
        1,
        &[&[0x10, 1, b'x', 0x7f, 0x81, 0x7][..], &[b'y'; 1_024]].concat(),
    );
    let mut sent = 0;
    while sent < 20_000 && client.send(&piece) {
        sent += 1;
    }
    assert!(sent < 20_000, "20 MB of one head were taken");
    assert_eq!(fetch(PLAIN, "/").expect("an answer").status, 200);
    let grown = stage.memory().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

/// A member that answers with a megabyte.
fn generous() -> SocketAddr {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = move || {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                let mut large = true;
                while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
                    if line.starts_with("GET /small") {
                        large = false;
                    }
                    if line == "\r\n" {
                        let length = if large { 1 << 20 } else { 2 };
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                        let socket = stream.get_mut();
                        if socket.write_all(head.as_bytes()).is_err()
                            || socket.write_all(&vec![b'x'; length]).is_err()
                        {
                            return;
                        }
                        large = true;
                    }
                    line.clear();
                }
            };
            let small = thread::Builder::new().stack_size(128 * 1024);
            small.spawn(serve).expect("a thread");
        }
    });
    address
}

#[test]
fn streams_that_nobody_takes_cost_little_and_hold_up_nobody() {
    let network = Namespace::enter_new();
    let mut stage = Stage::new(network, generous());
    assert_eq!(fetch(PLAIN, "/small").expect("an answer").status, 200);
    let before = stage.memory();
    let mut clients: Vec<_> = (0..4).map(|_| Framed::to(PLAIN, &[])).collect();
    for client in &mut clients {
        for n in 0..100 {
            assert!(client.send(&get(n * 2 + 1, "/large")));
        }
    }
    // The heads of all answers have come, and as much of their bodies as there is room for; nothing is taken any more.
    for client in &mut clients {
        let mut heads = 0;
        while heads < 100 {
            let frame = client.read().expect("the connection goes on");
            heads += usize::from(frame.kind == kind::HEADERS);
            assert!(!frame.ends(), "a megabyte is more than there is room for");
        }
    }
    for _ in 0..20 {
        assert_eq!(fetch(PLAIN, "/small").expect("an answer").status, 200);
    }
    let mut grown = 0;
    for _ in 0..10 {
        grown = grown.max(stage.memory().saturating_sub(before));
        thread::sleep(Duration::from_millis(50));
    }
    assert!(grown < 30 * 1024, "{grown} KiB for 400 streams");
    drop(clients);
    until("it is as before", Duration::from_secs(20), || {
        fetch(PLAIN, "/small").is_ok_and(|answer| answer.status == 200)
    });
}
