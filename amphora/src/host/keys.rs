//! Keys that are made here and stay here.

use krater_amphora_api::{AmphoraId, ShownPapers};
use krater_amphora_process::Papers;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use sha2::{Digest, Sha256};
use x509_parser::prelude::FromDer;

/// A private key. It has no `Debug` (I13).
pub(crate) struct Key {
    pair: KeyPair,
    pem: String,
}

impl Key {
    /// Makes one.
    pub(crate) fn make() -> Result<Self, rcgen::Error> {
        let pair = KeyPair::generate()?;
        let pem = pair.serialize_pem();
        Ok(Self { pair, pem })
    }

    /// Reads one.
    pub(crate) fn read(pem: &str) -> Result<Self, rcgen::Error> {
        Ok(Self {
            pair: KeyPair::from_pem(pem)?,
            pem: pem.to_owned(),
        })
    }

    /// The key itself.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A request for a certificate for it (PKCS#10, PEM), which says nothing of whose it is: that is not for us to say.
    pub(crate) fn request_pem(&self) -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "krater host");
        params.serialize_request(&self.pair)?.pem()
    }
}

/// From when to when a certificate is good, in seconds since the epoch.
pub(crate) fn validity(certificate_pem: &str) -> Option<(i64, i64)> {
    let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
    let validity = parsed.validity();
    Some((
        validity.not_before.timestamp(),
        validity.not_after.timestamp(),
    ))
}

/// Whether a key is the one of a certificate.
pub(crate) fn fit(papers: &Papers) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(papers.certificate_pem.as_bytes()) else {
        return false;
    };
    let (Ok((_, parsed)), Ok(key)) = (
        x509_parser::certificate::X509Certificate::from_der(&der),
        KeyPair::from_pem(&papers.key_pem),
    ) else {
        return false;
    };
    *parsed.public_key().subject_public_key.data == *key.public_key_raw()
}

/// What somebody shows and trusts, as controllers ask for it.
pub(crate) fn shown(
    amphora: Option<AmphoraId>,
    certificate_pem: &str,
    authority_pem: &str,
) -> ShownPapers {
    let authorities = CertificateDer::pem_slice_iter(authority_pem.as_bytes()).flatten();
    ShownPapers {
        amphora,
        certificate_pem: certificate_pem.to_owned(),
        trusted: authorities.map(|one| fingerprint(&one)).collect(),
    }
}

/// What tells a certificate from all others: SHA-256 of it, hexadecimal.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = Sha256::digest(certificate);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a third of its time or less is left, so that another should be asked for.
pub(crate) const fn is_due((from, to): (i64, i64), now: i64) -> bool {
    (to - now).saturating_mul(3) <= to - from
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_due_when_a_third_of_its_time_is_left() {
        for (now, due) in [(0, false), (199, false), (200, true), (400, true)] {
            assert_eq!(is_due((0, 300), now), due, "{now}");
        }
    }

    #[test]
    fn a_pair_fits_or_does_not() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let papers = |key: &KeyPair| Papers {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        };
        assert!(fit(&papers(&key)));
        assert!(!fit(&papers(&other)));
        let unreadable = Papers {
            certificate_pem: "x".to_owned(),
            ..papers(&key)
        };
        assert!(!fit(&unreadable));
    }

    #[test]
    fn what_is_shown_names_all_that_are_trusted() {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let pem = certificate.pem();
        let shown = shown(None, &pem, &format!("{pem}{pem}"));
        let print = fingerprint(certificate.der());
        assert_eq!(shown.trusted, [print.clone(), print]);
        assert_eq!(shown.certificate_pem, pem);
    }

    #[test]
    fn a_key_is_read_as_it_was_made() {
        let key = Key::make().unwrap();
        let again = Key::read(key.pem()).unwrap();
        assert_eq!(again.pair.public_key_raw(), key.pair.public_key_raw());
        assert!(again.request_pem().unwrap().contains("CERTIFICATE REQUEST"));
        assert!(Key::read("x").is_err());
    }
}
