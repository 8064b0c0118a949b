//! `krater-amphora` as a peer in a comparison of load balancers that hands every peer a SPEC.json and signals.
//!
//! This process stays the parent, asleep: SIGHUP converts the file again and is passed on, SIGTERM and SIGINT are
//! passed on, and the child's end is its own.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use krater_amphora_api::{
    AccessLogSpec, AlpnProtocol, CertificateSpec, CipherSuite, CongestionControl, ListenerTlsSpec,
    PrivateKeyPem, TlsVersion,
};
use krater_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) fn serve(spec: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start a runtime")?;
    runtime.block_on(run(spec))
}

async fn run(spec: &Path) -> Result<()> {
    // Before the child starts, so that no signal is missed.
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let snapshot = spec.with_extension("snapshot.json");
    let (options, target) = Options::asked()?;
    let workers = convert(spec, &snapshot, options)?;
    let mut command = Command::new(binary("krater-amphora"));
    command
        .args(["run", "--snapshot"])
        .arg(&snapshot)
        .arg("--workers")
        .arg(workers.to_string());
    if let Some(target) = target {
        command.arg("--access-log").arg(target);
    }
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .context("start krater-amphora")?;
    let pid = child
        .id()
        .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
        .context("the child runs")?;
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.context("wait for krater-amphora")?;
                if !status.success() {
                    bail!("krater-amphora ended: {status}");
                }
                return Ok(());
            }
            _ = hangup.recv() => {
                convert(spec, &snapshot, options)?;
                kill_process(pid, Signal::HUP).context("pass SIGHUP on")?;
            }
            _ = terminate.recv() => kill_process(pid, Signal::TERM).context("pass SIGTERM on")?,
            _ = interrupt.recv() => kill_process(pid, Signal::INT).context("pass SIGINT on")?,
        }
    }
}

/// What all listeners have that the environment asks for.
#[derive(Clone, Copy, Debug, Default)]
struct Options {
    control: Option<CongestionControl>,
    /// Each connection and request is told.
    logs: bool,
}

impl Options {
    /// What is asked for, and where the access log goes.
    fn asked() -> Result<(Self, Option<String>)> {
        let read = |name: &'static str| match env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {name}")),
        };
        let control = read(CONTROL)?
            .map(|name| name.parse().with_context(|| format!("read {CONTROL}")))
            .transpose()?;
        let target = read(LOG)?;
        let logs = target.is_some();
        Ok((Self { control, logs }, target))
    }
}

/// Writes the snapshot that says what the spec says, and gives the number of workers.
///
/// This is part of what a reload costs, so no value is held in between: texts are lent from the file that was read, and
/// what is written is made while it is written.
fn convert(spec: &Path, snapshot: &Path, options: Options) -> Result<u64> {
    let text = fs::read_to_string(spec).with_context(|| format!("read {}", spec.display()))?;
    let spec: Spec<'_> = serde_json::from_str(&text).context("the spec is not as it should be")?;
    let balancers = spec
        .listeners
        .iter()
        .map(|asked| Balancer::of(asked, options))
        .collect::<Result<Vec<_>>>()?;
    let mut json = Vec::with_capacity(text.len() * 2);
    let file = File {
        load_balancers: &balancers,
    };
    serde_json::to_writer(&mut json, &file).context("write the snapshot")?;
    // Renamed into place: the child never reads half a file.
    let fresh = snapshot.with_extension("new");
    fs::write(&fresh, json).context("write the snapshot")?;
    fs::rename(&fresh, snapshot).context("put the snapshot in place")?;
    Ok(spec.threads.unwrap_or(1))
}

/// What the comparison says.
#[derive(Debug, Deserialize)]
struct Spec<'a> {
    threads: Option<u64>,
    #[serde(borrow)]
    listeners: Vec<Asked<'a>>,
}

/// A listener of a spec.
#[derive(Debug, Deserialize)]
struct Asked<'a> {
    proto: &'a str,
    listen: &'a str,
    #[serde(borrow)]
    backends: Vec<&'a str>,
    /// A certificate and its key, as files.
    cert: Option<&'a str>,
    key: Option<&'a str>,
    #[serde(default)]
    h2: bool,
}

/// What a snapshot file says.
#[derive(Debug, Serialize)]
struct File<'a> {
    load_balancers: &'a [Balancer<'a>],
}

/// One load balancer for each listener, as tenants have them.
#[derive(Debug, Serialize)]
struct Balancer<'a> {
    name: &'a str,
    vips: [&'a str; 1],
    listeners: [Listener<'a>; 1],
    pools: [Pool<'a>; 1],
}

#[derive(Debug, Serialize)]
struct Listener<'a> {
    protocol: &'a str,
    port: u16,
    default_pool: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<ListenerTlsSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    congestion_control: Option<CongestionControl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_log: Option<AccessLogSpec>,
}

#[derive(Debug, Serialize)]
struct Pool<'a> {
    name: &'static str,
    protocol: &'a str,
    members: Vec<Member<'a>>,
}

#[derive(Debug, Serialize)]
struct Member<'a> {
    address: &'a str,
    port: u16,
}

