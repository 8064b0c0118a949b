//! Supervisor processes: starting one, finding one that runs, telling whether it lives, ending it.
//!
//! A process is held by a pidfd, so that no signal can reach another one that came to have the same number.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
    process::Stdio,
    sync::{Arc, OnceLock},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FlockOperation, flock},
    process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal},
};
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use crate::{
    ProcessError,
    folder::{Folder, failed},
};

/// A process that was found to be what it should be.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pid: Pid,
    fd: Arc<OwnedFd>,
}

/// How a process ended, once it has.
pub(crate) type Ended = Arc<OnceLock<String>>;

impl Supervisor {
    /// Starts a supervisor for the amphora of the folder. It survives us: it makes a session of its own, reads
    /// nothing, and writes to its log.
    pub(crate) fn start(binary: &Path, folder: &Folder) -> Result<(Self, Child), ProcessError> {
        let log = folder.open_log()?;
        let errors = log
            .try_clone()
            .map_err(|error| failed("write", &folder.log(), &error))?;
        let child = Command::new(binary)
            .arg("supervise")
            .arg("--config")
            .arg(folder.config_path())
            .current_dir(folder.path())
            // What faces the internet need not know what the controller was told, which may be secrets.
            .env_clear()
            .envs(
                ENVIRONMENT
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(false)
            .spawn()
            .map_err(|error| start_error(binary, &error))?;
        let gone = || ProcessError::Transient(format!("{} ended at once", binary.display()));
        let pid = child.id().and_then(pid_of).ok_or_else(gone)?;
        let supervisor = Self::open(pid).ok_or_else(gone)?;
        // A hint for the next controller, and for people; what it says is verified.
        folder.write_pid(&pid.to_string())?;
        Ok((supervisor, child))
    }

    /// Finds the running supervisor of the folder: the one it names, or else any of ours that was started for it,
    /// should a controller have died before it could write that down.
    pub(crate) async fn find(folder: &Folder) -> Option<Self> {
        let is_it = |found: &Self| supervises(found.pid, folder) && found.is_alive();
        let named = folder.read_pid().and_then(pid_of).and_then(Self::open);
        if let Some(found) = named.filter(is_it) {
            return Some(found);
        }
        let started_for = folder.clone();
        // As many files as the host has processes.
        let looking = spawn_blocking(move || Self::all_for(&started_for));
        let candidates = looking.await.unwrap_or_default();
        if candidates.is_empty() {
            return None;
        }
        // What a supervisor just forked looks like it until it becomes another program.
        sleep(FORK_TIME_MAX).await;
        candidates.into_iter().find(is_it)
    }

    fn all_for(folder: &Folder) -> Vec<Self> {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        processes
            .filter_map(|entry| pid_of(entry.file_name().to_str()?.parse().ok()?))
            .filter(|pid| supervises(*pid, folder))
            .filter_map(Self::open)
            .collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Whether it has not ended. One system call.
    pub(crate) fn is_alive(&self) -> bool {
        is_alive(&self.fd)
    }

    /// Waits until it has ended and says how. A child of ours is reaped by that.
    pub(crate) fn wait_for_end(
        &self,
        child: Option<Child>,
        ended: Ended,
    ) -> impl Future<Output = ()> + Send + use<> {
        let fd = Arc::clone(&self.fd);
        async move {
            let how = match child {
                Some(mut child) => match child.wait().await {
                    Ok(status) => status.to_string(),
                    Err(error) => error.to_string(),
                },
                None => {
                    wait_dead(&fd).await;
                    "how is unknown: it was the child of an earlier controller".to_owned()
                }
            };
            // Set once: there is one waiter.
            let _ = ended.set(how);
        }
    }

    /// Asks it to end, waits, and kills it when it has not ended after `patience`.
    pub(crate) async fn stop(&self, patience: Duration) -> Result<(), ProcessError> {
        for (signal, wait) in [(Signal::TERM, patience), (Signal::KILL, KILL_WAIT)] {
            self.signal(signal)?;
            if timeout(wait, wait_dead(&self.fd)).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(pid = self.pid(), ?signal, "the process does not end");
        }
        Err(ProcessError::Transient(format!(
            "process {} cannot be killed",
            self.pid()
        )))
    }

    fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::NONBLOCK).ok().map(|fd| Self {
            pid,
            fd: Arc::new(fd),
        })
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match pidfd_send_signal(self.fd.as_fd(), signal) {
            // No such process: it has ended, which is what the signal is for.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(ProcessError::Transient(format!(
                "cannot signal process {}: {error}",
                self.pid()
            ))),
        }
    }
}

