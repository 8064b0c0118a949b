//! Heads: what is asked for and of whom, and how much of it there may be.

use super::*;

#[test]
fn pseudo_fields_come_first_once_and_whole() {
    let mut cases = Cases::default();
    let usual = request("GET", "/case");
    let without = |place: usize| -> Fields {
        let mut all = usual.clone();
        all.remove(place);
        all
    };
    for place in [0, 1, 3] {
        cases.head(&without(place), Refused);
        let mut all = without(place);
        all.push((b"host".to_vec(), b"h".to_vec()));
        cases.head(&all, Refused);
    }
    for place in 0..4 {
        // Twice the same, twice another, and behind a field.
        let mut all = usual.clone();
        all.insert(place, usual[place].clone());
        cases.head(&all, Refused);
        let mut all = usual.clone();
        all.push(usual[place].clone());
        cases.head(&all, Refused);
        let mut all = without(place);
        all.extend(frames::fields(&[("x", "y")]));
        all.push(usual[place].clone());
        cases.head(&all, Refused);
        let mut all = usual.clone();
        all.insert(0, (b"x".to_vec(), b"y".to_vec()));
        cases.head(&all, Refused);
        let mut all = usual.clone();
        all.insert(place, (usual[place].0.clone(), b"/other".to_vec()));
        cases.head(&all, Refused);
    }
    for name in [
        ":status",
        ":protocol",
        ":x",
        ":",
        ":Method",
        ":PATH",
        ":host",
        ":path:",
        ":authority ",
    ] {
        cases.with(&[(name.as_bytes(), b"200")], Refused);
        let mut all = usual.clone();
        all.insert(0, (name.as_bytes().to_vec(), b"200".to_vec()));
        cases.head(&all, Refused);
    }
    // In any order, as long as they come first.
    let mut turned = usual.clone();
    turned.reverse();
    cases.head(&turned, got());
    for method in [
        "",
        " ",
        "G T",
        "GET ",
        " GET",
        "GET /x HTTP/1.1\r\nhost: h\r\n\r\n",
        "GET\t",
        "G(T",
        "G\u{e9}T",
        "GET:",
        "G/T",
        "G\"T",
        "CONNECT",
        "PRI ",
    ] {
        cases.head(&pseudo(method, "http", "h", "/case"), Refused);
    }
    for method in [
        "GET", "POST", "OPTIONS", "DELETE", "PATCH", "get", "M-SEARCH", "X", "PRI",
    ] {
        cases.head(
            &pseudo(method, "http", "h", "/case"),
            Passed(seen(method, "/case", "")),
        );
    }
    for scheme in [
        "",
        "ftp",
        "file",
        "javascript",
        "http ",
        "ht tp",
        "http:",
        "http://",
        "\u{e9}",
        "ws",
    ] {
        cases.head(&pseudo("GET", scheme, "h", "/case"), Refused);
    }
    // TLS may end somewhere ahead of us.
    for scheme in ["http", "https"] {
        cases.head(&pseudo("GET", scheme, "h", "/case"), got());
    }
    for scheme in ["HTTP", "HTTPS"] {
        cases.head(&pseudo("GET", scheme, "h", "/case"), Refused);
    }
    let connect =
        |more: &[(&str, &str)]| frames::fields(&[&[(":method", "CONNECT")], more].concat());
    for more in [
        &[][..],
        &[(":authority", "")],
        &[(":authority", "h")],
        &[(":authority", "h:443")],
        &[(":authority", "h:443"), (":path", "/")],
        &[(":scheme", "http"), (":authority", "h:443")],
        &[
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "h"),
        ],
    ] {
        cases.head(&connect(more), Refused);
    }
    judge(cases);
}

#[test]
fn authorities_are_hosts_and_agree_with_the_host() {
    let mut cases = Cases::default();
    for authority in [
        "", " ", "u@h", "u:p@h", "@h", "h@", "h/", "h/x", "h?x", "h#x", "h h", "h,h", "h;h",
        "h\\h", "h:", "h:x", "h:65536", "h:-1", "h:80:80", ":80", "[::1", "::1", "[]", "[g]",
        "[::1]x", "h\"", "<h>", "h|h", "h^h", "h`h", "{h}", "h%", "h%2", "h%g0", "h\u{e9}",
        "http://h", "//h", "h\r", "h\n", "h\0",
    ] {
        let wanted = if authority == "h:" {
            Passed(Seen {
                host: Some("h:".into()),
                ..seen("GET", "/case", "")
            })
        } else {
            Refused
        };
        cases.head(&pseudo("GET", "http", authority, "/case"), wanted);
        // Beside a host it is no better.
        let mut all = pseudo("GET", "http", authority, "/case");
        all.push((b"host".to_vec(), b"h".to_vec()));
        cases.head(&all, Refused);
        // Nor as one.
        if authority != "h:" && !authority.is_empty() {
            let mut all = request("GET", "/case");
            all.remove(2);
            all.push((b"host".to_vec(), authority.as_bytes().to_vec()));
            cases.head(&all, Refused);
        }
    }
    for authority in [
        "h",
        "h:80",
        "h.example",
        "1.2.3.4",
        "[::1]",
        "[::1]:8080",
        "a-b",
        "a_b",
        "H",
    ] {
        let host = Some(authority.to_owned());
        let wanted = || {
            Passed(Seen {
                host: host.clone(),
                ..seen("GET", "/case", "")
            })
        };
        let mut all = pseudo("GET", "http", authority, "/case");
        cases.head(&all, wanted());
        all.push((b"host".to_vec(), authority.as_bytes().to_vec()));
        cases.head(&all, wanted());
        // Only a host: as by HTTP/1.
        all.remove(2);
        cases.head(&all, wanted());
    }
    for hosts in [
        &["other"][..],
        &["h:80"],
        &["h."],
        &["h", "h"],
        &["h", "other"],
        &["other", "h"],
        &[""],
        &["h, h"],
        &["h,other"],
    ] {
        let mut all = request("GET", "/case");
        all.extend(
            hosts
                .iter()
                .map(|host| (b"host".to_vec(), host.as_bytes().to_vec())),
        );
        // The same twice says no more than once.
        let same = hosts.iter().all(|host| *host == "h");
        cases.head(&all, if same { got() } else { Refused });
        all.remove(2);
        let one = hosts.len() == 1 && hosts[0] != "h, h" && hosts[0] != "h,other";
        let wanted = if one {
            Passed(Seen {
                host: Some(hosts[0].into()),
                ..seen("GET", "/case", "")
            })
        } else {
            Refused
        };
        cases.head(&all, wanted);
    }
    // Neither of them.
    let mut all = request("GET", "/case");
    all.remove(2);
    cases.head(&all, Refused);
    judge(cases);
}

