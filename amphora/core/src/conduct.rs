//! What the conduct of a pool's members makes of them between probes: out of rotation while they refuse connections
//! (passive health), and a part of their share only after they came back or were added (slow start).

use alloc::collections::BTreeMap;
use core::time::Duration;

use krater_amphora_api::MemberId;

use crate::{
    limits::{RAMP_STEP_MIN, SHARE_FULL},
    time::{Instant, nanoseconds},
};

/// How the conduct of a pool's members is judged. The default judges nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConductConfig {
    /// When a member is taken out between probes; never if `None`.
    pub passive: Option<PassiveHealth>,
    /// How long the share of a member that came back, or was added to a pool that is there, takes to become whole.
    pub slow_start: Duration,
}

/// When a member is taken out between probes, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    /// Connections in a row, over all clients, that failed; at least 1.
    pub failures: u32,
    /// How long it is out the first time. Each further time in a row is twice as long.
    pub out_first: Duration,
    /// How long at most. A member that was in as long as this begins anew.
    pub out_longest: Duration,
    /// How many of the members that could serve may be out at once, in percent. One always may, all never.
    pub share_percent: u8,
}

/// The judge of one pool's members. It sees failures and verdicts and keeps the time; it reads no clock.
#[derive(Clone, Debug)]
pub struct Conduct {
    config: ConductConfig,
    members: BTreeMap<MemberId, Standing>,
}

/// A member as its pool has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrolled {
    /// Which member.
    pub id: MemberId,
    /// Whether it stands in for others only. These are counted apart.
    pub backup: bool,
    /// Whether it could be chosen: enabled, of some weight and not down by its probes.
    pub serves: bool,
}

/// What is thought of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// It is passed over as long as anybody else can be chosen.
    pub out: bool,
    /// How much of its weight counts, in parts of [`SHARE_FULL`]; at least 1.
    pub share: u8,
}

impl Terms {
    /// What is thought of a member of whom nothing is known.
    pub const GOOD: Self = Self {
        out: false,
        share: SHARE_FULL,
    };
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    backup: bool,
    serves: bool,
    /// When it comes back by itself.
    out_until: Option<Instant>,
    /// How often in a row it was taken out.
    times: u32,
    /// When it was last taken back.
    back_at: Option<Instant>,
    ramp: Option<Ramp>,
}

#[derive(Clone, Copy, Debug)]
struct Ramp {
    since: Instant,
    share: u8,
}

impl Conduct {
    /// Judges members of a pool that is new: all of them begin with their whole share.
    #[must_use]
    pub fn new(config: ConductConfig, members: impl Iterator<Item = Enrolled>) -> Self {
        let standing = |member: Enrolled| (member.id, Standing::new(member));
        Self {
            config,
            members: members.map(standing).collect(),
        }
    }

    /// Takes the pool as it is now. Who is new to it, or could not serve before, begins slowly; who stays keeps what is
    /// thought of it, as far as the settings still ask for that.
    pub fn follow(
        &mut self,
        config: ConductConfig,
        members: impl Iterator<Item = Enrolled>,
        now: Instant,
    ) {
        self.config = config;
        let mut before = core::mem::take(&mut self.members);
        for member in members {
            let mut standing = match before.remove(&member.id) {
                Some(known) => Standing {
                    backup: member.backup,
                    ..known
                },
                None => Standing {
                    serves: false,
                    ..Standing::new(member)
                },
            };
            standing.become_able(member.serves, now, self.config.slow_start);
            if self.config.passive.is_none() {
                standing.out_until = None;
            }
            if self.config.slow_start.is_zero() {
                standing.ramp = None;
            }
            self.members.insert(member.id, standing);
        }
    }

    /// The settings in force.
    #[must_use]
    pub const fn config(&self) -> &ConductConfig {
        &self.config
    }

    /// Whether a member can serve has changed by its probes. Whoever recovers begins slowly, and is not out any more.
    pub fn handle_health(&mut self, member: MemberId, serves: bool, now: Instant) {
        if let Some(standing) = self.members.get_mut(&member)
            && standing.serves != serves
        {
            if standing.out_until.take().is_some() {
                standing.back_at = Some(now);
            }
            standing.become_able(serves, now, self.config.slow_start);
        }
    }

    /// A probe of the member succeeded: if it is out, it is taken back. `true` if it was.
    pub fn handle_probe_success(&mut self, member: MemberId, now: Instant) -> bool {
        let slow_start = self.config.slow_start;
        match self.members.get_mut(&member) {
            Some(standing) if standing.out_until.is_some() => {
                standing.take_back(now, slow_start);
                true
            }
            _ => false,
        }
    }

