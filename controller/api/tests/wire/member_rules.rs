//! Rules of members (reference 8.3, 8.4): for each a body that breaks it, and one that keeps it.

use krater_controller_core::{model::VnicType, rules::Rules};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{MEMBER_1, POOL, STRANGER},
};

fn path() -> String {
    format!("/v2/lbaas/pools/{POOL}/members")
}

fn new(patch: Value) -> Value {
    let mut body = json!({"address": "10.1.0.99", "protocol_port": 8080});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    body
}

fn flavored() -> Api {
    let api = Api::admitting(Rules::default());
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.load_balancer.value.steering.member_sriov = true;
    }
    api
}

#[tokio::test]
async fn a_new_member_keeps_its_rules() {
    let api = Api::admitting(Rules::default());
    for (patch, status, sentence) in [
        (
            json!({"address": "10.1.0.11"}),
            409,
            "Another member on this pool is already using ip 10.1.0.11 on protocol_port 8080",
        ),
        (
            json!({"address": "::ffff:10.1.0.11"}),
            409,
            "Another member on this pool is already using ip",
        ),
        (
            json!({"address": "169.254.169.254"}),
            400,
            "169.254.169.254 is not a valid option for member address",
        ),
        (
            json!({"monitor_address": "169.254.169.254"}),
            400,
            "169.254.169.254 is not a valid option for member monitor_address",
        ),
        (
            json!({"weight": 257}),
            400,
            "Value should be lower or equal to 256",
        ),
        (
            json!({"request_sriov": true}),
            400,
            "Validation failure: The load balancer flavor does not allow SR-IOV member ports.",
        ),
    ] {
        let reply = api.post(&path(), json!({"member": new(patch)})).await;
        reply.assert_fault(status, sentence);
    }
    let elsewhere = format!("/v2/lbaas/pools/{STRANGER}/members");
    let reply = api
        .post(&elsewhere, json!({"member": new(json!({}))}))
        .await;
    reply.assert_routing_fault(404, "Bad Request", &format!("Pool {STRANGER} not found."));
    for patch in [
        json!({"address": "10.1.0.11", "protocol_port": 8081}),
        json!({"address": "169.254.169.253", "monitor_address": "10.1.0.11"}),
        json!({"weight": 256}),
        json!({"weight": null}),
        json!({"request_sriov": false}),
        json!({"backup": true}),
    ] {
        let reply = api
            .post(&path(), json!({"member": new(patch.clone())}))
            .await;
        assert_eq!(reply.status, 201, "{patch}: {reply:?}");
        let shown = reply.json()["member"].clone();
        if patch["weight"].is_null() {
            assert_eq!(shown["weight"], 1);
        }
        assert_eq!(
            (shown.get("request_sriov"), &shown["vnic_type"]),
            (None, &json!("normal"))
        );
    }
}

#[tokio::test]
async fn a_deployment_may_reserve_other_addresses() {
    let rules = Rules {
        reserved_addresses: ["10.1.0.99".parse().unwrap()].into(),
        ..Rules::default()
    };
    let api = Api::admitting(rules);
    for address in ["10.1.0.99", "::ffff:10.1.0.99"] {
        let member = new(json!({"address": address}));
        let sentence = format!("{address} is not a valid option for member address");
        api.post(&path(), json!({"member": member}))
            .await
            .assert_fault(400, &sentence);
        api.put(&path(), json!({"members": [member]}))
            .await
            .assert_fault(400, &sentence);
    }
    let member = new(json!({"address": "169.254.169.254"}));
    assert_eq!(
        api.post(&path(), json!({"member": member})).await.status,
        201
    );
}

#[tokio::test]
async fn a_flavor_may_allow_a_part_of_a_network_card() {
    let api = flavored();
    let reply = api
        .post(
            &path(),
            json!({"member": new(json!({"request_sriov": true}))}),
        )
        .await;
    assert_eq!(reply.json()["member"]["vnic_type"], "direct", "{reply:?}");
    // An entry for a member that exists asks in vain, and is not refused for it.
    let api = Api::admitting(Rules::default());
    let known = json!({"members": [{"address": "10.1.0.11", "protocol_port": 8080, "request_sriov": true}]});
    assert_eq!(api.put(&path(), known.clone()).await.status, 202);
    let direct = json!({"members": [new(json!({"request_sriov": true}))]});
    api.put(&path(), direct.clone())
        .await
        .assert_fault(400, "does not allow SR-IOV");
    assert_eq!(flavored().put(&path(), direct).await.status, 202);
    api.fake.views.lock().unwrap()[0].tree.members[0]
        .value
        .vnic_type = VnicType::Direct;
    let shown = api.get(&format!("{}/{MEMBER_1}", path())).await.json();
    assert_eq!(shown["member"]["vnic_type"], "direct");
}

#[tokio::test]
async fn a_batch_is_checked_as_a_whole() {
    let api = Api::admitting(Rules::default());
    let (known, fresh) = (
        json!({"address": "10.1.0.11", "protocol_port": 8080}),
        new(json!({})),
    );
    for (members, status, sentence) in [
        (
            json!([known, known]),
            400,
            "Member must be updated only once in the same request.",
        ),
        (
            json!([fresh, fresh]),
            409,
            "Another member on this pool is already using ip 10.1.0.99 on protocol_port 8080",
        ),
        (
            json!([fresh, {"address": "169.254.169.254", "protocol_port": 1}]),
            400,
            "is not a valid option for member address",
        ),
        (Value::Null, 400, "None is not a valid option for members"),
    ] {
        let reply = api.put(&path(), json!({"members": members})).await;
        reply.assert_fault(status, sentence);
    }
    api.put(&path(), json!({}))
        .await
        .assert_fault(400, "Mandatory field missing.");
    assert_eq!(api.command_count(), 0);
    for members in [json!([known, fresh]), json!([]), json!([fresh])] {
        let reply = api.put(&path(), json!({"members": members})).await;
        assert_eq!(
            (reply.status.as_u16(), reply.text.as_str()),
            (202, ""),
            "{members}"
        );
    }
}
