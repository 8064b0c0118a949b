use alloc::vec::Vec;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn id(number: u8) -> MemberId {
    MemberId::new(Uuid::from_u128(u128::from(number) + 1))
}

fn at(seconds: u64) -> Instant {
    Instant(1_000 * SECOND + seconds * SECOND)
}

fn enrolled(count: u8) -> impl Iterator<Item = Enrolled> {
    (0..count).map(|number| Enrolled {
        id: id(number),
        backup: false,
        serves: true,
    })
}

fn passive(share_percent: u8) -> ConductConfig {
    ConductConfig {
        passive: Some(PassiveHealth {
            failures: 3,
            out_first: Duration::from_secs(2),
            out_longest: Duration::from_secs(10),
            share_percent,
        }),
        slow_start: Duration::ZERO,
    }
}

fn slowly(seconds: u64) -> ConductConfig {
    ConductConfig {
        passive: None,
        slow_start: Duration::from_secs(seconds),
    }
}

fn out(conduct: &Conduct, count: u8) -> Vec<u8> {
    (0..count)
        .filter(|number| conduct.terms(id(*number)).out)
        .collect()
}

#[test]
fn who_fails_is_out_for_ever_longer_and_begins_anew_after_having_been_well() {
    let mut conduct = Conduct::new(passive(50), enrolled(4));
    let mut now = 0;
    for seconds in [2, 4, 8, 10, 10] {
        assert!(conduct.handle_failures(id(0), at(now)));
        assert!(
            !conduct.handle_failures(id(0), at(now)),
            "it is out already"
        );
        assert_eq!(conduct.poll_timeout(), Some(at(now + seconds)));
        assert!(!conduct.handle_timeout(at(now + seconds - 1)));
        assert_eq!(out(&conduct, 4), [0]);
        now += seconds;
        assert!(conduct.handle_timeout(at(now)));
        assert_eq!(conduct.terms(id(0)), Terms::GOOD);
        now += 1;
    }
    assert!(conduct.handle_failures(id(0), at(now + 10)));
    assert_eq!(conduct.poll_timeout(), Some(at(now + 12)));
}

#[test]
fn a_share_at_most_is_out_one_always_may_be_and_all_never_are() {
    for (members, percent, most) in [
        (1, 100, 0),
        (2, 100, 1),
        (2, 1, 1),
        (3, 50, 1),
        (4, 50, 2),
        (10, 30, 3),
        (10, 100, 9),
    ] {
        let mut conduct = Conduct::new(passive(percent), enrolled(members));
        let outs = (0..members).filter(|number| conduct.handle_failures(id(*number), at(0)));
        assert_eq!(outs.count(), most, "{members} members, {percent} %");
    }
}

#[test]
fn those_who_cannot_serve_and_backups_are_no_reserve() {
    let members = [(0, false, true), (1, false, false), (2, true, true)];
    let members = members.map(|(number, backup, serves)| Enrolled {
        id: id(number),
        backup,
        serves,
    });
    let mut conduct = Conduct::new(passive(100), members.into_iter());
    for number in 0..3 {
        assert!(!conduct.handle_failures(id(number), at(0)), "{number}");
    }
    conduct.handle_health(id(1), true, at(1));
    assert!(conduct.handle_failures(id(0), at(1)));
    assert!(!conduct.handle_failures(id(1), at(1)));
}

#[test]
fn a_probe_takes_back_and_who_is_down_by_probes_is_not_out() {
    let mut conduct = Conduct::new(passive(50), enrolled(4));
    assert!(!conduct.handle_probe_success(id(0), at(0)));
    assert!(conduct.handle_failures(id(0), at(0)));
    assert!(conduct.handle_probe_success(id(0), at(1)));
    assert_eq!(conduct.terms(id(0)), Terms::GOOD);
    // The next time counts on.
    assert!(conduct.handle_failures(id(0), at(1)));
    assert_eq!(conduct.poll_timeout(), Some(at(5)));
    conduct.handle_health(id(0), false, at(2));
    assert!(out(&conduct, 4).is_empty());
    assert_eq!(conduct.poll_timeout(), None);
    conduct.handle_health(id(0), true, at(3));
    assert!(out(&conduct, 4).is_empty());
}

