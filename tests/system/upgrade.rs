//! A new version of the amphora takes over from the one that serves, and nobody who is served notices.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use krater_tests::{HttpMember, Load, Signal, TcpMember, binary, run_to_end, until};
use serde_json::json;
use tempfile::TempDir;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, ask, listener_json, member_json};

/// A deployment whose program can be replaced.
struct Deployment {
    scene: Scene,
    tree: Tree,
    program: PathBuf,
    _folder: TempDir,
    _members: (HttpMember, TcpMember),
}

impl Deployment {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("krater-amphora");
        install(&binary("krater-amphora"), &program);
        let path = program.to_string_lossy().into_owned();
        let mut scene = Scene::with("up", &["--amphora-binary", &path]);
        let web = HttpMember::start("web", "127.0.0.1:0");
        let stream = TcpMember::start("stream", "127.0.0.1:0");
        let pool = |protocol: &str, address| {
            let members = [member_json(address)];
            json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members})
        };
        let tree = scene.tree(&json!([
            listener_json("HTTP", 80, &pool("HTTP", web.address())),
            listener_json("TCP", 90, &pool("TCP", stream.address())),
        ]));
        Self {
            scene,
            tree,
            program,
            _folder: folder,
            _members: (web, stream),
        }
    }

    fn supervisor(&self) -> u32 {
        let supervisors = self.scene.krater.supervisors();
        assert_eq!(supervisors.len(), 1, "{supervisors:?}");
        supervisors[0]
    }

    /// Has the program on disk take over; gives the process that serves then.
    fn succeed(&self) -> u32 {
        self.scene.krater.succeed(self.supervisor(), SETTLE_MAX)
    }

    /// What the amphora and its supervisor have said.
    fn log(&self) -> String {
        self.scene.krater.amphora_logs()
    }
}

/// Puts a program in its place as package managers do: at once and whole.
fn install(from: &Path, to: &Path) {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh).expect("a copy");
    fs::set_permissions(&fresh, Permissions::from_mode(0o755)).expect("a program");
    fs::rename(&fresh, to).expect("a new program");
}

#[test]
fn a_new_process_takes_over_and_nobody_is_refused_or_cut() {
    let mut deployment = Deployment::new();
    let (web, stream) = (deployment.tree.at(80), deployment.tree.at(90));
    let mut load = Load::new();
    load.add_http(web, 3, Duration::from_millis(2));
    load.add_connections(stream, 3, Duration::from_millis(2));
    load.add_streams(stream, 3, Duration::from_millis(10));
    ask(web, 3);
    let mut serving = deployment.scene.krater.amphorae();
    for _ in 0..3 {
        let before = serving[0];
        serving = vec![deployment.succeed()];
        ask(web, 3);
        // The long streams go on where they began.
        let alive = deployment.scene.krater.amphorae();
        assert!(alive.contains(&before) || alive.len() > 1, "{alive:?}");
    }
    // Controllers find the new process, and changes go to it.
    let change = json!({"listener": {"insert_headers": {"X-Forwarded-Port": "true"}}});
    let path = format!("listeners/{}", deployment.tree.listener);
    deployment.scene.api.put(&path, &change);
    let id = deployment.tree.id.clone();
    deployment.scene.api.wait_active(&id, SETTLE_MAX);
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    assert!(report.broken.is_empty(), "{:?}", report.broken);
    assert_eq!(report.streams, 3);
    assert!(report.connections > 0);
    until(
        "those before have ended with their streams",
        NOTICE_MAX,
        || deployment.scene.krater.amphorae() == serving,
    );
    assert!(!deployment.log().contains("a bug"), "{}", deployment.log());
}

#[test]
fn the_fleet_is_upgraded_by_one_command() {
    let deployment = Deployment::new();
    let before = deployment.scene.krater.amphorae();
    let mut load = Load::new();
    load.add_http(deployment.tree.at(80), 2, Duration::from_millis(5));
    let fleet = |arguments: &[&str]| {
        let mut command = Command::new(binary("krater"));
        command.args(["fleet", "upgrade", "--watch", "1s", "--output", "json"]);
        run_to_end(command.args(arguments), NOTICE_MAX)
    };
    let (status, output) = fleet(&[]);
    assert!(status.success(), "{output}");
    let told = output.lines().last().expect("an answer");
    let told: serde_json::Value = serde_json::from_str(told).expect("JSON");
    let serving = deployment.scene.krater.amphorae();
    let pid = told[0]["pid"].as_u64().expect("a process");
    assert!(serving.iter().any(|one| u64::from(*one) == pid), "{told}");
    assert!(before.iter().all(|one| u64::from(*one) != pid), "{told}");
    let report = load.finish();
    assert!(report.failures.is_empty(), "{:?}", report.failures);
    // What cannot be upgraded is told with the reason, and serves on.
    let bad = deployment.program.with_extension("bad");
    fs::write(&bad, "#!/bin/sh\nexit 1\n").expect("a script");
    install(&bad, &deployment.program);
    let (status, output) = fleet(&["--patience", "2s"]);
    assert!(!status.success(), "{output}");
    assert!(output.contains("stopped after 0 of 1"), "{output}");
    ask(deployment.tree.at(80), 3);
    let (status, output) = fleet(&["--amphora", "nobody"]);
    assert!(
        !status.success() && output.contains("there is no amphora nobody"),
        "{output}"
    );
}

#[test]
fn a_successor_that_is_no_good_changes_nothing() {
    let deployment = Deployment::new();
    let web = deployment.tree.at(80);
    let before = deployment.scene.krater.amphorae();
    for (script, what) in [
        ("#!/bin/sh\nexit 1\n", "a program that fails"),
        ("#!/nowhere\n", "a program that cannot be started"),
    ] {
        let bad = deployment.program.with_extension("bad");
        fs::write(&bad, script).expect("a script");
        install(&bad, &deployment.program);
        let seen = deployment
            .log()
            .matches("the successor does not serve")
            .count();
        krater_tests::send(deployment.supervisor(), Signal::USR2);
        until(what, NOTICE_MAX, || {
            deployment
                .log()
                .matches("the successor does not serve")
                .count()
                > seen
        });
        assert_eq!(deployment.scene.krater.amphorae(), before);
        ask(web, 3);
    }
    install(&binary("krater-amphora"), &deployment.program);
    let serving = deployment.succeed();
    assert!(!before.contains(&serving));
    ask(web, 3);
}

#[test]
fn a_supervisor_tries_until_its_agent_can_be_started() {
    let deployment = Deployment::new();
    let (web, supervisor) = (deployment.tree.at(80), deployment.supervisor());
    ask(web, 3);
    let bad = deployment.program.with_extension("bad");
    fs::write(&bad, "#!/nowhere\n").expect("a script");
    install(&bad, &deployment.program);
    deployment.scene.krater.kill_amphorae();
    until("it was tried again", NOTICE_MAX, || {
        let log = deployment.log();
        log.matches("the agent cannot be started").count() > 2
    });
    install(&binary("krater-amphora"), &deployment.program);
    until("an agent is there again", NOTICE_MAX, || {
        deployment.scene.krater.amphorae().len() == 1
    });
    ask(web, 3);
    // It was this one all the time: the sockets were held.
    assert_eq!(deployment.supervisor(), supervisor);
}
