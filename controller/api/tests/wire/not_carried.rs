//! What the data plane of this release does not carry is refused with 501, after everything else that is wrong.

use krater_controller_core::model::PoolProtocol;
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, POOL},
};

const PREFIX: &str = "Provider 'amphora' does not support a requested option: ";

async fn check(api: &Api, path: &str, root: &str, mut body: Value, subject: &str) {
    let sentence = format!("{PREFIX}{subject} cannot be had in this release.");
    let reply = api.post(path, json!({root: body})).await;
    reply.assert_fault(501, &sentence);
    body["foo"] = json!(1);
    api.post(path, json!({root: body}))
        .await
        .assert_fault(400, "Unknown attribute");
}

#[tokio::test]
async fn listeners() {
    let api = Api::of_this_release();
    for (patch, subject) in [(json!({"protocol": "SCTP"}), "the protocol SCTP")] {
        let mut body =
            json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "protocol_port": 81});
        body.as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        check(&api, "/v2/lbaas/listeners", "listener", body, subject).await;
    }
    assert_eq!(api.command_count(), 0);
    let item = format!("/v2/lbaas/listeners/{LISTENER}");
    // What has no effect on HTTP by the reference is kept and shown (reference 6.4, remarks).
    let body = json!({"listener": {"tls_ciphers": "HIGH", "tls_versions": ["TLSv1.3"], "alpn_protocols": ["h2"]}});
    let shown = api.put(&item, body).await.json()["listener"].clone();
    assert_eq!(
        (&shown["tls_ciphers"], &shown["alpn_protocols"]),
        (&json!("HIGH"), &json!(["h2"]))
    );
}

#[tokio::test]
async fn pools() {
    let api = Api::of_this_release();
    let tls = "tls_enabled on TCP, HTTPS, UDP and SCTP pools";
    let sealed = |protocol| json!({"protocol": protocol, "tls_enabled": true});
    for (patch, subject) in [
        (json!({"protocol": "SCTP"}), "the protocol SCTP"),
        (sealed("TCP"), tls),
        (sealed("HTTPS"), tls),
    ] {
        let mut body = json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "lb_algorithm": "SOURCE_IP"});
        body.as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        check(&api, "/v2/lbaas/pools", "pool", body, subject).await;
    }
    api.fake.views.lock().unwrap()[0].tree.pools[0]
        .value
        .protocol = PoolProtocol::Tcp;
    let item = format!("/v2/lbaas/pools/{POOL}");
    let reply = api.put(&item, json!({"pool": {"tls_enabled": true}})).await;
    reply.assert_fault(501, &format!("{PREFIX}{tls}"));
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn members() {
    let api = Api::of_this_release();
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.load_balancer.value.steering.member_sriov = true;
    }
    let body = json!({"address": "10.1.0.99", "protocol_port": 1, "request_sriov": true});
    let path = format!("/v2/lbaas/pools/{POOL}/members");
    check(&api, &path, "member", body.clone(), "request_sriov").await;
    let reply = api.put(&path, json!({"members": [body]})).await;
    reply.assert_fault(501, PREFIX);
}

#[tokio::test]
async fn health_monitors() {
    let api = Api::of_this_release();
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.health_monitors.clear();
        tree.pools[0].value.protocol = PoolProtocol::Udp;
    }
    let body = json!({"pool_id": POOL, "type": "SCTP", "delay": 5, "timeout": 3, "max_retries": 2});
    let subject = "health monitors of type SCTP";
    let path = "/v2/lbaas/healthmonitors";
    check(&api, path, "healthmonitor", body, subject).await;
}
