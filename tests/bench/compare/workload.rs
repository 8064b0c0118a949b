//! What is measured: the workloads by name, and one round of one peer.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::ending::is_interrupted;

use super::{
    figures::Figures,
    peers::{Listener, Peer},
    reload,
    serve::{MEMBERS, Role},
    stage::{FIRST_PORT, Stage, member, vip, wait_for_line},
};

/// A workload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// So many connections.
    Bulk(&'static str),
    Connect(&'static str),
    Message(&'static str),
    Idle(&'static str),
    Datagram(&'static str),
    /// Datagrams per second.
    OneWay(&'static str),
    Reload,
}

pub(super) const ALL: &[Workload] = &[
    of("W1", "TCP bulk, 1 connection", Kind::Bulk("1")),
    of("W1m", "TCP bulk, 64 connections", Kind::Bulk("64")),
    of(
        "W2",
        "TCP connect, 1 request, close; 32 at a time",
        Kind::Connect("32"),
    ),
    of(
        "W3",
        "TCP messages of 64 bytes, 64 connections",
        Kind::Message("64"),
    ),
    of(
        "W3a",
        "TCP messages of 64 bytes, 1 connection",
        Kind::Message("1"),
    ),
    of(
        "W8m",
        "9,000 idle TCP connections: memory",
        Kind::Idle("9000"),
    ),
    of(
        "W9",
        "UDP request and answer of 64 bytes, 64 sockets",
        Kind::Datagram("64"),
    ),
    of(
        "W9o",
        "UDP one way, 64 bytes, 50,000 per second",
        Kind::OneWay("50000"),
    ),
    of(
        "W10",
        "1,000 listeners of 10 members: one member changed",
        Kind::Reload,
    ),
];

const fn of(name: &'static str, title: &'static str, kind: Kind) -> Workload {
    Workload { name, title, kind }
}

impl Workload {
    /// What one of its costs is in.
    pub(super) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Bulk(_) => "ms/GB",
            Kind::Idle(_) => "KiB each",
            Kind::Reload => "ms",
            _ => "us each",
        }
    }

    /// Whether a peer takes part.
    pub(super) fn concerns(&self, peer: Peer) -> bool {
        let datagrams = matches!(self.kind, Kind::Datagram(_) | Kind::OneWay(_));
        peer.carries(datagrams) && (!peer.is_for_bulk() || matches!(self.kind, Kind::Bulk(_)))
    }

    /// Rounds after which more say nothing new.
    pub(super) fn rounds(&self, wanted: usize) -> usize {
        match self.kind {
            Kind::Idle(_) | Kind::Reload => wanted.min(1),
            _ => wanted,
        }
    }

    /// One round; `None` if this peer cannot be measured here.
    pub(super) fn measure(
        &self,
        stage: &Stage,
        peer: Peer,
        seconds: f64,
    ) -> Result<Option<Figures>> {
        match self.kind {
            Kind::Reload => reload::measure(stage, peer, seconds),
            Kind::Idle(count) => idle(stage, peer, count).map(Some),
            Kind::OneWay(rate) => one_way(stage, peer, rate, seconds).map(Some),
            Kind::Bulk(count) => steady(stage, peer, "bulk", count, Role::Bulk, seconds).map(Some),
            Kind::Connect(count) => {
                steady(stage, peer, "connect", count, Role::Echo, seconds).map(Some)
            }
            Kind::Message(count) => {
                steady(stage, peer, "message", count, Role::Echo, seconds).map(Some)
            }
            Kind::Datagram(count) => {
                steady(stage, peer, "datagram", count, Role::Datagrams, seconds).map(Some)
            }
        }
    }
}

/// What the generator is started with.
pub(super) fn generator(traffic: &[&str], target: SocketAddr, seconds: f64) -> Vec<String> {
    let mut arguments = vec![target.to_string(), seconds.to_string()];
    arguments.extend(traffic.iter().map(|&text| text.to_owned()));
    arguments
}

fn listener(role: Role, members: u16) -> Listener {
    Listener {
        datagrams: matches!(role, Role::Datagrams | Role::Count),
        address: vip(FIRST_PORT),
        members: (0..members)
            .map(|number| (member(0), role.port(number)).into())
            .collect(),
    }
}

/// Traffic that goes on: warmed up, then counted.
fn steady(
    stage: &Stage,
    peer: Peer,
    traffic: &str,
    count: &str,
    role: Role,
    seconds: f64,
) -> Result<Figures> {
    let running = stage.start(peer, &[listener(role, MEMBERS)])?;
    let arguments = |seconds| generator(&[traffic, count], vip(FIRST_PORT), seconds);
    stage.generated(&arguments(WARM_UP_SECONDS))?;
    let before = running.time();
    let seen = stage.generated(&arguments(seconds))?;
    let spent = (running.time() - before).as_secs_f64();
    let (done, bytes) = (number(&seen, "done"), number(&seen, "bytes"));
    let (units, scale) = match role {
        Role::Bulk => (bytes / 1e9, 1e3),
        _ => (done, 1e6),
    };
    ensure!(units > 0.0, "{} carried nothing: {seen}", peer.name());
    Ok(Figures {
        cost: spent * scale / units,
        rate: if role == Role::Bulk { bytes } else { done } / number(&seen, "seconds"),
        ..times(&seen)
    })
}

/// What has arrived is what counts: a proxy that drops is not cheap.
fn one_way(stage: &Stage, peer: Peer, rate: &str, seconds: f64) -> Result<Figures> {
    let running = stage.start(peer, &[listener(Role::Count, 1)])?;
    let arguments = |seconds| generator(&["one-way", rate], vip(FIRST_PORT), seconds);
    stage.generated(&arguments(WARM_UP_SECONDS))?;
    thread::sleep(IN_FLIGHT);
    let (before, counted) = (running.time(), stage.counted()?);
    let seen = stage.generated(&arguments(seconds))?;
    thread::sleep(IN_FLIGHT);
    let spent = (running.time() - before).as_secs_f64();
    let arrived = stage.counted()? - counted;
    ensure!(arrived > 0, "{} carried nothing: {seen}", peer.name());
    let sent = seen["done"].as_u64().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let arrived_each = arrived as f64;
    Ok(Figures {
        cost: spent * 1e6 / arrived_each,
        rate: arrived_each / number(&seen, "seconds"),
        errors: sent.saturating_sub(arrived),
        ..Figures::default()
    })
}

fn idle(stage: &Stage, peer: Peer, count: &str) -> Result<Figures> {
    let running = stage.start(peer, &[listener(Role::Echo, MEMBERS)])?;
    // What the first connection allocates is not what each one costs.
    stage.generated(&generator(
        &["message", "1"],
        vip(FIRST_PORT),
        WARM_UP_SECONDS,
    ))?;
    let (before, time) = (running.memory_kib(), running.time());
    let mut program = stage.generate(&generator(&["idle", count], vip(FIRST_PORT), 0.0))?;
    let seen: Value = serde_json::from_str(&wait_for_line(&mut program)?)?;
    let opened = running.time();
    thread::sleep(REST);
    let grown = running.memory_kib().saturating_sub(before);
    let (done, rested) = (number(&seen, "done"), running.time());
    program.kill();
    ensure!(!is_interrupted(), "interrupted");
    ensure!(done > 0.0, "{} holds nothing: {seen}", peer.name());
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let grown = grown as f64;
    Ok(Figures {
        cost: grown / done,
        extra: vec![
            ("held", done),
            (
                "processor time to open one, us",
                (opened - time).as_secs_f64() * 1e6 / done,
            ),
            (
                "processor time at rest, per cent",
                (rested - opened).as_secs_f64() / REST.as_secs_f64() * 100.0,
            ),
        ],
        ..times(&seen)
    })
}

fn times(seen: &Value) -> Figures {
    Figures {
        p50_us: number(seen, "p50_us"),
        p99_us: number(seen, "p99_us"),
        errors: seen["errors"].as_u64().unwrap_or_default(),
        ..Figures::default()
    }
}

fn number(seen: &Value, name: &str) -> f64 {
    seen[name].as_f64().unwrap_or_default()
}

const WARM_UP_SECONDS: f64 = 0.5;
const IN_FLIGHT: Duration = Duration::from_millis(200);
const REST: Duration = Duration::from_secs(3);
