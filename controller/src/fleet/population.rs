//! Who is to be there: amphorae are decided on and let go, and load balancers get their places.
//!
//! Everything here runs under one lock, so that no amphora is filled beyond its limit by two at once, and none that is
//! to go gets another load balancer.

use std::sync::{Arc, PoisonError};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    model::{Seat, Steering, Tenancy},
    place::{self, Candidate, Choice, Deployment, HostRoom, NoRoom, Wish},
    query::AmphoraStatus,
};
use krater_controller_store::{
    AmphoraRecord, Fate, HostRecord, HostState, HostTerms, Placement, Put, PutTerms, StoreError,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Fleet, Here, amphora::Amphora, lock};
use crate::{
    chance, clock,
    limits::{PLACE_RACES_MAX, SPARE_TIME_MAX, URGE_INTERVAL},
    reconcile::Placed,
};

/// When shared amphorae end that are more than wanted and carry nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spares {
    /// Now: the settings may have changed.
    EndNow,
    /// When they have been idle for a while: load balancers come and go.
    EndAfterAWhile,
}

impl Fleet {
    /// Finds a place for a load balancer and stores it; on a new amphora if need be.
    pub(super) async fn find_place(
        &self,
        id: LoadBalancerId,
        seat: Seat,
        wish: &Steering,
        vip_network: Uuid,
    ) -> Result<Placed, StoreError> {
        let _alone = self.deciding.lock().await;
        let placements = &self.parts.known.placements;
        let segments = &self.parts.segments;
        let wish = Wish {
            steering: wish,
            network: Some(vip_network).filter(|network| segments.contains_key(network)),
        };
        for _ in 0..PLACE_RACES_MAX {
            let other = self.other_host(id, seat);
            let (mut candidates, mut deployment) = (self.candidates(), self.deployment());
            if let Some(network) = wish.network {
                for room in &mut deployment.hosts {
                    room.obstacle = self.obstacle(network, &room.host);
                }
            }
            if let Some(other) = &other {
                candidates.retain(|candidate| !self.is_at(candidate.amphora, other));
                deployment.hosts.retain(|host| host.host != *other);
            }
            let (amphora, new) = match place::choose(wish, &candidates, &deployment) {
                Choice::Existing(amphora) => (amphora, None),
                Choice::New { zone, host } => {
                    let record = self.decide(zone, host, wish.tenancy(), wish.network);
                    (record.id, Some(record))
                }
                Choice::NoRoom(NoRoom::NoHost { .. } | NoRoom::Full { .. }) if other.is_some() => {
                    return Ok(Placed::Nowhere(NoRoom::OneHost));
                }
                Choice::NoRoom(no_room) => return Ok(Placed::Nowhere(no_room)),
            };
            let placement = Placement {
                amphora,
                load_balancers_max: wish.steering.load_balancers_max,
                seat,
            };
            let host = match &new {
                Some(record) => Some(record.host.clone()),
                None => self.amphora(amphora).map(|found| found.record().host),
            };
            let terms = self.terms(id, seat, wish, host.as_deref());
            match placements.put(id, placement, new.as_ref(), terms).await? {
                Put::Gone => return Ok(Placed::Gone),
                Put::LostRace => {
                    // Another controller has placed it, or others where it was to go.
                    let before = placements.at(id, seat);
                    placements.reload().await?;
                    self.sync().await?;
                    if placements.at(id, seat) != before {
                        return Ok(Placed::On);
                    }
                }
                Put::Done => {
                    if let Some(record) = new {
                        tracing::info!(%amphora, zone = record.zone, host = record.host, tenancy = ?record.tenancy, lb = %id, "another amphora is started");
                        self.enter(Amphora::of(record, &self.parts));
                        self.note_peers();
                        self.changed.notify_one();
                        self.parts.known.neighbours.tell_fleet();
                    } else if wish.tenancy() == Tenancy::Dedicated
                        && let Some(found) = self.amphora(amphora)
                    {
                        // It may be held to less than this one may take.
                        found.look_again();
                    }
                    return Ok(Placed::On);
                }
            }
        }
        // Whoever looks again finds it quieter.
        Ok(Placed::Gone)
    }

