//! Amphorae that take turns at addresses by VRRP, among themselves and with keepalived.

use std::{fs, net::SocketAddr, process::Command, thread, time::Duration};

use krater_tests::{
    HostedAmphorae, Krater, Load, Namespace, Octavia, Pair, PairedAmphora, Signal, TcpMember,
    binary, host_token, run_to_end, until, until_some, vips,
};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, text};

#[test]
fn the_preferred_one_serves_and_the_other_one_takes_over_from_who_is_silent() {
    let pair = Pair::new();
    let (a, _b) = both(&pair);
    // Stopped, it says nothing and takes nothing away.
    a.signal_agent(Signal::STOP);
    until("the other one has the VIPs", BOUND, || pair.has_vips(1));
    pair.wait_served_by(1, BOUND);
    a.signal_agent(Signal::CONT);
    // Preferred as it is, it takes nothing from who serves.
    pair.wait_held_by(1, BOUND);
    thread::sleep(Duration::from_secs(1));
    pair.wait_held_by(1, BOUND);
    pair.wait_served_by(1, BOUND);
}

#[test]
fn who_ends_leaves_the_addresses_to_the_other_one_and_gets_them_back_when_that_ends() {
    let pair = Pair::new();
    let (mut a, mut b) = both(&pair);
    let (gap, lost) = pair.gap(
        || {
            a.program().terminate();
        },
        Duration::from_millis(500),
    );
    assert!(gap < Duration::from_secs(1), "{gap:?}, {lost} lost");
    pair.wait_held_by(1, BOUND);
    pair.wait_served_by(1, BOUND);
    let _again = pair.amphora(0, &pair.spec(0, 100, 100));
    thread::sleep(Duration::from_secs(1));
    pair.wait_held_by(1, BOUND);
    b.program().terminate();
    pair.wait_held_by(0, BOUND);
    pair.wait_served_by(0, BOUND);
}

#[test]
fn an_agent_that_dies_goes_on_with_its_addresses_when_it_is_started_again() {
    let pair = Pair::new();
    let (a, _b) = both(&pair);
    let before = a.agent();
    a.signal_agent(Signal::KILL);
    until("another agent is there", BOUND, || {
        a.agent().is_some_and(|pid| Some(pid) != before)
    });
    // Either it was quick, or the other one has them: never both for long, never nobody.
    until("one of them alone has the VIPs", BOUND, || {
        pair.has_vips(0) != pair.has_vips(1)
    });
    let at = usize::from(pair.has_vips(1));
    pair.wait_served_by(at, BOUND);
}

#[test]
fn the_supervisor_of_an_agent_that_keeps_dying_leaves_its_addresses_to_the_other_one() {
    let pair = Pair::new();
    let (a, _b) = both(&pair);
    // What is kept cannot be read by the next one, which serves nothing then, and has no certificate: it ends.
    let kept = a.state_folder().join("load-balancers");
    for file in fs::read_dir(&kept).expect("a folder").flatten() {
        fs::remove_file(file.path()).expect("a file");
    }
    a.signal_agent(Signal::KILL);
    pair.wait_held_by(1, BOUND);
    pair.wait_served_by(1, BOUND);
}

#[test]
fn who_loses_its_link_gives_the_addresses_up() {
    let pair = Pair::new();
    let (_a, _b) = both(&pair);
    pair.cable(0, false);
    pair.wait_held_by(1, BOUND);
    pair.wait_served_by(1, BOUND);
    pair.cable(0, true);
    thread::sleep(Duration::from_secs(1));
    pair.wait_held_by(1, BOUND);
}

#[test]
fn two_that_do_not_hear_each_other_both_serve_and_agree_once_they_do() {
    let pair = Pair::new();
    let (_a, _b) = both(&pair);
    pair.part(0, false);
    until("both have the VIPs", BOUND, || {
        pair.has_vips(0) && pair.has_vips(1)
    });
    pair.wait_served_by(1, BOUND);
    pair.part(0, true);
    pair.wait_held_by(0, BOUND);
    pair.wait_served_by(0, BOUND);
}

