//! Changes of what listeners and pools have of TLS, HSTS and session persistence.

use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

use super::Set;
use crate::model::{
    AlpnProtocol, Ciphers, ClientAuthentication, PersistenceType, SecretRef, TlsVersion,
};

/// Changes of TLS toward clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerTlsUpdate {
    /// The default certificate.
    pub certificate: Set<Option<SecretRef>>,
    /// Those chosen by name.
    pub sni_certificates: Set<Vec<SecretRef>>,
    /// The clients' authorities.
    pub client_ca: Set<Option<SecretRef>>,
    /// The clients' certificates that are no longer good.
    pub client_crl: Set<Option<SecretRef>>,
    /// Whether clients have to show certificates. `None` inside is none asked for, said by null: it needs a client CA
    /// as the others do (reference 6.4).
    pub client_authentication: Set<Option<ClientAuthentication>>,
    /// What may be agreed on.
    pub terms: TlsTermsUpdate,
}

/// Changes of what may be agreed on; `None` inside is what the deployment has for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsTermsUpdate {
    /// The ciphers.
    pub ciphers: Set<Option<Ciphers>>,
    /// The versions.
    pub versions: Set<Option<Vec<TlsVersion>>>,
    /// The protocols inside.
    pub alpn: Set<Option<Vec<AlpnProtocol>>>,
}

/// Changes of what browsers are told about coming back over TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HstsUpdate {
    /// For how long, in seconds.
    pub max_age_seconds: Set<Option<u32>>,
    /// Whether for subdomains too.
    pub include_subdomains: Set<bool>,
    /// Whether browsers may ship with it.
    pub preload: Set<bool>,
}

/// Another session persistence (reference 7.4): a type left out is the one there was, all else is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersistenceUpdate {
    /// By what a client is known.
    pub kind: Option<PersistenceType>,
    /// The application's cookie.
    pub cookie_name: Option<String>,
    /// How long a client is remembered.
    pub timeout_seconds: Option<u32>,
    /// Which clients count as one.
    pub granularity: Option<IpAddr>,
}

/// Changes of TLS toward members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolTlsUpdate {
    /// Whether it is spoken.
    pub enabled: Set<bool>,
    /// The certificate shown to members.
    pub certificate: Set<Option<SecretRef>>,
    /// The members' authorities.
    pub ca: Set<Option<SecretRef>>,
    /// The members' certificates that are no longer good.
    pub crl: Set<Option<SecretRef>>,
    /// What may be agreed on. Protocols inside have no value of the deployment: `None` is none (reference 7.2).
    pub terms: TlsTermsUpdate,
}
