//! A text with NUL in it, which no database of ours could keep the same as another, is 400 wherever it stands.

use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, MONITOR, POLICY, POOL, RULE},
};

const NUL: &str = "a\0b";
const REASON: &str = "Value should not contain NUL";

/// To which path fields are sent, under which root, beside what, and which they are.
type Fields = (String, &'static str, Value, &'static [&'static str]);

fn v2(rest: &str) -> String {
    format!("/v2/lbaas/{rest}")
}

/// What serves and is served.
fn of_traffic() -> Vec<Fields> {
    vec![
        (
            v2("loadbalancers"),
            "loadbalancer",
            json!({"vip_subnet_id": LOAD_BALANCER}),
            &[
                "name",
                "description",
                "availability_zone",
                "provider",
                "project_id",
            ],
        ),
        (
            v2("listeners"),
            "listener",
            json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "TERMINATED_HTTPS", "protocol_port": 81}),
            &[
                "name",
                "description",
                "default_tls_container_ref",
                "client_ca_tls_container_ref",
                "tls_ciphers",
            ],
        ),
        (
            v2("pools"),
            "pool",
            json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}),
            &[
                "name",
                "description",
                "tls_container_ref",
                "ca_tls_container_ref",
                "crl_container_ref",
            ],
        ),
        (
            v2(&format!("pools/{POOL}/members")),
            "member",
            json!({"address": "10.1.0.99", "protocol_port": 1}),
            &["name"],
        ),
    ]
}

/// What judges, and what operators offer.
fn of_judges_and_offers() -> Vec<Fields> {
    vec![
        (
            v2("healthmonitors"),
            "healthmonitor",
            json!({"pool_id": POOL, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2}),
            &["name", "url_path", "domain_name", "expected_codes"],
        ),
        (
            v2("l7policies"),
            "l7policy",
            json!({"listener_id": LISTENER, "action": "REDIRECT_TO_URL"}),
            &["name", "description", "redirect_url"],
        ),
        (
            v2(&format!("l7policies/{POLICY}/rules")),
            "rule",
            json!({"type": "HEADER", "compare_type": "EQUAL_TO", "key": "x", "value": "y"}),
            &["key", "value"],
        ),
        (
            "/v2/flavors".into(),
            "flavor",
            json!({"name": "f", "flavor_profile_id": LOAD_BALANCER}),
            &["name", "description"],
        ),
        (
            "/v2/flavorprofiles".into(),
            "flavorprofile",
            json!({"name": "p", "provider_name": "amphora", "flavor_data": "{}"}),
            &["name", "flavor_data"],
        ),
        (
            "/v2/availabilityzones".into(),
            "availability_zone",
            json!({"name": "z", "availability_zone_profile_id": LOAD_BALANCER}),
            &["name"],
        ),
    ]
}

#[tokio::test]
async fn no_field_takes_it() {
    let api = Api::new();
    for (path, root, object, names) in of_traffic().into_iter().chain(of_judges_and_offers()) {
        for name in names {
            let mut body = object.clone();
            body[name] = json!(NUL);
            let reply = api.post(&path, json!({root: body})).await;
            reply.assert_fault(400, REASON);
            let sentence = reply.fault();
            assert!(
                sentence.contains(name) && !sentence.contains('\0'),
                "{sentence:?}"
            );
        }
        if root != "loadbalancer" && path.starts_with("/v2/lbaas/") {
            let mut body = object.clone();
            body["tags"] = json!([NUL]);
            api.post(&path, json!({root: body}))
                .await
                .assert_fault(400, REASON);
        }
    }
    for (path, root, name) in [
        (
            format!("loadbalancers/{LOAD_BALANCER}"),
            "loadbalancer",
            "name",
        ),
        (format!("listeners/{LISTENER}"), "listener", "description"),
        (format!("pools/{POOL}"), "pool", "name"),
        (format!("healthmonitors/{MONITOR}"), "healthmonitor", "name"),
        (format!("l7policies/{POLICY}"), "l7policy", "name"),
        (format!("l7policies/{POLICY}/rules/{RULE}"), "rule", "value"),
    ] {
        let reply = api
            .put(&format!("/v2/lbaas/{path}"), json!({root: {name: NUL}}))
            .await;
        reply.assert_fault(400, REASON);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn nor_does_a_query_nor_the_name_of_a_field_and_no_zone_is_called_so() {
    let api = Api::new();
    for query in [
        "name=a%00b",
        "tags=%00",
        "a%00=b",
        "project_id=%00",
        "marker=%00",
    ] {
        let reply = api.get(&format!("/v2/lbaas/pools?{query}")).await;
        reply.assert_fault(400, REASON);
    }
    let body = json!({"pool": {"na\0me": "x"}});
    let reply = api.put(&format!("/v2/lbaas/pools/{POOL}"), body).await;
    reply.assert_fault(400, "Unknown attribute");
    assert!(!reply.fault().contains('\0'));
    let reply = api.get("/v2/availabilityzones/a%00b").await;
    assert_eq!(reply.status, 404);
}
