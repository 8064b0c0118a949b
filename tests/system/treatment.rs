//! What operators offer by flavors beyond the reference, as clients of the load balancer feel it.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use krater_tests::{Connection, HttpMember, TcpMember, fetch, until};
use serde_json::{Value, json};

use crate::scene::{SETTLE_MAX, Scene, Tree, listener_json, member_json, text};

/// A load balancer of a flavor, with a TCP listener on port 90.
fn flavored(scene: &mut Scene, terms: &str, members: &[&TcpMember]) -> Tree {
    let members: Vec<_> = members
        .iter()
        .map(|member| member_json(member.address()))
        .collect();
    let pool = json!({"protocol": "TCP", "lb_algorithm": "ROUND_ROBIN", "members": members});
    flavored_with(scene, terms, &listener_json("TCP", 90, &pool))
}

/// A load balancer of a flavor, with that listener.
pub(crate) fn flavored_with(scene: &mut Scene, terms: &str, listener: &Value) -> Tree {
    let created = create_flavored(scene, terms, listener);
    let id = text(&created["id"]);
    scene.api.wait_active(&id, SETTLE_MAX);
    Tree {
        vip: text(&created["vip_address"])
            .parse()
            .expect("the VIP is an address"),
        listener: text(&created["listeners"][0]["id"]),
        pool: text(&created["pools"][0]["id"]),
        id,
    }
}

/// The same, as it is answered: not waited for.
pub(crate) fn create_flavored(scene: &mut Scene, terms: &str, listener: &Value) -> Value {
    let profile = json!({"flavorprofile": {
        "name": terms, "provider_name": "amphora", "flavor_data": terms,
    }});
    let profile = scene.api.post("flavorprofiles", &profile);
    let flavor = json!({"flavor": {
        "name": terms, "enabled": true, "flavor_profile_id": profile["flavorprofile"]["id"],
    }});
    let flavor = scene.api.post("flavors", &flavor);
    let body = json!({"loadbalancer": {
        "name": "own", "vip_subnet_id": scene.api.subnet("local-v4"), "flavor_id": flavor["flavor"]["id"],
        "listeners": [listener],
    }});
    scene.api.post("loadbalancers", &body)["loadbalancer"].clone()
}

/// The name of the member behind a new connection, and the connection; no name if it was closed at once.
fn connect(tree: &Tree) -> (String, BufReader<TcpStream>) {
    let stream = TcpStream::connect(tree.at(90)).expect("the port is open");
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .expect("sockets have timeouts");
    let mut stream = BufReader::new(stream);
    let mut name = String::new();
    // A reset says the same as an end.
    let _ = stream.read_line(&mut name);
    (name.trim_end().to_owned(), stream)
}

#[test]
fn a_source_may_begin_so_many_connections_a_second_and_no_more() {
    let mut scene = Scene::up();
    let member = TcpMember::start("a", "127.0.0.1:0");
    let tree = flavored(&mut scene, r#"{"krater_source_rate": 2}"#, &[&member]);
    let names: Vec<_> = (0..40).map(|_| connect(&tree).0).collect();
    let served = names.iter().filter(|name| *name == "a").count();
    assert!(served >= 2, "{names:?}");
    assert!(served < 40, "{names:?}");
    // Refused is who comes too often, not who comes.
    until("it is let in again", Duration::from_secs(20), || {
        connect(&tree).0 == "a"
    });
}

#[test]
fn a_member_that_is_added_gets_its_share_slowly() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| TcpMember::start(name, "127.0.0.1:0"));
    let tree = flavored(
        &mut scene,
        r#"{"krater_slow_start_seconds": 600}"#,
        &[&members[0]],
    );
    assert_eq!(connect(&tree).0, "a");
    let added = json!({"member": member_json(members[1].address())});
    scene
        .api
        .post(&format!("pools/{}/members", tree.pool), &added);
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    let names: Vec<_> = (0..60).map(|_| connect(&tree).0).collect();
    let served = names.iter().filter(|name| *name == "b").count();
    // Half of them would be its share in ten minutes.
    assert!(served < 15, "{names:?}");
    assert!(names.iter().all(|name| name == "a" || name == "b"));
}

