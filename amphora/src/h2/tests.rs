//! The engine against the examples of the standard, against another implementation, and frame by frame.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    frame::{
        self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Head, PADDED,
    },
    hpack::{Decoder, Malformed, Wanted},
    table::Said,
    *,
};
use crate::limits::{CONNECTION_WINDOW_BYTES, STREAM_SEND_BYTES_MAX, STREAM_WINDOW_BYTES};

/// Blocks of one connection as text, in the order in which they come.
fn fields_of(blocks: &[&str]) -> Vec<Vec<String>> {
    let mut decoder = Decoder::new();
    let mut read = |block: &str| {
        let digits: Vec<_> = block.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap())
            .collect();
        let mut fields = Vec::new();
        let outcome = decoder.read(&bytes, |said, _| {
            fields.push(match said {
                Said::Method(method) => format!(":method {method}"),
                Said::Scheme => ":scheme".to_owned(),
                Said::Authority(value) => format!(":authority {}", value.to_str().unwrap()),
                Said::Path(path) => format!(":path {path}"),
                Said::Field(name, value) => format!("{name} {}", value.to_str().unwrap()),
                Said::Wrong => "wrong".to_owned(),
            });
            Wanted::Yes
        });
        assert_eq!(outcome, Ok(Wanted::Yes));
        fields
    };
    blocks.iter().map(|block| read(block)).collect()
}

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 7541 appendices C.3 and C.4: the same requests, plain and coded.
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let authority = ":authority www.example.com";
    for blocks in [plain, coded] {
        let read = fields_of(&blocks);
        assert_eq!(read[0], [":method GET", ":scheme", ":path /", authority]);
        assert_eq!(read[1][3..], [authority, "cache-control no-cache"]);
        let third = [
            ":method GET",
            ":scheme",
            ":path /index.html",
            authority,
            "custom-key custom-value",
        ];
        assert_eq!(read[2], third);
    }
    // C.2.1 to C.2.3: added, not added, never added.
    let single = fields_of(&[
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        "040c 2f73 616d 706c 652f 7061 7468",
        "1008 7061 7373 776f 7264 0673 6563 7265 74",
        "be",
    ]);
    let all: Vec<_> = single.concat();
    assert_eq!(
        all,
        [
            "custom-key custom-header",
            ":path /sample/path",
            "password secret",
            "custom-key custom-header"
        ]
    );
}

#[test]
fn tables_forget_what_they_have_no_room_for() {
    let entry = |letter: u8| {
        let value = [letter; 100];
        [&[0x40, 1, letter, 100][..], &value].concat()
    };
    let read = |decoder: &mut Decoder, block: &[u8]| {
        let mut names = String::new();
        let outcome = decoder.read(block, |said, _| {
            if let Said::Field(name, _) = said {
                names.push_str(name.as_str());
            }
            Wanted::Yes
        });
        outcome.map(|_| names)
    };
    let mut decoder = Decoder::new();
    // 133 each: thirty of them fit.
    let letters: Vec<u8> = (b'a'..=b'z').chain(b'0'..=b'9').collect();
    let block: Vec<u8> = letters.iter().flat_map(|letter| entry(*letter)).collect();
    read(&mut decoder, &block).unwrap();
    assert_eq!(read(&mut decoder, &[0xbe]).unwrap(), "9");
    assert_eq!(read(&mut decoder, &[0x80 | 91]).unwrap(), "g");
    assert_eq!(read(&mut decoder, &[0x80 | 92]), Err(Malformed));
    // Smaller, and as it was: the older ones are gone.
    assert_eq!(read(&mut decoder, &[0x3f, 0xeb, 0x01, 0xbe]).unwrap(), "9");
    assert_eq!(
        read(&mut decoder, &[0x3f, 0xe1, 0x1f, 0x80 | 63]).unwrap(),
        "8"
    );
    assert_eq!(read(&mut decoder, &[0x80 | 64]), Err(Malformed));
    for wrong in [
        // Larger than allowed; behind a field; three times.
        &[0x3f, 0xe2, 0x1f][..],
        &[0x82, 0x20],
        &[0x20, 0x20, 0x20],
        // An index of nothing, numbers without end, texts that are cut.
        &[0x80],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x40],
        &[0x10, 1, b'x', 5, b'y'],
        &[0x10, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff],
    ] {
        assert_eq!(
            read(&mut Decoder::new(), wrong),
            Err(Malformed),
            "{wrong:x?}"
        );
    }
    // What is larger than all of it leaves nothing.
    let large = [&[0x40, 1, b'x', 0x7f, 0xa1, 0x1f][..], &[b'y'; 4_128]].concat();
    assert_eq!(read(&mut decoder, &large).unwrap(), "x");
    assert_eq!(read(&mut decoder, &[0xbe]), Err(Malformed));
}

