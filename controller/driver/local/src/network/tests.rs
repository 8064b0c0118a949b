//! Tests of the local network.

use std::net::IpAddr;

use krater_amphora_api::LoadBalancerId;
use krater_controller_core::{
    model::{ProjectId, VipRequest},
    network::Viewer,
};
use krater_driver::{
    AllocateError, AllocatedVip, NetworkDriver as _, PortHolder, Taken,
    kit::{Ids, check_network},
};
use uuid::Uuid;

use super::{FixedIpConfig, LocalNetwork, NetworkConfig, PortConfig, SubnetConfig};

const PORT: Uuid = Uuid::from_u128(7);

fn loopback() -> LocalNetwork {
    LocalNetwork::new(&[NetworkConfig::loopback(), small()]).unwrap()
}

/// A network with a subnet of two addresses to hand out, and one IPv6 subnet before it.
fn small() -> NetworkConfig {
    NetworkConfig {
        segment: None,
        name: "small".into(),
        projects: None,
        subnets: vec![
            subnet("six", "2001:db8::/126"),
            subnet("four", "192.0.2.0/30"),
        ],
        ports: vec![],
    }
}

fn subnet(name: &str, cidr: &str) -> SubnetConfig {
    SubnetConfig {
        host_routes: Vec::new(),
        name: name.into(),
        cidr: cidr.into(),
        gateway: None,
        first: None,
        last: None,
    }
}

fn port(name: &str, fixed_ips: &[(&str, &str)]) -> PortConfig {
    let fixed_ip = |(subnet, address): &(&str, &str)| FixedIpConfig {
        subnet: (*subnet).into(),
        address: ip(address),
    };
    PortConfig {
        name: name.into(),
        fixed_ips: fixed_ips.iter().map(fixed_ip).collect(),
        project: None,
        device_id: None,
    }
}

