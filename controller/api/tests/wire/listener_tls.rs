//! Rules of TLS and HSTS of listeners (reference 6.2, 6.4): for each a body that breaks it, and one that keeps it.

use krater_controller_core::{
    model::{
        Ciphers, ClientAuthentication, Hsts, Listener, ListenerProtocol, ListenerTls, SecretRef,
        TlsTerms, TlsVersion,
    },
    rules::Rules,
};
use serde_json::{Value, json};

use crate::{
    fake::Api,
    listener_rules::{PATH, check_new, check_update, new, with},
    sample::LISTENER,
};

fn secret(text: &str) -> Option<SecretRef> {
    SecretRef::parse(text.to_owned())
}

/// A listener that ends TLS and has everything.
fn full_tls() -> ListenerTls {
    ListenerTls {
        certificate: secret("cert"),
        sni_certificates: vec![],
        client_ca: secret("ca"),
        client_crl: secret("crl"),
        client_authentication: ClientAuthentication::Mandatory,
        terms: TlsTerms {
            ciphers: Ciphers::parse("OLD".into()),
            versions: Some(vec![TlsVersion::Tls10]),
            alpn: None,
        },
    }
}

#[tokio::test]
async fn what_a_tls_listener_leaves_open_the_deployment_decides() {
    let api = Api::admitting(Rules::default());
    let shown = |body: &str| {
        let body = new(body);
        let api = &api;
        async move { api.post(PATH, body).await.json()["listener"].clone() }
    };
    let ciphers = Rules::default().listener_terms.ciphers;
    let ciphers = json!(ciphers.as_ref().map(Ciphers::as_str));
    let open = shown(r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "tls_versions": null}"#).await;
    assert_eq!(open["tls_ciphers"], ciphers);
    assert_eq!(open["tls_versions"], json!(["TLSv1.2", "TLSv1.3"]));
    assert_eq!(
        open["alpn_protocols"],
        json!(["h2", "http/1.1", "http/1.0"])
    );
    let said = shown(
        r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "tls_versions": ["TLSv1.3", "TLSv1.2"],
            "alpn_protocols": ["http/1.1"], "tls_ciphers": "HIGH"}"#,
    )
    .await;
    assert_eq!(said["tls_versions"], json!(["TLSv1.3", "TLSv1.2"]));
    assert_eq!(
        (&said["tls_ciphers"], &said["alpn_protocols"]),
        (&json!("HIGH"), &json!(["http/1.1"]))
    );
    for (asked, sentence) in [
        (
            r#""tls_versions": ["TLSv1", "TLSv1.2"]"#,
            "TLSv1 cannot be had",
        ),
        (
            r#""tls_ciphers": "DHE-RSA-AES128-GCM-SHA256""#,
            "No cipher that can be had is left",
        ),
    ] {
        let tls = r#""default_tls_container_ref": "r""#;
        let body = new(&format!(
            r#"{{"protocol": "TERMINATED_HTTPS", {tls}, {asked}}}"#
        ));
        api.post(PATH, body).await.assert_fault(400, sentence);
        // Without TLS there is no effect (reference 6.4, remarks).
        let body = new(&format!(r#"{{"protocol": "HTTP", {asked}}}"#));
        assert_eq!(api.post(PATH, body).await.status, 201, "{asked}");
    }
    for other in [
        r#"{"protocol": "HTTP"}"#,
        r#"{"protocol": "PROMETHEUS", "default_tls_container_ref": "r"}"#,
    ] {
        let open = shown(other).await;
        for key in ["tls_ciphers", "tls_versions", "alpn_protocols"] {
            assert_eq!(open[key], Value::Null, "{other} {key}");
        }
    }
    // Null in an update is what the deployment has, on any protocol (reference 6.2).
    let nulls =
        json!({"listener": {"tls_ciphers": null, "tls_versions": null, "alpn_protocols": null}});
    let changed = api.put(&format!("{PATH}/{LISTENER}"), nulls).await.json()["listener"].clone();
    for key in ["tls_ciphers", "tls_versions", "alpn_protocols"] {
        assert_eq!(changed[key], open[key], "{key}");
    }
}

#[tokio::test]
async fn a_tls_listener_looks_as_in_the_reference() {
    let api = Api::admitting(Rules::default());
    let patch = r#"{"name": "web-tls", "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
        "default_tls_container_ref": "https://keys.example.test/v1/secrets/52c9b6b6",
        "sni_container_refs": ["https://keys.example.test/v1/secrets/86bd0f0c"],
        "client_ca_tls_container_ref": "ca", "client_authentication": "OPTIONAL", "client_crl_container_ref": "crl",
        "tls_ciphers": "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256",
        "tls_versions": ["TLSv1.2", "TLSv1.3"], "alpn_protocols": ["h2", "http/1.1", "http/1.0"],
        "hsts_max_age": 31536000, "hsts_include_subdomains": true, "hsts_preload": false}"#;
    let shown = api.post(PATH, new(patch)).await.json()["listener"].clone();
    let wanted: Value = serde_json::from_str(patch).unwrap();
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}");
    }
}

