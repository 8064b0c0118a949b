use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use krater_amphora_api::{
    Algorithm, Generation, ListenerProtocol, ListenerSpec, ListenerState, MemberHealth,
    PoolProtocol, SnapshotSpec, Subject,
};
use krater_amphora_core::snapshot::Snapshot;

use super::Plane;
use crate::testbed::{
    Bed, PATIENCE, connect, echo, eventually, free_address, listener_spec, member, member_spec,
    named, pattern, pool_spec, read_all,
};
use crate::world::Leave;

/// A member that answers every request with `ok` and counts them.
fn counted() -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = member(move |mut stream| {
        let mut buffer = vec![];
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            buffer.extend_from_slice(&piece[..read]);
            while let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                buffer.drain(..end + 4);
                count.fetch_add(1, Ordering::SeqCst);
                if stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                    .is_err()
                {
                    return;
                }
            }
        }
    });
    (address, seen)
}

/// Asks over a kept connection until told to stop; how often it did.
fn ask_until(stop: &AtomicBool, mut stream: TcpStream) -> usize {
    let mut asked = 0;
    while !stop.load(Ordering::SeqCst) {
        // Not to be repeated by anybody: a request lost or sent twice would show.
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        asked += 1;
        let mut answer = vec![];
        let mut piece = [0; 512];
        while !answer.ends_with(b"\r\n\r\nok") {
            let read = stream.read(&mut piece).unwrap();
            assert!(
                read > 0,
                "closed after {asked} requests: {}",
                String::from_utf8_lossy(&answer)
            );
            answer.extend_from_slice(&piece[..read]);
        }
        assert!(
            answer.starts_with(b"HTTP/1.1 200"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    asked
}

/// Sends a pattern there and back until told to stop; how often it did.
fn stream_until(stop: &AtomicBool, mut stream: TcpStream) -> usize {
    let (sent, mut rounds) = (pattern(100_000), 0);
    let mut received = vec![0; sent.len()];
    while !stop.load(Ordering::SeqCst) {
        stream.write_all(&sent).unwrap();
        stream.read_exact(&mut received).unwrap();
        assert!(received == sent, "the stream came back changed");
        rounds += 1;
    }
    rounds
}

/// Changes this and that of a load balancer, differently each round.
fn change(
    spec: &mut SnapshotSpec,
    round: usize,
    addresses: &[SocketAddr],
    visiting: &ListenerSpec,
) {
    let http = &mut spec.pools[0];
    http.members = vec![
        member_spec(addresses[round % 4]),
        member_spec(addresses[(round + 1) % 4]),
    ];
    http.algorithm = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::SourceIp,
    ][round % 3];
    spec.pools[1].members.reverse();
    spec.listeners[0].insert_headers.x_forwarded_for = round.is_multiple_of(2);
    spec.listeners[0].timeouts.client_data_ms = 30_000 + u32::try_from(round).unwrap();
    spec.listeners.truncate(2);
    if round.is_multiple_of(2) {
        spec.listeners.push(visiting.clone());
    }
}

#[test]
fn two_hundred_swaps_under_load_cost_no_request_and_no_connection() {
    let members: Vec<_> = (0..4).map(|_| counted()).collect();
    let addresses: Vec<_> = members.iter().map(|member| member.0).collect();
    let mut bed = Bed::http(&addresses[..2]);
    let stream_vip = free_address(bed.vip.ip());
    let visiting_vip = free_address(bed.vip.ip());
    let tcp_pool = pool_spec(PoolProtocol::Tcp, &[echo(), echo()]);
    bed.spec.listeners.push(listener_spec(
        ListenerProtocol::Tcp,
        stream_vip.port(),
        Some(tcp_pool.id),
    ));
    bed.spec.pools.push(tcp_pool);
    bed.apply();

    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, stream) = (Arc::clone(&stop), bed.connect());
            thread::spawn(move || ask_until(&stop, stream))
        })
        .collect();
    let streaming = {
        let (stop, stream) = (Arc::clone(&stop), connect(stream_vip));
        thread::spawn(move || stream_until(&stop, stream))
    };
    let visiting = listener_spec(
        ListenerProtocol::Http,
        visiting_vip.port(),
        Some(bed.spec.pools[0].id),
    );
    for round in 0..200_usize {
        bed.edit(|spec| change(spec, round, &addresses, &visiting));
        if round.is_multiple_of(2) {
            drop(connect(visiting_vip));
        }
        thread::sleep(Duration::from_millis(2));
    }
    stop.store(true, Ordering::SeqCst);
    let asked: usize = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(streaming.join().unwrap() > 0);
    let seen: usize = members
        .iter()
        .map(|member| member.1.load(Ordering::SeqCst))
        .sum();
    assert!(asked > 200, "only {asked} requests were made");
    assert_eq!(seen, asked, "requests were lost or doubled");
    let report = bed.plane.report(bed.spec.load_balancer).unwrap();
    let connections: Vec<_> = report
        .listeners
        .iter()
        .map(|listener| listener.counters.total_connections)
        .collect();
    assert_eq!(connections[..2], [4, 1], "counters survive every swap");
}

