//! Requests, by their fields: what they may hold, who is asked, what comes next, how long they may be.

#![expect(clippy::too_many_lines, reason = "they are lists of cases")]

use crate::requests::{
    Cases,
    Wanted::{Last, Passed, Refused},
    got, judge, posted, seen,
};

#[test]
fn control_bytes_are_nowhere_and_lines_are_not_folded() {
    let mut cases = Cases::default();
    for byte in (0..=0x20)
        .chain([0x7f])
        .filter(|byte| !b"\t ".contains(byte))
    {
        let with = |text: &str| -> Vec<u8> {
            let (before, behind) = text.split_once('@').expect("a place");
            [before.as_bytes(), &[byte], behind.as_bytes()].concat()
        };
        for text in [
            "G@ET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /@a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.@1\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h@h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX@Y: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX@: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n@X: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX: @z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX: y@z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX: y@\r\n\r\n",
        ] {
            let is_end = matches!(byte, b'\n');
            // LF at the end of a value ends the line, though not as it should.
            let _ = is_end;
            cases.add(with(text), Refused(400));
        }
    }
    for lines in [
        "X: y\r\n z\r\n",
        "X: y\r\n\tz\r\n",
        "X:\r\n y\r\n",
        "X: y\r\n \r\n",
        " X: y\r\n",
        "\tX: y\r\n",
        "X : y\r\n",
        "X\t: y\r\n",
        "X y: z\r\n",
        ": y\r\n",
        " : y\r\n",
        "X\r\n",
        "X;\r\n",
        "\u{e9}: y\r\n",
        "X\u{e9}: y\r\n",
        "(X): y\r\n",
        "X,Y: z\r\n",
        "X/Y: z\r\n",
        "X@Y: z\r\n",
        "\"X\": y\r\n",
        "X=Y\r\n",
        "X: y\r\r\n",
        "X: y\n",
        "X: y\nZ: a\r\n",
        "X: y\r\n\nZ: a\r\n",
        "X: y\rZ: a\r\n",
        "{X}: y\r\n",
        "X[]: y\r\n",
    ] {
        cases.add(
            format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"),
            Refused(400),
        );
    }
    cases.refused(
        400,
        &[
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\r\n\n",
            "GET / HTTP/1.1\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\rHost: h\r\r",
            "GET / HTTP/1.1\r\n Host: h\r\n\r\n",
            "GET / HTTP/1.1\r\n\tHost: h\r\n\r\n",
        ],
    );
    for lines in [
        "X:y\r\n",
        "X:\r\n",
        "X: \r\n",
        "X:  y z  \r\n",
        "X:\ty\r\n",
        "X: y\tz\r\n",
        "X: caf\u{e9}\r\n",
        "X: :\r\n",
        "X: \"a\r\n",
        "X_Y: z\r\n",
        "x.y: z\r\n",
        "!#$%&'*+-.^_`|~: z\r\n",
        "1: 2\r\n",
        "X: y\r\nX: z\r\n",
    ] {
        cases.add(
            format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n"),
            Passed(got("/")),
        );
    }
    judge(cases);
}

#[test]
fn there_is_one_host_and_it_is_one() {
    let mut cases = Cases::default();
    cases.refused(
        400,
        &[
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhost: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost:\r\nHost: b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        ],
    );
    for host in [
        "a b", "a\tb", "a/b", "a@b", "u:p@a", "a,b", "a?b", "a#b", "a\\b", "a;b=c d", "http://a",
        "a:80:80", "a:x", "a:+80", "a:65536", "a:-1", "a: 80", ":80", "[::1", "::1", "[::1]x",
        "[::1]:x", "[g]", "[]", "a[b]", "a\"b", "<a>", "a|b", "a^b", "a`b", "{a}", "a\u{e9}", "%",
        "%g0", "a%2", "*a b",
    ] {
        cases.add(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Refused(400),
        );
    }
    for host in [
        "a",
        "a:80",
        "a.b.",
        "A.B",
        "1.2.3.4",
        "1.2.3.4:8080",
        "[::1]",
        "[::1]:80",
        "a-b",
        "a_b",
        "xn--a",
        "a%20b",
        "a:",
        "a~b",
        "a!b",
        "*",
        "[v1.a:b]",
        "a:0",
        "",
    ] {
        cases.add(
            format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Passed(vec![seen("GET", "/", host, "")]),
        );
    }
    // The authority of the target is the one that counts (RFC 9112 section 3.2.2).
    for (target, host, path) in [
        ("http://a/", "a", "/"),
        ("http://a", "a", "/"),
        ("http://a:80/b?c", "a:80", "/b?c"),
        ("HTTP://a/", "a", "/"),
        ("https://a/", "a", "/"),
        ("http://[::1]:8/", "[::1]:8", "/"),
        ("http://a?b", "a", "/?b"),
    ] {
        cases.add(
            format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"),
            Passed(vec![seen("GET", path, host, "")]),
        );
    }
    judge(cases);
}

