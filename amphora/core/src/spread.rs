//! Which thread serves a new connection: the one that accepted it, unless it is crowded and another one is not.
//!
//! The kernel shares connections out by a hash, which is even for many and short ones. A few that last may meet on one
//! core and have it to themselves while others rest.

use core::time::Duration;

use crate::{limits::CROWD_MIN, time::Instant};

/// What one thread knows of the load of the others: looked at seldom, since they lie in caches of theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    seen: Option<Seen>,
}

/// What a look came to.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    /// What this thread had open then.
    own: u64,
    /// The thread with the least to do, and its connections with those that were passed on to it since.
    idlest: Option<(usize, u64)>,
}

impl Seen {
    /// Whether it still tells how things are.
    fn is_fresh(&self, own: u64, now: Instant) -> bool {
        now.duration_since(self.at) < FRESH && own.abs_diff(self.own) < CROWD_MIN
    }
}

impl Spread {
    /// The thread to pass a new connection on to, if the one that accepted it has `own` open; `None` if it is to stay.
    /// `others` are asked for only if it could come to that: the number of each thread and what it has open.
    ///
    /// What is compared is what was there at one moment: when connections come to all threads at once, each sees itself
    /// grow first.
    pub fn pass_on<I: Iterator<Item = (usize, u64)>>(
        &mut self,
        own: u64,
        now: Instant,
        others: impl FnOnce() -> I,
    ) -> Option<usize> {
        if own < CROWD_MIN {
            return None;
        }
        let seen = self.seen.filter(|seen| seen.is_fresh(own, now));
        let mut seen = seen.unwrap_or_else(|| Seen {
            at: now,
            own,
            idlest: others().min_by_key(|(_, open)| *open),
        });
        let chosen = seen.idlest.filter(|(_, open)| is_crowded(seen.own, *open));
        if let Some((thread, open)) = chosen {
            seen.idlest = Some((thread, open + 1));
        }
        self.seen = Some(seen);
        chosen.map(|(thread, _)| thread)
    }

    /// The connection was not taken there after all: nobody is passed on until the others are looked at again.
    pub fn refused(&mut self) {
        if let Some(seen) = &mut self.seen {
            seen.idlest = None;
        }
    }
}

/// Whether a thread with `own` connections has clearly more to do than one that has `least`: a quarter more, and some.
/// What is closer than that evens out by itself, and passing a connection on costs a wake.
const fn is_crowded(own: u64, least: u64) -> bool {
    own >= least + least / 4 + CROWD_MIN
}

/// How long what was seen of others counts, unless this thread changes by much before.
const FRESH: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    /// Threads among which connections come by some hash, each knowing of the others what it saw last.
    struct Threads {
        open: Vec<u64>,
        spread: Vec<Spread>,
        passed: u64,
    }

    impl Threads {
        fn new(count: usize) -> Self {
            Self {
                open: vec![0; count],
                spread: vec![Spread::default(); count],
                passed: 0,
            }
        }

        fn arrive(&mut self, at: usize, now: Instant) {
            let open = &self.open;
            let others = || {
                let others = open.iter().copied().enumerate();
                others.filter(move |(thread, _)| *thread != at)
            };
            let to = self.spread[at].pass_on(open[at], now, others);
            if let Some(to) = to {
                assert_ne!(to, at);
                assert!(self.open[to] < self.open[at], "to a busier one");
                self.passed += 1;
            }
            self.open[to.unwrap_or(at)] += 1;
        }
    }

    fn bound(least: u64) -> u64 {
        least + least / 4 + CROWD_MIN
    }

    proptest! {
        #[test]
        fn however_connections_come_no_thread_is_crowded_beside_another(
            threads in 2_usize..9,
            arrivals in proptest::collection::vec((any::<proptest::sample::Index>(), any::<bool>()), 0..600),
        ) {
            let mut all = Threads::new(threads);
            for (step, (at, crowded)) in arrivals.iter().enumerate() {
                // Half of them to one thread, as an unlucky pattern of ports has it.
                let at = if *crowded { 0 } else { at.index(threads) };
                all.arrive(at, Instant(step as u64 * 1_000_000));
            }
            let least = all.open.iter().copied().min().unwrap();
            let most = all.open.iter().copied().max().unwrap();
            prop_assert!(most <= bound(least), "{:?}", all.open);
        }
    }

    #[test]
    fn connections_that_come_evenly_stay_where_they_came() {
        let mut all = Threads::new(4);
        for step in 0..4_000 {
            all.arrive(step % 4, Instant(step as u64 * 1_000));
        }
        assert_eq!((all.passed, all.open), (0, vec![1_000; 4]));
    }

    #[test]
    fn a_crowd_that_comes_at_once_is_shared_out_although_nobody_looks_twice() {
        let mut all = Threads::new(2);
        for _ in 0..64 {
            all.arrive(0, Instant(7));
        }
        assert!(
            all.open[0] <= bound(all.open[1]) + CROWD_MIN,
            "{:?}",
            all.open
        );
    }

    #[test]
    fn who_was_refused_serves_by_itself_until_the_next_look() {
        let mut spread = Spread::default();
        let ask =
            |spread: &mut Spread, now| spread.pass_on(100, Instant(now), || [(1, 0)].into_iter());
        assert_eq!(ask(&mut spread, 0), Some(1));
        spread.refused();
        assert_eq!(ask(&mut spread, 999_999), None);
        assert_eq!(ask(&mut spread, 1_000_000), Some(1));
    }

    #[test]
    fn others_are_not_looked_at_by_whoever_has_little_to_do() {
        let mut spread = Spread::default();
        let passed = spread.pass_on(CROWD_MIN - 1, Instant(0), || -> core::iter::Empty<_> {
            panic!("they lie in caches of theirs")
        });
        assert_eq!(passed, None);
    }
}
