//! Handshakes that fail, as an operator is told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use krater_tests::{Authority, HttpMember, Issued, Nginx, binary, fetch, run_to_end, until};
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{NOTICE_MAX, Scene, listener_json, member_json};

/// Certificates that clients and members show, and who vouches for them.
struct Papers {
    authority: Authority,
    good: Issued,
    revoked: Issued,
    ended: Issued,
    strange: Issued,
    folder: TempDir,
}

impl Papers {
    fn new(scene: &Scene) -> Self {
        let authority = Authority::new("authority");
        let names = ["a.example"];
        let papers = Self {
            good: authority.issue_as(2, &names, |_| {}),
            revoked: authority.issue_as(3, &names, |_| {}),
            ended: authority.issue_as(4, &names, |params| {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }),
            strange: Authority::new("strangers").issue(&names),
            folder: tempfile::tempdir().expect("a folder"),
            authority,
        };
        let web = papers
            .authority
            .issue_as(5, &["a.example", "b.example"], |_| {});
        scene.lay_in("web", &format!("{}{}", web.chain, web.key));
        scene.lay_in("ca", papers.authority.pem());
        scene.lay_in("crl", &papers.authority.revoke(&[3]));
        papers.keep("ca", papers.authority.pem());
        papers
    }

    fn keep(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    }

    /// Asks for `name` at `at` with curl, and what it says.
    fn curl(&self, name: &str, at: SocketAddr, shown: Option<&Issued>, more: &[&str]) -> String {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20"])
            .args(["--resolve", &format!("{name}:{}:{}", at.port(), at.ip())])
            .args(more);
        if !more.contains(&"--cacert") {
            command.arg("--cacert").arg(self.folder.path().join("ca"));
        }
        if let Some(shown) = shown {
            let path = self.keep("shown", &format!("{}{}", shown.chain, shown.key));
            command.arg("--cert").arg(path);
        }
        command.arg(format!("https://{name}:{}/", at.port()));
        run_to_end(&mut command, Duration::from_secs(30)).1
    }
}

#[test]
fn handshakes_of_clients_fail_by_causes() {
    let mut scene = Scene::up();
    let papers = Papers::new(&scene);
    let member = HttpMember::start("app", "127.0.0.1:0");
    let members = [member_json(member.address())];
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
    let mut listener = listener_json("TERMINATED_HTTPS", 443, &pool);
    let fields = json!({
        "default_tls_container_ref": "web", "client_authentication": "MANDATORY",
        "client_ca_tls_container_ref": "ca", "client_crl_container_ref": "crl",
        "tls_versions": ["TLSv1.2"], "timeout_client_data": 4_000,
    });
    for (name, value) in fields.as_object().expect("an object") {
        listener[name] = value.clone();
    }
    let tree = scene.tree(&json!([listener]));
    let at = tree.at(443);
    let said = papers.curl("a.example", at, Some(&papers.good), &[]);
    assert!(said.contains("\"app\""), "{said}");
    // Who only looks whether somebody is there has not failed.
    drop(TcpStream::connect(at).expect("a connection"));
    assert_eq!(causes(&tree.id)[&443], BTreeSet::new());

    let mut plain = TcpStream::connect(at).expect("a connection");
    plain.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("room");
    let _ = plain.read_to_end(&mut Vec::new());
    let mut nonsense = TcpStream::connect(at).expect("a connection");
    nonsense
        .write_all(&[22, 3, 1, 0, 5, 9, 9, 9, 9, 9])
        .expect("room");
    let _ = nonsense.read_to_end(&mut Vec::new());
    let half = || {
        let mut half = TcpStream::connect(at).expect("a connection");
        half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1]).expect("room");
        half
    };
    drop(half());
    let mut slow = half();
    let good = Some(&papers.good);
    let call = |shown, more: &[&str]| papers.curl("a.example", at, shown, more);
    call(good, &["--tlsv1.3"]);
    call(good, &["--tls-max", "1.2", "--ciphers", "AES128-SHA"]);
    for shown in [
        None,
        Some(&papers.strange),
        Some(&papers.revoked),
        Some(&papers.ended),
    ] {
        call(shown, &[]);
    }
    // It trusts others.
    let others = papers.keep("others", Authority::new("others").pem());
    call(good, &["--cacert", others.to_str().expect("a path")]);
    let mut gopher = Command::new("openssl");
    gopher.args(["s_client", "-connect", &at.to_string(), "-alpn", "gopher"]);
    run_to_end(&mut gopher, Duration::from_secs(30));
    let _ = slow.read_to_end(&mut Vec::new());
    let expected = names(&[
        "client_certificate_expired",
        "client_certificate_missing",
        "client_certificate_revoked",
        "client_certificate_untrusted",
        "client_not_tls",
        "client_tls_alpn",
        "client_tls_cipher",
        "client_tls_gone",
        "client_tls_malformed",
        "client_tls_refused",
        "client_tls_timeout",
        "client_tls_version",
    ]);
    told(&tree.id, &[(443, expected)]);
}

