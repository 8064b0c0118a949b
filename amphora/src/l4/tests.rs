use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

mod breaks;
mod crowds;
mod streams;

use krater_amphora_api::{Algorithm, ListenerState, MemberHealth};

use crate::testbed::{
    Bed, connect, echo, eventually, member, member_on, named, nobody, pattern, read_all,
};

mod proxy_header;

#[test]
fn bytes_go_both_ways_and_arrive_intact() {
    let bed = Bed::tcp(&[echo()]).started();
    let mut client = bed.connect();
    let sent = pattern(8 << 20);
    let mut writer = client.try_clone().unwrap();
    let copy = sent.clone();
    let writing = thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "the stream came back changed");
    eventually("the connection ends", || {
        bed.listener().counters.active_connections == 0
    });
    let counters = bed.listener().counters;
    let length = sent.len() as u64;
    assert_eq!(
        (
            counters.bytes_in,
            counters.bytes_out,
            counters.total_connections
        ),
        (length, length, 1)
    );
}

#[test]
fn a_slow_reader_holds_the_writer_back_and_loses_nothing() {
    let sent = pattern(16 << 20);
    let copy = sent.clone();
    let bed = Bed::tcp(&[member(move |mut stream| stream.write_all(&copy).unwrap())]).started();
    let mut client = bed.connect();
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    // Slow at first, so that every buffer on the way fills up.
    for _ in 0..50 {
        let read = client.read(&mut piece).unwrap();
        received.extend_from_slice(&piece[..read]);
        thread::sleep(Duration::from_millis(1));
    }
    client.read_to_end(&mut received).unwrap();
    assert!(received == sent, "the stream came out changed");
}

#[test]
fn a_client_that_has_said_all_still_gets_the_answer() {
    let bed = Bed::tcp(&[member(|mut stream| {
        let question = read_all(&mut stream);
        stream
            .write_all(format!("answer to {question}").as_bytes())
            .unwrap();
    })])
    .started();
    let mut client = bed.connect();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), "answer to question");
}

#[test]
fn a_member_that_has_said_all_still_hears_the_client() {
    let (heard, hears) = mpsc::channel();
    let bed = Bed::tcp(&[member(move |mut stream| {
        stream.write_all(b"greeting").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        heard.send(read_all(&mut stream)).unwrap();
    })])
    .started();
    let mut client = bed.connect();
    assert_eq!(read_all(&mut client), "greeting");
    client.write_all(b"thanks").unwrap();
    drop(client);
    assert_eq!(hears.recv().unwrap(), "thanks");
}

