//! `[network]` of the agent's settings.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, str::FromStr};

use serde_json::Value;

use super::{Peers, Prefix, Route, Settings, Subnet, Vxlan};
use crate::strict::{Flaw, Object};

/// Reads the table, or notes everything that is wrong with it.
pub(crate) fn read(path: String, table: Value, flaws: &mut Vec<Flaw>) -> Option<Settings> {
    let mut object = Object::open(path, table, flaws)?;
    let name: Option<String> = object.take("name", flaws);
    let bridge = parsed(&mut object, "bridge", flaws, interface_name);
    let mtu = object.take::<u32>("mtu", flaws).unwrap_or(MTU_DEFAULT);
    if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
        let reason = format!("is not between {MTU_MIN} and {MTU_MAX}");
        flaws.push(Flaw::new(object.path_of("mtu"), reason));
    }
    let vxlan = match object.take_value("vxlan") {
        None => Some(None),
        Some(table) => read_vxlan(object.path_of("vxlan"), table, flaws).map(Some),
    };
    let subnets = list(&mut object, "subnets", flaws, read_subnet);
    if bridge.is_none() {
        require(&object, "bridge", flaws);
    }
    object.close(flaws);
    Some(Settings {
        name: name.unwrap_or_default(),
        bridge: bridge?,
        mtu,
        vxlan: vxlan?,
        subnets,
    })
}

fn read_vxlan(path: String, table: Value, flaws: &mut Vec<Flaw>) -> Option<Vxlan> {
    let mut object = Object::open(path, table, flaws)?;
    let vni = object.take::<u32>("vni", flaws);
    if vni.is_some_and(|vni| !(1..VNI_END).contains(&vni)) {
        let reason = "is not between 1 and 16777215";
        flaws.push(Flaw::new(object.path_of("vni"), reason));
    }
    let local = parsed(&mut object, "local", flaws, address);
    let peers: Vec<String> = object.take("peers", flaws).unwrap_or_default();
    let mut others = BTreeSet::new();
    for (index, text) in peers.iter().enumerate() {
        match address(text) {
            Ok(peer) => {
                others.insert(peer);
            }
            Err(reason) => {
                let path = format!("{}[{index}]", object.path_of("peers"));
                flaws.push(Flaw::new(path, reason));
            }
        }
    }
    let file: Option<PathBuf> = object.take("peers_file", flaws);
    if file.is_some() && !peers.is_empty() {
        let reason = "is there beside peers: one of the two says which";
        flaws.push(Flaw::new(object.path_of("peers_file"), reason));
    }
    let port = object.take::<u16>("port", flaws).unwrap_or(VXLAN_PORT);
    for (name, absent) in [("vni", vni.is_none()), ("local", local.is_none())] {
        if absent {
            require(&object, name, flaws);
        }
    }
    object.close(flaws);
    Some(Vxlan {
        vni: vni?,
        local: local?,
        peers: file.map_or(Peers::Listed(others), Peers::File),
        port,
    })
}

fn read_subnet(path: String, table: Value, flaws: &mut Vec<Flaw>) -> Option<Subnet> {
    let mut object = Object::open(path, table, flaws)?;
    let prefix = parsed(&mut object, "cidr", flaws, Prefix::parse);
    let gateway = parsed(&mut object, "gateway", flaws, address);
    let routes = list(&mut object, "routes", flaws, read_route);
    if prefix.is_none() {
        require(&object, "cidr", flaws);
    }
    object.close(flaws);
    Some(Subnet {
        prefix: prefix?,
        gateway,
        routes,
    })
}

fn read_route(path: String, table: Value, flaws: &mut Vec<Flaw>) -> Option<Route> {
    let mut object = Object::open(path, table, flaws)?;
    let destination = parsed(&mut object, "destination", flaws, Prefix::parse);
    let via = parsed(&mut object, "via", flaws, address);
    for (name, absent) in [
        ("destination", destination.is_none()),
        ("via", via.is_none()),
    ] {
        if absent {
            require(&object, name, flaws);
        }
    }
    object.close(flaws);
    Some(Route {
        destination: destination?,
        via: via?,
    })
}

