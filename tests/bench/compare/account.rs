//! Processor time of a proxy, all its processes and threads together, those that have ended too.
//!
//! A control group counts that in nanoseconds: time in user space, in calls, and in soft interrupts that the kernel
//! runs while a process of the group is on the processor. Where none can be made (a container), the scheduler's count
//! per thread says the same of those that live; only what a process did that ended in between is missing, which
//! concerns reloads of peers that replace their workers, so those are left out there.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Where the time is read.
#[derive(Debug)]
pub(super) enum Account {
    /// The file that counts, its unit in nanoseconds, and the group.
    Group(PathBuf, Unit, PathBuf),
    /// The process and its descendants.
    Processes,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// `cpuacct.usage`.
    Nanoseconds,
    /// `usage_usec` in `cpu.stat`.
    Microseconds,
}

impl Account {
    /// Makes a group, if the system lets us; `name` tells it from others of this process.
    pub(super) fn open(name: &str) -> Self {
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let candidates = [
            ("/sys/fs/cgroup/cpuacct", "cpuacct.usage", Unit::Nanoseconds),
            ("/sys/fs/cgroup", "cpu.stat", Unit::Microseconds),
        ];
        for (root, file, unit) in candidates {
            remove_stale(Path::new(root));
            let group = Path::new(root).join(&name);
            let is_usable = fs::create_dir(&group).is_ok()
                && group.join(file).exists()
                && group.join("cgroup.procs").exists();
            if is_usable {
                return Self::Group(group.join(file), unit, group);
            }
            let _ = fs::remove_dir(&group);
        }
        Self::Processes
    }

    /// The file a process writes itself into to be counted.
    pub(super) fn entrance(&self) -> Option<PathBuf> {
        match self {
            Self::Group(_, _, group) => Some(group.join("cgroup.procs")),
            Self::Processes => None,
        }
    }

    /// Whether processes that have ended are counted.
    pub(super) fn counts_the_dead(&self) -> bool {
        matches!(self, Self::Group(..))
    }

    /// How it is counted, for people.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Group(_, Unit::Nanoseconds, _) => "control group (cpuacct)",
            Self::Group(_, Unit::Microseconds, _) => "control group (cpu.stat)",
            Self::Processes => "scheduler statistics of each thread",
        }
    }

    /// The time so far; of `process` and its descendants where there is no group.
    pub(super) fn read(&self, process: u32) -> Duration {
        match self {
            Self::Group(file, unit, _) => {
                let text = fs::read_to_string(file).expect("the group can be read");
                match unit {
                    Unit::Nanoseconds => Duration::from_nanos(number(&text)),
                    Unit::Microseconds => {
                        let line = text
                            .lines()
                            .find_map(|line| line.strip_prefix("usage_usec"));
                        Duration::from_micros(number(line.unwrap_or_default()))
                    }
                }
            }
            Self::Processes => family(process).into_iter().map(of_threads).sum(),
        }
    }

    /// Proportional memory of `process` and its descendants, in KiB.
    pub(super) fn memory_kib(process: u32) -> u64 {
        family(process).into_iter().map(pss_kib).sum()
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Self::Group(_, _, group) = self {
            // It is empty once the last process has been waited for, which somebody else may have to do.
            let start = Instant::now();
            while fs::remove_dir(&*group).is_err() && start.elapsed() < EMPTY_MAX {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Takes away what killed processes left.
fn remove_stale(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or_default()
}

/// A process and all that come from it.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(process) = family.get(next) {
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            family.extend(
                children
                    .split_whitespace()
                    .filter_map(|id| id.parse::<u32>().ok()),
            );
        }
        next += 1;
    }
    family
}

/// Processor time of the threads of a process that live.
fn of_threads(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task"));
    let times = threads.into_iter().flatten().flatten().map(|thread| {
        let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        number(text.split_whitespace().next().unwrap_or_default())
    });
    Duration::from_nanos(times.sum())
}

/// Proportional memory of a process.
pub(crate) fn pss_kib(process: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

const PREFIX: &str = "krater-bench-";
const EMPTY_MAX: Duration = Duration::from_secs(2);