#[test]
fn paths_are_paths() {
    let mut cases = Cases::default();
    for path in [
        "",
        " ",
        "case",
        "case/",
        "?case",
        "#case",
        "\\case",
        "http://h/case",
        "http://other/case",
        "//",
        "*",
        "**",
        "/ ",
        "/a b",
        " /case",
        "/case ",
        "/case HTTP/1.1",
        "/case HTTP/1.1\r\nx: y",
        "/\u{e9}",
        "/\u{1f}",
        "/a\u{7f}",
        ".",
        "..",
        "h:80",
        "/a\tb",
        "/a\0b",
        "/?a b",
        "/?\u{e9}",
    ] {
        let wanted = if path == "//" {
            Passed(seen("GET", "//", ""))
        } else {
            Refused
        };
        cases.head(&pseudo("GET", "http", "h", path), wanted);
    }
    for path in [
        "/",
        "/case",
        "/case?",
        "/case?a=b&c",
        "//case",
        "//other/case",
        "/../case",
        "/./case",
        "/%00",
        "/%0d%0a",
        "/a;b",
        "/a:b",
        "/a@b",
        "/?/?",
        "/~!$&'()*+,=",
        "/%",
        "/%zz",
        "/a//b",
    ] {
        cases.head(
            &pseudo("GET", "http", "h", path),
            Passed(seen("GET", path, "")),
        );
    }
    // Of what stands behind `#` a server knows nothing.
    for path in ["/case#f", "/case#", "/case#/../x"] {
        cases.head(&pseudo("GET", "http", "h", path), got());
    }
    cases.head(
        &pseudo("OPTIONS", "http", "h", "*"),
        Passed(seen("OPTIONS", "*", "")),
    );
    for method in ["GET", "POST", "HEAD"] {
        cases.head(&pseudo(method, "http", "h", "*"), Refused);
    }
    let long = format!("/{}", "a".repeat(40_000));
    let head = block(&pseudo("GET", "http", "h", &long));
    let (first, rest) = head.split_at(16_000);
    let (second, third) = rest.split_at(16_000);
    cases.add(
        [
            frame(kind::HEADERS, flag::END_STREAM, 1, first),
            frame(kind::CONTINUATION, 0, 1, second),
            frame(kind::CONTINUATION, HEAD, 1, third),
        ]
        .concat(),
        Refused,
    );
    judge(cases);
}

#[test]
fn heads_have_bounds() {
    let mut cases = Cases::default();
    let many = |count: usize| -> Fields {
        let mut all = request("GET", "/case");
        all.extend((0..count).map(|at| (format!("x-{at}").into_bytes(), b"y".to_vec())));
        all
    };
    cases.head(&many(60), got());
    // More than a message may have: by 431 or by the end of the connection.
    for count in [200, 1_000] {
        cases.head(&many(count), Refused);
    }
    // Kilobytes that are a few bytes on the wire (RFC 7541): one long field in the table, and names for it.
    let mut bomb = block(&request("GET", "/case"));
    bomb.push(0x40);
    bomb.push(1);
    bomb.push(b'x');
    bomb.extend([0x7f, 0x81, 0x1e]);
    bomb.extend(std::iter::repeat_n(b'b', 4_000));
    bomb.extend(std::iter::repeat_n(0xbe, 12_000));
    bomb.truncate(16_000);
    cases.add(frame(kind::HEADERS, WHOLE, 1, &bomb), Refused);
    // Indexes of nothing, numbers without end, a table that grows, strings that are cut.
    let head = block(&request("GET", "/case"));
    for tail in [
        &[0x80][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xfe],
        &[0x3f, 0xff, 0xff, 0xff, 0x7f],
        &[0x10, 1, b'x', 5, b'y'],
        &[0x10, 0x81, 0xff, 1, b'y'],
        &[0x10, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff],
        &[0x40],
    ] {
        let block = [&head[..], tail].concat();
        cases.add(frame(kind::HEADERS, WHOLE, 1, &block), Refused);
    }
    // A frame of another kind, or of another stream, in the middle of a head.
    let (first, rest) = head.split_at(9);
    for between in [
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::DATA, 0, 1, b"a"),
        frame(kind::CONTINUATION, HEAD, 3, rest),
        frame(kind::HEADERS, WHOLE, 3, &head),
        frame(0xfa, 0, 0, b""),
    ] {
        cases.add(
            [
                frame(kind::HEADERS, flag::END_STREAM, 1, first),
                between,
                frame(kind::CONTINUATION, HEAD, 1, rest),
            ]
            .concat(),
            Refused,
        );
    }
    judge(cases);
}
