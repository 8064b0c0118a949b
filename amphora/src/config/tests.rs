//! Settings: what is accepted, what is refused, and that everything wrong is named at once.

use super::*;

/// The printed defaults with the commented settings switched on.
fn complete() -> String {
    DEFAULTS
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase()) => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_printed_defaults_are_a_valid_file_once_the_required_settings_are_switched_on() {
    let config = Config::parse(&complete(), &Overrides::default()).unwrap();
    assert_eq!(config.heartbeat, HEARTBEAT_DEFAULT);
    assert_eq!(config.drain, DRAIN_DEFAULT);
    assert_eq!(config.workers, 2);
    assert_eq!(config.metrics, Some("127.0.0.1:9445".parse().unwrap()));
}

#[test]
fn everything_invalid_is_reported_at_once() {
    let text = r#"
        id = "nonsense"
        listen = "localhost"
        state_dir = 5
        workers = 0
        heartbeat = "5"
        controllers = ["a", "b:1", "c:0"]
        surprise = true
    "#;
    let flaws = Config::parse(text, &Overrides::default()).unwrap_err();
    let paths: Vec<&str> = flaws.iter().map(|flaw| flaw.path.as_str()).collect();
    for path in [
        "id",
        "listen",
        "state_dir",
        "workers",
        "heartbeat",
        "controllers[0]",
        "controllers[2]",
        "surprise",
        "certificate",
        "key",
        "authority",
    ] {
        assert_eq!(
            paths.iter().filter(|found| **found == path).count(),
            1,
            "{path} in {flaws:?}"
        );
    }
    assert_eq!(paths.len(), 11, "{flaws:?}");
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Overrides {
        listen: Some("127.0.0.1:1".to_owned()),
        controllers: vec!["[::1]:9".to_owned()],
        ..Overrides::default()
    };
    let config = Config::parse(&complete(), &flags).unwrap();
    assert_eq!(config.listen.port(), 1);
    assert_eq!(
        config.controllers,
        vec![Controller {
            host: "::1".to_owned(),
            port: 9
        }]
    );
}

#[test]
fn a_syntax_error_names_the_line() {
    let flaws = Config::parse("id = \"x\"\nlisten = = 5\n", &Overrides::default()).unwrap_err();
    assert_eq!(flaws.len(), 1);
    assert!(flaws[0].reason.contains("line 2"), "{}", flaws[0].reason);
}

#[test]
fn durations_carry_their_unit() {
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert_eq!(parse_duration("5s"), Ok(Duration::from_secs(5)));
    assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
    for wrong in [
        "",
        "5",
        "s",
        "5 s",
        "-5s",
        "5d",
        "99999999999999999999s",
        "18446744073709551615h",
    ] {
        assert!(parse_duration(wrong).is_err(), "{wrong}");
    }
}
