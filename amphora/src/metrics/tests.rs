//! The table, the documentation and what is served say the same.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path, time::Duration};

use krater_amphora_api::{AnnouncementReport, AnnouncementState, BootId, Cause, SnapshotSpec};
use krater_amphora_core::snapshot::Snapshot;

use super::{
    table::{Kind, TABLE},
    *,
};
use crate::{
    local::Common,
    probe::{Meters, ProbeMeter},
    tallies::Tallies,
    testbed::authority::{Authority, tls},
    world::World,
};

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

/// The table as it is documented.
fn document() -> String {
    let mut text = String::from(
        "# Metrics of krater-amphora\n\n\
         Served as Prometheus text at `/metrics` on the address set by `metrics`. Labels hold ids of resources or\n\
         words of a closed set. Counters count from the start of the process; `krater_amphora_boot_info` tells runs\n\
         apart.\n\n\
         | name | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for metric in TABLE {
        let labels = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect::<Vec<_>>()
            .join(" ");
        let _ = writeln!(
            text,
            "| `{}` | {} | {labels} | {} |",
            metric.name,
            kind_name(metric.kind),
            metric.help
        );
    }
    text
}

/// Run with `KRATER_BLESS=1` to write the documentation anew.
#[test]
fn the_documentation_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("METRICS.md");
    if std::env::var_os("KRATER_BLESS").is_some() {
        fs::write(&path, document()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), document());
}

fn causes_document() -> String {
    let mut text = String::from(
        "# Causes of failures\n\n\
         A request that fails, or a connection or datagram of a listener that carries no HTTP, has one cause. It is\n\
         counted in `krater_amphora_listener_failures_total`, shown by `krater lb causes`, told in the access log, and said\n\
         to HTTP clients in `x-krater-cause` where they get an answer of ours. A request that another member served\n\
         after a first one failed has not failed; the try is counted in `krater_amphora_member_failures_total`. If all\n\
         tries failed, the cause is that of the last one.\n\n\
         Names never change their meaning. An answer of a member is no failure, whatever its status.\n\n\
         | cause | fault of | meaning |\n|---|---|---|\n",
    );
    for cause in Cause::ALL {
        let side = cause.side().name().replace('_', " ");
        let _ = writeln!(
            text,
            "| `{}` | {side} | {} |",
            cause.name(),
            cause.meaning()
        );
    }
    text
}

/// Run with `KRATER_BLESS=1` to write the documentation anew.
#[test]
fn every_cause_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("CAUSES.md");
    if std::env::var_os("KRATER_BLESS").is_some() {
        fs::write(&path, causes_document()).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), causes_document());
}

#[test]
fn names_are_unique_and_follow_the_rules() {
    let names: BTreeSet<&str> = TABLE.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), TABLE.len());
    for metric in TABLE {
        assert!(metric.name.starts_with("krater_"), "{}", metric.name);
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
    }
}

fn scrape() -> Scrape {
    let spec = serde_json::json!({
        "load_balancer": "00000000-0000-4000-8000-000000000001", "generation": 3,
        "vips": [{"address": "127.0.0.1"}],
        "announcement": {"virtual_router": 1, "priority": 100, "address": "127.0.0.2", "peers": ["127.0.0.3"]},
        "listeners": [{"id": "00000000-0000-4000-8000-000000000002", "protocol": "http", "port": 80,
            "default_pool": "00000000-0000-4000-8000-000000000003"},
            {"id": "00000000-0000-4000-8000-000000000006", "protocol": "udp", "port": 80}],
        "pools": [{"id": "00000000-0000-4000-8000-000000000003", "protocol": "http",
            "members": [{"id": "00000000-0000-4000-8000-000000000004", "address": "192.0.2.1", "port": 80}],
            "monitor": {"id": "00000000-0000-4000-8000-000000000005", "probe": {"type": "tcp"},
                "delay_ms": 1000, "timeout_ms": 1000, "rise": 1, "fall": 1}}],
    });
    let mut spec: SnapshotSpec = serde_json::from_value(spec).unwrap();
    let certificate = Authority::new("authority").issue(&["a.example"]);
    spec.listeners[0].tls = Some(tls(certificate));
    let snapshot = Snapshot::parse(spec).unwrap();
    let lb = snapshot.load_balancer();
    let member = snapshot.pools()[0].members[0].id;
    let world = World::default();
    let world = world.with(lb, Some(world.prepare(snapshot).unwrap()), 1);
    let active = AnnouncementReport {
        state: AnnouncementState::Active,
        since_ms: Some(1),
        aside: false,
        reason: None,
    };
    let standing = world.balancers[&lb].standing.as_ref().unwrap();
    standing.store(Some(Arc::new(active)));
    let pool = world.balancers[&lb].pools[0].clone();
    let lane = pool.members[0].meter.of(0);
    lane.responses.count(200);
    lane.queued.bump();
    lane.failures.count(Cause::MemberRefused);
    let listener = &world.balancers[&lb].listeners[0];
    let lane = listener.shared.meter.of(0);
    lane.failures.count(Cause::MemberRefused);
    pool.members[0]
        .meter
        .of(0)
        .durations
        .count(Duration::from_millis(1));
    let meter = ProbeMeter::default();
    meter
        .last_nanoseconds
        .store(1, std::sync::atomic::Ordering::Relaxed);
    let tallies = Tallies::default();
    tallies.heartbeat_last.set_to_now();
    tallies.certificate_expiry.set_to_now();
    tallies.reload_last.set_to_now();
    tallies.file_flaws.set(0);
    tallies.filter_failed.set(0);
    Scrape {
        world: Arc::new(world),
        probes: Meters::from([((lb, member), Arc::new(meter))]),
        tallies: Arc::new(tallies),
        common: Common::new(1, Duration::ZERO),
        amphora: None,
        boot: BootId::new(uuid::Uuid::nil()),
        workers: 1,
        session_peers: vec![(krater_amphora_api::AmphoraId::new(uuid::Uuid::nil()), true)],
    }
}

#[test]
fn every_declared_series_is_served_and_no_other() {
    let text = render(scrape()).unwrap();
    let served: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.to_owned())
        .collect();
    let declared: BTreeSet<String> = TABLE
        .iter()
        .map(|metric| format!("{} {}", metric.name, kind_name(metric.kind)))
        .collect();
    assert_eq!(served, declared);
}

#[test]
fn labels_are_as_declared() {
    let text = render(scrape()).unwrap();
    for metric in TABLE.iter().filter(|metric| !metric.labels.is_empty()) {
        let line = text
            .lines()
            .find(|line| {
                line.starts_with(metric.name) && line.as_bytes()[metric.name.len()] != b' '
            })
            .unwrap_or_else(|| panic!("{} is not served", metric.name));
        for label in metric.labels {
            assert!(line.contains(&format!("{label}=\"")), "{label} in {line}");
        }
    }
}
