//! Networks of tenants: the very same addresses twice on one host, each tenant with its own.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    net::{IpAddr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use krater_tests::{
    HttpMember, Krater, Load, Namespace, Octavia, TcpMember, binary, fetch, run_to_end, until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, ask, listener_json, member_json, monitor_json, text};

#[test]
fn two_tenants_with_the_very_same_addresses_reach_only_their_own() {
    let mut ground = Ground::with(&[network("blue", "br-blue"), network("red", "br-red")]);
    let tenants = ["blue", "red"].map(|name| Tenant::on(&ground.host, name));
    for tenant in &tenants {
        let pool = json!({
            "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor_json(),
            "members": [member_json(tenant.member.address()), {"address": "10.0.0.21", "protocol_port": 9}],
        });
        let created = ground.create(
            tenant.name,
            Some("10.0.0.10"),
            &json!([listener_json("HTTP", 80, &pool)]),
        );
        assert_eq!(created["vip_address"], "10.0.0.10");
        ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
        // Monitors run inside too: the member that is there is, the other is not.
        let pool = text(&created["pools"][0]["id"]);
        for member in ground.api.get(&format!("pools/{pool}/members"))["members"]
            .as_array()
            .expect("members")
        {
            let status = if member["address"] == "10.0.0.20" {
                "ONLINE"
            } else {
                "ERROR"
            };
            let path = format!("pools/{pool}/members/{}", text(&member["id"]));
            ground.api.wait_operating(&path, status, SETTLE_MAX);
        }
    }
    let vip = SocketAddr::new(VIP, 80);
    for tenant in &tenants {
        // From its own subnet, and from beyond its router.
        for client in [&tenant.members, &tenant.beyond] {
            let answers = client.run(|| ask(vip, 5));
            assert_eq!(answers.get(tenant.name), Some(&5), "{answers:?}");
        }
        assert!(tenant.member.probes() > 0);
    }
    // The host has nothing to do with either.
    assert!(fetch(vip, "/").is_err());
}

#[test]
fn what_leaves_an_address_leaves_by_the_router_of_its_subnet() {
    let two = network("blue", "br-blue") + SECOND_SUBNET;
    let mut ground = Ground::with(&[two]);
    let tenant = Tenant::on(&ground.host, "blue");
    let additional = ground.api.subnet("blue-second");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(tenant.member.address())]});
    let body = json!({"loadbalancer": {
        "vip_subnet_id": ground.api.subnet("blue"), "vip_address": "10.0.0.10",
        "additional_vips": [{"subnet_id": additional, "ip_address": "10.1.0.10"}],
        "listeners": [listener_json("HTTP", 80, &pool)],
    }});
    let created = ground.api.post("loadbalancers", &body)["loadbalancer"].clone();
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    // The router takes from each of its interfaces what belongs there, and nothing else.
    for vip in ["10.0.0.10:80", "10.1.0.10:80"] {
        let vip = vip.parse().expect("an address");
        let answers = tenant.beyond.run(|| ask(vip, 3));
        assert_eq!(answers.get("blue"), Some(&3));
    }
}

