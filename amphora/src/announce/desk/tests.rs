use std::cell::Cell;

use krater_amphora_core::snapshot::Snapshot;
use uuid::Uuid;

use super::*;

fn wanted() -> Wanted {
    let spec = serde_json::json!({
        "load_balancer": Uuid::from_u128(1), "generation": 1, "vips": [{"address": VIP}],
        "listeners": [], "pools": [],
        "announcement": {"virtual_router": 1, "priority": 100, "address": "10.0.0.1", "peers": ["10.0.0.2"]},
    });
    let snapshot = Snapshot::parse(serde_json::from_value(spec).unwrap()).unwrap();
    Wanted {
        announcement: snapshot.announcement().unwrap().clone(),
        vips: snapshot.vips().to_vec(),
        health: Health::Well,
        standing: Default::default(),
    }
}

/// One that is fit, and is told to leave at once.
fn leaving() -> (Seat, oneshot::Receiver<()>) {
    let mut seat = Seat::new(wanted());
    seat.router.handle_health(Health::Well, NOW);
    let (done, left) = oneshot::channel();
    seat.leave(NOW, Some(done));
    assert_eq!(seat.router.role(), Role::Down);
    (seat, left)
}

#[test]
fn a_load_balancer_that_is_wanted_again_takes_turns_again() {
    let (mut seat, mut left) = leaving();
    // It was taken out of service, and comes back before it is forgotten.
    seat.gone = true;
    seat.follow(wanted(), NOW);
    assert_eq!(seat.router.role(), Role::Standby);
    assert!(seat.leaving.is_none() && !seat.gone);
    // Nobody waits in vain.
    assert_eq!(left.try_recv(), Ok(()));
}

#[test]
fn a_load_balancer_that_is_being_left_is_left_whatever_happens_to_others() {
    let (mut seat, mut left) = leaving();
    seat.follow(wanted(), NOW);
    assert_eq!(seat.router.role(), Role::Down);
    assert!(left.try_recv().is_err());
    // Who had it left could not forget it.
    seat.stay(NOW);
    assert_eq!(seat.router.role(), Role::Standby);
    assert_eq!(left.try_recv(), Ok(()));
}

#[tokio::test]
async fn an_address_that_could_not_be_taken_away_is_held_until_it_is() {
    let works = Cell::new(false);
    let remove = async |_, _| match works.get() {
        true => Ok(()),
        false => Err(io::Error::other("busy")),
    };
    let held = vec![(2, VIP.parse().unwrap())];
    assert_eq!(give_up(held.clone(), remove).await, held);
    works.set(true);
    assert_eq!(give_up(held, remove).await, []);
}

const NOW: Instant = Instant(0);
const VIP: &str = "10.0.0.100";
