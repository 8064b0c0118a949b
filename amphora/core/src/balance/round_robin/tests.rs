use std::{collections::BTreeMap, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn round_robin(weights: &[u32]) -> RoundRobin {
    let candidate = |(at, weight): (usize, &u32)| Candidate {
        position: at * 10,
        weight: *weight,
        seed: 0,
    };
    RoundRobin::new(weights.iter().enumerate().map(candidate).collect())
}

fn turns(order: &RoundRobin, range: core::ops::Range<u64>) -> Vec<usize> {
    range
        .map(|turn| order.choose(turn, &[]).unwrap() / 10)
        .collect()
}

fn counts(order: &RoundRobin, range: core::ops::Range<u64>) -> BTreeMap<usize, u64> {
    let mut counts = BTreeMap::new();
    for place in turns(order, range) {
        *counts.entry(place).or_insert(0) += 1;
    }
    counts
}

#[test]
fn equal_weights_take_turns_in_the_order_of_the_list() {
    assert_eq!(turns(&round_robin(&[1, 1, 1]), 0..7), [0, 1, 2, 0, 1, 2, 0]);
    assert_eq!(
        turns(&round_robin(&[7, 7]), 0..4),
        [0, 1, 0, 1],
        "a common divisor does not matter"
    );
}

#[test]
fn a_heavy_members_turns_do_not_crowd_together() {
    let order = turns(&round_robin(&[5, 1, 1]), 0..7);
    assert_eq!(order, [0, 1, 0, 0, 0, 2, 0]);
    assert_eq!(turns(&round_robin(&[2, 1]), 0..3), [0, 1, 0]);
    assert_eq!(turns(&round_robin(&[1, 2, 1]), 0..4), [1, 0, 1, 2]);
}

#[test]
fn nobody_is_chosen_from_nobody() {
    assert_eq!(round_robin(&[]).choose(3, &[]), None);
}

#[test]
fn whoever_was_tried_is_passed_over_and_the_others_share_by_weight() {
    let order = round_robin(&[100, 3, 1]);
    let mut counts = [0_u32; 3];
    for turn in 0..10_400 {
        counts[order.choose(turn, &[0]).unwrap() / 10] += 1;
    }
    assert_eq!(counts[0], 0);
    let share = f64::from(counts[1]) / 10_400.0;
    assert!((share - 0.75).abs() < 0.03, "{counts:?}");
    assert_eq!(order.choose(0, &[0, 10]), Some(20));
    assert_eq!(order.choose(0, &[0, 10, 20]), None);
}

#[test]
fn turns_are_laid_out_up_to_the_limit_and_computed_beyond() {
    let most = vec![1; limits::ROUND_ROBIN_TURNS_MAX];
    assert!(matches!(round_robin(&most).cycle, Cycle::LaidOut(_)));
    let more = vec![1; limits::ROUND_ROBIN_TURNS_MAX + 1];
    assert!(matches!(round_robin(&more).cycle, Cycle::Computed { .. }));
}

#[test]
fn computed_turns_spread_evenly_over_any_stretch() {
    let mut weights = vec![3; 2_000];
    weights[0] = 256;
    let order = round_robin(&weights);
    let Cycle::Computed { total, .. } = order.cycle else {
        panic!("laid out")
    };
    // A sixteenth of the cycle, begun anywhere, gives the heavy one a sixteenth of its turns, give or take little.
    for start in [0, 1_000, 4_321] {
        let heavy = counts(&order, start..start + total / 16)
            .get(&0)
            .copied()
            .unwrap_or(0);
        assert!((14..=18).contains(&heavy), "{heavy} of 16 from {start}");
    }
}

#[test]
fn the_last_turn_of_all_is_a_turn() {
    assert!(round_robin(&[5, 1, 1]).choose(u64::MAX, &[]).is_some());
    assert!(
        round_robin(&vec![256; 10_000])
            .choose(u64::MAX, &[])
            .is_some()
    );
    let mut uneven = vec![256; 10_000];
    uneven[0] = 255;
    assert!(round_robin(&uneven).choose(u64::MAX, &[]).is_some());
}

fn exact(weights: &[u32], start: u64) {
    let order = round_robin(weights);
    let divisor = weights
        .iter()
        .fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
    let total: u64 = weights
        .iter()
        .map(|weight| u64::from(*weight) / divisor)
        .sum();
    let counts = counts(&order, start..start + total);
    for (place, weight) in weights.iter().enumerate() {
        assert_eq!(
            counts[&place],
            u64::from(*weight) / divisor,
            "place {place}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_full_cycle_is_exact(weights in prop::collection::vec(1_u32..=256, 1..25), start in 0_u64..1 << 60) {
        exact(&weights, start);
    }

    #[test]
    fn each_full_cycle_is_exact_when_computed(weights in prop::collection::vec(100_u32..=256, 42..60), start in 0_u64..1 << 60) {
        exact(&weights, start);
    }

    #[test]
    fn nobody_waits_much_longer_than_its_share(weights in prop::collection::vec(1_u32..=256, 1..25)) {
        let order = round_robin(&weights);
        let Cycle::LaidOut(turns) = &order.cycle else { return Ok(()) };
        let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight)));
        for (place, weight) in weights.iter().enumerate() {
            let own = usize::try_from(u64::from(*weight) / divisor).unwrap();
            let at: Vec<_> = turns.iter().enumerate().filter(|(_, turn)| **turn == place).map(|(at, _)| at).collect();
            let gaps = at.windows(2).map(|pair| pair[1] - pair[0]).chain([at[0] + turns.len() - at[at.len() - 1]]);
            let fair = turns.len().div_ceil(own);
            let longest = gaps.max().unwrap();
            prop_assert!(longest <= fair + 2 * weights.len(), "{longest} of {fair}");
        }
    }
}
