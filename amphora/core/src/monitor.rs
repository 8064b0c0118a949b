//! The health of one member: when to probe it next, and what its outcomes make of it (reference 19.7).

use alloc::string::{String, ToString};
use core::time::Duration;

use krater_amphora_api::MemberHealth;

use crate::{
    limits,
    time::{Instant, nanoseconds},
};

mod config;
mod failure;

pub use config::{ExpectedCodes, HttpProbe, MonitorConfig, Probe};
pub use failure::{ProbeFailure, Stage};

/// State machine of one member's health. It does no probing: the edge asks [`Monitor::poll_timeout`] when to probe,
/// says that it did, and hands in the outcome.
///
/// A fresh member counts as up, and its first outcome alone decides. Afterwards only `fall` failures in a row take
/// it out and `rise` successes in a row bring it back.
#[derive(Clone, Debug)]
pub struct Monitor {
    config: MonitorConfig,
    health: MemberHealth,
    /// The next outcome decides alone: the member, or what is asked of it, is new.
    fresh: bool,
    /// Outcomes in a row that contradict the present verdict.
    against: u8,
    /// The latest failure; cleared by a success that leaves the member up.
    failure: Option<ProbeFailure>,
    schedule: Schedule,
    /// Nanoseconds by which the second probe comes before a full delay has passed. Used once.
    second_early: u64,
}

#[derive(Clone, Copy, Debug)]
enum Schedule {
    /// No probe is under way; the next one starts at `at`.
    Waiting { at: Instant },
    /// A probe that started at `since` is under way.
    Probing { since: Instant },
}

/// What a member has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be chosen.
    Up,
    /// It may not be chosen.
    Down,
}

impl Monitor {
    /// Begins to watch a member. `jitter` is any random number: it spreads the first probes of members that were
    /// configured together over [`limits::FIRST_PROBE_SPREAD`], and all later ones over half the delay, so that
    /// thousands of members are not probed in one burst.
    #[must_use]
    pub fn new(config: MonitorConfig, now: Instant, jitter: u64) -> Self {
        let delay = nanoseconds(config.delay);
        let spread = delay.min(nanoseconds(limits::FIRST_PROBE_SPREAD)).max(1);
        let at = now.saturating_add(Duration::from_nanos(jitter % spread));
        let second_early = (jitter / spread) % (delay / 2).max(1);
        Self {
            config,
            health: MemberHealth::Unproven,
            fresh: true,
            against: 0,
            failure: None,
            schedule: Schedule::Waiting { at },
            second_early,
        }
    }

    /// When to start the next probe: at once if that is in the past.
    ///
    /// While a probe is under way this is when it is taken for lost (its time and one delay have passed without an
    /// outcome), so that a member is never left without probes for want of an answer.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(match self.schedule {
            Schedule::Waiting { at } => at,
            Schedule::Probing { since } => since
                .saturating_add(self.config.timeout)
                .saturating_add(self.config.delay),
        })
    }

    /// A probe was started; it must be given up after [`MonitorConfig::timeout`].
    pub const fn handle_probe_started(&mut self, now: Instant) {
        self.schedule = Schedule::Probing { since: now };
    }

    /// A probe ended. Answers what the member has become if that is a change.
    ///
    /// A [`ProbeFailure::Local`] says nothing of the member and changes nothing but the time of the next probe. An
    /// outcome while no probe is under way answers a question that is no longer asked, and is ignored.
    pub fn handle_outcome(
        &mut self,
        now: Instant,
        outcome: Result<(), ProbeFailure>,
    ) -> Option<Verdict> {
        let Schedule::Probing { since } = self.schedule else {
            return None;
        };
        self.schedule = Schedule::Waiting {
            at: self.next_after(since, now),
        };
        let seen = match outcome {
            Ok(()) => Verdict::Up,
            Err(ProbeFailure::Local(_)) => return None,
            Err(failure) => {
                self.failure = Some(failure);
                Verdict::Down
            }
        };
        let verdict = self.judge(seen);
        if self.health == MemberHealth::Up && self.against == 0 {
            self.failure = None;
        }
        verdict
    }

    /// Takes new settings. The verdict stays. If only timers or counts changed, so do the outcomes in a row; if the
    /// probe itself changed, see [`Monitor::ask_anew`].
    pub fn reconfigure(&mut self, config: MonitorConfig, now: Instant) {
        let same_probe = self.config.probe == config.probe;
        self.config = config;
        if !same_probe {
            self.ask_anew(now);
        } else if let Schedule::Waiting { at } = self.schedule {
            self.schedule = Schedule::Waiting {
                at: at.min(now.saturating_add(self.config.delay)),
            };
        }
    }

    /// Something about the probe's target changed: the verdict stays until the next outcome, which decides alone
    /// and is asked for at once. A probe that is under way must be given up.
    pub fn ask_anew(&mut self, now: Instant) {
        self.fresh = true;
        self.against = 0;
        self.schedule = Schedule::Waiting { at: now };
    }

    /// What the member counts as.
    #[must_use]
    pub const fn health(&self) -> MemberHealth {
        self.health
    }

    /// The latest failure as a sentence, while it matters: the member is down, or on its way there.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.failure.as_ref().map(ToString::to_string)
    }

    /// The settings in force.
    #[must_use]
    pub const fn config(&self) -> &MonitorConfig {
        &self.config
    }

    fn judge(&mut self, seen: Verdict) -> Option<Verdict> {
        let (agrees, needed) = match (seen, self.health) {
            (Verdict::Up, MemberHealth::Up) | (Verdict::Down, MemberHealth::Down) => (true, 0),
            (Verdict::Up, _) => (false, self.config.rise),
            (Verdict::Down, _) => (false, self.config.fall),
        };
        let decides_alone = core::mem::replace(&mut self.fresh, false);
        if agrees {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        if !decides_alone && self.against < needed {
            return None;
        }
        self.against = 0;
        self.health = match seen {
            Verdict::Up => MemberHealth::Up,
            Verdict::Down => MemberHealth::Down,
        };
        Some(seen)
    }

    /// One delay after the last start, or a whole number of delays if the probe took longer: members keep the
    /// distance in time that the first probes were given.
    fn next_after(&mut self, since: Instant, now: Instant) -> Instant {
        let delay = nanoseconds(self.config.delay).max(1);
        let since = Instant(
            since
                .0
                .saturating_sub(core::mem::take(&mut self.second_early)),
        );
        let missed = nanoseconds(now.duration_since(since)) / delay;
        Instant(
            since
                .0
                .saturating_add(delay.saturating_mul(missed.saturating_add(1))),
        )
    }
}

#[cfg(test)]
mod tests;
