//! What is exchanged with other controllers by way of the store: who was heard of when, and what was counted elsewhere.

use std::collections::BTreeSet;

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, ListenerId, Report};
use krater_controller_store::{Heard, ListenerTally, SKEW_MAX};

use super::Sightings;

impl Sightings {
    /// [`Sightings::restore`] of all there are: what was written down and is not there any more is forgotten.
    pub(crate) fn replace_written(&self, tallies: Vec<ListenerTally>) {
        let there: BTreeSet<(ListenerId, AmphoraId)> = tallies
            .iter()
            .map(|tally| (tally.listener, tally.amphora))
            .collect();
        self.restore(tallies);
        let mut inner = self.lock();
        inner.tallies.retain(|listener, of_listener| {
            of_listener.retain(|amphora, counted| {
                !counted.written || there.contains(&(*listener, *amphora))
            });
            !of_listener.is_empty()
        });
    }

    /// Notes when other controllers heard of an amphora. What none can have heard yet was noted by a clock that was ahead.
    pub(crate) fn note_hearsay(&self, amphora: AmphoraId, at: Option<Timestamp>, now: Timestamp) {
        let latest = now.checked_add(SKEW_MAX).unwrap_or(now);
        let mut inner = self.lock();
        let sighting = inner.amphorae.entry(amphora).or_default();
        // What this one wrote down itself is no hearsay.
        let at = at.filter(|_| at > sighting.written || sighting.written > Some(latest));
        let both = [sighting.hearsay, at].into_iter().flatten();
        sighting.hearsay = both.filter(|at| *at <= latest).max();
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
