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
    Report,
};
use krater_controller_core::{
    liveness,
    query::AmphoraStatus,
    tally::{self, Tally},
};
use krater_controller_store::ListenerTally;

use crate::limits::HEARSAY_AGE_MAX;

mod hearsay;
mod trust;

use crate::clock;

mod failures;

use failures::{Failures, Recent};

/// All that amphorae said.
#[derive(Default)]
pub(crate) struct Sightings {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    amphorae: BTreeMap<AmphoraId, Sighting>,
    tallies: BTreeMap<ListenerId, BTreeMap<AmphoraId, Counted>>,
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
    /// `last_seen` as it was last written down.
    written: Option<Timestamp>,
    metrics_port: Option<u16>,
    load_balancers: BTreeMap<LoadBalancerId, Seen>,
    /// Placed here, and known to be absent.
    missing: BTreeSet<LoadBalancerId>,
    /// Here, and not placed here; since when.
    strangers: BTreeMap<LoadBalancerId, Timestamp>,
}

struct Seen {
    report: LoadBalancerReport,
    /// The last report that was in when a push was answered with this: the next one may have been written before
    /// the push and must not overrule it.
    pushed_after: Option<u64>,
    /// When this was said.
    at: Timestamp,
}

struct Counted {
    tally: Tally,
    written: bool,
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
        let mut inner = self.lock();
        for ListenerTally {
            listener,
            amphora,
            tally,
        } in tallies
        {
            let of_listener = inner.tallies.entry(listener).or_default();
            let is_behind = |counted: &Counted| counted.tally.progress() < tally.progress();
            if of_listener.get(&amphora).is_none_or(is_behind) {
                let counted = Counted {
                    tally,
                    written: true,
                };
                of_listener.insert(amphora, counted);
            }
        }
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
        let sighting = amphorae.entry(report.info.amphora).or_default();
        let booted = sighting
            .info
            .as_ref()
            .is_none_or(|info| info.boot != report.info.boot);
        let late = if booted {
            sighting.is_over(report.info.boot, now)
        } else {
            report.sequence <= sighting.sequence
        };
        if late {
            return None;
        }
        // It is believed about what is placed on it, and nothing else.
        let believed = report.load_balancers.iter();
        for load_balancer in believed.filter(|said| placed.contains(&said.id)) {
            let Info { amphora, boot, .. } = report.info;
            let seen = sighting.load_balancers.get(&load_balancer.id);
            // Written before a change that is in force: it may name listeners that are gone, and would have them
            // remembered for ever. What it counts the next one counts too.
            if seen.is_some_and(|seen| load_balancer.generation < seen.report.generation) {
                continue;
            }
            count_all(tallies, amphora, boot, load_balancer);
            failures.take(amphora, boot, load_balancer, now);
        }
        failures.know(report.info.amphora);
        let mut news = News {
            booted,
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
            count_all(tallies, amphora, boot, &report);
            failures.take(amphora, boot, &report, clock::now());
        }
        // Who answers is there.
        sighting.last_seen = sighting.last_seen.map(|_| now);
        sighting.spoke = Some(now);
        sighting.missing.remove(&report.id);
        sighting.strangers.remove(&report.id);
        let pushed_after = Some(sighting.sequence);
        sighting.load_balancers.insert(
            report.id,
            Seen {
                report,
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
            let counted = listeners
                .into_iter()
                .filter_map(|listener| inner.tallies.get(&listener));
            counted
                .flatten()
                .map(|(amphora, counted)| (*amphora, counted.tally))
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
                let tally = inner
                    .tallies
                    .get(&listener.id)
                    .and_then(|counted| counted.get(&amphora));
                let total = tally.map_or(listener.counters, |counted| counted.tally.total());
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
            inner.tallies.remove(listener);
            inner.failures.forget(*listener);
        }
    }

    /// The tallies that are not written down yet; they count as written from now on.
    pub(crate) fn unwritten(&self) -> Vec<ListenerTally> {
        self.unwritten_if(|_| true)
    }

