//! L7 policies: how they look, what a body may say.

use krater_controller_core::{
    command::{Command, L7PolicyUpdate, NewL7Policy, PoolRef, Redirect},
    model::{
        Description, L7Action, L7ActionType, L7Policy, L7PolicyId, ListenerId, Name, PoolId,
        RedirectCode, RedirectUrl, Tags,
    },
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, LISTENER, POLICY, POOL, PROJECT, RULE, STRANGER, id, uuid},
};

const PATH: &str = "/v2/lbaas/l7policies";

fn item() -> String {
    format!("{PATH}/{POLICY}")
}

fn golden() -> Value {
    json!({"l7policy": {"id": POLICY, "name": "to-shop", "description": "",
        "provisioning_status": "ACTIVE", "operating_status": "OFFLINE", "admin_state_up": true,
        "project_id": PROJECT, "tenant_id": PROJECT, "action": "REDIRECT_PREFIX", "listener_id": LISTENER,
        "redirect_pool_id": null, "redirect_url": null, "redirect_prefix": "https://shop.example.test",
        "position": 1, "rules": [{"id": RULE}], "created_at": "2025-03-04T10:14:00", "updated_at": null,
        "tags": [], "redirect_http_code": 308}})
}

fn new(patch: &Value) -> Value {
    let mut body = json!({"listener_id": LISTENER, "action": "REJECT"});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"l7policy": body})
}

async fn created(api: &Api, patch: Value) -> NewL7Policy {
    let reply = api.post(PATH, new(&patch)).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreateL7Policy(listener, policy) => {
            assert_eq!(listener, ListenerId::new(id(LISTENER)));
            *policy
        }
        other => panic!("{other:?}"),
    }
}

async fn updated(api: &Api, patch: Value) -> L7PolicyUpdate {
    let reply = api.put(&item(), json!({"l7policy": patch})).await;
    assert_eq!(reply.status, 200, "{patch}: {reply:?}");
    match api.command() {
        Command::UpdateL7Policy(policy, update) => {
            assert_eq!(policy, L7PolicyId::new(id(POLICY)));
            *update
        }
        other => panic!("{other:?}"),
    }
}

fn url(text: &str) -> RedirectUrl {
    RedirectUrl::parse(text.into()).unwrap()
}

