//! What is news in a report, and totals that never fall.

use krater_amphora_api::{
    ContractVersion, ListenerReport, ListenerState, MemberHealth, MemberId, MemberReport, PoolId,
    PoolReport,
};
use uuid::Uuid;

use super::*;

mod changes;

const AMPHORA: AmphoraId = AmphoraId::new(Uuid::from_u128(1));

fn lb(number: u128) -> LoadBalancerId {
    LoadBalancerId::new(Uuid::from_u128(0x1000 + number))
}

fn listener(number: u128) -> ListenerId {
    ListenerId::new(Uuid::from_u128(0x2000 + number))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

fn said(number: u128, generation: u64) -> LoadBalancerReport {
    let counters = Counters::default();
    LoadBalancerReport {
        announcement: None,
        id: lb(number),
        generation: Generation::from_number(generation).unwrap(),
        listeners: vec![ListenerReport {
            id: listener(number),
            state: ListenerState::Open,
            counters,
            failures: Default::default(),
        }],
        pools: vec![PoolReport {
            id: PoolId::new(Uuid::from_u128(3)),
            members: vec![MemberReport {
                id: MemberId::new(Uuid::from_u128(4)),
                health: MemberHealth::Up,
                reason: None,
                active_connections: 0,
                out: false,
            }],
        }],
    }
}

fn connections(mut report: LoadBalancerReport, total: u64) -> LoadBalancerReport {
    report.listeners[0].counters = Counters {
        total_connections: total,
        active_connections: 1,
        ..Counters::default()
    };
    report
}

fn report(boot: u128, sequence: u64, load_balancers: Vec<LoadBalancerReport>) -> Report {
    let info = Info {
        amphora: AMPHORA,
        boot: BootId::new(Uuid::from_u128(boot)),
        contract: ContractVersion::CURRENT,
        version: "0.0.0".to_owned(),
        pid: 1,
        workers: 1,
        addresses: Vec::new(),
    };
    Report {
        info,
        sequence,
        load_balancers,
        metrics_port: None,
    }
}

fn placed(numbers: impl IntoIterator<Item = u128>) -> BTreeSet<LoadBalancerId> {
    numbers.into_iter().map(lb).collect()
}

fn changed(news: Option<News>) -> Vec<LoadBalancerId> {
    let mut changed = news.unwrap().changed;
    changed.sort();
    changed
}

#[test]
fn only_what_differs_is_news() {
    let sightings = Sightings::default();
    let placed = placed([1, 2]);
    let take = |sequence, list| changed(sightings.take(report(1, sequence, list), &placed, at(0)));
    assert_eq!(take(1, vec![said(1, 1), said(2, 1)]), [lb(1), lb(2)]);
    assert_eq!(take(2, vec![said(1, 1), said(2, 1)]), []);
    assert_eq!(
        take(3, vec![connections(said(1, 1), 9), said(2, 1)]),
        [],
        "counting is no news"
    );
    assert_eq!(take(4, vec![said(1, 1), said(2, 2)]), [lb(2)]);
    let mut down = said(1, 1);
    down.pools[0].members[0].health = MemberHealth::Down;
    assert_eq!(take(5, vec![down.clone(), said(2, 2)]), [lb(1)]);
    let mut failed = down;
    failed.listeners[0].state = ListenerState::Failed {
        reason: "taken".to_owned(),
    };
    assert_eq!(take(6, vec![failed, said(2, 2)]), [lb(1)]);
}

#[test]
fn what_is_missing_is_told_once_and_again_after_a_restart() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let take = |boot, sequence, list| {
        changed(sightings.take(report(boot, sequence, list), &placed, at(0)))
    };
    assert_eq!(take(1, 1, vec![]), [lb(1)]);
    assert_eq!(take(1, 2, vec![]), []);
    assert_eq!(take(2, 1, vec![]), [lb(1)]);
    assert_eq!(take(2, 2, vec![said(1, 1)]), [lb(1)]);
    assert_eq!(take(2, 3, vec![]), [lb(1)]);
    assert_eq!(sightings.applied(AMPHORA, lb(1)), None);
}

#[test]
fn a_report_written_before_a_push_does_not_overrule_it_but_the_one_after_does() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let boot = Some(BootId::new(Uuid::from_u128(1)));
    let take = |sequence, list| changed(sightings.take(report(1, sequence, list), &placed, at(0)));
    take(1, vec![said(1, 1)]);
    sightings.note_applied(AMPHORA, boot, said(1, 2), at(0));
    assert_eq!(take(2, vec![said(1, 1)]), []);
    assert_eq!(
        sightings.applied(AMPHORA, lb(1)),
        Generation::from_number(2)
    );
    assert_eq!(take(3, vec![said(1, 1)]), [lb(1)]);
    assert_eq!(
        sightings.applied(AMPHORA, lb(1)),
        Generation::from_number(1)
    );
    sightings.note_applied(AMPHORA, boot, said(1, 3), at(0));
    assert_eq!(take(4, vec![]), []);
    assert_eq!(take(5, vec![]), [lb(1)]);
}

