//! What amphorae last said of themselves, in memory: the previous report of each, so that only what differs costs
//! anything, and the tallies of all listeners.
//!
//! Nothing here needs to survive: the next report says it again. Tallies are written down from time to time, since
//! what a process counted that is no more is said by nobody again (I11).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{
    AmphoraId, BootId, Counters, Generation, Info, ListenerId, LoadBalancerId, LoadBalancerReport,
    Report, ReportChanges,
};
use krater_controller_core::{
    liveness,
    query::AmphoraStatus,
    tally::{self, Tally},
};
use krater_controller_store::ListenerTally;

mod compare;
mod failures;
mod hearsay;
mod tallies;
mod trust;

use self::{
    failures::{Failures, Recent},
    tallies::Tallies,
};
use crate::{clock, limits::HEARSAY_AGE_MAX};

/// All that amphorae said.
#[derive(Default)]
pub(crate) struct Sightings {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    amphorae: BTreeMap<AmphoraId, Sighting>,
    tallies: Tallies,
    failures: Failures,
}

#[derive(Default)]
struct Sighting {
    info: Option<Info>,
    /// The run before the present one, and when the present one was first heard of.
    previous: Option<(BootId, Timestamp)>,
    sequence: u64,
    last_seen: Option<Timestamp>,
    /// When it last spoke to this controller, as the clock was then.
    spoke: Option<Timestamp>,
    /// When another controller heard of it last, as far as is known.
    hearsay: Option<Timestamp>,
    /// When that was read, as the own clock was then.
    hearsay_read: Option<Timestamp>,
    /// `last_seen` as it was last written down.
    written: Option<Timestamp>,
    metrics_port: Option<u16>,
    load_balancers: BTreeMap<LoadBalancerId, Seen>,
    /// Placed here, and known to be absent.
    missing: BTreeSet<LoadBalancerId>,
    /// Here, and not placed here.
    strangers: BTreeMap<LoadBalancerId, Stranger>,
    /// Whether all that is here is what it said in the report of that number, but for what a push told better.
    is_whole: bool,
}

struct Seen {
    report: LoadBalancerReport,
    /// The report that named it last, or changes that were told instead of one; 0: none has yet.
    said_in: u64,
    /// The last report that was in when a push was answered with this: the next one may have been written before
    /// the push and must not overrule it.
    pushed_after: Option<u64>,
    /// When this was said.
    at: Timestamp,
}

#[derive(Clone, Copy)]
struct Stranger {
    since: Timestamp,
    generation: Generation,
    /// As [`Seen::said_in`].
    said_in: u64,
}

/// What is new in a report.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Load balancers that changed, appeared or went missing.
    pub(crate) changed: Vec<LoadBalancerId>,
    /// Load balancers that have no business there, and had time to go; with the generation they are at.
    pub(crate) strangers: Vec<(LoadBalancerId, Generation)>,
    /// Whether it is another run of the process than before, or the first that is heard of.
    pub(crate) booted: bool,
    /// For how long nobody had heard of the amphora before; none if nobody ever had.
    pub(crate) pause: Option<Duration>,
}

/// Whether reports came in between that went elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gap {
    None,
    Some,
}

/// What an amphora said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct SelfPortrait {
    pub(crate) info: Option<Info>,
    pub(crate) last_seen: Option<Timestamp>,
    pub(crate) metrics_port: Option<u16>,
}

impl Sightings {
    /// Gives an amphora that was known before this process started the benefit of the doubt: it counts as heard of
    /// at `now`, since nobody could hear it.
    pub(crate) fn expect(&self, amphora: AmphoraId, boot: Option<BootId>, now: Timestamp) {
        let mut inner = self.lock();
        let sighting = inner.amphorae.entry(amphora).or_default();
        sighting.last_seen = boot.map(|_| now);
        inner.failures.inherit(amphora, boot);
    }

    /// Takes tallies from the store, of which others may have counted some further.
    pub(crate) fn restore(&self, tallies: Vec<ListenerTally>) {
        self.lock().tallies.restore(tallies);
    }

    /// [`Sightings::take_after`] of a report that follows the one before.
    #[cfg(test)]
    pub(crate) fn take(
        &self,
        report: Report,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
    ) -> Option<News> {
        self.take_after(report, placed, now, Gap::None)
    }

