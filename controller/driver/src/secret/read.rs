//! What was fetched → what it is for, or why it cannot be that.

use std::sync::Arc;

use jiff::Timestamp;
use krater_amphora_api::{CertificateSpec, PrivateKeyPem};
use krater_controller_core::{
    model::SecretRef,
    secret::{Need, Purpose, Secrets},
};
use p12_keystore::Pkcs12Archive;
use pkcs8::{
    EncryptedPrivateKeyInfoRef,
    pkcs5::{EncryptionScheme, pbes2::Kdf},
};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _,
    revocation_list::CertificateRevocationList,
};
use zeroize::Zeroizing;

use super::{
    Parts, RawSecret, SECRET_BYTES_MAX,
    pem::{self, Contents, Format, Key},
    pkcs7,
};

/// Why what was fetched cannot be used. Sentences without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unusable {
    /// It is a PKCS#12 bundle that cannot be opened.
    #[error("the PKCS#12 bundle cannot be opened without a passphrase: {0}")]
    Bundle(String),
    /// Anything else.
    #[error("{0}")]
    Content(String),
}

/// A secret that was found good for its purpose. No `Debug` (I13).
#[derive(Clone)]
pub enum Secret {
    /// A certificate with its key.
    Certificate(Certificate),
    /// Who vouches for others, as PEM.
    Authorities(String),
    /// Lists of revoked certificates, as PEM.
    Revocations(String),
}

/// A certificate with its key that fits, and what is worth knowing of it. No `Debug` (I13).
#[derive(Clone)]
pub struct Certificate {
    /// What amphorae get.
    pub spec: CertificateSpec,
    /// What may be told of it.
    pub facts: CertificateFacts,
}

/// What may be told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// Its subject.
    pub subject: String,
    /// Its issuer.
    pub issuer: String,
    /// The names and addresses it is for.
    pub names: Vec<String>,
    /// When it begins to be valid.
    pub not_before: Timestamp,
    /// When it ends to be.
    pub not_after: Timestamp,
    /// SHA-256 of it, in hexadecimal digits.
    pub fingerprint: String,
    /// How many certificates there are in all.
    pub chain: usize,
    /// Whether they were given in another order than they are shown to clients in.
    pub reordered: bool,
    /// Whether each is issued by the next.
    pub linked: bool,
}

impl Secret {
    /// Looks into what was fetched. It takes milliseconds, of bundles with many rounds of encryption longer.
    ///
    /// # Errors
    /// [`Unusable`]
    pub fn read(purpose: Purpose, raw: &RawSecret) -> Result<Self, Unusable> {
        check_size(raw)?;
        match (purpose, raw) {
            (Purpose::Certificate, RawSecret::Whole(bytes)) if !pem::is_text(bytes) => {
                bundle(bytes).map(Self::Certificate)
            }
            (Purpose::Certificate, RawSecret::Whole(bytes)) => {
                let contents = pem::parse(bytes).map_err(Unusable::Content)?;
                certificate(contents, None).map(Self::Certificate)
            }
            (Purpose::Certificate, RawSecret::Parts(parts)) => {
                from_parts(parts).map(Self::Certificate)
            }
            (Purpose::Authorities, RawSecret::Whole(bytes)) => {
                authorities(bytes).map(Self::Authorities)
            }
            (Purpose::Authorities, RawSecret::Parts(parts)) => {
                authorities(&parts.certificate).map(Self::Authorities)
            }
            (Purpose::Revocations, RawSecret::Whole(bytes)) => {
                revocations(bytes).map(Self::Revocations)
            }
            (Purpose::Revocations, RawSecret::Parts(_)) => Err(content(
                "it is a certificate and not a list of revoked ones",
            )),
        }
        .map_err(|unusable| match unusable {
            Unusable::Content(sentence) if purpose != Purpose::Certificate => {
                Unusable::Content(format!("{}: {sentence}", expected(purpose)))
            }
            other => other,
        })
    }

    /// What tells this content from another, and gives nothing of it away: of a certificate's key there is nothing in
    /// it but what the certificate says.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let text = match self {
            Self::Certificate(certificate) => &certificate.spec.chain,
            Self::Authorities(pem) | Self::Revocations(pem) => pem,
        };
        Sha256::digest(text.as_bytes()).into()
    }

    /// Roughly how much memory it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Certificate(certificate) => {
                certificate.spec.chain.len() + certificate.spec.key.expose().len()
            }
            Self::Authorities(pem) | Self::Revocations(pem) => pem.len(),
        }
    }

    /// What may be told of it, if it is a certificate.
    #[must_use]
    pub const fn facts(&self) -> Option<&CertificateFacts> {
        match self {
            Self::Certificate(certificate) => Some(&certificate.facts),
            Self::Authorities(_) | Self::Revocations(_) => None,
        }
    }

    /// Lays it among the others.
    pub fn add_to(&self, secrets: &mut Secrets, reference: SecretRef) {
        let (purpose, pem) = match self {
            Self::Certificate(certificate) => {
                secrets.add_certificate(reference, certificate.spec.clone());
                return;
            }
            Self::Authorities(pem) => (Purpose::Authorities, pem),
            Self::Revocations(pem) => (Purpose::Revocations, pem),
        };
        secrets.add_text(Need { purpose, reference }, pem.clone());
    }
}

