//! Waiting for a condition, with a bound: the only way a test lets time pass.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Returns as soon as `condition` holds; panics, naming `what`, when it does not within `bound`.
pub fn until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    until_some(what, bound, || condition().then_some(()));
}

/// Returns what `attempt` gives as soon as it gives something; panics, naming `what`, after `bound`.
pub fn until_some<T>(what: &str, bound: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
