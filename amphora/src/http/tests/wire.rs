//! What goes over the wire, byte for byte, and what becomes of those who do not keep to it.

use std::{io::BufRead, time::Instant};

use super::*;
use crate::testbed::connect;

/// A member that sends `answer` to each request on a connection, whatever it is, and counts its connections.
fn saying(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    counting(move |mut talk| {
        while talk.try_read(Expect::Request).is_some() {
            talk.send(answer);
        }
    })
}

/// All that comes until the connection ends, and whether it ended well.
fn rest(talk: &mut Talk) -> (String, bool) {
    let mut bytes = vec![];
    let ended = talk.stream.read_to_end(&mut bytes).is_ok();
    (String::from_utf8(bytes).unwrap(), ended)
}

#[test]
fn an_answer_is_written_as_it_should_be() {
    let (address, _) = saying("HTTP/1.1 200 Fine\r\nX-Y: z\r\nContent-Length: 2\r\n\r\nok");
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let (text, ended) = rest(&mut client);
    let date = text.find("date: ").map(|at| &text[at..at + 37]).unwrap();
    assert!(ended && date.ends_with(" GMT\r\n"), "{text}");
    assert_eq!(
        text.replace(date, "DATE"),
        "HTTP/1.1 200 Fine\r\nx-y: z\r\ncontent-length: 2\r\nconnection: close\r\nDATE\r\nok"
    );
}

#[test]
fn a_date_of_the_member_is_kept() {
    let (address, _) = saying("HTTP/1.1 204 No Content\r\nDate: then\r\n\r\n");
    let bed = Bed::http(&[address]).started();
    let answer = Talk::to(bed.vip).get("/");
    assert_eq!(answer.all("date"), ["then"]);
    assert_eq!(answer.header("content-length"), None);
}

#[test]
fn old_clients_may_keep_their_connection() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for path in ["/a", "/b"] {
        client.send(&format!(
            "GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
        ));
        let answer = client.read(Expect::Answer);
        assert_eq!(answer.start, "HTTP/1.0 200 OK");
        assert_eq!(
            (answer.text(), answer.header("connection")),
            (path, Some("keep-alive"))
        );
    }
    client.send("GET /c HTTP/1.0\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).text(), "/c");
    assert!(client.try_read(Expect::Answer).is_none());
}

#[test]
fn one_empty_line_ahead_of_a_request_is_passed_over() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for text in [
        "\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r",
        "\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        client.send(text);
        if text.ends_with("\r\n\r\n") {
            assert_eq!(client.read(Expect::Answer).text(), "/a");
        }
    }
    client.send("\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 400);
}

#[test]
fn the_faults_of_a_head_have_their_status_and_a_reason() {
    let (address, connections) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(40_000));
    let fields = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
    for (text, status, reason) in [
        ("GET / HTTP/1.1\nHost: h\n\n", 400, "CR LF"),
        ("GET / HTTP/1.2\r\nHost: h\r\n\r\n", 505, "version"),
        (long.as_str(), 414, "target"),
        (fields.as_str(), 431, "too many fields"),
        ("\x16\x03\x01", 400, "method"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            400,
            "twice",
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
            "both",
        ),
    ] {
        let mut client = Talk::to(bed.vip);
        client.send(text);
        let answer = client.read(Expect::Answer);
        assert_eq!(answer.status(), status, "{text:?}");
        assert!(answer.text().contains(reason), "{}", answer.text());
        let cause = match status {
            414 | 431 => "client_head_too_large",
            _ => "client_bad_request",
        };
        assert_eq!(answer.header("x-krater-cause"), Some(cause));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.try_read(Expect::Answer).is_none());
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

