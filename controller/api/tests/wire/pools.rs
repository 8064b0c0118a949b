//! Pools: how they look, what a body may say.

use krater_amphora_api::{ListenerId, LoadBalancerId, PoolId};
use krater_controller_core::{
    command::{Command, NewPool, PoolParent, PoolTlsUpdate, PoolUpdate, TlsTermsUpdate},
    model::{Description, LbAlgorithm, Name, PoolProtocol, PoolTls, Tags},
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{self, LISTENER, LOAD_BALANCER, MEMBER_1, MEMBER_2, MONITOR, POOL, PROJECT, id},
};

const PATH: &str = "/v2/lbaas/pools";

fn item() -> String {
    format!("{PATH}/{POOL}")
}

fn golden() -> Value {
    json!({"pool": {"id": POOL, "name": "app", "description": "",
        "provisioning_status": "ACTIVE", "operating_status": "DEGRADED", "admin_state_up": true, "protocol": "HTTP",
        "lb_algorithm": "ROUND_ROBIN", "session_persistence": null,
        "project_id": PROJECT, "tenant_id": PROJECT,
        "loadbalancers": [{"id": LOAD_BALANCER}], "listeners": [{"id": LISTENER}],
        "created_at": "2025-03-04T10:12:10", "updated_at": null, "healthmonitor_id": MONITOR,
        "members": [{"id": MEMBER_1}, {"id": MEMBER_2}], "tags": [],
        "tls_container_ref": null, "ca_tls_container_ref": null, "crl_container_ref": null, "tls_enabled": false,
        "tls_ciphers": null, "tls_versions": null, "alpn_protocols": null}})
}

fn new(patch: &Value) -> Value {
    let mut body = json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"});
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"pool": body})
}

async fn created(api: &Api, patch: Value) -> (PoolParent, NewPool) {
    let reply = api.post(PATH, new(&patch)).await;
    assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    match api.command() {
        Command::CreatePool(parent, pool) => (parent, *pool),
        other => panic!("{other:?}"),
    }
}

