//! Where certificates, keys and what vouches for them come from.

use async_trait::async_trait;
use krater_controller_core::{model::ProjectId, secret::Need};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::DriverError;

mod pem;
mod pkcs7;
mod read;

pub use read::{Certificate, CertificateFacts, Secret, Unusable, check_issued};

/// What lies behind a reference, before anybody looked into it. No `Debug`: keys are among it (I13).
pub enum RawSecret {
    /// All in one: PEM, or PKCS#12 without a passphrase.
    Whole(Zeroizing<Vec<u8>>),
    /// A certificate in parts.
    Parts(Box<Parts>),
}

/// A certificate with its key, each for itself, as PEM.
pub struct Parts {
    /// The certificate; those that lead to its authority may follow.
    pub certificate: Vec<u8>,
    /// Those that lead to its authority, in any order; also as PKCS#7, in PEM or as it is.
    pub intermediates: Option<Vec<u8>>,
    /// Its key.
    pub key: Zeroizing<Vec<u8>>,
    /// What the key is encrypted with.
    pub passphrase: Option<Zeroizing<Vec<u8>>>,
}

/// A place where secrets lie.
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// Reads what lies behind a reference, for load balancers of `project`. What that project may not use is not found.
    ///
    /// # Errors
    /// [`DriverError`]; [`DriverError::Permanent`] for references that can never be any. Nothing secret is in them.
    async fn fetch(&self, project: &ProjectId, need: &Need) -> Result<RawSecret, DriverError>;

    /// Whether whoever brings `token` along may have krater use what lies behind a reference, as far as `fetch` does
    /// not see to that already.
    ///
    /// # Errors
    /// As [`SecretStore::fetch`].
    async fn check_access(&self, token: Option<&str>, need: &Need) -> Result<(), DriverError>;

    /// Returns when what lies there may have changed: soon after it did where that is noticed, else after a while.
    async fn changed(&self);
}

/// SHA-256.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The most bytes that a secret may have: a list of many thousands of revoked certificates fits, and whoever names a
/// disk instead of a file gets no further.
pub const SECRET_BYTES_MAX: usize = 4 * 1024 * 1024;
