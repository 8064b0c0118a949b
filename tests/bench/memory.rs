//! What the programs weigh.

use crate::{Stage, compare::pss_kib};

/// Proportional memory of the controller, and of the amphora with its supervisor.
pub(crate) fn memory_kib(stage: &Stage) -> (u64, u64) {
    let amphora = stage
        .krater
        .amphorae()
        .into_iter()
        .chain(stage.krater.supervisors())
        .map(pss_kib)
        .sum();
    (pss_kib(stage.krater.pid()), amphora)
}
