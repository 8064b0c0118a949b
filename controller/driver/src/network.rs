//! Where addresses come from.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{AdditionalVip, ProjectId, Vip, VipRequest},
    network::{Located, NetworkView, Viewer},
};
use thiserror::Error;
use uuid::Uuid;

use crate::DriverError;

/// What load balancers hold, as the store knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Their addresses, each with its network.
    pub addresses: Arc<BTreeSet<Located>>,
    /// Addresses that may be taken in a moment: not to be chosen, but whoever asks for one of them by name may try.
    pub wanted: BTreeSet<Located>,
    /// So many free ones are passed over where none is asked for by name, as far as there are further ones: whoever
    /// chooses at the same moment chooses the first.
    pub passed_over: u64,
    /// Who holds the port that is asked for.
    pub port: Option<PortHolder>,
}

/// A load balancer that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHolder {
    /// Which.
    pub load_balancer: LoadBalancerId,
    /// Whose.
    pub project: ProjectId,
}

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
    /// All networks, whoever may see them, with their subnets and with the ports that tenants may choose.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn networks(&self) -> Result<Vec<NetworkView>, DriverError>;

    /// Says on which network the VIP of a request will be, and what is wrong with the request until there
    /// (reference 5.3 step 4): what is unknown or not to be seen, a port in use, a network without room. Nothing is
    /// taken yet.
    ///
    /// # Errors
    /// [`AllocateError`]
    async fn resolve_vip(
        &self,
        viewer: &Viewer,
        request: &VipRequest,
        taken: &Taken,
    ) -> Result<Uuid, AllocateError>;

    /// Resolves a request, that of additional addresses too (reference 5.4), to addresses and takes them. `port_id` is
    /// the id the port gets if the driver makes one; a port that the request names is adopted instead. Calling again
    /// for the same load balancer gives the same addresses or finds them taken.
    ///
    /// # Errors
    /// [`AllocateError`]
    async fn allocate_vip(
        &self,
        load_balancer: LoadBalancerId,
        viewer: &Viewer,
        request: &VipRequest,
        port_id: Uuid,
        taken: &Taken,
    ) -> Result<AllocatedVip, AllocateError>;

    /// Whether amphorae on the network have no addresses there but those that are handed out.
    fn has_own_addresses(&self, _network: Uuid) -> bool {
        false
    }

    /// An address for an amphora on such a network, which nobody has: of the subnet of a VIP. It is taken by whoever
    /// stores it.
    ///
    /// # Errors
    /// [`AllocateError`]
    async fn choose_own_address(&self, vip: &Vip, _taken: &Taken) -> Result<IpAddr, AllocateError> {
        Err(AllocateError::Unknown {
            kind: "Subnet",
            id: vip.subnet_id.to_string(),
        })
    }

    /// Gives the addresses back; a port that was adopted stays and is free again. Absent counts as done.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn release_vip(
        &self,
        load_balancer: LoadBalancerId,
        vip: &Vip,
    ) -> Result<(), DriverError>;

    /// Whether a member's subnet is known and to be seen (reference 8.3).
    ///
    /// # Errors
    /// [`DriverError`]
    async fn has_subnet(&self, viewer: &Viewer, subnet: Uuid) -> Result<bool, DriverError>;

    /// Whether a QoS policy is known and to be seen.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn has_qos_policy(&self, viewer: &Viewer, policy: Uuid) -> Result<bool, DriverError>;

    /// Whether a security group is known and to be seen.
    ///
    /// # Errors
    /// [`DriverError`]
    async fn has_security_group(&self, viewer: &Viewer, group: Uuid) -> Result<bool, DriverError>;
}
