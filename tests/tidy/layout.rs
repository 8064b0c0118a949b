//! What lies at the top of the repository, what its texts may point at, and that the README's commands exist.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{
    assert_none,
    source::{files, read, root},
    style::is_text,
};

#[test]
fn the_top_level_holds_what_the_architecture_names_and_no_more() {
    let entries = fs::read_dir(root()).expect("the repository can be read");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let strange: Vec<String> = names
        .filter(|name| !TOP.contains(&name.as_str()) && !IGNORED.contains(&name.as_str()))
        .collect();
    assert_none(&strange);
    let missing = REQUIRED.iter().filter(|name| !root().join(name).exists());
    assert_none(
        &missing
            .map(|name| format!("{name} is missing"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let places = [
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
    ];
    let mut offences = Vec::new();
    for path in files().into_iter().filter(|path| is_text(path)) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            if places.iter().any(|place| line.contains(place)) {
                offences.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn every_address_in_a_text_is_a_public_document_or_an_example() {
    let mut offences = Vec::new();
    for path in files().into_iter().filter(|path| is_text(path)) {
        for (number, line) in (1..).zip(read(&path).lines()) {
            for (_, after) in line
                .match_indices("://")
                .map(|(at, mark)| (at, &line[at + mark.len()..]))
            {
                let host: String = after
                    .chars()
                    .take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c))
                    .collect();
                let known = HOSTS
                    .iter()
                    .any(|known| host == *known || host.ends_with(&format!(".{known}")));
                // A name without a dot and the reserved top domains lead nowhere.
                let nowhere =
                    !host.contains('.') || host.ends_with(".test") || host.ends_with(".example");
                let address = host.chars().all(|c| c.is_ascii_digit() || c == '.');
                if !known && !address && !nowhere {
                    offences.push(format!("{path}:{number}: {host}"));
                }
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn commands_of_the_readme_exist_and_can_be_run() {
    let mut offences = Vec::new();
    let mut commands = 0;
    for block in read("README.md").split("```sh\n").skip(1) {
        let block = block.split("```").next().unwrap_or_default();
        for word in block
            .lines()
            .filter_map(|line| line.split_whitespace().next())
        {
            let own =
                word.starts_with("./") || OWN_FOLDERS.iter().any(|folder| word.starts_with(folder));
            if !own {
                continue;
            }
            commands += 1;
            let path = root().join(word.trim_start_matches("./"));
            let mode = fs::metadata(&path)
                .map(|metadata| metadata.permissions().mode())
                .unwrap_or_default();
            if mode & 0o111 == 0 && !word.starts_with("./target/") {
                offences.push(format!("README.md: {word} is not there or cannot be run"));
            }
        }
    }
    assert_none(&offences);
    assert!(commands >= 2, "the README has no commands of ours");
    assert!(
        read(".ci/run").contains("tests/run"),
        ".ci/run must call the README's test command"
    );
}

const TOP: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "amphora",
    "controller",
    "deploy",
    "tests",
    ".cargo",
    ".ci",
    ".clippy.toml",
    ".config",
    ".deny.toml",
    ".gitignore",
    ".justfile",
    ".rustfmt.toml",
];
const REQUIRED: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    ".ci/run",
];
const IGNORED: &[&str] = &[".git", "target", ".venv"];
const OWN_FOLDERS: &[&str] = &["tests/", "deploy/"];
const HOSTS: &[&str] = &[
    "apache.org",
    "debian.org",
    "docs.openstack.org",
    "example.com",
    "example.org",
    "github.com",
    "keepachangelog.com",
    "openstack.org",
    "rfc-editor.org",
    "rustup.rs",
    "semver.org",
    "sqlite.org",
];
