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
                [metrics]\nlisten = \"off\"\n[fleet]\namphorae_max = 9\nload_balancers_max = 7\namphora_binary = \"/opt/a \\\"b\\\"\"\n\
                [[fleet.zones]]\nname = \"north\"\namphorae = 2\n[[fleet.zones]]\nname = \"south\"\namphorae = 0\n\
                [treatment]\npassive_failures = 0\npassive_out = \"500ms\"\npassive_out_max = \"1h\"\npassive_share = 9\n\
                slow_start = \"30s\"\nsource_rate = 7\nmember_drain = \"15m\"\nmember_requests = 12\n\
                congestion_control = \"cubic\"\n\
                [access_log]\nto = \"syslog+udp://192.0.2.7:514\"\none_in = 20\nfile_max = \"3MiB\"\nfiles_max = 0\nfacility = 3\n\
                [retention]\naudit = \"48h\"\naudit_rows = 5\nidempotency = \"30m\"\n\
                [quota]\nload_balancer = 10\nl7rule = 0\n\
                [rules]\nping_health_monitors = false\nudp_connect_delay_min = \"1m\"\n\
                tls_version_min = \"TLSv1.2\"\nreserved_addresses = [\"::1\"]\nciphers_prohibited = [\"RC4-SHA\"]\n\
                [rules.pools]\ntls_versions = [\"TLSv1.3\"]\n\
                [log]\nfilter = \"warn,krater=debug\"\nformat = \"json\"\n\
                [[networks]]\nname = \"wide\"\nprojects = [\"p1\"]\n[[networks.subnets]]\nname = \"w6\"\n\
                cidr = \"2001:db8::/64\"\ngateway = \"2001:db8::1\"\n[[networks.ports]]\nname = \"front \\\"1\\\"\"\nproject = \"p1\"\n\
                device_id = \"vm-1\"\nfixed_ips = [{ subnet = \"w6\", address = \"2001:db8::9\" }]\n";
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
    assert_eq!(config.fleet.zones[0].amphorae, 2);
}

#[test]
fn every_flaw_is_reported_at_once() {
    let text = "[api]\nlisten = \"here\"\npage_items_max = 0\nheader_timeout = \"0s\"\nbody_max = \"9\"\n\
                default_project = \"\"\n[intake]\nlisten = \"there\"\n[fleet]\namphorae = 0\nsilence = \"x\"\n\
                [access_log]\nto = \"file:access.log\"\none_in = 1000001\nfile_max = \"1KiB\"\nfiles_max = 256\nfacility = 24\n\
                [treatment]\ncongestion_control = \"BBR\"\n\
                [log]\nformat = \"xml\"\n[[networks]]\nname = \"n\"\n[[networks.subnets]]\nname = \"s\"\n\
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
        "access_log.to",
        "access_log.one_in",
        "access_log.file_max",
        "access_log.files_max",
        "access_log.facility",
        "treatment.congestion_control: \"BBR\" is none: a congestion control has a name of 1 to 15",
        "networks: ",
    ] {
        assert!(
            flaws.iter().any(|flaw| flaw.starts_with(setting)),
            "{setting} is missing in {flaws:#?}"
        );
    }
}

