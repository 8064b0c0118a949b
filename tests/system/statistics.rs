//! What tenants read of their traffic: it is right, and it never falls.

use krater_tests::{HttpMember, fetch, until};
use serde_json::Value;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, ask};

#[test]
fn statistics_count_every_connection_and_never_fall_when_an_amphora_dies() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let path = format!("loadbalancers/{}/stats", tree.id);
    ask(tree.at(80), 10);
    until("ten connections are counted", NOTICE_MAX, || {
        total(&scene.api.get(&path)) == 10
    });
    let before = scene.api.get(&path);
    scene.krater.kill_amphorae();
    until("the VIP answers again", SETTLE_MAX, || {
        fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    let mut last = before.clone();
    until("the new connections are added", NOTICE_MAX, || {
        let now = scene.api.get(&path);
        for field in [
            "total_connections",
            "bytes_in",
            "bytes_out",
            "request_errors",
        ] {
            let (was, is) = (number(&last, field), number(&now, field));
            assert!(is >= was, "{field} fell from {was} to {is}");
        }
        last = now;
        total(&last) > 10
    });
    assert!(number(&before, "bytes_out") > 0);
    let listener = scene.api.get(&format!("listeners/{}/stats", tree.listener));
    assert!(total(&listener) > 10);
    // Nearly all of that was told as what changed since the report before.
    until("reports are told by what changed", NOTICE_MAX, || {
        reports("followed") > reports("not_following")
    });
}

/// How many reports of amphorae came to that.
fn reports(outcome: &str) -> u64 {
    let address = "127.0.0.1:9878".parse().expect("an address");
    let text = fetch(address, "/metrics").expect("metrics").text();
    let name = format!("krater_controller_reports_total{{outcome=\"{outcome}\"}} ");
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(&name));
    value.map_or(0, |value| value.parse().expect("a number"))
}

fn total(stats: &Value) -> u64 {
    number(stats, "total_connections")
}

fn number(stats: &Value, field: &str) -> u64 {
    stats["stats"][field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field} in {stats}"))
}