#[test]
fn of_a_deleted_load_balancer_nothing_is_left_whoever_was_killed_meanwhile() {
    let own_bridge = network("blue", "br-blue").replace("bridge = \"br-blue\"", "");
    let mut ground = Ground::with(&[own_bridge]);
    let listeners = json!([{"name": "l", "protocol": "HTTP", "protocol_port": 80}]);
    // Somebody was killed while it made a bridge.
    ground
        .host
        .ip(&["link", "add", "kb-draft", "type", "bridge"]);
    let created = ground.create("blue", None, &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let inside = ground.inside();
    assert_eq!(
        (ground.devices("kv-"), ground.devices("kb-"), inside.len()),
        (1, 1, 1)
    );

    // Without a word from anybody: the namespace goes with its processes, and is there again.
    ground.krater.kill_controller();
    let mut supervisors = ground.krater.supervisors();
    supervisors.retain(|pid| ground.krater.children_of(*pid).contains(&inside[0]));
    for pid in supervisors.iter().chain(&inside) {
        ground.krater.kill(*pid);
    }
    until("the cable went with the namespace", SETTLE_MAX, || {
        ground.devices("kv-") == 0
    });
    ground.krater.resume();
    ground.api = ground.krater.api();
    until(
        "the load balancer has its namespace again",
        SETTLE_MAX,
        || ground.devices("kv-") == 1 && ground.inside().len() == 1 && ground.inside() != inside,
    );

    // A controller that is killed while it deletes finishes when it is back.
    ground.api.delete(&format!(
        "loadbalancers/{}?cascade=true",
        text(&created["id"])
    ));
    ground.krater.kill_controller();
    ground.krater.resume();
    ground.api = ground.krater.api();
    ground.until_nothing_is_left();

    // And one that is not needs no time.
    let again = ground.create("blue", None, &listeners);
    ground.api.wait_active(&text(&again["id"]), SETTLE_MAX);
    assert_eq!(again["vip_address"], created["vip_address"]);
    assert_eq!(ground.devices("kb-"), 1);
    let began = Instant::now();
    ground.api.delete(&format!(
        "loadbalancers/{}?cascade=true",
        text(&again["id"])
    ));
    ground.until_nothing_is_left();
    println!("gone after {:?}", began.elapsed());
}

#[test]
fn what_no_record_knows_of_is_told_of_and_ended_and_nothing_else_is() {
    let own_bridge = network("blue", "br-blue").replace("bridge = \"br-blue\"", "");
    let mut ground = Ground::with(&[own_bridge]);
    // A database of before the load balancer was there is put back.
    assert!(ground.krater.interrupt().success());
    let state = ground.krater.state_folder();
    let database = |name: &str| state.join(format!("krater.db{name}"));
    fs::copy(database(""), database(".before")).expect("a copy");
    ground.krater.resume();
    ground.api = ground.krater.api();
    let listeners = json!([{"name": "l", "protocol": "HTTP", "protocol_port": 80}]);
    let created = ground.create("blue", None, &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    ground.krater.kill_controller();
    for journal in ["-wal", "-shm"] {
        let _ = fs::remove_file(database(journal));
    }
    fs::rename(database(".before"), database("")).expect("the old database is put back");
    let others: Vec<u32> = ground
        .krater
        .amphorae()
        .into_iter()
        .filter(|pid| !ground.inside().contains(pid))
        .collect();
    ground.krater.resume();
    ground.until_nothing_is_left();
    assert!(
        ground
            .krater
            .output()
            .contains("an amphora runs that is on no record")
    );
    assert_eq!(ground.krater.amphorae(), others);
}

#[test]
fn a_network_spans_hosts_in_a_tunnel() {
    let (one, other) = (Namespace::enter_new(), Namespace::new());
    one.link(
        "under",
        &["192.0.2.1/24"],
        &other,
        "under",
        &["192.0.2.2/24"],
    );
    // The other host has a member of the tenant and no krater: its side of the tunnel is made by hand.
    let tenant = Namespace::new();
    other.ip(&["link", "add", "br-blue", "type", "bridge"]);
    other.ip(&[
        "link",
        "add",
        "vx",
        "type",
        "vxlan",
        "id",
        "42",
        "local",
        "192.0.2.2",
        "remote",
        "192.0.2.1",
        "dstport",
        "4789",
    ]);
    tenant.link("eth0", &["10.0.0.20/24"], &other, "port", &[]);
    for device in ["vx", "port"] {
        other.ip(&["link", "set", device, "master", "br-blue"]);
    }
    for device in ["vx", "br-blue"] {
        other.ip(&["link", "set", device, "up"]);
    }
    let tunnels = "[network.vxlan]\nlocal = \"192.0.2.1\"\npeers = [\"192.0.2.2\"]\n";
    let blue = network("blue", "br-blue").replace("bridge = ", "vni = 42, bridge = ");
    let mut ground = Ground::on(one, &[tunnels.to_owned(), blue]);
    let member = tenant.run(|| HttpMember::start("far", "10.0.0.20:8080"));
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())]});
    let created = ground.create(
        "blue",
        Some("10.0.0.10"),
        &json!([listener_json("HTTP", 80, &pool)]),
    );
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let answers = tenant.run(|| ask(SocketAddr::new(VIP, 80), 5));
    assert_eq!(answers.get("far"), Some(&5));
}

#[test]
fn whom_a_listener_refuses_the_kernel_refuses() {
    let mut ground = Ground::with(&[network("blue", "br-blue")]);
    let tenant = Tenant::on(&ground.host, "blue");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(tenant.member.address())]});
    let mut listener = listener_json("HTTP", 80, &pool);
    listener["allowed_cidrs"] = json!(["10.0.0.0/24"]);
    let created = ground.create("blue", Some("10.0.0.10"), &json!([listener]));
    let (id, listener) = (text(&created["id"]), text(&created["listeners"][0]["id"]));
    ground.api.wait_active(&id, SETTLE_MAX);
    let vip = SocketAddr::new(VIP, 80);
    assert_eq!(tenant.members.run(|| ask(vip, 3)).get("blue"), Some(&3));
    // A connection is not even made: no process has seen it.
    let refused = tenant
        .beyond
        .run(|| TcpStream::connect(vip))
        .expect_err("a refusal");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let wider = json!({"listener": {"allowed_cidrs": ["10.0.0.0/24", "10.50.0.2/32"]}});
    ground.api.put(&format!("listeners/{listener}"), &wider);
    ground.api.wait_active(&id, SETTLE_MAX);
    assert_eq!(tenant.beyond.run(|| ask(vip, 3)).get("blue"), Some(&3));
}

