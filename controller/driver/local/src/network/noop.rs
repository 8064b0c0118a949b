//! A network that is only made up, for tests of the API and for deployments that carry no traffic: it takes any id
//! for a subnet, a network or a port of its own, and hands out addresses that are reserved for benchmarks and
//! documentation (RFC 2544, RFC 3849).

use std::collections::BTreeSet;

use async_trait::async_trait;
use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{Vip, VipRequest},
    network::{NetworkView, Viewer},
};
use krater_driver::{AllocateError, AllocatedVip, DriverError, NetworkDriver, Taken};
use uuid::Uuid;

use super::{
    choice::Choice,
    config::{self, ConfigError, Network, NetworkConfig, Subnet, SubnetConfig},
};

/// The made-up network. It has two subnets that are listed, and every other that somebody names.
#[derive(Clone, Debug)]
pub struct NoopNetwork {
    listed: Vec<Network>,
}

impl NoopNetwork {
    /// The only one there is: what it gives is the same in every run.
    ///
    /// # Errors
    /// None that its own configuration has.
    pub fn new() -> Result<Self, Vec<ConfigError>> {
        let subnet = |name: &str, cidr: &str| SubnetConfig {
            host_routes: Vec::new(),
            name: name.to_owned(),
            cidr: cidr.to_owned(),
            gateway: None,
            first: None,
            last: None,
        };
        let network = NetworkConfig {
            segment: None,
            name: "noop".to_owned(),
            projects: None,
            subnets: vec![
                subnet("noop-v4", "198.18.0.0/15"),
                subnet("noop-v6", "2001:db8::/32"),
            ],
            ports: Vec::new(),
        };
        Ok(Self {
            listed: config::parse(&[network])?,
        })
    }

    /// The id of its network, named or written out; any id will do.
    #[must_use]
    pub fn network_id(&self, text: &str) -> Option<Uuid> {
        super::network_id(&self.listed, text).or_else(|| Uuid::parse_str(text).ok())
    }

    /// The networks as they must be for the request to name what exists.
    fn made_up_for(&self, request: &VipRequest) -> Vec<Network> {
        let mut networks = self.listed.clone();
        let additional = request.additional.iter().copied();
        let wanted: Vec<_> = request
            .subnet_id
            .map(|subnet| (subnet, request.address))
            .into_iter()
            .chain(additional)
            .filter(|(subnet, _)| !self.lists(*subnet))
            .collect();
        let Some(noop) = networks.first().cloned() else {
            return networks;
        };
        let mut home = match request.network_id {
            Some(id) if id != noop.id => Network { id, ..noop },
            _ => {
                networks.clear();
                noop
            }
        };
        for (id, address) in wanted {
            let v4 = address.is_none_or(|address| address.is_ipv4());
            let mut like = home.subnets.iter();
            let like = like.find(|subnet| subnet.allocation.0.is_ipv4() == v4);
            let made_up = like.map(|like| Subnet { id, ..like.clone() });
            home.subnets.extend(made_up);
        }
        // What is named first is found first.
        networks.insert(0, home);
        networks
    }

    fn lists(&self, subnet: Uuid) -> bool {
        let mut subnets = self.listed.iter().flat_map(|network| &network.subnets);
        subnets.any(|listed| listed.id == subnet)
    }

    /// What is left to ask for when any port will do: an address of the network it is on.
    fn without_port(&self, request: &VipRequest) -> VipRequest {
        let network_id = match (request.network_id, request.subnet_id) {
            (None, None) => self.listed.first().map(|network| network.id),
            (given, _) => given,
        };
        VipRequest {
            port_id: None,
            network_id,
            ..request.clone()
        }
    }
}

#[async_trait]
impl NetworkDriver for NoopNetwork {
    async fn networks(&self) -> Result<Vec<NetworkView>, DriverError> {
        Ok(self.listed.iter().map(Network::view).collect())
    }

    async fn resolve_vip(
        &self,
        viewer: &Viewer,
        request: &VipRequest,
        taken: &Taken,
    ) -> Result<Uuid, AllocateError> {
        let (id, nobody) = (LoadBalancerId::new(Uuid::nil()), Uuid::nil());
        let request = VipRequest {
            additional: Vec::new(),
            ..request.clone()
        };
        match self.allocate_vip(id, viewer, &request, nobody, taken).await {
            Ok(given) => Ok(given.vip.network_id),
            // The network is right, only the address is not free.
            Err(AllocateError::InUse { .. }) => {
                let free = Taken::default();
                let given = self.allocate_vip(id, viewer, &request, nobody, &free).await;
                given.map(|given| given.vip.network_id)
            }
            Err(error) => Err(error),
        }
    }

    async fn allocate_vip(
        &self,
        _load_balancer: LoadBalancerId,
        viewer: &Viewer,
        request: &VipRequest,
        port_id: Uuid,
        taken: &Taken,
    ) -> Result<AllocatedVip, AllocateError> {
        let mut request = request.clone();
        let mut port_id = port_id;
        if let Some(port) = request.port_id {
            if let Some(holder) = &taken.port {
                return Err(AllocateError::Invalid(format!(
                    "Port {port} is already used by device lb-{}",
                    holder.load_balancer
                )));
            }
            request = self.without_port(&request);
            port_id = port;
        }
        Choice {
            networks: &self.made_up_for(&request),
            reserved: &BTreeSet::new(),
            taken,
            viewer,
        }
        .choose(&request, port_id)
    }

