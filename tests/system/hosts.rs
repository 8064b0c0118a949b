//! Hosts that join: with a token that is good once, their keys their own, what they carry moved away before they go.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use krater_tests::{
    HostedAmphorae, HttpMember, Load, Signal, host_token, krater_host, krater_host_json,
    run_to_end, until,
};
use serde_json::Value;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, ask, text};

/// A krater that runs no amphorae itself.
pub(crate) fn bare() -> (Scene, tempfile::NamedTempFile) {
    let mut settings = tempfile::NamedTempFile::new().expect("a file for settings");
    let text =
        "[fleet]\non_this_host = false\nheartbeat = \"500ms\"\nsilence = \"3s\"\ndrain = \"1s\"\n";
    std::io::Write::write_all(&mut settings, text.as_bytes()).expect("settings are written");
    let path = settings.path().to_string_lossy().into_owned();
    (Scene::with("controller", &["--config", &path]), settings)
}

fn shown(host: &str) -> Value {
    krater_host_json(&["show", host])
}

pub(crate) fn wait_ready(host: &str) {
    until("an amphora of the host is there", NOTICE_MAX, || {
        let listed = krater_host_json(&["list"]);
        let hosts = listed["hosts"].as_array().cloned().unwrap_or_default();
        let mut found = hosts.iter().filter(|found| found["name"] == host);
        let amphorae = found.next().map(|found| found["amphorae"].clone());
        let amphorae = amphorae.as_ref().and_then(Value::as_array);
        amphorae.is_some_and(|all| all.iter().any(|one| one["status"] == "ALLOCATED"))
    });
}

/// The host that carries the only load balancer.
fn carrier() -> String {
    let listed = krater_host_json(&["list"]);
    let hosts = listed["hosts"].as_array().cloned().unwrap_or_default();
    let mut carriers = hosts.iter().filter(|host| host["load_balancers"] == 1);
    carriers
        .next()
        .map(|host| text(&host["name"]))
        .unwrap_or_default()
}