async fn updated(api: &Api, body: Value) -> PoolUpdate {
    let reply = api.put(&item(), json!({"pool": body})).await;
    assert_eq!(reply.status, 200, "{body}: {reply:?}");
    match api.command() {
        Command::UpdatePool(_, update) => *update,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_pool_looks_as_in_the_reference() {
    let api = Api::new();
    assert_eq!(api.get(&item()).await.json(), golden());
    let list = json!({"pools": [golden()["pool"]], "pools_links": []});
    assert_eq!(api.get(PATH).await.json(), list);
    let reply = api.post(PATH, new(&json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (201, golden()));
    let reply = api.put(&item(), json!({"pool": {}})).await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, golden()));
}

#[tokio::test]
async fn the_monitor_of_a_pool_without_one_is_left_out() {
    let api = Api::new();
    api.fake.views.lock().unwrap()[0]
        .tree
        .health_monitors
        .clear();
    assert_eq!(
        api.get(&item()).await.json()["pool"].get("healthmonitor_id"),
        None
    );
}

#[tokio::test]
async fn bodies_are_taken_word_for_word() {
    let api = Api::new();
    let plain = NewPool {
        name: Name::default(),
        description: Description::default(),
        admin_state_up: true,
        protocol: PoolProtocol::Http,
        lb_algorithm: LbAlgorithm::RoundRobin,
        session_persistence: None,
        tls: PoolTls::default(),
        tags: Tags::default(),
        members: vec![],
        health_monitor: None,
    };
    let load_balancer = Some(LoadBalancerId::new(id(LOAD_BALANCER)));
    let listener = Some(ListenerId::new(id(LISTENER)));
    assert_eq!(
        created(&api, json!({})).await,
        (
            PoolParent {
                load_balancer,
                listener: None
            },
            plain.clone()
        )
    );
    let (parent, pool) = created(
        &api,
        json!({"listener_id": LISTENER, "loadbalancer_id": null, "name": "n", "description": "d",
            "admin_state_up": "F", "protocol": "TCP", "lb_algorithm": "LEAST_CONNECTIONS", "tags": ["t"],
            "project_id": "ignored", "members": [], "healthmonitor": null}),
    )
    .await;
    assert_eq!(
        parent,
        PoolParent {
            load_balancer: None,
            listener
        }
    );
    assert_eq!(
        pool,
        NewPool {
            name: Name::parse("n".into()).unwrap(),
            description: Description::parse("d".into()).unwrap(),
            admin_state_up: false,
            protocol: PoolProtocol::Tcp,
            lb_algorithm: LbAlgorithm::LeastConnections,
            tags: sample::tags(&["t"]),
            ..plain
        }
    );
    let (parent, _) = created(&api, json!({"listener_id": LISTENER})).await;
    assert_eq!(
        parent,
        PoolParent {
            load_balancer,
            listener
        }
    );
}

#[tokio::test]
async fn every_algorithm_is_taken() {
    let api = Api::new();
    for algorithm in LbAlgorithm::ALL {
        let (_, pool) = created(&api, json!({"lb_algorithm": algorithm.name()})).await;
        assert_eq!(pool.lb_algorithm, algorithm);
        let update = updated(&api, json!({"lb_algorithm": algorithm.name()})).await;
        assert_eq!(update.lb_algorithm, Some(algorithm));
    }
}

#[tokio::test]
async fn null_empty_and_default_values_ask_for_nothing() {
    let api = Api::new();
    let body = json!({"session_persistence": null, "tls_enabled": false, "tls_container_ref": null,
        "ca_tls_container_ref": "", "crl_container_ref": null, "tls_ciphers": null, "tls_versions": null,
        "alpn_protocols": null});
    let (_, pool) = created(&api, body.clone()).await;
    assert_eq!(
        (pool.session_persistence, pool.tls),
        (None, PoolTls::default())
    );
    let none = PoolUpdate {
        session_persistence: Some(None),
        tls: PoolTlsUpdate {
            enabled: Some(false),
            certificate: Some(None),
            ca: Some(None),
            crl: Some(None),
            terms: TlsTermsUpdate {
                ciphers: Some(None),
                versions: Some(None),
                alpn: Some(None),
            },
        },
        ..PoolUpdate::default()
    };
    assert_eq!(updated(&api, body).await, none);
    let update = updated(&api, json!({"tls_enabled": null})).await;
    assert_eq!(update.tls.enabled, Some(false));
}

/// What is wrong in a new pool, and what is said of it.
const WRONG: &[(&str, &str)] = &[
    (
        r#"{"loadbalancer_id": null}"#,
        "Must provide at least one of: loadbalancer_id, listener_id",
    ),
    (r#"{"loadbalancer_id": "x"}"#, "Value should be UUID format"),
    (r#"{"listener_id": "x"}"#, "Value should be UUID format"),
    (
        r#"{"protocol": null}"#,
        "None is not a valid option for protocol",
    ),
    (
        r#"{"protocol": "TERMINATED_HTTPS"}"#,
        "Value should be one of: TCP, HTTP, HTTPS, PROXY, PROXYV2, UDP, SCTP",
    ),
    (
        r#"{"lb_algorithm": null}"#,
        "None is not a valid option for lb_algorithm",
    ),
    (
        r#"{"lb_algorithm": "RANDOM"}"#,
        "Value should be one of: ROUND_ROBIN",
    ),
    (
        r#"{"members": [{"address": "10.0.0.1"}]}"#,
        "members and healthmonitor can only be given",
    ),
    (
        r#"{"healthmonitor": {"type": "TCP"}}"#,
        "members and healthmonitor can only be given",
    ),
    (
        r#"{"healthmonitor_id": "x"}"#,
        "Unknown attribute for argument pool_.pool: healthmonitor_id",
    ),
    (
        r#"{"crl_container_ref": "ref"}"#,
        "A CA reference is required to specify a certificate revocation list.",
    ),
    (
        r#"{"tls_enabled": "x"}"#,
        "Value not an unambiguous boolean: x",
    ),
    (r#"{"tls_versions": ["x"]}"#, "Value should be one of"),
    (
        r#"{"tls_ciphers": "a b"}"#,
        "Invalid characters in cipher string.",
    ),
    (
        r#"{"session_persistence": []}"#,
        "Value should be an object",
    ),
    (
        r#"{"session_persistence": {}}"#,
        "Invalid input for field/attribute type. Value: 'None'. Mandatory field missing.",
    ),
    (
        r#"{"session_persistence": {"type": "x"}}"#,
        "Value should be one of: SOURCE_IP",
    ),
    (
        r#"{"session_persistence": {"type": "SOURCE_IP", "foo": 1}}"#,
        "Unknown attribute for argument pool_.pool.session_persistence: foo",
    ),
    (
        r#"{"session_persistence": {"type": "APP_COOKIE"}}"#,
        "Field \"cookie_name\" must be specified",
    ),
    (
        r#"{"session_persistence": {"type": "SOURCE_IP", "cookie_name": "x"}}"#,
        "Field \"cookie_name\" can only be specified",
    ),
    (
        r#"{"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a b"}}"#,
        "Supplied \"cookie_name\" is invalid.",
    ),
    (
        r#"{"session_persistence": {"type": "APP_COOKIE", "cookie_name": "a;b"}}"#,
        "Supplied \"cookie_name\" is invalid.",
    ),
    (
        r#"{"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 5}}"#,
        "is only for UDP and SCTP protocol pools.",
    ),
    (
        r#"{"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": "x"}}"#,
        "Value should be an integer",
    ),
    (
        r#"{"session_persistence": {"type": "SOURCE_IP", "persistence_granularity": "64"}}"#,
        "Value should be IPv4 or IPv6 format",
    ),
    (
        r#"{"protocol": "UDP", "session_persistence": {"type": "HTTP_COOKIE"}}"#,
        "Session persistence of type HTTP_COOKIE is not supported for UDP/SCTP protocol pools.",
    ),
];

#[tokio::test]
async fn wrong_bodies_are_refused() {
    let api = Api::admitting(Rules::default());
    let persistence = |object: Value| json!({"session_persistence": object});
    for (patch, sentence) in WRONG {
        let patch: Value = serde_json::from_str(patch).unwrap();
        api.post(PATH, new(&patch))
            .await
            .assert_fault(400, sentence);
    }
    for name in ["protocol", "lb_algorithm"] {
        let mut body = new(&json!({}));
        body["pool"].as_object_mut().unwrap().remove(name);
        api.post(PATH, body)
            .await
            .assert_fault(400, "Mandatory field missing.");
    }
    for (body, sentence) in [
        (
            json!({"lb_algorithm": null}),
            "None is not a valid option for lb_algorithm",
        ),
        (
            json!({"protocol": "HTTP"}),
            "Unknown attribute for argument pool_.pool: protocol",
        ),
        (
            json!({"loadbalancer_id": LOAD_BALANCER}),
            "Unknown attribute",
        ),
        (json!({"listener_id": LISTENER}), "Unknown attribute"),
        (json!({"members": []}), "Unknown attribute"),
        (
            persistence(json!({})),
            "Invalid session_persistence provided.",
        ),
        (
            json!({"crl_container_ref": "ref"}),
            "A CA reference is required",
        ),
    ] {
        api.put(&item(), json!({"pool": body}))
            .await
            .assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
}

#[tokio::test]
async fn an_update_changes_what_it_names_only() {
    let api = Api::new();
    let update = updated(
        &api,
        json!({"name": "n", "description": null, "admin_state_up": null, "tags": []}),
    )
    .await;
    assert_eq!(
        update,
        PoolUpdate {
            name: Some(Name::parse("n".into()).unwrap()),
            description: Some(Description::default()),
            admin_state_up: Some(false),
            lb_algorithm: None,
            session_persistence: None,
            tls: PoolTlsUpdate::default(),
            tags: Some(Tags::default()),
        }
    );
}

#[tokio::test]
async fn a_pool_is_deleted_by_its_id() {
    let api = Api::new();
    assert_eq!(api.delete(&item()).await.status, 204);
    assert_eq!(api.command(), Command::DeletePool(PoolId::new(id(POOL))));
}
