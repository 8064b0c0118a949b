//! What holds for everything that can be asked, across the walls between crates: proptest over commands, bodies and
//! reports.
//!
//! Cases are drawn from a fixed seed, so that a commit fails or passes whoever runs it. `PROPTEST_RNG_SEED` draws
//! others, `PROPTEST_CASES` more of them; the smallest case that fails is printed whole and makes a test of its own.

mod admission;
mod counters;
mod house;
mod lists;
mod rosters;
mod stored;
mod tls;
mod value;
mod wire;
mod wish;

use proptest::test_runner::{Config, RngSeed};

/// Draws `number` cases, unless the environment asks for another number.
fn cases(number: u32) -> Config {
    let asked = Config::default();
    Config {
        cases: if std::env::var_os("PROPTEST_CASES").is_some() {
            asked.cases
        } else {
            number
        },
        rng_seed: match asked.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            fixed @ RngSeed::Fixed(_) => fixed,
        },
        failure_persistence: None,
        ..asked
    }
}

/// Any number does; this one stays.
const SEED: u64 = 20_251_107;
