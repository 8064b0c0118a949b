use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn settings(priority: u8, last: u8) -> Settings {
    Settings {
        priority,
        interval: Interval::from_ms(1_000).unwrap(),
        preempt: false,
        address: IpAddr::from([10, 0, 0, last]),
    }
}

fn advert(priority: u8) -> Advert {
    Advert {
        router: 1,
        priority,
        interval: Interval::from_ms(1_000).unwrap(),
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
    }
}

const fn ms(number: u64) -> Instant {
    Instant(number * 1_000_000)
}

fn outputs(router: &mut Router) -> Vec<Output> {
    core::iter::from_fn(|| router.poll_output()).collect()
}

fn well(settings: Settings) -> Router {
    let mut router = Router::new(settings);
    router.handle_health(Health::Well, ms(0));
    router
}

fn active(settings: Settings) -> Router {
    let mut router = well(settings);
    let at = router.poll_timeout().unwrap();
    router.handle_timeout(at);
    assert_eq!(router.role(), Role::Active);
    outputs(&mut router);
    router
}

#[test]
fn who_is_told_to_stand_aside_has_nothing_until_then_or_until_it_hears_another() {
    let mut router = active(settings(200, 1));
    let now = router.poll_timeout().unwrap();
    router.stand_aside(now.saturating_add(Duration::from_secs(30)), now);
    assert_eq!(
        outputs(&mut router),
        [Output::Advertise(0), Output::Release]
    );
    assert!(router.is_aside() && !router.holds());
    let soon = now.saturating_add(Duration::from_secs(29));
    router.handle_timeout(soon);
    assert!(router.is_aside());
    // Told again, it goes on from then.
    router.stand_aside(soon.saturating_add(Duration::from_secs(30)), soon);
    router.handle_timeout(now.saturating_add(Duration::from_secs(31)));
    assert_eq!(outputs(&mut router), []);
    // The other one is gone: it need not wait any longer.
    let mut freed = router.clone();
    freed.stand_aside(soon, soon);
    freed.handle_timeout(soon);
    assert_eq!(freed.role(), Role::Active);
    // Told once more, it has nothing to let go of.
    outputs(&mut freed);
    freed.stand_aside(soon, soon);
    assert_eq!(freed.role(), Role::Active);
    assert_eq!(outputs(&mut freed), []);
    // Who is heard again is believed, and nothing that a controller still says changes that.
    router.handle_advert(OTHER, &advert(100), soon);
    assert!(!router.is_aside() && router.role() == Role::Standby);
    let due = router.poll_timeout();
    assert!(due < Some(soon.saturating_add(Duration::from_secs(4))));
    router.stand_aside(soon.saturating_add(Duration::from_secs(60)), soon);
    assert_eq!(router.poll_timeout(), due);
    assert_eq!(outputs(&mut router), []);
}

const OTHER: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 2));

#[test]
fn who_was_silent_for_as_long_as_others_wait_takes_nothing_from_who_took_over() {
    let mut router = active(settings(254, 1));
    let mut other = well(settings(253, 2));
    let last = router.poll_timeout().unwrap();
    router.handle_timeout(last);
    outputs(&mut router);
    other.handle_advert(IpAddr::from([10, 0, 0, 1]), &advert(254), last);
    // The one that waits least is active at once when it may be, and heard a moment later.
    let taken = other.poll_timeout().unwrap();
    other.handle_timeout(taken);
    assert_eq!(other.role(), Role::Active);
    router.handle_advert(OTHER, &advert(253), taken);
    assert_eq!(router.role(), Role::Standby);
}

#[test]
fn who_was_to_leave_and_stays_stands_by_once_it_has_left() {
    let mut router = well(settings(100, 1));
    router.leave(ms(1));
    assert_eq!(router.role(), Role::Down);
    router.stay(ms(2));
    assert_eq!(router.role(), Role::Standby);
    let mut router = active(settings(100, 1));
    let now = router.poll_timeout().unwrap();
    router.leave(now);
    router.stay(now);
    // Others have been told: what they began is not taken back.
    assert_eq!(router.role(), Role::Leaving);
    router.handle_advert(OTHER, &advert(90), now);
    assert_eq!(router.role(), Role::Standby);
    assert_eq!(
        outputs(&mut router),
        [Output::Advertise(0), Output::Release]
    );
    // Who cannot serve stays out.
    router.handle_health(Health::Dead, now);
    router.stay(now);
    assert_eq!(router.role(), Role::Down);
}

#[test]
fn a_standby_takes_over_after_three_intervals_and_its_skew() {
    for (priority, at) in [(100, 3_609), (90, 3_648), (254, 3_007)] {
        let mut router = well(settings(priority, 1));
        router.handle_timeout(ms(at));
        assert_eq!(router.role(), Role::Standby, "{priority}");
        router.handle_timeout(ms(at + 1));
        assert_eq!(
            outputs(&mut router),
            [Output::Advertise(priority), Output::Hold]
        );
    }
}

