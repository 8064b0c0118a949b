//! Load balancers that two amphorae take turns at.

use krater_amphora_api::{
    AmphoraId, AnnouncementReport, AnnouncementState, ContractVersion, SnapshotSpec,
};

use super::*;
use crate::testbed::THIRD;

/// Two amphorae that have said where they are, and a load balancer in force on both.
async fn both() -> (House, TreeView) {
    let house = House::of_two().await;
    house.introduce(AMPHORA, 1, 1);
    house.introduce(OTHER, 2, 1);
    let view = house.serving().await;
    (house, view)
}

fn turn(spec: &SnapshotSpec) -> (u8, String, String) {
    let turn = spec.announcement.as_ref().expect("it takes turns");
    (
        turn.priority,
        turn.address.to_string(),
        turn.peers[0].to_string(),
    )
}

fn turn_of(priority: u8, own: u8, other: u8) -> (u8, String, String) {
    let at = |last: u8| format!("127.0.9.{last}");
    (priority, at(own), at(other))
}

fn places(house: &House, view: &TreeView) -> Vec<AmphoraId> {
    let places = house.known.placements.places(view.tree.id());
    places.into_iter().map(|(_, amphora)| amphora).collect()
}

#[tokio::test]
async fn both_are_told_of_each_other_and_it_settles_once_both_have_it() {
    let (house, view) = both().await;
    assert_eq!(status(&view), ProvisioningStatus::Active);
    assert_eq!(operating(&view), Some(OperatingStatus::Online));
    assert_eq!(places(&house, &view), [AMPHORA, OTHER]);
    let [first, second] = house.amphora.specs(view.tree.id(), [AMPHORA, OTHER]);
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(turn(&first), turn_of(100, 1, 2));
    assert_eq!(turn(&second), turn_of(90, 2, 1));
    let peers = |spec: &SnapshotSpec| -> Vec<_> {
        let peers = spec.session_peers.iter();
        peers.map(|peer| (peer.amphora, peer.agent)).collect()
    };
    let at = |last: u8| Some(([127, 0, 8, last], 9443).into());
    assert_eq!(peers(&first), [(OTHER, at(0xb))]);
    assert_eq!(peers(&second), [(AMPHORA, at(0xa))]);
    assert_eq!(
        (first.generation, second.generation),
        (view.tree.generation(), view.tree.generation())
    );
}

#[tokio::test]
async fn an_amphora_of_an_earlier_release_is_told_of_nobody_to_exchange_sessions_with() {
    let house = House::of_two().await;
    house.introduce(AMPHORA, 1, 1);
    house.introduce_as(OTHER, 2, 1, ContractVersion(1));
    let view = house.serving().await;
    for spec in house.amphora.specs(view.tree.id(), [AMPHORA, OTHER]) {
        assert_eq!(spec.unwrap().session_peers, []);
    }
}

#[tokio::test]
async fn nothing_is_in_force_before_it_is_known_where_both_are() {
    let house = House::of_two().await;
    house.introduce(AMPHORA, 1, 1);
    let new = Box::new(house.new_load_balancer());
    let created = house.execute(Command::CreateLoadBalancer(new)).await;
    let id = created.unwrap().view.tree.id();
    house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    assert_eq!(house.amphora.specs(id, [AMPHORA, OTHER]), [None, None]);
    house.introduce(OTHER, 2, 1);
    house.reconciler.poke(id, super::super::Urgency::Background);
    house
        .until(id, "healed", |view| {
            status(view) == ProvisioningStatus::Active
        })
        .await;
}

