//! Sessions that amphorae have learned survive who carries them: the other one goes on with them.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use krater_tests::{
    Authority, Connection, HostedAmphorae, HttpMember, Namespace, Pair, PairedAmphora, Signal,
    TcpMember, fetch, host_token, send, until, until_some, vips,
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use serde_json::{Value, json};

use crate::{
    scene::{SETTLE_MAX, text},
    turns::{INTAKE, controller_of_two, wait_for_amphorae},
};

#[test]
fn clients_stay_with_their_members_when_the_host_that_served_them_dies() {
    let scene = Scene::new();
    let [mut a, b] = scene.both();
    let homes = scene.learn();
    scene.wait_told();
    let agent = a.agent().expect("an agent is alive");
    // Not even its supervisor says goodbye.
    a.program().kill();
    send(agent, Signal::KILL);
    scene.pair.cable(0, false);
    until("the other one has the VIPs", BOUND, || {
        scene.pair.has_vips(1)
    });
    scene.pair.wait_served_by(1, BOUND);
    assert_eq!(scene.homes(), homes);
    drop(b);
}

#[test]
fn clients_stay_with_their_members_over_one_end_after_the_other() {
    let scene = Scene::new();
    let [mut a, mut b] = scene.both();
    let mut homes = scene.learn();
    // What it learns while it ends is told, too: nothing is waited for here.
    a.program().terminate();
    scene.pair.wait_held_by(1, BOUND);
    assert_eq!(scene.homes(), homes);
    // Who comes back knows nobody, and is told of all.
    let _a = scene.start(0, 100);
    scene.wait_connected(0);
    let all = homes.len();
    scene.wait_taken(0, all);
    homes.extend(scene.learn_more());
    b.program().terminate();
    scene.pair.wait_held_by(0, BOUND);
    assert_eq!(scene.all_homes(), homes);
}

#[test]
fn an_agent_that_is_killed_is_told_by_the_other_one_what_it_had_learned() {
    let scene = Scene::new();
    // Long enough for it to be back before the other one takes over.
    let [a, _b] = scene.both_each(2_000);
    let homes = scene.learn();
    scene.wait_told();
    let before = a.agent();
    a.signal_agent(Signal::KILL);
    until("another agent is there", BOUND, || {
        a.agent().is_some_and(|pid| Some(pid) != before)
    });
    scene.wait_taken(0, homes.len());
    assert_eq!(scene.homes(), homes);
}

#[test]
fn a_new_program_goes_on_with_the_sessions_of_the_one_before() {
    let scene = Scene::new();
    let mut a = scene.start(0, 100);
    scene.pair.wait_held_by(0, BOUND);
    // There is nobody else to be told by.
    let homes = scene.learn();
    for _ in 0..2 {
        a.succeed(BOUND);
        assert_eq!(scene.homes(), homes);
    }
    assert!(
        !a.state_folder().join("sessions").exists(),
        "it is read once"
    );
}

#[test]
fn sessions_go_along_when_a_load_balancer_fails_over_to_other_hosts() {
    let network = Namespace::enter_new();
    let scene = Scene::new();
    let third = Namespace::new();
    scene.pair.attach(&network, 3);
    scene.pair.attach(&third, 4);
    third.ip(&["route", "add", "default", "via", "10.9.0.254"]);
    let krater = controller_of_two();
    let mut api = krater.api();
    let join = |name| {
        let token = host_token(&[]);
        move || HostedAmphorae::join_at(INTAKE, &token, name, 9_880)
    };
    let hosts = [
        scene.pair.on(0, join("one")),
        scene.pair.on(1, join("two")),
        third.run(join("three")),
    ];
    wait_for_amphorae(&krater, 3);
    let subnet = api.subnet("flat");
    let body = scene.load_balancer(&subnet);
    let created = api.post("loadbalancers", &body)["loadbalancer"].clone();
    let id = text(&created["id"]);
    api.wait_active(&id, SETTLE_MAX);
    let mut carriers = || -> BTreeMap<String, String> {
        let path = format!("/v2.0/octavia/amphorae?loadbalancer_id={id}");
        let amphorae = api.get(&path)["amphorae"].clone();
        let all = amphorae.as_array().cloned().unwrap_or_default();
        let named = |one: &Value| (text(&one["id"]), text(&one["role"]));
        all.iter().map(named).collect()
    };
    let before = carriers();
    assert_eq!(before.len(), 2, "{before:?}");
    let exchanged = || -> usize {
        let logs = hosts.iter().map(HostedAmphorae::amphora_logs);
        logs.map(|log| log.matches("sessions are exchanged").count())
            .sum()
    };
    until("they are acquainted", BOUND, || exchanged() >= 2);
    let homes = scene.learn();
    let mut again = krater.api();
    let reply = again.call("PUT", &format!("loadbalancers/{id}/failover"), None);
    assert_eq!(reply.expect(202), Value::Null);
    let (first, _) = before
        .iter()
        .find(|(_, role)| *role == "MASTER")
        .expect("one is preferred");
    until("it is on other hosts", BOUND, || {
        let now = carriers();
        now.len() == 2 && !now.contains_key(first)
    });
    again.wait_active(&id, SETTLE_MAX);
    assert_eq!(scene.homes(), homes);
}

