//! Networks of tenants over hosts that joined: the very same addresses twice, in tunnels between hosts.

use std::{fs, net::SocketAddr, process::Command, time::Instant};

use krater_tests::{
    HostedAmphorae, HttpMember, Krater, Namespace, Octavia, Reply, fetch, host_token, krater_host,
    krater_host_json, until, until_some,
};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::{
    hosts::wait_ready,
    scene::{NOTICE_MAX, SETTLE_MAX, ask, listener_json, member_json, monitor_json, text},
};

#[test]
fn two_tenants_with_the_very_same_addresses_are_served_by_hosts_that_joined() {
    let mut ground = Ground::new("SINGLE");
    let shown = krater_host_json(&["show", "one"]);
    assert_eq!(shown["networks"], "tunnels reach it at 192.0.2.1");
    let created: Vec<String> = ground.create_for_all();
    // The one that has fewer amphorae gets the next: each host has one of the two.
    assert_eq!([ground.cables(0), ground.cables(1)], [1, 1]);
    assert!(ground.krater.amphorae().is_empty());
    ground.wait_all_served();
    // What is not of the network has nothing to do with it, the host's own programs included.
    assert!(ground.hosts[0].run(|| fetch(vip(), "/")).is_err());

    // An agent that is killed goes on with what it finds, and whoever it runs does not notice.
    ground.agents[0].program().kill();
    ground.wait_all_served();
    let host = &mut ground.agents[0];
    ground.hosts[0].run(|| host.resume());
    let carriers = ground.agents[0].carriers();
    wait_ready("one");
    assert_eq!(ground.agents[0].carriers(), carriers);
    ground.wait_all_served();

    let began = Instant::now();
    for id in &created {
        ground
            .api
            .delete(&format!("loadbalancers/{id}?cascade=true"));
    }
    ground.until_nothing_is_left();
    println!("gone after {:?}", began.elapsed());
}

#[test]
fn tunnels_reach_the_hosts_that_a_network_is_on_and_are_swept_with_what_nobody_wants() {
    let mut ground = Ground::new("SINGLE");
    let blue = ground.tenants[0].name;
    let first = ground.create(blue, VIP);
    let at = usize::from(ground.cables(1) == 1);
    let others = |ground: &Ground, at: usize| ground.tunnel_ends(at, VNIS[0]);
    let members = "192.0.2.4".to_owned();
    assert_eq!(others(&ground, at), std::slice::from_ref(&members));
    ground.wait_served(0);
    let carriers = ground.agents[at].carriers();
    // Another load balancer brings the network to the other host.
    let second = ground.create(blue, "10.0.0.11");
    assert_eq!([ground.cables(0), ground.cables(1)], [1, 1]);
    let ends = |at: usize| {
        let mut ends = vec![members.clone(), format!("192.0.2.{}", 2 - at)];
        ends.sort();
        ends
    };
    until("each is told of the other one", SETTLE_MAX, || {
        others(&ground, at) == ends(at) && others(&ground, 1 - at) == ends(1 - at)
    });
    // That cost nobody its process.
    assert_eq!(ground.agents[at].carriers(), carriers);
    ground.wait_served(0);
    ground
        .api
        .delete(&format!("loadbalancers/{second}?cascade=true"));
    until("the other host is out of it", SETTLE_MAX, || {
        ground.devices(1 - at) == 0 && others(&ground, at) == [members.clone()]
    });
    ground.wait_served(0);

    // Whatever was killed on a host, and whether its controller wants it to go on: what is left is swept.
    let host = &mut ground.agents[at];
    host.die();
    ground.hosts[at].run(|| host.resume());
    ground.wait_served(0);
    let name = ["one", "two"][at];
    let (status, output) = krater_host(&["remove", name, "--force"]);
    assert!(status.success(), "{output}");
    until("nothing of it is left there", NOTICE_MAX, || {
        ground.devices(at) == 0 && ground.agents[at].carriers().is_empty()
    });
    ground.wait_served(0);
    assert_eq!(ground.cables(1 - at), 1);
    ground
        .api
        .delete(&format!("loadbalancers/{first}?cascade=true"));
    ground.until_nothing_is_left();
}

