//! Read-only look-ups of networks, subnets and VIP ports in the form of the network service. Without a service
//! catalogue the command-line client asks for them at this same address when a tenant names a subnet.

use std::collections::BTreeMap;

use krater_controller_core::{
    model::{LoadBalancer, ProjectId},
    network::{Audience, NetworkView, PortView, SubnetView},
    tree::TreeView,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::parameters::Parameters;

/// What can be looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Networks.
    Networks,
    /// Subnets.
    Subnets,
    /// Ports: those of VIPs, and those a VIP may have.
    Ports,
}

impl Lookup {
    /// The key of one.
    pub(crate) const fn root(self) -> &'static str {
        match self {
            Self::Networks => "network",
            Self::Subnets => "subnet",
            Self::Ports => "port",
        }
    }

    /// The key of many.
    pub(crate) const fn root_list(self) -> &'static str {
        match self {
            Self::Networks => "networks",
            Self::Subnets => "subnets",
            Self::Ports => "ports",
        }
    }

    /// What one is called in "… not found".
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Networks => "Network",
            Self::Subnets => "Subnet",
            Self::Ports => "Port",
        }
    }
}

/// The networks as JSON.
pub(crate) fn networks(views: &[NetworkView]) -> Vec<Value> {
    let render = |network: &NetworkView| {
        let subnets: Vec<Uuid> = network.subnets.iter().map(|subnet| subnet.id).collect();
        let owner = owner(network);
        json!({
            "id": network.id,
            "name": network.name,
            "subnets": subnets,
            "status": "ACTIVE",
            "admin_state_up": true,
            "shared": network.audience == Audience::Everybody,
            "router:external": false,
            "tenant_id": owner,
            "project_id": owner,
        })
    };
    views.iter().map(render).collect()
}

/// The subnets of all networks as JSON.
pub(crate) fn subnets(views: &[NetworkView]) -> Vec<Value> {
    let render = |network: &NetworkView, subnet: &SubnetView| {
        let (first, last) = subnet.allocation;
        let owner = owner(network);
        json!({
            "id": subnet.id,
            "name": subnet.name,
            "network_id": network.id,
            "cidr": subnet.cidr,
            "ip_version": if first.is_ipv4() { 4 } else { 6 },
            "gateway_ip": subnet.gateway,
            "enable_dhcp": false,
            "allocation_pools": [{"start": first, "end": last}],
            "dns_nameservers": [],
            "host_routes": [],
            "tenant_id": owner,
            "project_id": owner,
        })
    };
    views
        .iter()
        .flat_map(|network| {
            network
                .subnets
                .iter()
                .map(move |subnet| render(network, subnet))
        })
        .collect()
}

/// The ports of networks and of load balancers as JSON. One that a load balancer adopted is both, and shown once.
pub(crate) fn ports(views: &[NetworkView], balancers: &[TreeView]) -> Vec<Value> {
    let mut adopted: BTreeMap<Uuid, &LoadBalancer> = balancers
        .iter()
        .map(|view| &view.tree.load_balancer.value)
        .map(|balancer| (balancer.vip.port_id, balancer))
        .collect();
    let own = views
        .iter()
        .flat_map(|network| network.ports.iter().map(move |port| (network, port)));
    let mut objects: Vec<Value> = own
        .map(|(network, port)| own_port(network, port, adopted.remove(&port.id)))
        .collect();
    let made = balancers
        .iter()
        .map(|view| &view.tree.load_balancer.value)
        .filter(|balancer| adopted.contains_key(&balancer.vip.port_id));
    objects.extend(made.map(made_port));
    objects
}

/// A port that is there with or without a load balancer.
fn own_port(network: &NetworkView, port: &PortView, adopter: Option<&LoadBalancer>) -> Value {
    let device_id = match adopter {
        Some(balancer) => format!("lb-{}", balancer.id),
        None => port.device_id.clone().unwrap_or_default(),
    };
    let owner = port
        .project
        .as_ref()
        .map_or_else(|| owner(network), ProjectId::as_str);
    json!({
        "id": port.id,
        "name": port.name,
        "device_owner": if device_id.starts_with("lb-") { "Octavia" } else { "" },
        "device_id": device_id,
        "network_id": network.id,
        "fixed_ips": port
            .fixed_ips
            .iter()
            .map(|ip| json!({"subnet_id": ip.subnet_id, "ip_address": ip.address}))
            .collect::<Vec<_>>(),
        "status": "DOWN",
        "admin_state_up": true,
        "security_groups": [],
        "tenant_id": owner,
        "project_id": owner,
    })
}

/// A port that comes and goes with its load balancer.
fn made_port(balancer: &LoadBalancer) -> Value {
    let vip = &balancer.vip;
    let mut fixed_ips = vec![json!({"subnet_id": vip.subnet_id, "ip_address": vip.address})];
    let more = balancer.additional_vips.iter();
    fixed_ips
        .extend(more.map(|more| json!({"subnet_id": more.subnet_id, "ip_address": more.address})));
    json!({
        "id": vip.port_id,
        "name": format!("octavia-lb-{}", balancer.id),
        "device_id": format!("lb-{}", balancer.id),
        "device_owner": "Octavia",
        "network_id": vip.network_id,
        "fixed_ips": fixed_ips,
        "status": "DOWN",
        "admin_state_up": false,
        "security_groups": balancer.vip_sg_ids,
        "tenant_id": balancer.project.as_str(),
        "project_id": balancer.project.as_str(),
    })
}

/// The project of a network that is for one only; nobody's otherwise.
fn owner(network: &NetworkView) -> &str {
    match &network.audience {
        Audience::Projects(projects) if projects.len() == 1 => {
            projects.first().map_or("", ProjectId::as_str)
        }
        Audience::Projects(_) | Audience::Everybody => "",
    }
}

/// Whether the object is selected: by exact id, name, network and the like, all that are given. Other parameters are
/// for paging and field lists of a service that has thousands; the few objects here are shown whole.
pub(crate) fn selects(object: &Value, parameters: &Parameters) -> bool {
    let plain = FILTERS.iter().all(|name| {
        let mut wanted = parameters.all(name).peekable();
        wanted.peek().is_none()
            || wanted.any(|wanted| object.get(name).is_some_and(|value| equals(value, wanted)))
    });
    plain
        && parameters
            .all("fixed_ips")
            .all(|wanted| has_fixed_ip(object, wanted))
}

fn equals(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

/// Whether a port has an address as `ip_address=…` or `subnet_id=…` describes it.
fn has_fixed_ip(port: &Value, wanted: &str) -> bool {
    let Some((name, wanted)) = wanted.split_once('=') else {
        return false;
    };
    let fixed_ips = port
        .get("fixed_ips")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    fixed_ips
        .filter_map(|fixed_ip| fixed_ip.get(name))
        .any(|value| equals(value, wanted))
}

const FILTERS: &[&str] = &[
    "id",
    "name",
    "network_id",
    "project_id",
    "tenant_id",
    "device_id",
    "device_owner",
    "cidr",
    "ip_version",
];