impl<'a> Balancer<'a> {
    fn of(asked: &Asked<'a>, options: Options) -> Result<Self> {
        let protocol = match asked.proto {
            "https" => "http",
            protocol @ ("tcp" | "http" | "udp") => protocol,
            protocol => bail!("krater-amphora does not serve {protocol:?}"),
        };
        let tls = (asked.proto == "https").then(|| tls(asked)).transpose()?;
        let (vip, port) = address(asked.listen)?;
        let members = asked.backends.iter().map(|backend| {
            let (address, port) = address(backend)?;
            Ok(Member { address, port })
        });
        Ok(Self {
            name: asked.listen,
            vips: [vip],
            listeners: [Listener {
                protocol,
                port,
                default_pool: BACKENDS,
                tls,
                congestion_control: options.control.filter(|_| protocol != "udp"),
                access_log: options.logs.then_some(AccessLogSpec { one_in: 1 }),
            }],
            pools: [Pool {
                name: BACKENDS,
                protocol,
                members: members.collect::<Result<_>>()?,
            }],
        })
    }
}

/// TLS as most deployments have it.
fn tls(asked: &Asked<'_>) -> Result<ListenerTlsSpec> {
    let read = |path: Option<&str>| {
        let path = path.context("a listener of TLS has a certificate and a key")?;
        fs::read_to_string(path).with_context(|| format!("read {path}"))
    };
    let mut alpn = vec![AlpnProtocol::Http11];
    if asked.h2 {
        alpn.insert(0, AlpnProtocol::H2);
    }
    Ok(ListenerTlsSpec {
        default_certificate: Some(CertificateSpec {
            chain: read(asked.cert)?,
            key: PrivateKeyPem::new(read(asked.key)?),
        }),
        sni_certificates: Vec::new(),
        clients: None,
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: CipherSuite::ALL.to_vec(),
        alpn,
    })
}

fn address(text: &str) -> Result<(&str, u16)> {
    let (host, port) = text.rsplit_once(':').context("an address has a port")?;
    Ok((
        host.trim_matches(['[', ']']),
        port.parse().context("a port is a number")?,
    ))
}

const BACKENDS: &str = "backends";

/// The congestion control of all listeners but those of UDP; the system's own where it is not set.
const CONTROL: &str = "KRATER_PEER_CONGESTION_CONTROL";

/// Where the access log of all listeners goes; none is kept where it is not set.
const LOG: &str = "KRATER_PEER_ACCESS_LOG";

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn each_listener_of_a_spec_becomes_a_load_balancer_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let (spec, snapshot) = (folder.path().join("spec"), folder.path().join("snapshot"));
        let asked = json!({"threads": 2, "dir": "/scratch", "listeners": [
            {"proto": "tcp", "listen": "10.0.0.1:80", "backends": ["10.0.0.2:81"], "h2": false},
            {"proto": "udp", "listen": "[2001:db8::1]:53", "backends": []},
        ]});
        fs::write(&spec, asked.to_string()).expect("written");
        assert_eq!(
            convert(&spec, &snapshot, Options::default()).expect("converted"),
            2
        );
        let text = fs::read_to_string(&snapshot).expect("a snapshot");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            said,
            json!({"load_balancers": [
                {
                    "name": "10.0.0.1:80", "vips": ["10.0.0.1"],
                    "listeners": [{"protocol": "tcp", "port": 80, "default_pool": "backends"}],
                    "pools": [{"name": "backends", "protocol": "tcp",
                        "members": [{"address": "10.0.0.2", "port": 81}]}],
                },
                {
                    "name": "[2001:db8::1]:53", "vips": ["2001:db8::1"],
                    "listeners": [{"protocol": "udp", "port": 53, "default_pool": "backends"}],
                    "pools": [{"name": "backends", "protocol": "udp", "members": []}],
                },
            ]})
        );
        let reno = "reno".parse().expect("a name");
        let options = Options {
            control: Some(reno),
            logs: true,
        };
        convert(&spec, &snapshot, options).expect("converted");
        let text = fs::read_to_string(&snapshot).expect("a snapshot");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let control =
            |index: usize| &said["load_balancers"][index]["listeners"][0]["congestion_control"];
        assert_eq!([control(0), control(1)], [&json!("reno"), &Value::Null]);
        assert_eq!(
            said["load_balancers"][1]["listeners"][0]["access_log"],
            json!({"one_in": 1})
        );
        fs::write(
            &spec,
            r#"{"listeners": [{"proto": "https", "listen": "10.0.0.1:80", "backends": []}]}"#,
        )
        .expect("written");
        convert(&spec, &snapshot, Options::default()).expect_err("it has no certificate");
        let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
        fs::write(&cert, "a certificate").expect("written");
        fs::write(&key, "a key").expect("written");
        let asked = json!({"listeners": [{"proto": "https", "listen": "10.0.0.1:80", "backends": [],
            "cert": cert, "key": key, "h2": true}]});
        fs::write(&spec, asked.to_string()).expect("written");
        convert(&spec, &snapshot, Options::default()).expect("converted");
        let text = fs::read_to_string(&snapshot).expect("a snapshot");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        let listener = &said["load_balancers"][0]["listeners"][0];
        assert_eq!(listener["protocol"], "http");
        assert_eq!(listener["tls"]["alpn"], json!(["h2", "http/1.1"]));
        assert_eq!(
            listener["tls"]["default_certificate"],
            json!({"chain": "a certificate", "key": "a key"})
        );
    }
}
