//! What is believed of what was heard: runs that may have ended, and times that a wrong clock told.

use jiff::Timestamp;
use krater_amphora_api::BootId;

use super::Sighting;
use crate::limits::LATE_REPORT_MAX;

impl Sighting {
    /// Notices that the clock was set back since something was said: how long ago that was nobody can tell. It counts
    /// as there, and what it said as older than what anybody else knows, until it says it again.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        if self.spoke > Some(now) {
            self.spoke = None;
            for seen in self.load_balancers.values_mut() {
                seen.at = Timestamp::UNIX_EPOCH;
            }
        }
        self.last_seen = self.last_seen.map(|at| at.min(now));
    }

    /// Whether a run has ended, so that what it still says was only long under way. Who comes to it anew cannot tell
    /// which of two runs was first; a run that goes on speaking is the one that lives, whatever was thought of it.
    pub(super) fn is_over(&self, boot: BootId, now: Timestamp) -> bool {
        self.previous.is_some_and(|(previous, since)| {
            previous == boot
                && now >= since
                && now.duration_since(since).unsigned_abs() < LATE_REPORT_MAX
        })
    }
}
