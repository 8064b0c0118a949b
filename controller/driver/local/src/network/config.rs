//! The networks as configured, and as parsed: no overlaps, no ranges outside their subnet, ids that never change.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use serde::Deserialize;
use thiserror::Error;
use uuid::{Builder, Uuid};

/// A network as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Its name. Its id is derived from it.
    pub name: String,
    /// Its subnets, at least one.
    pub subnets: Vec<SubnetConfig>,
}

/// A subnet as configured.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetConfig {
    /// Its name. Its id is derived from it and the network's.
    pub name: String,
    /// In CIDR notation.
    pub cidr: String,
    /// The first address handed out without being asked for by a tenant; without it the first usable one.
    #[serde(default)]
    pub first: Option<IpAddr>,
    /// The last one; without it the last usable one.
    #[serde(default)]
    pub last: Option<IpAddr>,
}

impl NetworkConfig {
    /// The network of a host that nobody configured: loopback addresses, which need no privilege to bind and no
    /// address to be set up. `127.77.0.1` is left out as the place where a gateway would be.
    #[must_use]
    pub fn loopback() -> Self {
        let v4 = |last_two: [u8; 2]| Some(IpAddr::from([127, 77, last_two[0], last_two[1]]));
        Self {
            name: "local".to_owned(),
            subnets: vec![
                SubnetConfig {
                    name: "local-v4".to_owned(),
                    cidr: "127.77.0.0/16".to_owned(),
                    first: v4([0, 2]),
                    last: v4([255, 254]),
                },
                SubnetConfig {
                    name: "local-v6".to_owned(),
                    cidr: "::1/128".to_owned(),
                    first: None,
                    last: None,
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
    pub(crate) subnets: Vec<Subnet>,
}

/// A subnet, parsed: its range lies in its CIDR and is not empty.
#[derive(Clone, Debug)]
pub(crate) struct Subnet {
    pub(crate) id: Uuid,
    pub(crate) name: String,
    pub(crate) cidr: Cidr,
    pub(crate) allocation: (IpAddr, IpAddr),
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
    let mut errors = Vec::new();
    let mut names = BTreeSet::new();
    let mut networks: Vec<Network> = Vec::new();
    for config in configs {
        let mut complain = |place: &str, reason: String| {
            errors.push(ConfigError {
                place: format!("network {place}"),
                reason,
            });
        };
        if !names.insert(config.name.as_str()) {
            complain(&config.name, "the name is used twice".to_owned());
        }
        if config.subnets.is_empty() {
            complain(&config.name, "it has no subnet".to_owned());
        }
        let mut subnets: Vec<Subnet> = Vec::new();
        for subnet in &config.subnets {
            let place = format!("{}, subnet {}", config.name, subnet.name);
            match parse_subnet(&config.name, subnet) {
                Err(reason) => complain(&place, reason),
                Ok(parsed) => {
                    let known = networks
                        .iter()
                        .flat_map(|network| &network.subnets)
                        .chain(&subnets);
                    for other in known {
                        if other.id == parsed.id {
                            complain(&place, "the name is used twice".to_owned());
                        } else if other.cidr.overlaps(&parsed.cidr) {
                            complain(
                                &place,
                                format!(
                                    "{} overlaps with {} of {}",
                                    parsed.cidr, other.cidr, other.name
                                ),
                            );
                        }
                    }
                    subnets.push(parsed);
                }
            }
        }
        networks.push(Network {
            id: derive_id(&[&config.name]),
            name: config.name.clone(),
            subnets,
        });
    }
    if errors.is_empty() {
        Ok(networks)
    } else {
        Err(errors)
    }
}

fn parse_subnet(network: &str, config: &SubnetConfig) -> Result<Subnet, String> {
    let cidr = Cidr::parse(&config.cidr)?;
    let (first, last) = cidr.hosts();
    let allocation = (config.first.unwrap_or(first), config.last.unwrap_or(last));
    for end in [allocation.0, allocation.1] {
        if !cidr.has_host(end) {
            return Err(format!("{end} is not an address that {cidr} can hand out"));
        }
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
        allocation,
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
