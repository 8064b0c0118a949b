//! Generations that no tenant asked for: what leaves an amphora, and where the two are that take turns.

use std::{collections::BTreeMap, net::IpAddr};

use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    blame::Failure,
    model::{Seat, Topology, Turns},
    place::NoRoom,
    plan::{Actual, Carrier, Desired, Intent, Outcome, Settled},
    tree::TreeView,
    turns,
};
use krater_controller_store::{OwnAddress, StoreError};
use krater_driver::Taken;

use super::Reconciler;

impl Reconciler {
    /// Makes the next generation if what is known asks for one that no tenant did.
    pub(super) async fn lead_on(
        &self,
        view: &TreeView,
        desired: &Desired,
        actual: &Actual,
    ) -> Result<Led, StoreError> {
        if desired.intent == Intent::Absent {
            return Ok(Led::Nowhere);
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
            return Ok(Led::On);
        }
        // Of two that take turns one stays until the other one is as wanted.
        let may_leave = |leaving: &&Carrier| {
            let is_waited_for = |other: &Carrier| other.amphora != leaving.amphora;
            desired.seats.len() == 1 || (!moves && !actual.is_behind(desired, is_waited_for))
        };
        let mut carriers = actual.carriers.iter().filter(may_leave);
        if let Some(carrier) = carriers.find(|carrier| self.must_leave(desired, carrier)) {
            self.send_away(view, carrier.amphora).await?;
            return Ok(Led::On);
        }
        // Who is told to leave takes turns until then.
        let stays = |carrier: &Carrier| desired.avoid != Some(carrier.amphora);
        let is_late = moves && !actual.is_behind(desired, stays);
        if is_late || view.tree.load_balancer.value.steering.topology != Topology::ActiveStandby {
            return Ok(Led::Nowhere);
        }
        let handed_out = match self.hand_out(view, &actual.carriers).await? {
            Ok(handed_out) => handed_out,
            Err(failure) => return Ok(Led::Wanting(failure)),
        };
        if let Some(turns) = self.turns(view, &actual.carriers, handed_out.as_ref())
            && view.tree.load_balancer.value.steering.turns != Some(turns)
        {
            self.advance(view, next, |steering| steering.turns = Some(turns))
                .await?;
            return Ok(Led::On);
        }
        Ok(Led::Nowhere)
    }

    /// Whether the two that carry it are to take turns otherwise than is written down, as far as that shows without asking
    /// anybody.
    pub(super) fn takes_turns_anew(&self, view: &TreeView, carriers: &[Carrier]) -> bool {
        let balancer = &view.tree.load_balancer.value;
        if balancer.steering.topology != Topology::ActiveStandby {
            return false;
        }
        let none = BTreeMap::new();
        let has_own = self
            .parts
            .network
            .has_own_addresses(balancer.vip.network_id);
        if has_own && !carriers.iter().all(|carrier| is_seated(view, carrier)) {
            return true;
        }
        self.turns(view, carriers, has_own.then_some(&none))
            .is_some_and(|turns| balancer.steering.turns != Some(turns))
    }

    /// Gives each of those that carry it an address of its own, where amphorae have no others on its network.
    async fn hand_out(
        &self,
        view: &TreeView,
        carriers: &[Carrier],
    ) -> Result<Result<Option<BTreeMap<AmphoraId, IpAddr>>, Failure>, StoreError> {
        let (id, balancer) = (view.tree.id(), &view.tree.load_balancer.value);
        let vip = &balancer.vip;
        let (network, store) = (&self.parts.network, &self.parts.known.store);
        if !network.has_own_addresses(vip.network_id) {
            return Ok(Ok(None));
        }
        if carriers.iter().all(|carrier| is_seated(view, carrier)) {
            return Ok(Ok(Some(BTreeMap::new())));
        }
        let mut own = store.own_addresses(id).await?;
        for carrier in carriers {
            let mut tries = 0;
            while !own.contains_key(&carrier.amphora) {
                let taken = Taken {
                    addresses: store.taken_addresses().await?,
                    ..Taken::default()
                };
                let chosen = match network.choose_own_address(vip, &taken).await {
                    Ok(chosen) if tries < CLAIMS_MAX => chosen,
                    Ok(_) => return Ok(Err(no_address("others were faster"))),
                    Err(error) => return Ok(Err(no_address(&error.to_string()))),
                };
                let wanted = (chosen, vip.network_id);
                let claimed = store.claim_own_address(id, carrier.amphora, wanted);
                match claimed.await? {
                    OwnAddress::Has(address) => {
                        tracing::debug!(lb = %id, amphora = %carrier.amphora, %address, "the amphora has an address of its own");
                        own.insert(carrier.amphora, address);
                    }
                    OwnAddress::Taken => {
                        // Another process has it: what is remembered of those in use is old.
                        store.doubt_addresses();
                        tries += 1;
                    }
                    OwnAddress::Gone => break,
                }
            }
        }
        Ok(Ok(Some(own)))
    }

    /// How the two that carry it take turns, as far as they have said where they are, or were given addresses of their
    /// own; what was known of one that says nothing any more holds.
    fn turns(
        &self,
        view: &TreeView,
        carriers: &[Carrier],
        handed_out: Option<&BTreeMap<AmphoraId, IpAddr>>,
    ) -> Option<Turns> {
        let balancer = &view.tree.load_balancer.value;
        let place = |seat| {
            let carrier = carriers.iter().find(|carrier| carrier.seat == seat)?;
            let amphora = carrier.amphora;
            let said = match handed_out {
                Some(own) => own.get(&amphora).copied(),
                None => {
                    let info = self.parts.known.sightings.portrait(amphora).info;
                    info.and_then(|its| turns::own_address(&its.addresses, balancer.vip.address))
                }
            };
            let known = || {
                let turns = balancer.steering.turns?;
                Some(turns.address(turns.seat(amphora)?))
            };
            Some((amphora, said.or_else(known)?))
        };
        let (first, second) = (place(Seat::First)?, place(Seat::Second)?);
        (first.1 != second.1).then_some(Turns { first, second })
    }

    /// Whether it is on an amphora that is to go.
    pub(super) fn is_to_move(&self, id: LoadBalancerId) -> bool {
        let places = self.parts.known.placements.places(id).into_iter();
        let mut amphorae = places.map(|(_, amphora)| amphora);
        amphorae.any(|amphora| self.parts.agents.is_retiring(amphora))
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

/// What came of looking for a generation to make.
pub(super) enum Led {
    /// One was made.
    On,
    /// There is none to make.
    Nowhere,
    /// There would be, but for this.
    Wanting(Failure),
}

/// Whether it is written down at which address the amphora takes turns.
fn is_seated(view: &TreeView, carrier: &Carrier) -> bool {
    let turns = view.tree.load_balancer.value.steering.turns.as_ref();
    turns.is_some_and(|turns| turns.seat(carrier.amphora).is_some())
}

fn no_address(reason: &str) -> Failure {
    Failure::NoRoom(NoRoom::NoAddress {
        reason: reason.to_owned(),
    })
}

/// So often an address is asked for that others turn out to have.
const CLAIMS_MAX: usize = 16;
