//! What threads of layer 4 leave to each other: new connections, when one is crowded and another is not.
//!
//! Which, the core decides (`spread`); here is how they get there. Nothing is passed on that has begun, and nothing is
//! touched that threads share unless something is.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use krater_amphora_core::{spread::Spread, time::Instant};
use rustix::fd::OwnedFd;

use super::bell::Bell;
use crate::{limits::PASSED_MAX, meter::ThreadMeter, world::ListenerState};

/// A client that was accepted, with its place in the listener's limit and nothing else begun.
#[derive(Debug)]
pub(super) struct Passed {
    /// The listener as it was when it was accepted (I4).
    pub(super) state: Arc<ListenerState>,
    pub(super) client: OwnedFd,
    pub(super) peer: SocketAddr,
}

/// Another thread: its lane in every meter, and how it is reached.
#[derive(Clone, Debug)]
struct Neighbour {
    lane: usize,
    queue: SyncSender<Passed>,
    bell: Arc<Bell>,
}

/// One thread's end of what threads leave to each other.
pub(crate) struct Berth {
    pub(super) bell: Arc<Bell>,
    passed: Receiver<Passed>,
    others: Vec<Neighbour>,
    spread: Spread,
}

/// A berth for the threads of these lanes, in their order.
pub(crate) fn berths(lanes: impl Iterator<Item = usize>) -> io::Result<Vec<Berth>> {
    let mut all = Vec::new();
    let mut ends = Vec::new();
    for lane in lanes {
        let bell = Bell::new()?;
        let (queue, passed) = sync_channel(PASSED_MAX);
        ends.push((lane, passed, Arc::clone(&bell)));
        all.push(Neighbour { lane, queue, bell });
    }
    let berth = |(lane, passed, bell)| Berth {
        bell,
        passed,
        others: all
            .iter()
            .filter(|other| other.lane != lane)
            .cloned()
            .collect(),
        spread: Spread::default(),
    };
    Ok(ends.into_iter().map(berth).collect())
}

impl Berth {
    /// To whom a client that was just accepted is to be left, if this thread, that of `lane`, is crowded.
    pub(super) fn choose(
        &mut self,
        lane: usize,
        threads: &ThreadMeter,
        now: Instant,
    ) -> Option<usize> {
        if self.others.is_empty() {
            return None;
        }
        let own = threads.of(lane).active();
        let others = &self.others;
        let open = |(at, other): (usize, &Neighbour)| (at, threads.of(other.lane).active());
        self.spread
            .pass_on(own, now, || others.iter().enumerate().map(open))
    }

    /// Leaves a client to the one that was chosen. Gives it back if that one has its hands full, or has ended.
    pub(super) fn pass_on(&mut self, to: usize, passed: Passed) -> Option<Passed> {
        let Some(other) = self.others.get(to) else {
            return Some(passed);
        };
        match other.queue.try_send(passed) {
            Ok(()) => {
                other.bell.ring();
                None
            }
            Err(TrySendError::Full(passed) | TrySendError::Disconnected(passed)) => {
                self.spread.refused();
                Some(passed)
            }
        }
    }

    /// The next client that another thread has left here.
    pub(super) fn take(&self) -> Option<Passed> {
        self.passed.try_recv().ok()
    }
}
