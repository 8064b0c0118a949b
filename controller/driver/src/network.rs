//! Where addresses come from.

use std::{collections::BTreeSet, net::IpAddr};

use async_trait::async_trait;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{AdditionalVip, Vip, VipRequest},
    query::NetworkView,
};
use thiserror::Error;
use uuid::Uuid;

use crate::DriverError;

/// The addresses of one load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocatedVip {
    /// The primary one.
    pub vip: Vip,
    /// Further ones, on the same port.
    pub additional: Vec<AdditionalVip>,
}

/// Why no address was given.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AllocateError {
    /// A subnet, network or port is not known (400).
    #[error("{kind} {id} not found")]
    Unknown {
        /// `Subnet`, `Network` or `Port`.
        kind: &'static str,
        /// As asked for.
        id: String,
    },
    /// The request contradicts itself or the network (400); the sentence is for the tenant.
    #[error("{0}")]
    Invalid(String),
    /// The address asked for is taken (409).
    #[error("{address}: {reason}")]
    InUse {
        /// The address.
        address: IpAddr,
        /// By whom, if that may be told.
        reason: String,
    },
    /// The driver failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// A source of addresses.
#[async_trait]
pub trait NetworkDriver: Send + Sync + 'static {
    /// The networks tenants may choose from.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn networks(&self) -> Result<Vec<NetworkView>, DriverError>;

    /// Resolves a request (reference 5.3, 5.4) to addresses. `taken` are those the store knows to be in use on any
    /// network of this driver; `port_id` is the id the port gets if the driver makes one. Calling again for the same
    /// load balancer gives the same addresses or finds them taken.
    ///
    /// # Errors
    /// [`AllocateError`]
    async fn allocate_vip(
        &self,
        load_balancer: LoadBalancerId,
        request: &VipRequest,
        port_id: Uuid,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<AllocatedVip, AllocateError>;

    /// Gives the addresses back. Absent counts as done.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn release_vip(
        &self,
        load_balancer: LoadBalancerId,
        vip: &Vip,
    ) -> Result<(), DriverError>;

    /// Whether a member's subnet is known (reference 8.3).
    ///
    /// # Errors
    /// [`DriverError`]
    async fn has_subnet(&self, subnet: Uuid) -> Result<bool, DriverError>;
}
