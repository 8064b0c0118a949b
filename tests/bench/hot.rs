//! The pure functions that every connection, request or datagram passes through: `cargo bench -p krater-tests`.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use krater_amphora_api::{PoolId, SnapshotSpec};
use krater_amphora_core::{
    flow::{FlowKey, Flows},
    gate::Cidrs,
    l7::Head,
    roster::{Choice, Roster},
    snapshot::Snapshot,
    time::Instant,
    transition::Transition,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Choosing a member: once per connection, or per request over HTTP.
fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("choose");
    for algorithm in ["round_robin", "least_connections", "source_ip"] {
        for members in [10, 1000] {
            let snapshot = balancer(1, algorithm, members, &json!([]));
            let roster = Roster::build(&snapshot.pools()[0], |_| true);
            let mut turn = 0_u64;
            // Nobody is idle, so that least connections has to look at everybody.
            let load = |position: usize| 1 + u32::try_from(position % 7).expect("below seven");
            group.bench_function(BenchmarkId::new(algorithm, members), |bencher| {
                bencher.iter(|| {
                    turn += 1;
                    roster.choose(black_box(&Choice {
                        client: client(turn),
                        turn,
                        load: &load,
                        not: &[],
                    }))
                });
            });
        }
    }
    group.finish();
}

/// Letting a client in: once per connection.
fn gate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gate");
    for networks in [10_u32, 1000] {
        let texts: Vec<_> = (0..networks)
            .map(|number| format!("10.{}.{}.0/25", number / 256, number % 256))
            .collect();
        let cidrs = Cidrs::parse(&texts).expect("networks");
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(networks), |bencher| {
            bencher.iter(|| {
                turn += 1;
                cidrs.allows(black_box(client(turn).ip()))
            });
        });
    }
    group.finish();
}

/// Deciding where a request goes: once per request of a listener with policies.
fn policies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("l7");
    let request = Request {
        host: b"www.example.com",
        path: b"/shop/cart/view.html",
        lines: &[("x-tenant", b"blue"), ("cookie", b"a=1; session=2; b=3")],
    };
    for count in [1, 50] {
        // None matches: all are looked at.
        let rules = |number: usize| match number % 4 {
            0 => {
                json!({"subject": "host_name", "comparison": "equal_to", "value": format!("h{number}.example.com")})
            }
            1 => {
                json!({"subject": "path", "comparison": "starts_with", "value": format!("/api/{number}")})
            }
            2 => {
                json!({"subject": {"header": "x-tenant"}, "comparison": "equal_to", "value": format!("t{number}")})
            }
            _ => {
                json!({"subject": "path", "comparison": "regex", "value": format!("^/item/{number}/[a-z]+$")})
            }
        };
        let all: Vec<Value> = (0..count)
            .map(
                |number| json!({"id": id(9, number), "action": "reject", "rules": [rules(number)]}),
            )
            .collect();
        let snapshot = balancer(1, "round_robin", 1, &json!(all));
        let policies = &snapshot.listeners()[0].policies;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                black_box(
                    policies.evaluate(black_box(&request))
                        == krater_amphora_core::l7::Verdict::Default,
                )
            });
        });
    }
    group.finish();
}

/// Finding the session of a datagram and noting that it was heard: once per datagram.
fn flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flow");
    for count in [100_u64, 100_000] {
        let mut flows = Flows::new(200_000, 7);
        for turn in 0..count {
            flows.admit(flow_key(turn), Instant(0), Duration::from_secs(60), turn);
        }
        let mut turn = 0;
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                turn = (turn + 7919) % count;
                let id = flows.find(black_box(&flow_key(turn)));
                if let Some(id) = id {
                    flows.touch(id, Instant(turn));
                }
                id
            });
        });
    }
    group.finish();
}

/// A change of a load balancer: read, and compared with what is in force.
fn change(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change");
    group.sample_size(20);
    for listeners in [1, 1000] {
        let text = spec(listeners, "round_robin", 10, &json!([])).to_string();
        let parsed = || -> Snapshot {
            let spec: SnapshotSpec = serde_json::from_str(&text).expect("a spec");
            Snapshot::parse(spec).expect("a valid one")
        };
        group.bench_function(BenchmarkId::new("parse", listeners), |bencher| {
            bencher.iter(parsed);
        });
        let (old, new) = (parsed(), parsed());
        group.bench_function(BenchmarkId::new("transition", listeners), |bencher| {
            bencher.iter(|| Transition::between(black_box(Some(&old)), Some(&new)));
        });
    }
    group.finish();
}

struct Request<'a> {
    host: &'a [u8],
    path: &'a [u8],
    lines: &'a [(&'a str, &'a [u8])],
}

impl Head for Request<'_> {
    fn host(&self) -> &[u8] {
        self.host
    }

    fn path(&self) -> &[u8] {
        self.path
    }

    fn any_line(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let mut lines = self.lines.iter().filter(|(line, _)| *line == name);
        lines.any(|(_, value)| test(value))
    }
}

fn client(turn: u64) -> SocketAddr {
    let [.., a, b, c] = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    SocketAddr::from(([10, a, b, c], 40_000))
}

fn flow_key(turn: u64) -> FlowKey {
    let [.., a, b, c] = turn.to_be_bytes();
    FlowKey {
        door: 1,
        client: SocketAddr::from(([10, a, b, c], 40_000)),
    }
}

fn id(kind: u128, number: usize) -> Uuid {
    Uuid::from_u128((0x4000_8000 << 64) | (kind << 32) | number as u128)
}

/// A load balancer of so many listeners, each with a pool of so many members.
fn spec(listeners: usize, algorithm: &str, members: usize, policies: &Value) -> Value {
    let member = |pool: usize, number: usize| {
        let address = IpAddr::V4(Ipv4Addr::from_bits(
            0x0a00_0001 + u32::try_from(number).expect("few"),
        ));
        json!({"id": id(4, pool * members + number), "address": address, "port": 80})
    };
    let pools: Vec<_> = (0..listeners)
        .map(|pool| {
            let members: Vec<_> = (0..members).map(|number| member(pool, number)).collect();
            json!({"id": PoolId::new(id(3, pool)), "protocol": "http", "algorithm": algorithm, "members": members})
        })
        .collect();
    let listeners: Vec<_> = (0..listeners)
        .map(|number| {
            json!({"id": id(2, number), "protocol": "http", "port": 1000 + number, "default_pool": id(3, number),
                "policies": policies})
        })
        .collect();
    json!({"load_balancer": id(1, 0), "generation": 1, "vips": [{"address": "192.0.2.1"}],
        "listeners": listeners, "pools": pools})
}

fn balancer(listeners: usize, algorithm: &str, members: usize, policies: &Value) -> Snapshot {
    let spec =
        serde_json::from_value(spec(listeners, algorithm, members, policies)).expect("a spec");
    Snapshot::parse(spec).expect("a valid one")
}

criterion_group!(hot, choose, gate, policies, flows, change);
criterion_main!(hot);
