//! Amphorae on two hosts that take turns at the addresses of a load balancer on a network of tenants.

use std::{collections::BTreeSet, fs, net::SocketAddr, process::Command, time::Duration};

use krater_tests::{HttpMember, Namespace, PairedAmphora, Signal, fetch, send, until};
use serde_json::{Value, json};

use crate::scene::ask;

#[test]
fn the_other_host_takes_over_in_the_network_of_the_tenant_and_tells_its_machines() {
    let ground = Ground::new();
    let mut a = ground.amphora(0);
    ground.wait_served_by(0);
    let mut b = ground.amphora(1);
    until("the other one listens", BOUND, || b.agent().is_some());
    ground.wait_served_by(0);
    let members = ground.members_by_client();
    let others: BTreeSet<_> = members.iter().collect();
    assert_eq!(others.len(), 2, "{members:?}");
    // With its processes goes the namespace, and all addresses in it.
    kill_all(&mut a);
    until("the tenant's machines were told", BOUND, || {
        ground.is_known_to_be_at(1)
    });
    ground.wait_served_by(1);
    // Where a client goes comes of its address and the members, so the other one has nothing to learn.
    assert_eq!(ground.members_by_client(), members);
    // Preferred, it takes nothing from who serves.
    drop(a);
    let mut again = ground.amphora(0);
    until("the preferred one has its address", BOUND, || {
        addresses_inside(&mut again).contains(" 10.0.0.11/24")
    });
    ground.wait_served_by(1);
    assert!(!has_vip(&mut again));
    b.program().terminate();
    ground.wait_served_by(0);
    assert!(has_vip(&mut again));
}

#[test]
fn the_supervisor_lets_go_inside_for_an_agent_that_does_not_come_back() {
    let ground = Ground::new();
    let mut a = ground.amphora(0);
    ground.wait_served_by(0);
    let b = ground.amphora(1);
    until("the other one listens", BOUND, || b.agent().is_some());
    // The next one cannot read what is kept, and ends before it has done anything.
    let kept = a.state_folder().join("load-balancers");
    fs::remove_dir_all(&kept).expect("a folder");
    fs::write(&kept, "").expect("a file");
    a.signal_agent(Signal::KILL);
    until("its addresses are gone", BOUND, || !has_vip(&mut a));
    ground.wait_served_by(1);
}

/// Two hosts that a network of a tenant spans, and a machine of the tenant.
struct Ground {
    tenant: Namespace,
    hosts: [Namespace; 2],
    members: [HttpMember; 2],
}

impl Ground {
    fn new() -> Self {
        let hosts = [Namespace::new(), Namespace::new()];
        hosts[0].link(
            "under",
            &["192.0.2.1/24"],
            &hosts[1],
            "under",
            &["192.0.2.2/24"],
        );
        // The tenant's machine is on the first host; on the second there is nothing but krater.
        hosts[0].ip(&["link", "add", "br-blue", "type", "bridge"]);
        hosts[0].ip(&["link", "set", "br-blue", "up"]);
        let tenant = Namespace::new();
        tenant.link("eth0", &["10.0.0.20/24"], &hosts[0], "port", &[]);
        tenant.ip(&["link", "set", "eth0", "mtu", "1450"]);
        hosts[0].ip(&["link", "set", "port", "master", "br-blue"]);
        for last in CLIENTS {
            let address = format!("10.0.0.{last}/24");
            tenant.ip(&["address", "add", &address, "dev", "eth0"]);
        }
        let members = [("one", "10.0.0.20:8080"), ("two", "10.0.0.20:8081")];
        let members = tenant.run(|| members.map(|(name, at)| HttpMember::start(name, at)));
        Self {
            tenant,
            hosts,
            members,
        }
    }

    fn amphora(&self, at: usize) -> PairedAmphora {
        let settings = format!(
            "[network]\nname = \"blue\"\nbridge = \"br-blue\"\nmtu = 1450\n\
             [network.vxlan]\nvni = 42\nlocal = \"192.0.2.{}\"\npeers = [\"192.0.2.{}\"]\n\
             [[network.subnets]]\ncidr = \"10.0.0.0/24\"\n",
            at + 1,
            2 - at,
        );
        PairedAmphora::start(&self.hosts[at], IDS[at], &self.spec(at), &settings)
    }

