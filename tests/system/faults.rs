//! Peers that misbehave: each has its documented outcome (ARCHITECTURE §7), costs nobody else anything, and leaves
//! nothing behind.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Connection, HttpMember, Namespace, Standalone, TcpMember, fetch, until};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json};

/// A member of which a test says what it does with a connection.
fn member(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let (counted, serve) = (Arc::clone(&connections), Arc::new(serve));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    (address, connections)
}

/// A connection that never waits for ever.
fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    stream
}

/// Breaks a connection off.
fn reset(stream: TcpStream) {
    set_socket_linger(&stream, Some(Duration::ZERO)).expect("a socket");
    drop(stream);
}

/// Reads to the end, which may be a break; what came, and how long it took.
fn rest(mut stream: &TcpStream) -> (String, Duration) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    (String::from_utf8(bytes).expect("text"), start.elapsed())
}

/// Waits until nothing is left of anybody's connections, at the same amphora as before.
fn settled(scene: &mut Scene, tree: &Tree, amphorae: &[u32]) {
    let path = format!("listeners/{}/stats", tree.listener);
    until("no connection is left", NOTICE_MAX, || {
        scene.api.get(&path)["stats"]["active_connections"] == 0
    });
    assert_eq!(scene.krater.amphorae(), amphorae, "an amphora died of it");
}

fn pool_json(protocol: &str, members: &[SocketAddr]) -> Value {
    let members: Vec<_> = members.iter().copied().map(member_json).collect();
    json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members})
}

/// A listener of that protocol with those members and timeouts (client data, member data, TCP inspect).
fn timed(
    scene: &mut Scene,
    protocol: &str,
    members: &[SocketAddr],
    timeouts: [u32; 3],
) -> (Tree, SocketAddr) {
    let mut listener = listener_json(protocol, 90, &pool_json(protocol, members));
    let names = [
        "timeout_client_data",
        "timeout_member_data",
        "timeout_tcp_inspect",
    ];
    for (name, timeout) in names.into_iter().zip(timeouts) {
        listener[name] = json!(timeout);
    }
    let tree = scene.tree(&json!([listener]));
    let address = tree.at(90);
    (tree, address)
}

const LONG: u32 = 60_000;

#[test]
fn clients_that_never_speak_are_closed_and_leave_nothing_behind() {
    for protocol in ["TCP", "HTTP"] {
        let mut scene = Scene::up();
        let (silent, _) = member(|mut stream| drop(stream.read(&mut [0])));
        let (tree, address) = timed(&mut scene, protocol, &[silent], [500, LONG, 0]);
        let amphorae = scene.krater.amphorae();
        let clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
        for client in &clients {
            let (said, took) = rest(client);
            assert_eq!(said, "", "closed without a word");
            assert!(took < SETTLE_MAX, "{took:?}");
        }
        settled(&mut scene, &tree, &amphorae);
    }
}

#[test]
fn clients_that_break_off_at_any_stage_cost_nobody_anything() {
    let mut scene = Scene::up();
    // Says something late, so that clients are gone by then.
    let (slow, connections) = member(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
        thread::sleep(Duration::from_millis(100));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
        let mut sink = Vec::new();
        let _ = stream.read_to_end(&mut sink);
    });
    let (tree, address) = timed(&mut scene, "TCP", &[slow], [LONG, LONG, 300]);
    let amphorae = scene.krater.amphorae();
    let pause = || thread::sleep(Duration::from_millis(30));
    for _ in 0..10 {
        // Before the member was chosen; with something said; while the answer comes; after the own end.
        reset(connect(address));
        let mut spoke = connect(address);
        spoke.write_all(b"x").expect("room");
        reset(spoke);
        let mut half = connect(address);
        half.write_all(b"x").expect("room");
        half.shutdown(Shutdown::Write).expect("an end");
        pause();
        reset(half);
    }
    let mut answered = connect(address);
    answered.write_all(b"x").expect("room");
    answered.read_exact(&mut [0; 4]).expect("an answer");
    reset(answered);
    assert!(connections.load(Ordering::SeqCst) > 0);
    settled(&mut scene, &tree, &amphorae);
}

#[test]
fn http_clients_that_break_off_at_any_stage_cost_nobody_anything() {
    let mut scene = Scene::up();
    let web = HttpMember::start("a", "127.0.0.1:0");
    web.set_delay(Duration::from_millis(100));
    let (tree, address) = timed(&mut scene, "HTTP", &[web.address()], [LONG, LONG, 0]);
    let amphorae = scene.krater.amphorae();
    for said in [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
    ] {
        for wait in [0, 30, 150] {
            let mut client = connect(address);
            client.write_all(said.as_bytes()).expect("room");
            thread::sleep(Duration::from_millis(wait));
            reset(client);
        }
    }
    assert_eq!(fetch(address, "/").expect("an answer").status, 200);
    settled(&mut scene, &tree, &amphorae);
}

