//! The targets as libFuzzer runs them: the one that `KRATER_FUZZ_TARGET` names. `tests/fuzz/run` builds and starts it.

#![no_main]

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

use std::{env, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use property::{house, tls, value, wish};
use targets::Target;

fuzz_target!(|bytes: &[u8]| (TARGET.take)(bytes));

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = env::var("KRATER_FUZZ_TARGET").expect("KRATER_FUZZ_TARGET names a target");
    targets::named(&name).expect("there is a target of that name")
});
