//! Networks of tenants as controllers order them → as they are built here.

use std::net::IpAddr;

use krater_amphora_api::{HostRoute, HostSegment, HostSubnet, HostTunnel};
use krater_amphora_process::{Segment, Subnet, Tunnel, Underlay};
use serde_json::{Value, json};

use crate::network;

/// What is ordered, as amphorae of this host have it, which tunnels of other hosts reach at `underlay`.
pub(super) fn of(ordered: HostSegment, underlay: IpAddr) -> Segment {
    let tunnel = ordered
        .tunnel
        .map(|HostTunnel { vni, port, peers }| Tunnel {
            vni,
            underlay: Underlay {
                local: underlay,
                port,
            },
            peers,
        });
    let subnets = ordered.subnets.into_iter().map(|subnet| Subnet {
        cidr: subnet.cidr,
        gateway: subnet.gateway,
        routes: subnet
            .routes
            .into_iter()
            .map(|its| (its.destination, its.via))
            .collect(),
    });
    Segment {
        name: ordered.name,
        bridge: ordered.bridge,
        mtu: ordered.mtu,
        tunnel,
        subnets: subnets.collect(),
    }
}

/// Everything for which an amphora would not take it: by the reader of its settings, before any is written.
pub(super) fn flaws(ordered: &HostSegment, underlay: IpAddr) -> Vec<String> {
    let mut flaws = Vec::new();
    network::read(
        "segment".to_owned(),
        settings(ordered, underlay),
        &mut flaws,
    );
    let mut told: Vec<String> = flaws.iter().map(ToString::to_string).collect();
    let peers = ordered.tunnel.iter().flat_map(|tunnel| &tunnel.peers);
    for peer in peers.filter(|peer| peer.is_ipv4() != underlay.is_ipv4()) {
        told.push(format!(
            "{peer} cannot be reached by a tunnel that begins at {underlay}"
        ));
    }
    told
}

fn settings(ordered: &HostSegment, underlay: IpAddr) -> Value {
    let route = |HostRoute { destination, via }: &HostRoute| json!({"destination": destination, "via": via});
    let subnet = |HostSubnet {
                      cidr,
                      gateway,
                      routes,
                  }: &HostSubnet| {
        let routes: Vec<Value> = routes.iter().map(route).collect();
        let mut subnet = json!({"cidr": cidr, "routes": routes});
        if let (Some(gateway), Some(subnet)) = (gateway, subnet.as_object_mut()) {
            subnet.insert("gateway".to_owned(), json!(gateway));
        }
        subnet
    };
    let subnets: Vec<Value> = ordered.subnets.iter().map(subnet).collect();
    let mut settings = json!({
        "name": ordered.name, "bridge": ordered.bridge, "mtu": ordered.mtu, "subnets": subnets,
    });
    if let (Some(HostTunnel { vni, port, peers }), Some(settings)) =
        (&ordered.tunnel, settings.as_object_mut())
    {
        let tunnel = json!({"vni": vni, "port": port, "local": underlay, "peers": peers});
        settings.insert("vxlan".to_owned(), tunnel);
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ordered() -> HostSegment {
        HostSegment {
            name: "blue".to_owned(),
            bridge: "br-blue".to_owned(),
            mtu: 1_450,
            tunnel: Some(HostTunnel {
                vni: 42,
                port: 4_789,
                peers: vec!["192.0.2.2".parse().unwrap()],
            }),
            subnets: vec![HostSubnet {
                cidr: "10.0.0.0/24".to_owned(),
                gateway: "10.0.0.1".parse().ok(),
                routes: vec![HostRoute {
                    destination: "10.9.0.0/16".to_owned(),
                    via: "10.0.0.2".parse().unwrap(),
                }],
            }],
        }
    }

    #[test]
    fn what_is_ordered_begins_at_this_host() {
        let here = "192.0.2.1".parse().unwrap();
        assert_eq!(flaws(&ordered(), here), Vec::<String>::new());
        let segment = of(ordered(), here);
        let tunnel = segment.tunnel.unwrap();
        assert_eq!((tunnel.vni, tunnel.underlay.local), (42, here));
        assert_eq!(tunnel.peers.len(), 1);
        assert_eq!(segment.subnets[0].routes[0].0, "10.9.0.0/16");
    }

    #[test]
    fn what_no_amphora_would_take_is_told_before_any_is_started() {
        let mut wrong = ordered();
        wrong.bridge = "a bridge".to_owned();
        wrong.mtu = 9;
        wrong.subnets[0].cidr = "10.0.0.1/24".to_owned();
        let told = flaws(&wrong, "fd00::1".parse().unwrap()).join("\n");
        for part in [
            "segment.bridge",
            "segment.mtu",
            "segment.subnets[0].cidr",
            "192.0.2.2 cannot be reached",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
