//! UDP, from the API to the datagram.

use std::{
    collections::BTreeSet,
    io,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use krater_tests::{Namespace, Standalone, UdpClient, UdpMember, binary, until};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json, text};

/// The shortest there is; each verdict is that of one probe.
fn udp_connect() -> Value {
    json!({"type": "UDP-CONNECT", "delay": 3, "timeout": 1, "max_retries": 1, "max_retries_down": 1})
}

fn udp_tree(scene: &mut Scene, members: &[&UdpMember]) -> Tree {
    let members: Vec<_> = members
        .iter()
        .map(|member| member_json(member.address()))
        .collect();
    let pool = json!({
        "protocol": "UDP", "lb_algorithm": "ROUND_ROBIN", "members": members, "healthmonitor": udp_connect(),
    });
    scene.tree(&json!([listener_json("UDP", 53, &pool)]))
}

/// Paths of the members, in the order of their ports as given.
fn paths(scene: &mut Scene, tree: &Tree, members: &[&UdpMember]) -> Vec<String> {
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    let listed = listed["members"].as_array().expect("members");
    let path = |member: &&UdpMember| {
        let port = member.address().port();
        let found = listed
            .iter()
            .find(|listed| listed["protocol_port"] == port)
            .expect("it is listed");
        format!("pools/{}/members/{}", tree.pool, text(&found["id"]))
    };
    members.iter().map(path).collect()
}

fn names(tree: &Tree, clients: usize) -> BTreeSet<String> {
    (0..clients)
        .map(|_| UdpClient::of(tree.at(53)).ask("x").expect("an answer"))
        .collect()
}

#[test]
fn questions_are_answered_a_dead_member_is_left_and_comes_back() {
    let mut scene = Scene::up();
    let [mut a, b] = ["a", "b"].map(|name| UdpMember::start(name, "127.0.0.1:0"));
    let tree = udp_tree(&mut scene, &[&a, &b]);
    let both = BTreeSet::from(["a x".to_owned(), "b x".to_owned()]);
    assert_eq!(names(&tree, 6), both);
    let member = paths(&mut scene, &tree, &[&a]).remove(0);
    let balancer = format!("loadbalancers/{}", tree.id);
    scene.api.wait_operating(&member, "ONLINE", NOTICE_MAX);
    scene.api.wait_operating(&balancer, "ONLINE", NOTICE_MAX);

    a.stop();
    // Refused once, a client is taken to the other without waiting for any probe.
    for _ in 0..4 {
        let heard = UdpClient::of(tree.at(53)).ask_until_heard("x", SETTLE_MAX);
        assert_eq!(heard, "b x");
    }
    scene.api.wait_operating(&member, "ERROR", NOTICE_MAX);
    scene.api.wait_operating(&balancer, "DEGRADED", NOTICE_MAX);
    assert_eq!(names(&tree, 6), BTreeSet::from(["b x".to_owned()]));

    a.restart();
    scene.api.wait_operating(&member, "ONLINE", NOTICE_MAX);
    assert_eq!(names(&tree, 6), both);
    let stats = format!("loadbalancers/{}/stats", tree.id);
    until("sessions and bytes are counted", NOTICE_MAX, || {
        let stats = &scene.api.get(&stats)["stats"];
        stats["total_connections"].as_u64() >= Some(22)
            && stats["bytes_in"].as_u64() >= Some(22)
            && stats["bytes_out"].as_u64() >= Some(66)
            && stats["request_errors"] == 0
    });
}

#[test]
fn a_client_on_another_host_is_told_that_nobody_answers_where_the_amphora_may_say_so() {
    let (host, clients) = (Namespace::new(), Namespace::new());
    host.link(
        "near",
        &["10.9.0.1/24", "fd09::1/64"],
        &clients,
        "far",
        &["10.9.0.2/24", "fd09::2/64"],
    );
    // In the first pool nobody is, in the second one nobody listens.
    let snapshot = json!({"load_balancers": [{
        "vips": ["10.9.0.1", "fd09::1"],
        "listeners": [
            {"protocol": "udp", "port": 53, "default_pool": "empty"},
            {"protocol": "udp", "port": 54, "default_pool": "refused"},
            {"protocol": "tcp", "port": 80},
        ],
        "pools": [
            {"name": "empty", "protocol": "udp"},
            {"name": "refused", "protocol": "udp", "members": [{"address": "127.0.0.1", "port": 1}]},
        ],
    }]});
    for privileged in [true, false] {
        let mut amphora = host.run(|| {
            let mut command = Command::new("setpriv");
            if !privileged {
                command.args(["--bounding-set", "-net_raw", "--inh-caps", "-net_raw"]);
            }
            command.arg(binary("krater-amphora"));
            let ready = "10.9.0.1:80".parse().expect("an address");
            Standalone::start_as(command, &snapshot, ready, &[])
        });
        let mut says_so = || {
            let said = amphora.program().output();
            said.contains("that needs CAP_NET_RAW")
        };
        if !privileged {
            until("it says what it may not do", SETTLE_MAX, &mut says_so);
        }
        clients.run(|| {
            for address in ["10.9.0.1:53", "10.9.0.1:54", "[fd09::1]:53", "[fd09::1]:54"] {
                if privileged {
                    let client = UdpClient::of(address.parse().expect("an address"));
                    let error = client.ask("x").expect_err("nobody answers");
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{address}");
                }
            }
        });
        assert_eq!(says_so(), !privileged);
    }
}

