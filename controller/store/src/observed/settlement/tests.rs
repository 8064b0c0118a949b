//! Tests of what is known of load balancers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::Generation;
use krater_controller_core::{
    query::ResourceId,
    status::{OperatingStatus, ProvisioningStatus, Reason},
    tree::TreeView,
};

use super::{Due, Kept, Outcome, SKEW_MAX, Settled, Settlement};
use crate::{Committed, Store, fixture::*};

async fn store_with(load_balancers: u32) -> Store {
    let store = new_store(module_path!()).await;
    for lb in 0..load_balancers {
        assert_eq!(
            store.apply(&creation(tree(lb, 2))).await.unwrap(),
            Committed::Done
        );
    }
    store
}

fn settlement(lb: u32, generation: Generation, outcome: Outcome) -> Settlement {
    Settlement {
        load_balancer: lb_id(lb),
        generation,
        outcome,
        errors: BTreeMap::new(),
        due_at: None,
        attempts: 0,
    }
}

fn reason() -> Reason {
    Reason {
        code: "port_in_use".into(),
        message: "taken".into(),
        step: "bind".into(),
        heals: true,
    }
}

async fn view(store: &Store, lb: u32) -> TreeView {
    store
        .view(ResourceId::LoadBalancer(lb_id(lb)))
        .await
        .unwrap()
        .unwrap()
}

async fn due(store: &Store, now: Timestamp) -> Vec<Due> {
    store.due(now, 100).await.unwrap()
}

