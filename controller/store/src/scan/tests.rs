use std::collections::BTreeMap;

use krater_controller_core::{
    model::{Name, ProjectId},
    scan::excerpts,
    status::OperatingStatus,
};
use sqlx::Row as _;

use super::*;
use crate::{
    Outcome, Settled, Settlement,
    desired::Committed,
    fixture::{
        at, creation, lb_id, listener, listener_id, member, member_deletion, member_id, new_store,
        pool, pool_id, row, tree, update,
    },
};

/// Trees with equal names and moments among them, one in force, one half deleted.
async fn furnished() -> (Store, Vec<TreeView>) {
    let store = new_store(module_path!()).await;
    for (lb, name, us, members) in [
        (0, "b", 5, 2),
        (1, "a", 5, 0),
        (2, "", 3, 1),
        (3, "", 9, 3),
        (4, "ä", 9, 1),
        (5, "b", 9, 1),
        (6, "10.0.0.1", 1, 0),
    ] {
        let mut tree = tree(lb, members);
        let now = at(us);
        let named = Name::parse(name.to_owned()).unwrap();
        tree.load_balancer.value.name = named.clone();
        tree.load_balancer.created_at = now;
        tree.listeners[0].created_at = now;
        tree.pools[0].value.name = named.clone();
        tree.pools[0].created_at = now;
        tree.pools.push(row(pool(lb, 1), at(us + 1)));
        let mut second = listener(lb, 1);
        second.name = named;
        second.default_pool = (lb % 2 == 0).then(|| pool_id(lb, 1));
        tree.listeners.push(row(second, at(7)));
        if members > 0 {
            let mut other = member(lb, 100);
            other.pool = pool_id(lb, 1);
            tree.members.push(row(other, at(8)));
        }
        let applied = store.apply(&creation(tree)).await.unwrap();
        assert_eq!(applied, Committed::Done);
    }
    disturb(&store).await;
    let mut views = Vec::new();
    for lb in 0..7 {
        let id = ResourceId::LoadBalancer(lb_id(lb));
        views.push(store.view(id).await.unwrap().unwrap());
    }
    (store, views)
}

/// Settles one, reports on it, deletes a member and replaces a monitor.
async fn disturb(store: &Store) {
    let id = ResourceId::LoadBalancer(lb_id(0));
    let current = store.tree(id).await.unwrap().unwrap();
    let settled = store
        .settle(&Settlement {
            load_balancer: lb_id(0),
            generation: current.generation(),
            outcome: Outcome::Applied,
            errors: BTreeMap::new(),
            due_at: None,
            attempts: 0,
        })
        .await
        .unwrap();
    assert_eq!(settled, Settled::Done);
    let statuses = BTreeMap::from([(listener_id(0, 0).uuid(), OperatingStatus::Online)]);
    store
        .put_operating(lb_id(0), &statuses, at(1), at(1))
        .await
        .unwrap();
    let done = store.apply(&member_deletion(current, 0)).await.unwrap();
    assert_eq!(done, Committed::Done);
    let current = store.tree(id).await.unwrap().unwrap();
    let monitor = current.health_monitors[0].value.id;
    let deleted = update(current, ResourceId::HealthMonitor(monitor), |tree, next| {
        tree.health_monitors[0].touch = Touch::Delete;
        tree.health_monitors[0].generation = next;
    });
    assert_eq!(store.apply(&deleted).await.unwrap(), Committed::Done);
    let current = store.tree(id).await.unwrap().unwrap();
    let new = HealthMonitorId::new(Uuid::from_u128(0xbeef));
    let replaced = update(current, ResourceId::HealthMonitor(new), |tree, next| {
        let mut row = tree.health_monitors[0].clone();
        row.value.id = new;
        row.touch = Touch::Create;
        row.generation = next;
        tree.health_monitors.push(row);
    });
    assert_eq!(store.apply(&replaced).await.unwrap(), Committed::Done);
}

const COLLECTIONS: [Collection; 5] = [
    Collection::LoadBalancers,
    Collection::Listeners,
    Collection::Pools,
    Collection::HealthMonitors,
    Collection::L7Policies,
];

fn orders() -> Vec<Order> {
    use Direction::{Ascending, Descending};
    let mut orders = Vec::new();
    for key in [Key::Creation, Key::Name] {
        for direction in [Ascending, Descending] {
            for ties in [Ascending, Descending] {
                orders.push(Order {
                    key,
                    direction,
                    ties,
                });
            }
        }
    }
    orders
}

fn projects() -> [Option<ProjectId>; 3] {
    [
        None,
        ProjectId::parse("project-1"),
        ProjectId::parse("nobody"),
    ]
}

