//! Whose each listener, pool and member is, and what may follow what.

use std::sync::Arc;

use hashbrown::HashMap;
use krater_amphora_api::{LoadBalancerId, Rejection};
use krater_amphora_core::snapshot::Snapshot;

use crate::world::{Part, Prepared};

/// What becomes of one load balancer; `None` is its absence.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) id: LoadBalancerId,
    pub(super) old: Option<Arc<Snapshot>>,
    pub(super) new: Option<Prepared>,
}

impl Change {
    pub(super) fn new(
        id: LoadBalancerId,
        old: Option<Arc<Snapshot>>,
        new: Option<Prepared>,
    ) -> Self {
        Self { id, old, new }
    }

    /// What is there afterwards.
    pub(super) fn coming(&self) -> Option<(LoadBalancerId, &Arc<Snapshot>)> {
        Some((self.id, &self.new.as_ref()?.snapshot))
    }
}

/// The load balancer of each part. Changed in place: it grows with all that is carried, a change only with itself.
#[derive(Debug, Default)]
pub(super) struct Owners(HashMap<Part, LoadBalancerId>);

impl Owners {
    /// Every part of `snapshot` that another load balancer has. Taking it away would break that one, so a snapshot is
    /// put in force only if there is none.
    pub(super) fn conflicts(&self, snapshot: &Snapshot) -> Vec<Rejection> {
        let id = snapshot.load_balancer();
        Part::all_of(snapshot)
            .filter_map(|part| {
                let owner = *self.0.get(&part)?;
                (owner != id).then(|| part.taken_by(owner))
            })
            .collect()
    }

    /// Takes in the changes that do not conflict, and sorts out the others with the reasons.
    ///
    /// What one gives up others may take. One that is refused gives up nothing, which may refuse another one in turn:
    /// so they are taken in anew until nobody is refused any more.
    pub(super) fn admit(
        &mut self,
        changes: &mut Vec<Change>,
        refused: &mut Vec<(LoadBalancerId, Vec<Rejection>)>,
    ) {
        loop {
            changes.iter().for_each(|change| self.release(change));
            let mut admitted = 0;
            let conflict = changes.iter().enumerate().find_map(|(at, change)| {
                let conflicts = change.new.as_ref().map(|new| self.conflicts(new));
                if let Some(conflicts) = conflicts.filter(|conflicts| !conflicts.is_empty()) {
                    return Some((at, conflicts));
                }
                self.claim(change.id, change.new.as_deref());
                admitted = at + 1;
                None
            });
            let Some((at, conflicts)) = conflict else {
                return;
            };
            for change in changes.iter().take(admitted) {
                self.disown(change.new.as_deref());
            }
            for change in changes.iter() {
                self.claim(change.id, change.old.as_deref());
            }
            refused.push((changes.remove(at).id, conflicts));
        }
    }

    /// Lets go of what a load balancer had.
    pub(super) fn release(&mut self, change: &Change) {
        self.disown(change.old.as_deref());
    }

    fn disown(&mut self, snapshot: Option<&Snapshot>) {
        for part in snapshot.into_iter().flat_map(Part::all_of) {
            self.0.remove(&part);
        }
    }

    fn claim(&mut self, id: LoadBalancerId, snapshot: Option<&Snapshot>) {
        let parts = snapshot.into_iter().flat_map(Part::all_of);
        self.0.extend(parts.map(|part| (part, id)));
    }
}

#[cfg(test)]
mod tests;
