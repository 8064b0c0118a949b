//! What a deployment allows of listeners, pools and monitors, and fills in where tenants leave it open
//! (reference 19.9, 20.10).

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::net::{IpAddr, Ipv4Addr};

use crate::{
    cipher,
    model::{AlpnProtocol, Ciphers, TlsTerms, TlsVersion},
};

/// The choices of a deployment. The default is Octavia's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether listeners may end TLS.
    pub tls_terminated_listeners: bool,
    /// Whether there may be PROMETHEUS listeners.
    pub prometheus_listeners: bool,
    /// Whether there may be PING monitors.
    pub ping_monitors: bool,
    /// The shortest delay of a UDP-CONNECT monitor.
    pub udp_connect_delay_min_seconds: u32,
    /// Addresses no member may have (reference 8.3 `reserved_ips`): whoever reaches the metadata service through a load
    /// balancer learns what is meant for the host alone. In their canonical form.
    pub reserved_addresses: BTreeSet<IpAddr>,
    /// The oldest version of TLS that may be asked for.
    pub tls_version_min: Option<TlsVersion>,
    /// Ciphers that may not be asked for.
    pub ciphers_prohibited: BTreeSet<String>,
    /// What listeners have that do not say; all of it is `Some`.
    pub listener_terms: TlsTerms,
    /// What pools have that do not say; all of it is `Some`.
    pub pool_terms: TlsTerms,
}

impl Default for Rules {
    fn default() -> Self {
        let terms = TlsTerms {
            ciphers: Ciphers::parse(CIPHERS_DEFAULT.join(":")),
            versions: Some(vec![TlsVersion::Tls12, TlsVersion::Tls13]),
            alpn: Some(AlpnProtocol::ALL.to_vec()),
        };
        Self {
            tls_terminated_listeners: true,
            prometheus_listeners: true,
            ping_monitors: true,
            udp_connect_delay_min_seconds: 3,
            reserved_addresses: [METADATA_ADDRESS].into(),
            tls_version_min: None,
            ciphers_prohibited: BTreeSet::new(),
            listener_terms: terms.clone(),
            pool_terms: terms,
        }
    }
}

impl Rules {
    /// What is wrong with `terms`, somebody's wish or a default of the deployment itself.
    ///
    /// # Errors
    /// The sentence that says so (reference 6.4).
    pub fn check_terms(&self, terms: &TlsTerms) -> Result<(), String> {
        if let Some(ciphers) = &terms.ciphers {
            let prohibited = cipher::prohibited_in(ciphers, &self.ciphers_prohibited);
            if !prohibited.is_empty() {
                return Err(format!(
                    "The following ciphers have been prohibited by an administrator: {}",
                    prohibited.join(", ")
                ));
            }
        }
        if let Some(versions) = &terms.versions {
            self.check_versions(versions)?;
        }
        if terms.alpn.as_ref().is_some_and(Vec::is_empty) {
            return Err(
                "Empty ALPN protocol list. Either specify at least one ALPN protocol or remove this parameter to use \
                 the default."
                    .to_string(),
            );
        }
        Ok(())
    }

    /// What is wrong with `terms` where TLS is spoken by them: what amphorae have none of.
    ///
    /// # Errors
    /// The sentence that says so.
    pub fn check_spoken(&self, terms: &TlsTerms) -> Result<(), String> {
        cipher::agree(terms, &self.ciphers_prohibited).map(drop)
    }

    fn check_versions(&self, versions: &[TlsVersion]) -> Result<(), String> {
        if versions.is_empty() {
            return Err(
                "Empty TLS version list. Either specify at least one TLS version or remove this parameter to use the \
                 default."
                    .to_string(),
            );
        }
        let Some(least) = self.tls_version_min else {
            return Ok(());
        };
        let older: Vec<_> = versions
            .iter()
            .filter(|version| **version < least)
            .map(|version| version.name())
            .collect();
        if older.is_empty() {
            return Ok(());
        }
        Err(format!(
            "Requested TLS versions are less than the minimum: {} < {}",
            older.join(", "),
            least.name()
        ))
    }
}

/// Of the metadata service.
const METADATA_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// Octavia's default list (reference 19.9).
const CIPHERS_DEFAULT: [&str; 12] = [
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-CHACHA20-POLY1305",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_say_everything_and_keep_their_own_rules() {
        let rules = Rules::default();
        for terms in [&rules.listener_terms, &rules.pool_terms] {
            assert_eq!(rules.check_terms(terms), Ok(()));
            let said = terms.ciphers.is_some() && terms.versions.is_some() && terms.alpn.is_some();
            assert!(said);
        }
    }

    #[test]
    fn what_is_prohibited_is_named() {
        let rules = Rules {
            ciphers_prohibited: ["B".to_string(), "D".to_string()].into(),
            tls_version_min: Some(TlsVersion::Tls12),
            ..Rules::default()
        };
        let asks = |ciphers: &str, versions: &[TlsVersion]| TlsTerms {
            ciphers: Ciphers::parse(ciphers.to_string()),
            versions: Some(versions.to_vec()),
            alpn: None,
        };
        let good = [TlsVersion::Tls12, TlsVersion::Tls13];
        assert_eq!(rules.check_terms(&asks("A:!B:C", &good)), Ok(()));
        assert_eq!(
            rules.check_terms(&asks("A:B:C:D", &good)).unwrap_err(),
            "The following ciphers have been prohibited by an administrator: B, D"
        );
        let old = [TlsVersion::Tls10, TlsVersion::Tls13, TlsVersion::Ssl3];
        assert_eq!(
            rules.check_terms(&asks("A", &old)).unwrap_err(),
            "Requested TLS versions are less than the minimum: TLSv1, SSLv3 < TLSv1.2"
        );
        let empty = rules.check_terms(&asks("A", &[])).unwrap_err();
        assert!(empty.starts_with("Empty TLS version list."), "{empty}");
        let none = TlsTerms {
            alpn: Some(Vec::new()),
            ..TlsTerms::default()
        };
        let empty = rules.check_terms(&none).unwrap_err();
        assert!(empty.starts_with("Empty ALPN protocol list."), "{empty}");
    }
}
