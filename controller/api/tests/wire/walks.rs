//! How much of a list is read for a page of it.

use krater_controller_api::Settings;
use krater_controller_core::{
    model::{Description, LoadBalancerId, Name, ProjectId},
    query::{Persona, Query},
    scan::{Among, Direction, Key, Order, Scan},
};

use crate::{
    fake::Api,
    lists::{many, names},
    sample::{LISTENER, LOAD_BALANCER, MONITOR, POOL, bare_view, id, uuid},
};

pub(crate) fn last_scan(api: &Api) -> Scan {
    match api.fake.queries.lock().unwrap().last().unwrap() {
        Query::Scan(scan) => scan.clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_application_is_asked_for_no_more_than_needed() {
    let api = many();
    let tree = Among::Tree(LoadBalancerId::new(id(LOAD_BALANCER)));
    for (path, among, project) in [
        ("loadbalancers".to_owned(), Among::All, None),
        (
            format!("loadbalancers?id={LOAD_BALANCER}&name=edge-1"),
            Among::One(id(LOAD_BALANCER)),
            None,
        ),
        (
            "loadbalancers?id=no-id".to_owned(),
            Among::One(uuid::Uuid::nil()),
            None,
        ),
        (
            "loadbalancers?name=a".to_owned(),
            Among::Named("a".into()),
            None,
        ),
        (
            "loadbalancers?project_id=p1".to_owned(),
            Among::All,
            ProjectId::parse("p1"),
        ),
        (
            "listeners?name=a".to_owned(),
            Among::Named("a".into()),
            None,
        ),
        (
            format!("listeners?loadbalancer_id={LOAD_BALANCER}&name=a"),
            tree.clone(),
            None,
        ),
        (
            format!("pools?load_balancer_id={LOAD_BALANCER}"),
            tree,
            None,
        ),
        (format!("pools?id={POOL}"), Among::One(id(POOL)), None),
        (
            format!("healthmonitors?pool_id={POOL}"),
            Among::Holder(id(POOL)),
            None,
        ),
        (
            format!("healthmonitors?id={MONITOR}"),
            Among::One(id(MONITOR)),
            None,
        ),
    ] {
        assert_eq!(
            api.get(&format!("/v2/lbaas/{path}")).await.status,
            200,
            "{path}"
        );
        let asked = last_scan(&api);
        assert_eq!((asked.among, asked.project), (among, project), "{path}");
    }
}

#[tokio::test]
async fn a_page_costs_its_own_length_where_an_index_has_its_order() {
    use Direction::{Ascending, Descending};
    let order = |key, direction, ties| Order {
        key,
        direction,
        ties,
    };
    let api = many();
    let (marker, before) = (uuid(2), uuid(1));
    for (query, expected) in [
        ("", Order::CREATION),
        ("sort=created_at", Order::CREATION),
        ("sort=created_at,id", Order::CREATION),
        (
            "sort=created_at:desc",
            order(Key::Creation, Descending, Ascending),
        ),
        ("sort=name", order(Key::Name, Ascending, Ascending)),
        (
            "sort_key=name,created_at&sort_dir=desc,asc",
            order(Key::Name, Descending, Ascending),
        ),
    ] {
        let path = format!("/v2/lbaas/loadbalancers?limit=1&{query}");
        api.get(&path).await;
        let asked = last_scan(&api);
        assert_eq!((asked.order, asked.count), (expected, 1), "{query}");
        assert_eq!(asked.after, None, "{query}");
        api.get(&format!("{path}&marker={marker}")).await;
        let asked = last_scan(&api);
        assert_eq!((asked.order, asked.count), (expected, 1), "{query}");
        assert_eq!(asked.after.unwrap().id, marker, "{query}");
        api.get(&format!("{path}&marker={before}&page_reverse=True"))
            .await;
        let asked = last_scan(&api);
        assert_eq!(
            (asked.order, asked.count),
            (expected.reversed(), 1),
            "{query}"
        );
        assert_eq!(asked.after.unwrap().id, before, "{query}");
    }
    // Other orders go through the whole list.
    for query in [
        "sort=id",
        "sort=name,project_id",
        "sort=vip_address",
        "sort=id,name",
    ] {
        api.get(&format!("/v2/lbaas/loadbalancers?limit=1&{query}"))
            .await;
        let asked = last_scan(&api);
        assert_eq!(
            (asked.order, asked.after),
            (Order::CREATION, None),
            "{query}"
        );
        assert!(asked.count > 100, "{query}");
    }
}

/// What a filter holds back is made up for, however many parts of the list that takes.
#[tokio::test]
async fn a_page_is_full_though_a_filter_holds_most_back() {
    let views = (0..2500)
        .map(|number| {
            let name = if number % 500 == 499 {
                "seldom"
            } else {
                "often"
            };
            let mut view = bare_view(number, "x", "p1");
            view.tree.load_balancer.value.description = Description::parse(name.into()).unwrap();
            view
        })
        .collect();
    let api = Api::with(Settings::default(), views);
    let seldom = "/v2/lbaas/loadbalancers?description=seldom&fields=id";
    for (query, expected) in [
        ("", vec![499, 999, 1499, 1999, 2499]),
        ("&limit=2", vec![]),
        ("&sort=name", vec![]),
        ("&sort=vip_address", vec![]),
    ] {
        let found = api
            .get(&format!("{seldom}{query}"))
            .await
            .ids("loadbalancers");
        if expected.is_empty() {
            let count = if query == "&limit=2" { 2 } else { 5 };
            assert_eq!(found.len(), count, "{query}");
        } else {
            let mut expected: Vec<String> = expected
                .into_iter()
                .map(|number| uuid(number).to_string())
                .collect();
            expected.sort();
            let mut found = found;
            found.sort();
            assert_eq!(found, expected);
        }
    }
}

#[tokio::test]
async fn a_marker_that_is_not_in_the_list_is_refused() {
    let api = many();
    let theirs = uuid(3);
    for (query, accepted) in [
        (format!("marker={}", uuid(1)), true),
        (format!("marker={}&name=b", uuid(1)), true),
        (format!("marker={}&name=a", uuid(1)), false),
        (format!("marker={}&sort=vip_address", uuid(1)), true),
        (format!("marker={}&sort=vip_address&name=a", uuid(1)), false),
        (format!("marker={theirs}&project_id=p2"), true),
        (format!("marker={theirs}&project_id=p1"), false),
        (format!("marker={}", LOAD_BALANCER.to_uppercase()), false),
        (format!("marker={LISTENER}"), false),
        (
            format!("marker={}&page_reverse=True&name=a", uuid(1)),
            false,
        ),
    ] {
        let reply = api.get(&format!("/v2/lbaas/loadbalancers?{query}")).await;
        if accepted {
            assert_eq!(reply.status, 200, "{query}: {reply:?}");
        } else {
            reply.assert_fault(400, "is not valid.");
        }
    }
    api.be(Persona::Member, Some("p1"));
    let reply = api
        .get(&format!("/v2/lbaas/loadbalancers?marker={theirs}"))
        .await;
    reply.assert_fault(400, "Supplied pagination marker");
}

#[tokio::test]
async fn names_are_compared_as_they_are_and_addresses_as_addresses() {
    let api = many();
    for view in api.fake.views.lock().unwrap().iter_mut() {
        let balancer = &mut view.tree.load_balancer.value;
        balancer.vip.address = "2001:db8::1".parse().unwrap();
        balancer.name = Name::parse("::1".into()).unwrap();
    }
    assert_eq!(names(&api, "vip_address=2001:DB8:0::1").await.len(), 5);
    assert_eq!(names(&api, "name=0::1").await.len(), 0);
    assert_eq!(names(&api, "name=::1").await.len(), 5);
}
