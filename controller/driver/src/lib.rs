//! The traits toward the outside world: where amphorae run, where addresses and secrets come from, who callers are.
//!
//! Every method is idempotent and keyed by our own ids, so that a retry finds what an earlier try made.
#![deny(missing_docs)]

pub mod auth;
pub mod compute;
pub mod error;
#[cfg(feature = "kit")]
pub mod kit;
pub mod network;
pub mod secret;
#[cfg(feature = "kit")]
pub mod secret_kit;

pub use auth::{Authenticator, Credentials, Unauthenticated};
pub use compute::{
    Allotment, AmphoraIdentity, AmphoraOrder, ComputeDriver, Endpoint, Segment, SegmentSubnet,
};
pub use error::DriverError;
pub use network::{AllocateError, AllocatedVip, NetworkDriver, PortHolder, Taken};
pub use secret::{
    Certificate, CertificateFacts, Parts, RawSecret, SECRET_BYTES_MAX, Secret, SecretStore,
    Unusable, check_issued,
};
