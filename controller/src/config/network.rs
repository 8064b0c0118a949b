//! `[network]` and `[[networks]]`: where VIPs come from, and what tenants may say about it.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use krater_controller_core::vips::{VipReference, VipRules};
use krater_driver_local::{
    ConfigError, LocalNetwork, NetworkConfig, NoopNetwork, SegmentConfig, Underlay,
};
use serde::Deserialize;
use uuid::Uuid;

use super::{Flaws, quoted};

/// The network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) driver: NetworkDriverName,
    pub(crate) rules: VipRules,
    /// Checked: the driver accepts them. None of a driver that has its own.
    pub(crate) networks: Vec<NetworkConfig>,
    /// Where hosts are reached on behalf of networks that span several.
    pub(crate) vxlan: Vxlan,
    /// The lists of networks as they were written.
    valid: Option<Vec<String>>,
    denied: Vec<String>,
}

/// Where hosts are reached on behalf of networks that span several (VXLAN).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vxlan {
    /// This one, if it takes part.
    pub(crate) local: Option<IpAddr>,
    /// Those that nobody else tells of: the hosts of other controllers, and of members.
    pub(crate) peers: Vec<IpAddr>,
    /// The port of all of them.
    pub(crate) port: u16,
}

impl Vxlan {
    /// Where tunnels of this host begin.
    pub(crate) fn underlay(&self) -> Option<Underlay> {
        let local = self.local?;
        let port = self.port;
        Some(Underlay { local, port })
    }
}

impl Default for Vxlan {
    fn default() -> Self {
        Self {
            local: None,
            peers: Vec::new(),
            port: vxlan_port(),
        }
    }
}

/// Who gives VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkDriverName {
    /// The networks of the settings, on this host.
    Local,
    /// Nobody really.
    Noop,
}

impl NetworkDriverName {
    const ALL: [Self; 2] = [Self::Local, Self::Noop];