    async fn release_vip(
        &self,
        _load_balancer: LoadBalancerId,
        _vip: &Vip,
    ) -> Result<(), DriverError> {
        Ok(())
    }

    async fn has_subnet(&self, _viewer: &Viewer, _subnet: Uuid) -> Result<bool, DriverError> {
        Ok(true)
    }

    async fn has_qos_policy(&self, _viewer: &Viewer, _policy: Uuid) -> Result<bool, DriverError> {
        Ok(true)
    }

    async fn has_security_group(
        &self,
        _viewer: &Viewer,
        _group: Uuid,
    ) -> Result<bool, DriverError> {
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use krater_controller_core::model::ProjectId;
    use krater_driver::{
        PortHolder,
        kit::{Ids, check_network},
    };

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn request(
        port: u128,
        network: u128,
        subnet: u128,
        address: &str,
        more: &[u128],
    ) -> VipRequest {
        let given = |number| (number != 0).then(|| id(number));
        VipRequest {
            port_id: given(port),
            network_id: given(network),
            subnet_id: given(subnet),
            address: address.parse().ok(),
            additional: more.iter().map(|subnet| (id(*subnet), None)).collect(),
            ..VipRequest::default()
        }
    }

    async fn ask(request: &VipRequest, taken: &Taken) -> Result<AllocatedVip, AllocateError> {
        let driver = NoopNetwork::new().unwrap();
        let (nobody, made) = (LoadBalancerId::new(Uuid::nil()), id(99));
        let viewer = Viewer::Stranger;
        driver
            .allocate_vip(nobody, &viewer, request, made, taken)
            .await
    }

    #[tokio::test]
    async fn it_passes_the_conformance_kit() {
        let driver = NoopNetwork::new().unwrap();
        check_network(&driver, Ids::Any).await.unwrap();
    }

    #[tokio::test]
    async fn any_id_names_something() {
        let noop = NoopNetwork::new().unwrap().listed[0].id;
        // Request; address, port, subnet (0 for a listed one) and network (0 for the listed one) given.
        for (request, address, port, subnet, network) in [
            (request(0, 0, 1, "", &[]), "198.18.0.1", 99, 1, 0),
            (
                request(0, 0, 1, "2001:db8::7", &[]),
                "2001:db8::7",
                99,
                1,
                0,
            ),
            (request(0, 2, 0, "", &[]), "198.18.0.1", 99, 0, 2),
            (
                request(0, 2, 0, "2001:db8::7", &[]),
                "2001:db8::7",
                99,
                0,
                2,
            ),
            (request(0, 2, 1, "198.18.5.5", &[]), "198.18.5.5", 99, 1, 2),
            (request(3, 0, 0, "", &[]), "198.18.0.1", 3, 0, 0),
            (request(3, 0, 0, "2001:db8::7", &[]), "2001:db8::7", 3, 0, 0),
            (request(3, 2, 1, "198.18.5.5", &[]), "198.18.5.5", 3, 1, 2),
        ] {
            let vip = ask(&request, &Taken::default()).await.unwrap().vip;
            assert_eq!(vip.address.to_string(), address, "{request:?}");
            assert_eq!(vip.port_id, id(port), "{request:?}");
            assert!(subnet == 0 || vip.subnet_id == id(subnet), "{request:?}");
            let expected = if network == 0 { noop } else { id(network) };
            assert_eq!(vip.network_id, expected, "{request:?}");
        }
    }

    #[tokio::test]
    async fn additional_addresses_differ_and_taken_ones_are_not_given() {
        let taken = Taken {
            addresses: std::sync::Arc::new(
                [1, 3]
                    .map(|last| ([198, 18, 0, last].into(), Uuid::nil()))
                    .into(),
            ),
            ..Taken::default()
        };
        let given = ask(&request(0, 0, 1, "", &[2, 3]), &taken).await.unwrap();
        let more = given.additional.iter().map(|vip| vip.address.to_string());
        let all: Vec<_> = std::iter::once(given.vip.address.to_string())
            .chain(more)
            .collect();
        assert_eq!(all, ["198.18.0.2", "198.18.0.4", "198.18.0.5"]);
        let refused = ask(&request(0, 0, 1, "198.18.0.3", &[]), &taken).await;
        assert!(matches!(refused, Err(AllocateError::InUse { .. })));
        for wrong in [
            request(0, 0, 1, "192.0.2.1", &[]),
            request(0, 0, 1, "", &[1]),
            request(0, 0, 0, "198.18.0.9", &[]),
        ] {
            let refused = ask(&wrong, &taken).await;
            assert!(
                matches!(refused, Err(AllocateError::Invalid(_))),
                "{wrong:?}"
            );
        }
        let held = Taken {
            port: Some(PortHolder {
                load_balancer: LoadBalancerId::new(id(7)),
                project: ProjectId::parse("p").unwrap(),
            }),
            ..Taken::default()
        };
        let refused = ask(&request(3, 0, 0, "", &[]), &held).await.unwrap_err();
        assert!(
            refused
                .to_string()
                .contains("is already used by device lb-"),
            "{refused}"
        );
    }
}
