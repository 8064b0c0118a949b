//! Licences of all we build with: permissive ones only (ARCHITECTURE.md §12).

use std::process::Command;

use serde_json::Value;

use crate::{assert_none, source::root};

#[test]
fn every_dependency_has_a_permissive_licence_and_comes_from_the_registry() {
    // What other platforms need was never downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--format-version",
            "1",
            "--filter-platform",
            &platform,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut offences = Vec::new();
    for package in metadata["packages"].as_array().expect("there are packages") {
        let name = format!("{} {}", package["name"], package["version"]);
        let licence = package["license"].as_str().unwrap_or_default();
        if !is_permissive(licence) {
            offences.push(format!("{name}: licence {licence:?}"));
        }
        let source = package["source"].as_str();
        if source.is_some_and(|source| !source.starts_with("registry+")) {
            offences.push(format!("{name}: comes from {source:?}"));
        }
    }
    assert_none(&offences);
}

/// Whether one can take it under permissive terms: every part of an AND, any part of an OR.
fn is_permissive(expression: &str) -> bool {
    let flat = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let all = |part: &str| {
        part.split(" OR ")
            .any(|one| PERMISSIVE.contains(&one.trim()))
    };
    !expression.is_empty() && flat.split(" AND ").all(all)
}

const PERMISSIVE: &[&str] = &[
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "NCSA",
    "Zlib",
    "BSL-1.0",
    "0BSD",
    "CC0-1.0",
    "Unlicense",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "OpenSSL",
    "CDLA-Permissive-2.0",
    "blessing",
];