#[tokio::test]
async fn a_policy_looks_as_the_reference_shows_it() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    assert_eq!(
        api.get(PATH).await.json(),
        json!({"l7policies": [golden()["l7policy"]], "l7policies_links": []})
    );
    for path in [
        "/v2.0/lbaas/l7policies",
        "/v2/l7policies/",
        "/v2.0/l7policies.json",
        "/load-balancer/v2.0/lbaas/l7policies",
    ] {
        assert_eq!(api.get(path).await.ids("l7policies"), [POLICY]);
    }
    let reply = api.post(PATH, new(&json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
    let reply = api.put(&item(), json!({"l7policy": {"name": "x"}})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
    let reply = api.delete(&item()).await;
    assert_eq!((reply.status.as_u16(), reply.text.as_str()), (204, ""));
    assert_eq!(
        api.command(),
        Command::DeleteL7Policy(L7PolicyId::new(id(POLICY)))
    );
    for (action, shown) in [
        (
            L7Action::Reject,
            json!({"action": "REJECT", "redirect_pool_id": null, "redirect_url": null, "redirect_prefix": null,
                "redirect_http_code": null}),
        ),
        (
            L7Action::RedirectToPool(PoolId::new(id(POOL))),
            json!({"action": "REDIRECT_TO_POOL", "redirect_pool_id": POOL, "redirect_url": null,
                "redirect_prefix": null, "redirect_http_code": null}),
        ),
        (
            L7Action::RedirectToUrl {
                url: url("http://a"),
                code: RedirectCode::SeeOther,
            },
            json!({"action": "REDIRECT_TO_URL", "redirect_pool_id": null, "redirect_url": "http://a",
                "redirect_prefix": null, "redirect_http_code": 303}),
        ),
    ] {
        api.fake.views.lock().unwrap()[0].tree.l7_policies[0]
            .value
            .action = action;
        let policy = api.get(&item()).await.json()["l7policy"].clone();
        for (key, value) in shown.as_object().unwrap() {
            assert_eq!(&policy[key], value, "{key}");
        }
    }
}

#[tokio::test]
async fn policies_are_listed_as_created_and_shown_below_their_listener_in_order() {
    let api = Api::new();
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        let other = L7Policy {
            id: L7PolicyId::new(uuid(2)),
            name: Name::parse("second".into()).unwrap(),
            action: L7Action::Reject,
            ..sample::policy()
        };
        let row = sample::row(other, "2025-03-04T10:15:00Z", None);
        tree.l7_policies.push(row);
        let order = &mut tree.listeners[0].value.l7_policies;
        // One that is gone already is named still.
        *order = vec![
            L7PolicyId::new(uuid(2)),
            L7PolicyId::new(uuid(3)),
            L7PolicyId::new(id(POLICY)),
        ];
    }
    let second = uuid(2).to_string();
    let positions = |body: &Value| -> Vec<Value> {
        let list = body["l7policies"].as_array().unwrap().iter();
        list.map(|policy| policy["position"].clone()).collect()
    };
    let reply = api.get(PATH).await;
    assert_eq!(reply.ids("l7policies"), [POLICY, &second]);
    assert_eq!(positions(&reply.json()), [2, 1]);
    let reply = api.get(&format!("{PATH}?sort=position")).await;
    assert_eq!(reply.ids("l7policies"), [second.as_str(), POLICY]);
    let listener = api.get(&format!("/v2/lbaas/listeners/{LISTENER}")).await;
    assert_eq!(
        listener.json()["listener"]["l7policies"],
        json!([{"id": second}, {"id": POLICY}])
    );
    for (query, found) in [
        (format!("listener_id={LISTENER}"), 2),
        (format!("listener_id={STRANGER}"), 0),
        ("action=REJECT".into(), 1),
        ("name=second".into(), 1),
        ("position=2".into(), 1),
        ("redirect_http_code=308".into(), 1),
        ("redirect_prefix=https://shop.example.test".into(), 1),
        (format!("redirect_pool_id={POOL}"), 0),
        ("not-tags=x".into(), 2),
        ("tags=x".into(), 0),
    ] {
        let reply = api.get(&format!("{PATH}?{query}")).await;
        assert_eq!(reply.ids("l7policies").len(), found, "{query}");
    }
    let reply = api.get(&format!("{PATH}?fields=position&limit=1")).await;
    assert_eq!(reply.json()["l7policies"], json!([{"position": 2}]));
    api.get(&format!("{PATH}?rules=x"))
        .await
        .assert_fault(400, "One or more arguments are either duplicate or invalid");
}

#[tokio::test]
async fn a_pool_shows_the_listeners_that_use_it_through_a_policy() {
    let api = Api::new();
    {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.listeners[0].value.default_pool = None;
    }
    let path = format!("/v2/lbaas/pools/{POOL}");
    let status = "/v2/lbaas/loadbalancers/0b9f0d4e-3c0c-4f0e-8d57-1f5f6a2f7b11/status";
    assert_eq!(api.get(&path).await.json()["pool"]["listeners"], json!([]));
    let used = |action, enabled| {
        let tree = &mut api.fake.views.lock().unwrap()[0].tree;
        tree.l7_policies[0].value.action = action;
        tree.l7_policies[0].value.admin_state_up = enabled;
    };
    let pool = || L7Action::RedirectToPool(PoolId::new(id(POOL)));
    for (action, enabled, shown) in [
        (pool(), true, json!([{"id": LISTENER}])),
        (pool(), false, json!([])),
        (L7Action::Reject, true, json!([])),
    ] {
        used(action, enabled);
        let listeners = api.get(&path).await.json()["pool"]["listeners"].clone();
        assert_eq!(listeners, shown);
        let tree = api.get(status).await.json();
        let pools = &tree["statuses"]["loadbalancer"]["listeners"][0]["pools"];
        assert_eq!(
            pools.as_array().unwrap().len(),
            shown.as_array().unwrap().len()
        );
    }
}

#[tokio::test]
async fn bodies_are_taken_word_for_word() {
    let api = Api::new();
    let plain = NewL7Policy {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        action: L7Action::Reject,
        position: None,
        tags: Tags::default(),
        rules: vec![],
    };
    assert_eq!(created(&api, json!({})).await, plain);
    let nulls = json!({"name": null, "description": null, "redirect_url": null, "redirect_prefix": null,
        "redirect_pool_id": null, "redirect_http_code": null, "position": null, "tags": null, "rules": [],
        "redirect_pool": null, "project_id": "ignored"});
    assert_eq!(created(&api, nulls).await, plain);
    let full = json!({"name": "n", "description": "d", "admin_state_up": false, "action": "REDIRECT_TO_URL",
        "redirect_url": "https://a.test/x?y", "redirect_http_code": "307", "position": 2_147_483_647,
        "tags": ["t"], "redirect_pool_id": POOL});
    assert_eq!(
        created(&api, full).await,
        NewL7Policy {
            name: Name::parse("n".into()).unwrap(),
            description: Description::parse("d".into()).unwrap(),
            admin_state_up: false,
            action: L7Action::RedirectToUrl {
                url: url("https://a.test/x?y"),
                code: RedirectCode::Temporary
            },
            position: Some(2_147_483_647),
            tags: sample::tags(&["t"]),
            rules: vec![],
        }
    );
    let pool = PoolRef::Existing(PoolId::new(id(POOL)));
    for (patch, action) in [
        (
            json!({"action": "REDIRECT_TO_POOL", "redirect_pool_id": POOL}),
            L7Action::RedirectToPool(pool),
        ),
        (
            json!({"action": "REDIRECT_PREFIX", "redirect_prefix": "http://a"}),
            L7Action::RedirectPrefix {
                prefix: url("http://a"),
                code: RedirectCode::Found,
            },
        ),
        // What is dropped, and what converts (reference 10.3).
        (
            json!({"redirect_pool_id": POOL, "redirect_url": "http://a"}),
            L7Action::Reject,
        ),
        (
            json!({"redirect_prefix": "http://a", "redirect_http_code": 301}),
            L7Action::RedirectPrefix {
                prefix: url("http://a"),
                code: RedirectCode::MovedPermanently,
            },
        ),
    ] {
        assert_eq!(created(&api, patch).await.action, action);
    }
}

#[tokio::test]
async fn updates_say_what_they_say() {
    let api = Api::new();
    assert_eq!(updated(&api, json!({})).await, L7PolicyUpdate::default());
    let full = json!({"name": null, "description": "d", "admin_state_up": null, "action": "REDIRECT_TO_POOL",
        "redirect_pool_id": POOL, "redirect_url": null, "redirect_prefix": null, "redirect_http_code": null,
        "position": 3, "tags": []});
    assert_eq!(
        updated(&api, full).await,
        L7PolicyUpdate {
            name: Some(Name::default()),
            description: Some(Description::parse("d".into()).unwrap()),
            admin_state_up: Some(false),
            redirect: Redirect {
                action: Some(L7ActionType::RedirectToPool),
                url: Some(None),
                prefix: Some(None),
                pool: Some(Some(PoolId::new(id(POOL)))),
                http_code: Some(None),
            },
            position: Some(Some(3)),
            tags: Some(Tags::default()),
        }
    );
    let other = updated(
        &api,
        json!({"redirect_url": "http://a", "redirect_prefix": "http://b", "redirect_http_code": 303,
            "position": null, "tags": null}),
    )
    .await;
    assert_eq!(other.redirect.url, Some(Some(url("http://a"))));
    assert_eq!(other.redirect.prefix, Some(Some(url("http://b"))));
    assert_eq!(other.redirect.http_code, Some(Some(RedirectCode::SeeOther)));
    assert_eq!((other.position, other.tags), (Some(None), None));
}

/// What neither a creation nor an update may say.
const WRONG: &[(&str, &str)] = &[
    (
        r#"{"action": "MOVE"}"#,
        "Invalid L7 Policy action specified: MOVE",
    ),
    (
        r#"{"action": null}"#,
        "Invalid L7 Policy action specified: None",
    ),
    (r#"{"action": 7}"#, "Invalid L7 Policy action specified: 7"),
    (
        r#"{"action": "REDIRECT_TO_URL", "redirect_url": "shop"}"#,
        "Invalid input for field/attribute redirect_url. Value: 'shop'. Value must be a valid URL string",
    ),
    (r#"{"redirect_url": 7}"#, "Value should be string"),
    (
        r#"{"redirect_url": ""}"#,
        "Value must be a valid URL string",
    ),
    (
        r#"{"redirect_prefix": "ftp://a"}"#,
        "Invalid input for field/attribute redirect_prefix. Value: 'ftp://a'. Value must be a valid URL string",
    ),
    (
        r#"{"redirect_http_code": 304}"#,
        "Invalid input for field/attribute redirect_http_code. Value: '304'. Value should be one of: 301, 302, 303, 307, 308",
    ),
    (
        r#"{"redirect_http_code": "x"}"#,
        "Value should be an integer",
    ),
    (
        r#"{"redirect_pool_id": "x"}"#,
        "Value should be UUID format",
    ),
    (
        r#"{"position": 0}"#,
        "Value should be greater or equal to 1",
    ),
    (
        r#"{"position": 2147483648}"#,
        "Value should be lower or equal to 2147483647",
    ),
    (r#"{"name": 7}"#, "Value should be string"),
    (
        r#"{"admin_state_up": "maybe"}"#,
        "Value not an unambiguous boolean: maybe",
    ),
    (r#"{"tags": "x"}"#, "Value not a valid list"),
    (
        r#"{"foo": 1}"#,
        "Unknown attribute for argument l7policy_.l7policy: foo",
    ),
    (r#"{"provisioning_status": "ACTIVE"}"#, "Unknown attribute"),
];

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::new();
    let long = format!("http://a/{}", "x".repeat(247));
    let too_long = json!({"redirect_url": long});
    let wrong = WRONG
        .iter()
        .map(|(patch, sentence)| (serde_json::from_str(patch).unwrap(), *sentence))
        .chain([(too_long, "maximum character requirement of 255")]);
    for (patch, sentence) in wrong {
        let patch: Value = patch;
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
        api.put(&item(), json!({"l7policy": patch}))
            .await
            .assert_fault(400, sentence);
    }
    for (patch, sentence) in [
        (
            json!({"listener_id": null}),
            "None is not a valid option for listener_id",
        ),
        (json!({"listener_id": "x"}), "Value should be UUID format"),
        (
            json!({"rules": [{"type": "PATH"}]}),
            "rules can only be given when a whole load balancer is created.",
        ),
        (
            json!({"redirect_pool": {"name": "a"}}),
            "redirect_pool can only be given when a whole load balancer is created.",
        ),
        (
            json!({"action": "REDIRECT_TO_URL"}),
            "Invalid L7 Policy arguments: redirect_url must not be None",
        ),
        (
            json!({"action": "REDIRECT_TO_POOL"}),
            "Invalid L7 Policy arguments: redirect_pool_id must not be None",
        ),
        (
            json!({"action": "REDIRECT_PREFIX", "redirect_prefix": "http://a", "redirect_pool_id": POOL}),
            "Invalid L7 Policy arguments: Cannot specify redirect_pool_id and redirect_url or redirect_prefix at the same time",
        ),
    ] {
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
    }
    for name in ["listener_id", "action"] {
        let mut body = new(&json!({}));
        body["l7policy"].as_object_mut().unwrap().remove(name);
        let sentence = format!(
            "Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing."
        );
        api.post(PATH, body).await.assert_fault(400, &sentence);
    }
    for field in ["listener_id", "rules", "redirect_pool", "project_id", "id"] {
        let body = json!({"l7policy": {field: null}});
        api.put(&item(), body)
            .await
            .assert_fault(400, "Unknown attribute for argument l7policy_.l7policy");
    }
    assert_eq!(api.command_count(), 0);
}
