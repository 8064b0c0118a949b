//! Certificates, keys, authorities and names of suites in the terms of the contract → those of rustls.
//!
//! What cannot be used is told as a reason for a `Rejection`: one sentence, lower case, no full stop. No reason holds
//! any of what it is about: PEM may be a key (I13).

use std::sync::Arc;

use krater_amphora_api::{AlpnProtocol, CertificateSpec, CipherSuite, PrivateKeyPem, TlsVersion};
use rustls::{
    RootCertStore, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{
        CryptoProvider,
        aws_lc_rs::{self, cipher_suite},
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
    pem::{self, PemObject},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Why what a spec holds cannot be used.
pub(crate) type Reason = String;

/// A certificate with its key, and those that lead to its authority.
pub(crate) fn certified_key(spec: &CertificateSpec) -> Result<Arc<CertifiedKey>, Reason> {
    let chain = certificates(&spec.chain, "the chain")?;
    let first = chain
        .first()
        .ok_or_else(|| "the chain holds no certificate".to_owned())?;
    let parsed = parse(first, "the first certificate of the chain")?;
    for (index, other) in chain.iter().enumerate().skip(1) {
        parse(other, &format!("certificate {} of the chain", index + 1))?;
    }
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(private_key(&spec.key)?)
        .map_err(|error| format!("the private key cannot be used: {error}"))?;
    // Of a kind that does not tell its public half nothing can be known.
    if key
        .public_key()
        .is_some_and(|key| key.as_ref() != parsed.public_key().raw)
    {
        return Err("the private key is not that of the first certificate of the chain".to_owned());
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// Who may have signed the certificates of others.
pub(crate) fn authorities(text: &str) -> Result<Arc<RootCertStore>, Reason> {
    let mut roots = RootCertStore::empty();
    for (index, certificate) in certificates(text, "the authorities")?
        .into_iter()
        .enumerate()
    {
        roots.add(certificate).map_err(|error| {
            format!(
                "certificate {} of the authorities cannot be used: {error}",
                index + 1
            )
        })?;
    }
    if roots.is_empty() {
        return Err("the authorities hold no certificate".to_owned());
    }
    Ok(Arc::new(roots))
}

/// Lists of certificates that are revoked.
pub(crate) fn revocations(
    text: &str,
) -> Result<Vec<CertificateRevocationListDer<'static>>, Reason> {
    let lists = CertificateRevocationListDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the revocation list is no PEM: {}", flaw(&error)))?;
    if lists.is_empty() {
        return Err("the revocation list holds none".to_owned());
    }
    Ok(lists)
}

/// Cryptography that speaks these suites and no other, by preference.
pub(crate) fn provider(suites: &[CipherSuite]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: suites.iter().copied().map(suite).collect(),
        ..aws_lc_rs::default_provider()
    })
}

/// The versions as rustls names them.
pub(crate) fn versions(versions: &[TlsVersion]) -> Vec<&'static SupportedProtocolVersion> {
    let version = |version: &TlsVersion| match version {
        TlsVersion::Tls12 => &TLS12,
        TlsVersion::Tls13 => &TLS13,
    };
    versions.iter().map(version).collect()
}

/// What is spoken inside, as the handshake names it.
pub(crate) const fn alpn(protocol: AlpnProtocol) -> &'static [u8] {
    match protocol {
        AlpnProtocol::H2 => b"h2",
        AlpnProtocol::Http11 => b"http/1.1",
        AlpnProtocol::Http10 => b"http/1.0",
    }
}

const fn suite(suite: CipherSuite) -> SupportedCipherSuite {
    match suite {
        CipherSuite::Aes128Gcm => cipher_suite::TLS13_AES_128_GCM_SHA256,
        CipherSuite::Aes256Gcm => cipher_suite::TLS13_AES_256_GCM_SHA384,
        CipherSuite::ChaCha20 => cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        CipherSuite::EcdsaAes128Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256Gcm => cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256Gcm => cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

fn certificates(text: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, Reason> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("{what} cannot be read as PEM: {}", flaw(&error)))
}

fn private_key(key: &PrivateKeyPem) -> Result<PrivateKeyDer<'static>, Reason> {
    let text = key.expose();
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound if text.contains("ENCRYPTED PRIVATE KEY") => {
            "the private key is encrypted".to_owned()
        }
        pem::Error::NoItemsFound => "there is no private key in what is given as one".to_owned(),
        error => format!("the private key cannot be read as PEM: {}", flaw(&error)),
    })
}

fn parse<'a>(
    certificate: &'a CertificateDer<'_>,
    what: &str,
) -> Result<X509Certificate<'a>, Reason> {
    X509Certificate::from_der(certificate)
        .map(|(_, parsed)| parsed)
        .map_err(|_| format!("{what} is no X.509 certificate"))
}

/// What is wrong with PEM, without a byte of it.
const fn flaw(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly",
        pem::Error::Base64Decode(_) => "it is not base64",
        _ => "it is malformed",
    }
}

#[cfg(test)]
mod tests;
