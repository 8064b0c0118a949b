//! The pure functions that every connection, request or datagram passes through:
//! `cargo bench -p krater-tests --bench hot`, with `-- --quick` behind it for a first look.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use krater_amphora::fuzz;
use krater_amphora_api::{MemberId, PoolId, SnapshotSpec};
use krater_amphora_core::{
    affinity::{Handles, Key, Sessions},
    cookie::{OWN, Trail, pairs, without},
    flow::{FlowKey, Flows},
    gate::{Cidrs, Judgement, Source, SourceRate, WAYS},
    l7::Head,
    limits::SOURCE_SETS,
    proxy_protocol::{Header, Origin, Version, parse},
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
    for (name, algorithm, weights) in [
        ("round_robin", "round_robin", 1),
        ("least_connections", "least_connections", 1),
        ("source_ip", "source_ip", 1),
        ("source_ip_port", "source_ip_port", 1),
        ("source_ip_of_unequal_weights", "source_ip", 3),
    ] {
        for members in [10, 1000] {
            let mut spec = spec(1, algorithm, members, &json!([]));
            let listed = spec["pools"][0]["members"].as_array_mut().expect("a list");
            for (position, member) in listed.iter_mut().enumerate() {
                member["weight"] = json!(1 + position % weights);
            }
            let roster = Roster::build(&parsed(spec).pools()[0], |_| true);
            let mut turn = 0_u64;
            // Nobody is idle, so that least connections has to look at everybody.
            let load = |position: usize| 1 + u32::try_from(position % 7).expect("below seven");
            group.bench_function(BenchmarkId::new(name, members), |bencher| {
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

/// Judging how often a source connects: once per connection of a listener with a rate.
fn rate(criterion: &mut Criterion) {
    let rate = SourceRate::new(100).expect("a rate");
    let mut sets = vec![[0; WAYS]; SOURCE_SETS];
    let mut turn = 0;
    criterion.bench_function("rate", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let source = Source::of(black_box(client(turn % 50_000).ip()), 7);
            let slots = &mut sets[source.set()];
            let judged = rate.judge(source, slots, Instant(turn * 1_000));
            if let Judgement::Admit { way, next } = judged {
                slots[way] = next;
            }
            judged
        });
    });
}

/// Finding the member of a session that is known, and learning one: once per connection or request of a pool that
/// keeps clients.
fn sessions(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("sessions");
    let snapshot = balancer(1, "round_robin", 10, &json!([]));
    let handles = Handles::default().follow(&snapshot.pools()[0].members, |_| {});
    let handle = handles.of(0).expect("a member");
    let sessions = Sessions::new(Key([1, 2]), Instant(0));
    // As long as what applications call their sessions by.
    let value = |turn: u64| [turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes(); 4];
    for turn in 0..10_000 {
        sessions.learn(value(turn).as_flattened(), handle, Instant(0));
    }
    let mut turn = 0;
    group.bench_function("find", |bencher| {
        bencher.iter(|| {
            turn = (turn + 7919) % 10_000;
            sessions.find(black_box(value(turn).as_flattened()), Instant(turn))
        });
    });
    group.bench_function("learn", |bencher| {
        bencher.iter(|| {
            turn += 1;
            sessions.learn(black_box(value(turn).as_flattened()), handle, Instant(turn));
        });
    });
    group.finish();
}

/// A header of the PROXY protocol: written once per connection to a member that asks for it.
fn proxy_header(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("proxy");
    for (name, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        let mut turn = 0;
        group.bench_function(BenchmarkId::new("write", name), |bencher| {
            bencher.iter(|| {
                turn += 1;
                let origin = Origin::between(client(turn), client(turn + 1));
                Header::new(version, black_box(origin))
            });
        });
        let header = Header::new(version, Origin::between(client(1), client(2)));
        group.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| parse(black_box(header.as_bytes())));
        });
    }
    group.finish();
}

/// The cookie that names members: read and taken out once per request, written once per client.
fn cookies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cookie");
    let mut trail = Trail::default();
    for number in 0..2 {
        trail = trail.followed_by(MemberId::new(id(4, number)), |_| true);
    }
    let set = trail.set_cookie();
    let pair = set.split(';').next().expect("a pair");
    let line = format!("theme=dark; {pair}; session=0123456789abcdef");
    group.bench_function("read", |bencher| {
        bencher.iter(|| {
            let mut read = Trail::default();
            for (name, value) in pairs(black_box(line.as_bytes())) {
                if name == OWN.as_bytes() {
                    read.read(value);
                }
            }
            read
        });
    });
    group.bench_function("take_out", |bencher| {
        bencher.iter(|| without(black_box(line.as_bytes()), OWN));
    });
    group.bench_function("write", |bencher| {
        bencher.iter(|| black_box(&trail).set_cookie());
    });
    group.finish();
}

/// A message of HTTP/1 through all of the codec: head read, checked, made fit for the next hop and written, and its body.
fn messages(criterion: &mut Criterion) {
    const GET: &str = "GET /shop/cart?item=7 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.5.0\r\n\
        Accept: */*\r\nAccept-Encoding: gzip\r\nCookie: a=1; session=2\r\n\r\n";
    const POST: &str = "POST /shop/cart HTTP/1.1\r\nHost: www.example.com\r\nContent-Type: text/plain\r\n\
        Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: x\r\n\
        Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello";
    let mut group = criterion.benchmark_group("http1");
    for (name, text) in [("get", GET), ("chunked_post", POST)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| fuzz::request(black_box(text.as_bytes()), text.len()).expect("one"));
        });
    }
    group.bench_function("answer", |bencher| {
        bencher.iter(|| {
            fuzz::answer(black_box(OK.as_bytes()), &http::Method::GET, OK.len()).expect("one")
        });
    });
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
    // Every client is a new one, and the table is full: whoever was silent longest goes.
    let mut flows = Flows::new(10_000, 7);
    let mut turn = 0_u64;
    group.bench_function("admit_to_a_full_table", |bencher| {
        bencher.iter(|| {
            turn += 1;
            let (key, idle) = (flow_key(turn), Duration::from_secs(60));
            if flows.is_full()
                && let Some(oldest) = flows.oldest()
            {
                flows.remove(oldest);
            }
            flows.admit(black_box(key), Instant(turn), idle, turn);
        });
    });
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
    parsed(spec(listeners, algorithm, members, policies))
}

fn parsed(spec: Value) -> Snapshot {
    let spec = serde_json::from_value(spec).expect("a spec");
    Snapshot::parse(spec).expect("a valid one")
}

criterion_group!(
    hot,
    choose,
    gate,
    rate,
    sessions,
    proxy_header,
    cookies,
    messages,
    policies,
    flows,
    change
);
criterion_main!(hot);