#[test]
fn a_host_joins_with_a_token_that_is_good_once_and_carries_load_balancers_with_keys_of_its_own() {
    let (mut scene, _settings) = bare();
    let token = host_token(&[]);
    let host = HostedAmphorae::join(&token, "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    assert_eq!(ask(tree.at(80), 3).get("a"), Some(&3));
    assert_eq!(carrier(), "one");
    assert!(scene.krater.amphorae().is_empty());
    // Nobody but the host has its keys.
    let amphorae = host.state_folder().join("amphorae");
    let own = host.state_folder().join("key.pem");
    let folder = fs::read_dir(amphorae).expect("a folder").flatten().next();
    let keys = [own, folder.expect("an amphora").path().join("key.pem")];
    for key in keys {
        let mode = fs::metadata(&key).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    let pki = fs::read_dir(scene.krater.state_folder().join("pki")).expect("a folder");
    let names: Vec<String> = pki
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(
        !names.iter().any(|name| name.contains("amphora-")),
        "{names:?}"
    );
    // The token is used up, and says so; one that nobody made is told apart from it.
    let other = HostedAmphorae::prepare();
    let refused = |token: &str| {
        let (status, output) = run_to_end(&mut other.join_command(token), SETTLE_MAX);
        assert!(!status.success());
        output
    };
    let output = refused(&token);
    assert!(output.contains("let a host in already"), "{output}");
    let fingerprint = token.rsplit('.').next().expect("a fingerprint");
    let invented = format!("krater1.{}.{fingerprint}", "0".repeat(64));
    let output = refused(&invented);
    assert!(output.contains("not known here"), "{output}");
    // A controller that is not the one of the token is not even told the secret.
    let secret = token.split('.').nth(1).expect("a secret");
    let elsewhere = format!("krater1.{secret}.{}", "0".repeat(64));
    let output = refused(&elsewhere);
    assert!(
        output.contains("not a controller of this deployment"),
        "{output}"
    );
    let (status, output) = krater_host(&["token", "--zone", "nowhere"]);
    assert!(
        !status.success() && output.contains("there is no zone"),
        "{output}"
    );
}

#[test]
fn a_host_serves_again_from_its_own_disk_while_no_controller_is_there() {
    let (mut scene, _settings) = bare();
    let mut host = HostedAmphorae::join(&host_token(&[]), "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    scene.krater.kill_controller();
    ask(tree.at(80), 1);
    // An agent of a host that dies ends nothing, and a host that died begins again.
    host.program().kill();
    ask(tree.at(80), 1);
    host.die();
    until("nobody serves", SETTLE_MAX, || {
        krater_tests::fetch(tree.at(80), "/").is_err()
    });
    host.resume();
    until("it serves again", NOTICE_MAX, || {
        krater_tests::fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    scene.krater.resume();
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    until("the host is heard of", NOTICE_MAX, || {
        shown("one")["status"] == "up"
    });
}

#[test]
fn draining_a_host_moves_what_it_carries_without_a_lost_request_and_a_removed_one_is_refused() {
    let (mut scene, _settings) = bare();
    let mut hosts = [("one", 9_880), ("two", 9_881)]
        .map(|(name, port)| (name, HostedAmphorae::join(&host_token(&[]), name, port)));
    hosts.iter().for_each(|(name, _)| wait_ready(name));
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let from = carrier();
    let (status, output) = krater_host(&["remove", &from]);
    assert!(
        !status.success() && output.contains("drain it first"),
        "{output}"
    );
    let mut load = Load::new();
    load.add_http(tree.at(80), 2, Duration::from_millis(5));
    let (status, output) = krater_host(&["drain", &from, "--wait"]);
    assert!(status.success() && output.contains("is empty"), "{output}");
    assert_ne!(carrier(), from);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    ask(tree.at(80), 2);
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    // Undrained it has a spare amphora again; then it goes.
    assert!(krater_host(&["undrain", &from]).0.success());
    wait_ready(&from);
    assert!(krater_host(&["remove", &from]).0.success());
    let (_, gone) = hosts
        .iter_mut()
        .find(|(name, _)| *name == from)
        .expect("the host");
    let status = gone.program().wait(NOTICE_MAX);
    assert!(!status.success());
    assert!(
        gone.output().contains("removed from this deployment"),
        "{}",
        gone.output()
    );
    until("nothing of it runs", NOTICE_MAX, || {
        gone.processes().is_empty()
    });
    assert!(!gone.state_folder().join("key.pem").exists());
    let (status, output) = krater_host(&["show", &from]);
    assert!(
        !status.success() && output.contains("there is no host"),
        "{output}"
    );
    ask(tree.at(80), 2);
}

/// What happened to the host, as operators see it.
fn events(host: &str) -> String {
    shown(host)["events"].to_string()
}

#[test]
fn what_a_dead_host_carried_is_served_elsewhere_and_nothing_of_it_is_left_when_it_comes_back() {
    let (mut scene, _settings) = bare();
    let mut hosts = [("one", 9_880), ("two", 9_881), ("three", 9_882)]
        .map(|(name, port)| (name, HostedAmphorae::join(&host_token(&[]), name, port)));
    hosts.iter().for_each(|(name, _)| wait_ready(name));
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let from = carrier();
    let (_, dead) = hosts
        .iter_mut()
        .find(|(name, _)| *name == from)
        .expect("the host");
    // An agent that is gone is no reason: its amphorae are heard of, and reached.
    dead.program().kill();
    until("the host is silent", NOTICE_MAX, || {
        events(&from).contains("it fell silent") || shown(&from)["status"] == "silent"
    });
    ask(tree.at(80), 1);
    assert_eq!(carrier(), from);
    dead.die();
    until("it is served elsewhere", NOTICE_MAX, || {
        krater_tests::fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    assert_ne!(carrier(), from);
    scene.api.wait_active(&tree.id, NOTICE_MAX);
    until("nothing of it is waited for", NOTICE_MAX, || {
        shown(&from)["amphorae"]
            .as_array()
            .is_some_and(Vec::is_empty)
    });
    assert!(events(&from).contains("is given up"), "{}", events(&from));
    // Back it ends what it had, before that serves again, and has something ready.
    let before = dead.amphorae();
    dead.resume();
    wait_ready(&from);
    until("what it had is gone", NOTICE_MAX, || {
        let now = dead.amphorae();
        !now.is_empty() && before.iter().all(|id| !now.contains(id))
    });
    assert_ne!(carrier(), from);
    assert!(
        events(&from).contains("heard of again"),
        "{}",
        events(&from)
    );
    ask(tree.at(80), 1);
}

#[test]
fn when_most_hosts_seem_lost_at_once_nothing_is_moved_and_operators_are_told_why() {
    let (mut scene, _settings) = bare();
    let mut hosts = [("one", 9_880), ("two", 9_881), ("three", 9_882)]
        .map(|(name, port)| (name, HostedAmphorae::join(&host_token(&[]), name, port)));
    hosts.iter().for_each(|(name, _)| wait_ready(name));
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let from = carrier();
    // Stopped rather than dead: to the controller it is the same as being cut off.
    let lost: Vec<&mut HostedAmphorae> = {
        let (carrying, others): (Vec<_>, Vec<_>) =
            hosts.iter_mut().partition(|(name, _)| *name == from);
        let both = carrying.into_iter().chain(others.into_iter().take(1));
        both.map(|(_, host)| host).collect()
    };
    lost.iter().for_each(|host| host.signal_all(Signal::STOP));
    until("it is told why nothing happens", NOTICE_MAX, || {
        events(&from).contains("it is not given up: 2 of 3 hosts seem lost at once")
    });
    assert_eq!(carrier(), from);
    lost.iter().for_each(|host| host.signal_all(Signal::CONT));
    until("all are heard of", NOTICE_MAX, || {
        ["one", "two", "three"]
            .iter()
            .all(|host| shown(host)["status"] == "up")
    });
    assert_eq!(carrier(), from);
    assert!(!events(&from).contains("is given up"), "{}", events(&from));
    ask(tree.at(80), 1);
}

#[test]
fn keys_and_certificates_are_renewed_without_a_lost_request() {
    let (mut scene, _settings) = bare();
    let host = HostedAmphorae::join(&host_token(&[]), "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let amphora = host.amphorae().remove(0);
    let own = host.state_folder();
    let folder = own.join("amphorae").join(&amphora);
    let papers = |folder: &std::path::Path| {
        ["key.pem", "certificate.pem"]
            .map(|name| fs::read_to_string(folder.join(name)).expect("a file"))
    };
    let mut load = Load::new();
    load.add_http(tree.at(80), 2, Duration::from_millis(5));
    let before = [papers(&own), papers(&folder)];
    let (status, output) = krater_host(&["renew", "one"]);
    assert!(status.success() && output.contains("new keys"), "{output}");
    let after = [papers(&own), papers(&folder)];
    for (before, after) in before.iter().flatten().zip(after.iter().flatten()) {
        assert_ne!(before, after);
    }
    // One amphora alone, as the amphora API has it.
    let path = format!("/v2.0/octavia/amphorae/{amphora}/config");
    let reply = scene.api.call("PUT", &path, None);
    assert_eq!(reply.status, 202, "{}", reply.body);
    assert_eq!(papers(&own), after[0]);
    assert_ne!(papers(&folder), after[1]);
    // Both go on being spoken to, and speak.
    until("a change comes into force", NOTICE_MAX, || {
        let body = serde_json::json!({"pool": {"description": "another"}});
        scene.api.put(&format!("pools/{}", tree.pool), &body);
        scene.api.wait_active(&tree.id, SETTLE_MAX);
        true
    });
    until("both are heard of", NOTICE_MAX, || {
        let shown = shown("one");
        shown["status"] == "up" && shown["amphorae"][0]["status"] == "ALLOCATED"
    });
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

#[test]
fn another_authority_takes_over_without_a_lost_request_and_the_former_one_is_forgotten() {
    let mut settings = tempfile::NamedTempFile::new().expect("a file for settings");
    let words = b"[fleet]\nheartbeat = \"300ms\"\nsilence = \"5s\"\n";
    std::io::Write::write_all(&mut settings, words).expect("settings are written");
    let path = settings.path().to_string_lossy().into_owned();
    // With amphorae on the controller's own host and on another one.
    let mut scene = Scene::with("controller", &["--config", &path]);
    let host = HostedAmphorae::join(&host_token(&[]), "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let mut load = Load::new();
    let mut trees = Vec::new();
    for _ in 0..2 {
        let tree = scene.http_tree(&[&member]);
        load.add_http(tree.at(80), 2, Duration::from_millis(5));
        trees.push(tree);
    }
    assert_eq!(shown("one")["load_balancers"], 1);
    let authorities = || {
        let mut command = std::process::Command::new(krater_tests::binary("krater"));
        command.args(["ca", "show", "--output", "json"]);
        let (status, output) = run_to_end(&mut command, SETTLE_MAX);
        assert!(status.success(), "{output}");
        let found: Value = serde_json::from_str(&output).expect("a document");
        found["authorities"].as_array().cloned().unwrap_or_default()
    };
    let before = authorities();
    let mut command = std::process::Command::new(krater_tests::binary("krater"));
    command.args(["ca", "rotate"]);
    let (status, output) = run_to_end(&mut command, Duration::from_secs(120));
    assert!(status.success() && output.contains("switched"), "{output}");
    let after = authorities();
    assert_eq!((before.len(), after.len()), (1, 1));
    assert_ne!(before, after);
    let mut command = std::process::Command::new(krater_tests::binary("krater"));
    command.args(["audit", "list", "--output", "json"]);
    let (status, output) = run_to_end(&mut command, SETTLE_MAX);
    assert!(status.success(), "{output}");
    for step in ["announced", "switched", "settled"] {
        assert!(output.contains(&format!("\"{step}\"")), "{step}: {output}");
    }
    // Whoever was certified before is spoken to, speaks, and trusts one authority alone.
    until("the host has forgotten the former one", NOTICE_MAX, || {
        let trusted = fs::read_to_string(host.state_folder().join("authority.pem"));
        trusted.is_ok_and(|pem| pem.matches("BEGIN CERTIFICATE").count() == 1)
    });
    scene.krater.kill_controller();
    scene.krater.resume();
    scene.api = scene.krater.api();
    for tree in &trees {
        let body = serde_json::json!({"pool": {"description": "another"}});
        scene.api.put(&format!("pools/{}", tree.pool), &body);
        scene.api.wait_active(&tree.id, NOTICE_MAX);
    }
    until("all are heard of", NOTICE_MAX, || {
        let shown = shown("one");
        shown["status"] == "up" && shown["amphorae"][0]["status"] == "ALLOCATED"
    });
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    // And whoever joins now believes the present one.
    let _other = HostedAmphorae::join(&host_token(&[]), "two", 9_881);
    wait_ready("two");
}

#[test]
fn a_host_joins_again_as_another_one_and_what_it_ran_as_the_former_one_ends() {
    let (mut scene, _settings) = bare();
    let mut host = HostedAmphorae::join(&host_token(&[]), "former", 9_880);
    wait_ready("former");
    let former = host.amphorae();
    host.program().kill();
    // A host that has joined needs no token, unless it is to be another one.
    let (status, output) = run_to_end(
        host.join_command(&host_token(&[])).arg("--only"),
        SETTLE_MAX,
    );
    assert!(
        status.success() && output.contains("joined already"),
        "{output}"
    );
    let token = host_token(&[]);
    let mut again = host.join_command(&token);
    again.args(["--again", "--only", "--name", "again", "--port", "9880"]);
    let (status, output) = run_to_end(&mut again, SETTLE_MAX);
    assert!(
        status.success() && output.contains("joins again"),
        "{output}"
    );
    host.resume();
    wait_ready("again");
    until("what it ran as the former one is gone", NOTICE_MAX, || {
        let now = host.amphorae();
        !now.is_empty() && former.iter().all(|id| !now.contains(id))
    });
    assert!(krater_host(&["remove", "former", "--force"]).0.success());
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    assert_eq!(ask(tree.at(80), 1).get("a"), Some(&1));
    assert_eq!(carrier(), "again");
}

#[test]
fn a_host_starts_again_with_what_a_crash_left_between_its_keys_and_certificates() {
    let (mut scene, _settings) = bare();
    let mut host = HostedAmphorae::join(&host_token(&[]), "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    host.die();
    // The keys of the next pairs are on the disk, and their certificates are not.
    let own = host.state_folder();
    let amphora = own.join("amphorae").join(host.amphorae().remove(0));
    for folder in [own, amphora] {
        let key = rcgen::KeyPair::generate().expect("a key");
        fs::write(folder.join("key.pem"), key.serialize_pem()).expect("it is written");
    }
    scene.krater.kill_controller();
    host.resume();
    until("it serves again", NOTICE_MAX, || {
        krater_tests::fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    scene.krater.resume();
    until("it is heard of", NOTICE_MAX, || {
        let shown = shown("one");
        shown["status"] == "up" && shown["amphorae"][0]["status"] == "ALLOCATED"
    });
}
