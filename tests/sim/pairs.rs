//! What must hold of load balancers that two amphorae take turns at: one of the two serves at any time.

use std::collections::BTreeMap;

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    model::{Seat, Topology},
    plan::{Desired, Intent, Outcome, Settled},
    tree::TreeView,
};

/// All of them, as they were when last looked at.
#[derive(Default)]
pub(crate) struct Pairs {
    known: BTreeMap<LoadBalancerId, Pair>,
}

#[derive(Default)]
struct Pair {
    /// It was in force on two.
    was_served: bool,
    /// A disk lost it: there may be nobody who could serve.
    is_lost: bool,
    /// Who let go of it while nobody else had it.
    bare: Option<AmphoraId>,
    places: BTreeMap<Seat, AmphoraId>,
}

impl Pairs {
    /// One load balancer as it is stored, and who holds it.
    pub(crate) fn look(
        &mut self,
        view: &TreeView,
        places: &BTreeMap<Seat, AmphoraId>,
        holds: impl Fn(AmphoraId) -> bool,
    ) -> Vec<String> {
        let (id, balancer) = (view.tree.id(), &view.tree.load_balancer.value);
        if balancer.steering.topology == Topology::Single {
            return Vec::new();
        }
        if Desired::of(&view.tree).intent == Intent::Absent {
            self.known.remove(&id);
            return Vec::new();
        }
        let mut found = Vec::new();
        let pair = self.known.entry(id).or_default();
        if let Some(amphora) = pair.bare.take() {
            found.push(format!(
                "{id} left amphora {amphora} while no other one had it in force"
            ));
        }
        for (seat, now) in places {
            let before = pair.places.insert(*seat, *now);
            let mut others = places.iter().filter(|(taken, _)| *taken != seat);
            let waits_for = others.find(|(_, other)| !holds(**other));
            if let (Some(before), Some((_, other))) = (before, waits_for)
                && before != *now
                && pair.was_served
                && !pair.is_lost
            {
                found.push(format!(
                    "both amphorae of {id} are replaced at once: {before} by {now} while {other} does not have it in force"
                ));
            }
        }
        let is_settled = Settled::of(&view.observed).is_some_and(|settled| {
            settled.outcome == Outcome::InForce && settled.generation == view.tree.generation()
        });
        if is_settled && places.len() == 2 && places.values().all(|amphora| holds(*amphora)) {
            (pair.was_served, pair.is_lost) = (true, false);
        }
        found
    }

    /// An amphora does not have it any more, and no other one does.
    pub(crate) fn note_bare(&mut self, id: LoadBalancerId, amphora: AmphoraId) {
        if let Some(pair) = self.known.get_mut(&id)
            && pair.was_served
            && !pair.is_lost
        {
            pair.bare = Some(amphora);
        }
    }

    /// The disk of an amphora lost it.
    pub(crate) fn note_lost(&mut self, id: LoadBalancerId) {
        if let Some(pair) = self.known.get_mut(&id) {
            pair.is_lost = true;
        }
    }
}
