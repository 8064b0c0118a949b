//! Tells those who wait when a load balancer has settled: GETs that found it pending.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use krater_amphora_api::LoadBalancerId;
use tokio::sync::Notify;

/// One bell per load balancer somebody waits for.
#[derive(Default)]
pub(crate) struct Bells {
    hung: Mutex<HashMap<LoadBalancerId, Hung>>,
}

#[derive(Default)]
struct Hung {
    bell: Arc<Notify>,
    waiting: usize,
}

/// Somebody who waits; the bell is taken down with the last one.
pub(crate) struct Waiting<'a> {
    bells: &'a Bells,
    id: LoadBalancerId,
    /// Rings when the load balancer settled or is gone. Enable it before looking, or the ring may be missed.
    pub(crate) bell: Arc<Notify>,
}

impl Bells {
    /// Begins to wait.
    pub(crate) fn listen(&self, id: LoadBalancerId) -> Waiting<'_> {
        let mut hung = self.lock();
        let entry = hung.entry(id).or_default();
        entry.waiting += 1;
        Waiting {
            bells: self,
            id,
            bell: Arc::clone(&entry.bell),
        }
    }

    /// Wakes everybody who waits for the load balancer.
    pub(crate) fn ring(&self, id: LoadBalancerId) {
        if let Some(hung) = self.lock().get(&id) {
            hung.bell.notify_waiters();
        }
    }

    /// How many load balancers somebody waits for.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LoadBalancerId, Hung>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut hung = self.bells.lock();
        if let Some(entry) = hung.get_mut(&self.id) {
            entry.waiting -= 1;
            if entry.waiting == 0 {
                hung.remove(&self.id);
            }
        }
    }
}
