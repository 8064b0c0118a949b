//! What listeners counted, and what of that is not written down yet.

use std::collections::{BTreeMap, BTreeSet};

use krater_amphora_api::{AmphoraId, BootId, ListenerId, LoadBalancerReport};
use krater_controller_core::tally::{self, Tally};
use krater_controller_store::ListenerTally;

/// The tallies of all listeners. Nearly every listener was counted by one amphora alone.
#[derive(Default)]
pub(super) struct Tallies {
    counted: BTreeMap<ListenerId, Vec<(AmphoraId, Tally)>>,
    unwritten: BTreeSet<(ListenerId, AmphoraId)>,
}

impl Tallies {
    /// Takes tallies from the store, of which others may have counted some further.
    pub(super) fn restore(&mut self, tallies: Vec<ListenerTally>) {
        for ListenerTally {
            listener,
            amphora,
            tally,
        } in tallies
        {
            let known = self.by(listener, amphora);
            if known.is_none_or(|known| known.progress() < tally.progress()) {
                self.put(listener, amphora, tally);
                self.unwritten.remove(&(listener, amphora));
            }
        }
    }

    /// Takes what an amphora counted of a load balancer.
    pub(super) fn count(&mut self, amphora: AmphoraId, boot: BootId, report: &LoadBalancerReport) {
        for listener in &report.listeners {
            let previous = self.by(listener.id, amphora);
            let tally = tally::tally(previous.as_ref(), boot, listener.counters);
            if previous != Some(tally) {
                self.put(listener.id, amphora, tally);
                self.unwritten.insert((listener.id, amphora));
            }
        }
    }

    /// All tallies of a listener.
    pub(super) fn of(&self, listener: ListenerId) -> impl Iterator<Item = (AmphoraId, Tally)> {
        self.counted.get(&listener).into_iter().flatten().copied()
    }

    /// What an amphora counted of a listener.
    pub(super) fn by(&self, listener: ListenerId, amphora: AmphoraId) -> Option<Tally> {
        let mut all = self.of(listener);
        let (_, tally) = all.find(|(by, _)| *by == amphora)?;
        Some(tally)
    }

    /// Drops those of a listener that is no more.
    pub(super) fn forget(&mut self, listener: ListenerId) {
        for (amphora, _) in self.counted.remove(&listener).into_iter().flatten() {
            self.unwritten.remove(&(listener, amphora));
        }
    }

    /// Drops what was written down and is not `there` any more.
    pub(super) fn retain_written(&mut self, there: &BTreeSet<(ListenerId, AmphoraId)>) {
        let unwritten = &self.unwritten;
        self.counted.retain(|listener, of_listener| {
            of_listener.retain(|(amphora, _)| {
                let tally = (*listener, *amphora);
                unwritten.contains(&tally) || there.contains(&tally)
            });
            !of_listener.is_empty()
        });
    }

    /// Those of wanted listeners that are not written down yet; they count as written from now on.
    pub(super) fn take_unwritten(
        &mut self,
        is_wanted: impl Fn(ListenerId) -> bool,
    ) -> Vec<ListenerTally> {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        let mut wanted = Vec::new();
        unwritten.retain(|(listener, amphora)| {
            if !is_wanted(*listener) {
                return true;
            }
            wanted.extend(self.by(*listener, *amphora).map(|tally| ListenerTally {
                listener: *listener,
                amphora: *amphora,
                tally,
            }));
            false
        });
        self.unwritten = unwritten;
        wanted
    }

    /// Takes it back that `tallies` were written down.
    pub(super) fn mark_unwritten(&mut self, tallies: &[ListenerTally]) {
        for tally in tallies {
            if self.by(tally.listener, tally.amphora).is_some() {
                self.unwritten.insert((tally.listener, tally.amphora));
            }
        }
    }

    /// Of how many listeners there are any.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counted.len()
    }

    fn put(&mut self, listener: ListenerId, amphora: AmphoraId, tally: Tally) {
        let of_listener = self.counted.entry(listener).or_default();
        match of_listener.iter_mut().find(|(by, _)| *by == amphora) {
            Some((_, known)) => *known = tally,
            None => {
                of_listener.reserve_exact(1);
                of_listener.push((amphora, tally));
            }
        }
    }
}
