//! TLS that ends at listeners, by certificates of a folder of secrets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::Arc,
};

use anyhow::Result;
use krater_tests::{Exposition, HttpMember, run_to_end, until};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs,
    pki_types::ServerName,
};
use serde_json::json;

use crate::scene::{NOTICE_MAX, SETTLE_MAX, Scene, Tree, listener_json, member_json};

const NAME: &str = "web.test";

/// A certificate, and a client that trusts it and no other.
struct Identity {
    pem: String,
    client: Arc<ClientConfig>,
}

impl Identity {
    fn new() -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).expect("a root");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            pem: format!("{}{}", cert.pem(), signing_key.serialize_pem()),
            client: Arc::new(client),
        }
    }

    fn fetch(&self, address: SocketAddr) -> Result<String> {
        self.fetch_path(address, "/")
    }

    fn fetch_path(&self, address: SocketAddr, path: &str) -> Result<String> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(NOTICE_MAX))?;
        let name = ServerName::try_from(NAME)?;
        let connection = ClientConnection::new(Arc::clone(&self.client), name)?;
        let mut stream = StreamOwned::new(connection, stream);
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn secured(scene: &mut Scene, member: &HttpMember) -> Tree {
    let members = [member_json(member.address())];
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
    let mut listener = listener_json("TERMINATED_HTTPS", 443, &pool);
    listener["default_tls_container_ref"] = json!("web");
    scene.tree(&json!([listener]))
}

#[test]
fn a_listener_ends_tls_by_a_certificate_of_the_folder_and_takes_the_next_without_a_word() {
    let mut scene = Scene::up();
    let member = HttpMember::start("app", "127.0.0.1:0");
    let first = Identity::new();
    scene.lay_in("web", &first.pem);
    let tree = secured(&mut scene, &member);
    let answer = first.fetch(tree.at(443)).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let second = Identity::new();
    scene.lay_in("web", &second.pem);
    until("the renewed certificate is shown", NOTICE_MAX, || {
        second.fetch(tree.at(443)).is_ok()
    });
    assert!(
        first.fetch(tree.at(443)).is_err(),
        "the old one is shown no more"
    );
    scene.api.wait_active(&tree.id, SETTLE_MAX);

    // What is no good takes nothing away.
    scene.lay_in("web", "no");
    until("it is told that the renewal is no good", NOTICE_MAX, || {
        scene.krater.output().contains("cannot be renewed")
    });
    assert!(second.fetch(tree.at(443)).is_ok());
}

#[test]
fn metrics_are_told_inside_tls() {
    let mut scene = Scene::up();
    let identity = Identity::new();
    scene.lay_in("web", &identity.pem);
    let tree = scene.tree(&json!([{
        "name": "metrics", "protocol": "PROMETHEUS", "protocol_port": 8_443, "default_tls_container_ref": "web",
    }]));
    let answer = identity.fetch_path(tree.at(8_443), "/metrics");
    let answer = answer.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let told = Exposition::parse(body).expect("the text format");
    assert_eq!(
        told.value("octavia_loadbalancer_ssl_connections_total"),
        1.0
    );
    // Whoever comes without TLS is told nothing.
    let plain = krater_tests::fetch(tree.at(8_443), "/metrics");
    assert!(plain.is_err(), "{plain:?}");
}

#[test]
fn a_certificate_that_is_not_there_is_named() {
    let mut scene = Scene::up();
    let member = HttpMember::start("app", "127.0.0.1:0");
    let tree = scene.http_tree(&[&member]);
    let body = json!({"listener": {
        "loadbalancer_id": tree.id, "protocol": "TERMINATED_HTTPS", "protocol_port": 443,
        "default_tls_container_ref": "lost",
    }});
    let reply = scene.api.call("POST", "listeners", Some(&body));
    assert_eq!(reply.status, 400, "{}", reply.body);
    let text = reply.body.to_string();
    assert!(
        text.contains("Could not retrieve certificate: lost"),
        "{text}"
    );
}

#[test]
fn browsers_are_told_to_come_by_tls_alone() {
    let mut scene = Scene::up();
    let mut member = HttpMember::start("app", "127.0.0.1:0");
    scene.lay_in("web", &Identity::new().pem);
    let members = [member_json(member.address())];
    let pool = json!({"protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": members});
    let mut listener = listener_json("TERMINATED_HTTPS", 443, &pool);
    listener["default_tls_container_ref"] = json!("web");
    listener["hsts_max_age"] = json!(31_536_000);
    listener["hsts_include_subdomains"] = json!(true);
    let tree = scene.tree(&json!([listener]));
    // The line that each version of HTTP tells it by, if any.
    let told = |status: &str| {
        ["--http1.1", "--http2"].map(|version| {
            let mut command = Command::new("curl");
            command
                .args(["--silent", "--show-error", "--max-time", "20", "--insecure"])
                .args(["--dump-header", "-", version])
                .arg(format!("https://{}/", tree.vip));
            let (_, said) = run_to_end(&mut command, NOTICE_MAX);
            let first = said.lines().next().unwrap_or_default();
            assert!(first.contains(status), "{said}");
            let lines = said.lines().map(str::to_ascii_lowercase);
            let lines = lines.filter_map(|line| {
                let value = line.strip_prefix("strict-transport-security: ")?;
                Some(value.to_owned())
            });
            lines.collect::<Vec<_>>().join(" and ")
        })
    };
    let value = "max-age=31536000; includesubdomains";
    assert_eq!(told(" 200"), [value; 2]);
    let path = format!("listeners/{}", tree.listener);
    let mut change = |fields| {
        scene.api.put(&path, &json!({"listener": fields}));
        scene.api.wait_active(&tree.id, SETTLE_MAX);
    };
    change(json!({"hsts_max_age": 60, "hsts_include_subdomains": false, "hsts_preload": true}));
    assert_eq!(told(" 200"), ["max-age=60; preload"; 2]);
    member.stop();
    assert_eq!(told(" 502"), ["max-age=60; preload"; 2]);
    change(json!({"hsts_max_age": null}));
    assert_eq!(told(" 502"), [""; 2]);
}
