//! What to do next for one load balancer, from what is wanted and what is (D5). Level-triggered: the same facts give
//! the same steps, whoever asks and however often, so a crash between two steps needs no special case.

use alloc::vec::Vec;
use core::time::Duration;

use krater_amphora_api::{AmphoraId, Generation};

use crate::{
    blame::Failure,
    model::Seat,
    tree::{LoadBalancerTree, Observed, Touch},
};

/// What the tenant wants, as far as planning goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The newest generation.
    pub generation: Generation,
    /// Whether it is to be there at all.
    pub intent: Intent,
    /// The amphora it is not to be on.
    pub avoid: Option<AmphoraId>,
    /// Where it is to be.
    pub seats: &'static [Seat],
}

/// Whether a load balancer is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// It is to serve.
    Present,
    /// It is to go.
    Absent,
}

impl Desired {
    /// What a tree wants.
    #[must_use]
    pub fn of(tree: &LoadBalancerTree) -> Self {
        let intent = match tree.load_balancer.touch {
            Touch::Create | Touch::Update => Intent::Present,
            Touch::Delete => Intent::Absent,
        };
        Self {
            generation: tree.generation(),
            intent,
            avoid: tree.load_balancer.value.steering.avoid,
            seats: tree.load_balancer.value.steering.topology.seats(),
        }
    }
}

/// What is, as far as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actual {
    /// What settled last; [`Settled::of`].
    pub settled: Option<Settled>,
    /// The amphorae it is placed on.
    pub carriers: Vec<Carrier>,
    /// Amphorae that hold it though it is not, or no longer, placed on them.
    pub strays: Vec<AmphoraId>,
}

impl Actual {
    /// Whether one of these carriers is not known to have in force what is wanted.
    #[must_use]
    pub fn is_behind(&self, desired: &Desired, of: impl Fn(&Carrier) -> bool) -> bool {
        let mut carriers = self.carriers.iter();
        carriers.any(|carrier| of(carrier) && carrier.applied < Some(desired.generation))
    }
}

/// An amphora that carries the load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carrier {
    /// Which amphora.
    pub amphora: AmphoraId,
    /// In which place.
    pub seat: Seat,
    /// Whether it is known where its agent is.
    pub agent: Agent,
    /// The generation it is known to have in force. `None` when unknown, or after it was seen without.
    pub applied: Option<Generation>,
}

/// Whether it is known where an amphora's agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agent {
    /// The compute driver has to be asked.
    Unknown,
    /// It can be called.
    Known,
}

/// A generation that settled, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Which one.
    pub generation: Generation,
    /// How.
    pub outcome: Outcome,
}

/// How a generation settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every amphora it needs has it in force (I6).
    InForce,
    /// It could not be brought into force yet.
    Failed,
}

impl Settled {
    /// What was recorded as settled. Errors of step [`crate::blame::STEP_BIND`] are about a generation in force.
    #[must_use]
    pub fn of(observed: &Observed) -> Option<Self> {
        let failed = observed
            .errors
            .values()
            .any(|reason| reason.step != crate::blame::STEP_BIND);
        let outcome = if failed {
            Outcome::Failed
        } else {
            Outcome::InForce
        };
        observed.settled.map(|generation| Self {
            generation,
            outcome,
        })
    }
}

/// One action, which may be repeated without harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Choose an amphora for that place and record it as carrier; one it leaves by that becomes a stray. Plan again
    /// afterwards: it is the last step of a plan.
    Place(Seat),
    /// Have the compute driver start or find the amphora, and record where its agent is.
    EnsureAmphora(AmphoraId),
    /// Ship the newest generation to the amphora.
    Push {
        /// Which amphora.
        amphora: AmphoraId,
    },
    /// Have the amphora let go of the load balancer. Absent counts as done.
    Remove {
        /// Which amphora.
        amphora: AmphoraId,
    },
    /// Give the addresses back to the network driver.
    ReleaseVip,
    /// Record that a generation settled.
    Settle {
        /// Which one.
        generation: Generation,
        /// How.
        outcome: Outcome,
    },
    /// Delete every trace of the load balancer.
    Forget,
}

