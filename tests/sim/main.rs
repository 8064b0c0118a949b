//! Whole deployments in one thread (D52): controllers with the real store, amphorae, the network between them and all
//! clocks, from one seed. What a seed finds, it finds again: `tests/sim/run --seed N`.

mod agent;
mod amphora;
mod catalogue;
mod client;
mod database;
mod dice;
mod ground;
mod host;
mod judge;
mod ledger;
mod life;
mod mutant;
mod net;
mod pairs;
mod panics;
mod run;
mod scenario;
mod settled;
mod storm;
mod system;
mod trace;
mod wish;

use mutant::Mutant;
use run::{Manner, Verdict, simulate};

/// Runs so many seeds, from one on, and stops at the first that finds something.
fn seeds(first: u64, count: u64) {
    for seed in first..first + count {
        let verdict = simulate(seed, Manner::default());
        assert!(verdict.findings.is_empty(), "{}", story(&verdict));
    }
}

/// What was found, and how to see it again.
fn story(verdict: &Verdict) -> String {
    format!(
        "seed {} of commit {}: {}\nsee it again: tests/sim/run --seed {}",
        verdict.seed,
        commit(),
        verdict.findings.join("\n"),
        verdict.seed
    )
}

fn commit() -> String {
    let git = std::process::Command::new("git")
        .args(["rev-parse", "--short", "HEAD"])
        .output();
    let text = git.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned());
    text.unwrap_or_else(|_| "unknown".to_owned())
}

macro_rules! lots {
    ($($name:ident: $first:literal;)*) => {$(
        #[test]
        fn $name() {
            seeds($first, 32);
        }
    )*};
}

// As many tests as there are processes to run them in.
lots! {
    nothing_is_found_by_seeds_0_to_31: 0;
    nothing_is_found_by_seeds_32_to_63: 32;
    nothing_is_found_by_seeds_64_to_95: 64;
    nothing_is_found_by_seeds_96_to_127: 96;
    nothing_is_found_by_seeds_128_to_159: 128;
    nothing_is_found_by_seeds_160_to_191: 160;
    nothing_is_found_by_seeds_192_to_223: 192;
    nothing_is_found_by_seeds_224_to_255: 224;
}

#[test]
fn a_seed_is_the_same_run_each_time() {
    for seed in 1_000..1_012 {
        let once = simulate(seed, Manner::default());
        let again = simulate(seed, Manner::default());
        assert_eq!(once, again);
        assert!(once.events > 100, "{once:?}");
    }
    let other = simulate(1_000, Manner::default()).hash;
    assert_ne!(simulate(1_001, Manner::default()).hash, other);
}

#[test]
fn a_rule_that_is_broken_is_noticed() {
    for mutant in Mutant::ALL {
        let manner = Manner {
            mutant,
            is_told: false,
        };
        let mut noticed = (0..NOTICED_WITHIN).filter(|seed| {
            let verdict = simulate(*seed, manner);
            !verdict.findings.is_empty()
        });
        assert!(noticed.next().is_some(), "{mutant:?} is noticed by nobody");
    }
}

/// Seeds that a broken rule may go unnoticed for.
const NOTICED_WITHIN: u64 = 24;
