//! What a siege is laid to: the networks, the programs, the load balancers, and how all of it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Siege, members::Witness, scores::Scores, writers::Ledger};
use crate::{
    hosted::{HostedAmphorae, krater_host_json},
    krater::Krater,
    namespace::Namespace,
    octavia::{Octavia, collect_unsettled},
    postgres::Postgres,
    wait::until,
};

/// Everything that runs. Fields are dropped in this order.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) controllers: Vec<Krater>,
    pub(super) hosts: Vec<HostedAmphorae>,
    pub(super) balancers: Vec<Balancer>,
    pub(super) database: Postgres,
    /// Where writers make load balancers of their own.
    pub(super) subnet: String,
    witnesses: Vec<Witness>,
    apis: Vec<Octavia>,
    _settings: TempDir,
    places: Arc<Places>,
}

/// The networks.
#[derive(Debug)]
pub(super) struct Places {
    /// Of clients, members, controllers and the bridge that all hosts are joined to.
    pub(super) network: Namespace,
    pub(super) hosts: Vec<Namespace>,
    /// The address of each host, by the name of its namespace.
    pub(super) ways: BTreeMap<String, Ipv4Addr>,
}

/// A load balancer of the siege.
#[derive(Debug, Clone)]
pub(super) struct Balancer {
    pub(super) name: String,
    pub(super) id: String,
    pub(super) pool: String,
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    /// Whether two amphorae take turns at it.
    pub(super) is_pair: bool,
}

/// What is spoken with clients and members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Tcp,
    Http,
}

impl Ground {
    pub(super) fn lay(siege: &Siege, tell: &dyn Fn(&str)) -> Self {
        let places = Arc::new(Places::join(siege.hosts));
        let database = Postgres::start();
        let settings = tempfile::tempdir().expect("a temporary folder");
        let (url, _) = database.database();
        let config = settings.path().join("krater.toml");
        let numbers = 0..u16::try_from(siege.controllers).expect("few controllers");
        let intakes: Vec<_> = numbers
            .clone()
            .map(|number| format!("{HOME}:{}", port(number) + 1))
            .collect();
        let text =
            format!("[store]\nurl = \"{url}\"\n[intake]\ncontrollers = {intakes:?}\n{SETTINGS}");
        fs::write(&config, text).expect("settings are written");
        let path = config.to_string_lossy().into_owned();
        let mut controllers: Vec<Krater> = numbers
            .map(|number| {
                Krater::prepare("controller", &["--config", &path])
                    .at_address(port(number), HOME)
                    .with_variable(
                        "KRATER_SEAL_KEY",
                        "the same secret for all controllers here",
                    )
            })
            .collect();
        controllers.iter_mut().for_each(Krater::resume);
        tell(&format!(
            "{} controllers on one database",
            controllers.len()
        ));
        let mut apis: Vec<Octavia> = controllers.iter().map(Krater::api).collect();
        let mut hosts = Vec::new();
        for (number, place) in places.hosts.iter().enumerate() {
            let at = port(u16::try_from(number % controllers.len()).unwrap_or(0));
            let endpoint = format!("http://127.0.0.1:{at}");
            let made = krater_host_json(&["token", "--endpoint", &endpoint]);
            let token = made["token"].as_str().expect("a token").to_owned();
            let (name, intake) = (
                format!("host-{}", number + 1),
                format!("https://{HOME}:{}", at + 1),
            );
            hosts.push(place.run(|| HostedAmphorae::join_at(&intake, &token, &name, 9_880)));
        }
        until("all hosts have an amphora", LAY_MAX, || {
            hosts_up(&mut apis[0]).is_ok_and(|up| up == siege.hosts)
        });
        tell(&format!("{} hosts have joined", hosts.len()));
        let (witnesses, balancers) = create(siege.balancers, &mut apis);
        let subnet = apis[0].subnet("routed");
        tell(&format!("{} load balancers are ACTIVE", balancers.len()));
        Self {
            controllers,
            hosts,
            balancers,
            database,
            subnet,
            witnesses,
            apis,
            _settings: settings,
            places,
        }
    }

