//! Listeners: how they look, what a body may say.

use krater_amphora_api::{ListenerId, LoadBalancerId, PoolId};
use krater_controller_core::{
    command::{Command, HstsUpdate, ListenerTlsUpdate, ListenerUpdate, NewListener, PoolRef},
    model::{
        Description, Hsts, InsertHeaders, ListenerProtocol, ListenerTls, Name, Tags, Timeouts,
    },
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, LISTENER, LOAD_BALANCER, POLICY, POOL, PROJECT, STRANGER, id},
};

const PATH: &str = "/v2/lbaas/listeners";

fn item() -> String {
    format!("{PATH}/{LISTENER}")
}

fn golden() -> Value {
    json!({"listener": {"id": LISTENER, "name": "web", "description": "",
        "provisioning_status": "ACTIVE", "operating_status": "ONLINE", "admin_state_up": true,
        "protocol": "HTTP", "protocol_port": 80, "connection_limit": 2000,
        "default_tls_container_ref": null, "sni_container_refs": [],
        "project_id": PROJECT, "tenant_id": PROJECT,
        "default_pool_id": POOL, "l7policies": [{"id": POLICY}],
        "insert_headers": {"X-Forwarded-For": "true", "X-Forwarded-Proto": "true"},
        "created_at": "2025-03-04T10:12:00", "updated_at": "2025-03-04T10:12:40",
        "loadbalancers": [{"id": LOAD_BALANCER}],
        "timeout_client_data": 50000, "timeout_member_connect": 5000, "timeout_member_data": 50000,
        "timeout_tcp_inspect": 0, "tags": [], "client_ca_tls_container_ref": null, "client_authentication": "NONE",
        "client_crl_container_ref": null, "allowed_cidrs": ["198.51.100.0/24"], "tls_ciphers": null,
        "tls_versions": null, "alpn_protocols": null,
        "hsts_max_age": null, "hsts_include_subdomains": false, "hsts_preload": false}})
}

/// A body with the mandatory fields and `patch`.
fn new(patch: &Value) -> Value {
    let mut body =
        json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "protocol_port": 80});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"listener": body})
}

async fn created(api: &Api, patch: Value) -> NewListener {
    let reply = api.post(PATH, new(&patch)).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreateListener(_, listener) => *listener,
        other => panic!("{other:?}"),
    }
}

