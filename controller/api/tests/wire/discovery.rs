//! Versions, health check, providers.

use http::{Method, Request};
use krater_controller_api::{Healthcheck, Settings, Unauthenticated};
use krater_controller_core::refusal::Refusal;
use serde_json::json;

use crate::fake::Api;

#[tokio::test]
async fn the_root_lists_versions_without_authentication_and_the_current_one_last() {
    let api = Api::new();
    *api.fake.caller.lock().unwrap() = Err(Unauthenticated::Required);
    for (path, href) in [
        ("/", "http://lb.example.test:9876/v2"),
        (
            "/load-balancer",
            "http://lb.example.test:9876/load-balancer/v2",
        ),
        (
            "/load-balancer/",
            "http://lb.example.test:9876/load-balancer/v2",
        ),
    ] {
        let reply = api.get(path).await;
        assert_eq!(reply.status, 200);
        let versions = reply.json()["versions"].as_array().unwrap().clone();
        assert_eq!(versions.len(), 31);
        assert_eq!(
            versions[30],
            json!({"id": "v2.30", "status": "CURRENT", "updated": "2025-02-26T00:00:00Z",
                "links": [{"href": href, "rel": "self"}]})
        );
    }
    assert!(api.fake.credentials.lock().unwrap().is_empty());
}

#[tokio::test]
async fn links_start_with_the_base_a_deployment_chose() {
    let settings = Settings {
        api_base_uri: Some("https://lb.example.test/".into()),
        ..Settings::default()
    };
    let reply = Api::with(settings, vec![]).get("/").await;
    assert_eq!(
        reply.json()["versions"][0]["links"][0]["href"],
        "https://lb.example.test/v2"
    );
}

#[tokio::test]
async fn every_form_of_the_version_path_answers_its_name() {
    let api = Api::new();
    for path in [
        "/v2",
        "/v2/",
        "/v2.0",
        "/v2.0/",
        "/v2/lbaas",
        "/v2.0/lbaas/",
        "/v2/octavia",
    ] {
        let reply = api.get(path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text.as_str()),
            (200, "\"v2\""),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_health_check_is_off_unless_switched_on() {
    Api::new()
        .get("/healthcheck")
        .await
        .assert_routing_fault(404, "Not Found", "");
}

#[tokio::test]
async fn the_health_check_says_whether_the_store_answers() {
    let settings = Settings {
        healthcheck: Healthcheck::Enabled,
        ..Settings::default()
    };
    let api = Api::with(settings, vec![]);
    let reply = api.get("/healthcheck").await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (200, "OK"));
    assert_eq!(
        api.call(Method::HEAD, "/load-balancer/healthcheck")
            .await
            .status,
        204
    );
    assert_eq!(api.call(Method::POST, "/healthcheck").await.status, 405);
    for (accept, text) in [("application/json", "reasons"), ("text/html", "<html>")] {
        let request = Request::get("/healthcheck")
            .header("accept", accept)
            .body(axum::body::Body::empty());
        let reply = api.send(request.unwrap()).await;
        assert!(
            reply.text.contains(text) && reply.text.contains("OK"),
            "{reply:?}"
        );
    }
    api.refuse(Refusal::Unavailable("the disk is full".into()));
    let reply = api.get("/healthcheck").await;
    assert_eq!(
        (reply.status.as_u16(), reply.text.as_str()),
        (503, "The Octavia database is unavailable.")
    );
    api.refuse(Refusal::Unavailable("the disk is full".into()));
    assert_eq!(api.call(Method::HEAD, "/healthcheck").await.status, 503);
}

#[tokio::test]
async fn providers_are_listed_by_name_and_have_no_links() {
    let api = Api::new();
    let body = api.get("/v2/lbaas/providers?name=whatever").await.json();
    assert_eq!(
        body,
        json!({"providers": [
            {"name": "amphora", "description": "The krater amphora driver."},
            {"name": "octavia", "description": "Deprecated alias of the amphora driver."}]})
    );
    let body = api.get("/v2.0/lbaas/providers?fields=name").await.json();
    assert_eq!(
        body,
        json!({"providers": [{"name": "amphora"}, {"name": "octavia"}]})
    );
}

#[tokio::test]
async fn a_provider_has_no_page() {
    let api = Api::new();
    assert_eq!(api.get("/v2/lbaas/providers/amphora").await.status, 405);
}
