use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use krater_amphora_api::{ListenerProtocol, PoolProtocol};

use crate::testbed::{Bed, PATIENCE, eventually, member, nobody, pattern, read_all};
use talk::{Expect, Message, Talk, http_member, ok, show};

mod faults;
mod frames;
mod hsts;
mod interim;
mod keeping;
mod places;
mod policies;
mod proxy_header;
mod resealed;
mod sealed;
mod shared;
mod streams;
mod talk;
mod wire;

/// Counts the connections a member gets.
fn counting(serve: impl Fn(Talk) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let address = member(move |stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        serve(Talk::over(stream));
    });
    (address, connections)
}

/// Answers every request on a connection with its path.
fn paths(mut talk: Talk) {
    while let Some(request) = talk.try_read(Expect::Request) {
        let path = request.start.split(' ').nth(1).unwrap().to_owned();
        talk.send(&ok(&path));
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let (address, connections) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for path in ["/a", "/b?c=d", "/e%20f"] {
        let answer = client.get(path);
        assert_eq!((answer.status(), answer.text()), (200, path));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let world = bed.plane.world();
    let listener = world.listeners.values().next().unwrap();
    let member = &world.pools.values().next().unwrap().members[0];
    assert_eq!(listener.shared.meter.sum(|lane| &lane.requests), 3);
    assert_eq!(listener.shared.meter.responses(), [0, 3, 0, 0, 0, 0]);
    assert_eq!(member.meter.sum(|lane| &lane.reuses), 2);
    assert_eq!(listener.shared.meter.counters().total_connections, 1);
    let totals = member.meter.totals();
    assert_eq!(totals.responses, [0, 3, 0, 0, 0, 0]);
    assert_eq!(totals.durations.buckets.iter().sum::<u64>(), 3);
}

#[test]
fn clients_that_come_and_go_share_connections_to_members() {
    let (address, connections) = counting(paths);
    let bed = Bed::http(&[address]).started();
    for _ in 0..20 {
        let mut client = Talk::to(bed.vip);
        client.send("GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let answer = client.read(Expect::Answer);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.try_read(Expect::Answer).is_none());
    }
    // One per worker that was chosen by the kernel.
    assert!(connections.load(Ordering::SeqCst) <= 2);
}

#[test]
fn large_bodies_stream_both_ways_and_arrive_intact() {
    let body = pattern(6 << 20);
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        let request = talk.read(Expect::Request);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            request.body.len()
        );
        talk.send(&head);
        talk.stream.get_mut().write_all(&request.body).unwrap();
    })])
    .started();
    for framing in ["Content-Length", "chunked"] {
        let mut client = Talk::to(bed.vip);
        let mut writer = client.stream.get_ref().try_clone().unwrap();
        let sent = body.clone();
        let writing = thread::spawn(move || {
            if framing == "chunked" {
                writer
                    .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .unwrap();
                for chunk in sent.chunks(100_000) {
                    writer
                        .write_all(format!("{:x}\r\n", chunk.len()).as_bytes())
                        .unwrap();
                    writer.write_all(chunk).unwrap();
                    writer.write_all(b"\r\n").unwrap();
                }
                writer.write_all(b"0\r\n\r\n").unwrap();
            } else {
                let head = format!(
                    "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
                    sent.len()
                );
                writer.write_all(head.as_bytes()).unwrap();
                writer.write_all(&sent).unwrap();
            }
        });
        let answer = client.read(Expect::Answer);
        writing.join().unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.body == body, "the {framing} body came back changed");
    }
}

#[test]
fn a_slow_reader_holds_the_member_back() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let total = 64 << 20;
    let bed = Bed::http(&[member(move |stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"
        ));
        let piece = [7; 65_536];
        while counted.fetch_add(piece.len(), Ordering::SeqCst) < total {
            if talk.stream.get_mut().write_all(&piece).is_err() {
                return;
            }
        }
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    // Nothing is read: the member gets stuck as soon as the kernel's buffers are full, far before the end.
    let mut before = 0;
    eventually("the member is held back", || {
        thread::sleep(Duration::from_millis(100));
        let now = written.load(Ordering::SeqCst);
        let stuck = now == before && now > 0;
        before = now;
        stuck
    });
    assert!(
        before < total / 2,
        "{before} bytes were taken from the member with nobody reading"
    );
    let answer = client.read(Expect::Answer);
    assert!(answer.body.len() == total && answer.body.iter().all(|byte| *byte == 7));
}

