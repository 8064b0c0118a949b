//! From one call to balanced traffic, and back to nothing.

use krater_tests::{Connection, HttpMember, fetch, until};
use serde_json::json;

use crate::scene::{
    NOTICE_MAX, SETTLE_MAX, Scene, ask, listener_json, member_json, monitor_json, text,
};

#[test]
fn one_call_becomes_traffic_and_the_first_get_finds_it_active() {
    let mut scene = Scene::up();
    scene.krater.wait_up();
    let members = [
        HttpMember::start("a", "127.0.0.1:0"),
        HttpMember::start("b", "127.0.0.1:0"),
    ];
    let pool = json!({
        "name": "p", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor_json(),
        "members": [member_json(members[0].address()), member_json(members[1].address())],
    });
    // The first GET waits for the swap, but not for ever: one of a few is enough on a machine with other things to do.
    let mut create = |_| {
        let created = scene
            .api
            .create_tree("first", &json!([listener_json("HTTP", 80, &pool)]));
        assert_eq!(created["provisioning_status"], "PENDING_CREATE");
        let path = format!("loadbalancers/{}", text(&created["id"]));
        let first = scene.api.get(&path);
        (first["loadbalancer"]["provisioning_status"] == "ACTIVE").then_some(created)
    };
    let created = (0..8).find_map(&mut create);
    let created = created.expect("ACTIVE at the first GET");
    let vip = format!("{}:80", text(&created["vip_address"]))
        .parse()
        .expect("an address");
    let answers = ask(vip, 10);
    assert_eq!(
        answers.values().copied().collect::<Vec<_>>(),
        [5, 5],
        "{answers:?}"
    );
    let path = format!("loadbalancers/{}", text(&created["id"]));
    scene.api.wait_operating(&path, "ONLINE", NOTICE_MAX);
}

#[test]
fn every_resource_can_be_made_changed_and_taken_away_one_by_one() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.tree(&json!([]));
    let id = &tree.id;
    let api = &mut scene.api;
    let pool = api.post("pools", &json!({"pool": {"loadbalancer_id": id, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}}));
    let pool = text(&pool["pool"]["id"]);
    let listener = api.post("listeners", &json!({"listener": {"loadbalancer_id": id, "protocol": "HTTP", "protocol_port": 81, "default_pool_id": pool}}));
    let listener = text(&listener["listener"]["id"]);
    let made = api.post(
        &format!("pools/{pool}/members"),
        &json!({"member": member_json(member.address())}),
    );
    let made = text(&made["member"]["id"]);
    let mut monitor = monitor_json();
    monitor["pool_id"] = json!(pool);
    let monitor = api.post("healthmonitors", &json!({"healthmonitor": monitor}));
    let monitor = text(&monitor["healthmonitor"]["id"]);
    api.wait_active(id, SETTLE_MAX);
    assert_eq!(ask(tree.at(81), 2)["a"], 2);
    api.put(
        &format!("pools/{pool}/members/{made}"),
        &json!({"member": {"weight": 7}}),
    );
    api.put(
        &format!("healthmonitors/{monitor}"),
        &json!({"healthmonitor": {"delay": 2}}),
    );
    api.put(
        &format!("listeners/{listener}"),
        &json!({"listener": {"name": "renamed"}}),
    );
    api.put(
        &format!("pools/{pool}"),
        &json!({"pool": {"lb_algorithm": "LEAST_CONNECTIONS"}}),
    );
    api.wait_active(id, SETTLE_MAX);
    assert_eq!(
        api.get(&format!("pools/{pool}/members/{made}"))["member"]["weight"],
        7
    );
    assert_eq!(ask(tree.at(81), 1)["a"], 1);
    api.delete(&format!("pools/{pool}/members/{made}"));
    api.delete(&format!("healthmonitors/{monitor}"));
    api.delete(&format!("listeners/{listener}"));
    api.delete(&format!("pools/{pool}"));
    api.wait_active(id, SETTLE_MAX);
    for path in [
        format!("pools/{pool}"),
        format!("listeners/{listener}"),
        format!("healthmonitors/{monitor}"),
    ] {
        assert_eq!(api.call("GET", &path, None).status, 404, "{path}");
    }
    until("the port is closed", SETTLE_MAX, || {
        Connection::open(tree.at(81)).is_err()
    });
}

#[test]
fn a_cascade_delete_frees_the_address_the_ports_and_every_child() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let refused = scene
        .api
        .call("DELETE", &format!("loadbalancers/{}", tree.id), None);
    assert_eq!(
        refused.status, 400,
        "without cascade it must refuse: {}",
        refused.body
    );
    scene
        .api
        .delete(&format!("loadbalancers/{}?cascade=true", tree.id));
    let path = format!("loadbalancers/{}", tree.id);
    until("the load balancer is gone", SETTLE_MAX, || {
        scene.api.call("GET", &path, None).status == 404
    });
    for kind in ["loadbalancers", "listeners", "pools", "healthmonitors"] {
        assert_eq!(scene.api.get(kind)[kind], json!([]), "{kind}");
    }
    assert!(fetch(tree.at(80), "/").is_err(), "the VIP still answers");
    let subnet = scene.api.subnet("local-v4");
    let again =
        json!({"loadbalancer": {"vip_subnet_id": subnet, "vip_address": tree.vip.to_string()}});
    let again = scene.api.post("loadbalancers", &again);
    assert_eq!(
        again["loadbalancer"]["vip_address"],
        tree.vip.to_string(),
        "the address is free again"
    );
}

#[test]
fn lists_filter_sort_page_and_choose_fields() {
    let mut scene = Scene::up();
    for name in ["c", "a", "b"] {
        scene.api.create_tree(name, &json!([]));
    }
    let names = |body: &serde_json::Value| -> Vec<String> {
        let all = body["loadbalancers"].as_array().expect("a list");
        all.iter().map(|one| text(&one["name"])).collect()
    };
    assert_eq!(
        names(&scene.api.get("loadbalancers?sort=name:asc")),
        ["a", "b", "c"]
    );
    assert_eq!(
        names(&scene.api.get("loadbalancers?sort_key=name&sort_dir=desc")),
        ["c", "b", "a"]
    );
    assert_eq!(names(&scene.api.get("loadbalancers?name=b")), ["b"]);
    let page = scene
        .api
        .get("loadbalancers?sort=name:asc&limit=2&fields=name&fields=id");
    assert_eq!(names(&page), ["a", "b"]);
    assert!(
        page["loadbalancers"][0].get("vip_address").is_none(),
        "{page}"
    );
    let links = page["loadbalancers_links"]
        .as_array()
        .expect("links to the next page");
    let next = links
        .iter()
        .find(|link| link["rel"] == "next")
        .expect("a next page");
    let next = text(&next["href"]);
    let path = &next[next.find("/v2").expect("a path")..];
    assert_eq!(names(&scene.api.get(path)), ["c"]);
    assert_eq!(
        scene
            .api
            .call("GET", "loadbalancers?nonsense=1", None)
            .status,
        400
    );
}
