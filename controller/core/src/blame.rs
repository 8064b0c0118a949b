//! Who is in `ERROR` when something failed, and what it says there (reference 18.4).

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use krater_amphora_api::{AmphoraId, Rejection, Subject};
use uuid::Uuid;

use crate::{
    model::SecretRef,
    place::NoRoom,
    resource::ResourceId,
    status::Reason,
    tree::{LoadBalancerTree, TreeView},
};

/// The step of errors about a port that an amphora could not have: the generation itself is in force.
pub const STEP_BIND: &str = "bind";

/// Why a step of a plan failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no amphora to place it on.
    NoRoom(NoRoom),
    /// The compute driver could not start the amphora.
    NotStarted {
        /// Which one.
        amphora: AmphoraId,
        /// Why, as a sentence.
        detail: String,
    },
    /// The amphora did not answer, or answered that it is not able right now.
    Unreachable {
        /// Which one.
        amphora: AmphoraId,
        /// Why, as a sentence.
        detail: String,
    },
    /// The amphora that it was moved away from, or is deleted from, did not say that it let go.
    NotLeft {
        /// Which one.
        amphora: AmphoraId,
        /// Why, as a sentence.
        detail: String,
    },
    /// The amphora refused the snapshot.
    Refused {
        /// Which one.
        amphora: AmphoraId,
        /// Its reasons; empty when it gave none.
        rejections: Vec<Rejection>,
        /// Its message, used when it gave no reasons.
        message: String,
    },
    /// A secret that a resource of it needs cannot be had.
    NoSecret {
        /// Who needs it.
        of: ResourceId,
        /// Where it should be.
        reference: SecretRef,
        /// Why, as a sentence without anything secret.
        detail: String,
        /// Whether it is there and not what it should be.
        unusable: bool,
    },
    /// The network driver could not take the addresses back.
    NotReleased {
        /// Why, as a sentence.
        detail: String,
    },
}

/// How long an operation stays pending while what it needs does not answer: a process is restarted in less.
pub const PATIENCE: Duration = Duration::from_secs(3);

impl Failure {
    /// How long it is tried quietly before it shows as `ERROR`. A refusal will not change by asking again.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        match self {
            Self::Refused { .. } => Duration::ZERO,
            _ => PATIENCE,
        }
    }
}

/// The errors that `failure` leaves a tree with, by resource id: what is recorded when its newest generation settles
/// as failed.
///
/// In `ERROR` are: what the amphora's reasons are about; what the changes that have not settled named (not what they
/// only touched, reference 18.4); and what was in `ERROR` before and is still there, since nothing has healed it.
#[must_use]
pub fn errors(view: &TreeView, failure: &Failure) -> BTreeMap<Uuid, Reason> {
    let before = &view.observed.errors;
    let mut errors: BTreeMap<Uuid, Reason> = view
        .tree
        .facts()
        .filter_map(|facts| before.get_key_value(&facts.id.uuid()))
        .map(|(id, reason)| (*id, renewed(reason, failure)))
        .collect();
    for id in named_by_unsettled(view) {
        errors.insert(id, reason(failure));
    }
    if let Failure::Refused { rejections, .. } = failure {
        for rejection in rejections {
            let id = blamed(&view.tree, rejection.subject);
            errors.insert(id, refused(rejection.reason.clone()));
        }
    }
    if let Failure::NoSecret { of, .. } = failure {
        errors.insert(of.uuid(), reason(failure));
    }
    if errors.is_empty() {
        errors.insert(view.tree.id().uuid(), reason(failure));
    }
    errors
}

/// What an old error says now. A port is another matter, and a refusal says more than that nobody answers.
fn renewed(old: &Reason, failure: &Failure) -> Reason {
    let outlasts = match failure {
        Failure::Refused { .. } => old.step == STEP_BIND,
        _ => old.step == STEP_BIND || old.code == CODE_REFUSED,
    };
    if outlasts {
        old.clone()
    } else {
        reason(failure)
    }
}

/// The resources that changes which have not settled named, in contrast to those they only touched.
///
/// All rows of one generation were touched at one time, and those named carry that time as their last change. Time
/// does not run backwards within a tree (`admit` sees to that), so it is the latest of its generation.
fn named_by_unsettled(view: &TreeView) -> Vec<Uuid> {
    let settled = view.observed.settled;
    let unsettled = || {
        view.tree
            .facts()
            .filter(move |facts| settled.is_none_or(|settled| settled < facts.generation))
    };
    let mut latest = BTreeMap::new();
    for facts in unsettled() {
        let at = latest.entry(facts.generation).or_insert(facts.changed_at);
        *at = facts.changed_at.max(*at);
    }
    unsettled()
        .filter(|facts| latest.get(&facts.generation) == Some(&facts.changed_at))
        .map(|facts| facts.id.uuid())
        .collect()
}

/// The resource a rejection is about; the load balancer when the tree has none such.
fn blamed(tree: &LoadBalancerTree, subject: Subject) -> Uuid {
    let id = match subject {
        Subject::LoadBalancer => ResourceId::LoadBalancer(tree.id()),
        Subject::Listener(id) => ResourceId::Listener(id),
        Subject::Pool(id) => ResourceId::Pool(id),
        Subject::Member(id) => ResourceId::Member(id),
        Subject::HealthMonitor(id) => ResourceId::HealthMonitor(id),
    };
    if tree.contains(id) {
        id.uuid()
    } else {
        tree.id().uuid()
    }
}

/// What a failure says on a resource that no particular reason is about.
fn reason(failure: &Failure) -> Reason {
    let (code, step, message) = match failure {
        Failure::NoRoom(no_room) => (no_room.code(), "place", no_room.sentence()),
        Failure::NotStarted { amphora, detail } => (
            "amphora_not_started",
            "start",
            format!("amphora {amphora} cannot be started: {detail}"),
        ),
        Failure::Unreachable { amphora, detail } => (
            "amphora_unreachable",
            "apply",
            format!("amphora {amphora} does not answer: {detail}"),
        ),
        Failure::NotLeft { amphora, detail } => (
            "amphora_unreachable",
            "remove",
            format!(
                "amphora {amphora} may still serve the load balancer, which is to leave it: {detail}"
            ),
        ),
        Failure::NoSecret {
            of,
            reference,
            detail,
            unusable,
        } => (
            if *unusable {
                "secret_unusable"
            } else {
                "secret_unavailable"
            },
            "secrets",
            format!(
                "{} that {} {} refers to: {detail}",
                reference.as_str(),
                of.kind(),
                of.uuid()
            ),
        ),
        Failure::NotReleased { detail } => (
            "address_not_released",
            "release",
            format!("the network does not take the addresses back: {detail}"),
        ),
        Failure::Refused {
            amphora,
            rejections,
            message,
        } => {
            let because = rejections
                .first()
                .map_or_else(|| message.clone(), ToString::to_string);
            return refused(format!(
                "not in force, since amphora {amphora} refused the whole: {because}"
            ));
        }
    };
    known(Reason {
        code: code.into(),
        message,
        step: step.into(),
        heals: true,
    })
}

/// A reason that is in the table of them.
fn known(reason: Reason) -> Reason {
    debug_assert!(reason.is_known(), "{reason:?} is not in the table of codes");
    reason
}

/// Asking again will not change it: it takes another change of the tenant's, or another release of the amphora.
fn refused(message: String) -> Reason {
    known(Reason {
        code: CODE_REFUSED.into(),
        message,
        step: "apply".into(),
        heals: false,
    })
}

const CODE_REFUSED: &str = "refused_by_amphora";

#[cfg(test)]
mod tests;
