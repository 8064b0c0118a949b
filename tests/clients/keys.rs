//! Tenants who keep their certificates in a real Barbican.

use std::{fs, net::IpAddr, path::Path, process::Command, time::Duration};

use krater_tests::{
    Authority, Barbican, HttpMember, Issued, Keystone, Krater, Namespace, run_to_end, until,
};
use serde_json::json;

use crate::run;

#[test]
fn certificates_of_a_key_manager_are_served_also_while_it_is_away() {
    let _network = Namespace::enter_new();
    let keystone = Keystone::start();
    let mut keys = Barbican::start(&keystone);
    let settings = keystone.settings("keystone-default", &Barbican::settings());
    let krater = Krater::start("up", &["--config", &settings]);
    let member = HttpMember::start("m0", "127.0.0.1:0");
    let folder = tempfile::tempdir().expect("a folder");
    let web = Authority::new("web");
    let put = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
    let put_pair = |name: &str, issued: &Issued| {
        put(&format!("{name}.crt"), &issued.chain);
        put(&format!("{name}.key"), &issued.key);
    };
    put("ca.crt", web.pem());
    for name in ["a.example", "b.example", "c.example"] {
        put_pair(name, &web.issue(&[name]));
    }
    let environment: Vec<_> = Keystone::environment("alice", "alpha")
        .into_iter()
        .chain([
            ("MEMBER", member.address().to_string()),
            ("PEMS", folder.path().display().to_string()),
        ])
        .collect();
    run("keys.py", &environment, &krater);

    let mut api = krater.api().with_token(&Keystone::token("alice", "alpha"));
    let balancer = api.get("loadbalancers?name=web")["loadbalancers"][0].clone();
    let id = balancer["id"].as_str().expect("an id");
    let vip: IpAddr = balancer["vip_address"]
        .as_str()
        .and_then(|text| text.parse().ok())
        .expect("an address");
    let listener = api.get("listeners?name=https")["listeners"][0].clone();
    let reference = listener["default_tls_container_ref"]
        .as_str()
        .expect("a reference");
    keys.kill();
    let mut ask_for = |port: u16, reference: &str| {
        let listener = json!({
            "protocol": "TERMINATED_HTTPS", "protocol_port": port, "loadbalancer_id": id,
            "default_tls_container_ref": reference,
        });
        api.call("POST", "listeners", Some(&json!({"listener": listener})))
    };
    // Nobody can say whether this may be had.
    let refused = ask_for(8443, &reference.replace("/v1/containers/", "/v1/secrets/"));
    assert_eq!(refused.status, 503, "{}", refused.fault());
    assert!(
        refused.fault().contains("secret store"),
        "{}",
        refused.fault()
    );
    // What is in use already is known to be its own.
    ask_for(9443, reference).expect(201);
    // All else goes on: edits, and amphorae that begin again with what they were given.
    let path = format!("listeners/{}", listener["id"].as_str().expect("an id"));
    api.put(&path, &json!({"listener": {"connection_limit": 1000}}));
    api.wait_active(id, Duration::from_secs(10));
    krater.kill_amphorae();
    for name in ["a.example", "b.example"] {
        until("it serves again", Duration::from_secs(20), || {
            https(vip, name, folder.path()).contains("m0")
        });
    }
}

/// What a client gets who believes the authority of the folder, or why not.
fn https(vip: IpAddr, name: &str, folder: &Path) -> String {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "10", "--cacert"])
        .arg(folder.join("ca.crt"))
        .args(["--resolve", &format!("{name}:443:{vip}")])
        .arg(format!("https://{name}/"));
    run_to_end(&mut command, Duration::from_secs(20)).1
}
