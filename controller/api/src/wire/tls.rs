//! TLS and HSTS of listeners, TLS of pools, as JSON (reference 6.2, 7.2). Which of it fits which protocol is for the
//! domain to say.

use krater_controller_core::{
    command::{HstsUpdate, ListenerTlsUpdate, PoolTlsUpdate, TlsTermsUpdate},
    limits,
    model::{
        AlpnProtocol, Ciphers, ClientAuthentication, Hsts, ListenerTls, PoolTls, SecretRef,
        TlsTerms, TlsVersion,
    },
};
use serde_json::{Value, json};

use crate::{
    body::{self, Fields, Given},
    fault::Fault,
};

/// Reads what a new listener asks of TLS.
pub(crate) fn read_listener(fields: &mut Fields) -> Result<ListenerTls, Fault> {
    let client_ca = reference(fields, CLIENT_CA)?.value();
    Ok(ListenerTls {
        certificate: reference(fields, CERTIFICATE)?.value(),
        sni_certificates: references(fields)?.or_default(),
        client_authentication: match client_authentication(fields)? {
            // Null needs a client CA as the other values do (reference 6.2).
            Given::Null if client_ca.is_none() => {
                return Err(Fault::validation(
                    "Client authentication setting None requires a client CA container reference.",
                ));
            }
            given => given.or_default(),
        },
        client_ca,
        client_crl: reference(fields, CLIENT_CRL)?.value(),
        terms: read_terms(fields)?,
    })
}

/// Reads what a listener's update changes of TLS.
pub(crate) fn read_listener_update(fields: &mut Fields) -> Result<ListenerTlsUpdate, Fault> {
    Ok(ListenerTlsUpdate {
        certificate: reference(fields, CERTIFICATE)?.clear(),
        sni_certificates: references(fields)?.set(Vec::new()),
        client_ca: reference(fields, CLIENT_CA)?.clear(),
        client_crl: reference(fields, CLIENT_CRL)?.clear(),
        client_authentication: client_authentication(fields)?.clear(),
        terms: read_terms_update(fields)?,
    })
}

/// Reads what browsers are to be told by a new listener.
pub(crate) fn read_hsts(fields: &mut Fields) -> Result<Hsts, Fault> {
    Ok(Hsts {
        max_age_seconds: max_age(fields)?.value(),
        include_subdomains: fields.boolean(HSTS_SUBDOMAINS)?.or(false),
        preload: fields.boolean(HSTS_PRELOAD)?.or(false),
    })
}

/// Reads what a listener's update changes of it.
pub(crate) fn read_hsts_update(fields: &mut Fields) -> Result<HstsUpdate, Fault> {
    Ok(HstsUpdate {
        max_age_seconds: max_age(fields)?.clear(),
        include_subdomains: fields.boolean(HSTS_SUBDOMAINS)?.set(false),
        preload: fields.boolean(HSTS_PRELOAD)?.set(false),
    })
}

/// Reads what a new pool asks of TLS.
pub(crate) fn read_pool(fields: &mut Fields) -> Result<PoolTls, Fault> {
    Ok(PoolTls {
        enabled: fields.boolean(ENABLED)?.or(false),
        certificate: reference(fields, POOL_CERTIFICATE)?.value(),
        ca: reference(fields, POOL_CA)?.value(),
        crl: reference(fields, POOL_CRL)?.value(),
        terms: read_terms(fields)?,
    })
}

/// Reads what a pool's update changes of TLS.
pub(crate) fn read_pool_update(fields: &mut Fields) -> Result<PoolTlsUpdate, Fault> {
    Ok(PoolTlsUpdate {
        enabled: fields.boolean(ENABLED)?.set(false),
        certificate: reference(fields, POOL_CERTIFICATE)?.clear(),
        ca: reference(fields, POOL_CA)?.clear(),
        crl: reference(fields, POOL_CRL)?.clear(),
        terms: read_terms_update(fields)?,
    })
}

/// The keys of a listener that are about TLS.
pub(crate) fn render_listener(tls: &ListenerTls, hsts: Hsts) -> Value {
    let sni: Vec<_> = tls.sni_certificates.iter().map(SecretRef::as_str).collect();
    let mut object = render_terms(&tls.terms);
    for (key, value) in [
        (CERTIFICATE, rendered(tls.certificate.as_ref())),
        (SNI_CERTIFICATES, json!(sni)),
        (CLIENT_CA, rendered(tls.client_ca.as_ref())),
        (CLIENT_CRL, rendered(tls.client_crl.as_ref())),
        (
            CLIENT_AUTHENTICATION,
            json!(tls.client_authentication.name()),
        ),
        (HSTS_MAX_AGE, json!(hsts.max_age_seconds)),
        (HSTS_SUBDOMAINS, json!(hsts.include_subdomains)),
        (HSTS_PRELOAD, json!(hsts.preload)),
    ] {
        object.insert(key.into(), value);
    }
    Value::Object(object)
}

/// The keys of a pool that are about TLS.
pub(crate) fn render_pool(tls: &PoolTls) -> Value {
    let mut object = render_terms(&tls.terms);
    for (key, value) in [
        (ENABLED, json!(tls.enabled)),
        (POOL_CERTIFICATE, rendered(tls.certificate.as_ref())),
        (POOL_CA, rendered(tls.ca.as_ref())),
        (POOL_CRL, rendered(tls.crl.as_ref())),
    ] {
        object.insert(key.into(), value);
    }
    Value::Object(object)
}

