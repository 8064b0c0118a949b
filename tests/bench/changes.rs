//! Changes of members and listeners while clients that notice everything are at work.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Load, TcpMember};
use serde_json::json;

use crate::{Stage, Table, text, writers::Changes};

pub(crate) struct Settings {
    pub(crate) count: usize,
    pub(crate) rate: usize,
    pub(crate) clients: usize,
    pub(crate) pause: Duration,
    pub(crate) quiet: Duration,
}

pub(crate) fn measure(settings: &Settings) -> Table {
    let mut stage = Stage::set();
    let echo = TcpMember::start("echo", "127.0.0.1:0");
    let subnet = stage.api.subnet("local-v4");
    let mut tree = Stage::tree(&subnet, "busy", &[stage.member(0, 0), stage.member(1, 1)]);
    let streams = json!({
        "protocol": "TCP", "protocol_port": 90,
        "default_pool": {
            "name": "echo", "protocol": "TCP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": "127.0.0.1", "protocol_port": echo.address().port()}],
        },
    });
    tree["loadbalancer"]["listeners"]
        .as_array_mut()
        .expect("listeners")
        .push(streams);
    let created = stage.api.post("loadbalancers", &tree)["loadbalancer"].clone();
    let id = text(&created["id"]);
    stage.api.wait_active(&id, Duration::from_secs(10));
    let pools = stage.api.get(&format!("pools?loadbalancer_id={id}"));
    let pool = pools["pools"]
        .as_array()
        .expect("pools")
        .iter()
        .find(|pool| pool["protocol"] == "HTTP")
        .expect("the pool");
    let pool = text(&pool["id"]);
    let vip: std::net::IpAddr = text(&created["vip_address"]).parse().expect("an address");

    let mut load = Load::new();
    load.add_http(SocketAddr::new(vip, 80), settings.clients, settings.pause);
    load.add_streams(
        SocketAddr::new(vip, 90),
        settings.clients,
        Duration::from_millis(20),
    );
    thread::sleep(settings.quiet);
    load.set_phase(1);
    let start = Instant::now();
    let refused = Changes {
        balancer: &id,
        pool: &pool,
        count: settings.count,
        rate: settings.rate,
    }
    .make(&stage);
    let took = start.elapsed();
    stage.api.wait_active(&id, Duration::from_secs(10));
    report(settings, refused, took, load)
}

fn report(settings: &Settings, refused: usize, took: Duration, load: Load) -> Table {
    let report = load.finish();
    let clients = settings.clients;
    let mut table = Table::new(format!(
        "{} changes under {clients} HTTP clients and {clients} TCP streams",
        settings.count
    ));
    table.add("changes refused", refused, "");
    table.add(
        "changes",
        (settings.count as f64 / took.as_secs_f64()).round(),
        "per second",
    );
    table.add("requests", report.requests, "");
    table.add("failed requests", report.failures.len(), "");
    table.add("streams", report.streams, "whole");
    table.add("broken streams", report.broken.len(), "");
    table.add("stream bytes checked", report.stream_bytes, "bytes");
    table.add_us("request p50 without changes", report.latency_us(0, 50.0));
    table.add_us("request p99 without changes", report.latency_us(0, 99.0));
    table.add_us("request p50 with changes", report.latency_us(1, 50.0));
    table.add_us("request p99 with changes", report.latency_us(1, 99.0));
    for (name, lines) in [
        ("a failure", &report.failures),
        ("a broken stream", &report.broken),
    ] {
        if let Some(first) = lines.first() {
            table.add(name, first.as_str(), "");
        }
    }
    table
}
