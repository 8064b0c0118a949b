//! A fleet over a ground on which amphorae only seem to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    command::{Cascade, Command},
    model::{Seat, Steering, Tenancy},
    place::NoRoom,
};
use krater_controller_store::{AmphoraRecord, Fate};
use krater_driver::{Allotment, AmphoraOrder, ComputeDriver, DriverError, Endpoint};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{population::Spares, *};
use crate::{
    dial::Tls,
    limits::STARTS_AT_ONCE_MAX,
    testbed::{AMPHORA, BOUND, House, OTHER},
};

mod spread;

/// Remembers what it was asked to run.
#[derive(Default)]
pub(crate) struct Ground {
    running: Mutex<BTreeSet<AmphoraId>>,
    /// What they may take, as it was said last.
    allotments: Mutex<BTreeMap<AmphoraId, Allotment>>,
    /// Where else their networks are, as it was said last.
    peers: Mutex<BTreeMap<AmphoraId, Vec<IpAddr>>>,
    /// How many it is starting.
    starting: AtomicUsize,
    /// How many those were at most.
    starting_most: AtomicUsize,
}

#[async_trait]
impl ComputeDriver for Ground {
    async fn ensure(&self, order: AmphoraOrder) -> Result<Endpoint, DriverError> {
        let starting = self.starting.fetch_add(1, Relaxed) + 1;
        self.starting_most.fetch_max(starting, Relaxed);
        tokio::task::yield_now().await;
        self.starting.fetch_sub(1, Relaxed);
        self.running.lock().unwrap().insert(order.id);
        let mut allotments = self.allotments.lock().unwrap();
        allotments.insert(order.id, order.allotment);
        self.peers.lock().unwrap().insert(order.id, order.peers);
        Ok(Endpoint {
            agent: SocketAddr::from(([127, 0, 0, 1], 1)),
            metrics: None,
        })
    }

    async fn release(&self, id: AmphoraId) -> Result<(), DriverError> {
        self.running.lock().unwrap().remove(&id);
        Ok(())
    }

    async fn stop_all(&self) -> Result<(), DriverError> {
        Ok(())
    }
}

/// What a fleet of tests is made of: one zone, so many amphorae, room for all.
pub(crate) fn parts(house: &House, folder: &tempfile::TempDir, amphorae: usize) -> Parts {
    let authority = Arc::new(Authority::open(folder.path(), clock::now()).unwrap());
    let credentials = Arc::new(Credentials::load(&authority, clock::now()).unwrap());
    Parts {
        known: house.known.clone(),
        compute: Arc::new(Ground::default()),
        hosts: hosts(house, &authority),
        here: Here::Wanted,
        deaths: watch::channel(0).1,
        dialer: Arc::new(Tls::new(Arc::clone(&credentials))),
        credentials,
        authority,
        controllers: Vec::new(),
        silence: Duration::from_secs(10),
        reports: mpsc::channel(1).0,
        zones: vec![zone("local", amphorae)],
        amphorae_max: 64,
        load_balancers_max: 1_000,
        host: String::new(),
        segments: BTreeMap::new(),
        underlay: Underlay::default(),
        starts: Semaphore::new(STARTS_AT_ONCE_MAX),
    }
}

/// No hosts but the controller's own.
fn hosts(house: &House, authority: &Arc<Authority>) -> Arc<Hosts> {
    let parts = crate::hosts::Parts {
        store: house.known.store.clone(),
        neighbours: house.known.neighbours.clone(),
        authority: Arc::clone(authority),
        dialer: Arc::new(Tls::new(Arc::new(
            Credentials::load(authority, clock::now()).unwrap(),
        ))),
        conduct: crate::hosts::Conduct {
            controllers: Vec::new(),
            heartbeat: Duration::from_secs(1),
            drain: Duration::from_secs(1),
            access_log: None,
            tunnel_port: 4_789,
        },
        silence: Duration::from_secs(10),
        zones: BTreeSet::from(["local".to_owned()]),
    };
    Hosts::new(parts, true)
}

fn zone(name: &str, amphorae: usize) -> Zone {
    Zone {
        name: name.to_owned(),
        amphorae,
    }
}

/// A house whose own amphorae are no more, and the ground for others.
struct Field {
    house: House,
    folder: tempfile::TempDir,
    ground: Arc<Ground>,
}

