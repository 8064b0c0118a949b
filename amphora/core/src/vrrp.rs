//! Which of several amphorae has the addresses of a load balancer: a virtual router of VRRPv3 (RFC 9568), of which one
//! is active and the others listen for its silence.
//!
//! Beyond the standard: whoever leaves on purpose keeps the addresses until another one has them, so that a planned
//! change costs nothing; whoever is not at its best, or was away for longer than others wait, speaks with the least
//! priority and so takes nothing from anybody who serves.

use alloc::collections::VecDeque;
use core::{net::IpAddr, time::Duration};

use crate::time::Instant;

mod advert;
pub mod neighbour;

pub use advert::{Advert, HOPS, Interval, Journey, Malformed, PROTOCOL};

/// How one member of a virtual router takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who is preferred: 1–254, the highest.
    pub priority: u8,
    /// Time between two adverts of its own.
    pub interval: Interval,
    /// Whether it takes over from another one that serves and is preferred less.
    pub preempt: bool,
    /// Its own address: among equals the highest is preferred.
    pub address: IpAddr,
}

/// How fit its process is to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is.
    Well,
    /// In part: better than nobody.
    Ailing,
    /// It cannot serve at all.
    Dead,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send an advert of this priority to all others.
    Advertise(u8),
    /// Have the addresses, and tell the neighbours.
    Hold,
    /// Tell the neighbours once more.
    Announce,
    /// Have the addresses no longer.
    Release,
}

/// What a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes no part.
    Down,
    /// It listens for the silence of who is active.
    Standby,
    /// It has the addresses.
    Active,
    /// It has them until another one does.
    Leaving,
}

/// One member of a virtual router.
#[derive(Clone, Debug)]
pub struct Router {
    settings: Settings,
    health: Health,
    state: State,
    /// The interval of who is active, as far as heard.
    theirs: Interval,
    outputs: VecDeque<Output>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Down,
    Standby { active_from: Instant, aside: bool },
    Active(Turn),
    Leaving { until: Instant, then: Then },
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    advert_at: Instant,
    announce_at: Instant,
    /// Neighbours were told so often.
    announced: usize,
    /// Until then it speaks with the least priority.
    soft_until: Option<Instant>,
    /// When it last contradicted somebody.
    asserted_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Down,
    Standby,
}

