//! The amphora API (reference 16).

use http::Method;
use krater_amphora_api::AmphoraId;
use krater_controller_core::{
    command::{Command, Operation},
    query::Query,
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, AMPHORAE},
};

const BASE: &str = "/v2/octavia/amphorae";

fn one(n: usize) -> String {
    AMPHORAE[n].to_string()
}

#[tokio::test]
async fn an_amphora_is_shown_as_it_is() {
    let api = Api::new();
    let shown = api.get(&format!("{BASE}/{}", one(0))).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    assert_eq!(shown.route, "amphorae/{id}");
    let load_balancer = sample::view().tree.id();
    assert_eq!(
        shown.json()["amphora"],
        json!({
            "id": AMPHORAE[0], "loadbalancer_id": load_balancer, "compute_id": AMPHORAE[0],
            "lb_network_ip": "192.0.2.21", "vrrp_ip": null, "ha_ip": null, "vrrp_port_id": null, "ha_port_id": null,
            "cert_expiration": "2025-04-03T10:11:12", "cert_busy": false, "role": "STANDALONE", "status": "ALLOCATED",
            "vrrp_interface": null, "vrrp_id": null, "vrrp_priority": null, "cached_zone": "north",
            "created_at": "2025-03-04T10:11:20", "updated_at": null, "image_id": null, "compute_flavor": null,
            "loadbalancers": [{"id": load_balancer}],
        })
    );
    let shared = api.get(&format!("{BASE}/{}", one(1))).await.json();
    assert_eq!(shared["amphora"]["loadbalancer_id"], Value::Null);
    assert_eq!(
        shared["amphora"]["loadbalancers"].as_array().unwrap().len(),
        2
    );
    assert_eq!(shared["amphora"]["lb_network_ip"], "2001:db8::1");
}

#[tokio::test]
async fn the_list_is_filtered_sorted_paged_and_cut_to_fields() {
    let api = Api::new();
    let load_balancer = sample::view().tree.id();
    let ids = async |query: &str| api.get(&format!("{BASE}?{query}")).await.ids("amphorae");
    let all: Vec<String> = (0..3).map(one).collect();
    assert_eq!(ids("").await, all);
    for (query, found) in [
        (format!("loadbalancer_id={load_balancer}"), vec![0, 1]),
        (format!("id={}", one(2)), vec![2]),
        (format!("compute_id={}", one(2)), vec![2]),
        ("status=ERROR".to_owned(), vec![2]),
        ("role=STANDALONE".to_owned(), vec![0, 1, 2]),
        ("role=MASTER".to_owned(), vec![]),
        ("lb_network_ip=192.0.2.21".to_owned(), vec![0]),
        ("cached_zone=south".to_owned(), vec![1]),
        ("cert_busy=true".to_owned(), vec![1]),
        (format!("project_id={}", sample::PROJECT), vec![0]),
        ("project_id=another".to_owned(), vec![]),
        ("vrrp_ip=192.0.2.1".to_owned(), vec![]),
        ("ha_ip=192.0.2.1".to_owned(), vec![]),
        (format!("vrrp_port_id={}", one(0)), vec![]),
        (format!("ha_port_id={}", one(0)), vec![]),
        (format!("image_id={}", one(0)), vec![]),
        ("compute_flavor=small".to_owned(), vec![]),
    ] {
        let wanted: Vec<String> = found.into_iter().map(one).collect();
        assert_eq!(ids(&query).await, wanted, "{query}");
    }
    assert_eq!(ids("sort=status:desc").await[0], one(2));
    let page = api.get(&format!("{BASE}?limit=2&sort=created_at")).await;
    assert_eq!(page.ids("amphorae"), all[..2]);
    assert_eq!(page.json()["amphorae_links"][0]["rel"], "next");
    let marker = format!("limit=2&marker={}", one(1));
    assert_eq!(ids(&marker).await, all[2..]);
    let fields = api.get(&format!("{BASE}?fields=id&fields=role")).await;
    assert_eq!(
        fields.json()["amphorae"][0],
        json!({"id": AMPHORAE[0], "role": "STANDALONE"})
    );
}

#[tokio::test]
async fn what_amphorae_do_not_have_is_refused() {
    let api = Api::new();
    for query in [
        "name=x",
        "tags=x",
        "tenant_id=x",
        "loadbalancers=x",
        "status=ERROR&status=ALLOCATED",
    ] {
        api.get(&format!("{BASE}?{query}"))
            .await
            .assert_fault(400, "One or more arguments are either duplicate or invalid");
    }
    api.get(&format!("{BASE}?sort=name"))
        .await
        .assert_fault(400, "Supplied sort key 'name' is not valid.");
}

#[tokio::test]
async fn statistics_are_by_listener() {
    let api = Api::new();
    let shown = api.get(&format!("{BASE}/{}/stats", one(0))).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let tree = sample::view().tree;
    assert_eq!(
        shown.json(),
        json!({"amphora_stats": [{
            "id": AMPHORAE[0], "loadbalancer_id": tree.id(), "listener_id": tree.listeners[0].value.id,
            "active_connections": 3, "bytes_in": 81_923, "bytes_out": 612_003, "request_errors": 0,
            "total_connections": 4_211,
        }]})
    );
    let none = format!("Amphora stats for {} not found.", one(1));
    api.get(&format!("{BASE}/{}/stats", one(1)))
        .await
        .assert_fault(404, &none);
}

