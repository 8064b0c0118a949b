//! Drivers that need nothing but this host: amphorae as processes, addresses from configured ranges, no
//! authentication.
#![deny(missing_docs)]

mod auth;
mod network;
mod process;

pub use auth::NoAuth;
pub use network::{ConfigError, LocalNetwork, NetworkConfig, SubnetConfig};
pub use process::{ProcessCompute, ProcessSettings};