#[test]
fn of_two_hosts_that_take_turns_on_networks_of_tenants_either_may_die() {
    let mut ground = Ground::new("ACTIVE_STANDBY");
    let created = ground.create_for_all();
    assert_eq!([ground.cables(0), ground.cables(1)], [2, 2]);
    // Each network has its own pool: both tenants' amphorae have the very same addresses.
    for id in &created {
        assert_eq!(ground.own_addresses(id), ["10.0.0.100", "10.0.0.101"]);
    }
    ground.wait_all_served();
    let serving = |ground: &Ground, id: &str| {
        until_some("one of them has the VIP", SETTLE_MAX, || ground.holder(id))
    };
    // Nobody else gets an address that an amphora has.
    let refused = ground.try_create("blue", "10.0.0.101");
    assert_eq!(refused.status, 409, "{}", refused.body);

    let at = serving(&ground, &created[0]);
    ground.agents[at].die();
    until("the other one has it", SETTLE_MAX, || {
        ground.holder(&created[0]) == Some(1 - at)
    });
    ground.wait_all_served();
    // What comes back takes nothing from who serves, and takes over in turn.
    let host = &mut ground.agents[at];
    ground.hosts[at].run(|| host.resume());
    until("both are back", NOTICE_MAX, || ground.cables(at) == 2);
    for id in &created {
        ground.api.wait_active(id, NOTICE_MAX);
        assert_eq!(ground.own_addresses(id), ["10.0.0.100", "10.0.0.101"]);
    }
    ground.wait_all_served();
    assert_eq!(serving(&ground, &created[0]), 1 - at);
    ground.agents[1 - at].die();
    until("the first one has it again", SETTLE_MAX, || {
        ground.holder(&created[0]) == Some(at)
    });
    ground.wait_all_served();
    let host = &mut ground.agents[1 - at];
    ground.hosts[1 - at].run(|| host.resume());

    let began = Instant::now();
    for id in &created {
        ground
            .api
            .delete(&format!("loadbalancers/{id}?cascade=true"));
    }
    ground.until_nothing_is_left();
    println!("gone after {:?}", began.elapsed());
    let free = ground.try_create("blue", "10.0.0.101");
    assert_eq!(free.status, 201, "{}", free.body);
}

#[test]
fn an_amphora_that_is_replaced_gives_its_address_back() {
    let mut ground = Ground::new("ACTIVE_STANDBY");
    let id = ground.create("blue", VIP);
    ground.wait_served(0);
    let path = format!("loadbalancers/{id}/failover");
    let asked = ground.api.call("PUT", &path, None);
    assert_eq!(asked.status, 202, "{}", asked.body);
    ground.api.wait_active(&id, NOTICE_MAX);
    // One left, and the other when that was over: the address of the first was free by then, unless it was slow to end.
    until("those that were left have ended", NOTICE_MAX, || {
        [ground.cables(0), ground.cables(1)] == [1, 1]
    });
    let own = ground.own_addresses(&id);
    assert_eq!(own.len(), 2);
    assert_ne!(own, ["10.0.0.100", "10.0.0.101"]);
    ground.wait_served(0);
    for address in &own {
        let refused = ground.try_create("blue", address);
        assert_eq!(refused.status, 409, "{address}: {}", refused.body);
    }
    until("an address that was left is free", NOTICE_MAX, || {
        ["10.0.0.100", "10.0.0.101"]
            .iter()
            .filter(|address| !own.iter().any(|own| own == *address))
            .any(|address| ground.try_create("blue", address).status == 201)
    });
}

/// A controller, two hosts that joined it, and one with the machines of two tenants, all on one underlay.
struct Ground {
    api: Octavia,
    agents: Vec<HostedAmphorae>,
    krater: Krater,
    tenants: [Tenant; 2],
    hosts: [Namespace; 2],
    _others: [Namespace; 3],
    _settings: NamedTempFile,
}

/// A tenant's only machine: a member, and a client.
struct Tenant {
    name: &'static str,
    machine: Namespace,
    member: HttpMember,
}

