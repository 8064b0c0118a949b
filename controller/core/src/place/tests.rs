//! Where load balancers go.

use alloc::{vec, vec::Vec};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn amphora(number: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128(number))
}

fn candidate(number: u128, load: u64, status: AmphoraStatus) -> Candidate {
    Candidate {
        amphora: amphora(number),
        load,
        status,
        zone: "a".into(),
        tenancy: Tenancy::Shared,
        network: None,
        load_balancers_max: None,
        host: "own".into(),
        host_room: None,
    }
}

fn host(name: &str, zones: &[&str], amphorae: u64) -> HostRoom {
    let zones = zones.iter().map(|&zone| zone.into()).collect();
    HostRoom::unbounded(name.into(), zones, amphorae)
}

fn deployment() -> Deployment {
    Deployment {
        zones: vec!["a".into(), "b".into()],
        load_balancers_max: 100,
        amphorae_max: 4,
        amphorae: 2,
        hosts: vec![host("own", &["a", "b"], 2)],
    }
}

fn full() -> Deployment {
    Deployment {
        amphorae: 4,
        ..deployment()
    }
}

fn in_zone(zone: &str) -> Steering {
    Steering {
        zone: Some(zone.into()),
        ..Steering::default()
    }
}

fn dedicated() -> Steering {
    Steering {
        tenancy: Tenancy::Dedicated,
        ..Steering::default()
    }
}

fn new(zone: &str) -> Choice {
    Choice::New {
        zone: zone.into(),
        host: "own".into(),
    }
}

const SERVES: AmphoraStatus = AmphoraStatus::Allocated;

fn chosen(wish: &Steering, candidates: &[Candidate], deployment: &Deployment) -> Choice {
    let chosen = choose(Wish::on_hosts(wish), candidates, deployment);
    let mut backwards = candidates.to_vec();
    backwards.reverse();
    assert_eq!(
        choose(Wish::on_hosts(wish), &backwards, deployment),
        chosen,
        "the order does not matter"
    );
    chosen
}

#[test]
fn the_least_loaded_is_chosen_and_the_lowest_id_among_equals() {
    let any = Steering::default();
    for (loads, best) in [([(1, 5), (2, 4)], 2), ([(2, 4), (1, 4)], 1)] {
        let candidates = loads.map(|(number, load)| candidate(number, load, SERVES));
        assert_eq!(
            chosen(&any, &candidates, &deployment()),
            Choice::Existing(amphora(best))
        );
    }
}

#[test]
fn one_that_serves_is_better_than_one_that_boots_and_a_new_one_better_than_a_silent_one() {
    let any = Steering::default();
    let (booting, silent) = (
        candidate(1, 0, AmphoraStatus::Booting),
        candidate(2, 0, AmphoraStatus::Error),
    );
    let busy = candidate(3, 99, SERVES);
    assert_eq!(
        chosen(
            &any,
            &[booting.clone(), silent.clone(), busy],
            &deployment()
        ),
        Choice::Existing(amphora(3))
    );
    assert_eq!(
        chosen(&any, &[booting, silent.clone()], &deployment()),
        Choice::Existing(amphora(1))
    );
    let silent = [silent];
    assert_eq!(chosen(&any, &silent, &deployment()), new("a"));
    assert_eq!(
        chosen(&any, &silent, &full()),
        Choice::Existing(amphora(2)),
        "better than none"
    );
    let leaving = Steering {
        avoid: Some(amphora(9)),
        ..any
    };
    assert_eq!(
        chosen(&leaving, &silent, &full()),
        Choice::NoRoom(NoRoom::Full { amphorae_max: 4 })
    );
}