#[test]
fn another_run_of_the_process_makes_everything_news() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    sightings.take(report(1, 7, vec![said(1, 5)]), &placed, at(0));
    sightings.note_applied(AMPHORA, None, said(1, 6), at(0));
    let news = sightings
        .take(report(2, 1, vec![said(1, 5)]), &placed, at(1))
        .unwrap();
    assert!(news.booted);
    assert_eq!(news.changed, [lb(1)]);
    assert_eq!(
        sightings.applied(AMPHORA, lb(1)),
        Generation::from_number(5)
    );
}

#[test]
fn reports_that_come_too_late_are_passed_over() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let take =
        |boot, sequence| sightings.take(report(boot, sequence, vec![said(1, 1)]), &placed, at(0));
    assert!(take(1, 5).is_some());
    assert!(take(1, 5).is_none());
    assert!(take(1, 4).is_none());
    assert!(take(2, 1).is_some());
    assert!(
        take(1, 6).is_none(),
        "the run before has nothing to say any more"
    );
}

#[test]
fn a_run_that_goes_on_speaking_is_the_one_that_lives() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let take = |boot, sequence, second| {
        let report = report(boot, sequence, vec![said(1, 1)]);
        sightings.take(report, &placed, at(second))
    };
    assert!(take(2, 7, 0).is_some());
    let late = take(1, 90, 1);
    assert!(
        late.is_some_and(|news| news.booted),
        "nobody knows that it was there before"
    );
    assert!(take(2, 8, 2).is_none());
    assert!(take(2, 17, 11).is_some_and(|news| news.booted));
    assert!(
        take(1, 91, 12).is_none(),
        "the run that was taken for the new one"
    );
    assert!(take(2, 18, 13).is_some_and(|news| !news.booted));
}

#[test]
fn who_heard_when_the_clock_was_ahead_does_not_know_best() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    assert!(!sightings.is_freshest(AMPHORA, at(0)));
    sightings.take(report(1, 1, vec![said(1, 1)]), &placed, at(20));
    assert!(sightings.is_freshest(AMPHORA, at(20)));
    for later in [5, 30] {
        sightings.status(AMPHORA, at(later), Duration::from_secs(10));
        assert!(
            !sightings.is_freshest(AMPHORA, at(later)),
            "the clock was set right"
        );
        assert!(sightings.is_undated(AMPHORA, at(later)));
    }
    sightings.take(report(1, 2, vec![said(1, 1)]), &placed, at(6));
    assert!(sightings.is_freshest(AMPHORA, at(6)));
    assert!(!sightings.is_undated(AMPHORA, at(6)));
    sightings.note_hearsay(AMPHORA, Some(at(7)), at(8));
    assert!(
        !sightings.is_freshest(AMPHORA, at(8)),
        "it reports elsewhere by now"
    );
}

#[test]
fn what_does_not_belong_there_is_told_after_a_grace_and_never_counted() {
    let sightings = Sightings::default();
    let nothing = placed([]);
    let take = |sequence, second| {
        let report = report(1, sequence, vec![connections(said(1, 4), 3)]);
        sightings
            .take(report, &nothing, at(second))
            .unwrap()
            .strangers
    };
    assert_eq!(take(1, 0), []);
    assert_eq!(sightings.strays(lb(1)), [AMPHORA]);
    assert_eq!(take(2, 9), []);
    assert_eq!(take(3, 10), [(lb(1), Generation::from_number(4).unwrap())]);
    sightings.note_removed(AMPHORA, lb(1));
    assert_eq!(sightings.strays(lb(1)), []);
    assert_eq!(
        sightings.totals([listener(1)], |_| false),
        Counters::default()
    );
}

