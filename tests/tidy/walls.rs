//! The walls of ARCHITECTURE.md §2: what each crate may depend on, and what it must never name.

use crate::{
    assert_none,
    source::{self, line_of, read, rust_files},
};

/// One row of the table of crates.
struct Wall {
    folder: &'static str,
    /// The crates of ours it may depend on.
    ours: &'static [&'static str],
    /// With these alone may it come, when not empty.
    only: &'static [&'static str],
    /// These it must never depend on.
    never: &'static [&'static str],
}

const WALLS: &[Wall] = &[
    Wall {
        folder: "amphora/api",
        ours: &[],
        only: &["serde", "uuid", "zeroize"],
        never: &[],
    },
    Wall {
        folder: "amphora/core",
        ours: &["krater-amphora-api"],
        only: &["serde", "uuid", "hashbrown", "regex", "thiserror"],
        never: &[],
    },
    Wall {
        folder: "amphora",
        ours: &[
            "krater-amphora-api",
            "krater-amphora-core",
            "krater-amphora-process",
        ],
        only: &[],
        never: &["sqlx", "axum", "jiff"],
    },
    Wall {
        folder: "amphora/process",
        ours: &["krater-amphora-api"],
        only: &[],
        never: &["sqlx", "axum", "hyper", "rustls"],
    },
    Wall {
        folder: "controller/core",
        ours: &["krater-amphora-api"],
        only: &[
            "serde",
            "uuid",
            "hashbrown",
            "jiff",
            "regex",
            "thiserror",
            "zeroize",
        ],
        never: &[],
    },
    Wall {
        folder: "controller/api",
        ours: &["krater-controller-core", "krater-amphora-api"],
        only: &[],
        never: &["sqlx", "rustls", "rcgen", "rustix"],
    },
    Wall {
        folder: "controller/store",
        ours: &["krater-controller-core", "krater-amphora-api"],
        only: &[],
        never: &["axum", "hyper", "rustls", "rcgen"],
    },
    Wall {
        folder: "controller/driver",
        ours: &["krater-controller-core", "krater-amphora-api"],
        only: &[],
        never: &["sqlx", "axum", "hyper", "tokio"],
    },
    Wall {
        folder: "controller/driver/local",
        ours: &[
            "krater-driver",
            "krater-controller-core",
            "krater-amphora-api",
            "krater-amphora-process",
        ],
        only: &[],
        never: &["sqlx", "axum", "hyper"],
    },
    Wall {
        folder: "controller/driver/openstack",
        ours: &["krater-driver", "krater-controller-core"],
        only: &[],
        never: &["sqlx", "axum"],
    },
    Wall {
        folder: "controller",
        ours: &[
            "krater-controller-api",
            "krater-controller-core",
            "krater-controller-store",
            "krater-driver",
            "krater-driver-local",
            "krater-driver-openstack",
            "krater-amphora-api",
        ],
        only: &[],
        never: &["sqlx"],
    },
];

/// Crates whose every decision is pure: no standard library, so no clock, socket, file or thread.
const CORES: &[&str] = &["amphora/api", "amphora/core", "controller/core"];

/// Doors that dependencies leave open.
const BANNED_IN_CORES: &[&str] = &[
    "std::",
    "Timestamp::now(",
    "Zoned::now(",
    "new_v4(",
    "now_v7(",
    "extern crate std",
];

#[test]
fn every_crate_stays_within_its_walls() {
    let mut offences = Vec::new();
    for wall in WALLS {
        for (table, name) in dependencies(wall.folder) {
            let ours = name.starts_with("krater-");
            if ours && !wall.ours.contains(&name.as_str()) {
                offences.push(format!("{}: must not depend on {name}", wall.folder));
            }
            let product = table == "dependencies" && !ours;
            if product && !wall.only.is_empty() && !wall.only.contains(&name.as_str()) {
                offences.push(format!(
                    "{}: a core may depend on {:?}, not on {name}",
                    wall.folder, wall.only
                ));
            }
            if product && wall.never.contains(&name.as_str()) {
                offences.push(format!("{}: must never depend on {name}", wall.folder));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn every_crate_of_the_workspace_has_a_wall() {
    let missing = source::crates().into_iter().filter(|folder| {
        folder != "tests"
            && !folder.starts_with("tests/")
            && !WALLS.iter().any(|wall| wall.folder == folder)
    });
    let offences: Vec<String> = missing
        .map(|folder| format!("{folder}: no row in WALLS and ARCHITECTURE.md §2"))
        .collect();
    assert_none(&offences);
}

#[test]
fn cores_are_no_std_and_fully_documented() {
    let mut offences = Vec::new();
    for core in CORES {
        let lib = read(&format!("{core}/src/lib.rs"));
        for line in ["#![no_std]", "#![deny(missing_docs)]"] {
            if !lib.lines().any(|found| found.trim() == line) {
                offences.push(format!("{core}/src/lib.rs: needs {line}"));
            }
        }
    }
    for file in rust_files()
        .iter()
        .filter(|file| !file.is_test() && in_core(&file.path))
    {
        let code = file.product_code();
        for banned in BANNED_IN_CORES {
            for (offset, _) in code.match_indices(banned) {
                let before = code[..offset]
                    .trim_end()
                    .rsplit('\n')
                    .next()
                    .unwrap_or_default();
                let tests_only = *banned == "extern crate std" && before.trim() == "#[cfg(test)]";
                let part_of_name =
                    code[..offset].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                if !tests_only && !part_of_name {
                    offences.push(format!(
                        "{}:{}: a core names `{banned}`",
                        file.path,
                        line_of(code, offset)
                    ));
                }
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn versions_of_dependencies_live_in_the_workspace_alone() {
    let mut offences = Vec::new();
    for folder in source::crates() {
        let manifest: toml::Table = read(&format!("{folder}/Cargo.toml"))
            .parse()
            .expect("a manifest is TOML");
        for table in TABLES {
            for (name, value) in manifest
                .get(*table)
                .and_then(toml::Value::as_table)
                .into_iter()
                .flatten()
            {
                if value.get("workspace").and_then(toml::Value::as_bool) != Some(true) {
                    offences.push(format!("{folder}: {name} must say `workspace = true`"));
                }
            }
        }
    }
    assert_none(&offences);
}

fn dependencies(folder: &str) -> Vec<(&'static str, String)> {
    let manifest: toml::Table = read(&format!("{folder}/Cargo.toml"))
        .parse()
        .expect("a manifest is TOML");
    let tables = TABLES
        .iter()
        .filter_map(|table| Some((*table, manifest.get(*table)?.as_table()?)));
    tables
        .flat_map(|(table, entries)| entries.keys().map(move |name| (table, name.clone())))
        .collect()
}

fn in_core(path: &str) -> bool {
    CORES
        .iter()
        .any(|core| path.starts_with(&format!("{core}/src/")))
}

const TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];
