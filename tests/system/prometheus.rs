//! PROMETHEUS listeners: what tenants' own monitoring is told, in the reference's words.

use std::{collections::BTreeSet, net::SocketAddr};

use krater_tests::{
    Connection, Exposition, HttpMember, TcpMember, UdpClient, UdpMember, fetch, until,
};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, listener_json, member_json, text};

/// What a scrape tells now, or in a second: what was told a moment ago is told again.
fn scrape(address: SocketAddr) -> Exposition {
    let answer = fetch(address, "/metrics").expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    Exposition::parse(&answer.text()).expect("the text format")
}

fn pool(protocol: &str, members: &[SocketAddr]) -> Value {
    let members: Vec<_> = members
        .iter()
        .map(|address| member_json(*address))
        .collect();
    json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members})
}

/// The series that the reference names and that are told here, without their labels (reference 19.13).
const WANTED: [(&str, &[&str]); 4] = [
    (
        "octavia_loadbalancer_",
        &[
            "connections_total",
            "current_connections",
            "max_connections",
            "requests_total",
            "listeners",
            "ssl_connections_total",
            "current_ssl_connections",
        ],
    ),
    (
        "octavia_listener_",
        &[
            "status",
            "current_sessions",
            "limit_sessions",
            "sessions_total",
            "connections_total",
            "bytes_in_total",
            "bytes_out_total",
            "requests_denied_total",
            "responses_denied_total",
            "request_errors_total",
            "denied_connections_total",
            "http_requests_total",
            "http_responses_total",
        ],
    ),
    (
        "octavia_pool_",
        &[
            "status",
            "current_sessions",
            "sessions_total",
            "connection_attempts_total",
            "connection_reuses_total",
            "bytes_in_total",
            "bytes_out_total",
            "connection_errors_total",
            "response_errors_total",
            "loadbalanced_total",
            "http_requests_total",
            "http_responses_total",
            "total_time_average_seconds",
            "active_members",
            "backup_members",
        ],
    ),
    (
        "octavia_member_",
        &[
            "status",
            "current_sessions",
            "sessions_total",
            "bytes_in_total",
            "bytes_out_total",
            "connection_attempts_total",
            "connection_reuses_total",
            "connection_errors_total",
            "response_errors_total",
            "server_aborts_total",
            "loadbalanced_total",
            "http_responses_total",
            "total_time_average_seconds",
            "weight",
        ],
    ),
];