    /// The host of the amphora in the other place of a load balancer: of two that take turns none may be on the host of
    /// the other one.
    fn other_host(&self, id: LoadBalancerId, seat: Seat) -> Option<String> {
        let places = self.parts.known.placements.places(id).into_iter();
        let mut others = places.filter(|(taken, _)| *taken != seat);
        let (_, amphora) = others.next()?;
        Some(self.amphora(amphora)?.record().host)
    }

    fn is_at(&self, amphora: AmphoraId, host: &str) -> bool {
        let found = self.amphora(amphora);
        found.is_some_and(|found| found.record().host == host)
    }

    /// What has to hold still when a placement is stored; alone it does.
    fn terms(
        &self,
        id: LoadBalancerId,
        seat: Seat,
        wish: Wish<'_>,
        host: Option<&str>,
    ) -> Option<PutTerms> {
        let host = host.and_then(|host| self.parts.hosts.named(host));
        self.parts.known.neighbours.may_be().then(|| PutTerms {
            from: self.parts.known.placements.at(id, seat),
            load_balancers_max: match wish.tenancy() {
                Tenancy::Dedicated => 1,
                Tenancy::Shared => self.parts.load_balancers_max,
            },
            amphorae_max: self.parts.amphorae_max as u64,
            host: host.map_or_else(HostTerms::default, |host| HostTerms {
                load_balancers_max: host.load_balancers_max,
                amphorae_max: host.amphorae_max,
            }),
        })
    }

    /// Brings the fleet to what is wanted: enough shared amphorae in each zone, none that is good for nothing.
    pub(super) async fn tend(&self, spares: Spares) -> Result<(), StoreError> {
        let _alone = self.deciding.lock().await;
        self.note_peers();
        for zone in &self.parts.zones {
            while self.shared_in(&zone.name) < zone.amphorae
                && self.all().len() < self.parts.amphorae_max
            {
                let mut rooms = self.rooms();
                rooms.retain(|room| self.parts.attends_to(&room.host));
                let Some(room) = place::host_for_new(&zone.name, &rooms) else {
                    break;
                };
                let record =
                    self.decide(zone.name.clone(), room.host.clone(), Tenancy::Shared, None);
                // Another controller may be faster: its own are learned of with the next look.
                if !self.add(record, zone.amphorae).await? {
                    break;
                }
            }
        }
        self.tend_hosts().await?;
        // The youngest goes first, of those that are one too many.
        let mut all = self.all();
        all.sort_by_key(|(_, amphora)| std::cmp::Reverse(amphora.record().created_at));
        for (id, amphora) in all {
            if !amphora.is_attended(&self.parts) {
                continue;
            }
            if !amphora.is_retiring() && !self.is_wanted_there(&amphora.record().host) {
                self.let_retire(&amphora).await?;
                let carried = self.parts.known.placements.on(id);
                let store = &self.parts.known.store;
                store.make_due(&carried, clock::now()).await?;
            }
            if self.carries_anything(id) {
                *lock(&amphora.idle_since) = None;
                self.urge(&amphora).await?;
                continue;
            }
            if !amphora.is_retiring() && self.is_spare(&amphora, spares) {
                self.let_retire(&amphora).await?;
            }
            if amphora.is_retiring() && !amphora.may_end() && self.is_vacant(id).await? {
                amphora.let_end();
            }
        }
        Ok(())
    }

    /// Has what an amphora carries that is to go looked at from time to time: whoever decided that may not have got to
    /// tell all of them.
    async fn urge(&self, amphora: &Amphora) -> Result<(), StoreError> {
        {
            let mut urged = lock(&amphora.urged);
            if !amphora.is_retiring() {
                *urged = None;
                return Ok(());
            }
            if urged.get_or_insert_with(Instant::now).elapsed() < URGE_INTERVAL {
                return Ok(());
            }
            *urged = Some(Instant::now());
        }
        let carried = self.parts.known.placements.on(amphora.id);
        let store = &self.parts.known.store;
        store.make_due(&carried, clock::now()).await
    }