/// That every list was signed by one of the authorities.
///
/// # Errors
/// [`Unusable`]
pub fn check_issued(revocations: &Secret, authorities: &Secret) -> Result<(), Unusable> {
    let (Secret::Revocations(lists), Secret::Authorities(authorities)) = (revocations, authorities)
    else {
        return Err(content("what is compared is not what it should be"));
    };
    let lists = pem::parse(lists.as_bytes()).map_err(Unusable::Content)?;
    let authorities = pem::parse(authorities.as_bytes()).map_err(Unusable::Content)?;
    let authorities: Vec<X509Certificate<'_>> = authorities
        .certificates
        .iter()
        .filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1))
        .collect();
    for der in &lists.revocations {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| content(&format!("a list of revoked certificates: {error}")))?;
        let issued = authorities.iter().any(|authority| {
            authority.subject() == list.issuer()
                && list.verify_signature(authority.public_key()).is_ok()
        });
        if !issued {
            return Err(content(&format!(
                "the list of revoked certificates by {} was not issued by the authorities it is for",
                list.issuer()
            )));
        }
    }
    Ok(())
}

fn check_size(raw: &RawSecret) -> Result<(), Unusable> {
    let bytes = match raw {
        RawSecret::Whole(bytes) => bytes.len(),
        RawSecret::Parts(parts) => {
            let intermediates = parts.intermediates.as_ref().map_or(0, Vec::len);
            parts.certificate.len() + intermediates + parts.key.len()
        }
    };
    if bytes > SECRET_BYTES_MAX {
        return Err(content(&format!(
            "it has more than {SECRET_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

const fn expected(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Certificate => "a certificate with its key is needed",
        Purpose::Authorities => "certificates of authorities as PEM are needed",
        Purpose::Revocations => "lists of revoked certificates as PEM are needed",
    }
}

fn bundle(bytes: &[u8]) -> Result<Certificate, Unusable> {
    if bytes.len() > BUNDLE_BYTES_MAX {
        let sentence = format!("it has more than {BUNDLE_BYTES_MAX} bytes");
        return Err(Unusable::Bundle(sentence));
    }
    let archive = Pkcs12Archive::from_pkcs12(bytes, "")
        .map_err(|error| Unusable::Bundle(error.to_string()))?;
    let keys = archive.keys.iter().map(|bag| Key {
        format: Format::Pkcs8,
        der: Zeroizing::new(bag.key.as_der().to_vec()),
    });
    let certificates = archive.certs.iter();
    let contents = Contents {
        keys: keys.collect(),
        certificates: certificates.map(|bag| bag.cert.as_der().to_vec()).collect(),
        ..Contents::default()
    };
    certificate(contents, None)
}

fn from_parts(parts: &Parts) -> Result<Certificate, Unusable> {
    let part = |what: &str, bytes: &[u8]| {
        pem::parse(bytes).map_err(|reason| content(&format!("the {what}: {reason}")))
    };
    let mut contents = part("certificate", &parts.certificate)?;
    if let Some(intermediates) = &parts.intermediates {
        let what = "intermediate certificates";
        let intermediates = if pem::is_text(intermediates) {
            part(what, intermediates)?
        } else {
            let certificates = pkcs7::certificates(intermediates)
                .map_err(|reason| content(&format!("the {what}: it is not PEM, and {reason}")))?;
            Contents {
                certificates,
                ..Contents::default()
            }
        };
        contents.certificates.extend(intermediates.certificates);
        contents.others.extend(intermediates.others);
    }
    // The certificate may be in one file with the key.
    contents.keys = part("key", &parts.key)?.keys;
    let passphrase = parts.passphrase.as_ref().map(|text| text.as_slice());
    certificate(contents, passphrase)
}

/// Puts a certificate together, itself first, then those that lead to its authority.
fn certificate(contents: Contents, passphrase: Option<&[u8]>) -> Result<Certificate, Unusable> {
    let Contents {
        certificates: given,
        keys,
        others,
        ..
    } = contents;
    if given.is_empty() {
        let sentence = match others.first() {
            Some(label) => format!("there is no certificate in it, but a {label}"),
            None => "there is no certificate in it".to_owned(),
        };
        return Err(content(&sentence));
    }
    if given.len() > CHAIN_MAX {
        return Err(content(&format!(
            "there are more than {CHAIN_MAX} certificates in it"
        )));
    }
    let mut keys = keys.into_iter();
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return Err(content("there must be one private key in it"));
    };
    let key = open(key, passphrase)?;
    let signer = signer(&key)?;
    let order = order(&given, &signer)?;
    let reordered = !order.iter().copied().eq(0..given.len());
    let chain: Vec<&[u8]> = order
        .iter()
        .filter_map(|position| given.get(*position).map(Vec::as_slice))
        .collect();
    let mut facts = facts(&chain)?;
    facts.reordered = reordered;
    Ok(Certificate {
        spec: CertificateSpec {
            chain: pem::certificates(chain.into_iter()),
            key: PrivateKeyPem::new(pem::key(&key)),
        },
        facts,
    })
}

fn open(key: Key, passphrase: Option<&[u8]>) -> Result<Key, Unusable> {
    match (key.format, passphrase) {
        (Format::Legacy, _) => Err(content(
            "the key is encrypted in an old way that protects nothing; openssl pkcs8 -topk8 writes it anew",
        )),
        (Format::Encrypted, None) => {
            Err(content("the key is encrypted and there is no passphrase"))
        }
        (Format::Encrypted, Some(passphrase)) => {
            let wrong = |error: String| content(&format!("the key cannot be decrypted: {error}"));
            let info = EncryptedPrivateKeyInfoRef::try_from(key.der.as_slice())
                .map_err(|error| wrong(error.to_string()))?;
            if is_endless(&info.encryption_algorithm) {
                return Err(wrong("it would take too long".into()));
            }
            let opened = info
                .decrypt(passphrase)
                .map_err(|error| wrong(error.to_string()))?;
            Ok(Key {
                format: Format::Pkcs8,
                der: Zeroizing::new(opened.as_bytes().to_vec()),
            })
        }
        _ => Ok(key),
    }
}

/// Whether a key is encrypted so that to open it would take more time or memory than any key is worth. How much it takes
/// is for whoever has encrypted it to say.
fn is_endless(encryption: &EncryptionScheme) -> bool {
    match encryption.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(pbkdf2)) => pbkdf2.iteration_count > KEY_ROUNDS_MAX,
        Some(Kdf::Scrypt(scrypt)) => {
            let bytes = scrypt.cost_parameter.checked_mul(SCRYPT_BLOCK_BYTES);
            let effort = [scrypt.block_size, scrypt.parallelization]
                .into_iter()
                .try_fold(bytes.unwrap_or(u64::MAX), |effort, factor| {
                    effort.checked_mul(u64::from(factor))
                });
            effort.is_none_or(|effort| effort > SCRYPT_BYTES_MAX)
        }
        _ => false,
    }
}

fn signer(key: &Key) -> Result<Arc<dyn SigningKey>, Unusable> {
    let der = key.der.to_vec();
    let der = match key.format {
        Format::Pkcs1 => PrivateKeyDer::Pkcs1(der.into()),
        Format::Sec1 => PrivateKeyDer::Sec1(der.into()),
        _ => PrivateKeyDer::Pkcs8(der.into()),
    };
    aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(der)
        .map_err(|_| {
            content(
                "the key cannot be used: RSA of 2048 to 8192 bits, P-256, P-384, P-521 and Ed25519 can",
            )
        })
}

/// In which order they are shown: the one that the key is for, its issuer, that one's issuer; then what is left, which
/// somebody may have a use for.
fn order(given: &[Vec<u8>], signer: &Arc<dyn SigningKey>) -> Result<Vec<usize>, Unusable> {
    let parsed: Vec<X509Certificate<'_>> = given
        .iter()
        .map(|der| {
            X509Certificate::from_der(der)
                .map(|(_, certificate)| certificate)
                .map_err(|error| content(&format!("a certificate cannot be read: {error}")))
        })
        .collect::<Result<_, _>>()?;
    let mut flaw = None;
    let fits = |der: &Vec<u8>| {
        let chain = vec![CertificateDer::from(der.clone())];
        CertifiedKey::new(chain, Arc::clone(signer)).keys_match()
    };
    let leaf = given.iter().position(|der| match fits(der) {
        Ok(()) => true,
        Err(error) => {
            flaw.get_or_insert(error);
            false
        }
    });
    let Some(leaf) = leaf else {
        return Err(match flaw {
            Some(rustls::Error::InvalidCertificate(error)) => {
                content(&format!("the certificate cannot be used: {error}"))
            }
            _ => content("the private key does not fit the certificate"),
        });
    };
    let mut order = vec![leaf];
    let mut last = leaf;
    while let Some(next) = parsed.iter().enumerate().find_map(|(position, one)| {
        let issues = parsed
            .get(last)
            .is_some_and(|last| last.issuer() == one.subject());
        (issues && !order.contains(&position)).then_some(position)
    }) {
        order.push(next);
        last = next;
    }
    order.extend(
        (0..given.len())
            .filter(|position| !order.contains(position))
            .collect::<Vec<_>>(),
    );
    Ok(order)
}

fn facts(chain: &[&[u8]]) -> Result<CertificateFacts, Unusable> {
    let parsed: Vec<X509Certificate<'_>> = chain
        .iter()
        .filter_map(|der| Some(X509Certificate::from_der(der).ok()?.1))
        .collect();
    let (Some(leaf), Some(der)) = (parsed.first(), chain.first()) else {
        return Err(content("there is no certificate in it"));
    };
    let moment = |seconds: i64| {
        Timestamp::from_second(seconds)
            .map_err(|error| content(&format!("a time in the certificate: {error}")))
    };
    let alternatives = leaf.subject_alternative_name().ok().flatten();
    let names = alternatives
        .map(|extension| {
            extension
                .value
                .general_names
                .iter()
                .filter_map(name)
                .collect()
        })
        .unwrap_or_default();
    let linked = parsed
        .iter()
        .zip(parsed.iter().skip(1))
        .all(|(one, next)| one.issuer() == next.subject());
    Ok(CertificateFacts {
        subject: leaf.subject().to_string(),
        issuer: leaf.issuer().to_string(),
        names,
        not_before: moment(leaf.validity().not_before.timestamp())?,
        not_after: moment(leaf.validity().not_after.timestamp())?,
        fingerprint: hex(&Sha256::digest(der)),
        chain: chain.len(),
        reordered: false,
        linked,
    })
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            if let Ok(four) = <[u8; 4]>::try_from(*bytes) {
                return Some(std::net::Ipv4Addr::from(four).to_string());
            }
            let sixteen = <[u8; 16]>::try_from(*bytes).ok()?;
            Some(std::net::Ipv6Addr::from(sixteen).to_string())
        }
        _ => None,
    }
}

