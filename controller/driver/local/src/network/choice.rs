//! Which addresses a load balancer gets (reference 5.3, 5.4): a pure function of the networks and what is taken.

use std::{collections::BTreeSet, net::IpAddr};

use krater_controller_core::{
    model::{AdditionalVip, Vip, VipRequest},
    network::{Located, Viewer},
};
use krater_driver::{AllocateError, AllocatedVip, Taken};
use uuid::Uuid;

use super::config::{Network, Port, Subnet, from_number, to_number};

/// What a choice is made from.
pub(crate) struct Choice<'a> {
    pub(crate) networks: &'a [Network],
    /// Addresses that are not handed out: those of configured ports.
    pub(crate) reserved: &'a BTreeSet<Located>,
    /// What load balancers have.
    pub(crate) taken: &'a Taken,
    /// What they may not see is not there.
    pub(crate) viewer: &'a Viewer,
}

/// Where the primary address is to be.
pub(crate) struct Place<'a> {
    pub(crate) network: &'a Network,
    subnet: &'a Subnet,
    /// The address asked for, or that of the port.
    address: Option<IpAddr>,
    /// The port asked for.
    port: Option<&'a Port>,
}

impl<'a> Choice<'a> {
    /// Resolves a request to addresses: those asked for or those of the port, else the lowest free ones.
    pub(crate) fn choose(
        &self,
        request: &VipRequest,
        port_id: Uuid,
    ) -> Result<AllocatedVip, AllocateError> {
        let place = self.resolve(request)?;
        let additional = self.resolve_additional(&place, request)?;
        let mut given = BTreeSet::new();
        let on = place.network;
        let address = self.address_in(on, place.subnet, (place.address, place.port), &given)?;
        let vip = Vip {
            address,
            port_id: place.port.map_or(port_id, |port| port.id),
            subnet_id: place.subnet.id,
            network_id: place.network.id,
        };
        let additional = additional
            .into_iter()
            .map(|(subnet, wanted)| {
                given.insert(address);
                let address = self.address_in(on, subnet, (wanted, place.port), &given)?;
                given.insert(address);
                Ok(AdditionalVip {
                    address,
                    subnet_id: subnet.id,
                })
            })
            .collect::<Result<_, AllocateError>>()?;
        Ok(AllocatedVip { vip, additional })
    }

    /// The lowest free address of a subnet.
    pub(crate) fn beside(&self, subnet: Uuid) -> Result<IpAddr, AllocateError> {
        let (network, subnet) = self.subnet(subnet)?;
        self.lowest_free(network, subnet, &BTreeSet::new())
            .ok_or_else(exhausted)
    }