/// Members behind the router, so that both hosts reach the very same, and what clients are served by.
struct Scene {
    pair: Pair,
    authority: Authority,
    http: Vec<HttpMember>,
    tcp: Vec<TcpMember>,
}

/// Which member each client is with, by what it is known by.
type Homes = BTreeMap<String, String>;

impl Scene {
    fn new() -> Self {
        let pair = Pair::new();
        pair.as_client(|| {
            for last in SOURCES {
                let address = format!("10.8.0.{last}/24");
                let add = Command::new("ip")
                    .args(["address", "add", &address, "dev", "eth0"])
                    .status();
                assert!(add.is_ok_and(|status| status.success()));
            }
        });
        let (http, tcp) = pair.as_client(|| {
            let http = NAMES.map(|name| HttpMember::start(name, "10.8.0.1:0"));
            (http, NAMES.map(|name| TcpMember::start(name, "10.8.0.1:0")))
        });
        Self {
            pair,
            authority: Authority::new("fleet"),
            http: http.into(),
            tcp: tcp.into(),
        }
    }

    /// What tenants ask for to have the same.
    fn load_balancer(&self, subnet: &str) -> Value {
        let members = |addresses: Vec<SocketAddr>| -> Vec<Value> {
            let member = |to: SocketAddr| json!({"address": to.ip(), "protocol_port": to.port()});
            addresses.into_iter().map(member).collect()
        };
        let listener = |protocol: &str, port: u16, members: Vec<Value>, persistence: Value| {
            let pool = json!({
                "name": protocol, "protocol": protocol, "lb_algorithm": "ROUND_ROBIN",
                "members": members, "session_persistence": persistence,
            });
            json!({"protocol": protocol, "protocol_port": port, "default_pool": pool})
        };
        let http = members(self.http.iter().map(HttpMember::address).collect());
        let tcp = members(self.tcp.iter().map(TcpMember::address).collect());
        let by_cookie = json!({"type": "APP_COOKIE", "cookie_name": "sid"});
        let listeners = [
            listener("HTTP", 80, http, by_cookie),
            listener("TCP", 90, tcp, json!({"type": "SOURCE_IP"})),
        ];
        json!({"loadbalancer": {
            "vip_subnet_id": subnet, "vip_address": "10.9.0.100", "listeners": listeners,
        }})
    }

    fn start(&self, at: usize, priority: u8) -> PairedAmphora {
        self.start_each(at, priority, 100)
    }

    fn start_each(&self, at: usize, priority: u8, interval_ms: u32) -> PairedAmphora {
        let mut spec = self.pair.spec(at, priority, interval_ms);
        let id = |number: usize| format!("00000000-0000-4000-8000-0000000000{number:02}");
        let members = |addresses: Vec<SocketAddr>, first: usize| -> Vec<Value> {
            let members = addresses.into_iter().enumerate();
            members
                .map(
                    |(at, to)| json!({"id": id(first + at), "address": to.ip(), "port": to.port()}),
                )
                .collect()
        };
        let http = members(self.http.iter().map(HttpMember::address).collect(), 30);
        let tcp = members(self.tcp.iter().map(TcpMember::address).collect(), 40);
        let listeners = [
            json!({"id": id(20), "protocol": "http", "port": 80, "default_pool": id(21)}),
            json!({"id": id(22), "protocol": "tcp", "port": 90, "default_pool": id(23)}),
        ];
        let pools = [
            json!({"id": id(21), "protocol": "http", "algorithm": "round_robin", "members": http,
                "persistence": {"type": "app_cookie", "name": "sid"}}),
            json!({"id": id(23), "protocol": "tcp", "algorithm": "round_robin", "members": tcp,
                "persistence": {"type": "source_ip"}}),
        ];
        spec["listeners"]
            .as_array_mut()
            .expect("a list")
            .extend(listeners);
        spec["pools"].as_array_mut().expect("a list").extend(pools);
        self.pair.acquainted(at, &spec, &self.authority)
    }

    /// Both started and acquainted, the first one serving.
    fn both(&self) -> [PairedAmphora; 2] {
        self.both_each(100)
    }

