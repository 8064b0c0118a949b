//! Attending to load balancers: whatever dies, nothing stays pending, and what was wanted comes.

use std::{collections::BTreeSet, time::Duration};

use krater_amphora_api::{Generation, Rejection, Subject};
use krater_controller_core::{
    command::{Cascade, Command, LoadBalancerUpdate},
    model::Name,
    query::ResourceId,
    status::{OperatingStatus, ProvisioningStatus},
    tree::TreeView,
};

use super::{Reconciler, lock};
use crate::{
    clock,
    testbed::{AMPHORA, House, OTHER, new_listener},
};

mod glance;
mod pair;

fn status(view: &TreeView) -> ProvisioningStatus {
    view.provisioning_status(view.tree.id().uuid(), &view.tree.load_balancer)
}

fn operating(view: &TreeView) -> Option<OperatingStatus> {
    view.observed.operating.get(&view.tree.id().uuid()).copied()
}

fn renamed(view: &TreeView, name: &str) -> Command {
    let name = Some(Name::parse(name.to_owned()).unwrap());
    Command::UpdateLoadBalancer(
        view.tree.id(),
        LoadBalancerUpdate {
            name,
            ..LoadBalancerUpdate::default()
        },
    )
}

#[tokio::test]
async fn a_new_load_balancer_is_placed_and_in_force_and_known_to_work() {
    let house = House::build().await;
    let view = house.serving().await;
    assert_eq!(status(&view), ProvisioningStatus::Active);
    assert_eq!(operating(&view), Some(OperatingStatus::Online));
    assert_eq!(house.known.placements.of(view.tree.id()), Some(AMPHORA));
    assert_eq!(
        house.amphora.held(view.tree.id()).unwrap().generation,
        view.tree.generation()
    );
}

#[tokio::test]
async fn a_change_while_the_amphora_is_away_shows_as_error_with_a_reason_and_heals_when_it_is_back()
{
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_up(false);
    let changed = house.execute(renamed(&view, "new")).await.unwrap().view;
    assert_eq!(status(&changed), ProvisioningStatus::PendingUpdate);
    let failed = house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    let reason = failed.reason(id.uuid()).unwrap();
    assert!(
        reason.heals && reason.code == "amphora_unreachable",
        "{reason:?}"
    );
    assert_eq!(house.reconciler.behind(AMPHORA), 1);
    house.amphora.set_up(true);
    house
        .until(id, "healed", |view| {
            status(view) == ProvisioningStatus::Active
        })
        .await;
    assert_eq!(house.amphora.held(id).unwrap().name, "new");
    assert_eq!(house.reconciler.behind(AMPHORA), 0);
}

#[tokio::test]
async fn a_short_absence_of_the_amphora_is_not_noticed() {
    let house = House::build().await;
    let view = house.serving().await;
    house.amphora.set_up(false);
    house.execute(renamed(&view, "new")).await.unwrap();
    // Until it has been tried at least once.
    while house.reconciler.behind(AMPHORA) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    house.amphora.set_up(true);
    let settled = house
        .until(view.tree.id(), "settled", |view| !view.is_pending())
        .await;
    assert_eq!(status(&settled), ProvisioningStatus::Active);
}

#[tokio::test]
async fn a_refusal_shows_at_once_on_what_it_names_and_goes_when_the_amphora_takes_it() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    let listener = view.tree.listeners[0].value.id;
    let rejection = Rejection {
        subject: Subject::Listener(listener),
        reason: "too odd".to_owned(),
    };
    house
        .amphora
        .set_refusal(Some((vec![rejection], "refused".to_owned())));
    house.execute(renamed(&view, "new")).await.unwrap();
    let failed = house
        .until(id, "in error", |view| {
            view.reason(listener.uuid()).is_some()
        })
        .await;
    assert!(!failed.is_pending());
    let reason = failed.reason(listener.uuid()).unwrap();
    assert!(reason.message.contains("too odd"), "{reason:?}");
    house.amphora.set_refusal(None);
    let sweeping = tokio::spawn(std::sync::Arc::clone(&house.reconciler).sweep());
    house
        .until(id, "healed", |view| view.observed.errors.is_empty())
        .await;
    sweeping.abort();
}

#[tokio::test]
async fn an_amphora_that_lost_a_load_balancer_gets_it_again() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.lose_everything();
    house.hear(house.amphora.report(2, 1));
    let found = async {
        while house.amphora.held(id).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found)
        .await
        .expect("it never got it again");
    assert_eq!(
        status(&house.view(id).await.unwrap()),
        ProvisioningStatus::Active
    );
}

#[tokio::test]
async fn a_report_without_news_moves_nothing() {
    let house = House::build().await;
    house.serving().await;
    house.hear(house.amphora.report(1, 1));
    let before = house.amphora.pushes();
    for sequence in 2..50 {
        house.hear(house.amphora.report(1, sequence));
    }
    assert!(super::lock(&house.reconciler.flights).len() <= 1);
    assert_eq!(house.amphora.pushes(), before);
}

