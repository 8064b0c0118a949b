//! When somebody fails: what the client is told, and what is never done twice.

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use krater_amphora_api::{ListenerProtocol, PoolProtocol};

use super::{
    counting, paths,
    talk::{Expect, Talk, http_member, ok},
};
use crate::testbed::{Bed, PATIENCE, eventually, member, nobody};

/// The status and cause that a client gets for a GET.
fn verdict(bed: &Bed) -> (u16, String) {
    let answer = Talk::to(bed.vip).get("/");
    (
        answer.status(),
        answer.header("x-krater-cause").unwrap_or("none").to_owned(),
    )
}

#[test]
fn the_cause_of_a_failure_is_told() {
    let none = Bed::http(&[]).started();
    assert_eq!(verdict(&none), (503, "lb_no_member".into()));
    let no_pool = Bed::http(&[]).with(|spec| spec.listeners[0].default_pool = None);
    assert_eq!(verdict(&no_pool), (503, "lb_no_member".into()));
    let refused =
        Bed::http(&[nobody()]).with(|spec| spec.listeners[0].timeouts.member_connect_ms = 20);
    assert_eq!(verdict(&refused), (502, "member_refused".into()));
    let broke = Bed::http(&[member(|stream| {
        drop(Talk::over(stream).read(Expect::Request))
    })])
    .started();
    assert_eq!(verdict(&broke), (502, "member_reset_before_answer".into()));
    let nonsense = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send("SSH-2.0-x\r\n\r\n");
    })])
    .started();
    assert_eq!(verdict(&nonsense), (502, "member_malformed".into()));
    let silent = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.try_read(Expect::Request);
    })])
    .with(|spec| spec.listeners[0].timeouts.member_data_ms = 100);
    assert_eq!(verdict(&silent), (504, "member_timeout".into()));
    let counters = silent.listener().counters;
    assert_eq!(counters.request_errors, 0, "the client is not to blame");
}

#[test]
fn a_client_that_is_answered_with_an_error_keeps_its_connection() {
    let mut bed = Bed::http(&[]).started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/").status(), 503);
    bed.edit(|spec| {
        spec.pools[0]
            .members
            .push(crate::testbed::member_spec(http_member(|_| ok("now"))))
    });
    assert_eq!(client.get("/").text(), "now");
}

#[test]
fn another_member_is_tried_when_one_refuses() {
    let bed = Bed::http(&[nobody(), http_member(|request| ok(request.text()))]).started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..4 {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody");
        let answer = client.read(Expect::Answer);
        assert_eq!((answer.status(), answer.text()), (200, "body"));
    }
}

/// A member that answers the first request of each connection and, at the second, closes without a word, as if it had
/// closed an idle connection that very moment. Counts the requests it saw.
fn closes_on_second() -> (SocketAddr, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let address = member(move |stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        count.fetch_add(1, Ordering::SeqCst);
        talk.send(&ok("first"));
        if talk.try_read(Expect::Request).is_some() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, seen)
}

#[test]
fn a_get_that_met_the_close_of_an_idle_connection_is_sent_again() {
    let (address, seen) = closes_on_second();
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "first");
    }
    assert_eq!(
        seen.load(Ordering::SeqCst),
        7,
        "four answered, three lost on old connections"
    );
}

#[test]
fn a_post_that_may_have_been_seen_is_not_sent_again() {
    let (address, seen) = closes_on_second();
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/").status(), 200);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(client.read(Expect::Answer).status(), 502);
    assert_eq!(seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_post_after_a_member_closed_its_idle_connection_is_served() {
    let (closed, wait) = mpsc::channel();
    let (address, connections) = counting(move |mut talk| {
        talk.read(Expect::Request);
        talk.send(&ok("x"));
        drop(talk);
        closed.send(()).unwrap();
    });
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..50 {
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        assert_eq!(client.read(Expect::Answer).status(), 200);
        // A request that crossed the close on its way could not be repeated.
        wait.recv_timeout(PATIENCE).unwrap();
    }
    assert_eq!(connections.load(Ordering::SeqCst), 50);
}

#[test]
fn a_slow_head_gets_408_and_an_idle_connection_is_closed_without_a_word() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).with(|spec| spec.listeners[0].timeouts.client_data_ms = 500);
    let mut slow = Talk::to(bed.vip);
    slow.send("GET / HTTP/1.1\r\nHos");
    let answer = slow.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.text()),
        (408, "The request did not arrive in time.\n")
    );
    assert!(slow.try_read(Expect::Answer).is_none());
    let mut idle = Talk::to(bed.vip);
    assert_eq!(idle.get("/x").text(), "/x");
    assert!(idle.try_read(Expect::Answer).is_none());
    let mut mute = Talk::to(bed.vip);
    assert!(mute.try_read(Expect::Answer).is_none());
    eventually("it is counted", || {
        bed.listener().counters.request_errors == 1
    });
}

