//! What is exchanged with other controllers by way of the store: who was heard of when, and what was counted elsewhere.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, ListenerId, Report};
use krater_controller_core::{liveness, query::AmphoraStatus};
use krater_controller_store::{Heard, ListenerTally, SKEW_MAX};

use super::{Sighting, Sightings};
use crate::limits::{HEARSAY_LAG_MAX, HEARSAY_UNDER_WAY_MAX, LATE_REPORT_MAX};

impl Sightings {
    /// [`Sightings::restore`] of all there are: what was written down and is not there any more is forgotten.
    pub(crate) fn replace_written(&self, tallies: Vec<ListenerTally>) {
        let there: BTreeSet<(ListenerId, AmphoraId)> = tallies
            .iter()
            .map(|tally| (tally.listener, tally.amphora))
            .collect();
        let mut inner = self.lock();
        inner.tallies.restore(tallies);
        inner.tallies.retain_written(&there);
    }

    /// Notes when other controllers heard of an amphora. What none can have heard yet was noted by a clock that was ahead.
    pub(crate) fn note_hearsay(&self, amphora: AmphoraId, at: Option<Timestamp>, now: Timestamp) {
        let latest = now.checked_add(SKEW_MAX).unwrap_or(now);
        let mut inner = self.lock();
        let sighting = inner.amphorae.entry(amphora).or_default();
        // What this one wrote down itself is no hearsay.
        let at = at.filter(|_| at > sighting.written || sighting.written > Some(latest));
        let both = [sighting.hearsay, at].into_iter().flatten();
        let hearsay = both.filter(|at| *at <= latest).max();
        if hearsay > sighting.hearsay {
            sighting.hearsay_read = Some(now);
        }
        sighting.hearsay = hearsay;
    }

    /// Whether the amphora is there, to the moment: right after what others heard was read, and as long as they write
    /// down at once whom they hear of after a pause ([`Sighting::pause`]). [`Sightings::status`] allows for neither.
    pub(crate) fn presence(
        &self,
        amphora: AmphoraId,
        now: Timestamp,
        silence: Duration,
    ) -> AmphoraStatus {
        let last_seen = self.lock().amphorae.get_mut(&amphora).and_then(|sighting| {
            sighting.set_back(now);
            sighting.last_seen.max(sighting.hearsay_by_own_clock())
        });
        liveness::judge(last_seen, now, silence)
    }

    /// Whether nobody else heard of the amphora later, as far as clocks can be believed: what was heard when the own
    /// clock was ahead may be older than anything.
    pub(crate) fn is_freshest(&self, amphora: AmphoraId, now: Timestamp) -> bool {
        let inner = self.lock();
        let Some(sighting) = inner.amphorae.get(&amphora) else {
            return false;
        };
        sighting.spoke.is_some_and(|at| at <= now)
            && (sighting.spoke >= sighting.hearsay || sighting.hearsay > Some(now))
    }

    /// Whether the amphora spoke to this controller within that time.
    pub(crate) fn spoke_within(&self, age: Duration, amphora: AmphoraId, now: Timestamp) -> bool {
        let inner = self.lock();
        let sighting = inner.amphorae.get(&amphora);
        let spoke = sighting.and_then(|sighting| sighting.spoke);
        spoke.is_some_and(|at| at <= now && now.duration_since(at).unsigned_abs() <= age)
    }

    /// Whether nobody can tell when the amphora was heard of here, and nobody else has heard of it lately: whatever it says
    /// next it is most likely to say here.
    pub(crate) fn is_undated(&self, amphora: AmphoraId, now: Timestamp) -> bool {
        let inner = self.lock();
        let Some(sighting) = inner.amphorae.get(&amphora) else {
            return false;
        };
        let lately = now.checked_sub(LATE_REPORT_MAX).unwrap_or(now);
        let is_recent = |at: Timestamp| at >= lately && at <= now;
        sighting.spoke.is_none_or(|at| at > now) && !sighting.hearsay.is_some_and(is_recent)
    }

    /// What was heard of amphorae since this was asked before.
    pub(crate) fn unwritten_sights(&self) -> Vec<Heard> {
        let mut inner = self.lock();
        let mut heard = Vec::new();
        for (amphora, sighting) in &mut inner.amphorae {
            // Given the benefit of the doubt is not heard.
            let (Some(info), Some(at)) = (&sighting.info, sighting.last_seen) else {
                continue;
            };
            if sighting.written == Some(at) {
                continue;
            }
            sighting.written = Some(at);
            heard.push(Heard {
                amphora: *amphora,
                at,
                run: Some((info.boot, info.version.clone(), info.pid)),
            });
        }
        heard
    }

    /// Whether reports of the amphora went elsewhere between the last one that came here and this one.
    pub(crate) fn has_gap(&self, report: &Report) -> bool {
        let inner = self.lock();
        let known = inner.amphorae.get(&report.info.amphora);
        known.is_none_or(|sighting| {
            let boot = sighting.info.as_ref().map(|info| info.boot);
            boot != Some(report.info.boot) || report.sequence > sighting.sequence.saturating_add(1)
        })
    }
}

impl Sighting {
    /// For how long nobody has heard of it, as far as is known here; none if it never was heard of.
    pub(super) fn pause(&self, now: Timestamp) -> Option<Duration> {
        let last = self.last_seen.max(self.hearsay)?;
        Some(Duration::try_from(now.duration_since(last)).unwrap_or_default())
    }

    /// When another controller heard of it last. Its clock tells, within what is possible: before this one read it, and
    /// not long before.
    fn hearsay_by_own_clock(&self) -> Option<Timestamp> {
        let (at, read) = (self.hearsay?, self.hearsay_read?);
        let earliest = read.checked_sub(HEARSAY_LAG_MAX).unwrap_or(read);
        let at = at.checked_add(HEARSAY_UNDER_WAY_MAX).unwrap_or(at);
        Some(at.clamp(earliest, read))
    }
}
