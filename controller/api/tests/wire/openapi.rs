//! The OpenAPI document: committed as it is served, and whole.

use std::collections::BTreeSet;

use krater_controller_api::{
    Unauthenticated,
    openapi::{self, document},
};
use serde_json::Value;

use crate::fake::Api;

#[test]
fn the_committed_document_is_the_one_that_is_made() {
    let committed = include_str!("../../openapi.json");
    assert!(
        format!("{:#}\n", document()) == committed,
        "run: cargo run -p krater-controller-api --example openapi > controller/api/openapi.json"
    );
}

#[tokio::test]
async fn it_is_served_to_everybody() {
    let api = Api::new();
    *api.fake.caller.lock().unwrap() = Err(Unauthenticated::Required);
    for path in ["/openapi.json", "/load-balancer/openapi.json"] {
        let reply = api.get(path).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.json(), document());
    }
    assert_eq!(
        api.call(http::Method::PUT, "/openapi.json").await.status,
        405
    );
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() {
    let document = document();
    let mut references = Vec::new();
    collect(&document, &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let names: Vec<&str> = openapi::all().map(|operation| operation.id).collect();
    let distinct: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), distinct.len());
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => references.push(text.clone()),
                    other => collect(other, references),
                }
            }
        }
        Value::Array(entries) => entries.iter().for_each(|entry| collect(entry, references)),
        _ => {}
    }
}

#[tokio::test]
async fn what_may_be_asked_is_said_where_something_else_was() {
    let api = Api::new();
    for (method, path, status, allowed) in [
        ("PATCH", "/v2/lbaas/loadbalancers", 405, "GET, POST"),
        (
            "PATCH",
            "/v2.0/pools/x/members/y.json",
            405,
            "GET, PUT, DELETE",
        ),
        (
            "POST",
            "/load-balancer/v2/lbaas/loadbalancers/x/statuses/",
            405,
            "GET",
        ),
        ("OPTIONS", "/v2/lbaas/loadbalancers/x/failover", 200, "PUT"),
        ("OPTIONS", "/v2/octavia/amphorae", 200, "GET"),
        ("OPTIONS", "/v2/quotas/defaults", 200, "GET"),
        ("OPTIONS", "/v2/quotas/x", 200, "GET, PUT, DELETE"),
    ] {
        let reply = api.call(method.parse().unwrap(), path).await;
        assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
        assert_eq!(reply.headers["allow"], allowed, "{method} {path}");
    }
}
