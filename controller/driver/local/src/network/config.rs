//! The networks as configured, and as parsed: no overlaps, no ranges outside their subnet, ids that never change.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use krater_controller_core::{
    model::ProjectId,
    network::{Audience, FixedIp},
};
use serde::Deserialize;
use thiserror::Error;
use uuid::{Builder, Uuid};

use super::segment::{Segment, SegmentConfig};

/// A network as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name. Its id is derived from it.
    pub name: String,
    /// The projects that see it; without it everybody does.
    #[serde(default)]
    pub projects: Option<Vec<String>>,
    /// Its subnets, at least one.
    pub subnets: Vec<SubnetConfig>,
    /// How it is built on hosts, if load balancers on it live on it alone; without it their addresses are this host's.
    #[serde(default)]
    pub segment: Option<SegmentConfig>,
    /// Its ports: places for load balancers that are known before any is created.
    #[serde(default)]
    pub ports: Vec<PortConfig>,
}

/// A subnet as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    /// Its name. Its id is derived from it and the network's.
    pub name: String,
    /// In CIDR notation.
    pub cidr: String,
    /// The router's address: nobody gets it.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// The first address handed out without being asked for by a tenant; without it the first usable one.
    #[serde(default)]
    pub first: Option<IpAddr>,
    /// The last one; without it the last usable one.
    #[serde(default)]
    pub last: Option<IpAddr>,
    /// What is reached by another router than the gateway. Of segments only.
    #[serde(default)]
    pub host_routes: Vec<HostRouteConfig>,
}

/// A way to other addresses, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRouteConfig {
    /// The addresses, in CIDR notation.
    pub destination: String,
    /// The router, an address of the subnet.
    pub nexthop: IpAddr,
}

/// A port as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// Its name. Its id is derived from it and the network's.
    pub name: String,
    /// Its addresses, at least one. Nobody gets them without naming the port.
    pub fixed_ips: Vec<FixedIpConfig>,
    /// The project that sees it; without it everybody does who sees the network.
    #[serde(default)]
    pub project: Option<String>,
    /// Who uses it, if it is not free for load balancers.
    #[serde(default)]
    pub device_id: Option<String>,
}

/// An address of a port as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FixedIpConfig {
    /// The name of a subnet of the network.
    pub subnet: String,
    /// The address.
    pub address: IpAddr,
}

impl NetworkConfig {
    /// The network of a host that nobody configured: loopback addresses, which need no privilege to bind and no
    /// address to be set up. `127.77.0.1` is left out as the place where a gateway would be.
    #[must_use]
    pub fn loopback() -> Self {
        let v4 = |last_two: [u8; 2]| Some(IpAddr::from([127, 77, last_two[0], last_two[1]]));
        Self {
            name: "local".to_owned(),
            projects: None,
            segment: None,
            ports: Vec::new(),
            subnets: vec![
                SubnetConfig {
                    name: "local-v4".to_owned(),
                    cidr: "127.77.0.0/16".to_owned(),
                    gateway: None,
                    first: v4([0, 2]),
                    last: v4([255, 254]),
                    host_routes: Vec::new(),
                },
                SubnetConfig {
                    name: "local-v6".to_owned(),
                    cidr: "::1/128".to_owned(),
                    gateway: None,
                    first: None,
                    last: None,
                    host_routes: Vec::new(),
                },
            ],
        }
    }
}

/// What is wrong with a configured network.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{place}: {reason}")]
pub struct ConfigError {
    /// The network or subnet, by name.
    pub place: String,
    /// One sentence.
    pub reason: String,
}

/// A network, parsed.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) audience: Audience,
    pub(crate) segment: Option<Segment>,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) ports: Vec<Port>,
}

/// A subnet, parsed: its range lies in its CIDR and is not empty.
#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) cidr: Cidr,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) allocation: (IpAddr, IpAddr),
    pub(crate) host_routes: Vec<(String, IpAddr)>,
}

/// A port, parsed: its addresses are of its network, and of no other port.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) project: Option<ProjectId>,
    pub(crate) device_id: Option<String>,
    pub(crate) fixed_ips: Vec<FixedIp>,
}

/// A network address with its prefix length, host bits zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    first: IpAddr,
    last: IpAddr,
    prefix: u32,
}

