//! Every timeout of a listener acts, and the cause is named.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use krater_tests::{HttpMember, TcpMember, fetch};
use serde_json::json;

use crate::scene::{SETTLE_MAX, Scene, listener_json, member_json};

#[test]
fn a_member_that_does_not_answer_in_time_costs_a_504() {
    let mut scene = Scene::up();
    let member = HttpMember::start("slow", "127.0.0.1:0");
    // Longer than the client waits.
    member.set_delay(Duration::from_secs(60));
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["timeout_member_data"] = json!(300);
    let tree = scene.tree(&json!([listener]));
    let answer = fetch(tree.at(80), "/").expect("an answer");
    assert_eq!(answer.status, 504, "{}", answer.text());
}

#[test]
fn an_idle_stream_is_closed_after_the_client_data_timeout() {
    let mut scene = Scene::up();
    let member = TcpMember::start("echo", "127.0.0.1:0");
    let pool = json!({"protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("TCP", 90, &pool);
    listener["timeout_client_data"] = json!(2_000);
    let tree = scene.tree(&json!([listener]));
    let mut stream = TcpStream::connect(tree.at(90)).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    // Bytes every now and then keep it open for longer than the timeout.
    let mut received = [0; 64];
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        stream
            .write_all(b"x")
            .expect("the stream is open while it is used");
        assert!(
            stream.read(&mut received).expect("the echo") > 0,
            "closed while it was used"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    // The end may come as a close or as a reset.
    let end = loop {
        match stream.read(&mut received) {
            Ok(1..) => {}
            end => break end,
        }
    };
    assert!(ended(&end), "{end:?}");
}

#[test]
fn a_request_head_that_never_ends_is_not_waited_for() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["timeout_client_data"] = json!(400);
    let tree = scene.tree(&json!([listener]));
    let mut stream = TcpStream::connect(tree.at(80)).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: krater.test\r\n")
        .expect("half a head");
    let mut answer = String::new();
    let end = stream.read_to_string(&mut answer);
    assert!(ended(&end), "{end:?}");
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
}

/// Whether the other side has ended the connection, and nobody's patience.
fn ended(end: &std::io::Result<usize>) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    !matches!(end, Err(error) if matches!(error.kind(), TimedOut | WouldBlock))
}
