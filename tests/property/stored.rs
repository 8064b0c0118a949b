//! What was admitted is what is read back, whatever was asked for before.

use std::collections::BTreeMap;

use krater_amphora_api::Generation;
use krater_controller_core::{
    carried::Carried,
    change::Change,
    query::TreeFilter,
    quota::{Counted, Growth, Limit, Limits},
    tree::TreeView,
};
use krater_controller_store::{Committed, Outcome, Settled, Settlement, Store, Terms};
use proptest::prelude::*;

use crate::{
    cases,
    house::House,
    wish::{Wish, addresses, new_balancer, wishes},
};

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn any_admitted_sequence_is_read_back_from_the_store_as_it_was_written(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(24),
    ) {
        let (house, change) = House::found_on(Carried::everything(), new, vip, additional);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(follow(house, change, wishes));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_change_is_stored_exactly_when_the_rows_there_are_leave_room_for_it(
        new in new_balancer(),
        (vip, additional) in addresses(),
        wishes in wishes(24),
        most in prop::array::uniform4(0_u32..12),
    ) {
        let limits = Limits {
            listener: Limit::AtMost(most[0]),
            pool: Limit::AtMost(most[1]),
            member: Limit::AtMost(most[2]),
            health_monitor: Limit::AtMost(most[3]),
            ..Limits::default()
        };
        let (house, change) = House::found(new, vip, additional);
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(keep_within(house, change, wishes, limits));
    }
}

async fn keep_within(mut house: House, change: Change, wishes: Vec<Wish>, limits: Limits) {
    let store = Store::in_memory().await.expect("a store");
    let terms = Terms {
        limits: Some(&limits),
        ..Terms::default()
    };
    // The first comes from somebody whom quotas do not bind.
    if let Committed::AddressTaken(_) = store.apply(&change).await.expect("it is stored") {
        return;
    }
    for wish in wishes {
        if let Wish::Settle(behind) = wish {
            settle(&store, &mut house, u64::from(behind)).await;
            continue;
        }
        let before = house.tree.clone();
        let Some(command) = wish.command(&house.tree) else {
            continue;
        };
        let Ok(change) = house.run(command) else {
            continue;
        };
        if change.is_empty() {
            continue;
        }
        let rows = rows(&store).await;
        let breaks = |kind: &Counted| {
            let more = *change.growth.get(*kind);
            more > 0 && rows.get(*kind) + more > limits.get(*kind).number()
        };
        // Load balancers have no limit here, and -1 is none.
        let met = Counted::ALL[1..5].iter().copied().find(breaks);
        let committed = store.apply_under(&change, terms).await.expect("it is run");
        match met {
            None => assert_eq!(committed, Committed::Done),
            Some(kind) => {
                assert_eq!(committed, Committed::QuotaMet(kind));
                house.tree = before;
            }
        }
        check(&store, &house).await;
    }
}

/// How many rows there are of each kind, those being deleted too.
async fn rows(store: &Store) -> Growth {
    let views = store.views(&TreeFilter::default()).await.expect("all");
    let mut rows = Growth::default();
    for facts in views.iter().flat_map(|view| view.tree.facts()) {
        *rows.get_mut(Counted::of(facts.id)) += 1;
    }
    rows
}

async fn follow(mut house: House, change: Change, wishes: Vec<Wish>) {
    let store = Store::in_memory().await.expect("a store");
    if let Committed::AddressTaken(address) = store.apply(&change).await.expect("it is stored") {
        let tree = &house.tree.load_balancer.value;
        let mut all = tree.additional_vips.iter().map(|vip| vip.address);
        let twice = all.any(|other| other == address);
        assert!(twice, "nobody else has {address}");
        return;
    }
    check(&store, &house).await;
    for wish in wishes {
        if let Wish::Settle(behind) = wish {
            settle(&store, &mut house, u64::from(behind)).await;
        } else if let Some(command) = wish.command(&house.tree)
            && let Ok(change) = house.run(command)
            && !change.is_empty()
        {
            let committed = store.apply(&change).await.expect("it is stored");
            assert_eq!(committed, Committed::Done);
            // The basis is gone: nobody writes the same change twice.
            let again = store.apply(&change).await.expect("it is refused");
            assert_eq!(again, Committed::LostRace);
        } else {
            continue;
        }
        check(&store, &house).await;
    }
}

async fn settle(store: &Store, house: &mut House, behind: u64) {
    let now = house.tree.generation().number();
    let Some(generation) = Generation::from_number(now.saturating_sub(behind)) else {
        return;
    };
    let settlement = Settlement {
        load_balancer: house.tree.id(),
        generation,
        outcome: Outcome::Applied,
        errors: BTreeMap::new(),
        due_at: None,
        attempts: 0,
    };
    let stale = house.settled.is_some_and(|settled| settled > generation);
    let settled = store.settle(&settlement).await.expect("it is stored");
    assert_eq!(settled == Settled::Stale, stale);
    house.settle(generation);
}

/// Every resource leads to the tree, and the tree is what it was when it was written.
async fn check(store: &Store, house: &House) {
    let expected = house.view();
    for facts in house.tree.facts() {
        let found: Option<TreeView> = store.view(facts.id).await.expect("it is read");
        assert_eq!(found.as_ref(), Some(&expected), "by {:?}", facts.id);
    }
    let all = store.views(&TreeFilter::default()).await.expect("all");
    assert_eq!(all, [expected]);
}
