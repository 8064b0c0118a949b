//! Which addresses a load balancer gets (reference 5.3, 5.4): a pure function of the networks and what is taken.

use std::{collections::BTreeSet, net::IpAddr};

use krater_controller_core::model::{AdditionalVip, Vip, VipRequest};
use krater_driver::{AllocateError, AllocatedVip};
use uuid::Uuid;

use super::config::{Network, Subnet, from_number, to_number};

/// What a choice is made from.
pub(crate) struct Choice<'a> {
    pub(crate) networks: &'a [Network],
    /// Addresses that load balancers have.
    pub(crate) taken: &'a BTreeSet<IpAddr>,
}

impl<'a> Choice<'a> {
    /// Resolves a request to addresses: those asked for, else the lowest free ones.
    pub(crate) fn choose(
        &self,
        request: &VipRequest,
        port_id: Uuid,
    ) -> Result<AllocatedVip, AllocateError> {
        let (network, subnet) = self.resolve(request)?;
        let additional = self.resolve_additional(network, subnet, request)?;
        let address = self.address_in(subnet, request.address)?;
        let vip = Vip {
            address,
            port_id,
            subnet_id: subnet.id,
            network_id: network.id,
        };
        let additional = additional
            .into_iter()
            .map(|(subnet, wanted)| {
                let address = self.address_in(subnet, wanted)?;
                Ok(AdditionalVip {
                    address,
                    subnet_id: subnet.id,
                })
            })
            .collect::<Result<_, AllocateError>>()?;
        Ok(AllocatedVip { vip, additional })
    }

    /// The subnet of the primary address.
    fn resolve(&self, request: &VipRequest) -> Result<(&'a Network, &'a Subnet), AllocateError> {
        if let Some(port) = request.port_id {
            // Ports here are those of load balancers and come and go with them: there is none to adopt.
            return Err(unknown("Port", port));
        }
        match (request.network_id, request.subnet_id) {
            (None, None) => Err(invalid(
                "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.",
            )),
            (None, Some(subnet)) => self.subnet(subnet).ok_or_else(|| unknown("Subnet", subnet)),
            (Some(network), Some(subnet)) => {
                let network = self.network(network)?;
                let found = network.subnets.iter().find(|known| known.id == subnet);
                Ok((network, found.ok_or_else(|| unknown("Subnet", subnet))?))
            }
            (Some(network), None) => {
                let network = self.network(network)?;
                Ok((network, self.subnet_of(network, request.address)?))
            }
        }
    }

    /// The subnet that holds the address, or without one the first with a free address, IPv4 first.
    fn subnet_of(
        &self,
        network: &'a Network,
        address: Option<IpAddr>,
    ) -> Result<&'a Subnet, AllocateError> {
        if let Some(address) = address {
            let holder = network
                .subnets
                .iter()
                .find(|subnet| subnet.cidr.has_host(address));
            return holder.ok_or_else(|| {
                invalid("Supplied network does not contain a subnet for VIP address specified.")
            });
        }
        if network.subnets.is_empty() {
            return Err(invalid("Supplied network does not contain a subnet."));
        }
        let family = |v4: bool| {
            network
                .subnets
                .iter()
                .filter(move |subnet| subnet.allocation.0.is_ipv4() == v4)
        };
        let mut by_preference = family(true).chain(family(false));
        by_preference
            .find(|subnet| self.lowest_free(subnet).is_some())
            .ok_or_else(exhausted)
    }

    /// The subnets of the additional addresses: of the same network, each once (reference 5.4).
    fn resolve_additional(
        &self,
        network: &Network,
        primary: &Subnet,
        request: &VipRequest,
    ) -> Result<Vec<(&'a Subnet, Option<IpAddr>)>, AllocateError> {
        let mut used = BTreeSet::from([primary.id]);
        let mut found = Vec::with_capacity(request.additional.len());
        for &(id, wanted) in &request.additional {
            let (its_network, subnet) = self.subnet(id).ok_or_else(|| unknown("Subnet", id))?;
            if its_network.id != network.id {
                return Err(invalid("All VIP subnets must belong to the same network."));
            }
            if !used.insert(id) {
                return Err(invalid(
                    "Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.",
                ));
            }
            found.push((subnet, wanted));
        }
        Ok(found)
    }

    /// The address asked for, which need not be in the range handed out from, or the lowest free one of that range.
    fn address_in(&self, subnet: &Subnet, wanted: Option<IpAddr>) -> Result<IpAddr, AllocateError> {
        let Some(address) = wanted else {
            return self.lowest_free(subnet).ok_or_else(exhausted);
        };
        if !subnet.cidr.has_host(address) {
            return Err(invalid(&format!(
                "IP address {address} is not a valid IP for the specified subnet {} ({}).",
                subnet.id, subnet.cidr
            )));
        }
        if self.taken.contains(&address) {
            let reason = format!(
                "IP address {address} already allocated in subnet {}",
                subnet.id
            );
            return Err(AllocateError::InUse { address, reason });
        }
        Ok(address)
    }

    /// Walks along what is taken until there is a gap.
    fn lowest_free(&self, subnet: &Subnet) -> Option<IpAddr> {
        let (first, last) = subnet.allocation;
        let mut candidate = to_number(first);
        for taken in self.taken.range(first..=last) {
            if to_number(*taken) != candidate {
                break;
            }
            candidate = candidate.checked_add(1)?;
        }
        (candidate <= to_number(last)).then(|| from_number(candidate, first))
    }

    fn network(&self, id: Uuid) -> Result<&'a Network, AllocateError> {
        self.networks
            .iter()
            .find(|network| network.id == id)
            .ok_or_else(|| unknown("Network", id))
    }

    fn subnet(&self, id: Uuid) -> Option<(&'a Network, &'a Subnet)> {
        self.networks.iter().find_map(|network| {
            let subnet = network.subnets.iter().find(|subnet| subnet.id == id)?;
            Some((network, subnet))
        })
    }
}

fn unknown(kind: &'static str, id: Uuid) -> AllocateError {
    AllocateError::Unknown {
        kind,
        id: id.to_string(),
    }
}

fn invalid(sentence: &str) -> AllocateError {
    AllocateError::Invalid(sentence.to_owned())
}

fn exhausted() -> AllocateError {
    invalid("Subnet(s) in the supplied network do not contain enough available IPs.")
}
