//! Networks of tenants: the very same addresses twice on one host, each tenant with its own.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
};

use krater_tests::{HttpMember, Krater, Namespace, Octavia, fetch};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{SETTLE_MAX, ask, listener_json, member_json, monitor_json, text};

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

/// A host with krater on it, and networks of tenants.
struct Ground {
    api: Octavia,
    _krater: Krater,
    host: Namespace,
    _folder: TempDir,
}

impl Ground {
    fn with(networks: &[String]) -> Self {
        let host = Namespace::enter_new();
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("krater.toml");
        fs::write(&config, networks.concat()).expect("the settings can be written");
        let krater = Krater::start("up", &["--config", &config.to_string_lossy()]);
        Self {
            api: krater.api(),
            _krater: krater,
            host,
            _folder: folder,
        }
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

const SECOND_SUBNET: &str = "[[networks.subnets]]\nname = \"blue-second\"\ncidr = \"10.1.0.0/24\"\ngateway = \"10.1.0.1\"\n";
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 10));