#[test]
fn an_amphora_and_keepalived_take_turns_whichever_was_first() {
    let pair = Pair::new();
    let mut keepalived = pair.keepalived(0, 100, 100);
    pair.wait_held_by(0, BOUND);
    let mut amphora = pair.amphora(1, &pair.spec(1, 150, 100));
    thread::sleep(Duration::from_secs(1));
    // Preferred, it leaves alone who serves.
    pair.wait_held_by(0, BOUND);
    // Says goodbye.
    keepalived.program().terminate();
    pair.wait_held_by(1, BOUND);
    pair.wait_served_by(1, BOUND);
    let mut keepalived = pair.keepalived(0, 200, 100);
    thread::sleep(Duration::from_secs(1));
    pair.wait_held_by(1, BOUND);
    // Silent.
    amphora.program().signal(Signal::STOP);
    amphora.signal_agent(Signal::STOP);
    until("keepalived has the VIPs", BOUND, || pair.has_vips(0));
    amphora.signal_agent(Signal::CONT);
    amphora.program().signal(Signal::CONT);
    pair.wait_held_by(0, BOUND);
    // Silent in turn.
    keepalived.program().kill();
    until("the amphora has the VIPs", BOUND, || pair.has_vips(1));
    pair.wait_served_by(1, BOUND);
    let _keepalived = pair.keepalived(0, 200, 100);
    amphora.program().terminate();
    pair.wait_held_by(0, BOUND);
}

#[test]
fn a_new_process_takes_over_and_the_addresses_stay_where_they_are() {
    let pair = Pair::new();
    let member = pair.on(0, || TcpMember::start("a", "127.0.0.1:0"));
    let streams = |at: usize, priority: u8| {
        // Long enough for an agent to be killed and back in between.
        let mut spec = pair.spec(at, priority, 2_000);
        let id = |number: u8| format!("00000000-0000-4000-8000-0000000000{number:02}");
        let listener = json!({"id": id(12), "protocol": "tcp", "port": 90, "default_pool": id(13)});
        let (to, port) = (member.address().ip(), member.address().port());
        let members = json!([{"id": id(14), "address": to, "port": port}]);
        let pool = json!({"id": id(13), "protocol": "tcp", "members": members});
        for (name, one) in [("listeners", listener), ("pools", pool)] {
            spec[name].as_array_mut().expect("a list").push(one);
        }
        spec
    };
    let mut a = pair.amphora(0, &streams(0, 100));
    a.certify();
    pair.wait_held_by(0, BOUND);
    let b = pair.amphora(1, &streams(1, 90));
    pair.wait_served_by(0, BOUND);
    until("the other one listens", BOUND, || b.agent().is_some());
    let mut load = Load::new();
    pair.as_client(|| {
        for vip in vips() {
            let address = SocketAddr::new(vip.ip(), 90);
            load.add_connections(address, 2, Duration::from_millis(2));
            load.add_streams(address, 1, Duration::from_millis(10));
        }
    });
    for _ in 0..2 {
        let (gap, lost) = pair.gap(
            || {
                a.succeed(BOUND);
            },
            Duration::from_millis(300),
        );
        assert!(gap < Duration::from_secs(1), "{gap:?}, {lost} lost");
        assert!(pair.has_vips(0) && !pair.has_vips(1));
    }
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.broken.is_empty(), "{:?}", report.broken);

    // Nor do they move when the one that is succeeded had only just come up after a death.
    let log = a.log().len();
    a.signal_agent(Signal::KILL);
    until("another agent serves", BOUND, || {
        a.log()[log..].contains("serving what was kept")
    });
    a.succeed(BOUND);
    thread::sleep(Duration::from_millis(1_500));
    assert!(!a.log().contains("were taken away"), "{}", a.log());
    pair.wait_served_by(0, BOUND);
    assert!(!b.log().contains("takes over"), "{}", b.log());
}

