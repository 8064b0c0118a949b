//! Answers of members that are hostile or broken: none is made to look whole, none reaches another client, and no
//! connection is used again that was left in doubt.

use std::sync::{Arc, Mutex};

use serde_json::json;

use krater_tests::frames::{self, Framed, flag, kind};

use crate::ground::{Ground, Wiretap, converse, find, show, vip};

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Got {
    /// An answer with that status and body.
    Whole(u16, &'static str),
    /// The beginning of an answer, and then the end of the connection where more was announced.
    Cut(u16),
}

use Got::{Cut, Whole};

/// What the member does after it has sent its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Closes,
    Waits,
}

use Then::{Closes, Waits};

/// Whether the connection may carry another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    Yes,
    No,
}

struct Stage {
    ground: Ground,
    part: Arc<Mutex<(Vec<u8>, Then)>>,
    faults: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let part = Arc::new(Mutex::new((vec![], Waits)));
        let played = Arc::clone(&part);
        let ground = Ground::serving(&json!({}), move |wiretap| play(wiretap, &played));
        Self {
            ground,
            part,
            faults: vec![],
        }
    }

    /// By both versions that clients speak.
    fn case(&mut self, method: &str, bytes: &[u8], then: Then, wanted: Got, again: Again) {
        *self.part.lock().expect("the part") = (bytes.to_vec(), then);
        let first = format!("{method} /case HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let (answer, in_order) = converse(first.as_bytes());
        let got = understood(&answer, in_order, method == "HEAD");
        let is_lost = answer.is_empty() && !in_order;
        self.judge((method, bytes), &got, is_lost, &wanted, again);
        let got = by_http2(method);
        let is_lost = got.is_err();
        self.judge((method, bytes), &got, is_lost, &wanted, again);
    }

    fn judge(
        &mut self,
        (method, bytes): (&str, &[u8]),
        got: &Understood,
        is_lost: bool,
        wanted: &Got,
        again: Again,
    ) {
        let (next, _) = converse(b"GET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        let next = understood(&next, true, false);
        let record = self.ground.member.take();
        let reused = record
            .iter()
            .any(|bytes| find(bytes, b"/case").is_some() && find(bytes, b"/next").is_some());
        let wanted = (wanted.status(), wanted.body());
        let fine = match (got, wanted.1) {
            (Ok((status, Some(body))), Some(text)) => {
                (*status, body.as_slice()) == (wanted.0, text.as_bytes())
            }
            (Ok((status, None)), None) => *status == wanted.0,
            // Broken off, even what came before may be lost on the way.
            (Err(_), None) => is_lost,
            _ => false,
        };
        let next_is_fine = matches!(&next, Ok((200, Some(body))) if body == b"next");
        if !fine || !next_is_fine || reused != (again == Again::Yes) {
            self.faults.push(format!(
                "{method} {:.300}\n  wanted {wanted:?} {again:?}\n  got {got:?}, reused: {reused}, next: {next:?}",
                show(bytes),
            ));
        }
    }

    fn get(&mut self, text: &str, then: Then, wanted: Got, again: Again) {
        self.case("GET", text.as_bytes(), then, wanted, again);
    }

    fn finish(self) {
        assert!(self.faults.is_empty(), "{}", self.faults.join("\n"));
    }
}

impl Got {
    const fn status(&self) -> u16 {
        match self {
            Whole(status, _) | Cut(status) => *status,
        }
    }

    const fn body(&self) -> Option<&'static str> {
        match self {
            Whole(_, body) => Some(body),
            Cut(_) => None,
        }
    }
}

/// The member's part.
fn play(wiretap: &mut Wiretap, part: &Mutex<(Vec<u8>, Then)>) {
    let mut held = vec![];
    while let Some(request) = wiretap.request(&mut held) {
        if find(&request, b" /next ").is_some() {
            wiretap.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
            continue;
        }
        let (bytes, then) = part.lock().expect("the part").clone();
        wiretap.send(&bytes);
        if then == Closes {
            return;
        }
    }
}

