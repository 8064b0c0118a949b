//! Which load balancer is on which amphora, and which it may still be on though it was moved away: the store's tables,
//! kept in memory too since every report asks for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::model::Seat;
use krater_controller_store::{AmphoraRecord, Placement, Put, PutTerms, Store, StoreError};

use crate::neighbours::Neighbours;

/// All placements. Where other controllers write them too this is what was read last: whoever decides by it asks the
/// store to compare.
pub(crate) struct Placements {
    store: Store,
    neighbours: Neighbours,
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    of: BTreeMap<LoadBalancerId, BTreeMap<Seat, Placement>>,
    on: BTreeMap<AmphoraId, BTreeSet<LoadBalancerId>>,
    /// With how many others the load balancers of an amphora want to be at most: how many say so.
    limits: BTreeMap<AmphoraId, BTreeMap<u32, usize>>,
    departures: BTreeMap<LoadBalancerId, BTreeSet<AmphoraId>>,
}

impl Placements {
    /// Reads them from the store.
    pub(crate) async fn load(store: Store, neighbours: Neighbours) -> Result<Self, StoreError> {
        let placements = Self {
            store,
            neighbours,
            tables: RwLock::default(),
        };
        placements.reload().await?;
        Ok(placements)
    }

    /// Reads all of them again.
    pub(crate) async fn reload(&self) -> Result<(), StoreError> {
        let mut tables = Tables::default();
        for (load_balancer, placement) in self.store.placements().await? {
            tables.put(load_balancer, placement);
        }
        for (load_balancer, amphora) in self.store.departures().await? {
            tables
                .departures
                .entry(load_balancer)
                .or_default()
                .insert(amphora);
        }
        *self.write() = tables;
        Ok(())
    }

    /// Reads those of one load balancer again.
    pub(crate) async fn refresh(&self, load_balancer: LoadBalancerId) -> Result<(), StoreError> {
        let whereabouts = self.store.whereabouts(load_balancer).await?;
        let mut tables = self.write();
        tables.forget(load_balancer);
        for placement in whereabouts.placements {
            tables.put(load_balancer, placement);
        }
        tables.departures.remove(&load_balancer);
        if !whereabouts.departures.is_empty() {
            let departures = whereabouts.departures.into_iter().collect();
            tables.departures.insert(load_balancer, departures);
        }
        Ok(())
    }

    /// [`Placements::refresh`] where another controller may have changed them.
    pub(crate) async fn be_sure_of(&self, load_balancer: LoadBalancerId) -> Result<(), StoreError> {
        if self.neighbours.may_be() {
            self.refresh(load_balancer).await?;
        }
        Ok(())
    }

    /// Where the load balancer is, in that place.
    pub(crate) fn at(&self, load_balancer: LoadBalancerId, seat: Seat) -> Option<AmphoraId> {
        let tables = self.read();
        let placement = tables.of.get(&load_balancer)?.get(&seat)?;
        Some(placement.amphora)
    }

    /// Where the load balancer is, in its first place.
    #[cfg(test)]
    pub(crate) fn of(&self, load_balancer: LoadBalancerId) -> Option<AmphoraId> {
        self.at(load_balancer, Seat::First)
    }

    /// Everywhere the load balancer is, its first place first.
    pub(crate) fn places(&self, load_balancer: LoadBalancerId) -> Vec<(Seat, AmphoraId)> {
        let tables = self.read();
        let places = tables.of.get(&load_balancer).into_iter().flatten();
        places
            .map(|(seat, placement)| (*seat, placement.amphora))
            .collect()
    }

    /// Whether the load balancer is on the amphora.
    pub(crate) fn is_on(&self, load_balancer: LoadBalancerId, amphora: AmphoraId) -> bool {
        self.with(amphora, |placed| placed.contains(&load_balancer))
    }

    /// The amphorae that the load balancer was moved away from and that may hold it still.
    pub(crate) fn departures(&self, load_balancer: LoadBalancerId) -> BTreeSet<AmphoraId> {
        self.read()
            .departures
            .get(&load_balancer)
            .cloned()
            .unwrap_or_default()
    }

    /// Whether load balancers that were moved away from the amphora may still be there.
    pub(crate) fn is_being_left(&self, amphora: AmphoraId) -> bool {
        self.read()
            .departures
            .values()
            .any(|left| left.contains(&amphora))
    }

    /// A load balancer on the amphora, or else one that was moved away from it: the only one, of an amphora that is
    /// dedicated to one.
    pub(crate) fn on_or_leaving(&self, amphora: AmphoraId) -> Option<LoadBalancerId> {
        let tables = self.read();
        let mut on = tables.on.get(&amphora).into_iter().flatten();
        let mut departures = tables.departures.iter();
        on.next().copied().or_else(|| {
            let (leaving, _) = departures.find(|(_, left)| left.contains(&amphora))?;
            Some(*leaving)
        })
    }

