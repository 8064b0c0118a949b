//! What survives a restart: the last good spec of each load balancer, and the lock that keeps a second process out.
//!
//! Serving starts from here before any contact with a controller (D10). One file per load balancer, so that one
//! damaged file costs one load balancer, and so that writes of different ones may overlap.
//!
//! A spec is kept in two steps. `<id>.next` is written before the apply is answered: it survives the death of the
//! process. Waiting for the disk as well would make every apply as slow as the disk is busy (measured: 0.4 ms alone,
//! 12 ms beside a compiler), so that follows a moment later, when [`Keep::settle`] syncs the file and renames it to
//! `<id>.json`. A host that loses power in between starts with the spec before, which its first report says.
//!
//! Behind each spec stands its checksum (D54), so that a disk that turns bits costs what it turned them in, and nothing is
//! served that nobody wished for.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    thread,
};

use krater_amphora_api::{LoadBalancerId, SnapshotSpec};
use krater_amphora_core::{limits::SPEC_BODY_BYTES_MAX, snapshot::Snapshot};
use rustix::fs::{FlockOperation, flock};
use tracing::{error, info};

use crate::limits::{LOCK_PAUSE, LOCK_TRIES_MAX, SUCCESSION_PAUSE};

mod checksum;

/// The folder of kept specs.
#[derive(Clone, Debug)]
pub struct Keep {
    folder: PathBuf,
}

impl Keep {
    /// Opens the folder below `state_dir`, creating it when it is absent, and clears what an interrupted write left.
    pub fn open(state_dir: &Path) -> Result<Self, KeepError> {
        let folder = state_dir.join("load-balancers");
        create_private_folder(&folder)?;
        let keep = Self { folder };
        for path in keep.files("tmp")? {
            info!(path = %path.display(), "an unfinished write is removed");
            fs::remove_file(&path).map_err(|source| KeepError::io("remove", &path, source))?;
        }
        Ok(keep)
    }

