//! VIPs as tenants get them: what they may ask for, and that nobody gets what somebody has.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use krater_amphora_api::LoadBalancerId;
use krater_controller_api::Application as _;
use krater_controller_core::{
    command::{Cascade, Command, LoadBalancerUpdate, NewMember},
    envelope::Envelope,
    model::{ProjectId, VipRequest},
    query::{Answer, Caller, Persona, Query},
    refusal::Refusal,
    tree::TreeView,
    vips::{VipReference, VipRules},
};
use krater_driver::NetworkDriver as _;
use krater_driver_local::{FixedIpConfig, LocalNetwork, NetworkConfig, PortConfig, SubnetConfig};
use uuid::Uuid;

use crate::testbed::{House, Setting, new_listener, new_member, pool_of};

/// A network with a wide and a narrow subnet, an IPv6 one and ports; and one that only the project `own` sees.
fn networks() -> Vec<NetworkConfig> {
    let subnet = |name: &str, cidr: &str| SubnetConfig {
        host_routes: Vec::new(),
        name: name.into(),
        cidr: cidr.into(),
        gateway: None,
        first: None,
        last: None,
    };
    let port = |name: &str, fixed_ips: &[(&str, &str)]| PortConfig {
        name: name.into(),
        fixed_ips: fixed_ips
            .iter()
            .map(|(subnet, address)| FixedIpConfig {
                subnet: (*subnet).into(),
                address: address.parse().unwrap(),
            })
            .collect(),
        project: None,
        device_id: None,
    };
    vec![
        NetworkConfig {
            segment: None,
            name: "net".into(),
            projects: None,
            subnets: vec![
                SubnetConfig {
                    gateway: Some([10, 0, 0, 1].into()),
                    ..subnet("wide", "10.0.0.0/16")
                },
                subnet("narrow", "10.1.0.0/30"),
                subnet("six", "2001:db8::/64"),
            ],
            ports: vec![
                port("front", &[("wide", "10.0.0.9"), ("six", "2001:db8::9")]),
                port("single", &[("wide", "10.0.0.8")]),
                PortConfig {
                    device_id: Some("vm-1".into()),
                    ..port("busy", &[("wide", "10.0.0.7")])
                },
            ],
        },
        NetworkConfig {
            segment: None,
            name: "secret".into(),
            projects: Some(vec!["own".into()]),
            subnets: vec![subnet("hidden", "10.2.0.0/24")],
            ports: vec![],
        },
    ]
}

/// Ids by name.
async fn ids() -> BTreeMap<String, Uuid> {
    let driver = LocalNetwork::new(&networks()).unwrap();
    let mut ids = BTreeMap::new();
    for network in driver.networks().await.unwrap() {
        ids.insert(network.name, network.id);
        ids.extend(network.subnets.into_iter().map(|it| (it.name, it.id)));
        ids.extend(network.ports.into_iter().map(|it| (it.name, it.id)));
    }
    ids
}

async fn house(rules: VipRules) -> Arc<House> {
    let networks = networks();
    Arc::new(
        House::build_with(Setting {
            networks,
            rules,
            ..Setting::default()
        })
        .await,
    )
}

fn member_of(project: &str) -> Caller {
    Caller::new("somebody", ProjectId::parse(project), Persona::Member)
}

impl House {
    async fn create(&self, caller: &Caller, vip: VipRequest) -> Result<TreeView, Refusal> {
        let mut new = self.new_load_balancer();
        new.vip = vip;
        let command = Command::CreateLoadBalancer(Box::new(new));
        let executed = self
            .application
            .execute(caller, command, &Envelope::default())
            .await?;
        Ok(executed.view)
    }

    async fn delete(&self, id: LoadBalancerId) {
        let command = Command::DeleteLoadBalancer(id, Cascade::WithChildren);
        self.execute(command).await.unwrap();
        self.until_gone(id).await;
    }
}

fn address_of(view: &TreeView) -> IpAddr {
    view.tree.load_balancer.value.vip.address
}

/// A request by names: port, network, subnet, address, additional subnets.
struct Asked(
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    &'static [&'static str],
);