#[test]
fn a_load_balancer_on_two_hosts_is_served_on_when_either_dies() {
    let network = Namespace::enter_new();
    let pair = Pair::new();
    let (krater, mut hosts) = two_hosts(&network, &pair);
    let mut api = krater.api();
    let id = balancer_of_two(&mut api);
    let amphorae = api.get("/v2.0/octavia/amphorae")["amphorae"].clone();
    let of_role = |role: &str| {
        let mut all = amphorae.as_array().expect("a list").iter();
        let found = all.find(|amphora| amphora["role"] == role);
        found
            .unwrap_or_else(|| panic!("no {role}: {amphorae}"))
            .clone()
    };
    let (master, backup) = (of_role("MASTER"), of_role("BACKUP"));
    assert_eq!(
        (&master["vrrp_priority"], &backup["vrrp_priority"]),
        (&json!(100), &json!(90))
    );
    assert_eq!(master["vrrp_id"], backup["vrrp_id"]);
    assert_eq!(master["ha_ip"], "10.9.0.100");
    let own = |amphora: &serde_json::Value| text(&amphora["vrrp_ip"]);
    let mut addresses = [own(&master), own(&backup)];
    addresses.sort();
    assert_eq!(addresses, ["10.9.0.1", "10.9.0.2"]);

    let serving = || pair.ask(vips()[0]);
    let before = until_some("it is served", SETTLE_MAX, serving);
    let at = usize::from(before == "b");
    hosts[at].die();
    let other = if at == 0 { "b" } else { "a" };
    until("the other host serves", SETTLE_MAX, || {
        serving().as_deref() == Some(other)
    });
    // What is wanted meanwhile comes into force where it can, and everywhere once the host is back.
    let dead = &mut hosts[at];
    pair.on(at, || dead.resume());
    api.wait_active(&id, NOTICE_MAX);
    thread::sleep(Duration::from_secs(1));
    assert_eq!(serving().as_deref(), Some(other));
    api.delete(&format!("loadbalancers/{id}?cascade=true"));
    until("nobody serves", SETTLE_MAX, || serving().is_none());
}

#[test]
fn of_two_that_do_not_hear_each_other_one_stands_aside_as_the_controller_says() {
    let network = Namespace::enter_new();
    let pair = Pair::new();
    let (krater, mut hosts) = two_hosts(&network, &pair);
    let mut api = krater.api();
    let id = balancer_of_two(&mut api);
    let has = |at: usize| pair.on(at, || has_vip("10.9.0.100"));
    let which = |wanted: [bool; 2]| {
        until("the addresses are where they should be", BOUND, || {
            [has(0), has(1)] == wanted
        });
    };
    until("one of them has it", BOUND, || has(0) != has(1));
    let first = usize::from(has(1));
    let second = 1 - first;
    let only = |at: usize| [at == 0, at == 1];
    // Neither hears the other, and both reach clients and the controller.
    pair.on(0, || deaf_to_adverts(true));
    which([true, true]);
    // Whoever took over stays: neighbours believe it.
    which(only(second));
    until("it serves", SETTLE_MAX, || pair.ask(vips()[0]).is_some());
    // Longer than one is told to stand aside at once.
    for _ in 0..34 {
        thread::sleep(Duration::from_millis(500));
        assert_eq!([has(0), has(1)], only(second));
    }
    let (mut told, reason) = turns_told(&id);
    told.sort_unstable();
    assert_eq!(told, ["active", "aside"]);
    assert!(reason.contains("not heard"), "{reason}");
    // It does not stand aside for one that is gone, whose address stays where it was.
    hosts[second].die();
    until("the first one has it too", BOUND, || has(first));
    let name = ["a", "b"][first];
    until("the first one serves", SETTLE_MAX, || {
        pair.ask(vips()[0]).as_deref() == Some(name)
    });
    let dead = &mut hosts[second];
    pair.on(second, || dead.resume());
    // Still deaf, they come to the same again.
    which([true, true]);
    which(only(second));
    pair.on(0, || deaf_to_adverts(false));
    until("one of them has it", BOUND, || has(0) != has(1));
    thread::sleep(Duration::from_secs(1));
    assert_ne!(has(0), has(1));
    // The line from before was idle for too long.
    krater
        .api()
        .delete(&format!("loadbalancers/{id}?cascade=true"));
    which([false, false]);
}

/// A controller of its own network, and a host on each side of the pair.
fn two_hosts(network: &Namespace, pair: &Pair) -> (Krater, [HostedAmphorae; 2]) {
    pair.attach(network, 3);
    let krater = controller_of_two();
    let hosts = ["one", "two"].map(|name| {
        let token = host_token(&[]);
        let at = usize::from(name == "two");
        pair.on(at, || HostedAmphorae::join_at(INTAKE, &token, name, 9_880))
    });
    wait_for_amphorae(&krater, 2);
    (krater, hosts)
}

