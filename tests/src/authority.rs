//! Authorities of tests: they issue certificates, and take them back.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevocationReason,
    RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use serde_json::{Value, json};

/// One that signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub chain: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// One of that name.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for those names, the first of which it is called by.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_as(1, names, |_| {})
    }

    /// The same with a serial number and whatever else.
    pub fn issue_as(
        &self,
        serial: u64,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        self.issue_for(&PKCS_ECDSA_P256_SHA256, serial, names, change)
    }

    /// The same for a key of that kind.
    pub fn issue_for(
        &self,
        kind: &'static SignatureAlgorithm,
        serial: u64,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Issued {
        let key = KeyPair::generate_for(kind).expect("a key");
        let all: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).expect("names");
        let first = names.first().copied().unwrap_or_default();
        params.distinguished_name.push(DnType::CommonName, first);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer);
        Issued {
            chain: certificate.expect("a certificate").pem(),
            key: key.serialize_pem(),
        }
    }

    /// A list of the certificates with those serial numbers, good for decades.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a list");
        list.pem().expect("PEM")
    }
}

impl Issued {
    /// As the data plane is told.
    pub fn spec(&self) -> Value {
        json!({"chain": self.chain, "key": self.key})
    }
}
