//! curl over everything that it can speak, with all that requests can be: what it sent arrives, and what the member
//! answered comes back.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use krater_tests::{Authority, HttpMember, Namespace, Standalone, run_to_end};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{body_json, text};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));
const SIZE: usize = 8 << 20;

/// An amphora with a listener in the clear and one that ends TLS; a member that tells what it got, and one with a large
/// file below `/file`.
struct Stage {
    folder: TempDir,
    _amphora: Standalone,
    _teller: HttpMember,
    _network: Namespace,
}

/// What curl saw.
struct Said {
    content: bool,
    status: u16,
    /// Of HTTP, as the answer has it.
    version: String,
    /// Connections made, in all of the requests.
    connects: u32,
    body: Vec<u8>,
    /// All that it printed of itself.
    log: String,
}

/// A way to speak HTTP.
struct Mode {
    name: &'static str,
    scheme: &'static str,
    arguments: &'static [&'static str],
    /// The version of the answers.
    version: &'static str,
}

const MODES: [Mode; 9] = [
    mode("1.0", "http", &["--http1.0"], "1"),
    mode("1.1", "http", &["--http1.1"], "1.1"),
    // Offers to change to HTTP/2 in the clear, which is not taken up.
    mode("an upgrade to 2", "http", &["--http2"], "1.1"),
    mode(
        "2 without a word",
        "http",
        &["--http2-prior-knowledge"],
        "2",
    ),
    mode("1.0 inside TLS", "https", &["--http1.0"], "1"),
    mode(
        "1.1 inside TLS 1.2",
        "https",
        &["--http1.1", "--tls-max", "1.2"],
        "1.1",
    ),
    mode(
        "1.1 inside TLS 1.3",
        "https",
        &["--http1.1", "--tlsv1.3"],
        "1.1",
    ),
    mode(
        "2 inside TLS 1.2",
        "https",
        &["--http2", "--tls-max", "1.2"],
        "2",
    ),
    mode("2 inside TLS 1.3", "https", &["--http2", "--tlsv1.3"], "2"),
];

const fn mode(
    name: &'static str,
    scheme: &'static str,
    arguments: &'static [&'static str],
    version: &'static str,
) -> Mode {
    Mode {
        name,
        scheme,
        arguments,
        version,
    }
}

