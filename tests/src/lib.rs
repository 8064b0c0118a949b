//! The harness of every test that needs more than one crate: real binaries, members and clients in network
//! namespaces of their own.
//!
//! A test that uses it begins with [`Namespace::enter_new`]: from there on its thread, and all it starts, live on
//! a network where every port and address is free, so tests run side by side and use the defaults of the programs.

mod authority;
mod barbican;
mod datagrams;
mod exposition;
pub mod frames;
mod hosted;
mod http;
mod keystone;
mod krater;
mod load;
mod member;
mod namespace;
mod nginx;
mod octavia;
mod pair;
mod postgres;
mod process;
mod proxied;
mod siege;
mod standalone;
mod tls;
mod trace;
mod wait;

pub use authority::{Authority, Issued};
pub use barbican::Barbican;
pub use datagrams::{UdpClient, UdpMember};
pub use exposition::Exposition;
pub use hosted::{HostedAmphorae, host_token, krater_host, krater_host_json};
pub use http::{Answer, Connection, fetch};
pub use keystone::Keystone;
pub use krater::{Krater, send};
pub use load::{Load, LoadReport, percentile};
pub use member::{HttpMember, TcpMember};
pub use namespace::Namespace;
pub use nginx::Nginx;
pub use octavia::{Octavia, Reply};
pub use pair::{Keepalived, Pair, PairedAmphora, vips};
pub use postgres::Postgres;
pub use process::{Program, Signal, binary, run_to_end};
pub use proxied::ProxiedMember;
pub use siege::{Blow, Outcome, Score, Siege};
pub use standalone::Standalone;
pub use tls::TlsMember;
pub use trace::{Calls, Trace};
pub use wait::{until, until_some};