#[test]
fn members_that_take_a_stream_and_say_nothing_are_given_up() {
    let mut scene = Scene::up();
    let (silent, _) = member(|mut stream| drop(stream.read_to_end(&mut Vec::new())));
    let (deaf, _) = member(|stream| {
        thread::sleep(Duration::from_secs(120));
        drop(stream);
    });
    let (tree, address) = timed(&mut scene, "TCP", &[silent, deaf], [LONG, 500, 0]);
    let amphorae = scene.krater.amphorae();
    for _ in 0..4 {
        let mut client = connect(address);
        client.write_all(b"question").expect("room");
        let (said, took) = rest(&client);
        assert_eq!(said, "");
        assert!(took < SETTLE_MAX, "{took:?}");
        // The client has said all: now it is the member alone that is waited for.
        let client = connect(address);
        client.shutdown(Shutdown::Write).expect("an end");
        let (_, took) = rest(&client);
        assert!(took < SETTLE_MAX, "{took:?}");
    }
    settled(&mut scene, &tree, &amphorae);
}

#[test]
fn who_vanishes_without_a_word_is_let_go_and_the_other_side_is_told() {
    let (host, far) = (Namespace::new(), Namespace::new());
    host.link("near", &["10.9.0.1/24"], &far, "far", &["10.9.0.2/24"]);
    let member_at = SocketAddr::from(([10, 9, 0, 2], 7_001));
    let echo = |member: SocketAddr| {
        let listener = TcpListener::bind(member).expect("the port is free");
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(count @ 1..) = stream.read(&mut bytes) {
                        let _ = stream.write_all(&bytes[..count]);
                    }
                });
            }
        });
    };
    far.run(|| echo(member_at));
    let near_member = SocketAddr::from(([127, 0, 0, 1], 7_002));
    host.run(|| echo(near_member));
    let listener = |port: u16, pool: &str| {
        json!({"protocol": "tcp", "port": port, "default_pool": pool,
            "timeouts": {"client_data_ms": 700, "member_data_ms": 700, "member_connect_ms": 700}})
    };
    let pool = |name: &str, member: SocketAddr| {
        json!({"name": name, "protocol": "tcp",
            "members": [{"address": member.ip(), "port": member.port()}]})
    };
    let snapshot = json!({"load_balancers": [{
        "vips": ["10.9.0.1"],
        "listeners": [listener(90, "near"), listener(91, "far")],
        "pools": [pool("near", near_member), pool("far", member_at)],
    }]});
    let vip = |port| SocketAddr::from(([10, 9, 0, 1], port));
    let metrics = SocketAddr::from(([127, 0, 0, 1], 9_100));
    let _amphora = host.run(|| {
        let arguments = ["--metrics", &metrics.to_string()];
        Standalone::start_with(&snapshot, vip(90), &arguments)
    });
    let ask = |mut client: &TcpStream| {
        client.write_all(b"x").expect("room");
        client.read_exact(&mut [0]).expect("the echo");
    };
    // One client is beyond the link and one member: then there is no link any more, and nobody can say so.
    let client_beyond = far.run(|| connect(vip(90)));
    let client_here = host.run(|| connect(vip(91)));
    ask(&client_beyond);
    ask(&client_here);
    far.ip(&["link", "set", "far", "down"]);
    (&client_here).write_all(b"x").expect("room");
    let (said, took) = rest(&client_here);
    assert_eq!(said, "", "whoever is left is not left waiting");
    assert!(took < SETTLE_MAX, "{took:?}");
    until("neither has left anything", SETTLE_MAX, || {
        let text = host.run(|| fetch(metrics, "/metrics").expect("metrics").text());
        let active = "krater_amphora_thread_connections_active{";
        let mut lines = text.lines().filter(|line| line.starts_with(active));
        lines.all(|line| line.ends_with(" 0"))
    });
}

#[test]
fn a_member_that_breaks_off_breaks_the_stream_off() {
    let mut scene = Scene::up();
    let (at_once, _) = member(reset);
    let (tree, address) = timed(&mut scene, "TCP", &[at_once], [LONG, LONG, 0]);
    let amphorae = scene.krater.amphorae();
    let client = connect(address);
    let (said, took) = rest(&client);
    assert_eq!(said, "");
    assert!(took < SETTLE_MAX, "{took:?}");
    settled(&mut scene, &tree, &amphorae);

    let mut scene = Scene::up();
    let (in_the_middle, _) = member(|mut stream| {
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"half of");
        thread::sleep(Duration::from_millis(50));
        reset(stream);
    });
    let (tree, address) = timed(&mut scene, "TCP", &[in_the_middle], [LONG, LONG, 0]);
    let amphorae = scene.krater.amphorae();
    let mut client = connect(address);
    client.write_all(b"x").expect("room");
    client.read_exact(&mut [0; 7]).expect("what came before");
    let end = client.read(&mut [0]);
    assert!(end.is_err(), "a break does not look like an end: {end:?}");
    settled(&mut scene, &tree, &amphorae);
}