/// A network with ports of every sort, one for a project of its own, and one that only this project sees.
fn furnished() -> LocalNetwork {
    let office = NetworkConfig {
        segment: None,
        name: "office".into(),
        projects: None,
        subnets: vec![
            SubnetConfig {
                gateway: Some(ip("10.0.0.1")),
                ..subnet("o4", "10.0.0.0/24")
            },
            subnet("o6", "2001:db8:1::/64"),
            subnet("o4b", "10.0.1.0/24"),
        ],
        ports: vec![
            port("one", &[("o4", "10.0.0.2")]),
            port(
                "two",
                &[
                    ("o4", "10.0.0.3"),
                    ("o6", "2001:db8:1::3"),
                    ("o4", "10.0.0.4"),
                ],
            ),
            PortConfig {
                device_id: Some("vm-1".into()),
                ..port("busy", &[("o4", "10.0.0.5")])
            },
            PortConfig {
                project: Some("p1".into()),
                ..port("own", &[("o4", "10.0.0.6")])
            },
        ],
    };
    let hidden = NetworkConfig {
        segment: None,
        name: "hidden".into(),
        projects: Some(vec!["p1".into()]),
        subnets: vec![subnet("h4", "10.1.0.0/24")],
        ports: vec![port("deep", &[("h4", "10.1.0.9")])],
    };
    LocalNetwork::new(&[office, hidden]).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn taken(texts: &[&str]) -> Taken {
    all_of(texts.iter().map(|text| ip(text)))
}

fn all_of(addresses: impl Iterator<Item = IpAddr>) -> Taken {
    Taken {
        // Of whatever network: what lives on this host shares one set.
        addresses: std::sync::Arc::new(addresses.map(|it| (it, Uuid::nil())).collect()),
        ..Taken::default()
    }
}

/// Ids by name.
async fn id(driver: &LocalNetwork, name: &str) -> Uuid {
    let networks = driver.networks().await.unwrap();
    let subnets = networks
        .iter()
        .flat_map(|network| &network.subnets)
        .map(|subnet| (&subnet.name, subnet.id));
    let ports = networks
        .iter()
        .flat_map(|network| &network.ports)
        .map(|port| (&port.name, port.id));
    let mut all = networks
        .iter()
        .map(|network| (&network.name, network.id))
        .chain(subnets)
        .chain(ports);
    all.find(|(known, _)| *known == name).unwrap().1
}

async fn ask(
    driver: &LocalNetwork,
    request: &VipRequest,
    taken: &Taken,
) -> Result<AllocatedVip, AllocateError> {
    ask_as(&Viewer::Operator, driver, request, taken).await
}

async fn ask_as(
    viewer: &Viewer,
    driver: &LocalNetwork,
    request: &VipRequest,
    taken: &Taken,
) -> Result<AllocatedVip, AllocateError> {
    let load_balancer = LoadBalancerId::new(Uuid::nil());
    driver
        .allocate_vip(load_balancer, viewer, request, PORT, taken)
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
    check_network(&loopback(), Ids::Listed).await.unwrap();
    check_network(&furnished(), Ids::Listed).await.unwrap();
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
    // Others choose at the same moment.
    for (passed_over, expected) in [
        (0, "127.77.0.2"),
        (1, "127.77.0.4"),
        (70_000, "127.77.255.254"),
    ] {
        let taken = Taken {
            passed_over,
            ..taken(&["127.77.0.3"])
        };
        let given = ask(&driver, &request, &taken).await.unwrap();
        assert_eq!(given.vip.address, ip(expected), "{passed_over}");
    }
    let most = all_of((2..=65_533_u32).map(|n| IpAddr::V4((0x7f4d_0000 + n).into())));
    assert_eq!(
        ask(&driver, &request, &most).await.unwrap().vip.address,
        ip("127.77.255.254")
    );
    let all = all_of((2..=65_534_u32).map(|n| IpAddr::V4((0x7f4d_0000 + n).into())));
    assert_eq!(sentence(ask(&driver, &request, &all).await), EXHAUSTED);
}

#[tokio::test]
async fn a_subnet_of_one_address_has_exactly_one() {
    let driver = loopback();
    let request = subnet_request(&driver, "local-v6").await;
    assert_eq!(
        ask(&driver, &request, &Taken::default())
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
        let answer = ask(&driver, &request, &Taken::default()).await;
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
    let given = ask(&driver, &six, &Taken::default()).await.unwrap();
    assert_eq!(given.vip.subnet_id, id(&driver, "six").await);
    let elsewhere = VipRequest {
        address: Some(ip("127.77.0.3")),
        ..request.clone()
    };
    let expected = "Supplied network does not contain a subnet for VIP address specified.";
    assert_eq!(
        sentence(ask(&driver, &elsewhere, &Taken::default()).await),
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
    let refused = ask(&driver, &request, &Taken::default()).await.unwrap_err();
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
    let given = ask(&driver, &right, &Taken::default()).await.unwrap();
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
    let refused = ask(&driver, &request, &Taken::default()).await.unwrap_err();
    assert_eq!(
        refused,
        AllocateError::Unknown {
            kind: "Port",
            id: port.to_string()
        }
    );
    let nothing = ask(&driver, &VipRequest::default(), &Taken::default()).await;
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
    let given = ask(&driver, &with(vec![(six, None)]), &Taken::default())
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
            sentence(ask(&driver, &with(twice), &Taken::default()).await),
            duplicate
        );
    }
    let foreign = with(vec![(id(&driver, "four").await, None)]);
    let expected = "All VIP subnets must belong to the same network.";
    assert_eq!(
        sentence(ask(&driver, &foreign, &Taken::default()).await),
        expected
    );
    let unknown = ask(&driver, &with(vec![(PORT, None)]), &Taken::default())
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

/// What somebody asks for with a port of `furnished`, by names.
async fn port_request(
    driver: &LocalNetwork,
    port: &str,
    network: Option<&str>,
    subnet: Option<&str>,
    address: Option<&str>,
) -> VipRequest {
    let named = async |name: Option<&str>| match name {
        Some(name) => Some(id(driver, name).await),
        None => None,
    };
    VipRequest {
        port_id: named(Some(port)).await,
        network_id: named(network).await,
        subnet_id: named(subnet).await,
        address: address.map(ip),
        ..VipRequest::default()
    }
}

#[tokio::test]
async fn a_port_decides_the_address_and_what_else_is_said_must_agree() {
    const NO_SUBNET: &str =
        "VIP port's subnet could not be determined. Please specify either a VIP subnet or address.";
    const NOT_THERE: &str =
        "No VIP address found on the specified VIP port within the specified subnet.";
    const NOT_ON_PORT: &str = "Specified VIP address not found on the specified VIP port.";
    let driver = furnished();
    // Port, network, subnet, address; the address given, or why none.
    for (port, network, subnet, address, expected) in [
        ("one", None, None, None, Ok("10.0.0.2")),
        (
            "one",
            Some("office"),
            Some("o4"),
            Some("10.0.0.2"),
            Ok("10.0.0.2"),
        ),
        ("one", None, Some("o6"), None, Err(NOT_THERE)),
        ("one", None, None, Some("10.0.0.9"), Err(NOT_ON_PORT)),
        ("two", None, None, None, Err(NO_SUBNET)),
        ("two", Some("office"), None, None, Err(NO_SUBNET)),
        ("two", None, Some("o4"), None, Ok("10.0.0.3")),
        ("two", None, Some("o4"), Some("10.0.0.4"), Ok("10.0.0.4")),
        (
            "two",
            None,
            Some("o4"),
            Some("2001:db8:1::3"),
            Err(NOT_ON_PORT),
        ),
        ("two", None, Some("o6"), None, Ok("2001:db8:1::3")),
        ("two", None, Some("o4b"), None, Err(NOT_THERE)),
        (
            "two",
            None,
            None,
            Some("2001:DB8:1:0::3"),
            Ok("2001:db8:1::3"),
        ),
        ("two", None, None, Some("10.0.0.4"), Ok("10.0.0.4")),
        ("two", None, None, Some("2001:db8:1::4"), Err(NOT_ON_PORT)),
        ("own", None, None, None, Ok("10.0.0.6")),
        ("deep", None, None, None, Ok("10.1.0.9")),
    ] {
        let request = port_request(&driver, port, network, subnet, address).await;
        let answer = ask(&driver, &request, &Taken::default()).await;
        match expected {
            Ok(expected) => {
                let vip = answer.unwrap().vip;
                assert_eq!(vip.address, ip(expected), "{request:?}");
                assert_eq!(vip.port_id, id(&driver, port).await);
            }
            Err(expected) => assert_eq!(sentence(answer), expected, "{request:?}"),
        }
    }
    let elsewhere = port_request(&driver, "one", Some("hidden"), None, None).await;
    let refused = sentence(ask(&driver, &elsewhere, &Taken::default()).await);
    assert!(
        refused.contains("is not on the supplied network"),
        "{refused}"
    );
    let unknown = VipRequest {
        subnet_id: Some(PORT),
        ..port_request(&driver, "one", None, None, None).await
    };
    let refused = ask(&driver, &unknown, &Taken::default()).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("Subnet {PORT} not found"));
}

#[tokio::test]
async fn a_port_in_use_says_by_whom_to_those_who_see_it() {
    let driver = furnished();
    let mine = Viewer::Project(ProjectId::parse("p1").unwrap());
    let theirs = Viewer::Project(ProjectId::parse("p2").unwrap());
    let holder = PortHolder {
        load_balancer: LoadBalancerId::new(Uuid::from_u128(5)),
        project: ProjectId::parse("p1").unwrap(),
    };
    let held = Taken {
        port: Some(holder),
        ..Taken::default()
    };
    let free = Taken::default();
    let by_lb = "is already used by device lb-00000000-0000-0000-0000-000000000005";
    for (viewer, port, taken, expected) in [
        (&mine, "busy", &free, "is already used by device vm-1"),
        (&theirs, "busy", &free, "is already used by device vm-1"),
        (&mine, "one", &held, by_lb),
        (&theirs, "one", &held, by_lb),
        (&mine, "own", &held, by_lb),
        (&theirs, "own", &held, "not found"),
        (&theirs, "own", &free, "not found"),
        (&Viewer::Stranger, "own", &free, "not found"),
        (&theirs, "deep", &free, "not found"),
    ] {
        let request = port_request(&driver, port, None, None, None).await;
        let refused = ask_as(viewer, &driver, &request, taken).await.unwrap_err();
        let named = format!("Port {} {expected}", id(&driver, port).await);
        assert_eq!(refused.to_string(), named);
    }
    // The port of a load balancer is in use for those who see the load balancer, and nowhere for others.
    let request = VipRequest {
        port_id: Some(PORT),
        ..VipRequest::default()
    };
    let refused = ask_as(&mine, &driver, &request, &held).await;
    assert_eq!(sentence(refused), format!("Port {PORT} {by_lb}"));
    let refused = ask_as(&theirs, &driver, &request, &held).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("Port {PORT} not found"));
}

