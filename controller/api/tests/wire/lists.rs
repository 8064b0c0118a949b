//! Filters, tags, field selection, sorting, paging, whose resources are seen.

use core::num::NonZeroUsize;

use krater_controller_api::Settings;
use krater_controller_core::{model::ProjectId, query::Persona, scan::Among};
use serde_json::json;

use crate::{
    fake::Api,
    sample::{
        self, LISTENER, LOAD_BALANCER, MEMBER_1, MEMBER_2, MONITOR, POOL, PROJECT, STRANGER,
        SUBNET, bare_view, uuid,
    },
    walks::last_scan,
};

/// The sample and four more load balancers: b, a, c, d, of two projects, made in this order.
pub(crate) fn many() -> Api {
    limited(1000)
}

fn limited(most: usize) -> Api {
    let settings = Settings {
        pagination_max_limit: NonZeroUsize::new(most).unwrap(),
        ..Settings::default()
    };
    let mut views = vec![
        sample::view(),
        bare_view(1, "b", "p1"),
        bare_view(2, "a", "p1"),
        bare_view(3, "c", "p2"),
        bare_view(4, "d", "p2"),
    ];
    views[1].tree.load_balancer.value.tags = sample::tags(&["x", "y"]);
    views[2].tree.load_balancer.value.tags = sample::tags(&["x"]);
    views[3].tree.load_balancer.value.admin_state_up = false;
    Api::with(settings, views)
}

