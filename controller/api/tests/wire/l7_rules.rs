//! L7 rules: how they look, what a body may say.

use krater_controller_core::{
    command::{Command, L7RuleUpdate, NewL7Rule},
    model::{CompareType, L7PolicyId, L7RuleId, L7RuleType, Tags},
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, POLICY, PROJECT, RULE, STRANGER, id},
};

fn path() -> String {
    format!("/v2/lbaas/l7policies/{POLICY}/rules")
}

fn item() -> String {
    format!("{}/{RULE}", path())
}

fn golden() -> Value {
    json!({"rule": {"id": RULE, "type": "PATH", "compare_type": "STARTS_WITH", "key": null, "value": "/shop",
        "invert": false, "admin_state_up": true, "provisioning_status": "ACTIVE", "operating_status": "OFFLINE",
        "tags": [], "project_id": PROJECT, "tenant_id": PROJECT, "created_at": "2025-03-04T10:14:30",
        "updated_at": null}})
}

fn new(patch: &Value) -> Value {
    let mut body = json!({"type": "PATH", "compare_type": "EQUAL_TO", "value": "/"});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"rule": body})
}

async fn created(api: &Api, patch: Value) -> NewL7Rule {
    let reply = api.post(&path(), new(&patch)).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreateL7Rule(policy, rule) => {
            assert_eq!(policy, L7PolicyId::new(id(POLICY)));
            *rule
        }
        other => panic!("{other:?}"),
    }
}

