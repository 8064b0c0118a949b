//! Tests of the local network.

use std::{collections::BTreeSet, net::IpAddr};

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::model::VipRequest;
use krater_driver::{AllocateError, AllocatedVip, NetworkDriver as _};
use uuid::Uuid;

use super::{LocalNetwork, NetworkConfig, SubnetConfig};

const PORT: Uuid = Uuid::from_u128(7);

fn loopback() -> LocalNetwork {
    LocalNetwork::new(&[NetworkConfig::loopback(), small()]).unwrap()
}

/// A network with a subnet of two addresses to hand out, and one IPv6 subnet before it.
fn small() -> NetworkConfig {
    let subnet = |name: &str, cidr: &str| SubnetConfig {
        name: name.into(),
        cidr: cidr.into(),
        first: None,
        last: None,
    };
    NetworkConfig {
        name: "small".into(),
        subnets: vec![
            subnet("six", "2001:db8::/126"),
            subnet("four", "192.0.2.0/30"),
        ],
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn taken(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

/// Ids by name.
async fn id(driver: &LocalNetwork, name: &str) -> Uuid {
    let networks = driver.networks().await.unwrap();
    let subnets = networks
        .iter()
        .flat_map(|network| &network.subnets)
        .map(|subnet| (&subnet.name, subnet.id));
    let mut all = networks
        .iter()
        .map(|network| (&network.name, network.id))
        .chain(subnets);
    all.find(|(known, _)| *known == name).unwrap().1
}

async fn ask(
    driver: &LocalNetwork,
    request: &VipRequest,
    taken: &BTreeSet<IpAddr>,
) -> Result<AllocatedVip, AllocateError> {
    driver
        .allocate_vip(LoadBalancerId::new(Uuid::nil()), request, PORT, taken)
        .await
}

async fn subnet_request(driver: &LocalNetwork, name: &str) -> VipRequest {
    VipRequest {
        subnet_id: Some(id(driver, name).await),
        ..VipRequest::default()
    }
}

async fn network_request(driver: &LocalNetwork, name: &str) -> VipRequest {
    VipRequest {
        network_id: Some(id(driver, name).await),
        ..VipRequest::default()
    }
}

fn sentence(answer: Result<AllocatedVip, AllocateError>) -> String {
    match answer.unwrap_err() {
        AllocateError::Invalid(sentence) => sentence,
        other => panic!("{other:?}"),
    }
}

const EXHAUSTED: &str = "Subnet(s) in the supplied network do not contain enough available IPs.";

#[tokio::test]
async fn it_passes_the_conformance_kit() {
    krater_driver::kit::check_network(&loopback())
        .await
        .unwrap();
}

#[tokio::test]
async fn ids_are_uuids_of_version_4_and_the_same_in_every_run() {
    let driver = loopback();
    assert_eq!(
        id(&driver, "local").await.to_string(),
        "e7532a0a-1c3c-44bf-aee9-bf71eb3915c0"
    );
    for name in ["local", "local-v4", "local-v6", "small", "six"] {
        assert_eq!(id(&driver, name).await.get_version_num(), 4);
    }
}

#[tokio::test]
async fn the_lowest_free_address_of_the_range_is_given() {
    let driver = loopback();
    let request = subnet_request(&driver, "local-v4").await;
    for (taken_ones, expected) in [
        (&[][..], "127.77.0.2"),
        (&["127.77.0.2"], "127.77.0.3"),
        (&["127.77.0.3", "127.77.0.4"], "127.77.0.2"),
        (
            &["127.77.0.2", "127.77.0.3", "127.77.0.5", "127.77.9.9"],
            "127.77.0.4",
        ),
        (&["127.77.0.1", "::1", "10.0.0.1"], "127.77.0.2"),
    ] {
        let given = ask(&driver, &request, &taken(taken_ones)).await.unwrap();
        assert_eq!(given.vip.address, ip(expected), "{taken_ones:?}");
    }
    let most: BTreeSet<IpAddr> = (2..=65_533_u32)
        .map(|n| IpAddr::V4((0x7f4d_0000 + n).into()))
        .collect();
    assert_eq!(
        ask(&driver, &request, &most).await.unwrap().vip.address,
        ip("127.77.255.254")
    );
    let all: BTreeSet<IpAddr> = (2..=65_534_u32)
        .map(|n| IpAddr::V4((0x7f4d_0000 + n).into()))
        .collect();
    assert_eq!(sentence(ask(&driver, &request, &all).await), EXHAUSTED);
}

#[tokio::test]
async fn a_subnet_of_one_address_has_exactly_one() {
    let driver = loopback();
    let request = subnet_request(&driver, "local-v6").await;
    assert_eq!(
        ask(&driver, &request, &BTreeSet::new())
            .await
            .unwrap()
            .vip
            .address,
        ip("::1")
    );
    assert_eq!(
        sentence(ask(&driver, &request, &taken(&["::1"])).await),
        EXHAUSTED
    );
}

#[tokio::test]
async fn a_tenant_may_choose_outside_the_range_but_not_outside_the_subnet() {
    let driver = loopback();
    let four = subnet_request(&driver, "local-v4").await;
    for (address, allowed) in [
        ("127.77.0.1", true),
        ("127.77.3.4", true),
        ("127.77.0.0", false),
        ("127.77.255.255", false),
        ("127.78.0.1", false),
        ("::1", false),
        ("::ffff:127.77.3.4", false),
    ] {
        let request = VipRequest {
            address: Some(ip(address)),
            ..four.clone()
        };
        let answer = ask(&driver, &request, &BTreeSet::new()).await;
        if allowed {
            assert_eq!(answer.unwrap().vip.address, ip(address));
        } else {
            let expected =
                format!("IP address {address} is not a valid IP for the specified subnet");
            assert!(sentence(answer).starts_with(&expected), "{address}");
        }
    }
    let request = VipRequest {
        address: Some(ip("127.77.0.9")),
        ..four.clone()
    };
    let subnet = four.subnet_id.unwrap();
    let reason = format!("IP address 127.77.0.9 already allocated in subnet {subnet}");
    let refused = ask(&driver, &request, &taken(&["127.77.0.9"]))
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        AllocateError::InUse {
            address: ip("127.77.0.9"),
            reason
        }
    );
}

#[tokio::test]
async fn a_network_gives_ipv4_first_then_ipv6_and_says_when_it_is_full() {
    let driver = loopback();
    let request = network_request(&driver, "small").await;
    let address = async |taken_ones: &[&str]| {
        ask(&driver, &request, &taken(taken_ones))
            .await
            .map(|given| given.vip.address)
    };
    assert_eq!(address(&[]).await, Ok(ip("192.0.2.1")));
    assert_eq!(
        address(&["192.0.2.1", "192.0.2.2"]).await,
        Ok(ip("2001:db8::"))
    );
    let all = [
        "192.0.2.1",
        "192.0.2.2",
        "2001:db8::",
        "2001:db8::1",
        "2001:db8::2",
        "2001:db8::3",
    ];
    assert_eq!(
        sentence(ask(&driver, &request, &taken(&all)).await),
        EXHAUSTED
    );
    let six = VipRequest {
        address: Some(ip("2001:db8::3")),
        ..request.clone()
    };
    let given = ask(&driver, &six, &BTreeSet::new()).await.unwrap();
    assert_eq!(given.vip.subnet_id, id(&driver, "six").await);
    let elsewhere = VipRequest {
        address: Some(ip("127.77.0.3")),
        ..request.clone()
    };
    let expected = "Supplied network does not contain a subnet for VIP address specified.";
    assert_eq!(
        sentence(ask(&driver, &elsewhere, &BTreeSet::new()).await),
        expected
    );
}

#[tokio::test]
async fn a_subnet_must_be_of_the_network_given_with_it() {
    let driver = loopback();
    let subnet = id(&driver, "local-v4").await;
    let request = VipRequest {
        subnet_id: Some(subnet),
        ..network_request(&driver, "small").await
    };
    let refused = ask(&driver, &request, &BTreeSet::new()).await.unwrap_err();
    assert_eq!(
        refused,
        AllocateError::Unknown {
            kind: "Subnet",
            id: subnet.to_string()
        }
    );
    assert_eq!(refused.to_string(), format!("Subnet {subnet} not found"));
    let right = VipRequest {
        subnet_id: Some(subnet),
        ..network_request(&driver, "local").await
    };
    let given = ask(&driver, &right, &BTreeSet::new()).await.unwrap();
    assert_eq!(
        (given.vip.network_id, given.vip.port_id),
        (id(&driver, "local").await, PORT)
    );
}

#[tokio::test]
async fn a_port_is_not_found_and_nothing_at_all_is_refused() {
    let driver = loopback();
    let port = Uuid::from_u128(99);
    let request = VipRequest {
        port_id: Some(port),
        ..subnet_request(&driver, "local-v4").await
    };
    let refused = ask(&driver, &request, &BTreeSet::new()).await.unwrap_err();
    assert_eq!(
        refused,
        AllocateError::Unknown {
            kind: "Port",
            id: port.to_string()
        }
    );
    let nothing = ask(&driver, &VipRequest::default(), &BTreeSet::new()).await;
    assert_eq!(
        sentence(nothing),
        "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id."
    );
}

#[tokio::test]
async fn additional_addresses_are_of_other_subnets_of_the_same_network() {
    let driver = loopback();
    let (four, six) = (id(&driver, "local-v4").await, id(&driver, "local-v6").await);
    let base = subnet_request(&driver, "local-v4").await;
    let with = |additional: Vec<(Uuid, Option<IpAddr>)>| VipRequest {
        additional,
        ..base.clone()
    };
    let given = ask(&driver, &with(vec![(six, None)]), &BTreeSet::new())
        .await
        .unwrap();
    assert_eq!(
        (given.vip.subnet_id, given.vip.address),
        (four, ip("127.77.0.2"))
    );
    assert_eq!(
        given
            .additional
            .iter()
            .map(|vip| (vip.subnet_id, vip.address))
            .collect::<Vec<_>>(),
        [(six, ip("::1"))]
    );

    let duplicate = "Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet.";
    for twice in [vec![(four, None)], vec![(six, None), (six, None)]] {
        assert_eq!(
            sentence(ask(&driver, &with(twice), &BTreeSet::new()).await),
            duplicate
        );
    }
    let foreign = with(vec![(id(&driver, "four").await, None)]);
    let expected = "All VIP subnets must belong to the same network.";
    assert_eq!(
        sentence(ask(&driver, &foreign, &BTreeSet::new()).await),
        expected
    );
    let unknown = ask(&driver, &with(vec![(PORT, None)]), &BTreeSet::new())
        .await
        .unwrap_err();
    assert_eq!(
        unknown,
        AllocateError::Unknown {
            kind: "Subnet",
            id: PORT.to_string()
        }
    );
    let in_use = ask(
        &driver,
        &with(vec![(six, Some(ip("::1")))]),
        &taken(&["::1"]),
    )
    .await
    .unwrap_err();
    assert!(matches!(in_use, AllocateError::InUse { address, .. } if address == ip("::1")));
    assert_eq!(
        sentence(ask(&driver, &with(vec![(six, None)]), &taken(&["::1"])).await),
        EXHAUSTED
    );
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once() {
    let subnet = |name: &str, cidr: &str, first: Option<&str>, last: Option<&str>| SubnetConfig {
        name: name.into(),
        cidr: cidr.into(),
        first: first.map(ip),
        last: last.map(ip),
    };
    let networks = [
        NetworkConfig {
            name: "a".into(),
            subnets: vec![
                subnet("typo", "10.0.0.1/24", None, None),
                subnet("no-prefix", "10.0.0.0", None, None),
                subnet("too-long", "10.0.0.0/33", None, None),
                subnet("outside", "10.0.0.0/24", Some("10.0.1.1"), None),
                subnet(
                    "backwards",
                    "10.0.0.0/24",
                    Some("10.0.0.9"),
                    Some("10.0.0.8"),
                ),
                subnet("family", "10.0.0.0/24", Some("::1"), None),
                subnet("good", "10.1.0.0/24", None, None),
                subnet("good", "10.2.0.0/24", None, None),
                subnet("within", "10.1.0.128/25", None, None),
            ],
        },
        NetworkConfig {
            name: "a".into(),
            subnets: vec![],
        },
    ];
    let errors = LocalNetwork::new(&networks).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 10, "{texts:#?}");
    assert_eq!(
        texts[0],
        "network a, subnet typo: 10.0.0.1/24 has bits set behind its prefix; 10.0.0.0/24 is meant?"
    );
    assert!(
        texts[7].contains("10.1.0.128/25 overlaps with 10.1.0.0/24 of good"),
        "{texts:#?}"
    );
}

#[test]
fn prefixes_at_both_ends_hold() {
    let driver = |cidr: &str| {
        let subnet = SubnetConfig {
            name: "s".into(),
            cidr: cidr.into(),
            first: None,
            last: None,
        };
        LocalNetwork::new(&[NetworkConfig {
            name: "n".into(),
            subnets: vec![subnet],
        }])
        .unwrap()
    };
    for (cidr, first, last) in [
        ("0.0.0.0/0", "0.0.0.1", "255.255.255.254"),
        ("192.0.2.4/31", "192.0.2.4", "192.0.2.5"),
        ("192.0.2.4/32", "192.0.2.4", "192.0.2.4"),
        ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ("2001:db8::8/125", "2001:db8::8", "2001:db8::f"),
    ] {
        assert_eq!(
            driver(cidr).networks[0].subnets[0].allocation,
            (ip(first), ip(last)),
            "{cidr}"
        );
        assert_eq!(driver(cidr).networks[0].subnets[0].cidr.to_string(), cidr);
    }
}