#[test]
fn no_member_is_probed_before_there_is_a_way_to_it() {
    // Addresses come after the rules, which take longer here than first probes are spread over.
    let folder = tempfile::tempdir().expect("a folder");
    let nft = folder.path().join("nft");
    fs::write(&nft, SLOW_NFT).expect("a program");
    fs::set_permissions(&nft, Permissions::from_mode(0o755)).expect("a program");
    let folders = format!("{}:", folder.path().display());
    let networks = [network("blue", "br-blue")];
    let mut ground = Ground::finding_programs_in(Namespace::enter_new(), &networks, &folders);
    let tenant = Tenant::on(&ground.host, "blue");
    let mut pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(tenant.member.address())]});
    pool["healthmonitor"] = monitor_json();
    let created = ground.create(
        "blue",
        Some("10.0.0.10"),
        &json!([listener_json("HTTP", 80, &pool)]),
    );
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let member = text(&created["pools"][0]["members"][0]["id"]);
    let path = format!(
        "pools/{}/members/{member}",
        text(&created["pools"][0]["id"])
    );
    ground.api.wait_operating(&path, "ONLINE", SETTLE_MAX);

    // The same for what is served by what was kept: all of it is killed, and its namespace with it.
    let before = ground.inside();
    for pid in [ground.supervisor()].iter().chain(&before) {
        ground.krater.kill(*pid);
    }
    let vip = SocketAddr::new(VIP, 80);
    until("it is probed anew", SETTLE_MAX, || {
        let log = ground.krater.amphora_logs();
        ground.inside() != before && log.matches("health=Up").count() == 2
    });
    assert_eq!(tenant.members.run(|| ask(vip, 5)).get("blue"), Some(&5));
    let log = ground.krater.amphora_logs();
    assert!(!log.contains("health=Down"), "{log}");
}

#[test]
fn a_new_process_takes_over_inside_a_network_and_nobody_is_refused_or_cut() {
    let mut ground = Ground::with(&[network("blue", "br-blue")]);
    let tenant = Tenant::on(&ground.host, "blue");
    let stream = tenant
        .members
        .run(|| TcpMember::start("stream", "10.0.0.20:9090"));
    let pool = |protocol: &str, address| {
        let members = [member_json(address)];
        json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members})
    };
    let listeners = json!([
        listener_json("HTTP", 80, &pool("HTTP", tenant.member.address())),
        listener_json("TCP", 90, &pool("TCP", stream.address())),
    ]);
    let created = ground.create("blue", Some("10.0.0.10"), &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let supervisor = ground.supervisor();
    let (web, stream) = (SocketAddr::new(VIP, 80), SocketAddr::new(VIP, 90));
    let mut load = Load::new();
    for client in [&tenant.members, &tenant.beyond] {
        client.run(|| {
            load.add_http(web, 2, Duration::from_millis(5));
            load.add_connections(stream, 2, Duration::from_millis(5));
            load.add_streams(stream, 1, Duration::from_millis(10));
        });
    }
    for _ in 0..2 {
        let serving = ground.krater.succeed(supervisor, SETTLE_MAX);
        tenant.beyond.run(|| ask(web, 3));
        assert!(ground.inside().contains(&serving));
        assert_eq!(ground.devices("kv-"), 1);
    }
    // Changes go to the one that serves, the network's included.
    let wider = json!({"listener": {"allowed_cidrs": ["10.0.0.0/24", "10.50.0.2/32"]}});
    let listener = text(&created["listeners"][0]["id"]);
    ground.api.put(&format!("listeners/{listener}"), &wider);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(report.streams, 2);
    until(
        "those before have ended with their streams",
        NOTICE_MAX,
        || ground.inside().len() == 1,
    );
    tenant.beyond.run(|| ask(web, 3));
}

