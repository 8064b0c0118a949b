//! Tests of the fleet.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::{Committed, Store, fixture::*};

fn amphora(n: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128((9 << 96) | n))
}

fn record(n: u128) -> AmphoraRecord {
    AmphoraRecord {
        id: amphora(n),
        created_at: at(100),
        agent: None,
        metrics: None,
        boot: None,
        version: None,
        pid: None,
        last_seen: None,
        zone: "local".into(),
        tenancy: Tenancy::Shared,
        fate: Fate::Stays,
        updated_at: None,
        host: "here".into(),
        network: None,
    }
}

#[tokio::test]
async fn an_amphora_is_remembered_with_all_that_was_heard_of_it_since() {
    let store = new_store(module_path!()).await;
    let fresh = record(2);
    store.put_amphora(&fresh).await.unwrap();
    assert_eq!(
        store.amphorae().await.unwrap(),
        std::slice::from_ref(&fresh)
    );
    let seen = AmphoraRecord {
        agent: Some("127.0.0.1:1".into()),
        metrics: Some("127.0.0.1:2".into()),
        boot: Some(BootId::new(Uuid::from_u128(5))),
        version: Some("0.1.0".into()),
        pid: Some(u32::MAX),
        last_seen: Some(at(200)),
        ..fresh
    };
    store.put_amphora(&seen).await.unwrap();
    store
        .put_amphora(&AmphoraRecord {
            created_at: at(50),
            ..record(3)
        })
        .await
        .unwrap();
    let ids: Vec<_> = store
        .amphorae()
        .await
        .unwrap()
        .into_iter()
        .map(|amphora| amphora.id)
        .collect();
    assert_eq!(ids, [amphora(3), amphora(2)], "oldest first");
    assert_eq!(store.amphorae().await.unwrap()[1], seen);
    store.forget_amphora(amphora(3)).await.unwrap();
    store.forget_amphora(amphora(3)).await.unwrap();
    assert_eq!(store.amphorae().await.unwrap(), [seen]);
}

fn on(n: u128) -> Placement {
    Placement {
        amphora: amphora(n),
        load_balancers_max: None,
        seat: Seat::First,
    }
}

fn sorted(placements: Vec<(LoadBalancerId, Placement)>) -> BTreeMap<LoadBalancerId, Placement> {
    placements.into_iter().collect()
}

async fn with_load_balancers(count: u32) -> Store {
    let store = new_store(module_path!()).await;
    for lb in 0..count {
        assert_eq!(
            store.apply(&creation(tree(lb, 0))).await.unwrap(),
            Committed::Done
        );
    }
    store
}

#[tokio::test]
async fn a_placement_needs_both_ends_moves_and_goes_with_either() {
    let store = with_load_balancers(3).await;
    let put = async |lb, placement| {
        store
            .put_placement(lb_id(lb), placement, None, None)
            .await
            .unwrap()
            == Put::Done
    };
    assert!(!put(0, on(1)).await);
    for n in [1, 2] {
        store.put_amphora(&record(n)).await.unwrap();
    }
    assert!(!put(9, on(1)).await);
    for lb in 0..3 {
        assert!(put(lb, on(1)).await);
    }
    let choosy = Placement {
        load_balancers_max: Some(5),
        ..on(2)
    };
    assert!(put(2, choosy).await);
    assert_eq!(
        sorted(store.placements().await.unwrap()),
        BTreeMap::from([(lb_id(0), on(1)), (lb_id(1), on(1)), (lb_id(2), choosy)])
    );
    let project = |n: u32| format!("project-{n}");
    assert_eq!(
        store.projects_of_amphorae().await.unwrap(),
        [
            (amphora(1), project(0)),
            (amphora(1), project(1)),
            (amphora(2), project(0))
        ]
    );
    assert_eq!(
        store.apply(&deletion(tree(0, 0))).await.unwrap(),
        Committed::Done
    );
    store.forget(lb_id(0)).await.unwrap();
    store.forget_amphora(amphora(2)).await.unwrap();
    assert_eq!(
        sorted(store.placements().await.unwrap()),
        BTreeMap::from([(lb_id(1), on(1))])
    );
}

#[tokio::test]
async fn who_moves_has_left_until_the_old_place_let_go_or_is_no_more() {
    let store = with_load_balancers(1).await;
    let put = async |n| {
        let put = store.put_placement(lb_id(0), on(n), None, None);
        put.await.unwrap() == Put::Done
    };
    for n in [1, 2, 3] {
        store.put_amphora(&record(n)).await.unwrap();
    }
    assert!(put(1).await);
    assert!(put(1).await);
    assert_eq!(store.departures().await.unwrap(), []);
    assert!(put(2).await);
    assert!(put(3).await);
    let left = |n| (lb_id(0), amphora(n));
    assert_eq!(store.departures().await.unwrap(), [left(1), left(2)]);
    assert!(put(1).await);
    assert_eq!(store.departures().await.unwrap(), [left(2), left(3)]);
    store.forget_departure(lb_id(0), amphora(2)).await.unwrap();
    store.forget_departure(lb_id(0), amphora(2)).await.unwrap();
    assert_eq!(store.departures().await.unwrap(), [left(3)]);
    store.forget_amphora(amphora(3)).await.unwrap();
    assert_eq!(store.departures().await.unwrap(), []);
}

