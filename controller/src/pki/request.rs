//! Certificates for keys that were made elsewhere and stay there: hosts', and those of the amphorae that run on them.

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, HostId};
use rcgen::{CertificateSigningRequestParams, PublicKeyData as _};
use sha2::{Digest as _, Sha256};

use super::{
    AMPHORA_URI, Authority, HOST_URI, IDENTITY_LIFETIME, PkiError, Validity, amphora_dns, host_dns,
    identity_params, succession::fingerprint,
};

/// A request for a certificate whose sender has the key: its signature was verified.
pub(crate) struct Request(CertificateSigningRequestParams);

impl Request {
    /// Reads a request (PKCS#10, PEM). Nothing of it is used but the key.
    pub(crate) fn parse(text: &str) -> Result<Self, PkiError> {
        CertificateSigningRequestParams::from_pem(text)
            .map(Self)
            .map_err(PkiError::Request)
    }

    /// A number that tells its key from all others, hexadecimal.
    pub(crate) fn key_digest(&self) -> String {
        hexadecimal(&Sha256::digest(self.0.public_key.der_bytes()))
    }
}

impl Authority {
    /// A certificate for the host, PEM.
    pub(crate) fn certify_host(
        &self,
        id: HostId,
        request: &Request,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        self.certify(&format!("{HOST_URI}{id}"), &host_dns(id), request, now)
    }

    /// A certificate for the amphora, PEM.
    pub(crate) fn certify_amphora(
        &self,
        id: AmphoraId,
        request: &Request,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        self.certify(
            &format!("{AMPHORA_URI}{id}"),
            &amphora_dns(id),
            request,
            now,
        )
    }

    /// What tells the certificate of the authority that signs from all others: SHA-256 of it, hexadecimal.
    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(&self.present().signing.certificate_pem)
    }

    fn certify(
        &self,
        uri: &str,
        dns: &str,
        request: &Request,
        now: Timestamp,
    ) -> Result<String, PkiError> {
        let failed = |source| PkiError::Issue {
            subject: uri.to_owned(),
            source,
        };
        let validity = Validity::starting(now, IDENTITY_LIFETIME);
        let params = identity_params(uri, dns, validity).map_err(failed)?;
        let certificate = params.signed_by(&request.0.public_key, &self.present().issuer);
        Ok(certificate.map_err(failed)?.pem())
    }
}

/// Bytes as text.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    use uuid::Uuid;

    use super::*;
    use crate::{
        clock,
        pki::{Bearer, bearer_of},
    };

    #[test]
    fn a_request_gets_a_certificate_for_its_key_with_no_names_but_those_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path(), clock::now()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI("krater:controller".try_into().unwrap())];
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let request = Request::parse(&request).unwrap();
        let id = HostId::new(Uuid::from_u128(7));
        let pem = authority.certify_host(id, &request, clock::now()).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        assert_eq!(bearer_of(&der), Some(Bearer::Host(id)));
        let (_, read) = x509_parser::parse_x509_certificate(&der).unwrap();
        let names = read.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names.len(), 2);
        assert!(!format!("{:?}", names.value).contains("controller"));
        assert_eq!(
            read.public_key().subject_public_key.data.as_ref(),
            key.public_key_raw()
        );
        let other = CertificateParams::default();
        let other = other
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap();
        let other = Request::parse(&other.pem().unwrap()).unwrap();
        assert_ne!(other.key_digest(), request.key_digest());
    }

    #[test]
    fn what_is_no_request_or_not_signed_by_its_own_key_is_refused() {
        assert!(Request::parse("").is_err());
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::default()
            .serialize_request(&key)
            .unwrap();
        let mut der = request.der().to_vec();
        *der.last_mut().unwrap() ^= 1;
        let text = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
        assert!(Request::parse(&text).is_err());
    }
}
