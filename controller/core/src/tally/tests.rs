//! Totals over the lives and deaths of amphorae.

use alloc::vec::Vec;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn boot(number: u128) -> BootId {
    BootId::new(Uuid::from_u128(number))
}

fn counters(active: u64, n: u64) -> Counters {
    Counters {
        active_connections: active,
        bytes_in: n,
        bytes_out: 2 * n,
        request_errors: n / 2,
        total_connections: n,
    }
}

#[test]
fn a_run_adds_to_those_before_it() {
    let first = tally(None, boot(1), counters(3, 100));
    assert_eq!(first.total(), counters(3, 100));
    let second = tally(Some(&first), boot(2), counters(1, 10));
    assert_eq!(second.total(), counters(1, 110));
    assert_eq!(second.total_at_rest(), counters(0, 110));
}

#[test]
fn a_report_that_was_overtaken_takes_nothing_away() {
    let newer = tally(None, boot(1), counters(3, 100));
    let older = tally(Some(&newer), boot(1), counters(1, 90));
    assert_eq!(older.total(), counters(1, 100));
}

#[test]
fn sums_do_not_wrap() {
    let most = Counters {
        bytes_in: u64::MAX,
        ..Counters::default()
    };
    assert_eq!(sum([most, counters(1, 4)]).bytes_in, u64::MAX);
    assert_eq!(sum([]), Counters::default());
}

proptest! {
    #[test]
    fn totals_never_fall(reports in prop::collection::vec((0..4_u128, 0..9_u64, 0..1_000_u64), 1..40)) {
        let mut tallied: Option<Tally> = None;
        for (run, active, n) in reports {
            let next = tally(tallied.as_ref(), boot(run), counters(active, n));
            prop_assert_eq!(next.total().active_connections, active);
            if let Some(before) = tallied {
                for (before, after) in growing(before.total()).into_iter().zip(growing(next.total())) {
                    prop_assert!(before <= after);
                }
            }
            tallied = Some(next);
        }
    }

    #[test]
    fn totals_are_what_all_runs_did(runs in prop::collection::vec(prop::collection::vec(0..100_u64, 1..6), 1..6)) {
        let mut tallied: Option<Tally> = None;
        for (run, steps) in (0_u128..).zip(&runs) {
            let mut done = 0;
            for step in steps {
                done += step;
                tallied = Some(tally(tallied.as_ref(), boot(run), counters(0, done)));
            }
        }
        let all: u64 = runs.iter().flatten().sum();
        prop_assert_eq!(tallied.map(|tally| tally.total().bytes_in), Some(all));
    }
}

fn growing(counters: Counters) -> Vec<u64> {
    let Counters {
        active_connections: _,
        bytes_in,
        bytes_out,
        request_errors,
        total_connections,
    } = counters;
    [bytes_in, bytes_out, request_errors, total_connections].into()
}
