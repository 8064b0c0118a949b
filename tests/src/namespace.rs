//! A network of a test's own: a named network namespace, links to further ones, and an end that leaves nothing.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    process::{Pid, kill_process},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

/// A network namespace. Dropping it ends every process inside and takes it away.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace and moves the calling thread into it: sockets it opens, threads it starts from now on and
    /// their child processes all live there.
    pub fn enter_new() -> Self {
        let namespace = Self::new();
        namespace
            .enter()
            .expect("the thread enters its new network namespace");
        namespace
    }

    /// Makes a namespace whose loopback is up, without entering it.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        remove_stale();
        let name = format!(
            "{PREFIX}{}-{}",
            process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let start = Instant::now();
        // Two first uses of `ip netns` at once race for the mount of its directory; the loser may try again.
        while let Err(error) = ip(&["netns", "add", &name]) {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "system tests need network namespaces: run them as root or through tests/run ({error:#})"
            );
            thread::sleep(Duration::from_millis(50));
        }
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` inside; panics when it fails.
    pub fn ip(&self, arguments: &[&str]) {
        let all: Vec<&str> = ["-n", &self.name]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        ip(&all).expect("a valid ip command");
    }

    /// Runs `action` in a thread inside this namespace and returns what it gives.
    pub fn run<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("the thread enters the namespace");
                action()
            });
            inside
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Joins two namespaces by a link; each end gets its name and address (`10.0.0.1/24`, `fd00::1/64`).
    pub fn link(
        &self,
        device: &str,
        addresses: &[&str],
        peer: &Self,
        peer_device: &str,
        peer_addresses: &[&str],
    ) {
        self.ip(&[
            "link",
            "add",
            device,
            "type",
            "veth",
            "peer",
            "name",
            peer_device,
            "netns",
            &peer.name,
        ]);
        for (namespace, device, addresses) in [
            (self, device, addresses),
            (peer, peer_device, peer_addresses),
        ] {
            for address in addresses {
                let nodad: &[&str] = if address.contains(':') {
                    &["nodad"]
                } else {
                    &[]
                };
                namespace.ip(&[&["address", "add", address, "dev", device], nodad].concat());
            }
            namespace.ip(&["link", "set", device, "up"]);
        }
    }

    fn enter(&self) -> Result<()> {
        let path = path_of(&self.name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).context("setns")
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Takes away what earlier test processes left because they were killed.
fn remove_stale() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

/// Ends what runs in a namespace (never this process, whose main thread stays outside) and deletes it.
fn remove(name: &str) {
    let start = Instant::now();
    loop {
        let pids = pids(name);
        if pids.is_empty() || start.elapsed() > Duration::from_secs(5) {
            break;
        }
        for pid in pids {
            // Gone already is as good as ended.
            let _ = kill_process(pid, rustix::process::Signal::KILL);
        }
        thread::sleep(Duration::from_millis(10));
    }
    let _ = ip(&["netns", "del", name]);
}

/// Every process inside and those that it has started, which may live in networks of their own; this one apart.
fn pids(name: &str) -> Vec<Pid> {
    let identity = |path: PathBuf| {
        fs::metadata(path)
            .map(|metadata| (metadata.dev(), metadata.ino()))
            .ok()
    };
    let (Some(wanted), Ok(entries)) = (identity(path_of(name)), fs::read_dir("/proc")) else {
        return Vec::new();
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let own = i32::try_from(process::id()).unwrap_or_default();
    let others: Vec<i32> = numbers.filter(|pid| *pid != own).collect();
    let is_inside =
        |pid: &i32| *pid != own && identity(format!("/proc/{pid}/ns/net").into()) == Some(wanted);
    let ours = others
        .into_iter()
        .filter(|pid| is_inside(pid) || parent(*pid).as_ref().is_some_and(is_inside));
    ours.filter_map(Pid::from_raw).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let mut lines = status.lines();
    let parent = lines.find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}

fn path_of(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("run `ip` (package iproute2)")?;
    if !output.status.success() {
        bail!(
            "ip {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

const PREFIX: &str = "krater-test-";
const DIRECTORY: &str = "/run/netns";
