//! The judges of all pools, and whose turn it is: to find that out costs nothing that grows with their number.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use krater_amphora_api::PoolId;
use krater_amphora_core::{conduct::Conduct, time::Instant};

/// A judge for each pool whose members are judged.
#[derive(Debug, Default)]
pub(super) struct Judges {
    of: HashMap<PoolId, Judge>,
    /// Those for whom something will be due, the first of them first.
    due: BTreeSet<(Instant, PoolId)>,
}

#[derive(Debug)]
struct Judge {
    conduct: Conduct,
    /// As it stands in [`Judges::due`].
    due: Option<Instant>,
}

impl Judges {
    /// Appoints a judge for a pool, unless it has one.
    pub(super) fn appoint(&mut self, pool: PoolId, judge: impl FnOnce() -> Conduct) {
        self.of.entry(pool).or_insert_with(|| Judge {
            conduct: judge(),
            due: None,
        });
        self.ask(pool, |_| ());
    }

    /// Dismisses the judge of a pool; `None` if it has none.
    pub(super) fn dismiss(&mut self, pool: PoolId) -> Option<()> {
        let judge = self.of.remove(&pool)?;
        if let Some(due) = judge.due {
            self.due.remove(&(due, pool));
        }
        Some(())
    }

    /// Asks the judge of a pool; `None` if it has none. Whatever is said to a judge is said here, since it may change
    /// when something is due.
    pub(super) fn ask<T>(
        &mut self,
        pool: PoolId,
        question: impl FnOnce(&mut Conduct) -> T,
    ) -> Option<T> {
        let judge = self.of.get_mut(&pool)?;
        let answer = question(&mut judge.conduct);
        let due = judge.conduct.poll_timeout();
        if due != judge.due {
            if let Some(before) = judge.due {
                self.due.remove(&(before, pool));
            }
            self.due.extend(due.map(|due| (due, pool)));
            judge.due = due;
        }
        Some(answer)
    }

    /// When something is due next.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// For whom something is due.
    pub(super) fn due(&self, now: Instant) -> Vec<PoolId> {
        let due = self.due.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, pool)| *pool).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use krater_amphora_api::MemberId;
    use krater_amphora_core::conduct::{ConductConfig, Enrolled, PassiveHealth};
    use uuid::Uuid;

    use super::*;

    fn member(number: u128) -> MemberId {
        MemberId::new(Uuid::from_u128(number))
    }

    fn judge(out_first: Duration) -> Conduct {
        let passive = PassiveHealth {
            failures: 1,
            out_first,
            out_longest: Duration::from_secs(60),
            share_percent: 50,
        };
        let config = ConductConfig {
            passive: Some(passive),
            slow_start: Duration::ZERO,
        };
        let members = (0..2).map(|number| Enrolled {
            id: member(number),
            backup: false,
            serves: true,
        });
        Conduct::new(config, members)
    }

    #[test]
    fn whoever_is_due_first_is_first_whatever_was_asked_in_between() {
        let [early, late, gone] = [1, 2, 3].map(|number| PoolId::new(Uuid::from_u128(number)));
        let mut judges = Judges::default();
        for (pool, seconds) in [(early, 1), (late, 2), (gone, 1)] {
            judges.appoint(pool, || judge(Duration::from_secs(seconds)));
        }
        assert_eq!(judges.next_time(), None);
        for pool in [late, early, gone] {
            let taken_out = judges.ask(pool, |it| it.handle_failures(member(0), Instant(5)));
            assert_eq!(taken_out, Some(true));
        }
        assert_eq!(judges.next_time(), Some(Instant(1_000_000_005)));
        judges.dismiss(gone);
        assert_eq!(judges.dismiss(gone), None);
        let now = Instant(1_000_000_005);
        assert_eq!(judges.due(now), [early]);
        judges.ask(early, |it| it.handle_timeout(now));
        assert_eq!(judges.next_time(), Some(Instant(2_000_000_005)));
        assert!(judges.due(now).is_empty());
        // Taken back by a probe: nothing is due any more.
        judges.ask(late, |it| it.handle_probe_success(member(0), now));
        assert_eq!(judges.next_time(), None);
        assert_eq!(judges.ask(gone, |_| ()), None);
    }
}