#[test]
fn a_port_that_is_taken_fails_its_listener_alone_and_heals() {
    let mut bed = Bed::tcp(&[named("a")]);
    let other = free_address(bed.vip.ip());
    let squatter = TcpListener::bind(bed.vip).unwrap();
    let pool = bed.spec.pools[0].id;
    bed.edit(|spec| {
        spec.listeners.push(listener_spec(
            ListenerProtocol::Tcp,
            other.port(),
            Some(pool),
        ))
    });
    let reason = format!("address {} is already in use", bed.vip);
    assert_eq!(bed.listener().state, ListenerState::Failed { reason });
    assert_eq!(read_all(&mut connect(other)), "a");
    assert!(!bed.plane.retry_failed());
    drop(squatter);
    assert!(bed.plane.retry_failed());
    assert_eq!(bed.listener().state, ListenerState::Open);
    assert_eq!(bed.ask(), "a");
    assert!(!bed.plane.retry_failed(), "nothing is left to try");
}

#[test]
fn a_port_of_another_process_or_load_balancer_is_never_shared() {
    let first = Bed::tcp(&[named("a")]).started();
    let mut second = Bed::tcp(&[named("b")]);
    second.vip = first.vip;
    second.edit(|spec| {
        spec.vips[0].address = first.vip.ip();
        spec.listeners[0].port = first.vip.port();
    });
    let ListenerState::Failed { reason } = second.listener().state else {
        panic!("{:?}", second.listener())
    };
    assert!(
        reason.starts_with(&format!("address {} is already in use", first.vip)),
        "{reason}"
    );
    assert!((0..20).all(|_| first.ask() == "a"));

    // The same inside one process: the listener that holds the port is named.
    let mut third = second.spec.clone();
    third.load_balancer = krater_amphora_api::LoadBalancerId::new(uuid::Uuid::from_u128(7));
    let Bed {
        mut plane, spec, ..
    } = first;
    plane
        .apply(Snapshot::parse(third.clone()).unwrap())
        .unwrap();
    let report = plane.report(third.load_balancer).unwrap();
    let ListenerState::Failed { reason } = &report.listeners[0].state else {
        panic!("{report:?}")
    };
    assert!(
        reason.ends_with(&format!("by listener {}", spec.listeners[0].id)),
        "{reason}"
    );
    plane.remove(spec.load_balancer, Leave::Gone);
    assert!(plane.retry_failed());
    assert_eq!(read_all(&mut connect(second.vip)), "b");
    assert_eq!(plane.ids(), [third.load_balancer]);
}

#[test]
fn a_port_passes_from_one_listener_to_another_without_refusing_anybody() {
    let mut bed = Bed::tcp(&[named("a")]).started();
    let vip = bed.vip;
    let asking = thread::spawn(move || {
        for _ in 0..200 {
            assert_eq!(read_all(&mut connect(vip)), "a");
        }
    });
    while !asking.is_finished() {
        bed.edit(|spec| {
            let (port, pool) = (spec.listeners[0].port, spec.listeners[0].default_pool);
            spec.listeners = vec![listener_spec(ListenerProtocol::Tcp, port, pool)];
        });
    }
    asking.join().unwrap();
}

