//! What a pool exchanged with members that have left it, so that its sums never fall (I11).

use std::sync::{
    Arc,
    atomic::{Ordering, fence},
};

use arc_swap::ArcSwap;
use hashbrown::HashSet;

use crate::meter::{MemberMeter, MemberTotals};

/// The members that left a pool. Written by the housekeeper alone, while a scrape may read.
#[derive(Debug, Default)]
pub(super) struct Departed(ArcSwap<Known>);

#[derive(Clone, Debug, Default)]
struct Known {
    /// Of those that nobody uses any more.
    settled: MemberTotals,
    /// Of those that still have connections, or that a world still has that somebody reads. As many at most as there
    /// are of these.
    leaving: Vec<Arc<MemberMeter>>,
}

impl Departed {
    /// Takes in the meters of members that leave. Twice is as good as once.
    pub(super) fn take_in(&self, meters: impl Iterator<Item = Arc<MemberMeter>>) {
        let mut meters = meters.peekable();
        if meters.peek().is_none() {
            return;
        }
        let mut known = Known::clone(&self.0.load());
        let twice: HashSet<_> = known.leaving.iter().map(Arc::as_ptr).collect();
        known
            .leaving
            .extend(meters.filter(|meter| !twice.contains(&Arc::as_ptr(meter))));
        self.0.store(Arc::new(known));
    }

    /// Keeps only the sum of meters that nobody can write to any more.
    pub(super) fn settle(&self) {
        let known = self.0.load();
        if !known.leaving.iter().any(is_settled) {
            return;
        }
        let mut next = Known {
            settled: known.settled,
            leaving: Vec::new(),
        };
        for meter in &known.leaving {
            if is_settled(meter) {
                next.settled += meter.totals();
            } else {
                next.leaving.push(Arc::clone(meter));
            }
        }
        self.0.store(Arc::new(next));
    }

    /// The sum of all but those that are `present` as well: a world may be read that is not the last one.
    pub(super) fn totals(&self, present: impl Fn(&Arc<MemberMeter>) -> bool) -> MemberTotals {
        let known = self.0.load();
        let mut totals = known.settled;
        for meter in known.leaving.iter().filter(|meter| !present(meter)) {
            totals += meter.totals();
        }
        totals
    }
}

/// Whether this is the only place that has it left.
fn is_settled(meter: &Arc<MemberMeter>) -> bool {
    let last = Arc::strong_count(meter) == 1;
    // Counting is relaxed, letting go is a release: what was counted before it is seen after this.
    fence(Ordering::Acquire);
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_counts_once_as_long_as_it_is_used_and_after() {
        let departed = Departed::default();
        let meter = Arc::new(MemberMeter::new(1));
        meter.of(0).requests.add(3);
        for _ in 0..2 {
            departed.take_in([Arc::clone(&meter)].into_iter());
        }
        assert_eq!(departed.totals(|_| true).requests, 0);
        assert_eq!(departed.totals(|_| false).requests, 3);
        departed.settle();
        meter.of(0).requests.bump();
        assert_eq!(departed.totals(|_| false).requests, 4);
        drop(meter);
        departed.settle();
        assert!(departed.0.load().leaving.is_empty());
        assert_eq!(departed.totals(|_| false).requests, 4);
    }
}