/// Takes what a client sends, and has `take` answer its requests, until it has gone. The reason if the engine ends it.
async fn serve(mut io: DuplexStream, mut take: impl FnMut(Call, Asked)) -> Option<Reason> {
    let line = Engine::new();
    let mut held = BytesMut::new();
    loop {
        loop {
            let heard = line.borrow_mut().next(&mut held, HeaderMap::new);
            match heard {
                Ok(Heard::Request(key, asked)) => take(Call::new(&line, key), asked),
                Ok(Heard::More) => break,
                Ok(Heard::Malformed | Heard::TooLarge) => {}
                Err(reason) => return Some(reason),
            }
        }
        let sent = drained(&line);
        if io.write_all(&sent).await.is_err() {
            return None;
        }
        match io.read_buf(&mut held).await {
            Ok(read) if read > 0 => {}
            _ => return None,
        }
    }
}

fn drained(line: &Line) -> Vec<u8> {
    let mut engine = line.borrow_mut();
    let mut all = Vec::new();
    while !engine.out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); SLICES_MAX];
        let count = engine.out.slices(&mut slices);
        let before = all.len();
        for slice in &slices[..count] {
            all.extend_from_slice(slice);
        }
        let sent = all.len() - before;
        engine.out.advance(sent);
    }
    all
}

fn names() -> impl Strategy<Value = HeaderName> {
    let known = &[
        "accept",
        "user-agent",
        "x-a",
        "x-b",
        "cookie2",
        "set-cookie",
        "date",
        "etag",
        "vary",
        "server",
        "www-authenticate",
        "access-control-allow-origin",
        "content-type",
        "expect-ct",
    ];
    prop_oneof![
        prop::sample::select(&known[..]).prop_map(HeaderName::from_static),
        "[a-z0-9!#$%&'*+.^_`|~-]{1,40}"
            .prop_filter("belongs to a connection", |name| {
                !["te", "connection", "upgrade", "host"].contains(&name.as_str())
            })
            .prop_map(|name| HeaderName::try_from(name).unwrap()),
    ]
}

fn values() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop::collection::vec(
        prop_oneof![0x21_u8..=0x7e, 0x80_u8..=0xff, Just(b' ')],
        0..80,
    );
    bytes.prop_map(|bytes| HeaderValue::from_bytes(bytes.trim_ascii()).unwrap())
}

