//! Health monitors: how they look, what a body may say.

use krater_amphora_api::{ExpectedCodes, HealthMonitorId, HttpVersion, PoolId};
use krater_controller_core::{
    command::{Command, HealthMonitorUpdate, NewHealthMonitor},
    model::{HttpMonitor, MonitorKind, Name, Tags},
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, MONITOR, POOL, PROJECT, id},
};

const PATH: &str = "/v2/lbaas/healthmonitors";

fn item() -> String {
    format!("{PATH}/{MONITOR}")
}

fn golden() -> Value {
    json!({"healthmonitor": {"id": MONITOR, "name": "ready", "type": "HTTP", "delay": 5, "timeout": 3,
        "max_retries": 2, "max_retries_down": 3, "http_method": "GET", "url_path": "/ready",
        "expected_codes": "200-204", "http_version": 1.1, "domain_name": "app.example.test", "admin_state_up": true,
        "project_id": PROJECT, "tenant_id": PROJECT, "pools": [{"id": POOL}],
        "provisioning_status": "ACTIVE", "operating_status": "ONLINE",
        "created_at": "2025-03-04T10:13:30", "updated_at": null, "tags": []}})
}

fn new(patch: &Value) -> Value {
    let mut body =
        json!({"pool_id": POOL, "type": "HTTP", "delay": 5, "timeout": 3, "max_retries": 2});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"healthmonitor": body})
}

async fn created(api: &Api, patch: Value) -> NewHealthMonitor {
    let reply = api.post(PATH, new(&patch)).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreateHealthMonitor(pool, monitor) => {
            assert_eq!(pool, PoolId::new(id(POOL)));
            *monitor
        }
        other => panic!("{other:?}"),
    }
}

async fn updated(api: &Api, body: Value) -> HealthMonitorUpdate {
    let reply = api.put(&item(), json!({"healthmonitor": body})).await;
    assert_eq!(reply.status, 200, "{body}: {reply:?}");
    match api.command() {
        Command::UpdateHealthMonitor(_, update) => *update,
        other => panic!("{other:?}"),
    }
}

fn http() -> HttpMonitor {
    HttpMonitor {
        http_method: "GET".into(),
        url_path: "/".into(),
        expected_codes: "200".into(),
        expected: vec![ExpectedCodes {
            first: 200,
            last: 200,
        }],
        http_version: None,
        domain_name: None,
    }
}