#[test]
fn a_zone_that_is_asked_for_is_kept_to() {
    let here = candidate(1, 0, SERVES);
    let there = Candidate {
        zone: "b".into(),
        ..candidate(2, 50, SERVES)
    };
    let both = [here.clone(), there];
    assert_eq!(
        chosen(&in_zone("b"), &both, &full()),
        Choice::Existing(amphora(2))
    );
    assert_eq!(chosen(&in_zone("b"), &[here], &deployment()), new("b"));
    let bare = NoRoom::NoAddress {
        reason: "the subnet is full".into(),
    };
    assert_eq!(bare.code(), "no_address");
    assert!(bare.sentence().ends_with("the subnet is full"));
    let nowhere = NoRoom::NoSuchZone("c".into());
    assert_eq!(
        chosen(&in_zone("c"), &both, &deployment()),
        Choice::NoRoom(nowhere)
    );
}

#[test]
fn a_zone_that_is_no_more_gets_nothing_new() {
    let former = Candidate {
        zone: "z".into(),
        ..candidate(1, 0, SERVES)
    };
    assert_eq!(
        chosen(&Steering::default(), &[former], &deployment()),
        new("a")
    );
}

#[test]
fn a_dedicated_one_is_shared_with_nobody() {
    let own = |number, load| Candidate {
        tenancy: Tenancy::Dedicated,
        ..candidate(number, load, SERVES)
    };
    let shared = candidate(1, 0, SERVES);
    assert_eq!(
        chosen(&dedicated(), &[shared.clone(), own(2, 1)], &deployment()),
        new("b"),
        "the zone with fewer"
    );
    assert_eq!(
        chosen(&dedicated(), &[shared, own(2, 0)], &full()),
        Choice::Existing(amphora(2))
    );
    let mut bounded = dedicated();
    bounded.allotment.memory_mib = Some(128);
    assert_eq!(
        chosen(&bounded, &[own(2, 0)], &deployment()),
        new("a"),
        "what was another's is not held to what this one may take from the first moment on"
    );
    assert_eq!(
        chosen(&Steering::default(), &[own(2, 0)], &full()),
        Choice::NoRoom(NoRoom::Full { amphorae_max: 4 })
    );
}

#[test]
fn the_tightest_of_all_limits_counts() {
    let wish = |most| Steering {
        load_balancers_max: most,
        ..Steering::default()
    };
    // The wish's limit, that of those there, the load; whether there is room.
    for (own, theirs, load, room) in [
        (None, None, 99, true),
        (None, None, 100, false),
        (Some(3), None, 2, true),
        (Some(3), None, 3, false),
        (Some(3), Some(2), 1, true),
        (Some(3), Some(2), 2, false),
        (Some(200), None, 100, false),
        (Some(1), None, 0, true),
    ] {
        let there = Candidate {
            load_balancers_max: theirs,
            ..candidate(1, load, SERVES)
        };
        let choice = chosen(&wish(own), &[there], &deployment());
        let expected = if room {
            Choice::Existing(amphora(1))
        } else {
            new("b")
        };
        assert_eq!(choice, expected, "{own:?} {theirs:?} {load}");
    }
}

#[test]
fn what_leaves_an_amphora_does_not_come_back_to_it() {
    let wish = Steering {
        avoid: Some(amphora(1)),
        ..Steering::default()
    };
    let candidates = [candidate(1, 0, SERVES), candidate(2, 9, SERVES)];
    assert_eq!(
        chosen(&wish, &candidates, &deployment()),
        Choice::Existing(amphora(2))
    );
    assert_eq!(chosen(&wish, &candidates[..1], &deployment()), new("a"));
}

#[test]
fn every_reason_has_a_code_and_a_sentence() {
    let full = NoRoom::Full { amphorae_max: 4 };
    assert_eq!(full.code(), "no_capacity");
    assert!(full.sentence().contains('4'));
    let nowhere = NoRoom::NoSuchZone("c".into());
    assert_eq!(nowhere.code(), "no_such_zone");
    assert!(nowhere.sentence().contains("\"c\""));
}