impl Asked {
    fn request(&self, ids: &BTreeMap<String, Uuid>) -> VipRequest {
        // A name that names nothing becomes an id that does not either.
        let id = |name: &str| ids.get(name).copied().unwrap_or(NOWHERE);
        VipRequest {
            port_id: self.0.map(id),
            network_id: self.1.map(id),
            subnet_id: self.2.map(id),
            address: self.3.map(|text| text.parse().unwrap()),
            additional: self.4.iter().map(|name| (id(name), None)).collect(),
            ..VipRequest::default()
        }
    }
}

const NOWHERE: Uuid = Uuid::from_u128(0xdead);

const NO_REFERENCE: &str = "VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.";
const UNKNOWN: &str = "0000dead not found";

/// What is asked for, one after the other, with the address given or why none is.
const ASKED: &[(Asked, Result<&str, &str>)] = &[
    (Asked(None, None, Some("wide"), None, &[]), Ok("10.0.0.2")),
    (Asked(None, Some("net"), None, None, &[]), Ok("10.0.0.3")),
    (
        Asked(None, Some("net"), Some("six"), None, &[]),
        Ok("2001:db8::"),
    ),
    (
        Asked(None, Some("net"), None, Some("10.1.0.2"), &[]),
        Ok("10.1.0.2"),
    ),
    (
        Asked(None, None, Some("six"), Some("2001:DB8:0::5"), &[]),
        Ok("2001:db8::5"),
    ),
    (
        Asked(None, None, Some("narrow"), None, &["six"]),
        Ok("10.1.0.1"),
    ),
    (Asked(Some("single"), None, None, None, &[]), Ok("10.0.0.8")),
    (
        Asked(Some("front"), Some("net"), Some("six"), None, &["wide"]),
        Ok("2001:db8::9"),
    ),
    (Asked(None, None, None, None, &[]), Err(NO_REFERENCE)),
    (
        Asked(None, None, None, Some("10.0.0.77"), &[]),
        Err(NO_REFERENCE),
    ),
    (
        Asked(Some("none"), None, Some("wide"), None, &[]),
        Err(UNKNOWN),
    ),
    (Asked(None, Some("none"), None, None, &[]), Err(UNKNOWN)),
    (Asked(None, None, Some("none"), None, &[]), Err(UNKNOWN)),
    (
        Asked(None, Some("secret"), Some("wide"), None, &[]),
        Err("Subnet "),
    ),
    (
        Asked(None, None, Some("wide"), None, &["none"]),
        Err(UNKNOWN),
    ),
    (
        Asked(Some("busy"), None, None, None, &[]),
        Err("is already used by device vm-1"),
    ),
    (
        Asked(Some("single"), None, None, None, &[]),
        Err("is already used by device lb-"),
    ),
    (
        Asked(None, Some("net"), None, Some("192.0.2.1"), &[]),
        Err("Supplied network does not contain a subnet for VIP address specified."),
    ),
    (
        Asked(None, None, Some("narrow"), None, &[]),
        Err("Subnet(s) in the supplied network do not contain enough available IPs."),
    ),
    (
        Asked(None, None, Some("wide"), None, &["wide"]),
        Err("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet."),
    ),
    (
        Asked(None, None, Some("wide"), None, &["six", "six"]),
        Err("Duplicate VIP subnet(s) specified. Only one IP can be bound per subnet."),
    ),
    (
        Asked(None, None, Some("wide"), None, &["hidden"]),
        Err("All VIP subnets must belong to the same network."),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.0.0.1"), &[]),
        Err("is not a valid IP"),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.0.0.0"), &[]),
        Err("is not a valid IP"),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.0.255.255"), &[]),
        Err("is not a valid IP"),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.1.0.9"), &[]),
        Err("is not a valid IP"),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.0.0.2"), &[]),
        Err("the VIP address 10.0.0.2 is already in use"),
    ),
    (
        Asked(None, None, Some("six"), Some("2001:db8:0:0::5"), &[]),
        Err("the VIP address 2001:db8::5 is already in use"),
    ),
    (
        Asked(None, None, Some("wide"), Some("10.0.0.7"), &[]),
        Err("the VIP address 10.0.0.7 is already in use"),
    ),
];