    /// Whether the store too knows of nothing that the amphora carries. What another controller placed there, unknown to
    /// this one, is to be seen to: it has to leave first.
    async fn is_vacant(&self, id: AmphoraId) -> Result<bool, StoreError> {
        let (placements, store) = (&self.parts.known.placements, &self.parts.known.store);
        let carried = store.carried(id).await?;
        for load_balancer in carried.placed.iter().chain(&carried.leaving) {
            placements.refresh(*load_balancer).await?;
        }
        store.make_due(&carried.placed, clock::now()).await?;
        Ok(!self.carries_anything(id))
    }

    /// Has a shared amphora ready on each host that has none: whoever loses another host finds it running.
    async fn tend_hosts(&self) -> Result<(), StoreError> {
        for room in self.rooms() {
            let is_free = self.shared_on(&room.host) == 0
                && room.amphorae_max.is_none_or(|most| room.amphorae < most)
                && room.host != self.parts.host
                && self.parts.attends_to(&room.host)
                && self.all().len() < self.parts.amphorae_max;
            let Some(zone) = room.zones.first().filter(|_| is_free) else {
                continue;
            };
            let record = self.decide(zone.clone(), room.host, Tenancy::Shared, None);
            self.add(record, usize::MAX).await?;
        }
        Ok(())
    }

    /// Adds a shared amphora unless its zone has as many as are wanted. Answers whether it was added.
    async fn add(&self, record: AmphoraRecord, wanted: usize) -> Result<bool, StoreError> {
        let (store, most) = (&self.parts.known.store, self.parts.amphorae_max);
        let host = self.parts.hosts.named(&record.host);
        let there = host.and_then(|host| host.amphorae_max);
        let added = store.put_amphora_if_fewer(&record, wanted, most, there);
        if !added.await? {
            return Ok(false);
        }
        self.enter(Amphora::of(record, &self.parts));
        self.changed.notify_one();
        self.parts.known.neighbours.tell_fleet();
        Ok(true)
    }

    /// Decides that an amphora is to go.
    pub(super) async fn let_retire(&self, amphora: &Amphora) -> Result<(), StoreError> {
        if amphora.is_retiring() {
            return Ok(());
        }
        amphora.note_retiring(&self.parts).await?;
        tracing::info!(amphora = %amphora.id, "amphora is to go");
        self.changed.notify_one();
        Ok(())
    }

    /// Forgets an amphora that has ended.
    pub(super) fn strike_out(&self, id: AmphoraId) {
        self.amphorae
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        self.parts.known.placements.forget_amphora(id);
        self.parts.known.sightings.forget_amphora(id);
    }

    pub(super) fn enter(&self, amphora: Arc<Amphora>) {
        self.amphorae
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(amphora.id, amphora);
    }

    fn decide(
        &self,
        zone: String,
        host: String,
        tenancy: Tenancy,
        network: Option<Uuid>,
    ) -> AmphoraRecord {
        AmphoraRecord {
            id: AmphoraId::new(chance::random_uuid()),
            created_at: clock::now(),
            agent: None,
            metrics: None,
            boot: None,
            version: None,
            pid: None,
            last_seen: None,
            zone,
            tenancy,
            fate: Fate::Stays,
            updated_at: None,
            host,
            network,
        }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let staying = self.all().into_iter();
        let staying = staying.filter(|(_, amphora)| !amphora.is_retiring());
        staying
            .filter_map(|(id, amphora)| {
                let record = amphora.record();
                let host_room = match self.parts.hosts.named(&record.host) {
                    Some(host) if host.state != HostState::Active => return None,
                    Some(host) => self.room_on(&host),
                    None => None,
                };
                Some(Candidate {
                    amphora: id,
                    load: self.parts.known.placements.count(id),
                    status: if amphora.client.boot().is_some() {
                        AmphoraStatus::Allocated
                    } else {
                        self.status(id)
                    },
                    zone: record.zone,
                    tenancy: record.tenancy,
                    network: record.network,
                    load_balancers_max: self.parts.known.placements.limit(id),
                    host: record.host,
                    host_room,
                })
            })
            .collect()
    }