#[test]
fn a_body_that_stops_coming_gets_408() {
    let bed = Bed::http(&[http_member(|_| ok("never"))])
        .with(|spec| spec.listeners[0].timeouts.client_data_ms = 100);
    let mut client = Talk::to(bed.vip);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.read(Expect::Answer).status(), 408);
    assert!(client.try_read(Expect::Answer).is_none());
}

#[test]
fn an_answer_that_stops_coming_is_not_made_to_look_complete() {
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let bed = Bed::http(&[member(move |stream| {
            let mut talk = Talk::over(stream);
            talk.read(Expect::Request);
            talk.send(&format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n5\r\nabc"));
            talk.try_read(Expect::Request);
        })])
        .with(|spec| spec.listeners[0].timeouts.member_data_ms = 100);
        let mut client = Talk::to(bed.vip);
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut all = vec![];
        let _ = std::io::Read::read_to_end(&mut client.stream, &mut all);
        let text = String::from_utf8(all).unwrap();
        assert!(
            !text.ends_with("0\r\n\r\n") && !text.ends_with("5\r\nabcdefg"),
            "{text}"
        );
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            std::io::BufRead::read_line(&mut talk.stream, &mut head).unwrap();
        }
        talk.send(
            "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n",
        );
        let _ = std::io::copy(&mut talk.stream, &mut std::io::sink());
    })])
    .started();
    for _ in 0..10 {
        let mut client = Talk::to(bed.vip);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000000\r\n\r\n");
        // Fails at some point, as it should; the answer is to be read all the same.
        let _ = client.stream.get_mut().write_all(&vec![0; 300_000]);
        assert_eq!(client.read(Expect::Answer).status(), 413);
    }
}

#[test]
fn malformed_requests_are_refused_and_reach_no_member() {
    let (address, connections) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: +1\r\n\r\n",
            400,
        ),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n",
            400,
        ),
        ("GET /\r\n\r\n", 400),
        ("\x16\x03\x01\x02 nonsense\r\n\r\n", 400),
        (
            "CONNECT example:443 HTTP/1.1\r\nHost: example:443\r\n\r\n",
            405,
        ),
    ];
    for (text, status) in cases {
        let mut client = Talk::to(bed.vip);
        client.send(text);
        assert_eq!(client.read(Expect::Answer).status(), *status, "{text:?}");
    }
    let mut client = Talk::to(bed.vip);
    let _ = client.stream.get_mut().write_all(
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(100_000)
        )
        .as_bytes(),
    );
    assert_eq!(client.read(Expect::Answer).status(), 431);
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    let errors = cases.len() as u64 + 1;
    eventually("all are counted", || {
        bed.listener().counters.request_errors == errors
    });
}

#[test]
fn a_request_with_two_lengths_is_sent_on_with_one() {
    let bed = Bed::http(&[http_member(|request| ok(&super::show(request)))]).started();
    let mut client = Talk::to(bed.vip);
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n",
    );
    let answer = client.read(Expect::Answer);
    if answer.status() == 200 {
        assert_eq!(
            answer.text(),
            "POST / HTTP/1.1\nhost: h\ntransfer-encoding: chunked\n\nabcd"
        );
    } else {
        assert_eq!(answer.status(), 400);
    }
}

#[test]
fn a_client_that_leaves_takes_its_request_with_it() {
    let (address, connections) = counting(|mut talk| {
        talk.read(Expect::Request);
        // The connection is closed by the other side: nobody waits for this answer any more.
        assert!(talk.try_read(Expect::Request).is_none());
        panic!("seen");
    });
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    eventually("the member has it", || {
        connections.load(Ordering::SeqCst) == 1
    });
    drop(client);
    let member = bed.plane.world().pools.values().next().unwrap().members[0].clone();
    eventually("the member is left alone", || member.meter.active() == 0);
    eventually("the connection ends", || {
        bed.listener().counters.active_connections == 0
    });
}

#[test]
fn a_timeout_that_became_shorter_holds_for_connections_that_were_kept() {
    let (address, _) = counting(paths);
    let mut bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/a").text(), "/a");
    bed.edit(|spec| spec.listeners[0].timeouts.client_data_ms = 500);
    assert_eq!(client.get("/b").text(), "/b");
    let start = std::time::Instant::now();
    assert!(client.try_read(Expect::Answer).is_none());
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn a_connection_whose_listener_no_longer_speaks_http_is_closed_after_an_answer() {
    let (address, _) = counting(paths);
    let mut bed = Bed::new(ListenerProtocol::Tcp, PoolProtocol::Http, &[address]).started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/a").header("connection"), None);
    bed.edit(|spec| spec.pools[0].protocol = PoolProtocol::Tcp);
    let last = client.get("/b");
    assert_eq!(
        (last.text(), last.header("connection")),
        ("/b", Some("close"))
    );
    assert!(client.try_read(Expect::Answer).is_none());
}
