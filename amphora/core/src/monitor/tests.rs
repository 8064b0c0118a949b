use std::{vec, vec::Vec};

use krater_amphora_api::{HttpVersion, ProbeSpec};
use proptest::prelude::*;

use super::*;
use crate::{sample, snapshot::Snapshot};

const START: Instant = Instant(1_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn config(rise: u8, fall: u8) -> MonitorConfig {
    let mut spec = sample::spec();
    let monitor = spec.pools[0].monitor.as_mut().unwrap();
    monitor.probe = ProbeSpec::Tcp;
    (monitor.rise, monitor.fall) = (rise, fall);
    Snapshot::parse(spec).unwrap().pools()[0]
        .monitor
        .clone()
        .unwrap()
}

fn probed(monitor: &mut Monitor, outcome: Result<(), ProbeFailure>) -> Option<Verdict> {
    let at = monitor.poll_timeout().unwrap();
    monitor.handle_probe_started(at);
    monitor.handle_outcome(at.saturating_add(Duration::from_millis(3)), outcome)
}

const REFUSED: Result<(), ProbeFailure> = Err(ProbeFailure::Refused);

#[test]
fn a_fresh_member_is_taken_out_by_its_first_failure() {
    let mut monitor = Monitor::new(config(3, 3), START, 0);
    assert_eq!(monitor.health(), MemberHealth::Unproven);
    assert_eq!(probed(&mut monitor, REFUSED), Some(Verdict::Down));
    assert_eq!(monitor.health(), MemberHealth::Down);
    assert_eq!(monitor.reason().unwrap(), "connection refused");
}

#[test]
fn a_fresh_member_is_proven_by_its_first_success() {
    let mut monitor = Monitor::new(config(3, 3), START, 0);
    assert_eq!(probed(&mut monitor, Ok(())), Some(Verdict::Up));
    assert_eq!(monitor.health(), MemberHealth::Up);
    assert_eq!(monitor.reason(), None);
}

#[test]
fn afterwards_only_failures_in_a_row_take_it_out_and_successes_in_a_row_bring_it_back() {
    let mut monitor = Monitor::new(config(2, 3), START, 0);
    probed(&mut monitor, Ok(()));
    let seen: Vec<_> = [
        REFUSED,
        REFUSED,
        Ok(()),
        REFUSED,
        REFUSED,
        REFUSED,
        REFUSED,
        Ok(()),
        REFUSED,
        Ok(()),
        Ok(()),
        Ok(()),
    ]
    .into_iter()
    .map(|outcome| probed(&mut monitor, outcome))
    .collect();
    let (down, up) = (Some(Verdict::Down), Some(Verdict::Up));
    assert_eq!(
        seen,
        [
            None, None, None, None, None, down, None, None, None, None, up, None
        ]
    );
}

#[test]
fn a_failure_of_ours_says_nothing_of_the_member() {
    let mut monitor = Monitor::new(config(1, 1), START, 0);
    let local = || Err(ProbeFailure::Local("no descriptors left".into()));
    assert_eq!(probed(&mut monitor, local()), None);
    assert_eq!(monitor.health(), MemberHealth::Unproven);
    probed(&mut monitor, Ok(()));
    assert_eq!(probed(&mut monitor, local()), None);
    assert_eq!(
        (monitor.health(), monitor.reason()),
        (MemberHealth::Up, None)
    );
    // Nor does it interrupt a row.
    let mut monitor = Monitor::new(config(2, 2), START, 0);
    probed(&mut monitor, Ok(()));
    assert_eq!(probed(&mut monitor, REFUSED), None);
    assert_eq!(probed(&mut monitor, local()), None);
    assert_eq!(probed(&mut monitor, REFUSED), Some(Verdict::Down));
}

#[test]
fn the_reason_is_kept_while_it_matters() {
    let mut monitor = Monitor::new(config(2, 2), START, 0);
    probed(&mut monitor, Ok(()));
    probed(&mut monitor, Err(ProbeFailure::Status(500)));
    assert_eq!(
        monitor.reason().unwrap(),
        "answered with status 500, which is not expected"
    );
    probed(&mut monitor, Ok(()));
    assert_eq!(monitor.reason(), None);
    probed(&mut monitor, REFUSED);
    probed(
        &mut monitor,
        Err(ProbeFailure::Timeout {
            after: SECOND,
            stage: Stage::Connect,
        }),
    );
    assert_eq!(monitor.reason().unwrap(), "no connection within 1s");
    probed(&mut monitor, Ok(()));
    assert!(monitor.reason().is_some(), "still down");
    probed(&mut monitor, Ok(()));
    assert_eq!(
        (monitor.health(), monitor.reason()),
        (MemberHealth::Up, None)
    );
}

#[test]
fn probes_start_one_delay_apart_and_keep_their_rhythm_when_one_takes_long() {
    let mut monitor = Monitor::new(config(1, 1), START, 0);
    assert_eq!(monitor.poll_timeout(), Some(START));
    monitor.handle_probe_started(START);
    monitor.handle_outcome(START.saturating_add(SECOND), Ok(()));
    let second = START.saturating_add(5 * SECOND);
    assert_eq!(monitor.poll_timeout(), Some(second));
    monitor.handle_probe_started(second);
    monitor.handle_outcome(second.saturating_add(12 * SECOND), Ok(()));
    assert_eq!(
        monitor.poll_timeout(),
        Some(second.saturating_add(15 * SECOND))
    );
}

#[test]
fn later_probes_are_spread_over_half_the_delay_and_then_keep_their_distance() {
    let mut seconds = Vec::new();
    for number in 1..400_u64 {
        let mut monitor = Monitor::new(
            config(1, 1),
            START,
            number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        let [first, second, third] = [0; 3].map(|_| {
            let at = monitor.poll_timeout().unwrap();
            probed(&mut monitor, Ok(()));
            at
        });
        let gap = second.duration_since(first);
        assert!(gap > 2 * SECOND && gap <= 5 * SECOND, "{gap:?}");
        assert_eq!(third.duration_since(second), 5 * SECOND);
        seconds.push(gap.as_millis() / 500);
    }
    seconds.sort_unstable();
    seconds.dedup();
    assert!(seconds.len() >= 5, "{seconds:?}");
}

#[test]
fn a_probe_that_never_ends_is_followed_by_another() {
    let mut monitor = Monitor::new(config(1, 1), START, 0);
    monitor.handle_probe_started(START);
    assert_eq!(
        monitor.poll_timeout(),
        Some(START.saturating_add(7 * SECOND))
    );
}

#[test]
fn an_outcome_nobody_waits_for_is_ignored() {
    let mut monitor = Monitor::new(config(1, 1), START, 0);
    assert_eq!(monitor.handle_outcome(START, REFUSED), None);
    assert_eq!(
        (monitor.health(), monitor.poll_timeout()),
        (MemberHealth::Unproven, Some(START))
    );
    monitor.handle_probe_started(START);
    monitor.ask_anew(START);
    assert_eq!(monitor.handle_outcome(START, REFUSED), None);
    assert_eq!(monitor.health(), MemberHealth::Unproven);
}

#[test]
fn first_probes_are_spread_but_come_soon() {
    let first = |jitter| {
        Monitor::new(config(1, 1), START, jitter)
            .poll_timeout()
            .unwrap()
            .duration_since(START)
    };
    assert!((0..1_000).all(
        |number: u64| first(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            < limits::FIRST_PROBE_SPREAD
    ));
    assert_ne!(first(1), first(500_000_000));
    let mut quick = config(1, 1);
    quick.delay = Duration::from_millis(20);
    let monitor = Monitor::new(quick, START, u64::MAX);
    assert!(monitor.poll_timeout().unwrap().duration_since(START) < Duration::from_millis(20));
}

#[test]
fn other_timers_and_counts_leave_verdict_and_row() {
    let mut monitor = Monitor::new(config(1, 3), START, 0);
    probed(&mut monitor, Ok(()));
    probed(&mut monitor, REFUSED);
    let mut other = config(1, 2);
    other.delay = SECOND;
    let now = START.saturating_add(6 * SECOND);
    monitor.reconfigure(other.clone(), now);
    assert_eq!(monitor.config(), &other);
    assert_eq!(
        monitor.poll_timeout(),
        Some(now.saturating_add(SECOND)),
        "a shorter delay holds at once"
    );
    assert_eq!(
        probed(&mut monitor, REFUSED),
        Some(Verdict::Down),
        "the second in a row"
    );
}

#[test]
fn another_probe_leaves_the_verdict_until_its_first_outcome_decides_alone() {
    for (before, after, verdict) in [
        (Ok(()), REFUSED, Verdict::Down),
        (REFUSED, Ok(()), Verdict::Up),
    ] {
        let mut monitor = Monitor::new(config(5, 5), START, 0);
        probed(&mut monitor, before);
        let health = monitor.health();
        let now = START.saturating_add(SECOND);
        monitor.reconfigure(
            MonitorConfig {
                probe: Probe::Ping,
                ..config(5, 5)
            },
            now,
        );
        assert_eq!(
            (monitor.health(), monitor.poll_timeout()),
            (health, Some(now))
        );
        assert_eq!(probed(&mut monitor, after), Some(verdict));
    }
}

#[test]
fn expected_codes_include_both_ends() {
    let codes = ExpectedCodes::new(vec![(200, 204), (301, 301)]);
    for (status, expected) in [
        (199, false),
        (200, true),
        (204, true),
        (205, false),
        (301, true),
        (302, false),
    ] {
        assert_eq!(codes.contains(status), expected, "{status}");
    }
}

#[test]
fn an_http_probe_says_everything_its_request_needs() {
    let snapshot = Snapshot::parse(sample::spec()).unwrap();
    let Probe::Http(http) = &snapshot.pools()[0].monitor.as_ref().unwrap().probe else {
        panic!("not http")
    };
    assert_eq!(
        (http.method.as_str(), http.path.as_str()),
        ("GET", "/ready?deep=1")
    );
    assert_eq!((http.version, &http.host), (HttpVersion::Http10, &None));
    assert!(http.expected.contains(203));
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    Success,
    Failure,
    Ours,
}

fn any_outcomes() -> impl Strategy<Value = Vec<Outcome>> {
    prop::collection::vec(
        prop_oneof![4 => Just(Outcome::Success), 4 => Just(Outcome::Failure), 1 => Just(Outcome::Ours)],
        1..80,
    )
}

proptest! {
    /// Against a model that looks back over the outcomes.
    #[test]
    fn a_verdict_never_flips_without_enough_in_a_row(rise in 1_u8..=10, fall in 1_u8..=10, outcomes in any_outcomes()) {
        let mut monitor = Monitor::new(config(rise, fall), START, 7);
        let mut told: Vec<Outcome> = Vec::new();
        let mut since_flip = 0;
        for outcome in outcomes {
            let before = monitor.health();
            let verdict = probed(&mut monitor, match outcome {
                Outcome::Success => Ok(()),
                Outcome::Failure => REFUSED,
                Outcome::Ours => Err(ProbeFailure::Local("busy".into())),
            });
            prop_assert_eq!(verdict.is_some(), before != monitor.health());
            if outcome == Outcome::Ours {
                prop_assert_eq!(verdict, None);
                continue;
            }
            told.push(outcome);
            since_flip += 1;
            let row = told.iter().rev().take(since_flip).take_while(|earlier| **earlier == outcome).count();
            let expected = match (before, outcome) {
                (MemberHealth::Unproven, Outcome::Success) => Some(Verdict::Up),
                (MemberHealth::Unproven, _) => Some(Verdict::Down),
                (MemberHealth::Down, Outcome::Success) if row >= usize::from(rise) => Some(Verdict::Up),
                (MemberHealth::Up, Outcome::Failure) if row >= usize::from(fall) => Some(Verdict::Down),
                _ => None,
            };
            prop_assert_eq!(verdict, expected);
            if verdict.is_some() {
                since_flip = 0;
            }
        }
    }
}