#[test]
fn on_a_network_of_tenants_a_new_amphora_goes_where_that_can_be_had() {
    let steering = Steering::default();
    let wish = |network: u128| Wish {
        steering: &steering,
        network: Some(Uuid::from_u128(network)),
    };
    let with = |hosts: &[HostRoom]| Deployment {
        hosts: hosts.to_vec(),
        ..deployment()
    };
    let bare = |name: &str, amphorae| HostRoom {
        obstacle: Some(format!("{name} builds none")),
        ..host(name, &["a"], amphorae)
    };
    let hosts = [bare("x", 0), host("y", &["a"], 7)];
    let on_y = Choice::New {
        zone: "a".into(),
        host: "y".into(),
    };
    assert_eq!(choose(wish(1), &[], &with(&hosts)), on_y);
    let Choice::NoRoom(no_room) = choose(wish(1), &[], &with(&hosts[..1])) else {
        panic!("a host that cannot have it got it");
    };
    assert_eq!(no_room.code(), "no_host_builds_network");
    assert!(no_room.sentence().ends_with("tenants: x builds none"));
    let many: Vec<HostRoom> = ["p", "q", "r", "s", "t"].map(|name| bare(name, 0)).into();
    let Choice::NoRoom(no_room) = choose(wish(1), &[], &with(&many)) else {
        panic!("a host that cannot have it got it");
    };
    let sentence = no_room.sentence();
    assert!(
        sentence.ends_with("r builds none; and 2 more"),
        "{sentence}"
    );
    // Where there is no room nobody asks what else is in the way.
    let mut full = bare("x", 3);
    full.amphorae_max = Some(3);
    let no_host = Choice::NoRoom(NoRoom::NoHost { zone: None });
    assert_eq!(choose(wish(1), &[], &with(&[full])), no_host);
    // On hosts' own networks all are as good.
    assert!(
        matches!(chosen(&steering, &[], &with(&hosts)), Choice::New { host, .. } if host == "x")
    );
}

fn zone() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(Into::into)
}

#[test]
fn a_new_amphora_goes_to_the_host_of_the_zone_that_has_the_fewest_and_room() {
    let with = |hosts: Vec<HostRoom>| Deployment {
        hosts,
        ..deployment()
    };
    let on = |name: &str| Choice::New {
        zone: "b".into(),
        host: name.into(),
    };
    let hosts = vec![
        host("x", &["a"], 0),
        host("y", &["a", "b"], 3),
        host("z", &["b"], 1),
    ];
    assert_eq!(chosen(&in_zone("b"), &[], &with(hosts.clone())), on("z"));
    let mut full = hosts.clone();
    full[2].amphorae_max = Some(1);
    assert_eq!(chosen(&in_zone("b"), &[], &with(full)), on("y"));
    let mut laden = hosts;
    laden[2].room = Some(0);
    assert_eq!(chosen(&in_zone("b"), &[], &with(laden)), on("y"));
    let no_host = Choice::NoRoom(NoRoom::NoHost {
        zone: Some("b".into()),
    });
    let elsewhere = with(vec![host("x", &["a"], 0)]);
    assert_eq!(chosen(&in_zone("b"), &[], &elsewhere), no_host);
    // Who asks for no zone goes where there is a host.
    assert_eq!(
        chosen(&Steering::default(), &[], &elsewhere),
        Choice::New {
            zone: "a".into(),
            host: "x".into()
        }
    );
}

#[test]
fn a_host_that_has_its_fill_gets_no_more_load_balancers() {
    let on = |number, load, name: &str, host_room| Candidate {
        host: name.into(),
        host_room,
        ..candidate(number, load, SERVES)
    };
    let any = Steering::default();
    let candidates = [on(1, 2, "x", Some(0)), on(2, 9, "y", Some(1))];
    let found = chosen(&any, &candidates, &deployment());
    assert_eq!(found, Choice::Existing(amphora(2)));
}

fn tenancy() -> impl Strategy<Value = Tenancy> {
    prop::sample::select(vec![Tenancy::Shared, Tenancy::Dedicated])
}

fn status() -> impl Strategy<Value = AmphoraStatus> {
    prop::sample::select(vec![
        AmphoraStatus::Booting,
        AmphoraStatus::Allocated,
        AmphoraStatus::Error,
    ])
}