    fn both_each(&self, interval_ms: u32) -> [PairedAmphora; 2] {
        let a = self.start_each(0, 100, interval_ms);
        self.pair.wait_held_by(0, BOUND);
        let b = self.start_each(1, 90, interval_ms);
        self.pair.wait_served_by(0, BOUND);
        self.wait_connected(0);
        self.wait_connected(1);
        [a, b]
    }

    /// Has sessions begin, and clients come. Where they are.
    fn learn(&self) -> Homes {
        self.begin(&SESSIONS[..6]);
        self.homes()
    }

    /// More of them.
    fn learn_more(&self) -> Homes {
        self.begin(&SESSIONS[6..]);
        self.all_homes()
    }

    fn begin(&self, sessions: &[&str]) {
        for session in sessions {
            let answer = self
                .pair
                .as_client(|| fetch(at(80), &format!("/session/{session}")));
            let answer = answer.expect("an answer");
            assert_eq!(
                answer.header("set-cookie"),
                Some(format!("sid={session}").as_str())
            );
        }
    }

    fn homes(&self) -> Homes {
        self.homes_of(&SESSIONS[..6])
    }

    fn all_homes(&self) -> Homes {
        self.homes_of(&SESSIONS)
    }

    /// Where sessions and sources are now.
    fn homes_of(&self, sessions: &[&str]) -> Homes {
        self.pair.as_client(|| {
            let sessions = sessions.iter().map(|session| {
                let cookie = format!("sid={session}");
                let member = until_some("a session is served", BOUND, || ask(&cookie));
                (cookie, member)
            });
            let sources = SOURCES.map(|last| {
                let source = format!("10.8.0.{last}");
                let member = until_some("a source is served", BOUND, || greet(&source));
                (source, member)
            });
            sessions.chain(sources).collect()
        })
    }

    fn wait_connected(&self, host: usize) {
        let peer = format!("00000000-0000-4000-8000-0000000000b{}", 1 - host);
        let series = format!("krater_amphora_session_peer_connected{{peer=\"{peer}\"}}");
        until("they are acquainted", BOUND, || {
            self.counter(host, &series) > 0.5
        });
    }

    /// Waits until the second host was told all that the first one has learned.
    fn wait_told(&self) {
        let exchanged = |host, result| {
            let series = "krater_amphora_sessions_exchanged_total";
            self.counter(host, &format!("{series}{{result=\"{result}\"}}"))
        };
        // What is learned is told ten times a second.
        thread::sleep(Duration::from_millis(500));
        until("all is told", BOUND, || {
            let told = exchanged(0, "told");
            told > 0.5 && told <= exchanged(1, "taken") + exchanged(1, "known")
        });
    }

    /// Waits until a host was told of so many clients.
    fn wait_taken(&self, host: usize, clients: usize) {
        let series = "krater_amphora_sessions_exchanged_total{result=\"taken\"}";
        let least = f64::from(u32::try_from(clients).expect("few"));
        until("it was told", BOUND, || self.counter(host, series) >= least);
    }

    /// A series of a host's amphora; zero while it is not there.
    fn counter(&self, host: usize, series: &str) -> f64 {
        self.pair.on(host, || {
            let metrics = "127.0.0.1:9444".parse().expect("an address");
            let Ok(answer) = fetch(metrics, "/metrics") else {
                return 0.0;
            };
            let text = answer.text();
            let name = format!("{series} ");
            let mut lines = text.lines();
            let value = lines.find_map(|line| line.strip_prefix(&name));
            value.map_or(0.0, |value| value.parse().expect("a number"))
        })
    }
}

/// Which member answers a request of a session.
fn ask(cookie: &str) -> Option<String> {
    let mut connection = Connection::open(at(80)).ok()?;
    let headers = [("cookie", cookie), ("connection", "close")];
    let answer = connection.request("GET", "/", &headers, None).ok()?;
    let body: Value = serde_json::from_str(&answer.text()).ok()?;
    Some(body["member"].as_str()?.to_owned())
}

/// Which member greets a connection from that address.
fn greet(source: &str) -> Option<String> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).ok()?;
    let source: SocketAddr = format!("{source}:0").parse().ok()?;
    bind(&socket, &source).ok()?;
    connect(&socket, &at(90)).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    let name = line.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(vips()[0].ip(), port)
}

/// Thirteen clients are with the same of three members by chance once in a million runs.
const NAMES: [&str; 3] = ["one", "two", "three"];
const SESSIONS: [&str; 9] = ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"];
const SOURCES: [u8; 7] = [21, 22, 23, 24, 25, 26, 27];
const BOUND: Duration = Duration::from_secs(30);
