//! Members that die and come back.

use std::{fs, process::Command};

use krater_tests::{HttpMember, Namespace, Program, binary, until};
use serde_json::json;

use crate::scene::{NOTICE_MAX, Scene, ask, listener_json, member_json, monitor_json, text};

#[test]
fn a_members_death_and_return_show_in_traffic_and_status() {
    let mut scene = Scene::up();
    let mut members = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor_json(),
        "members": [member_json(members[0].address()), member_json(members[1].address())],
    });
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    let port = members[0].address().port();
    let dying = listed["members"]
        .as_array()
        .expect("members")
        .iter()
        .find(|member| member["protocol_port"] == port)
        .expect("it");
    let dying = format!("pools/{}/members/{}", tree.pool, text(&dying["id"]));
    let balancer = format!("loadbalancers/{}", tree.id);
    scene.api.wait_operating(&dying, "ONLINE", NOTICE_MAX);
    scene.api.wait_operating(&balancer, "ONLINE", NOTICE_MAX);

    members[0].stop();
    scene.api.wait_operating(&dying, "ERROR", NOTICE_MAX);
    scene.api.wait_operating(&balancer, "DEGRADED", NOTICE_MAX);
    assert_eq!(ask(tree.at(80), 8).get("b"), Some(&8));

    members[0].restart();
    scene.api.wait_operating(&dying, "ONLINE", NOTICE_MAX);
    scene.api.wait_operating(&balancer, "ONLINE", NOTICE_MAX);
    assert_eq!(ask(tree.at(80), 8).get("a"), Some(&4));
}

#[test]
fn a_member_that_answers_the_wrong_status_is_taken_out_at_once() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    members[0].set_health(500);
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor_json(),
        "members": [member_json(members[0].address()), member_json(members[1].address())],
    });
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    until("only the healthy one answers", NOTICE_MAX, || {
        ask(tree.at(80), 4).get("b") == Some(&4)
    });
    assert!(members[0].probes() > 0);
    members[0].set_health(200);
    until("both answer again", NOTICE_MAX, || {
        ask(tree.at(80), 4).len() == 2
    });
}

#[test]
fn tcp_and_ping_monitors_judge_too() {
    let mut scene = Scene::up();
    let mut member = HttpMember::start("a", "127.0.0.1:0");
    let pool = |kind: &str| {
        json!({
            "name": kind, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
            "healthmonitor": {"type": kind, "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1},
        })
    };
    let listeners = json!([
        listener_json("HTTP", 80, &pool("TCP")),
        listener_json("HTTP", 81, &pool("PING"))
    ]);
    let tree = scene.tree(&listeners);
    let pools = scene.api.get(&format!("pools?loadbalancer_id={}", tree.id));
    let of = |name: &str| {
        let all = pools["pools"].as_array().expect("pools");
        format!(
            "pools/{}",
            text(
                &all.iter()
                    .find(|pool| pool["name"] == name)
                    .expect("the pool")["id"]
            )
        )
    };
    let (tcp, ping) = (of("TCP"), of("PING"));
    scene.api.wait_operating(&tcp, "ONLINE", NOTICE_MAX);
    scene.api.wait_operating(&ping, "ONLINE", NOTICE_MAX);
    member.stop();
    scene.api.wait_operating(&tcp, "ERROR", NOTICE_MAX);
    // The host still answers echoes.
    scene.api.wait_operating(&ping, "ONLINE", NOTICE_MAX);
}

/// A pool with one member and a monitor of those numbers; the path of the member.
fn watched(scene: &mut Scene, member: std::net::SocketAddr, monitor: &serde_json::Value) -> String {
    let mut monitor = monitor.clone();
    monitor["type"] = json!("HTTP");
    monitor["url_path"] = json!("/healthz");
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor,
        "members": [member_json(member)],
    });
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    format!(
        "pools/{}/members/{}",
        tree.pool,
        text(&listed["members"][0]["id"])
    )
}

