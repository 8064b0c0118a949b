//! Settings: defaults as documented, precedence, and every flaw at once.

use super::*;

fn overrides() -> Overrides {
    Overrides {
        state_dir: Some(PathBuf::from("/state")),
        ..Overrides::default()
    }
}

#[test]
fn the_printed_defaults_are_the_defaults() {
    assert_eq!(
        Config::parse(DEFAULTS, &overrides()),
        Config::parse("", &overrides())
    );
}

#[test]
fn settings_read_back_as_they_are_shown() {
    let text = "[api]\nbase_uri = \"https://lb.example.test/\"\nheader_timeout = \"1500ms\"\nhealthcheck = true\n\
                [metrics]\nlisten = \"off\"\n[fleet]\namphorae = 3\namphora_binary = \"/opt/a \\\"b\\\"\"\n\
                [quota]\nload_balancer = 10\nl7rule = 0\n\
                [log]\nfilter = \"warn,krater=debug\"\nformat = \"json\"\n\
                [[network]]\nname = \"wide\"\n[[network.subnets]]\nname = \"w6\"\ncidr = \"2001:db8::/64\"\n";
    let config = Config::parse(text, &overrides()).unwrap();
    assert_eq!(
        Config::parse(&config.print(), &Overrides::default()).unwrap(),
        config
    );
    assert_eq!(config.metrics, None);
    assert_eq!(
        config.api.base_uri.as_deref(),
        Some("https://lb.example.test")
    );
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Overrides {
        listen: Some("127.0.0.1:1".to_owned()),
        amphorae: Some(2),
        ..overrides()
    };
    let config = Config::parse(
        "[api]\nlisten = \"127.0.0.1:2\"\n[fleet]\namphorae = 5\n",
        &flags,
    )
    .unwrap();
    assert_eq!(config.api.listen.port(), 1);
    assert_eq!(config.fleet.amphorae, 2);
}

#[test]
fn every_flaw_is_reported_at_once() {
    let text = "[api]\nlisten = \"here\"\npage_items_max = 0\nheader_timeout = \"0s\"\nbody_max = \"9\"\n\
                default_project = \"\"\n[intake]\nlisten = \"there\"\n[fleet]\namphorae = 0\nsilence = \"x\"\n\
                [log]\nformat = \"xml\"\n[[network]]\nname = \"n\"\n[[network.subnets]]\nname = \"s\"\n\
                cidr = \"10.0.0.1/24\"\n";
    let flaws = Config::parse(text, &overrides()).unwrap_err();
    for setting in [
        "api.listen",
        "api.page_items_max",
        "api.header_timeout",
        "api.body_max",
        "api.default_project",
        "intake.listen",
        "fleet.amphorae",
        "fleet.silence",
        "log.format",
        "network: ",
    ] {
        assert!(
            flaws.iter().any(|flaw| flaw.starts_with(setting)),
            "{setting} is missing in {flaws:#?}"
        );
    }
}

#[test]
fn an_unknown_setting_is_refused() {
    let flaws = Config::parse("[api]\nlisen = \"127.0.0.1:1\"\n", &overrides()).unwrap_err();
    assert!(flaws.iter().any(|flaw| flaw.contains("lisen")), "{flaws:?}");
}

#[test]
fn a_file_that_is_not_settings_is_named_with_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krater.toml");
    fs::write(&path, "[api]\nlisten = \"127.0.0.1:1\"\nfoo = 1\n").unwrap();
    let flaws = Config::load(Some(&path), &overrides()).unwrap_err();
    assert!(flaws[0].contains("krater.toml"), "{flaws:?}");
    assert!(flaws[0].contains("line 3"), "{flaws:?}");
}
