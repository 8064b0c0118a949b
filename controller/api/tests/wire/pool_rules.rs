//! Rules of pools (reference 7.2 to 7.4): for each a body that breaks it, and one that keeps it.

use krater_controller_core::{
    model::{
        ListenerProtocol, PersistenceType, Pool, PoolProtocol, SecretRef, SessionPersistence,
        TlsVersion,
    },
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, POOL, STRANGER},
};

const PATH: &str = "/v2/lbaas/pools";

fn new(patch: &str) -> Value {
    let mut body = json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"});
    let patch: Value = serde_json::from_str(patch).unwrap();
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"pool": body})
}

async fn check_new(api: &Api, rejected: &[(&str, &str)], accepted: &[&str]) {
    for (patch, sentence) in rejected {
        api.post(PATH, new(patch)).await.assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
    for patch in accepted {
        let reply = api.post(PATH, new(patch)).await;
        assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    }
}

fn with(edit: impl FnOnce(&mut Pool)) -> Api {
    let api = Api::admitting(Rules::default());
    edit(&mut api.fake.views.lock().unwrap()[0].tree.pools[0].value);
    api
}

/// What a pool is after an update with `body`.
async fn updated(api: &Api, body: &str) -> Value {
    let body: Value = serde_json::from_str(body).unwrap();
    let reply = api
        .put(&format!("{PATH}/{POOL}"), json!({"pool": body}))
        .await;
    assert_eq!(reply.status, 200, "{body}: {reply:?}");
    reply.json()["pool"].clone()
}

async fn check_update(api: &Api, rejected: &[(&str, &str)]) {
    for (body, sentence) in rejected {
        let body: Value = serde_json::from_str(body).unwrap();
        api.put(&format!("{PATH}/{POOL}"), json!({"pool": body}))
            .await
            .assert_fault(400, sentence);
    }
}

#[tokio::test]
async fn a_pool_becomes_the_default_of_a_listener_that_can_use_it() {
    let api = Api::admitting(Rules::default());
    let unknown = new(&format!(r#"{{"listener_id": "{STRANGER}"}}"#));
    api.post(PATH, unknown)
        .await
        .assert_fault(404, &format!("Listener {STRANGER} not found."));
    let mut alone = new(&format!(r#"{{"listener_id": "{STRANGER}"}}"#));
    alone["pool"]
        .as_object_mut()
        .unwrap()
        .remove("loadbalancer_id");
    api.post(PATH, alone)
        .await
        .assert_fault(404, &format!("Listener {STRANGER} not found."));
    let taken = new(&format!(r#"{{"listener_id": "{LISTENER}"}}"#));
    api.post(PATH, taken.clone())
        .await
        .assert_fault(409, "This listener already has a default pool");
    // With the load balancer named too, the same is checked.
    for without in ["", "loadbalancer_id"] {
        let api = Api::admitting(Rules::default());
        api.fake.views.lock().unwrap()[0].tree.listeners[0]
            .value
            .default_pool = None;
        let mut body = new(&format!(
            r#"{{"listener_id": "{LISTENER}", "protocol": "UDP"}}"#
        ));
        body["pool"].as_object_mut().unwrap().remove(without);
        let sentence = "The pool protocol 'UDP' is invalid while the listener protocol is 'HTTP'.";
        api.post(PATH, body.clone())
            .await
            .assert_fault(400, sentence);
        body["pool"]["protocol"] = json!("PROXYV2");
        let reply = api.post(PATH, body.clone()).await;
        assert_eq!(
            reply.json()["pool"]["listeners"],
            json!([{"id": LISTENER}]),
            "{reply:?}"
        );
        api.fake.views.lock().unwrap()[0].tree.listeners[0]
            .value
            .protocol = ListenerProtocol::Prometheus;
        let sentence = "Protocol PROMETHEUS listeners cannot have child objects.";
        api.post(PATH, body).await.assert_fault(400, sentence);
    }
}

#[tokio::test]
async fn tls_toward_members_keeps_its_rules() {
    let rules = Rules {
        tls_version_min: Some(TlsVersion::Tls11),
        ciphers_prohibited: ["RC4-SHA".to_owned()].into(),
        ..Rules::default()
    };
    let rejected = [
        (
            r#"{"crl_container_ref": "r"}"#,
            "A CA reference is required to specify a certificate revocation list.",
        ),
        (
            r#"{"tls_enabled": true, "tls_versions": []}"#,
            "Empty TLS version list.",
        ),
        (
            r#"{"tls_enabled": true, "alpn_protocols": []}"#,
            "Empty ALPN protocol list.",
        ),
        (
            r#"{"tls_versions": ["SSLv3"]}"#,
            "Requested TLS versions are less than the minimum: SSLv3 < TLSv1.1",
        ),
        (
            r#"{"tls_ciphers": "RC4-SHA"}"#,
            "prohibited by an administrator: RC4-SHA",
        ),
        (
            r#"{"tls_ciphers": "a,b"}"#,
            "Invalid characters in cipher string.",
        ),
        (
            r#"{"alpn_protocols": ["spdy"]}"#,
            "Value should be a valid ALPN protocol ID",
        ),
    ];
    let accepted = [
        r#"{"tls_enabled": true, "tls_container_ref": "r", "ca_tls_container_ref": "r", "crl_container_ref": "r"}"#,
        r#"{"tls_enabled": true, "tls_versions": ["TLSv1.2"], "tls_ciphers": "HIGH", "alpn_protocols": ["h2"]}"#,
        r#"{"crl_container_ref": ""}"#,
    ];
    check_new(&Api::admitting(rules), &rejected, &accepted).await;
    let api = with(|pool| {
        pool.tls.ca = SecretRef::parse("ca".into());
        pool.tls.crl = SecretRef::parse("crl".into());
    });
    let sentence =
        "A CA reference cannot be removed when a certificate revocation list is present.";
    check_update(
        &api,
        &[
            (r#"{"ca_tls_container_ref": null}"#, sentence),
            (r#"{"tls_versions": []}"#, "Empty TLS"),
        ],
    )
    .await;
    let pool = updated(
        &api,
        r#"{"ca_tls_container_ref": null, "crl_container_ref": null}"#,
    )
    .await;
    assert_eq!(
        (&pool["ca_tls_container_ref"], &pool["crl_container_ref"]),
        (&Value::Null, &Value::Null)
    );
    let sentence = "A CA reference is required to specify a certificate revocation list.";
    check_update(
        &with(|_| ()),
        &[(r#"{"crl_container_ref": "r"}"#, sentence)],
    )
    .await;
}

#[tokio::test]
async fn a_pool_that_speaks_tls_asks_for_what_can_be_had() {
    let rejected = [
        (
            r#"{"tls_enabled": true, "tls_versions": ["TLSv1.1", "TLSv1.2"]}"#,
            "TLSv1.1 cannot be had",
        ),
        (
            r#"{"tls_enabled": true, "tls_ciphers": "AES128-SHA"}"#,
            "No cipher that can be had is left for TLSv1.2. Possible are: ECDHE-ECDSA-AES128-GCM-SHA256",
        ),
    ];
    let accepted = [
        r#"{"tls_enabled": false, "tls_versions": ["TLSv1.1"], "tls_ciphers": "AES128-SHA"}"#,
        r#"{"tls_enabled": true, "tls_versions": ["TLSv1.3"], "tls_ciphers": "AES128-SHA"}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
}

#[tokio::test]
async fn what_a_tls_pool_leaves_open_the_deployment_decides() {
    let api = Api::admitting(Rules::default());
    let open = api.post(PATH, new(r#"{"tls_enabled": true}"#)).await.json()["pool"].clone();
    assert_eq!(open["tls_versions"], json!(["TLSv1.2", "TLSv1.3"]));
    assert_eq!(
        open["alpn_protocols"],
        json!(["h2", "http/1.1", "http/1.0"])
    );
    assert!(open["tls_ciphers"].is_string());
    let plain = api.post(PATH, new("{}")).await.json()["pool"].clone();
    // Speaking TLS later fills in nothing; null in an update is what the deployment has, but for ALPN.
    let later = updated(&api, r#"{"tls_enabled": true}"#).await;
    for pool in [&plain, &later] {
        for key in ["tls_ciphers", "tls_versions", "alpn_protocols"] {
            assert_eq!(pool[key], Value::Null, "{key}");
        }
    }
    let nulls = r#"{"tls_ciphers": null, "tls_versions": null, "alpn_protocols": null, "tls_enabled": null}"#;
    let pool = updated(&api, nulls).await;
    assert_eq!(
        (&pool["tls_ciphers"], &pool["tls_versions"]),
        (&open["tls_ciphers"], &open["tls_versions"])
    );
    assert_eq!(
        (&pool["alpn_protocols"], &pool["tls_enabled"]),
        (&Value::Null, &json!(false))
    );
}

#[tokio::test]
async fn session_persistence_fits_the_pool() {
    let rejected = [
        (
            r#"{"session_persistence": {"type": "APP_COOKIE"}}"#,
            "Field \"cookie_name\" must be specified when using the \"APP_COOKIE\"",
        ),
        (
            r#"{"session_persistence": {"type": "HTTP_COOKIE", "cookie_name": "a"}}"#,
            "Field \"cookie_name\" can only be specified with session persistence of type \"APP_COOKIE\".",
        ),
        (
            r#"{"session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 1}}"#,
            "is only for UDP and SCTP protocol pools.",
        ),
        (
            r#"{"session_persistence": {"type": "SOURCE_IP", "persistence_granularity": "255.0.0.0"}}"#,
            "is only for UDP and SCTP",
        ),
        (
            r#"{"protocol": "UDP", "session_persistence": {"type": "SOURCE_IP", "persistence_granularity": "64"}}"#,
            "IPv4 or IPv6 format",
        ),
        (
            r#"{"protocol": "UDP", "session_persistence": {"type": "HTTP_COOKIE"}}"#,
            "Session persistence of type HTTP_COOKIE is not supported for UDP/SCTP protocol pools.",
        ),
        (
            r#"{"protocol": "SCTP", "session_persistence": {"type": "APP_COOKIE", "cookie_name": "a"}}"#,
            "Session persistence of type APP_COOKIE",
        ),
        (
            r#"{"protocol": "SCTP", "session_persistence": {"type": "SOURCE_IP", "cookie_name": "a"}}"#,
            "Cookie names are not supported for UDP/SCTP pools.",
        ),
        (
            r#"{"protocol": "TCP", "session_persistence": {"type": "HTTP_COOKIE"}}"#,
            "Session persistence of type HTTP_COOKIE is not supported for TCP/HTTPS protocol pools.",
        ),
        (
            r#"{"protocol": "HTTPS", "session_persistence": {"type": "APP_COOKIE", "cookie_name": "a"}}"#,
            "Session persistence of type APP_COOKIE is not supported for TCP/HTTPS",
        ),
        (
            r#"{"session_persistence": {"cookie_name": "a"}}"#,
            "Invalid input for field/attribute type. Value: 'None'. Mandatory field missing.",
        ),
        (
            r#"{"session_persistence": {"type": null}}"#,
            "None is not a valid option for type",
        ),
    ];
    let accepted = [
        r#"{"session_persistence": {"type": "SOURCE_IP"}}"#,
        r#"{"protocol": "PROXY", "session_persistence": {"type": "HTTP_COOKIE"}}"#,
        r#"{"session_persistence": {"type": "APP_COOKIE", "cookie_name": "JSESSIONID"}}"#,
        r#"{"protocol": "UDP", "session_persistence": {"type": "SOURCE_IP", "persistence_timeout": 60,
            "persistence_granularity": "255.255.255.0"}}"#,
        r#"{"protocol": "SCTP", "session_persistence": {"type": "SOURCE_IP", "persistence_granularity": "ffff::"}}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
    let mut forbidden: Vec<String> = "\"(),/:;<=>?@[\\]{}".chars().map(String::from).collect();
    forbidden.extend([" ", "\u{1}", "\u{7f}", "\u{e9}"].map(String::from));
    forbidden.push(String::new());
    for text in forbidden {
        let mut body = new("{}");
        body["pool"]["session_persistence"] = json!({"type": "APP_COOKIE", "cookie_name": text});
        let api = Api::admitting(Rules::default());
        api.post(PATH, body)
            .await
            .assert_fault(400, "Supplied \"cookie_name\" is invalid.");
    }
}

#[tokio::test]
async fn a_graph_keeps_the_rules_of_session_persistence_too() {
    let api = Api::admitting(Rules::default());
    let body = |persistence: Value| {
        json!({"loadbalancer": {"vip_subnet_id": STRANGER, "pools": [
        {"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "session_persistence": persistence}]}})
    };
    let path = "/v2/lbaas/loadbalancers";
    api.post(
        path,
        body(json!({"type": "SOURCE_IP", "persistence_timeout": 1})),
    )
    .await
    .assert_fault(400, "is only for UDP and SCTP protocol pools.");
    assert_eq!(
        api.post(path, body(json!({"type": "SOURCE_IP"})))
            .await
            .status,
        201
    );
}

#[tokio::test]
async fn an_update_of_session_persistence_carries_the_type_over_and_nothing_else() {
    let none = with(|_| ());
    let invalid = "Invalid session_persistence provided.";
    check_update(
        &none,
        &[
            (r#"{"session_persistence": {}}"#, invalid),
            (r#"{"session_persistence": {"cookie_name": "a"}}"#, invalid),
        ],
    )
    .await;
    let whole = |kind: &str, cookie: Value| {
        json!({"type": kind, "cookie_name": cookie,
        "persistence_timeout": null, "persistence_granularity": null})
    };
    let pool = updated(&none, r#"{"session_persistence": {"type": "SOURCE_IP"}}"#).await;
    assert_eq!(pool["session_persistence"], whole("SOURCE_IP", Value::Null));
    let app = with(|pool| {
        pool.session_persistence = Some(SessionPersistence {
            kind: PersistenceType::AppCookie,
            cookie_name: Some("a".into()),
            timeout_seconds: None,
            granularity: None,
        });
    });
    check_update(
        &app,
        &[(
            r#"{"session_persistence": {}}"#,
            "Field \"cookie_name\" must be specified",
        )],
    )
    .await;
    let pool = updated(&app, r#"{"session_persistence": {"cookie_name": "b"}}"#).await;
    assert_eq!(pool["session_persistence"], whole("APP_COOKIE", json!("b")));
    let pool = updated(&app, r#"{"session_persistence": {"type": "HTTP_COOKIE"}}"#).await;
    assert_eq!(
        pool["session_persistence"],
        whole("HTTP_COOKIE", Value::Null)
    );
    assert_eq!(
        updated(&app, r#"{"session_persistence": null}"#).await["session_persistence"],
        Value::Null
    );
    let datagrams = with(|pool| {
        pool.protocol = PoolProtocol::Udp;
        pool.session_persistence = Some(SessionPersistence {
            kind: PersistenceType::SourceIp,
            cookie_name: None,
            timeout_seconds: Some(9),
            granularity: Some([255, 255, 0, 0].into()),
        });
    });
    let pool = updated(&datagrams, r#"{"name": "n"}"#).await;
    assert_eq!(
        pool["session_persistence"],
        json!({"type": "SOURCE_IP", "cookie_name": null,
        "persistence_timeout": 9, "persistence_granularity": "255.255.0.0"})
    );
    let pool = updated(&datagrams, r#"{"session_persistence": {}}"#).await;
    assert_eq!(pool["session_persistence"], whole("SOURCE_IP", Value::Null));
}
