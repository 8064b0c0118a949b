//! Tests of quotas: set, reset, and exact however many write at once.

use std::collections::BTreeMap;

use krater_controller_core::{
    model::ProjectId,
    query::ResourceId,
    quota::{Counted, Growth, Limit, Limits, QuotaRecord, QuotaUpdate},
    tree::Touch,
};
use sqlx::Row as _;

use crate::{Committed, Outcome, Settlement, Store, Terms, fixture::*, row::kind_name};

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).unwrap()
}

fn most(kind: Counted, most: u32) -> Limits {
    let mut limits = Limits::default();
    *limits.get_mut(kind) = Limit::AtMost(most);
    limits
}

/// The rows of a project, by kind, as the table has them.
async fn rows(store: &Store, project: &str) -> BTreeMap<String, i64> {
    let statement = sqlx::query(
        "SELECT kind, COUNT(*) FROM resource WHERE project_id = $1 GROUP BY kind ORDER BY kind",
    )
    .bind(project.to_owned());
    let found = store.all("count", statement).await.unwrap();
    found
        .iter()
        .map(|row| (row.get::<String, _>(0), row.get::<i64, _>(1)))
        .collect()
}

async fn apply(
    store: &Store,
    change: &krater_controller_core::change::Change,
    limits: &Limits,
) -> Committed {
    let terms = Terms {
        limits: Some(limits),
        ..Terms::default()
    };
    store.apply_under(change, terms).await.unwrap()
}

#[tokio::test]
async fn what_is_set_is_read_back_and_a_reset_record_stays() {
    let store = new_store(module_path!()).await;
    let (one, two) = (project("one"), project("two"));
    assert_eq!(store.quota(&one).await.unwrap(), None);
    assert!(!store.reset_quota(&one, None).await.unwrap());
    let mut update = QuotaUpdate::default();
    for (number, kind) in (0..).zip(Counted::ALL) {
        *update.get_mut(kind) = Some(Some(Limit::AtMost(number)));
    }
    let set = store.set_quota(&one, &update, None).await.unwrap();
    assert_eq!(store.quota(&one).await.unwrap(), Some(set));
    for (number, kind) in (0..).zip(Counted::ALL) {
        assert_eq!(*set.get(kind), Some(Limit::AtMost(number)));
    }
    let unlimited = QuotaUpdate {
        pool: Some(Some(Limit::Unlimited)),
        member: Some(None),
        ..QuotaUpdate::default()
    };
    let after = store.set_quota(&one, &unlimited, None).await.unwrap();
    assert_eq!(after.pool, Some(Limit::Unlimited));
    assert_eq!(after.member, None);
    assert_eq!(after.l7_rule, set.l7_rule);
    store
        .set_quota(&two, &QuotaUpdate::default(), None)
        .await
        .unwrap();
    assert!(store.reset_quota(&one, None).await.unwrap());
    let all = store.quotas().await.unwrap();
    let nothing = QuotaRecord::default();
    assert_eq!(all, [(one, nothing), (two, nothing)]);
}

#[tokio::test]
async fn each_kind_is_counted_and_what_breaks_a_limit_is_not_stored() {
    for (kind, has) in [
        (Counted::LoadBalancer, 1),
        (Counted::Listener, 1),
        (Counted::Pool, 1),
        (Counted::Member, 3),
        (Counted::HealthMonitor, 1),
    ] {
        let store = new_store(module_path!()).await;
        let change = creation(tree(0, 3));
        assert_eq!(
            apply(&store, &change, &most(kind, has - 1)).await,
            Committed::QuotaMet(kind)
        );
        assert!(rows(&store, "project-0").await.is_empty(), "{kind:?}");
        let free = store.taken_addresses().await.unwrap();
        assert!(free.is_empty(), "an address stays claimed");
        assert_eq!(
            apply(&store, &change, &most(kind, has)).await,
            Committed::Done
        );
        // Another project has limits of its own; the same has no room for one more.
        let other = apply(&store, &creation(tree(1, 3)), &most(kind, has)).await;
        assert_eq!(other, Committed::Done);
        let more = apply(&store, &creation(tree(2, 3)), &most(kind, has)).await;
        assert_eq!(more, Committed::QuotaMet(kind));
        // Whom quotas do not bind.
        assert_eq!(
            store.apply(&creation(tree(2, 3))).await.unwrap(),
            Committed::Done
        );
    }
}

#[tokio::test]
async fn what_was_set_for_a_project_goes_before_what_is_configured() {
    let store = new_store(module_path!()).await;
    let mine = project("project-0");
    let set = async |limit| {
        let update = QuotaUpdate {
            load_balancer: Some(limit),
            ..QuotaUpdate::default()
        };
        store.set_quota(&mine, &update, None).await.unwrap();
    };
    let none = most(Counted::LoadBalancer, 0);
    set(Some(Limit::AtMost(1))).await;
    assert_eq!(
        apply(&store, &creation(tree(0, 0)), &none).await,
        Committed::Done
    );
    let next = creation(tree(2, 0));
    let met = Committed::QuotaMet(Counted::LoadBalancer);
    assert_eq!(apply(&store, &next, &Limits::default()).await, met);
    // Below what there is: allowed, and only what is new is refused.
    set(Some(Limit::AtMost(0))).await;
    let rename = update(tree(0, 0), ResourceId::LoadBalancer(lb_id(0)), |_, _| ());
    assert_eq!(apply(&store, &rename, &none).await, Committed::Done);
    assert_eq!(apply(&store, &next, &none).await, met);
    set(Some(Limit::Unlimited)).await;
    assert_eq!(apply(&store, &next, &none).await, Committed::Done);
}

