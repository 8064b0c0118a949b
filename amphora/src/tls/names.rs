//! Which certificate is for which name.

use std::sync::Arc;

use hashbrown::HashMap;
use rustls::{SignatureScheme, sign::CertifiedKey};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// Certificates by the names that they are for: one look-up for a name, one for the wildcard above it.
#[derive(Debug, Default)]
pub(super) struct Names {
    exact: HashMap<String, Certificates>,
    /// By what follows the first label.
    wildcards: HashMap<String, Certificates>,
    default: Option<Arc<CertifiedKey>>,
}

/// Those for one name: of one kind of key each, if somebody wants it that way.
type Certificates = Vec<Arc<CertifiedKey>>;

impl Names {
    /// Those of `certificates` by their names, the first ones first, and one for whoever asks for none of the names.
    pub(super) fn new(
        certificates: Vec<Arc<CertifiedKey>>,
        default: Option<Arc<CertifiedKey>>,
    ) -> Self {
        let mut names = Self::default();
        for certificate in certificates.iter().chain(&default) {
            names.add(certificate);
        }
        names.default = default;
        names
    }

    fn add(&mut self, certificate: &Arc<CertifiedKey>) {
        for name in certificate
            .cert
            .first()
            .map(|der| names_in(der))
            .into_iter()
            .flatten()
        {
            let (names, name) = match name.strip_prefix("*.") {
                Some(above) => (&mut self.wildcards, above),
                None => (&mut self.exact, name.as_str()),
            };
            let known = names.entry_ref(name).or_default();
            // A name may be in a certificate twice, as its common name and among the others.
            if !known.iter().any(|other| Arc::ptr_eq(other, certificate)) {
                known.push(Arc::clone(certificate));
            }
        }
    }

    /// The certificate for a client that asks for `name` and can judge those signatures. A name of its own comes before
    /// a wildcard.
    pub(super) fn find(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let named = name.and_then(|name| self.named(name));
        match named {
            Some(certificates) => certificates
                .iter()
                .find(|certificate| certificate.key.choose_scheme(schemes).is_some())
                .or_else(|| certificates.first()),
            None => self.default.as_ref(),
        }
    }

    fn named(&self, name: &str) -> Option<&Certificates> {
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            lower.as_str()
        } else {
            name
        };
        self.exact.get(name).or_else(|| {
            let (_, above) = name.split_once('.')?;
            self.wildcards.get(above)
        })
    }
}

/// The host names that a certificate is for, in lower case: its alternative names and its common name, as HAProxy has
/// it.
fn names_in(certificate: &[u8]) -> Vec<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return Vec::new();
    };
    let alternative = parsed.subject_alternative_name().ok().flatten();
    let alternative = alternative
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        });
    let subject = parsed.subject();
    let common = subject
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    alternative
        .chain(common)
        .filter_map(|name| {
            let name = name.strip_suffix('.').unwrap_or(name);
            is_host_name(name).then(|| name.to_ascii_lowercase())
        })
        .collect()
}

/// Whether a client could ask for it, or for what is below its wildcard.
fn is_host_name(name: &str) -> bool {
    let plain = name.strip_prefix("*.").unwrap_or(name);
    !plain.is_empty()
        && plain.len() <= HOST_NAME_BYTES_MAX
        && plain
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

/// RFC 1035 section 2.3.4.
const HOST_NAME_BYTES_MAX: usize = 253;

#[cfg(test)]
mod tests {
    use krater_amphora_api::{CertificateSpec, PrivateKeyPem};
    use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;
    use crate::tls::material::certified_key;

    fn certificate(
        common: &str,
        names: &[&str],
        kind: &'static rcgen::SignatureAlgorithm,
    ) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(kind).unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        let spec = CertificateSpec {
            chain: params.self_signed(&key).unwrap().pem(),
            key: PrivateKeyPem::new(key.serialize_pem()),
        };
        certified_key(&spec).unwrap()
    }

    #[test]
    fn a_name_of_its_own_comes_before_a_wildcard_and_a_wildcard_is_for_one_label() {
        let of = |common, names: &[&str]| certificate(common, names, &PKCS_ECDSA_P256_SHA256);
        let exact = of("First.Example", &["www.example.org", "b.example.org"]);
        let wild = of("nobody at all", &["*.Example.org", "192.0.2.1"]);
        let later = of("", &["b.example.org", "c.example.net"]);
        let default = of("default.example.org", &[]);
        let names = Names::new(
            vec![Arc::clone(&exact), Arc::clone(&wild), Arc::clone(&later)],
            Some(Arc::clone(&default)),
        );
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        for (name, expected) in [
            (Some("www.example.org"), &exact),
            (Some("WWW.example.ORG"), &exact),
            (Some("first.example"), &exact),
            (Some("b.example.org"), &exact),
            (Some("other.example.org"), &wild),
            (Some("c.example.net"), &later),
            (Some("default.example.org"), &default),
            (Some("a.b.example.org"), &default),
            (Some("example.org"), &default),
            (Some("192.0.2.1"), &default),
            (Some("stranger.example"), &default),
            (None, &default),
        ] {
            let found = names.find(name, &schemes).unwrap();
            assert!(Arc::ptr_eq(found, expected), "{name:?}");
        }
        let without_default = Names::new(vec![exact], None);
        assert!(
            without_default
                .find(Some("stranger.example"), &schemes)
                .is_none()
        );
        assert!(without_default.find(None, &schemes).is_none());
    }

    #[test]
    fn of_two_kinds_of_keys_the_client_gets_the_first_one_that_it_can_judge() {
        let first = certificate("a.example", &["a.example"], &PKCS_ED25519);
        let second = certificate("a.example", &["a.example"], &PKCS_ECDSA_P256_SHA256);
        let names = Names::new(vec![Arc::clone(&first), Arc::clone(&second)], None);
        for (schemes, expected) in [
            (
                &[
                    SignatureScheme::ECDSA_NISTP256_SHA256,
                    SignatureScheme::ED25519,
                ][..],
                &first,
            ),
            (&[SignatureScheme::ECDSA_NISTP256_SHA256], &second),
            (&[SignatureScheme::RSA_PSS_SHA256], &first),
        ] {
            let found = names.find(Some("a.example"), schemes).unwrap();
            assert!(Arc::ptr_eq(found, expected), "{schemes:?}");
        }
    }
}
