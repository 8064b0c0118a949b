//! What an amphora may take of its host, held to by control groups of the kernel: version 2 or version 1, whichever the
//! host has for what is bounded.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use krater_amphora_api::AmphoraId;
use tokio::time::sleep;

use crate::ProcessError;

/// What an amphora may take; nothing is bounded where nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Allotment {
    /// Memory of all its processes, in bytes. One that goes beyond is ended by the kernel, and started again.
    pub memory_bytes: Option<u64>,
    /// Processor time of all of them, in percent of one processor.
    pub cpu_percent: Option<u32>,
}

/// What the kernel bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Memory,
    Cpu,
}

/// Which of the kernel's two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// A tree of groups in which something can be bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree {
    root: PathBuf,
    version: Version,
}

/// Makes the groups of an amphora and bounds them.
pub(crate) fn prepare(id: AmphoraId, allotment: Allotment) -> Result<(), ProcessError> {
    prepare_in(&mounts(), id, allotment)
}

/// Has the processes of an amphora belong to its groups: the one with this number, and those it started. What they start
/// later belongs there too. Who has ended meanwhile needs no group.
pub(crate) fn join(id: AmphoraId, allotment: Allotment, pid: u32) -> Result<(), ProcessError> {
    join_in(&mounts(), id, allotment, pid)
}

/// Removes the groups of an amphora that has ended.
pub(crate) async fn remove(id: AmphoraId) {
    for group in groups(&mounts(), id) {
        if let Err(error) = remove_empty(&group).await {
            tracing::warn!(amphora = %id, group = %group.display(), %error, "a control group is left behind");
        }
    }
}

/// Removes a group once the kernel is done with those that were in it: it says so a moment after their end.
async fn remove_empty(group: &Path) -> io::Result<()> {
    let mut tries = 0;
    loop {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::ResourceBusy && tries < REMOVE_TRIES_MAX => {
                tries += 1;
                sleep(REMOVE_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// Where the groups of an amphora are, if it has some.
fn groups(mounts: &str, id: AmphoraId) -> impl Iterator<Item = PathBuf> {
    let trees = Resource::ALL.map(|resource| resource.tree(mounts));
    trees.into_iter().flatten().map(move |tree| tree.group(id))
}

fn prepare_in(mounts: &str, id: AmphoraId, allotment: Allotment) -> Result<(), ProcessError> {
    for resource in Resource::ALL {
        let wanted = resource.wanted(allotment);
        let Some(tree) = resource.tree(mounts) else {
            if wanted.is_some() {
                return Err(ProcessError::Permanent(format!(
                    "the {} of the amphora is to be bounded, and this host has no control groups for that",
                    resource.name()
                )));
            }
            continue;
        };
        let group = tree.group(id);
        if wanted.is_none() && !group.exists() {
            continue;
        }
        let bounded = tree
            .make(&group, resource)
            .and_then(|()| tree.bound(&group, resource, wanted));
        bounded.map_err(|error| refused(resource, &group, &error))?;
    }
    Ok(())
}

fn join_in(
    mounts: &str,
    id: AmphoraId,
    allotment: Allotment,
    pid: u32,
) -> Result<(), ProcessError> {
    for resource in Resource::ALL {
        if resource.wanted(allotment).is_none() {
            continue;
        }
        let Some(group) = resource.tree(mounts).map(|tree| tree.group(id)) else {
            continue;
        };
        let members = group.join(MEMBERS);
        let enter = |pid: u32| match fs::write(&members, pid.to_string()) {
            Err(error) if error.raw_os_error() == Some(NO_SUCH_PROCESS) => Ok(()),
            entered => entered.map_err(|error| refused(resource, &group, &error)),
        };
        enter(pid)?;
        // What it started before it belonged there; whatever comes after is born there.
        descendants(pid).into_iter().try_for_each(enter)?;
    }
    Ok(())
}

impl Resource {
    const ALL: [Self; 2] = [Self::Memory, Self::Cpu];

    const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "processor time",
        }
    }

    /// As the kernel calls it.
    const fn controller(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
        }
    }

    fn wanted(self, allotment: Allotment) -> Option<u64> {
        match self {
            Self::Memory => allotment.memory_bytes,
            Self::Cpu => allotment.cpu_percent.map(u64::from),
        }
    }

    /// Where it can be bounded, as the table of mounts tells.
    fn tree(self, mounts: &str) -> Option<Tree> {
        let wanted = self.controller();
        mounts.lines().find_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let (root, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
            let root = PathBuf::from(root);
            let version = match kind {
                "cgroup" if options.split(',').any(|option| option == wanted) => Version::One,
                "cgroup2" => {
                    let there = fs::read_to_string(root.join("cgroup.controllers")).ok()?;
                    there.split_whitespace().find(|name| *name == wanted)?;
                    Version::Two
                }
                _ => return None,
            };
            Some(Tree { root, version })
        })
    }
}

