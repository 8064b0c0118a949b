//! Changes while traffic runs: none is refused, none is lost, none is noticed.

use std::{
    thread,
    time::{Duration, Instant},
};

use krater_tests::{HttpMember, Load, TcpMember};
use serde_json::{Value, json};

use crate::scene::{SETTLE_MAX, Scene, ask, listener_json, member_json, text};

#[test]
fn two_hundred_parallel_writes_all_succeed_and_add_up() {
    let mut scene = Scene::up();
    let tree = scene.tree(&json!([listener_json(
        "HTTP",
        80,
        &json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"})
    )]));
    let path = format!("pools/{}/members", tree.pool);
    let statuses: Vec<(u16, String)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..20_u16)
            .map(|writer| {
                let (path, mut api) = (&path, scene.krater.api());
                scope.spawn(move || {
                    let write = |number: u16| {
                        let port = 1000 + writer * 10 + number;
                        let member =
                            json!({"member": {"address": "127.0.0.1", "protocol_port": port}});
                        let reply = api.call("POST", path, Some(&member));
                        (reply.status, reply.body.to_string())
                    };
                    (0..10_u16).map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().expect("a writer ends"))
            .collect()
    });
    let refused: Vec<_> = statuses
        .iter()
        .filter(|(status, _)| *status != 201)
        .collect();
    assert!(
        refused.is_empty(),
        "{} of 200 refused, the first: {:?}",
        refused.len(),
        refused[0]
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    let members = scene.api.get(&path);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(200));
}

#[test]
fn of_parallel_writes_that_conflict_exactly_one_succeeds() {
    let mut scene = Scene::up();
    let tree = scene.tree(&json!([]));
    let body =
        json!({"listener": {"loadbalancer_id": tree.id, "protocol": "TCP", "protocol_port": 443}});
    let statuses: Vec<u16> = thread::scope(|scope| {
        let write = || {
            let mut api = scene.krater.api();
            let body = &body;
            scope.spawn(move || api.call("POST", "listeners", Some(body)).status)
        };
        let writers: Vec<_> = (0..10).map(|_| write()).collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer ends"))
            .collect()
    });
    let count = |wanted: u16| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(201), count(409)), (1, 9), "{statuses:?}");
    scene.api.wait_active(&tree.id, SETTLE_MAX);
}

#[test]
fn a_batch_replaces_all_members_and_an_additive_one_keeps_the_others() {
    let mut scene = Scene::up();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let tree = scene.http_tree(&[&members[0]]);
    let path = format!("pools/{}/members", tree.pool);
    let put = |scene: &mut Scene, query: &str, wanted: &[&HttpMember]| {
        let body: Vec<Value> = wanted
            .iter()
            .map(|member| member_json(member.address()))
            .collect();
        scene
            .api
            .call(
                "PUT",
                &format!("{path}{query}"),
                Some(&json!({"members": body})),
            )
            .expect(202);
        scene.api.wait_active(&tree.id, SETTLE_MAX);
    };
    put(&mut scene, "", &[&members[1]]);
    assert_eq!(ask(tree.at(80), 4).get("b"), Some(&4));
    put(&mut scene, "?additive_only=true", &[&members[2]]);
    assert_eq!(ask(tree.at(80), 4).len(), 2);
    put(&mut scene, "", &[]);
    assert_eq!(scene.api.get(&path)["members"], json!([]));
}

#[test]
fn changes_cost_no_request_and_no_stream_under_load() {
    let mut scene = Scene::up();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let echo = TcpMember::start("echo", "127.0.0.1:0");
    let http = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(members[0].address())]});
    let tcp = json!({"protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(echo.address())]});
    let tree = scene.tree(&json!([
        listener_json("HTTP", 80, &http),
        listener_json("TCP", 90, &tcp)
    ]));
    let pools = scene.api.get(&format!("pools?loadbalancer_id={}", tree.id));
    let pool = pools["pools"]
        .as_array()
        .expect("pools")
        .iter()
        .find(|pool| pool["protocol"] == "HTTP")
        .expect("the pool");
    let pool = text(&pool["id"]);
    let mut load = Load::new();
    load.add_http(tree.at(80), 8, Duration::from_millis(2));
    load.add_streams(tree.at(90), 8, Duration::from_millis(5));

    let start = Instant::now();
    let mut changes = 0;
    while start.elapsed() < Duration::from_secs(4) {
        changes += one_round(&mut scene, &tree.id, &pool, &members);
    }
    scene.api.wait_active(&tree.id, SETTLE_MAX);

    let report = load.finish();
    assert!(
        report.failures.is_empty(),
        "{} requests failed after {changes} changes, the first: {}",
        report.failures.len(),
        report.failures[0]
    );
    assert!(
        report.broken.is_empty(),
        "{:?} after {changes} changes",
        report.broken
    );
    assert_eq!(report.streams, 8);
    assert!(
        report.requests > 200 && changes > 20,
        "{} requests, {changes} changes",
        report.requests
    );
    assert!(
        report.members.contains_key("b") && report.members.contains_key("c"),
        "{:?}",
        report.members
    );
}

/// Adds two members, changes one, adds a listener and a batch, and takes all of it away again; gives the number of writes.
fn one_round(scene: &mut Scene, id: &str, pool: &str, members: &[HttpMember]) -> u32 {
    let api = &mut scene.api;
    let path = format!("pools/{pool}/members");
    let added: Vec<String> = members[1..]
        .iter()
        .map(|member| {
            text(
                &api.post(&path, &json!({"member": member_json(member.address())}))["member"]["id"],
            )
        })
        .collect();
    api.put(
        &format!("{path}/{}", added[0]),
        &json!({"member": {"weight": 5}}),
    );
    let listener = json!({"listener": {"loadbalancer_id": id, "protocol": "HTTP", "protocol_port": 8081, "default_pool_id": pool}});
    let listener = text(&api.post("listeners", &listener)["listener"]["id"]);
    api.put(
        &format!("pools/{pool}"),
        &json!({"pool": {"lb_algorithm": "LEAST_CONNECTIONS"}}),
    );
    api.delete(&format!("listeners/{listener}"));
    api.delete(&format!("{path}/{}", added[0]));
    api.put(
        &format!("pools/{pool}"),
        &json!({"pool": {"lb_algorithm": "ROUND_ROBIN"}}),
    );
    let keep: Vec<Value> = vec![member_json(members[0].address())];
    api.call("PUT", &path, Some(&json!({"members": keep})))
        .expect(202);
    9
}
