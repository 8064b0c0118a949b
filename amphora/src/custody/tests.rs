use std::{net::TcpStream, thread};

use super::*;
use crate::listen::{Claim, open_group};

fn at(transport: Transport, address: &str) -> Place {
    let address = address.parse().unwrap();
    Place { transport, address }
}

fn bound(sockets: &[Listening]) -> std::net::SocketAddr {
    match &sockets[0] {
        Listening::Streams(socket) => socket.local_addr().unwrap(),
        Listening::Datagrams(socket) => socket.local_addr().unwrap(),
    }
}

/// A supervisor whose agents are what the test says, one after another.
fn supervised<const N: usize>(agents: [fn(Custody); N]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut custodian = Custodian::default();
        let wish = tokio::sync::Notify::new();
        for agent in agents {
            let (socket, input) = Custodian::connect().unwrap();
            let agent = tokio::task::spawn_blocking(move || agent(Custody::over(input)));
            tokio::select! {
                outcome = agent => outcome.unwrap(),
                () = custodian.serve(&socket, &wish) => unreachable!(),
            }
        }
    });
}

fn open(custody: &mut Custody, place: Place) -> Place {
    let sockets = open_group(place, 2, Claim::Sole).unwrap();
    let address = bound(&sockets);
    let place = Place { address, ..place };
    custody.hold(place, &sockets);
    place
}

static WAITING: std::sync::Mutex<Vec<(Place, TcpStream)>> = std::sync::Mutex::new(Vec::new());

#[test]
fn who_comes_while_no_agent_lives_is_served_by_the_next() {
    supervised([
        |mut custody| {
            let place = open(&mut custody, at(Transport::Stream, "127.0.0.1:0"));
            // Now everything said so far has been heard.
            custody.release([at(Transport::Stream, "192.0.2.1:1")]);
            drop(custody);
            let client = TcpStream::connect(place.address).unwrap();
            WAITING.lock().unwrap().push((place, client));
        },
        |mut custody| {
            let (place, client) = WAITING.lock().unwrap().pop().unwrap();
            let sockets = custody.claim(place, 2).unwrap();
            let waiting: Vec<_> = sockets
                .iter()
                .filter_map(|socket| match socket {
                    Listening::Streams(socket) => {
                        socket.set_nonblocking(true).unwrap();
                        socket.accept().ok()
                    }
                    Listening::Datagrams(_) => None,
                })
                .collect();
            assert_eq!(waiting.len(), 1);
            assert_eq!(waiting[0].1, client.local_addr().unwrap());
        },
    ]);
}

#[test]
fn what_is_released_or_not_claimed_is_free_for_others() {
    supervised([|mut custody| {
        for transport in [Transport::Stream, Transport::Datagram] {
            let place = open(&mut custody, at(transport, "127.0.0.1:0"));
            assert!(open_group(place, 1, Claim::Sole).is_err());
            custody.release([place]);
            open_group(place, 1, Claim::Sole).unwrap();
        }
    }]);
    static PLACE: std::sync::Mutex<Option<Place>> = std::sync::Mutex::new(None);
    supervised([
        |mut custody| {
            let place = open(&mut custody, at(Transport::Datagram, "[::1]:0"));
            custody.release([at(Transport::Stream, "192.0.2.1:1")]);
            *PLACE.lock().unwrap() = Some(place);
        },
        |mut custody| {
            let place = PLACE.lock().unwrap().unwrap();
            assert!(custody.inherited.contains_key(&place));
            custody.renounce();
            open_group(place, 1, Claim::Sole).unwrap();
        },
        |custody| assert!(custody.inherited.is_empty()),
    ]);
}

#[test]
fn another_number_of_cores_begins_anew() {
    static PLACE: std::sync::Mutex<Option<Place>> = std::sync::Mutex::new(None);
    supervised([
        |mut custody| {
            let place = open(&mut custody, at(Transport::Stream, "127.0.0.1:0"));
            custody.release([at(Transport::Stream, "192.0.2.1:1")]);
            *PLACE.lock().unwrap() = Some(place);
        },
        |mut custody| {
            let place = PLACE.lock().unwrap().unwrap();
            assert!(custody.claim(place, 3).is_none());
            open_group(place, 3, Claim::Sole).unwrap();
        },
    ]);
}

#[test]
fn without_a_supervisor_nothing_is_held_and_nothing_lacks() {
    let mut custody = Custody::default();
    let place = open(&mut custody, at(Transport::Stream, "127.0.0.1:0"));
    custody.release([place]);
    custody.renounce();
    assert!(custody.claim(place, 2).is_none());
}

#[test]
fn a_supervisor_that_is_gone_is_given_up() {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    packet::send(&ours, &Packet::Done, &[]).unwrap();
    let agent = thread::spawn(|| Custody {
        supervisor: Some(theirs),
        inherited: BTreeMap::new(),
    });
    let mut custody = agent.join().unwrap();
    custody.inherit().unwrap();
    drop(ours);
    open(&mut custody, at(Transport::Stream, "127.0.0.1:0"));
    assert!(custody.supervisor.is_none());
}
