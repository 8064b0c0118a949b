//! OpenSSL's lists of ciphers → the suites that amphorae speak.
//!
//! The list is evaluated as `openssl ciphers` does (openssl-ciphers(1)), over the suites of TLS 1.2 that amphorae speak;
//! words for others, and words that nobody knows, select nothing. A list says nothing of TLS 1.3, whose suites are
//! another setting in OpenSSL: its names may stand in it and have no effect (reference 19.9).

use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

use krater_amphora_api::{CipherSuite, TlsVersion as Spoken};

use crate::model::{Ciphers, TlsTerms, TlsVersion};

/// What terms come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The versions, in their own order, at least one.
    pub versions: Vec<Spoken>,
    /// The suites, by preference, at least one for each version.
    pub suites: Vec<CipherSuite>,
}

/// The suites of TLS 1.2 that a list selects, by its preference.
#[must_use]
pub fn select(list: &Ciphers) -> Vec<CipherSuite> {
    // Suite B (RFC 6460) is a word for a whole list, whatever follows.
    for (word, suites) in SUITE_B {
        if list.as_str().starts_with(word) {
            return suites.to_vec();
        }
    }
    let mut selection = Selection::default();
    for entry in list.entries() {
        selection.take(entry);
    }
    selection.chosen()
}

/// The name of a suite in OpenSSL, which prohibitions are written in.
#[must_use]
pub const fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
        CipherSuite::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
        CipherSuite::ChaCha20 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::EcdsaAes128Gcm => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::EcdsaAes256Gcm => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::EcdsaChaCha20 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        CipherSuite::RsaAes128Gcm => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::RsaAes256Gcm => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::RsaChaCha20 => "ECDHE-RSA-CHACHA20-POLY1305",
    }
}

/// What amphorae make of `terms`. What they leave open is all there is. `prohibited` are names that the deployment
/// allows nobody: a list that selects them is refused where it is given, and what no list speaks of goes without them.
///
/// # Errors
/// The sentence that says what is asked for and cannot be had.
pub fn agree(terms: &TlsTerms, prohibited: &BTreeSet<String>) -> Result<Agreed, String> {
    let asked = terms.versions.as_deref().unwrap_or(&VERSIONS);
    let old: Vec<&str> = asked
        .iter()
        .filter(|version| **version < TlsVersion::Tls12)
        .map(|version| version.name())
        .collect();
    if !old.is_empty() {
        return Err(format!(
            "{} cannot be had: amphorae speak TLSv1.2 and TLSv1.3, since older versions are broken.",
            old.join(", ")
        ));
    }
    let versions: BTreeSet<Spoken> = asked
        .iter()
        .map(|version| match version {
            TlsVersion::Tls13 => Spoken::Tls13,
            _ => Spoken::Tls12,
        })
        .collect();
    let allowed = |suite: &CipherSuite| !prohibited.contains(openssl_name(*suite));
    let mut suites: Vec<CipherSuite> = Vec::new();
    if versions.contains(&Spoken::Tls13) {
        suites.extend(of_version(Spoken::Tls13).filter(allowed));
    }
    if versions.contains(&Spoken::Tls12) {
        let selected = match &terms.ciphers {
            Some(list) => select(list),
            None => of_version(Spoken::Tls12).collect(),
        };
        suites.extend(selected.into_iter().filter(allowed));
    }
    for version in &versions {
        if !suites.iter().any(|suite| suite.version() == *version) {
            return Err(nothing_left(*version, prohibited));
        }
    }
    let versions = versions.into_iter().collect();
    Ok(Agreed { versions, suites })
}

/// The suites a list selects that the deployment prohibits, by name: also those it does not spell out.
pub fn prohibited_in(list: &Ciphers, prohibited: &BTreeSet<String>) -> Vec<String> {
    let spelled = list
        .entries()
        .filter(|entry| prohibited.contains(*entry))
        .map(ToString::to_string);
    let mut found: Vec<String> = spelled.collect();
    for suite in select(list) {
        let name = openssl_name(suite);
        if prohibited.contains(name) && !found.iter().any(|known| known == name) {
            found.push(name.into());
        }
    }
    found
}

fn of_version(version: Spoken) -> impl Iterator<Item = CipherSuite> {
    let all = CipherSuite::ALL.into_iter();
    all.filter(move |suite| suite.version() == version)
}

fn nothing_left(version: Spoken, prohibited: &BTreeSet<String>) -> String {
    let possible: Vec<&str> = of_version(version)
        .map(openssl_name)
        .filter(|name| !prohibited.contains(*name))
        .collect();
    let name = match version {
        Spoken::Tls12 => TlsVersion::Tls12.name(),
        Spoken::Tls13 => TlsVersion::Tls13.name(),
    };
    format!(
        "No cipher that can be had is left for {name}. Possible are: {}",
        possible.join(", ")
    )
}

/// What `openssl ciphers` does with a list: suites are switched on, in an order, off, or off for good.
#[derive(Default)]
struct Selection {
    on: Vec<Suite>,
    dead: BTreeSet<&'static str>,
    bits_min: u16,
    /// It is no list at all.
    is_none: bool,
}

