//! The one place of this program that reads the clock of the wall.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

use crate::realm::{self, Realm};

/// The present, to the microsecond. A clock set before 1970 reads as 1970.
pub(crate) fn now() -> Timestamp {
    realm::ask(Realm::now).unwrap_or_else(system_now)
}

fn system_now() -> Timestamp {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let microseconds = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_microsecond(microseconds).unwrap_or(Timestamp::MAX)
}