impl Ground {
    fn new(topology: &str) -> Self {
        let (here, hub, elsewhere) = (Namespace::enter_new(), Namespace::new(), Namespace::new());
        let hosts = [Namespace::new(), Namespace::new()];
        hub.ip(&["link", "add", "br0", "type", "bridge"]);
        hub.ip(&["link", "set", "br0", "up"]);
        let all = [(&hosts[0], 1), (&hosts[1], 2), (&here, 3), (&elsewhere, 4)];
        for (host, last) in all {
            let (port, address) = (format!("p{last}"), format!("192.0.2.{last}/24"));
            hub.link(&port, &[], host, "under", &[address.as_str()]);
            hub.ip(&["link", "set", &port, "master", "br0"]);
        }
        let tenants = [("blue", VNIS[0]), ("red", VNIS[1])];
        let tenants = tenants.map(|(name, vni)| Tenant::on(&elsewhere, name, vni));
        let settings = NamedTempFile::new().expect("a file for settings");
        let networks = tenants.iter().zip(VNIS).map(|(tenant, vni)| {
            let name = tenant.name;
            format!(
                "[[networks]]\nname = \"{name}\"\nsegment = {{ vni = {vni} }}\n[[networks.subnets]]\n\
                 name = \"{name}\"\ncidr = \"10.0.0.0/24\"\nfirst = \"10.0.0.100\"\n"
            )
        });
        let networks: String = networks.collect();
        let text = SETTINGS.replace("TOPOLOGY", topology);
        fs::write(settings.path(), text + &networks).expect("the settings can be written");
        let path = settings.path().to_string_lossy().into_owned();
        let krater = Krater::start("controller", &["--config", &path]);
        let join = |(at, name): (usize, &str)| {
            let token = host_token(&[]);
            hosts[at].run(|| HostedAmphorae::join_at("https://192.0.2.3:9877", &token, name, 9_880))
        };
        let agents = [(0, "one"), (1, "two")].map(join).into();
        ["one", "two"].iter().for_each(|name| wait_ready(name));
        Self {
            api: krater.api(),
            agents,
            krater,
            tenants,
            hosts,
            _others: [here, hub, elsewhere],
            _settings: settings,
        }
    }

    /// A load balancer for each tenant, all with the same address and the same member.
    fn create_for_all(&mut self) -> Vec<String> {
        let names = [self.tenants[0].name, self.tenants[1].name];
        names.map(|name| self.create(name, VIP)).into()
    }

    /// The addresses that amphorae have for themselves for a load balancer.
    fn own_addresses(&mut self, id: &str) -> Vec<String> {
        let own = self.amphorae(id);
        let mut own: Vec<String> = own.iter().map(|one| text(&one["vrrp_ip"])).collect();
        own.sort();
        own
    }

    fn amphorae(&self, id: &str) -> Vec<Value> {
        let mut api = self.krater.api();
        let all = api.get("/v2.0/octavia/amphorae")["amphorae"].clone();
        let all = all.as_array().cloned().unwrap_or_default();
        all.into_iter()
            .filter(|one| one["loadbalancer_id"] == id && one["role"] != "STANDALONE")
            .collect()
    }

    /// The only host on which an amphora of a load balancer has its VIP.
    fn holder(&self, id: &str) -> Option<usize> {
        let ids: Vec<String> = self
            .amphorae(id)
            .iter()
            .map(|one| text(&one["id"]))
            .collect();
        let has = |at: &usize| {
            self.agents[*at].carriers().into_iter().any(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).into_owned();
                ids.iter().any(|id| line.contains(id)) && has_vip(pid)
            })
        };
        let found: Vec<usize> = (0..2).filter(has).collect();
        match found[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Asks for a load balancer with nothing behind it.
    fn try_create(&mut self, tenant: &str, vip: &str) -> Reply {
        let subnet = self.api.subnet(tenant);
        let body = json!({"loadbalancer": {"vip_subnet_id": subnet, "vip_address": vip}});
        self.api.call("POST", "loadbalancers", Some(&body))
    }

    /// Creates a load balancer and waits until it is ACTIVE and its member ONLINE.
    fn create(&mut self, tenant: &str, vip: &str) -> String {
        let address: SocketAddr = MEMBER.parse().expect("an address");
        let pool = json!({
            "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "healthmonitor": monitor_json(),
            "members": [member_json(address)],
        });
        let body = json!({"loadbalancer": {
            "vip_subnet_id": self.api.subnet(tenant), "vip_address": vip,
            "listeners": [listener_json("HTTP", 80, &pool)],
        }});
        let created = self.api.post("loadbalancers", &body)["loadbalancer"].clone();
        let id = text(&created["id"]);
        self.api.wait_active(&id, NOTICE_MAX);
        let pool = &created["pools"][0];
        let member = text(
            &self
                .api
                .get(&format!("pools/{}/members", text(&pool["id"])))["members"][0]["id"],
        );
        let path = format!("pools/{}/members/{member}", text(&pool["id"]));
        self.api.wait_operating(&path, "ONLINE", SETTLE_MAX);
        id
    }

    fn wait_all_served(&self) {
        (0..self.tenants.len()).for_each(|at| self.wait_served(at));
    }

    /// Waits until a tenant is served at its VIP, by its own member alone.
    fn wait_served(&self, at: usize) {
        let tenant = &self.tenants[at];
        until("the tenant is served", NOTICE_MAX, || {
            tenant.machine.run(|| fetch(vip(), "/").is_ok())
        });
        let answers = tenant.machine.run(|| ask(vip(), 5));
        assert_eq!(answers.get(tenant.name), Some(&5), "{answers:?}");
        assert!(tenant.member.probes() > 0);
    }

    /// How many amphorae on networks of tenants a host has.
    fn cables(&self, at: usize) -> usize {
        self.named(at, &["kv-"])
    }

    /// How much of networks there is on a host.
    fn devices(&self, at: usize) -> usize {
        self.named(at, &["kv-", "kb-", "kx-"])
    }

    fn named(&self, at: usize, prefixes: &[&str]) -> usize {
        let all = self.hosts[at].run(|| fs::read_to_string("/proc/thread-self/net/dev"));
        let all = all.expect("the devices of a host");
        let is_one = |line: &&str| {
            let mut prefixes = prefixes.iter();
            prefixes.any(|prefix| line.trim().starts_with(prefix))
        };
        all.lines().filter(is_one).count()
    }

    /// Where a host sends what is for everybody on a network.
    fn tunnel_ends(&self, at: usize, vni: u32) -> Vec<String> {
        let shown = bridge(
            &self.hosts[at],
            &["fdb", "show", "dev", &format!("kx-{vni}")],
        );
        let everybody = shown
            .lines()
            .filter(|line| line.starts_with("00:00:00:00:00:00"));
        let ends = everybody.filter_map(|line| {
            let mut words = line.split(' ').skip_while(|word| *word != "dst");
            words.nth(1).map(str::to_owned)
        });
        let mut ends: Vec<String> = ends.collect();
        ends.sort();
        ends
    }

    fn until_nothing_is_left(&self) {
        until("nothing is left of the load balancers", SETTLE_MAX, || {
            (0..2).all(|at| self.devices(at) == 0)
        });
    }
}

