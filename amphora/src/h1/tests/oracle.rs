//! hyper reads the same bytes: whatever is accepted here is accepted there and means the same.

use std::{cell::RefCell, convert::Infallible, rc::Rc};

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::{collection::vec, prelude::*, sample::select};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    runtime::{Builder, Runtime},
};

use super::*;

/// A message as somebody understood it.
#[derive(Debug, PartialEq, Eq)]
struct Read {
    /// Method and target, or status and reason.
    start: (String, Vec<u8>),
    version: Version,
    fields: HeaderMap,
    /// `None` if it broke off.
    body: Option<Vec<u8>>,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

/// The first request as hyper reads it; `None` if it refuses.
fn hyper_request(runtime: &Runtime, bytes: &[u8]) -> Option<Read> {
    let seen = Rc::new(RefCell::new(None));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.ok();
            seen.borrow_mut().get_or_insert(Read {
                start: (parts.method.to_string(), parts.uri.to_string().into_bytes()),
                version: parts.version,
                fields: parts.headers,
                body: body.map(|body| body.to_bytes().to_vec()),
            });
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    runtime.block_on(async {
        let (mut near, far) = duplex(1 << 20);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let serving = server::conn::http1::Builder::new()
            .half_close(true)
            .max_header_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(far), service);
        // How it ends is not asked for.
        let _ = serving.await;
    });
    seen.take()
}

/// The answer as hyper reads it; `None` if it refuses.
fn hyper_answer(runtime: &Runtime, bytes: &[u8], method: Method) -> Option<Read> {
    runtime.block_on(async {
        let (mut near, far) = duplex(1 << 20);
        let (mut sender, connection) =
            client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(far))
                .await
                .unwrap();
        let mut request = Request::new(Empty::new());
        *request.method_mut() = method;
        let exchange = async {
            let answer = sender.send_request(request).await.ok()?;
            let (parts, body) = answer.into_parts();
            let body = body.collect().await.ok();
            let reason = parts.extensions.get::<hyper::ext::ReasonPhrase>();
            Some(Read {
                start: (
                    parts.status.to_string(),
                    reason.map_or(vec![], |reason| reason.as_bytes().to_vec()),
                ),
                version: parts.version,
                fields: parts.headers,
                body: body.map(|body| body.to_bytes().to_vec()),
            })
        };
        let member = async {
            // Answers may come only once something was asked.
            let mut sink = [0; 1024];
            let _ = near.read(&mut sink).await.unwrap();
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
        };
        let (answer, ..) = tokio::join!(exchange, member, connection);
        answer
    })
}

fn our_request(bytes: &[u8]) -> Option<Read> {
    let (head, end) = read_request(bytes).ok()??;
    let body = body_of(head.framing, &[&bytes[end..]]);
    Some(Read {
        start: (
            head.parts.method.to_string(),
            head.parts.uri.to_string().into_bytes(),
        ),
        version: head.parts.version,
        fields: head.parts.headers,
        body: body.ok().map(|(body, ..)| body),
    })
}

fn our_answer(bytes: &[u8], asked: Asked) -> Option<Read> {
    let (head, end) = read_answer(bytes, asked).ok()??;
    let body = body_of(head.framing, &[&bytes[end..]]);
    let reason = head.parts.extensions.get::<hyper::ext::ReasonPhrase>();
    Some(Read {
        start: (
            head.parts.status.to_string(),
            reason.map_or(vec![], |reason| reason.as_bytes().to_vec()),
        ),
        version: head.parts.version,
        fields: head.parts.headers,
        body: body.ok().map(|(body, ..)| body),
    })
}

/// Mostly the first, sometimes the others.
fn mostly(usual: &[&'static str], odd: &[&'static str]) -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(usual.to_vec()).prop_map(str::to_owned),
        1 => select(odd.to_vec()).prop_map(str::to_owned),
    ]
}

fn fields() -> impl Strategy<Value = String> {
    let framing = mostly(
        &[
            "",
            "Content-Length: 4",
            "Transfer-Encoding: chunked",
            "Content-Length: 0",
            "Transfer-Encoding: Chunked ",
            "content-length:4",
        ],
        &[
            "Content-Length: 4\r\nContent-Length: 4",
            "Content-Length: 4, 4",
            "Content-Length: 4\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 4",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: \x0bchunked",
            "Transfer-Encoding : chunked",
            "Content-Length: +4",
            "Content-Length: 04",
            "Content-Length:\t4\t",
            "Content-Length: 18446744073709551615",
            "Content_Length: 4",
        ],
    );
    let other = mostly(
        &[
            "Host: h",
            "X: y",
            "X:",
            "x: \t z \t",
            "Connection: keep-alive",
            "Cookie: a=b; c",
            "X: \u{e9}",
        ],
        &[
            "X : y",
            " X: y",
            "X\t: y",
            "X",
            ": y",
            "X: a\rb",
            "X: a\0",
            "X: y\n",
            "\u{e9}: y",
            "X: a\r\n b",
            "X[]: y",
            "X: \x7f",
            "Connection: close",
            "Expect: 100-continue",
            "X: y\r",
        ],
    );
    (framing, vec(other, 0..5), any::<bool>()).prop_map(|(framing, mut others, first)| {
        if !framing.is_empty() {
            others.insert(if first { 0 } else { others.len() }, framing);
        }
        others.iter().map(|field| format!("{field}\r\n")).collect()
    })
}

