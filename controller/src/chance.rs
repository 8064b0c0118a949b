//! The one place of this program where chance comes in: names for new resources.

use uuid::{Builder, Uuid};

use crate::realm::{self, Realm};

/// A random UUID of version 4: the form clients check for, and one that tells nothing.
pub(crate) fn random_uuid() -> Uuid {
    let bytes = realm::ask(Realm::random).unwrap_or_else(rand::random);
    Builder::from_random_bytes(bytes).into_uuid()
}