impl Field {
    async fn open() -> Self {
        let house = House::build().await;
        // What is created in this house finds no place by itself.
        house.amphora.set_retiring(AMPHORA);
        for amphora in [AMPHORA, OTHER] {
            house.known.store.forget_amphora(amphora).await.unwrap();
        }
        Self {
            house,
            folder: tempfile::tempdir().unwrap(),
            ground: Arc::default(),
        }
    }

    async fn gather(&self, edit: impl FnOnce(&mut Parts)) -> Arc<Fleet> {
        let mut parts = parts(&self.house, &self.folder, 1);
        parts.compute = self.ground.clone();
        edit(&mut parts);
        Arc::new(Fleet::gather(parts).await.unwrap())
    }

    async fn load_balancer(&self) -> LoadBalancerId {
        let new = Box::new(self.house.new_load_balancer());
        let created = self.house.execute(Command::CreateLoadBalancer(new)).await;
        created.unwrap().view.tree.id()
    }

    async fn placed(&self, fleet: &Fleet, wish: &Steering) -> AmphoraId {
        let id = self.load_balancer().await;
        assert_eq!(
            fleet
                .place(id, Seat::First, wish, Uuid::nil())
                .await
                .unwrap(),
            Placed::On
        );
        self.house.known.placements.of(id).unwrap()
    }

    fn running(&self) -> BTreeSet<AmphoraId> {
        self.ground.running.lock().unwrap().clone()
    }

    async fn records(&self) -> Vec<AmphoraRecord> {
        self.house.known.store.amphorae().await.unwrap()
    }

    /// Waits until exactly these run and are on record.
    async fn until_there_are(&self, wanted: &[AmphoraId]) {
        let wanted: BTreeSet<_> = wanted.iter().copied().collect();
        let settled = async {
            loop {
                let records: BTreeSet<_> = self
                    .records()
                    .await
                    .iter()
                    .map(|record| record.id)
                    .collect();
                if self.running() == wanted && records == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let found = tokio::time::timeout(BOUND, settled).await;
        assert!(found.is_ok(), "{:?} run, not {wanted:?}", self.running());
    }
}

fn keep(fleet: &Arc<Fleet>) -> JoinHandle<()> {
    tokio::spawn(Arc::clone(fleet).keep())
}

fn dedicated() -> Steering {
    Steering {
        tenancy: Tenancy::Dedicated,
        ..Steering::default()
    }
}

#[tokio::test]
async fn a_few_amphorae_are_started_at_once_until_all_run() {
    const MANY: usize = 3 * STARTS_AT_ONCE_MAX;
    let field = Field::open().await;
    let fleet = field
        .gather(|parts| parts.zones = vec![zone("local", MANY)])
        .await;
    assert_eq!(fleet.ids().len(), MANY);
    let keeping = keep(&fleet);
    field.until_there_are(&fleet.ids()).await;
    assert_eq!(
        field.ground.starting_most.load(Relaxed),
        STARTS_AT_ONCE_MAX,
        "so many, and no more"
    );
    keeping.abort();
}

#[tokio::test]
async fn a_dedicated_load_balancer_has_an_amphora_of_its_own_that_ends_with_it() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let base = fleet.ids()[0];
    let keeping = keep(&fleet);
    let id = field.load_balancer().await;
    assert_eq!(
        fleet
            .place(id, Seat::First, &dedicated(), Uuid::nil())
            .await
            .unwrap(),
        Placed::On
    );
    let own = field.house.known.placements.of(id).unwrap();
    assert_ne!(own, base);
    let shared = field.placed(&fleet, &Steering::default()).await;
    assert_eq!(shared, base, "nobody else gets there");
    field.until_there_are(&[base, own]).await;
    let view = fleet.views(&|_| 0).into_iter().find(|view| view.id == own);
    assert_eq!(view.unwrap().tenancy, Tenancy::Dedicated);
    field
        .house
        .execute(Command::DeleteLoadBalancer(id, Cascade::WithChildren))
        .await
        .unwrap();
    field.house.until_gone(id).await;
    field.until_there_are(&[base]).await;
    keeping.abort();
}

#[tokio::test]
async fn what_an_amphora_may_take_is_known_to_the_next_controller_and_while_it_is_being_left() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let base = fleet.ids()[0];
    let mut wish = dedicated();
    wish.allotment.memory_mib = Some(128);
    let mut new = field.house.new_load_balancer();
    new.chosen.steering = wish.clone();
    let created = Command::CreateLoadBalancer(Box::new(new));
    let created = field.house.execute(created).await.unwrap();
    let id = created.view.tree.id();
    let place = |fleet: Arc<Fleet>, wish: Steering| async move {
        let placed = fleet.place(id, Seat::First, &wish, Uuid::nil()).await;
        assert_eq!(placed.unwrap(), Placed::On);
        fleet.parts.known.placements.of(id).unwrap()
    };
    let told = |fleet: Arc<Fleet>, amphora: AmphoraId| {
        let ground = Arc::clone(&field.ground);
        async move {
            ground.allotments.lock().unwrap().clear();
            fleet.ensure(amphora).await.unwrap();
            ground.allotments.lock().unwrap()[&amphora]
        }
    };
    let bounded = Allotment {
        memory_bytes: Some(128 << 20),
        cpu_percent: None,
    };
    let own = place(Arc::clone(&fleet), wish.clone()).await;
    // What was never started need not say that it let go.
    let generation = created.view.tree.generation();
    let left = fleet.remove(own, id, generation, Departure::Ends);
    left.await.unwrap();
    assert_eq!(told(Arc::clone(&fleet), own).await, bounded);
    assert_eq!(told(fleet, base).await, Allotment::default());
    let fleet = field.gather(|_| ()).await;
    assert_eq!(told(Arc::clone(&fleet), own).await, bounded);
    let elsewhere = Steering {
        avoid: Some(own),
        ..wish
    };
    let next = place(Arc::clone(&fleet), elsewhere).await;
    assert_ne!(next, own);
    let placements = &field.house.known.placements;
    assert_eq!(placements.on_or_leaving(own), Some(id), "it is being left");
    assert_eq!(told(fleet, next).await, bounded);
}