/// A controller that hosts reach, with nothing on its own, and two amphorae for each load balancer.
pub(crate) fn controller_of_two() -> Krater {
    let mut krater = Krater::prepare("controller", &[]);
    let path = krater.state_folder().with_file_name("settings.toml");
    fs::write(&path, OF_TWO).expect("settings are written");
    krater.resume_with(&["--config", &path.to_string_lossy()]);
    krater
}

/// Waits until so many amphorae of hosts may carry load balancers.
pub(crate) fn wait_for_amphorae(krater: &Krater, count: usize) {
    let mut api = krater.api();
    until("each host has an amphora", NOTICE_MAX, || {
        let amphorae = api.get("/v2.0/octavia/amphorae")["amphorae"].clone();
        let there = amphorae.as_array().into_iter().flatten();
        there.filter(|one| one["status"] == "ALLOCATED").count() == count
    });
}

/// A load balancer in force on both; its id.
fn balancer_of_two(api: &mut Octavia) -> String {
    let pool = json!({
        "name": "p", "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN",
        "members": [{"address": "127.0.0.1", "protocol_port": 7000}],
    });
    let listener = json!({"protocol": "UDP", "protocol_port": 53, "default_pool": pool});
    let body = json!({"loadbalancer": {
        "vip_subnet_id": api.subnet("flat"), "vip_address": "10.9.0.100", "listeners": [listener],
    }});
    let created = api.post("loadbalancers", &body)["loadbalancer"].clone();
    let id = text(&created["id"]);
    api.wait_active(&id, SETTLE_MAX);
    id
}

/// Whose turn it is, as operators are told of each amphora that carries a load balancer, and why somebody stands aside.
fn turns_told(id: &str) -> (Vec<String>, String) {
    let mut command = Command::new(binary("krater"));
    command.args(["lb", "amphorae", id, "--output", "json"]);
    let (status, said) = run_to_end(&mut command, BOUND);
    assert!(status.success(), "{said}");
    let shown: Value = serde_json::from_str(&said).expect("a document");
    let carriers = shown["amphorae"].as_array().expect("amphorae").iter();
    let turns = carriers.clone().map(|one| text(&one["turn"])).collect();
    let mut reasons = carriers.filter_map(|one| one["reason"].as_str());
    (turns, reasons.next().unwrap_or_default().to_owned())
}

fn has_vip(address: &str) -> bool {
    let mut command = Command::new("ip");
    let (status, said) = run_to_end(command.args(["-o", "address"]), BOUND);
    assert!(status.success(), "{said}");
    said.contains(&format!(" {address}/"))
}

/// Has this host neither send nor hear adverts, or do so again.
fn deaf_to_adverts(is_deaf: bool) {
    let rules = if is_deaf {
        "table ip cut {
            chain in { type filter hook input priority 0; ip protocol 112 drop; }
            chain out { type filter hook output priority 0; ip protocol 112 drop; }
        }"
    } else {
        "delete table ip cut"
    };
    let mut command = Command::new("nft");
    let (status, said) = run_to_end(command.arg(rules), BOUND);
    assert!(status.success(), "{said}");
}

/// Where hosts join that controller.
pub(crate) const INTAKE: &str = "https://10.9.0.3:9877";
const OF_TWO: &str = r#"
[fleet]
on_this_host = false
heartbeat = "500ms"
silence = "60s"
drain = "1s"
[intake]
listen = "0.0.0.0:9877"
controllers = ["10.9.0.3:9877"]
[turns]
topology = "ACTIVE_STANDBY"
advert_interval = "100ms"
[[networks]]
name = "flat"
[[networks.subnets]]
name = "flat"
cidr = "10.9.0.0/24"
first = "10.9.0.100"
last = "10.9.0.120"
"#;

/// Both started, the first one preferred and serving.
fn both(pair: &Pair) -> (PairedAmphora, PairedAmphora) {
    let a = pair.amphora(0, &pair.spec(0, 100, 100));
    pair.wait_held_by(0, BOUND);
    let b = pair.amphora(1, &pair.spec(1, 90, 100));
    pair.wait_served_by(0, BOUND);
    until("the other one listens", BOUND, || b.agent().is_some());
    (a, b)
}

const BOUND: Duration = Duration::from_secs(30);