#[tokio::test]
async fn a_new_amphora_is_remembered_with_whom_it_is_for_or_not_at_all() {
    let store = with_load_balancers(1).await;
    let new = AmphoraRecord {
        zone: "north".into(),
        tenancy: Tenancy::Dedicated,
        ..record(7)
    };
    let put = async |lb| {
        let put = store.put_placement(lb_id(lb), on(7), Some(&new), None);
        put.await.unwrap()
    };
    assert_eq!(put(9).await, Put::Gone);
    assert_eq!(store.amphorae().await.unwrap(), []);
    assert_eq!(put(0).await, Put::Done);
    let there = store.amphorae().await.unwrap();
    assert_eq!(there, std::slice::from_ref(&new));
}

#[tokio::test]
async fn what_is_to_go_stays_so() {
    let store = new_store(module_path!()).await;
    let going = AmphoraRecord {
        fate: Fate::Retires,
        updated_at: Some(at(300)),
        ..record(1)
    };
    store.put_amphora(&record(1)).await.unwrap();
    store.put_amphora(&going).await.unwrap();
    store.put_amphora(&record(1)).await.unwrap();
    assert_eq!(store.amphorae().await.unwrap()[0].fate, Fate::Retires);
}

#[tokio::test]
async fn of_those_who_place_at_the_same_moment_some_are_told_to_look_again() {
    let store = with_load_balancers(3).await;
    let terms = |from: Option<u128>| PutTerms {
        from: from.map(amphora),
        load_balancers_max: 2,
        amphorae_max: 2,
        host: HostTerms::default(),
    };
    let put = async |lb, n, from| {
        let put = store.put_placement(lb_id(lb), on(n), None, Some(terms(from)));
        put.await.unwrap()
    };
    store.put_amphora(&record(1)).await.unwrap();
    assert_eq!(put(0, 1, None).await, Put::Done);
    assert_eq!(put(0, 1, None).await, Put::LostRace, "it has a place now");
    assert_eq!(put(1, 1, None).await, Put::Done);
    assert_eq!(put(2, 1, None).await, Put::LostRace, "the amphora is full");
    let new = |n: u128, lb: u32| {
        let (store, new) = (store.clone(), record(n));
        async move {
            let put = store.put_placement(lb_id(lb), on(n), Some(&new), Some(terms(None)));
            put.await.unwrap()
        }
    };
    assert_eq!(new(2, 2).await, Put::Done);
    assert_eq!(put(0, 2, Some(1)).await, Put::Done);
    let carried = store.carried(amphora(1)).await.unwrap();
    assert_eq!(
        (carried.placed, carried.leaving),
        (vec![lb_id(1)], vec![lb_id(0)])
    );
    store.forget_departure(lb_id(0), amphora(1)).await.unwrap();
    assert_eq!(
        store.whereabouts(lb_id(0)).await.unwrap(),
        Whereabouts {
            placements: vec![on(2)],
            departures: Vec::new()
        }
    );
    let carried = store.carried(amphora(1)).await.unwrap();
    assert_eq!(carried.placed, [lb_id(1)]);
    assert_eq!(carried.leaving, []);
    store.note_retiring(amphora(1), at(7)).await.unwrap();
    let terms = Some(terms(Some(2)));
    let put = store.put_placement(lb_id(2), on(1), None, terms);
    assert_eq!(put.await.unwrap(), Put::Gone, "it is to go");
    for (wanted, most, most_there, is_added, why) in [
        (5, 2, None, false, "there are as many as there may be"),
        (1, 9, None, false, "the zone has its one"),
        (
            2,
            9,
            Some(2),
            false,
            "there are as many as there may be on the host",
        ),
        (2, 9, Some(3), true, "nothing is against it"),
    ] {
        let third = record(3);
        let put = store.put_amphora_if_fewer(&third, wanted, most, most_there);
        assert_eq!(put.await.unwrap(), is_added, "{why}");
    }
}

#[tokio::test]
async fn what_was_heard_later_stays() {
    let store = new_store(module_path!()).await;
    store.put_amphora(&record(1)).await.unwrap();
    let heard = |us, boot: u128| Heard {
        amphora: amphora(1),
        at: at(us),
        run: Some((BootId::new(Uuid::from_u128(boot)), "1.0".to_owned(), 7)),
    };
    for (us, boot) in [(5, 1), (4, 2), (6, 1)] {
        store.note_heard(&[heard(us, boot)]).await.unwrap();
    }
    let found = store.amphorae().await.unwrap();
    assert_eq!(found[0].last_seen, Some(at(6)));
    assert_eq!(found[0].boot, Some(BootId::new(Uuid::from_u128(1))));
    assert_eq!(found[0].updated_at, Some(at(5)));
}

