//! Read-only look-ups of networks, subnets and VIP ports in the form of the network service. Without a service
//! catalogue the command-line client asks for them at this same address when a tenant names a subnet.

use krater_controller_core::{
    query::{NetworkView, SubnetView},
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
    /// Ports, which are those of VIPs.
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
        json!({
            "id": network.id,
            "name": network.name,
            "subnets": subnets,
            "status": "ACTIVE",
            "admin_state_up": true,
            "shared": true,
            "router:external": false,
            "tenant_id": "",
            "project_id": "",
        })
    };
    views.iter().map(render).collect()
}

/// The subnets of all networks as JSON.
pub(crate) fn subnets(views: &[NetworkView]) -> Vec<Value> {
    let render = |network: &NetworkView, subnet: &SubnetView| {
        let (first, last) = subnet.allocation;
        json!({
            "id": subnet.id,
            "name": subnet.name,
            "network_id": network.id,
            "cidr": subnet.cidr,
            "ip_version": if first.is_ipv4() { 4 } else { 6 },
            "gateway_ip": null,
            "enable_dhcp": false,
            "allocation_pools": [{"start": first, "end": last}],
            "dns_nameservers": [],
            "host_routes": [],
            "tenant_id": "",
            "project_id": "",
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

/// The VIP ports of load balancers as JSON.
pub(crate) fn ports(views: &[TreeView]) -> Vec<Value> {
    views.iter().map(port).collect()
}

fn port(view: &TreeView) -> Value {
    let load_balancer = &view.tree.load_balancer.value;
    let vip = &load_balancer.vip;
    let mut fixed_ips = vec![json!({"subnet_id": vip.subnet_id, "ip_address": vip.address})];
    let more = load_balancer.additional_vips.iter();
    fixed_ips
        .extend(more.map(|more| json!({"subnet_id": more.subnet_id, "ip_address": more.address})));
    json!({
        "id": vip.port_id,
        "name": format!("octavia-lb-{}", load_balancer.id),
        "device_id": format!("lb-{}", load_balancer.id),
        "device_owner": "Octavia",
        "network_id": vip.network_id,
        "fixed_ips": fixed_ips,
        "status": "DOWN",
        "admin_state_up": false,
        "security_groups": [],
        "tenant_id": load_balancer.project.as_str(),
        "project_id": load_balancer.project.as_str(),
    })
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