#[tokio::test]
async fn what_is_being_deleted_counts_until_it_is_gone() {
    let store = new_store(module_path!()).await;
    let limits = most(Counted::Member, 2);
    assert_eq!(
        apply(&store, &creation(tree(0, 2)), &limits).await,
        Committed::Done
    );
    let leaving = member_deletion(tree(0, 2), 0);
    assert_eq!(apply(&store, &leaving, &limits).await, Committed::Done);
    let another = |tree| {
        update(
            tree,
            ResourceId::Member(member_id(0, 7)),
            |tree, generation| {
                let mut new = row(member(0, 7), at(9));
                new.generation = generation;
                tree.members.push(new);
            },
        )
    };
    let stored = store
        .tree(ResourceId::LoadBalancer(lb_id(0)))
        .await
        .unwrap()
        .unwrap();
    let met = Committed::QuotaMet(Counted::Member);
    assert_eq!(apply(&store, &another(stored.clone()), &limits).await, met);
    let settlement = Settlement {
        load_balancer: lb_id(0),
        generation: stored.generation(),
        outcome: Outcome::Applied,
        errors: BTreeMap::new(),
        due_at: None,
        attempts: 0,
    };
    let _ = store.settle(&settlement).await.unwrap();
    let stored = store
        .tree(ResourceId::LoadBalancer(lb_id(0)))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        apply(&store, &another(stored), &limits).await,
        Committed::Done
    );
}

#[tokio::test]
async fn a_batch_counts_new_less_deleted_members() {
    let store = new_store(module_path!()).await;
    let limits = most(Counted::Member, 2);
    assert_eq!(
        apply(&store, &creation(tree(0, 2)), &limits).await,
        Committed::Done
    );
    // So many leave, so many come.
    let batch = |leave: usize, come: u32| {
        update(
            tree(0, 2),
            ResourceId::Member(member_id(0, 0)),
            |tree, generation| {
                for row in &mut tree.members[..leave] {
                    row.touch = Touch::Delete;
                    row.generation = generation;
                }
                tree.members.extend((0..come).map(|n| {
                    let mut new = row(member(0, 10 + n), at(9));
                    new.generation = generation;
                    new
                }));
            },
        )
    };
    let touched = |mut change: krater_controller_core::change::Change| {
        change.touched = all_of(&change.tree);
        change
    };
    let met = Committed::QuotaMet(Counted::Member);
    assert_eq!(apply(&store, &touched(batch(1, 2)), &limits).await, met);
    let same = apply(&store, &touched(batch(2, 2)), &limits).await;
    assert_eq!(same, Committed::Done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_creations_at_once_never_pass_the_limit_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("krater.db")).await.unwrap();
    let limits = Limits {
        load_balancer: Limit::AtMost(17),
        member: Limit::AtMost(1_000),
        ..Limits::default()
    };
    let mut writers = tokio::task::JoinSet::new();
    for lb in 0..200 {
        let store = store.clone();
        // All of one project: every second number.
        writers.spawn(async move { apply(&store, &creation(tree(lb * 2, 3)), &limits).await });
    }
    let outcomes = writers.join_all().await;
    let done = outcomes
        .iter()
        .filter(|outcome| **outcome == Committed::Done);
    assert_eq!(done.count(), 17);
    let met = Committed::QuotaMet(Counted::LoadBalancer);
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == met).count(),
        183
    );
    let rows = rows(&store, "project-0").await;
    assert_eq!(rows["load_balancer"], 17);
    assert_eq!(rows["member"], 51);
}

#[tokio::test]
async fn asking_before_writes_nothing_and_agrees_with_what_is_decided() {
    let store = new_store(module_path!()).await;
    let change = creation(tree(0, 3));
    let mine = project("project-0");
    for limit in 0..5 {
        let limits = most(Counted::Member, limit);
        let asked = store
            .quota_met(&mine, &change.growth, &limits)
            .await
            .unwrap();
        assert_eq!(asked, (limit < 3).then_some(Counted::Member));
    }
    let (no_growth, none) = (Growth::default(), most(Counted::Pool, 0));
    let asked = store.quota_met(&mine, &no_growth, &none).await.unwrap();
    assert_eq!(asked, None);
    assert!(rows(&store, "project-0").await.is_empty());
}

#[test]
fn what_a_row_is_called_is_what_is_counted() {
    for id in all_of(&tree(0, 1)) {
        assert_eq!(kind_name(id), super::counted_name(Counted::of(id)));
    }
}
