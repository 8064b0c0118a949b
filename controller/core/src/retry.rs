//! How long to wait before trying again what failed. There is no last try: what is wanted is tried for ever (I7).

use core::time::Duration;

/// The wait after the first failure: most are over as soon as a process has restarted.
pub const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest wait: what people who repaired the cause will wait for it to show.
pub const WAIT_MAX: Duration = Duration::from_secs(5);

/// The wait before the next try after `attempts` failures in a row (0 and 1 alike): doubles from [`WAIT_MIN`] to
/// [`WAIT_MAX`].
#[must_use]
pub fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    WAIT_MIN.saturating_mul(1 << doublings).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let waits: alloc::vec::Vec<_> = (0..9)
            .map(|attempts| backoff(attempts).as_millis())
            .collect();
        assert_eq!(waits, [100, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(backoff(u32::MAX), WAIT_MAX);
    }
}