#[tokio::test]
async fn more_amphorae_are_decided_on_when_those_there_are_are_full_up_to_the_most() {
    let field = Field::open().await;
    let fleet = field
        .gather(|parts| {
            parts.load_balancers_max = 2;
            parts.amphorae_max = 2;
        })
        .await;
    let any = Steering::default();
    let mut amphorae = BTreeSet::new();
    for _ in 0..4 {
        amphorae.insert(field.placed(&fleet, &any).await);
    }
    assert_eq!(amphorae.len(), 2);
    let id = field.load_balancer().await;
    let full = Placed::Nowhere(NoRoom::Full { amphorae_max: 2 });
    assert_eq!(
        fleet
            .place(id, Seat::First, &any, Uuid::nil())
            .await
            .unwrap(),
        full
    );
    assert_eq!(field.house.known.placements.of(id), None);
}

#[tokio::test]
async fn a_load_balancer_that_wants_few_neighbours_keeps_later_ones_away() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let any = Steering::default();
    let choosy = Steering {
        load_balancers_max: Some(2),
        ..any.clone()
    };
    let first = field.placed(&fleet, &choosy).await;
    assert_eq!(field.placed(&fleet, &any).await, first);
    assert_ne!(field.placed(&fleet, &any).await, first);
    // The next controller knows it too.
    let known = crate::placements::Placements::load(
        field.house.known.store.clone(),
        field.house.known.neighbours.clone(),
    );
    assert_eq!(known.await.unwrap().limit(first), Some(2));
}

#[tokio::test]
async fn a_zone_is_kept_to_and_has_as_many_amphorae_as_it_should() {
    let field = Field::open().await;
    let fleet = field
        .gather(|parts| parts.zones = vec![zone("north", 2), zone("south", 0)])
        .await;
    assert_eq!(fleet.ids().len(), 2);
    let south = Steering {
        zone: Some("south".to_owned()),
        ..Steering::default()
    };
    let there = field.placed(&fleet, &south).await;
    assert_eq!(field.placed(&fleet, &south).await, there);
    let view = fleet
        .views(&|_| 0)
        .into_iter()
        .find(|view| view.id == there);
    assert_eq!(view.unwrap().zone, "south");
    let nowhere = Steering {
        zone: Some("east".to_owned()),
        ..Steering::default()
    };
    let id = field.load_balancer().await;
    assert_eq!(
        fleet
            .place(id, Seat::First, &nowhere, Uuid::nil())
            .await
            .unwrap(),
        Placed::Nowhere(NoRoom::NoSuchZone("east".to_owned()))
    );
}