#[test]
fn on_a_network_of_tenants_each_has_an_amphora_of_its_own_there() {
    let network = |number: u128| Some(Uuid::from_u128(number));
    let lives_on = |number, on, load| Candidate {
        tenancy: Tenancy::Dedicated,
        network: on,
        ..candidate(number, load, SERVES)
    };
    let there = [
        candidate(1, 0, SERVES),
        lives_on(2, None, 0),
        lives_on(3, network(8), 0),
        lives_on(4, network(7), 1),
    ];
    let shared = Steering::default();
    let wish = Wish {
        steering: &shared,
        network: network(7),
    };
    assert_eq!(wish.tenancy(), Tenancy::Dedicated);
    assert_eq!(choose(wish, &there, &deployment()), new("b"));
    let free = [there.to_vec(), vec![lives_on(5, network(7), 0)]].concat();
    assert_eq!(
        choose(wish, &free, &deployment()),
        Choice::Existing(amphora(5))
    );
    // And nobody else goes there.
    assert_eq!(
        choose(Wish::on_hosts(&dedicated()), &free, &deployment()),
        Choice::Existing(amphora(2))
    );
    assert_eq!(
        choose(Wish::on_hosts(&shared), &free, &deployment()),
        Choice::Existing(amphora(1))
    );
}

prop_compose! {
    fn candidates()(found in prop::collection::btree_map(
        0..8_u128,
        (0..6_u64, status(), zone(), tenancy(), prop::option::of(1..6_u32)),
        0..6,
    )) -> Vec<Candidate> {
        let candidate = |(number, (load, status, zone, tenancy, load_balancers_max))| Candidate {
            amphora: amphora(number),
            // Nobody agreed to anything on an empty one.
            load_balancers_max: if load == 0 { None } else { load_balancers_max },
            load,
            status,
            zone,
            tenancy,
            host: "own".into(),
            host_room: None,
            network: None,
        };
        found.into_iter().map(candidate).collect()
    }
}

prop_compose! {
    fn wishes()(
        zone in prop::option::of(zone()),
        tenancy in tenancy(),
        load_balancers_max in prop::option::of(1..6_u32),
        avoid in prop::option::of(0..8_u128),
    ) -> Steering {
        Steering { zone, tenancy, load_balancers_max, avoid: avoid.map(amphora), ..Steering::default() }
    }
}

proptest! {
    #[test]
    fn whatever_is_chosen_keeps_every_promise(
        wish in wishes(),
        candidates in candidates(),
        spare in 0..3_u64,
    ) {
        let amphorae = candidates.len() as u64;
        let deployment = Deployment {
            zones: vec!["a".into(), "b".into()],
            load_balancers_max: 4,
            amphorae_max: amphorae + spare,
            amphorae,
            hosts: vec![host("own", &["a", "b"], amphorae)],
        };
        match chosen(&wish, &candidates, &deployment) {
            Choice::Existing(id) => {
                let found = candidates.iter().find(|candidate| candidate.amphora == id).unwrap();
                prop_assert_eq!(found.tenancy, wish.tenancy);
                prop_assert_ne!(Some(id), wish.avoid);
                prop_assert!(wish.zone.as_ref().is_none_or(|zone| *zone == found.zone));
                let most = [Some(4), wish.load_balancers_max, found.load_balancers_max];
                match wish.tenancy {
                    Tenancy::Dedicated => prop_assert_eq!(found.load, 0),
                    Tenancy::Shared => {
                        prop_assert!(most.into_iter().flatten().all(|most| found.load < u64::from(most)));
                    }
                }
            }
            Choice::New { zone, .. } => {
                prop_assert!(spare > 0);
                prop_assert!(deployment.zones.contains(&zone));
                prop_assert!(wish.zone.is_none_or(|wanted| wanted == zone));
            }
            Choice::NoRoom(NoRoom::NoSuchZone(zone)) => prop_assert_eq!(Some(zone), wish.zone),
            Choice::NoRoom(NoRoom::Full { .. }) => prop_assert_eq!(spare, 0),
            Choice::NoRoom(NoRoom::NoHost { .. } | NoRoom::OneHost | NoRoom::NoBuilder { .. } | NoRoom::NoAddress { .. }) => {
                prop_assert!(false, "there is a host");
            }
        }
    }
}
