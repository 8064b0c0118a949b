//! One krater per state folder: a lock that ends with the process, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use rustix::fs::{FlockOperation, flock};

use crate::limits::{LOCK_PAUSE, LOCK_WAIT_MAX};

/// The lock on a state folder, while it is held.
#[derive(Debug)]
pub(crate) struct StateLock {
    _file: File,
}

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another process has it.
    #[error("{} is in use by another krater{}; end that one, or choose another folder with --state-dir", path.display(), named(.pid.as_deref()))]
    Held {
        /// The folder.
        path: PathBuf,
        /// The process id it wrote down.
        pid: Option<String>,
    },
    /// It cannot be made or written to.
    #[error("cannot {action} {}; choose another folder with --state-dir, or set its owner and mode", path.display())]
    Unusable {
        /// What was being done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateLock {
    /// Makes the folder if it is absent, and takes it for this process.
    pub(crate) fn take(folder: &Path) -> Result<Self, LockError> {
        let unusable = |action, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable {
                action,
                path,
                source,
            }
        };
        let mut builder = fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(unusable("create", folder))?;
        let path = folder.join("krater.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable("write to", &path))?;
        match lock(&file) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                let read = file.read_to_string(&mut pid);
                let pid = Some(pid.trim().to_owned()).filter(|pid| read.is_ok() && !pid.is_empty());
                return Err(LockError::Held {
                    path: folder.to_owned(),
                    pid,
                });
            }
            Err(errno) => return Err(unusable("lock", &path)(errno.into())),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(unusable("write to", &path))?;
        Ok(Self { _file: file })
    }
}

/// Locks the file, or fails with `WOULDBLOCK` when another process keeps it.
///
/// A process that was killed holds its lock until the kernel has taken it down, so a start right after a kill waits
/// a moment before it believes that somebody is there.
fn lock(file: &File) -> rustix::io::Result<()> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => {
                thread::sleep(LOCK_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn named(pid: Option<&str>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_taken_once_and_free_again_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let lock = StateLock::take(&path).unwrap();
        let error = StateLock::take(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(process {})", std::process::id())),
            "{error}"
        );
        drop(lock);
        StateLock::take(&path).unwrap();
    }

    #[test]
    fn a_folder_whose_holder_is_just_ending_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let lock = StateLock::take(folder.path()).unwrap();
        let ending = thread::spawn(move || {
            thread::sleep(LOCK_PAUSE);
            drop(lock);
        });
        StateLock::take(folder.path()).unwrap();
        ending.join().unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = StateLock::take(&folder.path().join("file/sub"))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("file/sub") && error.contains("--state-dir"),
            "{error}"
        );
    }
}
