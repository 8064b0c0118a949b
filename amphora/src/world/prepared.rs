//! A snapshot with what was made ready for it outside of the core.

use std::{ops::Deref, sync::Arc};

use hashbrown::HashMap;
use krater_amphora_api::{ListenerId, PoolId, Rejection, Subject};
use krater_amphora_core::snapshot::Snapshot;

use super::{Balancer, World};
use crate::tls::{Acceptor, Connector};

/// A snapshot that can be put in force: whatever could fail for what it holds has been done.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What is to be in force.
    pub snapshot: Arc<Snapshot>,
    /// What its listeners end TLS with.
    pub(super) acceptors: HashMap<ListenerId, Arc<Acceptor>>,
    /// What the members of its pools are spoken to by TLS with.
    pub(super) connectors: HashMap<PoolId, Arc<Connector>>,
}

impl Prepared {
    /// Makes `snapshot` ready. What it has in common with `held`, what is in force of the same load balancer, is kept as
    /// it is there.
    ///
    /// # Errors
    ///
    /// Every reason why it cannot be put in force.
    pub fn new(snapshot: Snapshot, held: Option<&Balancer>) -> Result<Self, Vec<Rejection>> {
        let mut rejections = Vec::new();
        let mut acceptors = HashMap::new();
        let before: HashMap<_, _> = held
            .into_iter()
            .flat_map(|held| held.snapshot.terminations())
            .collect();
        for (id, spec) in snapshot.terminations() {
            let kept = held
                .filter(|_| before.get(&id) == Some(&spec))
                .and_then(|held| held.listeners.iter().find(|state| state.listener.id == id))
                .and_then(|state| state.tls.clone());
            let acceptor = match kept {
                Some(kept) => Ok(kept),
                None => Acceptor::prepare(spec).map(Arc::new),
            };
            match acceptor {
                Ok(acceptor) => drop(acceptors.insert(id, acceptor)),
                Err(reasons) => rejections.extend(reasons.into_iter().map(|reason| Rejection {
                    subject: Subject::Listener(id),
                    reason,
                })),
            }
        }
        let connectors = connectors(&snapshot, held, &mut rejections);
        if !rejections.is_empty() {
            return Err(rejections);
        }
        Ok(Self {
            snapshot: Arc::new(snapshot),
            acceptors,
            connectors,
        })
    }
}

fn connectors(
    snapshot: &Snapshot,
    held: Option<&Balancer>,
    rejections: &mut Vec<Rejection>,
) -> HashMap<PoolId, Arc<Connector>> {
    let before: HashMap<_, _> = held
        .into_iter()
        .flat_map(|held| held.snapshot.sealed_pools())
        .collect();
    let mut connectors = HashMap::new();
    for (id, spec) in snapshot.sealed_pools() {
        let kept = held
            .filter(|_| before.get(&id) == Some(&spec))
            .and_then(|held| held.pools.iter().find(|state| state.pool.id == id))
            .and_then(|state| state.tls.clone());
        let connector = match kept {
            Some(kept) => Ok(kept),
            None => Connector::prepare(spec).map(Arc::new),
        };
        match connector {
            Ok(connector) => drop(connectors.insert(id, connector)),
            Err(reasons) => rejections.extend(reasons.into_iter().map(|reason| Rejection {
                subject: Subject::Pool(id),
                reason,
            })),
        }
    }
    connectors
}

impl Deref for Prepared {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl World {
    /// Makes a snapshot ready to be put in force after what is.
    ///
    /// # Errors
    ///
    /// Every reason why it cannot be.
    pub fn prepare(&self, snapshot: Snapshot) -> Result<Prepared, Vec<Rejection>> {
        let held = self.balancers.get(&snapshot.load_balancer());
        Prepared::new(snapshot, held.map(AsRef::as_ref))
    }
}
