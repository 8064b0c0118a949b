//! Clients that speak HTTP/2.

use std::{future::poll_fn, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::{net::TcpStream as Socket, runtime};

use super::{frames::*, *};
use crate::testbed::connect;

/// What came of a request: head, body, trailers.
pub(super) type Answer = (Response<()>, Vec<u8>, HeaderMap);

/// Runs `test` with a client of a library.
pub(super) fn with_client<F: Future<Output = ()>>(
    vip: SocketAddr,
    test: impl FnOnce(h2::client::SendRequest<Bytes>) -> F,
) {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let socket = Socket::connect(vip).await.unwrap();
        let mut builder = h2::client::Builder::new();
        let greeting = builder.initial_max_send_streams(100).handshake(socket);
        let (client, connection) = greeting.await.unwrap();
        tokio::spawn(connection);
        tokio::time::timeout(PATIENCE, test(client)).await.unwrap();
    });
}

pub(super) fn to(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("http://example{path}"))
}

/// Sends one request, its body in pieces, and its trailers.
pub(super) async fn ask(
    client: &h2::client::SendRequest<Bytes>,
    request: http::request::Builder,
    body: &[u8],
    trailers: Option<HeaderMap>,
) -> Result<Answer, h2::Error> {
    let mut client = client.clone().ready().await?;
    let bodiless = body.is_empty() && trailers.is_none();
    let (answer, mut sender) = client.send_request(request.body(()).unwrap(), bodiless)?;
    let mut body = Bytes::copy_from_slice(body);
    let sending = async {
        while !body.is_empty() {
            sender.reserve_capacity(body.len());
            if poll_fn(|cx| sender.poll_capacity(cx)).await.is_none() {
                return;
            }
            let room = sender.capacity().min(body.len());
            let last = room == body.len() && trailers.is_none();
            if sender.send_data(body.split_to(room), last).is_err() {
                return;
            }
        }
        if let Some(trailers) = trailers {
            let _ = sender.send_trailers(trailers);
        }
    };
    let reading = async {
        let (head, mut body) = answer.await?.into_parts();
        let mut all = Vec::new();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
            all.extend(data);
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        Ok((Response::from_parts(head, ()), all, trailers))
    };
    tokio::join!(sending, reading).1
}

pub(super) fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.1).unwrap()
}

#[test]
fn many_requests_at_once_are_answered_each_with_its_own() {
    let bed = Bed::http(&[member(|stream| paths(Talk::over(stream)))]).started();
    with_client(bed.vip, async |client| {
        let paths: Vec<_> = (0..300)
            .map(|n| format!("/{n}?{}", "x".repeat(n)))
            .collect();
        let asked = paths
            .iter()
            .map(|path| ask(&client, to("GET", path), b"", None));
        let answers = futures_util::future::join_all(asked).await;
        for (path, answer) in paths.iter().zip(answers) {
            let answer = answer.unwrap();
            assert_eq!(
                (answer.0.status().as_u16(), text(&answer)),
                (200, path.as_str())
            );
        }
    });
    let listener = bed.plane.world();
    let meter = &listener.listeners.values().next().unwrap().shared.meter;
    assert_eq!(meter.sum(|lane| &lane.requests), 300);
    assert_eq!(meter.counters().total_connections, 1);
}

#[test]
fn a_member_gets_a_request_of_http1_written_anew() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).with(|spec| {
        spec.listeners[0].insert_headers.x_forwarded_proto = true;
    });
    with_client(bed.vip, async |client| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "9".parse().unwrap());
        let request = to("POST", "/a?b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .header("x-own", "kept");
        let answer = ask(&client, request, b"body", Some(trailers))
            .await
            .unwrap();
        assert_eq!(
            text(&answer),
            "POST /a?b HTTP/1.1\ncookie: a=1; b=2\nhost: example\ntrailer: x-sum\nx-own: kept\n\
             transfer-encoding: chunked\nx-forwarded-proto: http\nx-sum: 9\n\nbody"
        );
        let request = to("PUT", "/").header("content-length", "4");
        let answer = ask(&client, request, b"body", None).await.unwrap();
        assert!(
            text(&answer).contains("content-length: 4\n"),
            "{}",
            text(&answer)
        );
        let answer = ask(&client, Request::options("http://example/*"), b"", None).await;
        assert!(text(&answer.unwrap()).starts_with("OPTIONS /* HTTP/1.1\n"));
    });
}