/// Ends an agent whose supervisor is gone. It is known by the lock it holds on its state, and by its number there.
pub(crate) async fn stop_agent(folder: &Folder, patience: Duration) -> Result<(), ProcessError> {
    let Some(agent) = living_agent(folder) else {
        return Ok(());
    };
    tracing::warn!(
        pid = agent.pid(),
        "an agent without a supervisor is asked to end"
    );
    agent.stop(patience).await
}

/// Whether an agent holds the lock of the folder's state. Only to be asked while no supervisor lives: an agent that
/// starts at this very moment would find the lock held by us.
pub(crate) fn agent_lives(folder: &Folder) -> bool {
    File::open(folder.agent_lock()).is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

fn living_agent(folder: &Folder) -> Option<Supervisor> {
    let pid = fs::read_to_string(folder.agent_lock())
        .ok()?
        .trim()
        .parse()
        .ok()
        .and_then(pid_of)?;
    // Held first, then asked whether the lock still is: the number in the file is then that of the holder.
    let agent = Supervisor::open(pid)?;
    let same = |text: String| text.trim().parse().ok().and_then(pid_of) == Some(pid);
    (agent_lives(folder) && fs::read_to_string(folder.agent_lock()).is_ok_and(same))
        .then_some(agent)
}

/// Whether the process is one of our user's that was started as the supervisor of the folder.
fn supervises(pid: Pid, folder: &Folder) -> bool {
    let process = Path::new("/proc").join(pid.to_string());
    let ours = fs::metadata(&process).is_ok_and(|entry| entry.uid() == geteuid().as_raw());
    let Ok(line) = fs::read(process.join("cmdline")) else {
        return false;
    };
    let config = folder.config_path();
    let arguments: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
    let expected = [
        b"supervise".as_slice(),
        b"--config",
        config.as_os_str().as_encoded_bytes(),
    ];
    ours && arguments
        .windows(expected.len())
        .any(|window| window == expected)
}

fn is_alive(fd: &OwnedFd) -> bool {
    // The descriptor becomes readable when the process ends, reaped or not.
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec::default())), Ok(0))
}

/// Waits for the end of a process that may not be our child. Looked at again and again: to have the descriptor
/// watched by the runtime is not possible in safe code.
async fn wait_dead(fd: &OwnedFd) {
    while is_alive(fd) {
        sleep(LOOK_AGAIN).await;
    }
}

fn pid_of(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

fn start_error(binary: &Path, error: &io::Error) -> ProcessError {
    let binary = binary.display();
    match error.kind() {
        io::ErrorKind::NotFound => ProcessError::Permanent(format!(
            "{binary} does not exist: put krater-amphora beside krater, or name it with --amphora-binary"
        )),
        io::ErrorKind::PermissionDenied => {
            ProcessError::Permanent(format!("{binary} may not be executed: {error}"))
        }
        _ => ProcessError::Transient(format!("cannot start {binary}: {error}")),
    }
}

/// What an amphora inherits of the controller's environment.
const ENVIRONMENT: [&str; 8] = [
    "PATH",
    "HOME",
    "LANG",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "RUST_BACKTRACE",
    "KRATER_LOG",
];
/// Between two looks at a process: soon enough for its successor, seldom enough to cost nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a forked process may look like the one that forked it.
const FORK_TIME_MAX: Duration = Duration::from_millis(50);
/// How long the kernel may take to end what was killed.
const KILL_WAIT: Duration = Duration::from_secs(5);