impl Tenant {
    /// On a host without krater: its side of the tunnels is made by hand.
    fn on(host: &Namespace, name: &'static str, vni: u32) -> Self {
        let machine = Namespace::new();
        let [br, vx, port] = ["br", "vx", "port"].map(|kind| format!("{kind}-{name}"));
        let vni = vni.to_string();
        host.ip(&["link", "add", &br, "type", "bridge"]);
        host.ip(&[
            "link",
            "add",
            &vx,
            "type",
            "vxlan",
            "id",
            &vni,
            "local",
            "192.0.2.4",
            "dstport",
            "4789",
        ]);
        for end in ["192.0.2.1", "192.0.2.2"] {
            bridge(
                host,
                &["fdb", "append", "00:00:00:00:00:00", "dev", &vx, "dst", end],
            );
        }
        machine.link("eth0", &["10.0.0.20/24"], host, &port, &[]);
        machine.ip(&["link", "set", "eth0", "mtu", "1450"]);
        for device in [&vx, &port] {
            host.ip(&["link", "set", device, "master", &br]);
        }
        for device in [&vx, &br] {
            host.ip(&["link", "set", device, "up"]);
        }
        let member = machine.run(|| HttpMember::start(name, MEMBER));
        Self {
            name,
            machine,
            member,
        }
    }
}

fn bridge(host: &Namespace, arguments: &[&str]) -> String {
    let mut command = Command::new("bridge");
    let output = command.args(["-n", host.name()]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("bridge runs").stdout).into_owned()
}

/// Whether a process lives where the VIP is.
fn has_vip(pid: u32) -> bool {
    let output = Command::new("nsenter")
        .args(["--net", "--target", &pid.to_string()])
        .args(["ip", "-o", "address", "show", "dev", "eth0"])
        .output()
        .expect("nsenter runs");
    String::from_utf8_lossy(&output.stdout).contains(&format!(" {VIP}/"))
}

fn vip() -> SocketAddr {
    SocketAddr::new(VIP.parse().expect("an address"), 80)
}

const VIP: &str = "10.0.0.10";
const MEMBER: &str = "10.0.0.20:8080";
const VNIS: [u32; 2] = [42, 43];
/// Amphorae on hosts that join; the machines of tenants are on a host that only the settings tell of.
const SETTINGS: &str = r#"
[fleet]
on_this_host = false
heartbeat = "500ms"
silence = "60s"
drain = "1s"
[intake]
listen = "0.0.0.0:9877"
controllers = ["192.0.2.3:9877"]
[turns]
topology = "TOPOLOGY"
advert_interval = "100ms"
[network.vxlan]
peers = ["192.0.2.4"]
"#;