#[tokio::test]
async fn what_was_decided_on_and_never_started_is_started_or_dismissed_by_the_next_controller() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let base = fleet.ids()[0];
    let own = field.placed(&fleet, &dedicated()).await;
    // Of a load balancer that went while no controller ran.
    let orphan = AmphoraRecord {
        id: AmphoraId::new(crate::chance::random_uuid()),
        tenancy: Tenancy::Dedicated,
        ..field.records().await.remove(0)
    };
    field.house.known.store.put_amphora(&orphan).await.unwrap();
    drop(fleet);
    assert!(field.running().is_empty());
    let fleet = field.gather(|_| ()).await;
    let keeping = keep(&fleet);
    field.until_there_are(&[base, own]).await;
    keeping.abort();
}

#[tokio::test]
async fn an_amphora_does_not_go_before_what_another_controller_placed_there() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let base = fleet.ids()[0];
    let own = field.placed(&fleet, &dedicated()).await;
    let known = &field.house.known;
    let id = known.placements.on(own)[0];
    // As if another had placed it, and the news of it had been lost.
    known.placements.forget(id);
    fleet.retire(own).await.unwrap();
    assert_eq!(known.placements.on(own), []);
    fleet.tend(Spares::EndNow).await.unwrap();
    assert_eq!(known.placements.on(own), [id]);
    let amphora = fleet.amphora(own).unwrap();
    assert!(!amphora.may_end());
    let due = known.store.due(clock::now(), 9).await.unwrap();
    assert!(due.iter().any(|due| due.load_balancer == id));
    let elsewhere = krater_controller_store::Placement {
        amphora: base,
        load_balancers_max: None,
        seat: Seat::First,
    };
    let put = known.store.put_placement(id, elsewhere, None, None).await;
    assert_eq!(put.unwrap(), krater_controller_store::Put::Done);
    known.store.forget_departure(id, own).await.unwrap();
    known.placements.refresh(id).await.unwrap();
    fleet.tend(Spares::EndNow).await.unwrap();
    assert!(amphora.may_end());
}

#[tokio::test]
async fn the_end_of_an_amphora_is_gone_through_with_by_the_next_controller() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let base = fleet.ids()[0];
    let own = field.placed(&fleet, &dedicated()).await;
    let keeping = keep(&fleet);
    field.until_there_are(&[base, own]).await;
    keeping.abort();
    // The controller dies between the decision and the deed.
    let records = field.records().await;
    let going = AmphoraRecord {
        fate: Fate::Retires,
        ..records.into_iter().find(|record| record.id == own).unwrap()
    };
    field.house.known.store.put_amphora(&going).await.unwrap();
    let id = field.house.known.placements.on(own)[0];
    let fleet = field.gather(|_| ()).await;
    let keeping = keep(&fleet);
    assert!(fleet.is_retiring(own));
    let wish = Steering {
        avoid: Some(own),
        ..dedicated()
    };
    assert_eq!(
        fleet
            .place(id, Seat::First, &wish, Uuid::nil())
            .await
            .unwrap(),
        Placed::On
    );
    let new = field.house.known.placements.of(id).unwrap();
    // It is not heard of, so nobody waits for it to say that it let go.
    field.until_there_are(&[base, new]).await;
    assert!(field.house.known.placements.departures(id).is_empty());
    keeping.abort();
}

#[tokio::test]
async fn an_amphora_that_is_sent_away_is_replaced_and_never_comes_back() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let keeping = keep(&fleet);
    let first = fleet.ids()[0];
    field.until_there_are(&[first]).await;
    fleet.retire(first).await.unwrap();
    let replaced = async {
        while fleet.has(first) || fleet.staying().len() != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, replaced).await.unwrap();
    let second = fleet.ids()[0];
    assert_ne!(second, first);
    field.until_there_are(&[second]).await;
    // What it still had to say is not put on record.
    fleet.note_heard().await.unwrap();
    assert_eq!(field.records().await.len(), 1);
    keeping.abort();
}

#[tokio::test]
async fn a_renewed_certificate_is_another_one() {
    let field = Field::open().await;
    let fleet = field.gather(|_| ()).await;
    let id = fleet.ids()[0];
    fleet.ensure(id).await.unwrap();
    let identity = || fleet.parts.authority.amphora(id, clock::now()).unwrap();
    let before = identity();
    assert_eq!(before.certificate_pem, identity().certificate_pem);
    fleet.renew(id).await.unwrap();
    assert_ne!(before.certificate_pem, identity().certificate_pem);
    let view = fleet.views(&|_| 0).remove(0);
    assert!(view.certified_until.is_some() && !view.is_renewing);
    assert_eq!(field.running(), BTreeSet::from([id]));
}
