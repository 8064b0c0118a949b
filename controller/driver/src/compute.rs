//! Where amphorae run.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use krater_amphora_api::AmphoraId;
use uuid::Uuid;

use crate::DriverError;

/// What an amphora is started with.
#[derive(Clone)]
pub struct AmphoraOrder {
    /// Its id, chosen and stored before it is started: a retry finds it instead of starting a second one.
    pub id: AmphoraId,
    /// Certificate of the fleet's authority, PEM.
    pub authority_pem: String,
    /// Its own identity, issued by the fleet's CA; `None` where its host makes its key and has it certified.
    pub identity: Option<AmphoraIdentity>,
    /// Where it sends its reports, `host:port`.
    pub controllers: Vec<String>,
    /// The network that it lives on, and nothing else of its host's; the host's own when `None`.
    pub segment: Option<Arc<Segment>>,
    /// Where that network is besides, as tunnels reach those hosts. Others than before are no reason to start it again.
    pub peers: Vec<IpAddr>,
    /// What it may take of its host.
    pub allotment: Allotment,
}

/// What an amphora may take of its host; nothing is bounded where nothing is said. A driver that cannot hold it to that
/// does not start it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allotment {
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu_percent: Option<u32>,
}

/// Key material of an amphora. A secret: it has no `Debug` (I13).
#[derive(Clone)]
pub struct AmphoraIdentity {
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM. Never logged.
    pub key_pem: String,
}

/// A network of tenants, as a host has to build it. Whatever is on it has its addresses to itself: another one may have
/// the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its id.
    pub id: Uuid,
    /// Its name, for people.
    pub name: String,
    /// The bridge it is on a host; made where there is none of that name.
    pub bridge: String,
    /// Its number in tunnels between hosts, if it spans several.
    pub vni: Option<u32>,
    /// The largest packet.
    pub mtu: u32,
    /// Its subnets.
    pub subnets: Vec<SegmentSubnet>,
}

/// A subnet of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSubnet {
    /// In CIDR notation.
    pub cidr: String,
    /// The router by which all other addresses are reached.
    pub gateway: Option<IpAddr>,
    /// What is reached by another router: addresses in CIDR notation, and the router.
    pub routes: Vec<(String, IpAddr)>,
}

/// Where a running amphora is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address of its agent.
    pub agent: SocketAddr,
    /// Address of its metrics endpoint, if it has one.
    pub metrics: Option<SocketAddr>,
}

/// A place where amphorae run.
#[async_trait]
pub trait ComputeDriver: Send + Sync + 'static {
    /// Starts the amphora, or finds it running, and answers where its agent is (or will be within moments). Fresh
    /// key material replaces what it was started with.
    ///
    /// # Errors
    /// [`DriverError`]; nothing half-started is left behind that a retry would not find.
    async fn ensure(&self, order: AmphoraOrder) -> Result<Endpoint, DriverError>;

    /// Stops the amphora and forgets it, its configuration included. Absent counts as done.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn release(&self, id: AmphoraId) -> Result<(), DriverError>;

    /// The amphorae that are there, wanted or not, as far as the driver can tell.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn found(&self) -> Result<Vec<AmphoraId>, DriverError> {
        Ok(Vec::new())
    }

    /// Stops all amphorae of this driver but keeps what they need to resume. For `krater up`, which ends whole.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn stop_all(&self) -> Result<(), DriverError>;
}