#[tokio::test]
async fn every_way_to_ask_for_a_vip_is_answered_as_documented() {
    let house = house(VipRules::default()).await;
    let ids = ids().await;
    for (asked, expected) in ASKED {
        let request = asked.request(&ids);
        let answer = house.create(&house.caller, request.clone()).await;
        match *expected {
            Ok(expected) => {
                let view = answer.unwrap_or_else(|error| panic!("{error} for {request:?}"));
                let balancer = &view.tree.load_balancer.value;
                assert_eq!(address_of(&view).to_string(), expected);
                let subnets: Vec<_> = balancer
                    .additional_vips
                    .iter()
                    .map(|vip| vip.subnet_id)
                    .collect();
                let wanted: Vec<_> = request.additional.iter().map(|wanted| wanted.0).collect();
                assert_eq!(subnets, wanted);
                assert_eq!(balancer.vip.network_id, ids["net"]);
                if let Some(port) = request.port_id {
                    assert_eq!(balancer.vip.port_id, port);
                }
            }
            Err(expected) => {
                let refusal = answer
                    .map(|view| address_of(&view))
                    .unwrap_err()
                    .to_string();
                assert!(refusal.contains(expected), "{refusal} for {request:?}");
            }
        }
    }
}

/// Whether somebody asks who may only read, whether a policy and a group are named, and what is refused: each has what
/// the one before was refused for put right.
const IN_ORDER: &[(bool, (bool, bool), Asked, &str)] = &[
    (
        true,
        (true, true),
        Asked(Some("none"), None, Some("none"), None, &["none"]),
        "policy does not allow this request",
    ),
    (
        false,
        (true, true),
        Asked(Some("none"), None, Some("none"), None, &["none"]),
        "use of vip_port_id is disallowed by this deployment's configuration.",
    ),
    (
        false,
        (true, true),
        Asked(None, None, None, Some("10.2.0.255"), &["none"]),
        "VIP must contain one of: vip_network_id, vip_subnet_id.",
    ),
    (
        false,
        (true, true),
        Asked(None, None, Some("none"), Some("10.2.0.255"), &["none"]),
        "Subnet 00000000-0000-0000-0000-00000000dead not found",
    ),
    (
        false,
        (true, true),
        Asked(None, None, Some("hidden"), Some("10.2.0.255"), &["none"]),
        "qos_policy 00000000-0000-0000-0000-00000000dead not found",
    ),
    (
        false,
        (false, true),
        Asked(None, None, Some("hidden"), Some("10.2.0.255"), &["none"]),
        "Security Group 00000000-0000-0000-0000-00000000dead not found",
    ),
    (
        false,
        (false, false),
        Asked(None, None, Some("hidden"), Some("10.2.0.255"), &["none"]),
        "Supplied VIP network_id is not allowed by the configuration of this deployment.",
    ),
    (
        false,
        (false, false),
        Asked(None, None, Some("wide"), Some("10.0.255.255"), &["none"]),
        "Subnet 00000000-0000-0000-0000-00000000dead not found",
    ),
    (
        false,
        (false, false),
        Asked(None, None, Some("wide"), Some("10.0.255.255"), &["six"]),
        "IP address 10.0.255.255 is not a valid IP for the specified subnet",
    ),
];

#[tokio::test]
async fn what_is_wrong_is_told_in_the_documented_order() {
    let ids = ids().await;
    let rules = VipRules {
        references: [VipReference::Network, VipReference::Subnet].into(),
        valid_networks: Some([ids["net"]].into()),
        denied_networks: BTreeSet::new(),
        ..VipRules::default()
    };
    let house = house(rules).await;
    let reader = Caller::new("somebody", ProjectId::parse("own"), Persona::Observer);
    let own = member_of("own");
    for (reads, (policy, group), asked, expected) in IN_ORDER {
        let caller = if *reads { &reader } else { &own };
        let request = VipRequest {
            qos_policy_id: policy.then_some(NOWHERE),
            security_group_ids: group.then_some(NOWHERE).into_iter().collect(),
            ..asked.request(&ids)
        };
        let refusal = house.create(caller, request).await.unwrap_err().to_string();
        assert!(
            refusal.starts_with(expected),
            "{refusal} instead of {expected}"
        );
    }
    let right = Asked(None, None, Some("wide"), Some("10.0.255.254"), &["six"]).request(&ids);
    house.create(&own, right).await.unwrap();
}