#[tokio::test]
async fn a_deleted_load_balancer_is_let_go_of_and_forgotten_with_its_address() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    house.until_gone(id).await;
    assert!(house.amphora.held(id).is_none());
    assert!(house.known.placements.of(id).is_none());
    assert!(
        house
            .known
            .store
            .taken_addresses()
            .await
            .unwrap()
            .is_empty()
    );
    assert!(house.known.census.counts().is_empty());
}

#[tokio::test]
async fn nothing_is_remembered_of_load_balancers_that_are_gone() {
    let house = House::build().await;
    let mut late = None;
    for round in 1..=12 {
        let view = house.serving().await;
        let id = view.tree.id();
        house.execute(renamed(&view, "other")).await.unwrap();
        house.until(id, "renamed", |view| !view.is_pending()).await;
        let sightings = &house.known.sightings;
        let report = house.amphora.report(1, 2 * round);
        sightings.take(report.clone(), &[id].into(), clock::now());
        house
            .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
            .await
            .unwrap();
        house.until_gone(id).await;
        // Written before it was let go of, and read afterwards.
        let mut old = report;
        old.sequence += 1;
        sightings.take(old.clone(), &BTreeSet::new(), clock::now());
        late = Some(old);
    }
    let mut last = late.unwrap();
    last.sequence += 1;
    last.load_balancers.clear();
    let sightings = &house.known.sightings;
    sightings.take(last, &BTreeSet::new(), clock::now());
    let of_reconciler = |reconciler: &Reconciler| {
        let by_amphora = lock(&reconciler.blocked);
        [
            lock(&reconciler.flights).len(),
            lock(&reconciler.streaks).len(),
            by_amphora.values().map(BTreeSet::len).sum(),
            lock(&reconciler.behind).len(),
            lock(&reconciler.left).len(),
            lock(&reconciler.waits).len(),
        ]
    };
    // Whoever attended to the last one is about to end.
    while of_reconciler(&house.reconciler) != [0; 6] {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(sightings.remembered(), 0);
    assert_eq!(house.known.bells.remembered(), 0);
    assert_eq!(house.vault.remembered(), 0);
    assert_eq!(house.application.turns_waited_for(), 0);
    assert!(house.known.census.counts().is_empty());
}

#[tokio::test]
async fn a_delete_while_the_amphora_is_away_shows_as_error_and_is_done_when_it_is_back() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_up(false);
    house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    house.amphora.set_up(true);
    house.until_gone(id).await;
}

#[tokio::test]
async fn a_store_that_is_older_than_the_amphora_wins() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    let newer = Generation::from_number(1_000).unwrap();
    house.amphora.hold_newer(newer);
    house.execute(renamed(&view, "restored")).await.unwrap();
    let settled = house.until(id, "settled", |view| !view.is_pending()).await;
    assert_eq!(status(&settled), ProvisioningStatus::Active);
    assert!(settled.tree.generation() > newer);
    assert_eq!(house.amphora.held(id).unwrap().name, "restored");
}

#[tokio::test]
async fn a_port_that_cannot_be_had_is_the_listeners_error_until_a_report_says_otherwise() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house
        .amphora
        .set_port_trouble(Some("address is already in use"));
    let command = Command::CreateListener(id, Box::new(new_listener(81, None)));
    let ResourceId::Listener(listener) = house.execute(command).await.unwrap().subject else {
        panic!("the subject is the listener");
    };
    let failed = house
        .until(id, "in error", |view| {
            view.reason(listener.uuid()).is_some()
        })
        .await;
    assert_eq!(status(&failed), ProvisioningStatus::Active);
    house.amphora.set_port_trouble(None);
    house.hear(house.amphora.report(1, 1));
    house
        .until(id, "healed", |view| view.observed.errors.is_empty())
        .await;
}

#[tokio::test]
async fn what_a_silent_amphora_carries_does_not_work_until_it_is_heard_of_again() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_silent(true);
    house.reconciler.poke(id, super::Urgency::Background);
    let silent = house
        .until(id, "not working", |view| {
            operating(view) == Some(OperatingStatus::Error)
        })
        .await;
    assert_eq!(status(&silent), ProvisioningStatus::Active);
    house.amphora.set_silent(false);
    house.hear(house.amphora.report(1, 1));
    house.reconciler.poke(id, super::Urgency::Background);
    house
        .until(id, "working", |view| {
            operating(view) == Some(OperatingStatus::Online)
        })
        .await;
}

#[tokio::test]
async fn what_is_pending_in_the_store_is_found_without_a_poke() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    // As if the controller had died between storing and poking.
    let krater_controller_core::tree::TreeView { tree, observed } = house.view(id).await.unwrap();
    let ids = &mut crate::chance::random_uuid;
    let change = krater_controller_core::admit::admit(
        tree,
        observed.settled,
        renamed(&view, "unsaid"),
        &krater_controller_core::rules::Rules::default(),
        ids,
        crate::clock::now(),
    )
    .unwrap();
    let committed = house.known.store.apply(&change).await.unwrap();
    assert_eq!(committed, krater_controller_store::Committed::Done);
    let sweeping = tokio::spawn(std::sync::Arc::clone(&house.reconciler).sweep());
    house.until(id, "settled", |view| !view.is_pending()).await;
    sweeping.abort();
}

