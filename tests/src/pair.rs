//! Two hosts that take turns at addresses, on one link with a router behind which the clients are.

use std::{
    collections::BTreeMap,
    fs,
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rcgen::SanType;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    authority::Authority,
    datagrams::UdpMember,
    krater::send,
    namespace::Namespace,
    process::{Program, Signal, binary},
    wait::{until, until_some},
};

/// The network: two hosts and a router on a bridge, clients behind the router.
#[derive(Debug)]
pub struct Pair {
    hub: Namespace,
    _router: Namespace,
    clients: Namespace,
    hosts: [Namespace; 2],
    /// One on each host, named `a` and `b`, so that answers tell which host served.
    members: [UdpMember; 2],
}

impl Pair {
    /// Sets it up.
    pub fn new() -> Self {
        let (hub, router, clients) = (Namespace::new(), Namespace::new(), Namespace::new());
        let hosts = [Namespace::new(), Namespace::new()];
        hub.ip(&["link", "add", "br0", "type", "bridge"]);
        hub.ip(&["link", "set", "br0", "up"]);
        let ports = [
            ("p0", &hosts[0], 1),
            ("p1", &hosts[1], 2),
            ("p9", &router, 254),
        ];
        for (port, namespace, last) in ports {
            let addresses = [format!("10.9.0.{last}/24"), format!("fd09::{last}/64")];
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            hub.link(port, &[], namespace, "eth0", &addresses);
            hub.ip(&["link", "set", port, "master", "br0"]);
        }
        clients.link(
            "eth0",
            &["10.8.0.1/24", "fd08::1/64"],
            &router,
            "eth1",
            &["10.8.0.254/24", "fd08::254/64"],
        );
        router.run(|| {
            for switch in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{switch}"), "1").expect("a router forwards");
            }
        });
        clients.ip(&["route", "add", "default", "via", "10.8.0.254"]);
        clients.ip(&["-6", "route", "add", "default", "via", "fd08::254"]);
        for host in &hosts {
            host.ip(&["route", "add", "default", "via", "10.9.0.254"]);
            host.ip(&["-6", "route", "add", "default", "via", "fd09::254"]);
        }
        let member = |at: usize, name| hosts[at].run(|| UdpMember::start(name, "127.0.0.1:7000"));
        let members = [member(0, "a"), member(1, "b")];
        Self {
            hub,
            _router: router,
            clients,
            hosts,
            members,
        }
    }

    /// Puts one more on the link: `10.9.0.LAST`.
    pub fn attach(&self, namespace: &Namespace, last: u8) {
        let (port, address) = (format!("p{last}"), format!("10.9.0.{last}/24"));
        self.hub
            .link(&port, &[], namespace, "eth0", &[address.as_str()]);
        self.hub.ip(&["link", "set", &port, "master", "br0"]);
    }

    /// Does something on host `at`.
    pub fn on<T: Send>(&self, at: usize, action: impl FnOnce() -> T + Send) -> T {
        self.hosts[at].run(action)
    }

    /// What an amphora of host `at` serves: datagrams at port 53 of the VIPs, by the member of its host.
    pub fn spec(&self, at: usize, priority: u8, interval_ms: u32) -> Value {
        let id = |number: u8| format!("00000000-0000-4000-8000-0000000000{number:02}");
        json!({
            "load_balancer": id(1), "generation": 1, "vips": [{"address": VIP}, {"address": VIP6}],
            "listeners": [{"id": id(2), "protocol": "udp", "port": 53, "default_pool": id(3)}],
            "pools": [{"id": id(3), "protocol": "udp", "members": [
                {"id": id(4), "address": "127.0.0.1", "port": self.members[at].address().port()},
            ]}],
            "announcement": {
                "virtual_router": 7, "priority": priority, "advert_interval_ms": interval_ms,
                "address": address(at), "peers": [address(1 - at)],
            },
        })
    }

    /// Starts a supervised amphora on host `at` that serves `spec` from its disk.
    pub fn amphora(&self, at: usize, spec: &Value) -> PairedAmphora {
        PairedAmphora::start(&self.hosts[at], AMPHORA, spec, "")
    }

    /// The same as one of a fleet, whose agent the other one reaches and knows: it exchanges sessions with it.
    pub fn acquainted(&self, at: usize, spec: &Value, authority: &Authority) -> PairedAmphora {
        let mut spec = spec.clone();
        let agent = format!("{}:9443", address(1 - at));
        spec["session_peers"] = json!([{"amphora": acquainted(1 - at), "agent": agent}]);
        let listen = format!("{}:9443", address(at));
        let (host, id) = (&self.hosts[at], acquainted(at));
        let settings = "metrics = \"127.0.0.1:9444\"\n";
        PairedAmphora::start_at(host, &id, &listen, &spec, settings, Some(authority))
    }

    /// Does something where clients are.
    pub fn as_client<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        self.clients.run(action)
    }

    /// Starts keepalived on host `at`.
    pub fn keepalived(&self, at: usize, priority: u8, interval_ms: u32) -> Keepalived {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("keepalived.conf");
        let text = format!(
            "global_defs {{\n vrrp_version 3\n}}\nvrrp_instance x {{\n state BACKUP\n nopreempt\n interface eth0\n \
             virtual_router_id 7\n priority {priority}\n advert_int {}\n unicast_src_ip {}\n \
             unicast_peer {{\n {}\n }}\n virtual_ipaddress {{\n {VIP}/32 dev eth0\n }}\n \
             virtual_ipaddress_excluded {{\n {VIP6}/128 dev eth0\n }}\n}}\n",
            f64::from(interval_ms) / 1000.0,
            address(at),
            address(1 - at),
        );
        fs::write(&config, text).expect("a configuration");
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new("keepalived");
        command
            .args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"])
            .arg("--use-file")
            .arg(&config)
            .arg("--pid")
            .arg(path("pid"))
            .arg("--vrrp_pid")
            .arg(path("vrrp.pid"));
        let log = path("log");
        let program = self.hosts[at].run(|| Program::start("keepalived", &mut command, &log));
        Keepalived {
            _folder: folder,
            program,
        }
    }

    /// Whether host `at` has both VIPs on its link.
    pub fn has_vips(&self, at: usize) -> bool {
        let output = Command::new("ip")
            .args([
                "-n",
                self.hosts[at].name(),
                "-o",
                "address",
                "show",
                "dev",
                "eth0",
            ])
            .output()
            .expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        [format!(" {VIP}/"), format!(" {VIP6}/")]
            .iter()
            .all(|vip| text.contains(vip))
    }

    /// Waits until one host has the VIPs and the other has not.
    pub fn wait_held_by(&self, at: usize, bound: Duration) {
        until(&format!("host {at} alone has the VIPs"), bound, || {
            self.has_vips(at) && !self.has_vips(1 - at)
        });
    }

    /// Waits until clients are served by a host at both VIPs.
    pub fn wait_served_by(&self, at: usize, bound: Duration) {
        let name = ["a", "b"][at];
        for vip in vips() {
            until(&format!("host {at} serves at {vip}"), bound, || {
                self.ask(vip).as_deref() == Some(name)
            });
        }
    }

    /// Asks once at a VIP; which host answered.
    pub fn ask(&self, vip: SocketAddr) -> Option<String> {
        self.clients.run(|| {
            let socket = client_of(vip);
            socket
                .set_read_timeout(Some(Duration::from_millis(200)))
                .expect("sockets have timeouts");
            socket.send(b"?").ok()?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            text.split(' ').next().map(str::to_owned)
        })
    }

    /// Cuts the cable of host `at`, or mends it: its own link notices.
    pub fn cable(&self, at: usize, is_plugged: bool) {
        let state = if is_plugged { "up" } else { "down" };
        self.hub.ip(&["link", "set", &format!("p{at}"), state]);
    }

    /// Takes the port of host `at` off the bridge, or puts it back: its own link notices nothing.
    pub fn part(&self, at: usize, is_there: bool) {
        let port = format!("p{at}");
        if is_there {
            self.hub.ip(&["link", "set", &port, "master", "br0"]);
        } else {
            self.hub.ip(&["link", "set", &port, "nomaster"]);
        }
    }

    /// Asks at the VIP each 5 ms, from a port of its own each time, while `event` happens and `after` it. Answers the
    /// longest time without an answer, and how many were not answered.
    pub fn gap(&self, event: impl FnOnce(), after: Duration) -> (Duration, usize) {
        let done = AtomicBool::new(false);
        let heard = Mutex::new(BTreeMap::new());
        let sent = thread::scope(|scope| {
            let probing = scope.spawn(|| self.clients.run(|| probe(vips()[0], &done, &heard)));
            thread::sleep(Duration::from_millis(300));
            event();
            thread::sleep(after);
            done.store(true, Ordering::Relaxed);
            probing.join().expect("probing ends")
        });
        let heard = heard.into_inner().expect("nobody panicked");
        let answered: Vec<Instant> = heard.values().copied().collect();
        let gaps = answered.windows(2).map(|pair| pair[1] - pair[0]);
        (gaps.max().unwrap_or_default(), sent - answered.len())
    }
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends until it is done; when each probe that was answered had been sent. Answers how many were sent.
fn probe(vip: SocketAddr, done: &AtomicBool, heard: &Mutex<BTreeMap<usize, Instant>>) -> usize {
    let mut sockets: Vec<(usize, Instant, UdpSocket)> = Vec::new();
    let (mut sent, mut next) = (0, Instant::now());
    let look = |sockets: &mut Vec<(usize, Instant, UdpSocket)>| {
        let mut buffer = [0; 64];
        sockets.retain(|(number, at, socket)| {
            if socket.recv(&mut buffer).is_ok() {
                heard.lock().expect("nobody panicked").insert(*number, *at);
                return false;
            }
            at.elapsed() < Duration::from_secs(1)
        });
    };
    while !done.load(Ordering::Relaxed) {
        let socket = client_of(vip);
        socket.set_nonblocking(true).expect("a socket");
        // Not sent is as good as not answered.
        let _ = socket.send(b"?");
        sockets.push((sent, Instant::now(), socket));
        sent += 1;
        next += Duration::from_millis(5);
        look(&mut sockets);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    thread::sleep(Duration::from_millis(200));
    look(&mut sockets);
    sent
}

/// A supervised amphora. Dropping it ends its agent too.
#[derive(Debug)]
pub struct PairedAmphora {
    folder: TempDir,
    program: Program,
}

impl PairedAmphora {
    /// Starts one on a host, with further settings, that serves `spec` from its disk.
    pub fn start(host: &Namespace, id: &str, spec: &Value, settings: &str) -> Self {
        Self::start_at(host, id, "127.0.0.1:9443", spec, settings, None)
    }

    fn start_at(
        host: &Namespace,
        id: &str,
        listen: &str,
        spec: &Value,
        settings: &str,
        authority: Option<&Authority>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let kept = folder.path().join("state/load-balancers");
        fs::create_dir_all(&kept).expect("a folder");
        let balancer = spec["load_balancer"].as_str().expect("an id");
        fs::write(kept.join(format!("{balancer}.json")), spec.to_string()).expect("a kept spec");
        let config = folder.path().join("amphora.toml");
        fs::write(&config, settings).expect("settings");
        let mut command = Command::new(binary("krater-amphora"));
        let path = |name: &str| folder.path().join(name);
        command
            .args(["supervise", "--listen", listen])
            .args(["--id", id])
            .arg("--config")
            .arg(&config)
            .args(["--drain", "1s", "--workers", "1"])
            .arg("--state-dir")
            .arg(path("state"));
        // There is no controller, and so no need for these to be there but for a successor.
        for name in ["certificate", "key", "authority"] {
            command
                .arg(format!("--{name}"))
                .arg(path(&format!("{name}.pem")));
        }
        if let Some(authority) = authority {
            write_papers(folder.path(), id, authority);
        }
        let log = path("log");
        let program = host.run(|| Program::start("krater-amphora", &mut command, &log));
        Self { folder, program }
    }

    /// The process that carries traffic, while there is one.
    pub fn agent(&self) -> Option<u32> {
        self.agents().pop()
    }

    /// Those before it that have not ended, and that one.
    fn agents(&self) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.program.pid());
        let children = fs::read_to_string(children).unwrap_or_default();
        let pids = children.split_whitespace();
        pids.filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Gives it a certificate, which it needs for having a successor.
    pub fn certify(&self) {
        write_papers(self.folder.path(), AMPHORA, &Authority::new("authority"));
    }

    /// Has another process take over from the one that carries traffic, which is given.
    pub fn succeed(&mut self, bound: Duration) -> u32 {
        let before = self.agents();
        self.program.signal(Signal::USR2);
        until_some("a successor serves", bound, || {
            let log = self.log();
            let serves = |pid: &u32| log.contains(&format!("the successor serves pid={pid}"));
            let now = self.agents().into_iter();
            now.filter(|pid| !before.contains(pid)).find(serves)
        })
    }

    /// What it has said.
    pub fn log(&self) -> String {
        self.program.output()
    }

    /// Sends a signal to the process that carries traffic.
    pub fn signal_agent(&self, signal: Signal) {
        let pid = self.agent().and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(rustix::process::Pid::from_raw);
        let pid = pid.expect("an agent is alive");
        rustix::process::kill_process(pid, signal).expect("a signal reaches it");
    }

    /// Its supervisor.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// Its state folder.
    pub fn state_folder(&self) -> PathBuf {
        self.folder.path().join("state")
    }
}

