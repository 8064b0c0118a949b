//! Taking turns at addresses.

use core::net::IpAddr;

use krater_amphora_api::AnnouncementSpec;
use proptest::prelude::*;

use super::*;

fn turns() -> AnnouncementSpec {
    AnnouncementSpec {
        virtual_router: 7,
        priority: 100,
        advert_interval_ms: 100,
        address: "192.0.2.1".parse().unwrap(),
        peers: vec!["192.0.2.2".parse().unwrap()],
        preempt: false,
    }
}

fn refused_turns(text: &str, change: impl FnOnce(&mut AnnouncementSpec)) {
    let mut turns = turns();
    change(&mut turns);
    refused(Subject::LoadBalancer, text, |spec| {
        spec.announcement = Some(turns);
    });
}

#[test]
fn a_virtual_router_is_taken_as_it_is_told() {
    let snapshot = accepted(|spec| spec.announcement = Some(turns()));
    let announcement = snapshot.announcement().unwrap();
    assert_eq!(
        (announcement.router, announcement.settings.priority),
        (7, 100)
    );
    assert_eq!(announcement.settings.interval.duration().as_millis(), 100);
    assert_eq!(announcement.peers, turns().peers);
}

#[test]
fn numbers_are_those_of_the_standard() {
    refused_turns("virtual router 0 is none", |turns| turns.virtual_router = 0);
    for priority in [0, 255] {
        let text = format!("priority {priority} is not between 1 and 254");
        refused_turns(&text, |turns| turns.priority = priority);
    }
    for ms in [0, 40, 105, 40_960] {
        let text =
            format!("an advert interval of {ms} ms is no multiple of 10 between 50 and 40950");
        refused_turns(&text, |turns| turns.advert_interval_ms = ms);
    }
}

#[test]
fn there_is_somebody_else_of_the_same_family() {
    refused_turns("there is nobody to take turns with", |turns| {
        turns.peers.clear();
    });
    refused_turns(
        "address fd00::2 is not of the family of 192.0.2.1",
        |turns| {
            turns.peers = vec!["fd00::2".parse().unwrap()];
        },
    );
    for same in ["192.0.2.1", "192.0.2.10"] {
        let text = format!("address {same} is given twice, or is a VIP");
        refused_turns(&text, |turns| turns.peers = vec![same.parse().unwrap()]);
    }
    refused_turns("address 224.0.0.18 is a multicast address", |turns| {
        turns.peers = vec!["224.0.0.18".parse().unwrap()];
    });
    refused_turns(
        "no VIP is of the family of fd00::1, from which it is announced",
        |turns| {
            turns.address = "fd00::1".parse().unwrap();
            turns.peers = vec!["fd00::2".parse().unwrap()];
        },
    );
    refused_turns("9 peers, at most 8 are allowed", |turns| {
        turns.peers = (101..110).map(|last| [192, 0, 2, last].into()).collect();
    });
}

/// One with anything in it.
pub(super) fn anything() -> impl Strategy<Value = AnnouncementSpec> {
    (
        any::<u8>(),
        any::<u8>(),
        prop_oneof![Just(1_000), Just(100), any::<u32>()],
        any_address(),
        prop::collection::vec(any_address(), 0..4),
        any::<bool>(),
    )
        .prop_map(
            |(virtual_router, priority, advert_interval_ms, address, peers, preempt)| {
                AnnouncementSpec {
                    virtual_router,
                    priority,
                    advert_interval_ms,
                    address,
                    peers,
                    preempt,
                }
            },
        )
}

/// Mostly of hosts of one network.
pub(super) fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        8 => (1_u8..250).prop_map(|last| IpAddr::from([192, 0, 2, last])),
        1 => any::<[u8; 4]>().prop_map(IpAddr::from),
        1 => any::<[u16; 8]>().prop_map(IpAddr::from),
        1 => Just(IpAddr::from([0_u8; 4])),
    ]
}

/// I1, looked at from outside.
pub(super) fn assert_valid(snapshot: &Snapshot) {
    if let Some(announcement) = snapshot.announcement() {
        let settings = &announcement.settings;
        assert!(announcement.router > 0 && (1..=254).contains(&settings.priority));
        assert!(settings.interval.duration().as_millis() >= 50);
        let v4 = settings.address.is_ipv4();
        assert!(!announcement.peers.is_empty());
        assert!(announcement.peers.iter().all(|peer| peer.is_ipv4() == v4));
        assert!(snapshot.vips().iter().any(|vip| vip.is_ipv4() == v4));
    }
}
