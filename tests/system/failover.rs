//! Load balancers that move between amphorae, and amphorae that come and go: nobody who uses them notices.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use krater_tests::{HttpMember, Load, fetch, until};
use serde_json::{Value, json};

use crate::scene::{
    NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json, monitor_json, text,
};

const AMPHORAE: &str = "/v2.0/octavia/amphorae";

/// Clients that make a connection for each request.
struct Newcomers {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Newcomers {
    fn at(address: SocketAddr) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let client = || {
            let (stop, served) = (Arc::clone(&stop), Arc::<AtomicU64>::clone(&served));
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match fetch(address, "/") {
                        Ok(answer) if answer.status == 200 => {
                            served.fetch_add(1, Ordering::Relaxed);
                        }
                        Ok(answer) => failures.push(format!("status {}", answer.status)),
                        Err(error) => failures.push(format!("{error:#}")),
                    }
                }
                failures
            })
        };
        Self {
            clients: (0..4).map(|_| client()).collect(),
            stop: Arc::clone(&stop),
            served: Arc::clone(&served),
        }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        for client in self.clients {
            failures.extend(client.join().expect("a client does not panic"));
        }
        (self.served.load(Ordering::Relaxed), failures)
    }
}

/// A tree whose only pool is probed, so that an amphora that takes it over has to find out who is well.
fn monitored(scene: &mut Scene, member: &HttpMember) -> Tree {
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
        "healthmonitor": monitor_json(),
    });
    scene.tree(&json!([listener_json("HTTP", 80, &pool)]))
}

fn amphorae(scene: &mut Scene, query: &str) -> Vec<Value> {
    let list = scene.api.get(&format!("{AMPHORAE}{query}"));
    list["amphorae"].as_array().expect("a list").clone()
}

/// The only amphora that carries the load balancer.
fn carrier(scene: &mut Scene, tree: &Tree) -> String {
    let found = amphorae(scene, &format!("?loadbalancer_id={}", tree.id));
    assert_eq!(found.len(), 1, "{found:?}");
    text(&found[0]["id"])
}

fn put(scene: &mut Scene, path: &str) {
    let reply = scene.api.call("PUT", path, None);
    assert_eq!(reply.expect(202), Value::Null, "the body is empty");
}

fn with_settings(settings: &str) -> Scene {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), settings).expect("settings are written");
    let path = file.path().to_str().expect("a path is text").to_owned();
    // Read when it starts, and again when it is started again.
    let (_, kept) = file.keep().expect("the file stays");
    assert_eq!(kept.to_str(), Some(path.as_str()));
    Scene::with("up", &["--config", &path])
}

#[test]
fn a_failover_under_load_loses_nothing() {
    let mut scene = Scene::with("up", &["--amphorae", "2"]);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = monitored(&mut scene, &member);
    let first = carrier(&mut scene, &tree);
    let mut load = Load::new();
    load.add_http(tree.at(80), 4, Duration::from_millis(5));
    let newcomers = Newcomers::at(tree.at(80));
    let mut places = vec![first];
    for _ in 0..3 {
        put(&mut scene, &format!("loadbalancers/{}/failover", tree.id));
        let shown = scene.api.wait_active(&tree.id, NOTICE_MAX);
        assert_eq!(shown["vip_address"], tree.vip.to_string());
        let place = carrier(&mut scene, &tree);
        assert_ne!(places.last(), Some(&place), "it moved");
        places.push(place);
        for _ in 0..50 {
            let answer = fetch(tree.at(80), "/").expect("an answer");
            assert_eq!(answer.status, 200);
        }
    }
    // Whoever comes in the middle of a move may wait for its end, so few may have come through by now.
    until("there was traffic", NOTICE_MAX, || newcomers.served() > 20);
    let (served, failures) = newcomers.finish();
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(failures.is_empty(), "of {served}: {failures:?}");
    let requests = report.requests;
    println!("{served} connections of one request, {requests} requests over kept ones, 3 moves");
    assert!(requests > 20, "there was traffic");
    scene
        .api
        .wait_operating(&format!("loadbalancers/{}", tree.id), "ONLINE", NOTICE_MAX);
}

