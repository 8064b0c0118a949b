//! Bodies and what follows them.

use super::*;

#[test]
fn lengths_agree_with_bodies() {
    let mut cases = Cases::default();
    let posted = |body: &str| Passed(seen("POST", "/case", body));
    for length in [
        "",
        " ",
        "-1",
        "+3",
        "3 ",
        " 3",
        "3,3",
        "3, 3",
        "0x3",
        "3.0",
        "3e0",
        "abc",
        "3\u{b}",
        "03x",
        "18446744073709551616",
        "99999999999999999999999",
        "\u{0663}",
        "3;",
        "\"3\"",
        "3_",
        "2",
        "4",
        "0",
        "30",
    ] {
        cases.post(&[("content-length", length)], &[b"abc"], None, Refused);
    }
    for lengths in [
        &["3", "4"][..],
        &["4", "3"],
        &["3", "3", "4"],
        &["0", "3"],
        &["3", ""],
    ] {
        let all: Vec<_> = lengths
            .iter()
            .map(|length| ("content-length", *length))
            .collect();
        cases.post(&all, &[b"abc"], None, Refused);
    }
    cases
        .post(&[("content-length", "3")], &[b"abc"], None, posted("abc"))
        .always(&["\r\ncontent-length: 3\r\n"]);
    cases.post(
        &[("content-length", "3")],
        &[b"a", b"", b"bc"],
        None,
        posted("abc"),
    );
    cases.post(
        &[("content-length", "3")],
        &[b"abc", b""],
        None,
        posted("abc"),
    );
    cases
        .post(&[], &[b"abc"], None, posted("abc"))
        .always(&["\r\ntransfer-encoding: chunked\r\n"]);
    cases.post(&[], &[b"a", b"b", b"", b"c"], None, posted("abc"));
    cases.post(&[], &[b""], None, posted(""));
    cases.post(&[("content-length", "0")], &[b""], None, posted(""));
    // More than was said, in one piece and in several.
    for pieces in [
        &[&b"abcd"[..]][..],
        &[b"abc", b"d"],
        &[b"a", b"b", b"c", b"d"],
        &[b"abc", b"", b"d"],
    ] {
        cases.post(&[("content-length", "3")], pieces, None, Refused);
    }
    // A body that would be a request of its own.
    let next = b"GET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n";
    cases
        .post(&[("content-length", "0")], &[next], None, Refused)
        .never(&["get /smuggled"]);
    cases
        .post(&[("content-length", "3")], &[b"abc", next], None, Refused)
        .never(&["get /smuggled"]);
    let text = String::from_utf8_lossy(next).into_owned();
    cases.post(&[], &[next], None, posted(&text));
    // What ends with its head has no body.
    for length in ["1", "3", "-0", "0, 0"] {
        cases.with(&[(b"content-length", length.as_bytes())], Refused);
    }
    cases.with(&[(b"content-length", b"0")], got());
    // A body that looks like chunks stays a body.
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    cases.post(&[], &[chunks.as_bytes()], None, posted(chunks));
    cases.post(
        &[("content-length", "13")],
        &[chunks.as_bytes()],
        None,
        posted(chunks),
    );
    judge(cases);
}

#[test]
fn trailers_are_fields_that_mean_nothing_ahead_of_a_body() {
    let mut cases = Cases::default();
    let posted = || Passed(seen("POST", "/case", "abc"));
    // Pseudo-fields are of heads alone (RFC 9113 section 8.1).
    for (name, value) in [
        (":path", "/other"),
        (":method", "OTHER"),
        (":authority", "other"),
        (":scheme", "other"),
        (":status", "299"),
    ] {
        for announced in [&[][..], &[("trailer", "x-sum")]] {
            cases
                .post(announced, &[b"abc"], Some(&[(name, value)]), Refused)
                .never(&["other", "299"]);
        }
    }
    for (name, value) in [
        (":x", "y"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("keep-alive", "1"),
        ("upgrade", "x"),
        ("te", "gzip"),
        ("X-Upper", "y"),
        ("x y", "z"),
        ("x", "y\r\nz: a"),
        ("x", "y\0"),
        ("", "y"),
    ] {
        cases.post(&[], &[b"abc"], Some(&[(name, value)]), Refused);
        cases.post(
            &[("trailer", name)],
            &[b"abc"],
            Some(&[(name, value)]),
            Refused,
        );
    }
    // These say something about the message, or from whom it is: they stay behind.
    for (name, value) in [
        ("content-length", "3"),
        ("content-length", "30"),
        ("host", "other"),
        ("cookie", "a=1"),
        ("authorization", "x"),
        ("content-type", "text/evil"),
        ("expect", "100-continue"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-real-ip", "6.6.6.6"),
        ("x-forwarded-proto", "evil"),
        ("forwarded", "for=6.6.6.6"),
        ("content_length", "3"),
        ("transfer_encoding", "chunked"),
    ] {
        cases
            .post(
                &[("trailer", name)],
                &[b"abc"],
                Some(&[(name, value)]),
                posted(),
            )
            .never(&[
                "6.6.6.6",
                "evil",
                "\r\ncontent-length:",
                "host: other",
                "a=1",
                "authorization: ",
                "100-continue",
                "content_length: ",
                "transfer_encoding: ",
            ]);
    }
    cases
        .post(
            &[("trailer", "x-sum")],
            &[b"abc"],
            Some(&[("x-sum", "9")]),
            posted(),
        )
        .always(&["0\r\nx-sum: 9\r\n\r\n"]);
    cases.post(
        &[("content-length", "3")],
        &[b"abc"],
        Some(&[("x-sum", "9")]),
        posted(),
    );
    cases.post(
        &[("content-length", "4")],
        &[b"abc"],
        Some(&[("x-sum", "9")]),
        Refused,
    );
    cases.post(
        &[("content-length", "2")],
        &[b"abc"],
        Some(&[("x-sum", "9")]),
        Refused,
    );
    // Trailers that do not end the stream, and twice.
    let head = frame(kind::HEADERS, HEAD, 1, &block(&request("POST", "/case")));
    let data = frame(kind::DATA, 0, 1, b"abc");
    let trailer = block(&frames::fields(&[("x-sum", "9")]));
    cases.add(
        [&head[..], &data, &frame(kind::HEADERS, HEAD, 1, &trailer)].concat(),
        Refused,
    );
    let ended = frame(kind::HEADERS, WHOLE, 1, &trailer);
    cases.add([&head[..], &data, &ended].concat(), posted());
    judge(cases);
}