#[test]
fn retries_are_counted_in_both_directions() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let monitor = json!({"delay": 1, "timeout": 1, "max_retries": 3, "max_retries_down": 4});
    let path = watched(&mut scene, member.address(), &monitor);
    scene.api.wait_operating(&path, "ONLINE", NOTICE_MAX);
    let before = member.probes();
    member.set_health(500);
    scene.api.wait_operating(&path, "ERROR", NOTICE_MAX);
    let fell = member.probes() - before;
    assert!(fell >= 4, "taken out by {fell} failures");
    let before = member.probes();
    member.set_health(200);
    scene.api.wait_operating(&path, "ONLINE", NOTICE_MAX);
    let rose = member.probes() - before;
    assert!(rose >= 3, "brought back by {rose} successes");
}

#[test]
fn probes_come_a_delay_apart() {
    let mut scene = Scene::up();
    let members = ["often", "seldom"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    for (member, delay) in members.iter().zip([1, 5]) {
        let monitor = json!({"delay": delay, "timeout": 1, "max_retries": 1});
        let path = watched(&mut scene, member.address(), &monitor);
        scene.api.wait_operating(&path, "ONLINE", NOTICE_MAX);
    }
    let before = members.each_ref().map(HttpMember::probes);
    until("many probes of the one", NOTICE_MAX, || {
        members[0].probes() - before[0] >= 6
    });
    let others = members[1].probes() - before[1];
    assert!((1..=2).contains(&others), "{others} of the other");
}

#[test]
fn a_member_that_answers_too_late_is_down_and_one_that_is_only_slow_is_not() {
    let mut scene = Scene::up();
    // Takes connections, and never answers: nobody accepts them.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = mute.local_addr().expect("an address");
    let monitor = json!({"delay": 30, "timeout": 1, "max_retries": 1});
    let path = watched(&mut scene, address, &monitor);
    scene.api.wait_operating(&path, "ERROR", NOTICE_MAX);

    let mut scene = Scene::up();
    let slow = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = slow.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in slow.incoming().flatten() {
            std::thread::sleep(std::time::Duration::from_millis(1_500));
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.0 200 OK\r\n\r\n");
        }
    });
    let monitor = json!({"delay": 30, "timeout": 10, "max_retries": 1});
    let path = watched(&mut scene, address, &monitor);
    scene.api.wait_operating(&path, "ONLINE", NOTICE_MAX);
}

#[test]
fn echoes_need_no_privilege_where_the_system_allows_them_and_say_what_is_missing_elsewhere() {
    let _network = Namespace::enter_new();
    let vip = "127.77.0.1";
    let probe = json!({"probe": {"type": "ping"}, "delay_ms": 500, "timeout_ms": 400, "rise": 1, "fall": 1});
    let snapshot = json!({"load_balancers": [{
        "vips": [vip],
        "listeners": [{"protocol": "tcp", "port": 80, "default_pool": "p"}],
        "pools": [{
            "name": "p", "protocol": "tcp", "members": [{"address": "127.0.0.1", "port": 1}], "monitor": probe,
        }],
    }]});
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("snapshot.json");
    fs::write(&file, snapshot.to_string()).expect("the snapshot can be written");
    for (groups, verdict) in [
        (
            "1 0",
            "it needs its group in net.ipv4.ping_group_range, or CAP_NET_RAW",
        ),
        ("0 2147483647", "health=Up"),
    ] {
        fs::write("/proc/sys/net/ipv4/ping_group_range", groups).expect("the test's own network");
        let log = folder.path().join(groups);
        let mut command = Command::new("setpriv");
        command
            .args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"])
            .arg(binary("krater-amphora"))
            .args(["run", "--snapshot"])
            .arg(&file);
        let amphora = Program::start("krater-amphora", &mut command, &log);
        until("the member is judged", NOTICE_MAX, || {
            amphora.output().contains(verdict)
        });
    }
}
