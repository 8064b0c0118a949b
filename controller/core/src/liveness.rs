//! Whether an amphora is there, judged by when it was last heard of.

use core::time::Duration;

use jiff::Timestamp;

use crate::query::AmphoraStatus;

/// Judges an amphora by its last report. `timeout` is how long a heartbeat may be missing.
///
/// A `last_seen` after `now` counts as just now: clocks step back, and that is no reason to give an amphora up.
#[must_use]
pub fn judge(last_seen: Option<Timestamp>, now: Timestamp, timeout: Duration) -> AmphoraStatus {
    let Some(last_seen) = last_seen else {
        return AmphoraStatus::Booting;
    };
    match Duration::try_from(now.duration_since(last_seen)) {
        Ok(silence) if silence > timeout => AmphoraStatus::Error,
        _ => AmphoraStatus::Allocated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::at;

    #[test]
    fn an_amphora_is_silent_only_after_its_time() {
        let timeout = Duration::from_secs(10);
        assert_eq!(judge(None, at(0), timeout), AmphoraStatus::Booting);
        assert_eq!(
            judge(Some(at(0)), at(10), timeout),
            AmphoraStatus::Allocated
        );
        assert_eq!(judge(Some(at(0)), at(11), timeout), AmphoraStatus::Error);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nobody_up() {
        assert_eq!(
            judge(Some(at(100)), at(0), Duration::from_secs(10)),
            AmphoraStatus::Allocated
        );
    }
}
