//! Tests with real processes: a shell script stands in for the supervisor.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use krater_amphora_api::AmphoraId;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::{TempDir, tempdir};
use uuid::Uuid;

use super::Processes;
use crate::{
    Allotment, Order, ProcessError, ProcessSettings, Segment, Tunnel, Underlay, cgroup,
    folder::Folder, supervisor::Supervisor,
};

/// Says that it was started, and ends when it is asked to.
const OBEDIENT: &str = "trap 'echo asked; exit 0' TERM; echo started; while :; do sleep 0.02; done";
/// Ends only when it is killed.
const STUBBORN: &str = "trap '' TERM; echo started; while :; do sleep 0.02; done";
/// Notes what else it is asked to do beside, and fails at that once it is told to.
const TELLING: &str = "if [ \"$1\" = network ]; then echo \"$2\" \"$4\" >> \"$0.told\"; [ ! -e \"$0.fails\" ]; exit; fi; \
    trap 'exit 0' TERM; while :; do sleep 0.02; done";
/// Fails at once.
const BROKEN: &str = "echo 'the configuration is bad' >&2; exit 78";

struct Host {
    dir: TempDir,
}

impl Host {
    fn new(script: &str) -> Self {
        let host = Self {
            dir: tempdir().unwrap(),
        };
        host.install(script);
        host
    }

    fn install(&self, script: &str) {
        let path = self.binary();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn binary(&self) -> PathBuf {
        self.dir.path().join("amphora-stand-in")
    }

    fn controller(&self) -> Processes {
        Processes::new(ProcessSettings {
            binary: self.binary(),
            directory: self.dir.path().join("state").join("amphorae"),
            workers: Some(1),
            heartbeat: Duration::from_secs(1),
            drain: Duration::from_millis(100),
            access_log: None,
            address: std::net::Ipv4Addr::LOCALHOST.into(),
        })
        .unwrap()
    }

    fn folder(&self, id: AmphoraId) -> PathBuf {
        self.dir
            .path()
            .join("state")
            .join("amphorae")
            .join(id.to_string())
    }

    fn log(&self, id: AmphoraId) -> String {
        fs::read_to_string(self.folder(id).join("amphora.log")).unwrap_or_default()
    }

    fn pid(&self, id: AmphoraId) -> i32 {
        fs::read_to_string(self.folder(id).join("supervisor.pid"))
            .unwrap()
            .parse()
            .unwrap()
    }

    fn kill(&self, id: AmphoraId) {
        kill_process(Pid::from_raw(self.pid(id)).unwrap(), Signal::KILL).unwrap();
    }

    fn modified(&self, id: AmphoraId) -> Vec<(PathBuf, std::time::SystemTime, u64)> {
        let entries = fs::read_dir(self.folder(id)).unwrap().map(Result::unwrap);
        let mut all: Vec<_> = entries
            .filter(|entry| entry.file_name() != "amphora.log")
            .map(|entry| {
                (
                    entry.path(),
                    entry.metadata().unwrap().modified().unwrap(),
                    entry.metadata().unwrap().len(),
                )
            })
            .collect();
        all.sort();
        all
    }
}

thread_local! {
    /// Each test is one thread. The stand-in does not hold its ports, which follow from its id: tests that run side by
    /// side have ids, and so ports, of their own.
    static SALT: u64 = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ());
}

fn order(n: u128) -> Order {
    Order {
        id: AmphoraId::new(Uuid::from_u128(
            n << 64 | SALT.with(|salt| u128::from(*salt)),
        )),
        authority_pem: "authority".into(),
        certificate_pem: "certificate".into(),
        key_pem: "key".into(),
        segment: None,
        allotment: Allotment::default(),
        controllers: vec!["127.0.0.1:9877".into(), "[::1]:\"quoted\"".into()],
        conduct: None,
    }
}

/// Waits, a bounded time, for what must come.
async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn runs(pid: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z")
}

