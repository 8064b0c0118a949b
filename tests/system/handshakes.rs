//! TLS that listeners end, as curl and OpenSSL meet it.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use krater_tests::{Authority, HttpMember, Issued, Namespace, Standalone, run_to_end, until};
use rcgen::date_time_ymd;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::SETTLE_MAX;

/// An amphora with one listener that ends TLS, and what clients need to meet it.
struct Stage {
    amphora: Standalone,
    authority: Authority,
    snapshot: Value,
    generation: u64,
    folder: TempDir,
    member: HttpMember,
    _network: Namespace,
}

impl Stage {
    /// Shows a certificate for `a.example` unless `change` says otherwise.
    fn new(change: impl FnOnce(&Authority, &mut Value)) -> Self {
        let network = Namespace::enter_new();
        let authority = Authority::new("authority");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("ca.pem"), authority.pem()).expect("a file");
        let member = HttpMember::start("m", "127.0.0.1:0");
        let mut tls = json!({
            "default_certificate": authority.issue(&["a.example"]).spec(),
            "versions": ["1.2", "1.3"],
            "cipher_suites": SUITES,
            "alpn": ["h2", "http/1.1"],
        });
        change(&authority, &mut tls);
        let address = member.address();
        let snapshot = json!({"load_balancers": [{
            "name": "secure", "generation": 1, "vips": [VIP.ip().to_string()],
            "listeners": [{"name": "https", "protocol": "http", "port": VIP.port(), "default_pool": "web", "tls": tls}],
            "pools": [{"name": "web", "protocol": "http",
                "members": [{"address": address.ip().to_string(), "port": address.port()}]}],
        }]});
        let amphora = Standalone::start_with(
            &snapshot,
            VIP,
            &["--workers", "2", "--metrics", "127.0.0.1:9100"],
        );
        Self {
            amphora,
            authority,
            snapshot,
            generation: 1,
            folder,
            member,
            _network: network,
        }
    }

    fn simple() -> Self {
        Self::new(|_, _| {})
    }

    /// Changes the listener and waits until `in_force`.
    fn edit(
        &mut self,
        change: impl FnOnce(&Authority, &mut Value),
        in_force: impl Fn(&Self) -> bool,
    ) {
        self.generation += 1;
        let balancer = &mut self.snapshot["load_balancers"][0];
        balancer["generation"] = json!(self.generation);
        change(&self.authority, &mut balancer["listeners"][0]);
        self.amphora.reload(&self.snapshot.to_string());
        until("the change is in force", SETTLE_MAX, || in_force(self));
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keep(&self, name: &str, issued: &Issued) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, format!("{}{}", issued.chain, issued.key)).expect("a file");
        path
    }

    /// What curl says to `https://name/`, and whether it was content.
    fn curl(&self, name: &str, arguments: &[&str]) -> (bool, String) {
        let (host, port) = (VIP.ip(), VIP.port());
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(self.file("ca.pem"))
            .args(["--resolve", &format!("{name}:{port}:{host}")])
            .args(arguments)
            .arg(format!("https://{name}:{port}/"));
        let (status, said) = run_to_end(&mut command, Duration::from_secs(30));
        (status.success(), said)
    }

    fn serves(&self, name: &str, arguments: &[&str]) -> String {
        let (content, said) = self.curl(name, arguments);
        assert!(content, "{name} {arguments:?}: {said}");
        said
    }

    /// What `openssl s_client` says of a handshake and one request.
    fn openssl(&self, arguments: &[&str]) -> String {
        let request =
            "printf 'GET / HTTP/1.1\\r\\nHost: a.example\\r\\nConnection: close\\r\\n\\r\\n'";
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                &format!(
                    "{request} | openssl s_client -ign_eof -connect {VIP} -CAfile \"$0\" \"$@\""
                ),
            ])
            .arg(self.file("ca.pem"))
            .args(arguments);
        run_to_end(&mut command, Duration::from_secs(30)).1
    }

    /// Handshakes that failed by that cause, as the metrics tell.
    fn failures(&self, cause: &str) -> u64 {
        let series = "krater_amphora_listener_failures_total";
        self.metric(series, &format!("cause=\"{cause}\""))
    }

    /// The first number of that series with such a label.
    fn metric(&self, series: &str, label: &str) -> u64 {
        let metrics = krater_tests::fetch(METRICS, "/metrics")
            .expect("metrics")
            .text();
        metrics
            .lines()
            .find(|line| line.starts_with(series) && line.contains(label))
            .and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .map_or(0, |number| number as u64)
    }
}