#[test]
fn a_standby_takes_over_at_once_from_who_leaves_but_for_its_skew() {
    let mut router = well(settings(90, 1));
    router.handle_advert(OTHER, &advert(100), ms(100));
    router.handle_advert(OTHER, &advert(0), ms(500));
    assert_eq!(router.poll_timeout(), Some(Instant(1_148_437_500)));
    // Heard again, it does not wait longer.
    router.handle_advert(OTHER, &advert(0), ms(900));
    assert_eq!(router.poll_timeout(), Some(Instant(1_148_437_500)));
}

#[test]
fn who_serves_is_left_alone_unless_preempting_was_asked_for() {
    let mut patient = well(settings(200, 1));
    let mut eager = well(Settings {
        preempt: true,
        ..settings(200, 1)
    });
    for second in 1..20 {
        for router in [&mut patient, &mut eager] {
            router.handle_advert(OTHER, &advert(100), ms(second * 1_000));
            router.handle_timeout(ms(second * 1_000));
        }
    }
    assert_eq!(
        (patient.role(), eager.role()),
        (Role::Standby, Role::Active)
    );
}

#[test]
fn of_two_that_are_active_the_preferred_one_stays_and_says_so() {
    let mut router = active(settings(100, 1));
    router.handle_advert(OTHER, &advert(90), ms(4_000));
    assert_eq!(
        outputs(&mut router),
        [Output::Announce, Output::Advertise(100)]
    );
    router.handle_advert(OTHER, &advert(110), ms(4_100));
    assert_eq!(outputs(&mut router), [Output::Release]);
    assert_eq!(router.role(), Role::Standby);
}

#[test]
fn a_tie_is_broken_by_the_higher_address() {
    let mut lower = active(settings(100, 1));
    lower.handle_advert(OTHER, &advert(100), ms(4_000));
    assert_eq!(lower.role(), Role::Standby);
    let mut higher = active(settings(100, 3));
    higher.handle_advert(OTHER, &advert(100), ms(4_000));
    assert_eq!(higher.role(), Role::Active);
}

#[test]
fn who_leaves_keeps_the_addresses_until_another_has_them() {
    let mut router = active(settings(100, 1));
    router.leave(ms(5_000));
    assert_eq!(outputs(&mut router), [Output::Advertise(0)]);
    assert!(router.holds());
    router.handle_advert(OTHER, &advert(90), ms(5_650));
    assert_eq!(outputs(&mut router), [Output::Release]);
    assert_eq!((router.role(), router.poll_timeout()), (Role::Down, None));
    // With nobody there it does not wait for ever.
    let mut alone = active(settings(100, 1));
    alone.leave(ms(5_000));
    outputs(&mut alone);
    alone.handle_timeout(alone.poll_timeout().unwrap());
    assert_eq!(outputs(&mut alone), [Output::Release]);
}

#[test]
fn who_cannot_serve_lets_go_at_once() {
    let mut router = active(settings(100, 1));
    router.handle_health(Health::Dead, ms(5_000));
    assert_eq!(
        outputs(&mut router),
        [Output::Advertise(0), Output::Release]
    );
    assert_eq!(router.role(), Role::Down);
    router.handle_health(Health::Well, ms(6_000));
    assert_eq!(router.role(), Role::Standby);
}

#[test]
fn who_ails_hands_over_and_serves_again_if_nobody_else_does() {
    let mut router = active(settings(100, 1));
    router.handle_health(Health::Ailing, ms(5_000));
    router.handle_timeout(router.poll_timeout().unwrap());
    assert_eq!(router.role(), Role::Standby);
    outputs(&mut router);
    router.handle_timeout(router.poll_timeout().unwrap());
    assert_eq!(outputs(&mut router), [Output::Advertise(1), Output::Hold]);
}

#[test]
fn who_goes_on_as_the_one_before_it_yields_to_whoever_took_over() {
    let mut router = well(settings(100, 1));
    router.resume(ms(10));
    assert_eq!(outputs(&mut router), [Output::Advertise(1), Output::Hold]);
    let mut yielding = router.clone();
    yielding.handle_advert(OTHER, &advert(90), ms(20));
    assert_eq!(outputs(&mut yielding), [Output::Release]);
    // Nobody did: two intervals later it speaks as ever.
    for at in [1_010, 2_010] {
        router.handle_timeout(ms(at));
    }
    assert!(outputs(&mut router).ends_with(&[Output::Advertise(100)]));
}