    /// Takes a report; `placed` are the load balancers that belong on the amphora. `None`: it comes too late to be
    /// of interest. After others that went elsewhere all it tells may be news.
    pub(crate) fn take_after(
        &self,
        report: Report,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
        gap: Gap,
    ) -> Option<News> {
        let mut inner = self.lock();
        let Inner {
            amphorae,
            tallies,
            failures,
        } = &mut *inner;
        let Info { amphora, boot, .. } = report.info;
        let sighting = amphorae.entry(amphora).or_default();
        let booted = sighting.boot() != Some(boot);
        let late = if booted {
            sighting.is_over(boot, now)
        } else {
            report.sequence <= sighting.sequence
        };
        if late {
            return None;
        }
        for load_balancer in sighting.believed(&report.load_balancers, placed) {
            tallies.count(amphora, boot, load_balancer);
            failures.take(amphora, boot, load_balancer, now);
        }
        failures.know(amphora);
        let mut news = News {
            booted,
            pause: sighting.pause(now),
            ..News::default()
        };
        let all: Vec<_> = match gap {
            Gap::None => Vec::new(),
            Gap::Some => report.load_balancers.iter().map(|it| it.id).collect(),
        };
        sighting.compare(report, placed, now, &mut news);
        news.changed
            .extend(all.iter().filter(|id| placed.contains(id)));
        Some(news)
    }

    /// Takes what changed since a report; `None`: it is not known what that said, or what has become of it since, and all
    /// of it is to be told.
    pub(crate) fn take_changes(
        &self,
        changes: ReportChanges,
        placed: &BTreeSet<LoadBalancerId>,
        now: Timestamp,
    ) -> Option<News> {
        let mut inner = self.lock();
        let Inner {
            amphorae,
            tallies,
            failures,
        } = &mut *inner;
        let ReportChanges { amphora, boot, .. } = changes;
        let sighting = amphorae.get_mut(&amphora)?;
        if !sighting.is_followed_by(&changes, placed) {
            return None;
        }
        for load_balancer in sighting.believed(&changes.load_balancers, placed) {
            tallies.count(amphora, boot, load_balancer);
            failures.take(amphora, boot, load_balancer, now);
        }
        let mut news = News {
            pause: sighting.pause(now),
            ..News::default()
        };
        sighting.follow(changes, placed, now, &mut news);
        Some(news)
    }

    /// Notes what an amphora answered to a push.
    pub(crate) fn note_applied(
        &self,
        amphora: AmphoraId,
        boot: Option<BootId>,
        report: LoadBalancerReport,
        now: Timestamp,
    ) {
        let mut inner = self.lock();
        let Inner {
            amphorae,
            tallies,
            failures,
        } = &mut *inner;
        let sighting = amphorae.entry(amphora).or_default();
        let heard_from = sighting.info.as_ref().map(|info| info.boot);
        if let Some(boot) = boot
            && (heard_from.is_none() || heard_from == Some(boot))
        {
            tallies.count(amphora, boot, &report);
            failures.take(amphora, boot, &report, clock::now());
        }
        // Who answers is there.
        sighting.last_seen = sighting.last_seen.map(|_| now);
        sighting.spoke = Some(now);
        sighting.missing.remove(&report.id);
        sighting.strangers.remove(&report.id);
        let pushed_after = Some(sighting.sequence);
        let seen = sighting.load_balancers.get(&report.id);
        let said_in = seen.map_or(0, |seen| seen.said_in);
        sighting.load_balancers.insert(
            report.id,
            Seen {
                report,
                said_in,
                pushed_after,
                at: now,
            },
        );
    }

    /// Notes that an amphora let go of a load balancer.
    pub(crate) fn note_removed(&self, amphora: AmphoraId, id: LoadBalancerId) {
        if let Some(sighting) = self.lock().amphorae.get_mut(&amphora) {
            sighting.load_balancers.remove(&id);
            sighting.missing.remove(&id);
            sighting.strangers.remove(&id);
        }
    }

    /// The generation of a load balancer that is known to be in force on an amphora.
    pub(crate) fn applied(&self, amphora: AmphoraId, id: LoadBalancerId) -> Option<Generation> {
        Some(
            self.lock()
                .amphorae
                .get(&amphora)?
                .load_balancers
                .get(&id)?
                .report
                .generation,
        )
    }

    /// What the amphora last said of the load balancer.
    pub(crate) fn report(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
    ) -> Option<LoadBalancerReport> {
        self.report_with_time(amphora, id).map(|(report, _)| report)
    }

    /// The same, and when it said so.
    pub(crate) fn report_with_time(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
    ) -> Option<(LoadBalancerReport, Timestamp)> {
        let inner = self.lock();
        let seen = inner.amphorae.get(&amphora)?.load_balancers.get(&id)?;
        Some((seen.report.clone(), seen.at))
    }

    /// Amphorae that hold the load balancer though it is not placed on them.
    pub(crate) fn strays(&self, id: LoadBalancerId) -> Vec<AmphoraId> {
        let inner = self.lock();
        let holds = |(amphora, sighting): (&AmphoraId, &Sighting)| {
            sighting.strangers.contains_key(&id).then_some(*amphora)
        };
        inner.amphorae.iter().filter_map(holds).collect()
    }

