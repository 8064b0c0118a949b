//! What operators see: metrics of both programs, and `krater … list|show`.

use std::{process::Command, time::Duration};

use krater_tests::{HttpMember, binary, fetch, run_to_end, until};
use serde_json::Value;

use crate::scene::{NOTICE_MAX, Scene, ask, text};

#[test]
fn the_controller_shows_the_fleet_in_one_scrape() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    scene.http_tree(&[&member]);
    let address = ([127, 0, 0, 1], 9878).into();
    until("one ACTIVE load balancer is counted", NOTICE_MAX, || {
        let scrape = fetch(address, "/metrics")
            .expect("the metrics endpoint answers")
            .text();
        scrape.lines().any(|line| {
            line.starts_with("krater_controller_load_balancers")
                && line.contains("\"ACTIVE\"")
                && line.ends_with(" 1")
        })
    });
    let scrape = fetch(address, "/metrics")
        .expect("the metrics endpoint answers")
        .text();
    for family in [
        "krater_controller_amphorae",
        "krater_controller_load_balancers",
    ] {
        assert!(
            scrape.contains(&format!("# HELP {family}")),
            "{family} has a help text:\n{scrape}"
        );
    }
}

#[test]
fn the_terminal_lists_and_shows_load_balancers_and_amphorae() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    ask(tree.at(80), 1);
    let list = krater(&["lb", "list", "--output", "json"]);
    assert!(list.to_string().contains(&tree.id), "{list}");
    let show = krater(&["lb", "show", &tree.id, "--output", "json"]);
    assert!(show.to_string().contains(&tree.vip.to_string()), "{show}");
    let amphorae = krater(&["amphora", "list", "--output", "json"]);
    let all = amphorae
        .as_array()
        .or_else(|| amphorae["amphorae"].as_array())
        .expect("a list");
    assert_eq!(all.len(), 1, "{amphorae}");
    let id = all[0]["id"].as_str().expect("an id");
    let shown = krater(&["amphora", "show", id, "--output", "json"]);
    assert!(shown.to_string().contains(id), "{shown}");
    let (status, table) = run(&["lb", "list"]);
    assert!(status && table.contains(&tree.id), "{table}");
    let carriers = krater(&["lb", "amphorae", &tree.id, "--output", "json"]);
    let [only] = &carriers["amphorae"].as_array().expect("a list")[..] else {
        panic!("one amphora carries it: {carriers}");
    };
    assert_eq!(
        (only["amphora"].as_str(), &only["turn"]),
        (Some(id), &Value::Null)
    );
    assert!(only["generation"].as_u64() >= Some(1), "{only}");
    let (status, table) = run(&["lb", "amphorae", "test"]);
    assert!(status && table.contains(id), "{table}");
}

#[test]
fn a_member_that_refuses_is_passed_over_without_a_monitor_and_the_terminal_shows_it() {
    let mut scene = Scene::up();
    let stays = HttpMember::start("a", "127.0.0.1:0");
    let mut leaves = HttpMember::start("b", "127.0.0.1:0");
    let tree = scene.http_tree(&[&stays, &leaves]);
    assert_eq!(ask(tree.at(80), 8).len(), 2);
    let address = leaves.address().to_string();
    leaves.stop();
    until("it is passed over", NOTICE_MAX, || {
        // Nobody notices.
        assert_eq!(ask(tree.at(80), 8).len(), 1);
        let seen = krater(&["lb", "members", &tree.id, "--output", "json"]);
        let members = seen["members"].as_array().expect("a list");
        assert_eq!(members.len(), 2, "{seen}");
        let is_out = |of_leaving: bool| {
            let of = |member: &&Value| (member["address"] == address.as_str()) == of_leaving;
            let member = members.iter().find(of).expect("it is there");
            assert_eq!(member["health"], "no_monitor");
            member["out"] == true
        };
        assert!(!is_out(false), "{seen}");
        is_out(true)
    });
    let (status, table) = run(&["lb", "members", "test"]);
    assert!(
        status && table.contains("CONNECTIONS") && table.contains(&address),
        "{table}"
    );
    let (status, said) = run(&["lb", "members", "00000000-0000-4000-8000-000000000000"]);
    assert!(!status && said.contains("not found"), "{said}");
}

#[test]
fn an_amphora_shows_every_load_balancer_listener_pool_and_member() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    ask(tree.at(80), 5);
    let amphorae = krater(&["amphora", "list", "--output", "json"]);
    let endpoint = text(&amphorae["amphorae"][0]["metrics"]);
    let address = endpoint
        .trim_start_matches("http://")
        .trim_end_matches("/metrics");
    let address = address.parse().expect("an address");
    let wanted = [
        format!(
            "krater_amphora_load_balancer_generation{{lb=\"{}\"}}",
            tree.id
        ),
        format!(
            "krater_amphora_listener_requests_total{{lb=\"{}\",listener=\"{}\"}} 5",
            tree.id, tree.listener
        ),
        format!(
            "krater_amphora_pool_members_usable{{lb=\"{}\",pool=\"{}\"}} 1",
            tree.id, tree.pool
        ),
        format!("krater_amphora_member_requests_total{{lb=\"{}\"", tree.id),
        "krater_bug_total 0".to_owned(),
    ];
    let mut missing = Vec::new();
    let scrape = || {
        fetch(address, "/metrics")
            .expect("the metrics endpoint answers")
            .text()
    };
    until("every series is there", NOTICE_MAX, || {
        let text = scrape();
        missing = wanted
            .iter()
            .filter(|series| !text.contains(*series))
            .collect();
        missing.is_empty()
    });
    let documented = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../amphora/METRICS.md"
    ));
    let documented = documented.expect("the metrics are documented");
    for line in scrape()
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP "))
    {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(
            documented.contains(&format!("`{name}`")),
            "{name} is not in METRICS.md"
        );
    }
}

#[test]
fn the_settings_can_be_printed_checked_and_shown() {
    let (status, defaults) = run(&["config", "default"]);
    assert!(status, "{defaults}");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("krater.toml");
    std::fs::write(&file, &defaults).expect("the file can be written");
    let path = file.to_string_lossy().into_owned();
    let (status, said) = run(&["config", "check", "--config", &path]);
    assert!(status, "the defaults are valid: {said}");
    std::fs::write(&file, "nonsense = 1\n").expect("the file can be written");
    let (status, said) = run(&["config", "check", "--config", &path]);
    assert!(!status && said.contains("nonsense"), "{said}");
}

#[track_caller]
fn krater(arguments: &[&str]) -> Value {
    let (status, said) = run(arguments);
    assert!(status, "krater {}: {said}", arguments.join(" "));
    serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("krater {}: {error}: {said}", arguments.join(" ")))
}

fn run(arguments: &[&str]) -> (bool, String) {
    let (status, said) = run_to_end(
        Command::new(binary("krater")).args(arguments),
        Duration::from_secs(20),
    );
    (status.success(), said)
}