#[test]
fn a_listener_that_changes_its_kind_refuses_nobody_and_loses_nobody() {
    let (address, _) = counted();
    let mut bed = Bed::new(ListenerProtocol::Tcp, PoolProtocol::Tcp, &[address]);
    let http = pool_spec(PoolProtocol::Http, &[address]);
    let pools = [bed.spec.pools[0].id, http.id];
    bed.spec.pools.push(http);
    bed.apply();
    let vip = bed.vip;
    let stop = Arc::new(AtomicBool::new(false));
    let coming: Vec<_> = (0..4)
        .map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut asked = 0;
                while !stop.load(Ordering::SeqCst) {
                    let mut stream = connect(vip);
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                        .unwrap();
                    let mut answer = vec![];
                    let mut piece = [0; 512];
                    while !answer.ends_with(b"\r\n\r\nok") {
                        let read = stream.read(&mut piece).unwrap();
                        assert!(read > 0, "closed before the answer");
                        answer.extend_from_slice(&piece[..read]);
                    }
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    for round in 0..100 {
        bed.edit(|spec| {
            spec.listeners[0].default_pool = Some(pools[(round + 1) % 2]);
            if round % 5 == 0 {
                // Another listener has the port from now on, of the other kind or not.
                let (port, pool) = (spec.listeners[0].port, spec.listeners[0].default_pool);
                spec.listeners = vec![listener_spec(ListenerProtocol::Tcp, port, pool)];
            }
        });
        thread::sleep(Duration::from_millis(3));
    }
    stop.store(true, Ordering::SeqCst);
    for client in coming {
        assert!(client.join().unwrap() > 0);
    }
    bed.edit(|spec| spec.listeners.clear());
    assert!(TcpStream::connect(vip).is_err(), "nobody holds the port");
}

#[test]
fn closing_a_port_serves_who_waits_there_and_frees_it() {
    for _ in 0..20 {
        let mut bed = Bed::tcp(&[named("a")]).started();
        let mut clients: Vec<_> = (0..20).map(|_| bed.connect()).collect();
        bed.edit(|spec| spec.listeners.clear());
        for client in &mut clients {
            assert_eq!(read_all(client), "a");
        }
        assert!(TcpStream::connect(bed.vip).is_err());
        drop(TcpListener::bind(bed.vip).unwrap());
    }
}

#[test]
fn connections_of_a_deleted_listener_have_until_the_drain_timeout() {
    let mut bed = Bed::tcp(&[echo()]).started();
    let mut client = bed.connect();
    let mut byte = [0; 1];
    client.write_all(b"x").unwrap();
    client.read_exact(&mut byte).unwrap();
    let deleted = Instant::now();
    bed.edit(|spec| spec.listeners.clear());
    client.write_all(b"y").unwrap();
    client.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"y");
    assert_eq!(client.read(&mut byte).unwrap(), 0);
    assert!(
        deleted.elapsed() >= Duration::from_millis(900),
        "closed after {:?}",
        deleted.elapsed()
    );
}

#[test]
fn an_idle_connection_to_a_member_ends_when_the_member_is_gone() {
    let (tell, told) = mpsc::channel::<(usize, &'static str)>();
    let served = |index: usize| {
        let tell = std::sync::Mutex::new(tell.clone());
        member(move |mut stream| {
            let tell = tell.lock().unwrap().clone();
            while let Ok(1..) = stream.read(&mut [0; 4096]) {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                let _ = tell.send((index, "asked"));
            }
            let _ = tell.send((index, "closed"));
        })
    };
    let mut bed = Bed::http(&[served(0), served(1)]);
    bed.plane = Plane::start(1, PATIENCE).unwrap();
    bed.apply();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let mut stream = bed.connect();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .unwrap();
        assert!(read_all(&mut stream).ends_with("ok"));
        asked.push(told.recv_timeout(PATIENCE).unwrap().0);
    }
    assert_ne!(asked[0], asked[1]);
    // The one that was idle for longer would end before the other if it were for age.
    bed.edit(|spec| {
        spec.pools[0].members.remove(asked[1]);
    });
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), (asked[1], "closed"));
}