#[tokio::test]
async fn additional_addresses_of_a_port_are_its_own() {
    let driver = furnished();
    let (four, six, other) = (
        id(&driver, "o4").await,
        id(&driver, "o6").await,
        id(&driver, "o4b").await,
    );
    let base = port_request(&driver, "two", None, Some("o4"), None).await;
    for (additional, expected) in [
        ((six, None), Ok("2001:db8:1::3")),
        ((six, Some("2001:db8:1::3")), Ok("2001:db8:1::3")),
        (
            (six, Some("2001:db8:1::4")),
            Err("Specified VIP address not found on the specified VIP port."),
        ),
        (
            (other, None),
            Err("No VIP address found on the specified VIP port within the specified subnet."),
        ),
        (
            (four, None),
            Err("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet."),
        ),
        (
            (id(&driver, "h4").await, None),
            Err("All VIP subnets must belong to the same network."),
        ),
    ] {
        let (subnet, address) = additional;
        let request = VipRequest {
            additional: vec![(subnet, address.map(ip))],
            ..base.clone()
        };
        let answer = ask(&driver, &request, &Taken::default()).await;
        match expected {
            Ok(expected) => assert_eq!(answer.unwrap().additional[0].address, ip(expected)),
            Err(expected) => assert_eq!(sentence(answer), expected),
        }
    }
}