#[test]
fn all_of_a_load_balancer_and_nothing_else_is_told() {
    let mut scene = Scene::up();
    let web = HttpMember::start("a", "127.0.0.1:0");
    let stream = TcpMember::start("b", "127.0.0.1:0");
    let datagrams = UdpMember::start("c", "127.0.0.1:0");
    let gone = SocketAddr::from(([127, 0, 0, 1], 1));
    let other = scene.http_tree(&[&web]);
    let body = json!({"loadbalancer": {
        "name": "told", "vip_subnet_id": scene.api.subnet("local-v4"),
        "listeners": [
            listener_json("HTTP", 80, &pool("HTTP", &[web.address(), gone])),
            listener_json("TCP", 90, &pool("TCP", &[stream.address()])),
            listener_json("UDP", 53, &pool("UDP", &[datagrams.address()])),
            {"name": "metrics", "protocol": "PROMETHEUS", "protocol_port": 8088},
        ],
    }});
    let tree = scene.api.post("loadbalancers", &body)["loadbalancer"].clone();
    scene.api.wait_active(&text(&tree["id"]), SETTLE_MAX);
    let vip = text(&tree["vip_address"]).parse().expect("an address");
    let at = |port| SocketAddr::new(vip, port);
    for _ in 0..4 {
        assert_eq!(fetch(at(80), "/").expect("an answer").status, 200);
    }
    std::net::TcpStream::connect(at(90)).expect("it is open");
    UdpClient::of(at(53)).ask_until_heard("hello", SETTLE_MAX);
    let found = |kind: &str, name: &str| {
        let all = tree[kind].as_array().expect("a list");
        let one = all.iter().find(|one| one["name"] == name);
        text(&one.expect("it is there")["id"])
    };
    let (http, http_pool) = (found("listeners", "l80"), found("pools", "p80"));
    let listener = |name: &str| format!("octavia_listener_{name}{{listener=\"{http}\"}}");
    let told = format!("octavia_listener_http_responses_total{{listener=\"{http}\",code=\"2xx\"}}");
    let mut read = Exposition::default();
    until("all four are told", NOTICE_MAX, || {
        read = scrape(at(8_088));
        read.value(&listener("http_requests_total")) == 4.0 && read.value(&told) == 4.0
    });
    for (prefix, names) in WANTED {
        for name in names {
            let name = format!("{prefix}{name}");
            let kind = read.kinds.get(&name).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
    }
    assert_eq!(read.value("octavia_loadbalancer_listeners"), 4.0);
    let status = format!("octavia_listener_status{{listener=\"{http}\",state=\"UP\"}}");
    assert_eq!(read.value(&status), 1.0);
    let of_pool = format!("pool=\"{http_pool}:{http}\"");
    assert_eq!(
        read.value(&format!("octavia_pool_http_requests_total{{{of_pool}}}")),
        4.0
    );
    // Each tries the member that is gone at most once in a while.
    assert!(
        read.value(&format!(
            "octavia_pool_connection_errors_total{{{of_pool}}}"
        )) >= 1.0
    );
    let members: BTreeSet<&str> = read
        .samples
        .keys()
        .filter(|series| series.starts_with("octavia_member_weight{"))
        .filter_map(|series| series.split('"').nth(1)?.split(':').next())
        .collect();
    // Of the three pools of this one, the UDP one among them, and none of the other load balancer.
    assert_eq!(members.len(), 3, "{members:?}");
    let all = format!("{:?}", read.samples.keys());
    assert!(!all.contains(&other.listener) && !all.contains(&other.pool));
    check_manners(at(8_088));
}

/// What else clients may ask of it.
fn check_manners(address: SocketAddr) {
    let mut client = Connection::open(address).expect("a connection");
    let head = client
        .request("HEAD", "/metrics", &[], None)
        .expect("an answer");
    assert_eq!(head.status, 200);
    assert!(
        head.header("content-length")
            .is_some_and(|length| length != "0")
    );
    assert_eq!(client.get("/metrics?x=1").expect("an answer").status, 200);
    assert_eq!(client.get("/").expect("an answer").status, 404);
    assert_eq!(client.get("/metrics/").expect("an answer").status, 404);
    let refused = client
        .request("POST", "/metrics", &[], Some(b"x"))
        .expect("an answer");
    assert_eq!(refused.status, 405);
    assert_eq!(refused.header("allow"), Some("GET, HEAD"));
}

#[test]
fn only_those_who_may_are_told_and_what_cannot_be_is_refused() {
    let mut scene = Scene::up();
    let web = HttpMember::start("a", "127.0.0.1:0");
    let mut metrics = json!({"name": "metrics", "protocol": "PROMETHEUS", "protocol_port": 8088});
    metrics["allowed_cidrs"] = json!(["10.0.0.0/8"]);
    let tree = scene.tree(&json!([
        listener_json("HTTP", 80, &pool("HTTP", &[web.address()])),
        metrics
    ]));
    assert!(fetch(tree.at(8_088), "/metrics").is_err());
    let listed = scene.api.get("listeners?name=metrics");
    let id = text(&listed["listeners"][0]["id"]);
    let changed = json!({"listener": {"allowed_cidrs": ["127.0.0.0/8"]}});
    scene.api.put(&format!("listeners/{id}"), &changed);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    let read = scrape(tree.at(8_088));
    let denied = format!("octavia_listener_denied_connections_total{{listener=\"{id}\"}}");
    assert_eq!(read.value(&denied), 1.0);
}
