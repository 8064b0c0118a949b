//! How many load balancers are in which status: kept by the way, so that a scrape costs no look at the database.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    status::{OperatingStatus, ProvisioningStatus, Reason},
    tree::{LoadBalancerTree, TreeView},
};
use krater_controller_store::Standing;
use uuid::Uuid;

/// The status of every load balancer, as last looked at.
#[derive(Default)]
pub(crate) struct Census {
    statuses: Mutex<HashMap<LoadBalancerId, (ProvisioningStatus, OperatingStatus)>>,
}

impl Census {
    /// Notes a load balancer as it is.
    pub(crate) fn note(&self, view: &TreeView) {
        let row = &view.tree.load_balancer;
        let id = view.tree.id();
        let operating = view
            .observed
            .operating
            .get(&id.uuid())
            .copied()
            .unwrap_or(OperatingStatus::Offline);
        self.lock()
            .insert(id, (view.provisioning_status(id.uuid(), row), operating));
    }

    /// Takes all load balancers there are as they are: others note some too.
    pub(crate) fn take(&self, standings: Vec<Standing>) {
        let all = standings.into_iter();
        *self.lock() = all
            .map(|one| (one.load_balancer, (one.provisioning, one.operating)))
            .collect();
    }

    /// Notes that a load balancer settled with `errors`.
    pub(crate) fn note_settled(&self, tree: &LoadBalancerTree, errors: &BTreeMap<Uuid, Reason>) {
        let failed = errors.contains_key(&tree.id().uuid());
        let provisioning = if failed {
            ProvisioningStatus::Error
        } else {
            ProvisioningStatus::Active
        };
        if let Some(status) = self.lock().get_mut(&tree.id()) {
            status.0 = provisioning;
        }
    }

    /// Notes operating statuses that changed.
    pub(crate) fn note_operating(
        &self,
        id: LoadBalancerId,
        changes: &BTreeMap<Uuid, OperatingStatus>,
    ) {
        if let Some(operating) = changes.get(&id.uuid())
            && let Some(status) = self.lock().get_mut(&id)
        {
            status.1 = *operating;
        }
    }

    /// Strikes a load balancer out.
    pub(crate) fn forget(&self, id: LoadBalancerId) {
        self.lock().remove(&id);
    }

    /// How many there are of each pair of statuses.
    pub(crate) fn counts(&self) -> BTreeMap<(&'static str, &'static str), i64> {
        let mut counts = BTreeMap::new();
        for (provisioning, operating) in self.lock().values() {
            *counts
                .entry((provisioning.name(), operating.name()))
                .or_default() += 1;
        }
        counts
    }

    fn lock(
        &self,
    ) -> MutexGuard<'_, HashMap<LoadBalancerId, (ProvisioningStatus, OperatingStatus)>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