fn bodies() -> impl Strategy<Value = String> {
    mostly(
        &[
            "",
            "abcd",
            "abc",
            "abcdefgh",
            "4\r\nabcd\r\n0\r\n\r\n",
            "2\r\nab\r\n0a\r\n0123456789\r\n0\r\n\r\n",
            "4;x=y\r\nabcd\r\n0\r\nT: u\r\n\r\n",
        ],
        &[
            "4 \r\nabcd\r\n0\r\n\r\n",
            "+4\r\nabcd\r\n0\r\n\r\n",
            "4\nabcd\n0\n\n",
            "4;\nabcd\r\n0\r\n\r\n",
            "4;x\r\nabcd\r\n0\r\nT : u\r\n\r\n",
            "4\r\nabcde\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
            "0\r\n\r\n0\r\n\r\n",
            "4\r\nabcd\r\n0\r\n",
            "4\r\nabcd\r\n0\r\n\n",
        ],
    )
}

fn request_texts() -> impl Strategy<Value = String> {
    let line = mostly(
        &[
            "GET / HTTP/1.1",
            "POST /a?b HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET http://h/x HTTP/1.1",
            "HEAD /%20[]{} HTTP/1.0",
            "PURGE /\"<>|\\^` HTTP/1.1",
        ],
        &[
            "GET /  HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.2",
            "GET / HTTP/2.0",
            "GET /a#b HTTP/1.1",
            "GET /\u{e9} HTTP/1.1",
            "GET /\t HTTP/1.1",
            "GET /",
            "G@T / HTTP/1.1",
            "\r\nGET / HTTP/1.1",
            "GET h:1 HTTP/1.1",
            "CONNECT h:1 HTTP/1.1",
            "GET //h/../x HTTP/1.1",
            "GET ?x HTTP/1.1",
        ],
    );
    (line, fields(), bodies())
        .prop_map(|(line, fields, body)| format!("{line}\r\n{fields}\r\n{body}"))
}

fn answer_texts() -> impl Strategy<Value = String> {
    let line = mostly(
        &[
            "HTTP/1.1 200 OK",
            "HTTP/1.1 404 Nothing",
            "HTTP/1.0 200 OK",
            "HTTP/1.1 204 No Content",
            "HTTP/1.1 304 Not Modified",
            "HTTP/1.1 200",
            "HTTP/1.1 200 ",
        ],
        &[
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 0200 OK",
            "HTTP/1.2 200 OK",
            "HTTP/1.1 200OK",
            "HTTP/1.1 999 X",
            "HTTP/1.1 200 A\tB",
            "\r\nHTTP/1.1 200 OK",
            "HTTP/1.1 200 A\x01",
        ],
    );
    (line, fields(), bodies())
        .prop_map(|(line, fields, body)| format!("{line}\r\n{fields}\r\n{body}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_request_that_is_accepted_means_the_same_to_hyper(text in request_texts()) {
        if let Some(ours) = our_request(text.as_bytes()).filter(|ours| ours.body.is_some()) {
            let theirs = hyper_request(&runtime(), text.as_bytes());
            prop_assert_eq!(Some(ours), theirs);
        }
    }

    #[test]
    fn an_answer_that_is_accepted_means_the_same_to_hyper(text in answer_texts(), head in any::<bool>()) {
        let (asked, method) = if head {
            (Asked::ForHead, Method::HEAD)
        } else {
            (Asked::ForBody, Method::GET)
        };
        if let Some(ours) = our_answer(text.as_bytes(), asked).filter(|ours| ours.body.is_some()) {
            let theirs = hyper_answer(&runtime(), text.as_bytes(), method);
            prop_assert_eq!(Some(ours), theirs);
        }
    }
}

/// Where this reader is the stricter one.
#[test]
fn requests_that_hyper_takes_and_that_are_refused_here() {
    let runtime = runtime();
    for text in [
        // Lines that end with LF alone.
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\nX: y\n\r\n",
        // Fragments, and bytes beyond ASCII.
        "GET /a#b HTTP/1.1\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\n\r\n",
        // Two lengths, and a length beside a coding.
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Codings below the outermost.
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        // Chunks.
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\r\na\r\n0\r\n\r\n",
    ] {
        let theirs = hyper_request(&runtime, text.as_bytes());
        assert!(theirs.is_some_and(|read| read.body.is_some()), "{text:?}");
        let ours = our_request(text.as_bytes());
        assert!(ours.is_none_or(|read| read.body.is_none()), "{text:?}");
    }
}

/// The same for answers.
#[test]
fn answers_that_hyper_takes_and_that_are_refused_here() {
    let runtime = runtime();
    for text in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na",
    ] {
        let theirs = hyper_answer(&runtime, text.as_bytes(), Method::GET);
        assert!(theirs.is_some_and(|read| read.body.is_some()), "{text:?}");
        let ours = our_answer(text.as_bytes(), Asked::ForBody);
        assert!(ours.is_none_or(|read| read.body.is_none()), "{text:?}");
    }
}
