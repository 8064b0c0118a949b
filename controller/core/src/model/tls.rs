//! What listeners and pools ask of TLS (reference 6.2, 7.2).

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Serialize};

use crate::limits;

/// Where a secret lies in the deployment's secret store: 1 to 255 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

impl SecretRef {
    /// Takes a reference of 1 to 255 characters; `None` for any other.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        let fits = !text.is_empty() && text.chars().count() <= limits::TEXT_CHARACTERS_MAX;
        fits.then_some(Self(text))
    }

    /// The reference.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Ciphers in the list notation of OpenSSL, as the tenant wrote them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ciphers(String);

impl Ciphers {
    /// Takes a list of 1 to 2048 characters of `A-Za-z0-9-+!:@=_.`; `None` for any other.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-+!:@=_.".contains(&byte);
        let fits =
            (1..=limits::CIPHERS_CHARACTERS_MAX).contains(&text.len()) && text.bytes().all(fits);
        fits.then_some(Self(text))
    }

    /// The list.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.0.split(':')
    }
}

/// A version of TLS, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TlsVersion {
    /// SSL 3.0
    Ssl3,
    /// TLS 1.0
    Tls10,
    /// TLS 1.1
    Tls11,
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsVersion {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Ssl3,
        Self::Tls10,
        Self::Tls11,
        Self::Tls12,
        Self::Tls13,
    ];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ssl3 => "SSLv3",
            Self::Tls10 => "TLSv1",
            Self::Tls11 => "TLSv1.1",
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// A protocol that can be agreed on inside TLS (ALPN).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlpnProtocol {
    /// HTTP/2
    H2,
    /// HTTP/1.1
    Http11,
    /// HTTP/1.0
    Http10,
}

impl AlpnProtocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::H2, Self::Http11, Self::Http10];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::H2 => "h2",
            Self::Http11 => "http/1.1",
            Self::Http10 => "http/1.0",
        }
    }
}

/// Whether clients have to show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthentication {
    /// None is asked for.
    #[default]
    None,
    /// One is asked for; one that is shown must be good.
    Optional,
    /// One is needed.
    Mandatory,
}

impl ClientAuthentication {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Optional, Self::Mandatory];

    /// Octavia's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Optional => "OPTIONAL",
            Self::Mandatory => "MANDATORY",
        }
    }
}

/// What may be agreed on in a handshake. What is `None` in a request is for the deployment to fill in; in a stored
/// resource it was nothing to fill in, because the resource does not speak TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TlsTerms {
    /// The ciphers.
    pub ciphers: Option<Ciphers>,
    /// The versions, none twice.
    pub versions: Option<Vec<TlsVersion>>,
    /// The protocols inside, in order of preference, none twice.
    pub alpn: Option<Vec<AlpnProtocol>>,
}

impl TlsTerms {
    /// Fills in what is `None`.
    pub fn complete(&mut self, defaults: &Self) {
        self.ciphers = self.ciphers.take().or_else(|| defaults.ciphers.clone());
        self.versions = self.versions.take().or_else(|| defaults.versions.clone());
        self.alpn = self.alpn.take().or_else(|| defaults.alpn.clone());
    }
}

/// TLS toward the clients of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerTls {
    /// The certificate for names that no other is for.
    pub certificate: Option<SecretRef>,
    /// Certificates chosen by the name a client asks for.
    pub sni_certificates: Vec<SecretRef>,
    /// The authorities that client certificates are from.
    pub client_ca: Option<SecretRef>,
    /// The client certificates that are no longer good.
    pub client_crl: Option<SecretRef>,
    /// Whether clients have to show certificates.
    pub client_authentication: ClientAuthentication,
    /// What may be agreed on.
    pub terms: TlsTerms,
}

impl ListenerTls {
    /// Whether there is a certificate to show to clients.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some() || !self.sni_certificates.is_empty()
    }
}

/// What browsers are told about coming back over TLS (`Strict-Transport-Security`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hsts {
    /// For how long, in seconds; nothing is told without.
    pub max_age_seconds: Option<u32>,
    /// Whether for subdomains too.
    pub include_subdomains: bool,
    /// Whether browsers may ship with it.
    pub preload: bool,
}

/// TLS toward the members of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PoolTls {
    /// Whether it is spoken; nothing of the rest has an effect without.
    pub enabled: bool,
    /// The certificate shown to members.
    pub certificate: Option<SecretRef>,
    /// The authorities that members' certificates are from; they are not looked at without.
    pub ca: Option<SecretRef>,
    /// The members' certificates that are no longer good.
    pub crl: Option<SecretRef>,
    /// What may be agreed on.
    pub terms: TlsTerms,
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec};

    use super::*;

    #[test]
    fn a_reference_has_1_to_255_characters() {
        assert_eq!(SecretRef::parse(String::new()), None);
        assert_eq!(SecretRef::parse("\u{e9}".repeat(256)), None);
        let longest = "\u{e9}".repeat(255);
        assert_eq!(SecretRef::parse(longest.clone()).unwrap().as_str(), longest);
    }

    #[test]
    fn a_cipher_list_has_the_characters_of_one() {
        for text in ["HIGH:!aNULL", "DEFAULT@SECLEVEL=1", "A-B_C.D+E"] {
            assert!(Ciphers::parse(text.to_string()).is_some(), "{text}");
        }
        for text in ["", "a b", "a,b", "a/b", "\u{e9}"] {
            assert_eq!(Ciphers::parse(text.to_string()), None, "{text}");
        }
        assert!(Ciphers::parse("x".repeat(2_048)).is_some());
        assert_eq!(Ciphers::parse("x".repeat(2_049)), None);
        let list = Ciphers::parse("A:!B:C".to_string()).unwrap();
        assert_eq!(list.entries().collect::<Vec<_>>(), ["A", "!B", "C"]);
    }

    #[test]
    fn what_was_given_is_not_filled_in() {
        let defaults = TlsTerms {
            ciphers: Ciphers::parse("A".to_string()),
            versions: Some(vec![TlsVersion::Tls13]),
            alpn: Some(vec![AlpnProtocol::H2]),
        };
        let mut terms = TlsTerms {
            versions: Some(vec![TlsVersion::Tls12]),
            ..TlsTerms::default()
        };
        terms.complete(&defaults);
        assert_eq!(
            terms,
            TlsTerms {
                versions: Some(vec![TlsVersion::Tls12]),
                ..defaults
            }
        );
    }
}