#[tokio::test]
async fn gateways_and_addresses_of_ports_are_not_handed_out() {
    let driver = furnished();
    let request = subnet_request(&driver, "o4").await;
    let given = ask(&driver, &request, &Taken::default()).await.unwrap();
    // .1 is the gateway, .2 to .6 are those of ports.
    assert_eq!(given.vip.address, ip("10.0.0.7"));
    let wanting = |address: &str| VipRequest {
        address: Some(ip(address)),
        ..request.clone()
    };
    let refused = sentence(ask(&driver, &wanting("10.0.0.1"), &Taken::default()).await);
    assert!(
        refused.starts_with("IP address 10.0.0.1 is not a valid IP for the specified subnet"),
        "{refused}"
    );
    let refused = ask(&driver, &wanting("10.0.0.4"), &Taken::default())
        .await
        .unwrap_err();
    assert!(
        matches!(refused, AllocateError::InUse { .. }),
        "{refused:?}"
    );
    let by_network = VipRequest {
        address: Some(ip("10.0.0.1")),
        ..network_request(&driver, "office").await
    };
    let refused = sentence(ask(&driver, &by_network, &Taken::default()).await);
    assert!(refused.contains("is not a valid IP"), "{refused}");
}

#[tokio::test]
async fn a_hidden_network_is_there_for_its_projects_only() {
    let driver = furnished();
    let [mine, theirs] = ["p1", "p2"].map(|name| Viewer::Project(ProjectId::parse(name).unwrap()));
    let subnet = id(&driver, "h4").await;
    for request in [
        network_request(&driver, "hidden").await,
        subnet_request(&driver, "h4").await,
    ] {
        assert!(
            ask_as(&mine, &driver, &request, &Taken::default())
                .await
                .is_ok()
        );
        let refused = ask_as(&theirs, &driver, &request, &Taken::default())
            .await
            .unwrap_err();
        assert!(refused.to_string().ends_with("not found"), "{refused}");
    }
    assert!(driver.has_subnet(&mine, subnet).await.unwrap());
    assert!(!driver.has_subnet(&theirs, subnet).await.unwrap());
}

