//! Quotas on the wire (reference 12).

use krater_controller_core::{
    command::QuotaCommand,
    model::ProjectId,
    query::Query,
    quota::{Counted, Limit, Limits, QuotaUpdate},
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::fake::Api;

fn project(text: &str) -> ProjectId {
    ProjectId::parse(text).unwrap()
}

fn limits() -> Limits {
    Limits {
        load_balancer: Limit::AtMost(10),
        listener: Limit::AtMost(50),
        ..Limits::default()
    }
}

fn shown(project: &str) -> Value {
    json!({"project_id": project, "tenant_id": project, "loadbalancer": 10, "load_balancer": 10, "listener": 50,
        "member": -1, "pool": -1, "healthmonitor": -1, "health_monitor": -1, "l7policy": -1, "l7rule": -1})
}

#[tokio::test]
async fn a_quota_is_shown_in_both_spellings_with_and_without_lbaas() {
    let api = Api::new();
    api.set_quotas(limits(), &["p1"]);
    for base in ["/v2/lbaas", "/v2.0/lbaas", "/v2", "/v2.0"] {
        for end in ["", "/default"] {
            let reply = api.get(&format!("{base}/quotas/p1{end}")).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.json(), json!({"quota": shown("p1")}));
        }
        let reply = api.get(&format!("{base}/quotas/defaults")).await;
        let mut all = shown("p1");
        for name in ["project_id", "tenant_id"] {
            all.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(reply.json(), json!({"quota": all}));
    }
    let last = api.fake.queries.lock().unwrap().last().cloned();
    assert_eq!(last, Some(Query::QuotaDefaults(None)));
}

#[tokio::test]
async fn each_limit_is_taken_and_others_are_refused() {
    let api = Api::new();
    let set = async |body: Value| api.put("/v2/lbaas/quotas/p1", json!({"quota": body})).await;
    for (name, kind) in [
        ("load_balancer", Counted::LoadBalancer),
        ("loadbalancer", Counted::LoadBalancer),
        ("listener", Counted::Listener),
        ("pool", Counted::Pool),
        ("member", Counted::Member),
        ("health_monitor", Counted::HealthMonitor),
        ("healthmonitor", Counted::HealthMonitor),
        ("l7policy", Counted::L7Policy),
        ("l7rule", Counted::L7Rule),
    ] {
        for (value, meant) in [
            (json!(7), Some(Limit::AtMost(7))),
            (json!("7"), Some(Limit::AtMost(7))),
            (json!(0), Some(Limit::AtMost(0))),
            (json!(-1), Some(Limit::Unlimited)),
            (json!(2_000_000_000), Some(Limit::AtMost(2_000_000_000))),
            (json!(null), None),
        ] {
            let reply = set(json!({name: value})).await;
            assert_eq!(reply.status, 202, "{name} {value}");
            assert_eq!(reply.json()["quota"]["project_id"], "p1");
            let mut update = QuotaUpdate::default();
            *update.get_mut(kind) = Some(meant);
            let expected = QuotaCommand::Set(project("p1"), update);
            assert_eq!(api.quota_command(), expected, "{name} {value}");
        }
        for (value, sentence) in [
            (json!(-2), "Value should be greater or equal to -1"),
            (
                json!(2_000_000_001_i64),
                "Value should be lower or equal to 2000000000",
            ),
            (json!("many"), "Value should be an integer"),
            (json!([]), "Value should be an integer"),
        ] {
            let reply = set(json!({name: value})).await;
            let start = format!("Invalid input for field/attribute {name}.");
            reply.assert_fault(400, &start);
            reply.assert_fault(400, sentence);
        }
    }
}

#[tokio::test]
async fn the_older_spelling_wins_if_both_have_a_value() {
    let api = Api::new();
    for (older, newer, meant) in [
        (json!(1), json!(2), Some(Limit::AtMost(1))),
        (json!(null), json!(2), Some(Limit::AtMost(2))),
        (json!(1), json!(null), Some(Limit::AtMost(1))),
        (json!(null), json!(null), None),
    ] {
        let body = json!({"quota": {"loadbalancer": older, "load_balancer": newer,
            "healthmonitor": older, "health_monitor": newer}});
        assert_eq!(api.put("/v2.0/quotas/p1", body).await.status, 202);
        let update = QuotaUpdate {
            load_balancer: Some(meant),
            health_monitor: Some(meant),
            ..QuotaUpdate::default()
        };
        let expected = QuotaCommand::Set(project("p1"), update);
        assert_eq!(api.quota_command(), expected);
    }
}

#[tokio::test]
async fn what_is_no_quota_is_refused() {
    let api = Api::new();
    let path = "/v2/lbaas/quotas/p1";
    for (body, sentence) in [
        (json!({}), "Mandatory field missing."),
        (json!({"quota": null}), "Mandatory field missing."),
        (json!([]), "Value should be an object"),
        (json!({"quota": 5}), "Value should be an object"),
        (
            json!({"quota": {"foo": 1}}),
            "Unknown attribute for argument quotas.quota: foo",
        ),
        (
            json!({"quota": {"project_id": "p2"}}),
            "Unknown attribute for argument quotas.quota: project_id",
        ),
    ] {
        api.put(path, body).await.assert_fault(400, sentence);
    }
    assert_eq!(api.put(path, json!({"quota": {}})).await.status, 202);
    let long = format!("/v2/lbaas/quotas/{}", "x".repeat(37));
    api.get(&long).await.assert_fault(404, "not found.");
    api.put(&long, json!({"quota": {}}))
        .await
        .assert_fault(404, "Quotas");
    let query = format!("{path}?x=1");
    api.delete(&query)
        .await
        .assert_fault(400, "Unknown argument: \"x\"");
    api.refuse(Refusal::QuotaMet("Pool"));
    api.put(path, json!({"quota": {}}))
        .await
        .assert_fault(403, "Quota has been met for resources: Pool");
}

#[tokio::test]
async fn methods_that_quotas_do_not_have_are_405() {
    let api = Api::new();
    for path in ["/v2/lbaas/quotas", "/v2/quotas/p1"] {
        let reply = api.post(path, json!({})).await;
        reply.assert_routing_fault(405, "Method Not Allowed", "");
    }
    for path in [
        "/v2/lbaas/quotas",
        "/v2/lbaas/quotas/defaults",
        "/v2/lbaas/quotas/p1/default",
    ] {
        for reply in [api.put(path, json!({})).await, api.delete(path).await] {
            reply.assert_routing_fault(405, "Method Not Allowed", "");
        }
    }
}

#[tokio::test]
async fn a_reset_is_202_without_a_body_and_404_without_a_record() {
    let api = Api::new();
    let reply = api.delete("/v2/lbaas/quotas/p1").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (202, ""));
    assert_eq!(api.quota_command(), QuotaCommand::Reset(project("p1")));
    api.refuse(Refusal::NoQuotaRecord(project("p1")));
    api.delete("/v2/lbaas/quotas/p1")
        .await
        .assert_fault(404, "Quotas p1 not found.");
}

