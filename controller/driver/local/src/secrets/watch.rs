//! When something in the folder of secrets changes.

use std::{
    io::ErrorKind,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{net::unix::pipe::Receiver, time::sleep};

/// What watches the folder and those in it. Where the kernel cannot, or the folder is not there, it is as if something
/// changed each while.
pub(super) struct Watch {
    root: PathBuf,
    eyes: Option<Receiver>,
}

impl Watch {
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root, eyes: None }
    }

    /// Returns when something changed, and all that changes at the same time has. What changes between two calls is
    /// not missed.
    pub(super) async fn changed(&mut self) {
        if self.eyes.is_none() {
            self.eyes = self.look();
        }
        match &self.eyes {
            Some(eyes) => {
                tokio::select! {
                    _ = eyes.readable() => {
                        // Several files of one secret are written one after the other.
                        sleep(SETTLING_TIME).await;
                        drain(eyes);
                    }
                    () = sleep(LOOK_INTERVAL) => {}
                }
            }
            None => sleep(RETRY_INTERVAL).await,
        }
        // Folders come and go; one that is watched already stays so.
        let is_there = match &self.eyes {
            Some(eyes) => see(eyes, &self.root),
            None => false,
        };
        if !is_there {
            self.eyes = None;
        }
    }

    fn look(&self) -> Option<Receiver> {
        let flags = CreateFlags::CLOEXEC | CreateFlags::NONBLOCK;
        let eyes = inotify::init(flags).ok()?;
        if !see(&eyes, &self.root) {
            return None;
        }
        // A pipe to the runtime: something to be read that comes by itself.
        Receiver::from_owned_fd_unchecked(eyes).ok()
    }
}

/// Watches the folder and those in it: of projects, of secrets, of what Kubernetes mounts.
fn see(eyes: &impl AsFd, root: &Path) -> bool {
    let mut left = FOLDERS_MAX;
    see_below(eyes, root, DEPTH_MAX, &mut left)
}

fn see_below(eyes: &impl AsFd, folder: &Path, depth: usize, left: &mut usize) -> bool {
    let events = WatchFlags::CLOSE_WRITE
        | WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    if *left == 0 || inotify::add_watch(eyes, folder, events).is_err() {
        return false;
    }
    *left -= 1;
    if depth == 0 {
        return true;
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    for entry in entries {
        // A symbolic link to a folder is none: what it is about to lead to is told by the folder that it is in.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            see_below(eyes, &entry.path(), depth - 1, left);
        }
    }
    true
}

/// Takes what was told: that something was is all there is to it.
fn drain(eyes: &Receiver) {
    let mut buffer = [0; 4096];
    for _ in 0..READS_MAX {
        match eyes.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Folders that are watched: each takes memory of the kernel. What lies in others is noticed at the next look.
const FOLDERS_MAX: usize = 4_096;
/// `project/secret/..time` below the folder itself.
const DEPTH_MAX: usize = 3;
const READS_MAX: usize = 64;
const SETTLING_TIME: Duration = Duration::from_millis(50);
/// How often everything is looked at though nothing was told: file systems of other hosts tell nothing.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);
/// How often it is looked whether the folder is there.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
