//! The one place of this crate that reads the clock of the wall: tokens end at a time of day.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// How long until `end`; nothing when it has passed.
pub(crate) fn left_until(end: Timestamp) -> Duration {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let end_seconds = u64::try_from(end.as_second()).unwrap_or_default();
    Duration::from_secs(end_seconds).saturating_sub(since_epoch)
}