#[tokio::test]
async fn the_folder_has_all_an_amphora_needs_and_nobody_else_may_read_it() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let endpoint = compute.ensure(order(1)).await.unwrap();
    let folder = host.folder(order(1).id).canonicalize().unwrap();
    let at = |name: &str| folder.join(name);
    let config = fs::read_to_string(at("amphora.toml")).unwrap();
    let expected = format!(
        "# Written by the controller; changes are undone.\nid = \"{}\"\nstate_dir = \"{state}\"\nlisten = \"{}\"\n\
         metrics = \"{}\"\ncertificate = \"{cert}\"\nkey = \"{key}\"\nauthority = \"{authority}\"\n\
         controllers = [\"127.0.0.1:9877\", \"[::1]:\\\"quoted\\\"\"]\nworkers = 1\nheartbeat = \"1000ms\"\n\
         drain = \"100ms\"\n",
        order(1).id,
        endpoint.agent,
        endpoint.metrics.unwrap(),
        state = at("state").display(),
        cert = at("certificate.pem").display(),
        key = at("key.pem").display(),
        authority = at("authority.pem").display(),
    );
    assert_eq!(config, expected);
    assert_eq!(fs::read_to_string(at("key.pem")).unwrap(), "key");
    for (path, ..) in host.modified(order(1).id) {
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o077,
            0,
            "{path:?}"
        );
    }
    for path in [folder.clone(), folder.parent().unwrap().to_owned()] {
        assert_eq!(
            path.metadata().unwrap().permissions().mode() & 0o777,
            0o700,
            "{path:?}"
        );
    }
    compute.release(order(1).id).await.unwrap();
}

#[tokio::test]
async fn ensuring_what_runs_writes_nothing_and_starts_nothing() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let endpoint = compute.ensure(order(1)).await.unwrap();
    let (before, pid) = (host.modified(order(1).id), host.pid(order(1).id));
    for _ in 0..100 {
        assert_eq!(compute.ensure(order(1)).await.unwrap(), endpoint);
    }
    assert!(compute.is_alive(order(1).id).await && !compute.is_alive(order(2).id).await);
    assert_eq!(
        (host.modified(order(1).id), host.pid(order(1).id)),
        (before, pid)
    );
    compute.release(order(1).id).await.unwrap();
    assert!(!runs(pid));
}

#[tokio::test]
async fn where_else_its_network_is_an_amphora_is_told_without_being_started_again() {
    let host = Host::new(TELLING);
    let compute = host.controller();
    let on = |peers: &[&str]| Order {
        segment: Some(Segment {
            name: "blue".to_owned(),
            bridge: "br-blue".to_owned(),
            mtu: 1_450,
            tunnel: Some(Tunnel {
                vni: 42,
                underlay: Underlay {
                    local: [192, 0, 2, 1].into(),
                    port: 4_789,
                },
                peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            }),
            subnets: Vec::new(),
        }),
        ..order(1)
    };
    let beside = |name: &str| PathBuf::from(format!("{}.{name}", host.binary().display()));
    let told = || fs::read_to_string(beside("told")).unwrap_or_default();
    let peers = || fs::read_to_string(host.folder(order(1).id).join("peers")).unwrap();
    compute.ensure(on(&["192.0.2.2"])).await.unwrap();
    let pid = host.pid(order(1).id);
    // Whoever is started reads them.
    assert_eq!((peers().as_str(), told().as_str()), ("192.0.2.2\n", ""));
    compute
        .ensure(on(&["192.0.2.2", "192.0.2.3"]))
        .await
        .unwrap();
    assert_eq!(peers(), "192.0.2.2\n192.0.2.3\n");
    let config = host.folder(order(1).id).join("amphora.toml");
    let config = config.canonicalize().unwrap();
    assert_eq!(told(), format!("peers {}\n", config.display()));
    compute
        .ensure(on(&["192.0.2.2", "192.0.2.3"]))
        .await
        .unwrap();
    assert_eq!(told().lines().count(), 1);
    // What failed is tried again, though the file is written.
    fs::write(beside("fails"), "").unwrap();
    compute.ensure(on(&[])).await.unwrap_err();
    fs::remove_file(beside("fails")).unwrap();
    compute.ensure(on(&[])).await.unwrap();
    assert_eq!((told().lines().count(), peers().as_str()), (3, ""));
    // The next one finds them told.
    let next = host.controller();
    next.ensure(on(&[])).await.unwrap();
    assert_eq!(told().lines().count(), 3);
    assert_eq!(host.pid(order(1).id), pid);
    next.release(order(1).id).await.unwrap();
    assert!(told().lines().last().unwrap().starts_with("leave "));
}