impl Tree {
    fn group(&self, id: AmphoraId) -> PathBuf {
        self.root.join(OURS).join(id.to_string())
    }

    fn make(&self, group: &Path, resource: Resource) -> io::Result<()> {
        let ours = self.root.join(OURS);
        if self.version == Version::Two {
            // A group bounds what the one above it hands down.
            hand_down(&self.root, resource)?;
            fs::create_dir_all(&ours)?;
            hand_down(&ours, resource)?;
        }
        fs::create_dir_all(group)
    }

    fn bound(&self, group: &Path, resource: Resource, wanted: Option<u64>) -> io::Result<()> {
        let say = |file: &str, text: String| fs::write(group.join(file), text);
        // What is swapped out is not counted as memory, and would be had beyond it. Kernels without swap lack the file.
        let say_if_there = |file: &str, text: &str| match group.join(file) {
            path if path.exists() => fs::write(path, text),
            _ => Ok(()),
        };
        let bounded = wanted.is_some();
        let quota = wanted.map(|percent| percent.saturating_mul(CPU_PERIOD_US) / 100);
        let or = |value: Option<u64>, none: &str| {
            value.map_or_else(|| none.to_owned(), |value| value.to_string())
        };
        match (self.version, resource) {
            (Version::Two, Resource::Memory) => {
                say_if_there("memory.swap.max", if bounded { "0" } else { "max" })?;
                say("memory.max", or(wanted, "max"))
            }
            (Version::Two, Resource::Cpu) => {
                say("cpu.max", format!("{} {CPU_PERIOD_US}", or(quota, "max")))
            }
            (Version::One, Resource::Memory) => {
                say_if_there("memory.swappiness", if bounded { "0" } else { SWAPPINESS })?;
                say("memory.limit_in_bytes", or(wanted, "-1"))
            }
            (Version::One, Resource::Cpu) => {
                say("cpu.cfs_period_us", CPU_PERIOD_US.to_string())?;
                say("cpu.cfs_quota_us", or(quota, "-1"))
            }
        }
    }
}

fn hand_down(group: &Path, resource: Resource) -> io::Result<()> {
    let file = group.join("cgroup.subtree_control");
    let handed = fs::read_to_string(&file).unwrap_or_default();
    let name = resource.controller();
    if handed.split_whitespace().any(|found| found == name) {
        return Ok(());
    }
    fs::write(file, format!("+{name}"))
}

/// The processes that a process started, and those that these started. Not asked of the kernel's lists of children: not
/// every kernel has them, and each is of one thread alone.
fn descendants(pid: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let numbers = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<(u32, u32)> = numbers
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, parent_in(&stat)?))
        })
        .collect();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        let theirs = parents.iter().filter(|(_, its)| *its == parent);
        found.extend(theirs.map(|(pid, _)| *pid));
    }
    found.split_off(1)
}

/// The parent, of a line of `/proc/PID/stat`. What stands before it is in parentheses and may be anything.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

fn refused(resource: Resource, group: &Path, error: &io::Error) -> ProcessError {
    ProcessError::Transient(format!(
        "the {} of the amphora is to be bounded, and {} cannot be used for that: {error}",
        resource.name(),
        group.display()
    ))
}