#[test]
fn a_member_that_breaks_off_costs_a_502_or_the_rest_of_its_answer() {
    let mut scene = Scene::up();
    let (broken, _) = member(|mut stream| {
        let mut head = [0; 1_024];
        let read = stream.read(&mut head).unwrap_or_default();
        let path = String::from_utf8_lossy(&head[..read]).into_owned();
        if path.starts_with("GET /half") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
            thread::sleep(Duration::from_millis(50));
        } else if path.starts_with("GET /head") {
            let _ = stream.write_all(b"HTTP/1.1 200 O");
            thread::sleep(Duration::from_millis(50));
        }
        reset(stream);
    });
    let (tree, address) = timed(&mut scene, "HTTP", &[broken], [LONG, LONG, 0]);
    let amphorae = scene.krater.amphorae();
    assert_eq!(fetch(address, "/").expect("an answer").status, 502);
    assert_eq!(fetch(address, "/head").expect("an answer").status, 502);
    assert!(
        fetch(address, "/half").is_err(),
        "half an answer does not look whole"
    );
    settled(&mut scene, &tree, &amphorae);
}

#[test]
fn a_client_cannot_speak_for_another_by_a_header_of_its_own() {
    const FORGED: &str = "PROXY TCP4 203.0.113.7 192.0.2.1 1 2\r\n";
    let mut scene = Scene::up();
    let (told, _) = member(|mut stream| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let _ = stream.write_all(&bytes);
    });
    let listener = listener_json("TCP", 90, &pool_json("PROXY", &[told]));
    let tree = scene.tree(&json!([listener]));
    let mut client = connect(tree.at(90));
    let own = client.local_addr().expect("an address");
    client.write_all(FORGED.as_bytes()).expect("room");
    client.shutdown(Shutdown::Write).expect("an end");
    let (heard, _) = rest(&client);
    let true_one = format!("PROXY TCP4 {} {} {} 90\r\n", own.ip(), tree.vip, own.port());
    assert_eq!(
        heard,
        format!("{true_one}{FORGED}"),
        "payload like any other"
    );

    // To a listener that reads HTTP it is a request that is none.
    let mut scene = Scene::up();
    let web = HttpMember::start("a", "127.0.0.1:0");
    let listener = listener_json("HTTP", 90, &pool_json("HTTP", &[web.address()]));
    let tree = scene.tree(&json!([listener]));
    for forged in [
        FORGED.as_bytes(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c0123456789ab",
    ] {
        let mut client = connect(tree.at(90));
        client.write_all(forged).expect("room");
        let _ = client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let (answer, _) = rest(&client);
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    assert_eq!(web.served(), 0);
}

#[test]
fn an_inspection_waits_for_the_first_bytes_and_not_for_ever() {
    let mut scene = Scene::up();
    let greeter = TcpMember::start("a", "127.0.0.1:0");
    let (tree, address) = timed(&mut scene, "TCP", &[greeter.address()], [LONG, LONG, LONG]);
    let mut quick = connect(address);
    quick.write_all(b"x").expect("room");
    quick.read_exact(&mut [0; 3]).expect("greeting and echo");
    let before = greeter.connections();
    let silent = connect(address);
    silent
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    (&silent)
        .read_exact(&mut [0])
        .expect_err("nothing is said yet");
    assert_eq!(greeter.connections(), before, "the member is not bothered");
    let shorter = json!({"listener": {"timeout_tcp_inspect": 1_500}});
    scene
        .api
        .put(&format!("listeners/{}", tree.listener), &shorter);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    let start = Instant::now();
    let mut silent = connect(address);
    silent.read_exact(&mut [0; 2]).expect("the greeting");
    assert!(start.elapsed() >= Duration::from_millis(1_400));
}

#[test]
fn http_connections_above_the_limit_wait_until_one_ends() {
    let mut scene = Scene::up();
    let web = HttpMember::start("a", "127.0.0.1:0");
    let mut listener = listener_json("HTTP", 90, &pool_json("HTTP", &[web.address()]));
    listener["connection_limit"] = json!(1);
    let tree = scene.tree(&json!([listener]));
    let mut first = Connection::open(tree.at(90)).expect("a connection");
    assert_eq!(first.get("/").expect("an answer").status, 200);
    let mut second = connect(tree.at(90));
    second
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("the kernel takes it");
    second
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    assert!(second.read(&mut [0]).is_err(), "the second must wait");
    assert_eq!(first.get("/").expect("an answer").status, 200);
    drop(first);
    second
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    let (answer, _) = rest(&second);
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
}
