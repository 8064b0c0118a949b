//! L7 policies from the API to the wire: what a tenant asks for is what clients meet, at the next request.

use std::net::SocketAddr;

use krater_tests::{Answer, Connection, HttpMember, Octavia};
use serde_json::{Value, json};

use crate::scene::{SETTLE_MAX, Scene, Tree, body_json, member_json, text};

fn pool(name: &str, member: &HttpMember) -> Value {
    json!({"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]})
}

fn rule(kind: &str, compare: &str, value: &str) -> Value {
    json!({"type": kind, "compare_type": compare, "value": value})
}

fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut connection = Connection::open(address).expect("a connection");
    connection
        .request("GET", path, headers, None)
        .expect("an answer")
}

fn member_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    text(&body_json(&answer.body)["member"])
}

fn location(answer: &Answer) -> &str {
    answer.header("location").unwrap_or_default()
}

#[test]
fn a_tree_created_at_once_routes_by_its_policies() {
    let mut scene = Scene::up();
    let (app, files) = (
        HttpMember::start("app", "127.0.0.1:0"),
        HttpMember::start("files", "127.0.0.1:0"),
    );
    let listener = json!({
    "name": "web", "protocol": "HTTP", "protocol_port": 80, "default_pool": pool("app", &app),
    "l7policies": [
        {"name": "static", "action": "REDIRECT_TO_POOL", "redirect_pool": pool("files", &files),
            "rules": [rule("PATH", "STARTS_WITH", "/static"), rule("FILE_TYPE", "REGEX", "\\.(png|css)$")]},
        {"action": "REDIRECT_PREFIX", "redirect_prefix": "https://shop.example.test", "redirect_http_code": 308,
            "rules": [rule("HOST_NAME", "EQUAL_TO", "SHOP")]},
        {"action": "REJECT", "rules": [{"type": "HEADER", "key": "User-Agent", "compare_type": "CONTAINS",
            "value": "\"bad bot\""}]},
        {"name": "off", "action": "REJECT", "admin_state_up": false, "rules": [rule("PATH", "STARTS_WITH", "/")]},
        {"name": "empty", "action": "REJECT"},
    ]});
    let tree = scene.tree(&json!([listener]));
    let at = tree.at(80);
    assert_eq!(member_of(&get(at, "/", &[])), "app");
    assert_eq!(member_of(&get(at, "/static/a.png", &[])), "files");
    assert_eq!(member_of(&get(at, "/static/a.html", &[])), "app");
    let answer = get(at, "http://shop/cart?id=7", &[]);
    assert_eq!(
        (answer.status, location(&answer)),
        (308, "https://shop.example.test/cart?id=7")
    );
    let answer = get(at, "/static/a.png", &[("user-agent", "a bad bot 1.0")]);
    assert_eq!(answer.status, 403);
    let policies = scene.api.get(&format!(
        "l7policies?listener_id={}&sort=position",
        tree.listener
    ));
    let policies = policies["l7policies"].as_array().expect("policies").clone();
    assert_eq!(policies.len(), 5);
    let positions: Vec<&Value> = policies.iter().map(|policy| &policy["position"]).collect();
    assert_eq!(positions, [1, 2, 3, 4, 5]);
    scene
        .api
        .delete(&format!("loadbalancers/{}?cascade=true", tree.id));
}