    fn spec(&self, at: usize) -> Value {
        let id = |number: u8| format!("00000000-0000-4000-8000-0000000000{number:02}");
        let members = self.members.iter().zip(4..).map(|(member, number)| {
            let address = member.address();
            json!({"id": id(number), "address": address.ip(), "port": address.port()})
        });
        let members: Vec<Value> = members.collect();
        json!({
            "load_balancer": id(1), "generation": 1, "vips": [{"address": VIP}],
            "listeners": [{"id": id(2), "protocol": "http", "port": 80, "default_pool": id(3)}],
            "pools": [{"id": id(3), "protocol": "http", "algorithm": "source_ip", "members": members}],
            "announcement": {
                "virtual_router": 7, "priority": 100 - 10 * at, "advert_interval_ms": 100,
                "address": format!("10.0.0.{}", 11 + at), "peers": [format!("10.0.0.{}", 12 - at)],
            },
        })
    }

    /// Whether the tenant's machine sends what is for the VIP to the amphora of host `at`, as far as it knows.
    fn is_known_to_be_at(&self, at: usize) -> bool {
        let output = Command::new("ip")
            .args(["-n", self.tenant.name(), "neighbour", "show", "to", VIP])
            .output()
            .expect("ip runs");
        String::from_utf8_lossy(&output.stdout).contains(HARDWARE[at])
    }

    /// Who serves each of several clients.
    fn members_by_client(&self) -> Vec<String> {
        let served = CLIENTS.map(|last| {
            let from = format!("10.0.0.{last}");
            let to = format!("{VIP}/32");
            self.tenant
                .ip(&["route", "replace", &to, "dev", "eth0", "src", &from]);
            let answers = self.tenant.run(|| ask(vip(), 2));
            assert_eq!(answers.len(), 1, "{answers:?}");
            answers.into_keys().collect()
        });
        served.into()
    }

    /// Waits until the tenant's machine is served at the VIP, by host `at`.
    fn wait_served_by(&self, at: usize) {
        let is_served = || {
            self.tenant
                .run(|| fetch(vip(), "/").is_ok_and(|answer| answer.status == 200))
        };
        until(&format!("host {at} serves"), BOUND, || {
            is_served() && self.is_known_to_be_at(at)
        });
    }
}

/// Its supervisor and its agent, so that nobody is left to do anything.
fn kill_all(amphora: &mut PairedAmphora) {
    let agent = amphora.agent().expect("an agent");
    amphora.program().kill();
    send(agent, Signal::KILL);
}

/// What `ip` says of the namespace that a supervisor holds.
fn addresses_inside(amphora: &mut PairedAmphora) -> String {
    let files = format!("/proc/{}/fd", amphora.program().pid());
    let files = fs::read_dir(files).into_iter().flatten().flatten();
    let namespaces = files.map(|entry| entry.path()).filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("net:["))
    });
    let told = namespaces.map(|path| {
        let output = Command::new("nsenter")
            .arg(format!("--net={}", path.display()))
            .args(["ip", "-o", "address", "show", "dev", "eth0"])
            .output()
            .expect("nsenter runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    told.collect()
}

fn has_vip(amphora: &mut PairedAmphora) -> bool {
    addresses_inside(amphora).contains(&format!(" {VIP}/32"))
}

fn vip() -> SocketAddr {
    SocketAddr::new(VIP.parse().expect("an address"), 80)
}

const CLIENTS: [u8; 8] = [30, 31, 32, 33, 34, 35, 36, 37];
const VIP: &str = "10.0.0.10";
/// Hardware addresses inside come of the ids.
const IDS: [&str; 2] = [
    "a0a0a0a0-a0a0-4000-8000-000000000000",
    "b0b0b0b0-b0b0-4000-8000-000000000000",
];
const HARDWARE: [&str; 2] = ["02:a0:a0:a0:a0:a0", "02:b0:b0:b0:b0:b0"];
const BOUND: Duration = Duration::from_secs(30);
