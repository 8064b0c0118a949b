//! `krater-amphora run`: a file, a signal, and nothing else.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{Member, Process, body, free_port, get, wait_for};

struct Bench {
    _folder: TempDir,
    file: PathBuf,
}

impl Bench {
    fn new(balancers: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Self {
            file: folder.path().join("snapshot.json"),
            _folder: folder,
        };
        bench.write(balancers);
        bench
    }

    fn write(&self, balancers: &Value) {
        fs::write(
            &self.file,
            json!({ "load_balancers": balancers }).to_string(),
        )
        .unwrap();
    }

    fn run(&self, more: &[&str]) -> Process {
        let mut arguments = vec![
            "run",
            "--snapshot",
            self.file.to_str().unwrap(),
            "--drain",
            "1s",
            "--workers",
            "2",
        ];
        arguments.extend(more);
        Process::start(&arguments)
    }
}

fn balancer(name: &str, port: u16, member: &Member) -> Value {
    json!({
        "name": name, "vips": ["127.0.0.1"],
        "listeners": [{"protocol": "http", "port": port, "default_pool": "pool"}],
        "pools": [{"name": "pool", "protocol": "http",
            "members": [{"address": "127.0.0.1", "port": member.address.port()}]}],
    })
}

#[test]
fn a_file_is_served_reread_on_sighup_and_drained_on_sigterm() {
    let (one, two) = (Member::start("one"), Member::start("two"));
    let (first, second) = (free_port(), free_port());
    let bench = Bench::new(&json!([balancer("a", first, &one)]));
    let mut amphora = bench.run(&[]);
    assert_eq!(wait_for("the first answer", || body(first)), "one");
    bench.write(&json!([
        balancer("a", first, &one),
        balancer("b", second, &two)
    ]));
    amphora.signal(Signal::HUP);
    assert_eq!(wait_for("the second load balancer", || body(second)), "two");
    amphora.wait_for_log("changed=1 unchanged=1 removed=0");
    bench.write(&json!([balancer("b", second, &one)]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("changed=1 unchanged=0 removed=1");
    assert_eq!(body(second).unwrap(), "one");
    assert_eq!(
        wait_for("the first port to close", || body(first)
            .is_none()
            .then_some(())),
        ()
    );
    amphora.signal(Signal::TERM);
    assert_eq!(amphora.wait_for_end().code(), Some(0));
}

#[test]
fn load_balancers_may_pass_parts_on_and_exchange_them() {
    let (one, two) = (Member::start("one"), Member::start("two"));
    let (first, second) = (free_port(), free_port());
    let part = |mut balancer: Value, number: u32| {
        let id = |kind: u32| format!("00000000-0000-4000-8000-{:012}", kind * 100 + number);
        balancer["listeners"][0]["id"] = json!(id(1));
        balancer["pools"][0]["id"] = json!(id(2));
        balancer["pools"][0]["members"][0]["id"] = json!(id(3));
        balancer
    };
    let (a, b) = (balancer("a", first, &one), balancer("b", second, &two));
    let bench = Bench::new(&json!([part(a.clone(), 1), part(b.clone(), 2)]));
    let amphora = bench.run(&[]);
    wait_for("the first answer", || body(first));
    // `a` takes what `b` lets go of further down.
    let mut c = part(balancer("c", free_port(), &one), 4);
    let both_answer = || {
        assert_eq!(body(first).unwrap(), "one");
        assert_eq!(body(second).unwrap(), "two");
    };
    bench.write(&json!([part(a.clone(), 2), part(b.clone(), 3), c]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("changed=3 unchanged=0");
    both_answer();
    bench.write(&json!([part(a, 3), part(b, 2), c]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("changed=2 unchanged=1");
    both_answer();
    c["pools"][0]["members"][0]["id"] = json!("00000000-0000-4000-8000-000000000302");
    bench.write(&json!([part(balancer("b", second, &two), 2), c]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log(
        "member 00000000-0000-4000-8000-000000000302 is already that of load_balancers[0]",
    );
}

#[test]
fn a_bad_file_is_refused_with_every_reason_and_the_old_one_goes_on() {
    let member = Member::start("one");
    let (port, metrics) = (free_port(), free_port());
    let bench = Bench::new(&json!([balancer("a", port, &member)]));
    let amphora = bench.run(&["--metrics", &format!("127.0.0.1:{metrics}")]);
    wait_for("the first answer", || body(port));
    bench.write(&json!([{"name": 1, "vips": ["127.0.0.1"], "listeners": [{"port": 1}]}]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("is refused");
    let log = amphora.log();
    for path in [
        "load_balancers[0].name",
        "load_balancers[0].listeners[0].protocol",
    ] {
        assert!(log.contains(path), "{path} in {log}");
    }
    assert_eq!(body(port).unwrap(), "one");
    let (_, text) = get((Ipv4Addr::LOCALHOST, metrics), "/metrics").unwrap();
    assert!(
        text.contains("\nkrater_amphora_snapshot_file_flaws 2\n"),
        "{text}"
    );
    assert!(
        text.contains("\nkrater_amphora_reloads_total{result=\"refused\"} 1\n"),
        "{text}"
    );
    fs::write(&bench.file, "{\"load_balancers\": [\n,]}").unwrap();
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("line 2 column 1");
    bench.write(&json!([balancer("a", port, &member)]));
    amphora.signal(Signal::HUP);
    amphora.wait_for_log("changed=0 unchanged=1");
    assert_eq!(body(port).unwrap(), "one");
}

#[test]
fn a_bad_file_at_the_start_ends_with_78_and_says_why() {
    let bench = Bench::new(&json!([{"vips": []}, {"vips": ["nowhere"]}]));
    let mut amphora = bench.run(&[]);
    assert_eq!(amphora.wait_for_end().code(), Some(78));
    amphora.wait_for_log("load_balancers[0]: ");
    amphora.wait_for_log("load_balancers[1].vips[0]: ");
    let mut usage = Process::start(&["run"]);
    assert_eq!(usage.wait_for_end().code(), Some(2));
}

#[test]
fn probes_take_a_member_out_and_bring_it_back() {
    let (one, two) = (Member::start("one"), Member::start("two"));
    let (port, metrics) = (free_port(), free_port());
    let mut balancer = balancer("a", port, &one);
    balancer["pools"][0]["members"]
        .as_array_mut()
        .unwrap()
        .push(json!(
            {"address": "127.0.0.1", "port": two.address.port()}
        ));
    balancer["pools"][0]["monitor"] = json!({"delay_ms": 50, "timeout_ms": 2000, "rise": 2, "fall": 2, "probe":
        {"type": "http", "method": "GET", "path": "/", "expected_codes": [{"first": 200, "last": 200}]}});
    let bench = Bench::new(&json!([balancer]));
    let _amphora = bench.run(&["--metrics", &format!("127.0.0.1:{metrics}")]);
    let answers = |wanted: &[&str]| {
        let found: Vec<_> = (0..4).filter_map(|_| body(port)).collect();
        (found.len() == 4
            && wanted
                .iter()
                .all(|name| found.iter().any(|body| body == name)))
        .then_some(found)
    };
    wait_for("both members to answer", || answers(&["one", "two"]));
    one.set_sick(true);
    let usable = || {
        let (_, text) = get((Ipv4Addr::LOCALHOST, metrics), "/metrics")?;
        let line = text
            .lines()
            .find(|line| line.starts_with("krater_amphora_pool_members_usable{"))?;
        line.rsplit(' ').next()?.parse::<u32>().ok()
    };
    wait_for("the sick member to be out", || {
        (usable()? == 1).then_some(())
    });
    assert!(answers(&["two"]).unwrap().iter().all(|body| body == "two"));
    one.set_sick(false);
    wait_for("the member to be back", || answers(&["one", "two"]));
}