#[test]
fn chunked_answers_and_those_that_end_with_the_connection_are_passed_on() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        while let Some(request) = talk.try_read(Expect::Request) {
            if request.start.starts_with("GET /chunked") {
                talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
                talk.send("4\r\ndefg\r\n0\r\n\r\n");
            } else {
                talk.send("HTTP/1.0 200 OK\r\n\r\nto the end");
                return;
            }
        }
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..2 {
        let answer = client.get("/chunked");
        assert_eq!(
            (answer.text(), answer.header("transfer-encoding")),
            ("abcdefg", Some("chunked"))
        );
        let answer = client.get("/end");
        assert_eq!(
            (answer.text(), answer.header("transfer-encoding")),
            ("to the end", Some("chunked"))
        );
    }
}

#[test]
fn each_piece_of_an_answer_is_passed_on_when_it_comes() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let bed = Bed::http(&[member(move |stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
        talk.send("1\r\nb\r\n0\r\n\r\n");
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut seen = vec![];
    while !seen.ends_with(b"\r\na\r\n") {
        let mut byte = [0; 1];
        client.stream.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    go.send(()).unwrap();
    let mut rest = [0; 11];
    client.stream.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"1\r\nb\r\n0\r\n\r\n");
}

#[test]
fn answers_without_a_body_keep_their_length_and_the_connection() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        while let Some(request) = talk.try_read(Expect::Request) {
            match request.start.split(' ').next().unwrap() {
                "HEAD" => talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"),
                "DELETE" => talk.send("HTTP/1.1 204 No Content\r\n\r\n"),
                "OPTIONS" => talk
                    .send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n"),
                _ => talk.send(&ok("body")),
            }
        }
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(
        client.read(Expect::AnswerToHead).header("content-length"),
        Some("1234")
    );
    client.send("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.header("content-length")),
        (204, None)
    );
    client.send("OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n");
    let answer = client.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.header("etag")),
        (304, Some("\"x\""))
    );
    assert_eq!(client.get("/").text(), "body");
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_early_hints_do_no_harm() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        while let Some(request) = talk.try_read(Expect::Request) {
            talk.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
            talk.send(&ok(request.text()));
        }
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 100);
    client.send("body");
    let mut answer = client.read(Expect::Answer);
    while answer.status() < 200 {
        answer = client.read(Expect::Answer);
    }
    assert_eq!((answer.status(), answer.text()), (200, "body"));
}

#[test]
fn headers_are_inserted_after_those_of_the_client() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).with(|spec| {
        let insert = &mut spec.listeners[0].insert_headers;
        (
            insert.x_forwarded_for,
            insert.x_forwarded_port,
            insert.x_forwarded_proto,
        ) = (true, true, true);
    });
    let mut client = Talk::to(bed.vip);
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2, 3.3.3.3\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Port: 2\r\nX-Forwarded-Proto: gopher\r\n\r\n",
    );
    let seen = client.read(Expect::Answer);
    let lines: Vec<_> = seen
        .text()
        .lines()
        .filter(|line| line.starts_with("x-forwarded"))
        .collect();
    let port = format!("x-forwarded-port: {}", bed.vip.port());
    assert_eq!(
        lines,
        [
            "x-forwarded-for: 1.1.1.1",
            "x-forwarded-for: 2.2.2.2, 3.3.3.3",
            "x-forwarded-for: 127.0.0.1",
            port.as_str(),
            "x-forwarded-proto: http",
        ]
    );
    assert!(seen.text().contains("host: h\n"));
}