#[test]
fn handshakes_with_members_fail_by_causes() {
    let mut scene = Scene::up();
    let papers = Papers::new(&scene);
    let shown = [
        &papers.strange,
        &papers.ended,
        &papers.revoked,
        &papers.good,
    ];
    let members: Vec<_> = (8_441..)
        .zip(shown)
        .map(|(port, shown)| Nginx::start(&format!("127.0.0.1:{port}"), shown, "", "", ""))
        .collect();
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_at = silent.local_addr().expect("an address");
    let pool = |member: SocketAddr| {
        json!({
            "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "tls_enabled": true,
            "members": [member_json(member)], "ca_tls_container_ref": "ca",
            "crl_container_ref": "crl",
        })
    };
    let mut listeners: Vec<Value> = Vec::new();
    for (port, member) in (80..).zip(&members) {
        let mut pool = pool(member.address());
        if port == 83 {
            // Its certificate is not for RSA.
            pool["tls_versions"] = json!(["TLSv1.2"]);
            pool["tls_ciphers"] = json!("ECDHE-RSA-AES128-GCM-SHA256");
        }
        listeners.push(listener_json("HTTP", port, &pool));
    }
    let mut waiting = listener_json("HTTP", 84, &pool(silent_at));
    waiting["timeout_member_connect"] = json!(200);
    let mut named = listener_json("TERMINATED_HTTPS", 443, &pool(members[3].address()));
    named["default_tls_container_ref"] = json!("web");
    listeners.extend([waiting, named]);
    let tree = scene.tree(&json!(listeners));
    let mut expected = Vec::new();
    for (port, cause) in [
        (80, "member_tls_untrusted"),
        (81, "member_tls_expired"),
        (82, "member_tls_revoked"),
        (83, "member_tls_refused"),
        (84, "member_tls_timeout"),
    ] {
        let answer = fetch(tree.at(port), "/").expect("an answer");
        let told = (answer.status, answer.header("x-krater-cause"));
        assert_eq!(told, (502, Some(cause)), "at {port}");
        expected.push((port, names(&[cause])));
    }
    let said = papers.curl("a.example", tree.at(443), None, &[]);
    assert!(said.contains("name=[a.example]"), "{said}");
    let said = papers.curl("b.example", tree.at(443), None, &["--include"]);
    assert!(said.contains("member_tls_name"), "{said}");
    expected.push((443, names(&["member_tls_name"])));
    told(&tree.id, &expected);
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Waits until just these causes are told of the listeners at these ports.
fn told(balancer: &str, expected: &[(u16, BTreeSet<String>)]) {
    let mut last = BTreeMap::new();
    until(&format!("{expected:?} are told"), NOTICE_MAX, || {
        let seen = causes(balancer);
        if seen != last {
            eprintln!("{seen:?}");
            last = seen;
        }
        expected.iter().all(|(port, names)| &last[port] == names)
    });
}

/// What failed in the last minutes, by the port of the listener.
fn causes(balancer: &str) -> BTreeMap<u16, BTreeSet<String>> {
    let (status, said) = run_to_end(
        Command::new(binary("krater")).args(["lb", "causes", balancer, "--output", "json"]),
        Duration::from_secs(20),
    );
    assert!(status.success(), "{said}");
    let seen: Value = serde_json::from_str(&said).expect("JSON");
    let listeners = seen["listeners"].as_array().expect("a list");
    let pair = |listener: &Value| {
        let port = listener["port"].as_u64().expect("a port");
        let causes = listener["causes"].as_array().expect("a list");
        let recent = causes
            .iter()
            .filter(|cause| cause["last_15_minutes"].as_u64() > Some(0));
        let named = recent.map(|cause| cause["cause"].as_str().expect("a name").to_owned());
        (u16::try_from(port).expect("a port"), named.collect())
    };
    listeners.iter().map(pair).collect()
}
