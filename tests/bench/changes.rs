//! Changes of members and listeners while clients that notice everything are at work.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Load, Octavia, TcpMember};
use serde_json::json;

use crate::{Stage, Table, text};

pub(crate) struct Settings {
    pub(crate) count: usize,
    pub(crate) rate: usize,
    pub(crate) clients: usize,
    pub(crate) pause: Duration,
    pub(crate) quiet: Duration,
}

/// What every writer needs to know.
struct Work<'a> {
    stage: &'a Stage,
    balancer: &'a str,
    pool: &'a str,
    settings: &'a Settings,
    start: Instant,
    taken: AtomicUsize,
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
    let work = Work {
        stage: &stage,
        balancer: &id,
        pool: &pool,
        settings,
        start,
        taken: AtomicUsize::new(0),
    };
    let refused: usize = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                scope.spawn({
                    let work = &work;
                    move || write(work, writer)
                })
            })
            .collect();
        writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer ends"))
            .sum()
    });
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

/// Makes its share of the changes at the wanted rate: a member and a listener come, change and go. Gives how many were
/// refused.
fn write(work: &Work<'_>, writer: usize) -> usize {
    let mut api = work.stage.krater.api();
    let mut refused = 0;
    let mut round = 0;
    while let Some(()) = work.turn() {
        refused += one_round(work, &mut api, writer, round);
        round += 1;
    }
    refused
}

fn one_round(work: &Work<'_>, api: &mut Octavia, writer: usize, round: usize) -> usize {
    let members = format!("pools/{}/members", work.pool);
    let mut refused = 0;
    let mut call = |method: &str, path: &str, body: Option<serde_json::Value>, wanted: u16| {
        let reply = api.call(method, path, body.as_ref());
        if reply.status != wanted {
            refused += 1;
            eprintln!("{method} {path}: {} {}", reply.status, reply.body);
        }
        reply.body
    };
    let member = work.stage.member(round % 2, 10 + writer);
    let member = call("POST", &members, Some(json!({"member": member})), 201);
    let port = 1000 + writer;
    let listener = json!({"listener": {
        "loadbalancer_id": work.balancer, "protocol": "HTTP", "protocol_port": port, "default_pool_id": work.pool,
    }});
    work.pace();
    let listener = call("POST", "listeners", Some(listener), 201);
    if let Some(id) = member["member"]["id"].as_str() {
        work.pace();
        call(
            "PUT",
            &format!("{members}/{id}"),
            Some(json!({"member": {"weight": 2 + round % 5}})),
            200,
        );
        work.pace();
        call("DELETE", &format!("{members}/{id}"), None, 204);
    }
    if let Some(id) = listener["listener"]["id"].as_str() {
        work.pace();
        call(
            "PUT",
            &format!("listeners/{id}"),
            Some(json!({"listener": {"timeout_client_data": 40_000}})),
            200,
        );
        work.pace();
        call("DELETE", &format!("listeners/{id}"), None, 204);
    }
    refused
}

impl Work<'_> {
    /// Waits for the first change of a round, unless enough changes were begun.
    fn turn(&self) -> Option<()> {
        if self.taken.load(Ordering::Relaxed) >= self.settings.count {
            return None;
        }
        self.pace();
        Some(())
    }

    /// Waits until the next change is due.
    fn pace(&self) {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs_f64(number as f64 / self.settings.rate as f64);
        thread::sleep(due.saturating_sub(self.start.elapsed()));
    }
}

const WRITERS: usize = 8;