#[test]
fn an_http_listener_that_goes_ends_what_is_under_way_politely() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let mut bed = Bed::http(&[member(move |mut stream| {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            if piece[..read].starts_with(b"GET /slow") {
                let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    })]);
    // One core, so that the end of one connection says that the other has been told as well.
    bed.plane = Plane::start(1, PATIENCE).unwrap();
    bed.apply();
    let ask = |path: &str| {
        let mut stream = bed.connect();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
            .unwrap();
        stream
    };
    let mut busy = ask("/slow");
    let mut idle = ask("/fast");
    let mut answer = vec![0; 4096];
    let mut length = 0;
    while !answer[..length].ends_with(b"ok") {
        length += idle.read(&mut answer[length..]).unwrap();
    }
    eventually("both are accepted", || {
        bed.listener().counters.total_connections == 2
    });
    let member = Arc::clone(&bed.plane.world().pools.values().next().unwrap().members[0]);
    eventually("both are sent", || {
        member.meter.sum(|lane| &lane.requests) == 2
    });
    bed.edit(|spec| spec.listeners[0].enabled = false);
    assert_eq!(bed.listener().state, ListenerState::Disabled);
    assert_eq!(
        idle.read(&mut answer).unwrap(),
        0,
        "an idle connection is closed"
    );
    go.send(()).unwrap();
    let last = read_all(&mut busy).to_lowercase();
    assert!(
        last.starts_with("http/1.1 200")
            && last.contains("connection: close")
            && last.ends_with("ok"),
        "{last}"
    );
}

#[test]
fn an_older_generation_changes_nothing_and_the_same_one_costs_nothing() {
    let mut bed = Bed::tcp(&[named("a")]).started();
    let held = bed.spec.generation;
    let mut older = bed.spec.clone();
    older.generation = Generation::FIRST;
    older.listeners.clear();
    assert_eq!(bed.plane.apply(Snapshot::parse(older).unwrap()), Ok(held));
    assert_eq!(bed.ask(), "a");
    let before = bed.plane.world();
    assert_eq!(
        bed.plane.apply(Snapshot::parse(bed.spec.clone()).unwrap()),
        Ok(held)
    );
    assert!(Arc::ptr_eq(&before, &bed.plane.world()));
    assert_eq!(bed.plane.held(bed.spec.load_balancer), Some(held));
}

#[test]
fn what_stays_keeps_its_health_turn_and_counters() {
    let mut bed = Bed::tcp(&[named("a"), named("b")]).started();
    let (pool, first) = (bed.spec.pools[0].id, bed.spec.pools[0].members[0].id);
    bed.spec.pools[0].monitor = Some(krater_amphora_api::MonitorSpec {
        id: krater_amphora_api::HealthMonitorId::new(uuid::Uuid::from_u128(9)),
        enabled: true,
        probe: krater_amphora_api::ProbeSpec::Tcp,
        delay_ms: 1_000,
        timeout_ms: 1_000,
        rise: 1,
        fall: 1,
    });
    bed.apply();
    let health = |bed: &Bed| {
        let report = bed.plane.report(bed.spec.load_balancer).unwrap();
        report.pools[0]
            .members
            .iter()
            .map(|member| member.health)
            .collect::<Vec<_>>()
    };
    assert_eq!(health(&bed), [MemberHealth::Unproven; 2]);
    bed.plane
        .set_member_health(pool, first, MemberHealth::Down, Some("refused".into()));
    assert_eq!(bed.ask(), "b");
    bed.edit(|spec| spec.pools[0].members.push(member_spec(named("c"))));
    assert_eq!(
        health(&bed),
        [
            MemberHealth::Down,
            MemberHealth::Unproven,
            MemberHealth::Unproven
        ]
    );
    let answers: String = (0..4).map(|_| bed.ask()).collect();
    assert!(
        !answers.contains('a') && answers.contains('b') && answers.contains('c'),
        "{answers}"
    );
    assert_eq!(bed.listener().counters.total_connections, 5);
    bed.edit(|spec| spec.pools[0].monitor = None);
    assert_eq!(health(&bed), [MemberHealth::NoMonitor; 3]);
}

