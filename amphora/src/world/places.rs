//! How many requests a member may have under way at once, and those that wait for their turn.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, SeqCst},
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{limits::MEMBER_QUEUE_MAX, meter::Lanes};

/// The places for requests at one member, shared by all workers.
///
/// A worker keeps a place that it has been given, used or not, in a lane of its own, so that a request which finds one
/// there touches nothing that other cores write to. One that a worker keeps for nothing is taken by whoever needs it. While
/// somebody waits, all who come wait behind them, and each place that becomes free wakes the one that waited longest.
#[derive(Debug)]
pub(crate) struct Places {
    /// How many there are; 0: any number.
    limit: AtomicU32,
    /// Those that workers have been given.
    given: AtomicU32,
    waiting: AtomicU32,
    freed: Notify,
    lanes: Lanes<Lane>,
}

/// The places of one worker: how many it has been given, above how many of them are used. Others only take away what is
/// not used.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

const GIVEN: u64 = 1 << 32;
const USED: u64 = 1;

const fn spare(word: u64) -> u64 {
    (word >> 32).saturating_sub(word & (GIVEN - 1))
}

/// A place that a request has, given back when dropped.
pub(crate) struct Held<'a>(Option<(&'a Places, usize)>);

/// Nobody has left in time, or too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl Places {
    /// So many places, or any number if `None`.
    pub(super) fn new(limit: Option<u32>, workers: usize) -> Self {
        Self {
            limit: AtomicU32::new(limit.unwrap_or(0)),
            given: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
            lanes: Lanes::new(workers),
        }
    }

    /// Changes their number. Requests beyond a lower one go on.
    pub(super) fn set(&self, limit: Option<u32>) {
        let limit = limit.unwrap_or(0);
        if self.limit.swap(limit, AcqRel) != limit {
            self.freed.notify_waiters();
        }
    }

    /// How many requests wait.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Takes a place without waiting.
    pub(crate) fn take(&self, lane: usize) -> Option<Held<'_>> {
        if self.limit.load(Relaxed) == 0 {
            return Some(Held(None));
        }
        // Whoever waits comes first.
        (self.waiting.load(SeqCst) == 0 && self.seize(lane)).then(|| Held(Some((self, lane))))
    }

    /// Waits for a place until `deadline`.
    pub(crate) async fn wait(&self, lane: usize, deadline: Instant) -> Result<Held<'_>, Busy> {
        let before = self.waiting.fetch_add(1, SeqCst);
        let queue = Queued { places: self, lane };
        if before >= MEMBER_QUEUE_MAX {
            return Err(Busy);
        }
        // One who is not the first leaves what there is to those ahead; who goes wakes the next if there is more.
        let mut is_my_turn = before == 0;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // Known from here on to whoever gives a place back, and only then is it looked whether there is one.
            is_my_turn |= freed.as_mut().enable();
            if self.limit.load(Acquire) == 0 {
                return Ok(Held(None));
            }
            if is_my_turn && self.seize(lane) {
                drop(queue);
                return Ok(Held(Some((self, lane))));
            }
            timeout_at(deadline, freed).await.map_err(|_| Busy)?;
            is_my_turn = true;
        }
    }

    /// Whether a request would find a place, as far as can be known.
    pub(crate) fn has_room(&self, lane: usize) -> bool {
        let limit = self.limit.load(Relaxed);
        limit == 0
            || self.waiting.load(Relaxed) == 0
                && (self.given.load(Relaxed) < limit || self.has_spare(lane))
    }

    /// How many connections may wait here for a request: no more than requests could come.
    pub(crate) fn room(&self, lane: usize) -> usize {
        if self.limit.load(Relaxed) == 0 {
            return usize::MAX;
        }
        usize::try_from(spare(self.lanes.of(lane).0.load(Relaxed))).unwrap_or(usize::MAX)
    }

    fn has_spare(&self, lane: usize) -> bool {
        spare(self.lanes.of(lane).0.load(Relaxed)) > 0
            || self
                .lanes
                .used()
                .any(|lane| spare(lane.0.load(Relaxed)) > 0)
    }

    /// Takes one that this worker keeps, one that nobody has, or one that another worker keeps for nothing.
    fn seize(&self, lane: usize) -> bool {
        let limit = self.limit.load(Acquire);
        if self.given.load(Relaxed) > limit {
            self.shed(limit);
        }
        let own = &self.lanes.of(lane).0;
        let kept = |word| (spare(word) > 0).then_some(word + USED);
        if own.fetch_update(SeqCst, SeqCst, kept).is_ok() {
            return true;
        }
        let fresh = |given| (given < limit).then_some(given + 1);
        if self.given.fetch_update(SeqCst, SeqCst, fresh).is_ok()
            || self.lanes.used().any(|lane| lane.give_up())
        {
            own.fetch_add(GIVEN + USED, SeqCst);
            return true;
        }
        false
    }

    /// Takes back what is beyond a limit that has become lower, as far as it is not used.
    #[cold]
    fn shed(&self, limit: u32) {
        for lane in self.lanes.used() {
            while self.given.load(Acquire) > limit && lane.give_up() {
                self.given.fetch_sub(1, SeqCst);
            }
        }
    }

    /// Gives back a place that was [passed on](Held::pass_on). The worker keeps it until somebody needs it.
    pub(crate) fn release(&self, lane: usize) {
        self.lanes.of(lane).0.fetch_sub(USED, SeqCst);
        // Who waits is counted before they look for a place: either they see this one, or they are seen here.
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

impl Lane {
    /// One place fewer, if there is one that is not used.
    fn give_up(&self) -> bool {
        let without = |word| (spare(word) > 0).then(|| word - GIVEN);
        self.0.fetch_update(SeqCst, SeqCst, without).is_ok()
    }
}

impl Held<'_> {
    /// Leaves it to the caller to [give it back](Places::release); `false` if there is nothing to give back, since there
    /// is no limit.
    pub(crate) fn pass_on(mut self) -> bool {
        self.0.take().is_some()
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some((places, lane)) = self.0 {
            places.release(lane);
        }
    }
}

/// One who waits.
struct Queued<'a> {
    places: &'a Places,
    lane: usize,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Self { places, lane } = self;
        let others = places.waiting.fetch_sub(1, SeqCst) > 1;
        // What became free before anybody waited has woken nobody.
        if others
            && (places.given.load(SeqCst) < places.limit.load(SeqCst) || places.has_spare(*lane))
        {
            places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests;
