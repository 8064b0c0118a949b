//! What the documents tell people to do works as they say.

use std::{path::Path, process::Command, time::Duration};

use krater_tests::{HttpMember, Krater, Namespace, binary, fetch, run_to_end};
use serde_json::Value;

use crate::scene::{SETTLE_MAX, Scene, ask, text};

#[test]
fn the_demonstration_ends_with_an_address_that_answers() {
    let _network = Namespace::enter_new();
    let krater = Krater::start("up", &["--demo"]);
    krater.wait_up();
    let said = krater.output();
    let address = said
        .split("curl http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let address = address.unwrap_or_else(|| panic!("the screen names no address: {said}"));
    let mut answers = Vec::new();
    for _ in 0..4 {
        let answer =
            fetch(address.parse().expect("an address"), "/").expect("the demonstration answers");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answers.push(answer.text());
    }
    answers.sort_unstable();
    answers.dedup();
    assert!(
        answers.len() > 1,
        "several members answer by turns: {answers:?}"
    );
}

#[test]
fn the_tree_of_the_readme_can_be_created() {
    let mut scene = Scene::up();
    let members =
        ["127.0.0.1:8000", "127.0.0.1:8001"].map(|address| HttpMember::start(address, address));
    let readme = document("README.md");
    let body = readme
        .split(" -d '")
        .nth(1)
        .and_then(|rest| rest.split("'\n```").next())
        .expect("an example");
    let body = body.replace("'\"$subnet\"'", &scene.api.subnet("local-v4"));
    let body: Value = serde_json::from_str(&body).expect("the example is JSON");
    let created = scene.api.post("loadbalancers", &body)["loadbalancer"].clone();
    scene.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let vip = format!("{}:8080", text(&created["vip_address"]))
        .parse()
        .expect("an address");
    assert_eq!(ask(vip, 4).len(), members.len());
}

#[test]
fn the_snapshot_of_the_readme_is_the_example_file_and_is_valid() {
    let readme = document("README.md");
    let example = readme
        .split("```json\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("an example");
    assert_eq!(example, document("deploy/snapshot.json"));
    let path = repository().join("deploy/snapshot.json");
    let mut command = Command::new(binary("krater-amphora"));
    let (status, said) = run_to_end(
        command.args(["config", "check", "--snapshot"]).arg(path),
        Duration::from_secs(10),
    );
    assert!(status.success(), "{said}");
}

#[test]
fn the_example_settings_are_the_defaults_that_krater_prints() {
    let (_, defaults) = run_to_end(
        Command::new(binary("krater")).args(["config", "default"]),
        Duration::from_secs(10),
    );
    assert_eq!(
        document("deploy/krater.toml"),
        defaults,
        "run `krater config default > deploy/krater.toml`"
    );
}

#[test]
fn the_command_of_the_systemd_unit_is_one_that_krater_knows() {
    let unit = document("deploy/krater.service");
    let command = unit
        .lines()
        .find_map(|line| line.strip_prefix("ExecStart="))
        .expect("a command");
    let mut words = command.split_whitespace();
    assert_eq!(words.next(), Some("/usr/local/bin/krater"));
    let verb = words.next().expect("a verb");
    let mut help = Command::new(binary("krater"));
    let (status, said) = run_to_end(help.args([verb, "--help"]), Duration::from_secs(10));
    assert!(status.success(), "{said}");
    for flag in words.filter(|word| word.starts_with("--")) {
        assert!(
            said.contains(flag),
            "krater {verb} knows no {flag}:\n{said}"
        );
    }
}

fn document(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests folder has a parent")
}
