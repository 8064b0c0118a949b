//! Secrets that rest where others may read: sealed with a key of the deployment (AES-256-GCM).

use std::{fmt, fs, os::unix::fs::MetadataExt as _, path::Path};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The key of a deployment.
pub(crate) struct SealKey(RandomizedNonceKey);

impl SealKey {
    /// Takes a key as people write it: a text of at least 32 characters, best `openssl rand -hex 32`. The error is a
    /// sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.chars().count() < KEY_CHARACTERS_MIN {
            return Err(format!(
                "the key to seal secrets with must have {KEY_CHARACTERS_MIN} characters at least: openssl rand -hex 32 makes one"
            ));
        }
        let mut digest = Sha256::new();
        digest.update(b"krater seal 1\0");
        digest.update(text.as_bytes());
        let bytes = Zeroizing::new(<[u8; 32]>::from(digest.finalize()));
        RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice())
            .map(Self)
            .map_err(|error| format!("the key to seal secrets with cannot be used: {error}"))
    }

    /// Seals a secret that is kept under `name`, under which alone it can be opened.
    pub(crate) fn seal(&self, name: &str, secret: &str) -> Result<String, String> {
        let mut bytes = secret.as_bytes().to_vec();
        let nonce = self
            .0
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|error| format!("{name} cannot be sealed: {error}"))?;
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        Ok(format!("1:{}:{}", hex(nonce.as_ref()), hex(&bytes)))
    }

    /// Opens what was sealed. The error is a sentence.
    pub(crate) fn open(&self, name: &str, sealed: &str) -> Result<Zeroizing<String>, String> {
        let damaged = || format!("{name} in the database is damaged");
        let mut parts = sealed.split(':');
        let (Some("1"), Some(nonce), Some(bytes), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(damaged());
        };
        let nonce = unhex(nonce).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(&nonce).map_err(|_| damaged())?;
        let mut bytes = Zeroizing::new(unhex(bytes).ok_or_else(damaged)?);
        let opened = self
            .0
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut bytes)
            .map_err(|_| {
                format!("{name} in the database was sealed with another key than store.seal_key_file or KRATER_SEAL_KEY hold")
            })?;
        let text = std::str::from_utf8(opened).map_err(|_| damaged())?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey")
    }
}

/// A secret from a file that others cannot read. The error is a sentence.
pub(crate) fn secret_of_file(path: &Path) -> Result<Zeroizing<String>, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let metadata = fs::metadata(path).map_err(failed)?;
    if metadata.mode() & 0o007 != 0 {
        return Err(format!(
            "{} can be read by everybody: chmod 0600 it",
            path.display()
        ));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    Ok(Zeroizing::new(text.trim().to_owned()))
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair)
                .ok()
                .filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        })
        .collect()
}

const KEY_CHARACTERS_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn what_is_sealed_opens_under_its_name_with_its_key_and_not_otherwise() {
        let key = SealKey::parse(KEY).unwrap();
        let sealed = key.seal("authority", "a secret").unwrap();
        assert!(!sealed.contains("secret"));
        assert_ne!(sealed, key.seal("authority", "a secret").unwrap());
        assert_eq!(key.open("authority", &sealed).unwrap().as_str(), "a secret");
        assert!(key.open("another", &sealed).is_err());
        let other = SealKey::parse(&KEY.replace('0', "f")).unwrap();
        let refused = other.open("authority", &sealed).unwrap_err();
        assert!(refused.contains("sealed with another key"), "{refused}");
    }

    #[test]
    fn what_is_damaged_and_keys_that_are_short_are_refused() {
        let key = SealKey::parse(KEY).unwrap();
        let sealed = key.seal("a", "b").unwrap();
        for damaged in [
            "",
            "1",
            "1:2:3",
            "2:00:00",
            &sealed[..sealed.len() - 1],
            &format!("{sealed}:"),
        ] {
            assert!(key.open("a", damaged).is_err(), "{damaged}");
        }
        assert!(SealKey::parse("short").is_err());
    }
}