#[test]
fn one_that_is_started_beside_a_living_one_touches_nothing_of_its() {
    let mut ground = Ground::with(&[network("blue", "br-blue")]);
    let tenant = Tenant::on(&ground.host, "blue");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(tenant.member.address())]});
    let listeners = json!([listener_json("HTTP", 80, &pool)]);
    let created = ground.create("blue", Some("10.0.0.10"), &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let line = fs::read_to_string(format!("/proc/{}/cmdline", ground.supervisor()));
    let line = line.expect("a supervisor");
    let (_, config) = line.split_once("--config\0").expect("settings");
    let config = config.split('\0').next().expect("a path");
    for (arguments, refusal) in [
        (&["agent"][..], "in use by another process"),
        (&["agent", "--succeed"][..], "there is no supervisor"),
    ] {
        let mut stray = Command::new(binary("krater-amphora"));
        let stray = stray.args(arguments).args(["--config", config]);
        let (status, output) = run_to_end(stray.stdin(Stdio::null()), NOTICE_MAX);
        assert!(!status.success() && output.contains(refusal), "{output}");
        let answers = tenant.beyond.run(|| ask(SocketAddr::new(VIP, 80), 3));
        assert_eq!(answers.get("blue"), Some(&3));
    }
    assert_eq!(ground.devices("kv-"), 1);
}

#[test]
fn no_thread_inside_or_left_behind_may_do_more_than_its_work_takes() {
    let mut ground = Ground::with(&[network("blue", "br-blue")]);
    let listeners = json!([{"name": "l", "protocol": "HTTP", "protocol_port": 80}]);
    let created = ground.create("blue", None, &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let tasks = format!("/proc/{}/task", ground.inside()[0]);
    let tasks = fs::read_dir(tasks).expect("threads").flatten();
    let mut names = Vec::new();
    for task in tasks {
        let status = fs::read_to_string(task.path().join("status")).expect("a thread");
        let line = |name: &str| {
            let mut lines = status.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.unwrap_or_else(|| panic!("no {name}: {status}"))
                .to_owned()
        };
        // What lower ports, raw sockets and the network of the namespace take.
        let allowed = 1_u64 << 10 | 1 << 12 | 1 << 13;
        for set in ["CapEff", "CapPrm", "CapBnd"] {
            let has = u64::from_str_radix(&line(set), 16).expect("a set");
            assert_eq!(has & !allowed, 0, "{}: {set} {has:x}", line("Name"));
        }
        assert_eq!(line("NoNewPrivs"), "1", "{}", line("Name"));
        names.push(line("Name"));
    }
    for name in ["log", "outside"] {
        assert!(names.iter().any(|one| one == name), "{names:?}");
    }
}

#[test]
fn a_bridge_that_is_made_anew_is_joined_again() {
    let mut ground = Ground::with(&[network("blue", "br-blue")]);
    let tenant = Tenant::on(&ground.host, "blue");
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(tenant.member.address())]});
    let listeners = json!([listener_json("HTTP", 80, &pool)]);
    let created = ground.create("blue", Some("10.0.0.10"), &listeners);
    ground.api.wait_active(&text(&created["id"]), SETTLE_MAX);
    let vip = SocketAddr::new(VIP, 80);
    assert_eq!(tenant.members.run(|| ask(vip, 3)).get("blue"), Some(&3));
    ground.host.ip(&["link", "del", "br-blue"]);
    ground
        .host
        .ip(&["link", "add", "br-blue", "type", "bridge"]);
    ground.host.ip(&["link", "set", "br-blue", "up"]);
    ground
        .host
        .ip(&["link", "set", "blue-m", "master", "br-blue"]);
    until("it is served over the new bridge", SETTLE_MAX, || {
        tenant.members.run(|| fetch(vip, "/")).is_ok()
    });
}

/// A host with krater on it, and networks of tenants.
struct Ground {
    api: Octavia,
    krater: Krater,
    host: Namespace,
    _folder: TempDir,
}

impl Ground {
    fn with(networks: &[String]) -> Self {
        Self::on(Namespace::enter_new(), networks)
    }

    /// On a host that this thread is on.
    fn on(host: Namespace, networks: &[String]) -> Self {
        Self::finding_programs_in(host, networks, "")
    }

    /// The same, where programs are looked for in these folders (`FOLDER:`) first.
    fn finding_programs_in(host: Namespace, networks: &[String], folders: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("krater.toml");
        fs::write(&config, networks.concat()).expect("the settings can be written");
        let path = std::env::var("PATH").unwrap_or_default();
        let mut krater = Krater::prepare("up", &["--config", &config.to_string_lossy()])
            .with_variable("PATH", &format!("{folders}{path}"));
        krater.resume();
        Self {
            api: krater.api(),
            krater,
            host,
            _folder: folder,
        }
    }

