use std::{borrow::ToOwned, string::ToString};

use proptest::prelude::*;

use super::*;

fn cidrs(texts: &[&str]) -> Cidrs {
    let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
    Cidrs::parse(&texts).unwrap()
}

fn allows(cidrs: &Cidrs, client: &str) -> bool {
    cidrs.allows(client.parse().unwrap())
}

#[test]
fn no_network_at_all_allows_everybody() {
    let nothing = cidrs(&[]);
    assert!(nothing.is_everybody());
    assert!(allows(&nothing, "203.0.113.1"));
    assert!(allows(&nothing, "2001:db8::1"));
}

#[test]
fn both_ends_of_a_network_are_allowed_and_their_neighbours_are_not() {
    let some = cidrs(&["198.51.100.64/26", "2001:db8:0:8000::/49"]);
    for inside in [
        "198.51.100.64",
        "198.51.100.127",
        "2001:db8:0:8000::",
        "2001:db8:0:ffff:ffff:ffff:ffff:ffff",
    ] {
        assert!(allows(&some, inside), "{inside}");
    }
    for outside in [
        "198.51.100.63",
        "198.51.100.128",
        "2001:db8:0:7fff:ffff:ffff:ffff:ffff",
        "2001:db8:1::",
    ] {
        assert!(!allows(&some, outside), "{outside}");
    }
}

#[test]
fn host_bits_are_masked_and_an_address_alone_is_one_host() {
    let some = cidrs(&["10.1.2.3/8", "192.0.2.7", "2001:db8::7"]);
    assert!(allows(&some, "10.255.0.1"));
    assert!(
        allows(&some, "192.0.2.7") && !allows(&some, "192.0.2.6") && !allows(&some, "192.0.2.8")
    );
    assert!(allows(&some, "2001:db8::7") && !allows(&some, "2001:db8::8"));
}

#[test]
fn the_whole_of_one_family_is_not_the_whole_of_the_other() {
    let v4 = cidrs(&["0.0.0.0/0"]);
    assert!(allows(&v4, "0.0.0.0") && allows(&v4, "255.255.255.255") && !allows(&v4, "::1"));
    let v6 = cidrs(&["::/0"]);
    assert!(allows(&v6, "::") && allows(&v6, "ffff::1") && !allows(&v6, "192.0.2.1"));
}

#[test]
fn a_mapped_client_is_an_ipv4_client_and_a_mapped_network_an_ipv4_network() {
    let v4 = cidrs(&["192.0.2.0/24"]);
    assert!(allows(&v4, "::ffff:192.0.2.9") && !allows(&v4, "::ffff:192.0.3.9"));
    let mapped = cidrs(&["::ffff:192.0.2.0/120"]);
    assert_eq!(mapped, v4);
    // Shorter than the mapped prefix itself: an IPv6 network like any other, in which no IPv4 client is.
    assert!(!allows(&cidrs(&["::ffff:0.0.0.0/95"]), "192.0.2.1"));
}

#[test]
fn what_is_not_a_network_is_named_and_each_of_them() {
    let bad = [
        "10.0.0.0/33",
        "::/129",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0/8",
        "x",
        "",
        "10.0.0.0/8/9",
    ];
    let texts: Vec<_> = bad
        .iter()
        .chain(&["10.0.0.0/8"])
        .map(ToString::to_string)
        .collect();
    let reasons = Cidrs::parse(&texts).unwrap_err();
    assert_eq!(reasons.len(), bad.len());
    for (reason, text) in reasons.iter().zip(bad) {
        assert!(reason.contains(&format!("{text:?}")), "{reason}");
    }
}

fn any_v4() -> impl Strategy<Value = (u32, u32)> {
    (any::<u32>(), 0_u32..=32)
}

proptest! {
    #[test]
    fn the_search_agrees_with_looking_at_each_network(
        networks in prop::collection::vec(any_v4(), 1..40),
        clients in prop::collection::vec(any::<u32>(), 40),
    ) {
        let texts: Vec<_> =
            networks.iter().map(|(address, prefix)| format!("{}/{prefix}", Ipv4Addr::from_bits(*address))).collect();
        let cidrs = Cidrs::parse(&texts).unwrap();
        let ends = networks.iter().flat_map(|(address, _)| [*address, address.wrapping_add(1), address.wrapping_sub(1)]);
        for client in clients.into_iter().chain(ends) {
            let expected = networks.iter().any(|(address, prefix)| {
                let shift = 32 - prefix;
                (u64::from(client) >> shift) == (u64::from(*address) >> shift)
            });
            prop_assert_eq!(cidrs.allows(IpAddr::V4(Ipv4Addr::from_bits(client))), expected);
        }
    }

    #[test]
    fn nothing_written_as_a_network_panics(text in "\\PC{0,40}|[0-9a-f:./+]{0,40}") {
        let _ = Cidrs::parse(&[text]);
    }
}
