//! Clients of others, unmodified, against `krater up`: what they call is theirs, so only their own words are believed.

#[cfg(test)]
mod judges;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod login;
#[cfg(test)]
mod spoken_inside;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use krater_tests::{
    Authority, HttpMember, Issued, Krater, Namespace, Nginx, ProxiedMember, TlsMember, run_to_end,
};

#[test]
fn the_openstack_command_drives_every_resource() {
    drive("cli.py");
}

#[test]
fn the_openstack_sdk_drives_every_resource() {
    drive("sdk.py");
}

#[test]
fn the_openstack_command_chooses_what_is_spoken_to_members() {
    let _network = Namespace::enter_new();
    let krater = Krater::up();
    let members = [
        HttpMember::start("m0", "127.0.0.1:0"),
        HttpMember::start("m1", "127.0.0.1:0"),
    ];
    let addresses: Vec<String> = members
        .iter()
        .map(|member| member.address().to_string())
        .collect();
    let (proxied, secure) = (ProxiedMember::start(), TlsMember::start("s0"));
    let environment = [
        ("OS_AUTH_TYPE", "none".to_owned()),
        ("OS_ENDPOINT", "http://127.0.0.1:9876".to_owned()),
        ("MEMBERS", addresses.join(" ")),
        ("PROXIED_MEMBER", proxied.address().to_string()),
        ("TLS_MEMBER", secure.address().to_string()),
    ];
    run("spoken.py", &environment, &krater);
}

#[test]
fn the_openstack_command_asks_for_tls_on_both_sides() {
    let _network = Namespace::enter_new();
    let krater = Krater::up();
    let (web, clients) = (Authority::new("web"), Authority::new("clients"));
    let member = web.issue(&["a.example", "b.example"]);
    let asks = "ssl_client_certificate clients.pem; ssl_verify_client on;";
    let nginx = Nginx::start("127.0.0.1:8443", &member, clients.pem(), "http2", asks);
    let secrets = krater.state_folder().join("secrets/shared");
    fs::create_dir_all(&secrets).expect("a folder");
    let pair = |issued: &Issued| format!("{}{}", issued.chain, issued.key);
    let files = [
        ("first", pair(&web.issue(&["a.example"]))),
        ("second", pair(&web.issue(&["b.example"]))),
        ("own", pair(&clients.issue(&["krater"]))),
        ("web-ca", web.pem().to_owned()),
        ("clients-ca", clients.pem().to_owned()),
        ("clients-crl", clients.revoke(&[9])),
        ("person", pair(&clients.issue_as(8, &["person"], |_| {}))),
        ("robber", pair(&clients.issue_as(9, &["robber"], |_| {}))),
    ];
    for (name, text) in files {
        fs::write(secrets.join(format!("{name}.pem")), text).expect("a file");
    }
    let environment = [
        ("OS_AUTH_TYPE", "none".to_owned()),
        ("OS_ENDPOINT", "http://127.0.0.1:9876".to_owned()),
        ("TLS_MEMBER", nginx.address().to_string()),
        ("SECRETS", secrets.display().to_string()),
    ];
    run("sealed.py", &environment, &krater);
}

/// Runs a script against a krater of its own with two members.
fn drive(script: &str) {
    let _network = Namespace::enter_new();
    let krater = Krater::up();
    let members = [
        HttpMember::start("m0", "127.0.0.1:0"),
        HttpMember::start("m1", "127.0.0.1:0"),
    ];
    let addresses: Vec<String> = members
        .iter()
        .map(|member| member.address().to_string())
        .collect();
    let environment = [
        ("OS_AUTH_TYPE", "none".to_owned()),
        ("OS_ENDPOINT", "http://127.0.0.1:9876".to_owned()),
        ("MEMBERS", addresses.join(" ")),
    ];
    run(script, &environment, &krater);
}

/// Runs a script in an environment; its output is the failure's text.
fn run(script: &str, environment: &[(&str, String)], krater: &Krater) {
    let mut command = Command::new(python());
    command
        .arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("clients")
                .join(script),
        )
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOME", krater.state_folder());
    let (status, output) = run_to_end(&mut command, Duration::from_secs(240));
    println!("{output}");
    assert!(
        status.success(),
        "{script} failed:\n{output}\n---- krater ----\n{}",
        krater.output()
    );
}

/// The interpreter of the environment that tests/clients/install makes.
fn python() -> PathBuf {
    venv("clients").join("python")
}

/// The programs of an environment that a script of tests/clients makes.
fn venv(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the test knows its own path");
    let found = own
        .ancestors()
        .map(|folder| folder.join(name).join("venv/bin"))
        .find(|path| path.join("python").exists());
    found
        .unwrap_or_else(|| panic!("{name} are not installed: run tests/prepare, as tests/run does"))
}