impl Router {
    /// A member that takes no part until it is found to be fit.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            health: Health::Dead,
            state: State::Down,
            theirs: settings.interval,
            outputs: VecDeque::new(),
        }
    }

    /// What it is doing.
    #[must_use]
    pub const fn role(&self) -> Role {
        match self.state {
            State::Down => Role::Down,
            State::Standby { .. } => Role::Standby,
            State::Active(_) => Role::Active,
            State::Leaving { .. } => Role::Leaving,
        }
    }

    /// Whether it stands by because it was told to, and hears nobody.
    #[must_use]
    pub const fn is_aside(&self) -> bool {
        matches!(self.state, State::Standby { aside: true, .. })
    }

    /// Whether it is to have the addresses.
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self.state, State::Active(_) | State::Leaving { .. })
    }

    /// Takes part in another way from now on.
    pub const fn configure(&mut self, settings: Settings) {
        self.settings = settings;
        if !matches!(self.state, State::Standby { .. }) {
            self.theirs = settings.interval;
        }
    }

    /// Takes note of how fit it is.
    pub fn handle_health(&mut self, health: Health, now: Instant) {
        let before = core::mem::replace(&mut self.health, health);
        match (before, health) {
            (Health::Dead, Health::Well | Health::Ailing) => {
                if matches!(self.state, State::Down) {
                    self.stand_by(now);
                }
            }
            (_, Health::Dead) => {
                if self.holds() {
                    self.outputs.extend([Output::Advertise(0), Output::Release]);
                }
                self.state = State::Down;
            }
            (Health::Well, Health::Ailing) => self.leave_to(Then::Standby, now),
            _ => {}
        }
    }

    /// Goes on as who was active before it, whose addresses it found: softly, since it cannot know what others did
    /// meanwhile.
    pub fn resume(&mut self, now: Instant) {
        if matches!(self.state, State::Standby { .. }) {
            self.take_turn(now, Some(self.soft_until(now)));
        }
    }

    /// Takes part no longer; done when it is [`Role::Down`].
    pub fn leave(&mut self, now: Instant) {
        match self.state {
            State::Active(_) => self.leave_to(Then::Down, now),
            State::Leaving { until, .. } => {
                let then = Then::Down;
                self.state = State::Leaving { until, then };
            }
            State::Down | State::Standby { .. } => self.state = State::Down,
        }
    }

    /// Takes part again although it was to leave, as far as it is fit. What it has begun to leave it leaves.
    pub fn stay(&mut self, now: Instant) {
        match self.state {
            State::Leaving { until, .. } => {
                let then = Then::Standby;
                self.state = State::Leaving { until, then };
            }
            State::Down if self.health != Health::Dead => self.stand_by(now),
            State::Down | State::Standby { .. } | State::Active(_) => {}
        }
    }

    /// Lets go of the addresses although nobody else is heard, and goes without them until then: somebody who hears both
    /// says that another one has them too. Told again it stays aside for longer, or less long. It ends when another one is
    /// heard, and so does nothing to those who agree. That it is over is no reason to let go of anything: who is told so
    /// may know it already.
    pub fn stand_aside(&mut self, until: Instant, now: Instant) {
        match self.state {
            State::Active(_) if until <= now => return,
            State::Active(_) => self.outputs.extend([Output::Advertise(0), Output::Release]),
            State::Standby { aside: true, .. } => {}
            State::Standby { .. } | State::Down | State::Leaving { .. } => return,
        }
        self.state = State::Standby {
            active_from: until,
            aside: true,
        };
    }

    /// Hears an advert of another member.
    pub fn handle_advert(&mut self, source: IpAddr, advert: &Advert, now: Instant) {
        self.notice_absence(now);
        match self.state {
            State::Down => {}
            State::Standby { active_from, .. } if advert.priority == 0 => {
                self.theirs = advert.interval;
                let active_from = active_from.min(now.saturating_add(self.skew()));
                let aside = false;
                self.state = State::Standby { active_from, aside };
            }
            State::Standby { .. } => {
                // Who is preferred and may preempt does not hear who is not.
                if !self.settings.preempt || advert.priority >= self.priority() {
                    self.theirs = advert.interval;
                    self.stand_by(now);
                }
            }
            State::Active(_) => self.contend(source, advert, now),
            State::Leaving { then, .. } => {
                if advert.priority > 0 {
                    self.theirs = advert.interval;
                    self.leave_for_good(then, now);
                }
            }
        }
    }

    /// Does what is due. What was heard until now is to be told first.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.notice_absence(now);
        match self.state {
            State::Standby { active_from, .. } if now >= active_from => self.take_turn(now, None),
            State::Active(_) => self.keep_turn(now),
            State::Leaving { until, then } if now >= until => self.leave_for_good(then, now),
            State::Down | State::Standby { .. } | State::Leaving { .. } => {}
        }
    }

    /// A process that was stopped knows nothing of what others did meanwhile: it may not have heard who is active, and
    /// others may have waited for it in vain.
    fn notice_absence(&mut self, now: Instant) {
        let interval = self.settings.interval.duration();
        let absent = |at: Instant, intervals| now.duration_since(at) > interval * intervals;
        match self.state {
            State::Standby { active_from, .. } if absent(active_from, PATIENCE) => {
                self.stand_by(now);
            }
            // One interval had gone by when the next advert was due: others may have taken over since.
            State::Active(mut turn) if absent(turn.advert_at, PATIENCE - 1) => {
                turn.soft_until = Some(self.soft_until(now));
                turn.advert_at = now;
                self.state = State::Active(turn);
            }
            _ => {}
        }
    }

    fn keep_turn(&mut self, now: Instant) {
        let State::Active(turn) = &mut self.state else {
            return;
        };
        turn.soft_until = turn.soft_until.filter(|until| now < *until);
        if now >= turn.announce_at {
            let pause = ANNOUNCE_PAUSES.get(turn.announced);
            turn.announced = turn.announced.saturating_add(1);
            turn.announce_at = now.saturating_add(*pause.unwrap_or(&ANNOUNCE_EACH));
            self.outputs.push_back(Output::Announce);
        }
        if now >= turn.advert_at {
            self.advertise(now);
        }
    }

    /// When [`Router::handle_timeout`] has something to do; `None` if that is never.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Down => None,
            State::Standby { active_from, .. } => Some(active_from),
            State::Active(turn) => Some(turn.advert_at.min(turn.announce_at)),
            State::Leaving { until, .. } => Some(until),
        }
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How much it asks to be preferred just now.
    fn priority(&self) -> u8 {
        let is_soft = matches!(
            self.state,
            State::Active(Turn {
                soft_until: Some(_),
                ..
            })
        );
        if is_soft || self.health != Health::Well {
            PRIORITY_LEAST
        } else {
            self.settings.priority
        }
    }

    /// How much longer than the others it waits: the less preferred the longer.
    fn skew(&self) -> Duration {
        self.theirs.duration() * (256 - u32::from(self.priority())) / 256
    }

    fn stand_by(&mut self, now: Instant) {
        let silence = self.theirs.duration() * PATIENCE;
        let active_from = now.saturating_add(silence).saturating_add(self.skew());
        let aside = false;
        self.state = State::Standby { active_from, aside };
    }

    fn take_turn(&mut self, now: Instant, soft_until: Option<Instant>) {
        self.theirs = self.settings.interval;
        let first = ANNOUNCE_PAUSES.first().copied();
        self.state = State::Active(Turn {
            advert_at: now,
            announce_at: now.saturating_add(first.unwrap_or(ANNOUNCE_EACH)),
            announced: 1,
            soft_until,
            asserted_at: None,
        });
        // Others are told first: it costs nothing, and they stay quiet.
        self.advertise(now);
        self.outputs.push_back(Output::Hold);
    }

    fn advertise(&mut self, now: Instant) {
        self.outputs.push_back(Output::Advertise(self.priority()));
        let next = now.saturating_add(self.settings.interval.duration());
        if let State::Active(turn) = &mut self.state {
            turn.advert_at = next;
        }
    }

    /// Two are active.
    fn contend(&mut self, source: IpAddr, advert: &Advert, now: Instant) {
        let own = (self.priority(), self.settings.address);
        if advert.priority > 0 && (advert.priority, source) > own {
            self.theirs = advert.interval;
            self.outputs.push_back(Output::Release);
            self.stand_by(now);
            return;
        }
        let State::Active(turn) = &mut self.state else {
            return;
        };
        let lately = |at: Instant| now.duration_since(at) < ASSERT_PAUSE;
        if turn.asserted_at.is_some_and(lately) {
            return;
        }
        turn.asserted_at = Some(now);
        if advert.priority > 0 {
            // Neighbours may believe the other one.
            self.outputs.push_back(Output::Announce);
        }
        self.advertise(now);
    }

    fn leave_to(&mut self, then: Then, now: Instant) {
        if matches!(self.state, State::Active(_)) {
            self.outputs.push_back(Output::Advertise(0));
            // The least preferred one waits no longer than an interval.
            let until = now.saturating_add(self.settings.interval.duration() * 5 / 4);
            self.state = State::Leaving { until, then };
        }
    }

    fn leave_for_good(&mut self, then: Then, now: Instant) {
        self.outputs.push_back(Output::Release);
        self.state = State::Down;
        if then == Then::Standby {
            self.stand_by(now);
        }
    }

    /// Whoever took over would have spoken until then.
    fn soft_until(&self, now: Instant) -> Instant {
        now.saturating_add(self.settings.interval.duration() * 2)
    }
}

/// Intervals without a word until somebody counts as gone, but for the skew.
const PATIENCE: u32 = 3;
const PRIORITY_LEAST: u8 = 1;
/// Waited before neighbours are told once more that were told already: frames get lost.
const ANNOUNCE_PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
const ANNOUNCE_EACH: Duration = Duration::from_secs(10);
/// Whoever claims what is not theirs, however often, is contradicted no more often than this.
const ASSERT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
