//! One authority after another. In between both are trusted, so that nobody is cut off.
//!
//! As it rests: the certificate and the key that sign; then, once the next one is announced, its certificate and key; or,
//! once that one signs, the certificate of the former one without a key.

use std::path::Path;

use jiff::Timestamp;
use krater_amphora_api::ShownPapers;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::{Identity, KEY_HEADER, PkiError, make_authority, parse, request::hexadecimal};

/// Who signs, and who is trusted beside.
pub(crate) struct Succession {
    pub(super) signing: Identity,
    pub(super) issuer: Issuer<'static, KeyPair>,
    beside: Beside,
}

/// Who is trusted beside the one that signs.
enum Beside {
    Nobody,
    /// It will sign.
    Next(Identity),
    /// It has signed.
    Former(String),
}

/// How far a succession is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// One authority signs and is trusted.
    Settled,
    /// Another one is trusted beside it.
    Announced,
    /// That one signs, and the former one is trusted still.
    Switched,
}

impl Succession {
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, PkiError> {
        let malformed = |reason: String| PkiError::Malformed {
            path: path.to_owned(),
            reason,
        };
        // Each part begins with a certificate.
        let starts: Vec<usize> = text
            .match_indices(CERTIFICATE_HEADER)
            .map(|(at, _)| at)
            .collect();
        let part = |number: usize| {
            let from = *starts.get(number)?;
            let to = starts.get(number + 1).copied().unwrap_or(text.len());
            text.get(from..to)
        };
        let signing = part(0).ok_or_else(|| malformed("it holds no certificate".to_owned()))?;
        let signing = parse(signing, path)?;
        let beside = match part(1) {
            None => Beside::Nobody,
            Some(text) if text.contains(KEY_HEADER) => Beside::Next(parse(text, path)?),
            Some(text) => Beside::Former(text.to_owned()),
        };
        if starts.len() > 2 {
            return Err(malformed("it holds more than two authorities".to_owned()));
        }
        let failed = |error: rcgen::Error| malformed(error.to_string());
        let key = KeyPair::from_pem(&signing.key_pem).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&signing.certificate_pem, key).map_err(failed)?;
        Ok(Self {
            signing,
            issuer,
            beside,
        })
    }

    pub(crate) const fn phase(&self) -> Phase {
        match self.beside {
            Beside::Nobody => Phase::Settled,
            Beside::Next(_) => Phase::Announced,
            Beside::Former(_) => Phase::Switched,
        }
    }

    /// The next phase, as it rests.
    pub(crate) fn advanced(&self, now: Timestamp) -> Result<Zeroizing<String>, PkiError> {
        let mut text = self.signing.text();
        match &self.beside {
            Beside::Nobody => text.push_str(&make_authority(now)?.text()),
            Beside::Next(next) => {
                text = next.text();
                text.push_str(&self.signing.certificate_pem);
            }
            Beside::Former(_) => {}
        }
        Ok(text)
    }

    /// All that are trusted, PEM, the one that signs first.
    pub(crate) fn trusted_pem(&self) -> String {
        self.trusted().concat()
    }

    /// All that are trusted: fingerprint, and whether it signs.
    pub(crate) fn fingerprints(&self) -> Vec<(String, bool)> {
        let trusted = self.trusted().into_iter().enumerate();
        trusted
            .map(|(number, pem)| (fingerprint(pem), number == 0))
            .collect()
    }

    /// Whether a certificate was signed by the authority that signs at present.
    pub(super) fn has_signed(&self, certificate_pem: &str) -> bool {
        let (Ok(own), Ok(theirs)) = (
            CertificateDer::from_pem_slice(self.signing.certificate_pem.as_bytes()),
            CertificateDer::from_pem_slice(certificate_pem.as_bytes()),
        ) else {
            return false;
        };
        let (Ok((_, own)), Ok((_, theirs))) = (
            X509Certificate::from_der(&own),
            X509Certificate::from_der(&theirs),
        ) else {
            return false;
        };
        theirs.verify_signature(Some(own.public_key())).is_ok()
    }

    /// Whether a host and all its amphorae have followed: what they show is signed by the one that signs, and they trust
    /// all that are trusted. Whoever certified them may have been a controller that had not followed itself.
    pub(crate) fn is_followed_by(&self, shown: &[ShownPapers]) -> bool {
        let fingerprints = self.fingerprints();
        let is_own = |papers: &ShownPapers| papers.amphora.is_none();
        shown.iter().any(is_own)
            && shown.iter().all(|papers| {
                let trusts = |(print, _): &(String, bool)| papers.trusted.contains(print);
                fingerprints.iter().all(trusts) && self.has_signed(&papers.certificate_pem)
            })
    }

    fn trusted(&self) -> Vec<&str> {
        let beside = match &self.beside {
            Beside::Nobody => None,
            Beside::Next(next) => Some(next.certificate_pem.as_str()),
            Beside::Former(pem) => Some(pem.as_str()),
        };
        let signing = self.signing.certificate_pem.as_str();
        [Some(signing), beside].into_iter().flatten().collect()
    }
}

