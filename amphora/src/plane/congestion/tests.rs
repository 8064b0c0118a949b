//! Congestion control at real sockets, of streams and of HTTP alike.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use krater_amphora_api::{
    ListenerProtocol, ListenerState as Serving, LoadBalancerId, PoolProtocol, VipSpec,
};
use krater_amphora_core::snapshot::{Mode, Transport};
use rustix::fd::{AsRawFd, RawFd};

use super::*;
use crate::{
    listen::{Accepted, Claim, accept, open_group},
    testbed::{Bed, eventually, fresh_uuid, listener_spec, member, nobody, pool_spec},
};

const KINDS: [(ListenerProtocol, PoolProtocol); 2] = [
    (ListenerProtocol::Tcp, PoolProtocol::Tcp),
    (ListenerProtocol::Http, PoolProtocol::Http),
];

/// One that this system has and that is not what sockets have anyway.
fn other() -> CongestionControl {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let usual = name_of(&usual().unwrap());
    let names = ["reno", "cubic"].into_iter();
    names
        .filter(|name| *name != usual)
        .find(|name| socket.set_tcp_congestion(name.as_bytes()).is_ok())
        .unwrap()
        .parse()
        .unwrap()
}

/// One that no system has.
fn nobodys() -> CongestionControl {
    "no-such-control".parse().unwrap()
}

