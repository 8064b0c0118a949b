//! Fields: what their names and values may hold, which belong to one connection, which are ours.

use super::*;

#[test]
fn control_bytes_are_nowhere() {
    let mut cases = Cases::default();
    for byte in (0..0x20).chain([0x7f]) {
        let at = |text: &str| -> Vec<u8> {
            let (before, behind) = text.split_once('@').expect("a place");
            [before.as_bytes(), &[byte], behind.as_bytes()].concat()
        };
        for name in ["x@y", "@x", "x@", ":path@"] {
            cases.with(&[(&at(name), b"z")], Refused);
        }
        // A tab in the middle of a value is white space (RFC 9110 section 5.5).
        for value in ["@z", "z@"] {
            cases.with(&[(b"x", &at(value))], Refused);
        }
        let middle = if byte == b'\t' { got() } else { Refused };
        cases.with(&[(b"x", &at("y@z"))], middle);
        let middle = if byte == b'\t' { got() } else { Refused };
        cases.with(&[(b"cookie", &at("a=@1"))], middle);
        for (pseudo, value) in [
            (0, "G@ET"),
            (0, "GET@"),
            (1, "ht@tp"),
            (2, "h@h"),
            (2, "h@"),
            (3, "/@case"),
            (3, "/case@"),
            (3, "@/case"),
            (3, "/case?a@b"),
        ] {
            let mut all = request("GET", "/case");
            all[pseudo].1 = at(value);
            cases.head(&all, Refused);
        }
    }
    for smuggled in [
        "v\r\nx-smuggled: 1",
        "v\nx-smuggled: 1",
        "v\rx-smuggled: 1",
        "v\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n",
        "v\0\r\nx-smuggled: 1",
        "v\r\n x-smuggled: 1",
    ] {
        let smuggled = smuggled.as_bytes();
        cases
            .with(&[(b"x", smuggled)], Refused)
            .never(&["smuggled"]);
        let name = [b"x: ".as_slice(), smuggled].concat();
        cases.with(&[(&name, b"v")], Refused).never(&["smuggled"]);
        for place in 0..4 {
            let mut all = request("GET", "/case");
            all[place].1.extend(smuggled);
            cases.head(&all, Refused).never(&["smuggled"]);
        }
        let trailers = format!("x{}", String::from_utf8_lossy(smuggled));
        cases
            .post(&[], &[b"abc"], Some(&[("x-end", &trailers)]), Refused)
            .never(&["smuggled"]);
    }
    judge(cases);
}

#[test]
fn names_are_tokens_in_lower_case() {
    let mut cases = Cases::default();
    for name in [
        "X",
        "X-Upper",
        "xY",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Cookie",
        "TE",
        "",
        " ",
        "x y",
        " x",
        "x ",
        "x:",
        ":x",
        "x:y",
        "(x)",
        "x,y",
        "x/y",
        "x;y",
        "x<y",
        "x=y",
        "x>y",
        "x?y",
        "x@y",
        "x[y",
        "x\\y",
        "x]y",
        "{x}",
        "\"x\"",
        "x\u{e9}",
        "\u{212a}",
        "x\u{ff3f}y",
    ] {
        cases.with(&[(name.as_bytes(), b"z")], Refused);
    }
    for raw in [&b"x\xff"[..], b"\x80", b"x\xc3"] {
        cases.with(&[(raw, b"z")], Refused);
    }
    for name in [
        "x",
        "x-y",
        "x_y",
        "x.y",
        "1",
        "!#$%&'*+-.^_`|~",
        "x1",
        "http2-unknown",
    ] {
        let line = format!("\r\n{name}: z\r\n");
        cases
            .with(&[(name.as_bytes(), b"z")], got())
            .always(&[&line]);
    }
    // Values may hold what is no ASCII, and nothing at all.
    for value in [
        &b""[..],
        b"y z",
        b"\xe9",
        b"\xff\xfe",
        b":",
        b"a,b;c=\"d\"",
        b"\"a",
    ] {
        cases.with(&[(b"x", value)], got());
    }
    for value in [&b" "[..], b" y", b"y ", b"\ty", b"y\t", b"  "] {
        cases.with(&[(b"x", value)], Refused);
    }
    judge(cases);
}

#[test]
fn what_belongs_to_one_connection_is_refused() {
    let mut cases = Cases::default();
    for (name, value) in [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-forwarded-for"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("transfer-encoding", "xchunked"),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "gzip, trailers"),
        ("te", "trailers;q=1"),
        ("te", "chunked"),
        ("te", ""),
    ] {
        cases.with(&[(name.as_bytes(), value.as_bytes())], Refused);
        cases.post(&[(name, value)], &[b"abc"], None, Refused);
        cases
            .post(
                &[(name, value)],
                &[b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: h\r\n\r\n"],
                None,
                Refused,
            )
            .never(&["get /smuggled"]);
    }
    for (name, value) in [
        ("transfer_encoding", "chunked"),
        ("transfer-encoding_", "chunked"),
        ("content_length", "3"),
        ("content_length", "0"),
    ] {
        // Some take these for the others; the last one of the first names is a name of its own.
        let wanted = if name.ends_with('_') {
            Passed(seen("POST", "/case", "abc"))
        } else {
            Refused
        };
        cases.post(&[(name, value)], &[b"abc"], None, wanted);
    }
    cases
        .with(&[(b"te", b"trailers")], got())
        .never(&["\r\nte:"]);
    cases
        .with(&[(b"http2-settings", b"AAMAAABkAAQAAP__")], got())
        .never(&["http2-settings"]);
    for expectation in ["100-continue", "100-Continue"] {
        cases
            .post(
                &[("expect", expectation)],
                &[b"abc"],
                None,
                Passed(seen("POST", "/case", "abc")),
            )
            .never(&["expect"]);
    }
    for expectation in ["200-ok", "100-continue, x", "", "x=y"] {
        cases.post(&[("expect", expectation)], &[b"abc"], None, Refused);
    }
    judge(cases);
}

#[test]
fn what_we_say_of_a_client_it_can_neither_preset_nor_hide() {
    let mut cases = Cases::default();
    for (name, value) in [
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_for", "6.6.6.6"),
        ("x_forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "evil"),
        ("x_forwarded_proto", "evil"),
        ("x-forwarded-port", "evil"),
        ("x_forwarded_port", "evil"),
        ("x-real-ip", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
        ("x-real_ip", "6.6.6.6"),
    ] {
        cases
            .with(&[(name.as_bytes(), value.as_bytes())], got())
            .never(&["6.6.6.6", "evil"]);
    }
    cases.with(&[], got()).always(&[
        "\r\nx-forwarded-for: 127.",
        "\r\nx-forwarded-proto: http\r\n",
        "\r\nx-forwarded-port: 80\r\n",
        "\r\nx-real-ip: 127.",
    ]);
    for (pieces, line) in [
        (&["a=1", "b=2"][..], "\r\ncookie: a=1; b=2\r\n"),
        (&["a=1; b=2", "c=3"], "\r\ncookie: a=1; b=2; c=3\r\n"),
        (&["a=1"], "\r\ncookie: a=1\r\n"),
        (&["a=1", "a=2", "a=1"], "\r\ncookie: a=1; a=2; a=1\r\n"),
    ] {
        let all: Vec<_> = pieces
            .iter()
            .map(|piece| (&b"cookie"[..], piece.as_bytes()))
            .collect();
        cases.with(&all, got()).always(&[line]);
    }
    judge(cases);
}
