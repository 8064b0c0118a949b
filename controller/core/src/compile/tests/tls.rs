//! TLS in the data plane's words.

use krater_amphora_api::{
    AlpnProtocol as SpokenInside, CertificateSpec, CipherSuite, HstsSpec, PrivateKeyPem,
    TlsVersion as SpokenVersion,
};

use super::*;
use crate::{
    model::{
        AlpnProtocol, ClientAuthentication, Hsts, ListenerTls, SecretRef, TlsTerms, TlsVersion,
    },
    secret::{self, Need, Purpose},
};

fn reference(name: &str) -> SecretRef {
    SecretRef::parse(name.to_string()).unwrap()
}

fn certificate(name: &str) -> CertificateSpec {
    CertificateSpec {
        chain: String::from(name),
        key: PrivateKeyPem::new(String::from("k")),
    }
}

/// A vault in which everything lies that tests name.
fn vault() -> Secrets {
    let mut secrets = Secrets::default();
    for name in ["web", "sni", "own"] {
        secrets.add_certificate(reference(name), certificate(name));
    }
    for (purpose, name) in [(Purpose::Authorities, "ca"), (Purpose::Revocations, "crl")] {
        let need = Need {
            purpose,
            reference: reference(name),
        };
        secrets.add_text(need, name.to_string());
    }
    secrets
}

fn compiled(house: &House) -> SnapshotSpec {
    compile(&house.tree, &Defaults::default(), &vault())
}

/// Ends TLS on its listener, and speaks it to the members of its pool.
fn secured() -> House {
    let mut house = House::furnished();
    let listener = &mut house.tree.listeners[0].value;
    listener.protocol = ListenerProtocol::TerminatedHttps;
    listener.tls = ListenerTls {
        certificate: Some(reference("web")),
        sni_certificates: vec![reference("sni")],
        client_ca: Some(reference("ca")),
        client_crl: Some(reference("crl")),
        client_authentication: ClientAuthentication::Mandatory,
        terms: TlsTerms {
            versions: Some(vec![TlsVersion::Tls12]),
            alpn: Some(vec![AlpnProtocol::H2, AlpnProtocol::Http11]),
            ciphers: crate::model::Ciphers::parse("AESGCM+AES256".to_string()),
        },
    };
    listener.hsts = Hsts {
        max_age_seconds: Some(60),
        include_subdomains: true,
        preload: false,
    };
    house.tree.pools[0].value.tls = PoolTls {
        enabled: true,
        certificate: Some(reference("own")),
        ca: Some(reference("ca")),
        crl: None,
        terms: TlsTerms::default(),
    };
    house
}

#[test]
fn a_listener_that_ends_tls_is_http_inside_it() {
    let house = secured();
    let spec = compiled(&house);
    let listener = &spec.listeners[0];
    assert_eq!(listener.protocol, Spoken::Http);
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.default_certificate, Some(certificate("web")));
    assert_eq!(tls.sni_certificates, [certificate("sni")]);
    let clients = tls.clients.as_ref().unwrap();
    assert!(clients.required);
    assert_eq!(clients.authorities, "ca");
    assert_eq!(clients.revoked.as_deref(), Some("crl"));
    assert_eq!(tls.versions, [SpokenVersion::Tls12]);
    assert_eq!(
        tls.cipher_suites,
        [CipherSuite::EcdsaAes256Gcm, CipherSuite::RsaAes256Gcm]
    );
    assert_eq!(tls.alpn, [SpokenInside::H2, SpokenInside::Http11]);
    assert_eq!(
        listener.hsts,
        Some(HstsSpec {
            max_age_seconds: 60,
            include_subdomains: true,
            preload: false
        })
    );
    let pool = spec.pools[0].tls.as_ref().unwrap();
    assert_eq!(pool.certificate, Some(certificate("own")));
    assert_eq!(pool.authorities.as_deref(), Some("ca"));
    assert_eq!(pool.revoked, None);
    assert_eq!(pool.cipher_suites.len(), CipherSuite::ALL.len());
    assert!(pool.alpn.is_empty());
}

#[test]
fn whose_certificates_are_asked_of_nobody_needs_no_authorities() {
    let mut house = secured();
    let listener = &mut house.tree.listeners[0].value;
    listener.tls.client_authentication = ClientAuthentication::None;
    listener.tls.client_ca = Some(reference("lost"));
    house.tree.pools[0].value.tls.enabled = false;
    let spec = compiled(&house);
    assert_eq!(spec.listeners[0].tls.as_ref().unwrap().clients, None);
    let needs = |house: &House| {
        let needs = secret::needs(&house.tree).into_iter();
        let names = needs.map(|(need, _)| need.reference.as_str().to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(needs(&house), ["web", "sni"]);
    house.tree.listeners[0].value.tls.client_authentication = ClientAuthentication::Optional;
    assert_eq!(needs(&house), ["web", "sni", "lost", "crl"]);
    assert_eq!(secret::references(&house.tree).len(), 6);
}

#[test]
fn what_has_no_secret_or_no_cipher_is_left_out_and_the_rest_is_sent() {
    let mut house = secured();
    let id = house.tree.listeners[0].value.id.uuid();
    let defaults = Defaults::default();
    let bare = compile(&house.tree, &defaults, &Secrets::default());
    assert!(bare.listeners.is_empty() && bare.pools.is_empty());
    assert!(unservable(&house.tree, &defaults).is_empty());

    let strict = Defaults {
        ciphers_prohibited: [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-RSA-AES256-GCM-SHA384",
        ]
        .map(String::from)
        .into(),
        ..Defaults::default()
    };
    let spec = compile(&house.tree, &strict, &vault());
    assert!(spec.listeners.is_empty());
    assert_eq!(spec.pools.len(), 1);
    assert_eq!(unservable(&house.tree, &strict)[&id].code, "no_cipher");

    let listener = &mut house.tree.listeners[0].value;
    listener.tls.certificate = None;
    listener.tls.sni_certificates.clear();
    assert!(
        compiled(&house).listeners.is_empty(),
        "nothing in the clear"
    );
    house.tree.listeners[0].value.admin_state_up = false;
    assert!(unservable(&house.tree, &strict).is_empty());
}