fn render_terms(terms: &TlsTerms) -> serde_json::Map<String, Value> {
    let versions = terms.versions.as_ref();
    let versions = versions.map(|list| {
        list.iter()
            .map(|version| version.name())
            .collect::<Vec<_>>()
    });
    let alpn = terms.alpn.as_ref();
    let alpn = alpn.map(|list| {
        list.iter()
            .map(|protocol| protocol.name())
            .collect::<Vec<_>>()
    });
    [
        (CIPHERS, json!(terms.ciphers.as_ref().map(Ciphers::as_str))),
        (VERSIONS, json!(versions)),
        (ALPN, json!(alpn)),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

fn rendered(reference: Option<&SecretRef>) -> Value {
    json!(reference.map(SecretRef::as_str))
}

fn read_terms(fields: &mut Fields) -> Result<TlsTerms, Fault> {
    Ok(TlsTerms {
        ciphers: ciphers(fields)?.value(),
        versions: versions(fields)?.value(),
        alpn: alpn(fields)?.value(),
    })
}

fn read_terms_update(fields: &mut Fields) -> Result<TlsTermsUpdate, Fault> {
    Ok(TlsTermsUpdate {
        ciphers: ciphers(fields)?.clear(),
        versions: versions(fields)?.clear(),
        alpn: alpn(fields)?.clear(),
    })
}

/// A reference to a secret; an empty one is none, as clients send for "unset".
fn reference(fields: &mut Fields, name: &str) -> Result<Given<SecretRef>, Fault> {
    Ok(match fields.text(name, body::TEXT_CHARACTERS_MAX)? {
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Value(text) => SecretRef::parse(text).map_or(Given::Null, Given::Value),
    })
}

fn references(fields: &mut Fields) -> Result<Given<Vec<SecretRef>>, Fault> {
    let entry = |value| {
        let text = body::text(SNI_CERTIFICATES, value, body::TEXT_CHARACTERS_MAX)?;
        SecretRef::parse(text).ok_or_else(|| {
            Fault::input(
                SNI_CERTIFICATES,
                "",
                "Value should have a minimum character requirement of 1",
            )
        })
    };
    fields.list(SNI_CERTIFICATES, entry)
}

fn client_authentication(fields: &mut Fields) -> Result<Given<ClientAuthentication>, Fault> {
    fields.one_of(
        CLIENT_AUTHENTICATION,
        &ClientAuthentication::ALL,
        ClientAuthentication::name,
    )
}

fn max_age(fields: &mut Fields) -> Result<Given<u32>, Fault> {
    fields.integer(HSTS_MAX_AGE, 0, i64::from(i32::MAX))
}

fn ciphers(fields: &mut Fields) -> Result<Given<Ciphers>, Fault> {
    let given = fields.text(CIPHERS, limits::CIPHERS_CHARACTERS_MAX)?;
    if given == Given::Value(String::new()) {
        return Ok(Given::Null);
    }
    given.parse(|text| {
        Ciphers::parse(text).ok_or_else(|| {
            Fault::validation(
                "Invalid characters in cipher string. Only A-Za-z0-9-+!:@=_. are allowed.",
            )
        })
    })
}

fn versions(fields: &mut Fields) -> Result<Given<Vec<TlsVersion>>, Fault> {
    let entry = |value: Value| body::one_of(VERSIONS, &value, &TlsVersion::ALL, TlsVersion::name);
    Ok(fields.list(VERSIONS, entry)?.map(distinct))
}

fn alpn(fields: &mut Fields) -> Result<Given<Vec<AlpnProtocol>>, Fault> {
    let entry = |value: Value| {
        body::one_of(ALPN, &value, &AlpnProtocol::ALL, AlpnProtocol::name).map_err(|_| {
            Fault::input(
                ALPN,
                &body::echo(&value),
                "Value should be a valid ALPN protocol ID",
            )
        })
    };
    Ok(fields.list(ALPN, entry)?.map(distinct))
}

/// The list without what is in it already, in its order.
fn distinct<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::new();
    for one in list {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    kept
}

const CERTIFICATE: &str = "default_tls_container_ref";
const SNI_CERTIFICATES: &str = "sni_container_refs";
const CLIENT_CA: &str = "client_ca_tls_container_ref";
const CLIENT_CRL: &str = "client_crl_container_ref";
const CLIENT_AUTHENTICATION: &str = "client_authentication";
const HSTS_MAX_AGE: &str = "hsts_max_age";
const HSTS_SUBDOMAINS: &str = "hsts_include_subdomains";
const HSTS_PRELOAD: &str = "hsts_preload";
const ENABLED: &str = "tls_enabled";
const POOL_CERTIFICATE: &str = "tls_container_ref";
const POOL_CA: &str = "ca_tls_container_ref";
const POOL_CRL: &str = "crl_container_ref";
const CIPHERS: &str = "tls_ciphers";
const VERSIONS: &str = "tls_versions";
const ALPN: &str = "alpn_protocols";
