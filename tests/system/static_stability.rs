//! Static stability: a host serves from its own disk while controllers and their database are away.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::Duration,
};

use krater_tests::{
    HostedAmphorae, HttpMember, Krater, Load, Namespace, Octavia, Postgres, Signal, TcpMember,
    fetch, host_token, send, until, until_some,
};
use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use crate::scene::{
    NOTICE_MAX, SETTLE_MAX, Tree, ask, listener_json, member_json, monitor_json, text,
};

/// A host with an amphora, and a controller with a database that it does without. Fields are dropped in this order.
struct Deployment {
    host: HostedAmphorae,
    krater: Krater,
    database: Postgres,
    api: Octavia,
    _settings: tempfile::NamedTempFile,
    _network: Namespace,
}

impl Deployment {
    fn new() -> Self {
        let network = Namespace::enter_new();
        let database = Postgres::start();
        let (url, _) = database.database();
        let mut settings = tempfile::NamedTempFile::new().expect("a file for settings");
        let fleet =
            "on_this_host = false\nheartbeat = \"500ms\"\nsilence = \"60s\"\ndrain = \"3s\"";
        let words = format!("[store]\nurl = \"{url}\"\n[fleet]\n{fleet}\n");
        settings
            .write_all(words.as_bytes())
            .expect("settings are written");
        let path = settings.path().to_string_lossy().into_owned();
        let mut krater = Krater::prepare("controller", &["--config", &path])
            .with_variable("KRATER_SEAL_KEY", "what secrets here are sealed with");
        krater.resume();
        let host = HostedAmphorae::join(&host_token(&[]), "one", 9_880);
        let mut api = krater.api();
        until("the host has an amphora", NOTICE_MAX, || {
            let amphorae = api.get("/v2.0/octavia/amphorae");
            amphorae["amphorae"][0]["status"] == "ALLOCATED"
        });
        Self {
            host,
            krater,
            database,
            api,
            _settings: settings,
            _network: network,
        }
    }

    fn tree(&mut self, listeners: &Value) -> Tree {
        let created = self.api.create_tree("test", listeners);
        let id = text(&created["id"]);
        self.api.wait_active(&id, SETTLE_MAX);
        let listener = |listener: &Value| listener["name"] == "l80";
        let listeners = created["listeners"].as_array().expect("listeners");
        let first = listeners.iter().find(|one| listener(one));
        let pools = created["pools"].as_array().expect("pools");
        let pool = pools.iter().find(|pool| pool["name"] == "p80");
        Tree {
            vip: text(&created["vip_address"]).parse().expect("an address"),
            listener: first.map(|one| text(&one["id"])).unwrap_or_default(),
            pool: pool.map(|one| text(&one["id"])).unwrap_or_default(),
            id,
        }
    }

    /// From here on the host is by itself.
    fn strand(&mut self) {
        self.krater.kill_controller();
        self.database.kill();
    }

    fn rescue(&mut self) {
        self.database.resume();
        self.krater.resume();
        self.api = self.krater.api();
    }

    /// Kills the processes that carry traffic, and waits until they are no more.
    fn kill_carriers(&self) {
        let killed = self.host.carriers();
        assert!(!killed.is_empty());
        kill(&killed);
        until("they are dead", SETTLE_MAX, || {
            let alive = self.host.carriers();
            killed.iter().all(|pid| !alive.contains(pid))
        });
    }
}

fn kill(pids: &[u32]) {
    pids.iter().for_each(|pid| send(*pid, Signal::KILL));
}

fn serves(address: SocketAddr) -> bool {
    fetch(address, "/").is_ok_and(|answer| answer.status == 200)
}

/// A member that takes connections and resets them.
fn resetting_member() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("a bound socket has one");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Closed at once, with a reset.
            let _ = set_socket_linger(&stream, Some(Duration::ZERO));
        }
    });
    address
}

/// Whether a new connection comes to a member that says something.
fn is_greeted(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok_and(|stream| {
        let bound = stream.set_read_timeout(Some(SETTLE_MAX));
        let mut name = String::new();
        let read = BufReader::new(stream).read_line(&mut name);
        bound.is_ok() && read.is_ok_and(|length| length > 0)
    })
}

fn assert_private(path: &Path) {
    let mode = fs::metadata(path).expect("it is there").permissions();
    let mode = mode.mode() & 0o777;
    assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
}

