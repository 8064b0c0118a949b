//! `krater up` and its amphorae as a test sees them: start, find, kill, start again.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use crate::{
    http::fetch,
    octavia::Octavia,
    process::{Program, Signal, binary, run_to_end, without_control_groups},
    wait::{until, until_some},
};

/// A controller with its state folder. The folder goes when this is dropped; amphorae that outlived the controller
/// end with the namespace of the test.
#[derive(Debug)]
pub struct Krater {
    folder: TempDir,
    verb: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    without_groups: bool,
    api: SocketAddr,
    program: Option<Program>,
}

impl Krater {
    /// `krater up` on an empty state folder, ready to take requests.
    pub fn up() -> Self {
        Self::start("up", &[])
    }

    /// `krater VERB` with further arguments on an empty state folder, ready to take requests.
    pub fn start(verb: &str, arguments: &[&str]) -> Self {
        let mut krater = Self::prepare(verb, arguments);
        krater.resume();
        krater
    }

    /// The same, not started: [`Krater::resume`] does.
    pub fn prepare(verb: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("krater-state-")
            .tempdir()
            .expect("a temporary folder");
        let arguments = arguments
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        Self {
            folder,
            verb: verb.to_owned(),
            arguments,
            environment: Vec::new(),
            without_groups: false,
            api: api_address(),
            program: None,
        }
    }

    /// Has it serve at other ports than usual, beside another one: the API at `port`, reports and metrics after it.
    pub fn at(self, port: u16) -> Self {
        self.at_address(port, "127.0.0.1")
    }

    /// The same, with reports at an address that other hosts reach.
    pub fn at_address(mut self, port: u16, intake: &str) -> Self {
        self.api.set_port(port);
        let places = [
            ("--listen", "127.0.0.1"),
            ("--intake", intake),
            ("--metrics", "127.0.0.1"),
        ];
        for (offset, (flag, address)) in (0..).zip(places) {
            let place = format!("{address}:{}", port + offset);
            self.arguments.extend([flag.to_owned(), place]);
        }
        self
    }

    /// Has it see a variable in its environment.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has it and its amphorae find no control groups on this host.
    pub fn without_control_groups(mut self) -> Self {
        self.without_groups = true;
        self
    }

