use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn least_connections(weights: &[u32]) -> LeastConnections {
    let candidate = |(position, weight): (usize, &u32)| Candidate {
        position,
        weight: *weight,
        seed: 0,
    };
    LeastConnections::new(weights.iter().enumerate().map(candidate).collect())
}

#[test]
fn the_fewest_in_proportion_to_weight_wins() {
    let order = least_connections(&[1, 4]);
    for turn in 0..5 {
        assert_eq!(
            order.choose(turn, &|position| [1, 6][position], &[]),
            Some(1),
            "7/4 is below 2"
        );
        assert_eq!(
            order.choose(turn, &|position| [1, 8][position], &[]),
            Some(0),
            "9/4 is above 2"
        );
    }
}

#[test]
fn idle_members_take_turns_by_weight() {
    let order = least_connections(&[3, 1]);
    let mut counts = [0; 2];
    for turn in 0..400 {
        counts[order.choose(turn, &|_| 0, &[]).unwrap()] += 1;
    }
    assert_eq!(counts, [300, 100]);
}

#[test]
fn an_idle_member_is_preferred_to_any_busy_one() {
    let order = least_connections(&[256, 1]);
    assert!((0..300).all(|turn| order.choose(turn, &|position| [1, 0][position], &[]) == Some(1)));
}

#[test]
fn equally_busy_members_take_turns() {
    let order = least_connections(&[2, 2, 2]);
    let chosen: Vec<_> = (0..6)
        .map(|turn| order.choose(turn, &|_| 5, &[]).unwrap())
        .collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn whoever_was_tried_is_passed_over() {
    let order = least_connections(&[1, 1, 1]);
    let load = |position: usize| [0, 9, 3][position];
    assert_eq!(order.choose(0, &load, &[0]), Some(2));
    assert_eq!(order.choose(0, &load, &[0, 2]), Some(1));
    assert_eq!(order.choose(0, &load, &[0, 1, 2]), None);
    assert_eq!(least_connections(&[]).choose(0, &load, &[]), None);
}

#[test]
fn held_connections_end_up_in_proportion_to_weight() {
    let order = least_connections(&[1, 2, 5]);
    let mut loads = vec![0_u32; 3];
    for turn in 0..800 {
        let chosen = order
            .choose(turn, &|position| loads[position], &[])
            .unwrap();
        loads[chosen] += 1;
    }
    for (load, share) in loads.iter().zip([100, 200, 500]) {
        assert!(load.abs_diff(share) <= 2, "{loads:?}");
    }
}

proptest! {
    #[test]
    fn nobody_else_has_fewer(
        members in prop::collection::vec((1_u32..=256, 0_u32..1_000), 1..30),
        turn in any::<u64>(),
    ) {
        let weights: Vec<_> = members.iter().map(|(weight, _)| *weight).collect();
        let order = least_connections(&weights);
        let chosen = order.choose(turn, &|position| members[position].1, &[]).unwrap();
        let score = |(weight, load): (u32, u32)| {
            let load = if load == 0 { 0.0 } else { f64::from(load) + 1.0 };
            load / f64::from(weight)
        };
        for member in &members {
            prop_assert!(score(members[chosen]) <= score(*member) + 1e-9);
        }
    }
}