/// Probes take a member out and back, and who resets connections is passed over, before the death of an agent and after it.
fn members_come_and_go(
    deployment: &Deployment,
    web: &mut [HttpMember; 2],
    http: SocketAddr,
    doubtful: SocketAddr,
) {
    for round in 0..2 {
        web[0].stop();
        until("the dead one is taken out", NOTICE_MAX, || {
            ask(http, 6).get("b") == Some(&6)
        });
        if round == 1 {
            deployment.kill_carriers();
            // Whoever comes meanwhile waits in sockets that the supervisor holds.
            let answers: Vec<_> = (0..16)
                .map(|_| thread::spawn(move || fetch(http, "/")))
                .collect();
            for answer in answers {
                let answer = answer.join().expect("no panic");
                assert_eq!(answer.expect("nobody is refused or reset").status, 200);
            }
            until("the dead one is taken out again", NOTICE_MAX, || {
                ask(http, 6).get("b") == Some(&6)
            });
        }
        web[0].restart();
        until("it is back", NOTICE_MAX, || ask(http, 4).len() == 2);
        until("who resets is passed over", NOTICE_MAX, || {
            (0..12).all(|_| is_greeted(doubtful))
        });
    }
}

/// A new program takes over, and nobody is cut; one that is asked to end drains, and its host starts it again.
fn programs_come_and_go(deployment: &Deployment, http: SocketAddr, stream: SocketAddr) {
    let mut load = Load::new();
    load.add_http(http, 2, Duration::from_millis(5));
    load.add_streams(stream, 2, Duration::from_millis(10));
    let before = deployment.host.carriers();
    let supervisor = deployment.host.supervisors()[0];
    send(supervisor, Signal::USR2);
    until("a successor serves", NOTICE_MAX, || {
        let log = deployment.host.amphora_logs();
        log.contains("the successor serves")
            && deployment
                .host
                .carriers()
                .iter()
                .any(|pid| !before.contains(pid))
    });
    ask(http, 4);
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.broken.is_empty(), "{:?}", report.broken);

    // Asked to end it drains what is open, and its host starts it again.
    let mut open = TcpStream::connect(stream).expect("the port is open");
    open.set_read_timeout(Some(SETTLE_MAX)).expect("a timeout");
    let mut greeting = [0; 5];
    open.read_exact(&mut greeting).expect("a greeting");
    send(supervisor, Signal::TERM);
    until("it drains", NOTICE_MAX, || {
        let pids = deployment.host.supervisors();
        !pids.contains(&supervisor) || TcpStream::connect(stream).is_err()
    });
    open.write_all(b"still there").expect("it is open");
    let mut echoed = [0; 11];
    open.read_exact(&mut echoed)
        .expect("it is served to its end");
    assert_eq!(&echoed, b"still there");
    drop(open);
    // Who came in the last moment is served by the one that ends.
    until("its host starts it again", NOTICE_MAX, || {
        let pids = deployment.host.supervisors();
        !pids.is_empty() && !pids.contains(&supervisor) && serves(http)
    });
}

/// Everything on the host dies in turn, and is started again by whoever has to.
fn processes_come_and_go(deployment: &mut Deployment, http: SocketAddr) {
    // The supervisor, then all that carries traffic, then the agent of the host, then everything.
    kill(&deployment.host.supervisors());
    assert!(serves(http), "the amphora lives on");
    until("its host starts another supervisor", NOTICE_MAX, || {
        !deployment.host.supervisors().is_empty()
    });
    kill(&deployment.host.carriers());
    until("it serves again", NOTICE_MAX, || serves(http));
    deployment.host.program().kill();
    assert!(serves(http), "the agent of the host carries nothing");
    deployment.host.die();
    until("nobody serves", NOTICE_MAX, || !serves(http));
    deployment.host.resume();
    until("it serves from its disk", NOTICE_MAX, || serves(http));
    until("both members serve", NOTICE_MAX, || ask(http, 4).len() == 2);

    // Whoever reads the disk is its owner.
    for file in deployment.host.kept_files() {
        assert_private(&file);
        assert_private(file.parent().expect("a folder"));
    }
    assert_private(&deployment.host.state_folder().join("key.pem"));
}

