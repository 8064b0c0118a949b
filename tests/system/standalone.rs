//! The data plane alone: `krater-amphora run --snapshot FILE`.

use std::{net::SocketAddr, process::Command, thread, time::Duration};

use krater_tests::{
    HttpMember, Load, Namespace, Standalone, TcpMember, binary, fetch, run_to_end, until,
};
use serde_json::{Value, json};

use crate::scene::{SETTLE_MAX, ask};

#[test]
fn a_snapshot_file_is_served_and_read_again_on_sighup() {
    let _network = Namespace::enter_new();
    let members = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let vip = vip();
    let mut amphora = Standalone::start(&snapshot(1, &[members[0].address()]), vip);
    assert_eq!(ask(vip, 3).get("a"), Some(&3));
    amphora.reload(&snapshot(2, &[members[1].address()]).to_string());
    until("the new member answers", SETTLE_MAX, || {
        ask(vip, 1).contains_key("b")
    });
    assert!(
        amphora.program().terminate().success(),
        "{}",
        amphora.program().output()
    );
}

#[test]
fn a_bad_file_is_refused_with_every_reason_and_the_old_configuration_goes_on() {
    let _network = Namespace::enter_new();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let vip = vip();
    let mut amphora = Standalone::start(&snapshot(1, &[member.address()]), vip);
    let mut bad = snapshot(2, &[member.address()]);
    let balancer = &mut bad["load_balancers"][0];
    balancer["listeners"][0]["port"] = json!(0);
    balancer["pools"][0]["members"][0]["weight"] = json!(300);
    amphora.reload(&bad.to_string());
    until("both reasons are shown", SETTLE_MAX, || {
        let said = amphora.program().output();
        said.contains("port") && said.contains("weight")
    });
    assert_eq!(
        ask(vip, 2).get("a"),
        Some(&2),
        "the old configuration goes on"
    );
    amphora.reload("{ not json");
    until("the broken file is reported", SETTLE_MAX, || {
        amphora.program().output().contains("snapshot.json")
    });
    assert_eq!(ask(vip, 2).get("a"), Some(&2));
}

#[test]
fn a_bad_file_at_the_start_ends_the_program_with_every_reason() {
    let _network = Namespace::enter_new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("bad.json");
    let mut bad = snapshot(1, &["127.0.0.1:1".parse().expect("an address")]);
    bad["load_balancers"][0]["listeners"][0]["port"] = json!(0);
    bad["load_balancers"][0]["pools"][0]["members"][0]["weight"] = json!(300);
    std::fs::write(&file, bad.to_string()).expect("the file can be written");
    let (status, said) = run_to_end(
        Command::new(binary("krater-amphora"))
            .args(["run", "--snapshot"])
            .arg(&file),
        Duration::from_secs(10),
    );
    assert!(!status.success());
    assert!(said.contains("port") && said.contains("weight"), "{said}");
}

#[test]
fn a_file_with_many_load_balancers_serves_them_all() {
    let _network = Namespace::enter_new();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let balancers: Vec<Value> = (1..=20_u8)
        .map(|number| balancer(number, 1, &[member.address()]))
        .collect();
    let _amphora = Standalone::start(&json!({"load_balancers": balancers}), vip());
    for number in 1..=20_u8 {
        let vip = SocketAddr::from(([127, 77, 0, number], 80));
        until("every VIP answers", SETTLE_MAX, || {
            fetch(vip, "/").is_ok_and(|answer| answer.status == 200)
        });
    }
}

#[test]
fn reloads_cost_no_request_and_no_stream_under_load() {
    let _network = Namespace::enter_new();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let echo = TcpMember::start("echo", "127.0.0.1:0");
    let variant = |count: usize| {
        let addresses: Vec<_> = members[..count].iter().map(HttpMember::address).collect();
        let mut snapshot = snapshot(1, &addresses);
        let balancer = &mut snapshot["load_balancers"][0];
        let echo = json!([{"address": "127.0.0.1", "port": echo.address().port()}]);
        push(
            &mut balancer["pools"],
            json!({"name": "echo", "protocol": "tcp", "members": echo}),
        );
        push(
            &mut balancer["listeners"],
            json!({"protocol": "tcp", "port": 90, "default_pool": "echo"}),
        );
        if count == 2 {
            push(
                &mut balancer["listeners"],
                json!({"protocol": "http", "port": 81}),
            );
        }
        snapshot
    };
    let mut amphora = Standalone::start(&variant(1), vip());
    let mut load = Load::new();
    load.add_http(vip(), 8, Duration::from_millis(2));
    load.add_streams(SocketAddr::new(vip().ip(), 90), 8, Duration::from_millis(5));
    for reload in 0..60 {
        amphora.reload(&variant(1 + reload % 3).to_string());
        thread::sleep(Duration::from_millis(50));
    }
    let report = load.finish();
    assert!(
        report.failures.is_empty(),
        "{} of {}: {}",
        report.failures.len(),
        report.requests,
        report.failures[0]
    );
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(
        (report.streams, report.members.len()),
        (8, 3),
        "{:?}",
        report.members
    );
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().expect("a list").push(item);
}

fn snapshot(generation: u64, members: &[SocketAddr]) -> Value {
    json!({"load_balancers": [balancer(1, generation, members)]})
}

fn balancer(number: u8, generation: u64, members: &[SocketAddr]) -> Value {
    let id =
        |kind: u8, index: usize| format!("00000000-0000-4000-8{kind:03}-{number:06}{index:06}");
    let members: Vec<Value> = (0..)
        .zip(members)
        .map(|(index, member)| {
            // By port, so that another member is another id.
            let id = format!(
                "00000000-0000-4000-8004-{number:02}{index:04}{:06}",
                member.port()
            );
            json!({"id": id, "address": member.ip().to_string(), "port": member.port()})
        })
        .collect();
    json!({
        "load_balancer": id(1, 0),
        "name": format!("lb{number}"),
        "generation": generation,
        "vips": [{"address": format!("127.77.0.{number}")}],
        "listeners": [{"id": id(2, 0), "protocol": "http", "port": 80, "default_pool": id(3, 0)}],
        "pools": [{"id": id(3, 0), "protocol": "http", "members": members}],
    })
}

fn vip() -> SocketAddr {
    SocketAddr::from(([127, 77, 0, 1], 80))
}