#[test]
fn large_bodies_and_trailers_pass_both_ways_by_http2() {
    let body = pattern(6 << 20);
    let bed = Bed::http(&[member(|stream| {
        let mut talk = Talk::over(stream);
        while let Some(request) = talk.try_read(Expect::Request) {
            let length = request.body.len();
            talk.send("HTTP/1.1 200 OK\r\nTrailer: x-length\r\nTransfer-Encoding: chunked\r\n\r\n");
            for chunk in request.body.chunks(100_000) {
                talk.send(&format!("{:x}\r\n", chunk.len()));
                talk.stream.get_mut().write_all(chunk).unwrap();
                talk.send("\r\n");
            }
            talk.send(&format!("0\r\nx-length: {length}\r\n\r\n"));
        }
    })])
    .started();
    with_client(bed.vip, async |client| {
        let asked = (0..3).map(|_| ask(&client, to("POST", "/"), &body, None));
        for answer in futures_util::future::join_all(asked).await {
            let (_, back, trailers) = answer.unwrap();
            assert!(back == body, "the body came back changed");
            assert_eq!(trailers["x-length"], body.len().to_string());
        }
        let head = ask(&client, to("HEAD", "/"), b"", None).await;
        assert!(head.is_ok());
    });
}

/// Sends one request with these fields and, if there is one, that body, and answers how its stream ended: with a status,
/// or with a code for it or the whole connection.
fn refusal(bed: &Bed, fields: &[(&str, &str)], body: Option<&[u8]>) -> Result<u16, u32> {
    let mut client = Framed::to(bed.vip, &[]);
    let flags = END_HEADERS | if body.is_none() { END_STREAM } else { 0 };
    client.send(&frame(HEADERS, flags, 1, &block(fields)));
    if let Some(body) = body {
        client.send(&frame(DATA, END_STREAM, 1, body));
    }
    let first = client.next_of(&[HEADERS, RST_STREAM, GOAWAY]).unwrap();
    if first.kind == HEADERS {
        Ok(first.status())
    } else {
        Err(first.code())
    }
}

#[test]
fn requests_that_contradict_themselves_reach_no_member() {
    let (address, connections) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let with = |extra: &[(&'static str, &'static str)]| {
        let mut fields = request("GET", "/");
        fields.extend(extra);
        fields
    };
    const PROTOCOL_ERROR: u32 = 1;
    for fields in [
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("X-Upper", "case")]),
        with(&[(":path", "/again")]),
        with(&[("content-length", "1")]),
        with(&[("content-length", "0"), ("content-length", "1")]),
        with(&[("content-length", "-1")]),
        request("GET", ""),
        request("GET", "/")[1..].to_vec(),
    ] {
        assert_eq!(
            refusal(&bed, &fields, None),
            Err(PROTOCOL_ERROR),
            "{fields:?}"
        );
    }
    let fields = with(&[("content-length", "3")]);
    for body in [&b"ab"[..], b"abcd"] {
        assert_eq!(refusal(&bed, &fields, Some(body)), Err(PROTOCOL_ERROR));
    }
    for fields in [
        with(&[("host", "other")]),
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/")],
        vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "u@h"),
            (":path", "/"),
        ],
        request("GET", "*"),
        vec![(":method", "CONNECT")],
        with(&[("x-a", " led")]),
        with(&[("x-a", "followed\t")]),
    ] {
        assert_eq!(
            refusal(&bed, &fields, None),
            Err(PROTOCOL_ERROR),
            "{fields:?}"
        );
    }
    let connect = refusal(&bed, &[(":method", "CONNECT"), (":authority", "h:1")], None);
    assert_eq!(connect, Ok(405));
    let extended = [&request("CONNECT", "/")[..], &[(":protocol", "websocket")]].concat();
    assert_eq!(refusal(&bed, &extended, None), Err(PROTOCOL_ERROR));
    // The bodies that were too short or too long may have been begun, and were broken off.
    assert!(connections.load(Ordering::SeqCst) <= 2);
    let world = bed.plane.world();
    let member = &world.pools.values().next().unwrap().members[0];
    assert_eq!(member.meter.totals().responses[1], 0);
}