/// The controller is back, adopts what runs, and changes it.
fn an_edit_takes_force(deployment: &mut Deployment, tree: &Tree) {
    let (http, stream) = (tree.at(80), tree.at(90));
    let serving = deployment.host.carriers();
    let mut load = Load::new();
    load.add_http(http, 3, Duration::from_millis(5));
    load.add_streams(stream, 2, Duration::from_millis(10));
    deployment.rescue();
    let found = deployment.api.wait_active(&tree.id, NOTICE_MAX);
    assert_eq!(found["vip_address"], tree.vip.to_string());
    let change = json!({"listener": {"insert_headers": {"X-Forwarded-Port": "true"}}});
    let path = format!("listeners/{}", tree.listener);
    deployment.api.put(&path, &change);
    deployment.api.wait_active(&tree.id, NOTICE_MAX);
    let answer = fetch(http, "/echo").expect("an answer").text();
    assert!(
        answer.to_lowercase().contains("x-forwarded-port"),
        "{answer}"
    );
    assert_eq!(deployment.host.carriers(), serving, "it was adopted");
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.broken.is_empty(), "{:?}", report.broken);
}

#[test]
fn all_goes_on_while_controllers_and_database_are_away_and_an_edit_takes_force_when_they_are_back()
{
    let mut deployment = Deployment::new();
    let mut web = ["a", "b"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let echo = TcpMember::start("echo", "127.0.0.1:0");
    let pool = |protocol: &str, addresses: &[SocketAddr]| {
        let members: Vec<_> = addresses.iter().copied().map(member_json).collect();
        json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members})
    };
    let mut probed = pool("HTTP", &[web[0].address(), web[1].address()]);
    probed["healthmonitor"] = monitor_json();
    let tree = deployment.tree(&json!([
        listener_json("HTTP", 80, &probed),
        listener_json("TCP", 90, &pool("TCP", &[echo.address()])),
        listener_json(
            "TCP",
            91,
            &pool("TCP", &[echo.address(), resetting_member()])
        ),
    ]));
    let (http, stream, doubtful) = (tree.at(80), tree.at(90), tree.at(91));
    until("both members serve", NOTICE_MAX, || ask(http, 4).len() == 2);
    deployment.strand();
    members_come_and_go(&deployment, &mut web, http, doubtful);
    programs_come_and_go(&deployment, http, stream);
    processes_come_and_go(&mut deployment, http);
    an_edit_takes_force(&mut deployment, &tree);
}

#[test]
fn a_damaged_kept_file_is_told_and_costs_its_load_balancer_alone_until_a_controller_is_back() {
    let mut deployment = Deployment::new();
    let members = ["a", "b", "c"].map(|name| HttpMember::start(name, "127.0.0.1:0"));
    let trees = members.each_ref().map(|member| {
        let members = [member_json(member.address())];
        let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
        deployment.tree(&json!([listener_json("HTTP", 80, &pool)]))
    });
    let kept = |tree: &Tree| {
        let name = format!("{}.json", tree.id);
        until_some("it is settled on the disk", SETTLE_MAX, || {
            let files = deployment.host.kept_files();
            files.into_iter().find(|path| path.ends_with(&name))
        })
    };
    let [turned, torn, _] = trees.each_ref().map(kept);
    deployment.strand();
    deployment.host.die();
    // Where the first one sends its clients would be elsewhere, by a valid spec; the second one is not whole.
    let spec = fs::read_to_string(&turned).expect("a spec");
    let port = |at: usize| format!("\"port\":{}", members[at].address().port());
    assert!(spec.contains(&port(0)), "{spec}");
    fs::write(&turned, spec.replace(&port(0), &port(2))).expect("it is written");
    let spec = fs::read(&torn).expect("a spec");
    fs::write(&torn, &spec[..spec.len() / 2]).expect("it is written");
    deployment.host.resume();
    until("the others serve on", NOTICE_MAX, || {
        serves(trees[2].at(80))
    });
    let log = deployment.host.amphora_logs();
    for (path, reason) in [(&turned, "its checksum does not fit"), (&torn, "EOF")] {
        let path = path.with_extension("corrupt");
        let name = path.to_string_lossy().into_owned();
        let mut lines = log.lines().filter(|line| line.contains(&name));
        let line = lines.next().unwrap_or_else(|| panic!("{name}: {log}"));
        assert!(line.contains("is set aside"), "{line}");
        assert!(line.contains(reason), "{line}");
        assert_private(&path);
    }
    for tree in &trees[..2] {
        assert!(fetch(tree.at(80), "/").is_err(), "nobody serves it wrongly");
    }
    deployment.rescue();
    for (tree, member) in trees.iter().zip(&members) {
        until("it is served as wished", NOTICE_MAX, || {
            fetch(tree.at(80), "/").is_ok_and(|answer| answer.text().contains(member.name()))
        });
        deployment.api.wait_active(&tree.id, NOTICE_MAX);
    }
}
