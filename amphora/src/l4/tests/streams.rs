//! Streams: what is moved through pipes is what a copy would have brought, and nobody holds more than they should.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::super::{
    flow::{Flow, Last, Means, Moved, Turn},
    pipes::Pipes,
    reactor::Flags,
    socket::Socket,
};
use crate::{
    limits::{PIPE_BYTES, SCRATCH_BYTES},
    testbed::{Bed, PATIENCE, eventually, member, pattern},
};

/// Two ends of a connection: a plain one, and one as the engine has it.
fn ends() -> (TcpStream, Socket) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let outside = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (inside, _) = listener.accept().unwrap();
    inside.set_nonblocking(true).unwrap();
    outside.set_read_timeout(Some(PATIENCE)).unwrap();
    outside.set_write_timeout(Some(PATIENCE)).unwrap();
    (outside, Socket::accepted(inside.into()))
}

/// Sends the pieces through one direction, and gives what came out of it.
fn carried(pieces: &[usize], slow: bool, pipes: Pipes) -> Vec<u8> {
    let (mut source, mut from) = ends();
    let (mut sink, mut to) = ends();
    let bytes = pattern(pieces.iter().sum());
    let pieces = pieces.to_vec();
    let writing = thread::spawn(move || {
        let mut rest = &bytes[..];
        for piece in pieces {
            let (now, later) = rest.split_at(piece);
            source.write_all(now).unwrap();
            rest = later;
        }
        source.shutdown(Shutdown::Write).unwrap();
    });
    let reading = thread::spawn(move || {
        let mut received = Vec::new();
        let mut piece = [0; 3_000];
        for _ in 0..if slow { 20 } else { 0 } {
            thread::sleep(Duration::from_micros(200));
            let read = sink.read(&mut piece).unwrap();
            received.extend_from_slice(&piece[..read]);
        }
        sink.read_to_end(&mut received).unwrap();
        received
    });
    let mut means = Means {
        scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        pipes,
    };
    let mut flow = Flow::default();
    loop {
        match flow.run(
            &mut from,
            &mut to,
            Last::No,
            &mut means,
            &mut Moved::default(),
        ) {
            Turn::Done => break,
            Turn::Broken => panic!("nothing was broken off"),
            Turn::Waits | Turn::Yields => {
                thread::yield_now();
                // As if the reactor had reported both.
                from.note(Flags::IN);
                to.note(Flags::OUT);
            }
        }
    }
    writing.join().unwrap();
    reading.join().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_moved_is_what_is_copied(
        pieces in proptest::collection::vec(
            prop_oneof![1_usize..64, 1_000_usize..70_000, Just(300_000_usize)],
            1..40,
        ),
        slow: bool,
    ) {
        let copied = carried(&pieces, slow, Pipes::none());
        prop_assert_eq!(&copied, &pattern(pieces.iter().sum()));
        let moved = carried(&pieces, slow, Pipes::new());
        prop_assert!(moved == copied, "moved and copied differ");
    }
}

#[test]
fn a_stream_is_moved_and_messages_are_not() {
    let (mut source, mut from) = ends();
    let (mut sink, mut to) = ends();
    let mut means = Means {
        scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        pipes: Pipes::new(),
    };
    let mut flow = Flow::default();
    let mut pass = |bytes: usize, flow: &mut Flow| {
        source.write_all(&vec![1; bytes]).unwrap();
        let mut moved = Moved::default();
        while moved.written < bytes {
            from.note(Flags::IN);
            to.note(Flags::OUT);
            let turn = flow.run(&mut from, &mut to, Last::No, &mut means, &mut moved);
            assert!(turn == Turn::Waits || turn == Turn::Yields, "{turn:?}");
            let mut taken = vec![0; moved.written];
            sink.set_read_timeout(Some(Duration::from_millis(1)))
                .unwrap();
            while sink.read(&mut taken).is_ok() {}
        }
    };
    for _ in 0..10 {
        pass(200, &mut flow);
        assert!(!flow.is_stream());
    }
    pass(2 << 20, &mut flow);
    assert!(flow.is_stream(), "two megabytes in a row are a stream");
    for _ in 0..20 {
        pass(200, &mut flow);
    }
    assert!(!flow.is_stream(), "it has become a trickle");
}

