//! Time as a number given to us: the core reads no clock.

use core::time::Duration;

/// A moment, in nanoseconds since an origin that the edge chose and keeps for the life of the process.
///
/// It never goes backwards as long as the edge reads a monotonic clock; 64 bits last 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// The moment `duration` later; the end of time if that is beyond it.
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(duration)))
    }

    /// Time passed since `earlier`; zero if `earlier` is the later one.
    #[must_use]
    pub const fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// `duration` in nanoseconds, saturating.
pub(crate) const fn nanoseconds(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_and_subtracting_agree() {
        let start = Instant(5);
        let end = start.saturating_add(Duration::from_millis(2));
        assert_eq!(end, Instant(2_000_005));
        assert_eq!(end.duration_since(start), Duration::from_millis(2));
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(Instant(1).saturating_add(Duration::MAX), Instant(u64::MAX));
        assert_eq!(Instant(1).duration_since(Instant(2)), Duration::ZERO);
    }
}
