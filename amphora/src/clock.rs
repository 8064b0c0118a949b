//! The one place of the management side that reads the clock.

use std::time::Instant;

use krater_amphora_core::time;

/// Time since an origin of its own, as the core counts it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock whose origin is now.
    pub(crate) fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Now.
    pub(crate) fn now(&self) -> time::Instant {
        time::Instant::default().saturating_add(self.origin.elapsed())
    }

    /// The moment as timers of the runtime understand it.
    pub(crate) fn deadline(&self, at: time::Instant) -> tokio::time::Instant {
        let since_origin = at.duration_since(time::Instant::default());
        let at = self.origin.checked_add(since_origin);
        // Later than the system can count is as good as never; a day hence the caller asks again.
        tokio::time::Instant::from_std(at.unwrap_or_else(|| Instant::now() + DAY))
    }
}

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);

/// Seconds since the epoch, by the clock of the system: what certificates are dated by.
pub(crate) fn wall_seconds() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or_default()
}

/// The same in milliseconds.
pub(crate) fn wall_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or_default()
}

fn since_epoch() -> std::time::Duration {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default()
}