    /// How many load balancers the amphora carries.
    pub(crate) fn count(&self, amphora: AmphoraId) -> u64 {
        self.read()
            .on
            .get(&amphora)
            .map_or(0, |placed| placed.len() as u64)
    }

    /// With how many others the choosiest load balancer of the amphora wants to be.
    pub(crate) fn limit(&self, amphora: AmphoraId) -> Option<u32> {
        let tables = self.read();
        let (limit, _) = tables.limits.get(&amphora)?.first_key_value()?;
        Some(*limit)
    }

    /// All load balancers that are placed, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<LoadBalancerId> {
        self.read().of.keys().copied().collect()
    }

    /// The load balancers on the amphora, in the order of their ids.
    pub(crate) fn on(&self, amphora: AmphoraId) -> Vec<LoadBalancerId> {
        self.with(amphora, |placed| placed.iter().copied().collect())
    }

    /// Does something with the set of load balancers on the amphora, without copying it.
    pub(crate) fn with<T>(
        &self,
        amphora: AmphoraId,
        look: impl FnOnce(&BTreeSet<LoadBalancerId>) -> T,
    ) -> T {
        match self.read().on.get(&amphora) {
            Some(placed) => look(placed),
            None => look(&BTreeSet::new()),
        }
    }

    /// Places a load balancer, perhaps on a `new` amphora: stored before it counts. Where it was, it is on departure.
    pub(crate) async fn put(
        &self,
        load_balancer: LoadBalancerId,
        placement: Placement,
        new: Option<&AmphoraRecord>,
        terms: Option<PutTerms>,
    ) -> Result<Put, StoreError> {
        let put = self
            .store
            .put_placement(load_balancer, placement, new, terms)
            .await?;
        if put == Put::Done {
            self.write().put(load_balancer, placement);
            self.neighbours.tell_placed(load_balancer);
        }
        Ok(put)
    }

    /// Notes that an amphora has let go of a load balancer that was moved away.
    pub(crate) async fn forget_departure(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
    ) -> Result<(), StoreError> {
        if !self.departures(load_balancer).contains(&amphora) {
            return Ok(());
        }
        self.store.forget_departure(load_balancer, amphora).await?;
        self.write().arrive(load_balancer, amphora);
        self.neighbours.tell_placed(load_balancer);
        Ok(())
    }

    /// Forgets a load balancer that the store has forgotten, and has others forget it.
    pub(crate) fn forget(&self, load_balancer: LoadBalancerId) {
        let mut tables = self.write();
        tables.forget(load_balancer);
        tables.departures.remove(&load_balancer);
        drop(tables);
        self.neighbours.tell_placed(load_balancer);
    }

    /// Forgets an amphora that the store has forgotten.
    pub(crate) fn forget_amphora(&self, amphora: AmphoraId) {
        let mut tables = self.write();
        tables.on.remove(&amphora);
        tables.limits.remove(&amphora);
        tables.of.retain(|_, places| {
            places.retain(|_, placement| placement.amphora != amphora);
            !places.is_empty()
        });
        tables.departures.retain(|_, left| {
            left.remove(&amphora);
            !left.is_empty()
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn put(&mut self, load_balancer: LoadBalancerId, placement: Placement) {
        let Placement {
            amphora,
            load_balancers_max,
            seat,
        } = placement;
        if let Some(left) = self
            .remove(load_balancer, seat)
            .filter(|left| left.amphora != amphora)
        {
            self.departures
                .entry(load_balancer)
                .or_default()
                .insert(left.amphora);
        }
        self.arrive(load_balancer, amphora);
        self.of
            .entry(load_balancer)
            .or_default()
            .insert(seat, placement);
        self.on.entry(amphora).or_default().insert(load_balancer);
        if let Some(most) = load_balancers_max {
            *self
                .limits
                .entry(amphora)
                .or_default()
                .entry(most)
                .or_default() += 1;
        }
    }

    fn forget(&mut self, load_balancer: LoadBalancerId) {
        for seat in [Seat::First, Seat::Second] {
            self.remove(load_balancer, seat);
        }
        self.of.remove(&load_balancer);
    }

    fn remove(&mut self, load_balancer: LoadBalancerId, seat: Seat) -> Option<Placement> {
        let placement = self.of.get_mut(&load_balancer)?.remove(&seat)?;
        if let Some(placed) = self.on.get_mut(&placement.amphora) {
            placed.remove(&load_balancer);
        }
        if let Some(most) = placement.load_balancers_max
            && let Some(limits) = self.limits.get_mut(&placement.amphora)
            && let Some(count) = limits.get_mut(&most)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                limits.remove(&most);
            }
        }
        Some(placement)
    }

    fn arrive(&mut self, load_balancer: LoadBalancerId, amphora: AmphoraId) {
        if let Some(left) = self.departures.get_mut(&load_balancer) {
            left.remove(&amphora);
            if left.is_empty() {
                self.departures.remove(&load_balancer);
            }
        }
    }
}
