//! What becomes of a connection that one side breaks off: the other is broken off as well, after it got all that was
//! sent before. What one side ends, the other sees ended.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::testbed::{Bed, PATIENCE, connect, eventually, member, read_all};

/// Breaks a connection off: what was not read yet is lost, and the peer is reset.
fn reset(stream: TcpStream) {
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
}

/// What reading to the end comes to: the bytes, and whether the end was a break.
fn outcome(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, false),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
            (bytes, true)
        }
    }
}

/// A load balancer whose member hands its connections out to the test.
fn pair() -> (Bed, TcpStream, TcpStream) {
    let (hand, taken) = mpsc::channel();
    let bed = Bed::tcp(&[member(move |stream| hand.send(stream).unwrap())]).started();
    let mut client = bed.connect();
    let mut member = taken.recv_timeout(PATIENCE).unwrap();
    // Both sides are known to be joined once a byte has gone either way.
    client.write_all(b"?").unwrap();
    member.read_exact(&mut [0]).unwrap();
    member.write_all(b"!").unwrap();
    client.read_exact(&mut [0]).unwrap();
    (bed, client, member)
}

fn all_have_ended(bed: &Bed) {
    eventually("the connection ends on both sides", || {
        let pool = bed.plane.world().pools[&bed.spec.pools[0].id].clone();
        bed.listener().counters.active_connections == 0 && pool.totals().active() == 0
    });
}

#[test]
fn a_break_of_either_side_reaches_the_other() {
    let (bed, client, mut member) = pair();
    reset(client);
    assert_eq!(outcome(&mut member), (vec![], true));
    all_have_ended(&bed);
    let (bed, mut client, member) = pair();
    reset(member);
    assert_eq!(outcome(&mut client), (vec![], true));
    all_have_ended(&bed);
}

#[test]
fn an_end_of_either_side_reaches_the_other_and_the_answer_still_comes() {
    for client_first in [true, false] {
        let (bed, client, member) = pair();
        let (mut first, mut second) = if client_first {
            (client, member)
        } else {
            (member, client)
        };
        first.write_all(b"last words").unwrap();
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcome(&mut second), (b"last words".to_vec(), false));
        second.write_all(b"farewell").unwrap();
        drop(second);
        assert_eq!(outcome(&mut first), (b"farewell".to_vec(), false));
        all_have_ended(&bed);
    }
}

#[test]
fn a_break_after_an_end_of_the_same_side_reaches_the_other() {
    for client_first in [true, false] {
        let (bed, client, member) = pair();
        let (first, mut second) = if client_first {
            (client, member)
        } else {
            (member, client)
        };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcome(&mut second), (vec![], false), "the end comes first");
        reset(first);
        // Nothing is left to read but the break: it shows when something is written.
        eventually("the break is seen", || {
            second.write_all(b"x").is_err_and(|error| {
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                )
            })
        });
        all_have_ended(&bed);
    }
}

#[test]
fn a_break_after_an_end_of_the_other_side_reaches_it() {
    for client_first in [true, false] {
        let (bed, client, member) = pair();
        let (mut first, mut second) = if client_first {
            (client, member)
        } else {
            (member, client)
        };
        first.shutdown(Shutdown::Write).unwrap();
        assert_eq!(outcome(&mut second), (vec![], false));
        reset(second);
        assert_eq!(outcome(&mut first), (vec![], true));
        all_have_ended(&bed);
    }
}

#[test]
fn a_break_is_passed_on_even_if_the_other_side_reads_nothing() {
    for client_first in [true, false] {
        let (bed, client, member) = pair();
        let (mut first, second) = if client_first {
            (client, member)
        } else {
            (member, client)
        };
        first
            .set_write_timeout(Some(Duration::from_millis(300)))
            .unwrap();
        let piece = [7; 65_536];
        while first.write_all(&piece).is_ok() {}
        reset(first);
        all_have_ended(&bed);
        let (_, broken) = outcome(&mut { second });
        assert!(broken, "a stream that was cut short looked complete");
    }
}

#[test]
fn what_was_sent_before_a_break_arrives_if_it_was_taken_before() {
    let (bed, mut client, mut member) = pair();
    member.write_all(b"all there is").unwrap();
    let mut bytes = [0; 12];
    client.read_exact(&mut bytes).unwrap();
    reset(member);
    assert_eq!(outcome(&mut client), (vec![], true));
    all_have_ended(&bed);
}

#[test]
fn a_client_that_breaks_off_before_a_member_was_chosen_costs_no_member() {
    let (hand, taken) = mpsc::channel();
    let bed = Bed::tcp(&[member(move |stream| hand.send(stream).unwrap())])
        .with(|spec| spec.listeners[0].timeouts.tcp_inspect_ms = 60_000);
    let client = bed.connect();
    eventually("it is accepted", || {
        bed.listener().counters.active_connections == 1
    });
    reset(client);
    all_have_ended(&bed);
    // If one was asked nonetheless, it hears of the break at once.
    if let Ok(mut asked) = taken.try_recv() {
        assert!(outcome(&mut asked).0.is_empty());
    }
}

#[test]
fn a_client_that_gives_up_while_members_are_tried_is_forgotten() {
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    full.bind(&any.into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let filler = connect(address);
    let bed = Bed::tcp(&[crate::testbed::nobody(), address])
        .with(|spec| spec.listeners[0].timeouts.member_connect_ms = 60_000);
    let clients: Vec<_> = (0..4).map(|_| bed.connect()).collect();
    eventually(
        "some wait for the second member after the first refused",
        || {
            let state = bed.listener();
            let world = bed.plane.world();
            let retries = world.listeners[&bed.spec.listeners[0].id]
                .shared
                .meter
                .sum(|lane| &lane.retries);
            state.counters.active_connections == 4 && retries > 0
        },
    );
    clients.into_iter().for_each(reset);
    let world = bed.plane.world();
    let meter = &world.listeners[&bed.spec.listeners[0].id].shared.meter;
    eventually("those that were watched are gone", || {
        4 - bed.listener().counters.active_connections >= meter.sum(|lane| &lane.retries)
    });
    drop((filler, full));
}

#[test]
fn a_member_that_breaks_off_under_a_writing_client_is_noticed() {
    let (bed, mut client, member) = pair();
    let writing = thread::spawn(move || {
        let piece = [1; 16_384];
        while client.write_all(&piece).is_ok() {}
    });
    reset(member);
    writing.join().unwrap();
    all_have_ended(&bed);
}

#[test]
fn urgent_data_does_not_stop_what_comes_after_it() {
    let (_bed, mut client, mut member) = pair();
    client.write_all(b"before").unwrap();
    SockRef::from(&client).send_out_of_band(b"U").unwrap();
    client.write_all(b"after").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut member), "beforeafter");
}
