//! `krater-amphora run --snapshot FILE`: the data plane without a controller.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{Program, Signal, binary},
    wait::until,
};

/// An amphora that serves a snapshot file.
#[derive(Debug)]
pub struct Standalone {
    folder: TempDir,
    program: Program,
}

impl Standalone {
    /// Starts it with `snapshot` and waits until `ready` accepts connections.
    pub fn start(snapshot: &Value, ready: SocketAddr) -> Self {
        Self::start_with(snapshot, ready, &[])
    }

    /// The same with further arguments.
    pub fn start_with(snapshot: &Value, ready: SocketAddr, arguments: &[&str]) -> Self {
        let command = Command::new(binary("krater-amphora"));
        Self::start_as(command, snapshot, ready, arguments)
    }

    /// The same with so many descriptors at most.
    pub fn start_limited(
        snapshot: &Value,
        ready: SocketAddr,
        arguments: &[&str],
        descriptors: u32,
    ) -> Self {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n $0 && exec \"$@\""])
            .arg(descriptors.to_string())
            .arg(binary("krater-amphora"));
        Self::start_as(command, snapshot, ready, arguments)
    }

    /// The same, started by a command that runs what it is given as `krater-amphora` would.
    pub fn start_as(
        mut command: Command,
        snapshot: &Value,
        ready: SocketAddr,
        arguments: &[&str],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("snapshot.json");
        fs::write(&file, snapshot.to_string()).expect("the snapshot can be written");
        command
            .args(["run", "--snapshot"])
            .arg(&file)
            .args(arguments);
        let program = Program::start("krater-amphora", &mut command, &folder.path().join("log"));
        let mut standalone = Self { folder, program };
        until("the amphora accepts connections", START_MAX, || {
            standalone.program.assert_runs();
            std::net::TcpStream::connect(ready).is_ok()
        });
        // It is opened beside the listeners, a moment sooner or later.
        let metrics = arguments
            .windows(2)
            .find(|pair| pair[0] == "--metrics")
            .and_then(|pair| pair[1].parse::<SocketAddr>().ok());
        if let Some(metrics) = metrics {
            until("the metrics are served", START_MAX, || {
                std::net::TcpStream::connect(metrics).is_ok()
            });
        }
        standalone
    }

    /// The file it reads.
    pub fn snapshot_path(&self) -> PathBuf {
        self.folder.path().join("snapshot.json")
    }

    /// Writes another snapshot and asks it to read it (SIGHUP).
    pub fn reload(&mut self, snapshot: &str) {
        fs::write(self.snapshot_path(), snapshot).expect("the snapshot can be written");
        self.program.signal(Signal::HUP);
    }

    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// A start on a machine that has other things to do.
const START_MAX: Duration = Duration::from_secs(30);