    pub(super) fn places(&self) -> Arc<Places> {
        Arc::clone(&self.places)
    }

    /// Where the controllers' APIs are.
    pub(super) fn apis(&self) -> Vec<SocketAddr> {
        let numbers = (0..).take(self.controllers.len());
        numbers
            .map(|number| SocketAddr::from(([127, 0, 0, 1], port(number))))
            .collect()
    }

    /// Cuts the cable of a host, or mends it.
    pub(super) fn cable(&self, at: usize, is_plugged: bool) {
        let state = if is_plugged { "up" } else { "down" };
        self.places.network.ip(&["link", "set", &cable(at), state]);
    }

    /// The machine is on again, with no more addresses than its own.
    pub(super) fn boot(&self, at: usize) {
        let host = &self.places.hosts[at];
        host.ip(&["address", "flush", "dev", "eth0", "scope", "global"]);
        host.ip(&[
            "address",
            "add",
            &format!("{}/24", address(at)),
            "dev",
            "eth0",
        ]);
        self.cable(at, true);
    }

    /// Waits until all is as it should be: every controller answers, every host is up with its amphora, every load balancer
    /// was seen ACTIVE since then, and answers. If that takes too long, what is not.
    pub(super) fn wait_whole(&mut self, since: Instant, scores: &Scores) -> Result<(), String> {
        let start = Instant::now();
        let mut active = BTreeSet::new();
        loop {
            match self.look(since, scores, &mut active) {
                Ok(()) => return Ok(()),
                Err(why) if start.elapsed() > WHOLE_MAX => return Err(why),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn look(
        &mut self,
        since: Instant,
        scores: &Scores,
        active: &mut BTreeSet<String>,
    ) -> Result<(), String> {
        for (number, api) in self.apis.iter_mut().enumerate() {
            let listed = ask(api, "loadbalancers?fields=id&fields=provisioning_status")
                .map_err(|why| format!("controller {}: {why}", number + 1))?;
            let all = listed["loadbalancers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let settled = all
                .iter()
                .filter(|one| one["provisioning_status"] == "ACTIVE");
            active.extend(settled.filter_map(|one| one["id"].as_str().map(str::to_owned)));
            let up = hosts_up(api)?;
            if up < self.hosts.len() {
                return Err(format!(
                    "{up} of {} hosts are up with an amphora",
                    self.hosts.len()
                ));
            }
        }
        for (number, balancer) in self.balancers.iter().enumerate() {
            if !active.contains(&balancer.id) {
                return Err(format!("{} {} is not ACTIVE", balancer.name, balancer.id));
            }
            let answered = scores.answered(number);
            if answered <= since || answered.elapsed() > ANSWERED_MAX {
                return Err(format!("{} does not answer", balancer.name));
            }
        }
        Ok(())
    }

    /// Waits until everything there is is ACTIVE, at most until 60 seconds after the last kill. What is not by then.
    pub(super) fn wait_settled(&mut self, last: Instant) -> Vec<String> {
        loop {
            let unsettled = self.unsettled().unwrap_or_else(|why| vec![why]);
            if unsettled.is_empty() || last.elapsed() > STUCK_AFTER {
                return unsettled;
            }
            thread::sleep(LOOK);
        }
    }

    fn unsettled(&mut self) -> Result<Vec<String>, String> {
        let api = &mut self.apis[0];
        let listed = ask(api, "loadbalancers?fields=id")?;
        let all = listed["loadbalancers"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let mut found = Vec::new();
        for id in all.iter().filter_map(|one| one["id"].as_str()) {
            let reply = api.try_call("GET", &format!("loadbalancers/{id}/status"), None);
            let reply = reply.map_err(|error| format!("{error:#}"))?;
            match reply.status {
                200 => collect_unsettled(&reply.body, "", &mut found),
                // Gone since it was listed, as it was to be.
                404 => {}
                status => found.push(format!("{id}: {status} {}", reply.body)),
            }
        }
        Ok(found)
    }

    /// What a writer was told and is not so.
    pub(super) fn lost_of(&mut self, ledger: &Ledger) -> Vec<String> {
        let api = &mut self.apis[0];
        let mut lost = Vec::new();
        for (id, page) in &ledger.pages {
            let shown = api.get(&format!("loadbalancers/{id}"))["loadbalancer"].clone();
            let described = shown["description"].as_str().unwrap_or_default();
            if !page.descriptions.iter().any(|one| one == described) {
                let told = &page.descriptions;
                lost.push(format!(
                    "{id} is described by {described:?}, told was {told:?}"
                ));
            }
            let listed = api.get(&format!("pools/{}/members?limit=1000", page.pool));
            let members = listed["members"].as_array().cloned().unwrap_or_default();
            let found: BTreeSet<&str> = members
                .iter()
                .filter_map(|one| one["id"].as_str())
                .collect();
            let gone = page
                .present
                .iter()
                .filter(|id| !found.contains(id.as_str()));
            lost.extend(gone.map(|member| format!("member {member} of {id} is gone")));
            let back = page.absent.iter().filter(|id| found.contains(id.as_str()));
            lost.extend(back.map(|member| format!("member {member} of {id} is back")));
        }
        for (id, wanted) in &ledger.balancers {
            let status = api.call("GET", &format!("loadbalancers/{id}"), None).status;
            if status != *wanted {
                lost.push(format!("load balancer {id}: {status}, told was {wanted}"));
            }
        }
        lost
    }

    /// Tokens that came to a member more than once.
    pub(super) fn doubled(&self) -> u64 {
        self.witnesses.iter().map(Witness::doubled).sum()
    }
}

impl Places {
    /// A bridge, and hosts joined to it that take the routed addresses for their own.
    fn join(count: usize) -> Self {
        let network = Namespace::enter_new();
        network.ip(&["link", "add", "br0", "type", "bridge"]);
        network.ip(&["address", "add", &format!("{HOME}/24"), "dev", "br0"]);
        network.ip(&["link", "set", "br0", "up"]);
        let hosts: Vec<Namespace> = (0..count).map(|_| Namespace::new()).collect();
        let mut ways = BTreeMap::new();
        for (at, host) in hosts.iter().enumerate() {
            let own = format!("{}/24", address(at));
            network.link(&cable(at), &[], host, "eth0", &[own.as_str()]);
            network.ip(&["link", "set", &cable(at), "master", "br0"]);
            host.ip(&[
                "route",
                "add",
                "local",
                &format!("{ROUTED}/24"),
                "dev",
                "lo",
            ]);
            ways.insert(host.name().to_owned(), address(at));
        }
        Self {
            network,
            hosts,
            ways,
        }
    }
}

/// The load balancers, each with a member of its own.
fn create(count: usize, apis: &mut [Octavia]) -> (Vec<Witness>, Vec<Balancer>) {
    let data = r#"{"loadbalancer_topology": "ACTIVE_STANDBY"}"#;
    let profile =
        json!({"flavorprofile": {"name": "pair", "provider_name": "amphora", "flavor_data": data}});
    let profile = apis[0].post("flavorprofiles", &profile);
    let flavor = json!({"flavor": {"name": "pair", "enabled": true, "flavor_profile_id": profile["flavorprofile"]["id"]}});
    let flavor = apis[0].post("flavors", &flavor)["flavor"]["id"].clone();
    let subnets = ["routed", "flat"].map(|name| apis[0].subnet(name));
    let (mut witnesses, mut balancers) = (Vec::new(), Vec::new());
    for number in 0..count {
        let (protocol, spoken) = [(Protocol::Tcp, "TCP"), (Protocol::Http, "HTTP")][number % 2];
        let is_pair = number % 3 == 2;
        let name = format!("{}-{number}", if is_pair { "pair" } else { "single" });
        let witness = Witness::start(&name, protocol, HOME);
        let member = json!({"address": HOME, "protocol_port": witness.address().port()});
        let pool = json!({
            "name": "p", "protocol": spoken, "lb_algorithm": "ROUND_ROBIN", "members": [member],
        });
        let mut body = json!({"loadbalancer": {
            "name": name, "description": FIRST_DESCRIPTION, "vip_subnet_id": subnets[usize::from(is_pair)],
            "listeners": [{"protocol": spoken, "protocol_port": 80, "default_pool": pool}],
        }});
        if is_pair {
            body["loadbalancer"]["flavor_id"] = flavor.clone();
        }
        let api = number % apis.len();
        let created = apis[api].post("loadbalancers", &body)["loadbalancer"].clone();
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let vip = text(&created["vip_address"]).parse().expect("an address");
        witnesses.push(witness);
        balancers.push(Balancer {
            name,
            id: text(&created["id"]),
            pool: text(&created["pools"][0]["id"]),
            address: SocketAddr::new(vip, 80),
            protocol,
            is_pair,
        });
    }
    for balancer in &balancers {
        apis[0].wait_active(&balancer.id, LAY_MAX);
    }
    (witnesses, balancers)
}

/// How many hosts are heard of and have an amphora ready.
fn hosts_up(api: &mut Octavia) -> Result<usize, String> {
    let listed = ask(api, "/krater/v1/hosts")?;
    let hosts = listed["hosts"].as_array().cloned().unwrap_or_default();
    let is_ready = |host: &&Value| {
        let amphorae = host["amphorae"].as_array().cloned().unwrap_or_default();
        host["status"] == "up" && amphorae.iter().any(|one| one["status"] == "ALLOCATED")
    };
    Ok(hosts.iter().filter(is_ready).count())
}

fn ask(api: &mut Octavia, path: &str) -> Result<Value, String> {
    match api.try_call("GET", path, None) {
        Ok(reply) if reply.status == 200 => Ok(reply.body),
        Ok(reply) => Err(format!("{path}: {} {}", reply.status, reply.body)),
        Err(error) => Err(format!("{path}: {error:#}")),
    }
}

/// Where the API of a controller listens; reports and metrics after it.
const fn port(number: u16) -> u16 {
    9_900 + number * 10
}

/// The end of a host's cable that is at the bridge.
fn cable(at: usize) -> String {
    format!("p{at}")
}

/// The address of a host.
fn address(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 11 + u8::try_from(at).unwrap_or(u8::MAX))
}

/// Of clients, members and controllers.
const HOME: &str = "10.9.0.1";
/// The network of VIPs that are reached by routes.
pub(super) const ROUTED: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 0);
/// What load balancers are described by before anybody edits them.
pub(super) const FIRST_DESCRIPTION: &str = "as created";

const SETTINGS: &str = r#"
[fleet]
on_this_host = false
heartbeat = "500ms"
silence = "3s"
drain = "2s"
[turns]
advert_interval = "100ms"
[[networks]]
name = "routed"
[[networks.subnets]]
name = "routed"
cidr = "10.77.0.0/24"
[[networks]]
name = "flat"
[[networks.subnets]]
name = "flat"
cidr = "10.9.0.0/24"
first = "10.9.0.100"
last = "10.9.0.250"
"#;

const LAY_MAX: Duration = Duration::from_secs(60);
/// The end of waiting for all to be as it should be after a kill.
const WHOLE_MAX: Duration = Duration::from_secs(30);
const ANSWERED_MAX: Duration = Duration::from_secs(1);
const STUCK_AFTER: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(100);
