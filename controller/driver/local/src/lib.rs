//! Drivers that need nothing but this host: amphorae as processes, addresses from configured ranges,
//! callers from a file of tokens or not told apart at all.
#![deny(missing_docs)]

mod auth;
mod network;
mod process;
mod tokens;

pub use auth::NoAuth;
pub use network::{
    ConfigError, FixedIpConfig, LocalNetwork, NetworkConfig, PortConfig, SubnetConfig,
};
pub use process::{ProcessCompute, ProcessSettings};
pub use tokens::{TokenFile, TokenFileError};
