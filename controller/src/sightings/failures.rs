//! What failed at each listener in the last hour, from what amphorae count.

use std::collections::BTreeMap;

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, BootId, Cause, ListenerId, LoadBalancerReport, Side};
use krater_controller_core::failures::{Heard, Hour, MINUTES};

/// By listener. Nothing of it outlives this process: an hour is too short for that.
#[derive(Default)]
pub(super) struct Failures {
    /// When the first report was taken.
    began: Option<Timestamp>,
    listeners: BTreeMap<ListenerId, Listener>,
    /// Amphorae that ran before this process did and were not heard of since, with their runs as far as known: what they
    /// have counted is old.
    inherited: BTreeMap<AmphoraId, Option<BootId>>,
}

#[derive(Default)]
struct Listener {
    heard: BTreeMap<AmphoraId, Heard>,
    hour: Hour,
}

/// What failed at one listener, by cause: in the last minute, quarter of an hour and hour.
pub(crate) type Recent = BTreeMap<String, [u64; 3]>;

/// The minutes of the windows that are told of.
pub(crate) const WINDOWS: [usize; 3] = [1, 15, MINUTES];

impl Failures {
    /// Takes what an amphora counted of a load balancer that is placed on it.
    pub(super) fn take(
        &mut self,
        amphora: AmphoraId,
        boot: BootId,
        report: &LoadBalancerReport,
        now: Timestamp,
    ) {
        self.began.get_or_insert(now);
        let inherited = self.inherited.get(&amphora);
        let is_old = inherited.is_some_and(|run| run.is_none_or(|run| run == boot));
        for said in &report.listeners {
            let known = self.listeners.get(&said.id);
            let is_heard = known.is_some_and(|listener| listener.heard.contains_key(&amphora));
            if said.failures.is_empty() && !is_heard {
                // Nothing is what whoever is not remembered begins with.
                continue;
            }
            let listener = self.listeners.entry(said.id).or_default();
            let before = listener.heard.remove(&amphora);
            let before = before.or_else(|| (!is_old).then(|| Heard::nothing(boot)));
            let (heard, added) = Heard::next(before, boot, &said.failures);
            listener.heard.insert(amphora, heard);
            for (cause, times) in added {
                listener.hour.add(minute(now), &cause, times);
            }
        }
    }

    /// An amphora was there before this process.
    pub(super) fn inherit(&mut self, amphora: AmphoraId, boot: Option<BootId>) {
        self.inherited.insert(amphora, boot);
    }

    /// All that an amphora holds was taken once: what it tells of later is new.
    pub(super) fn know(&mut self, amphora: AmphoraId) {
        self.inherited.remove(&amphora);
    }

    /// What failed at a listener lately.
    pub(super) fn of(&self, listener: ListenerId, now: Timestamp) -> Recent {
        let mut recent = Recent::new();
        let Some(listener) = self.listeners.get(&listener) else {
            return recent;
        };
        for (window, minutes) in WINDOWS.into_iter().enumerate() {
            for (cause, times) in listener.hour.over(minute(now), minutes) {
                let sums = recent.entry(cause.to_owned()).or_default();
                if let Some(sum) = sums.get_mut(window) {
                    *sum = times;
                }
            }
        }
        recent
    }

    /// What failed at the listeners of an amphora in this minute and the one before, but for what clients are at fault for
    /// and what was refused on purpose.
    pub(super) fn of_amphora(&self, amphora: AmphoraId, now: Timestamp) -> u64 {
        let its = self.listeners.values();
        let its = its.filter(|listener| listener.heard.contains_key(&amphora));
        its.flat_map(|listener| listener.hour.over(minute(now), 1))
            .filter(|(cause, _)| {
                Cause::named(cause).is_none_or(|cause| {
                    matches!(cause.side(), Side::Network | Side::Member)
                        || matches!(cause, Cause::LbExhausted | Cause::LbPortsExhausted)
                })
            })
            .map(|(_, times)| times)
            .sum()
    }

    /// Since when failures are counted, as far as anything is told of them.
    pub(super) const fn began(&self) -> Option<Timestamp> {
        self.began
    }

    pub(super) fn forget_amphora(&mut self, amphora: AmphoraId) {
        self.inherited.remove(&amphora);
        for listener in self.listeners.values_mut() {
            listener.heard.remove(&amphora);
        }
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn forget(&mut self, listener: ListenerId) {
        self.listeners.remove(&listener);
    }
}

fn minute(now: Timestamp) -> u64 {
    u64::try_from(now.as_second() / 60).unwrap_or_default()
}
