//! What profiles can say, and what they cannot.

use krater_controller_core::model::Allotment;

use super::*;

fn flavor_of(text: &str) -> FlavorTerms {
    match parse(Family::Flavor, text) {
        Some(Ok(Terms::Flavor(terms))) => terms,
        other => panic!("{text}: {other:?}"),
    }
}

fn zone_of(text: &str) -> ZoneTerms {
    match parse(Family::Zone, text) {
        Some(Ok(Terms::Zone(terms))) => terms,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_key_of_a_flavor_means_something() {
    assert_eq!(flavor_of("{}"), FlavorTerms::default());
    assert_eq!(
        flavor_of(
            r#"{"loadbalancer_topology": "ACTIVE_STANDBY", "krater_tenancy": "dedicated",
            "krater_load_balancers_max": 1, "krater_connections_max": 4294967295, "krater_passive_failures": 0,
            "krater_passive_seconds": 3600, "krater_passive_share": 1, "krater_slow_start_seconds": 30,
            "krater_source_rate": 100000, "krater_member_drain_seconds": 86400,
            "krater_member_requests": 1000000, "krater_access_log_one_in": 1000000,
            "krater_congestion_control": "dctcp-2_longest",
            "krater_memory_mib": 128, "krater_cpu_percent": 25600}"#
        ),
        FlavorTerms {
            topology: Topology::ActiveStandby,
            tenancy: Tenancy::Dedicated,
            load_balancers_max: Some(1),
            connections_max: Some(u32::MAX),
            treatment: Treatment {
                passive_failures: Some(0),
                passive_seconds: Some(3_600),
                passive_share: Some(1),
                slow_start_seconds: Some(30),
                source_rate: Some(100_000),
                member_drain: Some(MemberDrain::Seconds(86_400)),
                member_requests: Some(1_000_000),
                access_log_one_in: Some(1_000_000),
                congestion_control: Some(Congestion::Named("dctcp-2_longest".parse().unwrap())),
            },
            allotment: Allotment {
                memory_mib: Some(128),
                cpu_percent: Some(25_600),
            },
        }
    );
    let terms = flavor_of(r#"{"krater_congestion_control": "system"}"#);
    assert_eq!(terms.treatment.congestion_control, Some(Congestion::System));
    assert_eq!(
        flavor_of(r#" {"loadbalancer_topology": "SINGLE", "krater_tenancy": "shared"} "#),
        FlavorTerms::default()
    );
}

#[test]
fn every_key_of_a_zone_means_something() {
    assert_eq!(zone_of("{}"), ZoneTerms::default());
    assert_eq!(
        zone_of(
            r#"{"compute_zone": "rack-a", "valid_vip_networks":
            ["C95F0F2A-1FD5-4B68-A5C8-9C6C9D7F3A02", "c95f0f2a1fd54b68a5c89c6c9d7f3a02"]}"#
        ),
        ZoneTerms {
            compute_zone: Some("rack-a".into()),
            vip_networks: Some([Uuid::from_u128(0xc95f0f2a_1fd5_4b68_a5c8_9c6c9d7f3a02)].into()),
        }
    );
}

#[test]
fn what_is_no_object_is_no_data() {
    for text in [
        "", "x", "[]", "null", "7", "\"{}\"", "{", "{} {}", "{'a': 1}",
    ] {
        for family in Family::ALL {
            assert_eq!(parse(family, text), None, "{text}");
        }
    }
    let deep = format!("{{\"compute_zone\": {}", "[".repeat(2_000));
    assert_eq!(parse(Family::Zone, &deep), None);
}

/// Asserts that a provider says this of a profile's data.
fn assert_told(family: Family, rows: &[(&str, &str)]) {
    for (text, sentence) in rows {
        match parse(family, text) {
            Some(Err(told)) => assert!(told.contains(sentence), "{text}: {told}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn unknown_keys_and_values_of_flavors_are_told_in_a_sentence() {
    assert_told(
        Family::Flavor,
        &[
            (
                r#"{"compute_flavor": "lb.small"}"#,
                "compute_flavor: amphorae are no virtual machines",
            ),
            (r#"{"amp_image_tag": "x"}"#, "images"),
            (r#"{"sriov_vip": true}"#, "network cards"),
            (r#"{"allow_member_sriov": false}"#, "network cards"),
            (
                r#"{"compute_zone": "local"}"#,
                "compute_zone is not a key it knows, which are: loadbalancer_topology,",
            ),
            (
                r#"{"loadbalancer_topology": "single"}"#,
                "loadbalancer_topology is SINGLE or ACTIVE_STANDBY, not single.",
            ),
            (r#"{"loadbalancer_topology": null}"#, "not None."),
            (r#"{"krater_tenancy": "Shared"}"#, "not Shared."),
            (r#"{"krater_load_balancers_max": 0}"#, "at least 1, not 0."),
            (r#"{"krater_load_balancers_max": "5"}"#, "not 5."),
            (r#"{"krater_connections_max": 1.5}"#, "not 1.5."),
            (r#"{"krater_connections_max": 4294967296}"#, "at least 1"),
            (r#"{"krater_connections_max": true}"#, "not True."),
            (
                r#"{"krater_passive_failures": 1001}"#,
                "from 0 to 1000, not 1001.",
            ),
            (r#"{"krater_passive_seconds": 0}"#, "from 1 to 3600"),
            (r#"{"krater_passive_share": 101}"#, "from 1 to 100,"),
            (r#"{"krater_passive_share": 256}"#, "from 1 to 100,"),
            (r#"{"krater_slow_start_seconds": -1}"#, "from 0 to 3600"),
            (r#"{"krater_source_rate": 100001}"#, "from 0 to 100000"),
            (
                r#"{"krater_member_requests": 1000001}"#,
                "from 0 to 1000000",
            ),
            (
                r#"{"krater_access_log_one_in": 1000001}"#,
                "from 0 to 1000000",
            ),
            (
                r#"{"krater_tenancy": "dedicated", "krater_memory_mib": 127}"#,
                "from 128 to 1048576, not 127.",
            ),
            (
                r#"{"krater_tenancy": "dedicated", "krater_cpu_percent": 25601}"#,
                "from 10 to 25600",
            ),
            (
                r#"{"krater_memory_mib": 128}"#,
                "krater_tenancy is to be dedicated.",
            ),
            (
                r#"{"krater_cpu_percent": 50, "krater_tenancy": "shared"}"#,
                "krater_tenancy is to be dedicated.",
            ),
            (
                r#"{"krater_member_drain_seconds": "ever"}"#,
                "from 0 to 86400, or never, not ever.",
            ),
        ],
    );
}

#[test]
fn names_of_congestion_control_that_cannot_be_any_are_told_in_a_sentence() {
    assert_told(
        Family::Flavor,
        &[
            (
                r#"{"krater_congestion_control": "sixteen--letters"}"#,
                "krater_congestion_control is the name of a congestion control, 1 to 15 characters",
            ),
            (r#"{"krater_congestion_control": ""}"#, "or system, not ."),
            (r#"{"krater_congestion_control": "BBR"}"#, "not BBR."),
            (r#"{"krater_congestion_control": null}"#, "not None."),
        ],
    );
}

#[test]
fn unknown_keys_and_values_of_zones_are_told_in_a_sentence() {
    assert_told(
        Family::Zone,
        &[
            (r#"{"volume_zone": "x"}"#, "volumes"),
            (r#"{"management_network": "x"}"#, "hosts"),
            (
                r#"{"": "x"}"#,
                "is not a key it knows, which are: compute_zone, ",
            ),
            (r#"{"compute_zone": 7}"#, "the name of a zone, not 7."),
            (
                r#"{"valid_vip_networks": "x"}"#,
                "a list of at least one network id, not x.",
            ),
            (
                r#"{"valid_vip_networks": ["x"]}"#,
                "a list of at least one network id",
            ),
            (
                r#"{"valid_vip_networks": []}"#,
                "a list of at least one network id, not [].",
            ),
            (
                r#"{"valid_vip_networks": [7]}"#,
                "a list of at least one network id",
            ),
        ],
    );
}

/// What is offered is acted on, and nothing else is.
#[test]
fn capabilities_are_the_keys_that_are_known() {
    for family in Family::ALL {
        for (key, description) in family.capabilities() {
            let told = parse(family, &format!("{{\"{key}\": {{}}}}")).unwrap();
            let told = told.unwrap_err();
            assert!(told.starts_with(&format!("{key} is ")), "{told}");
            assert!(!told.contains("not a key"), "{told}");
            assert!(description.ends_with('.'));
        }
    }
}