#[tokio::test]
async fn many_are_heard_of_at_once_each_as_it_was() {
    let store = new_store(module_path!()).await;
    for n in 1..=7 {
        store.put_amphora(&record(n)).await.unwrap();
    }
    let heard = |n: u32| Heard {
        amphora: amphora(n.into()),
        at: at(n.into()),
        run: n.is_multiple_of(2).then(|| {
            let boot = BootId::new(Uuid::from_u128(n.into()));
            (boot, "1.0".to_owned(), n)
        }),
    };
    // One of them is not known.
    let all: Vec<_> = (1..=8).map(heard).collect();
    store.note_heard(&all).await.unwrap();
    let found = store.amphorae().await.unwrap();
    assert_eq!(found.len(), 7);
    for record in found {
        let heard = all.iter().find(|heard| heard.amphora == record.id).unwrap();
        assert_eq!(record.last_seen, Some(heard.at));
        assert_eq!(record.pid, heard.run.as_ref().map(|(.., pid)| *pid));
    }
}

#[tokio::test]
async fn of_two_places_each_moves_alone_and_neither_to_where_the_other_is() {
    let store = with_load_balancers(1).await;
    for n in 1..=3 {
        store.put_amphora(&record(n)).await.unwrap();
    }
    let second = |n| Placement {
        seat: Seat::Second,
        ..on(n)
    };
    let put = async |placement| {
        let put = store.put_placement(lb_id(0), placement, None, None);
        put.await.unwrap() == Put::Done
    };
    assert!(put(on(1)).await && put(second(2)).await);
    assert!(!put(second(1)).await && !put(on(2)).await);
    assert!(put(second(3)).await);
    let there = |departures| Whereabouts {
        placements: vec![on(1), second(3)],
        departures,
    };
    let whereabouts = async || store.whereabouts(lb_id(0)).await.unwrap();
    assert_eq!(whereabouts().await, there(vec![amphora(2)]));
    store.forget_departure(lb_id(0), amphora(2)).await.unwrap();
    assert_eq!(whereabouts().await, there(Vec::new()));
    assert_eq!(store.placements().await.unwrap().len(), 2);
    assert_eq!(store.projects_of_amphorae().await.unwrap().len(), 2);
    // Both count where they are.
    let terms = |from| {
        Some(PutTerms {
            from,
            load_balancers_max: 1,
            amphorae_max: 9,
            host: HostTerms::default(),
        })
    };
    let stale = store.put_placement(lb_id(0), second(2), None, terms(Some(amphora(2))));
    assert_eq!(stale.await.unwrap(), Put::LostRace);
    let fresh = store.put_placement(lb_id(0), second(2), None, terms(Some(amphora(3))));
    assert_eq!(fresh.await.unwrap(), Put::Done);
    store.forget_amphora(amphora(2)).await.unwrap();
    assert_eq!(whereabouts().await.placements, [on(1)]);
}

#[tokio::test]
async fn a_host_is_not_filled_beyond_its_limits_by_whoever_knows_less() {
    let store = with_load_balancers(3).await;
    let hosted = |n: u128, host: &str| AmphoraRecord {
        host: host.to_owned(),
        ..record(n)
    };
    for (n, host) in [(1, "h"), (2, "h"), (3, "other")] {
        store.put_amphora(&hosted(n, host)).await.unwrap();
    }
    let terms = |from: Option<u128>| {
        Some(PutTerms {
            from: from.map(amphora),
            load_balancers_max: 9,
            amphorae_max: 9,
            host: HostTerms {
                load_balancers_max: Some(1),
                amphorae_max: Some(2),
            },
        })
    };
    let put = async |lb, n, from, new: Option<&AmphoraRecord>| {
        let put = store.put_placement(lb_id(lb), on(n), new, terms(from));
        put.await.unwrap()
    };
    assert_eq!(put(0, 1, None, None).await, Put::Done);
    assert_eq!(
        put(1, 2, None, None).await,
        Put::LostRace,
        "the host is full"
    );
    assert_eq!(put(1, 3, None, None).await, Put::Done);
    // Within the host it may move.
    assert_eq!(put(0, 2, Some(1), None).await, Put::Done);
    let new = hosted(4, "h");
    let put_new = put(2, 4, None, Some(&new)).await;
    assert_eq!(
        put_new,
        Put::LostRace,
        "it has as many amphorae as it takes"
    );
    let new = hosted(4, "third");
    assert_eq!(put(2, 4, None, Some(&new)).await, Put::Done);
}
