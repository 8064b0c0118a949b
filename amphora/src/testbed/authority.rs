//! Authorities of tests: they issue certificates, and take them back.

use krater_amphora_api::{
    AlpnProtocol, CertificateSpec, CipherSuite, ListenerTlsSpec, PrivateKeyPem, TlsVersion,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

/// One that signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate for those names, the first of which it is called by.
    pub(crate) fn issue(&self, names: &[&str]) -> CertificateSpec {
        self.issue_as(1, names, |_| {})
    }

    /// The same with a serial number and whatever else.
    pub(crate) fn issue_as(
        &self,
        serial: u64,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateSpec {
        let key = KeyPair::generate().unwrap();
        let all: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).unwrap();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        CertificateSpec {
            chain: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: PrivateKeyPem::new(key.serialize_pem()),
        }
    }

    /// A list of the certificates with those serial numbers, good until the end of that year.
    pub(crate) fn revoke(&self, serials: &[u64], year: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: Some(RevocationReason::KeyCompromise),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(year, 12, 31),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// TLS that shows this certificate, and speaks all there is.
pub(crate) fn tls(certificate: CertificateSpec) -> ListenerTlsSpec {
    ListenerTlsSpec {
        default_certificate: Some(certificate),
        sni_certificates: vec![],
        clients: None,
        versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
        cipher_suites: CipherSuite::ALL.to_vec(),
        alpn: vec![AlpnProtocol::Http11, AlpnProtocol::Http10],
    }
}
