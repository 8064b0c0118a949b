use krater_amphora_api::{CertificateSpec, CipherSuite, PrivateKeyPem, TlsVersion};
use rcgen::{CertificateParams, KeyPair};

use super::*;

fn pair(name: &str) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key)
}

fn spec(chain: impl Into<String>, key: impl Into<String>) -> CertificateSpec {
    CertificateSpec {
        chain: chain.into(),
        key: PrivateKeyPem::new(key.into()),
    }
}

#[test]
fn a_certificate_and_its_key_are_taken() {
    let (chain, key) = pair("a.example");
    let taken = certified_key(&spec(&chain, key.serialize_pem())).unwrap();
    assert_eq!(taken.cert.len(), 1);
    let (other, _) = pair("b.example");
    let taken = certified_key(&spec(chain + &other, key.serialize_pem())).unwrap();
    assert_eq!(taken.cert.len(), 2);
}

#[test]
fn what_is_no_pair_is_refused_with_the_reason_and_without_the_key() {
    let (chain, key) = pair("a.example");
    let (other, other_key) = pair("b.example");
    let key = key.serialize_pem();
    let cut = key.lines().take(2).collect::<Vec<_>>().join("\n");
    let garbled = key.replace("MIG", "!!!");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cases = [
        (spec("", &key), "the chain holds no certificate"),
        (spec("nonsense", &key), "the chain holds no certificate"),
        (
            spec(hollow, &key),
            "the first certificate of the chain is no X.509 certificate",
        ),
        (
            spec(chain.clone() + hollow, &key),
            "certificate 2 of the chain is no X.509 certificate",
        ),
        (
            spec(&chain, ""),
            "there is no private key in what is given as one",
        ),
        (spec(&chain, encrypted), "the private key is encrypted"),
        (
            spec(&chain, cut),
            "the private key cannot be read as PEM: a section has no end",
        ),
        (
            spec(&chain, garbled),
            "the private key cannot be read as PEM: it is not base64",
        ),
        (
            spec(&chain, other_key.serialize_pem()),
            "the private key is not that of the first certificate of the chain",
        ),
        (
            spec(other + &chain, &key),
            "the private key is not that of the first certificate of the chain",
        ),
    ];
    for (spec, reason) in cases {
        assert_eq!(certified_key(&spec).unwrap_err(), reason);
    }
    let unusable = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let reason = certified_key(&spec(&chain, unusable)).unwrap_err();
    assert!(
        reason.starts_with("the private key cannot be used: ") && !reason.contains("AAAA"),
        "{reason}"
    );
}

#[test]
fn authorities_and_revocations_that_are_none_are_refused() {
    let (authority, _) = pair("ca.example");
    assert_eq!(
        authorities(&(authority.clone() + &authority))
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        authorities("").unwrap_err(),
        "the authorities hold no certificate"
    );
    let hollow = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let reason = authorities(&(authority.clone() + hollow)).unwrap_err();
    assert!(
        reason.starts_with("certificate 2 of the authorities cannot be used: "),
        "{reason}"
    );
    assert_eq!(
        revocations(&authority).unwrap_err(),
        "the revocation list holds none"
    );
}

#[test]
fn suites_and_versions_keep_their_order_and_nothing_is_added() {
    for suite in CipherSuite::ALL {
        let provider = provider(&[suite]);
        let [taken] = provider.cipher_suites[..] else {
            panic!("{suite:?} is not one suite");
        };
        // The names of TLS 1.3 lack a word in IANA's registry that rustls adds.
        let named = serde_json::to_value(suite).unwrap();
        let named = named.as_str().unwrap().replace("TLS_", "");
        assert!(format!("{:?}", taken.suite()).ends_with(&named));
        let version = match suite.version() {
            TlsVersion::Tls12 => &TLS12,
            TlsVersion::Tls13 => &TLS13,
        };
        assert_eq!(versions(&[suite.version()]), [version]);
        assert_eq!(taken.version(), version);
    }
    let order = [CipherSuite::ChaCha20, CipherSuite::Aes128Gcm];
    let taken = provider(&order).cipher_suites.clone();
    assert_eq!(
        taken,
        [
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_128_GCM_SHA256
        ]
    );
    assert_eq!(alpn(AlpnProtocol::H2), b"h2");
}
