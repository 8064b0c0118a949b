//! Tests of names under which something is created once.

use krater_controller_core::{envelope::Once, model::ProjectId, query::ResourceId};

use crate::{Committed, Store, Terms, fixture::*, once::CreatedOnce};

fn once(key: &str) -> Once {
    Once {
        key: key.to_owned(),
        scope: "POST loadbalancers".to_owned(),
        digest: "digest".to_owned(),
    }
}

async fn create(store: &Store, lb: u32, once: &Once) -> Committed {
    let terms = Terms {
        once: Some(once),
        ..Terms::default()
    };
    let change = creation(tree(lb, 1));
    store.apply_under(&change, terms).await.unwrap()
}

async fn found(store: &Store, project: &str, once: &Once) -> Option<CreatedOnce> {
    let project = ProjectId::parse(project).unwrap();
    store.created_once(&project, once).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_creations_under_one_name_one_is_stored() {
    let store = new_store(module_path!()).await;
    let mut writers = tokio::task::JoinSet::new();
    for lb in 0..50 {
        let store = store.clone();
        writers.spawn(async move { create(&store, lb * 2, &once("a")).await });
    }
    let outcomes = writers.join_all().await;
    let count = |wanted| {
        outcomes
            .iter()
            .filter(|outcome| **outcome == wanted)
            .count()
    };
    assert_eq!(
        (count(Committed::Done), count(Committed::Repeated)),
        (1, 49)
    );
    let all = store.views(&Default::default()).await.unwrap();
    assert_eq!(all.len(), 1);
    let created = found(&store, "project-0", &once("a")).await.unwrap();
    assert_eq!(created.resource, ResourceId::LoadBalancer(all[0].tree.id()));
    assert_eq!(created.digest, "digest");
}

#[tokio::test]
async fn a_name_is_one_of_its_project_and_place() {
    let store = new_store(module_path!()).await;
    assert_eq!(create(&store, 0, &once("a")).await, Committed::Done);
    assert_eq!(found(&store, "project-1", &once("a")).await, None);
    assert_eq!(create(&store, 1, &once("a")).await, Committed::Done);
    assert_eq!(create(&store, 2, &once("b")).await, Committed::Done);
    let elsewhere = Once {
        scope: "POST pools".to_owned(),
        ..once("a")
    };
    assert_eq!(create(&store, 4, &elsewhere).await, Committed::Done);
    assert_eq!(create(&store, 6, &once("a")).await, Committed::Repeated);
}

#[tokio::test]
async fn what_is_not_stored_takes_no_name() {
    let store = new_store(module_path!()).await;
    assert_eq!(create(&store, 0, &once("a")).await, Committed::Done);
    // The same load balancer again: the race is lost, and the name with it.
    assert_eq!(create(&store, 0, &once("b")).await, Committed::LostRace);
    assert_eq!(found(&store, "project-0", &once("b")).await, None);
}

#[tokio::test]
async fn names_are_forgotten_with_age_a_bounded_number_at_once() {
    let store = new_store(module_path!()).await;
    for lb in 0..4 {
        assert_eq!(create(&store, lb, &once("a")).await, Committed::Done);
        let next = create(&store, lb + 10, &once("b")).await;
        assert!(matches!(next, Committed::Done | Committed::Repeated));
        if lb == 1 {
            break;
        }
    }
    // Load balancer n is created n microseconds after the first second.
    assert_eq!(store.prune_once(at(1_000_001), 9).await.unwrap(), 1);
    assert_eq!(found(&store, "project-0", &once("a")).await, None);
    assert!(found(&store, "project-1", &once("a")).await.is_some());
    assert_eq!(store.prune_once(at(9_000_000), 1).await.unwrap(), 1);
    assert_eq!(store.prune_once(at(9_000_000), 9).await.unwrap(), 2);
}