    /// How many devices of the host have names that begin so.
    fn devices(&self, prefix: &str) -> usize {
        let all = fs::read_to_string("/proc/thread-self/net/dev").expect("the devices of the host");
        all.lines()
            .filter(|line| line.trim().starts_with(prefix))
            .count()
    }

    /// The amphorae that live in namespaces of their own.
    fn inside(&self) -> Vec<u32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let host = namespace("thread-self");
        let mut all = self.krater.amphorae();
        all.retain(|pid| namespace(&pid.to_string()) != host);
        all
    }

    /// The supervisor of the amphora that lives in a namespace of its own.
    fn supervisor(&self) -> u32 {
        let inside = self.inside();
        let mut all = self.krater.supervisors().into_iter();
        let found = all.find(|pid| {
            inside
                .iter()
                .any(|one| self.krater.children_of(*pid).contains(one))
        });
        found.expect("a supervisor")
    }

    fn until_nothing_is_left(&self) {
        until("nothing is left of the load balancer", SETTLE_MAX, || {
            self.inside().is_empty() && self.devices("kv-") + self.devices("kb-") == 0
        });
    }

    /// Creates a load balancer on the subnet of a tenant.
    fn create(&mut self, subnet: &str, address: Option<&str>, listeners: &Value) -> Value {
        let mut body = json!({"vip_subnet_id": self.api.subnet(subnet), "listeners": listeners});
        if let Some(address) = address {
            body["vip_address"] = json!(address);
        }
        let body = json!({"loadbalancer": body});
        self.api.post("loadbalancers", &body)["loadbalancer"].clone()
    }
}

/// A tenant's machines: a member, a router, and a client beyond the router.
struct Tenant {
    name: &'static str,
    member: HttpMember,
    members: Namespace,
    beyond: Namespace,
    _router: Namespace,
}

impl Tenant {
    fn on(host: &Namespace, name: &'static str) -> Self {
        let bridge = format!("br-{name}");
        host.ip(&["link", "add", &bridge, "type", "bridge"]);
        host.ip(&["link", "set", &bridge, "up"]);
        let plug = |namespace: &Namespace, port: &str, device: &str, address: &str| {
            namespace.link(device, &[address], host, port, &[]);
            host.ip(&["link", "set", port, "master", &bridge]);
        };
        let (members, router, beyond) = (Namespace::new(), Namespace::new(), Namespace::new());
        plug(&members, &format!("{name}-m"), "eth0", "10.0.0.20/24");
        plug(&router, &format!("{name}-r1"), "eth1", "10.0.0.1/24");
        plug(&router, &format!("{name}-r2"), "eth2", "10.1.0.1/24");
        router.link("out", &["10.50.0.1/24"], &beyond, "eth0", &["10.50.0.2/24"]);
        beyond.ip(&["route", "add", "default", "via", "10.50.0.1"]);
        members.ip(&["route", "add", "default", "via", "10.0.0.1"]);
        router.run(|| {
            let set = |name: &str, value: &str| {
                fs::write(Path::new("/proc/sys/net/ipv4").join(name), value).expect("a setting");
            };
            set("ip_forward", "1");
            for device in ["all", "eth1", "eth2"] {
                // Both interfaces are on one bridge: each answers for its own address, and believes its own subnet.
                set(&format!("conf/{device}/arp_ignore"), "1");
                set(&format!("conf/{device}/rp_filter"), "1");
            }
        });
        let member = members.run(|| HttpMember::start(name, "10.0.0.20:8080"));
        Self {
            name,
            member,
            members,
            beyond,
            _router: router,
        }
    }
}

/// The settings of a tenant's network.
fn network(name: &str, bridge: &str) -> String {
    format!(
        "[[networks]]\nname = \"{name}\"\nsegment = {{ bridge = \"{bridge}\" }}\n\
         [[networks.subnets]]\nname = \"{name}\"\ncidr = \"10.0.0.0/24\"\ngateway = \"10.0.0.1\"\nfirst = \"10.0.0.100\"\n"
    )
}

/// An `nft` that does as it is told, after a while.
const SLOW_NFT: &str = "#!/bin/sh\nsleep 1.2\nPATH=${PATH#*:}; exec nft \"$@\"\n";
const SECOND_SUBNET: &str = "[[networks.subnets]]\nname = \"blue-second\"\ncidr = \"10.1.0.0/24\"\ngateway = \"10.1.0.1\"\n";
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));