impl Phase {
    /// As it is shown.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Announced => "announced",
            Self::Switched => "switched",
        }
    }
}

/// What tells a certificate from all others: SHA-256 of it, hexadecimal.
pub(super) fn fingerprint(pem: &str) -> String {
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    // It was read when the authority was opened.
    der.map(|der| hexadecimal(&Sha256::digest(&der)))
        .unwrap_or_default()
}

const CERTIFICATE_HEADER: &str = "-----BEGIN CERTIFICATE-----";

#[cfg(test)]
mod tests {
    use krater_amphora_api::AmphoraId;
    use uuid::Uuid;

    use super::*;
    use crate::{clock, pki::Authority};

    #[test]
    fn one_authority_follows_another_and_what_both_signed_is_trusted_in_between() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), clock::now()).unwrap();
        let first = authority.present().fingerprints();
        let mut phases = Vec::new();
        let certificate = || authority.controller(clock::now()).unwrap().certificate_pem;
        let mut certificates = vec![certificate()];
        for _ in 0..3 {
            let text = authority.present().advanced(clock::now()).unwrap();
            authority.keep(&text).unwrap();
            authority.take(&text).unwrap();
            let present = authority.present();
            phases.push((present.phase(), present.fingerprints().len()));
            certificates.push(certificate());
            // What rests there is read back as the same.
            let again = Authority::open(folder.path(), clock::now()).unwrap();
            assert_eq!(again.certificate_pem(), authority.certificate_pem());
        }
        let expected = [
            (Phase::Announced, 2),
            (Phase::Switched, 2),
            (Phase::Settled, 1),
        ];
        assert_eq!(phases, expected);
        assert_ne!(authority.present().fingerprints(), first);
        // A certificate is issued anew when another authority signs, and not before.
        assert_eq!(certificates[0], certificates[1]);
        assert_ne!(certificates[1], certificates[2]);
        assert_eq!(certificates[2], certificates[3]);
    }

    #[test]
    fn a_host_has_followed_when_all_that_it_shows_is_signed_and_trusted_as_it_is_now() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), clock::now()).unwrap();
        let papers = |amphora: Option<u128>, trusted: &[(String, bool)]| ShownPapers {
            amphora: amphora.map(|number| AmphoraId::new(Uuid::from_u128(number))),
            // Of whoever it says it is: what counts here is who signed it.
            certificate_pem: authority.controller(clock::now()).unwrap().certificate_pem,
            trusted: trusted.iter().map(|(print, _)| print.clone()).collect(),
        };
        let advance = || {
            let text = authority.present().advanced(clock::now()).unwrap();
            authority.take(&text).unwrap();
            authority.present()
        };
        let former = authority.present().fingerprints();
        let announced = advance();
        let both = announced.fingerprints();
        assert!(announced.is_followed_by(&[papers(None, &both), papers(Some(1), &both)]));
        assert!(!announced.is_followed_by(&[papers(None, &both), papers(Some(1), &former)]));
        assert!(!announced.is_followed_by(&[papers(Some(1), &both)]));
        // Certified by a controller that had not heard yet that another authority signs.
        let late = [papers(None, &both), papers(Some(1), &both)];
        let switched = advance();
        assert!(!switched.is_followed_by(&late));
        let mixed = [papers(None, &both), late[1].clone()];
        assert!(!switched.is_followed_by(&mixed));
        assert!(switched.is_followed_by(&[papers(None, &both), papers(Some(1), &both)]));
    }
}
