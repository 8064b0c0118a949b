use std::{collections::BTreeMap, net::Ipv4Addr, thread, vec, vec::Vec};

use krater_amphora_api::{Algorithm, MemberSpec, PersistenceSpec, PoolProtocol, PoolSpec};
use proptest::prelude::*;

use super::*;
use crate::{
    sample::{member, pool, spec},
    snapshot::{Persistence, Pool, Snapshot},
};

/// A pool that keeps clients for that long, by that mask.
fn sticky(
    members: Vec<MemberSpec>,
    timeout_seconds: Option<u32>,
    granularity: Option<&str>,
) -> Pool {
    let mut spec = spec();
    spec.listeners.clear();
    spec.pools = vec![PoolSpec {
        algorithm: Algorithm::RoundRobin,
        persistence: Some(PersistenceSpec::SourceIp {
            timeout_seconds,
            granularity: granularity.map(|mask| mask.parse().unwrap()),
        }),
        ..pool(1, PoolProtocol::Tcp, members)
    }];
    Snapshot::parse(spec).unwrap().pools()[0].clone()
}

fn members(numbers: impl IntoIterator<Item = u128>) -> Vec<MemberSpec> {
    numbers.into_iter().map(member).collect()
}

fn affinity(timeout: Option<u32>, granularity: Option<&str>) -> Affinity {
    let settings = settings(&sticky(vec![], timeout, granularity));
    Affinity::new(settings, Key([0x5eed, 0xfeed]), at(0))
}

fn settings(pool: &Pool) -> SourceAffinity {
    match pool.persistence {
        Some(Persistence::Source(settings)) => settings,
        _ => unreachable!("the pool keeps clients by address"),
    }
}

fn client(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))
}

fn at(seconds: u64) -> Instant {
    Instant(seconds * 1_000_000_000)
}

/// Where the client goes if `fresh` is what would be chosen.
fn goes(affinity: &Affinity, client: IpAddr, now: u64, fresh: u16) -> u16 {
    let chosen = affinity.choose(client, at(now), |_| true, || Some(Handle(fresh)));
    chosen.unwrap().0
}

#[test]
fn a_client_goes_where_it_went_as_long_as_it_may() {
    let memory = affinity(None, None);
    assert_eq!(goes(&memory, client(1), 0, 3), 3);
    assert_eq!(goes(&memory, client(1), 1_000_000, 4), 3);
    assert_eq!(goes(&memory, client(2), 1_000_000, 4), 4);
    let elsewhere = memory.choose(
        client(1),
        at(5),
        |handle| handle != Handle(3),
        || Some(Handle(9)),
    );
    assert_eq!(elsewhere, Some(Handle(9)));
    assert_eq!(goes(&memory, client(1), 5, 4), 9, "and it stays there");
    assert_eq!(memory.choose(client(7), at(5), |_| true, || None), None);
    assert_eq!(goes(&memory, client(7), 5, 4), 4, "nothing was remembered");
}

#[test]
fn a_timeout_counts_from_the_last_time_and_not_from_the_first() {
    let memory = affinity(Some(10), None);
    assert_eq!(goes(&memory, client(1), 100, 1), 1);
    assert_eq!(goes(&memory, client(1), 109, 2), 1);
    assert_eq!(goes(&memory, client(1), 119, 2), 1);
    assert_eq!(goes(&memory, client(1), 130, 2), 2);
}

#[test]
fn another_timeout_keeps_the_memory_and_another_mask_does_not() {
    let memory = affinity(None, None);
    goes(&memory, client(1), 0, 1);
    let shorter = memory.under(affinity(Some(10), None).settings).unwrap();
    assert_eq!(goes(&shorter, client(1), 5, 2), 1);
    assert_eq!(goes(&shorter, client(1), 50, 2), 2);
    assert_eq!(goes(&memory, client(1), 50, 3), 2, "it is the same memory");
    assert!(
        memory
            .under(affinity(None, Some("255.255.255.0")).settings)
            .is_none()
    );
    assert!(
        memory
            .under(affinity(None, Some("ffff::")).settings)
            .is_none()
    );
}

#[test]
fn a_mask_makes_neighbours_of_its_family_one() {
    let by = |text: &str| text.parse::<IpAddr>().unwrap();
    let memory = affinity(None, Some("255.255.255.0"));
    assert_eq!(goes(&memory, by("192.0.2.1"), 0, 1), 1);
    assert_eq!(goes(&memory, by("192.0.2.254"), 0, 2), 1);
    assert_eq!(
        goes(&memory, by("::ffff:192.0.2.7"), 0, 2),
        1,
        "in either form"
    );
    assert_eq!(goes(&memory, by("192.0.3.1"), 0, 2), 2);
    assert_eq!(goes(&memory, by("2001:db8::1"), 0, 3), 3);
    assert_eq!(
        goes(&memory, by("2001:db8::2"), 0, 4),
        4,
        "the other family is compared whole"
    );
    let memory = affinity(None, Some("ffff:ffff:ffff:ffff::"));
    assert_eq!(goes(&memory, by("2001:db8::1"), 0, 3), 3);
    assert_eq!(goes(&memory, by("2001:db8::ffff:2"), 0, 4), 3);
    assert_eq!(goes(&memory, by("2001:db8:0:1::1"), 0, 4), 4);
    assert_eq!(goes(&memory, by("192.0.2.1"), 0, 1), 1);
    assert_eq!(goes(&memory, by("192.0.2.2"), 0, 2), 2);
}

