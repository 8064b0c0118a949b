use core::cell::Cell;
use std::{collections::BTreeSet, vec};

use krater_amphora_api::{MemberSpec, PoolProtocol, PoolSpec};
use proptest::prelude::*;

use super::*;
use crate::{
    sample::{self, member, member_id, parsed_pool},
    snapshot::Snapshot,
};

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::RoundRobin,
    Algorithm::LeastConnections,
    Algorithm::SourceIp,
    Algorithm::SourceIpPort,
];

fn choice(turn: u64, not: &[usize]) -> Choice<'_> {
    let address = [10, 0, (turn >> 8 & 0xff) as u8, (turn & 0xff) as u8];
    Choice {
        client: SocketAddr::from((address, 40_000)),
        turn,
        load: &|_| 0,
        not,
    }
}

fn weighted(number: u128, weight: u16) -> MemberSpec {
    MemberSpec {
        weight,
        ..member(number)
    }
}

#[test]
fn weight_zero_disabled_and_down_members_are_never_chosen() {
    let members = vec![
        weighted(1, 0),
        MemberSpec {
            enabled: false,
            ..member(2)
        },
        member(3),
        member(4),
        MemberSpec {
            backup: true,
            ..member(5)
        },
    ];
    for algorithm in ALGORITHMS {
        let roster = Roster::build(&parsed_pool(algorithm, members.clone()), |id| {
            id != member_id(3)
        });
        assert_eq!(roster.positions().collect::<Vec<_>>(), [3], "{algorithm:?}");
        assert!(
            (0..500).all(|turn| roster.choose(&choice(turn, &[])) == Some(3)),
            "{algorithm:?}"
        );
    }
}

#[test]
fn all_healthy_backups_stand_in_when_no_primary_can_be_chosen_and_only_then() {
    let backup = |number| MemberSpec {
        backup: true,
        ..member(number)
    };
    let pool = parsed_pool(
        Algorithm::RoundRobin,
        vec![member(1), backup(2), backup(3), backup(4)],
    );
    let primary = Roster::build(&pool, |_| true);
    assert_eq!((primary.tier(), primary.len()), (Tier::Primary, 1));
    let stand_in = Roster::build(&pool, |id| id != member_id(1) && id != member_id(3));
    assert_eq!(
        (stand_in.tier(), stand_in.positions().collect::<Vec<_>>()),
        (Tier::Backup, vec![1, 3])
    );
    let nobody = Roster::build(&pool, |_| false);
    assert!(nobody.is_empty() && nobody.tier() == Tier::Nobody);
    assert_eq!(nobody.choose(&choice(0, &[])), None);
}

#[test]
fn a_disabled_pool_has_nobody() {
    let spec = sample::spec();
    let pools = vec![PoolSpec {
        enabled: false,
        ..spec.pools[0].clone()
    }];
    let snapshot = Snapshot::parse(krater_amphora_api::SnapshotSpec { pools, ..spec }).unwrap();
    assert!(Roster::build(&snapshot.pools()[0], |_| true).is_empty());
    assert_eq!(snapshot.pools()[0].protocol, PoolProtocol::Http);
}

#[test]
fn the_source_decides_alone_and_its_port_only_if_asked_for() {
    let members: Vec<_> = (1..=20).map(member).collect();
    let by_address = Roster::build(&parsed_pool(Algorithm::SourceIp, members.clone()), |_| true);
    let by_port = Roster::build(&parsed_pool(Algorithm::SourceIpPort, members), |_| true);
    let ask = |roster: &Roster, port, turn| {
        roster.choose(&Choice {
            client: SocketAddr::from(([10, 0, 0, 1], port)),
            ..choice(turn, &[])
        })
    };
    let distinct = |roster: &Roster| {
        (1..200)
            .map(|port| ask(roster, port, u64::from(port)))
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(distinct(&by_address).len(), 1);
    assert_eq!(distinct(&by_port).len(), 20);
    assert_eq!(ask(&by_port, 7, 1), ask(&by_port, 7, 2));
}

#[test]
fn loads_are_asked_for_by_the_position_in_the_pool() {
    let members = vec![weighted(1, 0), member(2), member(3)];
    let roster = Roster::build(&parsed_pool(Algorithm::LeastConnections, members), |_| true);
    let asked = Cell::new(0_usize);
    let load = |position: usize| {
        asked.set(asked.get() + 1);
        [0, 5, 3][position]
    };
    assert_eq!(
        roster.choose(&Choice {
            load: &load,
            ..choice(0, &[])
        }),
        Some(2)
    );
    assert_eq!(asked.get(), 2);
}

#[test]
fn ten_thousand_uneven_members_are_no_trouble() {
    let members: Vec<_> = (0..10_000)
        .map(|number| weighted(number, 1 + (number % 256) as u16))
        .collect();
    for algorithm in ALGORITHMS {
        let roster = Roster::build(&parsed_pool(algorithm, members.clone()), |_| true);
        assert_eq!(roster.len(), 10_000);
        let chosen: BTreeSet<_> = (0..500)
            .map(|turn| roster.choose(&choice(turn, &[])).unwrap())
            .collect();
        assert!(chosen.len() > 400, "{algorithm:?}: {}", chosen.len());
    }
}

fn any_member() -> impl Strategy<Value = (bool, bool, bool, u16)> {
    (
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.7),
        prop::bool::weighted(0.3),
        prop_oneof![Just(0_u16), 1_u16..=256],
    )
}