#[tokio::test]
async fn quotas_are_listed_filtered_sorted_and_paged() {
    let api = Api::new();
    api.set_quotas(limits(), &["p2", "p3", "p1"]);
    let list = async |query: &str| {
        let reply = api.get(&format!("/v2/lbaas/quotas{query}")).await;
        assert_eq!(reply.status, 200, "{query} {reply:?}");
        let body = reply.json();
        let projects: Vec<String> = body["quotas"]
            .as_array()
            .unwrap()
            .iter()
            .map(|quota| quota["project_id"].as_str().unwrap().to_owned())
            .collect();
        (projects, body["quotas_links"].clone())
    };
    assert_eq!(list("").await.0, ["p1", "p2", "p3"]);
    let all = api.get("/v2/lbaas/quotas?fields=pool").await.json();
    assert_eq!(all["quotas"][0], shown("p1"), "fields has no effect");
    assert_eq!(list("?project_id=p2").await.0, ["p2"]);
    let last = api.fake.queries.lock().unwrap().last().cloned();
    assert_eq!(last, Some(Query::Quotas(Some(project("p2")))));
    assert_eq!(list("?listener=50").await.0.len(), 3);
    assert_eq!(list("?listener=51").await.0.len(), 0);
    assert_eq!(list("?sort=project_id:desc").await.0, ["p3", "p2", "p1"]);
    let (first, links) = list("?limit=2").await;
    assert_eq!(first, ["p1", "p2"]);
    assert!(links[0]["href"].as_str().unwrap().contains("marker=p2"));
    assert_eq!(list("?limit=2&marker=p2").await.0, ["p3"]);
    for query in ["?limit=x", "?sort_dir=x&sort_key=pool"] {
        let reply = api.get(&format!("/v2/lbaas/quotas{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
    }
    let reply = api.get("/v2/lbaas/quotas?foo=1").await;
    reply.assert_fault(400, "One or more arguments are either duplicate or invalid");
}
