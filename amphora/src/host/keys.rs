//! Keys that are made here and stay here.

use rcgen::{CertificateParams, DnType, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject};
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
    fn a_key_is_read_as_it_was_made() {
        let key = Key::make().unwrap();
        let again = Key::read(key.pem()).unwrap();
        assert_eq!(again.pair.public_key_raw(), key.pair.public_key_raw());
        assert!(again.request_pem().unwrap().contains("CERTIFICATE REQUEST"));
        assert!(Key::read("x").is_err());
    }
}
