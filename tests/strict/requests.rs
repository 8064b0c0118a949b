//! Requests: each is refused, or the same single request to whoever reads it.

#![expect(clippy::too_many_lines, reason = "they are lists of cases")]

use serde_json::json;

use crate::{
    ground::{Ground, converse, find, show, statuses},
    witness::{Seen, WITNESSES},
};

/// What becomes of a case.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The client is told that status, and no member sees a whole request.
    Refused(u16),
    /// A member sees these, and the connection goes on.
    Passed(Vec<Seen>),
    /// A member sees these, and the connection ends.
    Last(Vec<Seen>),
}

use Wanted::{Last, Passed, Refused};

pub(crate) struct Case {
    bytes: Vec<u8>,
    wanted: Wanted,
}

/// Cases as they are gathered.
#[derive(Default)]
pub(crate) struct Cases(Vec<Case>);

impl Cases {
    pub(crate) fn add(&mut self, bytes: impl Into<Vec<u8>>, wanted: Wanted) {
        self.0.push(Case {
            bytes: bytes.into(),
            wanted,
        });
    }

    pub(crate) fn refused(&mut self, status: u16, all: &[&str]) {
        for bytes in all {
            self.add(*bytes, Refused(status));
        }
    }

    /// POST with these lines in its head and these bytes behind it.
    pub(crate) fn post(&mut self, lines: &str, rest: &str, wanted: Wanted) {
        let head = format!("POST /case HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        self.add(head + rest, wanted);
    }
}

pub(crate) fn seen(method: &str, target: &str, host: &str, body: &str) -> Seen {
    Seen {
        method: method.into(),
        target: target.into(),
        host: Some(host.into()),
        body: body.into(),
    }
}

pub(crate) fn got(target: &str) -> Vec<Seen> {
    vec![seen("GET", target, "h", "")]
}

pub(crate) fn posted(body: &str) -> Wanted {
    Passed(vec![seen("POST", "/case", "h", body)])
}

/// Follows each case, so that whoever takes it for something else shows.
const SENTINEL: &str = "GET /sentinel HTTP/1.1\r\nHost: s\r\nConnection: close\r\n\r\n";

pub(crate) fn judge(cases: Cases) {
    let ground = Ground::new(&json!({}));
    let mut faults = vec![];
    let count = cases.0.len();
    for case in cases.0 {
        let shown = show(&case.bytes[..case.bytes.len().min(300)]);
        let (answer, _) = converse(&[&case.bytes, SENTINEL.as_bytes()].concat());
        ground.member.settle();
        let record = ground.member.take();
        if let Err(fault) = verdict(&case, &answer, &record) {
            let record: Vec<_> = record.iter().map(|bytes| show(bytes)).collect();
            let record = record.concat();
            faults.push(format!("{shown}\n  {fault}\n  member saw: {record:.400}"));
        }
    }
    assert!(
        faults.is_empty(),
        "{} of {count}:\n{}",
        faults.len(),
        faults.join("\n")
    );
}

fn verdict(case: &Case, answer: &[u8], record: &[Vec<u8>]) -> Result<(), String> {
    let told = statuses(answer);
    let (wanted, sentinel) = match &case.wanted {
        Refused(status) => {
            if told != [*status] {
                return Err(format!(
                    "{status} was wanted, got {told:?}: {:.200}",
                    show(answer)
                ));
            }
            let all = record.concat();
            if find(&all, b"/sentinel").is_some() {
                return Err("the next request was read out of it".into());
            }
            // The beginning of a body that turns out to be malformed may have been on its way.
            for witness in WITNESSES {
                if !all.is_empty() && witness.read(&all).is_ok() {
                    return Err(format!("it is a request to {}", witness.name));
                }
            }
            return Ok(());
        }
        Passed(wanted) => (wanted, true),
        Last(wanted) => (wanted, false),
    };
    let mut wanted = wanted.clone();
    if sentinel {
        wanted.push(seen("GET", "/sentinel", "s", ""));
    }
    if told.len() != wanted.len() || told.iter().any(|status| *status != 200) {
        return Err(format!(
            "{} answers were wanted, got {told:?}: {:.200}",
            wanted.len(),
            show(answer)
        ));
    }
    for witness in WITNESSES {
        let mut all = vec![];
        for bytes in record {
            let read = witness.read(bytes);
            all.extend(read.map_err(|fault| format!("{}: {fault}", witness.name))?);
        }
        if all != wanted {
            return Err(format!("{} saw {all:?}", witness.name));
        }
    }
    Ok(())
}

#[test]
fn lengths_are_plain_numbers_given_once() {
    let mut cases = Cases::default();
    for length in [
        "+5",
        "-5",
        "5, 5",
        "5,5",
        "5, 6",
        "0x5",
        "5_0",
        "5.0",
        "5e0",
        " ",
        "",
        "five",
        "5 5",
        "\t5 0",
        "05a",
        "5;",
        "\"5\"",
        "18446744073709551616",
        "9223372036854775808",
        "99999999999999999999999999999999999999",
        "\u{0665}",
        "5\u{b}",
        "NaN",
        "0b101",
        "5,",
        ",5",
    ] {
        cases.post(
            &format!("Content-Length: {length}\r\n"),
            "abcde",
            Refused(400),
        );
    }
    for length in ["5", "05", "0000000000000005", "  5", "5  ", "\t5\t"] {
        cases.post(
            &format!("Content-Length:{length}\r\n"),
            "abcde",
            posted("abcde"),
        );
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nX: y\r\ncontent-length: 05\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
    ] {
        cases.post(lines, "abcde", Refused(400));
    }
    cases.post("Content-Length: 0\r\n", "", posted(""));
    cases.post("", "", posted(""));
    // What could be taken for a length is no other field either.
    for name in ["Content_Length", "content_length", "CONTENT_LENGTH"] {
        cases.post(&format!("{name}: 5\r\n"), "", Refused(400));
        cases.post(
            &format!("Content-Length: 5\r\n{name}: 0\r\n"),
            "abcde",
            Refused(400),
        );
        cases.post(
            &format!("{name}: 0\r\nTransfer-Encoding: chunked\r\n"),
            "5\r\nabcde\r\n0\r\n\r\n",
            Refused(400),
        );
    }
    judge(cases);
}

#[test]
fn codings_are_chunked_once_and_stand_alone() {
    let whole = "5\r\nabcde\r\n0\r\n\r\n";
    let mut cases = Cases::default();
    for coding in [
        "chunked, identity",
        "identity, chunked",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked, chunked",
        "chunked,chunked",
        "gzip, chunked",
        "chunked, gzip",
        "gzip",
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{b}",
        "\u{b}chunked",
        "chunked\u{a0}",
        "chunke",
        "chunked chunked",
        "cow",
        "identity, chunked, identity",
        "chunk\u{e9}d",
        "chunked\u{7f}",
        "deflate",
    ] {
        cases.post(
            &format!("Transfer-Encoding: {coding}\r\n"),
            whole,
            Refused(400),
        );
    }
    for coding in ["chunked", "Chunked", "CHUNKED", " chunked ", "\tchunked\t"] {
        cases.post(
            &format!("Transfer-Encoding:{coding}\r\n"),
            whole,
            posted("abcde"),
        );
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 0\r\nX: y\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\t: chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "X: y\r\n\tTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Transfer_Encoding: chunked\r\n",
        "transfer_encoding: identity\r\nTransfer-Encoding: chunked\r\n",
        "Transfer_Encoding: chunked\r\nContent-Length: 15\r\n",
        "Transfer-Encoding\u{0}: chunked\r\n",
        "Transfer-Encoding\rX: chunked\r\n",
        "X: y\rTransfer-Encoding: chunked\r\n",
        "X: y\nTransfer-Encoding: chunked\r\n",
        "X: y\r\r\nTransfer-Encoding: chunked\r\n",
        "X: y\n\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding; chunked\r\n",
        ": chunked\r\n",
    ] {
        cases.post(lines, whole, Refused(400));
    }
    let old = "POST /case HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    cases.add(format!("{old}{whole}"), Refused(400));
    let old = "POST /case HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 15\r\n\r\n";
    cases.add(format!("{old}{whole}"), Refused(400));
    judge(cases);
}

#[test]
fn chunks_have_plain_sizes_and_end_where_they_say() {
    let mut cases = Cases::default();
    let chunked = "Transfer-Encoding: chunked\r\n";
    for size in [
        "",
        " 5",
        "5 ",
        "\t5",
        "5\t",
        "+5",
        "-5",
        "0x5",
        "5_",
        "_5",
        "g",
        "5g",
        "5.0",
        "5,",
        "0 5",
        "\u{0}5",
        "5\u{0}",
        "fffffffffffffffff",
        "10000000000000000",
        "ffffffffffffffff",
        "8000000000000000",
        "00000000000000005",
        "5\r",
        "5\n",
        "\r\n5",
        "5;\u{0}",
        "5;a=\u{1}",
        "5;a=\"b",
        "5;a=\"\n\"",
        "5;\n",
        "5;a\rb",
        "5;a\n",
        "5;=",
        "5;a=",
        "5;;",
        "5;a;",
        "5 a",
        "5;a b",
        "5;a=b c",
        "5;a=\"b\"c",
        "\u{e9}",
    ] {
        cases.post(
            chunked,
            &format!("{size}\r\nabcde\r\n0\r\n\r\n"),
            Refused(400),
        );
    }
    for size in [
        "5",
        "05",
        "0000000005",
        "5;a",
        "5;a=b",
        "5;a=\"b c\"",
        "5;a=\"\\\"\"",
        "5;a;b=c",
        "5;x=\"GET / HTTP/1.1\"",
    ] {
        cases.post(
            chunked,
            &format!("{size}\r\nabcde\r\n0\r\n\r\n"),
            posted("abcde"),
        );
    }
    for body in [
        // Longer and shorter than they say.
        "5\r\nabcdef\r\n0\r\n\r\n",
        "5\r\nabcd\r\n0\r\n\r\n",
        "5\r\nabcde0\r\n\r\n",
        "5\r\nabcde\n0\r\n\r\n",
        "5\r\nabcde\r0\r\n\r\n",
        "5\r\nabcde\r\r\n0\r\n\r\n",
        "5\r\nabcdeXX0\r\n\r\n",
        "5\nabcde\r\n0\r\n\r\n",
        "5\rabcde\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\n\n",
        "5\r\nabcde\r\n0\r\n\n",
        "5\r\nabcde\r\n0\n\r\n",
        "5\r\nabcde\r\n\r\n0\r\n\r\n",
        "5\r\nabcde\r\n0\r\nno field\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX : y\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX: y\n\r\n",
        "5\r\nabcde\r\n0\r\nX: y\r\n z\r\n\r\n",
        "5\r\nabcde\r\n0\r\nX: \u{0}\r\n\r\n",
        "5\r\nabcde\r\n0\r\n: y\r\n\r\n",
    ] {
        cases.post(chunked, body, Refused(400));
    }
    cases.post(chunked, "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", posted("abcde"));
    cases.post(
        chunked,
        "A\r\nabcde\r\n0\r\n\r\n0\r\n\r\n",
        posted("abcde\r\n0\r\n"),
    );
    cases.post(chunked, "0\r\n\r\n", posted(""));
    cases.post(chunked, "000\r\n\r\n", posted(""));
    cases.post(chunked, "5\r\nabcde\r\n0;a=b\r\n\r\n", posted("abcde"));
    // What follows the last chunk stays behind, whatever it is called.
    for line in [
        "X: y",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Host: other",
        "X-Forwarded-For: 1.1.1.1",
    ] {
        let body = format!("5\r\nabcde\r\n0\r\n{line}\r\n\r\n");
        cases.post(chunked, &body, posted("abcde"));
        let announced = format!("Trailer: {line}\r\n{chunked}").replace(": y", "");
        if !line.contains(": 1.") && line.matches(':').count() == 1 && line == "X: y" {
            cases.post(&announced, &body, posted("abcde"));
        }
    }
    judge(cases);
}

#[test]
fn lines_are_what_they_should_be() {
    let mut cases = Cases::default();
    let fine = "Host: h\r\n\r\n";
    // The first line.
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / HTTP/1.1\t",
        "GET /",
        "GET",
        "GET /a b HTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET / http/1.1",
        "GET / Http/1.1",
        "GET / HTTP/1",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / HTTP/01.1",
        "GET / HTTP/1,1",
        "GET / HTTP1.1",
        "GET / HTTPS/1.1",
        "GET / HTTP /1.1",
        "GET / HTTP/ 1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/+1.1",
        "GET / HTTP/a.b",
        "GET / ICY/1.1",
        "G(T / HTTP/1.1",
        "G=T / HTTP/1.1",
        "GET: / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        "GET /\u{e9} HTTP/1.1",
        "GET /#f HTTP/1.1",
        "GET /a#b HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET \\a HTTP/1.1",
        "GET a HTTP/1.1",
        "GET a/b HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET h:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "POST * HTTP/1.1",
        "OPTIONS ** HTTP/1.1",
        "OPTIONS /* HTTP/1.1 x",
        "GET http:/a HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://u@h/ HTTP/1.1",
        "GET http://u:p@h/ HTTP/1.1",
        "GET http://h:p/ HTTP/1.1",
        "GET http://h:99999/ HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "GET javascript:x HTTP/1.1",
        "GET //h:x@ HTTP/1.1 y",
        "GET http://[::1/ HTTP/1.1",
        "GET http://h\\x/ HTTP/1.1",
        "GET http://a,b/ HTTP/1.1",
    ] {
        cases.add(format!("{line}\r\n{fine}"), Refused(400));
    }
    for line in [
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / HTTP/1.2",
        "GET / HTTP/3.0",
        "GET / HTTP/9.9",
        "GET / HTTP/0.0",
    ] {
        cases.add(format!("{line}\r\n{fine}"), Refused(505));
    }
    for target in [
        "/",
        "/a?b",
        "/?",
        "/a//b",
        "//a",
        "/..",
        "/a/../b",
        "/%2e%2e",
        "/%00",
        "/a%0d%0ab",
        "/%",
        "/a|b",
        "/{a}",
        "/a\"b",
        "/a:80",
        "/@",
        "/a;b=c",
        "/a\\b",
        "/http://x/",
        "/?a=http://x",
        "/~",
    ] {
        cases.add(
            format!("GET {target} HTTP/1.1\r\n{fine}"),
            Passed(got(target)),
        );
    }
    for method in [
        "M-SEARCH",
        "get",
        "X",
        "PROPFIND",
        "G.T",
        "!#$%&'*+-.^_`|~",
        "BREW",
    ] {
        cases.add(
            format!("{method} / HTTP/1.1\r\n{fine}"),
            Passed(vec![seen(method, "/", "h", "")]),
        );
    }
    cases.add(
        format!("OPTIONS * HTTP/1.1\r\n{fine}"),
        Passed(vec![seen("OPTIONS", "*", "h", "")]),
    );
    for line in [
        "CONNECT h:80 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "CONNECT http://h/ HTTP/1.1",
    ] {
        cases.add(format!("{line}\r\n{fine}"), Refused(405));
    }
    // An empty line may be ahead of a request; one.
    cases.add(format!("\r\nGET / HTTP/1.1\r\n{fine}"), Passed(got("/")));
    for ahead in ["\r\n\r\n", "\n", "\r", "\n\r\n", "\r\r\n", " \r\n", "\0"] {
        cases.add(format!("{ahead}GET / HTTP/1.1\r\n{fine}"), Refused(400));
    }
    // HTTP/0.9, HTTP/2, TLS and other tongues.
    cases.refused(
        400,
        &[
            "GET /\r\n",
            "GET /\r\n\r\n",
            "PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03",
            "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
            "\0\0\0\0",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ],
    );
    judge(cases);
}
