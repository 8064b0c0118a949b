//! Interim answers on their way to clients, and what else is passed on as it is.

use std::{future::poll_fn, sync::mpsc};

use http::{HeaderMap, StatusCode};

use super::{streams::*, *};

/// A member that answers with what `before` says ahead of the answer itself.
fn hinting(before: String) -> SocketAddr {
    http_member(move |request| format!("{before}{}", ok(request.text())))
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-hop\r\nX-Hop: 1\r\n\
    Content-Length: 9\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";

#[test]
fn interim_answers_are_passed_on_in_order_to_those_who_know_them() {
    let bed = Bed::http(&[hinting(HINTS.to_owned())]).started();
    let mut client = Talk::to(bed.vip);
    for _ in 0..2 {
        let hint = client.get("/");
        assert_eq!(hint.start, "HTTP/1.1 103 Early Hints");
        assert_eq!(hint.headers, [("link".to_owned(), "</a>".to_owned())]);
        assert_eq!(client.read(Expect::Answer).start, "HTTP/1.1 102 Processing");
        assert_eq!(client.read(Expect::Answer).status(), 200);
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 200, "an old one");
    with_client(bed.vip, async |client| {
        let mut client = client.ready().await.unwrap();
        let request = to("GET", "/").body(()).unwrap();
        let (mut answer, _) = client.send_request(request, true).unwrap();
        let mut told = Vec::new();
        while let Some(hint) = poll_fn(|cx| answer.poll_informational(cx)).await {
            let hint = hint.unwrap();
            told.push((hint.status().as_u16(), hint.headers().len()));
        }
        assert_eq!(told, [(103, 1), (102, 0)]);
        assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    });
}

#[test]
fn an_interim_answer_is_passed_on_when_it_comes() {
    let (seen, heard) = mpsc::channel::<()>();
    let heard = std::sync::Mutex::new(heard);
    let bed = Bed::http(&[member(move |stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        heard.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        talk.send(&ok("x"));
    })])
    .started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/").status(), 103);
    seen.send(()).unwrap();
    assert_eq!(client.read(Expect::Answer).text(), "x");
}

#[test]
fn a_client_is_told_once_to_go_on() {
    let bed = Bed::http(&[hinting("HTTP/1.1 100 Continue\r\n\r\n".repeat(3))]).started();
    let mut client = Talk::to(bed.vip);
    assert_eq!(client.get("/").status(), 100);
    assert_eq!(client.read(Expect::Answer).status(), 200);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(client.read(Expect::Answer).status(), 100);
    client.send("body");
    assert_eq!(client.read(Expect::Answer).text(), "body");
    with_client(bed.vip, async |client| {
        let mut client = client.ready().await.unwrap();
        let request = to("GET", "/").body(()).unwrap();
        let (mut answer, _) = client.send_request(request, true).unwrap();
        let mut told = 0;
        while poll_fn(|cx| answer.poll_informational(cx)).await.is_some() {
            told += 1;
        }
        assert_eq!((told, answer.await.unwrap().status().as_u16()), (1, 200));
    });
}

#[test]
fn hints_are_few_and_small() {
    let large = format!(
        "HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n",
        "x".repeat(6_000)
    );
    let bed = Bed::http(&[hinting(large.repeat(4))]).started();
    let mut client = Talk::to(bed.vip);
    let mut hints = 0;
    let mut answer = client.get("/");
    while answer.status() < 200 {
        hints += 1;
        answer = client.read(Expect::Answer);
    }
    assert_eq!((hints, answer.status()), (2, 200), "16 KiB of them");
}

#[test]
fn the_context_of_a_trace_is_passed_on_as_it_came_and_never_made_up() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).started();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    // Whatever it is: who reads it judges it.
    for (parent, state) in [
        (parent, "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
        ("99-nonsense", "x"),
    ] {
        let mut client = Talk::to(bed.vip);
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: h\r\nTraceparent: {parent}\r\nTracestate: {state}\r\nTracestate: more=1\r\n\r\n"
        ));
        let seen = client.read(Expect::Answer);
        let told = format!("traceparent: {parent}\ntracestate: {state}\ntracestate: more=1\n");
        assert!(seen.text().contains(&told), "{}", seen.text());
        with_client(bed.vip, async |client| {
            let request = to("GET", "/")
                .header("traceparent", parent)
                .header("tracestate", state)
                .header("tracestate", "more=1");
            let seen = ask(&client, request, b"", None).await.unwrap();
            assert!(text(&seen).contains(&told), "{}", text(&seen));
        });
    }
    assert!(!Talk::to(bed.vip).get("/").text().contains("trace"));
}

#[test]
fn answers_by_http2_say_when_they_were_made() {
    let silent = Bed::http(&[]).started();
    let dated = format!("HTTP/1.1 200 OK\r\nDate: {THEN}\r\nContent-Length: 0\r\n\r\n");
    let bed = Bed::http(&[http_member(move |request| {
        if request.start.contains("/dated") {
            dated.clone()
        } else {
            ok("x")
        }
    })])
    .started();
    let date = |headers: &HeaderMap| headers["date"].to_str().unwrap().to_owned();
    for (bed, path, status) in [(&silent, "/", 503), (&bed, "/", 200), (&bed, "/dated", 200)] {
        with_client(bed.vip, async |client| {
            let answer = ask(&client, to("GET", path), b"", None).await.unwrap();
            assert_eq!(answer.0.status().as_u16(), status);
            assert_eq!(answer.0.headers().get_all("date").iter().count(), 1);
            assert_eq!(date(answer.0.headers()) == THEN, path == "/dated");
        });
    }
}

const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
