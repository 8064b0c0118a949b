//! The limits of ARCHITECTURE.md §11 that neither rustfmt nor clippy knows.

use crate::{
    assert_none,
    source::{Rust, files, line_of, read, rust_files},
};

#[test]
fn no_file_is_longer_than_six_hundred_lines() {
    let long = rust_files()
        .into_iter()
        .filter(|file| file.stem() != "tests")
        .filter_map(|file| {
            let lines = file.text.lines().count();
            (lines > FILE_LINES_MAX)
                .then(|| format!("{}: {lines} lines, at most {FILE_LINES_MAX}", file.path))
        });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn long_inline_tests_live_in_a_file_of_their_own() {
    let long = rust_files().into_iter().filter_map(|file| {
        let lines = file.code[file.code.find("#[cfg(test)]\nmod tests {")?..]
            .lines()
            .count();
        (lines > TEST_LINES_MAX).then(|| {
            format!(
                "{}: {lines} lines of inline tests, move them to {}/tests.rs",
                file.path,
                file.stem()
            )
        })
    });
    assert_none(&long.collect::<Vec<_>>());
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let vague = files().into_iter().filter(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = name.split('.').next().unwrap_or(name);
        name == "mod.rs"
            || (path.ends_with(".rs") || path.ends_with(".py")) && VAGUE.contains(&stem)
    });
    assert_none(&vague.collect::<Vec<_>>());
}

#[test]
fn every_source_file_begins_with_what_it_is_for() {
    // `name/tests.rs` holds the tests of `name`, and says so by its place.
    let silent = rust_files()
        .into_iter()
        .filter(|file| file.stem() != "tests")
        .filter(|file| {
            let first = file
                .text
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or_default();
            !first.starts_with("//! ") || first.contains("being written")
        });
    assert_none(&silent.map(|file| file.path).collect::<Vec<_>>());
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut offences = Vec::new();
    for file in rust_files() {
        offences.extend(found(&file, &["#[allow(", "#![allow("]));
        for (offset, _) in file.code.match_indices("[expect(") {
            let end = file.code[offset..]
                .find(']')
                .map_or(file.code.len(), |end| offset + end);
            if !file.code[offset..end].contains("reason") {
                offences.push(format!(
                    "{}:{}: `expect` without a reason",
                    file.path,
                    line_of(&file.code, offset)
                ));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn nothing_is_left_undone() {
    let mut offences = Vec::new();
    for file in rust_files() {
        offences.extend(found(&file, &["todo!(", "unimplemented!(", "dbg!("]));
    }
    for path in files()
        .into_iter()
        .filter(|path| is_text(path) && !path.starts_with("tests/tidy/"))
    {
        for (number, line) in (1..).zip(read(&path).lines()) {
            let numbered = line.contains("TODO(#");
            let unnumbered = !path.ends_with(".md")
                && line
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == "TODO")
                && !numbered;
            if unnumbered || MARKS.iter().any(|mark| line.contains(mark)) {
                offences.push(format!("{path}:{number}: {}", line.trim()));
            }
        }
    }
    assert_none(&offences);
}

#[test]
fn words_that_name_no_responsibility_are_not_types() {
    let mut offences = Vec::new();
    for file in rust_files() {
        for (offset, _) in file
            .code
            .match_indices("struct ")
            .chain(file.code.match_indices("enum "))
        {
            let rest = file.code[offset..]
                .split_once(' ')
                .map_or("", |(_, rest)| rest);
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
            if name.ends_with("Manager") || name.ends_with("Helper") || name.ends_with("Util") {
                offences.push(format!(
                    "{}:{}: {name}",
                    file.path,
                    line_of(&file.code, offset)
                ));
            }
        }
    }
    assert_none(&offences);
}

/// Whether a file is text that people wrote.
pub(crate) fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_seed = path.starts_with("tests/fuzz/seeds/");
    !is_seed
        && name != "Cargo.lock"
        && name != "LICENSE"
        && !BINARY.iter().any(|ending| name.ends_with(ending))
}

fn found(file: &Rust, banned: &[&str]) -> Vec<String> {
    let hits = banned
        .iter()
        .flat_map(|word| file.code.match_indices(*word));
    hits.map(|(offset, word)| format!("{}:{}: {word}", file.path, line_of(&file.code, offset)))
        .collect()
}

const FILE_LINES_MAX: usize = 600;
const TEST_LINES_MAX: usize = 150;
const VAGUE: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "types", "misc", "manager",
];
const MARKS: &[&str] = &["FIXME", "XXX:", "HACK"];
const BINARY: &[&str] = &[".db", ".png", ".gz", ".pem", ".pyc"];
