//! What strangers send, against everything here that reads it: no panic, and nothing that is understood in two ways.
//!
//! Here each target takes its seeds and some thousands of spoilt ones, always the same. `tests/fuzz/run` has libFuzzer
//! look for inputs that reach what no other has reached, for as long as it is told to.

mod spoil;
mod targets;
#[path = "../strict/witness.rs"]
mod witness;

/// What property tests draw and admit load balancers with.
#[path = "../property"]
#[expect(dead_code, reason = "more of it is used by the property tests")]
mod property {
    pub(crate) mod house;
    pub(crate) mod tls;
    pub(crate) mod value;
    pub(crate) mod wish;
}

use std::{fs, path::Path};

use property::{house, tls, value, wish};
use spoil::Spoiler;
use targets::Target;

#[test]
fn a_header_of_the_proxy_protocol_is_read_whole_and_as_it_was_written() {
    withstand("proxy", 20_000);
}

#[test]
fn a_snapshot_is_refused_with_reasons_or_says_what_was_sent() {
    withstand("snapshot", 5_000);
}

#[test]
fn a_rule_and_its_inverse_are_never_of_one_mind() {
    withstand("l7", 5_000);
}

#[test]
fn a_request_to_the_api_is_answered_and_never_by_a_failure() {
    withstand("api", 300);
}

#[test]
fn a_request_is_passed_on_as_one_request_to_every_reader() {
    withstand("request", 20_000);
}

#[test]
fn an_answer_is_passed_on_as_one_answer() {
    withstand("answer", 20_000);
}

#[test]
fn whatever_comes_by_http2_is_passed_on_as_so_many_requests() {
    withstand("http2", 10_000);
}

#[test]
fn a_cookie_is_taken_out_and_nothing_else() {
    withstand("cookies", 20_000);
}

#[test]
fn a_secret_is_refused_with_a_sentence_or_can_be_used() {
    withstand("secret", 1_000);
}

#[test]
fn a_report_is_refused_or_says_what_was_sent() {
    withstand("report", 5_000);
}

#[test]
fn a_list_of_ciphers_selects_suites_that_there_are() {
    withstand("ciphers", 20_000);
}

#[test]
fn every_target_has_seeds_and_a_test() {
    let text = include_str!("main.rs");
    for Target { name, .. } in targets::ALL {
        assert!(!seeds(name).is_empty(), "{name}");
        assert!(text.contains(&format!("withstand(\"{name}\",")), "{name}");
    }
}

/// Gives a target its seeds, and so many spoilt ones.
fn withstand(name: &str, tries: usize) {
    let target = targets::named(name).expect("a target of that name");
    let seeds = seeds(name);
    let mut spoiler = Spoiler::new(&seeds);
    let spoilt = (0..tries).map(|_| spoiler.next());
    for input in seeds.iter().cloned().chain(spoilt) {
        let shown = Shown(&input);
        (target.take)(&input);
        drop(shown);
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .expect("a folder of seeds")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("a seed"))
        .collect()
}

/// Shows the input if what it is given to panics.
struct Shown<'a>(&'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input is b\"{}\"", self.0.escape_ascii());
        }
    }
}
