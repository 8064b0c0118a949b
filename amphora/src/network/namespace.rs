//! Network namespaces: made, and entered by threads.
//!
//! A namespace has no name and lives as long as a process or an open file of it: nothing has to be swept when its
//! processes were killed. Threads are made for entering, since whatever runs on one later is in there too.

use std::{
    fs::File,
    io,
    os::fd::AsFd as _,
    path::Path,
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, unshare};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A new one, in which nothing is up.
pub(super) fn make() -> io::Result<File> {
    joined(
        thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            })?,
    )
}

/// One that somebody else has open.
pub(super) fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

/// Moves this thread, and with it all that it starts from now on.
pub(super) fn enter(namespace: &File) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

/// Acts in a thread of its own, inside.
pub(super) fn within<T: Send + 'static>(
    namespace: &File,
    act: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let namespace = namespace.try_clone()?;
    joined(
        thread::Builder::new()
            .name("namespace".to_owned())
            .spawn(move || {
                enter(&namespace)?;
                act()
            })?,
    )
}

fn joined<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a thread broke: this is a bug")))
}