fn maps() -> impl Strategy<Value = HeaderMap> {
    prop::collection::vec((names(), values(), any::<bool>()), 0..20).prop_map(|fields| {
        let mut map = HeaderMap::new();
        for (name, mut value, is_sensitive) in fields {
            value.set_sensitive(is_sensitive);
            map.append(name, value);
        }
        map
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The crate `h2` says requests and reads answers; all of it has to be the same on either side.
    #[test]
    fn another_implementation_says_and_understands_the_same(
        exchanges in prop::collection::vec((maps(), maps(), 200_u16..600, "/[a-z?=&/]{0,60}"), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let wanted = exchanges.clone();
            let mut seen = 0;
            let serving = serve(ours, move |call, asked| {
                let (request, answer, status, path) = &wanted[seen];
                seen += 1;
                let mut headers = asked.parts.headers.clone();
                assert_eq!(headers.remove("host").unwrap(), "a.example");
                assert_eq!(&headers, request);
                assert_eq!(asked.parts.uri, path.as_str());
                let status = StatusCode::from_u16(*status).unwrap();
                call.send_head(status, answer, b"today", false);
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", HeaderValue::from_static("9"));
                call.send_trailers(&trailers);
            });
            let asking = async {
                let (mut client, connection) = ::h2::client::handshake(theirs).await.unwrap();
                let exchange = async {
                    for (request, answer, status, path) in &exchanges {
                        let mut asked = http::Request::new(());
                        *asked.uri_mut() = format!("http://a.example{path}").parse().unwrap();
                        *asked.headers_mut() = request.clone();
                        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
                        let (response, _) = client.send_request(asked, true).unwrap();
                        let (head, mut body) = response.await.unwrap().into_parts();
                        assert_eq!(head.status.as_u16(), *status);
                        let mut headers = head.headers;
                        if !answer.contains_key("date") {
                            assert_eq!(headers.remove("date").unwrap(), "today");
                        }
                        for name in headers.keys() {
                            let got: Vec<_> = headers.get_all(name).iter().collect();
                            let wanted: Vec<_> = answer.get_all(name).iter().collect();
                            assert_eq!(got, wanted);
                        }
                        assert_eq!(headers.len(), answer.len());
                        assert!(body.data().await.is_none());
                        let trailers = body.trailers().await.unwrap().unwrap();
                        assert_eq!(trailers["x-sum"], "9");
                    }
                };
                tokio::select! {
                    () = exchange => {}
                    ended = connection => panic!("{ended:?}"),
                }
            };
            let (end, ()) = tokio::join!(serving, asking);
            assert_eq!(end, None);
        });
    }

    /// Whatever comes, the engine says what it thinks of it and goes on or not; nothing panics, and no window is lost.
    #[test]
    fn anything_may_come(
        frames in prop::collection::vec(
            (0_u8..11, any::<u8>(), 0_u32..8, prop::collection::vec(any::<u8>(), 0..40)), 0..40,
        ),
        piece in 1_usize..50,
    ) {
        let mut bytes = [frame::PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
        bytes.extend(get(1, false));
        for (kind, flags, stream, payload) in frames {
            bytes.extend(framed(kind, flags, stream, &payload));
        }
        let line = Engine::new();
        let mut held = BytesMut::new();
        let mut calls = Vec::new();
        'all: for part in bytes.chunks(piece) {
            held.extend_from_slice(part);
            loop {
                let heard = line.borrow_mut().next(&mut held, HeaderMap::new);
                match heard {
                    Ok(Heard::More) => break,
                    Ok(Heard::Request(key, _)) => calls.push(Call::new(&line, key)),
                    Ok(Heard::Malformed | Heard::TooLarge) => {}
                    Err(_) => break 'all,
                }
            }
        }
        drop(calls);
        let engine = line.borrow();
        prop_assert!(engine.streams.is_empty() && engine.streams.open() == 0);
        prop_assert!(engine.room <= i64::from(CONNECTION_WINDOW_BYTES));
    }
}

fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::head(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

/// A GET of `/`, or a POST.
fn get(stream: u32, has_body: bool) -> Vec<u8> {
    let method = if has_body { 0x83 } else { 0x82 };
    let block = [&[method, 0x86, 0x84, 0x01, 1][..], b"h"].concat();
    let flags = END_HEADERS | if has_body { 0 } else { END_STREAM };
    framed(HEADERS, flags, stream, &block)
}

/// A client's end of an engine.
struct Talk {
    line: Line,
    held: BytesMut,
    calls: Vec<Call>,
}

impl Talk {
    fn new(settings: &[(u16, u32)]) -> Self {
        let mut talk = Self {
            line: Engine::new(),
            held: BytesMut::new(),
            calls: Vec::new(),
        };
        let mut begin = frame::PREFACE.to_vec();
        frame::settings(&mut begin, settings);
        talk.says(&begin).unwrap();
        talk.hears();
        talk
    }

    fn says(&mut self, bytes: &[u8]) -> Result<(), u32> {
        self.held.extend_from_slice(bytes);
        loop {
            let heard = self.line.borrow_mut().next(&mut self.held, HeaderMap::new);
            match heard.map_err(Reason::code)? {
                Heard::More => return Ok(()),
                Heard::Request(key, _) => self.calls.push(Call::new(&self.line, key)),
                Heard::Malformed | Heard::TooLarge => {}
            }
        }
    }

    /// Frames: kind, flags, stream, payload.
    fn hears(&mut self) -> Vec<(u8, u8, u32, Vec<u8>)> {
        let all = drained(&self.line);
        let mut rest = &all[..];
        let mut frames = Vec::new();
        while let Some(head) = Head::parse(rest) {
            let end = frame::HEAD_BYTES + head.length;
            let payload = rest[frame::HEAD_BYTES..end].to_vec();
            frames.push((head.kind, head.flags, head.stream, payload));
            rest = &rest[end..];
        }
        assert!(rest.is_empty());
        frames
    }

    fn data(&mut self) -> Vec<(u32, usize, bool)> {
        let frames = self.hears().into_iter();
        frames
            .filter(|(kind, ..)| *kind == DATA)
            .map(|(_, flags, stream, payload)| (stream, payload.len(), flags & END_STREAM != 0))
            .collect()
    }
}

fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn window(stream: u32, more: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::window_update(&mut bytes, stream, more);
    bytes
}

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;

#[test]
fn answers_take_turns_and_go_no_further_than_the_windows() {
    let mut talk = Talk::new(&[(frame::INITIAL_WINDOW_SIZE, 30_000)]);
    talk.says(&[get(1, false), get(3, false), get(5, false)].concat())
        .unwrap();
    let calls = std::mem::take(&mut talk.calls);
    let mut pieces = [(); 3].map(|()| Bytes::from(vec![7; 50_000]));
    for (call, piece) in calls.iter().zip(&mut pieces) {
        call.send_head(StatusCode::OK, &HeaderMap::new(), b"d", false);
        assert!(call.poll_send(&mut quiet(), piece, true).is_pending());
    }
    // 65,535 of the connection: two have all they may, the third gets the rest.
    let sent = talk.data();
    assert_eq!(sent[..2], [(1, 16_384, false), (1, 13_616, false)]);
    let of = |stream| {
        sent.iter()
            .filter(|(of, ..)| *of == stream)
            .map(|(_, size, _)| size)
            .sum::<usize>()
    };
    assert_eq!([of(1), of(3), of(5)], [30_000, 30_000, 5_535]);
    // Room for one stream is of no use as long as the connection has none.
    talk.says(&window(1, 100_000)).unwrap();
    assert!(
        calls[0]
            .poll_send(&mut quiet(), &mut pieces[0], true)
            .is_pending()
    );
    assert!(talk.data().is_empty());
    // The fifth waits for longer than the first, and each sends one frame when others wait.
    talk.says(&window(0, 40_000)).unwrap();
    assert!(
        calls[2]
            .poll_send(&mut quiet(), &mut pieces[2], true)
            .is_pending()
    );
    assert!(
        calls[0]
            .poll_send(&mut quiet(), &mut pieces[0], true)
            .is_pending()
    );
    assert_eq!(talk.data(), [(5, 16_384, false), (1, 16_384, false)]);
    assert!(
        calls[2]
            .poll_send(&mut quiet(), &mut pieces[2], true)
            .is_pending()
    );
    assert!(
        calls[0]
            .poll_send(&mut quiet(), &mut pieces[0], true)
            .is_pending()
    );
    talk.says(&window(0, 40_000)).unwrap();
    assert!(
        calls[0]
            .poll_send(&mut quiet(), &mut pieces[0], true)
            .is_ready()
    );
    let sent = talk.data();
    assert_eq!(sent.last(), Some(&(1, 3_616, true)));
}

#[test]
fn who_waits_has_one_place_however_often_it_is_polled() {
    let mut talk = Talk::new(&[]);
    talk.says(&[get(1, false), get(3, false), get(5, false)].concat())
        .unwrap();
    let calls = std::mem::take(&mut talk.calls);
    let mut pieces = [(); 3].map(|()| Bytes::from(vec![7; 65_535]));
    assert!(
        calls[0]
            .poll_send(&mut quiet(), &mut pieces[0], true)
            .is_ready()
    );
    talk.hears();
    for _ in 0..9 {
        assert!(
            calls[1]
                .poll_send(&mut quiet(), &mut pieces[1], true)
                .is_pending()
        );
        assert!(calls[2].poll_window(&quiet()).is_pending());
    }
    assert_eq!(talk.line.borrow().waiting.len(), 2);
    // There is room, and the turn is another's: the third waits on.
    talk.says(&window(0, 20_000)).unwrap();
    assert!(calls[2].poll_window(&quiet()).is_pending());
    assert!(
        calls[1]
            .poll_send(&mut quiet(), &mut pieces[1], true)
            .is_pending()
    );
    assert_eq!(talk.data(), [(3, 16_384, false)]);
    assert!(calls[2].poll_window(&quiet()).is_ready());
    assert!(talk.line.borrow().waiting.len() <= 1);
}

#[test]
fn a_window_may_become_less_than_nothing() {
    let mut talk = Talk::new(&[(frame::INITIAL_WINDOW_SIZE, 30_000)]);
    talk.says(&get(1, false)).unwrap();
    let call = talk.calls.pop().unwrap();
    let mut piece = Bytes::from(vec![7; 50_000]);
    assert!(call.poll_send(&mut quiet(), &mut piece, true).is_pending());
    assert_eq!(talk.data().len(), 2);
    // RFC 9113 section 6.9.2.
    let mut bytes = Vec::new();
    frame::settings(&mut bytes, &[(frame::INITIAL_WINDOW_SIZE, 0)]);
    talk.says(&[bytes, window(1, 30_000)].concat()).unwrap();
    assert!(call.poll_send(&mut quiet(), &mut piece, true).is_pending());
    assert!(talk.data().is_empty());
    talk.says(&window(1, 1)).unwrap();
    assert!(call.poll_send(&mut quiet(), &mut piece, true).is_pending());
    assert_eq!(talk.data(), [(1, 1, false)]);
}

#[test]
fn no_more_is_put_out_than_the_socket_takes() {
    let mut talk = Talk::new(&[(frame::INITIAL_WINDOW_SIZE, 1 << 20)]);
    talk.says(&[window(0, 1 << 20), get(1, false)].concat())
        .unwrap();
    let call = talk.calls.pop().unwrap();
    let mut piece = Bytes::from(vec![7; 1 << 20]);
    assert!(call.poll_send(&mut quiet(), &mut piece, true).is_pending());
    let waiting = talk.line.borrow().out.len();
    let most = STREAM_SEND_BYTES_MAX + frame::FRAME_BYTES_MAX + 100;
    assert!(
        (STREAM_SEND_BYTES_MAX..most).contains(&waiting),
        "{waiting}"
    );
    talk.hears();
    assert!(talk.line.borrow_mut().wake_next());
    assert!(call.poll_send(&mut quiet(), &mut piece, true).is_pending());
    assert!(!talk.data().is_empty());
}

#[test]
fn room_is_given_again_in_large_steps_and_none_of_it_is_lost() {
    let mut talk = Talk::new(&[]);
    talk.says(&get(1, true)).unwrap();
    let call = talk.calls.pop().unwrap();
    let incoming = call.incoming().unwrap();
    let frame = framed(DATA, 0, 1, &[7; 16_384]);
    let of_stream = STREAM_WINDOW_BYTES as usize / 16_384;
    for _ in 0..of_stream {
        talk.says(&frame).unwrap();
    }
    assert!(talk.hears().is_empty());
    // Nothing was taken yet: there is no room for more.
    talk.says(&framed(DATA, 0, 1, b"x")).unwrap();
    let frames = talk.hears();
    assert_eq!(
        (frames[0].0, &frames[0].3[..]),
        (frame::RST_STREAM, &[0, 0, 0, 3][..])
    );
    drop((incoming, call));
    talk.says(&get(3, true)).unwrap();
    let call = talk.calls.pop().unwrap();
    let incoming = call.incoming().unwrap();
    let mut steps = 0;
    let mut granted = 0;
    for _ in 0..200 {
        talk.says(&framed(
            DATA,
            PADDED,
            3,
            &[&[9][..], &[7; 1_000], &[0; 9]].concat(),
        ))
        .unwrap();
        let mut taken = 0;
        while let Poll::Ready(Some(Ok(piece))) = incoming.poll_data(&quiet()) {
            taken += piece.len();
        }
        assert_eq!(taken, 1_000);
        call.release(taken);
        for (kind, _, stream, payload) in talk.hears() {
            assert_eq!(kind, frame::WINDOW_UPDATE);
            if stream == 3 {
                steps += 1;
                granted += frame::number(&payload);
            }
        }
    }
    assert_eq!((steps, granted), (1, 130 * 1_010), "padding counts as well");
    drop((incoming, call));
    let mut engine = talk.line.borrow_mut();
    let more = CONNECTION_WINDOW_BYTES / 2;
    engine.release(more);
    assert!(engine.room >= i64::from(CONNECTION_WINDOW_BYTES) - i64::from(more));
}

#[test]
fn pieces_are_passed_on_as_they_come_and_lengths_hold() {
    let mut talk = Talk::new(&[]);
    talk.says(&get(1, true)).unwrap();
    let call = talk.calls.pop().unwrap();
    let incoming = call.incoming().unwrap();
    let frame = framed(
        DATA,
        PADDED | END_STREAM,
        1,
        &[&[2][..], b"abcdef", &[0; 2]].concat(),
    );
    let mut got = Vec::new();
    for byte in &frame {
        talk.says(&[*byte]).unwrap();
        if let Poll::Ready(Some(Ok(piece))) = incoming.poll_data(&quiet()) {
            got.extend_from_slice(&piece);
        }
    }
    assert_eq!(got, b"abcdef");
    assert!(matches!(incoming.poll_data(&quiet()), Poll::Ready(None)));
    assert_eq!(talk.says(&framed(DATA, 0, 1, b"x")), Err(STREAM_CLOSED));
    // More padding than frame.
    let mut talk = Talk::new(&[]);
    talk.says(&get(1, true)).unwrap();
    assert_eq!(
        talk.says(&framed(DATA, PADDED, 1, &[3, 0, 0])),
        Err(PROTOCOL_ERROR)
    );
    // A frame larger than any.
    let mut talk = Talk::new(&[]);
    talk.says(&get(1, true)).unwrap();
    assert_eq!(talk.says(&[0, 0x40, 1, 0, 0, 0, 0, 0, 1]), Err(6));
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a list of cases")]
fn what_comes_out_of_order_ends_the_connection() {
    let opened = |more: Vec<u8>| {
        let mut talk = Talk::new(&[]);
        talk.says(&get(3, true)).unwrap();
        talk.says(&more)
    };
    let block = [0x82, 0x86, 0x84, 0x01, 1, b'h'];
    for (name, bytes, code) in [
        (
            "a piece ahead of a head",
            framed(DATA, 0, 5, b"x"),
            PROTOCOL_ERROR,
        ),
        (
            "a piece of nobody",
            framed(DATA, 0, 0, b"x"),
            PROTOCOL_ERROR,
        ),
        (
            "an even number",
            framed(HEADERS, END_HEADERS, 4, &block),
            PROTOCOL_ERROR,
        ),
        (
            "a smaller number",
            framed(HEADERS, END_HEADERS, 1, &block),
            PROTOCOL_ERROR,
        ),
        (
            "a head of nobody",
            framed(HEADERS, END_HEADERS, 0, &block),
            PROTOCOL_ERROR,
        ),
        (
            "more of no head",
            framed(CONTINUATION, END_HEADERS, 3, &block),
            PROTOCOL_ERROR,
        ),
        (
            "a promise",
            framed(frame::PUSH_PROMISE, END_HEADERS, 3, &[0; 9]),
            PROTOCOL_ERROR,
        ),
        (
            "settings of a stream",
            framed(frame::SETTINGS, 0, 3, &[]),
            PROTOCOL_ERROR,
        ),
        (
            "a ping of a stream",
            framed(frame::PING, 0, 3, &[0; 8]),
            PROTOCOL_ERROR,
        ),
        (
            "a goodbye of a stream",
            framed(GOAWAY, 0, 3, &[0; 8]),
            PROTOCOL_ERROR,
        ),
        (
            "the end of what never began",
            framed(frame::RST_STREAM, 0, 5, &[0; 4]),
            PROTOCOL_ERROR,
        ),
        ("room for what never began", window(5, 1), PROTOCOL_ERROR),
        ("room for nothing", window(0, 0), PROTOCOL_ERROR),
        ("too much room", window(0, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("a short ping", framed(frame::PING, 0, 0, &[0; 7]), 6),
        (
            "a block that is none",
            framed(HEADERS, END_HEADERS, 5, &[0x80]),
            9,
        ),
        (
            "a window too large",
            framed(frame::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0]),
            FLOW_CONTROL_ERROR,
        ),
        (
            "a push that is neither",
            framed(frame::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
            PROTOCOL_ERROR,
        ),
        (
            "a frame size too small",
            framed(frame::SETTINGS, 0, 0, &[0, 5, 0, 0, 0x3f, 0xff]),
            PROTOCOL_ERROR,
        ),
    ] {
        assert_eq!(opened(bytes), Err(code), "{name}");
    }
    let mut talk = Talk::new(&[]);
    talk.says(&framed(HEADERS, 0, 1, &block[..3])).unwrap();
    assert_eq!(
        talk.says(&framed(frame::PING, ACK, 0, &[0; 8])),
        Err(PROTOCOL_ERROR)
    );
    let mut unset = Talk::new(&[]);
    unset.line = Engine::new();
    unset.says(frame::PREFACE).unwrap();
    assert_eq!(
        unset.says(&framed(frame::PING, 0, 0, &[0; 8])),
        Err(PROTOCOL_ERROR)
    );
}

#[test]
fn what_is_wrong_with_one_stream_ends_that_one_alone() {
    let reset = |bytes: Vec<u8>| {
        let mut talk = Talk::new(&[]);
        talk.says(&get(1, true)).unwrap();
        talk.says(&bytes).unwrap();
        let frames = talk.hears();
        let (kind, _, stream, payload) = &frames[0];
        assert_eq!((*kind, *stream), (frame::RST_STREAM, 1));
        assert_eq!(talk.calls.len(), 1);
        assert!(talk.calls[0].is_lost());
        talk.calls.clear();
        // What is under way of it means nothing, and others are served.
        talk.says(&framed(DATA, END_STREAM, 1, b"late")).unwrap();
        talk.says(&get(3, false)).unwrap();
        assert_eq!((talk.calls.len(), talk.hears().len()), (1, 0));
        frame::number(payload)
    };
    let trailers = [&[0x10, 1][..], b"x", &[1], b"y"].concat();
    assert_eq!(reset(window(1, 0)), PROTOCOL_ERROR);
    assert_eq!(reset(window(1, 0x7fff_ffff)), FLOW_CONTROL_ERROR);
    assert_eq!(
        reset(framed(HEADERS, END_HEADERS, 1, &trailers)),
        PROTOCOL_ERROR
    );
    assert_eq!(
        reset(framed(frame::PRIORITY, 0, 1, &[0, 0, 0, 1, 9])),
        PROTOCOL_ERROR
    );
    let mut talk = Talk::new(&[]);
    for n in 0..=100 {
        talk.says(&get(n * 2 + 1, true)).unwrap();
    }
    let frames = talk.hears();
    assert_eq!((talk.calls.len(), frames.len()), (100, 1));
    assert_eq!((frames[0].2, &frames[0].3[..]), (201, &[0, 0, 0, 7][..]));
    // Whoever lets go of one before it is complete ends it, and makes room for another.
    drop(talk.calls.pop());
    let frames = talk.hears();
    assert_eq!((frames[0].2, &frames[0].3[..]), (199, &[0, 0, 0, 8][..]));
    talk.says(&get(203, true)).unwrap();
    let call = talk.calls.pop().unwrap();
    call.send_head(StatusCode::OK, &HeaderMap::new(), b"d", true);
    drop(call);
    let frames = talk.hears();
    assert_eq!((frames[1].2, &frames[1].3[..]), (203, &[0, 0, 0, 0][..]));
}

#[test]
fn a_connection_ends_when_all_that_was_asked_before_is_answered() {
    let mut talk = Talk::new(&[]);
    talk.says(&get(1, false)).unwrap();
    talk.line.borrow_mut().announce_end();
    let frames = talk.hears();
    assert_eq!(frames[0].3, [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let question = frames[1].clone();
    assert_eq!(question.0, frame::PING);
    // What was on its way is served.
    talk.says(&get(3, false)).unwrap();
    assert_eq!(talk.calls.len(), 2);
    talk.says(&framed(frame::PING, ACK, 0, &question.3))
        .unwrap();
    let frames = talk.hears();
    assert_eq!(
        (frames[0].0, &frames[0].3[..4]),
        (GOAWAY, &[0, 0, 0, 3][..])
    );
    talk.says(&get(5, false)).unwrap();
    assert_eq!((talk.calls.len(), talk.hears().len()), (2, 0));
    assert!(!talk.line.borrow().is_over());
    for call in talk.calls.drain(..) {
        call.send_head(StatusCode::NO_CONTENT, &HeaderMap::new(), b"d", true);
    }
    assert!(talk.line.borrow().is_over());
}

#[test]
fn large_heads_are_cut_into_frames_and_small_tables_agreed_to_once() {
    let mut talk = Talk::new(&[(frame::HEADER_TABLE_SIZE, 0)]);
    talk.says(&[get(1, false), get(3, false)].concat()).unwrap();
    let mut fields = HeaderMap::new();
    let long = HeaderValue::try_from("l".repeat(20_000)).unwrap();
    fields.insert("x-a", long.clone());
    fields.insert("x-b", long);
    fields.insert("keep-alive", HeaderValue::from_static("1"));
    for call in talk.calls.drain(..) {
        call.send_head(StatusCode::OK, &fields, b"d", true);
    }
    let frames = talk.hears();
    let shape: Vec<_> = frames
        .iter()
        .map(|(kind, flags, ..)| (*kind, *flags))
        .collect();
    let one = [
        (HEADERS, END_STREAM),
        (CONTINUATION, 0),
        (CONTINUATION, END_HEADERS),
    ];
    assert_eq!(shape, [one, one].concat());
    assert_eq!((frames[0].3[0], frames[3].3[0]), (0x20, 0x88));
    let whole = [&frames[3].3[..], &frames[4].3, &frames[5].3].concat();
    let mut count = 0;
    let read = Decoder::new().read(&whole, |_, _| {
        count += 1;
        Wanted::Yes
    });
    assert_eq!((read, count), (Ok(Wanted::Yes), 4));
}
