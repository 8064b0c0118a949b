//! TLS to members, from the API to a member that nobody here wrote.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    process::Command,
    time::Duration,
};

use krater_tests::{Answer, Authority, HttpMember, Issued, Nginx, fetch, run_to_end, until};
use rcgen::date_time_ymd;
use serde_json::{Value, json};

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json, text};

/// A pool that speaks TLS to one member; `more` is added to it.
fn pool_json(protocol: &str, member: SocketAddr, more: &Value) -> Value {
    let mut pool = json!({
        "protocol": protocol, "lb_algorithm": "ROUND_ROBIN", "tls_enabled": true,
        "members": [member_json(member)],
    });
    extend(&mut pool, more);
    pool
}

fn extend(object: &mut Value, more: &Value) {
    let fields = more.as_object().expect("an object").clone();
    object.as_object_mut().expect("an object").extend(fields);
}

/// A member with that certificate.
fn nginx(address: &str, shown: &Issued, listen: &str, further: &str) -> Nginx {
    Nginx::start(address, shown, "", listen, further)
}

fn get(at: SocketAddr) -> Answer {
    // A listener whose pool fails answers too.
    fetch(at, "/").expect("an answer")
}

/// Waits until the member answers, and tells that; or why it cannot be spoken to.
fn becomes(at: SocketAddr, expected: &str) {
    let mut last = String::new();
    until(&format!("{expected:?} comes of {at}"), NOTICE_MAX, || {
        let answer = get(at);
        let cause = answer.header("x-krater-cause").unwrap_or_default();
        last = format!("{} {cause} {}", answer.status, answer.text());
        eprintln!("{last}");
        last.contains(expected)
    });
}

#[test]
fn members_are_spoken_to_as_the_pool_says() {
    let mut scene = Scene::up();
    let members = Authority::new("members");
    let clients = Authority::new("clients");
    let own = clients.issue(&["krater"]);
    scene.lay_in("members", members.pem());
    scene.lay_in("own", &format!("{}{}", own.chain, own.key));
    let shown = members.issue(&["m.example"]);
    let asks = "ssl_client_certificate clients.pem; ssl_verify_client on;";
    let strict = Nginx::start("127.0.0.1:8443", &shown, clients.pem(), "http2", asks);
    let told = nginx("127.0.0.1:8444", &shown, "proxy_protocol", "");
    let sealed = json!({"ca_tls_container_ref": "members", "tls_container_ref": "own"});
    let tree = scene.tree(&json!([
        listener_json("HTTP", 80, &pool_json("HTTP", strict.address(), &sealed)),
        listener_json("HTTP", 81, &pool_json("PROXY", told.address(), &json!({}))),
        listener_json(
            "HTTP",
            82,
            &pool_json("PROXYV2", told.address(), &json!({}))
        ),
    ]));
    let at = tree.at(80);
    // By the deployment's defaults: the newest of everything, and nobody is asked for by a name that no client said.
    becomes(
        at,
        "200  HTTP/2.0 TLSv1.3 TLS_AES_128_GCM_SHA256 name=[] client=[CN=krater]",
    );
    for port in [81, 82] {
        becomes(tree.at(port), "200  HTTP/1.1 TLSv1.3");
        assert!(get(tree.at(port)).text().contains("for=[127.0.0.1]"));
    }

    let path = pool_path(&mut scene, &tree, "p80");
    let change = |scene: &mut Scene, fields: Value| {
        let pool = scene.api.put(&path, &json!({"pool": fields}));
        scene.api.wait_active(&tree.id, SETTLE_MAX);
        pool["pool"].clone()
    };
    change(
        &mut scene,
        json!({"tls_versions": ["TLSv1.2"], "tls_ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"}),
    );
    becomes(at, "HTTP/2.0 TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305");
    // Nothing is what nothing says of ALPN; of the others it is what the deployment has.
    let pool = change(
        &mut scene,
        json!({"alpn_protocols": null, "tls_versions": null, "tls_ciphers": null}),
    );
    assert_eq!(pool["alpn_protocols"], Value::Null);
    assert_eq!(pool["tls_versions"], json!(["TLSv1.2", "TLSv1.3"]));
    becomes(at, "HTTP/1.1 TLSv1.3");
    change(&mut scene, json!({"tls_container_ref": null}));
    becomes(at, "No required SSL certificate was sent");
    change(&mut scene, json!({"tls_container_ref": "own"}));
    becomes(at, "client=[CN=krater]");
    change(&mut scene, json!({"tls_enabled": false}));
    becomes(at, "The plain HTTP request was sent to HTTPS port");
    change(&mut scene, json!({"tls_enabled": true}));
    becomes(at, "client=[CN=krater]");
}