#[test]
fn a_connection_says_what_comes_next_and_nothing_else_does() {
    let mut cases = Cases::default();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    // As a body it is one.
    let length = smuggled.len();
    cases.post(
        &format!("Content-Length: {length}\r\n"),
        smuggled,
        posted(smuggled),
    );
    let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
    cases.post("Transfer-Encoding: chunked\r\n", &chunk, posted(smuggled));
    cases.add(
        format!("GET /case HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
        Passed(vec![seen("GET", "/case", "h", smuggled)]),
    );
    for method in ["HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "FOO"] {
        if method != "HEAD" {
            cases.add(
                format!("{method} /case HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n{smuggled}"),
                Passed(vec![seen(method, "/case", "h", smuggled)]),
            );
        }
    }
    // Ahead of time they are two.
    let two = "GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n";
    cases.add(two, Passed([got("/1"), got("/2")].concat()));
    // What is for one hop says nothing to the next.
    for line in [
        "Connection: content-length",
        "Connection: Content-Length, keep-alive",
        "Connection: host",
        "Connection: transfer-encoding",
        "Keep-Alive: timeout=1",
        "Proxy-Connection: close",
        "TE: trailers, chunked",
        "Upgrade: h2c",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__",
        "Trailer: Content-Length",
        "Connection: \"close\"",
        "Connection: ,,",
        "Max-Forwards: 0",
        "X-HTTP-Method-Override: DELETE",
        "Content-Length-X: 5",
        "X-Content-Length: 5",
        "Upgrade: websocket",
    ] {
        cases.post(
            &format!("{line}\r\nContent-Length: 5\r\n"),
            "abcde",
            posted("abcde"),
        );
    }
    for line in [
        "Connection: close",
        "Connection: CLOSE",
        "Connection: x, close",
        "Connection: keep-alive\r\nConnection: close",
    ] {
        cases.post(
            &format!("{line}\r\nContent-Length: 5\r\n"),
            "abcde",
            Last(vec![seen("POST", "/case", "h", "abcde")]),
        );
    }
    cases.add("GET /case HTTP/1.0\r\nHost: h\r\n\r\n", Last(got("/case")));
    cases.add(
        "GET /case HTTP/1.0\r\n\r\n",
        Last(vec![seen("GET", "/case", "", "")]),
    );
    for line in [
        "Expect: 200-ok",
        "Expect: 100-continue, x",
        "Expect: ",
        "Expect: 100-continue\r\nExpect: x",
        "Expect: y 100-continue",
    ] {
        cases.post(
            &format!("{line}\r\nContent-Length: 5\r\n"),
            "abcde",
            Refused(417),
        );
    }
    judge(cases);
}

#[test]
fn nothing_is_longer_than_is_served() {
    let mut cases = Cases::default();
    let long = |count: usize| "a".repeat(count);
    cases.add(
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(33_000)),
        Refused(414),
    );
    cases.add(
        format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", long(100_000)),
        Refused(414),
    );
    let target = format!("/{}", long(30_000));
    cases.add(
        format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"),
        Passed(got(&target)),
    );
    cases.add(
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", long(70_000)),
        Refused(431),
    );
    cases.add(
        format!("GET / HTTP/1.1\r\nHost: h\r\n{}: x\r\n\r\n", long(70_000)),
        Refused(431),
    );
    cases.add(
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "X: y\r\n".repeat(101)
        ),
        Refused(431),
    );
    cases.add(
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "X: y\r\n".repeat(20_000)
        ),
        Refused(431),
    );
    cases.add(
        format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(90)),
        Passed(got("/")),
    );
    cases.add(
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", long(40_000)),
        Passed(got("/")),
    );
    cases.add(
        format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", long(100)),
        Refused(400),
    );
    cases.add(long(100_000), Refused(400));
    let chunked = "Transfer-Encoding: chunked\r\n";
    cases.post(
        chunked,
        &format!("5;{}\r\nabcde\r\n0\r\n\r\n", long(20_000)),
        Refused(400),
    );
    cases.post(
        chunked,
        &format!("{}5\r\nabcde\r\n0\r\n\r\n", "0".repeat(40)),
        Refused(400),
    );
    let many = format!("1;{}\r\na\r\n", long(400)).repeat(60);
    cases.post(chunked, &format!("{many}0\r\n\r\n"), Refused(400));
    cases.post(
        chunked,
        &format!("0\r\n{}\r\n", "X: y\r\n".repeat(101)),
        Refused(400),
    );
    cases.post(
        chunked,
        &format!("0\r\nX: {}\r\n\r\n", long(70_000)),
        Refused(400),
    );
    judge(cases);
}
