//! Amphorae as processes of this host: their folders, their supervisors, the ports they have.
//!
//! Used by whoever starts amphorae on the host it runs on: a controller's compute driver, or the agent of a host.
#![deny(missing_docs)]

mod cgroup;
mod folder;
mod papers;
mod processes;
mod segment;
mod settings;
mod supervisor;

use std::net::SocketAddr;

use krater_amphora_api::AmphoraId;

pub use cgroup::Allotment;
pub use papers::{Papers, read_text, write_whole};
pub use processes::Processes;
pub use segment::{Segment, Subnet, Tunnel, Underlay};
pub use settings::{AccessLogSettings, Conduct, ProcessSettings};

/// What an amphora is started with. The key material is the amphora's own identity, issued by the fleet's CA.
#[derive(Clone)]
pub struct Order {
    /// Its id, chosen and stored before it is started: a retry finds it instead of starting a second one.
    pub id: AmphoraId,
    /// Certificates of the fleet's authorities, PEM.
    pub authority_pem: String,
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM. Never logged.
    pub key_pem: String,
    /// Where it sends its reports, `host:port`.
    pub controllers: Vec<String>,
    /// How it is run; as the settings say when `None`.
    pub conduct: Option<Conduct>,
    /// The network that it lives on; its host's when `None`.
    pub segment: Option<Segment>,
    /// What it may take of the host.
    pub allotment: Allotment,
}

/// Where a running amphora is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of its agent.
    pub agent: SocketAddr,
    /// Address of its metrics endpoint, if it has one.
    pub metrics: Option<SocketAddr>,
}

/// Why an amphora could not be started or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Trying again will not help.
    #[error("{0}")]
    Permanent(String),
    /// Trying again may help.
    #[error("{0}")]
    Transient(String),
}
