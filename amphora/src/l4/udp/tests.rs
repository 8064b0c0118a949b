//! Clients, members and datagrams between them, over real sockets.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv6Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use krater_amphora_api::{Algorithm, ListenerProtocol, MemberHealth, PersistenceSpec, VipSpec};

use super::*;
use crate::testbed::{
    Bed, PATIENCE, connect, eventually, free_address, listener_spec, member_spec, nobody, pool_spec,
};

/// A member that sends back what it gets, its name before it. It is gone when this is dropped.
struct Member {
    address: SocketAddr,
    gone: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Member {
    fn named(name: &'static str) -> Self {
        Self::at(name, "127.0.0.1:0".parse().unwrap())
    }

    fn at(name: &'static str, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let address = socket.local_addr().unwrap();
        let gone = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&gone);
        let thread = thread::spawn(move || {
            let mut buffer = vec![0; 70_000];
            while !flag.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    let mut answer = name.as_bytes().to_vec();
                    answer.extend_from_slice(&buffer[..length]);
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self {
            address,
            gone,
            thread: Some(thread),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A client of its own address and port; it hears the VIP alone.
fn client(of: SocketAddr) -> UdpSocket {
    let any: IpAddr = if of.is_ipv4() {
        [127, 0, 0, 1].into()
    } else {
        Ipv6Addr::LOCALHOST.into()
    };
    client_from(any, of)
}

fn client_from(ip: IpAddr, of: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    socket.connect(of).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(client: &UdpSocket, question: &str) -> String {
    client.send(question.as_bytes()).unwrap();
    hear(client)
}

fn hear(client: &UdpSocket) -> String {
    let mut buffer = vec![0; 70_000];
    let length = client.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// Sends, whatever became of what was sent before.
fn send(client: &UdpSocket, question: &str) {
    // A call tells of the refusal of an earlier datagram, and then sends nothing.
    let refused = client.send(question.as_bytes());
    if refused.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        client.send(question.as_bytes()).unwrap();
    }
}

/// Asks again and again, since a datagram may be lost to a member that is not there.
fn ask_until_heard(client: &UdpSocket, question: &str) -> String {
    client
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut heard = None;
    eventually("an answer", || {
        send(client, question);
        let mut buffer = [0; 100];
        match client.recv(&mut buffer) {
            Ok(length) => heard = Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock
                        | io::ErrorKind::TimedOut
                        | io::ErrorKind::ConnectionRefused
                ),
                "{error}"
            ),
        }
        heard.is_some()
    });
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    heard.unwrap()
}

fn lost(bed: &Bed, why: Loss) -> u64 {
    let world = bed.plane.world();
    let listener = &world.balancers[&bed.spec.load_balancer].listeners[0];
    listener.shared.meter.sum(|lane| lane.losses.of(why))
}

fn two() -> (Member, Member) {
    (Member::named("a"), Member::named("b"))
}

#[test]
fn each_client_has_one_member_and_all_members_have_clients() {
    let (a, b) = two();
    let bed = Bed::udp(&[a.address, b.address]).started();
    let clients: Vec<_> = (0..8).map(|_| client(bed.vip)).collect();
    let first: Vec<_> = clients.iter().map(|client| ask(client, "")).collect();
    for _ in 0..3 {
        let again: Vec<_> = clients.iter().map(|client| ask(client, "")).collect();
        assert_eq!(again, first);
    }
    let of_a = first.iter().filter(|name| *name == "a").count();
    assert_eq!(of_a, 4);
    let seen = || {
        let counters = bed.listener().counters;
        let sessions = (counters.total_connections, counters.active_connections);
        (sessions, counters.bytes_in, counters.bytes_out)
    };
    // An answer may be read before it is counted.
    eventually("all is counted", || seen() == ((8, 8), 0, 32));
}

#[test]
fn datagrams_of_any_size_pass_whole() {
    let a = Member::named("");
    let bed = Bed::udp(&[a.address]).started();
    let client = client(bed.vip);
    for length in [0, 1, 1_472, 1_473, 9_000, 65_507, 3] {
        let question: String = (0..length)
            .map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap()))
            .collect();
        assert_eq!(ask(&client, &question), question, "{length} bytes");
    }
    assert_eq!(Loss::ALL.map(|why| lost(&bed, why)), [0; 7]);
}

#[test]
fn a_burst_arrives_complete_and_in_order_whatever_its_sizes() {
    let a = Member::named("");
    let bed = Bed::udp(&[a.address]).started();
    let client = client(bed.vip);
    for round in 0..20_usize {
        // Equal ones are joined, with a shorter one at the end; the others are not.
        let sizes: Vec<_> = (0..30)
            .map(|at| match round % 4 {
                0 => 64,
                1 if at % 7 == 6 => 10,
                1 => 100,
                2 => 20 + at * 40,
                _ => 1_600,
            })
            .collect();
        for (at, size) in sizes.iter().enumerate() {
            client.send(format!("{at:>size$}").as_bytes()).unwrap();
        }
        for (at, size) in sizes.iter().enumerate() {
            let size = *size;
            assert_eq!(hear(&client), format!("{at:>size$}"), "round {round}");
        }
    }
    assert_eq!(Loss::ALL.map(|why| lost(&bed, why)), [0; 7]);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    let a = Member::at("a", "[::1]:0".parse().unwrap());
    // IPv6 to IPv6, IPv4 to IPv6, and sockets bound to all addresses of the host.
    for vip in ["::1", "127.0.0.1", "0.0.0.0", "::"] {
        let vip: IpAddr = vip.parse().unwrap();
        let mut bed = Bed::udp(&[a.address]);
        bed.vip = free_address(vip);
        bed.spec.listeners[0].port = bed.vip.port();
        bed.spec.vips = vec![VipSpec { address: vip }];
        let bed = bed.started();
        let asked: &[&str] = match vip.to_string().as_str() {
            "0.0.0.0" => &["127.0.0.1", "127.8.8.8"],
            "::" => &["::1"],
            _ => &[],
        };
        let asked = asked.iter().map(|address| address.parse().unwrap());
        let asked: Vec<IpAddr> = asked
            .chain((!vip.is_unspecified()).then_some(vip))
            .collect();
        for address in asked {
            let client = client((address, bed.vip.port()).into());
            assert_eq!(ask(&client, "x"), "ax", "{vip} {address}");
        }
    }
}

#[test]
fn a_swap_loses_and_doubles_nothing_and_moves_nobody() {
    let (a, b) = two();
    let mut bed = Bed::udp(&[a.address, b.address]).started();
    let stop = Arc::new(AtomicBool::new(false));
    let talking = Arc::new(AtomicUsize::new(0));
    let talks: Vec<_> = (0..4)
        .map(|_| {
            let (client, stop) = (client(bed.vip), Arc::clone(&stop));
            let talking = Arc::clone(&talking);
            thread::spawn(move || {
                let member = ask(&client, "");
                talking.fetch_add(1, Ordering::Relaxed);
                let mut asked = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    // Two under way at a time.
                    client.send(format!(" {asked}").as_bytes()).unwrap();
                    client.send(format!(" {}", asked + 1).as_bytes()).unwrap();
                    assert_eq!(hear(&client), format!("{member} {asked}"));
                    assert_eq!(hear(&client), format!("{member} {}", asked + 1));
                    asked += 2;
                }
                assert_eq!(ask(&client, ""), member);
            })
        })
        .collect();
    eventually("all have begun", || talking.load(Ordering::Relaxed) == 4);
    let extra = Member::named("c");
    for round in 0..60_u16 {
        bed.edit(|spec| {
            spec.name = format!("round {round}");
            spec.pools[0].members.truncate(2);
            match round % 4 {
                0 => spec.pools[0].members.push(member_spec(extra.address)),
                1 => spec.pools[0].members[usize::from(round / 4) % 2].weight = round,
                2 => spec.listeners[0].timeouts.client_data_ms = 60_000 + u32::from(round),
                _ => {
                    spec.listeners[0].allowed_cidrs = vec![format!("127.0.0.0/{}", 8 + round % 16)]
                }
            }
        });
    }
    stop.store(true, Ordering::Relaxed);
    for talk in talks {
        talk.join().unwrap();
    }
    assert_eq!(Loss::ALL.map(|why| lost(&bed, why)), [0; 7]);
}

#[test]
fn a_member_that_takes_no_new_sessions_keeps_its_own_until_the_drain_timeout() {
    for way in 0..3 {
        let (a, b) = two();
        let mut bed = Bed::udp(&[a.address, b.address]).started();
        let clients: Vec<_> = (0..4).map(|_| client(bed.vip)).collect();
        let before: BTreeSet<_> = clients.iter().map(|client| ask(client, "")).collect();
        assert_eq!(before.len(), 2);
        bed.edit(|spec| match way {
            0 => spec.pools[0].members[0].weight = 0,
            1 => spec.pools[0].members[0].enabled = false,
            _ => drop(spec.pools[0].members.remove(0)),
        });
        let stays: BTreeSet<_> = clients.iter().map(|client| ask(client, "")).collect();
        assert_eq!(stays.len(), 2, "way {way}");
        let new: BTreeSet<_> = (0..4).map(|_| ask(&client(bed.vip), "")).collect();
        assert_eq!(new, BTreeSet::from(["b".to_owned()]), "way {way}");
        // However busy they are.
        eventually("all have moved", || {
            clients.iter().all(|client| ask(client, "") == "b")
        });
    }
}

#[test]
fn sessions_of_a_member_that_is_down_move_at_once_and_stay_where_they_went() {
    let (a, b) = two();
    let mut bed = Bed::udp(&[a.address, b.address]).started();
    let clients: Vec<_> = (0..4).map(|_| client(bed.vip)).collect();
    for client in &clients {
        ask(client, "");
    }
    let pool = bed.spec.pools[0].id;
    let [first, second] = [0, 1].map(|at| bed.spec.pools[0].members[at].id);
    bed.plane
        .set_member_health(pool, first, MemberHealth::Down, None);
    assert!(clients.iter().all(|client| ask(client, "") == "b"));
    bed.plane
        .set_member_health(pool, first, MemberHealth::Up, None);
    assert!(clients.iter().all(|client| ask(client, "") == "b"));
    for member in [first, second] {
        bed.plane
            .set_member_health(pool, member, MemberHealth::Down, None);
    }
    clients[0].send(b"lost").unwrap();
    eventually("it is counted", || lost(&bed, Loss::NoMember) == 1);
    bed.plane
        .set_member_health(pool, second, MemberHealth::Up, None);
    assert_eq!(ask_until_heard(&clients[0], ""), "b");
}

#[test]
fn who_is_refused_by_a_member_goes_on_with_another() {
    let b = Member::named("b");
    let bed = Bed::udp(&[nobody(), b.address]).started();
    let clients: Vec<_> = (0..4).map(|_| client(bed.vip)).collect();
    for client in &clients {
        assert_eq!(ask_until_heard(client, "x"), "bx");
    }
    let world = bed.plane.world();
    let listener = &world.balancers[&bed.spec.load_balancer].listeners[0];
    assert!(listener.shared.meter.sum(|lane| &lane.moved) >= 2);
}

#[test]
fn a_client_of_whom_nobody_takes_datagrams_is_told_as_if_nobody_listened() {
    if !may_tell() {
        eprintln!("skipped: there are no raw sockets here");
        return;
    }
    let told = |bed: &Bed| {
        let world = bed.plane.world();
        let listener = &world.balancers[&bed.spec.load_balancer].listeners[0];
        let meter = &listener.shared.meter;
        (meter.sum(|lane| &lane.told), meter.sum(|lane| &lane.untold))
    };
    let refused = |client: &UdpSocket| {
        client.send(b"is anybody there").unwrap();
        let error = client.recv(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    };
    // Its only member's host says that nobody is there.
    let bed = Bed::udp(&[nobody()]).started();
    refused(&client(bed.vip));
    // Counted once it is done.
    eventually("it is counted", || told(&bed) == (1, 0));
    // There is no member, or none that is up.
    for v6 in [false, true] {
        let mut bed = Bed::udp(&[nobody()]);
        if v6 {
            bed.vip = free_address(Ipv6Addr::LOCALHOST.into());
            bed.spec.vips = vec![VipSpec {
                address: bed.vip.ip(),
            }];
            bed.spec.listeners[0].port = bed.vip.port();
        }
        let bed = bed.with(|spec| spec.pools[0].members.clear());
        let client = client(bed.vip);
        for _ in 0..3 {
            refused(&client);
        }
        let stranger = client_from(client.local_addr().unwrap().ip(), bed.vip);
        stranger.set_nonblocking(true).unwrap();
        assert_eq!(
            stranger.recv(&mut [0; 9]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock,
            "nobody else is told"
        );
        eventually("they are counted", || told(&bed) == (3, 0));
    }
}

#[test]
fn floods_that_nobody_takes_are_not_answered_one_by_one() {
    if !may_tell() {
        eprintln!("skipped: there are no raw sockets here");
        return;
    }
    let bed = Bed::udp(&[nobody()]).with(|spec| spec.pools[0].members.clear());
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    let world = bed.plane.world();
    let meter = &world.balancers[&bed.spec.load_balancer].listeners[0]
        .shared
        .meter;
    eventually("most go unanswered", || {
        // Longer and longer, or many would be taken and answered as one. Not connected, so that it hears of nothing.
        for length in 0..200 {
            flood.send_to(&[7; 200][..length], bed.vip).unwrap();
        }
        meter.sum(|lane| &lane.untold) > meter.sum(|lane| &lane.told)
    });
}

#[test]
fn a_member_that_comes_back_serves_the_sessions_that_waited_for_it() {
    let address = nobody();
    let bed = Bed::udp(&[address]).started();
    let client = client(bed.vip);
    for _ in 0..10 {
        send(&client, "is anybody there");
    }
    let _back = Member::at("a", address);
    assert!(ask_until_heard(&client, "x").starts_with('a'));
}

#[test]
fn datagrams_beyond_the_limit_of_sessions_are_dropped_until_one_ends() {
    let a = Member::named("a");
    let bed = Bed::udp(&[a.address]).with(|spec| {
        spec.listeners[0].connection_limit = 2;
        spec.listeners[0].timeouts.client_data_ms = 2_000;
        spec.listeners[0].timeouts.member_data_ms = 1;
    });
    let served = [client(bed.vip), client(bed.vip)];
    for client in &served {
        assert_eq!(ask(client, ""), "a");
    }
    let third = client(bed.vip);
    third.send(b"").unwrap();
    eventually("it is counted", || lost(&bed, Loss::Limit) > 0);
    assert_eq!(
        bed.listener().state,
        krater_amphora_api::ListenerState::Full
    );
    assert_eq!(ask_until_heard(&third, ""), "a");
    eventually("all are silent", || {
        bed.listener().counters.active_connections == 0
    });
}

#[test]
fn who_is_not_allowed_is_not_served_and_no_longer_if_that_changes() {
    let a = Member::named("a");
    let mut bed = Bed::udp(&[a.address]).with(|spec| {
        spec.listeners[0].allowed_cidrs = vec!["127.0.0.1/32".into()];
    });
    let stranger = client_from([127, 0, 0, 9].into(), bed.vip);
    stranger.send(b"").unwrap();
    let known = client(bed.vip);
    assert_eq!(ask(&known, ""), "a");
    eventually("it is counted", || lost(&bed, Loss::Denied) == 1);
    bed.edit(|spec| spec.listeners[0].allowed_cidrs = vec!["127.0.0.9/32".into()]);
    assert_eq!(ask(&stranger, ""), "a");
    known.send(b"").unwrap();
    eventually("it is counted", || lost(&bed, Loss::Denied) == 2);
    assert_eq!(bed.listener().counters.active_connections, 1);
}

#[test]
fn source_algorithms_and_load_choose_as_they_do_for_connections() {
    let (a, b) = two();
    let mut bed = Bed::udp(&[a.address, b.address]).with(|spec| {
        spec.pools[0].algorithm = Algorithm::SourceIp;
    });
    for last in 1..9 {
        let names = (0..3).map(|_| ask(&client_from([127, 1, 1, last].into(), bed.vip), ""));
        assert_eq!(names.collect::<BTreeSet<_>>().len(), 1, "client {last}");
    }
    bed.edit(|spec| spec.pools[0].algorithm = Algorithm::SourceIpPort);
    let names = (0..20).map(|_| ask(&client(bed.vip), ""));
    assert_eq!(names.collect::<BTreeSet<_>>().len(), 2);
    let (a, b) = two();
    let mut bed = Bed::udp(&[a.address, b.address]).with(|spec| {
        spec.pools[0].algorithm = Algorithm::LeastConnections;
        spec.pools[0].members[1].weight = 0;
    });
    let _busy: Vec<_> = (0..6)
        .map(|_| client(bed.vip))
        .inspect(|client| drop(ask(client, "")))
        .collect();
    bed.edit(|spec| spec.pools[0].members[1].weight = 1);
    let names: Vec<_> = (0..6).map(|_| ask(&client(bed.vip), "")).collect();
    assert!(names.iter().all(|name| name == "b"), "{names:?}");
}

#[test]
fn a_tcp_listener_may_have_the_same_port() {
    let a = Member::named("a");
    let mut bed = Bed::udp(&[a.address]).started();
    let pool = pool_spec(
        krater_amphora_api::PoolProtocol::Tcp,
        &[crate::testbed::named("tcp")],
    );
    bed.edit(|spec| {
        let port = spec.listeners[0].port;
        spec.listeners
            .push(listener_spec(ListenerProtocol::Tcp, port, Some(pool.id)));
        spec.pools.push(pool);
    });
    assert_eq!(crate::testbed::read_all(&mut connect(bed.vip)), "tcp");
    let client = client(bed.vip);
    assert_eq!(ask(&client, ""), "a");
    bed.edit(|spec| drop(spec.listeners.remove(1)));
    assert_eq!(ask(&client, ""), "a");
}

#[test]
fn a_closed_port_is_closed() {
    let a = Member::named("a");
    let mut bed = Bed::udp(&[a.address]).started();
    let client = client(bed.vip);
    assert_eq!(ask(&client, ""), "a");
    bed.edit(|spec| spec.listeners[0].enabled = false);
    client.send(b"").unwrap();
    let mut buffer = [0; 10];
    let error = client.recv(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(bed.listener().counters.active_connections, 0);
    bed.edit(|spec| spec.listeners[0].enabled = true);
    assert_eq!(ask(&client, ""), "a");
}

#[test]
fn a_port_that_is_taken_fails_its_listener() {
    let a = Member::named("a");
    let mut bed = Bed::udp(&[a.address]);
    let holder = UdpSocket::bind(bed.vip).unwrap();
    bed.apply();
    let krater_amphora_api::ListenerState::Failed { reason } = bed.listener().state else {
        panic!("{:?}", bed.listener().state)
    };
    assert!(reason.contains("already in use"), "{reason}");
    drop(holder);
    assert!(bed.plane.retry_failed());
    assert_eq!(ask(&client(bed.vip), ""), "a");
}

#[test]
fn without_a_member_datagrams_are_dropped_and_counted() {
    for pool in [true, false] {
        let bed = Bed::udp(&[]).with(|spec| {
            if !pool {
                spec.listeners[0].default_pool = None;
            }
        });
        client(bed.vip).send(b"x").unwrap();
        eventually("it is counted", || lost(&bed, Loss::NoMember) == 1);
        assert_eq!(bed.listener().counters.active_connections, 0);
    }
}

#[test]
fn a_load_balancer_moves_to_another_amphora_without_a_lost_datagram() {
    let a = Member::named("a");
    let mut old = Bed::udp(&[a.address]).started();
    let clients: Vec<_> = (0..8).map(|_| client(old.vip)).collect();
    let ask_all = |word: &str| {
        for client in &clients {
            assert_eq!(ask(client, word), format!("a{word}"));
        }
    };
    ask_all("before");
    let mut new = Bed::udp(&[a.address]);
    new.vip = old.vip;
    new.spec = old.spec.clone();
    new.spec.takes_over = true;
    new.apply();
    ask_all("both");
    old.plane.deafen(old.spec.load_balancer);
    ask_all("deaf");
    old.plane
        .remove(old.spec.load_balancer, crate::world::Leave::Moved);
    ask_all("moved");
}

/// Leaves this process so many descriptors. Each test has a process of its own.
fn bound_descriptors(most: u64) {
    let limit = rustix::process::Rlimit {
        current: Some(most),
        maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
    };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
}

fn evicted(bed: &Bed) -> u64 {
    let world = bed.plane.world();
    let listener = &world.balancers[&bed.spec.load_balancer].listeners[0];
    listener.shared.meter.sum(|lane| &lane.evicted)
}

#[test]
fn who_was_silent_longest_gives_way_when_the_table_is_full() {
    bound_descriptors(400);
    let (a, b) = two();
    let bed = Bed::udp(&[a.address, b.address]).started();
    let busy = client(bed.vip);
    let first = ask(&busy, "");
    for _ in 0..300 {
        ask(&client(bed.vip), "");
        assert_eq!(ask(&busy, ""), first);
    }
    // Half of what descriptors there are, less what is kept for the rest of the process.
    assert!(bed.listener().counters.active_connections <= (400 - 128) / 2);
    // A port may have been that of a client before.
    eventually("all is counted", || {
        let counters = bed.listener().counters;
        let gone = evicted(&bed);
        gone > 0 && gone + counters.active_connections == counters.total_connections
    });
    assert_eq!(Loss::ALL.map(|why| lost(&bed, why)), [0; 7]);
}

#[test]
fn without_descriptors_sessions_give_theirs_and_if_there_is_none_datagrams_are_dropped() {
    bound_descriptors(400);
    let a = Member::named("a");
    let mut bed = Bed::udp(&[a.address]).with(|spec| spec.pools[0].members[0].enabled = false);
    // Every thread has heard of somebody, so none opens and closes anything of its own any more.
    let early: Vec<_> = (0..32).map(|_| client(bed.vip)).collect();
    for client in &early {
        client.send(b"").unwrap();
    }
    eventually("all are counted", || lost(&bed, Loss::NoMember) == 32);
    drop(early);
    bed.edit(|spec| spec.pools[0].members[0].enabled = true);
    let clients: Vec<_> = (0..4).map(|_| client(bed.vip)).collect();
    let mut held = Vec::new();
    // What sessions may have is gone.
    while held.len() < 300 {
        held.push(rustix::io::dup(&clients[0]).unwrap());
    }
    clients[0].send(b"").unwrap();
    eventually("it is counted", || lost(&bed, Loss::Exhausted) == 1);
    assert_eq!(bed.listener().counters.active_connections, 0);
    drop(held);
    for client in &clients {
        assert_eq!(ask(client, ""), "a");
    }
    // Now there are some, on each thread.
    let more: Vec<_> = (0..24).map(|_| client(bed.vip)).collect();
    for client in &more {
        assert_eq!(ask(client, ""), "a");
    }
    let fresh = client(bed.vip);
    let held: Vec<_> = (0..250)
        .map(|_| rustix::io::dup(&clients[0]).unwrap())
        .collect();
    assert_eq!(ask(&fresh, ""), "a");
    assert_eq!(evicted(&bed), 1);
    drop(held);
}

#[test]
fn a_source_begins_no_more_sessions_than_it_may_and_who_refuses_is_told_of() {
    let b = Member::named("b");
    let mut bed = Bed::udp(&[nobody(), b.address]).with(|spec| {
        spec.pools[0].passive_health = Some(krater_amphora_api::PassiveHealthSpec {
            failures: 2,
            out_ms: 3_600_000,
            out_max_ms: 3_600_000,
            share_percent: 50,
        });
    });
    let mut alarms = bed.plane.alarms().unwrap();
    let mut heard = None;
    eventually("an alarm", || {
        assert_eq!(ask_until_heard(&client(bed.vip), "x"), "bx");
        heard = alarms.try_recv().ok();
        heard.is_some()
    });
    bed.plane.handle_alarm(heard.unwrap());
    let state = Arc::clone(&bed.plane.world().pools.values().next().unwrap().members[0]);
    let failures = || state.meter.sum(|lane| &lane.connect_failures);
    let before = failures();
    for _ in 0..8 {
        assert_eq!(ask(&client(bed.vip), ""), "b");
    }
    assert_eq!(failures(), before);
    bed.edit(|spec| spec.listeners[0].source_rate = Some(1));
    let clients: Vec<_> = (0..5).map(|_| client(bed.vip)).collect();
    assert_eq!(ask(&clients[0], ""), "b");
    for client in &clients[1..] {
        client.send(b"x").unwrap();
    }
    eventually("some are turned away", || lost(&bed, Loss::TooOften) > 0);
    assert_eq!(ask(&clients[0], ""), "b", "sessions go on");
}

/// Members by turns, and clients that are kept with theirs for so many seconds, by the first three bytes of their
/// address.
fn sticky(members: &[SocketAddr], seconds: u32) -> Bed {
    Bed::udp(members).with(|spec| {
        spec.pools[0].persistence = Some(PersistenceSpec::SourceIp {
            timeout_seconds: Some(seconds),
            granularity: "255.255.255.0".parse().ok(),
        });
    })
}

#[test]
fn clients_of_one_network_are_kept_with_their_member_over_ports_and_threads() {
    let (a, b) = two();
    let bed = sticky(&[a.address, b.address], 600);
    let from = |ip: [u8; 4]| ask(&client_from(ip.into(), bed.vip), "");
    for round in 0..8 {
        assert_eq!(from([127, 0, 0, 1 + round]), "a", "the first turn");
        assert_eq!(from([127, 0, 1, 1 + round]), "b", "the second");
    }
}

#[test]
fn whoever_did_not_come_for_the_timeout_is_given_a_member_anew() {
    let (a, b) = two();
    let bed = sticky(&[a.address, b.address], 2);
    assert_eq!(ask(&client(bed.vip), ""), "a");
    assert_eq!(ask(&client(bed.vip), ""), "a");
    // Whole seconds are counted, so that the end may come one later.
    thread::sleep(Duration::from_millis(3_100));
    assert_eq!(ask(&client(bed.vip), ""), "b");
}
