//! Drivers that need nothing but this host: amphorae as processes, addresses from configured ranges or made up,
//! secrets in a folder, callers from a file of tokens or not told apart at all.
#![deny(missing_docs)]

mod auth;
mod compute;
mod network;
mod secrets;
mod tokens;

pub use auth::NoAuth;
pub use compute::ProcessCompute;
pub use krater_amphora_process::Underlay;
pub use krater_amphora_process::{AccessLogSettings, ProcessSettings};
pub use network::{
    ConfigError, FixedIpConfig, HostRouteConfig, LocalNetwork, NetworkConfig, NoopNetwork,
    PortConfig, SegmentConfig, SubnetConfig,
};
pub use secrets::{Drawer, FileSecrets, Shelf, ShelfError, Shelved, name_of};
pub use tokens::{TokenFile, TokenFileError};
