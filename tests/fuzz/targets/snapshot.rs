//! What an amphora is sent: refused with reasons, or a snapshot that says what was sent and is ready to be in force.

use krater_amphora::world::Prepared;
use krater_amphora_api::{Rejection, SnapshotSpec};
use krater_amphora_core::snapshot::Snapshot;

pub(super) fn take(bytes: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<SnapshotSpec>(bytes) else {
        return;
    };
    match Snapshot::parse(spec.clone()) {
        Ok(snapshot) => {
            assert!(*snapshot.spec() == spec);
            let written = serde_json::to_vec(&spec).expect("it can be written");
            let again: SnapshotSpec = serde_json::from_slice(&written).expect("and read again");
            assert!(again == spec);
            if let Err(rejections) = Prepared::new(snapshot, None) {
                assert_reasons(&rejections);
            }
        }
        Err(rejections) => assert_reasons(&rejections),
    }
}

fn assert_reasons(rejections: &[Rejection]) {
    assert!(!rejections.is_empty());
    for rejection in rejections {
        assert!(!rejection.reason.is_empty());
    }
}
