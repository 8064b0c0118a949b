//! Many load balancers of an amphora at once: those that are as they should be are left alone, and no others.

use super::*;

/// What is left of these after a glance.
async fn rest(house: &House, views: &[TreeView]) -> Vec<krater_amphora_api::LoadBalancerId> {
    let ids: Vec<_> = views.iter().map(|view| view.tree.id()).collect();
    house.reconciler.glance(AMPHORA, &ids).await.unwrap()
}

fn take(house: &House, sequence: u64) {
    let report = house.amphora.report(1, sequence);
    let news = house.known.placements.with(AMPHORA, |placed| {
        house.known.sightings.take(report, placed, clock::now())
    });
    assert!(news.is_some());
}

#[tokio::test]
async fn only_what_is_not_as_it_should_be_is_attended_to() {
    let house = House::build().await;
    let views = [house.serving().await, house.serving().await];
    let second = views[1].tree.id();
    take(&house, 1);
    assert_eq!(rest(&house, &views).await, []);
    // It says that it works otherwise than is known.
    house.amphora.set_port_trouble(Some("taken"));
    take(&house, 2);
    assert_eq!(rest(&house, &views).await.len(), 2);
    house.amphora.set_port_trouble(None);
    take(&house, 3);
    assert_eq!(rest(&house, &views).await, []);
    lock(&house.reconciler.due).insert(second);
    assert_eq!(rest(&house, &views).await, [second]);
    lock(&house.reconciler.due).clear();
    house.amphora.set_silent(true);
    assert_eq!(rest(&house, &views).await.len(), 2);
    house.amphora.set_silent(false);
    // It has lost one.
    house.known.sightings.note_removed(AMPHORA, second);
    assert_eq!(rest(&house, &views).await, [second]);
    take(&house, 4);
    assert_eq!(rest(&house, &views).await, []);
    house.amphora.set_retiring(AMPHORA);
    assert_eq!(rest(&house, &views).await.len(), 2);
}

#[tokio::test]
async fn what_is_not_in_force_yet_or_is_gone_is_attended_to() {
    let house = House::build().await;
    let views = [house.serving().await, house.serving().await];
    let (first, second) = (views[0].tree.id(), views[1].tree.id());
    house.amphora.set_up(false);
    house.execute(renamed(&views[0], "new")).await.unwrap();
    let in_flight = lock(&house.reconciler.flights).contains_key(&first);
    assert!(in_flight);
    assert_eq!(rest(&house, &views).await, [first]);
    house.amphora.set_up(true);
    let is_active = |view: &TreeView| status(view) == ProvisioningStatus::Active;
    house.until(first, "in force", is_active).await;
    let gone = Command::DeleteLoadBalancer(second, Cascade::WithChildren);
    house.execute(gone).await.unwrap();
    house.until_gone(second).await;
    assert_eq!(rest(&house, &views).await, [second]);
}
