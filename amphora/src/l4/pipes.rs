//! Pipes through which streams are moved without being copied: used again, and bounded.

use std::{
    os::fd::{AsFd, BorrowedFd},
    rc::Rc,
};

use rustix::{
    fd::OwnedFd,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
};

use crate::limits::{PIPE_BYTES, PIPES_IDLE_MAX, PIPES_MAX};

/// A pipe. It is lent to a direction of a connection while bytes are in it.
#[derive(Debug)]
pub(super) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// Counts it among those that exist, wherever it is dropped.
    _place: Rc<()>,
}

impl Pipe {
    /// Where bytes come out.
    pub(super) fn outlet(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Where bytes go in.
    pub(super) fn inlet(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }
}

/// The pipes of one thread.
pub(super) struct Pipes {
    /// Empty ones.
    idle: Vec<Pipe>,
    places: Rc<()>,
    most: usize,
}

impl Pipes {
    pub(super) fn new() -> Self {
        Self {
            idle: Vec::new(),
            places: Rc::new(()),
            most: PIPES_MAX,
        }
    }

    /// An empty pipe, if one is to be had. Who gets none copies.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.idle.pop() {
            return Some(pipe);
        }
        if Rc::strong_count(&self.places) > self.most {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // An unprivileged user may hold only so many pages in pipes (pipe-user-pages-soft); then the pipe stays small.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Some(Pipe {
            read,
            write,
            _place: Rc::clone(&self.places),
        })
    }

    /// Takes back a pipe that is empty.
    pub(super) fn put(&mut self, pipe: Pipe) {
        if self.idle.len() < PIPES_IDLE_MAX {
            self.idle.push(pipe);
        }
    }

    /// A pool that has no pipe to give: everything is copied.
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self {
            most: 0,
            ..Self::new()
        }
    }
}