#[tokio::test]
async fn what_one_project_sees_is_nowhere_for_another() {
    let house = house(VipRules::default()).await;
    let ids = ids().await;
    let (own, other) = (member_of("own"), member_of("other"));
    for asked in [
        Asked(None, Some("secret"), None, None, &[]),
        Asked(None, None, Some("hidden"), None, &[]),
    ] {
        let request = asked.request(&ids);
        let refusal = house.create(&other, request.clone()).await.unwrap_err();
        assert!(
            matches!(refusal, Refusal::UnknownNetworkResource { .. }),
            "{refusal:?}"
        );
        house.create(&own, request).await.unwrap();
    }

    // The port of somebody else's load balancer is not there; that of one's own is in use.
    let view = house
        .create(
            &own,
            Asked(None, None, Some("wide"), None, &[]).request(&ids),
        )
        .await
        .unwrap();
    let made = VipRequest {
        port_id: Some(view.tree.load_balancer.value.vip.port_id),
        ..VipRequest::default()
    };
    let refusal = house.create(&other, made.clone()).await.unwrap_err();
    assert!(refusal.to_string().ends_with("not found"), "{refusal}");
    let refusal = house.create(&own, made).await.unwrap_err().to_string();
    let device = format!("is already used by device lb-{}", view.tree.id());
    assert!(refusal.ends_with(&device), "{refusal}");

    // Members are reached through what their project sees.
    let member = new_member([10, 9, 9, 9].into());
    let through = |subnet: &str| {
        let member = NewMember {
            subnet_id: Some(ids[subnet]),
            ..member.clone()
        };
        Command::CreateMember(pool_of(&view), Box::new(member))
    };
    house
        .application
        .execute(&own, through("hidden"), &Envelope::default())
        .await
        .unwrap();
    let mut theirs = house.new_load_balancer();
    theirs.pools[0].members = vec![NewMember {
        subnet_id: Some(ids["hidden"]),
        ..member.clone()
    }];
    let command = Command::CreateLoadBalancer(Box::new(theirs));
    let refusal = house
        .application
        .execute(&other, command, &Envelope::default())
        .await
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!("Subnet {} not found", ids["hidden"])
    );
    // Who may not change the pool is told that, whatever subnet they name.
    let refusal = house
        .application
        .execute(&other, through("hidden"), &Envelope::default())
        .await;
    assert_eq!(refusal.unwrap_err(), Refusal::NotPermitted);
}

