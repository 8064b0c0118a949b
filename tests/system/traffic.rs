//! Who gets which request: weights, backup members, switches at each level, limits, headers.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use krater_tests::{Connection, HttpMember, TcpMember, fetch, until};
use serde_json::json;

use crate::scene::{
    SETTLE_MAX, Scene, ask, ask_kept, body_json, listener_json, member_json, monitor_json, text,
};

#[test]
fn requests_are_shared_out_by_weight_and_weight_zero_takes_none() {
    let mut scene = Scene::up();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let weights = [3, 1, 0];
    let json: Vec<_> = members
        .iter()
        .zip(weights)
        .map(|(member, weight)| {
            let mut json = member_json(member.address());
            json["weight"] = json!(weight);
            json
        })
        .collect();
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": json});
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    let answers = ask(tree.at(80), 40);
    assert_eq!(answers.get("a"), Some(&30), "{answers:?}");
    assert_eq!(answers.get("b"), Some(&10), "{answers:?}");
    let mut connection = Connection::open(tree.at(80)).expect("a connection");
    let answers = ask_kept(&mut connection, 40);
    assert_eq!(
        answers.get("a"),
        Some(&30),
        "each request of a kept connection is balanced: {answers:?}"
    );
}

#[test]
fn source_ip_keeps_a_client_at_its_member() {
    let mut scene = Scene::up();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let json: Vec<_> = members
        .iter()
        .map(|member| member_json(member.address()))
        .collect();
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "SOURCE_IP", "members": json});
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    assert_eq!(ask(tree.at(80), 12).len(), 1);
}

#[test]
fn session_persistence_keeps_a_client_over_changes_of_other_members() {
    let mut scene = Scene::up();
    let mut members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let json: Vec<_> = members
        .iter()
        .take(2)
        .map(|member| member_json(member.address()))
        .collect();
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": json, "healthmonitor": monitor_json(),
        "session_persistence": {"type": "SOURCE_IP"},
    });
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    let home = |scene: &mut Scene| {
        scene.api.wait_active(&tree.id, SETTLE_MAX);
        let answers = ask(tree.at(80), 12);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.into_keys().next().expect("an answer")
    };
    let first = home(&mut scene);
    let path = format!("pools/{}/members", tree.pool);
    let added = json!({"member": member_json(members[2].address())});
    scene.api.post(&path, &added);
    assert_eq!(home(&mut scene), first, "a member that comes");
    let listed = scene.api.get(&path);
    for member in listed["members"].as_array().expect("members") {
        let own = member["protocol_port"]
            == members
                .iter()
                .find(|member| member.name() == first)
                .expect("who answered is a member")
                .address()
                .port();
        // Its own member drains, the others weigh more: it is kept all the same.
        let weight = if own { 0 } else { 50 };
        let path = format!("{path}/{}", text(&member["id"]));
        scene.api.put(&path, &json!({"member": {"weight": weight}}));
    }
    assert_eq!(home(&mut scene), first, "weights that change");
    let pool = format!("pools/{}", tree.pool);
    scene.krater.kill_controller();
    scene.krater.resume();
    scene.api = scene.krater.api();
    scene
        .api
        .put(&pool, &json!({"pool": {"description": "another snapshot"}}));
    assert_eq!(home(&mut scene), first, "another controller");
    let gone = members
        .iter_mut()
        .find(|member| member.name() == first)
        .expect("who answered is a member");
    gone.stop();
    let second = home(&mut scene);
    assert_ne!(second, first);
    scene
        .api
        .put(&pool, &json!({"pool": {"session_persistence": null}}));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(ask(tree.at(80), 4).len(), 2, "without it they take turns");
}

#[test]
fn a_backup_member_serves_only_while_no_other_can() {
    let mut scene = Scene::up();
    let members = ["main", "backup"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let mut spare = member_json(members[1].address());
    spare["backup"] = json!(true);
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(members[0].address()), spare]});
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    assert_eq!(ask(tree.at(80), 4).get("main"), Some(&4));
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    let main = listed["members"]
        .as_array()
        .expect("members")
        .iter()
        .find(|member| member["backup"] == false)
        .expect("the first");
    let path = format!("pools/{}/members/{}", tree.pool, text(&main["id"]));
    scene
        .api
        .put(&path, &json!({"member": {"admin_state_up": false}}));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(ask(tree.at(80), 4).get("backup"), Some(&4));
}

