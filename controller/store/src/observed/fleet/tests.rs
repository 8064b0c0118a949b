//! Tests of the fleet.

use std::collections::BTreeMap;

use krater_amphora_api::{AmphoraId, BootId};
use uuid::Uuid;

use super::AmphoraRecord;
use crate::{Committed, Store, fixture::*};

fn amphora(n: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128((9 << 96) | n))
}

fn record(n: u128) -> AmphoraRecord {
    AmphoraRecord {
        id: amphora(n),
        created_at: at(100),
        agent: None,
        metrics: None,
        boot: None,
        version: None,
        pid: None,
        last_seen: None,
    }
}

#[tokio::test]
async fn an_amphora_is_remembered_with_all_that_was_heard_of_it_since() {
    let store = Store::in_memory().await.unwrap();
    let fresh = record(2);
    store.put_amphora(&fresh).await.unwrap();
    assert_eq!(
        store.amphorae().await.unwrap(),
        std::slice::from_ref(&fresh)
    );
    let seen = AmphoraRecord {
        agent: Some("127.0.0.1:1".into()),
        metrics: Some("127.0.0.1:2".into()),
        boot: Some(BootId::new(Uuid::from_u128(5))),
        version: Some("0.1.0".into()),
        pid: Some(u32::MAX),
        last_seen: Some(at(200)),
        ..fresh
    };
    store.put_amphora(&seen).await.unwrap();
    store
        .put_amphora(&AmphoraRecord {
            created_at: at(50),
            ..record(3)
        })
        .await
        .unwrap();
    let ids: Vec<_> = store
        .amphorae()
        .await
        .unwrap()
        .into_iter()
        .map(|amphora| amphora.id)
        .collect();
    assert_eq!(ids, [amphora(3), amphora(2)], "oldest first");
    assert_eq!(store.amphorae().await.unwrap()[1], seen);
    store.forget_amphora(amphora(3)).await.unwrap();
    store.forget_amphora(amphora(3)).await.unwrap();
    assert_eq!(store.amphorae().await.unwrap(), [seen]);
}

#[tokio::test]
async fn a_placement_needs_both_ends_moves_and_goes_with_either() {
    let store = Store::in_memory().await.unwrap();
    for lb in 0..3 {
        assert_eq!(
            store.apply(&creation(tree(lb, 0))).await.unwrap(),
            Committed::Done
        );
    }
    assert!(!store.put_placement(lb_id(0), amphora(1)).await.unwrap());
    for n in [1, 2] {
        store.put_amphora(&record(n)).await.unwrap();
    }
    assert!(!store.put_placement(lb_id(9), amphora(1)).await.unwrap());
    for lb in 0..3 {
        assert!(store.put_placement(lb_id(lb), amphora(1)).await.unwrap());
    }
    assert!(store.put_placement(lb_id(2), amphora(2)).await.unwrap());
    assert_eq!(store.placement(lb_id(2)).await.unwrap(), Some(amphora(2)));
    assert_eq!(store.placement(lb_id(9)).await.unwrap(), None);
    assert_eq!(
        store.placements_of(amphora(1)).await.unwrap(),
        [lb_id(0), lb_id(1)]
    );
    assert_eq!(
        store.apply(&deletion(tree(0, 0))).await.unwrap(),
        Committed::Done
    );
    store.forget(lb_id(0)).await.unwrap();
    store.forget_amphora(amphora(2)).await.unwrap();
    assert_eq!(
        store.placements().await.unwrap(),
        BTreeMap::from([(lb_id(1), amphora(1))])
    );
}
