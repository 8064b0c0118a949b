//! How many descriptors the process may have, and who may use them.

use rustix::process::{Resource, getrlimit};

use crate::limits::{DESCRIPTORS_RESERVED, SESSIONS_MAX};

/// Descriptors from this number on are left to the rest of the process. The lowest free number is given out, so that a
/// connection with this one says that so many are in use.
pub(super) fn descriptors_max() -> i32 {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = limit - DESCRIPTORS_RESERVED.min(limit / 2);
    i32::try_from(left).unwrap_or(i32::MAX)
}

/// UDP sessions of one of so many threads. Anybody can begin one in another's name, so that all of them together get
/// no more than half of the descriptors.
pub(super) fn sessions_max(cores: usize) -> usize {
    let descriptors = usize::try_from(descriptors_max()).unwrap_or(0);
    (descriptors / 2 / cores).clamp(1, SESSIONS_MAX)
}