#[tokio::test]
async fn nobody_waits_for_a_change_that_settled_before_it_was_poked_for() {
    let house = House::build().await;
    let id = house.serving().await.tree.id();
    house.reconciler.poke(id, super::Urgency::Tenant);
    let rested = async {
        while !super::lock(&house.reconciler.flights).is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testbed::BOUND, rested)
        .await
        .unwrap();
    assert_eq!(house.reconciler.lag(), (0, std::time::Duration::ZERO));
}

#[tokio::test]
async fn a_push_that_arrived_though_its_answer_was_lost_is_not_behind_once_reported() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_up(false);
    house.execute(renamed(&view, "unheard")).await.unwrap();
    let failed = house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    let behind = || house.reconciler.behind(crate::testbed::AMPHORA);
    assert_eq!(behind(), 1);
    let pushes = house.amphora.pushes();
    let mut report = house.amphora.report(1, 1);
    report.load_balancers[0].generation = failed.tree.generation();
    house.hear(report);
    house
        .until(id, "healed", |view| {
            status(view) == ProvisioningStatus::Active
        })
        .await;
    let caught_up = async {
        while behind() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testbed::BOUND, caught_up)
        .await
        .unwrap();
    assert_eq!(house.amphora.pushes(), pushes);
}

fn fail_over(view: &TreeView) -> Command {
    Command::FailOver(view.tree.id(), None, None)
}

#[tokio::test]
async fn a_failover_serves_elsewhere_before_the_old_place_lets_go_and_shows_as_pending() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_room_elsewhere(true);
    let told = house.execute(fail_over(&view)).await.unwrap().view;
    assert_eq!(status(&told), ProvisioningStatus::PendingUpdate);
    let moved = house.until(id, "settled", |view| !view.is_pending()).await;
    assert_eq!(status(&moved), ProvisioningStatus::Active);
    assert!(moved.tree.generation() > view.tree.generation());
    assert_eq!(house.known.placements.of(id), Some(OTHER));
    assert!(house.known.placements.departures(id).is_empty());
    assert!(house.known.store.departures().await.unwrap().is_empty());
    assert!(house.amphora.held(id).is_none());
    assert!(house.amphora.held_by(OTHER, id).unwrap().takes_over);
    assert_eq!(
        house.amphora.story(),
        [("push", AMPHORA), ("push", OTHER), ("remove", AMPHORA)]
    );
    house.execute(renamed(&moved, "later")).await.unwrap();
    house.until(id, "settled", |view| !view.is_pending()).await;
    assert!(!house.amphora.held_by(OTHER, id).unwrap().takes_over);
}

#[tokio::test]
async fn a_failover_that_is_asked_for_twice_moves_once() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_room_elsewhere(true);
    house.amphora.set_up(false);
    house.execute(fail_over(&view)).await.unwrap();
    house.execute(fail_over(&view)).await.unwrap();
    while house.known.placements.departures(id).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let again = house.execute(fail_over(&view)).await.unwrap().view;
    assert_eq!(
        again.tree.generation().number(),
        view.tree.generation().number() + 1
    );
    house.amphora.set_up(true);
    house.until(id, "settled", |view| !view.is_pending()).await;
    assert_eq!(house.known.placements.of(id), Some(OTHER));
}

#[tokio::test]
async fn without_room_elsewhere_a_failover_says_so_serves_on_and_heals() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.execute(fail_over(&view)).await.unwrap();
    let failed = house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    let reason = failed.reason(id.uuid()).unwrap();
    assert_eq!(
        (reason.code.as_str(), reason.step.as_str(), reason.heals),
        ("no_capacity", "place", true)
    );
    house.execute(renamed(&failed, "in force")).await.unwrap();
    let pushed = async {
        while house.amphora.held(id).unwrap().name != "in force" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(crate::testbed::BOUND, pushed)
        .await
        .expect("changes come into force where it is");
    house.amphora.set_room_elsewhere(true);
    house.reconciler.poke(id, super::Urgency::Background);
    house
        .until(id, "healed", |view| {
            status(view) == ProvisioningStatus::Active
        })
        .await;
    assert_eq!(house.known.placements.of(id), Some(OTHER));
}

#[tokio::test]
async fn what_is_on_an_amphora_that_is_to_go_leaves_it_though_nobody_told_it_to() {
    let house = House::build().await;
    let view = house.serving().await;
    let id = view.tree.id();
    house.amphora.set_room_elsewhere(true);
    // As if the controller had died right after it was decided.
    house.amphora.set_retiring(AMPHORA);
    house.reconciler.poke(id, super::Urgency::Background);
    let moved = house
        .until(id, "settled anew", |found| {
            !found.is_pending() && found.tree.generation() > view.tree.generation()
        })
        .await;
    assert_eq!(moved.tree.load_balancer.value.steering.avoid, Some(AMPHORA));
    assert_eq!(house.known.placements.of(id), Some(OTHER));
    assert!(house.amphora.held(id).is_none());
}
