//! Every metric a program can show is described in its METRICS.md, and nothing else is.

use std::collections::BTreeSet;

use crate::{
    assert_none,
    source::{read, rust_files},
};

#[test]
fn metrics_in_the_code_and_in_the_documents_are_the_same() {
    let mut offences = Vec::new();
    for folder in ["amphora", "controller"] {
        let declared = declared(folder);
        let documented = documented(&read(&format!("{folder}/METRICS.md")));
        assert!(!declared.is_empty(), "{folder} declares no metric");
        offences.extend(
            declared
                .difference(&documented)
                .map(|name| format!("{folder}/METRICS.md: {name} is missing")),
        );
        offences.extend(
            documented
                .difference(&declared)
                .map(|name| format!("{folder}: {name} is documented only")),
        );
    }
    assert_none(&offences);
}

/// String literals that are metric names, in the product code of a crate.
fn declared(folder: &str) -> BTreeSet<String> {
    let prefix = format!("{folder}/src/");
    let mut found = BTreeSet::new();
    for file in rust_files()
        .iter()
        .filter(|file| file.path.starts_with(&prefix) && !file.is_test())
    {
        let text = &file.text[..file.product_code().len()];
        found.extend(
            text.split('"')
                .filter(|literal| is_metric(literal))
                .map(str::to_owned),
        );
    }
    found
}

/// Names in backquotes.
fn documented(text: &str) -> BTreeSet<String> {
    let words = text
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|word| word.split('{').next().unwrap_or(word));
    words
        .filter(|word| is_metric(word))
        .map(str::to_owned)
        .collect()
}

fn is_metric(word: &str) -> bool {
    let rest = word.strip_prefix("krater_").unwrap_or_default();
    let plain = rest
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    rest.contains('_') && plain && !CRATES.contains(&word)
}

/// Crate names look like metrics in log filters.
const CRATES: &[&str] = &[
    "krater_amphora_api",
    "krater_amphora_core",
    "krater_controller_api",
    "krater_controller_core",
    "krater_controller_store",
    "krater_driver_local",
];
