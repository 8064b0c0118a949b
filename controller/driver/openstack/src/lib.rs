//! Drivers for the services of an OpenStack cloud: who callers are, by its identity service; secrets, by its key manager.
#![deny(missing_docs)]

// From the top down: a module knows only those below it.
mod barbican;

mod keystone;

mod session;

mod cache;

mod flight;

mod wire;

mod client;

mod limits;

mod settings;

mod clock;

pub use barbican::{Barbican, BarbicanSettings};
pub use client::SetupError;
pub use keystone::Keystone;
pub use secrecy::SecretString;
pub use settings::{CacheSettings, KeystoneSettings, Login, UrlError};