    /// Whether the amphora is there.
    pub(crate) fn status(
        &self,
        amphora: AmphoraId,
        now: Timestamp,
        silence: Duration,
    ) -> AmphoraStatus {
        let last_seen = self.lock().amphorae.get_mut(&amphora).and_then(|sighting| {
            sighting.set_back(now);
            let told = |at: Timestamp| at.checked_add(HEARSAY_AGE_MAX).unwrap_or(at);
            sighting.last_seen.max(sighting.hearsay.map(told))
        });
        liveness::judge(last_seen, now, silence)
    }

    /// What the amphora said of itself.
    pub(crate) fn portrait(&self, amphora: AmphoraId) -> SelfPortrait {
        let inner = self.lock();
        inner
            .amphorae
            .get(&amphora)
            .map_or_else(SelfPortrait::default, |sighting| SelfPortrait {
                info: sighting.info.clone(),
                last_seen: sighting.last_seen.max(sighting.hearsay),
                metrics_port: sighting.metrics_port,
            })
    }

    /// Totals over `listeners`. Connections of an amphora that is silent do not count as open.
    pub(crate) fn totals(
        &self,
        listeners: impl IntoIterator<Item = ListenerId>,
        is_silent: impl Fn(AmphoraId) -> bool,
    ) -> Counters {
        let counted: Vec<(AmphoraId, Tally)> = {
            let inner = self.lock();
            let listeners = listeners.into_iter();
            listeners
                .flat_map(|listener| inner.tallies.of(listener))
                .collect()
        };
        // Without the lock: who is silent is looked up here too.
        tally::sum(counted.into_iter().map(|(amphora, tally)| {
            if is_silent(amphora) {
                tally.total_at_rest()
            } else {
                tally.total()
            }
        }))
    }

    /// Forgets what an amphora holds, so that it is sent everything again.
    pub(crate) fn doubt(&self, amphora: AmphoraId) {
        if let Some(sighting) = self.lock().amphorae.get_mut(&amphora) {
            sighting.load_balancers.clear();
            sighting.is_whole = false;
        }
    }

    /// Forgets an amphora that has ended. What it counted stays.
    pub(crate) fn forget_amphora(&self, amphora: AmphoraId) {
        let mut inner = self.lock();
        inner.amphorae.remove(&amphora);
        inner.failures.forget_amphora(amphora);
    }

    /// What failed at a listener lately.
    pub(crate) fn failures(&self, listener: ListenerId, now: Timestamp) -> Recent {
        self.lock().failures.of(listener, now)
    }

    /// What failed lately at the listeners of an amphora that no client is at fault for.
    pub(crate) fn failures_of(&self, amphora: AmphoraId, now: Timestamp) -> u64 {
        self.lock().failures.of_amphora(amphora, now)
    }

    /// Since when failures are counted.
    pub(crate) fn failures_since(&self) -> Option<Timestamp> {
        self.lock().failures.began()
    }

    /// What the amphora counted, by load balancer and listener.
    pub(crate) fn counted_by(
        &self,
        amphora: AmphoraId,
    ) -> Vec<(LoadBalancerId, ListenerId, Counters)> {
        let inner = self.lock();
        let Some(sighting) = inner.amphorae.get(&amphora) else {
            return Vec::new();
        };
        let mut counted = Vec::new();
        for (id, seen) in &sighting.load_balancers {
            for listener in &seen.report.listeners {
                let tally = inner.tallies.by(listener.id, amphora);
                let total = tally.map_or(listener.counters, |tally| tally.total());
                counted.push((*id, listener.id, total));
            }
        }
        counted.sort_unstable_by_key(|(id, listener, _)| (*id, *listener));
        counted
    }

    /// How much is remembered of load balancers and their listeners.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        let inner = self.lock();
        let of_amphorae = inner.amphorae.values().map(|sighting| {
            sighting.load_balancers.len() + sighting.missing.len() + sighting.strangers.len()
        });
        of_amphorae.sum::<usize>() + inner.tallies.len() + inner.failures.remembered()
    }

    /// Drops the tallies of listeners that are no more.
    pub(crate) fn forget_listeners(&self, listeners: &[ListenerId]) {
        let mut inner = self.lock();
        for listener in listeners {
            inner.tallies.forget(*listener);
            inner.failures.forget(*listener);
        }
    }

    /// The tallies that are not written down yet; they count as written from now on.
    pub(crate) fn unwritten(&self) -> Vec<ListenerTally> {
        self.lock().tallies.take_unwritten(|_| true)
    }

    /// [`Sightings::unwritten`] of these listeners.
    pub(crate) fn unwritten_of(&self, listeners: &[ListenerId]) -> Vec<ListenerTally> {
        let is_wanted = |listener| listeners.contains(&listener);
        self.lock().tallies.take_unwritten(is_wanted)
    }

    /// Takes it back that `tallies` were written down.
    pub(crate) fn mark_unwritten(&self, tallies: &[ListenerTally]) {
        self.lock().tallies.mark_unwritten(tallies);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