#[test]
fn totals_outlive_restarts_and_only_what_changed_is_written_down() {
    let sightings = Sightings::default();
    let placed = placed([1, 2]);
    let take = |boot, sequence, total| {
        let list = vec![connections(said(1, 1), total), said(2, 1)];
        sightings.take(report(boot, sequence, list), &placed, at(0));
    };
    take(1, 1, 5);
    assert_eq!(sightings.unwritten().len(), 2);
    assert_eq!(sightings.unwritten(), []);
    take(1, 2, 8);
    let unwritten = sightings.unwritten();
    assert_eq!(unwritten.len(), 1);
    sightings.mark_unwritten(&unwritten);
    assert_eq!(sightings.unwritten(), unwritten);
    take(2, 1, 3);
    let totals = |silent| sightings.totals([listener(1), listener(2)], |_| silent);
    assert_eq!(
        (
            totals(false).total_connections,
            totals(false).active_connections
        ),
        (11, 1)
    );
    assert_eq!(
        (
            totals(true).total_connections,
            totals(true).active_connections
        ),
        (11, 0)
    );
    // Another controller takes over from what was written.
    let heir = Sightings::default();
    heir.restore(sightings.unwritten());
    heir.take(
        report(2, 2, vec![connections(said(1, 1), 4)]),
        &placed,
        at(0),
    );
    assert_eq!(heir.totals([listener(1)], |_| false).total_connections, 12);
    heir.forget_listeners(&[listener(1)]);
    assert_eq!(heir.totals([listener(1)], |_| false), Counters::default());
}

#[test]
fn a_listener_that_is_gone_is_not_remembered_by_a_report_from_before() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let take = |sequence, list| sightings.take(report(1, sequence, list), &placed, at(0));
    let counted = || sightings.lock().tallies.len();
    take(1, vec![connections(said(1, 1), 4)]).unwrap();
    assert_eq!(counted(), 1);
    // Its listener is deleted, and that is in force.
    let mut without = said(1, 2);
    without.listeners.clear();
    let boot = Some(BootId::new(Uuid::from_u128(1)));
    sightings.note_applied(AMPHORA, boot, without, at(0));
    sightings.forget_listeners(&[listener(1)]);
    take(2, vec![connections(said(1, 1), 5)]).unwrap();
    assert_eq!(counted(), 0);
    assert_eq!(
        sightings.totals([listener(1)], |_| false),
        Counters::default()
    );
}

#[test]
fn who_was_known_before_has_the_benefit_of_the_doubt() {
    let sightings = Sightings::default();
    let silence = Duration::from_secs(10);
    assert_eq!(
        sightings.status(AMPHORA, at(0), silence),
        AmphoraStatus::Booting
    );
    sightings.expect(AMPHORA, Some(BootId::new(Uuid::from_u128(1))), at(0));
    assert_eq!(
        sightings.status(AMPHORA, at(9), silence),
        AmphoraStatus::Allocated
    );
    assert_eq!(
        sightings.status(AMPHORA, at(11), silence),
        AmphoraStatus::Error
    );
    sightings.take(report(1, 1, vec![]), &placed([]), at(12));
    assert_eq!(
        sightings.status(AMPHORA, at(13), silence),
        AmphoraStatus::Allocated
    );
}

#[test]
fn a_thousand_unchanged_load_balancers_are_compared_in_no_time() {
    let sightings = Sightings::default();
    let placed = placed(0..1_000);
    let list: Vec<LoadBalancerReport> = (0..1_000).map(|number| said(number, 1)).collect();
    sightings.take(report(1, 1, list.clone()), &placed, at(0));
    let began = std::time::Instant::now();
    assert_eq!(
        changed(sightings.take(report(1, 2, list), &placed, at(0))),
        []
    );
    // A bound against going quadratic, generous for a debug build on a busy machine.
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn what_others_heard_counts_when_it_was_heard_as_far_as_that_is_possible() {
    let silence = Duration::from_secs(10);
    let is_there = |sightings: &Sightings, second| {
        sightings.presence(AMPHORA, at(second), silence) == AmphoraStatus::Allocated
    };
    // Heard at 0, read at 1.
    let sightings = Sightings::default();
    sightings.note_hearsay(AMPHORA, Some(at(0)), at(1));
    assert!(is_there(&sightings, 10));
    assert!(!is_there(&sightings, 11), "no allowance for its way here");
    let shown = sightings.status(AMPHORA, at(11), silence);
    assert_eq!(shown, AmphoraStatus::Allocated);
    // The other clock is behind by a minute: it was heard just before it was read all the same.
    let sightings = Sightings::default();
    for second in 0..100 {
        sightings.note_hearsay(AMPHORA, Some(at(second - 60)), at(second));
    }
    assert!(is_there(&sightings, 106));
    assert!(!is_there(&sightings, 108));
    // The other clock is ahead: nobody heard of it after it was read.
    let sightings = Sightings::default();
    sightings.note_hearsay(AMPHORA, Some(at(20)), at(0));
    assert!(is_there(&sightings, 10));
    assert!(!is_there(&sightings, 11));
}