#[tokio::test]
async fn the_next_controller_finds_what_the_last_one_started() {
    let host = Host::new(OBEDIENT);
    let first = host.controller();
    let endpoint = first.ensure(order(1)).await.unwrap();
    let pid = host.pid(order(1).id);
    // Nothing is told to anybody, as when a controller is killed.
    drop(first);
    let second = host.controller();
    assert_eq!(second.ensure(order(1)).await.unwrap(), endpoint);
    assert_eq!(host.pid(order(1).id), pid);
    assert!(runs(pid));
    // Found without a file that names it, too: a controller may die between starting and writing.
    drop(second);
    fs::remove_file(host.folder(order(1).id).join("supervisor.pid")).unwrap();
    let third = host.controller();
    assert_eq!(third.ensure(order(1)).await.unwrap(), endpoint);
    assert!(third.is_alive(order(1).id).await);
    third.stop_all().await.unwrap();
    assert!(!runs(pid));
    assert!(host.log(order(1).id).ends_with("asked\n"));
}

#[tokio::test]
async fn a_process_that_has_the_number_but_is_another_is_left_alone() {
    let host = Host::new(OBEDIENT);
    let first = host.controller();
    first.ensure(order(1)).await.unwrap();
    first.stop_all().await.unwrap();
    let mut stranger = std::process::Command::new("sleep")
        .arg("600")
        .spawn()
        .unwrap();
    fs::write(
        host.folder(order(1).id).join("supervisor.pid"),
        stranger.id().to_string(),
    )
    .unwrap();
    let second = host.controller();
    second.stop_all().await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    second.ensure(order(1)).await.unwrap();
    assert_ne!(host.pid(order(1).id).unsigned_abs(), stranger.id());
    second.release(order(1).id).await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger lives");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn a_death_is_told_and_the_next_ensure_starts_it_again_where_it_was() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let mut deaths = compute.deaths();
    let endpoint = compute.ensure(order(1)).await.unwrap();
    let pid = host.pid(order(1).id);
    host.kill(order(1).id);
    tokio::time::timeout(Duration::from_secs(20), deaths.changed())
        .await
        .unwrap()
        .unwrap();
    assert!(!compute.is_alive(order(1).id).await);
    assert!(
        !Path::new(&format!("/proc/{pid}")).exists(),
        "it was reaped"
    );
    assert_eq!(compute.ensure(order(1)).await.unwrap(), endpoint);
    assert_ne!(host.pid(order(1).id), pid);

    // One that was found rather than started is watched as well.
    drop(compute);
    let next = host.controller();
    let mut deaths = next.deaths();
    next.ensure(order(1)).await.unwrap();
    host.kill(order(1).id);
    tokio::time::timeout(Duration::from_secs(20), deaths.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(next.ensure(order(1)).await.unwrap(), endpoint);

    // To be stopped is no news.
    deaths.mark_unchanged();
    next.release(order(1).id).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!deaths.has_changed().unwrap());
}

