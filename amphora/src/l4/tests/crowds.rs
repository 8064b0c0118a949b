//! Connections that meet on one core.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use crate::testbed::{Bed, echo, eventually};

/// The streams that each of the two threads has open.
fn open(bed: &Bed) -> [u64; 2] {
    [2, 3].map(|lane| bed.plane.common().threads.of(lane).active())
}

/// Opens one and finds out which thread serves it.
fn arrive(bed: &Bed) -> (usize, TcpStream) {
    let before = open(bed);
    let client = bed.connect();
    let mut after = before;
    eventually("it is let in", || {
        after = open(bed);
        after.iter().sum::<u64>() > before.iter().sum()
    });
    (usize::from(after[1] > before[1]), client)
}

#[test]
fn new_streams_go_to_the_core_that_rests_when_those_that_last_have_met_on_the_other() {
    let bed = Bed::tcp(&[echo()]).started();
    // As an unlucky hash of their ports has it: those of one core last, those of the other have ended.
    let mut kept = Vec::new();
    while kept.len() < 8 {
        let (thread, client) = arrive(&bed);
        if thread == 0 {
            kept.push(client);
        } else {
            drop(client);
            eventually("it has ended", || open(&bed)[1] == 0);
        }
    }
    let passed = || {
        let threads = &bed.plane.common().threads;
        threads.of(2).passed.read() + threads.of(3).passed.read()
    };
    assert_eq!(passed(), 0, "few are no crowd");
    kept.extend((0..60).map(|_| arrive(&bed).1));
    let now = open(&bed);
    let (least, most) = (now[0].min(now[1]), now[0].max(now[1]));
    // A look may be a millisecond old, or eight streams.
    assert!(most <= least + least / 4 + 16, "{now:?}");
    // Whoever was passed on is served like anybody else.
    for client in &mut kept {
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }
    let listener = bed.listener().counters;
    assert_eq!(listener.active_connections, kept.len() as u64);
    kept.clear();
    eventually("all have ended", || {
        open(&bed) == [0, 0] && bed.listener().counters.active_connections == 0
    });
}

#[test]
fn streams_that_were_passed_on_end_with_their_listener() {
    let mut bed = Bed::tcp(&[echo()]).started();
    let mut kept = Vec::new();
    let threads = Arc::clone(&bed.plane.common().threads);
    let passed = || threads.of(2).passed.read() + threads.of(3).passed.read();
    while passed() < 4 {
        let before = passed();
        let (thread, client) = arrive(&bed);
        if thread == 0 || passed() > before {
            kept.push(client);
        } else {
            let others = open(&bed)[1];
            drop(client);
            eventually("it has ended", || open(&bed)[1] < others);
        }
    }
    bed.edit(|spec| spec.listeners[0].enabled = false);
    for client in &mut kept {
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
    eventually("all have ended", || open(&bed) == [0, 0]);
}
