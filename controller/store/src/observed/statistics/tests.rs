//! Tests of statistics.

use krater_amphora_api::{AmphoraId, BootId, Counters};
use krater_controller_core::{query::ResourceId, tally::Tally};
use uuid::Uuid;

use super::ListenerTally;
use crate::{Committed, fixture::*};

fn counters(bytes_in: u64) -> Counters {
    Counters {
        active_connections: 1,
        bytes_in,
        bytes_out: u64::MAX / 4,
        request_errors: 2,
        total_connections: 3,
    }
}

fn counted(lb: u32, listener: u32, amphora: u128, bytes_in: u64) -> ListenerTally {
    ListenerTally {
        listener: listener_id(lb, listener),
        amphora: AmphoraId::new(Uuid::from_u128(amphora)),
        tally: Tally {
            base: Counters {
                active_connections: 0,
                ..counters(100)
            },
            boot: BootId::new(Uuid::from_u128(1)),
            last: counters(bytes_in),
        },
    }
}

#[tokio::test]
async fn totals_are_sums_over_amphorae_boots_and_listeners() {
    let store = new_store(module_path!()).await;
    let mut two = tree(0, 0);
    two.listeners.push(row(listener(0, 1), at(9)));
    assert_eq!(store.apply(&creation(two)).await.unwrap(), Committed::Done);
    assert_eq!(
        store.apply(&creation(tree(1, 0))).await.unwrap(),
        Committed::Done
    );
    let all = [
        counted(0, 0, 1, 1),
        counted(0, 0, 2, 2),
        counted(0, 1, 1, 4),
        counted(1, 0, 1, 8),
    ];
    store.put_tallies(&all).await.unwrap();
    store
        .put_tallies(&[counted(0, 1, 1, 40), counted(5, 5, 1, 1)])
        .await
        .unwrap();
    store.put_tallies(&[]).await.unwrap();

    let listener = store
        .statistics(ResourceId::Listener(listener_id(0, 0)))
        .await
        .unwrap();
    assert_eq!(
        (
            listener.bytes_in,
            listener.active_connections,
            listener.total_connections
        ),
        (203, 2, 12)
    );
    let whole = store
        .statistics(ResourceId::LoadBalancer(lb_id(0)))
        .await
        .unwrap();
    assert_eq!(
        (whole.bytes_in, whole.bytes_out),
        (343, u64::MAX),
        "and no sum overflows"
    );
    assert_eq!(
        store
            .statistics(ResourceId::LoadBalancer(lb_id(9)))
            .await
            .unwrap(),
        Counters::default()
    );

    assert_eq!(
        store.tallies(lb_id(0)).await.unwrap(),
        [
            counted(0, 0, 1, 1),
            counted(0, 0, 2, 2),
            counted(0, 1, 1, 40)
        ]
    );
    // Of amphorae that are no more too: totals do not fall with them.
    assert_eq!(store.all_tallies().await.unwrap().len(), 4);
}