async fn updated(api: &Api, patch: Value) -> L7RuleUpdate {
    let reply = api.put(&item(), json!({"rule": patch})).await;
    assert_eq!(reply.status, 200, "{patch}: {reply:?}");
    match api.command() {
        Command::UpdateL7Rule(policy, rule, update) => {
            assert_eq!(policy, L7PolicyId::new(id(POLICY)));
            assert_eq!(rule, L7RuleId::new(id(RULE)));
            update
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rule_looks_as_the_reference_shows_it() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    assert_eq!(
        api.get(&path()).await.json(),
        json!({"rules": [golden()["rule"]], "rules_links": []})
    );
    for path in [
        format!("/v2.0/lbaas/l7policies/{POLICY}/rules/"),
        format!("/v2/l7policies/{POLICY}/rules"),
        format!("/v2.0/l7policies/{POLICY}/rules.json"),
    ] {
        assert_eq!(api.get(&path).await.ids("rules"), [RULE]);
    }
    let reply = api.post(&path(), new(&json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
    let reply = api.put(&item(), json!({"rule": {}})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
    let reply = api.delete(&item()).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    let (policy, rule) = (L7PolicyId::new(id(POLICY)), L7RuleId::new(id(RULE)));
    assert_eq!(api.command(), Command::DeleteL7Rule(policy, rule));
}

#[tokio::test]
async fn rules_are_selected_by_their_attributes() {
    let api = Api::new();
    for (query, found) in [
        ("type=PATH", 1),
        ("type=HEADER", 0),
        ("compare_type=STARTS_WITH", 1),
        ("value=/shop", 1),
        ("invert=false", 1),
        ("invert=true", 0),
        ("key=x", 0),
        ("admin_state_up=True", 1),
        ("tags=x", 0),
    ] {
        let reply = api.get(&format!("{}?{query}", path())).await;
        assert_eq!(reply.ids("rules").len(), found, "{query}");
    }
    let reply = api.get(&format!("{}?listener_id=x", path())).await;
    reply.assert_fault(400, "One or more arguments are either duplicate or invalid");
    let reply = api.get(&format!("{}?fields=value", path())).await;
    assert_eq!(reply.json()["rules"], json!([{"value": "/shop"}]));
}

#[tokio::test]
async fn a_missing_policy_is_404_in_form_b_and_a_missing_rule_in_form_a() {
    let api = Api::new();
    for policy in [STRANGER, "x"] {
        let description = format!("L7Policy {policy} not found.");
        for rest in ["", "/x"] {
            let path = format!("/v2/lbaas/l7policies/{policy}/rules{rest}");
            let reply = api.get(&path).await;
            reply.assert_routing_fault(404, "Bad Request", &description);
        }
    }
    let description = "L7Policy x not found.";
    let base = "/v2/lbaas/l7policies/x/rules";
    let reply = api.post(base, new(&json!({}))).await;
    reply.assert_routing_fault(404, "Bad Request", description);
    let reply = api.delete(&format!("{base}/{RULE}")).await;
    reply.assert_routing_fault(404, "Bad Request", description);
    for rule in [STRANGER, "x"] {
        let path = format!("{}/{rule}", path());
        let sentence = format!("L7 Rule {rule} not found.");
        api.get(&path).await.assert_fault(404, &sentence);
    }
    let path = format!("{}/x", path());
    let sentence = "L7 Rule x not found.";
    api.delete(&path).await.assert_fault(404, sentence);
    let body = json!({"rule": {}});
    api.put(&path, body).await.assert_fault(404, sentence);
}

#[tokio::test]
async fn bodies_are_taken_word_for_word() {
    let api = Api::new();
    let plain = NewL7Rule {
        admin_state_up: true,
        rule_type: L7RuleType::Path,
        compare_type: CompareType::EqualTo,
        key: None,
        value: "/".into(),
        invert: false,
        tags: Tags::default(),
    };
    assert_eq!(created(&api, json!({})).await, plain);
    let nulls = json!({"key": null, "invert": null, "tags": null, "tenant_id": "ignored"});
    assert_eq!(created(&api, nulls).await, plain);
    let full = json!({"type": "HEADER", "compare_type": "REGEX", "key": "X-A", "value": "(", "invert": "yes",
        "admin_state_up": false, "tags": ["t"]});
    assert_eq!(
        created(&api, full).await,
        NewL7Rule {
            admin_state_up: false,
            rule_type: L7RuleType::Header,
            compare_type: CompareType::Regex,
            key: Some("X-A".into()),
            // What it means is for the domain to judge.
            value: "(".into(),
            invert: true,
            tags: sample::tags(&["t"]),
        }
    );
    for rule_type in L7RuleType::ALL {
        let rule = created(&api, json!({"type": rule_type.name()})).await;
        assert_eq!(rule.rule_type, rule_type);
    }
    for compare in CompareType::ALL {
        let rule = created(&api, json!({"compare_type": compare.name()})).await;
        assert_eq!(rule.compare_type, compare);
    }
    assert_eq!(updated(&api, json!({})).await, L7RuleUpdate::default());
    let full = json!({"type": "COOKIE", "compare_type": "CONTAINS", "key": null, "value": "v", "invert": null,
        "admin_state_up": null, "tags": []});
    assert_eq!(
        updated(&api, full).await,
        L7RuleUpdate {
            admin_state_up: Some(false),
            rule_type: Some(L7RuleType::Cookie),
            compare_type: Some(CompareType::Contains),
            key: Some(None),
            value: Some("v".into()),
            invert: Some(false),
            tags: Some(Tags::default()),
        }
    );
}

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::new();
    for (patch, sentence) in [
        (
            json!({"type": "QUERY"}),
            "Value should be one of: HOST_NAME, PATH",
        ),
        (json!({"type": null}), "None is not a valid option for type"),
        (
            json!({"compare_type": "LIKE"}),
            "Value should be one of: REGEX",
        ),
        (
            json!({"compare_type": null}),
            "None is not a valid option for compare_type",
        ),
        (
            json!({"value": null}),
            "None is not a valid option for value",
        ),
        (json!({"value": 7}), "Value should be string"),
        (
            json!({"value": "x".repeat(256)}),
            "maximum character requirement of 255",
        ),
        (
            json!({"key": "x".repeat(256)}),
            "maximum character requirement of 255",
        ),
        (
            json!({"invert": "maybe"}),
            "Value not an unambiguous boolean: maybe",
        ),
        (
            json!({"name": "x"}),
            "Unknown attribute for argument rule_.rule: name",
        ),
        (
            json!({"description": "x"}),
            "Unknown attribute for argument rule_.rule: description",
        ),
    ] {
        api.post(&path(), new(&patch))
            .await
            .assert_fault(400, sentence);
        api.put(&item(), json!({"rule": patch}))
            .await
            .assert_fault(400, sentence);
    }
    for name in ["type", "compare_type", "value"] {
        let mut body = new(&json!({}));
        body["rule"].as_object_mut().unwrap().remove(name);
        let sentence = format!(
            "Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing."
        );
        api.post(&path(), body).await.assert_fault(400, &sentence);
    }
    let reply = api.put(&item(), json!({"rule": {"project_id": "p"}})).await;
    reply.assert_fault(400, "Unknown attribute for argument rule_.rule: project_id");
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn a_list_may_name_the_policy_of_its_path_once_more() {
    let api = Api::new();
    for (named, count) in [(POLICY, 1), (STRANGER, 0)] {
        let reply = api.get(&format!("{}?l7policy_id={named}", path())).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let rules = reply.json()["rules"].as_array().unwrap().len();
        assert_eq!(rules, count, "{named}");
    }
    let reply = api.get(&format!("{}?listener_id={POLICY}", path())).await;
    assert_eq!(reply.status, 400);
}