#[tokio::test]
async fn a_failover_moves_one_after_the_other_and_never_both_at_once() {
    let (house, view) = both().await;
    let id = view.tree.id();
    house.amphora.set_room_for_three(true);
    house.introduce(THIRD, 3, 1);
    let before = house.amphora.story().len();
    house.execute(fail_over(&view)).await.unwrap();
    let moved = house
        .until(id, "moved twice", |found| {
            let steering = &found.tree.load_balancer.value.steering;
            !found.is_pending() && steering.avoid == Some(AMPHORA) && steering.avoid_then.is_none()
        })
        .await;
    assert_eq!(status(&moved), ProvisioningStatus::Active);
    // The second went to the third one, and then the first to where the second had been.
    assert_eq!(places(&house, &moved), [OTHER, THIRD]);
    let [left, first, second] = house.amphora.specs(id, [AMPHORA, OTHER, THIRD]);
    assert_eq!(left, None);
    assert_eq!(turn(&first.unwrap()), turn_of(100, 2, 3));
    assert_eq!(turn(&second.unwrap()), turn_of(90, 3, 2));
    let story = house.amphora.story();
    let removed: Vec<_> = story[before..]
        .iter()
        .filter(|(deed, _)| *deed == "remove")
        .map(|(_, amphora)| *amphora)
        .collect();
    assert_eq!(removed, [OTHER, AMPHORA]);
}

/// What one says of its turn.
const fn turn_is(
    state: AnnouncementState,
    since_ms: Option<u64>,
    aside: bool,
) -> AnnouncementReport {
    AnnouncementReport {
        state,
        since_ms,
        aside,
        reason: None,
    }
}

const fn active(since_ms: u64) -> AnnouncementReport {
    turn_is(AnnouncementState::Active, Some(since_ms), false)
}

fn look(house: &House, view: &TreeView) {
    let urgency = super::super::Urgency::Background;
    house.reconciler.poke(view.tree.id(), urgency);
}

/// Who was told to stand aside, or to do so no longer.
fn told(house: &House) -> Vec<(&'static str, AmphoraId)> {
    let mut story = house.amphora.story();
    story.retain(|(deed, _)| ["aside", "go on"].contains(deed));
    story
}

