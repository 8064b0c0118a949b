//! TLS as it travels: what a listener ends, what is spoken to members.

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::PrivateKeyPem;

/// TLS that ends at a listener (API reference 19.9).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerTlsSpec {
    /// Shown to whoever asks for no name, or for one that no other certificate is for. Without one such a handshake is
    /// refused.
    #[serde(default)]
    pub default_certificate: Option<CertificateSpec>,
    /// Shown to who asks for a name that they are for; the first that fits.
    #[serde(default)]
    pub sni_certificates: Vec<CertificateSpec>,
    /// Which clients have to say who they are; none when absent.
    #[serde(default)]
    pub clients: Option<ClientCertificatesSpec>,
    /// The versions spoken, at least one.
    pub versions: Vec<TlsVersion>,
    /// The suites spoken, by preference, at least one for each version.
    pub cipher_suites: Vec<CipherSuite>,
    /// What may be spoken inside, by preference; what is not said by ALPN is HTTP/1.1.
    #[serde(default)]
    pub alpn: Vec<AlpnProtocol>,
}

/// TLS spoken to the members of a pool (API reference 19.10). The name asked for is the one that the client asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolTlsSpec {
    /// Shown to members that ask for one.
    #[serde(default)]
    pub certificate: Option<CertificateSpec>,
    /// Who may have signed the certificates of members, as PEM; whatever they show is taken when absent.
    #[serde(default)]
    pub authorities: Option<String>,
    /// Certificates of members that are revoked, as PEM; only with `authorities`.
    #[serde(default)]
    pub revoked: Option<String>,
    /// The versions spoken, at least one.
    pub versions: Vec<TlsVersion>,
    /// The suites spoken, by preference, at least one for each version.
    pub cipher_suites: Vec<CipherSuite>,
    /// What is offered to be spoken inside; HTTP/1.1 when empty.
    #[serde(default)]
    pub alpn: Vec<AlpnProtocol>,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateSpec {
    /// The certificate and those that lead to its authority, in this order, as PEM.
    pub chain: String,
    /// Its key.
    pub key: PrivateKeyPem,
}

/// Which clients have to say who they are, and who vouches for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificatesSpec {
    /// `false`: clients without a certificate are let in; a bad one is refused all the same.
    pub required: bool,
    /// Who may have signed them, as PEM.
    pub authorities: String,
    /// Those that are revoked, as PEM.
    #[serde(default)]
    pub revoked: Option<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// TLS 1.2
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}

/// A cipher suite, by its name in the registry of IANA. All of them have forward secrecy and authenticate what they
/// encrypt; there are no others here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CipherSuite {
    /// TLS 1.3
    #[serde(rename = "TLS_AES_128_GCM_SHA256")]
    Aes128Gcm,
    /// TLS 1.3
    #[serde(rename = "TLS_AES_256_GCM_SHA384")]
    Aes256Gcm,
    /// TLS 1.3
    #[serde(rename = "TLS_CHACHA20_POLY1305_SHA256")]
    ChaCha20,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")]
    EcdsaAes128Gcm,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384")]
    EcdsaAes256Gcm,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256")]
    EcdsaChaCha20,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")]
    RsaAes128Gcm,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384")]
    RsaAes256Gcm,
    /// TLS 1.2
    #[serde(rename = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256")]
    RsaChaCha20,
}

impl CipherSuite {
    /// All of them, by the preference of most deployments.
    pub const ALL: [Self; 9] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::ChaCha20,
        Self::EcdsaAes128Gcm,
        Self::RsaAes128Gcm,
        Self::EcdsaAes256Gcm,
        Self::RsaAes256Gcm,
        Self::EcdsaChaCha20,
        Self::RsaChaCha20,
    ];

    /// The version it belongs to.
    #[must_use]
    pub const fn version(self) -> TlsVersion {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm | Self::ChaCha20 => TlsVersion::Tls13,
            Self::EcdsaAes128Gcm
            | Self::EcdsaAes256Gcm
            | Self::EcdsaChaCha20
            | Self::RsaAes128Gcm
            | Self::RsaAes256Gcm
            | Self::RsaChaCha20 => TlsVersion::Tls12,
        }
    }
}

/// What is spoken inside TLS, as ALPN names it (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AlpnProtocol {
    /// HTTP/2
    #[serde(rename = "h2")]
    H2,
    /// HTTP/1.1
    #[serde(rename = "http/1.1")]
    Http11,
    /// HTTP/1.0
    #[serde(rename = "http/1.0")]
    Http10,
}

/// The header that tells browsers to come by TLS alone from now on (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HstsSpec {
    /// For how long, in seconds.
    pub max_age_seconds: u32,
    /// To the hosts below this one too.
    #[serde(default)]
    pub include_subdomains: bool,
    /// Whether browsers may know it before they have come.
    #[serde(default)]
    pub preload: bool,
}