#[test]
fn heads_that_are_refused_are_counted_and_refusals_of_head_have_no_body() {
    let bed = Bed::http(&[nobody()]).started();
    let mut fields = request("GET", "/");
    fields.push(("X-Upper", "case"));
    assert!(refusal(&bed, &fields, None).is_err());
    eventually("it is counted", || {
        bed.listener().counters.request_errors == 1
    });
    let mut client = Framed::to(bed.vip, &[]);
    let head = block(&request("HEAD", "/"));
    client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
    let answer = client.answer(1);
    assert!(answer.len() == 1 && answer[0].ends() && answer[0].status() >= 500);
}

#[test]
fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).started();
    let mut client = Framed::to(bed.vip, &[]);
    let mut fields = request("POST", "/");
    fields.extend([("expect", "100-continue"), ("content-length", "2")]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields)));
    let first = client.next_of(&[HEADERS]).unwrap();
    assert_eq!((first.status(), first.ends()), (100, false));
    client.send(&frame(DATA, END_STREAM, 1, b"ok"));
    assert!(client.answer(1).last().unwrap().ends());
}

#[test]
fn a_preface_in_pieces_is_one_and_what_only_resembles_one_is_http1() {
    let bed = Bed::http(&[member(|stream| paths(Talk::over(stream)))]).started();
    let mut client = Framed {
        stream: connect(bed.vip),
    };
    for byte in PREFACE.iter().chain(&frame(SETTINGS, 0, 0, &[])) {
        client.send(&[*byte]);
    }
    client.send(&get(1, "/"));
    assert_eq!(client.answer(1).last().unwrap().payload, b"/");
    let mut talk = Talk::over(connect(bed.vip));
    for piece in ["P", "R", "OPFIND /x HTTP/1.1\r\nHost: h\r\n\r\n"] {
        talk.send(piece);
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(talk.read(Expect::Answer).text(), "/x");
    talk.send("GET /y HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(talk.read(Expect::Answer).text(), "/y");
}

#[test]
fn upgrades_to_http2_are_not_passed_on() {
    let bed = Bed::http(&[http_member(|request| ok(&show(request)))]).started();
    let mut client = Talk::to(bed.vip);
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    let seen = client.read(Expect::Answer);
    assert_eq!(seen.text(), "GET / HTTP/1.1\nhost: h\n\n");
    client.send(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c, chat, HTTP/2.0\r\n\r\n",
    );
    let seen = client.read(Expect::Answer);
    assert_eq!(
        seen.text(),
        "GET / HTTP/1.1\nhost: h\nupgrade: chat\nconnection: upgrade\n\n"
    );
}

const ENHANCE_YOUR_CALM: u32 = 0xb;

/// What a client sends over and over, by its number.
type Flood = fn(u32) -> Vec<u8>;

#[test]
fn floods_are_ended_with_a_word() {
    let bed = Bed::http(&[member(|stream| paths(Talk::over(stream)))]).started();
    let floods: [(&str, Flood); 8] = [
        ("ping", |_| frame(PING, 0, 0, &[7; 8])),
        ("settings", |_| frame(SETTINGS, 0, 0, &[])),
        ("acknowledged pings", |_| frame(PING, ACK, 0, &[7; 8])),
        ("priority", |n| frame(2, 0, n * 2 + 1, &[0, 0, 0, 0, 7])),
        ("window", |_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", |_| frame(0xfa, 0, 0, &[])),
        ("rapid reset", |n| {
            [
                get(n * 2 + 1, "/"),
                frame(RST_STREAM, 0, n * 2 + 1, &[0, 0, 0, 8]),
            ]
            .concat()
        }),
        ("made you reset", |n| {
            let id = n * 2 + 1;
            [
                get(id, "/"),
                frame(WINDOW_UPDATE, 0, id, &[0x7f, 0xff, 0xff, 0xff]),
            ]
            .concat()
        }),
    ];
    for (name, one) in floods {
        let mut client = Framed::to(bed.vip, &[]);
        for n in 0..5_000 {
            if !client.try_send(&one(n)) {
                break;
            }
        }
        assert_eq!(client.goodbye(), Some(ENHANCE_YOUR_CALM), "{name}");
    }
    // Nobody else has noticed.
    let mut client = Framed::to(bed.vip, &[]);
    client.send(&get(1, "/"));
    assert_eq!(client.answer(1).last().unwrap().payload, b"/");
}

#[test]
fn resets_at_a_distance_are_a_flood_as_well() {
    let (address, _) = counting(paths);
    let bed = Bed::http(&[address]).started();
    let mut client = Framed::to(bed.vip, &[]);
    let mut reader = Framed {
        stream: client.stream.try_clone().unwrap(),
    };
    let reading = thread::spawn(move || reader.goodbye());
    for n in 0..5_000 {
        let id = n * 2 + 1;
        // One by one: each request is on its way when it is taken back.
        if !client.try_send(&get(id, "/")) {
            break;
        }
        thread::sleep(Duration::from_micros(200));
        if !client.try_send(&frame(RST_STREAM, 0, id, &[0, 0, 0, 8])) {
            break;
        }
    }
    assert_eq!(reading.join().unwrap(), Some(ENHANCE_YOUR_CALM));
}

#[test]
fn heads_without_end_are_refused() {
    let bed = Bed::http(&[member(|stream| paths(Talk::over(stream)))]).started();
    let mut client = Framed::to(bed.vip, &[]);
    client.send(&frame(HEADERS, END_STREAM, 1, &block(&request("GET", "/"))));
    let piece = block(&[("x-more", &"m".repeat(1_000))]);
    for _ in 0..2_000 {
        if !client.try_send(&frame(CONTINUATION, 0, 1, &piece)) {
            break;
        }
    }
    assert!(client.goodbye().is_some());
    // A little too long is answered, and the next one served.
    let mut client = Framed::to(bed.vip, &[]);
    let mut fields = request("GET", "/");
    let long = "l".repeat(12_000);
    fields.extend([("x-a", long.as_str()), ("x-b", &long), ("x-c", &long)]);
    let whole = block(&fields);
    let (first, rest) = whole.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    client.send(&frame(HEADERS, END_STREAM, 1, first));
    client.send(&frame(CONTINUATION, 0, 1, second));
    client.send(&frame(CONTINUATION, END_HEADERS, 1, third));
    let answer = client.answer(1);
    assert_eq!(answer[0].status(), 431);
    client.send(&get(3, "/next"));
    assert_eq!(client.answer(3).last().unwrap().payload, b"/next");
}

/// Timeouts short enough to wait for: client, member.
fn hasty(bed: Bed, client_ms: u32, member_ms: u32) -> Bed {
    bed.with(|spec| {
        spec.listeners[0].timeouts.client_data_ms = client_ms;
        spec.listeners[0].timeouts.member_data_ms = member_ms;
    })
}

#[test]
fn an_idle_client_is_told_to_leave_however_often_it_pings() {
    let bed = hasty(Bed::http(&[nobody()]), 300, 60_000);
    let mut client = Framed::to(bed.vip, &[]);
    let mut writer = client.stream.try_clone().unwrap();
    let pinging = thread::spawn(move || {
        while writer.write_all(&frame(PING, 0, 0, &[1; 8])).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(client.goodbye(), Some(0));
    while client.next().is_some() {}
    pinging.join().unwrap();
}

#[test]
fn requests_that_stand_still_are_given_up_one_by_one() {
    let bed = hasty(
        Bed::http(&[member(|stream| {
            let mut talk = Talk::over(stream);
            while let Some(request) = talk.try_read(Expect::Request) {
                if request.start.contains("/never") {
                    thread::sleep(PATIENCE);
                } else if request.start.contains("/large") {
                    talk.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
                    let _ = talk.stream.get_mut().write_all(&[7; 100_000]);
                } else {
                    talk.send(&ok("quick"));
                }
            }
        })]),
        1_500,
        1_000,
    );
    let mut client = Framed::to(bed.vip, &[(4, 10)]);
    let post = block(&request("POST", "/upload"));
    client.send(&get(1, "/never"));
    client.send(&get(3, "/large"));
    client.send(&frame(HEADERS, END_HEADERS, 5, &post));
    let mut writer = client.stream.try_clone().unwrap();
    let began = Instant::now();
    // Room for the whole connection, and a byte now and then for the stream: neither moves it.
    let dripping = thread::spawn(move || {
        let drip = [
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]),
            frame(WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1]),
            frame(PING, 0, 0, &[1; 8]),
        ]
        .concat();
        while began.elapsed() < Duration::from_secs(5) && writer.write_all(&drip).is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let (mut statuses, mut reset) = (Vec::new(), None);
    while statuses.len() < 3 || reset.is_none() {
        let frame = client.next_of(&[HEADERS, RST_STREAM]).unwrap();
        match frame.kind {
            HEADERS => statuses.push((frame.stream, frame.status())),
            _ if frame.stream == 3 => reset = Some(frame.code()),
            _ => {}
        }
    }
    const CANCEL: u32 = 8;
    assert_eq!(reset, Some(CANCEL));
    statuses.sort_unstable();
    assert_eq!(statuses, [(1, 504), (3, 200), (5, 408)]);
    // The connection goes on.
    client.send(&get(7, "/"));
    assert!(
        client
            .answer(7)
            .last()
            .is_some_and(|frame| frame.kind == DATA || frame.kind == HEADERS)
    );
    dripping.join().unwrap();
}

#[test]
fn a_listener_that_is_deleted_says_goodbye_and_ends_its_requests() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let mut bed = Bed::http(&[member(move |stream| {
        let mut talk = Talk::over(stream);
        while talk.try_read(Expect::Request).is_some() {
            wait.lock().unwrap().recv().unwrap();
            talk.send(&ok("late"));
        }
    })])
    .started();
    let mut client = Framed::to(bed.vip, &[]);
    client.send(&get(1, "/"));
    let world = bed.plane.world();
    let meter = &world.listeners.values().next().unwrap().shared.meter;
    eventually("the request is under way", || {
        meter.sum(|lane| &lane.requests) == 1
    });
    bed.edit(|spec| spec.listeners.clear());
    assert_eq!(client.goodbye(), Some(0));
    go.send(()).unwrap();
    assert_eq!(client.answer(1).last().unwrap().payload, b"late");
    // The engine asks whether all was heard before it closes.
    while let Some(frame_) = client.next() {
        if frame_.kind == PING {
            client.try_send(&frame(PING, ACK, 0, &frame_.payload));
        }
    }
}

#[test]
fn a_client_that_takes_nothing_holds_the_member_back() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let bed = Bed::http(&[member(move |stream| {
        let mut talk = Talk::over(stream);
        talk.read(Expect::Request);
        talk.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
        while talk.stream.get_mut().write_all(&[7; 65_536]).is_ok() {
            counted.fetch_add(65_536, Ordering::SeqCst);
        }
    })])
    .started();
    let mut client = Framed::to(bed.vip, &[(4, 0)]);
    client.send(&get(1, "/"));
    client.next_of(&[HEADERS]).unwrap();
    let mut before = usize::MAX;
    eventually("the member is held back", || {
        thread::sleep(Duration::from_millis(100));
        let now = written.load(Ordering::SeqCst);
        std::mem::replace(&mut before, now) == now
    });
    assert!(
        before < 32 << 20,
        "{before} bytes were taken from the member"
    );
    client.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]));
    client.send(&frame(PING, 0, 0, &[3; 8]));
    assert_eq!(client.next_of(&[PING]).unwrap().flags, ACK);
}