#[test]
fn clients_that_read_nothing_hold_a_bounded_amount_each() {
    let clients = 20;
    let bed = Bed::tcp(&[member(|mut stream| {
        let piece = vec![9; 1 << 16];
        while stream.write_all(&piece).is_ok() {}
    })])
    .started();
    let silent: Vec<_> = (0..clients).map(|_| bed.connect()).collect();
    let held = || {
        let pool = bed.plane.world().pools[&bed.spec.pools[0].id].totals();
        (pool.bytes_in, bed.listener().counters.bytes_out)
    };
    let mut last = (0, 0);
    eventually("everything on the way is full", || {
        thread::sleep(Duration::from_millis(200));
        let now = held();
        let still = now == last && now.0 > 0;
        last = now;
        still
    });
    let (read, written) = last;
    assert!(
        read - written <= (PIPE_BYTES * clients) as u64,
        "{read} were read and only {written} written"
    );
    drop(silent);
    eventually("all have ended", || {
        bed.listener().counters.active_connections == 0
    });
}

#[test]
fn messages_are_answered_while_streams_run() {
    let stop = Arc::new(AtomicBool::new(false));
    let bed = Bed::tcp(&[member(|mut stream| {
        let mut kind = [0; 1];
        stream.read_exact(&mut kind).unwrap();
        if kind == *b"s" {
            let piece = vec![3; 1 << 18];
            while stream.write_all(&piece).is_ok() {}
        }
        let mut byte = [0; 1];
        while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
    })])
    .started();
    let streams: Vec<_> = (0..8)
        .map(|_| {
            let (mut stream, stop) = (bed.connect(), Arc::clone(&stop));
            stream.write_all(b"s").unwrap();
            thread::spawn(move || {
                let mut piece = vec![0; 1 << 20];
                while !stop.load(Ordering::Relaxed) {
                    stream.read_exact(&mut piece).unwrap();
                    assert!(piece.iter().all(|byte| *byte == 3));
                }
            })
        })
        .collect();
    let mut client = bed.connect();
    client.write_all(b"m").unwrap();
    let mut byte = [0; 1];
    for _ in 0..100 {
        client.write_all(b"x").unwrap();
        client.read_exact(&mut byte).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for stream in streams {
        stream.join().unwrap();
    }
}

#[test]
fn bulk_that_pauses_and_goes_on_arrives_whole_either_way() {
    /// Sends much, rests, sends little, and waits to be answered.
    fn send(stream: &mut TcpStream, bytes: &[u8]) {
        let (bulk, tail) = bytes.split_at(bytes.len() - 700_010);
        stream.write_all(bulk).unwrap();
        for piece in tail.chunks(100_000) {
            thread::sleep(Duration::from_millis(15));
            stream.write_all(piece).unwrap();
        }
        let mut word = [0; 2];
        stream.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"ok");
    }

    fn receive(stream: &mut TcpStream, bytes: &[u8]) {
        let mut received = vec![0; bytes.len()];
        stream.read_exact(&mut received).unwrap();
        assert!(received == bytes, "the bulk came out changed");
        stream.write_all(b"ok").unwrap();
    }

    let bytes = Arc::new(pattern(48 << 20));
    let copy = Arc::clone(&bytes);
    let bed = Bed::tcp(&[member(move |mut stream| {
        for _ in 0..2 {
            send(&mut stream, &copy);
            receive(&mut stream, &copy);
        }
        let _ = stream.read(&mut [0]);
    })])
    .started();
    let mut client = bed.connect();
    for _ in 0..2 {
        receive(&mut client, &bytes);
        send(&mut client, &bytes);
    }
    drop(client);
    eventually("the connection ends", || {
        bed.listener().counters.active_connections == 0
    });
}
