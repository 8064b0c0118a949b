//! The network that an amphora lives on, if that is not its host's.

use std::{
    fmt::Write as _,
    hash::{Hash, Hasher},
    net::IpAddr,
    path::Path,
};

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The number of the network, the same everywhere.
    pub vni: u32,
    /// Where it begins.
    pub underlay: Underlay,
    /// The other hosts on which the network is. They come and go while amphorae run: these are no settings of one.
    pub peers: Vec<IpAddr>,
}

/// Where a host is reached by tunnels of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Underlay {
    /// The address of this host.
    pub local: IpAddr,
    /// The port of all of them.
    pub port: u16,
}

/// Of what makes an amphora start again when it changes.
impl Hash for Tunnel {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.vni, self.underlay).hash(state);
    }
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
    /// The other hosts on which the network is, a line each.
    pub(crate) fn peers(&self) -> Option<String> {
        let tunnel = self.tunnel.as_ref()?;
        let lines = tunnel.peers.iter().map(|peer| format!("{peer}\n"));
        Some(lines.collect())
    }

    /// As the settings of an amphora have it; the hosts on which the network is are in the file `peers`.
    pub(crate) fn print(&self, peers: &Path, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "{HEADING}name = {}\nbridge = {}\nmtu = {}\n",
            quoted(&self.name),
            quoted(&self.bridge),
            self.mtu
        );
        if let Some(Tunnel { vni, underlay, .. }) = &self.tunnel {
            let _ = write!(
                out,
                "[network.vxlan]\nvni = {vni}\nlocal = \"{}\"\npeers_file = {}\nport = {}\n",
                underlay.local,
                quoted(&peers.to_string_lossy()),
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
