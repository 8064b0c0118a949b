//! System calls of the workers of an amphora, counted by strace.
//!
//! What a connection costs in calls does not depend on the machine, so a test may hold it to a number.

use std::{collections::BTreeMap, fs, path::Path, process::Command, time::Duration};

use tempfile::TempDir;

use crate::{
    process::{Program, Signal},
    wait::{until, until_some},
};

/// Threads under observation, until [`Trace::finish`].
#[derive(Debug)]
pub struct Trace {
    strace: Program,
    folder: TempDir,
}

/// How often each call was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calls(BTreeMap<String, u64>);

impl Trace {
    /// Attaches to every thread of `process` whose name begins with `thread`.
    ///
    /// `None` where the system lets nobody trace another process (`kernel.yama.ptrace_scope`, a sandbox): said on
    /// standard error, so that a skipped test does not look like one that passed.
    pub fn attach(process: u32, thread: &str) -> Option<Self> {
        // A thread that was just started has yet to name itself.
        let threads = until_some("the process has such threads", ATTACH_MAX, || {
            Some(threads(process, thread)).filter(|found| !found.is_empty())
        });
        let folder = tempfile::tempdir().expect("a folder for the counts");
        let mut command = Command::new("strace");
        command
            .args(["-c", "-q", "-o"])
            .arg(folder.path().join("counts"));
        for thread in &threads {
            command.args(["-p", &thread.to_string()]);
        }
        let log = folder.path().join("log");
        let mut strace = Program::start("strace (tests/prepare installs it)", &mut command, &log);
        let mut refused = false;
        until("strace is attached", ATTACH_MAX, || {
            refused = !strace.is_running();
            refused || threads.iter().all(|thread| is_traced(process, *thread))
        });
        if refused {
            let said = strace.output();
            assert!(
                said.contains("not permitted") || said.contains("not implemented"),
                "strace ended: {said}"
            );
            eprintln!("skipped, no process may be traced here: {}", said.trim());
            return None;
        }
        Some(Self { strace, folder })
    }

    /// Lets go of the threads and says what they called.
    pub fn finish(mut self) -> Calls {
        self.strace.signal(Signal::INT);
        self.strace.wait(ATTACH_MAX);
        let table =
            fs::read_to_string(self.folder.path().join("counts")).expect("strace wrote its counts");
        Calls::parse(&table)
    }
}

impl Calls {
    /// Reads the table of `strace -c`: time in per cent, seconds, microseconds per call, calls, errors if any, name.
    fn parse(table: &str) -> Self {
        let rows = table.lines().filter_map(|line| {
            let cells: Vec<_> = line.split_whitespace().collect();
            let calls = cells.get(3)?.parse().ok()?;
            let name = *cells.last()?;
            (name != "total").then(|| (name.to_owned(), calls))
        });
        Self(rows.collect())
    }

    /// Calls of these names together.
    pub fn of(&self, names: &[&str]) -> u64 {
        let counts = names.iter().filter_map(|name| self.0.get(*name));
        counts.sum()
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// All calls but those that wait for something to do: how many of these there are depends on what arrives together.
    pub fn working(&self) -> u64 {
        self.total() - self.of(WAITING)
    }

    /// Calls of each name for each of `units` things done, most frequent first.
    pub fn per(&self, units: u64) -> String {
        let mut rows: Vec<_> = self.0.iter().collect();
        rows.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let share = |calls: u64| calls as f64 / units as f64;
        rows.iter()
            .map(|(name, calls)| format!("{:8.2} {name}\n", share(**calls)))
            .collect()
    }
}

/// Ids of the threads of a process whose name begins so.
fn threads(process: u32, prefix: &str) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let named = tasks.flatten().filter(|task| {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with(prefix)
    });
    named
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

fn is_traced(process: u32, thread: u32) -> bool {
    let path = format!("/proc/{process}/task/{thread}/status");
    let status = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let tracer = status
        .lines()
        .find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|pid| pid.trim() != "0")
}

const ATTACH_MAX: Duration = Duration::from_secs(20);
/// Calls in which a worker waits.
const WAITING: &[&str] = &["epoll_wait", "epoll_pwait", "epoll_pwait2", "futex"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_with_and_without_errors_is_read() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     \u{20}60.00    0.000030           3        10         2 accept4\n\
                     \u{20}40.00    0.000020           2        30           epoll_wait\n\
                     ------ ----------- ----------- --------- --------- ----------------\n\
                     100.00    0.000050           2        40         2 total\n";
        let calls = Calls::parse(table);
        assert_eq!((calls.total(), calls.working()), (40, 10));
        assert_eq!(calls.of(&["accept4", "read"]), 10);
    }
}