/// Above the groups of amphorae.
const OURS: &str = "krater";
const MEMBERS: &str = "cgroup.procs";
/// Of this many microseconds it is said how many may be used.
const CPU_PERIOD_US: u64 = 100_000;
/// How readily the kernel swaps out where nobody said so.
const SWAPPINESS: &str = "60";
/// How long the kernel may take to be done with those that have ended, and between two looks.
const REMOVE_TRIES_MAX: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// ESRCH
const NO_SUCH_PROCESS: i32 = 3;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const ID: AmphoraId = AmphoraId::new(Uuid::from_u128(7));
    const BOTH: Allotment = Allotment {
        memory_bytes: Some(128 << 20),
        cpu_percent: Some(150),
    };

    fn said(root: &Path, file: &str) -> String {
        let path = root.join(OURS).join(ID.to_string()).join(file);
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn of_version_1_each_resource_has_a_tree_of_its_own() {
        let host = tempfile::tempdir().unwrap();
        let [memory, cpu] = ["memory", "cpu"].map(|name| host.path().join(name));
        let mounts = format!(
            "proc /proc proc rw 0 0\ncgroup {} cgroup rw,cpu,cpuacct 0 0\ncgroup {} cgroup rw,memory 0 0\n",
            cpu.display(),
            memory.display()
        );
        prepare_in(&mounts, ID, BOTH).unwrap();
        assert_eq!(said(&memory, "memory.limit_in_bytes"), "134217728");
        assert_eq!(said(&cpu, "cpu.cfs_quota_us"), "150000");
        assert_eq!(said(&cpu, "cpu.cfs_period_us"), "100000");
        join_in(&mounts, ID, BOTH, 4_000_000_000).unwrap();
        for root in [&memory, &cpu] {
            assert_eq!(said(root, MEMBERS), "4000000000");
        }
        // What is bounded no more is told so.
        let only_cpu = Allotment {
            memory_bytes: None,
            ..BOTH
        };
        prepare_in(&mounts, ID, only_cpu).unwrap();
        assert_eq!(said(&memory, "memory.limit_in_bytes"), "-1");
        assert_eq!(said(&cpu, "cpu.cfs_quota_us"), "150000");
    }

    #[test]
    fn what_is_bounded_is_not_swapped_out_instead() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("cgroup.controllers"), "memory").unwrap();
        let root = host.path().display();
        for (mounts, file, said_of) in [
            (
                format!("cgroup2 {root} cgroup2 rw 0 0\n"),
                "memory.swap.max",
                ["0", "max"],
            ),
            (
                format!("cgroup {root} cgroup rw,memory 0 0\n"),
                "memory.swappiness",
                ["0", "60"],
            ),
        ] {
            let group = host.path().join(OURS).join(ID.to_string());
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join(file), "kept").unwrap();
            let memory_bytes = BOTH.memory_bytes;
            for (memory_bytes, expected) in [memory_bytes, None].into_iter().zip(said_of) {
                let allotment = Allotment {
                    memory_bytes,
                    cpu_percent: None,
                };
                prepare_in(&mounts, ID, allotment).unwrap();
                assert_eq!(said(host.path(), file), expected);
            }
        }
    }

    #[test]
    fn whoever_a_process_started_is_known_whichever_thread_did_and_however_it_is_called() {
        assert_eq!(parent_in("12 (a) 5 (b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (cut"), None);
        let start = || {
            std::process::Command::new("sh")
                .args(["-c", "sleep 60 & wait"])
                .spawn()
                .unwrap()
        };
        let mut child = std::thread::spawn(start).join().unwrap();
        let grandchild = loop {
            if let [grandchild] = descendants(child.id())[..] {
                break grandchild;
            }
        };
        let all = descendants(std::process::id());
        assert!(all.contains(&child.id()) && all.contains(&grandchild));
        assert!(!all.contains(&std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        let sleeper = rustix::process::Pid::from_raw(i32::try_from(grandchild).unwrap()).unwrap();
        rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
    }

    #[test]
    fn of_version_2_what_is_bounded_is_handed_down() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("cgroup.controllers"), "cpu io memory\n").unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", host.path().display());
        prepare_in(&mounts, ID, BOTH).unwrap();
        assert_eq!(said(host.path(), "memory.max"), "134217728");
        assert_eq!(said(host.path(), "cpu.max"), "150000 100000");
        for group in [host.path().to_owned(), host.path().join(OURS)] {
            let handed = fs::read_to_string(group.join("cgroup.subtree_control"));
            // A plain file keeps what it was told last.
            assert_eq!(handed.unwrap(), "+cpu");
        }
    }

    #[test]
    fn where_nothing_can_be_bounded_it_is_refused_and_nothing_asked_for_is_nothing_done() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("cgroup.controllers"), "hugetlb\n").unwrap();
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", host.path().display());
        let refused = prepare_in(&mounts, ID, BOTH);
        assert!(
            matches!(refused, Err(ProcessError::Permanent(_))),
            "{refused:?}"
        );
        prepare_in(&mounts, ID, Allotment::default()).unwrap();
        assert!(!host.path().join(OURS).exists());
    }
}