#[test]
fn everything_wrong_with_a_configuration_is_told_at_once() {
    let ranged = |name: &str, first: Option<&str>, last: Option<&str>| SubnetConfig {
        first: first.map(ip),
        last: last.map(ip),
        ..subnet(name, "10.0.0.0/24")
    };
    let networks = [
        NetworkConfig {
            segment: None,
            name: "a".into(),
            projects: None,
            subnets: vec![
                subnet("typo", "10.0.0.1/24"),
                subnet("no-prefix", "10.0.0.0"),
                subnet("too-long", "10.0.0.0/33"),
                ranged("outside", Some("10.0.1.1"), None),
                ranged("backwards", Some("10.0.0.9"), Some("10.0.0.8")),
                ranged("family", Some("::1"), None),
                SubnetConfig {
                    gateway: Some(ip("10.3.0.255")),
                    ..subnet("gateway", "10.3.0.0/24")
                },
                subnet("good", "10.1.0.0/24"),
                subnet("good", "10.2.0.0/24"),
                subnet("within", "10.1.0.128/25"),
            ],
            ports: vec![],
        },
        NetworkConfig {
            segment: None,
            name: "a".into(),
            projects: None,
            subnets: vec![],
            ports: vec![],
        },
    ];
    let errors = LocalNetwork::new(&networks).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 11, "{texts:#?}");
    assert_eq!(
        texts[0],
        "network a, subnet typo: 10.0.0.1/24 has bits set behind its prefix; 10.0.0.0/24 is meant?"
    );
    assert!(
        texts[8].contains("10.1.0.128/25 overlaps with 10.1.0.0/24 of good"),
        "{texts:#?}"
    );
}

#[test]
fn everything_wrong_with_ports_and_projects_is_told_at_once() {
    let with = |project: Option<&str>, device: Option<&str>, port: PortConfig| PortConfig {
        project: project.map(str::to_owned),
        device_id: device.map(str::to_owned),
        ..port
    };
    let long = "p".repeat(37);
    let networks = [
        NetworkConfig {
            segment: None,
            name: "a".into(),
            projects: Some(vec!["p1".into(), long.clone()]),
            subnets: vec![
                SubnetConfig {
                    gateway: Some(ip("10.0.0.1")),
                    ..subnet("s", "10.0.0.0/24")
                },
                subnet("wrong", "10.0.0.0/99"),
            ],
            ports: vec![
                port("good", &[("s", "10.0.0.2")]),
                port("good", &[("s", "10.0.0.3")]),
                port("empty", &[]),
                port("lost", &[("nowhere", "10.0.0.4")]),
                port("broken", &[("wrong", "10.0.0.4")]),
                port("outside", &[("s", "10.0.1.4")]),
                port("router", &[("s", "10.0.0.1")]),
                port("broadcast", &[("s", "10.0.0.255")]),
                port("twice", &[("s", "10.0.0.2")]),
                with(Some("p2"), None, port("blind", &[("s", "10.0.0.7")])),
                with(Some(""), Some(""), port("nameless", &[("s", "10.0.0.8")])),
            ],
        },
        NetworkConfig {
            segment: None,
            name: "b".into(),
            projects: Some(vec![]),
            subnets: vec![subnet("b", "10.9.0.0/24")],
            ports: vec![],
        },
    ];
    let errors = LocalNetwork::new(&networks).unwrap_err();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        format!("network a: the project {long:?} has not 1 to 36 characters"),
        "network a, subnet wrong: \"10.0.0.0/99\" is not an address range like 192.0.2.0/24 or 2001:db8::/64".into(),
        "network a, port good: the name is used twice".into(),
        "network a, port empty: it has no address".into(),
        "network a, port lost: the network has no subnet nowhere".into(),
        "network a, port outside: 10.0.1.4 is not an address that 10.0.0.0/24 can hand out".into(),
        "network a, port router: 10.0.0.1 is not an address that 10.0.0.0/24 can hand out".into(),
        "network a, port broadcast: 10.0.0.255 is not an address that 10.0.0.0/24 can hand out".into(),
        "network a, port twice: the address 10.0.0.2 is used twice".into(),
        "network a, port blind: its project p2 does not see the network".into(),
        "network a, port nameless: the project \"\" has not 1 to 36 characters".into(),
        "network a, port nameless: its device_id is empty; leave it out".into(),
        "network b: nobody sees it; leave projects out to show it to everybody".into(),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn prefixes_at_both_ends_hold() {
    let driver = |cidr: &str| {
        LocalNetwork::new(&[NetworkConfig {
            segment: None,
            name: "n".into(),
            projects: None,
            subnets: vec![subnet("s", cidr)],
            ports: vec![],
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