/// Status and body of an answer; no body if it was cut, and a reason where there is none.
type Understood = Result<(u16, Option<Vec<u8>>), String>;

/// The answer to a request that is made by HTTP/2. One that is cut ends with a reset.
fn by_http2(method: &str) -> Understood {
    // No table: each head says all it says.
    let mut client = Framed::to(vip(), &[(1, 0)]);
    let head = frames::block(&frames::request(method, "/case"));
    let flags = flag::END_HEADERS | flag::END_STREAM;
    client.send(&frames::frame(kind::HEADERS, flags, 1, &head));
    let (mut status, mut body, mut is_whole) = (None, vec![], false);
    for frame in client.answer(1) {
        is_whole = frame.kind != kind::RST_STREAM && frame.ends();
        match frame.kind {
            kind::HEADERS if status.is_none() => {
                status = Some(frame.status()).filter(|status| *status >= 200);
            }
            kind::DATA => body.extend(frame.payload),
            _ => {}
        }
    }
    let status = status.ok_or("no answer")?;
    Ok((status, is_whole.then_some(body)))
}

/// The answer in `bytes`.
fn understood(bytes: &[u8], in_order: bool, is_head: bool) -> Understood {
    let head_end = find(bytes, b"\r\n\r\n").ok_or("no answer")?;
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status = head[9..12].parse().map_err(|_| "no status")?;
    let rest = &bytes[head_end + 4..];
    if matches!(status, 100 | 103) {
        return understood(rest, in_order, is_head);
    }
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    if is_head || matches!(status, 204 | 304) {
        return if rest.is_empty() {
            Ok((status, Some(vec![])))
        } else {
            Err(format!("a body where none may be: {}", show(rest)))
        };
    }
    if let Some(length) = field("content-length:") {
        let length: usize = length.trim().parse().map_err(|_| "no length")?;
        if rest.len() > length {
            return Err(format!("more than announced: {}", show(rest)));
        }
        return Ok((status, (rest.len() == length).then(|| rest.to_vec())));
    }
    if field("transfer-encoding:").is_some() {
        return Ok((status, dechunked(rest)?));
    }
    Ok((status, in_order.then(|| rest.to_vec())))
}

fn dechunked(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = vec![];
    loop {
        let Some(end) = find(rest, b"\r\n") else {
            return Ok(None);
        };
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16)
            .map_err(|_| "no size")?;
        rest = &rest[end + 2..];
        if size == 0 {
            let end = find(rest, b"\r\n").map(|end| end + 2);
            return match end {
                Some(end) if end == rest.len() => Ok(Some(body)),
                _ => Ok(None),
            };
        }
        let Some(data) = rest.get(..size) else {
            return Ok(None);
        };
        body.extend(data);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
}

const BAD: Got = Whole(502, "The member broke off before it had answered.\n");

#[test]
fn answers_in_order_are_passed_on_and_their_connections_kept() {
    let mut stage = Stage::new();
    for (text, status, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
            200,
            "abcde",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            200,
            "abcde",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nabcde\r\n0\r\nX: y\r\n\r\n",
            200,
            "abcde",
        ),
        ("HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\na", 200, "a"),
        (
            "HTTP/1.1 299 Own Words\r\nContent-Length: 1\r\n\r\na",
            299,
            "a",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\na",
            404,
            "a",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            304,
            "",
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            "a",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            200,
            "a",
        ),
    ] {
        stage.get(text, Waits, Whole(status, body), Again::Yes);
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    stage.case("HEAD", head, Waits, Whole(200, ""), Again::Yes);
    for text in [
        "HTTP/1.1 200 OK\r\n\r\nabcde",
        "HTTP/1.0 200 OK\r\n\r\nabcde",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde",
    ] {
        stage.get(text, Closes, Whole(200, "abcde"), Again::No);
    }
    stage.finish();
}

