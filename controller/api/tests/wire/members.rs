//! Members: how they look, what a body may say, batches.

use krater_amphora_api::{MemberId, PoolId};
use krater_controller_core::rules::Rules;
use krater_controller_core::{
    command::{BatchMember, BatchMode, Command, MemberUpdate, NewMember},
    model::{Name, Tags},
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, MEMBER_1, MEMBER_2, POOL, PROJECT, STRANGER, SUBNET, id},
};

fn path() -> String {
    format!("/v2/lbaas/pools/{POOL}/members")
}

fn item() -> String {
    format!("{}/{MEMBER_1}", path())
}

fn golden() -> Value {
    json!({"member": {"id": MEMBER_1, "name": "a1", "operating_status": "ONLINE", "provisioning_status": "ACTIVE",
        "admin_state_up": true, "address": "10.1.0.11", "protocol_port": 8080, "weight": 5, "backup": false,
        "subnet_id": SUBNET, "project_id": PROJECT, "tenant_id": PROJECT,
        "created_at": "2025-03-04T10:13:00", "updated_at": null, "monitor_address": null, "monitor_port": 9000,
        "tags": ["blue"], "vnic_type": "normal"}})
}

fn plain() -> NewMember {
    NewMember {
        name: Name::default(),
        admin_state_up: true,
        address: "10.1.0.11".parse().unwrap(),
        protocol_port: 80,
        weight: 1,
        backup: false,
        subnet_id: None,
        monitor_address: None,
        monitor_port: None,
        request_sriov: false,
        tags: Tags::default(),
    }
}

fn new(patch: &Value) -> Value {
    let mut body = json!({"address": "10.1.0.11", "protocol_port": 80});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    body
}

