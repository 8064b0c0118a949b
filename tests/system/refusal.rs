//! Bad input and bad surroundings: a clear error, and nothing lost.

use std::{fs, net::TcpListener};

use krater_tests::{HttpMember, Krater, Namespace, fetch, until};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, listener_json, member_json};

#[test]
fn a_second_krater_on_the_same_state_is_refused_and_the_first_goes_on() {
    let mut scene = Scene::up();
    let (status, said) = scene.krater.run_to_end();
    assert!(!status.success(), "it must not start");
    let pid = scene.krater.program().pid().to_string();
    assert!(
        said.contains(&pid),
        "it names the process that holds the state: {said}"
    );
    scene.api.get("loadbalancers");
}

#[test]
fn a_corrupt_database_is_refused_with_its_path_and_is_left_as_it_is() {
    let _network = Namespace::enter_new();
    let mut krater = Krater::up();
    assert!(krater.interrupt().success());
    let database = fs::read_dir(krater.state_folder())
        .expect("the state folder")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
        .expect("a database in the state folder");
    let rubbish = b"this is not a database, and never was one".repeat(200);
    fs::write(&database, &rubbish).expect("the database can be overwritten");
    let (status, said) = krater.run_to_end();
    assert!(!status.success(), "it must not start on a corrupt database");
    let name = database
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    assert!(said.contains(&name), "it names the file: {said}");
    assert_eq!(
        fs::read(&database).expect("still there"),
        rubbish,
        "it is left as it is"
    );
}

#[test]
fn a_bad_setting_is_refused_before_anything_opens() {
    let _network = Namespace::enter_new();
    let krater = Krater::prepare("up", &["--listen", "nonsense"]);
    let (status, said) = krater.run_to_end();
    assert!(matches!(status.code(), Some(2 | 78)), "{status}: {said}");
    assert!(said.contains("nonsense"), "{said}");
}

#[test]
fn a_busy_api_port_is_refused_with_the_address() {
    let _network = Namespace::enter_new();
    let _busy = TcpListener::bind("127.0.0.1:9876").expect("the port is free in a new namespace");
    let krater = Krater::prepare("up", &[]);
    let (status, said) = krater.run_to_end();
    assert!(!status.success());
    assert!(said.contains("127.0.0.1:9876"), "{said}");
    assert!(
        krater.amphorae().is_empty() && krater.supervisors().is_empty(),
        "nothing is left running"
    );
}

#[test]
fn a_listener_whose_port_is_taken_is_in_error_with_the_reason_and_heals() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let busy = TcpListener::bind(tree.at(81)).expect("the port is free");
    let listener = json!({"listener": {"loadbalancer_id": tree.id, "protocol": "HTTP", "protocol_port": 81, "default_pool_id": tree.pool}});
    let made = scene.api.post("listeners", &listener);
    let path = format!(
        "listeners/{}",
        made["listener"]["id"].as_str().expect("an id")
    );
    until("the listener is in ERROR", SETTLE_MAX, || {
        scene.api.get(&path)["listener"]["provisioning_status"] == "ERROR"
    });
    let shown = scene.api.get(&path);
    let reason = shown["listener"]["status_reason"].to_string();
    assert!(
        reason.contains("81") && reason.contains("in use"),
        "{reason}"
    );
    assert_eq!(
        fetch(tree.at(80), "/").expect("an answer").status,
        200,
        "the other listener goes on"
    );
    drop(busy);
    until("the listener heals", NOTICE_MAX, || {
        scene.api.get(&path)["listener"]["provisioning_status"] == "ACTIVE"
    });
    until("it serves", SETTLE_MAX, || {
        fetch(tree.at(81), "/").is_ok_and(|answer| answer.status == 200)
    });
    assert!(
        scene.api.get(&path)["listener"]
            .get("status_reason")
            .is_none()
    );
}