impl Stage {
    fn new() -> Self {
        let network = Namespace::enter_new();
        let authority = Authority::new("authority");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        fs::write(folder.path().join("large"), pattern()).expect("a file");
        fs::write(folder.path().join("small"), b"small body").expect("a file");
        let teller = HttpMember::start("m", "127.0.0.1:0");
        let tls = json!({
            "default_certificate": authority.issue(&["a.example"]).spec(),
            "versions": ["1.2", "1.3"],
            "cipher_suites": ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            "alpn": ["h2", "http/1.1", "http/1.0"],
        });
        let to_files = json!([{
            "action": {"redirect_to_pool": "files"},
            "rules": [{"subject": "path", "comparison": "starts_with", "value": "/file"}],
        }]);
        let listener = |name: &str, port: u16, tls: Value| {
            json!({"name": name, "protocol": "http", "port": port, "default_pool": "web", "tls": tls,
                "policies": to_files})
        };
        let pool = |name: &str, at: SocketAddr| {
            json!({"name": name, "protocol": "http",
                "members": [{"address": at.ip().to_string(), "port": at.port()}]})
        };
        let snapshot = json!({"load_balancers": [{
            "name": "all", "vips": [VIP.to_string()],
            "listeners": [listener("plain", 80, Value::Null), listener("sealed", 443, tls)],
            "pools": [pool("web", teller.address()), pool("files", file_member())],
        }]});
        let amphora =
            Standalone::start_with(&snapshot, SocketAddr::new(VIP, 80), &["--workers", "2"]);
        Self {
            folder,
            _amphora: amphora,
            _teller: teller,
            _network: network,
        }
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path").to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs curl in that mode for these paths.
    fn curl(&self, mode: &Mode, arguments: &[&str], paths: &[&str]) -> Said {
        let mut command = Command::new("curl");
        command
            .args([
                "--silent",
                "--show-error",
                "--verbose",
                "--max-time",
                "60",
                "--cacert",
            ])
            .arg(self.path("ca.pem"))
            .args(["--resolve", &format!("a.example:80:{VIP}")])
            .args(["--resolve", &format!("a.example:443:{VIP}")])
            .args([
                "--write-out",
                "\n@ %{http_code} %{http_version} %{num_connects}\n",
            ])
            .args(mode.arguments)
            .args(arguments);
        for path in paths {
            command.arg("--output").arg(self.path("out"));
            command.arg(format!("{}://a.example{path}", mode.scheme));
        }
        let _ = fs::remove_file(self.path("out"));
        let (status, log) = run_to_end(&mut command, Duration::from_secs(90));
        let told = log.lines().filter_map(|line| line.strip_prefix("@ "));
        let told: Vec<Vec<&str>> = told.map(|line| line.split(' ').collect()).collect();
        let last = told
            .last()
            .unwrap_or_else(|| panic!("{}: {log}", mode.name));
        Said {
            content: status.success(),
            status: last[0].parse().expect("a status"),
            version: last[1].to_owned(),
            connects: told
                .iter()
                .map(|told| told[2].parse::<u32>().expect("a number"))
                .sum(),
            body: fs::read(self.path("out")).unwrap_or_default(),
            log,
        }
    }

    /// The same where it has to be content, and answered with that status by the version of the mode.
    fn asked(&self, mode: &Mode, status: u16, arguments: &[&str], paths: &[&str]) -> Said {
        let said = self.curl(mode, arguments, paths);
        let told = (said.content, said.status, said.version.as_str());
        assert_eq!(
            told,
            (true, status, mode.version),
            "{} {arguments:?}:\n{}",
            mode.name,
            said.log
        );
        said
    }

    /// What the member tells of a request.
    fn told(&self, mode: &Mode, arguments: &[&str], path: &str) -> Value {
        body_json(&self.asked(mode, 200, arguments, &[path]).body)
    }

    /// A body of a known length, one of which the length shows at its end, and one that waits to be asked for.
    fn sends_small_bodies(&self, mode: &Mode) {
        let small = format!("@{}", self.file("small"));
        let told = self.told(mode, &["--data-binary", &small], "/p");
        assert_eq!(
            (text(&told["method"]), told["body_bytes"].as_u64()),
            ("POST".into(), Some(10))
        );
        if mode.arguments != ["--http1.0"] {
            let chunked = [
                "--header",
                "Transfer-Encoding: chunked",
                "--data-binary",
                &small,
            ];
            let told = self.told(mode, &chunked, "/c");
            assert_eq!(told["body_bytes"], 10, "{}", mode.name);
            let expecting = [
                "--header",
                "Expect: 100-continue",
                "--expect100-timeout",
                "50",
                "--data-binary",
                &small,
            ];
            let said = self.asked(mode, 200, &expecting, &["/e"]);
            assert_eq!(body_json(&said.body)["body_bytes"], 10);
            assert!(said.log.contains(" 100"), "{}: {}", mode.name, said.log);
        }
    }
}

/// Bytes that differ along the way, so that a lost or doubled piece shows.
fn pattern() -> Vec<u8> {
    let numbers = (0_u32..).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    numbers.take(SIZE).collect()
}

/// A member with one large file, whole or in part, which it compares uploads with.
fn file_member() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that goes away in the middle is its own affair.
            thread::spawn(move || drop(serve_file(stream)));
        }
    });
    address
}