#[tokio::test]
async fn operators_fail_over_configure_and_delete() {
    let api = Api::new();
    let id = AmphoraId::new(AMPHORAE[0]);
    let path = format!("{BASE}/{id}");
    for (method, path, operation, status) in [
        (
            Method::PUT,
            format!("{path}/failover"),
            Operation::FailOver(id),
            202,
        ),
        (
            Method::PUT,
            format!("{path}/config"),
            Operation::Configure(id),
            202,
        ),
        (Method::DELETE, path.clone(), Operation::Delete(id), 204),
    ] {
        let reply = api.call(method.clone(), &path).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str()), (status, ""));
        assert_eq!(api.fake.operations.lock().unwrap().last(), Some(&operation));
        api.refuse(Refusal::AmphoraImmutable(id));
        api.call(method, &path).await.assert_fault(
            409,
            &format!("amphora {id} is immutable and cannot be updated."),
        );
    }
}

#[tokio::test]
async fn a_body_of_an_action_is_empty_or_an_empty_object() {
    let api = Api::new();
    let view = sample::view();
    for path in [
        format!("{BASE}/{}/failover", one(0)),
        format!("{BASE}/{}/config", one(0)),
        format!("/v2/lbaas/loadbalancers/{}/failover", view.tree.id()),
    ] {
        for (body, accepted) in [
            ("", true),
            ("{}", true),
            ("null", true),
            ("{\"force\": true}", false),
            ("[]", false),
            ("{", false),
        ] {
            let reply = api
                .with_body(Method::PUT, &path, body, "application/json")
                .await;
            let status = if accepted { 202 } else { 400 };
            assert_eq!(reply.status, status, "{path} {body}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_load_balancer_fails_over() {
    let api = Api::new();
    let id = sample::view().tree.id();
    let path = format!("/v2/lbaas/loadbalancers/{id}/failover");
    let reply = api.call(Method::PUT, &path).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (202, ""));
    assert_eq!(api.command(), Command::FailOver(id, None, None));
    api.refuse(Refusal::BeingDeleted(
        krater_controller_core::query::ResourceId::LoadBalancer(id),
    ));
    api.call(Method::PUT, &path)
        .await
        .assert_fault(409, "is immutable and cannot be updated.");
    api.refuse(Refusal::NotPermitted);
    api.call(Method::PUT, &path)
        .await
        .assert_fault(403, "Policy");
    for unknown in ["not-a-uuid", "00000000-0000-0000-0000-000000000001"] {
        let missing = format!("Load Balancer {unknown} not found.");
        if unknown.starts_with('0') {
            let id = krater_amphora_api::LoadBalancerId::new(unknown.parse().unwrap());
            api.refuse(Refusal::NotFound(
                krater_controller_core::query::ResourceId::LoadBalancer(id),
            ));
        }
        api.call(
            Method::PUT,
            &format!("/v2/lbaas/loadbalancers/{unknown}/failover"),
        )
        .await
        .assert_fault(404, &missing);
    }
}

#[tokio::test]
async fn what_cannot_be_an_amphora_is_not_found_once_the_caller_may_look() {
    let api = Api::new();
    for (method, path) in [
        (Method::GET, format!("{BASE}/nobody")),
        (Method::GET, format!("{BASE}/nobody/stats")),
        (Method::PUT, format!("{BASE}/nobody/failover")),
        (Method::PUT, format!("{BASE}/nobody/config")),
        (Method::DELETE, format!("{BASE}/nobody")),
    ] {
        api.call(method.clone(), &path)
            .await
            .assert_fault(404, "Amphora nobody not found.");
        api.refuse(Refusal::NotPermitted);
        api.call(method, &path)
            .await
            .assert_fault(403, "Policy does not allow");
    }
    assert!(api.fake.operations.lock().unwrap().is_empty());
    assert!(
        api.fake
            .queries
            .lock()
            .unwrap()
            .iter()
            .all(|query| *query == Query::Amphorae)
    );
}

#[tokio::test]
async fn the_amphora_api_is_under_octavia_only() {
    let api = Api::new();
    for base in ["/v2/octavia/amphorae", "/v2.0/octavia/amphorae"] {
        for slash in ["", "/", ".json"] {
            assert_eq!(api.get(&format!("{base}{slash}")).await.status, 200);
        }
    }
    for base in [
        "/v2/lbaas/amphorae",
        "/v2/amphorae",
        "/v2.0/amphorae",
        "/v2/lbaas/octavia/amphorae",
    ] {
        api.get(base)
            .await
            .assert_routing_fault(404, "Not Found", "");
    }
    api.call(Method::POST, BASE)
        .await
        .assert_routing_fault(405, "Method Not Allowed", "");
    for method in [Method::PUT, Method::DELETE] {
        api.call(method, BASE)
            .await
            .assert_fault(400, "Missing argument: \"id\"");
    }
    for (method, tail) in [
        (Method::GET, "failover"),
        (Method::GET, "config"),
        (Method::PUT, "stats"),
        (Method::POST, "failover"),
    ] {
        api.call(method, &format!("{BASE}/{}/{tail}", one(0)))
            .await
            .assert_routing_fault(405, "Method Not Allowed", "");
    }
}
