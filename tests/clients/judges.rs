//! What scanners of others find in TLS as a listener ends it, with all that it can speak.

use std::{fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use krater_tests::{Authority, HttpMember, Namespace, Standalone, run_to_end};
use serde_json::{Value, json};

use super::venv;

const VIP: &str = "127.77.0.1:443";

struct Stage {
    _amphora: Standalone,
    _member: HttpMember,
    _network: Namespace,
}

impl Stage {
    fn new() -> Self {
        let network = Namespace::enter_new();
        let authority = Authority::new("authority");
        let member = HttpMember::start("m", "127.0.0.1:0");
        let address = member.address();
        let vip: SocketAddr = VIP.parse().expect("an address");
        let snapshot = json!({"load_balancers": [{
            "name": "secure", "vips": [vip.ip().to_string()],
            "listeners": [{"name": "https", "protocol": "http", "port": vip.port(), "default_pool": "web", "tls": {
                "default_certificate": authority.issue(&["a.example"]).spec(),
                "versions": ["1.2", "1.3"],
                "cipher_suites": [
                    "TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256",
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
                "alpn": ["h2", "http/1.1"]}}],
            "pools": [{"name": "web", "protocol": "http",
                "members": [{"address": address.ip().to_string(), "port": address.port()}]}],
        }]});
        Self {
            _amphora: Standalone::start(&snapshot, vip),
            _member: member,
            _network: network,
        }
    }
}

fn json_of(path: &Path, said: &str) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("no result: {error}\n{said}"));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("no result: {error}\n{said}"))
}

#[test]
fn testssl_finds_nothing_of_medium_severity_or_above() {
    let _stage = Stage::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("findings.json");
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--color", "0", "--warnings", "off", "--jsonfile"])
        .arg(&file)
        .args(["-p", "-S", "-P", "-f", "-U", "--sneaky", VIP]);
    let (_, said) = run_to_end(&mut command, Duration::from_secs(280));
    let findings = json_of(&file, &said);
    let findings = findings.as_array().expect("a list");
    assert!(findings.len() > 50, "{said}");
    // What is about the certificate is about the tests' own authority; what is about content is a member's matter.
    let others = [
        "cert",
        "ocsp",
        "dns_caa",
        "security_headers",
        "hsts",
        "chain",
        "trust",
        "engine",
        "optimal",
        "scantime",
        "breach",
    ];
    let bad: Vec<_> = findings
        .iter()
        .filter(|finding| {
            let id = finding["id"].as_str().unwrap_or_default().to_lowercase();
            let severity = finding["severity"].as_str().unwrap_or_default();
            matches!(severity, "MEDIUM" | "HIGH" | "CRITICAL")
                && !others.iter().any(|other| id.contains(other))
        })
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Of resumption it is not asked: it takes a ticket that is renewed for one that was ignored.
#[test]
fn sslyze_finds_no_fault() {
    let _stage = Stage::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("result.json");
    let mut command = Command::new(venv("judges").join("sslyze"));
    command.arg("--json_out").arg(&file).args([
        "--sslv2",
        "--sslv3",
        "--tlsv1",
        "--tlsv1_1",
        "--tlsv1_2",
        "--tlsv1_3",
        "--heartbleed",
        "--openssl_ccs",
        "--robot",
        "--compression",
        "--reneg",
        "--early_data",
        "--ems",
        VIP,
    ]);
    let (_, said) = run_to_end(&mut command, Duration::from_secs(200));
    let results = json_of(&file, &said);
    let found = &results["server_scan_results"][0]["scan_result"];
    let accepted = |version: &str| {
        let suites = &found[format!("{version}_cipher_suites")]["result"]["accepted_cipher_suites"];
        suites.as_array().expect("a list").len()
    };
    let offered = [
        "ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2", "tls_1_3",
    ]
    .map(accepted);
    assert_eq!(offered, [0, 0, 0, 0, 3, 3]);
    for (what, field, expected) in [
        ("heartbleed", "is_vulnerable_to_heartbleed", json!(false)),
        (
            "openssl_ccs_injection",
            "is_vulnerable_to_ccs_injection",
            json!(false),
        ),
        ("tls_compression", "supports_compression", json!(false)),
        (
            "session_renegotiation",
            "supports_secure_renegotiation",
            json!(true),
        ),
        (
            "session_renegotiation",
            "is_vulnerable_to_client_renegotiation_dos",
            json!(false),
        ),
        ("tls_1_3_early_data", "supports_early_data", json!(false)),
        (
            "tls_extended_master_secret",
            "supports_ems_extension",
            json!(true),
        ),
    ] {
        assert_eq!(
            found[what]["result"][field], expected,
            "{what} {field}\n{said}"
        );
    }
    let robot = found["robot"]["result"]["robot_result"]
        .as_str()
        .unwrap_or_default();
    assert!(robot.starts_with("NOT_VULNERABLE"), "{robot}");
}