impl Selection {
    fn take(&mut self, entry: &str) {
        // An entry may end in commands: DEFAULT@SECLEVEL=2.
        let mut parts = entry.split('@');
        self.switch(parts.next().unwrap_or_default());
        for command in parts {
            self.obey(command);
        }
    }

    /// OpenSSL takes no list with a command that it does not know, so such a one selects nothing.
    fn obey(&mut self, command: &str) {
        match command {
            "STRENGTH" => self.on.sort_by_key(|suite| core::cmp::Reverse(suite.bits)),
            "SECLEVEL=0" | "SECLEVEL=1" | "SECLEVEL=2" | "SECLEVEL=3" => self.bits_min = 0,
            "SECLEVEL=4" => self.bits_min = 192,
            "SECLEVEL=5" => self.bits_min = 256,
            _ => self.is_none = true,
        }
    }

    fn switch(&mut self, selector: &str) {
        let (sign, words) = match selector.as_bytes().first() {
            Some(b'!') => ('!', selector.get(1..)),
            Some(b'-') => ('-', selector.get(1..)),
            Some(b'+') => ('+', selector.get(1..)),
            _ => (' ', Some(selector)),
        };
        let words = words.unwrap_or_default();
        let named: Vec<Suite> = SUITES
            .into_iter()
            .filter(|suite| words.split('+').all(|word| suite.is(word)))
            .collect();
        let is_named = |suite: &Suite| named.iter().any(|one| one.name == suite.name);
        match sign {
            '!' => {
                self.dead.extend(named.iter().map(|suite| suite.name));
                self.on.retain(|suite| !is_named(suite));
            }
            '-' => self.on.retain(|suite| !is_named(suite)),
            '+' => {
                let (last, first): (Vec<Suite>, Vec<Suite>) =
                    self.on.iter().copied().partition(is_named);
                self.on = first;
                self.on.extend(last);
            }
            _ => {
                for suite in named {
                    let is_on = self.on.iter().any(|other| other.name == suite.name);
                    if !is_on && !self.dead.contains(suite.name) {
                        self.on.push(suite);
                    }
                }
            }
        }
    }

    fn chosen(self) -> Vec<CipherSuite> {
        if self.is_none {
            return Vec::new();
        }
        let bits_min = self.bits_min;
        let on = self.on.into_iter();
        on.filter(|suite| suite.bits >= bits_min)
            .map(|suite| suite.suite)
            .collect()
    }
}

/// A suite of TLS 1.2 with what OpenSSL's words say of it.
#[derive(Clone, Copy)]
struct Suite {
    suite: CipherSuite,
    name: &'static str,
    registered: &'static str,
    bits: u16,
    words: &'static [&'static str],
}

impl Suite {
    fn is(&self, word: &str) -> bool {
        word == self.name
            || word == self.registered
            || self.words.contains(&word)
            || WORDS.contains(&word)
    }
}

const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// Words for all of them.
const WORDS: [&str; 10] = [
    "ALL", "DEFAULT", "HIGH", "ECDH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "AEAD", "TLSv1.2",
];

/// The more particular words first.
const SUITE_B: [(&str, &[CipherSuite]); 4] = [
    ("SUITEB128ONLY", &[CipherSuite::EcdsaAes128Gcm]),
    ("SUITEB128C2", &[CipherSuite::EcdsaAes256Gcm]),
    (
        "SUITEB128",
        &[CipherSuite::EcdsaAes128Gcm, CipherSuite::EcdsaAes256Gcm],
    ),
    ("SUITEB192", &[CipherSuite::EcdsaAes256Gcm]),
];

/// In the order of OpenSSL's own list.
const SUITES: [Suite; 6] = [
    Suite {
        suite: CipherSuite::EcdsaAes256Gcm,
        name: "ECDHE-ECDSA-AES256-GCM-SHA384",
        registered: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        bits: 256,
        words: &["aECDSA", "ECDSA", "AES", "AES256", "AESGCM", "FIPS"],
    },
    Suite {
        suite: CipherSuite::RsaAes256Gcm,
        name: "ECDHE-RSA-AES256-GCM-SHA384",
        registered: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        bits: 256,
        words: &["aRSA", "AES", "AES256", "AESGCM", "FIPS"],
    },
    Suite {
        suite: CipherSuite::EcdsaChaCha20,
        name: "ECDHE-ECDSA-CHACHA20-POLY1305",
        registered: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        bits: 256,
        words: &["aECDSA", "ECDSA", "CHACHA20"],
    },
    Suite {
        suite: CipherSuite::RsaChaCha20,
        name: "ECDHE-RSA-CHACHA20-POLY1305",
        registered: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        bits: 256,
        words: &["aRSA", "CHACHA20"],
    },
    Suite {
        suite: CipherSuite::EcdsaAes128Gcm,
        name: "ECDHE-ECDSA-AES128-GCM-SHA256",
        registered: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        bits: 128,
        words: &["aECDSA", "ECDSA", "AES", "AES128", "AESGCM", "FIPS"],
    },
    Suite {
        suite: CipherSuite::RsaAes128Gcm,
        name: "ECDHE-RSA-AES128-GCM-SHA256",
        registered: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        bits: 128,
        words: &["aRSA", "AES", "AES128", "AESGCM", "FIPS"],
    },
];

#[cfg(test)]
mod tests;