    const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Noop => "noop",
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NetworkFile {
    driver: Option<String>,
    allow_vip_port_id: Option<bool>,
    allow_vip_network_id: Option<bool>,
    allow_vip_subnet_id: Option<bool>,
    valid_vip_networks: Option<Vec<String>>,
    denylist_vip_networks: Vec<String>,
    vxlan: Option<VxlanFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VxlanFile {
    #[serde(default)]
    local: Option<IpAddr>,
    #[serde(default)]
    peers: Vec<IpAddr>,
    #[serde(default = "vxlan_port")]
    port: u16,
}

/// As IANA has it.
const fn vxlan_port() -> u16 {
    4_789
}

/// Takes both parts of the settings.
pub(super) fn parse(
    file: NetworkFile,
    networks: Option<Vec<NetworkConfig>>,
    here: OnThisHost,
    flaws: &mut Flaws,
) -> Option<Network> {
    let driver = match file.driver.as_deref() {
        None => Ok(NetworkDriverName::Local),
        Some(text) => NetworkDriverName::ALL
            .into_iter()
            .find(|driver| driver.name() == text)
            .ok_or_else(|| format!("{text:?} is neither \"local\" nor \"noop\"")),
    };
    let references = parse_references(&file, flaws);
    let vxlan = file.vxlan.map(|vxlan| Vxlan {
        local: vxlan.local,
        peers: vxlan.peers,
        port: vxlan.port,
    });
    let vxlan = vxlan.unwrap_or_default();
    let driver = flaws.keep("network.driver", driver)?;
    let mut one_host = BTreeSet::new();
    let (networks, ids) = match driver {
        NetworkDriverName::Local => {
            let networks = networks.unwrap_or_else(|| vec![NetworkConfig::loopback()]);
            let local = check(LocalNetwork::new(&networks), flaws)?;
            require_underlay(&local, &vxlan, here, flaws);
            let segments = local.segments().into_iter();
            one_host = segments
                .filter(|it| it.vni.is_none())
                .map(|it| it.id)
                .collect();
            (networks, Ids::Local(local))
        }
        NetworkDriverName::Noop => {
            if networks.is_some() {
                let reason = "there are none with network.driver = \"noop\"; leave them out";
                flaws.0.push(format!("networks: {reason}"));
            }
            (Vec::new(), Ids::Noop(check(NoopNetwork::new(), flaws)?))
        }
    };
    let valid = match &file.valid_vip_networks {
        None => Some(None),
        Some(texts) if texts.is_empty() => {
            let reason = "allows no network at all; leave it out to allow every one";
            flaws
                .0
                .push(format!("network.valid_vip_networks: {reason}"));
            None
        }
        Some(texts) => ids.of("network.valid_vip_networks", texts, flaws).map(Some),
    };
    let denied = ids.of(
        "network.denylist_vip_networks",
        &file.denylist_vip_networks,
        flaws,
    );
    Some(Network {
        driver,
        rules: VipRules {
            references: references?,
            valid_networks: valid?,
            denied_networks: denied?,
            one_host,
        },
        networks,
        vxlan,
        valid: file.valid_vip_networks,
        denied: file.denylist_vip_networks,
    })
}

/// Whether amphorae are to be on the controller's own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnThisHost {
    /// They are.
    Wanted,
    /// They are on hosts that joined alone.
    Unwanted,
}

/// Networks that span several hosts need to know where those are.
fn require_underlay(local: &LocalNetwork, vxlan: &Vxlan, here: OnThisHost, flaws: &mut Flaws) {
    let segments = local.segments();
    let spans = segments.iter().find(|segment| segment.vni.is_some());
    if let Some(segment) = spans
        && vxlan.local.is_none()
        && here == OnThisHost::Wanted
    {
        flaws.0.push(format!(
            "network.vxlan.local: is missing: network {} has a vni, and other hosts have to know where they reach this one",
            segment.name
        ));
    }
    let mut all = vxlan.local.iter().chain(&vxlan.peers);
    let first = all.next();
    if all.any(|one| first.is_some_and(|first| first.is_ipv4() != one.is_ipv4())) {
        flaws
            .0
            .push("network.vxlan: local and peers have to be of one family".to_owned());
    }
}

fn parse_references(file: &NetworkFile, flaws: &mut Flaws) -> Option<BTreeSet<VipReference>> {
    let allowed = |reference: &VipReference| {
        let setting = match reference {
            VipReference::Port => file.allow_vip_port_id,
            VipReference::Network => file.allow_vip_network_id,
            VipReference::Subnet => file.allow_vip_subnet_id,
        };
        setting.unwrap_or(true)
    };
    let references: BTreeSet<_> = VipReference::ALL.into_iter().filter(allowed).collect();
    let some = if references.is_empty() {
        Err("with all three of allow_vip_port_id, allow_vip_network_id and allow_vip_subnet_id off no load balancer \
             can be created"
            .to_owned())
    } else {
        Ok(references)
    };
    flaws.keep("network", some)
}

/// Who knows the ids of networks.
enum Ids {
    Local(LocalNetwork),
    Noop(NoopNetwork),
}

impl Ids {
    fn of(&self, setting: &str, texts: &[String], flaws: &mut Flaws) -> Option<BTreeSet<Uuid>> {
        let known = texts.len();
        let ids: Vec<Uuid> = texts
            .iter()
            .filter_map(|text| {
                let id = match self {
                    Self::Local(local) => local.network_id(text),
                    Self::Noop(noop) => noop.network_id(text),
                };
                let id = id.ok_or_else(|| format!("there is no network {text:?}"));
                flaws.keep(setting, id)
            })
            .collect();
        (ids.len() == known).then(|| ids.into_iter().collect())
    }
}

fn check<T>(made: Result<T, Vec<ConfigError>>, flaws: &mut Flaws) -> Option<T> {
    made.map_err(|reasons| {
        flaws
            .0
            .extend(reasons.iter().map(|reason| format!("networks: {reason}")));
    })
    .ok()
}

/// Both parts as they are written.
pub(super) fn print(network: &Network, out: &mut String) {
    let _ = write!(out, "\n[network]\ndriver = \"{}\"\n", network.driver.name());
    for reference in VipReference::ALL {
        let allowed = network.rules.references.contains(&reference);
        let _ = writeln!(out, "allow_{} = {allowed}", reference.field());
    }
    if let Some(valid) = &network.valid {
        let _ = writeln!(out, "valid_vip_networks = {}", quoted_list(valid));
    }
    let _ = writeln!(
        out,
        "denylist_vip_networks = {}",
        quoted_list(&network.denied)
    );
    if network.vxlan != Vxlan::default() {
        let Vxlan { local, peers, port } = &network.vxlan;
        out.push_str("\n[network.vxlan]\n");
        let _ = local.map(|local| writeln!(out, "local = \"{local}\""));
        let peers: Vec<String> = peers.iter().map(IpAddr::to_string).collect();
        let _ = writeln!(out, "peers = {}\nport = {port}", quoted_list(&peers));
    }
    for network in &network.networks {
        print_network(network, out);
    }
}

fn print_network(network: &NetworkConfig, out: &mut String) {
    let _ = write!(out, "\n[[networks]]\nname = {}\n", quoted(&network.name));
    if let Some(projects) = &network.projects {
        let _ = writeln!(out, "projects = {}", quoted_list(projects));
    }
    if let Some(SegmentConfig { bridge, vni, mtu }) = &network.segment {
        let _ = writeln!(out, "[networks.segment]");
        let _ = bridge
            .as_ref()
            .map(|bridge| writeln!(out, "bridge = {}", quoted(bridge)));
        for (name, number) in [("vni", vni), ("mtu", mtu)] {
            let _ = number.map(|number| writeln!(out, "{name} = {number}"));
        }
    }
    for subnet in &network.subnets {
        let _ = write!(
            out,
            "[[networks.subnets]]\nname = {}\n",
            quoted(&subnet.name)
        );
        let _ = writeln!(out, "cidr = {}", quoted(&subnet.cidr));
        for (name, address) in [
            ("gateway", subnet.gateway),
            ("first", subnet.first),
            ("last", subnet.last),
        ] {
            let _ = address.map(|address| writeln!(out, "{name} = \"{address}\""));
        }
        let routes = subnet.host_routes.iter().map(|route| {
            let to = quoted(&route.destination);
            format!("{{ destination = {to}, nexthop = \"{}\" }}", route.nexthop)
        });
        let routes: Vec<String> = routes.collect();
        if !routes.is_empty() {
            let _ = writeln!(out, "host_routes = [{}]", routes.join(", "));
        }
    }
    for port in &network.ports {
        let _ = write!(out, "[[networks.ports]]\nname = {}\n", quoted(&port.name));
        for (name, text) in [("project", &port.project), ("device_id", &port.device_id)] {
            let _ = text
                .as_ref()
                .map(|text| writeln!(out, "{name} = {}", quoted(text)));
        }
        let fixed_ips = port.fixed_ips.iter().map(|ip| {
            let subnet = quoted(&ip.subnet);
            format!("{{ subnet = {subnet}, address = \"{}\" }}", ip.address)
        });
        let fixed_ips: Vec<String> = fixed_ips.collect();
        let _ = writeln!(out, "fixed_ips = [{}]", fixed_ips.join(", "));
    }
}

fn quoted_list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(", "))
}

#[cfg(test)]
mod tests;
