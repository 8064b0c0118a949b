use std::{net::Ipv4Addr, vec, vec::Vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    weights
        .iter()
        .enumerate()
        .map(|(position, weight)| {
            // Ids as they are in the field: nothing about them is even.
            let id = MemberId::new(Uuid::from_u64_pair(
                mixed(position as u64 + 77),
                mixed(position as u64 + 7_777),
            ));
            Candidate {
                position,
                weight: *weight,
                seed: seed(id),
            }
        })
        .collect()
}

fn client(number: u32) -> u64 {
    key(
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000_u32.wrapping_add(number))),
        None,
    )
}

fn counts(order: &Rendezvous, clients: u32) -> Vec<u32> {
    let mut counts = vec![0; order.candidates.len()];
    for number in 0..clients {
        counts[order.choose(client(number), &[]).unwrap()] += 1;
    }
    counts
}

/// Distance from the expected count in standard deviations of a fair draw.
fn deviations(count: u32, clients: u32, share: f64) -> f64 {
    let expected = f64::from(clients) * share;
    (f64::from(count) - expected).abs() / (expected * (1.0 - share)).sqrt()
}

#[test]
fn neighbouring_clients_are_shared_in_proportion_to_weight() {
    for weights in [
        vec![1, 1],
        vec![1, 2, 3, 4],
        vec![256, 1],
        vec![10, 10, 10, 9],
        vec![1; 50],
    ] {
        let total: u32 = weights.iter().sum();
        let counts = counts(&Rendezvous::new(candidates(&weights)), 40_000);
        for (count, weight) in counts.iter().zip(&weights) {
            let share = f64::from(*weight) / f64::from(total);
            assert!(
                deviations(*count, 40_000, share) < 4.5,
                "{weights:?}: {counts:?}"
            );
        }
    }
}

#[test]
fn equal_weights_choose_the_same_whatever_the_weight_and_however_it_is_computed() {
    let plain = Rendezvous::new(candidates(&[1; 9]));
    let heavy = Rendezvous::new(candidates(&[200; 9]));
    let long_way = Rendezvous {
        uniform: false,
        ..Rendezvous::new(candidates(&[7; 9]))
    };
    assert!(plain.uniform && heavy.uniform);
    for number in 0..5_000 {
        let chosen = plain.choose(client(number), &[]);
        assert_eq!(chosen, heavy.choose(client(number), &[]));
        assert_eq!(chosen, long_way.choose(client(number), &[]));
    }
}

#[test]
fn more_weight_takes_clients_from_others_and_moves_no_one_between_them() {
    let before = Rendezvous::new(candidates(&[3, 3, 3, 3]));
    let after = Rendezvous::new(candidates(&[3, 3, 6, 3]));
    for number in 0..5_000 {
        let (old, new) = (
            before.choose(client(number), &[]),
            after.choose(client(number), &[]),
        );
        assert!(old == new || new == Some(2));
    }
}

#[test]
fn an_ipv4_client_is_the_same_in_its_ipv6_form_and_ports_matter_only_if_asked_for() {
    let address = Ipv4Addr::new(192, 0, 2, 1);
    let mapped = IpAddr::V6(address.to_ipv6_mapped());
    assert_eq!(key(IpAddr::V4(address), None), key(mapped, None));
    assert_eq!(key(IpAddr::V4(address), Some(5)), key(mapped, Some(5)));
    assert_ne!(key(mapped, Some(5)), key(mapped, Some(6)));
    assert_ne!(key(mapped, Some(0)), key(mapped, None));
}

#[test]
fn the_logarithm_is_right_at_the_edges_and_close_between() {
    assert_eq!(cost(0), 64 << FRACTION_BITS);
    assert_eq!(cost(1), 64 << FRACTION_BITS);
    assert_eq!(cost(1 << 63), 1 << FRACTION_BITS);
    assert!(cost(u64::MAX) < 1 << 14);
    for step in 1..10_000_u64 {
        let hash = step * 1_844_674_407_370_955;
        #[expect(clippy::cast_precision_loss, reason = "compared with a tolerance")]
        let (exact, ours) = (
            64.0 - (hash as f64).log2(),
            cost(hash) as f64 / 2_f64.powi(40),
        );
        assert!(
            (ours - exact).abs() <= 0.002 * exact + 1e-9,
            "{hash}: {ours} for {exact}"
        );
    }
}