#[test]
fn each_name_is_met_with_its_certificate_and_an_unknown_one_is_refused() {
    let mut stage = Stage::new(|authority, tls| {
        tls["sni_certificates"] = json!([
            authority.issue(&["*.example.org"]).spec(),
            authority.issue(&["b.example", "www.example.org"]).spec(),
        ]);
    });
    for (name, common) in [
        ("a.example", "a.example"),
        ("B.Example", "b.example"),
        ("www.example.org", "b.example"),
        ("other.example.org", "*.example.org"),
    ] {
        assert!(stage.serves(name, &[]).contains("\"m\""));
        let said = stage.openssl(&["-servername", name]);
        assert!(said.contains(&format!("CN = {common}\n")), "{name}: {said}");
    }
    // The default certificate is shown, and curl does not take it.
    assert!(!stage.curl("a.b.example.org", &[]).0);
    stage.edit(
        |_, listener| drop(listener["tls"]["default_certificate"].take()),
        |stage| !stage.curl("a.example", &[]).0,
    );
    let said = stage.openssl(&["-servername", "a.example"]);
    assert!(said.contains("unrecognized name"), "{said}");
    let said = stage.openssl(&["-noservername"]);
    assert!(said.contains("unrecognized name"), "{said}");
    stage.serves("b.example", &[]);
}

