//! Whoever takes its time: every wait for a peer ends, however it is drawn out.

use std::{io::Write, net::TcpStream, thread, time::Duration};

use serde_json::json;

use crate::ground::{Ground, connect, read_to_end, show, statuses};

/// A listener that waits for clients a quarter of a second at most.
fn impatient() -> Ground {
    Ground::new(&json!({"timeouts": {"client_data_ms": 250}}))
}

/// Sends `bytes` over and over, one at a time and each well within the timeout, until somebody has had enough. What was
/// said to it then.
fn dribble(mut stream: TcpStream, bytes: &'static [u8]) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("another handle");
    let dribbling = thread::spawn(move || {
        for byte in bytes.iter().cycle() {
            if writer.write_all(&[*byte]).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    });
    let (answer, _) = read_to_end(&mut stream);
    // Closed on the other side, it gets to know sooner or later.
    drop(stream);
    dribbling.join().expect("the dribbler");
    answer
}

#[test]
fn a_head_has_to_be_there_in_time_however_often_a_byte_of_it_comes() {
    let ground = impatient();
    for begin in [
        "",
        "GET ",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: ",
    ] {
        let mut stream = connect();
        stream.write_all(begin.as_bytes()).expect("a beginning");
        let answer = dribble(stream, b"a");
        assert_eq!(statuses(&answer), [408], "{begin:?}: {}", show(&answer));
    }
    let mut stream = connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n")
        .expect("a beginning");
    assert_eq!(statuses(&dribble(stream, b"X: y\r\n")), [408]);
    assert!(ground.member.take().is_empty());
}

#[test]
fn a_second_head_has_its_own_time() {
    let _ground = impatient();
    let mut stream = connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nX: ")
        .expect("a request and a beginning");
    assert_eq!(statuses(&dribble(stream, b"a")).last(), Some(&408));
}

#[test]
fn whoever_says_nothing_is_let_go() {
    let _ground = impatient();
    let (answer, in_order) = read_to_end(&mut connect());
    assert!(answer.is_empty() && in_order);
}

#[test]
fn a_body_has_to_move_on() {
    let _ground = impatient();
    for (lines, rest) in [
        ("Content-Length: 100", ""),
        ("Content-Length: 100", "a"),
        ("Transfer-Encoding: chunked", ""),
        ("Transfer-Encoding: chunked", "5\r\nab"),
        ("Transfer-Encoding: chunked", "0\r\nX: y\r\n"),
    ] {
        let mut stream = connect();
        let request = format!("POST / HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n{rest}");
        stream.write_all(request.as_bytes()).expect("a beginning");
        assert_eq!(
            statuses(&read_to_end(&mut stream).0),
            [408],
            "{lines} {rest:?}"
        );
    }
    // What is no body does not get its time.
    let mut stream = connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("the head");
    assert_eq!(statuses(&dribble(stream, b"0")), [400]);
}