    /// Starts the controller (again) on its state folder and waits until it answers.
    pub fn resume(&mut self) {
        let log = self.log_path();
        let program = self
            .program
            .insert(Program::start("krater", &mut self.command(), &log));
        let api = self.api;
        until("the API answers", START_MAX, || {
            program.assert_runs();
            fetch(api, "/").is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The same with further arguments, from now on.
    pub fn resume_with(&mut self, arguments: &[&str]) {
        let further = arguments.iter().map(|&argument| argument.to_owned());
        self.arguments.extend(further);
        self.resume();
    }

    /// Waits until `krater up` has said that all it starts is up.
    pub fn wait_up(&self) {
        until("krater says that it is up", START_MAX, || {
            self.output().contains("krater is up.")
        });
    }

    /// Runs the controller on the same state folder until it ends by itself; gives its status and all it printed.
    pub fn run_to_end(&self) -> (ExitStatus, String) {
        run_to_end(&mut self.command(), START_MAX)
    }

    /// A client of its API.
    pub fn api(&self) -> Octavia {
        Octavia::new(self.api)
    }

    /// The folder that holds its state.
    pub fn state_folder(&self) -> PathBuf {
        state_folder(&self.folder)
    }

    /// The running controller.
    pub fn program(&mut self) -> &mut Program {
        self.program.as_mut().expect("the controller was started")
    }

    /// Process id of the controller; panics when it was never started.
    pub fn pid(&self) -> u32 {
        self.program
            .as_ref()
            .expect("the controller was started")
            .pid()
    }

    /// Ends the controller without a warning; amphorae stay.
    pub fn kill_controller(&mut self) {
        self.program().kill();
    }

    /// Ends the controller as Ctrl-C does, with all it started.
    pub fn interrupt(&mut self) -> ExitStatus {
        self.program().signal(Signal::INT);
        self.program().wait(Duration::from_secs(20))
    }

    /// All it has printed since the first start.
    pub fn output(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Process ids of its amphorae that carry traffic.
    pub fn amphorae(&self) -> Vec<u32> {
        self.processes(|arguments| !arguments.iter().any(|argument| argument == "supervise"))
    }

    /// Process ids of the supervisors of its amphorae.
    pub fn supervisors(&self) -> Vec<u32> {
        self.processes(|arguments| arguments.iter().any(|argument| argument == "supervise"))
    }

    /// Ends every amphora without a warning and gives the process ids that were ended.
    pub fn kill_amphorae(&self) -> Vec<u32> {
        let pids = self.amphorae();
        for pid in &pids {
            kill(*pid);
        }
        pids
    }

    /// Ends an amphora or a supervisor of its without a warning.
    pub fn kill(&self, pid: u32) {
        kill(pid);
    }

    /// Which of its amphorae a supervisor has started.
    pub fn children_of(&self, supervisor: u32) -> Vec<u32> {
        let mut pids = self.amphorae();
        pids.retain(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let mut lines = status.lines();
            let parent = lines.find_map(|line| line.strip_prefix("PPid:"));
            parent.is_some_and(|parent| parent.trim() == supervisor.to_string())
        });
        pids
    }

    /// Has the program on disk take over from an agent of that supervisor; gives the process that serves then.
    pub fn succeed(&self, supervisor: u32, bound: Duration) -> u32 {
        let before = self.children_of(supervisor);
        send(supervisor, Signal::USR2);
        until_some("a successor serves", bound, || {
            let log = self.amphora_logs();
            let serves = |pid: &u32| log.contains(&format!("the successor serves pid={pid}"));
            let now = self.children_of(supervisor).into_iter();
            now.filter(|pid| !before.contains(pid)).find(serves)
        })
    }

    /// What its amphorae and their supervisors have said.
    pub fn amphora_logs(&self) -> String {
        let Ok(folders) = fs::read_dir(self.state_folder().join("amphorae")) else {
            return String::new();
        };
        let logs = folders
            .flatten()
            .filter_map(|folder| fs::read_to_string(folder.path().join("amphora.log")).ok());
        logs.collect()
    }

    /// Sends a signal to every amphora that carries traffic.
    pub fn signal_amphorae(&self, signal: Signal) {
        for pid in self.amphorae() {
            send(pid, signal);
        }
    }

    fn command(&self) -> Command {
        let mut command = if self.without_groups {
            without_control_groups("krater")
        } else {
            Command::new(binary("krater"))
        };
        command
            .arg(&self.verb)
            .arg("--state-dir")
            .arg(state_folder(&self.folder))
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(Path::new("/"));
        command
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("krater.log")
    }

    fn processes(&self, wanted: impl Fn(&[String]) -> bool) -> Vec<u32> {
        let state = self.state_folder().to_string_lossy().into_owned();
        let Ok(entries) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = pids.filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let arguments: Vec<String> = line
                .split(|byte| *byte == 0)
                .map(|part| String::from_utf8_lossy(part).into_owned())
                .collect();
            let amphora = arguments
                .first()
                .is_some_and(|program| program.ends_with("krater-amphora"));
            amphora
                && arguments.iter().any(|argument| argument.contains(&state))
                && wanted(&arguments)
        });
        ours.collect()
    }
}

impl Drop for Krater {
    fn drop(&mut self) {
        // The controller first: it would start its amphorae again.
        self.program = None;
        for pid in self.supervisors().into_iter().chain(self.amphorae()) {
            kill(pid);
        }
    }
}

/// Where the API of a controller on embedded defaults listens.
fn api_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9876))
}

fn state_folder(folder: &TempDir) -> PathBuf {
    folder.path().join("state")
}

fn kill(pid: u32) {
    send(pid, Signal::KILL);
}

/// Sends a signal to a process; one that is gone already is fine.
pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // Gone already is as good as ended.
        let _ = kill_process(pid, signal);
    }
}

/// A debug build on two busy cores makes its keys and its database within this.
const START_MAX: Duration = Duration::from_secs(30);