#[test]
fn a_client_can_neither_preset_nor_take_out_what_is_inserted() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).with(|spec| {
        let insert = &mut spec.listeners[0].insert_headers;
        insert.x_forwarded_for = true;
        insert.x_forwarded_port = true;
        insert.x_forwarded_ip = true;
        insert.x_client_ip = true;
        insert.x_real_ip = true;
    });
    let inserted = BTreeSet::from([
        "x-forwarded-for: 127.0.0.1".to_owned(),
        format!("x-forwarded-port: {}", bed.vip.port()),
        "x-forwarded-ip: 127.0.0.1".into(),
        "x-client-ip: 127.0.0.1".into(),
        "x-real-ip: 127.0.0.1".into(),
    ]);
    for lines in [
        "X-Real-IP: 1.1.1.1\r\nX-REAL-IP: 2.2.2.2\r\nx-client-ip:\r\nX-Forwarded-IP: 3.3.3.3, 4.4.4.4\r\n",
        "X_Real_IP: 1.1.1.1\r\nx_forwarded_for: 1.1.1.1\r\nX_FORWARDED_PORT: 1\r\nX-Client_IP: 1.1.1.1\r\n",
        "Connection: X-Real-IP, x-forwarded-for, X-Forwarded-Port, x-client-ip, x-forwarded-ip, close\r\n",
    ] {
        let mut client = Talk::to(bed.vip);
        client.send(&format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"));
        let seen = client.read(Expect::Answer);
        let told: BTreeSet<_> = seen
            .text()
            .lines()
            .filter(|line| line.starts_with('x'))
            .map(str::to_owned)
            .collect();
        assert_eq!(told, inserted, "{lines}");
    }
    // What came by way of others stays, whatever a client says of it; what nobody inserts is nobody's.
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: x-forwarded-for\r\nX-Forwarded-For: 9.9.9.9\r\nx_own: 1\r\n\r\n");
    let seen = client.read(Expect::Answer);
    for line in [
        "x-forwarded-for: 9.9.9.9\n",
        "x-forwarded-for: 127.0.0.1\n",
        "x_own: 1\n",
    ] {
        assert!(seen.text().contains(line), "{line}: {}", seen.text());
    }
}

#[test]
fn what_is_meant_for_one_hop_stays_there() {
    let bed = Bed::http(&[http_member(|request| {
        let body = show(request);
        format!(
            "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n\
             X-Kept: 2\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: X-Hop, Host, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: 1\r\n\
         Proxy-Connection: x\r\nTE: trailers\r\nUpgrade: h2c\r\nX-Kept: 2\r\n\r\n",
    );
    let answer = client.read(Expect::Answer);
    assert_eq!(answer.text(), "GET / HTTP/1.1\nhost: h\nx-kept: 2\n\n");
    assert_eq!(
        (answer.header("x-mine"), answer.header("keep-alive")),
        (None, None)
    );
    assert_eq!(answer.header("x-kept"), Some("2"));
}

#[test]
fn the_authority_of_an_absolute_target_becomes_the_host() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).started();
    let mut client = Talk::to(bed.vip);
    client.send("GET http://right.example:8080/path?q HTTP/1.1\r\nHost: wrong\r\n\r\n");
    assert_eq!(
        client.read(Expect::Answer).text(),
        "GET /path?q HTTP/1.1\nhost: right.example:8080\n\n"
    );
}

#[test]
fn a_client_of_http_1_0_is_served() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        let request = talk.read(Expect::Request);
        assert!(request.start.ends_with("HTTP/1.1"));
        talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.0\r\n\r\n");
    let answer: Message = client.read(Expect::Answer);
    assert_eq!(
        (answer.text(), answer.header("transfer-encoding")),
        ("abc", None)
    );
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    let requests: Vec<_> = (0..20)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: h\r\n\r\n"))
        .collect();
    client.send(&requests.concat());
    for n in 0..20 {
        assert_eq!(client.read(Expect::Answer).text(), format!("/{n}"));
    }
}

#[test]
fn an_upgrade_joins_client_and_member() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        let request = talk.read(Expect::Request);
        assert_eq!((request.header("upgrade"), request.header("connection")), (Some("echo"), Some("upgrade")));
        talk.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ");
        let mut stream: TcpStream = talk.stream.into_inner();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).unwrap();
        stream.write_all(heard.as_bytes()).unwrap();
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n",
    );
    let answer = client.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.header("upgrade")),
        (101, Some("echo"))
    );
    client.send("world");
    client.stream.get_ref().shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "hello world");
}

#[test]
fn a_tcp_listener_with_an_http_pool_reads_http_and_adds_nothing() {
    let (address, connections) = counting(|mut talk| {
        while let Some(request) = talk.try_read(Expect::Request) {
            talk.send(&ok(&show(&request)));
        }
    });
    let bed = Bed::new(
        ListenerProtocol::Tcp,
        PoolProtocol::Http,
        &[nobody(), address],
    )
    .started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "GET / HTTP/1.1\nhost: example\n\n");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    drop(client);
    assert_eq!(
        read_all(&mut {
            let c = bed.connect();
            c.shutdown(Shutdown::Write).unwrap();
            c
        }),
        ""
    );
}