    /// Network and subnet of the primary address.
    pub(crate) fn resolve(&self, request: &VipRequest) -> Result<Place<'a>, AllocateError> {
        if let Some(port) = request.port_id {
            return self.resolve_port(port, request);
        }
        let (network, subnet) = match (request.network_id, request.subnet_id) {
            (None, None) => {
                return Err(invalid(
                    "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.",
                ));
            }
            (None, Some(subnet)) => self.subnet(subnet)?,
            (Some(network), Some(subnet)) => {
                let network = self.network(network)?;
                let found = network.subnets.iter().find(|known| known.id == subnet);
                (network, found.ok_or_else(|| unknown("Subnet", subnet))?)
            }
            (Some(network), None) => {
                let network = self.network(network)?;
                (network, self.subnet_of(network, request.address)?)
            }
        };
        Ok(Place {
            network,
            subnet,
            address: request.address,
            port: None,
        })
    }

    /// The port decides; what else is said must agree with it.
    fn resolve_port(&self, id: Uuid, request: &VipRequest) -> Result<Place<'a>, AllocateError> {
        let (network, port) = self.free_port(id)?;
        if let Some(wanted) = request.network_id
            && self.network(wanted)?.id != network.id
        {
            return Err(invalid(&format!(
                "Port {id} is not on the supplied network {wanted}."
            )));
        }
        let (subnet, address) = match (request.subnet_id, request.address) {
            (Some(subnet), address) => {
                let (_, subnet) = self.subnet(subnet)?;
                (subnet, Some(port_address(port, subnet.id, address)?))
            }
            (None, Some(address)) => {
                let fixed_ip = port
                    .fixed_ips
                    .iter()
                    .find(|fixed_ip| fixed_ip.address == address);
                let fixed_ip = fixed_ip.ok_or_else(|| invalid(NOT_ON_PORT))?;
                (self.subnet(fixed_ip.subnet_id)?.1, Some(address))
            }
            (None, None) => match port.fixed_ips.as_slice() {
                [only] => (self.subnet(only.subnet_id)?.1, Some(only.address)),
                _ => {
                    return Err(invalid(
                        "VIP port's subnet could not be determined. Please specify either a VIP subnet or address.",
                    ));
                }
            },
        };
        Ok(Place {
            network,
            subnet,
            address,
            port: Some(port),
        })
    }

    /// A port that nobody uses.
    fn free_port(&self, id: Uuid) -> Result<(&'a Network, &'a Port), AllocateError> {
        let known = self.visible().find_map(|network| {
            let mut ports = network.ports.iter();
            let port =
                ports.find(|port| port.id == id && self.viewer.sees_of(port.project.as_ref()))?;
            Some((network, port))
        });
        let holder = self.taken.port.as_ref();
        let device = match (known, holder) {
            // A port that was made for a load balancer is not ours to know, but in use.
            (None, Some(holder)) if self.viewer.sees_of(Some(&holder.project)) => {
                Some(format!("lb-{}", holder.load_balancer))
            }
            (None, _) => return Err(unknown("Port", id)),
            (Some((_, port)), holder) => holder
                .map(|holder| format!("lb-{}", holder.load_balancer))
                .or_else(|| port.device_id.clone()),
        };
        match (device, known) {
            (None, Some(free)) => Ok(free),
            (device, _) => Err(invalid(&format!(
                "Port {id} is already used by device {}",
                device.unwrap_or_default()
            ))),
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
            .find(|subnet| {
                self.lowest_free(network, subnet, &BTreeSet::new())
                    .is_some()
            })
            .ok_or_else(exhausted)
    }

    /// The subnets of the additional addresses: of the same network, each once (reference 5.4). With a port each
    /// takes the port's address in its subnet.
    fn resolve_additional(
        &self,
        place: &Place<'a>,
        request: &VipRequest,
    ) -> Result<Vec<(&'a Subnet, Option<IpAddr>)>, AllocateError> {
        let mut used = BTreeSet::from([place.subnet.id]);
        let mut found = Vec::with_capacity(request.additional.len());
        for &(id, wanted) in &request.additional {
            let (its_network, subnet) = self.subnet(id)?;
            if its_network.id != place.network.id {
                return Err(invalid("All VIP subnets must belong to the same network."));
            }
            if !used.insert(id) {
                return Err(invalid(
                    "Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.",
                ));
            }
            let address = match place.port {
                None => wanted,
                Some(port) => Some(port_address(port, id, wanted)?),
            };
            found.push((subnet, address));
        }
        Ok(found)
    }

    /// The address asked for, which need not be in the range handed out from, or the lowest free one of that range.
    fn address_in(
        &self,
        network: &Network,
        subnet: &Subnet,
        (wanted, port): (Option<IpAddr>, Option<&Port>),
        given: &BTreeSet<IpAddr>,
    ) -> Result<IpAddr, AllocateError> {
        let Some(address) = wanted else {
            return self
                .lowest_free(network, subnet, given)
                .ok_or_else(exhausted);
        };
        if !subnet.cidr.has_host(address) || subnet.gateway == Some(address) {
            return Err(invalid(&format!(
                "IP address {address} is not a valid IP for the specified subnet {} ({}).",
                subnet.id, subnet.cidr
            )));
        }
        let is_in = |set| {
            self.within(set, network, (address, address))
                .next()
                .is_some()
        };
        let reserved = port.is_none() && is_in(self.reserved);
        if reserved || given.contains(&address) || is_in(&self.taken.addresses) {
            let reason = format!(
                "IP address {address} already allocated in subnet {}",
                subnet.id
            );
            return Err(AllocateError::InUse { address, reason });
        }
        Ok(address)
    }

    /// Walks along what is not free, or `given` to this very request, until there is a gap. Of those the first, or the one
    /// after so many as are to be passed over, or the last.
    fn lowest_free(
        &self,
        network: &Network,
        subnet: &Subnet,
        given: &BTreeSet<IpAddr>,
    ) -> Option<IpAddr> {
        let (first, last) = subnet.allocation;
        let mut candidate = to_number(first);
        let within = |set| self.within(set, network, (first, last)).peekable();
        let (mut taken, mut reserved) = (within(&self.taken.addresses), within(self.reserved));
        let mut wanted = within(&self.taken.wanted);
        let gateway = subnet.gateway.map(to_number);
        let (mut to_pass, mut found) = (self.taken.passed_over, None);
        while candidate <= to_number(last) {
            let is_candidate = |address: &IpAddr| to_number(*address) == candidate;
            let is_taken = taken.next_if(is_candidate).is_some();
            let is_reserved = reserved.next_if(is_candidate).is_some();
            let is_wanted = wanted.next_if(is_candidate).is_some();
            if !is_taken && !is_reserved && !is_wanted && gateway != Some(candidate) {
                let free = from_number(candidate, first);
                if !given.contains(&free) {
                    found = Some(free);
                    let Some(left) = to_pass.checked_sub(1) else {
                        break;
                    };
                    to_pass = left;
                }
            }
            let Some(next) = candidate.checked_add(1) else {
                break;
            };
            candidate = next;
        }
        found
    }

    /// Which of the addresses from the first to the last are in a set as far as a network is concerned, each once.
    ///
    /// What lives on this host shares one set of addresses, whatever network they are of, known still or not; a
    /// segment has its own.
    fn within(
        &self,
        set: &'a BTreeSet<Located>,
        network: &Network,
        (first, last): (IpAddr, IpAddr),
    ) -> impl Iterator<Item = IpAddr> + use<'a> {
        let (id, is_segment) = (network.id, network.segment.is_some());
        let networks = self.networks;
        let mut before = None;
        let found = set.range((first, Uuid::nil())..=(last, Uuid::max()));
        found.filter_map(move |&(address, on)| {
            let concerns = match is_segment {
                true => on == id,
                false => !networks
                    .iter()
                    .any(|it| it.id == on && it.segment.is_some()),
            };
            (concerns && before.replace(address) != Some(address)).then_some(address)
        })
    }

    fn visible(&self) -> impl Iterator<Item = &'a Network> {
        self.networks
            .iter()
            .filter(|network| self.viewer.sees(&network.audience))
    }

    fn network(&self, id: Uuid) -> Result<&'a Network, AllocateError> {
        self.visible()
            .find(|network| network.id == id)
            .ok_or_else(|| unknown("Network", id))
    }

    pub(crate) fn subnet(&self, id: Uuid) -> Result<(&'a Network, &'a Subnet), AllocateError> {
        self.visible()
            .find_map(|network| {
                let subnet = network.subnets.iter().find(|subnet| subnet.id == id)?;
                Some((network, subnet))
            })
            .ok_or_else(|| unknown("Subnet", id))
    }
}

/// The port's address in a subnet: the one asked for, else its first.
fn port_address(
    port: &Port,
    subnet: Uuid,
    wanted: Option<IpAddr>,
) -> Result<IpAddr, AllocateError> {
    let mut addresses = port
        .fixed_ips
        .iter()
        .filter(|fixed_ip| fixed_ip.subnet_id == subnet)
        .map(|fixed_ip| fixed_ip.address);
    let first = addresses.clone().next().ok_or_else(|| {
        invalid("No VIP address found on the specified VIP port within the specified subnet.")
    })?;
    match wanted {
        None => Ok(first),
        Some(wanted) => addresses
            .find(|address| *address == wanted)
            .ok_or_else(|| invalid(NOT_ON_PORT)),
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

const NOT_ON_PORT: &str = "Specified VIP address not found on the specified VIP port.";
