//! A host that joins a krater, as a test sees it: `krater-amphora join` on a state folder of its own.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitStatus},
    thread,
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Program, Signal, binary, run_to_end, without_control_groups};

/// A host with its state folder. Everything that it started ends when this is dropped.
#[derive(Debug)]
pub struct HostedAmphorae {
    folder: TempDir,
    program: Option<Program>,
    with_groups: bool,
}

impl HostedAmphorae {
    /// A host on an empty state folder that has not joined.
    pub fn prepare() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("krater-host-")
            .tempdir()
            .expect("a temporary folder");
        Self {
            folder,
            program: None,
            with_groups: true,
        }
    }

    /// A host that joins the krater of the usual ports, and goes on; its agent is at `port`.
    pub fn join(token: &str, name: &str, port: u16) -> Self {
        Self::join_at("https://127.0.0.1:9877", token, name, port)
    }

    /// The same, through this controller.
    pub fn join_at(controller: &str, token: &str, name: &str, port: u16) -> Self {
        let mut host = Self::prepare();
        host.go_in(controller, token, name, port);
        host
    }

    /// [`HostedAmphorae::join`] of a host on which there are no control groups.
    pub fn join_without_control_groups(token: &str, name: &str, port: u16) -> Self {
        let mut host = Self::prepare();
        host.with_groups = false;
        host.go_in("https://127.0.0.1:9877", token, name, port);
        host
    }

    fn go_in(&mut self, controller: &str, token: &str, name: &str, port: u16) {
        let mut command = self.join_command_at(controller, token);
        command.args(["--name", name, "--port", &port.to_string()]);
        self.start(command);
    }

    /// What joins the krater of the usual ports.
    pub fn join_command(&self, token: &str) -> Command {
        self.join_command_at("https://127.0.0.1:9877", token)
    }

    fn join_command_at(&self, controller: &str, token: &str) -> Command {
        let mut command = if self.with_groups {
            Command::new(binary("krater-amphora"))
        } else {
            without_control_groups("krater-amphora")
        };
        command
            .args(["join", "--controller", controller])
            .args(["--token", token, "--state-dir"])
            .arg(self.state_folder())
            .args(["--workers", "1"]);
        command
    }

    /// Goes on as a host that has joined, and has control groups.
    pub fn resume(&mut self) {
        let mut command = Command::new(binary("krater-amphora"));
        command
            .arg("host")
            .arg("--state-dir")
            .arg(self.state_folder());
        self.start(command);
    }

    /// The folder that holds its state.
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// The agent.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the host was started")
    }

    /// All that its agent has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Process ids of everything that runs here but for the agent: supervisors and amphorae.
    pub fn processes(&self) -> Vec<u32> {
        self.of_verb(&["supervise", "agent"])
    }

    /// Process ids of the supervisors of its amphorae.
    pub fn supervisors(&self) -> Vec<u32> {
        self.of_verb(&["supervise"])
    }

    /// Process ids of its amphorae that carry traffic.
    pub fn carriers(&self) -> Vec<u32> {
        self.of_verb(&["agent"])
    }

    fn of_verb(&self, verbs: &[&str]) -> Vec<u32> {
        let state = self.state_folder().to_string_lossy().into_owned();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let text = String::from_utf8_lossy(&line).into_owned();
            let is_wanted = verbs
                .iter()
                .any(|verb| text.split('\0').nth(1) == Some(verb));
            is_wanted && text.contains(&state)
        })
        .collect()
    }

    /// What its amphorae and their supervisors have said.
    pub fn amphora_logs(&self) -> String {
        let folder = self.state_folder().join("amphorae");
        let logs = self.amphorae().into_iter().map(|id| {
            let log = folder.join(id).join("amphora.log");
            fs::read_to_string(log).unwrap_or_default()
        });
        logs.collect()
    }

    /// The files that its amphorae keep load balancers in.
    pub fn kept_files(&self) -> Vec<PathBuf> {
        let folder = self.state_folder().join("amphorae");
        let kept = self.amphorae().into_iter().flat_map(|id| {
            let kept = folder.join(id).join("state/load-balancers");
            fs::read_dir(kept).into_iter().flatten().flatten()
        });
        kept.map(|entry| entry.path()).collect()
    }

    /// Ids of the amphorae that have a folder here.
    pub fn amphorae(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state_folder().join("amphorae"));
        let entries = entries.into_iter().flatten().flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    }

    /// Sends a signal to everything that runs here.
    pub fn signal_all(&self, signal: Signal) {
        let agent = self.program.as_ref().map(Program::pid);
        for pid in self.processes().into_iter().chain(agent) {
            send(pid, signal);
        }
    }

    /// The host dies: everything on it, at once.
    pub fn die(&mut self) {
        self.program().kill();
        // Supervisors would start what was killed before them.
        for _ in 0..3 {
            for pid in self.processes() {
                send(pid, Signal::KILL);
            }
        }
    }

    fn start(&mut self, mut command: Command) {
        let log = self.log();
        self.program = Some(Program::start("a host", &mut command, &log));
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("host.log")
    }
}

impl Drop for HostedAmphorae {
    fn drop(&mut self) {
        self.program = None;
        for _ in 0..3 {
            for pid in self.processes() {
                send(pid, Signal::KILL);
            }
        }
        if thread::panicking() {
            eprintln!(
                "---- logs of the amphorae of a host ----\n{}\n----",
                self.amphora_logs()
            );
        }
    }
}

/// What `krater host …` answers at the usual ports, and whether it succeeded.
pub fn krater_host(arguments: &[&str]) -> (ExitStatus, String) {
    let mut command = Command::new(binary("krater"));
    command.arg("host").args(arguments);
    run_to_end(&mut command, Duration::from_secs(60))
}

/// The document that `krater host …` answers.
pub fn krater_host_json(arguments: &[&str]) -> Value {
    let mut arguments = arguments.to_vec();
    arguments.extend(["--output", "json"]);
    let (status, text) = krater_host(&arguments);
    assert!(status.success(), "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A token that lets a host in at the usual ports.
pub fn host_token(arguments: &[&str]) -> String {
    let mut all = vec!["token"];
    all.extend(arguments);
    let made = krater_host_json(&all);
    made["token"].as_str().expect("a token").to_owned()
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good as ended.
        let _ = kill_process(pid, signal);
    }
}
