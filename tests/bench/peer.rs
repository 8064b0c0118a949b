//! `krater-amphora` as a peer in a comparison of load balancers that hands every peer a SPEC.json and signals.
//!
//! This process stays the parent, asleep: SIGHUP converts the file again and is passed on, SIGTERM and SIGINT are
//! passed on, and the child's end is its own.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use krater_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
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
    let workers = convert(spec, &snapshot)?;
    let mut command = Command::new(binary("krater-amphora"));
    command
        .args(["run", "--snapshot"])
        .arg(&snapshot)
        .arg("--workers")
        .arg(workers.to_string());
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
                convert(spec, &snapshot)?;
                kill_process(pid, Signal::HUP).context("pass SIGHUP on")?;
            }
            _ = terminate.recv() => kill_process(pid, Signal::TERM).context("pass SIGTERM on")?,
            _ = interrupt.recv() => kill_process(pid, Signal::INT).context("pass SIGINT on")?,
        }
    }
}

/// Writes the snapshot that says what the spec says, and gives the number of workers.
fn convert(spec: &Path, snapshot: &Path) -> Result<u64> {
    let text = fs::read_to_string(spec).with_context(|| format!("read {}", spec.display()))?;
    let spec: Value = serde_json::from_str(&text).context("the spec is JSON")?;
    let listeners = spec["listeners"]
        .as_array()
        .context("the spec has listeners")?;
    let balancers = listeners.iter().map(balancer).collect::<Result<Vec<_>>>()?;
    // Renamed into place: the child never reads half a file.
    let fresh = snapshot.with_extension("new");
    fs::write(&fresh, json!({"load_balancers": balancers}).to_string())
        .context("write the snapshot")?;
    fs::rename(&fresh, snapshot).context("put the snapshot in place")?;
    Ok(spec["threads"].as_u64().unwrap_or(1))
}

/// One load balancer for each listener, as tenants have them.
fn balancer(listener: &Value) -> Result<Value> {
    let protocol = listener["proto"]
        .as_str()
        .context("a listener has a proto")?;
    if !matches!(protocol, "tcp" | "http" | "udp") {
        bail!("krater-amphora does not serve {protocol:?} yet");
    }
    let (vip, port) = address(&listener["listen"])?;
    let members = listener["backends"]
        .as_array()
        .context("a listener has backends")?
        .iter()
        .map(|backend| {
            let (address, port) = address(backend)?;
            Ok(json!({"address": address, "port": port}))
        });
    let members = members.collect::<Result<Vec<_>>>()?;
    Ok(json!({
        "name": format!("{vip}:{port}"),
        "vips": [vip],
        "listeners": [{"protocol": protocol, "port": port, "default_pool": "backends"}],
        "pools": [{"name": "backends", "protocol": protocol, "members": members}],
    }))
}

fn address(value: &Value) -> Result<(String, u16)> {
    let (host, port) = value
        .as_str()
        .and_then(|text| text.rsplit_once(':'))
        .context("an address has a port")?;
    Ok((
        host.trim_matches(['[', ']']).to_owned(),
        port.parse().context("a port is a number")?,
    ))
}
