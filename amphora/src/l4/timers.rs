//! When to look at a connection again, without a system call or an allocation per connection.
//!
//! A wheel of coarse ticks. Each place of the slab has at most one entry that counts; who takes a place over inherits
//! it. An entry that comes too early costs one look, so it is never taken out: a place is only ever *armed* for an
//! earlier moment, and whoever is looked at says when the next look is due. Under a stream of short connections the
//! places are armed once per few seconds, however many connections come and go.

use krater_amphora_core::time::Instant;

/// Milliseconds since the thread began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// So many milliseconds after the beginning.
    pub(super) const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Later by that much; the end of time if that cannot be said.
    pub(super) fn after(self, duration: std::time::Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// The time from `earlier` until then, or none.
    pub(super) const fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The same as the core counts it.
    pub(super) const fn instant(self) -> Instant {
        Instant(self.0.saturating_mul(1_000_000))
    }

    /// The first one that is not before `at`.
    pub(super) const fn not_before(at: Instant) -> Self {
        Self(at.0.div_ceil(1_000_000))
    }

    /// Never.
    pub(super) const NEVER: Self = Self(u64::MAX);
}

/// Moments at which places are to be looked at.
pub(super) struct Timers {
    slots: Box<[Vec<u32>]>,
    /// Which slots have entries.
    occupied: [u64; WORDS],
    /// The tick for which each place is armed; an entry in another slot is stale.
    armed: Vec<u64>,
    /// All ticks up to this one have been dealt with.
    done: u64,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            occupied: [0; WORDS],
            armed: Vec::new(),
            done: 0,
        }
    }

    /// Has the place looked at not later than `at` (to the tick), and sooner if it was armed for that already or `at`
    /// is beyond the wheel.
    pub(super) fn arm(&mut self, place: u32, at: Moment) {
        let tick = at.0.div_ceil(TICK_MS);
        let tick = tick.clamp(self.done + 1, self.done + SLOTS as u64 - 1);
        let index = place as usize;
        if index >= self.armed.len() {
            self.armed.resize(index + 1, NOT_ARMED);
        }
        let Some(armed) = self.armed.get_mut(index) else {
            return;
        };
        if *armed <= tick {
            return;
        }
        *armed = tick;
        let slot = slot_of(tick);
        if let (Some(entries), Some(word)) =
            (self.slots.get_mut(slot), self.occupied.get_mut(slot / 64))
        {
            entries.push(place);
            *word |= 1 << (slot % 64);
        }
    }

    /// Puts into `due` all places that are to be looked at by now. They are no longer armed.
    pub(super) fn expire(&mut self, now: Moment, due: &mut Vec<u32>) {
        let now = now.0 / TICK_MS;
        let last = now.min(self.done + SLOTS as u64);
        for tick in self.done + 1..=last {
            let slot = slot_of(tick);
            let Some(word) = self.occupied.get_mut(slot / 64) else {
                continue;
            };
            if *word & (1 << (slot % 64)) == 0 {
                continue;
            }
            *word &= !(1 << (slot % 64));
            for place in self
                .slots
                .get_mut(slot)
                .into_iter()
                .flat_map(|e| e.drain(..))
            {
                if let Some(armed) = self.armed.get_mut(place as usize)
                    && *armed == tick
                {
                    *armed = NOT_ARMED;
                    due.push(place);
                }
            }
        }
        self.done = self.done.max(now);
    }

    /// When to call [`Timers::expire`] next; `None` if nothing is armed.
    pub(super) fn next(&self) -> Option<Moment> {
        let start = slot_of(self.done + 1);
        // The first word is looked at twice: from `start` on, and at the end up to it.
        for step in 0..=WORDS {
            let index = (start / 64 + step) % WORDS;
            let mut word = self.occupied.get(index).copied().unwrap_or(0);
            if step == 0 {
                word &= u64::MAX << (start % 64);
            }
            if word != 0 {
                let slot = index * 64 + word.trailing_zeros() as usize;
                let ahead = (slot + SLOTS - start) % SLOTS;
                return Some(Moment((self.done + 1 + ahead as u64) * TICK_MS));
            }
        }
        None
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

/// How exact timers are. The shortest that can be configured is a millisecond, which nobody can mean literally.
const TICK_MS: u64 = 16;

/// Ticks that the wheel holds: 16 seconds. What is due later is looked at in between.
const SLOTS: usize = 1_024;

const WORDS: usize = SLOTS / 64;

const NOT_ARMED: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_place_is_looked_at_by_its_moment_and_not_much_before_the_first_it_was_armed_for(
            steps in proptest::collection::vec((0_u32..20, 0_u64..40_000, 0_u64..3_000), 1..200)
        ) {
            let mut timers = Timers::new();
            let mut now = 0;
            let mut wanted: BTreeMap<u32, u64> = BTreeMap::new();
            for (place, ahead, pause) in steps {
                let at = now + ahead;
                timers.arm(place, Moment(at));
                let wish = wanted.entry(place).or_insert(at);
                *wish = at.min(*wish);
                if let Some(next) = timers.next() {
                    let earliest = wanted.values().min().unwrap();
                    prop_assert!(next.0 <= (*earliest).max(now) + 2 * TICK_MS, "{next:?} {earliest}");
                }
                now += pause;
                let mut due = Vec::new();
                timers.expire(Moment(now), &mut due);
                for place in due {
                    let at = wanted.remove(&place).expect("armed once, due once");
                    if at > now {
                        // Beyond the wheel: as far away as could be said.
                        prop_assert!(at + TICK_MS > now, "{at} {now}");
                        timers.arm(place, Moment(at));
                        wanted.insert(place, at);
                    }
                }
                for (place, at) in &wanted {
                    prop_assert!(*at + TICK_MS > now, "{place} was to be looked at by {at}, it is {now}");
                }
            }
        }
    }

    #[test]
    fn nothing_is_due_when_nothing_is_armed_and_long_sleep_loses_nothing() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.arm(3, Moment(50));
        timers.arm(4, Moment(10_000));
        let mut due = Vec::new();
        timers.expire(Moment(40), &mut due);
        assert!(due.is_empty());
        timers.expire(Moment(10_000_000), &mut due);
        assert_eq!(due, [3, 4]);
        assert_eq!(timers.next(), None);
        timers.arm(3, Moment::NEVER);
        assert!(timers.next().is_some(), "looked at in between");
    }
}