async fn created(api: &Api, patch: Value) -> NewMember {
    let reply = api.post(&path(), json!({"member": new(&patch)})).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreateMember(pool, member) => {
            assert_eq!(pool, PoolId::new(id(POOL)));
            *member
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_looks_as_in_the_reference() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    let list = api.get(&path()).await.json();
    assert_eq!(list["members"][0], golden()["member"]);
    assert_eq!(
        (&list["members"][1]["id"], &list["members_links"]),
        (&json!(MEMBER_2), &json!([]))
    );
    let reply = api.post(&path(), json!({"member": new(&json!({}))})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
    let reply = api.put(&item(), json!({"member": {}})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
}

#[tokio::test]
async fn a_member_of_another_pool_is_not_found() {
    let api = Api::new();
    let reply = api.get(&format!("{}/{STRANGER}", path())).await;
    reply.assert_fault(404, &format!("Member {STRANGER} not found."));
    api.fake.views.lock().unwrap()[0].tree.members[0].value.pool = PoolId::new(id(STRANGER));
    api.get(&item())
        .await
        .assert_fault(404, &format!("Member {MEMBER_1} not found."));
    assert_eq!(api.get(&path()).await.ids("members"), [MEMBER_2]);
}

#[tokio::test]
async fn bodies_are_taken_word_for_word() {
    let api = Api::new();
    assert_eq!(created(&api, json!({})).await, plain());
    let member = created(
        &api,
        json!({"name": "n", "admin_state_up": false, "address": "2001:DB8::1", "protocol_port": "8080",
            "weight": 0, "backup": "yes", "subnet_id": SUBNET, "monitor_address": "10.9.9.9", "monitor_port": 1,
            "tags": ["t"], "project_id": "ignored", "tenant_id": "ignored", "request_sriov": false}),
    )
    .await;
    assert_eq!(
        member,
        NewMember {
            name: Name::parse("n".into()).unwrap(),
            admin_state_up: false,
            address: "2001:db8::1".parse().unwrap(),
            protocol_port: 8080,
            weight: 0,
            backup: true,
            subnet_id: Some(id(SUBNET)),
            monitor_address: Some("10.9.9.9".parse().unwrap()),
            monitor_port: Some(1),
            request_sriov: false,
            tags: sample::tags(&["t"]),
        }
    );
    let nulls = json!({"name": null, "weight": null, "subnet_id": null, "monitor_address": null,
        "monitor_port": null, "tags": null, "request_sriov": null});
    assert_eq!(created(&api, nulls).await, plain());
    assert!(
        !created(&api, json!({"admin_state_up": null}))
            .await
            .admin_state_up
    );
    assert_eq!(created(&api, json!({"weight": 256})).await.weight, 256);
}

/// What is wrong in a new member, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    (
        r#"{"address": null}"#,
        "None is not a valid option for address",
    ),
    (
        r#"{"address": "host.example.test"}"#,
        "Value should be IPv4 or IPv6 format",
    ),
    (
        r#"{"address": "169.254.169.254"}"#,
        "169.254.169.254 is not a valid option for member address",
    ),
    (
        r#"{"address": "::ffff:169.254.169.254"}"#,
        "169.254.169.254 is not a valid option for member address",
    ),
    (
        r#"{"protocol_port": null}"#,
        "None is not a valid option for protocol_port",
    ),
    (
        r#"{"protocol_port": 0}"#,
        "Value should be greater or equal to 1",
    ),
    (
        r#"{"protocol_port": 65536}"#,
        "Value should be lower or equal to 65535",
    ),
    (r#"{"weight": -1}"#, "Value should be greater or equal to 0"),
    (
        r#"{"weight": 257}"#,
        "Value should be lower or equal to 256",
    ),
    (
        r#"{"backup": null}"#,
        "None is not a valid option for backup",
    ),
    (r#"{"backup": "x"}"#, "Value not an unambiguous boolean: x"),
    (r#"{"subnet_id": "x"}"#, "Value should be UUID format"),
    (
        r#"{"monitor_address": "x"}"#,
        "Value should be IPv4 or IPv6 format",
    ),
    (
        r#"{"monitor_port": 0}"#,
        "Value should be greater or equal to 1",
    ),
    (
        r#"{"description": "x"}"#,
        "Unknown attribute for argument member_.member: description",
    ),
    (r#"{"vnic_type": "normal"}"#, "Unknown attribute"),
];

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::admitting(Rules::default());
    for (patch, sentence) in WRONG {
        let patch: Value = serde_json::from_str(patch).unwrap();
        api.post(&path(), json!({"member": new(&patch)}))
            .await
            .assert_fault(400, sentence);
        let body = json!({"members": [new(&json!({})), new(&patch)]});
        let sentence = sentence.replace("member_.member:", "members_.members:");
        api.put(&path(), body).await.assert_fault(400, &sentence);
    }
    for name in ["address", "protocol_port"] {
        let mut body = new(&json!({}));
        body.as_object_mut().unwrap().remove(name);
        api.post(&path(), json!({"member": body}))
            .await
            .assert_fault(400, "Mandatory field missing.");
    }
    for body in [
        new(&json!({"request_sriov": true})),
        new(&json!({"request_sriov": 1})),
    ] {
        let sentence =
            "Validation failure: The load balancer flavor does not allow SR-IOV member ports.";
        api.post(&path(), json!({"member": body}))
            .await
            .assert_fault(400, sentence);
        api.put(&path(), json!({"members": [body]}))
            .await
            .assert_fault(400, sentence);
    }
    for (body, sentence) in [
        (
            json!({"address": "10.0.0.1"}),
            "Unknown attribute for argument member_.member: address",
        ),
        (json!({"protocol_port": 80}), "Unknown attribute"),
        (json!({"subnet_id": SUBNET}), "Unknown attribute"),
        (json!({"project_id": "p"}), "Unknown attribute"),
        (json!({"request_sriov": false}), "Unknown attribute"),
        (
            json!({"weight": 257}),
            "Value should be lower or equal to 256",
        ),
    ] {
        api.put(&item(), json!({"member": body}))
            .await
            .assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn an_update_changes_what_it_names_only() {
    let api = Api::new();
    for (body, update) in [
        (json!({}), MemberUpdate::default()),
        (
            json!({"name": "n", "admin_state_up": true, "weight": 7, "backup": true, "monitor_address": "::1",
                "monitor_port": 5, "tags": ["t"]}),
            MemberUpdate {
                name: Some(Name::parse("n".into()).unwrap()),
                admin_state_up: Some(true),
                weight: Some(7),
                backup: Some(true),
                monitor_address: Some(Some("::1".parse().unwrap())),
                monitor_port: Some(Some(5)),
                tags: Some(sample::tags(&["t"])),
            },
        ),
        (
            json!({"name": null, "admin_state_up": null, "weight": null, "backup": null, "monitor_address": null,
                "monitor_port": null, "tags": null}),
            MemberUpdate {
                name: Some(Name::default()),
                admin_state_up: Some(false),
                weight: Some(1),
                backup: Some(false),
                monitor_address: Some(None),
                monitor_port: Some(None),
                tags: None,
            },
        ),
    ] {
        assert_eq!(api.put(&item(), json!({"member": body})).await.status, 200);
        let expected =
            Command::UpdateMember(PoolId::new(id(POOL)), MemberId::new(id(MEMBER_1)), update);
        assert_eq!(api.command(), expected);
    }
}

#[tokio::test]
async fn a_batch_tells_what_was_left_out_from_what_was_said() {
    let api = Api::new();
    let body = json!({"members": [new(&json!({})), new(&json!({"name": "", "tags": [], "subnet_id": null})),
        new(&json!({"name": null, "tags": null, "weight": 9, "project_id": "ignored"}))]});
    let reply = api.put(&path(), body).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (202, ""));
    let expected = vec![
        BatchMember {
            member: plain(),
            names: false,
            tags: false,
            subnet: false,
        },
        BatchMember {
            member: plain(),
            names: true,
            tags: true,
            subnet: true,
        },
        BatchMember {
            member: NewMember {
                weight: 9,
                ..plain()
            },
            names: true,
            tags: false,
            subnet: false,
        },
    ];
    assert_eq!(
        api.command(),
        Command::BatchMembers(PoolId::new(id(POOL)), expected, BatchMode::Replace)
    );
}

#[tokio::test]
async fn a_batch_may_be_additive() {
    let api = Api::new();
    for (query, mode) in [
        ("", BatchMode::Replace),
        ("?additive_only=true", BatchMode::Additive),
        ("?additive_only=True", BatchMode::Additive),
        ("?additive_only=1", BatchMode::Additive),
        ("?additive_only=no", BatchMode::Replace),
        ("?additive_only=perhaps", BatchMode::Replace),
    ] {
        assert_eq!(
            api.put(&format!("{}{query}", path()), json!({"members": []}))
                .await
                .status,
            202
        );
        assert_eq!(
            api.command(),
            Command::BatchMembers(PoolId::new(id(POOL)), vec![], mode),
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_batch_without_a_list_is_refused() {
    let api = Api::new();
    for (body, sentence) in [
        (json!({}), "Mandatory field missing."),
        (
            json!({"members": null}),
            "None is not a valid option for members",
        ),
        (json!({"members": {}}), "Value not a valid list"),
        (json!({"members": [7]}), "Value should be an object"),
        (
            json!({"members": [], "additive_only": true}),
            "Unknown attribute for argument members_: additive_only",
        ),
    ] {
        api.put(&path(), body).await.assert_fault(400, sentence);
    }
}

#[tokio::test]
async fn a_member_is_deleted_by_its_id() {
    let api = Api::new();
    assert_eq!(api.delete(&item()).await.status, 204);
    assert_eq!(
        api.command(),
        Command::DeleteMember(PoolId::new(id(POOL)), MemberId::new(id(MEMBER_1)))
    );
}
