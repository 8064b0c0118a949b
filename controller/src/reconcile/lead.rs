//! Generations that no tenant asked for: what leaves an amphora, and where the two are that take turns.

use krater_amphora_api::AmphoraId;
use krater_controller_core::{
    model::{Seat, Topology, Turns},
    plan::{Actual, Carrier, Desired, Intent, Outcome, Settled},
    tree::TreeView,
    turns,
};
use krater_controller_store::StoreError;

use super::Reconciler;

impl Reconciler {
    /// Makes the next generation if what is known asks for one that no tenant did. Answers whether it was made.
    pub(super) async fn lead_on(
        &self,
        view: &TreeView,
        desired: &Desired,
        actual: &Actual,
    ) -> Result<bool, StoreError> {
        if desired.intent == Intent::Absent {
            return Ok(false);
        }
        let is_on = |amphora: AmphoraId| {
            let mut carriers = actual.carriers.iter();
            carriers.any(|carrier| carrier.amphora == amphora)
        };
        let in_force = Settled {
            generation: desired.generation,
            outcome: Outcome::InForce,
        };
        let moves = desired.avoid.is_some_and(is_on);
        let next = view.tree.generation().next();
        let then = view.tree.load_balancer.value.steering.avoid_then;
        if !moves
            && actual.settled == Some(in_force)
            && let Some(then) = then.filter(|then| is_on(*then))
        {
            self.advance(view, next, |steering| {
                (steering.avoid, steering.avoid_then) = (Some(then), None);
            })
            .await?;
            return Ok(true);
        }
        // Of two that take turns one stays until the other one is as wanted.
        let may_leave = |leaving: &&Carrier| {
            let mut others = actual.carriers.iter();
            let ready = |other: &Carrier| {
                other.amphora == leaving.amphora || other.applied >= Some(desired.generation)
            };
            desired.seats.len() == 1 || (!moves && others.all(ready))
        };
        let mut carriers = actual.carriers.iter().filter(may_leave);
        if let Some(carrier) = carriers.find(|carrier| self.must_leave(desired, carrier)) {
            self.send_away(view, carrier.amphora).await?;
            return Ok(true);
        }
        if !moves
            && let Some(turns) = self.turns(view, &actual.carriers)
            && view.tree.load_balancer.value.steering.turns != Some(turns)
        {
            self.advance(view, next, |steering| steering.turns = Some(turns))
                .await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// How the two that carry it take turns, as far as they have said where they are; what was known of one that says
    /// nothing any more holds.
    pub(super) fn turns(&self, view: &TreeView, carriers: &[Carrier]) -> Option<Turns> {
        let balancer = &view.tree.load_balancer.value;
        if balancer.steering.topology != Topology::ActiveStandby {
            return None;
        }
        let place = |seat| {
            let carrier = carriers.iter().find(|carrier| carrier.seat == seat)?;
            let amphora = carrier.amphora;
            let portrait = self.parts.known.sightings.portrait(amphora);
            let said = portrait
                .info
                .and_then(|info| turns::own_address(&info.addresses, balancer.vip.address));
            let known = || {
                let turns = balancer.steering.turns?;
                Some(turns.address(turns.seat(amphora)?))
            };
            Some((amphora, said.or_else(known)?))
        };
        let (first, second) = (place(Seat::First)?, place(Seat::Second)?);
        (first.1 != second.1).then_some(Turns { first, second })
    }

    /// Whether it is on an amphora that is to go and was not told to leave it yet.
    pub(super) fn must_leave(&self, desired: &Desired, carrier: &Carrier) -> bool {
        desired.intent == Intent::Present
            && desired.avoid != Some(carrier.amphora)
            && self.parts.agents.is_retiring(carrier.amphora)
    }

    /// Tells a load balancer to leave its amphora, which is to go. Whoever asked for that told those they knew of; this
    /// is for the ones that a controller which died did not get to.
    async fn send_away(&self, view: &TreeView, from: AmphoraId) -> Result<(), StoreError> {
        let next = view.tree.generation().next();
        self.advance(view, next, |steering| steering.avoid = Some(from))
            .await
    }
}