async fn updated(api: &Api, body: Value) -> ListenerUpdate {
    let reply = api.put(&item(), json!({"listener": body})).await;
    assert_eq!(reply.status, 200, "{body}: {reply:?}");
    match api.command() {
        Command::UpdateListener(listener, update) => {
            assert_eq!(listener, ListenerId::new(id(LISTENER)));
            *update
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_listener_looks_as_in_the_reference() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    let list = json!({"listeners": [golden()["listener"]], "listeners_links": []});
    assert_eq!(api.get(PATH).await.json(), list);
    let reply = api.post(PATH, new(&json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
}

#[tokio::test]
async fn no_limit_and_no_cidrs_are_shown_as_the_reference_does() {
    let api = Api::new();
    {
        let listener = &mut api.fake.views.lock().unwrap()[0].tree.listeners[0].value;
        listener.connection_limit = None;
        listener.allowed_cidrs.clear();
        listener.default_pool = None;
    }
    let shown = api.get(&item()).await.json()["listener"].clone();
    assert_eq!(shown["connection_limit"], -1);
    assert_eq!(shown["allowed_cidrs"], Value::Null);
    assert_eq!(shown["default_pool_id"], Value::Null);
}

#[tokio::test]
async fn the_least_body_takes_the_defaults() {
    let api = Api::new();
    let listener = created(&api, json!({"protocol": "TCP"})).await;
    assert_eq!(
        listener,
        NewListener {
            name: Name::default(),
            description: Description::default(),
            admin_state_up: true,
            protocol: ListenerProtocol::Tcp,
            protocol_port: 80,
            connection_limit: None,
            default_pool: None,
            allowed_cidrs: vec![],
            timeouts: Timeouts::default(),
            insert_headers: InsertHeaders::default(),
            l7_policies: vec![],
            tls: Default::default(),
            hsts: Default::default(),
            tags: Tags::default(),
        }
    );
    let Command::CreateListener(parent, _) = api.command() else {
        panic!()
    };
    assert_eq!(parent, LoadBalancerId::new(id(LOAD_BALANCER)));
}

#[tokio::test]
async fn the_fullest_body_is_taken_word_for_word() {
    let api = Api::new();
    let listener = created(
        &api,
        json!({"name": "n", "description": "d", "admin_state_up": false, "protocol_port": "8080",
            "connection_limit": "100", "default_pool_id": POOL, "allowed_cidrs": ["10.1.2.3/8", "10.0.0.0/8", "::1"],
            "timeout_client_data": 1, "timeout_member_connect": 2.9, "timeout_member_data": 2_073_600_000,
            "timeout_tcp_inspect": 0, "tags": ["t"], "project_id": "ignored", "tenant_id": "ignored",
            "insert_headers": {"X-Forwarded-For": "True", "X-Forwarded-Port": "false", "X-Forwarded-Proto": ""}}),
    )
    .await;
    let headers = [
        ("X-Forwarded-For", "True"),
        ("X-Forwarded-Port", "false"),
        ("X-Forwarded-Proto", ""),
    ];
    assert_eq!(
        listener,
        NewListener {
            name: Name::parse("n".into()).unwrap(),
            description: Description::parse("d".into()).unwrap(),
            admin_state_up: false,
            protocol: ListenerProtocol::Http,
            protocol_port: 8080,
            connection_limit: Some(100),
            default_pool: Some(PoolRef::Existing(PoolId::new(id(POOL)))),
            allowed_cidrs: vec!["10.0.0.0/8".into(), "::1/128".into()],
            timeouts: Timeouts {
                client_data_ms: 1,
                member_connect_ms: 2,
                member_data_ms: 2_073_600_000,
                tcp_inspect_ms: 0,
            },
            insert_headers: InsertHeaders(
                headers
                    .map(|(name, value)| (name.into(), value.into()))
                    .into()
            ),
            l7_policies: vec![],
            tls: ListenerTls::default(),
            hsts: Hsts::default(),
            tags: sample::tags(&["t"]),
        }
    );
}

#[tokio::test]
async fn null_empty_and_default_values_ask_for_nothing() {
    let api = Api::new();
    let body = json!({"default_tls_container_ref": null, "sni_container_refs": [],
        "client_ca_tls_container_ref": "", "client_authentication": "NONE", "client_crl_container_ref": null,
        "tls_ciphers": "", "tls_versions": null, "alpn_protocols": null, "hsts_max_age": null,
        "hsts_include_subdomains": false, "hsts_preload": null, "insert_headers": null, "allowed_cidrs": null,
        "connection_limit": -1, "default_pool_id": null, "l7policies": [], "default_pool": null});
    let listener = created(&api, body.clone()).await;
    assert_eq!(
        (listener.connection_limit, listener.allowed_cidrs),
        (None, vec![])
    );
    assert_eq!(
        (listener.tls, listener.hsts),
        (ListenerTls::default(), Hsts::default())
    );
    let mut body = body;
    body.as_object_mut()
        .unwrap()
        .retain(|name, _| name != "l7policies" && name != "default_pool");
    updated(&api, body).await;
}

#[tokio::test]
async fn a_limit_of_zero_stays_what_it_is() {
    assert_eq!(
        created(&Api::new(), json!({"connection_limit": 0}))
            .await
            .connection_limit,
        Some(0)
    );
}

/// What is wrong in a new listener, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    (
        r#"{"loadbalancer_id": null}"#,
        "None is not a valid option for loadbalancer_id",
    ),
    (r#"{"loadbalancer_id": "x"}"#, "Value should be UUID format"),
    (
        r#"{"protocol": null}"#,
        "None is not a valid option for protocol",
    ),
    (
        r#"{"protocol": "http"}"#,
        "Invalid input for field/attribute protocol. Value: 'http'. Value should be one of: TCP, HTTP, HTTPS",
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
    (r#"{"protocol_port": "http"}"#, "Value should be an integer"),
    (r#"{"protocol_port": true}"#, "Value should be an integer"),
    (
        r#"{"protocol_port": 1e+300}"#,
        "Value should be lower or equal to 65535",
    ),
    (
        r#"{"connection_limit": -2}"#,
        "Value should be greater or equal to -1",
    ),
    (
        r#"{"connection_limit": 2147483648}"#,
        "Value should be lower or equal to 2147483647",
    ),
    (r#"{"default_pool_id": "x"}"#, "Value should be UUID format"),
    (
        r#"{"default_pool": {"name": "p"}}"#,
        "Validation failure: default_pool can only be given",
    ),
    (
        r#"{"timeout_client_data": -1}"#,
        "Value should be greater or equal to 0",
    ),
    (
        r#"{"timeout_member_connect": 2073600001}"#,
        "Value should be lower or equal to 2073600000",
    ),
    (
        r#"{"timeout_member_data": "x"}"#,
        "Value should be an integer",
    ),
    (
        r#"{"timeout_tcp_inspect": -1}"#,
        "Value should be greater or equal to 0",
    ),
    (
        r#"{"allowed_cidrs": ["10.0.0.0/33"]}"#,
        "Invalid input for field/attribute allowed_cidrs. Value: '10.0.0.0/33'. Value should be IPv4 or IPv6 CIDR format",
    ),
    (
        r#"{"allowed_cidrs": ["x"]}"#,
        "Value should be IPv4 or IPv6 CIDR format",
    ),
    (
        r#"{"allowed_cidrs": [7]}"#,
        "Value should be IPv4 or IPv6 CIDR format",
    ),
    (
        r#"{"allowed_cidrs": "10.0.0.0/8"}"#,
        "Value not a valid list",
    ),
    (r#"{"insert_headers": []}"#, "Value should be an object"),
    (
        r#"{"insert_headers": {"X-Forwarded-For": true}}"#,
        "Value should be string",
    ),
    (
        r#"{"insert_headers": {"x-forwarded-for": "true"}}"#,
        "['x-forwarded-for'] is not a valid option for insert_headers",
    ),
    (
        r#"{"insert_headers": {"X-SSL-Client-DN": "true"}}"#,
        "['X-SSL-Client-DN'] is not a valid option for HTTP protocol listener.",
    ),
    (
        r#"{"protocol": "TCP", "insert_headers": {"X-Forwarded-For": "true"}}"#,
        "insert-headers is not a valid option for a TCP protocol listener.",
    ),
    (
        r#"{"protocol": "HTTPS", "insert_headers": {"X-Forwarded-For": "true"}}"#,
        "for a HTTPS protocol listener.",
    ),
    (
        r#"{"default_tls_container_ref": "ref"}"#,
        "Certificate container references are not allowed on HTTP protocol listeners.",
    ),
    (
        r#"{"protocol": "TCP", "sni_container_refs": ["ref"]}"#,
        "Certificate container references are not allowed on TCP protocol listeners.",
    ),
    (
        r#"{"protocol": "UDP", "client_ca_tls_container_ref": "ref"}"#,
        "UDP protocol listener does not support TLS.",
    ),
    (
        r#"{"protocol": "TERMINATED_HTTPS"}"#,
        "An SNI or default certificate container reference must be provided",
    ),
    (
        r#"{"client_ca_tls_container_ref": "ref"}"#,
        "must be provided with a client CA container reference.",
    ),
    (
        r#"{"client_crl_container_ref": "ref"}"#,
        "A client authentication CA reference is required",
    ),
    (
        r#"{"client_authentication": "MANDATORY"}"#,
        "Client authentication setting MANDATORY requires a client CA container reference.",
    ),
    (
        r#"{"client_authentication": "x"}"#,
        "Value should be one of: NONE, OPTIONAL, MANDATORY",
    ),
    (
        r#"{"tls_ciphers": "a b"}"#,
        "Invalid characters in cipher string.",
    ),
    (
        r#"{"tls_versions": ["TLSv9"]}"#,
        "Value should be one of: SSLv3",
    ),
    (
        r#"{"alpn_protocols": ["h3"]}"#,
        "Invalid input for field/attribute alpn_protocols. Value: 'h3'. Value should be a valid ALPN protocol ID",
    ),
    (
        r#"{"hsts_max_age": -1}"#,
        "Value should be greater or equal to 0",
    ),
    (
        r#"{"hsts_max_age": 10}"#,
        "The HSTS feature can only be used for listeners using",
    ),
    (r#"{"hsts_preload": true}"#, "HSTS configuration options"),
    (
        r#"{"hsts_include_subdomains": "x"}"#,
        "Value not an unambiguous boolean: x",
    ),
    (
        r#"{"l7policies": [{}]}"#,
        "l7policies can only be given when a whole load balancer is created.",
    ),
    (r#"{"l7policies": "x"}"#, "Value not a valid list"),
    (
        r#"{"provisioning_status": "ACTIVE"}"#,
        "Unknown attribute for argument listener_.listener: provisioning_status",
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
            json!({"insert_headers": {"X-Forwarded-For": "x".repeat(256)}}),
            "maximum character requirement of 255",
        ),
        (
            json!({"default_tls_container_ref": "x".repeat(256)}),
            "maximum character requirement of 255",
        ),
        (
            json!({"tls_ciphers": "x".repeat(2049)}),
            "maximum character requirement of 2048",
        ),
        (
            json!({"protocol": "PROMETHEUS", "default_pool_id": POOL}),
            "Protocol PROMETHEUS listeners cannot have child objects.",
        ),
    ] {
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
    }
    for name in ["loadbalancer_id", "protocol", "protocol_port"] {
        let mut body = new(&json!({}));
        body["listener"].as_object_mut().unwrap().remove(name);
        let sentence = format!(
            "Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing."
        );
        api.post(PATH, body).await.assert_fault(400, &sentence);
    }
    let cidrs: Vec<String> = (0..1001)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let reply = api.post(PATH, new(&json!({"allowed_cidrs": cidrs}))).await;
    reply.assert_fault(400, "A listener may have at most 1000 allowed CIDRs.");
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn an_update_changes_what_it_names_only() {
    let api = Api::new();
    assert_eq!(updated(&api, json!({})).await, ListenerUpdate::default());
    let update = updated(
        &api,
        json!({"name": "n", "description": "d", "admin_state_up": "yes", "connection_limit": 5,
            "default_pool_id": POOL, "allowed_cidrs": ["0.0.0.0/0"], "timeout_client_data": 1,
            "timeout_member_connect": 2, "timeout_member_data": 3, "timeout_tcp_inspect": 4,
            "insert_headers": {"X-Forwarded-For": "true"}, "tags": ["t"]}),
    )
    .await;
    assert_eq!(
        update,
        ListenerUpdate {
            name: Some(Name::parse("n".into()).unwrap()),
            description: Some(Description::parse("d".into()).unwrap()),
            admin_state_up: Some(true),
            connection_limit: Some(Some(5)),
            default_pool: Some(Some(PoolId::new(id(POOL)))),
            allowed_cidrs: Some(vec!["0.0.0.0/0".into()]),
            client_data_ms: Some(1),
            member_connect_ms: Some(2),
            member_data_ms: Some(3),
            tcp_inspect_ms: Some(4),
            insert_headers: Some(InsertHeaders(
                [("X-Forwarded-For".into(), "true".into())].into()
            )),
            tls: ListenerTlsUpdate::default(),
            hsts: HstsUpdate::default(),
            tags: Some(sample::tags(&["t"])),
        }
    );
}

#[tokio::test]
async fn null_in_an_update_means_what_the_reference_says_it_means() {
    let api = Api::new();
    let update = updated(
        &api,
        json!({"name": null, "description": null, "admin_state_up": null, "connection_limit": null,
            "default_pool_id": null, "allowed_cidrs": null, "timeout_client_data": null,
            "timeout_member_connect": null, "timeout_member_data": null, "timeout_tcp_inspect": null,
            "insert_headers": null, "tags": null}),
    )
    .await;
    let defaults = Timeouts::default();
    assert_eq!(
        update,
        ListenerUpdate {
            name: Some(Name::default()),
            description: Some(Description::default()),
            admin_state_up: Some(false),
            connection_limit: Some(None),
            default_pool: Some(None),
            allowed_cidrs: Some(vec![]),
            client_data_ms: Some(defaults.client_data_ms),
            member_connect_ms: Some(defaults.member_connect_ms),
            member_data_ms: Some(defaults.member_data_ms),
            tcp_inspect_ms: Some(defaults.tcp_inspect_ms),
            insert_headers: Some(InsertHeaders::default()),
            tls: ListenerTlsUpdate::default(),
            hsts: HstsUpdate::default(),
            tags: None,
        }
    );
}

#[tokio::test]
async fn wrong_updates_are_refused() {
    let api = Api::admitting(Rules::default());
    for (body, sentence) in [
        (
            json!({"protocol": "TCP"}),
            "Unknown attribute for argument listener_.listener: protocol",
        ),
        (json!({"protocol_port": 80}), "Unknown attribute"),
        (
            json!({"loadbalancer_id": LOAD_BALANCER}),
            "Unknown attribute",
        ),
        (json!({"project_id": "p"}), "Unknown attribute"),
        (json!({"default_pool": {"name": "x"}}), "Unknown attribute"),
        (json!({"l7policies": []}), "Unknown attribute"),
        (json!({"id": STRANGER}), "Unknown attribute"),
        (
            json!({"connection_limit": -2}),
            "Value should be greater or equal to -1",
        ),
        (
            json!({"insert_headers": {"Foo": "true"}}),
            "['Foo'] is not a valid option for insert_headers",
        ),
        (
            json!({"insert_headers": {"X-SSL-Issuer": "true"}}),
            "['X-SSL-Issuer'] is not a valid option for HTTP",
        ),
        (
            json!({"client_authentication": "OPTIONAL"}),
            "Client authentication setting OPTIONAL requires",
        ),
        (
            json!({"client_crl_container_ref": "ref"}),
            "A client authentication CA reference is required",
        ),
        (json!({"allowed_cidrs": ["10.0.0.1/-1"]}), "CIDR format"),
    ] {
        api.put(&item(), json!({"listener": body}))
            .await
            .assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn a_listener_is_deleted_by_its_id() {
    let api = Api::new();
    assert_eq!(api.delete(&item()).await.status, 204);
    assert_eq!(
        api.command(),
        Command::DeleteListener(ListenerId::new(id(LISTENER)))
    );
}
