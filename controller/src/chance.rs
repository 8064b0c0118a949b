//! The one place of this program where chance comes in: names for new resources.

use uuid::{Builder, Uuid};

/// A random UUID of version 4: the form clients check for, and one that tells nothing.
pub(crate) fn random_uuid() -> Uuid {
    Builder::from_random_bytes(rand::random()).into_uuid()
}
