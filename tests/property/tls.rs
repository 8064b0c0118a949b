//! TLS, HSTS and session persistence as the wire lets them through: mostly nothing of them, all at once now and then.

use krater_controller_core::{
    command::{HstsUpdate, ListenerTlsUpdate, PersistenceUpdate, PoolTlsUpdate, TlsTermsUpdate},
    model::{
        AlpnProtocol, Ciphers, ClientAuthentication, Hsts, ListenerTls, PersistenceType, PoolTls,
        SecretRef, SessionPersistence, TlsTerms, TlsVersion,
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{self, select},
};

use crate::{
    value::{address, text},
    wish::set,
};

/// Where a secret may lie.
fn secret() -> BoxedStrategy<SecretRef> {
    prop_oneof![6 => "https://keys.example.test/[0-9a-f]{4}", 1 => text()]
        .prop_filter_map("not empty", SecretRef::parse)
        .boxed()
}

/// What may be agreed on: mostly nothing said.
fn terms() -> BoxedStrategy<TlsTerms> {
    let said = (
        option::of(ciphers()),
        option::of(versions()),
        option::of(alpn()),
    );
    let said = said.prop_map(|(ciphers, versions, alpn)| TlsTerms {
        ciphers,
        versions,
        alpn,
    });
    prop_oneof![3 => Just(TlsTerms::default()), 1 => said].boxed()
}

fn ciphers() -> BoxedStrategy<Ciphers> {
    "[A-Z0-9-]{1,12}(:[!+A-Z0-9-]{1,12}){0,3}"
        .prop_filter_map("a list", Ciphers::parse)
        .boxed()
}

/// Versions, none of them now and then.
fn versions() -> BoxedStrategy<Vec<TlsVersion>> {
    sample::subsequence(TlsVersion::ALL.to_vec(), 0..=3).boxed()
}

fn alpn() -> BoxedStrategy<Vec<AlpnProtocol>> {
    sample::subsequence(AlpnProtocol::ALL.to_vec(), 0..=3).boxed()
}

fn client_authentication() -> BoxedStrategy<ClientAuthentication> {
    select(ClientAuthentication::ALL.to_vec()).boxed()
}

/// What a listener asks of TLS: mostly nothing, all of it at once now and then.
pub(crate) fn listener_tls() -> BoxedStrategy<ListenerTls> {
    let all = (
        option::of(secret()),
        vec(secret(), 0..3),
        option::of(secret()),
        option::of(secret()),
        client_authentication(),
        terms(),
    );
    let some = all.prop_map(|all| {
        let (certificate, sni_certificates, client_ca, client_crl, client_authentication, terms) =
            all;
        ListenerTls {
            certificate,
            sni_certificates,
            client_ca,
            client_crl,
            client_authentication,
            terms,
        }
    });
    let terms = terms().prop_map(|terms| ListenerTls {
        terms,
        ..ListenerTls::default()
    });
    prop_oneof![9 => terms, 1 => some].boxed()
}

pub(crate) fn hsts() -> BoxedStrategy<Hsts> {
    let some = (option::of(0_u32..1_000_000), any::<bool>(), any::<bool>());
    let some = some.prop_map(|(max_age_seconds, include_subdomains, preload)| Hsts {
        max_age_seconds,
        include_subdomains,
        preload,
    });
    prop_oneof![19 => Just(Hsts::default()), 1 => some].boxed()
}

/// What a pool asks of TLS: mostly nothing.
pub(crate) fn pool_tls() -> BoxedStrategy<PoolTls> {
    let all = (
        any::<bool>(),
        option::of(secret()),
        option::of(secret()),
        option::of(secret()),
        terms(),
    );
    let some = all.prop_map(|(enabled, certificate, ca, crl, terms)| PoolTls {
        enabled,
        certificate,
        ca,
        crl,
        terms,
    });
    let terms = terms().prop_map(|terms| PoolTls {
        terms,
        ..PoolTls::default()
    });
    prop_oneof![14 => terms, 1 => some].boxed()
}

pub(crate) fn persistence() -> BoxedStrategy<SessionPersistence> {
    let cookie = prop_oneof![3 => "[A-Za-z_]{1,8}", 1 => text()];
    let all = (
        select(PersistenceType::ALL.to_vec()),
        option::of(cookie),
        option::weighted(0.2, 0_u32..1_000),
        option::weighted(0.2, address()),
    );
    all.prop_map(
        |(kind, cookie_name, timeout_seconds, granularity)| SessionPersistence {
            kind,
            cookie_name,
            timeout_seconds,
            granularity,
        },
    )
    .boxed()
}

pub(crate) fn listener_tls_update() -> BoxedStrategy<ListenerTlsUpdate> {
    let reference = || set(option::of(secret()));
    let all = (
        reference(),
        set(vec(secret(), 0..3)),
        reference(),
        reference(),
        set(option::of(client_authentication())),
        terms_update(),
    );
    all.prop_map(|all| {
        let (certificate, sni_certificates, client_ca, client_crl, client_authentication, terms) =
            all;
        ListenerTlsUpdate {
            certificate,
            sni_certificates,
            client_ca,
            client_crl,
            client_authentication,
            terms,
        }
    })
    .boxed()
}

fn terms_update() -> BoxedStrategy<TlsTermsUpdate> {
    let all = (
        set(option::of(ciphers())),
        set(option::of(versions())),
        set(option::of(alpn())),
    );
    all.prop_map(|(ciphers, versions, alpn)| TlsTermsUpdate {
        ciphers,
        versions,
        alpn,
    })
    .boxed()
}

pub(crate) fn hsts_update() -> BoxedStrategy<HstsUpdate> {
    let all = (
        set(option::of(any::<u32>())),
        set(any::<bool>()),
        set(any::<bool>()),
    );
    all.prop_map(
        |(max_age_seconds, include_subdomains, preload)| HstsUpdate {
            max_age_seconds,
            include_subdomains,
            preload,
        },
    )
    .boxed()
}

pub(crate) fn pool_tls_update() -> BoxedStrategy<PoolTlsUpdate> {
    let reference = || set(option::of(secret()));
    let all = (
        set(any::<bool>()),
        reference(),
        reference(),
        reference(),
        terms_update(),
    );
    all.prop_map(|(enabled, certificate, ca, crl, terms)| PoolTlsUpdate {
        enabled,
        certificate,
        ca,
        crl,
        terms,
    })
    .boxed()
}

pub(crate) fn persistence_update() -> BoxedStrategy<PersistenceUpdate> {
    (persistence(), any::<bool>())
        .prop_map(|(whole, typed)| PersistenceUpdate {
            kind: typed.then_some(whole.kind),
            cookie_name: whole.cookie_name,
            timeout_seconds: whole.timeout_seconds,
            granularity: whole.granularity,
        })
        .boxed()
}
