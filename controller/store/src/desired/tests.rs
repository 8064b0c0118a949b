//! Tests of the desired rows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use krater_controller_core::{
    model::{Name, ProjectId},
    network::Located,
    query::{ResourceId, TreeFilter},
    tree::Touch,
};

use crate::{Committed, Store, StoreError, fixture::*};

async fn store_with(load_balancers: u32) -> Store {
    let store = new_store(module_path!()).await;
    for lb in 0..load_balancers {
        assert_eq!(
            store.apply(&creation(tree(lb, 2))).await.unwrap(),
            Committed::Done
        );
    }
    store
}

#[tokio::test]
async fn a_tree_comes_back_as_it_was_stored_by_any_resource_in_it() {
    let store = store_with(2).await;
    let wanted = tree(1, 2);
    for id in all_of(&wanted) {
        assert_eq!(
            store.tree(id).await.unwrap().as_ref(),
            Some(&wanted),
            "{id:?}"
        );
        let view = store.view(id).await.unwrap().unwrap();
        assert_eq!(view.tree, wanted);
        assert!(view.is_pending());
    }
}

#[tokio::test]
async fn an_id_of_another_kind_finds_nothing() {
    let store = store_with(1).await;
    let listener = krater_amphora_api::ListenerId::new(pool_id(0, 0).uuid());
    assert_eq!(
        store.tree(ResourceId::Listener(listener)).await.unwrap(),
        None
    );
    assert_eq!(
        store
            .view(ResourceId::LoadBalancer(lb_id(9)))
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_change_against_an_older_generation_loses_the_race_and_stores_nothing() {
    let store = store_with(1).await;
    let root = ResourceId::LoadBalancer(lb_id(0));
    let rename = |text: &str| {
        let name = Name::parse(text.to_owned()).unwrap();
        update(tree(0, 2), root, |tree, _| {
            tree.load_balancer.value.name = name
        })
    };
    assert_eq!(
        store.apply(&rename("first")).await.unwrap(),
        Committed::Done
    );
    assert_eq!(
        store.apply(&rename("second")).await.unwrap(),
        Committed::LostRace
    );
    assert_eq!(
        store
            .tree(root)
            .await
            .unwrap()
            .unwrap()
            .load_balancer
            .value
            .name
            .as_str(),
        "first"
    );
}

#[tokio::test]
async fn a_change_of_a_tree_that_is_gone_or_of_an_id_in_use_loses_the_race() {
    let store = store_with(1).await;
    assert_eq!(
        store.apply(&member_deletion(tree(5, 1), 0)).await.unwrap(),
        Committed::LostRace
    );
    assert_eq!(
        store.apply(&creation(tree(0, 2))).await.unwrap(),
        Committed::LostRace
    );
}

#[tokio::test]
async fn only_touched_rows_are_written_and_order_is_that_of_creation() {
    let store = store_with(1).await;
    let root = ResourceId::LoadBalancer(lb_id(0));
    // The third member is stored; the second, edited but not touched, is not.
    let change = update(
        tree(0, 2),
        ResourceId::Member(member_id(0, 2)),
        |tree, next| {
            tree.members[1].value.weight = 99;
            let mut new = row(member(0, 2), at(5));
            new.generation = next;
            tree.members.push(new);
        },
    );
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
    let stored = store.tree(root).await.unwrap().unwrap();
    let found: Vec<_> = stored
        .members
        .iter()
        .map(|row| (row.value.id, row.value.weight))
        .collect();
    assert_eq!(
        found,
        [
            (member_id(0, 0), 1),
            (member_id(0, 1), 1),
            (member_id(0, 2), 1)
        ]
    );

    // Created again before it settled: one row, in its old place.
    let change = update(stored, ResourceId::Member(member_id(0, 0)), |tree, next| {
        tree.members[0].value.weight = 5;
        tree.members[0].generation = next;
    });
    assert_eq!(store.apply(&change).await.unwrap(), Committed::Done);
    let stored = store.tree(root).await.unwrap().unwrap();
    let found: Vec<_> = stored
        .members
        .iter()
        .map(|row| (row.value.id, row.value.weight))
        .collect();
    assert_eq!(
        found,
        [
            (member_id(0, 0), 5),
            (member_id(0, 1), 1),
            (member_id(0, 2), 1)
        ]
    );
}

#[tokio::test]
async fn a_row_that_is_forgotten_meanwhile_is_not_brought_back_by_its_deletion() {
    let store = store_with(1).await;
    let deletion = member_deletion(tree(0, 2), 0);
    assert_eq!(store.apply(&deletion).await.unwrap(), Committed::Done);
    let basis = deletion.tree;
    let settlement = crate::Settlement {
        load_balancer: lb_id(0),
        generation: basis.load_balancer.generation,
        outcome: crate::Outcome::Applied,
        errors: std::collections::BTreeMap::new(),
        due_at: None,
        attempts: 0,
    };
    assert_eq!(
        store.settle(&settlement).await.unwrap(),
        crate::Settled::Done
    );
    assert_eq!(
        store.apply(&member_deletion(basis, 0)).await.unwrap(),
        Committed::Done
    );
    assert_eq!(
        store
            .tree(ResourceId::LoadBalancer(lb_id(0)))
            .await
            .unwrap()
            .unwrap()
            .members
            .len(),
        1
    );
}

#[tokio::test]
async fn an_address_is_had_by_one_load_balancer_only_primary_or_additional() {
    let store = store_with(2).await;
    let mut same = tree(7, 0);
    same.load_balancer.value.vip.address = address(1);
    assert_eq!(
        store.apply(&creation(same)).await.unwrap(),
        Committed::AddressTaken(address(1))
    );

    let mut extra = tree(8, 0);
    extra.load_balancer.value.additional_vips = vec![additional(0)];
    assert_eq!(
        store.apply(&creation(extra.clone())).await.unwrap(),
        Committed::AddressTaken(address(0))
    );
    assert_eq!(
        store
            .tree(ResourceId::LoadBalancer(lb_id(8)))
            .await
            .unwrap(),
        None
    );

    extra.load_balancer.value.additional_vips = vec![additional(20)];
    assert_eq!(
        store.apply(&creation(extra.clone())).await.unwrap(),
        Committed::Done
    );
    let taken = BTreeSet::from([0, 1, 8, 20].map(located));
    assert_eq!(*store.taken_addresses().await.unwrap(), taken);

    let mut elsewhere = tree(9, 0);
    elsewhere.load_balancer.value.vip.address = address(1);
    elsewhere.load_balancer.value.vip.network_id = uuid::Uuid::from_u128(0xbb);
    assert_eq!(
        store.apply(&creation(elsewhere)).await.unwrap(),
        Committed::Done
    );

    // Deleted is not enough: until the data plane let go of it, it is in use.
    assert_eq!(
        store.apply(&deletion(extra)).await.unwrap(),
        Committed::Done
    );
    assert!(
        store
            .taken_addresses()
            .await
            .unwrap()
            .contains(&located(20))
    );
    store.forget(lb_id(8)).await.unwrap();
    assert!(
        !store
            .taken_addresses()
            .await
            .unwrap()
            .contains(&located(20))
    );
}

#[tokio::test]
async fn a_port_is_one_load_balancers_until_that_is_forgotten() {
    let store = store_with(2).await;
    let port = tree(1, 0).load_balancer.value.vip.port_id;
    let holder = (lb_id(1), tree(1, 0).project().clone());
    assert_eq!(store.port_holder(port).await.unwrap(), Some(holder.clone()));
    let mut other = tree(7, 0);
    other.load_balancer.value.vip.port_id = port;
    assert_eq!(
        store.apply(&creation(other.clone())).await.unwrap(),
        Committed::PortTaken
    );
    assert!(
        store
            .view(ResourceId::LoadBalancer(lb_id(7)))
            .await
            .unwrap()
            .is_none()
    );
    assert!(!store.taken_addresses().await.unwrap().contains(&located(7)));

    let going = store
        .tree(ResourceId::LoadBalancer(lb_id(1)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.apply(&deletion(going)).await.unwrap(),
        Committed::Done
    );
    assert_eq!(store.port_holder(port).await.unwrap(), Some(holder));
    store.forget(lb_id(1)).await.unwrap();
    assert_eq!(store.port_holder(port).await.unwrap(), None);
    assert_eq!(
        store.apply(&creation(other)).await.unwrap(),
        Committed::Done
    );
}

/// An address on the network of all trees here.
fn located(n: u32) -> Located {
    (address(n), tree(n, 0).load_balancer.value.vip.network_id)
}

#[tokio::test]
async fn the_addresses_in_use_are_those_of_the_table_whatever_happened() {
    let store = store_with(3).await;
    let asked = |numbers: &[u32]| numbers.iter().map(|n| located(*n)).collect::<BTreeSet<_>>();
    assert_eq!(*store.taken_addresses().await.unwrap(), asked(&[0, 1, 2]));
    // Claimed and released after they were first asked for, on two networks, and by changes that fail.
    let mut elsewhere = tree(9, 0);
    elsewhere.load_balancer.value.vip.address = address(1);
    elsewhere.load_balancer.value.vip.network_id = uuid::Uuid::from_u128(0xbb);
    assert_eq!(
        store.apply(&creation(elsewhere.clone())).await.unwrap(),
        Committed::Done
    );
    let mut half_taken = tree(8, 0);
    half_taken.load_balancer.value.additional_vips = vec![additional(0)];
    assert_eq!(
        store.apply(&creation(half_taken)).await.unwrap(),
        Committed::AddressTaken(address(0))
    );
    assert_eq!(
        store.apply(&creation(tree(4, 0))).await.unwrap(),
        Committed::Done
    );
    let mut all = asked(&[0, 1, 2, 4]);
    all.insert((address(1), uuid::Uuid::from_u128(0xbb)));
    assert_eq!(*store.taken_addresses().await.unwrap(), all);
    for (lb, gone) in [(elsewhere, &[0, 1, 2, 4][..]), (tree(1, 2), &[0, 2, 4])] {
        let id = lb.load_balancer.value.id;
        store.forget(id).await.unwrap();
        assert_eq!(store.apply(&deletion(lb)).await.unwrap(), Committed::Done);
        store.forget(id).await.unwrap();
        store.forget(id).await.unwrap();
        assert_eq!(*store.taken_addresses().await.unwrap(), asked(gone));
    }
    // A verb that was dropped may have come through: what was known is not trusted any more.
    let change = creation(tree(5, 0));
    let mut applying = Box::pin(store.apply(&change));
    let waker = std::task::Waker::noop();
    let _ = applying
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    drop(applying);
    let stored = store.views(&TreeFilter::default()).await.unwrap();
    let expected: BTreeSet<_> = stored
        .iter()
        .map(|view| {
            let vip = &view.tree.load_balancer.value.vip;
            (vip.address, vip.network_id)
        })
        .collect();
    assert_eq!(*store.taken_addresses().await.unwrap(), expected);
}

#[tokio::test]
async fn a_change_that_contradicts_itself_is_a_defect_and_stores_nothing() {
    let store = store_with(1).await;
    let mut unmoved = update(tree(0, 2), ResourceId::LoadBalancer(lb_id(0)), |_, _| ());
    unmoved.tree.load_balancer.generation = unmoved.basis.unwrap();
    let mut rootless = member_deletion(tree(0, 2), 0);
    rootless.touched.remove(0);
    let mut stray = member_deletion(tree(0, 2), 0);
    stray.touched.push(ResourceId::Pool(pool_id(3, 3)));
    let mut foreign = creation(tree(6, 0));
    foreign.tree.pools[0].value.id = pool_id(0, 0);
    foreign.touched = all_of(&foreign.tree);
    for change in [unmoved, rootless, stray, foreign] {
        let refused = store.apply(&change).await;
        assert!(matches!(refused, Err(StoreError::Defect(_))), "{refused:?}");
    }
    assert_eq!(store.views(&TreeFilter::default()).await.unwrap().len(), 1);
    assert_eq!(
        store
            .tree(ResourceId::LoadBalancer(lb_id(0)))
            .await
            .unwrap(),
        Some(tree(0, 2))
    );
    // The connection is usable after each.
    assert_eq!(
        store.apply(&creation(tree(1, 1))).await.unwrap(),
        Committed::Done
    );
}

#[tokio::test]
async fn views_are_narrowed_by_each_filter_and_come_in_creation_order() {
    let store = store_with(5).await;
    let ids = async |filter: TreeFilter| {
        let views = store.views(&filter).await.unwrap();
        views
            .into_iter()
            .map(|view| view.tree.load_balancer.value.id)
            .collect::<Vec<_>>()
    };
    let project = ProjectId::parse("project-1");
    assert_eq!(ids(TreeFilter::default()).await, [0, 1, 2, 3, 4].map(lb_id));
    assert_eq!(
        ids(TreeFilter {
            project: project.clone(),
            ..TreeFilter::default()
        })
        .await,
        [1, 3].map(lb_id)
    );
    assert_eq!(
        ids(TreeFilter {
            load_balancer: Some(lb_id(2)),
            ..TreeFilter::default()
        })
        .await,
        [lb_id(2)]
    );
    let holds = Some(member_id(4, 1).uuid());
    assert_eq!(
        ids(TreeFilter {
            holds,
            ..TreeFilter::default()
        })
        .await,
        [lb_id(4)]
    );
    let name = Some("lb-3".to_owned());
    assert_eq!(
        ids(TreeFilter {
            name: name.clone(),
            ..TreeFilter::default()
        })
        .await,
        [lb_id(3)]
    );
    // A load balancer that exists, asked for by somebody else's project.
    let mixed = TreeFilter {
        project,
        name: None,
        holds,
        load_balancer: None,
    };
    assert_eq!(ids(mixed).await, []);
    assert_eq!(
        ids(TreeFilter {
            name: Some("x' OR 1=1".to_owned()),
            ..TreeFilter::default()
        })
        .await,
        []
    );
    for view in store.views(&TreeFilter::default()).await.unwrap() {
        assert_eq!((view.tree.members.len(), view.tree.pools.len()), (2, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_changes_of_one_tree_each_win_once_and_none_is_lost() {
    let store = store_with(1).await;
    let writers = (0..40_u32).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let current = store
                    .tree(ResourceId::LoadBalancer(lb_id(0)))
                    .await
                    .unwrap()
                    .unwrap();
                let change = update(
                    current,
                    ResourceId::Member(member_id(0, 100 + n)),
                    |tree, next| {
                        let mut new = row(member(0, 100 + n), Timestamp::UNIX_EPOCH);
                        new.generation = next;
                        tree.members.push(new);
                    },
                );
                if store.apply(&change).await.unwrap() == Committed::Done {
                    return;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let tree = store
        .tree(ResourceId::LoadBalancer(lb_id(0)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(tree.members.len(), 42);
    assert_eq!(tree.load_balancer.generation.number(), 41);
    let generations: Vec<_> = tree.members.iter().map(|row| row.generation).collect();
    assert!(generations.is_sorted(), "members are in creation order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_200_concurrent_creations_with_100_addresses_half_are_told_that_theirs_is_taken() {
    let store = store_with(0).await;
    let writers = (0..200_u32).map(|lb| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut new = tree(lb, 1);
            new.load_balancer.value.vip.address = address(lb % 100);
            store.apply(&creation(new)).await.unwrap()
        })
    });
    let mut done = 0;
    for (lb, writer) in (0_u32..).zip(writers.collect::<Vec<_>>()) {
        match writer.await.unwrap() {
            Committed::Done => done += 1,
            taken => assert_eq!(taken, Committed::AddressTaken(address(lb % 100))),
        }
    }
    assert_eq!(done, 100);
    assert_eq!(
        store.views(&TreeFilter::default()).await.unwrap().len(),
        100
    );
    assert_eq!(store.taken_addresses().await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_change_that_is_dropped_half_way_leaves_nothing_and_does_not_stop_the_next() {
    let store = store_with(1).await;
    let change = creation(tree(1, 50));
    // Let it run for ever more polls before it is dropped, until it gets through.
    let mut polls = 1;
    loop {
        // A server answers when it does, not after so many polls.
        polls += if store.is_shared() { 1 + polls / 4 } else { 1 };
        let mut applying = Box::pin(store.apply(&change));
        let mut done = false;
        for _ in 0..polls {
            let waker = std::task::Waker::noop();
            if applying
                .as_mut()
                .poll(&mut std::task::Context::from_waker(waker))
                .is_ready()
            {
                done = true;
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(applying);
        let views = store.views(&TreeFilter::default()).await.unwrap();
        assert!(
            views
                .iter()
                .all(|view| view.tree.members.len() == 2 || view.tree.members.len() == 50)
        );
        if done || views.len() == 2 {
            break;
        }
    }
    assert_eq!(
        store.apply(&creation(tree(2, 2))).await.unwrap(),
        Committed::Done
    );
}

#[tokio::test]
async fn deleting_a_load_balancer_shows_as_a_touch_until_it_is_forgotten() {
    let store = store_with(1).await;
    let root = ResourceId::LoadBalancer(lb_id(0));
    store.forget(lb_id(0)).await.unwrap();
    assert!(
        store.tree(root).await.unwrap().is_some(),
        "one that nobody deleted is not forgotten"
    );
    assert_eq!(
        store.apply(&deletion(tree(0, 2))).await.unwrap(),
        Committed::Done
    );
    assert_eq!(
        store.tree(root).await.unwrap().unwrap().load_balancer.touch,
        Touch::Delete
    );
    store.forget(lb_id(0)).await.unwrap();
    store.forget(lb_id(0)).await.unwrap();
    assert_eq!(store.tree(root).await.unwrap(), None);
    assert_eq!(
        store
            .tree(ResourceId::Member(member_id(0, 0)))
            .await
            .unwrap(),
        None
    );
}
