//! Processes killed at the worst moment: traffic goes on, nothing acknowledged is lost, nothing stays pending.

use std::{net::TcpStream, thread, time::Duration};

use krater_tests::{HttpMember, Load, Signal, fetch, until, until_some};
use serde_json::json;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, ask, member_json, text};

#[test]
fn traffic_outlives_the_controller_and_the_next_one_adopts_it() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let tree = scene.http_tree(&[&members[0]]);
    let amphorae = scene.krater.amphorae();
    assert!(!amphorae.is_empty(), "an amphora runs");
    let mut load = Load::new();
    load.add_http(tree.at(80), 4, Duration::from_millis(5));

    scene.krater.kill_controller();
    assert_eq!(
        ask(tree.at(80), 3).get("a"),
        Some(&3),
        "traffic without a controller"
    );
    scene.krater.resume();
    scene.api = scene.krater.api();
    assert_eq!(
        scene.krater.amphorae(),
        amphorae,
        "the next controller adopts the same processes"
    );
    let found = scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(found["vip_address"], tree.vip.to_string());
    scene.api.post(
        &format!("pools/{}/members", tree.pool),
        &json!({"member": member_json(members[1].address())}),
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    // Other clients take turns too, so only their kind is known, not their share.
    assert!(
        ask(tree.at(80), 8).contains_key("b"),
        "the next controller can change what it adopted"
    );

    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
}

#[test]
fn a_killed_amphora_is_back_by_itself_with_its_configuration() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    // Without a controller, so that it can ask nobody.
    scene.krater.kill_controller();
    let killed = scene.krater.kill_amphorae();
    until("the VIP answers again", SETTLE_MAX, || {
        fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    assert!(
        scene
            .krater
            .amphorae()
            .iter()
            .all(|pid| !killed.contains(pid))
    );
}

#[test]
fn whoever_comes_while_a_killed_amphora_is_away_waits_and_is_served() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let address = tree.at(80);
    for _ in 0..5 {
        let killed = scene.krater.kill_amphorae();
        // What it accepts in its last microseconds dies with it.
        until("the amphora is dead", SETTLE_MAX, || {
            let alive = scene.krater.amphorae();
            killed.iter().all(|pid| !alive.contains(pid))
        });
        // Several for each core's socket, and for whatever moment of the restart they hit.
        let answers: Vec<_> = (0..16)
            .map(|_| thread::spawn(move || fetch(address, "/")))
            .collect();
        for answer in answers {
            let answer = answer.join().unwrap();
            assert_eq!(answer.expect("nobody is refused or reset").status, 200);
        }
    }
    scene.krater.kill_amphorae();
    scene
        .api
        .delete(&format!("loadbalancers/{}?cascade=true", tree.id));
    until("the port of what was deleted is closed", SETTLE_MAX, || {
        TcpStream::connect(address).is_err()
    });
}

#[test]
fn both_killed_in_the_middle_of_changes_settle_within_five_seconds() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let path = format!("pools/{}/members", tree.pool);
    let mut acknowledged = Vec::new();
    for port in 2000..2020 {
        let body = json!({"member": {"address": "127.0.0.1", "protocol_port": port, "weight": 0}});
        acknowledged.push(text(&scene.api.post(&path, &body)["member"]["id"]));
        if port == 2010 {
            scene.krater.kill_amphorae();
        }
    }
    scene.krater.kill_controller();
    scene.krater.kill_amphorae();
    scene.krater.resume();
    scene.api = scene.krater.api();
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    for id in acknowledged {
        scene.api.get(&format!("{path}/{id}"));
    }
    until("the VIP answers", SETTLE_MAX, || {
        fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn an_amphora_killed_under_load_loses_only_what_was_on_it_and_no_later_change() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let tree = scene.http_tree(&[&members[0]]);
    scene.krater.kill_amphorae();
    scene.api.post(
        &format!("pools/{}/members", tree.pool),
        &json!({"member": member_json(members[1].address())}),
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    until_some("both members answer", SETTLE_MAX, || {
        let answer = fetch(tree.at(80), "/").ok()?;
        (answer.status == 200 && answer.text().contains("\"b\"")).then_some(())
    });
}

#[test]
fn ctrl_c_ends_everything_and_the_next_start_resumes_every_load_balancer() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let status = scene.krater.interrupt();
    assert!(status.success(), "{status}: {}", scene.krater.output());
    until("no process is left", SETTLE_MAX, || {
        scene.krater.amphorae().is_empty() && scene.krater.supervisors().is_empty()
    });
    assert!(fetch(tree.at(80), "/").is_err(), "the VIP is closed");
    scene.krater.resume();
    scene.api = scene.krater.api();
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    until("the VIP answers again", SETTLE_MAX, || {
        fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn a_controller_that_is_told_to_end_leaves_its_amphorae_to_the_next_one() {
    let mut scene = Scene::with("controller", &[]);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let amphorae = scene.krater.amphorae();
    let status = scene.krater.program().terminate();
    assert!(status.success(), "{status}: {}", scene.krater.output());
    assert_eq!(scene.krater.amphorae(), amphorae);
    assert_eq!(ask(tree.at(80), 2).get("a"), Some(&2), "traffic goes on");
    scene.krater.resume();
    scene.api = scene.krater.api();
    scene.api.put(
        &format!("listeners/{}", tree.listener),
        &json!({"listener": {"insert_headers": {"X-Forwarded-Port": "true"}}}),
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(
        scene.krater.amphorae(),
        amphorae,
        "the next one adopts the same processes"
    );
}

#[test]
fn a_change_that_an_amphora_does_not_take_is_an_error_with_a_reason_and_heals() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    // Frozen: its sockets are open, and nobody answers.
    scene.krater.signal_amphorae(Signal::STOP);
    let added = json!({"member": member_json(([127, 0, 0, 9], 9).into())});
    let added = scene
        .api
        .post(&format!("pools/{}/members", tree.pool), &added);
    let path = format!(
        "pools/{}/members/{}",
        tree.pool,
        text(&added["member"]["id"])
    );
    until("the change is in ERROR", NOTICE_MAX, || {
        scene.api.get(&path)["member"]["provisioning_status"] == "ERROR"
    });
    let shown = scene.api.get(&path);
    assert!(
        shown["member"]["status_reason"]["message"].is_string(),
        "{shown}"
    );
    scene.krater.signal_amphorae(Signal::CONT);
    scene.api.wait_active(&tree.id, NOTICE_MAX);
}