#[test]
fn a_head_that_comes_byte_by_byte_gets_its_time_once() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).with(|spec| spec.listeners[0].timeouts.client_data_ms = 300);
    let mut client = Talk::to(bed.vip);
    client.send("GET / HTTP/1.1\r\nX: ");
    let start = Instant::now();
    let mut stream = client.stream.get_ref().try_clone().unwrap();
    // Ends with the connection; far more often than the timeout, had each byte begun it anew.
    let dripping = thread::spawn(move || {
        while stream.write_all(b"x").is_ok() && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(client.read(Expect::Answer).status(), 408);
    drop(client);
    dripping.join().unwrap();
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn a_malformed_body_is_refused_and_its_connection_ended() {
    let bed = Bed::http(&[http_member(|_| ok("never"))]).started();
    let mut client = Talk::to(bed.vip);
    client
        .send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\n");
    let answer = client.read(Expect::Answer);
    assert_eq!(
        (answer.status(), answer.header("x-krater-cause")),
        (400, Some("client_bad_request"))
    );
    assert!(client.try_read(Expect::Answer).is_none());
    let world = bed.plane.world();
    let member = &world.pools.values().next().unwrap().members[0];
    assert_eq!(member.meter.sum(|lane| &lane.response_errors), 0);
}

#[test]
fn what_a_member_says_unasked_is_never_an_answer() {
    let (address, connections) = saying(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
    );
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..5 {
        assert_eq!(client.get("/").text(), "ok");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

#[test]
fn answers_that_are_malformed_or_without_end_come_to_a_502() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (address, _) = saying(answer);
        let bed = Bed::http(&[address]).started();
        assert_eq!(Talk::to(bed.vip).get("/").status(), 502, "{answer:?}");
    }
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        talk.send(&format!("{hints}{}", ok("x")));
        talk.try_read(Expect::Request);
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    let mut answer = client.get("/");
    while answer.status() < 200 {
        answer = client.read(Expect::Answer);
    }
    assert_eq!(answer.status(), 502);
}

#[test]
fn an_answer_that_breaks_off_ends_the_connection_with_a_reset() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0x0\r\n\r\n",
    ] {
        let bed = Bed::http(&[member(move |stream| {
            let mut talk = Talk::over(stream);
            talk.read(Expect::Request);
            talk.send(answer);
        })])
        .started();
        // Without a length of its own only a reset tells an old client that something is missing.
        let mut client = Talk::to(bed.vip);
        client.send("GET / HTTP/1.0\r\n\r\n");
        let (text, ended) = rest(&mut client);
        assert!(!ended, "{text}");
        assert_eq!(bed.listener().counters.request_errors, 0);
    }
}

#[test]
fn a_connection_to_a_member_that_answered_early_is_not_used_again() {
    let (address, connections) = counting(|mut talk| {
        let mut line = String::new();
        while talk.stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.ends_with("\r\n\r\n") {
                talk.send(&ok("early"));
                line.clear();
            }
        }
    });
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(client.read(Expect::Answer).text(), "early");
    assert!(client.try_read(Expect::Answer).is_none(), "half a request");
    assert_eq!(Talk::to(bed.vip).get("/").text(), "early");
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[test]
fn a_body_that_nobody_wanted_does_not_become_a_request() {
    let bed = Bed::http(&[]).started();
    let mut client = Talk::to(bed.vip);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    ));
    assert_eq!(client.read(Expect::Answer).status(), 503);
    // All of it was there, so the connection goes on with what follows.
    assert_eq!(client.get("/").status(), 503);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 503);
    assert!(client.try_read(Expect::Answer).is_none());
    let world = bed.plane.world();
    let listener = world.listeners.values().next().unwrap();
    assert_eq!(listener.shared.meter.sum(|lane| &lane.requests), 3);
}

#[test]
fn trailers_that_were_announced_reach_those_who_take_them() {
    let text = "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\nabc\r\n0\r\nX-Sum: 7\r\nX-Other: 8\r\nX-Forwarded-For: 9\r\n\r\n";
    let (address, _) = saying(text);
    let bed = Bed::http(&[address]).started();
    for (te, end) in [
        ("TE: trailers\r\n", "0\r\nx-sum: 7\r\n\r\n"),
        ("", "0\r\n\r\n"),
    ] {
        let mut client = Talk::to(bed.vip);
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{te}Connection: close\r\n\r\n"
        ));
        let (text, _) = rest(&mut client);
        assert!(text.ends_with(&format!("3\r\nabc\r\n{end}")), "{text}");
    }
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        let mut seen = vec![];
        while !seen.ends_with(b"x-sum: 7\r\n\r\n") {
            let mut byte = [0];
            talk.stream.read_exact(&mut byte).unwrap();
            seen.extend(byte);
        }
        let text = String::from_utf8(seen).unwrap();
        talk.send(&ok(text.split_once("\r\n\r\n").unwrap().1));
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;a=b\r\nabc\r\n0\r\nHost: evil\r\nX-Sum: 7\r\n\r\n",
    );
    assert_eq!(
        client.read(Expect::Answer).text(),
        "3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"
    );
}

#[test]
fn many_small_chunks_arrive_whole() {
    let body: String = (0..5_000).map(|n| format!("1\r\n{}\r\n", n % 10)).collect();
    let text: &'static str =
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n").leak();
    let (address, connections) = saying(text);
    let bed = Bed::http(&[address]).started();
    let mut client = Talk::to(bed.vip);
    let expected: String = (0..5_000).map(|n| (n % 10).to_string()).collect();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), expected);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_client_that_ends_its_sending_while_an_answer_comes_is_gone() {
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        talk.try_read(Expect::Request);
    })])
    .started();
    let mut client = connect(bed.vip);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    let mut seen = vec![];
    while !seen.ends_with(b"abc") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        seen.extend(byte);
    }
    client.shutdown(Shutdown::Write).unwrap();
    eventually("the connection ends", || {
        bed.listener().counters.active_connections == 0
    });
}