fn list<T>(
    object: &mut Object,
    name: &'static str,
    flaws: &mut Vec<Flaw>,
    read: impl Fn(String, Value, &mut Vec<Flaw>) -> Option<T>,
) -> Vec<T> {
    let values: Vec<Value> = object.take(name, flaws).unwrap_or_default();
    let path = object.path_of(name);
    let items = values.into_iter().enumerate();
    items
        .filter_map(|(index, value)| read(format!("{path}[{index}]"), value, flaws))
        .collect()
}

fn parsed<T>(
    object: &mut Object,
    name: &'static str,
    flaws: &mut Vec<Flaw>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text: String = object.take(name, flaws)?;
    parse(&text)
        .map_err(|reason| flaws.push(Flaw::new(object.path_of(name), reason)))
        .ok()
}

/// Says that a setting is missing, unless something is wrong with it.
fn require(object: &Object, name: &str, flaws: &mut Vec<Flaw>) {
    let path = object.path_of(name);
    if flaws.iter().all(|flaw| flaw.path != path) {
        flaws.push(Flaw::new(path, "is required"));
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    IpAddr::from_str(text).map_err(|_| format!("{text:?} is not an address"))
}

/// What the kernel takes as the name of an interface.
fn interface_name(text: &str) -> Result<String, String> {
    let fits = (1..16).contains(&text.len()) && text != "." && text != "..";
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    if fits && text.bytes().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of an interface"))
    }
}

const MTU_DEFAULT: u32 = 1_500;
/// The least that IPv6 lives with.
const MTU_MIN: u32 = 1_280;
const MTU_MAX: u32 = 65_535;
const VNI_END: u32 = 1 << 24;
/// As IANA has it.
pub(super) const VXLAN_PORT: u16 = 4_789;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_network_is_read() {
        let mut flaws = Vec::new();
        let table = serde_json::json!({
            "name": "blue", "bridge": "br-blue", "mtu": 1450,
            "vxlan": {"vni": 7, "local": "192.0.2.1", "peers": ["192.0.2.2"]},
            "subnets": [{"cidr": "10.0.0.0/24", "gateway": "10.0.0.1",
                "routes": [{"destination": "10.9.0.0/16", "via": "10.0.0.2"}]}],
        });
        let read = read("network".to_owned(), table, &mut flaws).unwrap();
        assert_eq!(flaws, []);
        assert_eq!((read.bridge.as_str(), read.mtu), ("br-blue", 1450));
        let vxlan = read.vxlan.unwrap();
        assert_eq!((vxlan.vni, vxlan.port), (7, 4789));
        assert_eq!(vxlan.peers.read().unwrap().len(), 1);
        assert_eq!(
            read.subnets[0].routes[0].destination.to_string(),
            "10.9.0.0/16"
        );
    }

    #[test]
    fn everything_wrong_is_named_at_once() {
        let mut flaws = Vec::new();
        let table = serde_json::json!({
            "bridge": "a-name-that-is-too-long", "mtu": 12, "surprise": 1,
            "vxlan": {"vni": 0, "peers": ["x"], "peers_file": "p"},
            "subnets": [{"gateway": "x", "routes": [{"via": 5}]}],
        });
        assert!(read("network".to_owned(), table, &mut flaws).is_none());
        let paths: Vec<&str> = flaws.iter().map(|flaw| flaw.path.as_str()).collect();
        for path in [
            "network.bridge",
            "network.mtu",
            "network.surprise",
            "network.vxlan.vni",
            "network.vxlan.local",
            "network.vxlan.peers[0]",
            "network.vxlan.peers_file",
            "network.subnets[0].cidr",
            "network.subnets[0].gateway",
            "network.subnets[0].routes[0].destination",
            "network.subnets[0].routes[0].via",
        ] {
            assert_eq!(
                paths.iter().filter(|found| **found == path).count(),
                1,
                "{path} in {flaws:?}"
            );
        }
        assert_eq!(paths.len(), 11, "{flaws:?}");
    }
}