#[test]
fn who_was_away_takes_nothing_from_whoever_took_over() {
    let mut router = active(settings(100, 1));
    let back = ms(60_000);
    let mut hears_first = router.clone();
    hears_first.handle_advert(OTHER, &advert(90), back);
    assert_eq!(outputs(&mut hears_first), [Output::Release]);
    router.handle_timeout(back);
    assert!(outputs(&mut router).contains(&Output::Advertise(1)));
    router.handle_advert(OTHER, &advert(90), ms(60_001));
    assert_eq!(router.role(), Role::Standby);
    // A standby that was away begins to listen anew.
    let mut standby = well(settings(100, 1));
    standby.handle_timeout(back);
    assert_eq!(standby.role(), Role::Standby);
}

#[test]
fn who_contradicts_is_not_made_to_shout() {
    let mut router = active(settings(100, 1));
    for _ in 0..100 {
        router.handle_advert(OTHER, &advert(90), ms(4_000));
    }
    assert_eq!(outputs(&mut router).len(), 2);
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Health(usize, Health),
    Cut(bool),
    Stop(usize, u64),
    Aside(usize, u64),
}

fn any_event() -> impl Strategy<Value = Event> {
    let health = prop_oneof![Just(Health::Well), Just(Health::Ailing), Just(Health::Dead)];
    prop_oneof![
        4 => (1..3_000_u64).prop_map(Event::Pass),
        1 => (0..2_usize, health).prop_map(|(who, health)| Event::Health(who, health)),
        1 => any::<bool>().prop_map(Event::Cut),
        1 => (0..2_usize, 1..20_000_u64).prop_map(|(who, ms)| Event::Stop(who, ms)),
        1 => (0..2_usize, 0..8_000_u64).prop_map(|(who, ms)| Event::Aside(who, ms)),
    ]
}

/// Two members and the wire between them, which takes a millisecond.
struct Pair {
    now: u64,
    routers: [Router; 2],
    stopped_until: [u64; 2],
    wire: BTreeMap<(u64, usize), (usize, u8)>,
    sent: usize,
    cut: bool,
    holds: [bool; 2],
}

impl Pair {
    fn step(&mut self) {
        self.now += 1;
        let due: Vec<_> = self
            .wire
            .range(..(self.now, usize::MAX))
            .map(|(key, value)| (*key, *value))
            .collect();
        for (key, (to, priority)) in due {
            // Who is stopped hears it later.
            if self.stopped_until[to] <= self.now {
                self.wire.remove(&key);
                let from = self.routers[1 - to].settings.address;
                self.routers[to].handle_advert(from, &advert(priority), ms(self.now));
            }
        }
        for who in 0..2 {
            if self.stopped_until[who] > self.now {
                continue;
            }
            self.routers[who].handle_timeout(ms(self.now));
            while let Some(output) = self.routers[who].poll_output() {
                match output {
                    Output::Advertise(priority) if !self.cut => {
                        self.sent += 1;
                        self.wire
                            .insert((self.now + 1, self.sent), (1 - who, priority));
                    }
                    Output::Hold => self.holds[who] = true,
                    Output::Release => self.holds[who] = false,
                    Output::Advertise(_) | Output::Announce => {}
                }
            }
            assert_eq!(self.holds[who], self.routers[who].holds());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_happened_a_while_later_exactly_one_of_those_that_can_has_the_addresses(
        events in prop::collection::vec(any_event(), 1..20), first in 1..=254_u8, second in 1..=254_u8,
    ) {
        let mut pair = Pair {
            now: 0,
            routers: [Router::new(settings(first, 1)), Router::new(settings(second, 2))],
            stopped_until: [0; 2],
            wire: BTreeMap::new(),
            sent: 0,
            cut: false,
            holds: [false; 2],
        };
        let well = |pair: &mut Pair| {
            for router in &mut pair.routers {
                router.handle_health(Health::Well, ms(pair.now));
            }
        };
        well(&mut pair);
        for event in events {
            match event {
                Event::Pass(ms) => (0..ms).for_each(|_| pair.step()),
                Event::Health(who, health) => pair.routers[who].handle_health(health, ms(pair.now)),
                Event::Cut(cut) => pair.cut = cut,
                Event::Stop(who, ms) => pair.stopped_until[who] = pair.now + ms,
                Event::Aside(who, until) => {
                    pair.routers[who].stand_aside(ms(pair.now + until), ms(pair.now));
                }
            }
        }
        pair.cut = false;
        pair.stopped_until = [0; 2];
        well(&mut pair);
        (0..12_000).for_each(|_| pair.step());
        prop_assert_eq!(pair.holds.iter().filter(|holds| **holds).count(), 1);
        let holder = pair.holds;
        (0..5_000).for_each(|_| {
            pair.step();
            assert_eq!(pair.holds, holder);
        });
    }
}