    /// [`Sightings::unwritten`] of these listeners.
    pub(crate) fn unwritten_of(&self, listeners: &[ListenerId]) -> Vec<ListenerTally> {
        self.unwritten_if(|listener| listeners.contains(&listener))
    }

    fn unwritten_if(&self, is_wanted: impl Fn(ListenerId) -> bool) -> Vec<ListenerTally> {
        let mut inner = self.lock();
        let mut unwritten = Vec::new();
        let wanted = inner.tallies.iter_mut();
        for (listener, counted) in wanted.filter(|(listener, _)| is_wanted(**listener)) {
            for (amphora, counted) in counted.iter_mut().filter(|(_, counted)| !counted.written) {
                counted.written = true;
                unwritten.push(ListenerTally {
                    listener: *listener,
                    amphora: *amphora,
                    tally: counted.tally,
                });
            }
        }
        unwritten
    }

    /// Takes it back that `tallies` were written down.
    pub(crate) fn mark_unwritten(&self, tallies: &[ListenerTally]) {
        let mut inner = self.lock();
        for tally in tallies {
            let counted = inner
                .tallies
                .get_mut(&tally.listener)
                .and_then(|counted| counted.get_mut(&tally.amphora));
            if let Some(counted) = counted {
                counted.written = false;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sighting {
    fn compare(
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
        }
        // Whether this report can have been written before the push that told us better.
        let outrun = |seen: &Seen| {
            !news.booted && seen.pushed_after.is_some_and(|after| sequence <= after + 1)
        };
        let mut before = std::mem::take(&mut self.load_balancers);
        let mut strangers = BTreeMap::new();
        for load_balancer in load_balancers {
            let id = load_balancer.id;
            if !placed.contains(&id) {
                let since = *self.strangers.get(&id).unwrap_or(&now);
                if now.duration_since(since).unsigned_abs() >= crate::limits::STRANGER_GRACE {
                    news.strangers.push((id, load_balancer.generation));
                }
                strangers.insert(id, since);
                continue;
            }
            self.missing.remove(&id);
            let seen = match before.remove(&id) {
                Some(seen)
                    if load_balancer.generation < seen.report.generation && outrun(&seen) =>
                {
                    seen
                }
                Some(seen) => {
                    if news.booted || differs(&seen.report, &load_balancer) {
                        news.changed.push(id);
                    }
                    Seen {
                        report: load_balancer,
                        pushed_after: seen.pushed_after,
                        at: now,
                    }
                }
                None => {
                    news.changed.push(id);
                    Seen {
                        report: load_balancer,
                        pushed_after: None,
                        at: now,
                    }
                }
            };
            self.load_balancers.insert(id, seen);
        }
        for (id, seen) in before {
            if placed.contains(&id) && outrun(&seen) {
                self.load_balancers.insert(id, seen);
            }
        }
        self.missing.retain(|id| placed.contains(id));
        for id in placed {
            if !self.load_balancers.contains_key(id) && (self.missing.insert(*id) || news.booted) {
                news.changed.push(*id);
            }
        }
        self.info = Some(info);
        self.sequence = sequence;
        self.last_seen = Some(now);
        self.spoke = Some(now);
        self.metrics_port = metrics_port;
        self.strangers = strangers;
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
    before.generation != after.generation || !same_listeners || !same_pools
}

type Tallies = BTreeMap<ListenerId, BTreeMap<AmphoraId, Counted>>;

fn count_all(tallies: &mut Tallies, amphora: AmphoraId, boot: BootId, report: &LoadBalancerReport) {
    for listener in &report.listeners {
        let counted = tallies.entry(listener.id).or_default();
        let previous = counted.get(&amphora).map(|counted| counted.tally);
        let tally = tally::tally(previous.as_ref(), boot, listener.counters);
        if previous == Some(tally) {
            continue;
        }
        counted.insert(
            amphora,
            Counted {
                tally,
                written: false,
            },
        );
    }
}

#[cfg(test)]
mod tests;
