//! A program under test: started, watched, signalled by its pid, its output kept for the day it fails.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};

use crate::wait::until_some;

pub use rustix::process::Signal;

/// A running program. Dropping it kills it; in a failing test its output is shown.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    log: PathBuf,
    status: Option<ExitStatus>,
}

impl Program {
    /// Starts `command` with its output in `log` (appended to).
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("the log can be written");
        let errors = file.try_clone().expect("a second handle of the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            status: None,
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("the child can be waited for");
        }
        self.status.is_none()
    }

    /// Fails with all it said if it has ended.
    pub fn assert_runs(&mut self) {
        assert!(
            self.is_running(),
            "{} has ended:\n{}",
            self.name,
            self.output()
        );
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running() {
            let pid = Pid::from_child(&self.child);
            kill_process(pid, signal).expect("a signal reaches our own child");
        }
    }

    /// Waits for its end, at most `bound`.
    pub fn wait(&mut self, bound: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        until_some(&what, bound, || {
            self.is_running();
            self.status
        })
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(Duration::from_secs(10));
    }

    /// Ends it as a person would (SIGTERM) and gives its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(20))
    }

    /// What it has written so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let output = self.output();
            let skip = output.lines().count().saturating_sub(LINES_SHOWN_MAX);
            let tail: Vec<&str> = output.lines().skip(skip).collect();
            eprintln!(
                "---- output of {} ----\n{}\n----",
                self.name,
                tail.join("\n")
            );
        }
    }
}

/// Runs a command to its end, at most `bound`, and gives its status and all it printed.
pub fn run_to_end(command: &mut Command, bound: Duration) -> (ExitStatus, String) {
    let log = tempfile::NamedTempFile::new().expect("a file for the output");
    let start = Instant::now();
    let mut program = Program::start("a command", command, log.path());
    let status = program.wait(bound.saturating_sub(start.elapsed()));
    (status, program.output())
}

/// One of our binaries, to be run where nothing is known of control groups: in a namespace of mounts that has none.
pub(crate) fn without_control_groups(name: &str) -> Command {
    let mut command = Command::new("unshare");
    let script = "umount --recursive --lazy /sys/fs/cgroup && exec \"$0\" \"$@\"";
    command
        .args(["--mount", "sh", "-c", script])
        .arg(binary(name));
    command
}

/// Path of one of our binaries, built into the same target folder as the test (`tests/run` builds them first).
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its own path");
    let beside = own.parent().map(|folder| folder.join(name));
    let above = own
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join(name));
    let found = [beside, above]
        .into_iter()
        .flatten()
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is not built: run `cargo build --bins` first, as tests/run does")
    })
}

const LINES_SHOWN_MAX: usize = 200;
