//! Tests of the audit trail.

use krater_controller_core::{
    audit::{AuditFilter, Deed, Entry, Kept, Outcome},
    model::ProjectId,
};

use crate::{Committed, Store, Terms, fixture::*};

fn entry(number: i64) -> Entry {
    Entry {
        at: at(1_000_000 * number),
        request_id: format!("req-{number}"),
        global_request_id: (number % 2 == 0).then(|| "req-global".to_owned()),
        user: format!("user-{}", number % 3),
        caller_project: ProjectId::parse("house"),
        roles: "Admin".to_owned(),
        deed: Deed::Update,
        kind: "pool".to_owned(),
        resource: Some(format!("pool-{number}")),
        load_balancer: Some(lb_id(u32::try_from(number % 4).unwrap())),
        project: ProjectId::parse(&format!("project-{}", number % 5)),
        outcome: if number % 2 == 0 {
            Outcome::Done
        } else {
            Outcome::Refused {
                status: 409,
                sentence: "It is in use.".to_owned(),
            }
        },
    }
}

fn filter() -> AuditFilter {
    AuditFilter {
        limit: 100,
        ..AuditFilter::default()
    }
}

async fn numbers(store: &Store, filter: AuditFilter) -> Vec<i64> {
    let found = store.audit(&filter).await.unwrap();
    let number = |kept: &Kept| kept.entry.at.as_microsecond() / 1_000_000;
    found.iter().map(number).collect()
}

#[tokio::test]
async fn entries_come_back_as_they_were_written_newest_first_by_every_filter() {
    let store = new_store(module_path!()).await;
    let entries: Vec<Entry> = (1..=20).map(entry).collect();
    store.note(&entries).await.unwrap();
    let all = store.audit(&filter()).await.unwrap();
    let back: Vec<Entry> = all.iter().rev().map(|kept| kept.entry.clone()).collect();
    assert_eq!(back, entries);
    for (filter, expected) in [
        (
            AuditFilter {
                load_balancer: Some(lb_id(3).uuid()),
                ..filter()
            },
            vec![19, 15, 11, 7, 3],
        ),
        (
            AuditFilter {
                resource: Some("pool-4".to_owned()),
                ..filter()
            },
            vec![4],
        ),
        (
            AuditFilter {
                project: Some("project-0".to_owned()),
                user: Some("user-2".to_owned()),
                ..filter()
            },
            vec![20, 5],
        ),
        (
            AuditFilter {
                request_id: Some("req-7".to_owned()),
                ..filter()
            },
            vec![7],
        ),
        (
            AuditFilter {
                request_id: Some("req-global".to_owned()),
                since: Some(at(17_000_000)),
                ..filter()
            },
            vec![20, 18],
        ),
        (
            AuditFilter {
                since: Some(at(3_000_000)),
                until: Some(at(6_000_000)),
                ..filter()
            },
            vec![5, 4, 3],
        ),
        (
            AuditFilter {
                marker: Some(all[1].mark.clone()),
                limit: 2,
                ..filter()
            },
            vec![18, 17],
        ),
    ] {
        assert_eq!(
            numbers(&store, filter.clone()).await,
            expected,
            "{filter:?}"
        );
    }
}

#[tokio::test]
async fn what_is_done_and_its_entry_are_stored_together_or_not_at_all() {
    let store = new_store(module_path!()).await;
    let entry = entry(2);
    let terms = Terms {
        record: Some(&entry),
        ..Terms::default()
    };
    let change = creation(tree(0, 1));
    let done = store.apply_under(&change, terms).await.unwrap();
    assert_eq!(done, Committed::Done);
    assert_eq!(numbers(&store, filter()).await, [2]);
    let later = entry_of(3);
    let terms = Terms {
        record: Some(&later),
        ..Terms::default()
    };
    let lost = store.apply_under(&change, terms).await.unwrap();
    assert_eq!(lost, Committed::LostRace);
    assert_eq!(numbers(&store, filter()).await, [2]);
}

fn entry_of(number: i64) -> Entry {
    entry(number)
}

#[tokio::test]
async fn what_is_too_old_or_too_much_is_forgotten_a_bounded_number_at_once() {
    let store = new_store(module_path!()).await;
    let entries: Vec<Entry> = (1..=20).map(entry).collect();
    store.note(&entries).await.unwrap();
    let old = at(4_000_000);
    assert_eq!(store.prune_audit(old, 20, 2).await.unwrap(), 2);
    assert_eq!(store.prune_audit(old, 20, 100).await.unwrap(), 1);
    assert_eq!(store.prune_audit(old, 20, 100).await.unwrap(), 0);
    assert_eq!(store.prune_audit(old, 10, 100).await.unwrap(), 7);
    assert_eq!(
        numbers(&store, filter()).await,
        (11..=20).rev().collect::<Vec<_>>()
    );
    assert_eq!(store.prune_audit(old, 10, 100).await.unwrap(), 0);
    assert_eq!(
        store.prune_audit(at(99_000_000), 10, 100).await.unwrap(),
        10
    );
}