impl Cidr {
    /// Reads `address/prefix`; host bits must be zero, since a typing error shows there.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is not an address range like 192.0.2.0/24 or 2001:db8::/64");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u32 = prefix.parse().map_err(|_| wrong())?;
        let bits = if address.is_ipv4() {
            u32::BITS
        } else {
            u128::BITS
        };
        let host_bits = bits.checked_sub(prefix).ok_or_else(wrong)?;
        let hosts = if host_bits == u128::BITS {
            u128::MAX
        } else {
            (1 << host_bits) - 1
        };
        let number = to_number(address);
        if number & hosts != 0 {
            let network = from_number(number & !hosts, address);
            return Err(format!(
                "{text} has bits set behind its prefix; {network}/{prefix} is meant?"
            ));
        }
        Ok(Self {
            first: address,
            last: from_number(number | hosts, address),
            prefix,
        })
    }

    /// Whether the address is in the range and may be somebody's: of IPv4 the first and the last one are not, unless
    /// the range is of one or two (RFC 3021).
    pub(crate) fn has_host(&self, address: IpAddr) -> bool {
        let (first, last) = self.hosts();
        address.is_ipv4() == first.is_ipv4() && (first..=last).contains(&address)
    }

    /// First and last address somebody may have.
    fn hosts(&self) -> (IpAddr, IpAddr) {
        match (to_number(self.first), to_number(self.last)) {
            (first, last) if self.first.is_ipv4() && last - first > 1 => (
                from_number(first + 1, self.first),
                from_number(last - 1, self.first),
            ),
            _ => (self.first, self.last),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// An address as a number; of IPv4 the low 32 bits.
pub(crate) fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Reads a number back as an address of the family of `like`.
pub(crate) fn from_number(number: u128, like: IpAddr) -> IpAddr {
    match (like, u32::try_from(number)) {
        (IpAddr::V4(_), Ok(bits)) => IpAddr::V4(bits.into()),
        _ => IpAddr::V6(number.into()),
    }
}

/// Parses all networks, or tells everything that is wrong with them.
pub(crate) fn parse(configs: &[NetworkConfig]) -> Result<Vec<Network>, Vec<ConfigError>> {
    let mut parser = Parser::default();
    for config in configs {
        parser.take_network(config);
    }
    if parser.errors.is_empty() {
        Ok(parser.networks)
    } else {
        Err(parser.errors)
    }
}

/// The networks so far, with all that is wrong with them.
#[derive(Default)]
struct Parser {
    networks: Vec<Network>,
    /// Addresses of ports, with their segment if they are on one.
    addresses: BTreeSet<(IpAddr, Option<Uuid>)>,
    errors: Vec<ConfigError>,
}

impl Parser {
    fn take_network(&mut self, config: &NetworkConfig) {
        let place = format!("network {}", config.name);
        let twice = self.networks.iter().any(|known| known.name == config.name);
        if twice {
            self.complain(&place, "the name is used twice".to_owned());
        }
        if config.subnets.is_empty() {
            self.complain(&place, "it has no subnet".to_owned());
        }
        let mut network = Network {
            id: derive_id(&[&config.name]),
            name: config.name.clone(),
            audience: self.take_audience(&place, config.projects.as_deref()),
            segment: self.take_segment(&place, config),
            subnets: Vec::new(),
            ports: Vec::new(),
        };
        for subnet in &config.subnets {
            self.take_subnet(&mut network, subnet);
        }
        for port in &config.ports {
            self.take_port(&mut network, config, port);
        }
        self.networks.push(network);
    }

    fn take_audience(&mut self, place: &str, projects: Option<&[String]>) -> Audience {
        let Some(projects) = projects else {
            return Audience::Everybody;
        };
        if projects.is_empty() {
            let reason = "nobody sees it; leave projects out to show it to everybody";
            self.complain(place, reason.to_owned());
        }
        let parsed = projects
            .iter()
            .filter_map(|project| self.take_project(place, project))
            .collect();
        Audience::Projects(parsed)
    }

    fn take_segment(&mut self, place: &str, config: &NetworkConfig) -> Option<Segment> {
        let segment = match Segment::parse(derive_id(&[&config.name]), config.segment.as_ref()?) {
            Ok(segment) => segment,
            Err(reasons) => {
                for reason in reasons {
                    self.complain(place, reason);
                }
                return None;
            }
        };
        let mut others = self.networks.iter();
        let clash = others.find_map(|other| {
            let shared = segment.clash(other.segment.as_ref()?)?;
            Some(format!(
                "it cannot share {shared} with network {}",
                other.name
            ))
        });
        if let Some(reason) = clash {
            self.complain(place, reason);
        }
        Some(segment)
    }

    fn take_project(&mut self, place: &str, project: &str) -> Option<ProjectId> {
        let parsed = ProjectId::parse(project);
        if parsed.is_none() {
            let reason = format!("the project {project:?} has not 1 to 36 characters");
            self.complain(place, reason);
        }
        parsed
    }

    fn take_subnet(&mut self, network: &mut Network, config: &SubnetConfig) {
        let place = format!("network {}, subnet {}", network.name, config.name);
        let subnet = match parse_subnet(&network.name, config) {
            Ok(subnet) => subnet,
            Err(reason) => return self.complain(&place, reason),
        };
        let is_apart = network.segment.is_some();
        let known = self.networks.iter().flat_map(|network| {
            let is_apart = is_apart || network.segment.is_some();
            network.subnets.iter().map(move |subnet| (subnet, is_apart))
        });
        let own = network.subnets.iter().map(|subnet| (subnet, false));
        let reasons: Vec<String> = known
            .chain(own)
            .filter_map(|(other, is_apart)| {
                if other.id == subnet.id {
                    return Some("the name is used twice".to_owned());
                }
                let (ours, theirs) = (subnet.cidr, other.cidr);
                (!is_apart && theirs.overlaps(&ours))
                    .then(|| format!("{ours} overlaps with {theirs} of {}", other.name))
            })
            .collect();
        for reason in reasons {
            self.complain(&place, reason);
        }
        if !is_apart && !subnet.host_routes.is_empty() {
            let reason =
                "its network is this host's, which has its own routes: leave host_routes out";
            self.complain(&place, reason.to_owned());
        }
        network.subnets.push(subnet);
    }

    fn take_port(&mut self, network: &mut Network, of: &NetworkConfig, config: &PortConfig) {
        let place = format!("network {}, port {}", network.name, config.name);
        let project = config
            .project
            .as_deref()
            .and_then(|project| self.take_project(&place, project));
        if let (Some(project), Audience::Projects(projects)) = (&project, &network.audience)
            && !projects.contains(project)
        {
            let reason = format!("its project {project} does not see the network");
            self.complain(&place, reason);
        }
        if config.device_id.as_deref().is_some_and(str::is_empty) {
            self.complain(&place, "its device_id is empty; leave it out".to_owned());
        }
        if config.fixed_ips.is_empty() {
            self.complain(&place, "it has no address".to_owned());
        }
        let port = Port {
            id: derive_id(&[&network.name, "port", &config.name]),
            name: config.name.clone(),
            project,
            device_id: config.device_id.clone(),
            fixed_ips: config
                .fixed_ips
                .iter()
                .filter_map(|fixed_ip| self.take_fixed_ip(&place, network, of, fixed_ip))
                .collect(),
        };
        if network.ports.iter().any(|known| known.id == port.id) {
            self.complain(&place, "the name is used twice".to_owned());
        }
        network.ports.push(port);
    }

    fn take_fixed_ip(
        &mut self,
        place: &str,
        network: &Network,
        of: &NetworkConfig,
        config: &FixedIpConfig,
    ) -> Option<FixedIp> {
        let FixedIpConfig { subnet, address } = config;
        let mut subnets = network.subnets.iter();
        let Some(known) = subnets.find(|known| known.name == *subnet) else {
            // One that is there and wrong was complained of already.
            if of.subnets.iter().all(|known| known.name != *subnet) {
                self.complain(place, format!("the network has no subnet {subnet}"));
            }
            return None;
        };
        if !known.cidr.has_host(*address) || known.gateway == Some(*address) {
            let reason = format!(
                "{address} is not an address that {} can hand out",
                known.cidr
            );
            self.complain(place, reason);
            return None;
        }
        let subnet_id = known.id;
        let segment = network.segment.as_ref().map(|_| network.id);
        if !self.addresses.insert((*address, segment)) {
            self.complain(place, format!("the address {address} is used twice"));
            return None;
        }
        Some(FixedIp {
            address: *address,
            subnet_id,
        })
    }

    fn complain(&mut self, place: &str, reason: String) {
        let place = place.to_owned();
        self.errors.push(ConfigError { place, reason });
    }
}

fn parse_subnet(network: &str, config: &SubnetConfig) -> Result<Subnet, String> {
    let cidr = Cidr::parse(&config.cidr)?;
    let (first, last) = cidr.hosts();
    let allocation = (config.first.unwrap_or(first), config.last.unwrap_or(last));
    for end in [allocation.0, allocation.1]
        .into_iter()
        .chain(config.gateway)
    {
        if !cidr.has_host(end) {
            return Err(format!("{end} is not an address that {cidr} can hand out"));
        }
    }
    let mut host_routes = Vec::with_capacity(config.host_routes.len());
    for HostRouteConfig {
        destination,
        nexthop,
    } in &config.host_routes
    {
        let to = Cidr::parse(destination)?;
        if to.first.is_ipv4() != nexthop.is_ipv4() || !cidr.has_host(*nexthop) {
            return Err(format!(
                "{nexthop} is no router of {cidr} that leads to {to}"
            ));
        }
        host_routes.push((to.to_string(), *nexthop));
    }
    if allocation.0 > allocation.1 {
        return Err(format!(
            "the first address {} is behind the last {}",
            allocation.0, allocation.1
        ));
    }
    Ok(Subnet {
        id: derive_id(&[network, &config.name]),
        name: config.name.clone(),
        cidr,
        gateway: config.gateway,
        allocation,
        host_routes,
    })
}

/// An id that is the same in every run, in the form of a UUIDv4, which clients check for. FNV-1a over the names; that
/// two names meet is refused like using one twice.
fn derive_id(names: &[&str]) -> Uuid {
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    for name in names {
        for byte in name.bytes().chain([0]) {
            hash =
                (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
        }
    }
    Builder::from_random_bytes(hash.to_be_bytes()).into_uuid()
}
