//! A tenant's network: the process lives in a namespace that is joined to it, and has nothing else to do with the
//! networks of its host (D50).
//!
//! The supervisor makes the namespace, joins it to the network's bridge and gives it to each agent it starts; the agent
//! enters it as soon as it has the right to, and looks after what is inside.

use std::{collections::BTreeSet, fmt, fs, io, net::IpAddr, path::PathBuf};

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
pub(crate) use lodging::{Lodging, leave, move_in, obstacle, sweep, tell_peers};
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
    pub(crate) peers: Peers,
    pub(crate) port: u16,
}

/// The other hosts on which a network is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Peers {
    /// These.
    Listed(BTreeSet<IpAddr>),
    /// Those that a file names, a line each: they change while the amphora runs, and it is read each time anew.
    File(PathBuf),
}

impl Peers {
    fn read(&self) -> io::Result<BTreeSet<IpAddr>> {
        let path = match self {
            Self::Listed(listed) => return Ok(listed.clone()),
            Self::File(path) => path,
        };
        let failed = |reason: String| {
            let place = path.display();
            io::Error::other(format!(
                "the other hosts cannot be read from {place}: {reason}"
            ))
        };
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let address = |line: &str| {
            line.parse::<IpAddr>()
                .map_err(|_| failed(format!("{line:?} is not an address")))
        };
        text.lines().map(address).collect()
    }
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
    fn the_other_hosts_of_a_file_are_read_anew_each_time_and_one_that_is_none_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers");
        let peers = Peers::File(path.clone());
        let error = peers.read().unwrap_err().to_string();
        assert!(error.contains("peers"), "{error}");
        for (text, count) in [("", 0), ("192.0.2.1\nfd00::1\n", 2), ("192.0.2.7", 1)] {
            fs::write(&path, text).unwrap();
            assert_eq!(peers.read().unwrap().len(), count, "{text}");
        }
        fs::write(&path, "192.0.2.1\nx\n").unwrap();
        let error = peers.read().unwrap_err().to_string();
        assert!(error.contains("\"x\" is not an address"), "{error}");
    }

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