#[test]
fn an_amphora_that_fails_over_is_replaced_and_ends_without_one_failed_request() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let trees = [(); 3].map(|()| monitored(&mut scene, &member));
    let old = carrier(&mut scene, &trees[0]);
    let processes = scene.krater.amphorae();
    let mut load = Load::new();
    for tree in &trees {
        load.add_http(tree.at(80), 2, Duration::from_millis(5));
    }
    let newcomers = Newcomers::at(trees[0].at(80));
    put(&mut scene, &format!("{AMPHORAE}/{old}/failover"));
    for tree in &trees {
        scene.api.wait_active(&tree.id, NOTICE_MAX);
        assert_ne!(carrier(&mut scene, tree), old);
    }
    until("the old amphora is gone", Duration::from_secs(30), || {
        let shown = scene.api.call("GET", &format!("{AMPHORAE}/{old}"), None);
        shown.status == 404
    });
    let (served, failures) = newcomers.finish();
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(failures.is_empty(), "of {served}: {failures:?}");
    until("its process has ended", NOTICE_MAX, || {
        let left = scene.krater.amphorae();
        left.len() == 1 && !processes.contains(&left[0])
    });
    assert_eq!(amphorae(&mut scene, "").len(), 1);
    let repeated = scene
        .api
        .call("PUT", &format!("{AMPHORAE}/{old}/failover"), None);
    assert_eq!(repeated.status, 404);
}

#[test]
fn operators_see_what_an_amphora_counts_renew_it_and_delete_it_when_it_is_idle() {
    let mut scene = Scene::with("up", &["--amphorae", "2"]);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = monitored(&mut scene, &member);
    let busy = carrier(&mut scene, &tree);
    for _ in 0..5 {
        assert_eq!(fetch(tree.at(80), "/").expect("an answer").status, 200);
    }
    until("five connections are counted", NOTICE_MAX, || {
        let stats = scene.api.get(&format!("{AMPHORAE}/{busy}/stats"));
        stats["amphora_stats"][0]["total_connections"] == 5
    });
    let before = scene.api.get(&format!("{AMPHORAE}/{busy}"));
    assert_eq!(before["amphora"]["loadbalancer_id"], tree.id.as_str());
    assert_eq!(before["amphora"]["status"], "ALLOCATED");
    let processes: BTreeSet<u32> = scene.krater.amphorae().into_iter().collect();
    put(&mut scene, &format!("{AMPHORAE}/{busy}/config"));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(fetch(tree.at(80), "/").expect("an answer").status, 200);
    assert_eq!(
        scene.krater.amphorae().into_iter().collect::<BTreeSet<_>>(),
        processes,
        "nothing was restarted"
    );
    let all = amphorae(&mut scene, "");
    let idle = all
        .iter()
        .find(|amphora| amphora["id"] != busy.as_str())
        .expect("there are two");
    let idle = text(&idle["id"]);
    for (path, method) in [
        (format!("{AMPHORAE}/{idle}/failover"), "PUT"),
        (format!("{AMPHORAE}/{busy}"), "DELETE"),
    ] {
        let refused = scene.api.call(method, &path, None);
        assert_eq!(refused.status, 409, "{}", refused.body);
        assert!(
            refused
                .fault()
                .contains("is immutable and cannot be updated.")
        );
    }
    scene.api.delete(&format!("{AMPHORAE}/{idle}"));
    until("another one is there instead", NOTICE_MAX, || {
        let ids: Vec<String> = amphorae(&mut scene, "")
            .iter()
            .map(|amphora| text(&amphora["id"]))
            .collect();
        ids.len() == 2 && !ids.contains(&idle)
    });
}

