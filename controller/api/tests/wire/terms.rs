//! What headers say around a command: versions, idempotency keys, request ids.

use axum::body::Body;
use http::{Method, Request};
use krater_controller_api::Novelty;
use krater_controller_core::{
    audit::Deed,
    envelope::{Envelope, Generation, Precondition},
    query::ResourceId,
    refusal::Refusal,
};
use serde_json::{Value, json};

use crate::{
    fake::{Api, Reply},
    sample::{self, LISTENER, LOAD_BALANCER, MEMBER_1, MONITOR, POLICY, POOL, RULE},
};

async fn send(
    api: &Api,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Reply {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Body::from(body.to_string())).unwrap())
        .await
}

fn items() -> [(String, &'static str); 7] {
    [
        (
            format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}"),
            "loadbalancer",
        ),
        (format!("/v2/lbaas/listeners/{LISTENER}"), "listener"),
        (format!("/v2/lbaas/pools/{POOL}"), "pool"),
        (
            format!("/v2/lbaas/pools/{POOL}/members/{MEMBER_1}"),
            "member",
        ),
        (
            format!("/v2/lbaas/healthmonitors/{MONITOR}"),
            "healthmonitor",
        ),
        (format!("/v2/lbaas/l7policies/{POLICY}"), "l7policy"),
        (
            format!("/v2/lbaas/l7policies/{POLICY}/rules/{RULE}"),
            "rule",
        ),
    ]
}

/// One that holds any text: rules are the only resources without a name.
fn field(root: &str) -> &'static str {
    if root == "rule" { "value" } else { "name" }
}

fn generation(number: u64) -> Generation {
    Generation::from_number(number).unwrap()
}

#[tokio::test]
async fn what_is_shown_and_what_was_changed_bears_its_version() {
    let api = Api::new();
    let view = sample::view();
    let versions: Vec<String> = view
        .tree
        .facts()
        .map(|facts| format!("\"{}\"", facts.generation))
        .collect();
    for (path, root) in items() {
        let shown = api.get(&path).await;
        let tag = shown.headers["etag"].to_str().unwrap().to_owned();
        assert!(versions.contains(&tag), "{path}: {tag}");
        let changed = api.put(&path, json!({root: {field(root): "n"}})).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_eq!(changed.headers["etag"], tag);
        assert!(!changed.headers.contains_key("idempotent-replayed"));
        assert!(!api.delete(&path).await.headers.contains_key("etag"));
    }
    for list in ["/v2/lbaas/pools", "/v2/lbaas/quotas/p"] {
        assert!(!api.get(list).await.headers.contains_key("etag"));
    }
}

#[tokio::test]
async fn a_version_that_is_meant_goes_with_the_command() {
    let api = Api::new();
    for (path, root) in items() {
        for (header, precondition) in [
            ("*", Precondition::Any),
            ("\"7\"", Precondition::OneOf(vec![generation(7)])),
            ("W/\"7\"", Precondition::OneOf(Vec::new())),
            (
                "\"7\", \"x\", \"8\"",
                Precondition::OneOf(vec![generation(7), generation(8)]),
            ),
        ] {
            let headers = [("if-match", header)];
            let body = json!({root: {field(root): "n"}});
            let reply = send(&api, Method::PUT, &path, &headers, &body).await;
            assert_eq!(reply.status, 200);
            assert_eq!(api.envelope().precondition, precondition);
            let reply = send(&api, Method::DELETE, &path, &headers, &Value::Null).await;
            assert_eq!(reply.status, 204);
            assert_eq!(api.envelope().precondition, precondition);
            assert_eq!(api.envelope().deed, Deed::Delete);
        }
        let bad = [("if-match", "7")];
        let reply = send(&api, Method::DELETE, &path, &bad, &Value::Null).await;
        reply.assert_fault(
            400,
            "Invalid input for field/attribute If-Match. Value: '7'.",
        );
        // A GET changes nothing.
        let read = send(&api, Method::GET, &path, &bad, &Value::Null).await;
        assert_eq!(read.status, 200);
    }
    let id = ResourceId::LoadBalancer(sample::view().tree.id());
    api.refuse(Refusal::Changed(id, generation(9)));
    let path = format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}");
    let reply = api.put(&path, json!({"loadbalancer": {}})).await;
    reply.assert_fault(412, "was changed since: its ETag is \"9\" now.");
}

