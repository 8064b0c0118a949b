//! Networks that exist by configuration only: the amphorae bind their addresses on this host.

mod choice;
mod config;
mod noop;
mod segment;

use std::{collections::BTreeSet, net::IpAddr};

use async_trait::async_trait;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{Vip, VipRequest},
    network::{Located, NetworkView, PortView, SubnetView, Viewer},
};
use krater_driver::{
    AllocateError, AllocatedVip, DriverError, NetworkDriver, Segment, SegmentSubnet, Taken,
};
use uuid::Uuid;

use self::choice::Choice;
pub use self::config::{
    ConfigError, FixedIpConfig, HostRouteConfig, NetworkConfig, PortConfig, SubnetConfig,
};
use self::config::{Network, Port, Subnet};
pub use self::noop::NoopNetwork;
pub use self::segment::SegmentConfig;

/// Addresses from configured ranges and ports. It remembers nothing: what is taken the store tells.
#[derive(Clone, Debug)]
pub struct LocalNetwork {
    networks: Vec<Network>,
    /// The addresses of ports.
    reserved: BTreeSet<Located>,
}

impl LocalNetwork {
    /// Takes the networks that tenants may choose from.
    ///
    /// # Errors
    /// Every reason against the configuration at once.
    pub fn new(networks: &[NetworkConfig]) -> Result<Self, Vec<ConfigError>> {
        let networks = config::parse(networks)?;
        let reserved_in = |network: &Network| {
            let fixed_ips = network.ports.iter().flat_map(|port| &port.fixed_ips);
            let located = fixed_ips.map(|fixed_ip| (fixed_ip.address, network.id));
            located.collect::<Vec<_>>()
        };
        let reserved = networks.iter().flat_map(reserved_in).collect();
        Ok(Self { networks, reserved })
    }

    /// The id of a network, by its name or written out; `None` when there is no such network.
    #[must_use]
    pub fn network_id(&self, text: &str) -> Option<Uuid> {
        network_id(&self.networks, text)
    }

    /// The networks that load balancers do not share with this host, as it has to build them.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        let networks = self.networks.iter();
        networks.filter_map(Network::to_segment).collect()
    }

    fn choice<'a>(&'a self, viewer: &'a Viewer, taken: &'a Taken) -> Choice<'a> {
        Choice {
            networks: &self.networks,
            reserved: &self.reserved,
            taken,
            viewer,
        }
    }
}

#[async_trait]
impl NetworkDriver for LocalNetwork {
    async fn networks(&self) -> Result<Vec<NetworkView>, DriverError> {
        Ok(self.networks.iter().map(Network::view).collect())
    }

    async fn resolve_vip(
        &self,
        viewer: &Viewer,
        request: &VipRequest,
        taken: &Taken,
    ) -> Result<Uuid, AllocateError> {
        let place = self.choice(viewer, taken).resolve(request)?;
        Ok(place.network.id)
    }

    async fn allocate_vip(
        &self,
        _load_balancer: LoadBalancerId,
        viewer: &Viewer,
        request: &VipRequest,
        port_id: Uuid,
        taken: &Taken,
    ) -> Result<AllocatedVip, AllocateError> {
        self.choice(viewer, taken).choose(request, port_id)
    }

    fn has_own_addresses(&self, network: Uuid) -> bool {
        let mut networks = self.networks.iter();
        networks.any(|known| known.id == network && known.segment.is_some())
    }

    async fn choose_own_address(&self, vip: &Vip, taken: &Taken) -> Result<IpAddr, AllocateError> {
        let choice = self.choice(&Viewer::Operator, taken);
        choice.beside(vip.subnet_id)
    }

    async fn release_vip(
        &self,
        _load_balancer: LoadBalancerId,
        _vip: &Vip,
    ) -> Result<(), DriverError> {
        // The address is free when the store has forgotten the load balancer; nothing else holds it.
        Ok(())
    }

    async fn has_subnet(&self, viewer: &Viewer, subnet: Uuid) -> Result<bool, DriverError> {
        let taken = Taken::default();
        Ok(self.choice(viewer, &taken).subnet(subnet).is_ok())
    }

    async fn has_qos_policy(&self, _viewer: &Viewer, _policy: Uuid) -> Result<bool, DriverError> {
        // Nothing on this host limits what goes through a VIP.
        Ok(false)
    }

    async fn has_security_group(
        &self,
        _viewer: &Viewer,
        _group: Uuid,
    ) -> Result<bool, DriverError> {
        // Listeners let clients in or not, nobody else.
        Ok(false)
    }
}

/// The network of a name, or else of an id that is written out.
fn network_id(networks: &[Network], text: &str) -> Option<Uuid> {
    let ids = || networks.iter().map(|network| network.id);
    let named = networks.iter().find(|network| network.name == text);
    named.map(|network| network.id).or_else(|| {
        let written = Uuid::parse_str(text).ok()?;
        ids().find(|id| *id == written)
    })
}

impl Network {
    fn to_segment(&self) -> Option<Segment> {
        let segment = self.segment.as_ref()?;
        let subnets = self.subnets.iter().map(|subnet| SegmentSubnet {
            cidr: subnet.cidr.to_string(),
            gateway: subnet.gateway,
            routes: subnet.host_routes.clone(),
        });
        Some(Segment {
            id: self.id,
            name: self.name.clone(),
            bridge: segment.bridge.clone(),
            vni: segment.vni,
            mtu: segment.mtu,
            subnets: subnets.collect(),
        })
    }

    fn view(&self) -> NetworkView {
        NetworkView {
            id: self.id,
            name: self.name.clone(),
            audience: self.audience.clone(),
            subnets: self.subnets.iter().map(Subnet::view).collect(),
            ports: self.ports.iter().map(Port::view).collect(),
        }
    }
}

impl Subnet {
    fn view(&self) -> SubnetView {
        SubnetView {
            id: self.id,
            name: self.name.clone(),
            cidr: self.cidr.to_string(),
            gateway: self.gateway,
            allocation: self.allocation,
        }
    }
}

impl Port {
    fn view(&self) -> PortView {
        PortView {
            id: self.id,
            name: self.name.clone(),
            project: self.project.clone(),
            device_id: self.device_id.clone(),
            fixed_ips: self.fixed_ips.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