fn name_of(padded: &[u8]) -> String {
    let name = padded.split(|byte| *byte == 0).next().unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

fn is_set(socket: &impl std::os::fd::AsFd) -> String {
    name_of(&SockRef::from(socket).tcp_congestion().unwrap())
}

/// What the listening sockets of the first VIP have, and which they are.
fn sockets(bed: &Bed) -> Vec<(String, RawFd)> {
    let holder = bed.plane.open.values().next().unwrap();
    streams(holder)
        .map(|socket| (is_set(socket), socket.as_raw_fd()))
        .collect()
}

fn names(bed: &Bed) -> Vec<String> {
    sockets(bed).into_iter().map(|(name, _)| name).collect()
}

fn ask_for(bed: &mut Bed, name: Option<CongestionControl>) {
    bed.edit(|spec| spec.listeners[0].congestion_control = name);
}

fn refused(bed: &Bed) -> u64 {
    bed.plane.common.congestion_refused.load(Relaxed)
}

/// A member that says `ok` to each request.
fn answering() -> SocketAddr {
    member(|mut stream| {
        let mut question = [0; 4_096];
        let mut length = 0;
        while let Ok(read @ 1..) = stream.read(&mut question[length..]) {
            length += read;
            if question[..length].ends_with(b"\r\n\r\n") {
                length = 0;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        }
    })
}

fn assert_answers(client: &mut TcpStream) {
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = client.read(&mut piece).unwrap();
        assert!(read > 0, "closed: {}", answer.escape_ascii());
        answer.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn connections_have_what_their_listening_socket_is_set_to() {
    let place = Place {
        transport: Transport::Stream,
        address: "127.0.0.1:0".parse().unwrap(),
    };
    let mut holder = Holder {
        balancer: LoadBalancerId::new(fresh_uuid()),
        listener: ListenerId::new(fresh_uuid()),
        mode: Mode::Tcp,
        sockets: open_group(place, 1, Claim::Sole).unwrap(),
        control: Control::default(),
    };
    let accepted = |holder: &Holder| {
        let socket = streams(holder).next().unwrap();
        let _client = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let mut found = None;
        eventually("a connection comes in", || {
            match accept(socket, i32::MAX) {
                Accepted::One(connection, _) => found = Some(is_set(&connection)),
                Accepted::Nobody => {}
                other => panic!("{other:?}"),
            }
            found.is_some()
        });
        found.unwrap()
    };
    let usual = accepted(&holder);
    let mut system = System::look(&Refusals::new());
    system.set(&mut holder, other()).unwrap();
    assert_eq!(accepted(&holder), other().as_str());
    system.set(&mut holder, nobodys()).unwrap_err();
    system.restore(&mut holder);
    assert_eq!(accepted(&holder), usual);
}

#[test]
fn a_swap_sets_it_at_sockets_that_stay_and_costs_no_connection() {
    for (listener, pool) in KINDS {
        let mut bed = Bed::new(listener, pool, &[answering()]).started();
        let before = sockets(&bed);
        assert_eq!(before.len(), 2);
        let mut client = bed.connect();
        assert_answers(&mut client);
        let usual = before[0].0.clone();
        for (asked, expected) in [
            (Some(other()), other().to_string()),
            (Some(usual.parse().unwrap()), usual.clone()),
            (Some(other()), other().to_string()),
            (None, usual),
        ] {
            ask_for(&mut bed, asked);
            let now: Vec<_> = before
                .iter()
                .map(|(_, descriptor)| (expected.clone(), *descriptor))
                .collect();
            assert_eq!(sockets(&bed), now, "{listener:?}");
            assert_answers(&mut client);
            assert_answers(&mut bed.connect());
        }
        assert_eq!(refused(&bed), 0);
    }
}

#[test]
fn an_address_that_passes_has_what_its_new_listener_asks_for() {
    for ((listener, pool), (other_listener, other_pool)) in
        KINDS.into_iter().zip(KINDS.into_iter().rev())
    {
        let members = [answering()];
        let mut bed = Bed::new(listener, pool, &members).started();
        let before = sockets(&bed);
        ask_for(&mut bed, Some(other()));
        let port = bed.vip.port();
        bed.edit(|spec| {
            spec.pools = vec![pool_spec(other_pool, &members)];
            spec.listeners = vec![listener_spec(other_listener, port, Some(spec.pools[0].id))];
        });
        assert_eq!(sockets(&bed), before, "{listener:?}");
        assert_answers(&mut bed.connect());
    }
}

#[test]
fn sockets_of_a_process_before_have_what_is_asked_for_now() {
    let mut bed = Bed::tcp(&[answering()]).started();
    let usual = names(&bed);
    // As they are claimed from a supervisor.
    let holder = bed.plane.open.values_mut().next().unwrap();
    holder.control = Control::Unknown;
    for socket in streams(holder) {
        let set = SockRef::from(socket).set_tcp_congestion(other().as_str().as_bytes());
        set.unwrap();
    }
    bed.edit(|spec| spec.listeners[0].connection_limit += 1);
    assert_eq!(names(&bed), usual);
}

#[test]
fn what_the_system_refuses_is_counted_by_listener_and_everybody_is_served() {
    for (listener, pool) in KINDS {
        let mut bed = Bed::new(listener, pool, &[answering()]).with(|spec| {
            let address = nobody().ip();
            spec.vips.push(VipSpec { address });
            spec.listeners[0].congestion_control = Some(nobodys());
        });
        let usual = vec![name_of(&super::usual().unwrap()); 2];
        let assert_serves = |bed: &Bed| {
            assert_eq!(bed.listener().state, Serving::Open);
            assert_answers(&mut bed.connect());
        };
        // At two addresses, and one listener.
        assert_eq!((refused(&bed), names(&bed)), (1, usual.clone()));
        assert_serves(&bed);
        assert!(!bed.plane.retry_failed());
        assert_eq!(refused(&bed), 1);
        ask_for(&mut bed, Some(other()));
        assert_eq!(refused(&bed), 0);
        assert_eq!(names(&bed), [other().as_str(); 2]);
        // Not what it was set to before: what is in force is not to depend on the past.
        ask_for(&mut bed, Some(nobodys()));
        assert_eq!((refused(&bed), names(&bed)), (1, usual.clone()));
        assert_serves(&bed);
        ask_for(&mut bed, None);
        assert_eq!((refused(&bed), names(&bed)), (0, usual));
        ask_for(&mut bed, Some(nobodys()));
        bed.edit(|spec| spec.listeners[0].enabled = false);
        assert_eq!(refused(&bed), 0, "it is not open");
        bed.edit(|spec| spec.listeners[0].enabled = true);
        assert_eq!(refused(&bed), 1);
        bed.edit(|spec| spec.listeners.clear());
        assert_eq!(refused(&bed), 0);
    }
}

#[test]
fn what_was_refused_is_set_once_the_system_has_it() {
    let mut bed = Bed::tcp(&[answering()]).started();
    let listener = bed.spec.listeners[0].id;
    ask_for(&mut bed, Some(other()));
    // As if it had not been there until now.
    let (place, holder) = bed.plane.open.iter_mut().next().unwrap();
    bed.plane.refusals.insert(*place, (listener, other()));
    holder.control = Control::Unknown;
    System::look(&Refusals::new()).restore(holder);
    bed.plane.count_refusals();
    assert_ne!(names(&bed), [other().as_str(); 2]);
    assert_eq!(refused(&bed), 1);
    bed.plane.retry_failed();
    assert_eq!(names(&bed), [other().as_str(); 2]);
    assert_eq!(refused(&bed), 0);
}