#[test]
fn versions_suites_and_what_is_spoken_inside_are_those_of_the_listener() {
    let mut stage = Stage::simple();
    for (arguments, expected) in [
        (
            &["-tls1_3"][..],
            "TLSv1.3, Cipher is TLS_AES_128_GCM_SHA256",
        ),
        // The listener's preference, not the client's.
        (
            &[
                "-tls1_3",
                "-ciphersuites",
                "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384",
            ],
            "TLSv1.3, Cipher is TLS_AES_256_GCM_SHA384",
        ),
        (
            &["-tls1_2"],
            "TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
        (
            &["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"],
            "TLSv1.2, Cipher is ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (&["-tls1_2", "-cipher", "AES128-SHA"], "handshake failure"),
        (
            &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
            "Cipher is (NONE)",
        ),
        (&["-alpn", "http/1.1,h2"], "ALPN protocol: h2"),
        (&["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&["-alpn", "gopher"], "no application protocol"),
    ] {
        let said = stage.openssl(arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let written = ["--write-out", "<%{http_version}>"];
    assert!(stage.serves("a.example", &written).ends_with("<2>"));
    let older = ["--http1.1", "--write-out", "<%{http_version}>"];
    assert!(stage.serves("a.example", &older).ends_with("<1.1>"));
    stage.edit(
        |_, listener| listener["tls"]["versions"] = json!(["1.3"]),
        |stage| !stage.curl("a.example", &["--tls-max", "1.2"]).0,
    );
    stage.serves("a.example", &[]);
    assert!(stage.failures("client_tls_version") > 0 && stage.failures("client_tls_cipher") > 0);
    assert_eq!(stage.failures("client_tls_alpn"), 1);
}

#[test]
fn clients_are_asked_for_certificates_as_the_listener_says() {
    let clients = Authority::new("clients");
    let (trusted, list) = (clients.pem().to_owned(), clients.revoke(&[3]));
    let mut stage = Stage::new(|_, tls| {
        tls["clients"] = json!({"required": true, "authorities": trusted, "revoked": list});
    });
    let files = [
        ("good", clients.issue_as(2, &["good"], |_| {})),
        ("revoked", clients.issue_as(3, &["revoked"], |_| {})),
        (
            "ended",
            clients.issue_as(4, &["ended"], |params| {
                params.not_before = date_time_ymd(2001, 1, 1);
                params.not_after = date_time_ymd(2002, 1, 1);
            }),
        ),
        ("strange", Authority::new("strangers").issue(&["strange"])),
    ]
    .map(|(name, issued)| (name, stage.keep(name, &issued)));
    let call = |stage: &Stage, file: &Path| {
        let file = file.to_str().expect("a path");
        stage.curl("a.example", &["--cert", file]).0
    };
    for required in [true, false] {
        if !required {
            stage.edit(
                |_, listener| listener["tls"]["clients"]["required"] = json!(false),
                |stage| stage.curl("a.example", &[]).0,
            );
        }
        for (name, file) in &files {
            assert_eq!(call(&stage, file), *name == "good", "{name}, {required}");
        }
        assert_eq!(stage.curl("a.example", &[]).0, !required);
    }
    for (cause, times) in [
        ("revoked", 2),
        ("expired", 2),
        ("untrusted", 2),
        ("missing", 1),
    ] {
        until("the refusals are counted", SETTLE_MAX, || {
            stage.failures(&format!("client_certificate_{cause}")) == times
        });
    }
}

#[test]
fn sessions_go_on_whichever_worker_takes_them() {
    let stage = Stage::simple();
    for version in ["-tls1_2", "-tls1_3"] {
        let session = stage.file(version);
        let session = session.to_str().expect("a path");
        let said = stage.openssl(&[version, "-sess_out", session]);
        assert!(said.contains("New, TLSv1"), "{said}");
        for _ in 0..6 {
            let said = stage.openssl(&[version, "-sess_in", session]);
            assert!(said.contains("Reused, TLSv1"), "{said}");
        }
    }
}

#[test]
fn a_certificate_is_replaced_under_traffic_without_one_failed_request() {
    let mut stage = Stage::simple();
    let (stop, served, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicU64::new(0)),
    );
    let client = client(stage.authority.pem());
    let traffic: Vec<_> = (0..4)
        .map(|_| {
            let (stop, served, failed) =
                (Arc::clone(&stop), Arc::clone(&served), Arc::clone(&failed));
            let client = Arc::clone(&client);
            thread::spawn(move || {
                while !stop.load(Relaxed) {
                    match ask(&client) {
                        Ok(_) => served.fetch_add(1, Relaxed),
                        Err(error) => {
                            eprintln!("{error}");
                            failed.fetch_add(1, Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    let mut seen = ask(&client).expect("an answer");
    for _ in 0..10 {
        let before = served.load(Relaxed);
        stage.edit(
            |authority, listener| {
                listener["tls"]["default_certificate"] = authority.issue(&["a.example"]).spec();
            },
            |_| ask(&client).expect("an answer") != seen,
        );
        seen = ask(&client).expect("an answer");
        until("traffic goes on", SETTLE_MAX, || {
            served.load(Relaxed) > before + 8
        });
    }
    stop.store(true, Relaxed);
    for thread in traffic {
        thread.join().expect("a client");
    }
    assert_eq!(failed.load(Relaxed), 0);
    assert!(stage.member.served() > 80);
}

#[test]
fn a_certificate_that_cannot_be_used_changes_nothing_and_no_key_is_shown() {
    let mut stage = Stage::simple();
    let other = stage.authority.issue(&["a.example"]);
    let mut bad = stage.snapshot.clone();
    let listener = &mut bad["load_balancers"][0]["listeners"][0];
    listener["tls"]["default_certificate"]["key"] = json!(other.key);
    stage.amphora.reload(&bad.to_string());
    until("the reason is shown", SETTLE_MAX, || {
        let said = stage.amphora.program().output();
        said.contains("load_balancers[0].listeners[0]")
            && said.contains("the private key is not that of the first certificate of the chain")
    });
    stage.serves("a.example", &[]);
    let said = stage.amphora.program().output();
    let secret = other.key.lines().nth(1).expect("a line of the key");
    assert!(!said.contains("PRIVATE KEY") && !said.contains(secret));
}

#[test]
fn whoever_does_not_shake_hands_keeps_nobody_else_out_for_longer_than_the_timeout() {
    let mut stage = Stage::simple();
    let mut plain = TcpStream::connect(VIP).expect("a connection");
    plain
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("it is taken");
    let mut told = vec![];
    plain.read_to_end(&mut told).expect("an orderly end");
    assert_eq!(told[..3], [21, 3, 3], "an alert");
    until("it is counted", SETTLE_MAX, || {
        stage.failures("client_not_tls") >= 1
    });
    stage.edit(
        |_, listener| {
            listener["connection_limit"] = json!(40);
            listener["timeouts"] = json!({"client_data_ms": 2_000});
        },
        |stage| stage.metric("krater_amphora_listener_connection_limit", "") == 40,
    );
    // They take every place there is, each with half of a greeting.
    let halves: Vec<_> = (0..60)
        .map(|_| {
            let mut half = TcpStream::connect(VIP).expect("a connection");
            half.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
                .expect("it is taken");
            half
        })
        .collect();
    stage.serves("a.example", &[]);
    until("all were given up", SETTLE_MAX, || {
        stage.failures("client_tls_timeout") >= 60
    });
    drop(halves);
    stage.serves("a.example", &[]);
}

/// Who believes that authority and speaks HTTP/1.1.
fn client(authority: &str) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let mut roots = rustls::RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(authority.as_bytes()).expect("a certificate");
    roots.add(root).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Makes a request over a connection of its own; the certificate that was shown.
fn ask(client: &Arc<rustls::ClientConfig>) -> anyhow::Result<Vec<u8>> {
    let name = rustls::pki_types::ServerName::try_from("a.example")?;
    let session = rustls::ClientConnection::new(Arc::clone(client), name)?;
    let socket = TcpStream::connect(VIP)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = rustls::StreamOwned::new(session, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // An end without the word that it is one is an error.
    stream.read_to_end(&mut answer)?;
    anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200"), "another answer");
    let shown = stream.conn.peer_certificates().and_then(<[_]>::first);
    Ok(shown.map(|shown| shown.to_vec()).unwrap_or_default())
}

const VIP: SocketAddr = SocketAddr::new(
    std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 77, 0, 1)),
    443,
);

const METRICS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9100);

const SUITES: [&str; 9] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
];