#[test]
fn an_answer_given_before_the_question_was_read_arrives() {
    let bed = Bed::tcp(&[member(|mut stream| {
        let mut first = [0; 1];
        stream.read_exact(&mut first).unwrap();
        stream.write_all(b"too much").unwrap();
    })])
    .started();
    let mut client = bed.connect();
    client.write_all(b"?").unwrap();
    let mut answer = [0; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too much");
}

#[test]
fn a_break_is_passed_on_as_a_break() {
    let bed = Bed::tcp(&[member(|stream| {
        let _ = (&stream).write_all(b"half");
        let mut go = [0; 1];
        let _ = (&stream).read_exact(&mut go);
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    })])
    .started();
    let mut client = bed.connect();
    let mut half = [0; 4];
    client.read_exact(&mut half).unwrap();
    client.write_all(b"!").unwrap();
    assert!(
        client.read(&mut half).is_err(),
        "a stream that was cut short looked complete"
    );
}

#[test]
fn members_are_chosen_by_weight_and_never_with_weight_zero() {
    let bed = Bed::tcp(&[named("a"), named("b"), named("c")]).with(|spec| {
        spec.pools[0].members[0].weight = 3;
        spec.pools[0].members[2].weight = 0;
    });
    let answers: String = (0..8).map(|_| bed.ask()).collect();
    assert_eq!(
        (answers.matches('a').count(), answers.matches('b').count()),
        (6, 2),
        "{answers}"
    );
}

#[test]
fn backups_serve_only_while_no_other_member_can() {
    let mut bed = Bed::tcp(&[named("a"), named("b"), named("c")]).with(|spec| {
        spec.pools[0].members[1].backup = true;
        spec.pools[0].members[2].backup = true;
    });
    assert_eq!((0..4).map(|_| bed.ask()).collect::<String>(), "aaaa");
    let (pool, first) = (bed.spec.pools[0].id, bed.spec.pools[0].members[0].id);
    bed.plane
        .set_member_health(pool, first, MemberHealth::Down, Some("it is gone".into()));
    let answers: String = (0..4).map(|_| bed.ask()).collect();
    assert_eq!(
        (answers.matches('b').count(), answers.matches('c').count()),
        (2, 2),
        "{answers}"
    );
    let report = bed.plane.report(bed.spec.load_balancer).unwrap();
    assert_eq!(report.pools[0].members[0].health, MemberHealth::Down);
    assert_eq!(
        report.pools[0].members[0].reason.as_deref(),
        Some("it is gone")
    );
    bed.plane
        .set_member_health(pool, first, MemberHealth::Up, None);
    assert_eq!(bed.ask(), "a");
}

#[test]
fn least_connections_prefers_who_has_fewer() {
    let holding = |name: &'static str| {
        member(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            let _ = stream.read(&mut [0; 1]);
        })
    };
    let bed = Bed::tcp(&[holding("a"), holding("b")]).with(|spec| {
        spec.pools[0].algorithm = Algorithm::LeastConnections;
    });
    let who = |stream: &mut std::net::TcpStream| {
        let mut name = [0; 1];
        stream.read_exact(&mut name).unwrap();
        name[0]
    };
    let mut first = bed.connect();
    let held = who(&mut first);
    let mut second = bed.connect();
    let other = who(&mut second);
    assert_ne!(held, other);
    drop(second);
    eventually("the second ends", || {
        bed.listener().counters.active_connections == 1
    });
    for _ in 0..3 {
        let mut next = bed.connect();
        assert_eq!(who(&mut next), other);
        drop(next);
        eventually("it ends", || {
            bed.listener().counters.active_connections == 1
        });
    }
}

#[test]
fn another_member_is_tried_when_one_refuses() {
    let bed = Bed::tcp(&[nobody(), nobody(), nobody(), named("d")]).started();
    assert_eq!((0..8).map(|_| bed.ask()).collect::<String>(), "dddddddd");
    let world = bed.plane.world();
    let state = world.listeners.values().next().unwrap();
    assert!(state.shared.meter.sum(|lane| &lane.retries) > 0);
}

#[test]
fn a_member_that_comes_back_within_the_tries_is_reached() {
    let address = nobody();
    let bed = Bed::tcp(&[address]).started();
    let mut client = bed.connect();
    let state = bed.plane.world().pools.values().next().unwrap().members[0].clone();
    eventually("it is tried in vain", || {
        state.meter.sum(|lane| &lane.connect_failures) > 0
    });
    member_on(address, |mut stream| stream.write_all(b"back").unwrap());
    assert_eq!(read_all(&mut client), "back");
}

#[test]
fn without_a_member_the_connection_is_accepted_and_closed() {
    for members in [vec![], vec![nobody()]] {
        let bed = Bed::tcp(&members).with(|spec| spec.listeners[0].timeouts.member_connect_ms = 20);
        assert_eq!(bed.ask(), "");
    }
    let bed = Bed::tcp(&[named("a")]).with(|spec| spec.listeners[0].default_pool = None);
    assert_eq!(bed.ask(), "");
    let bed = Bed::tcp(&[named("a")]).with(|spec| spec.pools[0].enabled = false);
    assert_eq!(bed.ask(), "");
}

