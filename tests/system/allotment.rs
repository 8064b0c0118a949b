//! What an amphora may take of its host: held to by the kernel from the first moment on, or told of where it cannot be.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use krater_tests::{
    HostedAmphorae, HttpMember, Krater, Namespace, fetch, host_token, until, until_some,
};
use serde_json::{Value, json};

use crate::{
    hosts::{bare, wait_ready},
    scene::{NOTICE_MAX, SETTLE_MAX, Scene, ask, listener_json, member_json, text},
    treatment::{create_flavored, flavored_with},
};

const BOUNDED: &str =
    r#"{"krater_tenancy": "dedicated", "krater_memory_mib": 256, "krater_cpu_percent": 50}"#;
/// Where trees of groups are.
const ROOTS: [&str; 4] = ["", "memory", "cpu", "unified"];

/// Whether the tests may make control groups here, of either version.
fn can_be_bounded() -> bool {
    let is_root = fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0);
    let can = is_root && ["memory", "cpu"].into_iter().all(has_controller);
    if !can {
        println!("not tested here: control groups cannot be made");
    }
    can
}

fn has_controller(name: &str) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, root, kind, options, ..] = fields.as_slice() else {
            return false;
        };
        let there = fs::read_to_string(Path::new(root).join("cgroup.controllers"));
        (*kind == "cgroup" && options.split(',').any(|option| option == name))
            || (*kind == "cgroup2"
                && there.is_ok_and(|all| all.split_whitespace().any(|found| found == name)))
    })
}

fn listener(member: &HttpMember) -> Value {
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
    });
    listener_json("HTTP", 80, &pool)
}

fn groups(id: &str) -> Vec<PathBuf> {
    let folders = ROOTS.map(|root| {
        Path::new("/sys/fs/cgroup")
            .join(root)
            .join("krater")
            .join(id)
    });
    folders
        .into_iter()
        .filter(|folder| folder.exists())
        .collect()
}

/// What the groups of an amphora say in whichever of these files they have.
fn said(id: &str, files: [&str; 2]) -> Vec<String> {
    let folders = groups(id).into_iter();
    let paths = folders.flat_map(|folder| files.map(|file| folder.join(file)));
    paths
        .filter_map(|path| fs::read_to_string(path).ok())
        .map(|text| text.trim().to_owned())
        .collect()
}