/// The steps that bring what is to what is wanted, to be done in order up to the first that fails; then, or when all
/// are done, facts are gathered and planned with anew. Empty: nothing is left to do.
#[must_use]
pub fn plan(desired: &Desired, actual: &Actual) -> Vec<Step> {
    match desired.intent {
        Intent::Present => plan_presence(desired, actual),
        Intent::Absent => plan_release(actual),
    }
}

/// What a failed step comes to after `trying` for so long: the step that records it, or `None` while it should still
/// be tried quietly. Either way it is tried again after [`crate::retry::backoff`].
///
/// What is in force stays in force when an amphora falls silent: that is for operating status to tell.
#[must_use]
pub fn concede(
    desired: &Desired,
    actual: &Actual,
    failure: &Failure,
    trying: Duration,
) -> Option<Step> {
    let in_force = Settled {
        generation: desired.generation,
        outcome: Outcome::InForce,
    };
    if actual.settled == Some(in_force) || trying < failure.patience() {
        return None;
    }
    Some(Step::Settle {
        generation: desired.generation,
        outcome: Outcome::Failed,
    })
}

fn plan_presence(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let stays = |carrier: &&Carrier| desired.avoid != Some(carrier.amphora);
    let is_taken = |seat: &Seat| {
        let mut carriers = actual.carriers.iter().filter(stays);
        carriers.any(|carrier| carrier.seat == *seat)
    };
    if let Some(seat) = desired.seats.iter().find(|seat| !is_taken(seat)) {
        let mut steps = Vec::new();
        let mut carriers = actual.carriers.iter();
        // Of two that take turns one stays until the other one is as wanted.
        if carriers.any(|leaving| leaving.seat == *seat)
            && actual.is_behind(desired, |carrier| carrier.seat != *seat)
        {
            steps = plan_pushes(desired, actual);
        }
        steps.push(Step::Place(*seat));
        return steps;
    }
    let mut steps = plan_pushes(desired, actual);
    // Only after the new place serves: moving must not leave a gap.
    let strays = actual.strays.iter().filter(|stray| {
        actual
            .carriers
            .iter()
            .all(|carrier| carrier.amphora != **stray)
    });
    steps.extend(strays.map(|amphora| Step::Remove { amphora: *amphora }));
    let in_force = Settled {
        generation: desired.generation,
        outcome: Outcome::InForce,
    };
    if actual.settled != Some(in_force) {
        steps.push(Step::Settle {
            generation: desired.generation,
            outcome: Outcome::InForce,
        });
    }
    steps
}

fn plan_pushes(desired: &Desired, actual: &Actual) -> Vec<Step> {
    let mut steps = Vec::new();
    for carrier in &actual.carriers {
        if carrier.applied >= Some(desired.generation) {
            continue;
        }
        if carrier.agent == Agent::Unknown {
            steps.push(Step::EnsureAmphora(carrier.amphora));
        }
        steps.push(Step::Push {
            amphora: carrier.amphora,
        });
    }
    steps
}

fn plan_release(actual: &Actual) -> Vec<Step> {
    let carriers = actual.carriers.iter().map(|carrier| carrier.amphora);
    let mut holders: Vec<AmphoraId> = carriers.chain(actual.strays.iter().copied()).collect();
    holders.sort_unstable();
    holders.dedup();
    let mut steps: Vec<Step> = holders
        .into_iter()
        .map(|amphora| Step::Remove { amphora })
        .collect();
    // The address may be given to somebody else from then on, so only after nobody answers on it.
    steps.push(Step::ReleaseVip);
    steps.push(Step::Forget);
    steps
}

#[cfg(test)]
mod tests;
