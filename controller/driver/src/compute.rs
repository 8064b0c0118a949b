//! Where amphorae run.

use std::net::SocketAddr;

use async_trait::async_trait;
use krater_amphora_api::AmphoraId;

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
}

/// Key material of an amphora. A secret: it has no `Debug` (I13).
#[derive(Clone)]
pub struct AmphoraIdentity {
    /// Its certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM. Never logged.
    pub key_pem: String,
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

    /// Stops all amphorae of this driver but keeps what they need to resume. For `krater up`, which ends whole.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn stop_all(&self) -> Result<(), DriverError>;
}