#[track_caller]
fn assert_bounded(id: &str) {
    let memory = said(id, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory, ["268435456"]);
    let cpu = said(id, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(
        !cpu.is_empty() && cpu.iter().all(|text| text.starts_with("50000")),
        "{cpu:?}"
    );
}

/// Whether a process is in the groups of the amphora, all of them.
fn belongs(pid: u32, id: &str) -> bool {
    let of = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let suffix = format!("/krater/{id}");
    let trees: Vec<&str> = of
        .lines()
        .filter(|line| line.ends_with(&suffix))
        .filter_map(|line| line.split(':').nth(1))
        .collect();
    // All in one of version 2, which has no name here.
    trees == [""]
        || ["memory", "cpu"].iter().all(|name| {
            trees
                .iter()
                .any(|tree| tree.split(',').any(|one| one == *name))
        })
}

fn own_amphora(scene: &mut Scene) -> String {
    let listed = scene.api.call("GET", "/krater/v1/amphorae", None).body;
    let amphorae = listed["amphorae"].as_array().cloned().unwrap_or_default();
    let mut own = amphorae
        .iter()
        .filter(|amphora| amphora["tenancy"] == "dedicated");
    text(&own.next().expect("an amphora of its own")["id"])
}

#[test]
fn an_amphora_is_held_to_what_it_may_take_through_crash_takeover_and_restart_of_the_controller() {
    if !can_be_bounded() {
        return;
    }
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let tree = flavored_with(&mut scene, BOUNDED, &listener(&member));
    assert_eq!(ask(tree.at(80), 3).get("a"), Some(&3));
    let id = own_amphora(&mut scene);
    assert_bounded(&id);
    let supervisors = scene.krater.supervisors().into_iter();
    let (bounded, others): (Vec<u32>, Vec<u32>) = supervisors.partition(|pid| belongs(*pid, &id));
    let [supervisor] = bounded[..] else {
        panic!("{bounded:?} are held to it, not one supervisor");
    };
    assert!(!others.is_empty(), "the shared one is held to nothing");
    let agent = |krater: &Krater| {
        until_some("an agent", SETTLE_MAX, || {
            krater.children_of(supervisor).first().copied()
        })
    };
    let first = agent(&scene.krater);
    assert!(belongs(first, &id));
    // It dies and is started again.
    scene.krater.kill(first);
    let second = until_some("another agent", SETTLE_MAX, || {
        let now = scene.krater.children_of(supervisor);
        now.into_iter().find(|pid| *pid != first)
    });
    assert!(belongs(second, &id));
    until("it serves again", SETTLE_MAX, || {
        fetch(tree.at(80), "/").is_ok_and(|answer| answer.status == 200)
    });
    // Another takes its place.
    let third = scene.krater.succeed(supervisor, SETTLE_MAX);
    assert!(belongs(third, &id));
    // The next controller finds it, and leaves it as it is.
    scene.krater.kill_controller();
    assert_bounded(&id);
    scene.krater.resume();
    scene.api = scene.krater.api();
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(agent(&scene.krater), third);
    assert!(belongs(supervisor, &id) && belongs(third, &id));
    assert_bounded(&id);
    // All of it dies, also who would have cleaned up.
    for pid in [supervisor, third] {
        scene.krater.kill(pid);
    }
    until("another one is held to the same", NOTICE_MAX, || {
        let now = scene.krater.supervisors().into_iter();
        now.filter(|pid| belongs(*pid, &id)).count() == 1
    });
    assert_bounded(&id);
    scene
        .api
        .delete(&format!("loadbalancers/{}?cascade=true", tree.id));
    until("its groups are gone", NOTICE_MAX, || groups(&id).is_empty());
}

#[test]
fn what_cannot_be_held_to_what_it_may_take_is_not_started_and_everybody_is_told_why() {
    if !can_be_bounded() {
        return;
    }
    let network = Namespace::enter_new();
    let mut krater = Krater::prepare("up", &[]).without_control_groups();
    krater.resume();
    let mut scene = Scene {
        api: krater.api(),
        krater,
        network,
    };
    let member = HttpMember::start("a", "127.0.0.1:0");
    let shared = scene.http_tree(&[&member]);
    let before = scene.krater.supervisors();
    let created = create_flavored(&mut scene, BOUNDED, &listener(&member));
    let id = text(&created["id"]);
    let reason = error_of(&mut scene, &id);
    assert!(
        reason.contains("this host has no control groups for that"),
        "{reason}"
    );
    assert_eq!(scene.krater.supervisors(), before);
    let address = ([127, 0, 0, 1], 9878).into();
    let metrics = fetch(address, "/metrics").expect("metrics").text();
    assert!(
        metrics.contains("\nkrater_controller_amphorae_in_trouble 1\n"),
        "{metrics}"
    );
    // Nobody else is the worse for it.
    assert_eq!(ask(shared.at(80), 3).get("a"), Some(&3));
    scene
        .api
        .delete(&format!("loadbalancers/{id}?cascade=true"));
    until("nothing is in trouble any more", NOTICE_MAX, || {
        fetch(address, "/metrics").is_ok_and(|answer| {
            answer
                .text()
                .contains("\nkrater_controller_amphorae_in_trouble 0\n")
        })
    });
}

#[test]
fn a_host_that_joined_holds_an_amphora_to_what_it_may_take_or_says_why_not() {
    if !can_be_bounded() {
        return;
    }
    let (mut scene, _settings) = bare();
    let mut host = HostedAmphorae::join_without_control_groups(&host_token(&[]), "one", 9_880);
    wait_ready("one");
    let member = HttpMember::start("a", "127.0.0.1:0");
    let created = create_flavored(&mut scene, BOUNDED, &listener(&member));
    let id = text(&created["id"]);
    let reason = error_of(&mut scene, &id);
    assert!(
        reason.contains("this host has no control groups for that"),
        "{reason}"
    );
    // It comes to have them, and the load balancer heals.
    host.program().kill();
    host.resume();
    scene.api.wait_active(&id, NOTICE_MAX);
    let amphora = own_amphora(&mut scene);
    assert_bounded(&amphora);
    let held = host.processes().into_iter();
    // Supervisor and agent.
    assert_eq!(held.filter(|pid| belongs(*pid, &amphora)).count(), 2);
    scene
        .api
        .delete(&format!("loadbalancers/{id}?cascade=true"));
    until("its groups are gone", NOTICE_MAX, || {
        groups(&amphora).is_empty()
    });
}

/// Waits until a load balancer is in ERROR, and gives what is said of that.
fn error_of(scene: &mut Scene, id: &str) -> String {
    let path = format!("loadbalancers/{id}");
    until_some("it is in ERROR", NOTICE_MAX, || {
        let shown = scene.api.get(&path)["loadbalancer"].clone();
        (shown["provisioning_status"] == "ERROR").then(|| shown["status_reason"].to_string())
    })
}