#[test]
fn rules_are_read_and_keep_themselves() {
    let flaws = |text: &str| Config::parse(text, &overrides()).unwrap_err().join("\n");
    for (text, flaw) in [
        (
            "[rules]\nudp_connect_delay_min = \"1500ms\"\ntls_version_min = \"TLSv9\"\n",
            "rules.tls_version_min: \"TLSv9\" is none of SSLv3",
        ),
        (
            "[rules]\nudp_connect_delay_min = \"1500ms\"\n",
            "rules.udp_connect_delay_min: \"1500ms\" is not a number of whole seconds",
        ),
        (
            "[rules]\nreserved_addresses = [\"10.0.0.0/8\"]\n",
            "rules.reserved_addresses: \"10.0.0.0/8\" is not an address",
        ),
        (
            "[rules]\nciphers_prohibited = [\"A:B\"]\n",
            "rules.ciphers_prohibited: \"A:B\" is not the name of a cipher",
        ),
        (
            "[rules.listeners]\ntls_ciphers = \"a b\"\nalpn_protocols = [\"h3\"]\n",
            "rules.listeners.tls_ciphers: must be",
        ),
        (
            "[rules.pools]\nalpn_protocols = [\"h3\"]\n",
            "rules.pools.alpn_protocols: \"h3\" is none of h2",
        ),
        (
            "[rules.pools]\ntls_versions = []\n",
            "rules.pools: Empty TLS version list.",
        ),
        (
            "[rules]\ntls_version_min = \"TLSv1.3\"\n",
            "rules.listeners: Requested TLS versions are less than the minimum: TLSv1.2 < TLSv1.3",
        ),
        (
            "[rules]\nciphers_prohibited = [\"DHE-RSA-AES128-GCM-SHA256\"]\n",
            "rules.pools: The following ciphers have been prohibited by an administrator: DHE-RSA-AES128-GCM-SHA256",
        ),
    ] {
        let flaws = flaws(text);
        assert!(flaws.contains(flaw), "{flaws}");
    }
    let text =
        "[rules]\nprometheus_listeners = false\n[rules.listeners]\ntls_versions = [\"TLSv1.3\"]\n";
    let rules = Config::parse(text, &overrides()).unwrap().rules;
    let versions = Some(vec![krater_controller_core::model::TlsVersion::Tls13]);
    assert_eq!(
        (rules.prometheus_listeners, rules.listener_terms.versions),
        (false, versions)
    );
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

/// A file that others cannot reach.
fn secret_file(folder: &tempfile::TempDir, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[test]
fn nobody_is_asked_who_they_are_by_default() {
    let config = Config::parse("", &overrides()).unwrap();
    assert_eq!(config.auth, Auth::None);
}

#[test]
fn settings_of_callers_read_back_as_they_are_shown_without_the_secret() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret_file(&folder, "secret", "hush\n");
    let tokens = secret_file(&folder, "tokens.toml", "");
    let keystone = "[auth]\ndriver = \"keystone\"\nrole_set = \"both\"\n[auth.keystone]\n";
    for text in [
        format!(
            "[auth]\ndriver = \"file\"\nrole_set = \"advanced\"\n[auth.file]\npath = \"{tokens}\"\n"
        ),
        format!(
            "{keystone}url = \"https://i.test\"\nuser = \"krater\"\nproject = \"service\"\n\
             secret_file = \"{secret}\"\ncafile = \"{secret}\"\npublic_url = \"https://o.test/v3/\"\n"
        ),
        format!(
            "{keystone}url = \"http://i.test/v3\"\napplication_credential = \"a\"\nsecret_file = \"{secret}\"\n\
             timeout = \"3s\"\ncache_tokens_max = 5\ncache_lifetime = \"1s\"\ncache_refused = \"0s\"\n\
             cache_outage = \"2h\"\nservice_roles = [\"a\", \"b\"]\n"
        ),
    ] {
        let config = Config::parse(&text, &overrides()).unwrap();
        let shown = config.print();
        assert!(!shown.contains("hush"), "{shown}");
        let again = Config::parse(&shown, &Overrides::default()).unwrap();
        assert_eq!(again, config);
        if let Auth::Keystone(keystone) = &config.auth {
            assert!(keystone.settings().is_ok());
        }
    }
}

#[test]
fn what_is_wrong_with_a_choice_of_callers_is_said() {
    for (text, flaw) in [
        ("driver = \"ldap\"".to_owned(), "auth.driver"),
        ("role_set = \"all\"".to_owned(), "auth.role_set"),
        ("driver = \"file\"".to_owned(), "auth.file.path"),
        (
            "driver = \"file\"\n[auth.file]\npath = \"/nowhere\"".to_owned(),
            "auth.file.path: /nowhere",
        ),
        ("[auth.file]\npaht = \"x\"".to_owned(), "TOML parse error"),
    ] {
        let flaws = Config::parse(&format!("[auth]\n{text}\n"), &overrides()).unwrap_err();
        assert!(
            flaws.iter().any(|found| found.starts_with(flaw)),
            "{flaws:?}"
        );
    }
}

#[test]
fn what_is_wrong_with_an_identity_service_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret_file(&folder, "secret", "hush");
    let empty = secret_file(&folder, "empty", "\n");
    let open = secret_file(&folder, "open", "hush");
    fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o604)).unwrap();
    let login = "user = \"u\"\nproject = \"p\"\n";
    let url = "url = \"https://i.test\"\n";
    let given = format!("{url}secret_file = \"{secret}\"\n");
    for (text, flaw) in [
        (login.to_owned(), "auth.keystone.url: must be given"),
        (
            format!("{login}url = \"i.test\""),
            "auth.keystone.url: \"i.test\"",
        ),
        (format!("{login}{url}"), "auth.keystone.secret_file: must"),
        (
            format!("{login}{url}secret_file = \"{empty}\""),
            "auth.keystone.secret_file",
        ),
        (
            format!("{login}{url}secret_file = \"{open}\""),
            "auth.keystone.secret_file",
        ),
        (
            format!("{login}{url}secret_file = \"/nowhere\""),
            "auth.keystone.secret_file",
        ),
        (given.clone(), "auth.keystone: either"),
        (
            format!("{given}user = \"u\""),
            "auth.keystone: auth.keystone.project",
        ),
        (
            format!("{given}{login}application_credential = \"a\""),
            "auth.keystone: either",
        ),
        (
            format!("{given}project = \"p\"\napplication_credential = \"a\""),
            "auth.keystone: an application",
        ),
    ] {
        assert_flaw(&text, flaw);
    }
}

