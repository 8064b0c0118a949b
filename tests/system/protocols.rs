//! What is spoken to members and monitors beside plain TCP and HTTP: PROXY headers, and TLS that is passed through.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use krater_tests::{Connection, ProxiedMember, TlsMember, until};
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json, text};

fn pool_json(protocol: &str, monitor: &str, members: &[Value]) -> Value {
    json!({
        "protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "members": members,
        "healthmonitor": {"type": monitor, "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1},
    })
}

/// The status of each member of the tree's pool, by its port.
fn statuses(scene: &mut Scene, tree: &Tree) -> Vec<(u64, String)> {
    let listed = scene.api.get(&format!("pools/{}/members", tree.pool));
    let members = listed["members"].as_array().expect("members").iter();
    let mut statuses: Vec<_> = members
        .map(|member| {
            let port = member["protocol_port"].as_u64().expect("a port");
            (port, text(&member["operating_status"]))
        })
        .collect();
    statuses.sort();
    statuses
}

#[test]
fn members_of_proxy_pools_learn_whose_each_connection_is() {
    for (pool, form) in [("PROXY", 1), ("PROXYV2", 2)] {
        let mut scene = Scene::up();
        let member = ProxiedMember::start();
        let pool = pool_json(pool, "HTTP", &[member_json(member.address())]);
        let tree = scene.tree(&json!([listener_json("HTTP", 80, &pool)]));
        until("the probes are answered", NOTICE_MAX, || {
            statuses(&mut scene, &tree)[0].1 == "ONLINE"
        });
        let mut clients = BTreeSet::new();
        for _ in 0..3 {
            let stream = TcpStream::connect(tree.at(80)).expect("a connection");
            let own = stream.local_addr().expect("an address");
            clients.insert(own);
            let mut connection = Connection::over(stream).expect("a connection");
            for _ in 0..3 {
                let answer = connection.get("/").expect("an answer");
                let told = format!("v{form} {own} {}", tree.at(80));
                assert_eq!(answer.text(), told);
            }
        }
        assert_eq!(
            member.relayed(),
            clients.len(),
            "a connection for each client"
        );
        assert!(member.own() > 0, "probes speak for nobody");
    }
}

#[test]
fn streams_of_proxy_pools_begin_with_their_header() {
    let mut scene = Scene::up();
    let member = ProxiedMember::start();
    for (port, listener, protocol, form) in [
        (90, "TCP", "PROXY", 1),
        (91, "TCP", "PROXYV2", 2),
        (92, "HTTPS", "PROXYV2", 2),
    ] {
        let pool = pool_json(protocol, "TCP", &[member_json(member.address())]);
        let tree = scene.tree(&json!([listener_json(listener, port, &pool)]));
        let mut stream = TcpStream::connect(tree.at(port)).expect("a connection");
        stream
            .set_read_timeout(Some(SETTLE_MAX))
            .expect("a timeout");
        let own = stream.local_addr().expect("an address");
        stream
            .write_all(b"GET / HTTP/1.0\r\n\r\n")
            .expect("a request");
        stream.shutdown(Shutdown::Write).expect("an end");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let told = format!("v{form} {own} {}", tree.at(port));
        assert!(answer.ends_with(&told), "{answer} instead of {told}");
        scene
            .api
            .delete(&format!("loadbalancers/{}?cascade=true", tree.id));
    }
}

#[test]
fn tls_passes_through_and_its_monitors_tell_who_speaks_it() {
    for (monitor, port) in [("TLS-HELLO", 443), ("HTTPS", 444)] {
        let mut scene = Scene::up();
        let member = TlsMember::start("a");
        // Takes connections and speaks no TLS.
        let plain = krater_tests::HttpMember::start("b", "127.0.0.1:0");
        let members = [member_json(member.address()), member_json(plain.address())];
        let pool = pool_json("HTTPS", monitor, &members);
        let tree = scene.tree(&json!([listener_json("HTTPS", port, &pool)]));
        let mut expected = vec![
            (u64::from(member.address().port()), "ONLINE".to_owned()),
            (u64::from(plain.address().port()), "ERROR".to_owned()),
        ];
        expected.sort();
        until("each shows what it is", NOTICE_MAX, || {
            statuses(&mut scene, &tree) == expected
        });
        for _ in 0..4 {
            // The client trusts the member's certificate alone: nobody stands between them.
            let answer = member.fetch(tree.at(port), "/").expect("an answer");
            assert!(answer.contains(r#"{"member":"a"}"#), "{answer}");
        }
    }
}
