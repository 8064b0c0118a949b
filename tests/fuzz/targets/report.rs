//! What amphorae say of themselves: refused, or read as it was written, also by who knows nothing of causes.

use krater_amphora_api::Report;

pub(super) fn take(bytes: &[u8]) {
    let Ok(report) = serde_json::from_slice::<Report>(bytes) else {
        return;
    };
    let written = serde_json::to_vec(&report).expect("it can be written");
    let again: Report = serde_json::from_slice(&written).expect("and read again");
    assert_eq!(again, report);
}