impl Drop for PairedAmphora {
    fn drop(&mut self) {
        let agents = self.agents();
        self.program.kill();
        for agent in agents {
            // Ended by itself is as good.
            send(agent, Signal::KILL);
        }
    }
}

/// Writes the certificate of an amphora, and what else belongs to it.
fn write_papers(folder: &Path, id: &str, authority: &Authority) {
    let issued = authority.issue_as(1, &[&format!("{id}.amphora.krater")], |params| {
        let name = format!("krater:amphora:{id}");
        let name = SanType::URI(name.try_into().expect("a name"));
        params.subject_alt_names.push(name);
    });
    let files = [
        ("authority", authority.pem()),
        ("certificate", &issued.chain),
        ("key", &issued.key),
    ];
    for (name, text) in files {
        fs::write(folder.join(format!("{name}.pem")), text).expect("a file");
    }
}

/// A keepalived.
#[derive(Debug)]
pub struct Keepalived {
    _folder: TempDir,
    program: Program,
}

impl Keepalived {
    /// The process.
    pub fn program(&mut self) -> &mut Program {
        &mut self.program
    }
}

/// The addresses of the VIPs, with the port that is served.
pub fn vips() -> [SocketAddr; 2] {
    [
        format!("{VIP}:53").parse().expect("an address"),
        format!("[{VIP6}]:53").parse().expect("an address"),
    ]
}

fn client_of(vip: SocketAddr) -> UdpSocket {
    let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a port is free");
    socket.connect(vip).expect("there is a route");
    socket
}

fn address(at: usize) -> String {
    format!("10.9.0.{}", at + 1)
}

/// The amphora of a host that exchanges sessions.
fn acquainted(at: usize) -> String {
    format!("00000000-0000-4000-8000-0000000000b{at}")
}

const AMPHORA: &str = "00000000-0000-4000-8000-0000000000aa";
const VIP: &str = "10.9.0.100";
const VIP6: &str = "fd09::100";