#[test]
fn admin_state_up_acts_at_every_level() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let switch = |scene: &mut Scene, path: &str, kind: &str, on: bool| {
        scene.api.put(path, &json!({kind: {"admin_state_up": on}}));
        scene.api.wait_active(&tree.id, SETTLE_MAX);
    };
    let pool = format!("pools/{}", tree.pool);
    switch(&mut scene, &pool, "pool", false);
    assert_eq!(
        fetch(tree.at(80), "/").expect("an answer").status,
        503,
        "a disabled pool serves nobody"
    );
    switch(&mut scene, &pool, "pool", true);
    assert_eq!(fetch(tree.at(80), "/").expect("an answer").status, 200);
    for (path, kind) in [
        (format!("listeners/{}", tree.listener), "listener"),
        (format!("loadbalancers/{}", tree.id), "loadbalancer"),
    ] {
        switch(&mut scene, &path, kind, false);
        until("the port is closed", SETTLE_MAX, || {
            Connection::open(tree.at(80)).is_err()
        });
        switch(&mut scene, &path, kind, true);
        until("the port is open", SETTLE_MAX, || {
            fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn connections_above_the_limit_wait_until_one_ends() {
    let mut scene = Scene::up();
    let member = TcpMember::start("a", "127.0.0.1:0");
    let pool = json!({"protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("TCP", 90, &pool);
    listener["connection_limit"] = json!(1);
    let tree = scene.tree(&json!([listener]));
    let mut first = TcpStream::connect(tree.at(90)).expect("the first connection");
    let mut banner = [0; 2];
    first.read_exact(&mut banner).expect("the first is served");
    let mut second = TcpStream::connect(tree.at(90)).expect("the kernel takes the second");
    second
        .set_read_timeout(Some(Duration::from_millis(300)))
        .expect("a timeout");
    assert!(
        second.read_exact(&mut banner).is_err(),
        "the second must wait"
    );
    drop(first);
    second
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    second
        .read_exact(&mut banner)
        .expect("the second is served once the first has ended");
    assert_eq!(&banner, b"a\n");
}

#[test]
fn a_tcp_stream_is_half_closed_both_ways() {
    let mut scene = Scene::up();
    let member = TcpMember::start("echo", "127.0.0.1:0");
    let pool = json!({"protocol": "TCP", "lb_algorithm": "LEAST_CONNECTIONS", "members": [member_json(member.address())]});
    let tree = scene.tree(&json!([listener_json("TCP", 90, &pool)]));
    let mut stream = TcpStream::connect(tree.at(90)).expect("a connection");
    stream
        .set_read_timeout(Some(SETTLE_MAX))
        .expect("a timeout");
    let sent = vec![7_u8; 300_000];
    let (mut writer, expected) = (
        stream.try_clone().expect("a handle"),
        sent.len() + "echo\n".len(),
    );
    let writing = std::thread::spawn(move || {
        writer.write_all(&sent).expect("the member takes it all");
        writer.shutdown(Shutdown::Write).expect("a half-close");
    });
    let mut received = Vec::new();
    stream
        .read_to_end(&mut received)
        .expect("everything comes back, then the end");
    writing.join().expect("the writer ends");
    assert_eq!(received.len(), expected);
}

#[test]
fn headers_are_inserted_and_bodies_pass_whole() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["insert_headers"] =
        json!({"X-Forwarded-For": "true", "X-Forwarded-Port": "true", "X-Forwarded-Proto": "true"});
    let tree = scene.tree(&json!([listener]));
    let mut connection = Connection::open(tree.at(80)).expect("a connection");
    let body = vec![b'x'; 200_000];
    let answer = connection
        .request(
            "POST",
            "/echo",
            &[("x-forwarded-for", "192.0.2.1")],
            Some(&body),
        )
        .expect("an answer");
    let seen = body_json(&answer.body);
    assert_eq!(seen["body_bytes"], 200_000);
    let headers: Vec<(String, String)> = seen["headers"]
        .as_array()
        .expect("headers")
        .iter()
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect();
    let values = |name: &str| -> Vec<&str> {
        headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    assert_eq!(values("x-forwarded-port"), ["80"]);
    assert_eq!(values("x-forwarded-proto"), ["http"]);
    let forwarded = values("x-forwarded-for").join(", ");
    assert!(
        forwarded.starts_with("192.0.2.1") && forwarded.contains("127."),
        "{forwarded}"
    );
}

#[test]
fn a_connection_refused_by_one_member_goes_to_another() {
    let mut scene = Scene::up();
    let mut members = ["gone", "here"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let tree = scene.http_tree(&[&members[0], &members[1]]);
    members[0].stop();
    assert_eq!(ask(tree.at(80), 6).get("here"), Some(&6));
    members[1].stop();
    let answer = fetch(tree.at(80), "/").expect("an answer");
    assert!(
        answer.status == 502 || answer.status == 503,
        "{}",
        answer.status
    );
    assert!(!answer.text().trim().is_empty(), "the cause is named");
}