#[test]
fn a_disabled_load_balancer_answers_nothing_and_comes_back() {
    let mut bed = Bed::tcp(&[named("a")]).started();
    bed.edit(|spec| spec.enabled = false);
    assert!(TcpStream::connect(bed.vip).is_err());
    assert_eq!(bed.listener().state, ListenerState::Disabled);
    bed.edit(|spec| spec.enabled = true);
    assert_eq!(bed.ask(), "a");
}

#[test]
fn a_connection_stays_with_its_member_when_the_member_is_deleted() {
    let mut bed = Bed::tcp(&[echo()]).started();
    let mut client = bed.connect();
    let mut byte = [0; 1];
    client.write_all(b"x").unwrap();
    client.read_exact(&mut byte).unwrap();
    bed.edit(|spec| spec.pools[0].members = vec![member_spec(named("new"))]);
    client.write_all(b"y").unwrap();
    client.read_exact(&mut byte).unwrap();
    assert_eq!((&byte, bed.ask().as_str()), (b"y", "new"));
}

#[test]
fn a_request_under_way_completes_when_its_member_and_its_pool_are_deleted() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let slow = member(move |mut stream| {
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            assert!(piece[..read].starts_with(b"GET / "));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\no");
            let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
            let _ = stream.write_all(b"ld.");
        }
    });
    let (new, _) = counted();
    let mut bed = Bed::http(&[slow]).started();
    let mut client = bed.connect();
    let ask = |client: &mut TcpStream, ends: &str| {
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        let mut piece = [0; 512];
        while !answer.ends_with(ends) {
            let read = client.read(&mut piece).unwrap();
            assert!(read > 0, "closed after {answer:?}");
            answer.push_str(std::str::from_utf8(&piece[..read]).unwrap());
        }
    };
    ask(&mut client, "\r\n\r\no");
    bed.edit(|spec| spec.pools[0].members = vec![member_spec(new)]);
    bed.edit(|spec| {
        let pool = pool_spec(PoolProtocol::Http, &[new]);
        spec.listeners[0].default_pool = Some(pool.id);
        spec.pools = vec![pool];
    });
    go.send(()).unwrap();
    let mut rest = [0; 3];
    client.read_exact(&mut rest).unwrap();
    assert_eq!(&rest, b"ld.");
    // The same client connection goes on with what is there now.
    ask(&mut client, "ok");
}

#[test]
fn the_sums_of_a_pool_do_not_fall_when_members_leave_it() {
    let mut bed = Bed::tcp(&[echo()]).started();
    let mut client = bed.connect();
    let mut byte = [0; 1];
    let mut send = |client: &mut TcpStream| {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut byte).unwrap();
    };
    let totals = |bed: &Bed| bed.plane.world().pools[&bed.spec.pools[0].id].totals();
    send(&mut client);
    bed.edit(|spec| spec.pools[0].members = vec![member_spec(named("new"))]);
    send(&mut client);
    assert_eq!(bed.ask(), "new");
    eventually("everything is counted", || {
        let totals = totals(&bed);
        bed.plane.settle_departed();
        totals.connected == 2 && totals.active() == 1 && totals.bytes_in == 5
    });
    drop(client);
    eventually("both have ended", || {
        bed.plane.settle_departed();
        totals(&bed).active() == 0
    });
    bed.edit(|spec| spec.pools[0].members.clear());
    bed.plane.settle_departed();
    assert_eq!((totals(&bed).connected, totals(&bed).bytes_in), (2, 5));
}