#[test]
fn a_change_of_policies_is_live_at_the_next_request_of_an_open_connection() {
    let mut scene = Scene::up();
    let (app, other) = (
        HttpMember::start("app", "127.0.0.1:0"),
        HttpMember::start("other", "127.0.0.1:0"),
    );
    let tree = scene.http_tree(&[&app]);
    let second = json!({"pool": {"loadbalancer_id": tree.id, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN"}});
    let second = text(&scene.api.post("pools", &second)["pool"]["id"]);
    let member = json!({"member": member_json(other.address())});
    scene.api.post(&format!("pools/{second}/members"), &member);
    let mut connection = Connection::open(tree.at(80)).expect("a connection");
    let mut ask = |api: &mut Octavia, tree: &Tree| {
        api.wait_active(&tree.id, SETTLE_MAX);
        connection.get("/x").expect("an answer")
    };
    assert_eq!(member_of(&ask(&mut scene.api, &tree)), "app");
    let policy = json!({"l7policy": {"listener_id": tree.listener, "action": "REDIRECT_TO_POOL", "redirect_pool_id": second}});
    let policy = text(&scene.api.post("l7policies", &policy)["l7policy"]["id"]);
    assert_eq!(member_of(&ask(&mut scene.api, &tree)), "app", "no rule yet");
    let body = json!({"rule": rule("PATH", "EQUAL_TO", "/x")});
    let path = format!("l7policies/{policy}/rules");
    let rule_id = text(&scene.api.post(&path, &body)["rule"]["id"]);
    assert_eq!(member_of(&ask(&mut scene.api, &tree)), "other");
    let shown = scene.api.get(&format!("pools/{second}"));
    assert_eq!(shown["pool"]["listeners"], json!([{"id": tree.listener}]));
    let reply = scene.api.call("DELETE", &format!("pools/{second}"), None);
    assert_eq!(reply.status, 409, "{}", reply.body);
    assert_eq!(
        reply.fault(),
        format!("Pool {second} is in use by L7 policy {policy}")
    );
    let inverted = json!({"rule": {"invert": true}});
    scene.api.put(&format!("{path}/{rule_id}"), &inverted);
    assert_eq!(member_of(&ask(&mut scene.api, &tree)), "app");
    let change =
        json!({"l7policy": {"action": "REDIRECT_TO_URL", "redirect_url": "http://a.test"}});
    scene.api.put(&format!("l7policies/{policy}"), &change);
    scene.api.put(
        &format!("{path}/{rule_id}"),
        &json!({"rule": {"invert": false}}),
    );
    let answer = ask(&mut scene.api, &tree);
    assert_eq!((answer.status, location(&answer)), (302, "http://a.test"));
    scene.api.put(
        &format!("pools/{second}"),
        &json!({"pool": {"admin_state_up": false}}),
    );
    let back = json!({"l7policy": {"redirect_pool_id": second}});
    scene.api.put(&format!("l7policies/{policy}"), &back);
    assert_eq!(
        member_of(&ask(&mut scene.api, &tree)),
        "app",
        "a policy whose pool is off is passed over"
    );
    scene.api.delete(&format!("l7policies/{policy}"));
    scene.api.delete(&format!("pools/{second}"));
    assert_eq!(member_of(&ask(&mut scene.api, &tree)), "app");
}

#[test]
fn policies_outlive_the_controller_and_show_their_status() {
    let mut scene = Scene::up();
    let app = HttpMember::start("app", "127.0.0.1:0");
    let tree = scene.http_tree(&[&app]);
    let body = json!({"l7policy": {"listener_id": tree.listener, "action": "REJECT"}});
    let policy = text(&scene.api.post("l7policies", &body)["l7policy"]["id"]);
    let body = json!({"rule": rule("PATH", "STARTS_WITH", "/no")});
    let path = format!("l7policies/{policy}/rules");
    let rule_id = text(&scene.api.post(&path, &body)["rule"]["id"]);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(get(tree.at(80), "/no", &[]).status, 403);
    scene
        .api
        .wait_operating(&format!("l7policies/{policy}"), "ONLINE", SETTLE_MAX);
    scene
        .api
        .wait_operating(&format!("{path}/{rule_id}"), "ONLINE", SETTLE_MAX);
    let off = json!({"l7policy": {"admin_state_up": false}});
    scene.api.put(&format!("l7policies/{policy}"), &off);
    scene
        .api
        .wait_operating(&format!("l7policies/{policy}"), "OFFLINE", SETTLE_MAX);
    assert_eq!(get(tree.at(80), "/no", &[]).status, 200);
    let certificates = json!({"rule": rule("SSL_CONN_HAS_CERT", "EQUAL_TO", "true")});
    let reply = scene.api.call("POST", &path, Some(&certificates));
    assert_eq!(reply.status, 501, "{}", reply.body);
}
