use krater_controller_core::{
    model::{Vip, VipRequest},
    network::Viewer,
};
use krater_driver::{AllocateError, NetworkDriver as _, Taken};

use super::*;
use crate::network::{FixedIpConfig, LocalNetwork, NetworkConfig, PortConfig, SubnetConfig};

fn network(name: &str, cidr: &str, segment: Option<SegmentConfig>) -> NetworkConfig {
    NetworkConfig {
        name: name.to_owned(),
        projects: None,
        subnets: vec![SubnetConfig {
            name: name.to_owned(),
            cidr: cidr.to_owned(),
            gateway: None,
            first: None,
            last: None,
            host_routes: Vec::new(),
        }],
        segment,
        ports: vec![PortConfig {
            name: "kept".to_owned(),
            fixed_ips: vec![FixedIpConfig {
                subnet: name.to_owned(),
                address: [10, 0, 0, 2].into(),
            }],
            project: None,
            device_id: None,
        }],
    }
}

fn plain() -> Option<SegmentConfig> {
    Some(SegmentConfig::default())
}

#[tokio::test]
async fn on_segments_the_very_same_addresses_are_given_and_each_once() {
    let all = ["blue", "red", "host"].map(|name| {
        let segment = plain().filter(|_| name != "host");
        network(name, "10.0.0.0/29", segment)
    });
    let driver = LocalNetwork::new(&all).unwrap();
    let ids = ["blue", "red", "host"].map(|name| driver.network_id(name).unwrap());
    let mut taken = Taken::default();
    let mut given = Vec::new();
    for id in ids.into_iter().chain(ids) {
        let request = VipRequest {
            network_id: Some(id),
            ..VipRequest::default()
        };
        let nobody = krater_amphora_api::LoadBalancerId::new(Uuid::nil());
        let vip = driver
            .allocate_vip(nobody, &Viewer::Operator, &request, Uuid::nil(), &taken)
            .await
            .unwrap()
            .vip;
        std::sync::Arc::make_mut(&mut taken.addresses).insert((vip.address, id));
        given.push(vip.address.to_string());
        let again = VipRequest {
            address: Some(vip.address),
            ..request
        };
        let refused = driver
            .allocate_vip(nobody, &Viewer::Operator, &again, Uuid::nil(), &taken)
            .await;
        assert!(
            matches!(refused, Err(AllocateError::InUse { .. })),
            "{refused:?}"
        );
    }
    // The second one is kept for a port of each.
    let each = [
        "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.3", "10.0.0.3", "10.0.0.3",
    ];
    assert_eq!(given, each);
}

#[tokio::test]
async fn amphorae_get_addresses_beside_vips_on_segments_alone() {
    let driver = LocalNetwork::new(&[
        network("host", "10.0.0.0/29", None),
        network("blue", "10.0.0.0/29", plain()),
    ]);
    let driver = driver.unwrap();
    let [host, blue] = ["host", "blue"].map(|name| driver.network_id(name).unwrap());
    assert!(driver.has_own_addresses(blue) && !driver.has_own_addresses(host));
    let views = driver.networks().await.unwrap();
    let subnet = views.iter().find(|view| view.id == blue).unwrap().subnets[0].id;
    let vip = Vip {
        address: [10, 0, 0, 1].into(),
        port_id: Uuid::nil(),
        subnet_id: subnet,
        network_id: blue,
    };
    let mut taken = Taken::default();
    let mut given = vec![vip.address];
    loop {
        let address = *given.last().unwrap();
        std::sync::Arc::make_mut(&mut taken.addresses).insert((address, blue));
        match driver.choose_own_address(&vip, &taken).await {
            Ok(next) => given.push(next),
            Err(error) => {
                assert!(error.to_string().contains("available"), "{error}");
                break;
            }
        }
    }
    // The second one is kept for a port.
    let last: Vec<String> = given.iter().map(ToString::to_string).collect();
    assert_eq!(
        last,
        ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]
    );
}

#[test]
fn a_segment_is_what_a_host_has_to_build() {
    let wanted = SegmentConfig {
        vni: Some(7),
        ..SegmentConfig::default()
    };
    let driver = LocalNetwork::new(&[
        network("host", "10.0.0.0/29", None),
        network("blue", "10.0.0.0/24", Some(wanted)),
    ]);
    let segments = driver.unwrap().segments();
    assert_eq!(segments.len(), 1);
    let blue = &segments[0];
    assert_eq!(
        (blue.name.as_str(), blue.vni, blue.mtu),
        ("blue", Some(7), 1450)
    );
    assert!(
        blue.bridge.starts_with("kb-") && blue.bridge.len() == 15,
        "{}",
        blue.bridge
    );
    assert_eq!(blue.subnets[0].cidr, "10.0.0.0/24");
}

#[test]
fn what_cannot_be_built_is_told_at_once() {
    let segment = |bridge: &str, vni, mtu| {
        Some(SegmentConfig {
            bridge: Some(bridge.to_owned()),
            vni: Some(vni),
            mtu: Some(mtu),
        })
    };
    let mut routed = network("d", "10.9.0.0/24", None);
    routed.ports.clear();
    routed.subnets[0].host_routes.push(crate::HostRouteConfig {
        destination: "10.8.0.0/16".to_owned(),
        nexthop: [10, 9, 0, 1].into(),
    });
    let errors = LocalNetwork::new(&[
        network("a", "10.0.0.0/24", segment("br 0", 0, 9)),
        network("b", "10.0.0.0/24", segment("br0", 7, 1500)),
        network("c", "10.0.0.0/24", segment("br1", 7, 1500)),
        routed,
    ])
    .unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "network a: \"br 0\" is not the name of a bridge",
            "network a: vni 0 is not between 1 and 16777215",
            "network a: mtu 9 is not between 1280 and 65535",
            "network c: it cannot share vni 7 with network b",
            "network d, subnet d: its network is this host's, which has its own routes: leave host_routes out",
        ]
    );
}