#[tokio::test]
async fn every_part_of_every_list_is_what_whole_trees_say_it_is() {
    let (store, views) = furnished().await;
    let mut found_any = 0;
    for collection in COLLECTIONS {
        for project in projects() {
            for order in orders() {
                for count in [1, 2, 1000] {
                    // From the beginning to the end, part by part.
                    let mut after = None;
                    loop {
                        let scan = Scan {
                            collection,
                            project: project.clone(),
                            among: Among::All,
                            order,
                            after: after.clone(),
                            count,
                        };
                        let found = store.scan(&scan).await.unwrap();
                        assert_eq!(found, excerpts(&views, &scan), "{scan:?}");
                        found_any += found.len();
                        let Some(last) = found.last() else { break };
                        after = Some(last.position.clone());
                    }
                }
            }
        }
    }
    assert!(found_any > 500, "{found_any}");
}

#[tokio::test]
async fn few_of_a_list_are_found_by_name_tree_part_and_id() {
    let (store, views) = furnished().await;
    for collection in COLLECTIONS {
        for project in projects() {
            for among in [
                Among::Named("b".to_owned()),
                Among::Named(String::new()),
                Among::Named("x' OR 1=1".to_owned()),
                Among::Tree(lb_id(0)),
                Among::Tree(lb_id(9)),
                Among::Holder(member_id(3, 1).uuid()),
                Among::Holder(pool_id(0, 1).uuid()),
                Among::Holder(Uuid::nil()),
                Among::One(lb_id(5).uuid()),
                Among::One(pool_id(5, 1).uuid()),
                Among::One(listener_id(4, 0).uuid()),
            ] {
                let mut scan = Scan {
                    collection,
                    project: project.clone(),
                    among,
                    order: Order::CREATION,
                    after: None,
                    count: 1000,
                };
                let found = store.scan(&scan).await.unwrap();
                assert_eq!(found, excerpts(&views, &scan), "{scan:?}");
                scan.after = found.first().map(|first| first.position.clone());
                scan.count = 1;
                let found = store.scan(&scan).await.unwrap();
                assert_eq!(found, excerpts(&views, &scan), "{scan:?}");
            }
        }
    }
}

#[tokio::test]
async fn no_scan_gives_more_than_the_bound() {
    let (store, _) = furnished().await;
    let scan = Scan {
        collection: Collection::LoadBalancers,
        project: None,
        among: Among::All,
        order: Order::CREATION,
        after: None,
        count: usize::MAX,
    };
    assert_eq!(store.scan(&scan).await.unwrap().len(), 7);
    assert_eq!(store.scan(&Scan { count: 0, ..scan }).await.unwrap(), []);
}

/// The planner has no statistics: what it makes of each statement is the same on an empty database.
#[tokio::test]
async fn every_way_goes_along_its_index() {
    let (store, _) = furnished().await;
    if store.is_shared() {
        // That one plans by statistics, of which there are none yet.
        return;
    }
    let plan = async |text: &str, scan: &Scan| -> String {
        let text: &'static str = format!("EXPLAIN QUERY PLAN {text}").leak();
        let rows = store.all("explain", bind(text, scan)).await.unwrap();
        let lines: Vec<String> = rows.iter().map(|row| row.get(3)).collect();
        lines.join("\n")
    };
    for order in orders() {
        for project in projects() {
            let mut scan = Scan {
                collection: Collection::Pools,
                project,
                among: Among::All,
                order,
                after: None,
                count: 10,
            };
            let index = match (order.key, &scan.project) {
                (Key::Creation, None) => "resource_created (kind=? AND ",
                (Key::Name, None) => "resource_named (kind=? AND ",
                (Key::Creation, Some(_)) => {
                    "resource_project_created (kind=? AND project_id=? AND "
                }
                (Key::Name, Some(_)) => "resource_project_named (kind=? AND project_id=? AND ",
            };
            for text in [
                texts(&scan).balancers,
                texts(&scan).children,
                texts(&scan).related,
            ] {
                let plan = plan(text, &scan).await;
                assert!(plan.contains(index), "{order:?}\n{text}\n{plan}");
                assert!(!plan.contains("SCAN resource"), "{text}\n{plan}");
                if order.direction == order.ties && text != texts(&scan).related {
                    assert!(!plan.contains("TEMP B-TREE"), "{text}\n{plan}");
                }
            }
            for (among, index) in [
                (
                    Among::Named("b".to_owned()),
                    "resource_named (kind=? AND name=?",
                ),
                (Among::Tree(lb_id(0)), "resource_tree (load_balancer_id=?)"),
                (
                    Among::Holder(Uuid::nil()),
                    "resource_tree (load_balancer_id=?)",
                ),
                (
                    Among::One(Uuid::nil()),
                    "sqlite_autoindex_resource_1 (id=?)",
                ),
            ] {
                scan.among = among;
                let plan = plan(texts(&scan).children, &scan).await;
                assert!(plan.contains(index), "{scan:?}\n{plan}");
                assert!(!plan.contains("SCAN resource"), "{plan}");
            }
        }
    }
}