#[tokio::test]
async fn a_monitor_looks_as_in_the_reference() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    let list = json!({"healthmonitors": [golden()["healthmonitor"]], "healthmonitors_links": []});
    assert_eq!(api.get(PATH).await.json(), list);
    let reply = api.post(PATH, new(&json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
    let reply = api.put(&item(), json!({"healthmonitor": {}})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
}

#[tokio::test]
async fn monitors_of_other_types_show_no_http() {
    let api = Api::new();
    for (kind, name, version) in [
        (
            MonitorKind::Tcp {
                http_version: None,
                domain_name: None,
            },
            "TCP",
            Value::Null,
        ),
        (
            MonitorKind::Ping {
                http_version: Some(HttpVersion::Http10),
                domain_name: None,
            },
            "PING",
            json!(1.0),
        ),
    ] {
        api.fake.views.lock().unwrap()[0].tree.health_monitors[0]
            .value
            .kind = kind;
        let shown = api.get(&item()).await.json()["healthmonitor"].clone();
        assert_eq!(shown["type"], name);
        assert_eq!(shown["http_version"], version);
        for key in ["http_method", "url_path", "expected_codes", "domain_name"] {
            assert_eq!(shown[key], Value::Null, "{key}");
        }
    }
}

#[tokio::test]
async fn bodies_are_taken_word_for_word() {
    let api = Api::new();
    let plain = NewHealthMonitor {
        name: Name::default(),
        admin_state_up: true,
        kind: MonitorKind::Http(http()),
        delay_seconds: 5,
        timeout_seconds: 3,
        max_retries: 2,
        max_retries_down: 3,
        tags: Tags::default(),
    };
    assert_eq!(created(&api, json!({})).await, plain);
    let nulls = json!({"name": null, "http_method": null, "url_path": null, "expected_codes": null,
        "http_version": null, "domain_name": null, "tags": null, "project_id": "ignored"});
    assert_eq!(created(&api, nulls).await, plain);
    let monitor = created(
        &api,
        json!({"name": "n", "admin_state_up": 0, "delay": "7", "timeout": 0, "max_retries": 1,
            "max_retries_down": 10, "http_method": "HEAD", "url_path": "/a?b=c", "expected_codes": "200, 204",
            "http_version": 1.1, "domain_name": "www.example.test", "tags": ["t"]}),
    )
    .await;
    let codes = [200, 204].map(|code| ExpectedCodes {
        first: code,
        last: code,
    });
    assert_eq!(
        monitor,
        NewHealthMonitor {
            name: Name::parse("n".into()).unwrap(),
            admin_state_up: false,
            kind: MonitorKind::Http(HttpMonitor {
                http_method: "HEAD".into(),
                url_path: "/a?b=c".into(),
                expected_codes: "200, 204".into(),
                expected: codes.to_vec(),
                http_version: Some(HttpVersion::Http11),
                domain_name: Some("www.example.test".into()),
            }),
            delay_seconds: 7,
            timeout_seconds: 0,
            max_retries: 1,
            max_retries_down: 10,
            tags: sample::tags(&["t"]),
        }
    );
    for (name, kind) in [
        (
            "TCP",
            MonitorKind::Tcp {
                http_version: Some(HttpVersion::Http10),
                domain_name: None,
            },
        ),
        (
            "PING",
            MonitorKind::Ping {
                http_version: Some(HttpVersion::Http10),
                domain_name: None,
            },
        ),
    ] {
        assert_eq!(
            created(&api, json!({"type": name, "http_version": "1.0"}))
                .await
                .kind,
            kind
        );
    }
}

/// What is wrong in a new monitor, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    (
        r#"{"pool_id": null}"#,
        "None is not a valid option for pool_id",
    ),
    (r#"{"type": null}"#, "None is not a valid option for type"),
    (
        r#"{"type": "GRPC"}"#,
        "Value should be one of: HTTP, HTTPS, PING, TCP, TLS-HELLO, UDP-CONNECT, SCTP",
    ),
    (r#"{"delay": null}"#, "None is not a valid option for delay"),
    (r#"{"delay": -1}"#, "Value should be greater or equal to 0"),
    (
        r#"{"delay": 2073601}"#,
        "Value should be lower or equal to 2073600",
    ),
    (
        r#"{"timeout": null}"#,
        "None is not a valid option for timeout",
    ),
    (r#"{"timeout": "x"}"#, "Value should be an integer"),
    (
        r#"{"max_retries": null}"#,
        "None is not a valid option for max_retries",
    ),
    (
        r#"{"max_retries": 0}"#,
        "Value should be greater or equal to 1",
    ),
    (
        r#"{"max_retries": 11}"#,
        "Value should be lower or equal to 10",
    ),
    (
        r#"{"max_retries_down": 0}"#,
        "Value should be greater or equal to 1",
    ),
    (
        r#"{"max_retries_down": null}"#,
        "None is not a valid option for max_retries_down",
    ),
    (r#"{"http_method": "get"}"#, "Value should be one of: GET"),
    (
        r#"{"url_path": "ready"}"#,
        "Value must be a valid URL Path string",
    ),
    (
        r#"{"url_path": "/a b"}"#,
        "Value must be a valid URL Path string",
    ),
    (
        r#"{"url_path": "/a#b"}"#,
        "Value must be a valid URL Path string",
    ),
    (
        r#"{"url_path": "/\r\nX: y"}"#,
        "Value must be a valid URL Path string",
    ),
    (
        r#"{"expected_codes": "20"}"#,
        "Value should match the pattern",
    ),
    (
        r#"{"expected_codes": ""}"#,
        "Value should match the pattern",
    ),
    (
        r#"{"expected_codes": "200,"}"#,
        "Value should match the pattern",
    ),
    (
        r#"{"expected_codes": "200-204,301"}"#,
        "Value should match the pattern",
    ),
    (
        r#"{"expected_codes": "299-200"}"#,
        "The first code of a range is the smaller one",
    ),
    (
        r#"{"expected_codes": "099"}"#,
        "Codes are between 100 and 599",
    ),
    (
        r#"{"expected_codes": "200-700"}"#,
        "Codes are between 100 and 599",
    ),
    (r#"{"expected_codes": 200}"#, "Value should be string"),
    (r#"{"http_version": 2}"#, "Value should be one of: 1.0, 1.1"),
    (
        r#"{"http_version": true}"#,
        "Value should be one of: 1.0, 1.1",
    ),
    (r#"{"domain_name": ""}"#, "Value should be a host name"),
    (
        r#"{"domain_name": "-a.test"}"#,
        "Value should be a host name",
    ),
    (
        r#"{"domain_name": "a..test"}"#,
        "Value should be a host name",
    ),
    (r#"{"domain_name": "a b"}"#, "Value should be a host name"),
    (
        r#"{"domain_name": "a.test"}"#,
        "'http_version' must be specified when 'domain_name' is provided.",
    ),
    (
        r#"{"domain_name": "a.test", "http_version": 1.0}"#,
        "http_version 1.0 is not a valid option for health monitors HTTP 1.1 domain name health check",
    ),
    (
        r#"{"type": "TCP", "http_method": "GET"}"#,
        "http_method is not a valid option for health monitors of type TCP",
    ),
    (
        r#"{"type": "PING", "url_path": "/"}"#,
        "url_path is not a valid option for health monitors of type PING",
    ),
    (
        r#"{"type": "TLS-HELLO", "expected_codes": "200"}"#,
        "expected_codes is not a valid option for health monitors of type TLS-HELLO",
    ),
    (
        r#"{"description": "x"}"#,
        "Unknown attribute for argument health_monitor_.healthmonitor: description",
    ),
];

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::admitting(Rules::default());
    for (patch, sentence) in WRONG {
        let patch: Value = serde_json::from_str(patch).unwrap();
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
    }
    for (patch, sentence) in [
        (
            json!({"url_path": format!("/{}", "x".repeat(255))}),
            "maximum character requirement of 255",
        ),
        (
            json!({"expected_codes": (["200"; 17].join(","))}),
            "maximum character requirement of 64",
        ),
    ] {
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
    }
    for name in ["pool_id", "type", "delay", "timeout", "max_retries"] {
        let mut body = new(&json!({}));
        body["healthmonitor"].as_object_mut().unwrap().remove(name);
        api.post(PATH, body)
            .await
            .assert_fault(400, "Mandatory field missing.");
    }
    for (body, sentence) in [
        (
            json!({"type": "TCP"}),
            "Unknown attribute for argument health_monitor_.healthmonitor: type",
        ),
        (json!({"pool_id": POOL}), "Unknown attribute"),
        (json!({"project_id": "p"}), "Unknown attribute"),
        (
            json!({"delay": null}),
            "None is not a valid option for delay",
        ),
        (
            json!({"timeout": null}),
            "None is not a valid option for timeout",
        ),
        (
            json!({"max_retries": null}),
            "None is not a valid option for max_retries",
        ),
        (
            json!({"domain_name": "a.test", "http_version": 1.0}),
            "http_version 1.0 is not a valid option",
        ),
        (
            json!({"domain_name": "a.test", "http_version": null}),
            "'http_version' must be specified",
        ),
    ] {
        api.put(&item(), json!({"healthmonitor": body}))
            .await
            .assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn an_update_changes_what_it_names_only() {
    let api = Api::new();
    assert_eq!(
        updated(&api, json!({})).await,
        HealthMonitorUpdate::default()
    );
    let update = updated(
        &api,
        json!({"name": "n", "admin_state_up": true, "delay": 1, "timeout": 2, "max_retries": 3,
            "max_retries_down": 4, "http_method": "PUT", "url_path": "/x", "expected_codes": "200-299",
            "http_version": 1.1, "domain_name": "a.test", "tags": []}),
    )
    .await;
    assert_eq!(
        update,
        HealthMonitorUpdate {
            name: Some(Name::parse("n".into()).unwrap()),
            admin_state_up: Some(true),
            delay_seconds: Some(1),
            timeout_seconds: Some(2),
            max_retries: Some(3),
            max_retries_down: Some(4),
            http_method: Some("PUT".into()),
            url_path: Some("/x".into()),
            expected_codes: Some((
                "200-299".into(),
                vec![ExpectedCodes {
                    first: 200,
                    last: 299
                }]
            )),
            http_version: Some(Some(HttpVersion::Http11)),
            domain_name: Some(Some("a.test".into())),
            tags: Some(Tags::default()),
        }
    );
    let update = updated(
        &api,
        json!({"name": null, "admin_state_up": null, "max_retries_down": null, "http_method": null,
            "url_path": null, "expected_codes": null, "http_version": null, "domain_name": null, "tags": null}),
    )
    .await;
    assert_eq!(
        update,
        HealthMonitorUpdate {
            name: Some(Name::default()),
            admin_state_up: Some(false),
            max_retries_down: Some(3),
            http_method: Some("GET".into()),
            url_path: Some("/".into()),
            expected_codes: Some((
                "200".into(),
                vec![ExpectedCodes {
                    first: 200,
                    last: 200
                }]
            )),
            http_version: Some(None),
            domain_name: Some(None),
            ..HealthMonitorUpdate::default()
        }
    );
    // Whether the stored monitor has a version is for the domain to know.
    let update = updated(&api, json!({"domain_name": "a.test"})).await;
    assert_eq!(update.domain_name, Some(Some("a.test".into())));
}

#[tokio::test]
async fn a_monitor_is_deleted_by_its_id() {
    let api = Api::new();
    assert_eq!(api.delete(&item()).await.status, 204);
    assert_eq!(
        api.command(),
        Command::DeleteHealthMonitor(HealthMonitorId::new(id(MONITOR)))
    );
}