/// Settings of an identity service have this flaw.
fn assert_flaw(text: &str, flaw: &str) {
    let text = format!("[auth]\ndriver = \"keystone\"\n[auth.keystone]\n{text}\n");
    let flaws = Config::parse(&text, &overrides()).unwrap_err();
    assert!(
        flaws.iter().any(|found| found.starts_with(flaw)),
        "{flaw}: {flaws:?}"
    );
}

#[test]
fn what_is_wrong_with_further_settings_of_an_identity_service_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let secret = secret_file(&folder, "secret", "hush");
    let login = "user = \"u\"\nproject = \"p\"\nurl = \"https://i.test\"\n";
    let given = format!("{login}secret_file = \"{secret}\"\n");
    for (text, flaw) in [
        (
            format!("{given}public_url = \"x\""),
            "auth.keystone.public_url",
        ),
        (
            format!("{given}cafile = \"/nowhere\""),
            "auth.keystone.cafile",
        ),
        (format!("{given}timeout = \"0s\""), "auth.keystone.timeout"),
        (
            format!("{given}cache_tokens_max = 0"),
            "auth.keystone.cache_tokens_max",
        ),
        (
            format!("{given}cache_lifetime = \"25h\""),
            "auth.keystone.cache_lifetime",
        ),
        (
            format!("{given}cache_refused = \"x\""),
            "auth.keystone.cache_refused",
        ),
        (
            format!("{given}cache_outage = \"5\""),
            "auth.keystone.cache_outage",
        ),
    ] {
        assert_flaw(&text, flaw);
    }
}

#[test]
fn zones_are_named_once_and_hold_no_more_than_there_may_be() {
    let zone = |name: &str, amphorae: usize| {
        format!("[[fleet.zones]]\nname = \"{name}\"\namphorae = {amphorae}\n")
    };
    for (text, accepted) in [
        (zone("a", 1) + &zone("b", 0), true),
        (zone("a", 1) + &zone("a", 1), false),
        (zone("", 1), false),
        ("[fleet]\namphorae = 1\n".to_owned() + &zone("a", 1), false),
        (
            "[fleet]\namphorae_max = 2\n".to_owned() + &zone("a", 2),
            true,
        ),
        (
            "[fleet]\namphorae_max = 2\n".to_owned() + &zone("a", 3),
            false,
        ),
        ("[fleet]\nzones = []\n".to_owned(), false),
        ("[fleet]\namphorae = 65\n".to_owned(), false),
        ("[fleet]\nload_balancers_max = 0\n".to_owned(), false),
    ] {
        let parsed = Config::parse(&text, &overrides());
        assert_eq!(parsed.is_ok(), accepted, "{text}: {parsed:?}");
    }
    let default = Config::parse("", &overrides()).unwrap().fleet.zones;
    assert_eq!((default.len(), default[0].name.as_str()), (1, "local"));
}