#[test]
fn as_many_clients_as_the_reference_remembers_have_room() {
    let memory = affinity(None, None);
    let all = || (0..10_000).map(client);
    for (number, client) in (0..).zip(all()) {
        goes(&memory, client, number / 100, 1);
    }
    let kept = all()
        .filter(|client| goes(&memory, *client, 1_000, 2) == 1)
        .count();
    assert!(kept > 9_950, "{kept} of 10,000");
}

#[test]
fn whoever_came_last_the_longest_ago_makes_room() {
    let memory = affinity(None, None);
    let regular = client(0);
    goes(&memory, regular, 0, 1);
    // More than there is room for, while the regular comes again and again.
    for number in 1..200_000 {
        goes(&memory, client(number), u64::from(number), 2);
        assert_eq!(goes(&memory, regular, u64::from(number), 3), 1);
    }
    let late = (190_000..200_000).filter(|number| goes(&memory, client(*number), 200_000, 4) == 2);
    assert!(late.count() > 9_900, "the latest are still known");
}

#[test]
fn all_workers_that_choose_for_a_client_at_once_agree() {
    let memory = affinity(None, None);
    for round in 0..200 {
        let chosen: Vec<u16> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|own| {
                    let memory = &memory;
                    scope.spawn(move || goes(memory, client(round), 0, own))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(
            chosen.windows(2).all(|pair| pair[0] == pair[1]),
            "{chosen:?}"
        );
    }
}

#[test]
fn handles_that_are_given_again_bring_no_clients_along() {
    let memory = affinity(None, None);
    let first = Handles::default().follow(&sticky(members([1]), None, None).members, |handle| {
        memory.forget(handle)
    });
    let old = first.of(0).unwrap();
    goes(&memory, client(1), 0, old.0);
    // The member leaves; as many others come and go as there are handles.
    let mut handles = first;
    for step in 0..8_u128 {
        assert_eq!(goes(&memory, client(1), 0, 77), old.0);
        let pool = sticky(
            members((2..8_194).map(|number| step * 10_000 + number)),
            None,
            None,
        );
        handles = handles.follow(&pool.members, |handle| memory.forget(handle));
    }
    assert!(
        handles.position(old).is_some(),
        "the handle is somebody else's"
    );
    assert_eq!(goes(&memory, client(1), 0, 77), 77);
}

mod told;

proptest! {
    #[test]
    fn members_keep_their_handles_wherever_they_are_listed(
        steps in prop::collection::vec(prop::collection::btree_set(0_u128..12, 0..8), 1..8),
        backwards in any::<bool>(),
    ) {
        let memory = affinity(None, None);
        let mut handles = Handles::default();
        let mut known = BTreeMap::new();
        for step in steps {
            let mut numbers: Vec<_> = step.into_iter().collect();
            if backwards {
                numbers.reverse();
            }
            let pool = sticky(members(numbers.iter().copied()), None, None);
            handles = handles.follow(&pool.members, |handle| memory.forget(handle));
            known.retain(|number, _| numbers.contains(number));
            for (position, number) in numbers.iter().enumerate() {
                let handle = handles.of(position).unwrap();
                prop_assert_eq!(*known.entry(*number).or_insert(handle), handle);
                prop_assert_eq!(handles.position(handle), Some(position));
            }
            let different: BTreeSet<_> = known.values().collect();
            prop_assert_eq!(different.len(), numbers.len());
            prop_assert_eq!(handles.of(numbers.len()), None);
        }
        prop_assert_eq!(handles.position(Handle(u16::MAX)), None);
    }

    #[test]
    fn a_client_moves_only_when_it_may_not_stay(
        visits in prop::collection::vec((0_u32..30, 0_u16..6, 0_u16..6), 1..200),
    ) {
        let memory = affinity(None, None);
        let mut expected = BTreeMap::new();
        for (now, (number, fresh, banned)) in (0..).zip(visits) {
            let fresh = if fresh == banned { (fresh + 1) % 6 } else { fresh };
            let stays = expected.get(&number).copied().filter(|old| *old != banned);
            let goes = memory.choose(client(number), at(now), |handle| handle.0 != banned, || Some(Handle(fresh)));
            let goes = goes.unwrap().0;
            prop_assert_eq!(goes, stays.unwrap_or(fresh));
            expected.insert(number, goes);
        }
    }
}
