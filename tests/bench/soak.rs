//! Everything at once for a long time: what it does to memory, and whether anything is lost.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use krater_tests::{Load, TcpMember, UdpMember};
use serde_json::{Value, json};

use crate::{Stage, Table, memory::memory_kib, text, writers::Changes};

pub(crate) struct Settings {
    /// How long.
    pub(crate) time: Duration,
    /// Changes per second.
    pub(crate) rate: usize,
    /// Clients of each kind.
    pub(crate) clients: usize,
}

pub(crate) fn measure(settings: &Settings) -> Table {
    let mut stage = Stage::set();
    let stream = TcpMember::start("stream", "127.0.0.1:0");
    let datagram = UdpMember::start("datagram", "127.0.0.1:0");
    let subnet = stage.api.subnet("local-v4");
    let mut tree = Stage::tree(&subnet, "soaked", &[stage.member(0, 0), stage.member(1, 1)]);
    tree["loadbalancer"]["listeners"]
        .as_array_mut()
        .expect("listeners")
        .extend([
            listener("TCP", STREAM_PORT, stream.address()),
            listener("UDP", DATAGRAM_PORT, datagram.address()),
        ]);
    let created = stage.api.post("loadbalancers", &tree)["loadbalancer"].clone();
    let id = text(&created["id"]);
    stage.api.wait_active(&id, Duration::from_secs(10));
    let pools = stage
        .api
        .get(&format!("pools?loadbalancer_id={id}&protocol=HTTP"));
    let pool = text(&pools["pools"][0]["id"]);
    let vip: IpAddr = text(&created["vip_address"]).parse().expect("an address");

    let load = begin(vip, settings);
    let weights = thread::scope(|scope| {
        let stage = &stage;
        let weigher = scope.spawn(move || weigh(stage, settings.time));
        let refused = Changes {
            balancer: &id,
            pool: &pool,
            count: settings.rate * usize::try_from(settings.time.as_secs()).unwrap_or(usize::MAX),
            rate: settings.rate,
        }
        .make(stage);
        (refused, weigher.join().expect("weighing ends"))
    });
    stage.api.wait_active(&id, Duration::from_secs(10));
    report(settings, weights, load)
}

fn listener(protocol: &str, port: u16, member: SocketAddr) -> Value {
    json!({
        "protocol": protocol, "protocol_port": port,
        "default_pool": {
            "name": protocol, "protocol": protocol, "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": member.ip(), "protocol_port": member.port()}],
        },
    })
}

fn begin(vip: IpAddr, settings: &Settings) -> Load {
    let pause = Duration::from_millis(10);
    let clients = settings.clients;
    let mut load = Load::new();
    load.add_http(SocketAddr::new(vip, HTTP_PORT), clients, pause);
    load.add_streams(SocketAddr::new(vip, STREAM_PORT), clients, 2 * pause);
    load.add_connections(SocketAddr::new(vip, STREAM_PORT), clients, pause);
    load.add_datagrams(SocketAddr::new(vip, DATAGRAM_PORT), clients, pause);
    load
}

/// The memory of controller and amphora, in KiB, at even distances from the start to the end.
fn weigh(stage: &Stage, time: Duration) -> Vec<(u64, u64)> {
    let start = Instant::now();
    (0..=WEIGHINGS)
        .map(|number| {
            let due = time * number / WEIGHINGS;
            thread::sleep(due.saturating_sub(start.elapsed()));
            eprintln!("{} of {} s", due.as_secs(), time.as_secs());
            memory_kib(stage)
        })
        .collect()
}

fn report(settings: &Settings, (refused, weights): (usize, Vec<(u64, u64)>), load: Load) -> Table {
    let report = load.finish();
    let mut table = Table::new(format!(
        "{} s of {} clients of each kind and {} changes a second",
        settings.time.as_secs(),
        settings.clients,
        settings.rate,
    ));
    table.add("changes refused", refused, "");
    table.add("requests", report.requests, "");
    table.add("short connections", report.connections, "");
    table.add("datagrams answered", report.datagrams, "");
    table.add("failures of these", report.failures.len(), "");
    table.add("streams", report.streams, "whole");
    table.add("broken streams", report.broken.len(), "");
    table.add("stream bytes checked", report.stream_bytes, "bytes");
    for (number, (controller, amphora)) in weights.into_iter().enumerate() {
        let at = format!(
            "{:.0} s",
            settings.time.as_secs_f64() * number as f64 / f64::from(WEIGHINGS)
        );
        table.add(format!("controller at {at}"), controller, "KiB");
        table.add(format!("amphora and supervisor at {at}"), amphora, "KiB");
    }
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

const HTTP_PORT: u16 = 80;
const STREAM_PORT: u16 = 90;
const DATAGRAM_PORT: u16 = 91;
const WEIGHINGS: u32 = 4;