#[tokio::test]
async fn a_port_that_was_adopted_stays_and_is_free_again() {
    let house = house(VipRules::default()).await;
    let ids = ids().await;
    let port = Asked(Some("single"), None, None, None, &[]).request(&ids);
    let device = async || {
        let answer = house
            .application
            .answer(&house.caller, Query::Networks)
            .await;
        let Ok(Answer::Networks(networks)) = answer else {
            panic!("{answer:?}")
        };
        let mut ports = networks.into_iter().flat_map(|network| network.ports);
        ports.find(|port| port.name == "single").unwrap().device_id
    };
    assert_eq!(device().await, None);
    for _ in 0..2 {
        let view = house.create(&house.caller, port.clone()).await.unwrap();
        let id = view.tree.id();
        assert_eq!(device().await, Some(format!("lb-{id}")));
        house.delete(id).await;
        assert_eq!(device().await, None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_who_want_one_address_one_gets_it() {
    let house = house(VipRules::default()).await;
    let request = Asked(None, None, Some("wide"), Some("10.0.7.7"), &[]).request(&ids().await);
    let (won, lost) = race(&house, 50, &request).await;
    assert_eq!(won.len(), 1);
    for refusal in lost {
        let address = "10.0.7.7".parse::<IpAddr>().unwrap();
        assert!(
            matches!(&refusal, Refusal::AddressInUse { address: taken, .. } if *taken == address),
            "{refusal:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_fifty_who_want_one_port_one_gets_it() {
    let house = house(VipRules::default()).await;
    let request = Asked(Some("front"), None, Some("wide"), None, &[]).request(&ids().await);
    let (won, lost) = race(&house, 50, &request).await;
    let device = format!("is already used by device lb-{}", won[0].tree.id());
    assert_eq!(won.len(), 1);
    for refusal in lost {
        assert!(refusal.to_string().ends_with(&device), "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_at_once_get_addresses_of_their_own() {
    let house = house(VipRules::default()).await;
    let request = Asked(None, Some("net"), None, None, &["six"]).request(&ids().await);
    let (won, lost) = race(&house, 100, &request).await;
    assert_eq!(lost, []);
    let addresses: BTreeSet<IpAddr> = won
        .iter()
        .flat_map(|view| {
            let balancer = &view.tree.load_balancer.value;
            let more = balancer.additional_vips.iter().map(|vip| vip.address);
            std::iter::once(balancer.vip.address).chain(more)
        })
        .collect();
    assert_eq!(addresses.len(), 200);
}

async fn race(
    house: &Arc<House>,
    count: usize,
    request: &VipRequest,
) -> (Vec<TreeView>, Vec<Refusal>) {
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (house, request) = (Arc::clone(house), request.clone());
        tries.spawn(async move { house.create(&house.caller, request).await });
    }
    let (mut won, mut lost) = (Vec::new(), Vec::new());
    for answer in tries.join_all().await {
        match answer {
            Ok(view) => won.push(view),
            Err(refusal) => lost.push(refusal),
        }
    }
    (won, lost)
}

#[tokio::test]
async fn a_network_is_full_when_all_its_subnets_are() {
    let house = House::build_with(Setting {
        networks: vec![NetworkConfig {
            segment: None,
            name: "small".into(),
            projects: None,
            subnets: ["2001:db8::/127", "192.0.2.0/31"]
                .map(|cidr| SubnetConfig {
                    host_routes: Vec::new(),
                    name: cidr.into(),
                    cidr: cidr.into(),
                    gateway: None,
                    first: None,
                    last: None,
                })
                .into(),
            ports: vec![],
        }],
        ..Setting::default()
    })
    .await;
    let answer = house
        .application
        .answer(&house.caller, Query::Networks)
        .await;
    let Ok(Answer::Networks(networks)) = answer else {
        panic!("{answer:?}")
    };
    let request = VipRequest {
        network_id: Some(networks[0].id),
        ..VipRequest::default()
    };
    let mut given = Vec::new();
    for _ in 0..4 {
        let view = house.create(&house.caller, request.clone()).await.unwrap();
        given.push(view);
    }
    let addresses: Vec<_> = given
        .iter()
        .map(|view| address_of(view).to_string())
        .collect();
    assert_eq!(
        addresses,
        ["192.0.2.0", "192.0.2.1", "2001:db8::", "2001:db8::1"]
    );
    let full = "Subnet(s) in the supplied network do not contain enough available IPs.";
    let refusal = house
        .create(&house.caller, request.clone())
        .await
        .unwrap_err();
    assert_eq!(refusal, Refusal::Invalid(full.into()));
    house.delete(given[1].tree.id()).await;
    let view = house.create(&house.caller, request).await.unwrap();
    assert_eq!(address_of(&view).to_string(), "192.0.2.1");
}

#[tokio::test]
async fn policies_and_groups_that_are_nowhere_are_refused_in_updates_too() {
    let house = house(VipRules::default()).await;
    let view = house.serving().await;
    let update = |policy: Option<Option<Uuid>>, groups: Option<Vec<Uuid>>| {
        let update = LoadBalancerUpdate {
            vip_qos_policy_id: policy,
            vip_sg_ids: groups,
            ..LoadBalancerUpdate::default()
        };
        Command::UpdateLoadBalancer(view.tree.id(), update)
    };
    for (command, kind) in [
        (update(Some(Some(NOWHERE)), None), "qos_policy"),
        (update(None, Some(vec![NOWHERE])), "Security Group"),
    ] {
        let refusal = house.execute(command).await.unwrap_err();
        let id = NOWHERE.to_string();
        assert_eq!(refusal, Refusal::UnknownNetworkResource { kind, id });
    }
    house
        .execute(update(Some(None), Some(vec![])))
        .await
        .unwrap();
    let stranger = member_of("other");
    let command = update(Some(Some(NOWHERE)), None);
    let refusal = house
        .application
        .execute(&stranger, command, &Envelope::default())
        .await;
    assert_eq!(refusal.unwrap_err(), Refusal::NotPermitted);
    let listener = new_listener(81, None);
    let command = Command::CreateListener(view.tree.id(), Box::new(listener));
    house.execute(command).await.unwrap();
}