#[test]
fn what_is_part_of_another_load_balancer_is_refused_and_stays_there() {
    let mut bed = Bed::tcp(&[named("a")]).started();
    let owner = bed.spec.load_balancer;
    let mut thief = bed.spec.clone();
    thief.load_balancer = krater_amphora_api::LoadBalancerId::new(uuid::Uuid::from_u128(7));
    let mut honest = thief.clone();
    thief.listeners[0].port = free_address(bed.vip.ip()).port();
    let before = bed.plane.world();
    let refused = bed
        .plane
        .apply(Snapshot::parse(thief.clone()).unwrap())
        .unwrap_err();
    let (listener, pool) = (&thief.listeners[0], &thief.pools[0]);
    assert_eq!(
        refused
            .iter()
            .map(|rejection| rejection.subject)
            .collect::<Vec<_>>(),
        [
            Subject::Listener(listener.id),
            Subject::Pool(pool.id),
            Subject::Member(pool.members[0].id)
        ]
    );
    for rejection in &refused {
        let end = format!("is already part of load balancer {owner}");
        assert!(rejection.reason.ends_with(&end), "{rejection}");
    }
    assert!(Arc::ptr_eq(&before, &bed.plane.world()), "nothing changed");
    assert_eq!(bed.ask(), "a");

    // What its owner has let go of is free.
    bed.plane.remove(owner, Leave::Gone);
    bed.plane.apply(Snapshot::parse(thief).unwrap()).unwrap();
    honest.load_balancer = owner;
    honest.listeners.clear();
    honest.pools = vec![pool_spec(PoolProtocol::Tcp, &[])];
    assert_eq!(
        bed.plane.apply(Snapshot::parse(honest.clone()).unwrap()),
        Ok(honest.generation)
    );
}

#[test]
fn stopping_lets_connections_end_and_then_ends_them() {
    let Bed { plane, vip, .. } = Bed::tcp(&[echo()]).started();
    let mut polite = connect(vip);
    let mut stubborn = connect(vip);
    let mut byte = [0; 1];
    for stream in [&mut polite, &mut stubborn] {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut byte).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let stopping = thread::spawn(move || runtime.block_on(plane.stop(Duration::from_millis(300))));
    eventually("nobody listens", || TcpStream::connect(vip).is_err());
    polite.write_all(b"y").unwrap();
    polite.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut polite), "y");
    assert_eq!(stubborn.read(&mut byte).unwrap_or(0), 0);
    stopping.join().unwrap();
}

#[test]
fn a_plane_that_is_dropped_ends_its_workers() {
    let plane = Plane::start(3, Duration::from_secs(60)).unwrap();
    assert_eq!((plane.workers(), plane.bugs()), (3, 0));
    drop(plane);
}

#[test]
fn who_came_in_while_the_listener_went_is_drained_as_well() {
    let mut bed = Bed::tcp(&[echo()]).started();
    let mut clients: Vec<_> = (0..40).map(|_| bed.connect()).collect();
    bed.edit(|spec| spec.listeners.clear());
    for client in &mut clients {
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn a_load_balancer_passes_to_another_plane_without_one_failed_connection() {
    let (address, seen) = counted();
    let mut old = Bed::http(&[address]).started();
    let mut new = Plane::start(2, Duration::from_secs(1)).unwrap();
    let spec = SnapshotSpec {
        generation: Generation::FIRST.next(),
        ..old.spec.clone()
    };
    new.apply(Snapshot::parse(spec.clone()).unwrap()).unwrap();
    let taken = new.report(spec.load_balancer).unwrap().listeners[0]
        .state
        .clone();
    assert!(matches!(taken, ListenerState::Failed { .. }), "{taken:?}");
    let taking_over = SnapshotSpec {
        takes_over: true,
        generation: spec.generation.next(),
        ..spec
    };
    let id = taking_over.load_balancer;
    new.apply(Snapshot::parse(taking_over).unwrap()).unwrap();
    assert_eq!(
        new.report(id).unwrap().listeners[0].state,
        ListenerState::Open
    );
    let vip = old.vip;
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let mut answered = 0;
                while !done.load(Ordering::Relaxed) {
                    let mut stream = TcpStream::connect(vip).expect("nobody is refused");
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                        .expect("nobody is cut off");
                    let answer = read_all(&mut stream);
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    eventually("some were served", || seen.load(Ordering::Relaxed) > 50);
    old.plane.deafen(id);
    old.plane.remove(id, Leave::Moved);
    let before = seen.load(Ordering::Relaxed);
    eventually("more are served", || {
        seen.load(Ordering::Relaxed) > before + 50
    });
    done.store(true, Ordering::Relaxed);
    let answered: u64 = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(answered > 100);
}