#[test]
fn bad_load_balancers_and_listeners_are_answered_with_a_fault() {
    let mut scene = Scene::up();
    let tree = scene.tree(&json!([listener_json(
        "HTTP",
        80,
        &json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"})
    )]));
    let listener = |protocol: &str, port: u32| json!({"listener": {"loadbalancer_id": tree.id, "protocol": protocol, "protocol_port": port}});
    let balancer = json!({"loadbalancer": {"name": "no vip"}});
    fault(&mut scene, 400, "POST", "loadbalancers", Some(&balancer));
    let balancer = json!({"loadbalancer": {"vip_subnet_id": NOBODY, "nonsense": 1}});
    fault(&mut scene, 400, "POST", "loadbalancers", Some(&balancer));
    fault(
        &mut scene,
        400,
        "POST",
        "listeners",
        Some(&listener("HTTP", 70_000)),
    );
    fault(
        &mut scene,
        400,
        "POST",
        "listeners",
        Some(&listener("SMOKE", 1)),
    );
    fault(
        &mut scene,
        409,
        "POST",
        "listeners",
        Some(&listener("HTTP", 80)),
    );
    fault(
        &mut scene,
        501,
        "POST",
        "listeners",
        Some(&listener("SCTP", 53)),
    );
    fault(&mut scene, 400, "GET", "listeners?nonsense=1", None);
    fault(
        &mut scene,
        404,
        "GET",
        &format!("loadbalancers/{NOBODY}"),
        None,
    );
    fault(
        &mut scene,
        404,
        "DELETE",
        &format!("listeners/{NOBODY}"),
        None,
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
}

#[test]
fn bad_pools_members_and_monitors_are_answered_with_a_fault_and_not_kept() {
    let mut scene = Scene::up();
    let tree = scene.tree(&json!([listener_json(
        "HTTP",
        80,
        &json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"})
    )]));
    let pool = format!("pools/{}", tree.pool);
    let members = format!("{pool}/members");
    fault(
        &mut scene,
        400,
        "PUT",
        &pool,
        Some(&json!({"pool": {"lb_algorithm": "MAGIC"}})),
    );
    let member = json!({"member": {"address": "not-an-address", "protocol_port": 80}});
    fault(&mut scene, 400, "POST", &members, Some(&member));
    let member = json!({"member": {"address": "127.0.0.1", "protocol_port": 80, "weight": 300}});
    fault(&mut scene, 400, "POST", &members, Some(&member));
    let monitor = json!({"healthmonitor": {
        "pool_id": tree.pool, "type": "HTTP", "delay": 1, "timeout": 1, "max_retries": 11,
    }});
    fault(&mut scene, 400, "POST", "healthmonitors", Some(&monitor));
    // A missing parent is answered in the form of routing errors, as the reference has it (1.5).
    let missing = scene
        .api
        .call("GET", &format!("pools/{NOBODY}/members"), None)
        .expect(404);
    assert!(
        missing["description"]
            .as_str()
            .is_some_and(|text| text.contains(NOBODY)),
        "{missing}"
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(
        scene.api.get(&members)["members"],
        json!([]),
        "nothing of it was kept"
    );
}

#[test]
fn a_single_call_graph_is_refused_whole() {
    let mut scene = Scene::up();
    let subnet = scene.api.subnet("local-v4");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(([127, 0, 0, 1], 80).into())]});
    let listeners = json!([
        listener_json("HTTP", 80, &pool),
        listener_json("HTTP", 80, &pool)
    ]);
    let body = json!({"loadbalancer": {"vip_subnet_id": subnet, "listeners": listeners}});
    let reply = scene.api.call("POST", "loadbalancers", Some(&body));
    assert!(
        reply.status == 409 || reply.status == 400,
        "{}: {}",
        reply.status,
        reply.body
    );
    for kind in ["loadbalancers", "listeners", "pools"] {
        assert_eq!(scene.api.get(kind)[kind], json!([]), "{kind}");
    }
}

/// Holds a call to a status, and its body to the form of Octavia's faults.
#[track_caller]
fn fault(scene: &mut Scene, status: u16, method: &str, path: &str, body: Option<&Value>) {
    let reply = scene.api.call(method, path, body);
    assert_eq!(
        reply.status, status,
        "{method} {path} {body:?}: {}",
        reply.body
    );
    assert!(!reply.fault().is_empty(), "{method} {path}: {}", reply.body);
    assert!(
        reply.body["faultcode"].is_string(),
        "{method} {path}: {}",
        reply.body
    );
}

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";