#[tokio::test]
async fn one_that_dies_again_and_again_is_started_ever_more_seldom_and_says_why() {
    let host = Host::new(BROKEN);
    let compute = host.controller();
    let starts = async || {
        let outcome = compute.ensure(order(1)).await;
        let log = host.log(order(1).id);
        (log.lines().count(), outcome)
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    let refused = loop {
        if let (_, Err(error)) = starts().await {
            break error;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert!(matches!(refused, ProcessError::Transient(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(
        text.contains("exit status: 78") && text.ends_with("the configuration is bad"),
        "{text}"
    );
    let (count, _) = starts().await;
    // The second start follows at once, the third after half a second: whoever was not in time to be refused in between
    // finds twice as long a wait, and so on.
    assert!(count <= 6, "{count} starts");
    // It heals when the cause goes.
    host.install(OBEDIENT);
    until("the start of the repaired program", async || {
        compute.ensure(order(1)).await.is_ok()
    })
    .await;
    until("the word of the repaired program", async || {
        host.log(order(1).id).contains("started")
    })
    .await;
    compute.release(order(1).id).await.unwrap();
}

#[tokio::test]
async fn fresh_keys_are_written_without_a_restart_and_new_controllers_with_one() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let endpoint = compute.ensure(order(1)).await.unwrap();
    let pid = host.pid(order(1).id);
    let renewed = Order {
        key_pem: "renewed".into(),
        ..order(1)
    };
    assert_eq!(compute.ensure(renewed.clone()).await.unwrap(), endpoint);
    assert_eq!(host.pid(order(1).id), pid);
    assert_eq!(
        fs::read_to_string(host.folder(order(1).id).join("key.pem")).unwrap(),
        "renewed"
    );

    let moved = Order {
        controllers: vec!["127.0.0.1:1".into()],
        ..renewed
    };
    assert_eq!(compute.ensure(moved).await.unwrap(), endpoint);
    assert_ne!(host.pid(order(1).id), pid);
    assert!(!runs(pid));
    compute.release(order(1).id).await.unwrap();
}

#[tokio::test]
async fn a_port_taken_while_the_amphora_was_down_is_replaced() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let before = compute.ensure(order(1)).await.unwrap();
    compute.stop_all().await.unwrap();
    let _squatter = std::net::TcpListener::bind(before.agent).unwrap();
    let after = compute.ensure(order(1)).await.unwrap();
    assert_ne!(after.agent, before.agent);
    assert_eq!(after.metrics, before.metrics);
    let config = fs::read_to_string(host.folder(order(1).id).join("amphora.toml")).unwrap();
    assert!(config.contains(&format!("listen = \"{}\"", after.agent)));
    compute.release(order(1).id).await.unwrap();
}

#[tokio::test]
async fn one_that_does_not_end_is_killed() {
    let host = Host::new(STUBBORN);
    let folder = Folder::new(host.dir.path().canonicalize().unwrap());
    let (supervisor, child) = Supervisor::start(&host.binary(), &folder).unwrap();
    until("the start", async || {
        fs::read_to_string(folder.log()).is_ok_and(|log| log.contains("started"))
    })
    .await;
    let waiting = tokio::spawn(supervisor.wait_for_end(Some(child), std::sync::Arc::default()));
    supervisor.stop(Duration::from_millis(50)).await.unwrap();
    assert!(!supervisor.is_alive());
    waiting.await.unwrap();
}

#[tokio::test]
async fn an_agent_whose_supervisor_is_gone_keeps_its_ports_and_is_stopped_with_the_rest() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let endpoint = compute.ensure(order(1)).await.unwrap();
    let state = host.folder(order(1).id).join("state");
    fs::create_dir(&state).unwrap();
    // As an agent does: hold the lock, write down who.
    let lock = state.join("lock");
    let script = "exec 9>>\"$0\"; flock 9; echo $$ > \"$0\"; exec sleep 600";
    let mut agent = std::process::Command::new("bash")
        .arg("-c")
        .arg(script)
        .arg(&lock)
        .spawn()
        .unwrap();
    let agent_pid = agent.id().to_string();
    until("the lock", async || {
        fs::read_to_string(&lock).is_ok_and(|text| text.trim() == agent_pid)
    })
    .await;
    host.kill(order(1).id);
    until("the death", async || !compute.is_alive(order(1).id).await).await;
    let _its_port = std::net::TcpListener::bind(endpoint.agent).unwrap();
    assert_eq!(compute.ensure(order(1)).await.unwrap(), endpoint);
    assert!(agent.try_wait().unwrap().is_none(), "traffic goes on");
    compute.stop_all().await.unwrap();
    agent.wait().unwrap();
}

#[tokio::test]
async fn the_log_is_put_aside_at_the_start_and_cut_back_while_running() {
    let host = Host::new(OBEDIENT);
    let compute = host.controller();
    let id = order(1).id;
    fs::create_dir_all(host.folder(id)).unwrap();
    fs::write(
        host.folder(id).join("amphora.log"),
        vec![b'x'; (1 << 20) + 1],
    )
    .unwrap();
    compute.ensure(order(1)).await.unwrap();
    until("the new log", async || host.log(id) == "started\n").await;
    assert_eq!(
        host.folder(id)
            .join("amphora.log.1")
            .metadata()
            .unwrap()
            .len(),
        (1 << 20) + 1
    );
    fs::OpenOptions::new()
        .write(true)
        .open(host.folder(id).join("amphora.log"))
        .unwrap()
        .set_len((8 << 20) + 1)
        .unwrap();
    compute.ensure(order(1)).await.unwrap();
    assert_eq!(host.log(id), "");
    assert_eq!(
        host.folder(id)
            .join("amphora.log.1")
            .metadata()
            .unwrap()
            .len(),
        (8 << 20) + 1
    );
    compute.stop_all().await.unwrap();
    assert_eq!(host.log(id), "asked\n", "it goes on at the new end");
}

#[tokio::test]
async fn a_program_that_is_missing_or_cannot_be_run_is_named_with_what_to_do() {
    let host = Host::new(OBEDIENT);
    fs::set_permissions(host.binary(), fs::Permissions::from_mode(0o644)).unwrap();
    let refused = host.controller().ensure(order(1)).await.unwrap_err();
    assert!(
        matches!(&refused, ProcessError::Permanent(text) if text.contains("may not be executed")),
        "{refused:?}"
    );
    fs::remove_file(host.binary()).unwrap();
    let refused = host.controller().ensure(order(1)).await.unwrap_err();
    assert!(
        matches!(&refused, ProcessError::Permanent(text) if text.contains("--amphora-binary")),
        "{refused:?}"
    );
    let settings = ProcessSettings {
        directory: "/proc/amphorae".into(),
        ..host.controller().settings
    };
    let refused = Processes::new(settings).unwrap_err();
    assert!(refused.to_string().contains("/proc/amphorae"), "{refused}");
}

#[tokio::test]
async fn many_amphorae_started_and_stopped_together_have_ports_of_their_own() {
    let host = Host::new(OBEDIENT);
    let compute = std::sync::Arc::new(host.controller());
    let starts = (1..=8).map(|n| {
        let compute = std::sync::Arc::clone(&compute);
        tokio::spawn(async move { compute.ensure(order(n)).await.unwrap() })
    });
    let mut ports = std::collections::BTreeSet::new();
    for start in starts.collect::<Vec<_>>() {
        let endpoint = start.await.unwrap();
        assert!(
            ports.insert(endpoint.agent.port()) && ports.insert(endpoint.metrics.unwrap().port())
        );
    }
    compute.stop_all().await.unwrap();
    for n in 1..=8 {
        assert!(!runs(host.pid(order(n).id)));
    }
}

/// Starts what takes more memory than it may, and says how that ended.
const GREEDY: &str = "trap 'exit 0' TERM; head -c 300000000 /dev/zero | tail -c 299999999 >/dev/null; \
    echo ended $?; while :; do sleep 0.02; done";

#[tokio::test]
async fn what_takes_more_memory_than_it_may_is_ended_alone() {
    let allotment = Allotment {
        memory_bytes: Some(128 << 20),
        cpu_percent: Some(50),
    };
    let probe = order(99).id;
    if let Err(error) = cgroup::prepare(probe, allotment) {
        // Without root there are none: elsewhere the rest is tested.
        println!("not tested here: {error}");
        return;
    }
    cgroup::remove(probe).await;
    let host = Host::new(GREEDY);
    let driver = host.controller();
    let bounded = Order {
        allotment,
        ..order(1)
    };
    driver.ensure(bounded.clone()).await.unwrap();
    // Asked again it finds the same.
    driver.ensure(bounded).await.unwrap();
    let id = order(1).id;
    until("its end", async || host.log(id).contains("ended 137")).await;
    assert!(driver.is_alive(id).await);
    driver.release(id).await.unwrap();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = mounts.lines().filter(|line| line.contains(" cgroup"));
    for root in roots.filter_map(|line| line.split(' ').nth(1)) {
        let group = Path::new(root).join("krater").join(id.to_string());
        assert!(!group.exists(), "{}", group.display());
    }
}
