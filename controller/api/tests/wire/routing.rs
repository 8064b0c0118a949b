//! Paths, methods, media types, sizes, headers.

use axum::body::Body;
use http::{Method, Request};
use krater_controller_api::{Settings, Unauthenticated};
use serde_json::json;

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, MEMBER_1, MONITOR, POLICY, POOL, RULE},
};

fn items() -> Vec<String> {
    vec![
        format!("loadbalancers/{LOAD_BALANCER}"),
        format!("listeners/{LISTENER}"),
        format!("pools/{POOL}"),
        format!("pools/{POOL}/members/{MEMBER_1}"),
        format!("healthmonitors/{MONITOR}"),
        format!("l7policies/{POLICY}"),
        format!("l7policies/{POLICY}/rules/{RULE}"),
    ]
}

fn collections() -> Vec<String> {
    vec![
        "loadbalancers".into(),
        "listeners".into(),
        "pools".into(),
        format!("pools/{POOL}/members"),
        "healthmonitors".into(),
        "l7policies".into(),
        format!("l7policies/{POLICY}/rules"),
    ]
}

#[tokio::test]
async fn each_resource_is_reached_by_every_spelling_of_its_path() {
    let api = Api::new();
    for item in items().iter().chain(&collections()) {
        for base in [
            "/v2/lbaas",
            "/v2.0/lbaas",
            "/v2",
            "/v2.0",
            "/load-balancer/v2.0/lbaas",
        ] {
            for end in ["", "/", ".json", ".json/"] {
                let path = format!("{base}/{item}{end}");
                assert_eq!(api.get(&path).await.status, 200, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_404_in_form_b() {
    let api = Api::new();
    for path in [
        "//v2/lbaas/loadbalancers",
        "/v2//lbaas/loadbalancers",
        "/v1/loadbalancers",
        "/v3",
        "/v2/lbaas/nothing",
        "/v2/lbaas/amphorae",
        "/v2/amphorae",
        "/v2/lbaas/octavia/amphorae",
        "/v2/lbaas/networks",
        "/v2/lbaas/loadbalancers/x/nothing",
        "/v2/lbaas/pools/x/members/y/z",
        "/v2/octavia/nothing",
    ] {
        api.get(path)
            .await
            .assert_routing_fault(404, "Not Found", "");
        assert_eq!(api.get(path).await.route, "unknown");
    }
}

#[tokio::test]
async fn head_and_patch_are_not_allowed() {
    let api = Api::new();
    for item in items().iter().chain(&collections()) {
        let path = format!("/v2/lbaas/{item}");
        api.call(Method::PATCH, &path)
            .await
            .assert_routing_fault(405, "Method Not Allowed", "");
        assert_eq!(api.call(Method::HEAD, &path).await.status, 405);
    }
    for path in ["/", "/v2", "/v2/lbaas/providers"] {
        api.call(Method::POST, path)
            .await
            .assert_routing_fault(405, "Method Not Allowed", "");
        api.call(Method::PUT, path)
            .await
            .assert_routing_fault(405, "Method Not Allowed", "");
        api.delete(path)
            .await
            .assert_routing_fault(405, "Method Not Allowed", "");
    }
    let path = format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}/failover");
    api.get(&path)
        .await
        .assert_routing_fault(405, "Method Not Allowed", "");
}

#[tokio::test]
async fn put_and_delete_on_a_collection_miss_an_id() {
    let api = Api::new();
    for collection in collections() {
        let path = format!("/v2/lbaas/{collection}");
        api.delete(&path)
            .await
            .assert_fault(400, "Missing argument: \"id\"");
        if !collection.ends_with("members") {
            api.put(&path, json!({}))
                .await
                .assert_fault(400, "Missing argument: \"id\"");
        }
    }
}

#[tokio::test]
async fn post_on_an_item_is_400() {
    let api = Api::new();
    for item in items() {
        let reply = api.post(&format!("/v2/lbaas/{item}"), json!({})).await;
        reply.assert_fault(400, "Unknown argument: ");
    }
}

#[tokio::test]
async fn options_is_200_without_authentication() {
    let api = Api::new();
    *api.fake.caller.lock().unwrap() = Err(Unauthenticated::Required);
    let reply = api.call(Method::OPTIONS, "/v2/lbaas/loadbalancers").await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.headers["access-control-allow-methods"],
        "GET, PUT, POST, DELETE"
    );
    assert!(
        reply.headers["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("X-Auth-Token")
    );
}

#[tokio::test]
async fn every_answer_carries_a_request_id_of_its_own() {
    let api = Api::new();
    let mut seen = std::collections::BTreeSet::new();
    for path in [
        "/",
        "/v2",
        "/nothing",
        "/v2/lbaas/loadbalancers",
        "/v2/lbaas/loadbalancers/x",
        "/v2/lbaas/flavors",
    ] {
        let reply = api.get(path).await;
        let request_id = reply.headers["x-openstack-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(request_id.len(), "req-".len() + 36);
        assert!(request_id.starts_with("req-"));
        assert!(seen.insert(request_id));
        assert_eq!(reply.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn answers_name_their_route_for_metrics() {
    let api = Api::new();
    for (path, route) in [
        ("/".to_owned(), "versions"),
        ("/healthcheck".to_owned(), "healthcheck"),
        ("/v2".to_owned(), "version"),
        ("/v2/lbaas/loadbalancers".to_owned(), "loadbalancers"),
        (
            format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}"),
            "loadbalancers/{id}",
        ),
        (
            format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}/status"),
            "loadbalancers/{id}/status",
        ),
        (
            format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}/stats"),
            "loadbalancers/{id}/stats",
        ),
        (
            format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}/failover"),
            "loadbalancers/{id}/failover",
        ),
        ("/v2/lbaas/listeners".to_owned(), "listeners"),
        (format!("/v2/lbaas/listeners/{LISTENER}"), "listeners/{id}"),
        (
            format!("/v2/lbaas/listeners/{LISTENER}/stats"),
            "listeners/{id}/stats",
        ),
        ("/v2/lbaas/pools".to_owned(), "pools"),
        (format!("/v2/lbaas/pools/{POOL}"), "pools/{id}"),
        (
            format!("/v2/lbaas/pools/{POOL}/members"),
            "pools/{id}/members",
        ),
        (
            format!("/v2/lbaas/pools/{POOL}/members/{MEMBER_1}"),
            "pools/{id}/members/{id}",
        ),
        ("/v2/lbaas/healthmonitors".to_owned(), "healthmonitors"),
        (
            format!("/v2/lbaas/healthmonitors/{MONITOR}"),
            "healthmonitors/{id}",
        ),
        ("/v2/lbaas/providers".to_owned(), "providers"),
        ("/v2/lbaas/providers/x".to_owned(), "providers/{name}"),
        (
            "/v2/lbaas/providers/x/flavor_capabilities".to_owned(),
            "providers/{name}/capabilities",
        ),
        ("/v2/subnets".to_owned(), "network"),
        ("/v2/lbaas/quotas".to_owned(), "quotas"),
        ("/v2/lbaas/quotas/p".to_owned(), "quotas/{project}"),
        (
            "/v2/lbaas/quotas/defaults".to_owned(),
            "quotas/{project}/default",
        ),
    ] {
        assert_eq!(api.get(&path).await.route, route, "{path}");
    }
}

#[tokio::test]
async fn clients_that_will_not_read_json_get_406() {
    let api = Api::new();
    let status = async |accept: &str| {
        let request = Request::get("/v2/lbaas/loadbalancers").header("accept", accept);
        api.send(request.body(Body::empty()).unwrap()).await
    };
    for accept in [
        "",
        "*/*",
        "application/json",
        "text/html, */*;q=0.1",
        "application/*",
        "Application/JSON",
    ] {
        assert_eq!(status(accept).await.status, 200, "{accept}");
    }
    for accept in ["text/html", "application/xml, text/plain"] {
        status(accept)
            .await
            .assert_routing_fault(406, "Not Acceptable", "");
    }
}

#[tokio::test]
async fn bodies_are_json_objects_with_one_root() {
    let api = Api::new();
    let path = "/v2/lbaas/listeners";
    for (body, content_type, status, sentence) in [
        (
            "{",
            "application/json",
            400,
            "Request is not in valid JSON format",
        ),
        (
            "",
            "application/json",
            400,
            "Missing argument: \"listener_\"",
        ),
        (
            "a=b",
            "application/x-www-form-urlencoded",
            400,
            "Missing argument: \"listener_\"",
        ),
        ("{}", "text/plain", 415, "Unknown mimetype: text/plain"),
        ("{}", "application/json", 400, "attribute listener."),
        ("[]", "application/json", 400, "Value should be an object"),
        (
            "\"x\"",
            "application/json",
            400,
            "Value should be an object",
        ),
        ("null", "application/json", 400, "Value should be an object"),
        (
            "{\"listener\": null}",
            "application/json",
            400,
            "Mandatory field missing.",
        ),
        (
            "{\"listener\": []}",
            "application/json",
            400,
            "Value should be an object",
        ),
        (
            "{\"pool\": {}}",
            "application/json",
            400,
            "Unknown attribute for argument listener_: pool",
        ),
        (
            "{\"a\": 1, \"b\": 2}",
            "application/json; charset=utf-8",
            400,
            "Unknown attributes for argument listener_: a, b",
        ),
    ] {
        api.with_body(Method::POST, path, body, content_type)
            .await
            .assert_fault(status, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn a_missing_body_is_told_by_its_name() {
    let api = Api::new();
    for (path, argument) in [
        ("/v2/lbaas/loadbalancers".to_owned(), "load_balancer"),
        ("/v2/lbaas/pools".to_owned(), "pool_"),
        (format!("/v2/lbaas/pools/{POOL}/members"), "member_"),
        ("/v2/lbaas/healthmonitors".to_owned(), "health_monitor_"),
    ] {
        let reply = api.call(Method::POST, &path).await;
        reply.assert_fault(400, &format!("Missing argument: \"{argument}\""));
    }
    let reply = api
        .call(Method::PUT, &format!("/v2/lbaas/pools/{POOL}/members"))
        .await;
    reply.assert_fault(400, "Missing argument: \"members_\"");
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413_in_plain_text() {
    let api = Api::with(
        Settings {
            body_bytes_max: 100,
            ..Settings::default()
        },
        vec![],
    );
    let body = format!("{{\"listener\": {{\"name\": \"{}\"}}}}", "x".repeat(100));
    let reply = api
        .with_body(
            Method::POST,
            "/v2/lbaas/listeners",
            &body,
            "application/json",
        )
        .await;
    assert_eq!(reply.status, 413);
    assert!(
        reply.headers["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain")
    );
}

#[tokio::test]
async fn who_asks_is_taken_from_the_headers() {
    let api = Api::new();
    let request = Request::get("/v2/lbaas/loadbalancers")
        .header("x-auth-token", "t0k")
        .header("x-project-id", "p1");
    api.send(request.body(Body::empty()).unwrap()).await;
    api.get("/v2").await;
    let seen = api.fake.credentials.lock().unwrap().clone();
    assert_eq!(
        (seen[0].token.as_deref(), seen[0].project.as_deref()),
        (Some("t0k"), Some("p1"))
    );
    assert_eq!(
        (seen[1].token.as_deref(), seen[1].project.as_deref()),
        (None, None)
    );
}

#[tokio::test]
async fn a_project_that_cannot_be_one_is_refused_rather_than_replaced() {
    let api = Api::new();
    for project in [&b"p\xff"[..], &[b'x'; 37]] {
        let request = Request::get("/v2/lbaas/loadbalancers").header("x-project-id", project);
        let reply = api.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 400);
        let fault = reply.json()["faultstring"].to_string();
        assert!(fault.contains("X-Project-Id"), "{fault}");
    }
    assert!(api.fake.credentials.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_gets_401_in_form_c_and_a_hint_where_tokens_are() {
    let settings = Settings {
        identity_uri: Some("https://identity.example.test".into()),
        ..Settings::default()
    };
    let api = Api::with(settings, vec![]);
    *api.fake.caller.lock().unwrap() = Err(Unauthenticated::Required);
    let reply = api.get("/v2/lbaas/loadbalancers").await;
    assert_eq!(reply.status, 401);
    assert_eq!(
        reply.json(),
        json!({"error": {"code": 401, "title": "Unauthorized",
            "message": "The request you have made requires authentication."}})
    );
    assert_eq!(
        reply.headers["www-authenticate"],
        "Keystone uri=\"https://identity.example.test\""
    );
    *api.fake.caller.lock().unwrap() = Err(Unauthenticated::Unavailable("identity is down".into()));
    let reply = api.get("/v2/lbaas/loadbalancers").await;
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["error"]["message"], "identity is down");
    assert_eq!(reply.headers["retry-after"], "2");
}

#[tokio::test]
async fn requests_that_change_something_refuse_unknown_parameters() {
    let api = Api::new();
    for item in items() {
        let path = format!("/v2/lbaas/{item}?x=1");
        api.delete(&path)
            .await
            .assert_fault(400, "Unknown argument: \"x\"");
        api.put(&path, json!({"any": {}}))
            .await
            .assert_fault(400, "Unknown argument: \"x\"");
    }
    for collection in collections() {
        let path = format!("/v2/lbaas/{collection}?fields=id");
        api.post(&path, json!({"any": {}}))
            .await
            .assert_fault(400, "Unknown argument: \"fields\"");
    }
    let path = format!("/v2/lbaas/pools/{POOL}/members?x=1");
    api.put(&path, json!({"members": []}))
        .await
        .assert_fault(400, "Unknown argument: \"x\"");
    assert_eq!(api.command_count(), 0);
}
