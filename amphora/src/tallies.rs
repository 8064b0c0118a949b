//! What the slow thread counts about itself.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    /// Adds one.
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The number now.
    pub(crate) fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set; `None` until it is first.
#[derive(Debug)]
pub(crate) struct Level(AtomicI64);

impl Default for Level {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Level {
    /// Sets it.
    pub(crate) fn set(&self, value: u64) {
        self.0
            .store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    /// Sets it to the time of day, in seconds since the epoch.
    pub(crate) fn set_to_now(&self) {
        self.set(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        );
    }

    /// What it was last set to.
    pub(crate) fn read(&self) -> Option<u64> {
        u64::try_from(self.0.load(Relaxed)).ok()
    }
}

/// Counts of one process.
#[derive(Debug)]
pub(crate) struct Tallies {
    pub(crate) started: Instant,
    pub(crate) applies: Tally,
    pub(crate) removals: Tally,
    /// Refused applies, by why.
    pub(crate) refusals: Refusals,
    pub(crate) settle_failures: Tally,
    pub(crate) heartbeats_sent: Tally,
    pub(crate) heartbeats_failed: Tally,
    pub(crate) heartbeat_last: Level,
    pub(crate) reloads: Tally,
    pub(crate) reloads_refused: Tally,
    pub(crate) reload_last: Level,
    /// Flaws of the snapshot file as last read; zero when it was taken.
    pub(crate) file_flaws: Level,
    pub(crate) certificate_expiry: Level,
    /// Whether allowed CIDRs could not be loaded into the kernel; not set where they need not be.
    pub(crate) filter_failed: Level,
    /// What was said and heard by who takes turns at addresses.
    pub(crate) turns: TurnTallies,
    /// What was told to and by other amphorae that carry the same.
    pub(crate) sessions: SessionTallies,
    pub(crate) bugs: Tally,
}

/// Refused applies.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    pub(crate) unreadable: Tally,
    pub(crate) stale: Tally,
    pub(crate) invalid: Tally,
    pub(crate) not_kept: Tally,
    pub(crate) network: Tally,
}

/// Adverts and what came of them.
#[derive(Debug, Default)]
pub(crate) struct TurnTallies {
    pub(crate) sent: Tally,
    pub(crate) heard: Tally,
    pub(crate) ignored: Tally,
    pub(crate) takeovers: Tally,
}

/// Sessions that amphorae tell each other, each time they are told.
#[derive(Debug, Default)]
pub(crate) struct SessionTallies {
    /// Told to another one.
    pub(crate) told: Tally,
    /// Told by another one, and news.
    pub(crate) taken: Tally,
    /// Told by another one, and known already.
    pub(crate) known: Tally,
    /// Told by another one, of members and pools that are not here.
    pub(crate) ignored: Tally,
    /// Not told at once because another one was too slow, and told with all others later.
    pub(crate) deferred: Tally,
    /// Connections that were refused, or broken off for what was said.
    pub(crate) refused: Tally,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            applies: Tally::default(),
            removals: Tally::default(),
            refusals: Refusals::default(),
            settle_failures: Tally::default(),
            heartbeats_sent: Tally::default(),
            heartbeats_failed: Tally::default(),
            heartbeat_last: Level::default(),
            reloads: Tally::default(),
            reloads_refused: Tally::default(),
            reload_last: Level::default(),
            file_flaws: Level::default(),
            certificate_expiry: Level::default(),
            filter_failed: Level::default(),
            turns: TurnTallies::default(),
            sessions: SessionTallies::default(),
            bugs: Tally::default(),
        }
    }
}