fn serve_file(stream: TcpStream) -> std::io::Result<()> {
    let file = pattern();
    let mut stream = BufReader::new(stream);
    loop {
        let (mut method, mut length, mut chunked, mut range) = (String::new(), 0, false, None);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end().to_ascii_lowercase();
            if method.is_empty() {
                method = line.split(' ').next().unwrap_or_default().to_owned();
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().expect("a length");
            } else if let Some(value) = line.strip_prefix("range: bytes=") {
                let (first, last) = value.split_once('-').expect("a range");
                range = Some((
                    first.parse::<usize>().expect("a number"),
                    last.parse::<usize>().expect("a number"),
                ));
            } else if line == "transfer-encoding: chunked" {
                chunked = true;
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        while chunked {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a size");
            let start = body.len();
            body.resize(start + size, 0);
            stream.read_exact(&mut body[start..])?;
            stream.read_exact(&mut [0; 2])?;
            chunked = size > 0;
        }
        let (status, answer) = match (method.as_str(), range) {
            ("get" | "head", None) => ("200 OK", &file[..]),
            ("get" | "head", Some((first, last))) => ("206 Partial Content", &file[first..=last]),
            _ if body == file => ("200 OK", &b"whole"[..]),
            _ => ("200 OK", &b"changed"[..]),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        stream.get_mut().write_all(head.as_bytes())?;
        if method != "head" {
            stream.get_mut().write_all(answer)?;
        }
    }
}

#[test]
fn requests_of_every_kind_arrive_by_every_way() {
    let stage = Stage::new();
    for mode in &MODES {
        let told = stage.told(mode, &[], "/x?y=%20z");
        assert_eq!(
            (text(&told["method"]), text(&told["path"])),
            ("GET".into(), "/x?y=%20z".into())
        );
        let names: Vec<_> = told["headers"]
            .as_array()
            .expect("headers")
            .iter()
            .map(|field| text(&field[0]))
            .collect();
        for hop in ["upgrade", "http2-settings", "connection", "te"] {
            assert!(
                !names.iter().any(|name| name == hop),
                "{}: {names:?}",
                mode.name
            );
        }
        for method in ["DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"] {
            let told = stage.told(mode, &["--request", method], "/m");
            assert_eq!(text(&told["method"]), method);
        }
        let said = stage.asked(mode, 200, &["--head"], &["/h"]);
        assert!(said.body.starts_with(b"HTTP/"), "{}", said.log);
        stage.sends_small_bodies(mode);
        // Paths are a member's matter.
        let told = stage.told(mode, &["--path-as-is"], "/a/../b//c");
        assert_eq!(text(&told["path"]), "/a/../b//c");
        let told = stage.told(
            mode,
            &["--request", "OPTIONS", "--request-target", "*"],
            "/",
        );
        assert_eq!(
            (text(&told["method"]), text(&told["path"])),
            ("OPTIONS".into(), "*".into())
        );
        if mode.version == "1.1" {
            let target = "http://a.example/absolute?x";
            let told = stage.told(mode, &["--request-target", target], "/");
            assert_eq!(text(&told["path"]), "/absolute?x");
        }
        if mode.arguments == ["--http2-prior-knowledge"] {
            // curl 7.88 cannot use such a connection twice, whoever serves it.
            continue;
        }
        // One connection for several requests, but for those of HTTP/1.0 that do not ask for it.
        let said = stage.asked(mode, 200, &[], &["/1", "/2", "/3"]);
        let expected = if mode.arguments == ["--http1.0"] {
            3
        } else {
            1
        };
        assert_eq!(said.connects, expected, "{}: {}", mode.name, said.log);
    }
}

#[test]
fn large_bodies_pass_whole_by_every_way_and_files_in_part() {
    let stage = Stage::new();
    let (file, large) = (pattern(), stage.file("large"));
    for mode in &MODES {
        let said = stage.asked(mode, 200, &[], &["/file"]);
        assert!(said.body == file, "{}: it came changed", mode.name);
        let said = stage.asked(mode, 206, &["--range", "100000-299999"], &["/file"]);
        assert!(
            said.body == file[100_000..300_000],
            "{}: it came changed",
            mode.name
        );
        let said = stage.asked(mode, 200, &["--upload-file", &large], &["/file"]);
        assert_eq!(said.body, b"whole", "{}", mode.name);
        if mode.arguments != ["--http1.0"] {
            let data = format!("@{large}");
            let chunked = [
                "--header",
                "Transfer-Encoding: chunked",
                "--data-binary",
                &data,
            ];
            let said = stage.asked(mode, 200, &chunked, &["/file"]);
            assert_eq!(said.body, b"whole", "{}", mode.name);
        }
    }
}

#[test]
fn what_is_not_served_is_refused_with_a_word() {
    let stage = Stage::new();
    let plain = &MODES[1];
    // A proxy of this kind we are not, but what it would be asked by HTTP/1 is understood.
    let proxy = format!("http://{VIP}:80");
    let said = stage.asked(plain, 200, &["--proxy", &proxy], &["/by-proxy"]);
    assert_eq!(text(&body_json(&said.body)["path"]), "/by-proxy");
    let said = stage.curl(plain, &["--proxy", &proxy, "--proxytunnel"], &["/"]);
    assert!(!said.content && said.log.contains("405"), "{}", said.log);
    let said = stage.curl(plain, &["--haproxy-protocol"], &["/"]);
    assert_eq!(said.status, 400, "{}", said.log);
    for (arguments, status) in [
        (&["--header", "Host: a b"][..], 400),
        (&["--header", "Host:"], 400),
        (
            &[
                "--header",
                "Content-Length: 3",
                "--header",
                "Transfer-Encoding: chunked",
                "--data",
                "abc",
            ],
            400,
        ),
        (&["--header", "Expect: what", "--data", "abc"], 417),
        (&["--request", "G(T"], 400),
    ] {
        let said = stage.curl(plain, arguments, &["/"]);
        assert_eq!(said.status, status, "{arguments:?}: {}", said.log);
        assert!(
            said.log.contains("x-krater-cause: client_bad_request"),
            "{}",
            said.log
        );
    }
    let sealed = &MODES[6];
    for old in [&["--tls-max", "1.1"][..], &["--tls-max", "1.0"]] {
        let said = stage.curl(
            &mode("old", sealed.scheme, &["--http1.1"], "1.1"),
            old,
            &["/"],
        );
        assert!(!said.content && said.status == 0, "{}", said.log);
    }
}
