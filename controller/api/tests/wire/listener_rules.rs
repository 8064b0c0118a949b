//! Rules of listeners (reference 6.2 to 6.4): for each a body that breaks it, and one that keeps it.

use krater_controller_core::{
    model::{Listener, ListenerProtocol},
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    sample::{LISTENER, LOAD_BALANCER, POOL, STRANGER},
};

pub(crate) const PATH: &str = "/v2/lbaas/listeners";

/// A listener on a port of its own with what `patch` says.
pub(crate) fn new(patch: &str) -> Value {
    let mut body =
        json!({"loadbalancer_id": LOAD_BALANCER, "protocol": "HTTP", "protocol_port": 81});
    let patch: Value = serde_json::from_str(patch).unwrap();
    body.as_object_mut()
        .unwrap()
        .extend(patch.as_object().unwrap().clone());
    json!({"listener": body})
}

pub(crate) async fn check_new(api: &Api, rejected: &[(&str, &str)], accepted: &[&str]) {
    for (patch, sentence) in rejected {
        api.post(PATH, new(patch)).await.assert_fault(400, sentence);
    }
    assert_eq!(api.command_count(), 0);
    for patch in accepted {
        let reply = api.post(PATH, new(patch)).await;
        assert_eq!(reply.status, 201, "{patch}: {reply:?}");
    }
}

/// An API whose sample listener is as `edit` leaves it, without its pool.
pub(crate) fn with(edit: impl FnOnce(&mut Listener), rules: Rules) -> Api {
    let api = Api::admitting(rules);
    {
        let listener = &mut api.fake.views.lock().unwrap()[0].tree.listeners[0].value;
        listener.default_pool = None;
        listener.insert_headers.0.clear();
        edit(listener);
    }
    api
}

pub(crate) async fn check_update(api: &Api, rejected: &[(&str, &str)], accepted: &[&str]) {
    let item = format!("{PATH}/{LISTENER}");
    for (body, sentence) in rejected {
        let body: Value = serde_json::from_str(body).unwrap();
        api.put(&item, json!({"listener": body}))
            .await
            .assert_fault(400, sentence);
    }
    for body in accepted {
        let body: Value = serde_json::from_str(body).unwrap();
        let reply = api.put(&item, json!({"listener": body})).await;
        assert_eq!(reply.status, 200, "{body}: {reply:?}");
    }
}