proptest! {
    #[test]
    fn the_cost_never_rises_with_the_hash(left in any::<u64>(), right in any::<u64>(), near in 0_u64..1 << 20) {
        let (low, high) = (left.min(right), left.max(right));
        prop_assert!(cost(low) >= cost(high));
        prop_assert!(cost(left) >= cost(left.saturating_add(near)));
    }

    #[test]
    fn no_cost_is_below_its_bound(hash in any::<u64>(), near in 0_u64..1 << 30) {
        for hash in [hash, near, u64::MAX - near] {
            prop_assert!(cost_at_least(hash) <= cost(hash));
        }
    }

    #[test]
    fn bounds_pass_over_nobody_who_would_win(
        weights in prop::collection::vec(1_u32..=256, 1..200),
        clients in prop::collection::vec(any::<u32>(), 20),
    ) {
        let all = candidates(&weights);
        let order = Rendezvous::new(all.clone());
        for number in clients {
            let ranked = all.iter().map(|one| Ranked::new(one, mixed(one.seed ^ client(number))));
            let best = ranked.reduce(|best, next| if next.beats(&best) { next } else { best });
            prop_assert_eq!(order.choose(client(number), &[]), best.map(|best| best.position));
        }
    }

    #[test]
    fn an_added_member_takes_its_share_and_nobody_else_moves(
        weights in prop::collection::vec(1_u32..=256, 1..20),
        weight in 1_u32..=256,
    ) {
        let mut all = candidates(&weights);
        let before = Rendezvous::new(all.clone());
        let added = all.len();
        all.push(candidates(&[&weights[..], &[weight]].concat())[added]);
        let after = Rendezvous::new(all);
        let mut moved = 0;
        for number in 0..4_000 {
            let (old, new) = (before.choose(client(number), &[]), after.choose(client(number), &[]));
            prop_assert!(old == new || new == Some(added));
            moved += u32::from(old != new);
        }
        let share = f64::from(weight) / f64::from(weight + weights.iter().sum::<u32>());
        prop_assert!(deviations(moved, 4_000, share) < 6.0, "{} moved, expected {}", moved, 4_000.0 * share);
    }

    #[test]
    fn taking_a_member_away_moves_only_its_own_clients(
        weights in prop::collection::vec(1_u32..=256, 2..20),
        gone in any::<prop::sample::Index>(),
        clients in prop::collection::vec(any::<u32>(), 50),
    ) {
        let all = candidates(&weights);
        let gone = gone.index(all.len());
        let left: Vec<_> = all.iter().filter(|candidate| candidate.position != gone).copied().collect();
        let (before, after) = (Rendezvous::new(all), Rendezvous::new(left));
        for number in clients {
            let old = before.choose(client(number), &[]).unwrap();
            let new = after.choose(client(number), &[]).unwrap();
            prop_assert!(old == new || old == gone);
            // Being passed over is the same as not being there.
            prop_assert_eq!(before.choose(client(number), &[gone]), Some(new));
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        weights in prop::collection::vec(1_u32..=256, 1..20),
        clients in prop::collection::vec(any::<u32>(), 50),
    ) {
        let forward = candidates(&weights);
        let backward: Vec<_> = forward.iter().rev().copied().collect();
        let (forward, backward) = (Rendezvous::new(forward), Rendezvous::new(backward));
        for number in clients {
            prop_assert_eq!(forward.choose(client(number), &[]), backward.choose(client(number), &[]));
        }
    }
}

/// Of 100,000 clients, how many have another member after one was added, and after one was lost. The figures are those
/// of the document of differences.
#[test]
fn how_many_clients_move_when_members_come_and_go() {
    for (members, added, lost) in [
        (4, 20_187, 24_810),
        (10, 9_073, 10_021),
        (100, 954, 1_024),
        (1_000, 98, 111),
    ] {
        let all = candidates(&vec![1; members + 1]);
        let [less, before, more] =
            [members - 1, members, members + 1].map(|count| Rendezvous::new(all[..count].to_vec()));
        let moved = |after: &Rendezvous| {
            let moves = |number: &u32| {
                let key = client(*number);
                before.choose(key, &[]) != after.choose(key, &[])
            };
            (0..100_000).filter(moves).count()
        };
        assert_eq!((moved(&more), moved(&less)), (added, lost), "{members}");
    }
}