#[test]
fn who_recovers_or_is_added_grows_step_by_step_and_who_was_there_first_does_not() {
    let mut conduct = Conduct::new(slowly(15), enrolled(2));
    assert_eq!(conduct.terms(id(0)), Terms::GOOD);
    conduct.handle_health(id(1), false, at(0));
    conduct.handle_health(id(1), true, at(0));
    conduct.follow(slowly(15), enrolled(3), at(0));
    assert_eq!(conduct.terms(id(0)), Terms::GOOD);
    for second in 0..=15 {
        let share = u8::try_from(second + 1).unwrap();
        for slow in [1, 2] {
            assert_eq!(conduct.terms(id(slow)).share, share, "after {second} s");
        }
        assert_eq!(
            conduct.poll_timeout(),
            (second < 15).then(|| at(second + 1))
        );
        assert_eq!(conduct.handle_timeout(at(second + 1)), second < 15);
    }
    // Whoever misses steps takes them at once.
    conduct.follow(slowly(15), enrolled(4), at(20));
    assert!(conduct.handle_timeout(at(28)));
    assert_eq!(conduct.terms(id(3)).share, 9);
}

#[test]
fn settings_that_end_end_what_they_began() {
    let both = ConductConfig {
        slow_start: Duration::from_secs(10),
        ..passive(50)
    };
    let mut conduct = Conduct::new(both, enrolled(3));
    assert!(conduct.handle_failures(id(0), at(0)));
    conduct.follow(both, enrolled(4), at(0));
    assert_eq!(out(&conduct, 4), [0]);
    assert_eq!(conduct.terms(id(3)).share, 1);
    conduct.follow(ConductConfig::default(), enrolled(4), at(1));
    assert!((0..4).all(|number| conduct.terms(id(number)) == Terms::GOOD));
    assert_eq!(conduct.poll_timeout(), None);
    assert!(!conduct.handle_failures(id(1), at(1)));
}

proptest! {
    /// Whatever happens in whatever order: somebody who could serve is in, no more are out than their share, nobody is
    /// out or begins slowly for ever.
    #[test]
    fn some_are_always_in_and_all_come_back(
        members in 1_u8..12,
        share_percent in 1_u8..=100,
        events in prop::collection::vec((0_u8..12, 0_u8..5, 0_u64..3), 0..200),
    ) {
        let config = ConductConfig { slow_start: Duration::from_secs(3), ..passive(share_percent) };
        let mut conduct = Conduct::new(config, enrolled(members));
        let mut serving: Vec<u8> = (0..members).collect();
        let mut now = 0;
        for (number, event, passes) in events {
            now += passes;
            conduct.handle_timeout(at(now));
            match event {
                0 => {
                    conduct.handle_health(id(number), false, at(now));
                    serving.retain(|other| *other != number);
                }
                1 if number < members => {
                    conduct.handle_health(id(number), true, at(now));
                    if !serving.contains(&number) {
                        serving.push(number);
                    }
                }
                2 => {
                    conduct.handle_probe_success(id(number), at(now));
                }
                _ => {
                    let before = out(&conduct, members).len();
                    let taken = conduct.handle_failures(id(number), at(now));
                    let after = out(&conduct, members).len();
                    prop_assert_eq!(after, before + usize::from(taken));
                    let most = (serving.len() * usize::from(share_percent) / 100).max(1);
                    prop_assert!(!taken || after <= most && after < serving.len());
                }
            }
        }
        // Nothing more happens but time.
        let mut steps = 0;
        while let Some(next) = conduct.poll_timeout() {
            prop_assert!(conduct.handle_timeout(next), "what was announced happens");
            steps += 1;
            prop_assert!(steps < 1_000);
        }
        for number in serving {
            prop_assert_eq!(conduct.terms(id(number)), Terms::GOOD);
        }
    }
}