    /// Every load balancer that can be served: the newest spec of each. A damaged file is set aside as `*.corrupt`, so
    /// that the others go on.
    pub fn load(&self) -> Result<Vec<Snapshot>, KeepError> {
        let mut newest: BTreeMap<LoadBalancerId, Snapshot> = BTreeMap::new();
        for path in self.files("json")?.into_iter().chain(self.files("next")?) {
            match read_snapshot(&path) {
                Ok(snapshot) => match newest.get(&snapshot.load_balancer()) {
                    Some(other) if other.generation() > snapshot.generation() => {}
                    _ => drop(newest.insert(snapshot.load_balancer(), snapshot)),
                },
                Err(reason) => set_aside(&path, &reason),
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> Result<bool, KeepError> {
        Ok(self.files("json")?.is_empty() && self.files("next")?.is_empty())
    }

    /// Keeps a spec, or leaves the one before. One caller per load balancer at a time, as for all that follows.
    ///
    /// Written beside and renamed over: the death of the process leaves the old spec or the new one, never a half.
    pub fn store(&self, id: LoadBalancerId, spec: &[u8]) -> Result<(), KeepError> {
        let path = self.path_of(id, "next");
        let beside = self.path_of(id, "tmp");
        write(&beside, &[spec, &checksum::trailer(spec)])
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|source| {
                // A full disk must not stay full of our own leavings; the error that counts is the first one.
                let _ = fs::remove_file(&beside);
                KeepError::io("write", &path, source)
            })
    }

    /// Makes the last [`Keep::store`] or [`Keep::discard`] survive the loss of power. Blocks for the disk.
    pub fn settle(&self, id: LoadBalancerId) -> Result<(), KeepError> {
        let path = self.path_of(id, "next");
        match File::open(&path) {
            Ok(file) => file
                .sync_all()
                .and_then(|()| fs::rename(&path, self.path_of(id, "json")))
                .map_err(|source| KeepError::io("sync", &path, source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(KeepError::io("open", &path, source)),
        }
        // A rename or a removal is durable only once its folder is.
        let folder = File::open(&self.folder).and_then(|folder| folder.sync_all());
        folder.map_err(|source| KeepError::io("sync", &self.folder, source))
    }

    /// Forgets a spec; that there is none is fine.
    pub fn discard(&self, id: LoadBalancerId) -> Result<(), KeepError> {
        // What was set aside may hold keys, too.
        for extension in ["next", "json", ASIDE] {
            let path = self.path_of(id, extension);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(KeepError::io("remove", &path, source));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn path_of(&self, id: LoadBalancerId, extension: &str) -> PathBuf {
        self.folder.join(format!("{id}.{extension}"))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>, KeepError> {
        let failed = |source| KeepError::io("list", &self.folder, source);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|found| found == extension) {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// A right that one process has in a state folder: to use it, or to be the next who may. The kernel takes it back when the
/// process ends.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

impl StateLock {
    /// Takes the lock of `state_dir`, creating the folder when it is absent, and leaves our process id in it.
    ///
    /// Waits a moment for those who only [look](StateLock::holder): they hold it for as long as a look takes.
    pub(crate) fn acquire(state_dir: &Path) -> Result<Self, KeepError> {
        Self::take(state_dir, STATE)?.map_err(|pid| KeepError::Locked {
            state_dir: state_dir.to_owned(),
            pid,
        })
    }

    /// The same of the place behind the holder: whoever has it could serve, and waits for the holder to let go.
    pub(crate) fn acquire_succession(state_dir: &Path) -> Result<Self, KeepError> {
        Self::take(state_dir, SUCCESSOR)?.map_err(|pid| KeepError::Succeeded {
            state_dir: state_dir.to_owned(),
            pid,
        })
    }

    /// Takes a lock, or says who has it.
    fn take(state_dir: &Path, name: &str) -> Result<Result<Self, Option<i32>>, KeepError> {
        let path = state_dir.join(name);
        let mut file = Self::open(state_dir, name)?;
        let mut looks = 0;
        while !lock(&file, FlockOperation::NonBlockingLockExclusive, &path)? {
            looks += 1;
            if looks == LOCK_TRIES_MAX {
                return Ok(Err(read_pid(&mut file)));
            }
            thread::sleep(LOCK_PAUSE);
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(|source| KeepError::io("write", &path, source))?;
        Ok(Ok(Self { _file: file }))
    }

    /// Looks who holds the lock, without taking it.
    pub(crate) fn holder(state_dir: &Path) -> Result<Holder, KeepError> {
        Self::look(state_dir, STATE)
    }

    /// Looks who waits for the holder to let go.
    pub(crate) fn successor(state_dir: &Path) -> Result<Holder, KeepError> {
        Self::look(state_dir, SUCCESSOR)
    }

    fn look(state_dir: &Path, name: &str) -> Result<Holder, KeepError> {
        let mut file = Self::open(state_dir, name)?;
        // Shared, so that those who look do not see each other.
        let operation = FlockOperation::NonBlockingLockShared;
        if lock(&file, operation, &state_dir.join(name))? {
            return Ok(Holder::Nobody);
        }
        Ok(Holder::Process(read_pid(&mut file)))
    }

    fn open(state_dir: &Path, name: &str) -> Result<File, KeepError> {
        create_private_folder(state_dir)?;
        let path = state_dir.join(name);
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        options
            .open(&path)
            .map_err(|source| KeepError::io("open", &path, source))
    }
}

/// The lock of whoever uses the folder.
const STATE: &str = "lock";
/// The lock of whoever is next.
const SUCCESSOR: &str = "successor";

/// The state folder as the tasks of this process have it together, until it is given up for a successor.
///
/// Whoever is at the disk holds a share: a write that takes long must not come after what the successor reads or writes.
#[derive(Clone, Debug)]
pub(crate) struct Tenure(Rc<Shares>);

#[derive(Debug)]
struct Shares {
    lock: RefCell<Option<Arc<StateLock>>>,
    ending: Cell<bool>,
}

impl Tenure {
    /// It begins with the lock.
    pub(crate) fn new(lock: StateLock) -> Self {
        Self(Rc::new(Shares {
            lock: RefCell::new(Some(Arc::new(lock))),
            ending: Cell::new(false),
        }))
    }

    /// The right to use the folder for as long as the share lives. `None` once it is being given up.
    pub(crate) fn share(&self) -> Option<Arc<StateLock>> {
        let lock = self.0.lock.borrow();
        lock.as_ref().filter(|_| !self.0.ending.get()).cloned()
    }

    /// Gives no more shares out, waits until those that are out are back, and gives the folder up; unless `is_wanted` says
    /// no by then: all is as before, and the answer is `false`.
    pub(crate) async fn give_up(&self, is_wanted: impl FnOnce() -> bool) -> bool {
        self.0.ending.set(true);
        let is_shared = |lock: &Option<Arc<StateLock>>| {
            lock.as_ref()
                .is_some_and(|lock| Arc::strong_count(lock) > 1)
        };
        while is_shared(&self.0.lock.borrow()) {
            tokio::time::sleep(SUCCESSION_PAUSE).await;
        }
        if is_wanted() {
            self.0.lock.take();
            return true;
        }
        self.0.ending.set(false);
        false
    }
}

/// Who holds a [`StateLock`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// Nobody: no agent is alive here.
    Nobody,
    /// A process, by the id it wrote.
    Process(Option<i32>),
}

impl Holder {
    /// The process, if there is one and it is known.
    pub(crate) fn process(self) -> Option<u32> {
        match self {
            Self::Nobody => None,
            Self::Process(pid) => pid.and_then(|pid| u32::try_from(pid).ok()),
        }
    }
}

/// Whether the lock could be had.
fn lock(file: &File, operation: FlockOperation, path: &Path) -> Result<bool, KeepError> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(KeepError::io("lock", path, errno.into())),
    }
}

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Another process works here.
    #[error("{} is in use by another process{}", state_dir.display(), pid.map_or_else(String::new, |pid| format!(" (pid {pid})")))]
    Locked {
        /// The folder.
        state_dir: PathBuf,
        /// The process that holds it, as it wrote itself.
        pid: Option<i32>,
    },
    /// Another process is to serve from here next.
    #[error("another process{} waits already for {} to be let go of", pid.map_or_else(String::new, |pid| format!(" (pid {pid})")), state_dir.display())]
    Succeeded {
        /// The folder.
        state_dir: PathBuf,
        /// The process that waits, as it wrote itself.
        pid: Option<i32>,
    },
    /// The file system refused.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl KeepError {
    fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            doing,
            path: path.to_owned(),
            source,
        }
    }
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

fn read_snapshot(path: &Path) -> Result<Snapshot, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let size = file.metadata().map_err(|error| error.to_string())?.len();
    if size > FILE_BYTES_MAX as u64 {
        return Err(format!(
            "it has {size} bytes, at most {FILE_BYTES_MAX} are allowed"
        ));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    let document = checksum::verified(&bytes)?;
    let spec: SnapshotSpec = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    if path.file_stem().and_then(OsStr::to_str) != Some(&spec.load_balancer.to_string()) {
        return Err(format!("it holds load balancer {}", spec.load_balancer));
    }
    Snapshot::parse(spec).map_err(|rejections| {
        rejections
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    })
}

fn set_aside(path: &Path, reason: &str) {
    let aside = path.with_extension(ASIDE);
    match fs::rename(path, &aside) {
        Ok(()) => {
            error!(path = %aside.display(), reason, "a kept load balancer cannot be used and is set aside")
        }
        Err(error) => {
            error!(path = %path.display(), reason, %error, "a kept load balancer cannot be used")
        }
    }
}

/// What files are called that were set aside.
const ASIDE: &str = "corrupt";
/// A spec with its checksum.
const FILE_BYTES_MAX: usize = SPEC_BODY_BYTES_MAX + checksum::TRAILER_BYTES;

/// Makes a folder that only we may enter, and those above it.
pub(crate) fn create_private_folder(folder: &Path) -> Result<(), KeepError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| KeepError::io("create", folder, source))
}

#[cfg(test)]
mod tests;
