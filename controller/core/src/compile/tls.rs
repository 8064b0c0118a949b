//! TLS of listeners and pools in the data plane's words.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use krater_amphora_api::{
    AlpnProtocol as SpokenInside, CertificateSpec, ClientCertificatesSpec, HstsSpec,
    ListenerTlsSpec, PoolTlsSpec,
};
use uuid::Uuid;

use super::Defaults;
use crate::{
    blame::STEP_BIND,
    cipher::{self, Agreed},
    model::{
        AlpnProtocol, ClientAuthentication, Hsts, Listener, ListenerProtocol, Pool, SecretRef,
        TlsTerms,
    },
    secret::{Purpose, Secrets},
    status::Reason,
    tree::LoadBalancerTree,
};

/// What TLS comes to somewhere.
pub(super) enum Spoken<T> {
    /// None is spoken.
    Plain,
    /// It is spoken so.
    Tls(T),
    /// It has to be and cannot be: what would be sent in the clear must not be sent at all.
    Impossible,
}

impl<T> Spoken<T> {
    /// What travels; `None` when nothing may.
    pub(super) fn travels(self) -> Option<Option<T>> {
        match self {
            Self::Plain => Some(None),
            Self::Tls(spec) => Some(Some(spec)),
            Self::Impossible => None,
        }
    }
}

/// The listeners and pools that a tree has and no amphora can be given, and why. All else is in force.
#[must_use]
pub fn unservable(tree: &LoadBalancerTree, defaults: &Defaults) -> BTreeMap<Uuid, Reason> {
    let listeners = super::wanted(&tree.listeners)
        .filter(|listener| listener.admin_state_up)
        .filter_map(|listener| {
            let flaw = flaw(&listener.tls.terms, defaults).filter(|_| speaks(listener))?;
            let sentence = format!("the listener is closed: {flaw}");
            Some((listener.id.uuid(), no_cipher(sentence)))
        });
    let pools = super::wanted(&tree.pools)
        .filter(|pool| pool.tls.enabled)
        .filter_map(|pool| {
            let sentence = format!("the pool is not used: {}", flaw(&pool.tls.terms, defaults)?);
            Some((pool.id.uuid(), no_cipher(sentence)))
        });
    listeners.chain(pools).collect()
}

fn flaw(terms: &TlsTerms, defaults: &Defaults) -> Option<String> {
    cipher::agree(terms, &defaults.ciphers_prohibited).err()
}

/// Admission lets nobody ask for it, but a deployment may have become stricter since.
fn no_cipher(message: String) -> Reason {
    let reason = Reason {
        code: "no_cipher".into(),
        message,
        step: STEP_BIND.into(),
        heals: false,
    };
    debug_assert!(reason.is_known(), "{reason:?} is not in the table of codes");
    reason
}

fn speaks(listener: &Listener) -> bool {
    match listener.protocol {
        ListenerProtocol::TerminatedHttps => true,
        ListenerProtocol::Prometheus => listener.tls.has_certificate(),
        _ => false,
    }
}

pub(super) fn of_listener(
    listener: &Listener,
    defaults: &Defaults,
    secrets: &Secrets,
) -> Spoken<ListenerTlsSpec> {
    let tls = &listener.tls;
    if !speaks(listener) {
        return Spoken::Plain;
    }
    let spec = || {
        if !tls.has_certificate() {
            return None;
        }
        let Agreed { versions, suites } =
            cipher::agree(&tls.terms, &defaults.ciphers_prohibited).ok()?;
        let sni = tls.sni_certificates.iter();
        Some(ListenerTlsSpec {
            default_certificate: certificate(tls.certificate.as_ref(), secrets)?,
            sni_certificates: sni
                .map(|reference| secrets.certificate(reference).cloned())
                .collect::<Option<Vec<_>>>()?,
            clients: clients(listener, secrets)?,
            versions,
            cipher_suites: suites,
            alpn: alpn(&tls.terms),
        })
    };
    spec().map_or(Spoken::Impossible, Spoken::Tls)
}

pub(super) fn of_pool(pool: &Pool, defaults: &Defaults, secrets: &Secrets) -> Spoken<PoolTlsSpec> {
    let tls = &pool.tls;
    if !tls.enabled {
        return Spoken::Plain;
    }
    let spec = || {
        let Agreed { versions, suites } =
            cipher::agree(&tls.terms, &defaults.ciphers_prohibited).ok()?;
        Some(PoolTlsSpec {
            certificate: certificate(tls.certificate.as_ref(), secrets)?,
            authorities: text(Purpose::Authorities, tls.ca.as_ref(), secrets)?,
            revoked: text(Purpose::Revocations, tls.crl.as_ref(), secrets)?,
            versions,
            cipher_suites: suites,
            alpn: alpn(&tls.terms),
        })
    };
    spec().map_or(Spoken::Impossible, Spoken::Tls)
}

/// Told by listeners that end TLS only.
pub(super) fn hsts(listener: &Listener) -> Option<HstsSpec> {
    let Hsts {
        max_age_seconds,
        include_subdomains,
        preload,
    } = listener.hsts;
    let ends_tls = listener.protocol == ListenerProtocol::TerminatedHttps;
    Some(HstsSpec {
        max_age_seconds: max_age_seconds.filter(|_| ends_tls)?,
        include_subdomains,
        preload,
    })
}

/// Nothing is asked of clients where they need not show anything, whoever might vouch for them (reference 19.9).
fn clients(listener: &Listener, secrets: &Secrets) -> Option<Option<ClientCertificatesSpec>> {
    let tls = &listener.tls;
    let required = match tls.client_authentication {
        ClientAuthentication::None => return Some(None),
        ClientAuthentication::Optional => false,
        ClientAuthentication::Mandatory => true,
    };
    Some(Some(ClientCertificatesSpec {
        required,
        authorities: text(Purpose::Authorities, tls.client_ca.as_ref(), secrets)??,
        revoked: text(Purpose::Revocations, tls.client_crl.as_ref(), secrets)?,
    }))
}

/// `None` when it is named and not there.
fn certificate(
    reference: Option<&SecretRef>,
    secrets: &Secrets,
) -> Option<Option<CertificateSpec>> {
    match reference {
        None => Some(None),
        Some(reference) => secrets.certificate(reference).cloned().map(Some),
    }
}

/// `None` when it is named and not there.
fn text(
    purpose: Purpose,
    reference: Option<&SecretRef>,
    secrets: &Secrets,
) -> Option<Option<String>> {
    match reference {
        None => Some(None),
        Some(reference) => secrets
            .text(purpose, reference)
            .map(|pem| Some(pem.to_string())),
    }
}

fn alpn(terms: &TlsTerms) -> Vec<SpokenInside> {
    let protocols = terms.alpn.as_deref().unwrap_or_default().iter();
    protocols
        .map(|protocol| match protocol {
            AlpnProtocol::H2 => SpokenInside::H2,
            AlpnProtocol::Http11 => SpokenInside::Http11,
            AlpnProtocol::Http10 => SpokenInside::Http10,
        })
        .collect()
}
