//! Who is given up, and who is not.

use alloc::vec;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::sample::at;

const BUDGET: Budget = Budget {
    hosts_max: 1,
    one_in: 5,
    window: Duration::from_secs(60),
};

fn amphora(number: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(number))
}

fn sight(number: u128, heard: bool, reached: bool) -> Sight {
    Sight {
        amphora: amphora(number),
        host: format!("h{number}"),
        heard,
        reached,
        expendable: true,
        retiring: false,
    }
}

/// Of so many hosts the first few are lost.
fn fleet(of: u128, lost: u128) -> Vec<Sight> {
    let is_there = |number| number >= lost;
    (0..of)
        .map(|number| sight(number, is_there(number), is_there(number)))
        .collect()
}

#[test]
fn one_signal_gives_nobody_up_and_two_do() {
    for (heard, reached, lost) in [
        (true, true, false),
        (false, true, false),
        (true, false, false),
        (false, false, true),
    ] {
        let mut sights = fleet(4, 0);
        sights[0] = sight(0, heard, reached);
        let found = judge(&sights, BUDGET, &mut Spent::default(), at(0));
        assert_eq!(!found.lost.is_empty(), lost, "{heard} {reached}");
        assert_eq!(found.held, None);
    }
}

#[test]
fn when_most_seem_lost_it_is_the_controller_that_is_blind() {
    for (of, lost, blind) in [(2, 1, false), (3, 2, true), (10, 6, true), (1, 1, true)] {
        let mut spent = Spent::default();
        let found = judge(&fleet(of, lost), BUDGET, &mut spent, at(0));
        let is_blind = matches!(found.held, Some((_, Held::Blind { .. })));
        assert_eq!(is_blind, blind, "{lost} of {of}");
        assert_eq!(found.lost.is_empty(), blind);
        assert_eq!(
            spent == Spent::default(),
            blind,
            "what is held costs nothing"
        );
    }
}

#[test]
fn the_first_of_many_that_are_cut_off_at_once_is_not_taken_for_the_only_one() {
    let mut sights = fleet(3, 1);
    // It was heard of a moment later, and is reached no more either.
    sights[1] = sight(1, true, false);
    let found = judge(&sights, BUDGET, &mut Spent::default(), at(0));
    assert!(found.lost.is_empty());
    let held = found.held.unwrap();
    assert_eq!(held.1, Held::Blind { lost: 2, of: 3 });
    // Once it is reached again there is one.
    sights[1] = sight(1, true, true);
    let found = judge(&sights, BUDGET, &mut Spent::default(), at(0));
    assert_eq!(found.lost.len(), 1);
}

#[test]
fn the_budget_holds_what_comes_too_soon_after_and_lets_it_go_later() {
    let mut spent = Spent::default();
    let first = judge(&fleet(5, 2), BUDGET, &mut spent, at(0));
    assert_eq!(first.lost, vec![(amphora(0), "h0".into())]);
    let beyond = vec![(amphora(1), "h1".into())];
    assert_eq!(first.held, Some((beyond, Held::Budget { most: 1 })));
    // The one that was given up is gone; the other one waits for its turn.
    let rest = fleet(5, 2).split_off(1);
    assert!(judge(&rest, BUDGET, &mut spent, at(59)).lost.is_empty());
    assert_eq!(judge(&rest, BUDGET, &mut spent, at(61)).lost.len(), 1);
}

#[test]
fn what_is_given_up_and_has_nowhere_to_go_leaves_the_budget_to_others() {
    let mut spent = Spent::default();
    let mut sights = fleet(5, 1);
    assert_eq!(judge(&sights, BUDGET, &mut spent, at(0)).lost.len(), 1);
    sights[0].retiring = true;
    for second in 1..70 {
        let again = judge(&sights, BUDGET, &mut spent, at(second));
        assert_eq!(again.lost, vec![(amphora(0), "h0".into())], "{second}");
    }
    sights[1] = sight(1, false, false);
    let both = judge(&sights, BUDGET, &mut spent, at(70));
    assert_eq!((both.lost.len(), both.held), (2, None));
}

#[test]
fn large_fleets_lose_a_share_at_once_and_a_host_counts_once() {
    let mut spent = Spent::default();
    let found = judge(&fleet(20, 6), BUDGET, &mut spent, at(0));
    assert_eq!(found.lost.len(), 4);
    let mut sights = fleet(5, 1);
    sights.push(Sight {
        host: "h0".into(),
        ..sight(9, false, false)
    });
    let found = judge(&sights, BUDGET, &mut Spent::default(), at(0));
    assert_eq!(found.lost.len(), 2, "both amphorae of the host");
}

#[test]
fn what_another_controller_starts_is_counted_and_never_given_up() {
    let mut sights = fleet(4, 1);
    sights[0].expendable = false;
    let found = judge(&sights, BUDGET, &mut Spent::default(), at(0));
    assert_eq!(found, Judgement::default());
}

proptest! {
    #[test]
    fn never_are_more_given_up_within_a_window_than_the_budget_allows(
        rounds in prop::collection::vec((prop::collection::vec(any::<(bool, bool)>(), 10), 0..20_i64), 1..12),
    ) {
        let mut spent = Spent::default();
        let mut given_up: Vec<(i64, String)> = Vec::new();
        let mut now = 0;
        for (states, step) in rounds {
            now += step;
            let sights: Vec<Sight> = (0..)
                .zip(&states)
                .map(|(number, (heard, reached))| sight(number, *heard, *reached))
                .collect();
            let found = judge(&sights, BUDGET, &mut spent, at(now));
            for (id, host) in found.lost {
                let seen = sights.iter().find(|sight| sight.amphora == id).unwrap();
                prop_assert!(!seen.heard && !seen.reached);
                given_up.push((now, host));
            }
            let lately: BTreeSet<&String> = given_up
                .iter()
                .filter(|(when, _)| now - when < 60)
                .map(|(_, host)| host)
                .collect();
            prop_assert!(lately.len() <= 2, "{lately:?}");
        }
    }
}
