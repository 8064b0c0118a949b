//! What the programs weigh, and the processor time they take.

use std::{fs, time::Duration};

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

/// Processor time of a process, of its threads that have ended as well: in hundredths of a second, as the kernel tells
/// it (proc(5), fields 14 and 15 of stat).
pub(crate) fn of_process(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(10 * ticks)
}