pub(crate) async fn names(api: &Api, query: &str) -> Vec<String> {
    let reply = api.get(&format!("/v2/lbaas/loadbalancers?{query}")).await;
    assert_eq!(reply.status, 200, "{query}: {reply:?}");
    let body = reply.json();
    let objects = body["loadbalancers"].as_array().unwrap();
    objects
        .iter()
        .map(|object| object["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn load_balancers_are_filtered_by_their_attributes() {
    let api = many();
    for (query, expected) in [
        ("", vec!["edge-1", "b", "a", "c", "d"]),
        ("name=a", vec!["a"]),
        ("name=", vec![]),
        ("name=nobody", vec![]),
        (&format!("id={LOAD_BALANCER}"), vec!["edge-1"]),
        ("id=not-a-uuid", vec![]),
        ("project_id=p2", vec!["c", "d"]),
        ("admin_state_up=False", vec!["c"]),
        ("admin_state_up=true&project_id=p2", vec!["d"]),
        ("admin_state_up=perhaps", vec!["c"]),
        ("operating_status=DEGRADED&name=edge-1", vec!["edge-1"]),
        ("provisioning_status=PENDING_UPDATE", vec![]),
        ("vip_address=203.0.113.40&name=a", vec!["a"]),
        (&format!("vip_subnet_id={SUBNET}&name=a"), vec!["a"]),
        ("description=public%20entry&name=a", vec!["a"]),
        ("vip_qos_policy_id=", vec![]),
        ("flavor_id=x", vec![]),
        ("provider=octavia", vec![]),
        ("created_at=2025-03-04T10:11:12", vec!["edge-1"]),
    ] {
        assert_eq!(names(&api, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn children_are_filtered_by_attributes_and_parents() {
    let api = many();
    for (path, found) in [
        (
            format!("listeners?loadbalancer_id={LOAD_BALANCER}"),
            vec![LISTENER],
        ),
        (
            format!("listeners?load_balancer_id={LOAD_BALANCER}"),
            vec![LISTENER],
        ),
        (format!("listeners?loadbalancer_id={STRANGER}"), vec![]),
        (
            "listeners?protocol=HTTP&protocol_port=80&connection_limit=2000".to_owned(),
            vec![LISTENER],
        ),
        ("listeners?protocol_port=81".to_owned(), vec![]),
        ("listeners?protocol_port=eighty".to_owned(), vec![]),
        (
            format!("listeners?default_pool_id={POOL}&client_authentication=NONE"),
            vec![LISTENER],
        ),
        (
            format!(
                "pools?loadbalancer_id={LOAD_BALANCER}&lb_algorithm=ROUND_ROBIN&tls_enabled=false"
            ),
            vec![POOL],
        ),
        ("pools?protocol=TCP".to_owned(), vec![]),
        (
            format!("healthmonitors?pool_id={POOL}&type=HTTP&delay=5&http_version=1.1"),
            vec![MONITOR],
        ),
        (format!("healthmonitors?pool_id={STRANGER}"), vec![]),
        (
            format!("pools/{POOL}/members?weight=5"),
            vec![MEMBER_1, MEMBER_2],
        ),
        (
            format!("pools/{POOL}/members?address=10.1.0.12&backup=False"),
            vec![MEMBER_2],
        ),
        (
            format!("pools/{POOL}/members?operating_status=ERROR"),
            vec![MEMBER_2],
        ),
        (format!("pools/{POOL}/members?monitor_address="), vec![]),
    ] {
        let root = path.split('?').next().unwrap().rsplit('/').next().unwrap();
        assert_eq!(
            api.get(&format!("/v2/lbaas/{path}")).await.ids(root),
            found,
            "{path}"
        );
    }
}

#[tokio::test]
async fn unknown_and_repeated_filters_are_refused() {
    let api = many();
    for path in [
        "loadbalancers?colour=red",
        "loadbalancers?name=a&name=b",
        "loadbalancers?tenant_id=p1",
        "loadbalancers?listeners=x",
        "loadbalancers?additional_vips=x",
        "listeners?allowed_cidrs=x",
        "listeners?sni_container_refs=x",
        "listeners?l7policies=x",
        "pools?listener_id=x",
        "pools?members=x",
        "pools?session_persistence=x",
        "healthmonitors?loadbalancer_id=x",
        &format!("pools/{POOL}/members?pool_id=x"),
    ] {
        let reply = api.get(&format!("/v2/lbaas/{path}")).await;
        reply.assert_fault(400, "One or more arguments are either duplicate or invalid");
    }
}

#[tokio::test]
async fn parameters_of_single_objects_are_not_filters() {
    let reply = many()
        .get(&format!(
            "/v2/lbaas/loadbalancers/{LOAD_BALANCER}?colour=red&name=b"
        ))
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn tags_select_with_all_any_and_none() {
    let api = many();
    for (query, expected) in [
        ("tags=x", vec!["b", "a"]),
        ("tags=x,y", vec!["b"]),
        ("tags=x&tags=y", vec!["b"]),
        ("tags-any=y,prod", vec!["edge-1", "b"]),
        ("not-tags=x,y", vec!["edge-1", "a", "c", "d"]),
        ("not-tags-any=x,y", vec!["edge-1", "c", "d"]),
        ("tags=x&not-tags-any=y", vec!["a"]),
        ("tags=", vec!["edge-1", "b", "a", "c", "d"]),
    ] {
        assert_eq!(names(&api, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn only_the_fields_asked_for_are_shown() {
    let api = Api::new();
    for query in [
        "fields=id&fields=name",
        "fields=id,name",
        "fields=id,name,nothing",
    ] {
        let body = api.get(&format!("/v2/lbaas/pools?{query}")).await.json();
        assert_eq!(
            body,
            json!({"pools": [{"id": POOL, "name": "app"}], "pools_links": []}),
            "{query}"
        );
        let body = api
            .get(&format!("/v2/lbaas/pools/{POOL}?{query}"))
            .await
            .json();
        assert_eq!(
            body,
            json!({"pool": {"id": POOL, "name": "app"}}),
            "{query}"
        );
    }
    let body = api
        .get(&format!(
            "/v2/lbaas/pools/{POOL}/members/{MEMBER_1}?fields=weight"
        ))
        .await
        .json();
    assert_eq!(body, json!({"member": {"weight": 5}}));
    let body = api.get("/v2/lbaas/pools?fields=nothing").await.json();
    assert_eq!(body["pools"], json!([{}]));
}

#[tokio::test]
async fn lists_are_sorted_by_keys_then_by_creation() {
    let api = many();
    for (query, expected) in [
        ("sort=name", vec!["a", "b", "c", "d", "edge-1"]),
        ("sort=name:desc", vec!["edge-1", "d", "c", "b", "a"]),
        (
            "sort=project_id:desc,name:asc",
            vec!["c", "d", "a", "b", "edge-1"],
        ),
        (
            "sort_key=project_id,name&sort_dir=desc,asc",
            vec!["c", "d", "a", "b", "edge-1"],
        ),
        (
            "sort_key=project_id&sort_dir=desc",
            vec!["c", "d", "b", "a", "edge-1"],
        ),
        (
            "sort_key=admin_state_up",
            vec!["c", "edge-1", "b", "a", "d"],
        ),
        ("sort=created_at:desc", vec!["d", "c", "a", "b", "edge-1"]),
    ] {
        assert_eq!(names(&api, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn wrong_sorting_and_paging_is_refused() {
    let api = many();
    for path in [
        "loadbalancers",
        &format!("loadbalancers/{LOAD_BALANCER}"),
        &format!("pools/{POOL}/members"),
        "providers",
    ] {
        for (query, description) in [
            ("limit=abc", "Supplied pagination limit 'abc' is not valid."),
            ("sort=name:up", "Supplied sort direction 'up' is not valid."),
            (
                "sort_key=name&sort_dir=up",
                "Supplied sort direction 'up' is not valid.",
            ),
            (
                "sort_key=name&sort_key=id",
                "Supplied sort key is given more than once.",
            ),
        ] {
            let reply = api.get(&format!("/v2/lbaas/{path}?{query}")).await;
            reply.assert_routing_fault(400, "Bad Request", description);
        }
    }
    let path = "/v2/lbaas/loadbalancers";
    for key in ["colour", "listeners"] {
        let reply = api.get(&format!("{path}?sort={key}")).await;
        reply.assert_fault(400, &format!("Supplied sort key '{key}' is not valid."));
    }
    for marker in [STRANGER, "x", ""] {
        let reply = api.get(&format!("{path}?marker={marker}")).await;
        reply.assert_fault(
            400,
            &format!("Supplied pagination marker '{marker}' is not valid."),
        );
    }
}

#[tokio::test]
async fn pages_follow_each_other_by_their_links() {
    let api = many();
    let mut path =
        "/v2.0/lbaas/loadbalancers?limit=2&sort=name:desc&admin_state_up=true".to_owned();
    let mut pages = Vec::new();
    loop {
        let body = api.get(&path).await.json();
        let objects = body["loadbalancers"].as_array().unwrap();
        let names: Vec<String> = objects
            .iter()
            .map(|object| object["name"].as_str().unwrap().to_owned())
            .collect();
        let links = body["loadbalancers_links"].as_array().unwrap();
        let next = links.iter().find(|link| link["rel"] == "next");
        pages.push((names, links.iter().any(|link| link["rel"] == "previous")));
        let Some(next) = next else { break };
        let href = next["href"].as_str().unwrap();
        assert!(
            href.starts_with("http://lb.example.test:9876/v2.0/lbaas/loadbalancers?limit=2&"),
            "{href}"
        );
        path = href
            .strip_prefix("http://lb.example.test:9876")
            .unwrap()
            .to_owned();
    }
    let names = |list: &[&str]| {
        list.iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    // The last full page leads on to an empty one, which has no links.
    assert_eq!(
        pages,
        [
            (names(&["edge-1", "d"]), false),
            (names(&["b", "a"]), true),
            (names(&[]), false)
        ]
    );
}

#[tokio::test]
async fn a_previous_link_leads_back() {
    let api = many();
    let last = uuid(4);
    let path = format!("/v2/lbaas/loadbalancers?limit=2&marker={last}&page_reverse=True");
    let body = api.get(&path).await.json();
    let shown = |body: &serde_json::Value| {
        body["loadbalancers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|object| object["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(&body), ["a", "c"]);
    let links = body["loadbalancers_links"].as_array().unwrap();
    let previous = links.iter().find(|link| link["rel"] == "previous").unwrap()["href"]
        .as_str()
        .unwrap();
    let path = previous
        .strip_prefix("http://lb.example.test:9876")
        .unwrap();
    assert_eq!(shown(&api.get(path).await.json()), ["edge-1", "b"]);
    // Any other text than `True` goes onward.
    let path = format!(
        "/v2/lbaas/loadbalancers?marker={}&page_reverse=true",
        uuid(3)
    );
    assert_eq!(shown(&api.get(&path).await.json()), ["d"]);
}

#[tokio::test]
async fn no_page_is_larger_than_the_deployment_allows() {
    let api = limited(3);
    for (query, count) in [
        ("", 3),
        ("limit=4", 3),
        ("limit=0", 3),
        ("limit=-1", 3),
        ("limit=2", 2),
        ("limit=99999999999", 3),
        ("limit=99999999999999999999", 3),
        ("limit=-99999999999999999999", 3),
    ] {
        assert_eq!(names(&api, query).await.len(), count, "{query}");
    }
    let body = api.get("/v2/lbaas/loadbalancers").await.json();
    let href = body["loadbalancers_links"][0]["href"].as_str().unwrap();
    assert_eq!(
        href,
        format!(
            "http://lb.example.test:9876/v2/lbaas/loadbalancers?limit=3&marker={}",
            uuid(2)
        )
    );
}

#[tokio::test]
async fn ordinary_callers_see_their_own_project_only() {
    let api = many();
    for role in [Persona::Member, Persona::Observer] {
        api.be(role, Some("p1"));
        assert_eq!(names(&api, "").await, ["b", "a"]);
        assert_eq!(names(&api, "project_id=p1").await, ["b", "a"]);
        let asked = last_scan(&api);
        assert_eq!(asked.project, ProjectId::parse("p1"));
        assert_eq!(asked.among, Among::All);
        let sentence = "Policy does not allow this request to be performed.";
        api.get("/v2/lbaas/loadbalancers?project_id=p2")
            .await
            .assert_fault(403, sentence);
        assert!(
            api.get("/v2/lbaas/listeners")
                .await
                .ids("listeners")
                .is_empty()
        );
        assert!(api.get("/v2/lbaas/pools").await.ids("pools").is_empty());
        assert!(
            api.get("/v2/lbaas/healthmonitors")
                .await
                .ids("healthmonitors")
                .is_empty()
        );
        api.be(role, None);
        api.get("/v2/lbaas/loadbalancers")
            .await
            .assert_fault(403, sentence);
        api.get("/v2/ports").await.assert_fault(403, sentence);
    }
    api.be(Persona::Member, Some(PROJECT));
    assert_eq!(
        api.get("/v2/lbaas/listeners").await.ids("listeners"),
        [LISTENER]
    );
}