proptest! {
    /// I2, for every algorithm and whatever was tried before.
    #[test]
    fn whoever_is_chosen_may_be_chosen(
        members in prop::collection::vec(any_member(), 0..20),
        algorithm in prop::sample::select(&ALGORITHMS[..]),
        turns in prop::collection::vec(any::<u64>(), 20),
        not in prop::collection::vec(0_usize..20, 0..4),
        loads in prop::collection::vec(0_u32..5, 20),
    ) {
        let specs = members.iter().enumerate().map(|(at, (enabled, _, backup, weight))| {
            MemberSpec { enabled: *enabled, backup: *backup, ..weighted(at as u128, *weight) }
        });
        let pool = parsed_pool(algorithm, specs.collect());
        let up: BTreeSet<_> =
            members.iter().enumerate().filter(|(_, member)| member.1).map(|(at, _)| member_id(at as u128)).collect();
        let roster = Roster::build(&pool, |id| up.contains(&id));
        let usable = |at: usize| members[at].0 && members[at].1 && members[at].3 > 0;
        let primaries = (0..members.len()).any(|at| usable(at) && !members[at].2);
        let expected: Vec<_> = (0..members.len()).filter(|at| usable(*at) && members[*at].2 != primaries).collect();
        prop_assert_eq!(roster.positions().collect::<Vec<_>>(), expected.clone());
        for turn in turns {
            let chosen = roster.choose(&Choice { load: &|at| loads[at], ..choice(turn, &not) });
            prop_assert_eq!(chosen.is_none(), expected.iter().all(|at| not.contains(at)));
            if let Some(chosen) = chosen {
                prop_assert!(expected.contains(&chosen) && !not.contains(&chosen));
            }
        }
    }
}

#[test]
fn who_is_out_is_chosen_only_when_nobody_else_can_be() {
    let mut members: Vec<_> = (1..=4).map(member).collect();
    members[3].backup = true;
    let pool = parsed_pool(Algorithm::RoundRobin, members);
    let roster = |out: &[u128], down: &[u128]| {
        let is = |all: &[u128], id| all.iter().any(|number| member_id(*number) == id);
        let roster = Roster::on_terms(&pool, |id| {
            let terms = Terms {
                out: is(out, id),
                share: SHARE_FULL,
            };
            (!is(down, id)).then_some(terms)
        });
        (roster.positions().collect::<Vec<_>>(), roster.tier())
    };
    assert_eq!(roster(&[1], &[]), (vec![1, 2], Tier::Primary));
    assert_eq!(roster(&[1], &[2, 3]), (vec![3], Tier::Backup));
    assert_eq!(roster(&[1, 2], &[3, 4]), (vec![0, 1], Tier::Primary));
    assert_eq!(roster(&[4], &[1, 2, 3]), (vec![3], Tier::Backup));
    assert_eq!(roster(&[1], &[1, 2, 3, 4]), (vec![], Tier::Nobody));
}

#[test]
fn who_begins_slowly_gets_its_part_of_its_share() {
    for algorithm in [Algorithm::RoundRobin, Algorithm::SourceIpPort] {
        let members = vec![member(1), member(2)];
        let pool = parsed_pool(algorithm, members);
        for share in [1, 4, 8, SHARE_FULL] {
            let roster = Roster::on_terms(&pool, |id| {
                let slow = id == member_id(2);
                let share = if slow { share } else { SHARE_FULL };
                Some(Terms { out: false, share })
            });
            let slow = (0..17_000_u32)
                .filter(|turn| {
                    let port = u16::try_from(turn % 60_000 + 1).unwrap();
                    let choice = Choice {
                        client: (core::net::Ipv4Addr::from_bits(*turn * 7), port).into(),
                        turn: u64::from(*turn),
                        load: &|_| 0,
                        not: &[],
                    };
                    roster.choose(&choice) == Some(1)
                })
                .count();
            let expected = 17_000 * usize::from(share) / usize::from(share + SHARE_FULL);
            assert!(
                slow.abs_diff(expected) < 17_000 / 50,
                "{algorithm:?}, {share}/16: {slow}, not {expected}"
            );
        }
    }
}
