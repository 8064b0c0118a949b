//! What applications speak inside HTTP: gRPC and WebSockets, by implementations that others use at both ends.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use krater_tests::{Authority, Namespace, Program, Standalone, run_to_end, until};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::venv;

/// A server of a script, and an amphora in front of it with a listener in the clear and one that ends TLS.
struct Stage {
    folder: TempDir,
    script: PathBuf,
    _amphora: Standalone,
    _server: Program,
    _network: Namespace,
}

impl Stage {
    /// `alpn` is offered to clients, and `tls` spoken to the member.
    fn new(script: &str, alpn: &[&str], tls: impl FnOnce(&Authority) -> Value) -> Self {
        let network = Namespace::enter_new();
        let authority = Authority::new("authority");
        let folder = tempfile::tempdir().expect("a folder");
        let issued = authority.issue(&["a.example"]);
        let keep = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file");
            path
        };
        keep("authority.pem", authority.pem());
        let certificate = keep("certificate.pem", &issued.chain);
        let key = keep("key.pem", &issued.key);
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("clients")
            .join(script);
        let member: SocketAddr = MEMBER.parse().expect("an address");
        let mut command = python(&script);
        command.arg("serve").arg(member.port().to_string());
        let server = Program::start(
            "the server",
            command.arg(certificate).arg(key),
            &folder.path().join("log"),
        );
        until("the server is there", Duration::from_secs(60), || {
            TcpStream::connect(member).is_ok()
        });
        let seal = json!({
            "default_certificate": issued.spec(),
            "versions": ["1.2", "1.3"],
            "cipher_suites": ["TLS_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
            "alpn": alpn,
        });
        let snapshot = json!({"load_balancers": [{
            "name": "inside", "vips": ["127.77.0.1"],
            "listeners": [
                {"name": "plain", "protocol": "http", "port": 80, "default_pool": "web"},
                {"name": "sealed", "protocol": "http", "port": 443, "default_pool": "web", "tls": seal},
            ],
            "pools": [{"name": "web", "protocol": "http", "tls": tls(&authority),
                "members": [{"address": member.ip().to_string(), "port": member.port()}]}],
        }]});
        let ready = PLAIN.parse().expect("an address");
        let amphora = Standalone::start_with(&snapshot, ready, &["--workers", "2"]);
        Self {
            folder,
            script,
            _amphora: amphora,
            _server: server,
            _network: network,
        }
    }

    /// Has the script make its calls, in the clear and inside TLS.
    fn drive(&self) {
        let authority = self.folder.path().join("authority.pem");
        for (address, trusted) in [(PLAIN, None), (SEALED, Some(&authority))] {
            let mut command = python(&self.script);
            command.args(["drive", address]).args(trusted);
            let (status, said) = run_to_end(&mut command, Duration::from_secs(120));
            assert!(status.success(), "{address}: {said}");
        }
    }
}

fn python(script: &Path) -> Command {
    let mut command = Command::new(venv("judges").join("python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script);
    command
}

#[test]
fn grpc_passes_from_end_to_end() {
    let stage = Stage::new("grpc_calls.py", &["h2"], |authority| {
        json!({
            "authorities": authority.pem(), "versions": ["1.3"], "cipher_suites": ["TLS_AES_128_GCM_SHA256"],
            "alpn": ["h2"],
        })
    });
    stage.drive();
}

#[test]
fn web_sockets_pass_from_end_to_end() {
    let stage = Stage::new("websocket.py", &["h2", "http/1.1"], |_| Value::Null);
    stage.drive();
}

const MEMBER: &str = "127.0.0.1:8443";
const PLAIN: &str = "127.77.0.1:80";
const SEALED: &str = "127.77.0.1:443";
