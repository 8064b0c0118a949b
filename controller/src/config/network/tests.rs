//! The network's settings: every flaw at once, and what they come to.

use krater_controller_core::vips::{VipReference, VipRules};

use super::{
    super::{Config, Overrides},
    NetworkDriverName,
};

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let overrides = Overrides {
        state_dir: Some("/state".into()),
        ..Overrides::default()
    };
    Config::parse(text, &overrides)
}

const TWO_NETWORKS: &str = "[[networks]]\nname = \"a\"\n[[networks.subnets]]\nname = \"a4\"\ncidr = \"10.0.0.0/24\"\n\
    [[networks]]\nname = \"b\"\n[[networks.subnets]]\nname = \"b4\"\ncidr = \"10.1.0.0/24\"\n";

#[test]
fn everything_is_allowed_unless_it_is_said_otherwise() {
    let network = parse("").unwrap().network;
    assert_eq!(network.driver, NetworkDriverName::Local);
    assert_eq!(network.rules, VipRules::default());
    assert_eq!(network.networks[0].name, "local");
}

#[test]
fn networks_are_named_or_written_as_ids() {
    let by_name = format!(
        "[network]\nallow_vip_port_id = false\nvalid_vip_networks = [\"a\"]\ndenylist_vip_networks = [\"b\"]\n{TWO_NETWORKS}"
    );
    let rules = parse(&by_name).unwrap().network.rules;
    assert_eq!(
        rules.references,
        [VipReference::Network, VipReference::Subnet].into()
    );
    let id = *rules.valid_networks.as_ref().unwrap().first().unwrap();
    let by_id = by_name.replace("[\"a\"]", &format!("[\"{id}\"]"));
    assert_eq!(parse(&by_id).unwrap().network.rules, rules);
    assert_ne!(rules.denied_networks, [id].into());
    let config = parse(&by_name).unwrap();
    assert_eq!(parse(&config.print()).unwrap(), config);
}

#[test]
fn a_made_up_network_takes_no_other() {
    let noop = parse("[network]\ndriver = \"noop\"\nvalid_vip_networks = [\"noop\"]\n").unwrap();
    assert_eq!(noop.network.driver, NetworkDriverName::Noop);
    assert!(noop.network.networks.is_empty());
    assert_eq!(parse(&noop.print()).unwrap(), noop);
    let flaws = parse(&format!("[network]\ndriver = \"noop\"\n{TWO_NETWORKS}")).unwrap_err();
    assert!(
        flaws[0].starts_with("networks: there are none"),
        "{flaws:?}"
    );
}

#[test]
fn every_flaw_is_told_at_once() {
    let text = format!(
        "[network]\nallow_vip_port_id = false\nallow_vip_network_id = false\nallow_vip_subnet_id = false\n\
         valid_vip_networks = [\"c\", \"a\", \"d\"]\ndenylist_vip_networks = [\"e\"]\n{TWO_NETWORKS}"
    );
    let flaws = parse(&text).unwrap_err();
    assert_eq!(
        flaws,
        [
            "network: with all three of allow_vip_port_id, allow_vip_network_id and allow_vip_subnet_id off no load \
             balancer can be created",
            "network.valid_vip_networks: there is no network \"c\"",
            "network.valid_vip_networks: there is no network \"d\"",
            "network.denylist_vip_networks: there is no network \"e\"",
        ]
    );
    for (text, flaw) in [
        (
            "[network]\ndriver = \"quantum\"\n",
            "network.driver: \"quantum\" is neither \"local\" nor \"noop\"",
        ),
        (
            "[network]\nvalid_vip_networks = []\n",
            "network.valid_vip_networks: allows no network at all; leave it out to allow every one",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), [flaw]);
    }
    let ports = "[[networks]]\nname = \"a\"\nprojects = []\n[[networks.subnets]]\nname = \"a4\"\ncidr = \"10.0.0.0/24\"\n\
        [[networks.ports]]\nname = \"p\"\nfixed_ips = [{ subnet = \"x\", address = \"10.0.0.2\" }]\n\
        [[networks.ports]]\nname = \"p\"\nfixed_ips = []\n";
    let flaws = parse(ports).unwrap_err();
    assert_eq!(flaws.len(), 4, "{flaws:#?}");
    assert!(
        flaws
            .iter()
            .all(|flaw| flaw.starts_with("networks: network a")),
        "{flaws:#?}"
    );
}
