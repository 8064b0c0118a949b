//! Addresses: IPv6, networks of an operator's own, clients from several places.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use krater_tests::{Connection, HttpMember, Krater, Namespace, fetch};
use serde_json::json;

use crate::scene::{SETTLE_MAX, Scene, ask, listener_json, member_json, text};

#[test]
fn the_embedded_ipv6_subnet_serves_from_the_loopback_address() {
    let mut scene = Scene::up();
    let member = HttpMember::start("six", "[::1]:0");
    let subnet = scene.api.subnet("local-v6");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let body = json!({"loadbalancer": {"vip_subnet_id": subnet, "listeners": [listener_json("HTTP", 8086, &pool)]}});
    let created = scene.api.post("loadbalancers", &body);
    assert_eq!(created["loadbalancer"]["vip_address"], "::1");
    scene
        .api
        .wait_active(&text(&created["loadbalancer"]["id"]), SETTLE_MAX);
    let vip: SocketAddr = "[::1]:8086".parse().expect("an address");
    assert_eq!(ask(vip, 2).get("six"), Some(&2));
}

#[test]
fn a_subnet_of_the_operators_own_serves_any_of_its_ipv6_addresses() {
    let network = Namespace::enter_new();
    network.ip(&["-6", "route", "add", "local", "fd77::/64", "dev", "lo"]);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("krater.toml");
    fs::write(&config, OWN_SUBNET).expect("the settings can be written");
    let krater = Krater::start("up", &["--config", &config.to_string_lossy()]);
    let mut api = krater.api();
    let member = HttpMember::start("six", "[::1]:0");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let body = json!({"loadbalancer": {
        "vip_subnet_id": api.subnet("own-v6"), "vip_address": "fd77::50", "listeners": [listener_json("HTTP", 80, &pool)],
    }});
    let created = api.post("loadbalancers", &body);
    api.wait_active(&text(&created["loadbalancer"]["id"]), SETTLE_MAX);
    let vip: SocketAddr = "[fd77::50]:80".parse().expect("an address");
    assert_eq!(ask(vip, 2).get("six"), Some(&2));
}

#[test]
fn allowed_cidrs_admit_by_source_address_and_nobody_else() {
    let mut scene = Scene::up();
    let clients = Namespace::new();
    clients.link(
        "c0",
        &["10.9.0.1/24", "10.9.0.2/24"],
        &scene.network,
        "s0",
        &["10.9.0.254/24"],
    );
    // The VIP lives on the server's loopback; clients reach it through the link.
    clients.ip(&["route", "add", "10.77.0.0/16", "via", "10.9.0.254"]);
    scene
        .network
        .ip(&["address", "add", "10.77.0.0/16", "dev", "lo"]);
    drop(scene.krater);
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("krater.toml");
    fs::write(&config, ROUTED_SUBNET).expect("the settings can be written");
    scene.krater = Krater::start("up", &["--config", &config.to_string_lossy()]);
    scene.api = scene.krater.api();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["allowed_cidrs"] = json!(["10.9.0.1/32"]);
    let body = json!({"loadbalancer": {"vip_subnet_id": scene.api.subnet("routed"), "vip_address": "10.77.0.9", "listeners": [listener]}});
    let created = scene.api.post("loadbalancers", &body)["loadbalancer"].clone();
    let (id, listener) = (text(&created["id"]), text(&created["listeners"][0]["id"]));
    scene.api.wait_active(&id, SETTLE_MAX);

    assert!(
        clients.run(|| served_from("10.9.0.1")),
        "the allowed source is served"
    );
    assert!(
        !clients.run(|| served_from("10.9.0.2")),
        "the other source is not"
    );
    scene.api.put(
        &format!("listeners/{listener}"),
        &json!({"listener": {"allowed_cidrs": ["10.9.0.2/32"]}}),
    );
    scene.api.wait_active(&id, SETTLE_MAX);
    assert!(
        clients.run(|| served_from("10.9.0.2")),
        "after the change the other source is served"
    );
    assert!(
        !clients.run(|| served_from("10.9.0.1")),
        "and the first is not"
    );
}

#[test]
fn members_of_another_network_are_reached_through_their_subnet() {
    let mut scene = Scene::up();
    let servers = Namespace::new();
    servers.link(
        "m0",
        &["10.8.0.2/24"],
        &scene.network,
        "s0",
        &["10.8.0.1/24"],
    );
    let member = servers.run(|| HttpMember::start("far", "10.8.0.2:0"));
    let subnet = scene.api.subnet("local-v4");
    let mut json = member_json(member.address());
    json["subnet_id"] = json!(subnet);
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [json]});
    let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
    assert_eq!(ask(tree.at(80), 2).get("far"), Some(&2));
    let unknown = json!({"member": {"address": "10.8.0.3", "protocol_port": 80, "subnet_id": "00000000-0000-4000-8000-000000000000"}});
    let reply = scene.api.call(
        "POST",
        &format!("pools/{}/members", tree.pool),
        Some(&unknown),
    );
    assert_eq!(reply.status, 400, "{}", reply.body);
}

#[test]
fn a_member_that_swallows_connections_is_given_up_after_the_connect_timeout() {
    let mut scene = Scene::up();
    // A full backlog swallows what comes next: nobody accepts, so the handshake is never answered.
    let swallowing = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = swallowing.local_addr().expect("an address");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
    }
    let alive = HttpMember::start("alive", "127.0.0.1:0");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(address), member_json(alive.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["timeout_member_connect"] = json!(200);
    let tree = scene.tree(&json!([listener]));
    assert_eq!(ask(tree.at(80), 4).get("alive"), Some(&4));
}

/// Whether a request to the VIP from a source address is answered.
fn served_from(source: &str) -> bool {
    let vip: SocketAddr = "10.77.0.9:80".parse().expect("an address");
    let bound = rustix::net::socket(
        rustix::net::AddressFamily::INET,
        rustix::net::SocketType::STREAM,
        None,
    )
    .expect("a socket");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    rustix::net::bind(&bound, &source).expect("the source is ours");
    if rustix::net::connect(&bound, &vip).is_err() {
        return false;
    }
    let Ok(mut connection) = Connection::over(TcpStream::from(bound)) else {
        return false;
    };
    connection.get("/").is_ok_and(|answer| answer.status == 200)
}

#[test]
fn the_namespaces_of_tests_do_not_see_each_other() {
    let one = Namespace::enter_new();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let address = member.address();
    assert!(fetch(address, "/").is_ok());
    let other = Namespace::new();
    assert!(other.run(|| fetch(address, "/").is_err()));
    assert_ne!(one.name(), other.name());
}

const OWN_SUBNET: &str = r#"
[[networks]]
name = "own"
[[networks.subnets]]
name = "own-v6"
cidr = "fd77::/64"
first = "fd77::2"
last = "fd77::ffff"
"#;

const ROUTED_SUBNET: &str = r#"
[[networks]]
name = "routed"
[[networks.subnets]]
name = "routed"
cidr = "10.77.0.0/16"
first = "10.77.0.2"
last = "10.77.255.254"
"#;