    /// The hosts that amphorae may be started on: this one, and those that have agents and are there.
    fn rooms(&self) -> Vec<HostRoom> {
        let count = |host: &str| self.on_host(host).len() as u64;
        let zones = self.parts.zones.iter();
        let zones = zones.map(|zone| zone.name.clone()).collect();
        let own = (self.parts.here == Here::Wanted).then(|| {
            let own = self.parts.host.clone();
            HostRoom::unbounded(own, zones, count(&self.parts.host))
        });
        let hosts = self.parts.hosts.records().into_iter();
        let there = hosts.filter(|host| {
            host.state == HostState::Active
                && self.parts.hosts.status(host) == AmphoraStatus::Allocated
        });
        let others = there.map(|host| {
            let name = host.id.to_string();
            HostRoom {
                amphorae: count(&name),
                amphorae_max: host.amphorae_max.map(u64::from),
                room: self.room_on(&host),
                zones: vec![host.zone],
                host: name,
                obstacle: None,
            }
        });
        own.into_iter().chain(others).collect()
    }

    /// How many more load balancers a host takes.
    fn room_on(&self, host: &HostRecord) -> Option<u64> {
        let most = u64::from(host.load_balancers_max?);
        let placements = &self.parts.known.placements;
        let there = self.on_host(&host.id.to_string());
        let load: u64 = there.into_iter().map(|id| placements.count(id)).sum();
        Some(most.saturating_sub(load))
    }

    /// Whether amphorae are to be on the host.
    fn is_wanted_there(&self, host: &str) -> bool {
        if host == self.parts.host {
            return self.parts.here == Here::Wanted;
        }
        let found = self.parts.hosts.named(host);
        found.is_none_or(|host| host.state == HostState::Active)
    }

    fn deployment(&self) -> Deployment {
        let zones = self.parts.zones.iter();
        Deployment {
            zones: zones.map(|zone| zone.name.clone()).collect(),
            load_balancers_max: self.parts.load_balancers_max,
            amphorae_max: self.parts.amphorae_max as u64,
            amphorae: self.all().len() as u64,
            hosts: self.rooms(),
        }
    }

    /// Shared amphorae of the zone that are to stay.
    fn shared_in(&self, zone: &str) -> usize {
        let counts = |amphora: &Arc<Amphora>| {
            let record = amphora.record();
            record.zone == zone && record.tenancy == Tenancy::Shared && record.fate == Fate::Stays
        };
        let all = self.all();
        all.iter().filter(|(_, amphora)| counts(amphora)).count()
    }

    /// Whether load balancers are on it, or may be though they were moved away. Of one that is gone for good nobody
    /// waits to hear that it let go.
    fn carries_anything(&self, id: AmphoraId) -> bool {
        let placements = &self.parts.known.placements;
        let answers = self.is_reached(id) || self.status(id) == AmphoraStatus::Allocated;
        placements.count(id) > 0 || (answers && placements.is_being_left(id))
    }

    /// Whether an amphora that carries nothing is good for nothing either.
    fn is_spare(&self, amphora: &Amphora, spares: Spares) -> bool {
        let record = amphora.record();
        if record.tenancy == Tenancy::Dedicated {
            return true;
        }
        let mut zones = self.parts.zones.iter();
        let wanted = zones
            .find(|zone| zone.name == record.zone)
            .map_or(0, |zone| zone.amphorae);
        if self.shared_in(&record.zone) <= wanted {
            *lock(&amphora.idle_since) = None;
            return false;
        }
        if record.host != self.parts.host && self.shared_on(&record.host) <= 1 {
            *lock(&amphora.idle_since) = None;
            return false;
        }
        let since = *lock(&amphora.idle_since).get_or_insert_with(Instant::now);
        spares == Spares::EndNow || since.elapsed() >= SPARE_TIME_MAX
    }

    /// Shared amphorae of the host that are to stay.
    fn shared_on(&self, host: &str) -> usize {
        let counts = |amphora: &Arc<Amphora>| {
            let record = amphora.record();
            record.host == host && record.tenancy == Tenancy::Shared && record.fate == Fate::Stays
        };
        let all = self.all();
        all.iter().filter(|(_, amphora)| counts(amphora)).count()
    }
}
