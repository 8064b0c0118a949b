//! The network that an amphora lives on, if that is not its host's.

use std::{fmt::Write as _, net::IpAddr};

/// A network of tenants, as this host has to build it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its name, for people.
    pub name: String,
    /// The bridge it is on; made if there is none of that name.
    pub bridge: String,
    /// The largest packet.
    pub mtu: u32,
    /// The tunnel to its bridges on other hosts, if it spans several.
    pub tunnel: Option<Tunnel>,
    /// Its subnets.
    pub subnets: Vec<Subnet>,
}

/// A tunnel to the bridges of the same network on other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tunnel {
    /// The number of the network, the same everywhere.
    pub vni: u32,
    /// Where hosts reach each other.
    pub underlay: Underlay,
}

/// Where hosts reach each other with tunnels.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Underlay {
    /// Where this host is reached.
    pub local: IpAddr,
    /// The others.
    pub peers: Vec<IpAddr>,
    /// The port of all of them.
    pub port: u16,
}

/// A subnet of the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subnet {
    /// In CIDR notation.
    pub cidr: String,
    /// The router by which all other addresses are reached.
    pub gateway: Option<IpAddr>,
    /// What is reached by another router: addresses in CIDR notation, and the router.
    pub routes: Vec<(String, IpAddr)>,
}

impl Segment {
    /// As the settings of an amphora have it.
    pub(crate) fn print(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{HEADING}name = {}\nbridge = {}\nmtu = {}\n",
            quoted(&self.name),
            quoted(&self.bridge),
            self.mtu
        );
        if let Some(Tunnel { vni, underlay }) = &self.tunnel {
            let peers: Vec<String> = underlay
                .peers
                .iter()
                .map(|peer| format!("\"{peer}\""))
                .collect();
            let _ = write!(
                out,
                "[network.vxlan]\nvni = {vni}\nlocal = \"{}\"\npeers = [{}]\nport = {}\n",
                underlay.local,
                peers.join(", "),
                underlay.port
            );
        }
        for subnet in &self.subnets {
            let _ = writeln!(out, "[[network.subnets]]\ncidr = {}", quoted(&subnet.cidr));
            if let Some(gateway) = subnet.gateway {
                let _ = writeln!(out, "gateway = \"{gateway}\"");
            }
            let route = |(destination, via): &(String, IpAddr)| {
                format!(
                    "{{ destination = {}, via = \"{via}\" }}",
                    quoted(destination)
                )
            };
            let routes: Vec<String> = subnet.routes.iter().map(route).collect();
            let _ = writeln!(out, "routes = [{}]", routes.join(", "));
        }
    }
}

/// Where the settings of a network begin.
pub(crate) const HEADING: &str = "[network]\n";

/// A text as TOML wants it. JSON's escapes are TOML's, but for DEL.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text)
        .to_string()
        .replace('\u{7f}', "\\u007f")
}