#[tokio::test]
async fn what_may_be_agreed_on_is_checked_on_every_protocol() {
    let rules = Rules {
        tls_version_min: Some(TlsVersion::Tls12),
        ciphers_prohibited: ["RC4-SHA".to_owned()].into(),
        ..Rules::default()
    };
    let rejected = [
        (r#"{"tls_versions": []}"#, "Empty TLS version list."),
        (
            r#"{"tls_versions": ["TLSv1.9"]}"#,
            "Value should be one of: SSLv3, TLSv1, TLSv1.1, TLSv1.2, TLSv1.3",
        ),
        (
            r#"{"tls_versions": ["TLSv1.3", "TLSv1.1"]}"#,
            "Requested TLS versions are less than the minimum: TLSv1.1 < TLSv1.2",
        ),
        (r#"{"alpn_protocols": []}"#, "Empty ALPN protocol list."),
        (
            r#"{"alpn_protocols": ["h3"]}"#,
            "Value should be a valid ALPN protocol ID",
        ),
        (
            r#"{"tls_ciphers": "HIGH:RC4-SHA"}"#,
            "The following ciphers have been prohibited by an administrator: RC4-SHA",
        ),
        (
            r#"{"tls_ciphers": "HIGH LOW"}"#,
            "Invalid characters in cipher string.",
        ),
    ];
    let accepted = [
        r#"{"tls_versions": ["TLSv1.2", "TLSv1.2"], "alpn_protocols": ["http/1.0"], "tls_ciphers": "HIGH:!RC4-SHA"}"#,
        r#"{"protocol": "UDP", "tls_versions": ["TLSv1.3"], "alpn_protocols": ["h2"], "tls_ciphers": "HIGH"}"#,
    ];
    check_new(&Api::admitting(rules.clone()), &rejected, &accepted).await;
    check_update(&with(|_| (), rules), &rejected, &accepted[..1]).await;
}

#[tokio::test]
async fn browsers_are_told_about_tls_where_there_is_some() {
    let only =
        "The HSTS feature can only be used for listeners using the TERMINATED_HTTPS protocol.";
    let flags =
        "HSTS configuration options hsts_include_subdomains and hsts_preload only make sense if";
    let rejected = [
        (r#"{"hsts_max_age": 0}"#, only),
        (
            r#"{"protocol": "PROMETHEUS", "default_tls_container_ref": "r", "hsts_max_age": 1}"#,
            only,
        ),
        (
            r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "hsts_preload": true}"#,
            flags,
        ),
        (
            r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "hsts_include_subdomains": true}"#,
            flags,
        ),
    ];
    let accepted = [
        r#"{"hsts_max_age": null, "hsts_preload": false}"#,
        r#"{"protocol": "TERMINATED_HTTPS", "default_tls_container_ref": "r", "hsts_max_age": 0, "hsts_preload": true,
            "hsts_include_subdomains": true}"#,
    ];
    check_new(&Api::admitting(Rules::default()), &rejected, &accepted).await;
    let api = with(|_| (), Rules::default());
    check_update(
        &api,
        &[(r#"{"hsts_max_age": 5}"#, only)],
        &[r#"{"hsts_max_age": null}"#],
    )
    .await;
    let terminated = |hsts| {
        let edit = move |listener: &mut Listener| {
            listener.protocol = ListenerProtocol::TerminatedHttps;
            listener.tls = full_tls();
            listener.hsts = hsts;
        };
        with(edit, Rules::default())
    };
    let rejected = [
        (r#"{"hsts_preload": true}"#, flags),
        (
            r#"{"hsts_include_subdomains": true, "hsts_max_age": null}"#,
            flags,
        ),
    ];
    let accepted = [
        r#"{"hsts_preload": true, "hsts_max_age": 7}"#,
        r#"{"hsts_preload": false}"#,
    ];
    check_update(&terminated(Hsts::default()), &rejected, &accepted).await;
    let told = Hsts {
        max_age_seconds: Some(1),
        include_subdomains: true,
        preload: false,
    };
    check_update(
        &terminated(told),
        &[],
        &[r#"{"hsts_preload": true}"#, r#"{"hsts_max_age": null}"#],
    )
    .await;
}

#[tokio::test]
async fn an_update_leaves_nothing_that_a_creation_would_refuse() {
    let terminated = with(
        |listener| {
            listener.protocol = ListenerProtocol::TerminatedHttps;
            listener.tls = full_tls();
        },
        // What is stored stays, though the deployment has become stricter.
        Rules {
            tls_version_min: Some(TlsVersion::Tls12),
            ciphers_prohibited: ["OLD".to_owned()].into(),
            tls_terminated_listeners: false,
            ..Rules::default()
        },
    );
    let rejected = [
        (
            r#"{"default_tls_container_ref": null}"#,
            "An SNI or default certificate container reference must be provided for",
        ),
        (
            r#"{"client_ca_tls_container_ref": null}"#,
            "A client authentication CA reference is required",
        ),
        (
            r#"{"client_ca_tls_container_ref": null, "client_crl_container_ref": null}"#,
            "Client authentication setting MANDATORY requires",
        ),
        (
            r#"{"client_ca_tls_container_ref": null, "client_crl_container_ref": null, "client_authentication": null}"#,
            "Client authentication setting None requires",
        ),
        (
            r#"{"tls_ciphers": "OLD"}"#,
            "prohibited by an administrator: OLD",
        ),
    ];
    let accepted = [
        r#"{"name": "n"}"#,
        r#"{"default_tls_container_ref": null, "sni_container_refs": ["r"]}"#,
        r#"{"client_crl_container_ref": null}"#,
        r#"{"client_authentication": null}"#,
        r#"{"client_ca_tls_container_ref": "", "client_crl_container_ref": null, "client_authentication": "NONE"}"#,
    ];
    check_update(&terminated, &rejected, &accepted).await;
}

#[tokio::test]
async fn an_update_asks_for_no_tls_where_there_is_none() {
    let plain = with(|_| (), Rules::default());
    let rejected = [
        (
            r#"{"default_tls_container_ref": "r"}"#,
            "not allowed on HTTP protocol listeners.",
        ),
        (
            r#"{"client_ca_tls_container_ref": "r"}"#,
            "must be provided with a client CA container reference.",
        ),
        (
            r#"{"client_crl_container_ref": "r"}"#,
            "A client authentication CA reference is required",
        ),
        (
            r#"{"client_authentication": "MANDATORY"}"#,
            "Client authentication setting MANDATORY requires",
        ),
        (
            r#"{"client_authentication": null}"#,
            "Client authentication setting None requires",
        ),
    ];
    check_update(&plain, &rejected, &[r#"{"client_authentication": "NONE"}"#]).await;
    let datagrams = with(
        |listener| listener.protocol = ListenerProtocol::Udp,
        Rules::default(),
    );
    let rejected = [
        (
            r#"{"sni_container_refs": ["r"]}"#,
            "UDP protocol listener does not support TLS.",
        ),
        (
            r#"{"insert_headers": {"X-Forwarded-For": "true"}}"#,
            "insert-headers is not a valid option for a UDP protocol listener.",
        ),
    ];
    check_update(
        &datagrams,
        &rejected,
        &[r#"{"sni_container_refs": null, "insert_headers": {}}"#],
    )
    .await;
}