#[test]
fn who_vouches_for_members_is_asked_and_renewed_without_a_word() {
    let mut scene = Scene::up();
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (good, ended) = (
        ours.issue_as(7, &["m.example"], |_| {}),
        ours.issue_as(8, &["m.example"], |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        }),
    );
    let member = nginx("127.0.0.1:8443", &good, "http2", "");
    let old = nginx("127.0.0.1:8444", &ended, "", "");
    let plain = HttpMember::start("plain", "127.0.0.1:0");
    scene.lay_in("ca", others.pem());
    let vouched = json!({"ca_tls_container_ref": "ca"});
    let tree = scene.tree(&json!([
        listener_json("HTTP", 80, &pool_json("HTTP", member.address(), &vouched)),
        listener_json("HTTP", 81, &pool_json("HTTP", old.address(), &vouched)),
        // Without authorities whatever is shown is taken (reference 19.10).
        listener_json("HTTP", 82, &pool_json("HTTP", old.address(), &json!({}))),
        listener_json("HTTP", 83, &pool_json("HTTP", plain.address(), &json!({}))),
    ]));
    becomes(tree.at(80), "502 member_tls_untrusted ");
    // Its own time is looked at first.
    becomes(tree.at(81), "502 member_tls_expired ");
    becomes(tree.at(82), "200 ");
    // A server that speaks no TLS may say so in its own words, or only go.
    becomes(tree.at(83), "502 member_tls");

    // Renewed behind the same reference.
    scene.lay_in("ca", &format!("{}{}", others.pem(), ours.pem()));
    becomes(tree.at(80), "200 ");
    becomes(tree.at(81), "502 member_tls_expired ");
    scene.lay_in("ca", ours.pem());
    let revoked = |serials: &[u64]| ours.revoke(serials);
    scene.lay_in("crl", &revoked(&[9]));
    let path = pool_path(&mut scene, &tree, "p80");
    scene
        .api
        .put(&path, &json!({"pool": {"crl_container_ref": "crl"}}));
    scene.api.wait_active(&tree.id, SETTLE_MAX);
    becomes(tree.at(80), "200 ");
    scene.lay_in("crl", &revoked(&[7, 9]));
    becomes(tree.at(80), "502 member_tls_revoked ");
    scene.lay_in("crl", &revoked(&[9]));
    becomes(tree.at(80), "200 ");
    // Authorities stay as long as a list does.
    let body = json!({"pool": {"ca_tls_container_ref": null}});
    assert_eq!(scene.api.call("PUT", &path, Some(&body)).status, 400);
    let body = json!({"pool": {"ca_tls_container_ref": "lost"}});
    let reply = scene.api.call("PUT", &path, Some(&body));
    assert_eq!(reply.status, 400, "{}", reply.body);
    becomes(tree.at(80), "200 ");
}

#[test]
fn members_are_asked_for_the_name_that_the_client_asked_for_and_have_to_be_called_so() {
    let mut scene = Scene::up();
    let authority = Authority::new("authority");
    let member = nginx(
        "127.0.0.1:8443",
        &authority.issue(&["a.example", "b.example"]),
        "http2",
        "",
    );
    let web = authority.issue(&["a.example", "b.example", "c.example"]);
    scene.lay_in("web", &format!("{}{}", web.chain, web.key));
    scene.lay_in("ca", authority.pem());
    let pool = pool_json(
        "HTTP",
        member.address(),
        &json!({"ca_tls_container_ref": "ca"}),
    );
    let mut listener = listener_json("TERMINATED_HTTPS", 443, &pool);
    listener["default_tls_container_ref"] = json!("web");
    let tree = scene.tree(&json!([listener]));
    let folder = tempfile::tempdir().expect("a folder");
    let trusted = folder.path().join("ca.pem");
    fs::write(&trusted, authority.pem()).expect("a file");
    for (name, expected) in [
        ("a.example", "name=[a.example]"),
        ("b.example", "name=[b.example]"),
        ("c.example", "No member could be reached."),
        ("a.example", "name=[a.example]"),
    ] {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
            .arg(&trusted)
            .args(["--resolve", &format!("{name}:443:{}", tree.vip)])
            .arg(format!("https://{name}/"));
        let (_, said) = run_to_end(&mut command, Duration::from_secs(30));
        assert!(said.contains(expected), "{name}: {said}");
    }
}

#[test]
fn monitors_speak_tls_to_such_members_and_find_who_does_not() {
    let mut scene = Scene::up();
    let authority = Authority::new("authority");
    scene.lay_in("ca", authority.pem());
    let member = nginx(
        "127.0.0.1:8443",
        &authority.issue(&["m.example"]),
        "http2",
        "",
    );
    let plain = HttpMember::start("plain", "127.0.0.1:0");
    // A port that is taken by nobody who answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address");
    let mut listeners = Vec::new();
    for (place, kind) in (0..).zip(["HTTP", "HTTPS", "TLS-HELLO"]) {
        let mut monitor = json!({
            "type": kind, "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1,
        });
        if kind != "TLS-HELLO" {
            extend(
                &mut monitor,
                &json!({"url_path": "/healthz", "expected_codes": "200"}),
            );
        }
        let members = [member.address(), plain.address(), silent].map(member_json);
        let pool = pool_json(
            "HTTP",
            member.address(),
            &json!({"ca_tls_container_ref": "ca", "healthmonitor": monitor, "members": members}),
        );
        listeners.push(listener_json("HTTP", 80 + place, &pool));
    }
    let tree = scene.tree(&json!(listeners));
    for port in [80, 81, 82] {
        let path = pool_path(&mut scene, &tree, &format!("p{port}"));
        let listed = scene.api.get(&format!("{path}/members"));
        for one in listed["members"].as_array().expect("members") {
            let good = one["protocol_port"] == 8443;
            let expected = if good { "ONLINE" } else { "ERROR" };
            let member = format!("{path}/members/{}", text(&one["id"]));
            scene.api.wait_operating(&member, expected, NOTICE_MAX);
        }
        for _ in 0..4 {
            assert_eq!(get(tree.at(port)).status, 200);
        }
    }
}

/// The path of the pool of that name.
fn pool_path(scene: &mut Scene, tree: &Tree, name: &str) -> String {
    let found = scene
        .api
        .get(&format!("pools?loadbalancer_id={}&name={name}", tree.id));
    format!("pools/{}", text(&found["pools"][0]["id"]))
}
