//! What only a server does: it goes away and comes back, refuses, and has several who use it.

use std::time::{Duration, Instant};

use krater_controller_core::query::{ResourceId, TreeFilter};

use crate::{
    Committed, ServerSettings, Store, StoreError,
    fixture::{postgres::Postgres, *},
};

async fn count(store: &Store) -> Result<usize, StoreError> {
    Ok(store.views(&TreeFilter::default()).await?.len())
}

async fn put(store: &Store, lb: u32) -> Result<(), StoreError> {
    let done = store.apply(&creation(tree(lb, 2))).await?;
    assert_eq!(done, Committed::Done);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_killed_costs_an_error_and_nothing_once_it_is_back() {
    let server = Postgres::start();
    let settings = settings_of(server.database().0);
    let (one, two) = (
        Store::connect(&settings).await.unwrap(),
        Store::connect(&settings).await.unwrap(),
    );
    let mut news = two.listen().unwrap();
    put(&one, 0).await.unwrap();
    server.kill();
    let began = Instant::now();
    for store in [&one, &two] {
        let refused = put(store, 1).await.unwrap_err();
        assert!(
            matches!(refused, StoreError::Unreachable { .. }),
            "{refused:?}"
        );
        let refused = count(store).await.unwrap_err().to_string();
        assert!(
            refused.contains("requests will be accepted again"),
            "{refused}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    server.resume();
    for (number, store) in [(1, &one), (2, &two)] {
        // More than there are connections.
        for _ in 0..10 {
            let all = tokio::join!(count(store), count(store), count(store), count(store));
            let (a, b, c, d) = all;
            for found in [a, b, c, d] {
                assert_eq!(found.unwrap(), number);
            }
        }
        put(store, number.try_into().unwrap()).await.unwrap();
    }
    // News come through again; whoever listens is told that some may have been missed.
    while news.next().await.is_some() {}
    let told = async {
        loop {
            if news.next().await.as_deref() == Some("something") {
                return;
            }
        }
    };
    let telling = async {
        loop {
            one.announce("something");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = told => {}
        () = telling => {}
    }
}

#[tokio::test]
async fn a_transaction_that_is_dropped_is_undone_and_its_connection_used_again() {
    let settings = ServerSettings {
        connections_max: 2,
        ..new_database()
    };
    let store = Store::connect(&settings).await.unwrap();
    for lb in 0..10 {
        let mut open = store.begin("begin").await.unwrap();
        let statement = sqlx::query("DELETE FROM resource");
        open.run("delete", statement).await.unwrap();
        drop(open);
        put(&store, lb).await.unwrap();
    }
    assert_eq!(count(&store).await.unwrap(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn several_stores_on_one_database_lose_no_change_and_give_no_address_twice() {
    let settings = new_database();
    let mut stores = Vec::new();
    for _ in 0..3 {
        // The first ones bring the schema up to date side by side.
        let settings = settings.clone();
        stores.push(tokio::spawn(async move { Store::connect(&settings).await }));
    }
    let mut writers = tokio::task::JoinSet::new();
    for store in stores {
        let store = store.await.unwrap().unwrap();
        writers.spawn(async move {
            let mut won = 0;
            for lb in 0..30 {
                won += usize::from(
                    store.apply(&creation(tree(lb, 1))).await.unwrap() == Committed::Done,
                );
                let root = ResourceId::LoadBalancer(lb_id(lb));
                loop {
                    let found = store.tree(root).await.unwrap().unwrap();
                    let change = update(found, root, |tree, _| {
                        tree.load_balancer.value.vip_qos_policy_id = None;
                    });
                    if store.apply(&change).await.unwrap() == Committed::Done {
                        break;
                    }
                }
            }
            (won, store)
        });
    }
    let all = writers.join_all().await;
    assert_eq!(all.iter().map(|(won, _)| won).sum::<usize>(), 30);
    let store = &all.first().unwrap().1;
    for view in store.views(&TreeFilter::default()).await.unwrap() {
        assert_eq!(view.tree.generation().number(), 4);
    }
    assert_eq!(store.taken_addresses().await.unwrap().len(), 30);
}

#[tokio::test]
async fn a_database_of_others_and_a_user_who_is_unknown_are_refused_with_advice() {
    let server = Postgres::start();
    let (url, name) = server.database();
    server.query(&format!("CREATE TABLE {name}.theirs (id BIGINT)"));
    let refused = Store::connect(&settings_of(url.clone())).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::ForeignTables { .. }),
        "{refused:?}"
    );
    for (from, to) in [("krater@", "nobody@"), ("/postgres", "/absent")] {
        let refused = Store::connect(&settings_of(url.replacen(from, to, 1)))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, StoreError::NotLetIn { .. }),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn whoever_waits_for_a_row_too_long_is_told_so() {
    let settings = ServerSettings {
        statement_timeout: Duration::from_millis(200),
        ..new_database()
    };
    let store = Store::connect(&settings).await.unwrap();
    put(&store, 0).await.unwrap();
    let mut open = store.begin("hold").await.unwrap();
    let statement = sqlx::query("UPDATE resource SET generation = generation");
    open.run("hold", statement).await.unwrap();
    let change = member_deletion(tree(0, 2), 0);
    let refused = store.apply(&change).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooSlow { .. }), "{refused:?}");
    open.rollback().await.unwrap();
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
}

#[tokio::test]
async fn addresses_that_others_took_or_gave_back_are_seen_when_memory_is_doubted() {
    let settings = new_database();
    let (one, two) = (
        Store::connect(&settings).await.unwrap(),
        Store::connect(&settings).await.unwrap(),
    );
    assert_eq!(one.taken_addresses().await.unwrap().len(), 0);
    put(&two, 0).await.unwrap();
    one.doubt_addresses();
    assert_eq!(one.taken_addresses().await.unwrap().len(), 1);
    let change = deletion(tree(0, 2));
    assert_eq!(two.apply(&change).await.unwrap(), Committed::Done);
    two.forget(lb_id(0)).await.unwrap();
    one.doubt_addresses();
    assert_eq!(one.taken_addresses().await.unwrap().len(), 0);
    // Nor is the one asked for again that was refused, though nothing is read again.
    put(&two, 1).await.unwrap();
    let mut change = creation(tree(101, 2));
    change.tree.load_balancer.value.vip.address = address(1);
    let refused = one.apply(&change).await.unwrap();
    assert!(matches!(refused, Committed::AddressTaken(_)), "{refused:?}");
    assert_eq!(one.taken_addresses().await.unwrap().len(), 1);
}
