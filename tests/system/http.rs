//! HTTP as clients write it: what a member receives is one well-formed request for each one sent, and no more.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use krater_tests::{Connection, HttpMember};
use serde_json::{Value, json};

use crate::scene::{SETTLE_MAX, Scene, Tree, body_json};

#[test]
fn a_chunked_body_arrives_whole_and_the_connection_goes_on() {
    let (scene, tree, member) = stage();
    let mut stream = connect(&tree);
    stream
        .write_all(b"POST /chunks HTTP/1.1\r\nhost: krater.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .expect("the first chunk");
    stream
        .write_all(b"6;name=value\r\n world\r\n0\r\n\r\n")
        .expect("the rest");
    let mut connection = Connection::over(stream).expect("the connection");
    let answer = connection.read_answer(false).expect("an answer");
    assert_eq!(body_json(&answer.body)["body_bytes"], 11);
    assert_eq!(connection.get("/").expect("another answer").status, 200);
    assert_eq!(member.served(), 2);
    drop(scene);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (_scene, tree, _member) = stage();
    let mut stream = connect(&tree);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: krater.test\r\n\r\n");
    stream
        .write_all((one("/1") + &one("/2") + &one("/3")).as_bytes())
        .expect("three requests");
    let mut connection = Connection::over(stream).expect("the connection");
    for path in ["/1", "/2", "/3"] {
        let answer = connection.read_answer(false).expect("an answer");
        assert_eq!(body_json(&answer.body)["path"], path);
    }
}

#[test]
fn a_head_request_has_no_body_and_keeps_the_connection() {
    let (_scene, tree, _member) = stage();
    let mut connection = Connection::open(tree.at(80)).expect("a connection");
    let answer = connection
        .request("HEAD", "/x", &[], None)
        .expect("an answer");
    assert_eq!((answer.status, answer.body.len()), (200, 0));
    assert_eq!(connection.get("/").expect("another answer").status, 200);
}

#[test]
fn an_expected_continue_is_given_before_the_body_is_sent() {
    let (_scene, tree, _member) = stage();
    let mut stream = connect(&tree);
    stream
        .write_all(b"PUT /x HTTP/1.1\r\nhost: krater.test\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .expect("the head");
    let wanted = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut interim = vec![0; wanted.len()];
    stream.read_exact(&mut interim).expect("an interim answer");
    assert_eq!(interim, wanted);
    stream.write_all(b"abc").expect("the body");
    let answer = Connection::over(stream)
        .expect("the connection")
        .read_answer(false)
        .expect("an answer");
    assert_eq!(body_json(&answer.body)["body_bytes"], 3);
}

#[test]
fn an_old_client_is_answered_and_the_connection_ends() {
    let (_scene, tree, _member) = stage();
    let mut stream = connect(&tree);
    stream
        .write_all(b"GET /old HTTP/1.0\r\n\r\n")
        .expect("the request");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("the answer and the end");
    assert!(
        answer.starts_with("HTTP/1.") && answer.contains(" 200 "),
        "{answer}"
    );
}

#[test]
fn a_request_with_two_lengths_never_becomes_two_requests() {
    for smuggled in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 44\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\nx: y\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let (_scene, tree, member) = stage();
        let mut stream = connect(&tree);
        stream
            .write_all(smuggled.as_bytes())
            .expect("the bytes are taken");
        // Nothing more may come, so there is nothing to wait for but a moment.
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a timeout");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(!answer.contains("/smuggled"), "{smuggled:?} gave {answer}");
        assert!(
            answer.starts_with("HTTP/1.1 400") || member.served() <= 1,
            "{smuggled:?} gave {answer}"
        );
    }
}

#[test]
fn a_member_never_sees_what_belongs_to_the_connection_alone() {
    let (_scene, tree, _member) = stage();
    let mut connection = Connection::open(tree.at(80)).expect("a connection");
    let headers = [
        ("connection", "x-private, keep-alive"),
        ("x-private", "1"),
        ("te", "trailers"),
        ("x-kept", "2"),
    ];
    let answer = connection
        .request("GET", "/x", &headers, None)
        .expect("an answer");
    let seen = body_json(&answer.body);
    let names: Vec<&Value> = seen["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|pair| &pair[0])
        .collect();
    assert!(
        names.contains(&&json!("x-kept")) && names.contains(&&json!("host")),
        "{names:?}"
    );
    assert!(!names.contains(&&json!("x-private")), "{names:?}");
}

fn stage() -> (Scene, Tree, HttpMember) {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    (scene, tree, member)
}

fn connect(tree: &Tree) -> TcpStream {
    let stream = TcpStream::connect(tree.at(80)).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    stream
}