#[test]
fn a_dedicated_load_balancer_has_a_process_of_its_own_that_ends_with_it() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let shared = monitored(&mut scene, &member);
    let profile = scene.api.post(
        "flavorprofiles",
        &json!({"flavorprofile": {
            "name": "own", "provider_name": "amphora", "flavor_data": "{\"krater_tenancy\": \"dedicated\"}",
        }}),
    );
    let flavor = scene.api.post(
        "flavors",
        &json!({"flavor": {
            "name": "own", "enabled": true, "flavor_profile_id": profile["flavorprofile"]["id"],
        }}),
    );
    let before = scene.krater.amphorae();
    let subnet = scene.api.subnet("local-v4");
    let body = json!({"loadbalancer": {
        "name": "own", "vip_subnet_id": subnet, "flavor_id": flavor["flavor"]["id"],
        "listeners": [listener_json("HTTP", 80, &json!({
            "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
        }))],
    }});
    let created = scene.api.post("loadbalancers", &body)["loadbalancer"].clone();
    let id = text(&created["id"]);
    scene.api.wait_active(&id, NOTICE_MAX);
    let vip: SocketAddr = format!("{}:80", text(&created["vip_address"]))
        .parse()
        .expect("an address");
    assert_eq!(fetch(vip, "/").expect("an answer").status, 200);
    let own = amphorae(&mut scene, &format!("?loadbalancer_id={id}"));
    assert_eq!(own[0]["loadbalancer_id"], id.as_str());
    assert_ne!(text(&own[0]["id"]), carrier(&mut scene, &shared));
    assert_eq!(scene.krater.amphorae().len(), before.len() + 1);
    scene
        .api
        .delete(&format!("loadbalancers/{id}?cascade=true"));
    until("its process has ended", Duration::from_secs(30), || {
        scene.krater.amphorae() == before
    });
    until("it is on record no more", NOTICE_MAX, || {
        amphorae(&mut scene, "").len() == 1
    });
    assert_eq!(fetch(shared.at(80), "/").expect("an answer").status, 200);
}

#[test]
fn without_room_a_load_balancer_is_in_error_and_says_why_until_there_is_some() {
    let mut scene = with_settings("[fleet]\namphorae_max = 1\nload_balancers_max = 1\n");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let first = monitored(&mut scene, &member);
    let second = scene.api.create_tree("second", &json!([]));
    let path = format!("loadbalancers/{}", text(&second["id"]));
    until("the second finds no room", NOTICE_MAX, || {
        scene.api.get(&path)["loadbalancer"]["provisioning_status"] == "ERROR"
    });
    let reason = scene.api.get(&path)["loadbalancer"]["status_reason"].clone();
    assert_eq!(
        (&reason["code"], &reason["step"], &reason["heals"]),
        (&json!("no_capacity"), &json!("place"), &json!(true))
    );
    // Where it is full there is no other place either, and the first goes on where it is.
    put(&mut scene, &format!("loadbalancers/{}/failover", first.id));
    until("the first cannot move", NOTICE_MAX, || {
        let shown = scene.api.get(&format!("loadbalancers/{}", first.id));
        shown["loadbalancer"]["status_reason"]["code"] == "no_capacity"
    });
    assert_eq!(fetch(first.at(80), "/").expect("an answer").status, 200);
    scene
        .api
        .delete(&format!("loadbalancers/{}?cascade=true", first.id));
    scene
        .api
        .wait_active(&text(&second["id"]), Duration::from_secs(30));
}

#[test]
fn a_controller_killed_in_the_middle_of_a_failover_leaves_it_to_the_next_one() {
    let mut scene = Scene::with("up", &["--amphorae", "2"]);
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = monitored(&mut scene, &member);
    let newcomers = Newcomers::at(tree.at(80));
    for pause in [0, 5, 30, 120] {
        let before = carrier(&mut scene, &tree);
        put(&mut scene, &format!("loadbalancers/{}/failover", tree.id));
        // How far it gets until then is what differs.
        thread::sleep(Duration::from_millis(pause));
        scene.krater.kill_controller();
        scene.krater.resume();
        scene.api = scene.krater.api();
        scene.api.wait_active(&tree.id, NOTICE_MAX);
        assert_ne!(carrier(&mut scene, &tree), before, "after {pause} ms");
        assert_eq!(fetch(tree.at(80), "/").expect("an answer").status, 200);
    }
    let (served, failures) = newcomers.finish();
    assert!(failures.is_empty(), "of {served}: {failures:?}");
    let amphora = carrier(&mut scene, &tree);
    put(&mut scene, &format!("{AMPHORAE}/{amphora}/failover"));
    scene.krater.kill_controller();
    scene.krater.resume();
    scene.api = scene.krater.api();
    until("the amphora is gone", Duration::from_secs(40), || {
        let ids: Vec<String> = amphorae(&mut scene, "")
            .iter()
            .map(|amphora| text(&amphora["id"]))
            .collect();
        ids.len() == 2 && !ids.contains(&amphora)
    });
    scene.api.wait_active(&tree.id, NOTICE_MAX);
    assert_eq!(scene.krater.amphorae().len(), 2);
}