#[test]
fn changes_over_the_api_lose_and_double_no_datagram() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| UdpMember::start(name, "127.0.0.1:0"));
    let tree = udp_tree(&mut scene, &[&members[0], &members[1]]);
    let stop = Arc::new(AtomicBool::new(false));
    let talks: Vec<_> = (0..3)
        .map(|_| {
            let (client, stop) = (UdpClient::of(tree.at(53)), Arc::clone(&stop));
            thread::spawn(move || {
                let first = client.ask("0").expect("an answer");
                let mut asked = 1_u32;
                while !stop.load(Ordering::Relaxed) {
                    let heard = client.ask(&asked.to_string()).expect("an answer");
                    assert_eq!(heard, format!("{} {asked}", &first[..1]));
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let paths = paths(&mut scene, &tree, &[&members[0], &members[1]]);
    let listener = format!("listeners/{}", tree.listener);
    for round in 1..10 {
        let api = &mut scene.api;
        api.put(&paths[round % 2], &json!({"member": {"weight": round}}));
        api.put(
            &listener,
            &json!({"listener": {"timeout_client_data": 50_000 + round}}),
        );
        let extra = json!({"member": {"address": "127.0.0.1", "protocol_port": 9_000 + round, "weight": 0}});
        api.post(&format!("pools/{}/members", tree.pool), &extra);
    }
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    stop.store(true, Ordering::Relaxed);
    for talk in talks {
        assert!(talk.join().expect("no answer was missing or another's") > 1);
    }
}

#[test]
fn a_failover_loses_no_datagram_of_who_waits_for_answers() {
    let mut scene = Scene::up();
    let member = UdpMember::start("a", "127.0.0.1:0");
    let tree = udp_tree(&mut scene, &[&member]);
    let stop = Arc::new(AtomicBool::new(false));
    let talks: Vec<_> = (0..3)
        .map(|_| {
            let (client, stop) = (UdpClient::of(tree.at(53)), Arc::clone(&stop));
            thread::spawn(move || {
                let mut asked = 0_u32;
                while !stop.load(Ordering::Relaxed) {
                    let heard = client.ask(&asked.to_string()).expect("an answer");
                    assert_eq!(heard, format!("a {asked}"));
                    asked += 1;
                }
            })
        })
        .collect();
    let path = format!("loadbalancers/{}/failover", tree.id);
    scene.api.call("PUT", &path, None).expect(202);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    stop.store(true, Ordering::Relaxed);
    for talk in talks {
        talk.join().expect("no answer was missing");
    }
    assert_eq!(
        UdpClient::of(tree.at(53)).ask("x").expect("an answer"),
        "a x"
    );
}

#[test]
fn tcp_and_udp_share_a_port_and_members_may_be_of_the_other_family() {
    let mut scene = Scene::up();
    let four = UdpMember::start("four", "127.0.0.1:0");
    let six = UdpMember::start("six", "[::1]:0");
    let tcp = krater_tests::TcpMember::start("t", "127.0.0.1:0");
    let pool = |protocol: &str, members: Value| json!({"protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members, "name": protocol});
    let udp = json!([member_json(four.address()), member_json(six.address())]);
    let tree = scene.tree(&json!([
        listener_json("UDP", 53, &pool("UDP", udp)),
        listener_json("TCP", 53, &pool("TCP", json!([member_json(tcp.address())]))),
    ]));
    let both = BTreeSet::from(["four x".to_owned(), "six x".to_owned()]);
    assert_eq!(names(&tree, 6), both);
    let mut greeting = [0; 2];
    let mut stream = std::net::TcpStream::connect(tree.at(53)).expect("somebody accepts");
    std::io::Read::read_exact(&mut stream, &mut greeting).expect("a member greets");
    assert_eq!(&greeting, b"t\n");
    let again =
        json!({"listener": {"loadbalancer_id": tree.id, "protocol": "UDP", "protocol_port": 53}});
    scene
        .api
        .call("POST", "listeners", Some(&again))
        .expect(409);
}

#[test]
fn clients_are_kept_by_their_network_over_the_api() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| UdpMember::start(name, "127.0.0.1:0"));
    let tree = udp_tree(&mut scene, &[&members[0], &members[1]]);
    let pool = format!("pools/{}", tree.pool);
    let kept = json!({
        "type": "SOURCE_IP", "persistence_timeout": 60, "persistence_granularity": "255.255.0.0",
    });
    scene
        .api
        .put(&pool, &json!({"pool": {"session_persistence": kept}}));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    let shown = scene.api.get(&pool)["pool"]["session_persistence"].clone();
    assert_eq!(shown["persistence_timeout"], 60);
    assert_eq!(names(&tree, 8).len(), 1, "all of one network");
    scene
        .api
        .put(&pool, &json!({"pool": {"session_persistence": null}}));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    assert_eq!(names(&tree, 8).len(), 2, "by turns");
}
