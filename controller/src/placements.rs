//! Which load balancer is on which amphora: the store's table, kept in memory too since every report asks for it.

use std::{
    collections::{HashMap, HashSet},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_store::{Store, StoreError};

/// All placements. This process is their only writer.
pub(crate) struct Placements {
    store: Store,
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    of: HashMap<LoadBalancerId, AmphoraId>,
    on: HashMap<AmphoraId, HashSet<LoadBalancerId>>,
}

impl Placements {
    /// Reads them from the store.
    pub(crate) async fn load(store: Store) -> Result<Self, StoreError> {
        let mut tables = Tables::default();
        for (load_balancer, amphora) in store.placements().await? {
            tables.put(load_balancer, amphora);
        }
        Ok(Self {
            store,
            tables: RwLock::new(tables),
        })
    }

    /// Where the load balancer is.
    pub(crate) fn of(&self, load_balancer: LoadBalancerId) -> Option<AmphoraId> {
        self.read().of.get(&load_balancer).copied()
    }

    /// How many load balancers the amphora carries.
    pub(crate) fn count(&self, amphora: AmphoraId) -> u64 {
        self.read()
            .on
            .get(&amphora)
            .map_or(0, |placed| placed.len() as u64)
    }

    /// The load balancers on the amphora.
    pub(crate) fn on(&self, amphora: AmphoraId) -> Vec<LoadBalancerId> {
        self.read()
            .on
            .get(&amphora)
            .map(|placed| placed.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Does something with the set of load balancers on the amphora, without copying it.
    pub(crate) fn with<T>(
        &self,
        amphora: AmphoraId,
        look: impl FnOnce(&HashSet<LoadBalancerId>) -> T,
    ) -> T {
        match self.read().on.get(&amphora) {
            Some(placed) => look(placed),
            None => look(&HashSet::new()),
        }
    }

    /// Places a load balancer: stored before it counts.
    pub(crate) async fn put(
        &self,
        load_balancer: LoadBalancerId,
        amphora: AmphoraId,
    ) -> Result<(), StoreError> {
        self.store.put_placement(load_balancer, amphora).await?;
        self.write().put(load_balancer, amphora);
        Ok(())
    }

    /// Forgets a load balancer that the store has forgotten.
    pub(crate) fn forget(&self, load_balancer: LoadBalancerId) {
        self.write().remove(load_balancer);
    }

    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn put(&mut self, load_balancer: LoadBalancerId, amphora: AmphoraId) {
        self.remove(load_balancer);
        self.of.insert(load_balancer, amphora);
        self.on.entry(amphora).or_default().insert(load_balancer);
    }

    fn remove(&mut self, load_balancer: LoadBalancerId) {
        if let Some(amphora) = self.of.remove(&load_balancer)
            && let Some(placed) = self.on.get_mut(&amphora)
        {
            placed.remove(&load_balancer);
        }
    }
}
