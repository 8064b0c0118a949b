//! Callers that log in to a real Keystone: what they see, and what they see while it is down.

use std::time::Duration;

use krater_tests::{Answer, Connection, Keystone, Krater, Namespace, until};

use crate::run;

#[test]
fn the_openstack_command_logs_in_and_does_what_its_roles_permit() {
    let _network = Namespace::enter_new();
    let keystone = Keystone::start();
    let settings = keystone.settings("keystone-default", "");
    let krater = Krater::start("up", &["--config", &settings]);
    run(
        "login.py",
        &Keystone::environment("alice", "alpha"),
        &krater,
    );
}

#[test]
fn every_command_of_the_openstack_client_does_what_it_says() {
    as_administrator("commands.py");
}

#[test]
fn every_method_of_the_openstack_sdk_does_what_it_says() {
    as_administrator("proxy.py");
}

/// Runs a script as the administrator, against a krater of its own.
fn as_administrator(script: &str) {
    let _network = Namespace::enter_new();
    let keystone = Keystone::start();
    let settings = keystone.settings("keystone-default", "");
    let krater = Krater::start("up", &["--config", &settings]);
    run(script, &Keystone::environment("admin", "admin"), &krater);
}

#[test]
fn without_the_identity_service_whoever_is_known_goes_on_and_others_are_told_to_come_again() {
    let _network = Namespace::enter_new();
    let mut keystone = Keystone::start();
    let settings = keystone.settings("both", "timeout = \"60s\"\n");
    let krater = Krater::start("up", &["--config", &settings]);
    let anonymous = ask(None);
    assert_eq!(anonymous.status, 401, "{}", anonymous.text());
    assert_eq!(
        anonymous.header("www-authenticate"),
        Some("Keystone uri=\"http://127.0.0.1:5000/v3\"")
    );
    assert_eq!(ask(Some("worthless")).status, 401);
    let known = Keystone::token("lb-member", "alpha");
    let unknown = Keystone::token("lb-observer", "alpha");
    let global = Keystone::system_token("system-admin");
    assert_eq!(ask(Some(&known)).status, 200);
    assert_eq!(ask(Some(&global)).status, 200);
    let mut api = krater.api().with_token(&known);
    let made = api.create_tree("stays", &serde_json::json!([]));
    let id = made["id"].as_str().expect("an id");
    api.wait_active(id, Duration::from_secs(10));

    keystone.kill();
    let refused = ask(Some(&unknown));
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert_eq!(ask(Some(&known)).status, 200);
    api.delete(&format!("loadbalancers/{id}"));

    keystone.resume();
    until("others are let in again", Duration::from_secs(10), || {
        ask(Some(&unknown)).status == 200
    });
    let revoked = Keystone::token("lb-observer", "alpha");
    Keystone::revoke(&revoked);
    assert_eq!(ask(Some(&revoked)).status, 401);
}

fn ask(token: Option<&str>) -> Answer {
    let headers: Vec<_> = token.iter().map(|token| ("x-auth-token", *token)).collect();
    let address = "127.0.0.1:9876".parse().expect("an address");
    let answer = Connection::open(address)
        .and_then(|mut api| api.request("GET", "/v2/lbaas/loadbalancers", &headers, None));
    answer.expect("krater answers")
}