#[test]
fn answers_that_could_mean_two_things_are_refused() {
    let mut stage = Stage::new();
    let chunks = "5\r\nabcde\r\n0\r\n\r\n";
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Content-Length : 5\r\n",
        " Content-Length: 5\r\n",
        "X: y\r\n Content-Length: 5\r\n",
        "X: y\r\nno field\r\n",
        "X: y\nContent-Length: 5\r\n",
        "X: a\rb\r\n",
        "X: a\0b\r\n",
        "X: a\u{1}b\r\n",
        "X\0: a\r\n",
        ": a\r\n",
    ] {
        stage.get(
            &format!("HTTP/1.1 200 OK\r\n{lines}\r\n{chunks}"),
            Waits,
            BAD,
            Again::No,
        );
    }
    for start in [
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 abc OK",
        "HTTP/1.1 099 OK",
        "HTTP/1.1",
        "HTTP/1.1 ",
        "HTTP/2.0 200 OK",
        "HTTP/0.9 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1\t200 OK",
        "HTTP/1.1 200OK",
        "ICY 200 OK",
        "200 OK",
        "HTTP/1.1 200 O\0K",
        "\r\nHTTP/1.1 200 OK",
        "garbage",
        "HTTP/1.1 200 OK\nX: y",
    ] {
        stage.get(
            &format!("{start}\r\nContent-Length: 0\r\n\r\n"),
            Waits,
            BAD,
            Again::No,
        );
    }
    stage.finish();
}

#[test]
fn answers_that_end_too_early_are_never_whole() {
    let mut stage = Stage::new();
    for text in [
        "",
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        stage.get(text, Closes, BAD, Again::No);
    }
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n",
    ] {
        stage.get(text, Closes, Cut(200), Again::No);
    }
    for body in [
        "5\r\nabcdef\r\n0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "x\r\n",
        "-1\r\na\r\n",
        "fffffffffffffffff\r\na",
        "5\r\nabcde0\r\n\r\n",
        "5;\n\r\nabcde\r\n0\r\n\r\n",
        " 5\r\nabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nno field\r\n\r\n",
        "5\r\nabcde\r\n\r\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        stage.get(&text, Waits, Cut(200), Again::No);
    }
    stage.finish();
}

#[test]
fn what_nobody_asked_for_reaches_nobody() {
    let mut stage = Stage::new();
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (answer, status, body) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde",
            200,
            "abcde",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
            204,
            "",
        ),
        ("HTTP/1.1 304 Not Modified\r\n\r\n", 304, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            200,
            "abcde",
        ),
    ] {
        for more in [evil, "x", "\r\n", "\n", "0\r\n\r\n"] {
            stage.get(
                &format!("{answer}{more}"),
                Waits,
                Whole(status, body),
                Again::No,
            );
        }
    }
    for more in ["abcde", evil] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{more}");
        stage.case("HEAD", text.as_bytes(), Waits, Whole(200, ""), Again::No);
    }
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    stage.get(&format!("{switching}{evil}"), Waits, BAD, Again::No);
    let endless = "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n".repeat(1_000);
    stage.get(&format!("{endless}{evil}"), Waits, BAD, Again::No);
    stage.finish();
}

#[test]
fn answers_are_not_longer_than_is_served() {
    let mut stage = Stage::new();
    let bomb = |lines: String| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
    stage.get(&bomb("X: y\r\n".repeat(200)), Waits, BAD, Again::No);
    stage.get(&bomb("X: y\r\n".repeat(50_000)), Waits, BAD, Again::No);
    stage.get(
        &bomb(format!("X: {}\r\n", "y".repeat(100_000))),
        Waits,
        BAD,
        Again::No,
    );
    stage.get(
        &format!("HTTP/1.1 200 {}", "a".repeat(100_000)),
        Waits,
        BAD,
        Again::No,
    );
    stage.finish();
}
