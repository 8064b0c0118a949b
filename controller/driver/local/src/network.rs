//! Networks that exist by configuration only: the amphorae bind their addresses on this host.

mod choice;
mod config;

use std::{collections::BTreeSet, net::IpAddr};

use async_trait::async_trait;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{Vip, VipRequest},
    query::{NetworkView, SubnetView},
};
use krater_driver::{AllocateError, AllocatedVip, DriverError, NetworkDriver};
use uuid::Uuid;

use self::choice::Choice;
use self::config::Network;
pub use self::config::{ConfigError, NetworkConfig, SubnetConfig};

/// Addresses from configured ranges. It remembers nothing: what is taken the store tells.
#[derive(Clone, Debug)]
pub struct LocalNetwork {
    networks: Vec<Network>,
}

impl LocalNetwork {
    /// Takes the networks that tenants may choose from.
    ///
    /// # Errors
    /// Every reason against the configuration at once.
    pub fn new(networks: &[NetworkConfig]) -> Result<Self, Vec<ConfigError>> {
        Ok(Self {
            networks: config::parse(networks)?,
        })
    }
}

#[async_trait]
impl NetworkDriver for LocalNetwork {
    async fn networks(&self) -> Result<Vec<NetworkView>, DriverError> {
        let view = |network: &Network| NetworkView {
            id: network.id,
            name: network.name.clone(),
            subnets: network
                .subnets
                .iter()
                .map(|subnet| SubnetView {
                    id: subnet.id,
                    name: subnet.name.clone(),
                    cidr: subnet.cidr.to_string(),
                    allocation: subnet.allocation,
                })
                .collect(),
        };
        Ok(self.networks.iter().map(view).collect())
    }

    async fn allocate_vip(
        &self,
        _load_balancer: LoadBalancerId,
        request: &VipRequest,
        port_id: Uuid,
        taken: &BTreeSet<IpAddr>,
    ) -> Result<AllocatedVip, AllocateError> {
        Choice {
            networks: &self.networks,
            taken,
        }
        .choose(request, port_id)
    }

    async fn release_vip(
        &self,
        _load_balancer: LoadBalancerId,
        _vip: &Vip,
    ) -> Result<(), DriverError> {
        // The address is free when the store has forgotten the load balancer; nothing else holds it.
        Ok(())
    }

    async fn has_subnet(&self, subnet: Uuid) -> Result<bool, DriverError> {
        Ok(self
            .networks
            .iter()
            .flat_map(|network| &network.subnets)
            .any(|known| known.id == subnet))
    }
}

#[cfg(test)]
mod tests;
