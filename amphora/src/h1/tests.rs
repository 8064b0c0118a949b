use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use proptest::prelude::*;

use super::{head::is_token, *};
use crate::limits::{HTTP_FIELDS_MAX, HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

mod oracle;

/// Reads one request head as a connection does.
fn read_request(bytes: &[u8]) -> Result<Option<(RequestHead, usize)>, Fault> {
    may_be_request(bytes)?;
    let Some(end) = Search::default().end(bytes)? else {
        return Ok(None);
    };
    let head = Bytes::copy_from_slice(&bytes[..end]);
    Ok(Some((request(&head, HeaderMap::new())?, end)))
}

fn read_answer(bytes: &[u8], asked: Asked) -> Result<Option<(AnswerHead, usize)>, Fault> {
    may_be_answer(bytes)?;
    let Some(end) = Search::default().end(bytes)? else {
        return Ok(None);
    };
    let head = Bytes::copy_from_slice(&bytes[..end]);
    Ok(Some((answer(&head, asked, HeaderMap::new())?, end)))
}

fn fault(bytes: &[u8]) -> Fault {
    read_request(bytes).expect_err("refused")
}

fn fault_with(field: &[u8]) -> Fault {
    fault(&[b"POST / HTTP/1.1\r\nHost: h\r\n", field, b"\r\n\r\n"].concat())
}

fn framing(fields: &str) -> Framing {
    let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    read_request(text.as_bytes()).unwrap().unwrap().0.framing
}

#[test]
fn a_request_is_read_whole() {
    let text =
        "GET /a?b=%20c HTTP/1.1\r\nHost: h\r\nX-Y: \t a b\u{e9} \t\r\nx-y:\r\nX-Y:2\r\n\r\nrest";
    let (head, end) = read_request(text.as_bytes()).unwrap().unwrap();
    assert_eq!(&text[end..], "rest");
    assert_eq!(
        (&head.parts.method, head.parts.version),
        (&Method::GET, Version::HTTP_11)
    );
    assert_eq!(head.parts.uri, "/a?b=%20c");
    let values: Vec<_> = head.parts.headers.get_all("x-y").iter().collect();
    assert_eq!(values, ["a b\u{e9}", "", "2"]);
    assert_eq!(head.framing, Framing::None);
    assert!(head.keeps && !head.expects_continue);
}

#[test]
fn values_are_pieces_of_the_bytes_they_came_in() {
    let head = Bytes::from_static(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n");
    let read = request(&head, HeaderMap::new()).unwrap();
    let value = read.parts.headers["host"].as_bytes();
    assert!(head.as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn request_lines_are_three_parts_with_one_space_between_them() {
    for (line, expected) in [
        ("GET /", Fault::StartLine),
        ("GET  / HTTP/1.1", Fault::StartLine),
        ("GET /  HTTP/1.1", Fault::StartLine),
        ("GET / HTTP/1.1 ", Fault::StartLine),
        ("GET\t/ HTTP/1.1", Fault::Method),
        (" GET / HTTP/1.1", Fault::Method),
        ("G(T / HTTP/1.1", Fault::Method),
        ("GET /\t HTTP/1.1", Fault::Target),
        ("GET /\x7f HTTP/1.1", Fault::Target),
        ("GET /\u{e9} HTTP/1.1", Fault::Target),
        ("GET /a#b HTTP/1.1", Fault::Target),
        ("GET /a\0 HTTP/1.1", Fault::Target),
        ("GET / b HTTP/1.1", Fault::StartLine),
        ("GET / HTTP/1.2", Fault::Version),
        ("GET / HTTP/0.9", Fault::Version),
        ("PRI * HTTP/2.0", Fault::Version),
        ("GET / HTTP/1.10", Fault::StartLine),
        ("GET / HTTP/11", Fault::StartLine),
        ("GET / http/1.1", Fault::StartLine),
        ("GET / HTTP/+1.1", Fault::StartLine),
        ("GET / ", Fault::StartLine),
        ("", Fault::Method),
    ] {
        let text = format!("{line}\r\nHost: h\r\n\r\n");
        assert_eq!(fault(text.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn what_is_no_request_is_refused_before_it_ends() {
    assert_eq!(fault(b"\x16\x03\x01\x02"), Fault::Method);
    assert_eq!(fault(b"\n"), Fault::Method);
    assert_eq!(fault(&[b'A'; 200]), Fault::Method);
    assert!(read_request(b"GET /").unwrap().is_none());
    assert!(read_request(b"").unwrap().is_none());
    assert_eq!(
        read_answer(b"SSH-2", Asked::ForBody).unwrap_err(),
        Fault::StartLine
    );
}

#[test]
fn lines_end_with_cr_lf_and_nothing_else() {
    for text in [
        "GET / HTTP/1.1\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\n",
        "GET / HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
    ] {
        assert_eq!(fault(text.as_bytes()), Fault::LineEnd, "{text:?}");
    }
    assert_eq!(fault_with(b"X: a\rb"), Fault::FieldValue);
    assert_eq!(fault_with(b"X: a\r"), Fault::FieldValue);
    assert_eq!(fault_with(b"X\r: a"), Fault::FieldName);
    assert_eq!(fault_with(b"\rX: a"), Fault::FieldName);
}

#[test]
fn every_byte_is_allowed_where_the_grammar_has_it_and_nowhere_else() {
    for byte in 0..=255_u8 {
        let token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        assert_eq!(is_token(byte), token, "{byte:#x}");
        let text = [b"G", &[byte][..], b"T / HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert_eq!(read_request(&text).is_ok(), token, "in a method {byte:#x}");
        let text = [
            b"GET / HTTP/1.1\r\nHost: h\r\nA",
            &[byte][..],
            b"B: c\r\n\r\n",
        ]
        .concat();
        // A colon ends the name.
        assert_eq!(
            read_request(&text).is_ok(),
            token || byte == b':',
            "in a name {byte:#x}"
        );
        let text = [
            b"GET / HTTP/1.1\r\nHost: h\r\nA: b",
            &[byte][..],
            b"c\r\n\r\n",
        ]
        .concat();
        let allowed = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        assert_eq!(read_request(&text).is_ok(), allowed, "in a value {byte:#x}");
        let text = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        let accepted = read_request(&text).is_ok();
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
        assert!(accepted || !unreserved, "not in a target {byte:#x}");
        assert!(
            !accepted || (0x21..0x7f).contains(&byte) && byte != b'#',
            "in a target {byte:#x}"
        );
    }
}

#[test]
fn fields_have_a_name_a_colon_and_no_second_line() {
    assert_eq!(fault_with(b"X : a"), Fault::FieldName);
    assert_eq!(fault_with(b"X\t: a"), Fault::FieldName);
    assert_eq!(fault_with(b": a"), Fault::FieldName);
    assert_eq!(fault_with(b"X"), Fault::FieldName);
    assert_eq!(fault_with(b"X y: a"), Fault::FieldName);
    assert_eq!(fault_with(b"X\xe9: a"), Fault::FieldName);
    assert_eq!(fault_with(b"X: a\r\n b"), Fault::Folded);
    assert_eq!(fault_with(b" X: a"), Fault::Folded);
    assert_eq!(fault_with(b"\tX: a"), Fault::Folded);
    assert_eq!(fault_with(b"X: a\0b"), Fault::FieldValue);
}

#[test]
fn a_length_is_said_once_and_in_digits() {
    assert_eq!(framing("Content-Length: 0\r\n"), Framing::None);
    assert_eq!(framing("Content-Length: 12\r\n"), Framing::Length(12));
    assert_eq!(framing("content-length:\t007 \r\n"), Framing::Length(7));
    for value in [
        "",
        "+1",
        "-1",
        "1 2",
        "5, 5",
        "5,5",
        "0x5",
        "5;",
        "1e1",
        "1.0",
        "\u{661}",
        "9223372036854775808",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        let field = format!("Content-Length: {value}");
        assert_eq!(fault_with(field.as_bytes()), Fault::Length, "{value:?}");
    }
    for second in ["5", "6", "05"] {
        let fields = format!("Content-Length: 5\r\nContent-Length: {second}");
        assert_eq!(fault_with(fields.as_bytes()), Fault::Length);
    }
}

#[test]
fn a_transfer_coding_is_chunked_once_and_alone() {
    assert_eq!(framing("Transfer-Encoding: chunked\r\n"), Framing::Chunked);
    assert_eq!(
        framing("transfer-encoding:  ChUnKeD\t\r\n"),
        Framing::Chunked
    );
    for value in [
        "",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked,",
        ", chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "identity",
        "chunked identity",
        "chunke\u{e9}d",
        "\x0bchunked",
    ] {
        let field = format!("Transfer-Encoding: {value}");
        assert!(
            matches!(
                fault_with(field.as_bytes()),
                Fault::Coding | Fault::FieldValue
            ),
            "{value:?}"
        );
    }
    assert_eq!(
        fault_with(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        Fault::Coding
    );
    assert_eq!(
        fault_with(b"Transfer-Encoding: chunked\r\nContent-Length: 3"),
        Fault::LengthAndCoding
    );
    assert_eq!(
        fault_with(b"Content-Length: 3\r\nTransfer-Encoding: chunked"),
        Fault::LengthAndCoding
    );
    assert_eq!(
        fault(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
        Fault::Coding
    );
}

#[test]
fn connections_are_kept_as_both_versions_have_it() {
    let keeps = |version: &str, fields: &str| {
        let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n");
        read_request(text.as_bytes()).unwrap().unwrap().0.keeps
    };
    assert!(keeps("1.1", ""));
    assert!(keeps("1.1", "Connection: x, keep-alive\r\n"));
    assert!(!keeps("1.1", "Connection: x , CLOSE\r\n"));
    assert!(!keeps(
        "1.1",
        "Connection: close\r\nConnection: keep-alive\r\n"
    ));
    assert!(!keeps("1.0", ""));
    assert!(keeps("1.0", "Connection: Keep-Alive\r\n"));
    assert!(!keeps("1.0", "Connection: keep-alive, close\r\n"));
}

#[test]
fn heads_are_bounded() {
    let fields = |count: usize| {
        let fields: String = (0..count).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET / HTTP/1.1\r\n{fields}\r\n")
    };
    assert!(read_request(fields(HTTP_FIELDS_MAX).as_bytes()).is_ok());
    let many = fields(HTTP_FIELDS_MAX + 1);
    assert_eq!(fault(many.as_bytes()), Fault::TooManyFields);
    let target = |bytes: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 1));
    assert!(read_request(target(HTTP_TARGET_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(
        fault(target(HTTP_TARGET_BYTES_MAX + 1).as_bytes()),
        Fault::TargetTooLong
    );
    assert_eq!(
        fault(format!("GET /{}", "x".repeat(HTTP_HEAD_BYTES_MAX)).as_bytes()),
        Fault::TargetTooLong
    );
    let head = |bytes: usize| {
        let text = "GET / HTTP/1.1\r\nX: \r\n\r\n";
        text.replace("X: ", &format!("X: {}", "x".repeat(bytes - text.len())))
    };
    assert!(read_request(head(HTTP_HEAD_BYTES_MAX).as_bytes()).is_ok());
    let large = head(HTTP_HEAD_BYTES_MAX + 1);
    assert_eq!(fault(large.as_bytes()), Fault::HeadTooLong);
    assert_eq!(
        fault(&large.as_bytes()[..HTTP_HEAD_BYTES_MAX]),
        Fault::HeadTooLong
    );
}

#[test]
fn each_fault_has_its_status() {
    assert_eq!(Fault::HeadTooLong.status(), 431);
    assert_eq!(Fault::TooManyFields.status(), 431);
    assert_eq!(Fault::TargetTooLong.status(), 414);
    assert_eq!(Fault::Version.status(), 505);
    assert_eq!(Fault::Folded.status(), 400);
}

#[test]
fn answers_are_framed_by_what_they_answer_and_how() {
    let framing = |text: &str, asked| {
        let text = format!("HTTP/1.1 {text}\r\n\r\n");
        read_answer(text.as_bytes(), asked)
            .map(|head| head.unwrap().0)
            .map(|head| (head.framing, head.keeps))
    };
    let body = |text: &str| framing(text, Asked::ForBody);
    assert_eq!(body("200 OK"), Ok((Framing::UntilClose, false)));
    assert_eq!(body("200"), Ok((Framing::UntilClose, false)));
    assert_eq!(body("200 "), Ok((Framing::UntilClose, false)));
    assert_eq!(
        body("200 OK\r\nContent-Length: 5"),
        Ok((Framing::Length(5), true))
    );
    assert_eq!(
        body("200 OK\r\nContent-Length: 0\r\nConnection: close"),
        Ok((Framing::None, false))
    );
    assert_eq!(
        body("200 OK\r\nTransfer-Encoding: chunked"),
        Ok((Framing::Chunked, true))
    );
    for status in ["100", "101", "103", "204", "304"] {
        let text = format!("{status} X\r\nContent-Length: 5");
        assert_eq!(body(&text), Ok((Framing::None, true)), "{status}");
    }
    assert_eq!(
        framing("200 OK\r\nContent-Length: 5", Asked::ForHead),
        Ok((Framing::None, true))
    );
    for text in [
        "20 OK",
        "2000 OK",
        "200OK",
        "abc OK",
        "099 OK",
        " 200 OK",
        "200\tOK",
        "200 O\x01K",
    ] {
        assert_eq!(body(text), Err(Fault::StartLine), "{text:?}");
    }
    for (text, expected) in [
        (
            "200 OK\r\nContent-Length: 5\r\nContent-Length: 5",
            Fault::Length,
        ),
        ("200 OK\r\nContent-Length: 5, 5", Fault::Length),
        (
            "200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
            Fault::LengthAndCoding,
        ),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked", Fault::Coding),
        ("304 X\r\nContent-Length: -1", Fault::Length),
    ] {
        assert_eq!(body(text), Err(expected), "{text:?}");
        assert_eq!(framing(text, Asked::ForHead), Err(expected), "{text:?}");
    }
    assert_eq!(
        read_answer(
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Asked::ForBody
        )
        .unwrap_err(),
        Fault::Coding
    );
}

/// Everything that a body comes to when it arrives in those pieces.
fn body_of(framing: Framing, pieces: &[&[u8]]) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), Fault> {
    let mut reader = Reader::new(framing);
    let mut held = BytesMut::new();
    let (mut body, mut trailers) = (vec![], HeaderMap::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            match reader.next(&mut held)? {
                Next::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend(data);
                }
                Next::Trailers(fields) => trailers = fields,
                Next::End | Next::More => break,
            }
        }
    }
    if !reader.end() {
        // Cut short.
        return Err(Fault::ChunkEnd);
    }
    Ok((body, trailers, held.to_vec()))
}

fn chunked(text: &[u8]) -> Result<Vec<u8>, Fault> {
    body_of(Framing::Chunked, &[text]).map(|(body, ..)| body)
}

#[test]
fn chunks_are_read_strictly() {
    for text in [
        &b"4\r\nabcd\r\n0\r\n\r\n"[..],
        b"04\r\nabcd\r\n000\r\n\r\n",
        b"1\r\na\r\n3\r\nbcd\r\n0\r\n\r\n",
        b"4;a\r\nabcd\r\n0\r\n\r\n",
        b"4;a=b;c=\"d\\\"; \xe9\" ; e\r\nabcd\r\n0;x=y\r\n\r\n",
        b"4; a = b\r\nabcd\r\n0\r\nX: y\r\n\r\n",
    ] {
        assert_eq!(
            chunked(text),
            Ok(b"abcd".to_vec()),
            "{}",
            text.escape_ascii()
        );
    }
    for (text, expected) in [
        (&b"+4\r\nabcd\r\n0\r\n\r\n"[..], Fault::ChunkSize),
        (b"-4\r\n", Fault::ChunkSize),
        (b" 4\r\n", Fault::ChunkSize),
        (b"4 \r\n", Fault::ChunkSize),
        (b"4 ;a\r\n", Fault::ChunkSize),
        (b"0x4\r\n", Fault::ChunkSize),
        (b"4_0\r\n", Fault::ChunkSize),
        (b"\r\n", Fault::ChunkSize),
        (b";a\r\n", Fault::ChunkSize),
        (b"g\r\n", Fault::ChunkSize),
        (b"20000000000001\r\n", Fault::ChunkSize),
        (b"ffffffffffffffff\r\n", Fault::ChunkSize),
        (b"10000000000000004\r\n", Fault::ChunkSize),
        (b"00000000000000004\r\n", Fault::ChunkSize),
        (b"4\nabcd\r\n0\r\n\r\n", Fault::ChunkSize),
        (b"4\rxabcd", Fault::LineEnd),
        (b"4\r\nabcde\r\n", Fault::ChunkEnd),
        (b"4\r\nabcd\n0\r\n\r\n", Fault::ChunkEnd),
        (b"4\r\nabcd0\r\n\r\n", Fault::ChunkEnd),
        (b"4\r\nabcd\rx", Fault::ChunkEnd),
        (b"4;\r\n", Fault::ChunkExtension),
        (b"4;a=\r\n", Fault::ChunkExtension),
        (b"4;=b\r\n", Fault::ChunkExtension),
        (b"4;a b\r\n", Fault::ChunkExtension),
        (b"4;a=b c\r\n", Fault::ChunkExtension),
        (b"4;a=\"b\r\n", Fault::ChunkExtension),
        (b"4;a\n", Fault::ChunkExtension),
        (b"4;a=\"\n\"\r\n", Fault::ChunkExtension),
        (b"4;a\0\r\n", Fault::ChunkExtension),
        (b"4;\xe9\r\n", Fault::ChunkExtension),
        (b"0\r\nX : y\r\n\r\n", Fault::FieldName),
        (b"0\r\nX: y\n\r\n", Fault::LineEnd),
        (b"0\r\n folded: y\r\n\r\n", Fault::Folded),
        (b"0\r\nContent-Length: x\r\n\r\n", Fault::Length),
        (b"0\r\nTransfer-Encoding: gzip\r\n\r\n", Fault::Coding),
        (b"4\r\nabc", Fault::ChunkEnd),
        (b"4\r\nabcd\r\n0\r\n", Fault::ChunkEnd),
    ] {
        assert_eq!(chunked(text), Err(expected), "{}", text.escape_ascii());
    }
}

#[test]
fn extensions_are_bounded_over_all_chunks() {
    let one = format!("1;{}\r\nx\r\n", "a".repeat(1_000));
    let many = format!("{}0\r\n\r\n", one.repeat(17));
    assert_eq!(chunked(many.as_bytes()), Err(Fault::ChunkExtension));
    let some = format!("{}0\r\n\r\n", one.repeat(15));
    assert_eq!(chunked(some.as_bytes()).unwrap().len(), 15);
}

#[test]
fn trailers_are_bounded() {
    let long = format!("0\r\nX: {}\r\n\r\n", "x".repeat(HTTP_HEAD_BYTES_MAX));
    assert_eq!(chunked(long.as_bytes()), Err(Fault::HeadTooLong));
    let many = "X: y\r\n".repeat(HTTP_FIELDS_MAX + 1);
    assert_eq!(
        chunked(format!("0\r\n{many}\r\n").as_bytes()),
        Err(Fault::TooManyFields)
    );
}

#[test]
fn trailers_cannot_say_what_belongs_ahead_of_a_body() {
    let text = b"0\r\nContent-Length: 1\r\nHost: x\r\nAuthorization: x\r\nSet-Cookie: x\r\nX-Forwarded-For: x\r\n\
        X-SSL-Client-Verify: 0\r\nConnection: close\r\nProxy-Connection: x\r\nX-Sum: 7\r\nTrailer: x\r\n\r\n";
    let (_, trailers, _) = body_of(Framing::Chunked, &[text]).unwrap();
    let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-sum"]);
}

#[test]
fn what_follows_a_body_is_left() {
    for (framing, text) in [
        (Framing::None, "next"),
        (Framing::Length(4), "abcdnext"),
        (Framing::Chunked, "4\r\nabcd\r\n0\r\n\r\nnext"),
        (Framing::Chunked, "4\r\nabcd\r\n0\r\nA: b\r\n\r\nnext"),
    ] {
        let (_, _, rest) = body_of(framing, &[text.as_bytes()]).unwrap();
        assert_eq!(rest, b"next");
    }
    let (body, _, rest) = body_of(Framing::UntilClose, &[b"abcd", b"next"]).unwrap();
    assert_eq!((&body[..], &rest[..]), (&b"abcdnext"[..], &b""[..]));
}

#[test]
fn a_body_that_is_cut_short_is_not_complete() {
    assert!(body_of(Framing::Length(5), &[b"abcd"]).is_err());
    assert!(body_of(Framing::Chunked, &[b"4\r\nabcd\r\n"]).is_err());
    assert!(body_of(Framing::Chunked, &[b"4\r\nabcd\r\n0\r\n"]).is_err());
    assert!(body_of(Framing::UntilClose, &[]).is_ok());
}

fn answered(text: &str, length: Option<u64>, toward: Toward<'_>) -> (String, Sender, bool) {
    let (head, _) = read_answer(text.as_bytes(), toward.asked).unwrap().unwrap();
    let mut out = vec![];
    let (sender, keeps) = answer_head(&mut out, &head.parts, length, toward);
    (String::from_utf8(out).unwrap(), sender, keeps)
}

const TOWARD: Toward<'static> = Toward {
    version: Version::HTTP_11,
    asked: Asked::ForBody,
    keeps: true,
    date: b"DATE",
};

#[test]
fn answers_say_once_how_long_they_are() {
    let ok = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 005\r\n\r\n";
    assert_eq!(
        answered(ok, Some(5), TOWARD),
        (
            "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 5\r\ndate: DATE\r\n\r\n".into(),
            Sender::Length(5),
            true
        )
    );
    assert_eq!(
        answered(ok, Some(0), TOWARD).0,
        "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\ndate: DATE\r\n\r\n"
    );
    let chunked = "HTTP/1.1 200 Fine\r\nDate: then\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(
        answered(chunked, None, TOWARD),
        (
            "HTTP/1.1 200 Fine\r\ndate: then\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            Sender::Chunked,
            true
        )
    );
    let old = Toward {
        version: Version::HTTP_10,
        ..TOWARD
    };
    assert_eq!(
        answered(chunked, None, old),
        (
            "HTTP/1.0 200 Fine\r\ndate: then\r\nconnection: close\r\n\r\n".into(),
            Sender::UntilClose,
            false
        )
    );
    assert_eq!(
        answered(ok, Some(5), old).0,
        "HTTP/1.0 200 OK\r\nx: y\r\ncontent-length: 5\r\nconnection: keep-alive\r\ndate: DATE\r\n\r\n"
    );
}

#[test]
fn answers_without_a_body_may_have_a_length_all_the_same() {
    let ok = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 005\r\n\r\n";
    let last = Toward {
        keeps: false,
        ..TOWARD
    };
    assert_eq!(
        answered(
            "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n",
            Some(0),
            last
        )
        .0,
        "HTTP/1.1 204 No Content\r\nconnection: close\r\ndate: DATE\r\n\r\n"
    );
    assert_eq!(
        answered(
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
            Some(0),
            TOWARD
        )
        .0,
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\ndate: DATE\r\n\r\n"
    );
    let head = Toward {
        asked: Asked::ForHead,
        ..TOWARD
    };
    assert_eq!(
        answered(ok, Some(0), head),
        (
            "HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 005\r\ndate: DATE\r\n\r\n".into(),
            Sender::None,
            true
        )
    );
    assert_eq!(
        answered("HTTP/1.1 200 OK\r\n\r\n", Some(12), head).0,
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\ndate: DATE\r\n\r\n"
    );
}

#[test]
fn an_answer_that_asks_for_it_ends_the_connection() {
    let mut out = vec![];
    let mut answer = http::Response::new(()).into_parts().0;
    let close = http::HeaderValue::from_static("close");
    answer.headers.insert("connection", close);
    let (_, keeps) = answer_head(&mut out, &answer, Some(1), TOWARD);
    assert!(!keeps);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.matches("connection: close").count(), 1);
}

#[test]
fn bodies_are_sent_as_they_were_announced() {
    let mut out = vec![];
    let mut length = Sender::Length(3);
    assert_eq!(length.begin(&mut out, 2), Some(()));
    assert!(!length.may_end(), "one byte is missing");
    assert_eq!(length.begin(&mut out, 2), None, "one byte too many");
    assert_eq!(length.begin(&mut out, 1), Some(()));
    assert!(length.may_end());
    assert_eq!(Sender::None.begin(&mut out, 1), None);
    assert_eq!(out, b"");
}

proptest! {
    #[test]
    fn a_head_is_read_alike_in_whatever_pieces_it_comes(
        text in "(GET|P) /[a-z]{0,5} HTTP/1\\.1\r\n([A-C]{1,3}: ?[a-z\r\n\t ]{0,5}\r?\n){0,4}\r?\n[a-z\r\n]{0,6}",
        cuts in proptest::collection::vec(0_usize..100, 0..6),
    ) {
        let bytes = text.as_bytes();
        let whole = Search::default().end(bytes);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut search = Search::default();
        let mut parts = Ok(None);
        for cut in cuts {
            parts = search.end(&bytes[..cut]);
            if parts != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn a_body_is_read_alike_in_whatever_pieces_it_comes(
        text in "([0-9a]{1,2}(;[a-c=\"]{0,4})?\r\n[a-z]{0,10}\r?\n){0,3}0\r\n(X: [a-z]{0,3}\r\n)?\r\n[a-z]{0,3}",
        cuts in proptest::collection::vec(0_usize..100, 0..6),
    ) {
        let bytes = text.as_bytes();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(
            body_of(Framing::Chunked, &pieces),
            body_of(Framing::Chunked, &[bytes])
        );
    }

    #[test]
    fn what_is_sent_in_chunks_is_read_back(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..5)
    ) {
        let mut out = vec![];
        let mut sender = Sender::Chunked;
        for piece in &pieces {
            sender.begin(&mut out, piece.len()).unwrap();
            out.extend_from_slice(piece);
            out.extend_from_slice(sender.behind(Place::Within));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        prop_assert!(sender.may_end());
        sender.end(&mut out, &trailers);
        let (body, read, rest) = body_of(Framing::Chunked, &[&out]).unwrap();
        prop_assert_eq!(body, pieces.concat());
        prop_assert_eq!(read, trailers);
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn a_request_that_is_written_is_read_back(
        method in "[A-Z]{1,8}", target in "/[a-z0-9/?=&%]{0,20}",
        fields in proptest::collection::vec(("[a-z-]{1,10}x", "([!-~]([ -~]{0,8}[!-~])?)?"), 0..8),
    ) {
        let mut map = HeaderMap::new();
        for (name, value) in &fields {
            map.append(
                http::HeaderName::try_from(name).unwrap(),
                http::HeaderValue::try_from(value).unwrap(),
            );
        }
        let method = Method::try_from(method.as_str()).unwrap();
        let uri = http::Uri::try_from(target.as_str()).unwrap();
        let mut out = vec![];
        request_head(&mut out, &method, &uri, &map);
        let (read, end) = read_request(&out).unwrap().unwrap();
        prop_assert_eq!(end, out.len());
        prop_assert_eq!(read.parts.method, method);
        prop_assert_eq!(read.parts.uri, uri);
        prop_assert_eq!(read.parts.headers, map);
    }
}