#[tokio::test]
async fn certificates_fit_the_protocol() {
    let none = "Certificate container references are not allowed on";
    let needed = "An SNI or default certificate container reference must be provided for TERMINATED_HTTPS protocol listeners.";
    let rejected = [
        (r#"{"protocol": "TERMINATED_HTTPS"}"#, needed),
        (
            r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "", "sni_container_refs": []}"#,
            needed,
        ),
        (
            r#"{"protocol": "HTTP", "default_tls_container_ref": "r"}"#,
            none,
        ),
        (
            r#"{"protocol": "HTTPS", "default_tls_container_ref": "r"}"#,
            none,
        ),
        (
            r#"{"protocol": "TCP", "sni_container_refs": ["r"]}"#,
            "not allowed on TCP protocol listeners.",
        ),
        (
            r#"{"protocol": "UDP", "default_tls_container_ref": "r"}"#,
            "UDP protocol listener does not support TLS.",
        ),
        (
            r#"{"protocol": "UDP", "client_ca_tls_container_ref": "r"}"#,
            "UDP protocol listener does not support TLS.",
        ),
        (
            r#"{"protocol": "SCTP", "client_crl_container_ref": "r"}"#,
            "SCTP protocol listener does not support TLS.",
        ),
        (
            r#"{"protocol": "SCTP", "client_authentication": "OPTIONAL"}"#,
            "SCTP protocol listener does not support TLS.",
        ),
        (
            r#"{"sni_container_refs": [""]}"#,
            "minimum character requirement of 1",
        ),
        (r#"{"sni_container_refs": "r"}"#, "Value not a valid list"),
    ];
    let accepted = [
        r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r"}"#,
        r#"{"protocol": "TERMINATED_HTTPS", "sni_container_refs": ["r", "s"]}"#,
        r#"{"protocol": "PROMETHEUS"}"#,
        r#"{"protocol": "PROMETHEUS", "default_tls_container_ref": "r"}"#,
        r#"{"protocol": "HTTPS"}"#,
        r#"{"protocol": "TCP"}"#,
        r#"{"protocol": "UDP", "default_tls_container_ref": null}"#,
        r#"{"protocol": "SCTP", "sni_container_refs": []}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
}

#[tokio::test]
async fn clients_are_judged_by_an_authority() {
    let crl = "A client authentication CA reference is required to specify a client authentication revocation list.";
    let rejected = [
        (
            r#"{"client_ca_tls_container_ref": "r"}"#,
            "must be provided with a client CA container reference.",
        ),
        (r#"{"client_crl_container_ref": "r"}"#, crl),
        (
            r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "client_crl_container_ref": "r"}"#,
            crl,
        ),
        (
            r#"{"client_authentication": "OPTIONAL"}"#,
            "Client authentication setting OPTIONAL requires a client CA container reference.",
        ),
        (
            r#"{"client_authentication": "MANDATORY"}"#,
            "Client authentication setting MANDATORY requires",
        ),
        (
            r#"{"client_authentication": null}"#,
            "Client authentication setting None requires",
        ),
        (
            r#"{"client_authentication": "ALWAYS"}"#,
            "Value should be one of: NONE, OPTIONAL, MANDATORY",
        ),
    ];
    let accepted = [
        r#"{"client_authentication": "NONE"}"#,
        r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "client_ca_tls_container_ref": "r",
            "client_crl_container_ref": "r", "client_authentication": "MANDATORY"}"#,
        r#"{"protocol": "PROMETHEUS", "default_tls_container_ref": "r", "client_ca_tls_container_ref": "r",
            "client_authentication": null}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
}

#[tokio::test]
async fn headers_fit_the_protocol() {
    let rejected = [
        (
            r#"{"insert_headers": {"Foo": "true", "X-Forwarded-For": "true"}}"#,
            "['Foo'] is not a valid option for insert_headers",
        ),
        (
            r#"{"insert_headers": {"x-forwarded-for": "true"}}"#,
            "['x-forwarded-for'] is not a valid option for insert_headers",
        ),
        (
            r#"{"insert_headers": {"X-SSL-Client-CN": "true", "X-SSL-Client-DN": "true"}}"#,
            "['X-SSL-Client-CN', 'X-SSL-Client-DN'] is not a valid option for HTTP protocol listener.",
        ),
        (
            r#"{"protocol": "TCP", "insert_headers": {"X-Forwarded-For": "true"}}"#,
            "insert-headers is not a valid option for a TCP protocol listener.",
        ),
        (
            r#"{"protocol": "HTTPS", "insert_headers": {"X-Forwarded-For": "x"}}"#,
            "for a HTTPS protocol listener.",
        ),
        (
            r#"{"protocol": "UDP", "insert_headers": {"Foo": "x"}}"#,
            "for a UDP protocol listener.",
        ),
        (
            r#"{"protocol": "SCTP", "insert_headers": {"Foo": "x"}}"#,
            "for a SCTP protocol listener.",
        ),
        (
            r#"{"protocol": "PROMETHEUS", "insert_headers": {"Foo": "x"}}"#,
            "for a PROMETHEUS protocol listener.",
        ),
    ];
    let accepted = [
        r#"{"insert_headers": {"X-Forwarded-For": "TRUE", "X-Real-IP": "", "X-Client-IP": "x", "X-Forwarded-IP": "y"}}"#,
        r#"{"protocol": "TCP", "insert_headers": {}}"#,
        r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "insert_headers": {
            "X-Forwarded-Port": "true", "X-Forwarded-Proto": "true", "X-SSL-Client-Verify": "true",
            "X-SSL-Client-Has-Cert": "true", "X-SSL-Client-DN": "true", "X-SSL-Client-CN": "true",
            "X-SSL-Issuer": "true", "X-SSL-Client-SHA1": "true", "X-SSL-Client-Not-Before": "true",
            "X-SSL-Client-Not-After": "true"}}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
}

#[tokio::test]
async fn networks_and_pools_fit_the_load_balancer() {
    let api = Api::admitting(Rules::default());
    let unknown = new(&format!(r#"{{"default_pool_id": "{STRANGER}"}}"#));
    api.post(PATH, unknown)
        .await
        .assert_fault(404, &format!("Pool {STRANGER} not found."));
    let unknown = new(&format!(r#"{{"loadbalancer_id": "{STRANGER}"}}"#));
    api.post(PATH, unknown)
        .await
        .assert_fault(404, &format!("Load Balancer {STRANGER} not found."));
    let mismatch = format!(r#"{{"protocol": "UDP", "default_pool_id": "{POOL}"}}"#);
    let child = format!(r#"{{"protocol": "PROMETHEUS", "default_pool_id": "{POOL}"}}"#);
    let rejected = [
        (
            mismatch.as_str(),
            "The pool protocol 'HTTP' is invalid while the listener protocol is 'UDP'.",
        ),
        (
            child.as_str(),
            "Protocol PROMETHEUS listeners cannot have child objects.",
        ),
    ];
    let fits = format!(
        r#"{{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "default_pool_id": "{POOL}",
            "allowed_cidrs": ["::/0", "10.0.0.0/8", "10.0.0.0/8"]}}"#
    );
    check_new(
        &api,
        &rejected,
        &[
            &fits,
            r#"{"protocol": "PROMETHEUS", "allowed_cidrs": ["10.0.0.0/8"]}"#,
        ],
    )
    .await;
    let child = format!(r#"{{"default_pool_id": "{POOL}"}}"#);
    let metrics = with(
        |listener| listener.protocol = ListenerProtocol::Prometheus,
        Rules::default(),
    );
    check_update(
        &metrics,
        &[(
            &child,
            "Protocol PROMETHEUS listeners cannot have child objects.",
        )],
        &[r#"{"default_pool_id": null}"#],
    )
    .await;
    let api = Api::admitting(Rules::default());
    api.fake.views.lock().unwrap()[0]
        .tree
        .load_balancer
        .value
        .additional_vips
        .clear();
    let rejected = [(
        r#"{"allowed_cidrs": ["10.0.0.0/8", "2001:db8::/32"]}"#,
        "CIDR 2001:db8::/32 IP version incompatible with all VIPs [203.0.113.40] IP version.",
    )];
    check_new(&api, &rejected, &[r#"{"allowed_cidrs": ["0.0.0.0/0"]}"#]).await;
}

#[tokio::test]
async fn ports_are_told_apart_by_what_carries_them() {
    let api = Api::admitting(Rules::default());
    for protocol in ["TCP", "HTTP", "HTTPS", "PROMETHEUS"] {
        let body = new(&format!(
            r#"{{"protocol": "{protocol}", "protocol_port": 80}}"#
        ));
        let sentence = format!(
            "Another Listener on this Load Balancer is already using protocol {protocol} and protocol_port 80"
        );
        api.post(PATH, body).await.assert_fault(409, &sentence);
    }
    for protocol in ["UDP", "SCTP"] {
        let body = new(&format!(
            r#"{{"protocol": "{protocol}", "protocol_port": 80}}"#
        ));
        assert_eq!(api.post(PATH, body).await.status, 201);
    }
}

#[tokio::test]
async fn a_deployment_may_switch_protocols_off() {
    let rules = |terminated, prometheus| Rules {
        tls_terminated_listeners: terminated,
        prometheus_listeners: prometheus,
        ..Rules::default()
    };
    let sentence = "The selected protocol is not allowed in this deployment: ";
    let plain = r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r"}"#;
    let metrics = r#"{"protocol": "PROMETHEUS", "sni_container_refs": ["r"]}"#;
    let terminated = format!("{sentence}TERMINATED_HTTPS");
    let inside = format!("{sentence}PROMETHEUS with TLS");
    let rejected = [(plain, terminated.as_str()), (metrics, inside.as_str())];
    check_new(
        &Api::admitting(rules(false, true)),
        &rejected,
        &[r#"{"protocol": "PROMETHEUS"}"#],
    )
    .await;
    let rejected = [(metrics, "deployment: PROMETHEUS")];
    check_new(&Api::admitting(rules(true, false)), &rejected, &[plain]).await;
    let prometheus = with(
        |listener| listener.protocol = ListenerProtocol::Prometheus,
        rules(false, true),
    );
    check_update(
        &prometheus,
        &[(r#"{"default_tls_container_ref": "r"}"#, inside.as_str())],
        &[r#"{"description": "d"}"#],
    )
    .await;
}