#[test]
fn a_member_has_no_more_requests_than_its_flavor_says_and_the_others_wait() {
    let mut scene = Scene::up();
    let member = HttpMember::start("a", "127.0.0.1:0");
    let pool = json!({
        "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member_json(member.address())],
    });
    let mut listener = listener_json("HTTP", 80, &pool);
    // Whoever has to wait longer than the others take has waited in vain.
    listener["timeout_member_connect"] = json!(20_000);
    let tree = flavored_with(&mut scene, r#"{"krater_member_requests": 2}"#, &listener);
    assert_eq!(
        fetch(tree.at(80), "/").expect("an answer").status,
        200,
        "nobody waits for nothing"
    );
    member.set_delay(Duration::from_millis(100));
    let at = tree.at(80);
    let clients: Vec<_> = (0..12)
        .map(|_| {
            std::thread::spawn(move || {
                let mut connection = Connection::open(at).expect("a connection");
                (0..2).all(|_| connection.get("/").is_ok_and(|answer| answer.status == 200))
            })
        })
        .collect();
    for client in clients {
        assert!(client.join().expect("a client"), "one was not answered");
    }
    assert_eq!(member.served(), 25);
    assert!(member.most_at_once() <= 2, "{}", member.most_at_once());
}

#[test]
fn settings_of_the_deployment_reach_load_balancers_that_nobody_changes() {
    let mut scene = Scene::up();
    let member = TcpMember::start("a", "127.0.0.1:0");
    let tree = flavored(&mut scene, "{}", &[&member]);
    assert!((0..20).all(|_| connect(&tree).0 == "a"));
    scene.krater.kill_controller();
    let config = scene.krater.state_folder().join("new.toml");
    std::fs::write(&config, "[treatment]\nsource_rate = 1\n").expect("it can be written");
    let config = config.to_str().expect("a path").to_owned();
    scene.krater.resume_with(&["--config", &config]);
    until("the rate is in force", Duration::from_secs(20), || {
        let served = (0..20).filter(|_| connect(&tree).0 == "a").count();
        served < 10
    });
    scene.api = scene.krater.api();
    scene.api.wait_active(&tree.id, SETTLE_MAX);
}

/// What `ss` says of the amphora's end of the tree's connections.
fn ends(tree: &Tree) -> String {
    let output = Command::new("ss")
        .args(["-Htin", "src", &tree.vip.to_string(), "sport", "=", ":90"])
        .output()
        .expect("ss is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn clients_are_sent_to_by_the_congestion_control_of_the_flavor_if_the_system_has_it() {
    let mut scene = Scene::up();
    let member = TcpMember::start("a", "127.0.0.1:0");
    let usual = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control");
    let usual = usual.expect("the system has one").trim().to_owned();
    let other = if usual == "reno" { "cubic" } else { "reno" };
    for (asked, expected) in [
        (other, other),
        ("no-such-control", &usual),
        ("system", &usual),
    ] {
        let terms = format!(r#"{{"krater_congestion_control": "{asked}"}}"#);
        let tree = flavored(&mut scene, &terms, &[&member]);
        let (name, _kept) = connect(&tree);
        assert_eq!(name, "a", "{asked}");
        let ends = ends(&tree);
        assert!(ends.contains(&format!(" {expected} ")), "{asked}: {ends}");
    }
}

#[test]
fn connections_of_a_member_that_leaves_end_by_the_deadline_of_the_flavor() {
    let mut scene = Scene::up();
    let members = ["a", "b"].map(|name| TcpMember::start(name, "127.0.0.1:0"));
    let tree = flavored(
        &mut scene,
        r#"{"krater_member_drain_seconds": 1}"#,
        &[&members[0], &members[1]],
    );
    let mut kept: Vec<_> = (0..2).map(|_| connect(&tree)).collect();
    kept.sort_by(|(one, _), (other, _)| one.cmp(other));
    let [(leaving, first), (staying, second)] = &mut kept[..] else {
        panic!("two connections");
    };
    assert_eq!((leaving.as_str(), staying.as_str()), ("a", "b"));
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    let gone = listed["members"]
        .as_array()
        .expect("members")
        .iter()
        .find(|member| member["protocol_port"] == members[0].address().port())
        .map(|member| text(&member["id"]))
        .expect("the member is listed");
    scene
        .api
        .delete(&format!("pools/{}/members/{gone}", tree.pool));
    // Its end, well or with a reset, and not the twenty seconds that a silent one may be waited for.
    match first.read(&mut [0]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    // Who is with another member goes on.
    second
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .expect("it is open");
    assert_eq!(second.read(&mut [0]).expect("an end in good order"), 0);
    assert_eq!(connect(&tree).0, "b");
}