#[tokio::test]
async fn of_two_that_do_not_hear_each_other_one_stands_aside_until_the_other_one_lets_go() {
    let (house, view) = both().await;
    let becomes = async |wanted: &[(&'static str, AmphoraId)]| {
        let ends = async {
            while !told(&house).ends_with(wanted) {
                look(&house, &view);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ends = tokio::time::timeout(Duration::from_secs(20), ends).await;
        assert!(
            ends.is_ok(),
            "{wanted:?} is not the end of {:?}",
            told(&house)
        );
    };
    house.say((AMPHORA, 1), 2, &active(1));
    house.say((OTHER, 2), 2, &active(2));
    // Not for what is so with each change of turns, nor for what one said that may hang since.
    for _ in 0..30 {
        look(&house, &view);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told(&house), []);
    house.say((AMPHORA, 1), 3, &active(1));
    house.say((OTHER, 2), 3, &active(2));
    // The one that had them before.
    becomes(&[("aside", AMPHORA)]).await;
    let standby = |aside| turn_is(AnnouncementState::Standby, None, aside);
    house.say((AMPHORA, 1), 4, &standby(true));
    becomes(&[("aside", AMPHORA), ("aside", AMPHORA)]).await;
    let down = turn_is(AnnouncementState::Down, None, false);
    house.say((OTHER, 2), 4, &down);
    becomes(&[("go on", AMPHORA)]).await;
    let before = told(&house).len();
    house.say((AMPHORA, 1), 5, &active(3));
    house.say((OTHER, 2), 5, &standby(false));
    look(&house, &view);
    house
        .until(view.tree.id(), "looked at", |view| !view.is_pending())
        .await;
    assert!(told(&house)[before..].iter().all(|deed| deed.0 == "go on"));
}

#[tokio::test]
async fn nobody_is_told_to_stand_aside_where_one_is_of_an_earlier_release() {
    let (house, view) = both().await;
    let earlier = ContractVersion(1);
    for round in 2..34 {
        house.say((AMPHORA, 1), round, &active(1));
        house.say_as((OTHER, 2), round, &active(2), earlier);
        look(&house, &view);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(told(&house), []);
}

#[tokio::test]
async fn one_that_is_told_to_leave_stays_until_the_other_one_has_arrived() {
    let (house, view) = both().await;
    let id = view.tree.id();
    house.amphora.set_room_for_three(true);
    let leave = |from| Command::FailOver(id, Some(from), None);
    house.execute(leave(OTHER)).await.unwrap();
    let on_third = |_: &TreeView| places(&house, &view) == [AMPHORA, THIRD];
    house.until(id, "on the third one", on_third).await;
    // Nobody knows where that one is, so it has nothing yet.
    house.execute(leave(AMPHORA)).await.unwrap();
    house
        .until(id, "in error", |found| {
            status(found) == ProvisioningStatus::Error
        })
        .await;
    assert_eq!(places(&house, &view), [AMPHORA, THIRD]);
    let [first, third] = house.amphora.specs(id, [AMPHORA, THIRD]);
    assert!(first.is_some() && third.is_none());
    house.introduce(THIRD, 3, 1);
    house.reconciler.poke(id, super::super::Urgency::Background);
    let moved = house
        .until(id, "moved", |found| {
            status(found) == ProvisioningStatus::Active && places(&house, &view) == [OTHER, THIRD]
        })
        .await;
    let [left, first, second] = house.amphora.specs(id, [AMPHORA, OTHER, THIRD]);
    assert_eq!(left, None);
    let generations = [first.unwrap().generation, second.unwrap().generation];
    assert_eq!(generations, [moved.tree.generation(); 2]);
}

#[tokio::test]
async fn the_one_that_reports_elsewhere_is_asked_how_it_works() {
    let (house, view) = both().await;
    let id = view.tree.id();
    let pushed = || {
        let story = house.amphora.story().into_iter();
        let to = story.filter(|(deed, _)| *deed == "push");
        to.map(|(_, amphora)| amphora).collect::<Vec<_>>()
    };
    let before = pushed();
    let now = clock::now();
    house.known.sightings.note_hearsay(OTHER, Some(now), now);
    house.reconciler.poke(id, super::super::Urgency::Background);
    let again = |_: &TreeView| pushed().len() > before.len();
    house.until(id, "asked", again).await;
    assert_eq!(pushed()[before.len()..], [OTHER]);
}

#[tokio::test]
async fn of_two_the_silent_one_is_moved_first() {
    let (house, view) = both().await;
    house.amphora.set_silent(true);
    let told = house.execute(fail_over(&view)).await.unwrap();
    let steering = &told.view.tree.load_balancer.value.steering;
    let order = (steering.avoid, steering.avoid_then);
    assert_eq!(order, (Some(AMPHORA), Some(OTHER)));
}

#[tokio::test]
async fn one_that_is_to_go_is_replaced_and_the_other_one_is_told() {
    let (house, view) = both().await;
    let id = view.tree.id();
    house.amphora.set_room_for_three(true);
    house.introduce(THIRD, 3, 1);
    house.amphora.set_retiring(AMPHORA);
    house.reconciler.poke(id, super::super::Urgency::Background);
    let moved = house
        .until(id, "moved", |found| {
            !found.is_pending() && found.tree.generation() > view.tree.generation()
        })
        .await;
    assert_eq!(places(&house, &moved), [THIRD, OTHER]);
    let [first, second] = house.amphora.specs(id, [THIRD, OTHER]);
    assert_eq!(turn(&first.unwrap()), turn_of(100, 3, 2));
    assert_eq!(turn(&second.unwrap()), turn_of(90, 2, 3));
}

#[tokio::test]
async fn a_deletion_takes_both_along() {
    let (house, view) = both().await;
    let id = view.tree.id();
    let deletion = Command::DeleteLoadBalancer(id, Cascade::WithChildren);
    house.execute(deletion).await.unwrap();
    house.until_gone(id).await;
    assert_eq!(house.amphora.specs(id, [AMPHORA, OTHER]), [None, None]);
    assert_eq!(house.known.placements.places(id), []);
}

#[tokio::test]
async fn without_a_second_place_it_says_so() {
    let house = House::of_two().await;
    house.amphora.set_room_elsewhere(false);
    house.introduce(AMPHORA, 1, 1);
    let new = Box::new(house.new_load_balancer());
    let created = house.execute(Command::CreateLoadBalancer(new)).await;
    let id = created.unwrap().view.tree.id();
    let failed = house
        .until(id, "in error", |view| {
            status(view) == ProvisioningStatus::Error
        })
        .await;
    assert_eq!(failed.reason(id.uuid()).unwrap().step, "place");
}