#[test]
fn at_the_limit_clients_wait_and_are_not_refused() {
    let mut bed = Bed::tcp(&[echo()]).with(|spec| spec.listeners[0].connection_limit = 1);
    let mut first = bed.connect();
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(bed.listener().state, ListenerState::Full);
    let mut others: Vec<_> = (0..4).map(|_| bed.connect()).collect();
    for other in &mut others {
        other.write_all(b"y").unwrap();
        other.shutdown(Shutdown::Write).unwrap();
    }
    let counters = bed.listener().counters;
    assert_eq!(
        (counters.active_connections, counters.total_connections),
        (1, 1)
    );
    drop(first);
    for other in &mut others {
        assert_eq!(read_all(other), "y");
    }
    let mut held = bed.connect();
    held.write_all(b"x").unwrap();
    held.read_exact(&mut [0; 1]).unwrap();
    let mut waiting = bed.connect();
    waiting.write_all(b"z").unwrap();
    bed.edit(|spec| spec.listeners[0].connection_limit = 2);
    waiting.read_exact(&mut [0; 1]).unwrap();
}

#[test]
fn clients_from_elsewhere_are_not_let_in() {
    let mut bed = Bed::tcp(&[named("a")])
        .with(|spec| spec.listeners[0].allowed_cidrs = vec!["10.0.0.0/8".into()]);
    assert_eq!(bed.ask(), "");
    let world = bed.plane.world();
    let state = world.listeners.values().next().unwrap();
    assert_eq!(state.shared.meter.sum(|lane| &lane.denied), 1);
    bed.edit(|spec| spec.listeners[0].allowed_cidrs.push("127.0.0.0/8".into()));
    assert_eq!(bed.ask(), "a");
    eventually("both have ended", || {
        bed.listener().counters.active_connections == 0
    });
}

#[test]
fn a_silent_connection_is_closed_after_the_timeout_and_a_busy_one_is_not() {
    for (client_ms, member_ms) in [(1_000, 60_000), (60_000, 1_000)] {
        let bed = Bed::tcp(&[echo()]).with(|spec| {
            spec.listeners[0].timeouts.client_data_ms = client_ms;
            spec.listeners[0].timeouts.member_data_ms = member_ms;
        });
        let mut client = bed.connect();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(1_500) {
            client.write_all(b"x").unwrap();
            client.read_exact(&mut [0; 1]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
        let silent = Instant::now();
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        assert!(
            silent.elapsed() >= Duration::from_millis(700),
            "closed after {:?}",
            silent.elapsed()
        );
    }
}

#[test]
fn after_half_close_only_the_remaining_side_is_timed() {
    let bed = Bed::tcp(&[member(|mut stream| {
        let _ = read_all(&mut stream);
        thread::sleep(Duration::from_millis(400));
        let _ = stream.write_all(b"late");
    })])
    .with(|spec| spec.listeners[0].timeouts.client_data_ms = 100);
    let mut client = bed.connect();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client), "late");
}

#[test]
fn connecting_takes_no_longer_than_allowed() {
    // A listener whose backlog is full neither refuses nor accepts.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into())
        .unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let filler = connect(address);
    let bed = Bed::tcp(&[address, named("b")])
        .with(|spec| spec.listeners[0].timeouts.member_connect_ms = 100);
    let start = Instant::now();
    assert_eq!((0..2).map(|_| bed.ask()).collect::<String>(), "bb");
    assert!(start.elapsed() < Duration::from_secs(5));
    drop((filler, full));
}

#[test]
fn a_member_is_not_bothered_before_the_client_speaks_if_so_configured() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let bed = Bed::tcp(&[member(move |mut stream| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(&byte).unwrap();
    })])
    .with(|spec| spec.listeners[0].timeouts.tcp_inspect_ms = 10_000);
    let mut client = bed.connect();
    eventually("it is accepted", || {
        bed.listener().counters.total_connections == 1
    });
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    client.write_all(b"x").unwrap();
    assert_eq!(read_all(&mut client), "x");
}

#[test]
fn ipv6_is_served_as_ipv4_is() {
    let address = member_on("[::1]:0".parse().unwrap(), |mut stream| {
        stream.write_all(b"six").unwrap()
    });
    let mut bed = Bed::tcp(&[address]);
    bed.vip = crate::testbed::free_address("::1".parse().unwrap());
    let vip = bed.vip;
    bed.edit(|spec| {
        spec.vips[0].address = vip.ip();
        spec.listeners[0].port = vip.port();
    });
    assert_eq!(bed.ask(), "six");
}
