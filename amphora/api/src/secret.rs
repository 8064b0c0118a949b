//! What must not be seen (I13).

use alloc::string::String;
use core::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A private key as PEM. Wiped when it is dropped; never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PrivateKeyPem(String);

impl PrivateKeyPem {
    /// Takes over a key.
    #[must_use]
    pub const fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The key, for whoever parses it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for PrivateKeyPem {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// So that what holds a key can be printed; the key cannot.
impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem")
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, string::String};

    use super::PrivateKeyPem;

    #[test]
    fn a_key_is_never_printed() {
        let key = PrivateKeyPem::new(String::from("secret"));
        assert_eq!(format!("{key:?}"), "PrivateKeyPem");
    }
}
