//! Changes in place of whole reports: what they come to is what the report would have come to, or they are not taken.

use super::*;

/// As the amphora makes them.
fn between(before: &Report, now: &Report) -> ReportChanges {
    let known = |id| before.load_balancers.iter().find(|it| it.id == id);
    let is_there = |id| now.load_balancers.iter().any(|it| it.id == id);
    let gone = before.load_balancers.iter().map(|it| it.id);
    ReportChanges {
        amphora: now.info.amphora,
        boot: now.info.boot,
        since: before.sequence,
        sequence: now.sequence,
        load_balancers: now
            .load_balancers
            .iter()
            .filter(|it| known(it.id) != Some(it))
            .cloned()
            .collect(),
        gone: gone.filter(|id| !is_there(*id)).collect(),
    }
}

#[test]
fn changes_are_taken_after_the_report_that_they_follow_and_after_no_other() {
    let sightings = Sightings::default();
    let placed = placed([1, 2]);
    let (first, second) = (
        report(1, 1, vec![said(1, 1), said(2, 1)]),
        report(1, 2, vec![said(1, 2), said(2, 1)]),
    );
    let take = |changes| sightings.take_changes(changes, &placed, at(1));
    assert_eq!(take(between(&first, &second)), None, "it said nothing yet");
    sightings.take(first.clone(), &placed, at(0));
    let third = Report {
        sequence: 3,
        ..second.clone()
    };
    assert_eq!(take(between(&second, &third)), None, "one was not heard");
    let other_run = report(2, 2, vec![said(1, 2), said(2, 1)]);
    assert_eq!(take(between(&first, &other_run)), None);
    assert_eq!(changed(take(between(&first, &second))), [lb(1)]);
    assert_eq!(take(between(&first, &second)), None, "it comes twice");
    assert_eq!(changed(take(between(&second, &third))), []);
    // All of it is to be said again.
    sightings.doubt(AMPHORA);
    let fourth = Report {
        sequence: 4,
        ..third.clone()
    };
    assert_eq!(take(between(&third, &fourth)), None);
}

#[test]
fn what_is_not_named_is_as_it_was_and_said_now() {
    let sightings = Sightings::default();
    let placed = placed([1]);
    let (first, second) = (
        report(1, 1, vec![connections(said(1, 1), 3)]),
        report(1, 2, vec![connections(said(1, 1), 3)]),
    );
    sightings.take(first.clone(), &placed, at(0));
    sightings.take_changes(between(&first, &second), &placed, at(9));
    let (said, when) = sightings.report_with_time(AMPHORA, lb(1)).unwrap();
    assert_eq!((said.generation.number(), when), (1, at(9)));
    assert!(sightings.is_freshest(AMPHORA, at(9)));
    assert_eq!(sightings.portrait(AMPHORA).last_seen, Some(at(9)));
}

fn sorted(news: Option<News>) -> News {
    let mut news = news.unwrap();
    news.changed.sort();
    news
}

/// They know the same.
fn expect_alike(brief: &Sightings, whole: &Sightings, seed: u64) {
    for number in 0..6 {
        let of = |sightings: &Sightings| {
            let id = lb(number);
            (
                sightings.report_with_time(AMPHORA, id),
                sightings.strays(id),
                sightings.totals([listener(number)], |_| false),
            )
        };
        assert_eq!(of(brief), of(whole), "seed {seed}");
    }
    assert_eq!(brief.unwritten(), whole.unwritten(), "seed {seed}");
    assert_eq!(brief.remembered(), whole.remembered(), "seed {seed}");
}

/// Two that hear the same amphora: one all of it each time, one what changed, as far as it takes that.
#[test]
fn whoever_is_told_changes_comes_to_know_what_reports_would_have_told() {
    let mut taken = 0;
    for seed in 1..=200 {
        let mut dice = Dice(seed);
        let (whole, brief) = (Sightings::default(), Sightings::default());
        let (mut boot, mut sequence, mut second, mut pushes) = (1, 0, 0, 0);
        let mut here: BTreeSet<LoadBalancerId> = (0..4).map(lb).collect();
        let mut held: BTreeMap<u128, LoadBalancerReport> = BTreeMap::new();
        let mut told: Option<Report> = None;
        for _ in 0..60 {
            second += i64::try_from(dice.below(6)).unwrap();
            let number = u128::from(dice.below(6));
            let id = lb(number);
            match dice.below(12) {
                0 => drop(here.insert(id)),
                1 => drop(here.remove(&id)),
                2 => drop(held.remove(&number)),
                3 => {
                    // It is pushed, with a generation that it never had.
                    pushes += 1;
                    let pushed = said(number, pushes);
                    held.insert(number, pushed.clone());
                    let run = Some(BootId::new(Uuid::from_u128(boot)));
                    for sightings in [&whole, &brief] {
                        sightings.note_applied(AMPHORA, run, pushed.clone(), at(second));
                    }
                }
                4 => {
                    held.remove(&number);
                    for sightings in [&whole, &brief] {
                        sightings.note_removed(AMPHORA, id);
                    }
                }
                5 if dice.below(4) == 0 => {
                    (boot, sequence) = (boot + 1, 0);
                    told = None;
                }
                6 => {
                    if let Some(report) = held.get_mut(&number) {
                        report.listeners[0].counters.total_connections += 1;
                    }
                }
                7 => {
                    if let Some(report) = held.get_mut(&number) {
                        report.pools[0].members[0].health = MemberHealth::Down;
                    }
                }
                8 if dice.below(4) == 0 => {
                    whole.doubt(AMPHORA);
                    brief.doubt(AMPHORA);
                }
                _ => {
                    sequence += 1;
                    let now = report(boot, sequence, held.values().cloned().collect());
                    let expected = whole.take(now.clone(), &here, at(second));
                    let changes = told.as_ref().map(|told| between(told, &now));
                    let found =
                        changes.and_then(|changes| brief.take_changes(changes, &here, at(second)));
                    taken += u32::from(found.is_some());
                    let found = found.or_else(|| brief.take(now.clone(), &here, at(second)));
                    assert_eq!(sorted(found), sorted(expected), "seed {seed}");
                    told = Some(now);
                    expect_alike(&brief, &whole, seed);
                }
            }
        }
    }
    assert!(taken > 500, "{taken}");
}

/// Numbers in no particular order, the same ones each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}
