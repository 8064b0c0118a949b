//! Checks of TLS that need no cryptography: counts, sizes, and what goes with what.

use alloc::{format, string::String};

use krater_amphora_api::{
    CertificateSpec, CipherSuite, ListenerProtocol, ListenerSpec, ListenerTlsSpec, PoolProtocol,
    PoolSpec, PoolTlsSpec, SnapshotSpec, Subject, TlsVersion,
};

use super::parse::{Reasons, at_most};
use crate::limits;

/// That all certificates, keys, authorities and lists of revoked certificates together are not too much.
pub(super) fn check_totals(spec: &SnapshotSpec, reasons: &mut Reasons) {
    let terminated = || spec.listeners.iter().filter_map(|spec| spec.tls.as_ref());
    let sealed = || spec.pools.iter().filter_map(|spec| spec.tls.as_ref());
    at_most(
        limits::CERTIFICATES_MAX,
        terminated().map(|tls| certificates(tls).count()).sum(),
        "certificates in all",
        Subject::LoadBalancer,
        reasons,
    );
    at_most(
        limits::TLS_BYTES_TOTAL_MAX,
        terminated().map(bytes).sum::<usize>() + sealed().map(bytes_of_pool).sum::<usize>(),
        "bytes of certificates, keys and lists in all",
        Subject::LoadBalancer,
        reasons,
    );
}

/// TLS of one listener.
pub(super) fn check_listener(spec: &ListenerSpec, reasons: &mut Reasons) {
    let subject = Subject::Listener(spec.id);
    let Some(tls) = &spec.tls else {
        return;
    };
    reasons.require(
        matches!(
            spec.protocol,
            ListenerProtocol::Http | ListenerProtocol::Prometheus
        ),
        subject,
        || String::from("only an http or a metrics listener can end TLS"),
    );
    let count = certificates(tls).count();
    reasons.require(count > 0, subject, || {
        String::from("TLS has no certificate, at least one is needed")
    });
    at_most(
        limits::CERTIFICATES_PER_LISTENER_MAX,
        count,
        "certificates",
        subject,
        reasons,
    );
    for certificate in certificates(tls) {
        check_certificate(certificate, subject, reasons);
    }
    if let Some(clients) = &tls.clients {
        check_authorities(
            &clients.authorities,
            clients.revoked.as_deref(),
            subject,
            reasons,
        );
    }
    check_words(&tls.versions, &tls.cipher_suites, subject, reasons);
}

/// TLS to the members of one pool.
pub(super) fn check_pool(spec: &PoolSpec, reasons: &mut Reasons) {
    let subject = Subject::Pool(spec.id);
    let Some(tls) = &spec.tls else {
        return;
    };
    reasons.require(
        matches!(
            spec.protocol,
            PoolProtocol::Http | PoolProtocol::Proxy | PoolProtocol::ProxyV2
        ),
        subject,
        || String::from("only members of http and proxy pools can be spoken to by TLS"),
    );
    if let Some(certificate) = &tls.certificate {
        check_certificate(certificate, subject, reasons);
    }
    reasons.require(
        tls.authorities.is_some() || tls.revoked.is_none(),
        subject,
        || String::from("a list of revoked certificates means nothing without authorities"),
    );
    check_authorities(
        tls.authorities.as_deref().unwrap_or_default(),
        tls.revoked.as_deref(),
        subject,
        reasons,
    );
    check_words(&tls.versions, &tls.cipher_suites, subject, reasons);
}

fn check_certificate(certificate: &CertificateSpec, subject: Subject, reasons: &mut Reasons) {
    let sizes = [
        (
            limits::CHAIN_BYTES_MAX,
            certificate.chain.len(),
            "bytes in a chain of certificates",
        ),
        (
            limits::PRIVATE_KEY_BYTES_MAX,
            certificate.key.expose().len(),
            "bytes in a private key",
        ),
    ];
    for (most, count, what) in sizes {
        at_most(most, count, what, subject, reasons);
    }
}

/// Who vouches for the certificates of peers, and what they took back.
pub(super) fn check_authorities(
    authorities: &str,
    revoked: Option<&str>,
    subject: Subject,
    reasons: &mut Reasons,
) {
    at_most(
        limits::AUTHORITIES_BYTES_MAX,
        authorities.len(),
        "bytes of authorities",
        subject,
        reasons,
    );
    at_most(
        limits::REVOCATIONS_BYTES_MAX,
        revoked.map_or(0, str::len),
        "bytes in a list of revoked certificates",
        subject,
        reasons,
    );
}

/// Versions and suites: some of each, none twice, and a suite for each version.
pub(super) fn check_words(
    versions: &[TlsVersion],
    suites: &[CipherSuite],
    subject: Subject,
    reasons: &mut Reasons,
) {
    reasons.require(!versions.is_empty(), subject, || {
        String::from("TLS has no version, at least one is needed")
    });
    let twice = has_repetition(versions) || has_repetition(suites);
    reasons.require(!twice, subject, || {
        String::from("a version or a cipher suite of TLS is listed twice")
    });
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let has_suite = suites.iter().any(|suite| suite.version() == version);
        reasons.require(has_suite || !versions.contains(&version), subject, || {
            let version = match version {
                TlsVersion::Tls12 => "1.2",
                TlsVersion::Tls13 => "1.3",
            };
            format!("there is no cipher suite for TLS {version}")
        });
    }
}

fn certificates(tls: &ListenerTlsSpec) -> impl Iterator<Item = &CertificateSpec> {
    tls.default_certificate.iter().chain(&tls.sni_certificates)
}

fn bytes(tls: &ListenerTlsSpec) -> usize {
    let pairs = certificates(tls)
        .map(|certificate| certificate.chain.len() + certificate.key.expose().len());
    let clients = tls
        .clients
        .iter()
        .map(|clients| clients.authorities.len() + clients.revoked.as_ref().map_or(0, String::len));
    pairs.chain(clients).sum()
}

fn bytes_of_pool(tls: &PoolTlsSpec) -> usize {
    let certificate = tls.certificate.as_ref();
    let lists = [&tls.authorities, &tls.revoked];
    certificate.map_or(0, |certificate| {
        certificate.chain.len() + certificate.key.expose().len()
    }) + lists
        .into_iter()
        .map(|list| list.as_ref().map_or(0, String::len))
        .sum::<usize>()
}

fn has_repetition<T: PartialEq>(list: &[T]) -> bool {
    list.iter()
        .enumerate()
        .any(|(at, item)| list.iter().take(at).any(|other| other == item))
}