fn authorities(bytes: &[u8]) -> Result<String, Unusable> {
    let contents = pem::parse(bytes).map_err(Unusable::Content)?;
    let all = contents.certificates;
    if all.is_empty() {
        return Err(content("there is none in it"));
    }
    if all.len() > AUTHORITIES_MAX {
        return Err(content(&format!(
            "there are more than {AUTHORITIES_MAX} in it"
        )));
    }
    let mut roots = RootCertStore::empty();
    for der in &all {
        roots
            .add(CertificateDer::from(der.clone()))
            .map_err(|error| content(&error.to_string()))?;
    }
    Ok(pem::certificates(all.iter().map(Vec::as_slice)))
}

fn revocations(bytes: &[u8]) -> Result<String, Unusable> {
    let contents = pem::parse(bytes).map_err(Unusable::Content)?;
    let all = contents.revocations;
    if all.is_empty() {
        return Err(content("there is none in it"));
    }
    if all.len() > AUTHORITIES_MAX {
        return Err(content(&format!(
            "there are more than {AUTHORITIES_MAX} in it"
        )));
    }
    for der in &all {
        let list = CertificateRevocationListDer::from(der.clone());
        webpki::OwnedCertRevocationList::from_der(list.as_ref())
            .map_err(|error| content(&format!("one cannot be read: {error:?}")))?;
    }
    Ok(pem::revocations(all.iter().map(Vec::as_slice)))
}

fn content(sentence: &str) -> Unusable {
    Unusable::Content(sentence.to_owned())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Certificates of one chain: more than any leads through, few enough to be sent in each handshake.
const CHAIN_MAX: usize = 16;
/// Authorities, or lists of revoked certificates, in one secret: those of a whole operating system are a few hundred.
const AUTHORITIES_MAX: usize = 1_000;
/// A bundle of a chain and a key has some thousand bytes. What is encrypted costs time by its size.
const BUNDLE_BYTES_MAX: usize = 128 * 1024;
/// Rounds of encryption of a key: several times of what is recommended, and about a second.
const KEY_ROUNDS_MAX: u32 = 4_000_000;
/// What scrypt goes through, in memory or one after the other: several times of what is recommended.
const SCRYPT_BYTES_MAX: u64 = 512 << 20;
/// RFC 7914 section 2.
const SCRYPT_BLOCK_BYTES: u64 = 128;

#[cfg(test)]
mod tests;