#[tokio::test]
async fn what_has_not_settled_is_due_and_reads_pending_until_it_has() {
    let store = store_with(2).await;
    let all = [0, 1].map(|lb| Due {
        load_balancer: lb_id(lb),
        attempts: 0,
    });
    assert_eq!(due(&store, at(0)).await, all);
    let first = Generation::FIRST;
    assert_eq!(
        store
            .settle(&settlement(0, first, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    assert_eq!(due(&store, at(0)).await, [all[1]]);
    let seen = view(&store, 0).await;
    let status = seen.provisioning_status(lb_id(0).uuid(), &seen.tree.load_balancer);
    assert_eq!(status, ProvisioningStatus::Active);
    assert!(view(&store, 1).await.is_pending());
}

#[tokio::test]
async fn a_failure_keeps_its_reason_and_comes_due_again_the_longest_waiting_first() {
    let store = store_with(3).await;
    for (lb, due_us) in [(0, 300), (1, 200), (2, 900)] {
        let failed = Settlement {
            errors: BTreeMap::from([(listener_id(lb, 0).uuid(), reason())]),
            due_at: Some(at(due_us)),
            attempts: 3 + lb,
            ..settlement(lb, Generation::FIRST, Outcome::Failed)
        };
        assert_eq!(store.settle(&failed).await.unwrap(), Settled::Done);
    }
    assert_eq!(due(&store, at(100)).await, []);
    let expected = [
        Due {
            load_balancer: lb_id(1),
            attempts: 4,
        },
        Due {
            load_balancer: lb_id(0),
            attempts: 3,
        },
    ];
    assert_eq!(due(&store, at(300)).await, expected);
    assert_eq!(store.due(at(300), 1).await.unwrap(), expected[..1]);
    let seen = view(&store, 0).await;
    assert_eq!(seen.reason(listener_id(0, 0).uuid()), Some(&reason()));
    let status = seen.provisioning_status(listener_id(0, 0).uuid(), &seen.tree.listeners[0]);
    assert_eq!(status, ProvisioningStatus::Error);

    // It healed: nothing is due, nothing is wrong.
    assert_eq!(
        store
            .settle(&settlement(0, Generation::FIRST, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    assert!(view(&store, 0).await.observed.errors.is_empty());
    assert_eq!(due(&store, at(300)).await, expected[..1]);
}

#[tokio::test]
async fn a_settled_generation_never_goes_back() {
    let store = store_with(1).await;
    let change = member_deletion(tree(0, 2), 0);
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
    let second = change.tree.load_balancer.generation;
    assert_eq!(
        store
            .settle(&settlement(0, second, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    let late = Settlement {
        errors: BTreeMap::from([(lb_id(0).uuid(), reason())]),
        ..settlement(0, Generation::FIRST, Outcome::Failed)
    };
    assert_eq!(store.settle(&late).await.unwrap(), Settled::Stale);
    assert_eq!(view(&store, 0).await.observed.settled, Some(second));
    assert!(view(&store, 0).await.observed.errors.is_empty());
    assert_eq!(
        store
            .settle(&settlement(9, second, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Stale
    );
}

#[tokio::test]
async fn deleted_rows_go_when_their_generation_is_applied_not_before_and_not_after_a_failure() {
    let store = store_with(1).await;
    let first = member_deletion(tree(0, 2), 0);
    assert_eq!(store.apply(&first).await.unwrap(), Committed::Done);
    let second = member_deletion(first.tree.clone(), 1);
    assert_eq!(store.apply(&second).await.unwrap(), Committed::Done);
    let failed = settlement(0, first.tree.load_balancer.generation, Outcome::Failed);
    assert_eq!(store.settle(&failed).await.unwrap(), Settled::Done);
    assert_eq!(view(&store, 0).await.tree.members.len(), 2);
    let applied = Settlement {
        outcome: Outcome::Applied,
        ..failed
    };
    assert_eq!(store.settle(&applied).await.unwrap(), Settled::Done);
    let members = view(&store, 0).await.tree.members;
    assert_eq!(
        members.iter().map(|row| row.value.id).collect::<Vec<_>>(),
        [member_id(0, 1)]
    );
    let applied = settlement(0, second.tree.load_balancer.generation, Outcome::Applied);
    assert_eq!(store.settle(&applied).await.unwrap(), Settled::Done);
    assert_eq!(view(&store, 0).await.tree.members, []);
}

#[tokio::test]
async fn settling_a_deletion_leaves_the_load_balancer_until_it_is_forgotten() {
    let store = store_with(1).await;
    let change = deletion(tree(0, 2));
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
    let applied = settlement(0, change.tree.load_balancer.generation, Outcome::Applied);
    assert_eq!(store.settle(&applied).await.unwrap(), Settled::Done);
    assert_eq!(view(&store, 0).await.tree.members.len(), 2);
    store.forget(lb_id(0)).await.unwrap();
    assert_eq!(due(&store, at(i64::MAX / 2_000_000)).await, []);
}

#[tokio::test]
async fn what_is_due_later_than_anybody_waits_was_written_by_a_clock_that_was_ahead() {
    let store = store_with(2).await;
    let skew = i64::try_from(SKEW_MAX.as_micros()).unwrap();
    for (lb, due_us) in [(0, skew), (1, skew + 1)] {
        let failed = Settlement {
            due_at: Some(at(due_us)),
            ..settlement(lb, Generation::FIRST, Outcome::Failed)
        };
        assert_eq!(store.settle(&failed).await.unwrap(), Settled::Done);
    }
    let found = due(&store, at(0)).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].load_balancer, lb_id(1));
    for lb in [0, 1] {
        let again = (lb == 1).then_some(at(7));
        store.note_looked_at(lb_id(lb), at(0), again).await.unwrap();
    }
    assert_eq!(due(&store, at(0)).await, []);
    assert_eq!(due(&store, at(7)).await[0].load_balancer, lb_id(1));
    store.note_looked_at(lb_id(1), at(8), None).await.unwrap();
    assert_eq!(due(&store, at(9)).await, []);
    let again = Some(at(9));
    store.note_looked_at(lb_id(1), at(8), again).await.unwrap();
    assert_eq!(due(&store, at(9)).await[0].load_balancer, lb_id(1));
    store.note_looked_at(lb_id(1), at(9), None).await.unwrap();
    assert_eq!(due(&store, at(skew)).await[0].load_balancer, lb_id(0));
    // The same for how things work.
    let statuses = |status| BTreeMap::from([(lb_id(0).uuid(), status)]);
    let put = async |status, as_of: i64, now: i64| {
        let statuses = statuses(status);
        let put = store.put_operating(lb_id(0), &statuses, at(as_of), at(now));
        put.await.unwrap()
    };
    let wrong = put(OperatingStatus::Error, skew + 9, skew + 9).await;
    assert_eq!(wrong, Kept::Done);
    assert_eq!(put(OperatingStatus::Online, 9, 9).await, Kept::Stale);
    let right = put(OperatingStatus::Online, 8, 8).await;
    assert_eq!(right, Kept::OverWrongClock);
    assert_eq!(put(OperatingStatus::Online, 9, 9).await, Kept::Done);
}

#[tokio::test]
async fn making_due_only_ever_brings_it_forward() {
    let store = store_with(2).await;
    for lb in [0, 1] {
        let applied = settlement(lb, Generation::FIRST, Outcome::Applied);
        assert_eq!(store.settle(&applied).await.unwrap(), Settled::Done);
    }
    store
        .make_due(&[lb_id(0), lb_id(7)], at(500))
        .await
        .unwrap();
    store.make_due(&[lb_id(0)], at(900)).await.unwrap();
    store.make_due(&[], at(0)).await.unwrap();
    assert_eq!(due(&store, at(499)).await, []);
    assert_eq!(
        due(&store, at(500)).await,
        [Due {
            load_balancer: lb_id(0),
            attempts: 0
        }]
    );
    store.make_due(&[lb_id(0)], at(100)).await.unwrap();
    assert_eq!(due(&store, at(100)).await.len(), 1);
    assert_eq!(
        store
            .settle(&settlement(0, Generation::FIRST, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    assert_eq!(due(&store, at(900)).await, []);
}

#[tokio::test]
async fn errors_are_replaced_only_under_the_generation_they_are_about() {
    let store = store_with(1).await;
    let errors = BTreeMap::from([(listener_id(0, 0).uuid(), reason())]);
    assert!(
        !store
            .put_errors(lb_id(0), Generation::FIRST, &errors, at(1), at(1))
            .await
            .unwrap(),
        "nothing settled yet"
    );
    assert_eq!(
        store
            .settle(&settlement(0, Generation::FIRST, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    assert!(
        store
            .put_errors(lb_id(0), Generation::FIRST, &errors, at(1), at(1))
            .await
            .unwrap()
    );
    assert_eq!(view(&store, 0).await.observed.errors, errors);
    assert!(
        !store
            .put_errors(
                lb_id(0),
                Generation::FIRST.next(),
                &BTreeMap::new(),
                at(1),
                at(1)
            )
            .await
            .unwrap()
    );
    assert!(
        store
            .put_errors(lb_id(0), Generation::FIRST, &BTreeMap::new(), at(1), at(1))
            .await
            .unwrap()
    );
    assert!(view(&store, 0).await.observed.errors.is_empty());
}

#[tokio::test]
async fn operating_statuses_are_replaced_whole_and_settle_nothing() {
    let store = store_with(1).await;
    let every: BTreeMap<_, _> = OperatingStatus::ALL
        .into_iter()
        .enumerate()
        .map(|(n, status)| (uuid::Uuid::from_u128(n as u128), status))
        .collect();
    store
        .put_operating(lb_id(0), &every, at(1), at(1))
        .await
        .unwrap();
    assert_eq!(view(&store, 0).await.observed.operating, every);
    assert!(view(&store, 0).await.is_pending());
    let one = BTreeMap::from([(lb_id(0).uuid(), OperatingStatus::Online)]);
    assert_eq!(
        store
            .settle(&settlement(0, Generation::FIRST, Outcome::Applied))
            .await
            .unwrap(),
        Settled::Done
    );
    store
        .put_operating(lb_id(0), &one, at(1), at(1))
        .await
        .unwrap();
    let seen = view(&store, 0).await;
    assert_eq!(
        (seen.observed.operating.clone(), seen.is_pending()),
        (one.clone(), false)
    );
    store
        .put_operating(lb_id(5), &one, at(1), at(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn whoever_knows_less_overwrites_nothing() {
    let store = store_with(1).await;
    let root = lb_id(0).uuid();
    let only = |status| BTreeMap::from([(root, status)]);
    for (status, as_of) in [
        (OperatingStatus::Online, 5),
        (OperatingStatus::Error, 4),
        (OperatingStatus::Degraded, 5),
    ] {
        store
            .put_operating(lb_id(0), &only(status), at(as_of), at(as_of))
            .await
            .unwrap();
    }
    let view = store.view(ResourceId::LoadBalancer(lb_id(0))).await;
    let operating = view.unwrap().unwrap().observed.operating;
    assert_eq!(operating, only(OperatingStatus::Degraded));
}

#[tokio::test]
async fn statuses_are_those_of_the_views_and_views_can_be_had_of_some() {
    let store = store_with(5).await;
    let one = BTreeMap::from([(lb_id(1).uuid(), OperatingStatus::Degraded)]);
    for (lb, outcome) in [(1, Outcome::Applied), (2, Outcome::Failed)] {
        let mut settlement = settlement(lb, Generation::FIRST, outcome);
        if outcome == Outcome::Failed {
            settlement.errors.insert(lb_id(lb).uuid(), reason());
        }
        assert_eq!(store.settle(&settlement).await.unwrap(), Settled::Done);
    }
    store
        .put_operating(lb_id(1), &one, at(1), at(1))
        .await
        .unwrap();
    let mut standings = store.standings().await.unwrap();
    standings.sort_by_key(|standing| standing.load_balancer);
    assert_eq!(standings.len(), 5);
    for standing in standings {
        let id = standing.load_balancer;
        let view = store.view(ResourceId::LoadBalancer(id)).await.unwrap();
        let view = view.unwrap();
        let row = &view.tree.load_balancer;
        let operating = view.observed.operating.get(&id.uuid()).copied();
        assert_eq!(
            (standing.provisioning, standing.operating),
            (
                view.provisioning_status(id.uuid(), row),
                operating.unwrap_or(OperatingStatus::Offline)
            )
        );
    }
    // One is not there.
    let ids = [4, 1, 9, 2].map(lb_id);
    let mut views = store.views_among(&ids).await.unwrap();
    views.sort_by_key(|view| view.tree.id());
    let expected = [
        view(&store, 1).await,
        view(&store, 2).await,
        view(&store, 4).await,
    ];
    let mut expected = Vec::from(expected);
    expected.sort_by_key(|view| view.tree.id());
    assert_eq!(views, expected);
    assert_eq!(store.views_among(&[]).await.unwrap(), []);
}

#[tokio::test]
async fn many_are_made_due_at_once() {
    let store = store_with(7).await;
    for lb in 0..7 {
        let settled = settlement(lb, Generation::FIRST, Outcome::Applied);
        assert_eq!(store.settle(&settled).await.unwrap(), Settled::Done);
    }
    let ids: Vec<_> = (0..7).map(lb_id).collect();
    store.make_due(&ids[..6], at(5)).await.unwrap();
    // Sooner, but not later.
    store.make_due(&ids[..1], at(9)).await.unwrap();
    assert_eq!(store.due(at(4), 100).await.unwrap(), []);
    assert_eq!(store.due(at(5), 100).await.unwrap().len(), 6);
}