    /// As many connections in a row as [`PassiveHealth::failures`] failed. `true` if the member is taken out; it is not
    /// if too many are out already.
    pub fn handle_failures(&mut self, member: MemberId, now: Instant) -> bool {
        let Some(passive) = self.config.passive else {
            return false;
        };
        let Some(standing) = self.members.get(&member) else {
            return false;
        };
        if !standing.serves || standing.out_until.is_some() || !self.may_lose(standing, &passive) {
            return false;
        }
        if let Some(standing) = self.members.get_mut(&member) {
            standing.take_out(now, &passive);
        }
        true
    }

    /// When something changes by itself: somebody is taken back, or has a larger share.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let outs = self.members.values().filter_map(|member| member.out_until);
        let ramps = self.members.values().filter_map(|member| {
            let ramp = member.ramp?;
            Some(ramp.next(self.config.slow_start))
        });
        outs.chain(ramps).min()
    }

    /// Time has passed. `true` if that changed what is thought of anybody.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let slow_start = self.config.slow_start;
        let mut changed = false;
        for standing in self.members.values_mut() {
            if standing.out_until.is_some_and(|until| until <= now) {
                standing.take_back(now, slow_start);
                changed = true;
            }
            if let Some(ramp) = &mut standing.ramp
                && ramp.next(slow_start) <= now
            {
                ramp.share = share_after(now.duration_since(ramp.since), slow_start);
                changed = true;
                if ramp.share >= SHARE_FULL {
                    standing.ramp = None;
                }
            }
        }
        changed
    }

    /// What is thought of a member.
    #[must_use]
    pub fn terms(&self, member: MemberId) -> Terms {
        self.members
            .get(&member)
            .map_or(Terms::GOOD, |standing| Terms {
                out: standing.out_until.is_some(),
                share: standing.ramp.map_or(SHARE_FULL, |ramp| ramp.share),
            })
    }

    /// Whether its pool can spare a member: of its rank one may always be out as long as another one serves, and more
    /// up to their share.
    fn may_lose(&self, member: &Standing, passive: &PassiveHealth) -> bool {
        let able = self
            .members
            .values()
            .filter(|other| other.serves && other.backup == member.backup);
        let (mut all, mut out) = (0_usize, 0_usize);
        for other in able {
            all = all.saturating_add(1);
            out = out.saturating_add(usize::from(other.out_until.is_some()));
        }
        let share = all.saturating_mul(usize::from(passive.share_percent)) / 100;
        out < share.max(1).min(all.saturating_sub(1))
    }
}

impl Standing {
    const fn new(member: Enrolled) -> Self {
        Self {
            backup: member.backup,
            serves: member.serves,
            out_until: None,
            times: 0,
            back_at: None,
            ramp: None,
        }
    }

    fn become_able(&mut self, serves: bool, now: Instant, slow_start: Duration) {
        let began = serves && !self.serves;
        self.serves = serves;
        if began {
            self.begin_slowly(now, slow_start);
        } else if !serves {
            self.ramp = None;
            self.out_until = None;
        }
    }

    fn begin_slowly(&mut self, now: Instant, slow_start: Duration) {
        self.ramp = (!slow_start.is_zero()).then_some(Ramp {
            since: now,
            share: 1,
        });
    }

    fn take_out(&mut self, now: Instant, passive: &PassiveHealth) {
        let begins_anew = self
            .back_at
            .is_none_or(|back| now.duration_since(back) >= passive.out_longest);
        if begins_anew {
            self.times = 0;
        }
        let factor = 1_u32.checked_shl(self.times.min(31)).unwrap_or(u32::MAX);
        let time = passive.out_first.saturating_mul(factor);
        self.out_until = Some(now.saturating_add(time.min(passive.out_longest)));
        self.times = self.times.saturating_add(1);
    }

    fn take_back(&mut self, now: Instant, slow_start: Duration) {
        self.out_until = None;
        self.back_at = Some(now);
        self.begin_slowly(now, slow_start);
    }
}

impl Ramp {
    /// When its share grows next. Members of a pool grow at the same moments, so that many who recover together do not
    /// have their pool prepared anew for each of them.
    fn next(&self, slow_start: Duration) -> Instant {
        let step = nanoseconds(step(slow_start)).max(1);
        let whole = nanoseconds(slow_start);
        let due = u128::from(whole) * u128::from(self.share) / u128::from(SHARE_FULL - 1);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        Instant(
            self.since
                .0
                .saturating_add(due)
                .checked_next_multiple_of(step)
                .unwrap_or(u64::MAX),
        )
    }
}

/// The share of whoever began so long ago: the least at first, the whole from the end on.
fn share_after(passed: Duration, slow_start: Duration) -> u8 {
    let steps = u128::from(SHARE_FULL - 1);
    let grown = passed.as_nanos() * steps / slow_start.as_nanos().max(1);
    u8::try_from(grown.min(steps)).unwrap_or(SHARE_FULL - 1) + 1
}

fn step(slow_start: Duration) -> Duration {
    (slow_start / u32::from(SHARE_FULL - 1)).max(RAMP_STEP_MIN)
}

#[cfg(test)]
mod tests;
