//! Amphorae as JSON (reference 16).

use krater_controller_core::{
    model::Seat,
    query::{AmphoraView, ListenerStatistics},
};
use serde_json::{Map, Value, json};

use super::row::{Item, references, time};

/// An amphora as it is shown. An amphora carries many load balancers here, unless it is one's own: `loadbalancer_id` is
/// the only one it carries, and all are in a list of our own.
pub(crate) fn render(view: &AmphoraView) -> Item {
    let only = match view.load_balancers.as_slice() {
        [only] => Some(only),
        _ => None,
    };
    let host = view.agent.rsplit_once(':').map(|(host, _)| host);
    let mut object = Map::new();
    let mut put = |name: &str, value: Value| object.insert(name.into(), value);
    put("id", json!(view.id));
    put("loadbalancer_id", json!(only));
    // The compute driver knows what it runs by the id of the amphora: nothing else stays the same when it is restarted.
    put("compute_id", json!(view.id));
    put(
        "lb_network_ip",
        json!(host.map(|host| host.trim_matches(['[', ']']))),
    );
    let turn = view.turn.as_ref();
    put("vrrp_ip", json!(turn.map(|turn| turn.address)));
    put("ha_ip", json!(turn.map(|turn| turn.vip)));
    put("ha_port_id", json!(turn.map(|turn| turn.vip_port)));
    put("vrrp_id", json!(turn.map(|turn| turn.router)));
    put("vrrp_priority", json!(turn.map(|turn| turn.priority)));
    // Its own ports are its host's, and it finds its link by its address.
    for name in [
        "vrrp_port_id",
        "vrrp_interface",
        "image_id",
        "compute_flavor",
    ] {
        put(name, Value::Null);
    }
    put("cert_expiration", json!(view.certified_until.map(time)));
    put("cert_busy", json!(view.is_renewing));
    let role = match turn.map(|turn| turn.seat) {
        None => "STANDALONE",
        Some(Seat::First) => "MASTER",
        Some(Seat::Second) => "BACKUP",
    };
    put("role", json!(role));
    put("status", json!(view.status.name()));
    put("cached_zone", json!(view.zone));
    put("created_at", json!(time(view.created_at)));
    put("updated_at", json!(view.updated_at.map(time)));
    put(
        "loadbalancers",
        references(view.load_balancers.iter().map(|id| id.uuid())),
    );
    Item {
        created_at: view.created_at,
        object,
    }
}

/// What an amphora counted of one listener.
pub(crate) fn render_statistics(amphora: &str, statistics: &ListenerStatistics) -> Value {
    let counters = &statistics.counters;
    json!({
        "id": amphora,
        "loadbalancer_id": statistics.load_balancer,
        "listener_id": statistics.listener,
        "active_connections": counters.active_connections,
        "bytes_in": counters.bytes_in,
        "bytes_out": counters.bytes_out,
        "request_errors": counters.request_errors,
        "total_connections": counters.total_connections,
    })
}

/// What amphorae can be sorted by, and filtered by too.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "id",
    "loadbalancer_id",
    "compute_id",
    "lb_network_ip",
    "vrrp_ip",
    "ha_ip",
    "vrrp_port_id",
    "ha_port_id",
    "cert_expiration",
    "cert_busy",
    "role",
    "status",
    "vrrp_interface",
    "vrrp_id",
    "vrrp_priority",
    "cached_zone",
    "created_at",
    "updated_at",
    "image_id",
    "compute_flavor",
];
/// The key of one.
pub(crate) const ROOT: &str = "amphora";
/// The key of many.
pub(crate) const ROOT_LIST: &str = "amphorae";
