//! What is new in what an amphora says, against what it said before.

use std::collections::BTreeSet;

use jiff::Timestamp;
use krater_amphora_api::{BootId, LoadBalancerId, LoadBalancerReport, Report, ReportChanges};

use super::{News, Seen, Sighting, Stranger};
use crate::limits::STRANGER_GRACE;

impl Sighting {
    /// The run that was heard of last.
    pub(super) fn boot(&self) -> Option<BootId> {
        Some(self.info.as_ref()?.boot)
    }

    /// What of that it is believed about: what is placed on it, and nothing else. What was written before a change that is
    /// in force may name listeners that are gone, and would have them remembered for ever; what it counts the next one
    /// counts too.
    pub(super) fn believed<'a>(
        &'a self,
        said: &'a [LoadBalancerReport],
        placed: &'a BTreeSet<LoadBalancerId>,
    ) -> impl Iterator<Item = &'a LoadBalancerReport> {
        said.iter()
            .filter(move |said| placed.contains(&said.id))
            .filter(move |said| {
                let seen = self.load_balancers.get(&said.id);
                seen.is_none_or(|seen| said.generation >= seen.report.generation)
            })
    }

    /// Takes a report in place of what was said before.
    pub(super) fn compare(
        &mut self,
        report: Report,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
        news: &mut News,
    ) {
        let Report {
            info,
            sequence,
            load_balancers,
            metrics_port,
        } = report;
        if news.booted {
            self.previous = self.info.as_ref().map(|info| (info.boot, now));
            // Another run counts from the beginning.
            for seen in self.load_balancers.values_mut() {
                (seen.said_in, seen.pushed_after) = (0, None);
            }
            for stranger in self.strangers.values_mut() {
                stranger.said_in = 0;
            }
        }
        for load_balancer in load_balancers {
            self.hear(load_balancer, sequence, placed, now, news);
        }
        self.load_balancers.retain(|id, seen| {
            seen.said_in == sequence || (placed.contains(id) && seen.outruns(sequence))
        });
        self.strangers
            .retain(|_, stranger| stranger.said_in == sequence);
        self.info = Some(info);
        self.metrics_port = metrics_port;
        self.is_whole = true;
        self.conclude(sequence, placed, now, news);
    }

    /// Whether what is known is what the changes follow. Who was placed here since, and was known to be here before that,
    /// is known by name alone.
    pub(super) fn is_followed_by(
        &self,
        changes: &ReportChanges,
        placed: &BTreeSet<LoadBalancerId>,
    ) -> bool {
        self.is_whole
            && self.boot() == Some(changes.boot)
            && self.sequence == changes.since
            && self.sequence.checked_add(1) == Some(changes.sequence)
            && self.strangers.keys().all(|id| !placed.contains(id))
    }

    /// Takes what changed since what was said before.
    pub(super) fn follow(
        &mut self,
        changes: ReportChanges,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
        news: &mut News,
    ) {
        let sequence = changes.sequence;
        for id in changes.gone {
            self.strangers.remove(&id);
            let Some(seen) = self.load_balancers.get_mut(&id) else {
                continue;
            };
            if placed.contains(&id) && seen.outruns(sequence) {
                // Not named any more, as if it had only been pushed.
                seen.said_in = 0;
            } else {
                self.load_balancers.remove(&id);
            }
        }
        for load_balancer in changes.load_balancers {
            self.hear(load_balancer, sequence, placed, now, news);
        }
        // What was pushed and is not there is nothing that it told of before, so it does not tell that it is gone.
        self.load_balancers
            .retain(|_, seen| seen.said_in > 0 || seen.outruns(sequence));
        // What was not named is as it was, and what was placed elsewhere since is here all the same.
        let mut moved = Vec::new();
        for (id, seen) in &mut self.load_balancers {
            if !placed.contains(id) {
                moved.push((*id, seen.report.generation, seen.said_in > 0));
            } else if !seen.outruns(sequence) {
                seen.at = now;
            }
        }
        for (id, generation, is_named) in moved {
            self.load_balancers.remove(&id);
            if !is_named {
                continue;
            }
            let stranger = Stranger {
                since: now,
                generation,
                said_in: sequence,
            };
            self.strangers.insert(id, stranger);
        }
        self.conclude(sequence, placed, now, news);
    }

    /// Takes what is said of one load balancer.
    fn hear(
        &mut self,
        load_balancer: LoadBalancerReport,
        sequence: u64,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
        news: &mut News,
    ) {
        let id = load_balancer.id;
        if !placed.contains(&id) {
            let since = self.strangers.get(&id).map_or(now, |known| known.since);
            let stranger = Stranger {
                since,
                generation: load_balancer.generation,
                said_in: sequence,
            };
            self.strangers.insert(id, stranger);
            self.load_balancers.remove(&id);
            return;
        }
        self.missing.remove(&id);
        let Some(seen) = self.load_balancers.get_mut(&id) else {
            news.changed.push(id);
            let seen = Seen {
                report: load_balancer,
                said_in: sequence,
                pushed_after: None,
                at: now,
            };
            self.load_balancers.insert(id, seen);
            return;
        };
        seen.said_in = sequence;
        let is_older = load_balancer.generation < seen.report.generation;
        if is_older && seen.outruns(sequence) {
            return;
        }
        if news.booted || differs(&seen.report, &load_balancer) {
            news.changed.push(id);
        }
        (seen.report, seen.at) = (load_balancer, now);
    }

    /// Sees who is missing, and who has no business here and had time to go.
    fn conclude(
        &mut self,
        sequence: u64,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
        news: &mut News,
    ) {
        for (id, stranger) in &self.strangers {
            if now.duration_since(stranger.since).unsigned_abs() >= STRANGER_GRACE {
                news.strangers.push((*id, stranger.generation));
            }
        }
        self.missing.retain(|id| placed.contains(id));
        for id in placed {
            if !self.load_balancers.contains_key(id) && (self.missing.insert(*id) || news.booted) {
                news.changed.push(*id);
            }
        }
        self.sequence = sequence;
        self.last_seen = Some(now);
        self.spoke = Some(now);
    }
}

impl Seen {
    /// Whether that report can have been written before the push that told us better.
    fn outruns(&self, sequence: u64) -> bool {
        self.pushed_after.is_some_and(|after| sequence <= after + 1)
    }
}

/// Whether two reports of a load balancer differ in anything but what was counted.
fn differs(before: &LoadBalancerReport, after: &LoadBalancerReport) -> bool {
    let same_listeners = before.listeners.len() == after.listeners.len()
        && before
            .listeners
            .iter()
            .zip(&after.listeners)
            .all(|(a, b)| a.id == b.id && a.state == b.state);
    let same_pools = before.pools.len() == after.pools.len()
        && before.pools.iter().zip(&after.pools).all(|(a, b)| {
            a.id == b.id
                && a.members.len() == b.members.len()
                && a.members
                    .iter()
                    .zip(&b.members)
                    .all(|(a, b)| a.id == b.id && a.health == b.health)
        });
    let turn = |report: &LoadBalancerReport| {
        let turn = report.announcement.as_ref();
        turn.map(|turn| (turn.state, turn.aside))
    };
    before.generation != after.generation
        || !same_listeners
        || !same_pools
        || turn(before) != turn(after)
}
