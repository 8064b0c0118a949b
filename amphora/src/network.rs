//! A tenant's network: the process lives in a namespace that is joined to it, and has nothing else to do with the
//! networks of its host (D50).
//!
//! The supervisor makes the namespace, joins it to the network's bridge and gives it to each agent it starts; the agent
//! enters it as soon as it has the right to, and looks after what is inside.

use std::{fmt, net::IpAddr};

mod filter;
mod host;
mod inside;
mod kernel;
mod lodging;
mod namespace;
pub(crate) mod outside;
mod privileges;
mod settings;

pub(crate) use inside::{Addresses, Inside};
pub(crate) use lodging::{Lodging, leave, move_in, sweep};
pub(crate) use privileges::give_up_all;
pub(crate) use settings::read;

/// What a network is made of on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Its name, for people.
    pub(crate) name: String,
    /// The bridge of this host that its namespaces are joined to; made if there is none of that name.
    pub(crate) bridge: String,
    /// The largest packet.
    pub(crate) mtu: u32,
    /// How it reaches other hosts, if it does.
    pub(crate) vxlan: Option<Vxlan>,
    /// Where addresses of load balancers are from.
    pub(crate) subnets: Vec<Subnet>,
}

/// A tunnel to the bridges of the same network on other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vxlan {
    /// The number of the network, the same everywhere.
    pub(crate) vni: u32,
    /// Where this host is reached by the others.
    pub(crate) local: IpAddr,
    /// The others.
    pub(crate) peers: Vec<IpAddr>,
    pub(crate) port: u16,
}

/// A subnet of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) prefix: Prefix,
    pub(crate) gateway: Option<IpAddr>,
    /// What is reached by another router than the gateway.
    pub(crate) routes: Vec<Route>,
}

/// A way to other addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Prefix,
    pub(crate) via: IpAddr,
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
}

impl Prefix {
    /// Reads `address/length`; bits behind the prefix must be zero.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address range like 192.0.2.0/24");
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let prefix = Self {
            address: address.parse().map_err(|_| wrong())?,
            length: length.parse().map_err(|_| wrong())?,
        };
        let bits = if prefix.address.is_ipv4() { 32 } else { 128 };
        if prefix.length > bits || prefix.first(prefix.address) != prefix.address {
            return Err(wrong());
        }
        Ok(prefix)
    }

    /// All addresses of a family.
    const fn everything(like: IpAddr) -> Self {
        Self {
            address: match like {
                IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
            },
            length: 0,
        }
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && self.first(address) == self.address
    }

    /// The address with all bits behind a prefix of this length zero.
    fn first(&self, address: IpAddr) -> IpAddr {
        let length = u32::from(self.length);
        match address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
                IpAddr::V4((address.to_bits() & !hosts).into())
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
                IpAddr::V6((address.to_bits() & !hosts).into())
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// What the interface of a namespace is called inside.
const INTERFACE: &str = "eth0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_what_begins_with_it_and_nothing_of_the_other_family() {
        let prefix = Prefix::parse("10.1.0.0/16").unwrap();
        let within = |text: &str| prefix.contains(text.parse().unwrap());
        assert!(within("10.1.255.255") && within("10.1.0.0"));
        assert!(!within("10.2.0.0") && !within("fd00::1"));
        let all = Prefix::parse("0.0.0.0/0").unwrap();
        assert!(all.contains("255.1.2.3".parse().unwrap()));
        let one = Prefix::parse("fd00::1/128").unwrap();
        assert!(one.contains("fd00::1".parse().unwrap()));
        assert!(!one.contains("fd00::2".parse().unwrap()));
        assert_eq!(one.to_string(), "fd00::1/128");
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0.1/24",
            "x/8",
            "fd00::1/64",
            "fd00::/129",
        ] {
            assert!(Prefix::parse(text).is_err(), "{text}");
        }
    }
}
