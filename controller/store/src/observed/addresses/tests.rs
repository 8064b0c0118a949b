//! Tests of addresses that amphorae have for themselves.

use jiff::Timestamp;
use krater_controller_core::model::Tenancy;
use uuid::Uuid;

use super::*;
use crate::{AmphoraRecord, Committed, Fate, fixture::*};

fn amphora(n: u128) -> AmphoraId {
    AmphoraId::new(Uuid::from_u128((9 << 96) | n))
}

fn record(n: u128) -> AmphoraRecord {
    AmphoraRecord {
        id: amphora(n),
        created_at: Timestamp::UNIX_EPOCH,
        agent: None,
        metrics: None,
        boot: None,
        version: None,
        pid: None,
        last_seen: None,
        zone: "local".into(),
        tenancy: Tenancy::Dedicated,
        fate: Fate::Stays,
        updated_at: None,
        host: "here".into(),
        network: Some(NETWORK),
    }
}

/// Two load balancers, and two amphorae.
async fn ground() -> Store {
    let store = new_store(module_path!()).await;
    for lb in [0, 1] {
        let created = store.apply(&creation(tree(lb, 0))).await.unwrap();
        assert_eq!(created, Committed::Done);
    }
    for n in [1, 2] {
        store.put_amphora(&record(n)).await.unwrap();
    }
    store
}

async fn claim(store: &Store, lb: u32, n: u128, last: u32) -> OwnAddress {
    let wanted = (address(last), NETWORK);
    store
        .claim_own_address(lb_id(lb), amphora(n), wanted)
        .await
        .unwrap()
}

#[tokio::test]
async fn an_amphora_has_an_address_that_nobody_else_gets_until_it_goes() {
    let store = ground().await;
    let taken = store.taken_addresses().await.unwrap().len();
    assert_eq!(
        claim(&store, 0, 1, 0).await,
        OwnAddress::Taken,
        "of a load balancer"
    );
    assert_eq!(claim(&store, 0, 1, 50).await, OwnAddress::Has(address(50)));
    // Whoever asks for another one learns of that.
    assert_eq!(claim(&store, 0, 1, 51).await, OwnAddress::Has(address(50)));
    assert_eq!(
        claim(&store, 0, 2, 50).await,
        OwnAddress::Taken,
        "of an amphora"
    );
    assert_eq!(claim(&store, 0, 2, 51).await, OwnAddress::Has(address(51)));
    let own = store.own_addresses(lb_id(0)).await.unwrap();
    let expected = [(amphora(1), address(50)), (amphora(2), address(51))];
    assert_eq!(own, expected.into());
    assert_eq!(store.taken_addresses().await.unwrap().len(), taken + 2);
    // No load balancer gets it either.
    let refused = store.apply(&creation(tree(50, 0))).await.unwrap();
    assert_eq!(refused, Committed::AddressTaken(address(50)));
    store.forget_amphora(amphora(1)).await.unwrap();
    assert_eq!(store.taken_addresses().await.unwrap().len(), taken + 1);
    let created = store.apply(&creation(tree(50, 0))).await.unwrap();
    assert_eq!(created, Committed::Done);
}

#[tokio::test]
async fn an_own_address_goes_with_the_load_balancer_that_it_is_for() {
    let store = ground().await;
    assert_eq!(claim(&store, 0, 1, 50).await, OwnAddress::Has(address(50)));
    // The same amphora, for another one.
    assert_eq!(claim(&store, 1, 1, 51).await, OwnAddress::Has(address(51)));
    let taken = store.taken_addresses().await.unwrap().len();
    let own = store.apply(&deletion(tree(0, 0))).await.unwrap();
    assert_eq!(own, Committed::Done);
    store.forget(lb_id(0)).await.unwrap();
    assert_eq!(
        store.own_addresses(lb_id(0)).await.unwrap(),
        BTreeMap::new()
    );
    let left = store.taken_addresses().await.unwrap();
    assert!(!left.contains(&(address(50), NETWORK)) && left.contains(&(address(51), NETWORK)));
    assert!(left.len() < taken);
}

#[tokio::test]
async fn nobody_who_is_gone_gets_an_address() {
    let store = ground().await;
    assert_eq!(claim(&store, 0, 7, 50).await, OwnAddress::Gone);
    assert_eq!(claim(&store, 7, 1, 50).await, OwnAddress::Gone);
}

#[tokio::test]
async fn one_address_is_given_once_whoever_asks_at_the_same_time() {
    let store = ground().await;
    for n in 3..9 {
        store.put_amphora(&record(n)).await.unwrap();
    }
    let mut claims = tokio::task::JoinSet::new();
    for n in 3..9 {
        let store = store.clone();
        claims.spawn(async move { claim(&store, 0, n, 50).await });
    }
    let given = claims.join_all().await;
    let given = given.iter().filter(|it| matches!(it, OwnAddress::Has(_)));
    assert_eq!(given.count(), 1);
}