#[tokio::test]
async fn what_has_no_version_matches_none() {
    let api = Api::new();
    let quota = json!({"quota": {}});
    let pool = json!({"pool": {"protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "loadbalancer_id": LOAD_BALANCER}});
    for (method, path, body) in [
        (Method::PUT, "/v2/lbaas/quotas/p", &quota),
        (Method::DELETE, "/v2/lbaas/quotas/p", &Value::Null),
        (Method::POST, "/v2/lbaas/pools", &pool),
    ] {
        let tagged = [("if-match", "\"7\"")];
        let reply = send(&api, method.clone(), path, &tagged, body).await;
        reply.assert_fault(412, "there is no ETag here");
        for harmless in [("if-match", "*"), ("if-none-match", "*")] {
            let reply = send(&api, method.clone(), path, &[harmless], body).await;
            assert!(reply.status.is_success(), "{path} {reply:?}");
        }
    }
}

#[tokio::test]
async fn a_key_goes_with_what_creates_and_with_nothing_else() {
    let api = Api::new();
    let member = json!({"member": {"address": "10.0.0.9", "protocol_port": 80}});
    let key = [("idempotency-key", "k-1")];
    let mut scopes = Vec::new();
    for base in ["/v2/lbaas", "/v2.0", "/load-balancer/v2.0/lbaas"] {
        let path = format!("{base}/pools/{POOL}/members");
        let reply = send(&api, Method::POST, &path, &key, &member).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let once = api.envelope().once.unwrap();
        assert_eq!(once.key, "k-1");
        scopes.push((once.scope, once.digest));
    }
    assert_eq!(scopes[0].0, format!("POST pools/{POOL}/members"));
    assert!(scopes.iter().all(|scope| *scope == scopes[0]));
    *api.fake.novelty.lock().unwrap() = Novelty::Repeated;
    let path = format!("/v2/lbaas/pools/{POOL}/members");
    let reply = send(&api, Method::POST, &path, &key, &member).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.headers["idempotent-replayed"], "true");
    assert!(reply.headers.contains_key("etag"));
    let update = json!({"pool": {"name": "n"}});
    let pool = format!("/v2/lbaas/pools/{POOL}");
    send(&api, Method::PUT, &pool, &key, &update).await;
    assert_eq!(api.envelope().once, None);
    let long = "x".repeat(256);
    for bad in ["", "a b", long.as_str()] {
        let reply = send(
            &api,
            Method::POST,
            &path,
            &[("idempotency-key", bad)],
            &member,
        )
        .await;
        reply.assert_fault(400, "Invalid input for field/attribute Idempotency-Key.");
    }
    let id = ResourceId::LoadBalancer(sample::view().tree.id());
    for (refusal, status, sentence) in [
        (
            Refusal::KeyReused("k-1".into()),
            422,
            "Another request was made under the Idempotency-Key k-1",
        ),
        (
            Refusal::CreatedAndGone(id),
            410,
            "was created under this Idempotency-Key and is gone since",
        ),
    ] {
        api.refuse(refusal);
        let reply = send(&api, Method::POST, &path, &key, &member).await;
        reply.assert_fault(status, sentence);
    }
}

#[tokio::test]
async fn request_ids_go_with_the_command() {
    let api = Api::new();
    let path = format!("/v2/lbaas/loadbalancers/{LOAD_BALANCER}");
    let global = "req-3ab57a4f-6b21-4a0b-a4b4-5a1f0d4c6f62";
    let body = json!({"loadbalancer": {"name": "n"}});
    for (sent, kept) in [(global, Some(global.to_owned())), ("req-x", None)] {
        let headers = [("x-openstack-request-id", sent)];
        let reply = send(&api, Method::PUT, &path, &headers, &body).await;
        let own = reply.headers["x-openstack-request-id"].to_str().unwrap();
        assert_ne!(own, sent);
        let Envelope {
            request_id,
            global_request_id,
            deed,
            ..
        } = api.envelope();
        assert_eq!(request_id, own);
        assert_eq!(global_request_id, kept);
        assert_eq!(deed, Deed::Update);
    }
}

#[tokio::test]
async fn of_a_refusal_is_told_what_it_was_about() {
    let api = Api::new();
    let id = |text: &str| uuid::Uuid::parse_str(text).unwrap();
    let listener = json!({"listener": {"protocol": "TCP", "protocol_port": 81, "loadbalancer_id": LOAD_BALANCER}});
    let member = json!({"member": {"address": "10.0.0.9", "protocol_port": 80}});
    let rule = json!({"rule": {"type": "PATH", "compare_type": "EQUAL_TO", "value": "/x"}});
    let of_pool = format!("/v2/lbaas/pools/{POOL}/members");
    let of_policy = format!("/v2/lbaas/l7policies/{POLICY}/rules");
    let large = json!({"rule": "x".repeat(1 << 21)});
    for (method, path, body, status, about) in [
        (
            Method::POST,
            "/v2/lbaas/listeners",
            &listener,
            403,
            LOAD_BALANCER,
        ),
        (Method::POST, &of_pool, &member, 403, POOL),
        (Method::POST, &of_policy, &rule, 403, POLICY),
        // Refused before they are commands.
        (Method::POST, &of_policy, &json!({"rule": 1}), 400, POLICY),
        (
            Method::DELETE,
            &format!("{of_pool}/{MEMBER_1}"),
            &Value::Null,
            403,
            MEMBER_1,
        ),
        (
            Method::PUT,
            &format!("{of_policy}/{RULE}"),
            &large,
            413,
            RULE,
        ),
    ] {
        api.refuse(Refusal::NotPermitted);
        let reply = send(&api, method, path, &[], body).await;
        assert_eq!(reply.status, status, "{reply:?}");
        let refused = reply.refused.unwrap();
        assert!(!refused.sentence.is_empty());
        // Of a member the pool would do as well.
        let likely = [Some(id(about)), Some(id(POOL))];
        assert!(likely.contains(&refused.about), "{path} {refused:?}");
    }
    assert_eq!(Api::new().get("/v2/lbaas/pools").await.refused, None);
}
