//! What becomes of networks of tenants on hosts that have agents.

use std::net::IpAddr;

use krater_amphora_api::{
    ContractVersion, HostFacts, HostRoute, HostSegment, HostSubnet, HostTunnel,
};
use krater_driver::Segment;

/// Why the host can have no network of tenants, if so; `other` is where tunnels reach another one.
pub(crate) fn obstacle(facts: &HostFacts, other: Option<IpAddr>) -> Option<String> {
    let networks = facts.networks.as_ref();
    let Some(networks) = networks.filter(|_| facts.contract >= ContractVersion::BUILDS_NETWORKS)
    else {
        return Some(format!(
            "its agent is of an earlier release ({}) and does not build networks of tenants",
            facts.version
        ));
    };
    let underlay = networks.underlay;
    if let Some(other) = other
        && other.is_ipv4() != underlay.is_ipv4()
    {
        return Some(format!(
            "tunnels reach it at {underlay}, which is not of the family of {other} (network.vxlan)"
        ));
    }
    networks.obstacle.clone()
}

/// The same for operators: what becomes of networks of tenants on a host.
pub(crate) fn standing(facts: &HostFacts) -> String {
    match (obstacle(facts, None), &facts.networks) {
        (None, Some(networks)) => format!("tunnels reach it at {}", networks.underlay),
        (obstacle, _) => obstacle.unwrap_or_default(),
    }
}

/// A network as a host is told to build it, with tunnels to `peers`.
pub(super) fn ordered(segment: &Segment, peers: Vec<IpAddr>, port: u16) -> HostSegment {
    let subnets = segment.subnets.iter().map(|subnet| {
        let route = |(destination, via): &(String, IpAddr)| HostRoute {
            destination: destination.clone(),
            via: *via,
        };
        HostSubnet {
            cidr: subnet.cidr.clone(),
            gateway: subnet.gateway,
            routes: subnet.routes.iter().map(route).collect(),
        }
    });
    HostSegment {
        name: segment.name.clone(),
        bridge: segment.bridge.clone(),
        mtu: segment.mtu,
        tunnel: segment.vni.map(|vni| HostTunnel { vni, port, peers }),
        subnets: subnets.collect(),
    }
}

#[cfg(test)]
mod tests {
    use krater_amphora_api::{BootId, HostNetworks};
    use uuid::Uuid;

    use super::*;

    fn facts(contract: u32, networks: Option<HostNetworks>) -> HostFacts {
        HostFacts {
            name: "h".to_owned(),
            agent: "192.0.2.1:9880".to_owned(),
            boot: BootId::new(Uuid::nil()),
            contract: ContractVersion(contract),
            version: "0.9".to_owned(),
            cores: 2,
            memory_bytes: 1 << 30,
            networks,
        }
    }

    fn networks(obstacle: Option<&str>) -> Option<HostNetworks> {
        Some(HostNetworks {
            underlay: IpAddr::from([192, 0, 2, 1]),
            obstacle: obstacle.map(str::to_owned),
        })
    }

    #[test]
    fn a_host_that_is_too_old_or_may_not_build_networks_says_why_it_has_none() {
        let four = Some(IpAddr::from([192, 0, 2, 9]));
        let six = "fd00::1".parse().ok();
        for (facts, other, expected) in [
            (facts(2, networks(None)), four, None),
            (facts(2, networks(None)), None, None),
            (
                facts(1, networks(None)),
                four,
                Some("earlier release (0.9)"),
            ),
            (facts(2, None), four, Some("earlier release (0.9)")),
            (
                facts(2, networks(Some("it takes root"))),
                four,
                Some("it takes root"),
            ),
            (facts(2, networks(None)), six, Some("family of fd00::1")),
        ] {
            let found = obstacle(&facts, other);
            let is_right = match (&found, expected) {
                (None, None) => true,
                (Some(found), Some(expected)) => found.contains(expected),
                _ => false,
            };
            assert!(is_right, "{found:?} and not {expected:?}");
        }
        assert_eq!(
            standing(&facts(2, networks(None))),
            "tunnels reach it at 192.0.2.1"
        );
        assert_eq!(
            standing(&facts(2, networks(Some("it takes root")))),
            "it takes root"
        );
    }
}
