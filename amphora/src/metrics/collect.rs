//! Reads the meters into the declared series.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use krater_amphora_api::{
    AmphoraId, AnnouncementState, BootId, ContractVersion, ListenerState as Serving, PoolProtocol,
};
use krater_amphora_core::snapshot::Mode;
use prometheus::{
    core::{Collector, Desc},
    proto,
};

use super::table::{self, Kind, Metric, Traffic};
use crate::{
    access::Counts,
    local::Common,
    meter::{DurationTotals, Durations, Loss, MemberTotals, Responses},
    probe::Meters,
    tallies::Tallies,
    world::{Balancer, ListenerState, PoolState, World},
};

/// Everything that one scrape reads.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) world: Arc<World>,
    pub(crate) probes: Meters,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) common: Common,
    pub(crate) amphora: Option<AmphoraId>,
    pub(crate) boot: BootId,
    pub(crate) workers: usize,
    /// The others that sessions are to be exchanged with, and whether they are.
    pub(crate) session_peers: Vec<(AmphoraId, bool)>,
}

impl Scrape {
    /// As the registry takes it.
    pub(crate) fn into_collector(self) -> prometheus::Result<impl Collector> {
        let descs = table::TABLE
            .iter()
            .map(|metric| describe(metric))
            .collect::<prometheus::Result<_>>()?;
        Ok(Scraped {
            scrape: self,
            descs,
        })
    }
}

struct Scraped {
    scrape: Scrape,
    descs: Vec<Desc>,
}

impl Collector for Scraped {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let mut families = Families::default();
        self.scrape.process(&mut families);
        for balancer in self.scrape.world.balancers.values() {
            self.scrape.balancer(balancer, &mut families);
        }
        families.0.into_values().collect()
    }
}

fn describe(metric: &Metric) -> prometheus::Result<Desc> {
    let labels = metric
        .labels
        .iter()
        .map(|label| (*label).to_owned())
        .collect();
    Desc::new(
        metric.name.to_owned(),
        metric.help.to_owned(),
        labels,
        Default::default(),
    )
}

impl Scrape {
    fn threads(&self, out: &mut Families) {
        for (kind, first) in [("worker", 0), ("l4", self.workers)] {
            for core in 0..self.workers {
                let lane = self.common.threads.of(first + core);
                let thread = format!("{kind}-{core}");
                out.count(&table::THREAD_CONNECTIONS, &[&thread], lane.active());
                if kind == "l4" {
                    out.count(&table::THREAD_PASSED, &[&thread], lane.passed.read());
                }
            }
        }
    }

    fn process(&self, out: &mut Families) {
        let tallies = &self.tallies;
        let contract = ContractVersion::CURRENT.0.to_string();
        out.count(
            &table::BUILD_INFO,
            &[env!("CARGO_PKG_VERSION"), &contract],
            1,
        );
        let amphora = self.amphora.map(|id| id.to_string()).unwrap_or_default();
        out.count(&table::BOOT_INFO, &[&amphora, &self.boot.to_string()], 1);
        out.number(&table::UPTIME, &[], tallies.started.elapsed().as_secs_f64());
        out.count(&table::WORKERS, &[], self.workers as u64);
        out.count(
            &table::BUGS,
            &[],
            self.common.bugs.load(Relaxed) + tallies.bugs.read(),
        );
        out.count(
            &table::EXHAUSTIONS,
            &[],
            self.common.exhaustions.load(Relaxed),
        );
        let Counts { written, dropped } = self.common.access.counts();
        out.count(&table::ACCESS_RECORDS, &["written"], written);
        out.count(&table::ACCESS_RECORDS, &["dropped"], dropped);
        self.threads(out);
        for (result, tally) in [
            ("applied", &tallies.applies),
            ("unreadable", &tallies.refusals.unreadable),
            ("stale", &tallies.refusals.stale),
            ("invalid", &tallies.refusals.invalid),
            ("not_kept", &tallies.refusals.not_kept),
            ("network", &tallies.refusals.network),
        ] {
            out.count(&table::APPLIES, &[result], tally.read());
        }
        out.count(&table::SETTLE_FAILURES, &[], tallies.settle_failures.read());
        out.count(&table::REMOVALS, &[], tallies.removals.read());
        out.count(
            &table::HEARTBEATS,
            &["sent"],
            tallies.heartbeats_sent.read(),
        );
        out.count(
            &table::HEARTBEATS,
            &["failed"],
            tallies.heartbeats_failed.read(),
        );
        out.count(&table::RELOADS, &["applied"], tallies.reloads.read());
        out.count(
            &table::RELOADS,
            &["refused"],
            tallies.reloads_refused.read(),
        );
        for (metric, level) in [
            (&table::HEARTBEAT_LAST, &tallies.heartbeat_last),
            (&table::CERTIFICATE_EXPIRY, &tallies.certificate_expiry),
            (&table::RELOAD_LAST, &tallies.reload_last),
            (&table::FILE_FLAWS, &tallies.file_flaws),
        ] {
            if let Some(value) = level.read() {
                out.count(metric, &[], value);
            }
        }
        self.turns(out);
        self.failures(out);
    }

    fn failures(&self, out: &mut Families) {
        let failed = self
            .world
            .listeners
            .values()
            .filter(|state| matches!(state.serving(), Serving::Failed { .. }));
        out.count(&table::OPEN_FAILURES, &[], failed.count() as u64);
        let refused = self.common.congestion_refused.load(Relaxed);
        out.count(&table::CONGESTION_REFUSED, &[], refused);
        if let Some(value) = self.tallies.filter_failed.read() {
            out.count(&table::FILTER_FAILED, &[], value);
        }
    }

    fn turns(&self, out: &mut Families) {
        let turns = &self.tallies.turns;
        for (result, tally) in [
            ("sent", &turns.sent),
            ("heard", &turns.heard),
            ("ignored", &turns.ignored),
        ] {
            out.count(&table::ADVERTS, &[result], tally.read());
        }
        out.count(&table::TAKEOVERS, &[], turns.takeovers.read());
        let sessions = &self.tallies.sessions;
        for (result, tally) in [
            ("told", &sessions.told),
            ("taken", &sessions.taken),
            ("known", &sessions.known),
            ("ignored", &sessions.ignored),
            ("deferred", &sessions.deferred),
        ] {
            out.count(&table::SESSIONS, &[result], tally.read());
        }
        out.count(&table::SESSION_REFUSALS, &[], sessions.refused.read());
        for (peer, is_connected) in &self.session_peers {
            let labels = [peer.to_string()];
            let labels = labels.each_ref().map(String::as_str);
            out.count(&table::SESSION_PEERS, &labels, u64::from(*is_connected));
        }
    }

    fn balancer(&self, balancer: &Balancer, out: &mut Families) {
        let lb = balancer.snapshot.load_balancer().to_string();
        out.count(
            &table::GENERATION,
            &[&lb],
            balancer.snapshot.generation().number(),
        );
        if let Some(announcement) = balancer.announcement() {
            for (name, state) in [
                ("active", AnnouncementState::Active),
                ("standby", AnnouncementState::Standby),
                ("down", AnnouncementState::Down),
            ] {
                let is_it = u64::from(announcement.state == state);
                out.count(&table::ANNOUNCEMENT, &[&lb, name], is_it);
            }
        }
        for state in &balancer.listeners {
            listener(state, &lb, out);
        }
        for state in &balancer.pools {
            self.pool(state, &lb, out);
        }
    }

    fn pool(&self, state: &PoolState, lb: &str, out: &mut Families) {
        let pool = state.pool.id.to_string();
        out.count(
            &table::POOL_MEMBERS,
            &[lb, &pool],
            state.members.len() as u64,
        );
        out.count(
            &table::POOL_USABLE,
            &[lb, &pool],
            state.roster.load().len() as u64,
        );
        let up = state.members.iter().filter(|member| member.counts_as_up());
        out.count(&table::POOL_UP, &[lb, &pool], up.count() as u64);
        let protocol = state.pool.protocol;
        let labels = [lb, pool.as_str()];
        let totals = state.totals();
        out.count(
            &table::POOL_PORTS_EXHAUSTED,
            &labels,
            totals.ports_exhausted,
        );
        traffic(&table::POOL_TRAFFIC, &totals, protocol, &labels, out);
        for member in &state.members {
            let id = member.id.to_string();
            let labels = [lb, pool.as_str(), id.as_str()];
            out.count(&table::MEMBER_UP, &labels, u64::from(member.counts_as_up()));
            let is_out = member.conduct.terms().out;
            out.count(&table::MEMBER_OUT, &labels, u64::from(is_out));
            let ejections = member.meter.sum(|lane| &lane.ejections);
            out.count(&table::MEMBER_EJECTIONS, &labels, ejections);
            for (cause, times) in member.meter.failures().seen() {
                let labels = [lb, pool.as_str(), id.as_str(), cause.name()];
                out.count(&table::MEMBER_FAILURES, &labels, times);
            }
            let queued = member.meter.sum(|lane| &lane.queued);
            if queued > 0 {
                out.count(&table::MEMBER_QUEUED, &labels, queued);
                let waiting = u64::from(member.places.waiting());
                out.count(&table::MEMBER_WAITING, &labels, waiting);
            }
            let totals = member.meter.totals();
            traffic(&table::MEMBER_TRAFFIC, &totals, protocol, &labels, out);
            let Some(probes) = self.probes.get(&(state.balancer, member.id)) else {
                continue;
            };
            let [lb, pool, id] = labels;
            out.count(
                &table::MEMBER_PROBES,
                &[lb, pool, id, "succeeded"],
                probes.succeeded.load(Relaxed),
            );
            out.count(
                &table::MEMBER_PROBES,
                &[lb, pool, id, "failed"],
                probes.failed.load(Relaxed),
            );
            let took = Duration::from_nanos(probes.last_nanoseconds.load(Relaxed));
            if !took.is_zero() {
                out.number(&table::MEMBER_PROBE_DURATION, &labels, took.as_secs_f64());
            }
        }
    }
}

fn listener(state: &ListenerState, lb: &str, out: &mut Families) {
    let id = state.listener.id.to_string();
    let labels = [lb, id.as_str()];
    let serving = match state.serving() {
        Serving::Open => "open",
        Serving::Full => "full",
        Serving::Disabled => "disabled",
        Serving::Failed { .. } => "failed",
    };
    for name in ["open", "full", "disabled", "failed"] {
        out.count(
            &table::LISTENER_STATE,
            &[lb, &id, name],
            u64::from(name == serving),
        );
    }
    let meter = &state.shared.meter;
    let counters = meter.counters();
    out.count(
        &table::LISTENER_ACTIVE,
        &labels,
        counters.active_connections,
    );
    out.count(
        &table::LISTENER_LIMIT,
        &labels,
        u64::from(state.listener.connection_limit),
    );
    out.count(
        &table::LISTENER_CONNECTIONS,
        &labels,
        counters.total_connections,
    );
    out.count(&table::LISTENER_SHED, &labels, meter.sum(|lane| &lane.shed));
    out.count(
        &table::LISTENER_DENIED,
        &labels,
        meter.sum(|lane| &lane.denied),
    );
    let too_often = meter.sum(|lane| &lane.too_often);
    out.count(&table::LISTENER_TOO_OFTEN, &labels, too_often);
    out.count(&table::LISTENER_RECEIVED, &labels, counters.bytes_in);
    out.count(&table::LISTENER_SENT, &labels, counters.bytes_out);
    out.count(
        &table::LISTENER_REQUEST_ERRORS,
        &labels,
        counters.request_errors,
    );
    out.count(
        &table::LISTENER_NO_MEMBER,
        &labels,
        meter.sum(|lane| &lane.no_member),
    );
    out.count(
        &table::LISTENER_RETRIES,
        &labels,
        meter.sum(|lane| &lane.retries),
    );
    for (cause, times) in meter.failures().seen() {
        let labels = [lb, id.as_str(), cause.name()];
        out.count(&table::LISTENER_FAILURES, &labels, times);
    }
    match state.listener.mode {
        Mode::Tcp => {}
        Mode::Udp => datagrams(state, labels, out),
        Mode::Http => requests(state, labels, out),
    }
}

/// What only UDP listeners have.
fn datagrams(state: &ListenerState, labels: [&str; 2], out: &mut Families) {
    let meter = &state.shared.meter;
    let [lb, id] = labels;
    for why in Loss::ALL {
        let lost = meter.sum(|lane| lane.losses.of(why));
        out.count(&table::LISTENER_DATAGRAMS_LOST, &[lb, id, why.name()], lost);
    }
    for (result, value) in [
        ("sent", meter.sum(|lane| &lane.told)),
        ("withheld", meter.sum(|lane| &lane.untold)),
    ] {
        out.count(&table::LISTENER_UNREACHABLES, &[lb, id, result], value);
    }
    for (metric, value) in [
        (
            &table::LISTENER_DATAGRAMS_IN,
            meter.sum(|lane| &lane.datagrams_in),
        ),
        (
            &table::LISTENER_DATAGRAMS_OUT,
            meter.sum(|lane| &lane.datagrams_out),
        ),
        (&table::LISTENER_EVICTED, meter.sum(|lane| &lane.evicted)),
        (&table::LISTENER_MOVED, meter.sum(|lane| &lane.moved)),
    ] {
        out.count(metric, &labels, value);
    }
}

/// What only HTTP listeners have.
fn requests(state: &ListenerState, labels: [&str; 2], out: &mut Families) {
    let meter = &state.shared.meter;
    let [lb, id] = labels;
    out.count(
        &table::LISTENER_REQUESTS,
        &labels,
        meter.sum(|lane| &lane.requests),
    );
    for (class, responses) in Responses::NAMES.iter().zip(meter.responses()) {
        out.count(&table::LISTENER_RESPONSES, &[lb, id, class], responses);
    }
    out.durations(&table::LISTENER_DURATION, &labels, &meter.durations());
}

fn traffic(
    series: &Traffic,
    totals: &MemberTotals,
    protocol: PoolProtocol,
    labels: &[&str],
    out: &mut Families,
) {
    for (metric, value) in [
        (series.active, totals.active()),
        (series.connections, totals.connected),
        (series.connect_failures, totals.connect_failures),
        (series.response_errors, totals.response_errors),
        (series.sent, totals.bytes_out),
        (series.received, totals.bytes_in),
    ] {
        out.count(metric, labels, value);
    }
    // Members of PROXY pools speak what their listener does.
    if protocol != PoolProtocol::Http && totals.requests == 0 {
        return;
    }
    out.count(series.requests, labels, totals.requests);
    out.count(series.reuses, labels, totals.reuses);
    // Members are many: what never happened is not worth a line for each of them.
    for (class, responses) in Responses::NAMES
        .iter()
        .zip(totals.responses)
        .filter(|(_, seen)| *seen > 0)
    {
        let labels: Vec<_> = labels.iter().chain([class]).copied().collect();
        out.count(series.responses, &labels, responses);
    }
    if !totals.durations.total.is_zero() {
        out.durations(series.duration, labels, &totals.durations);
    }
}

/// Series being put together, by name.
#[derive(Default)]
struct Families(BTreeMap<&'static str, proto::MetricFamily>);

impl Families {
    #[expect(
        clippy::cast_precision_loss,
        reason = "Prometheus knows no other number; exact up to 2^53"
    )]
    fn count(&mut self, metric: &Metric, labels: &[&str], value: u64) {
        self.number(metric, labels, value as f64);
    }

    fn number(&mut self, metric: &Metric, labels: &[&str], value: f64) {
        let mut sample = labelled(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
            }
            Kind::Gauge | Kind::Histogram => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
            }
        }
        self.push(metric, sample);
    }

    fn durations(&mut self, metric: &Metric, labels: &[&str], totals: &DurationTotals) {
        let mut cumulative = 0;
        let mut buckets = Vec::new();
        for (count, bound) in totals.buckets.iter().zip(Durations::BOUNDS_MICROSECONDS) {
            cumulative += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_cumulative_count(cumulative);
            bucket.set_upper_bound(Duration::from_micros(bound).as_secs_f64());
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(totals.buckets.iter().sum());
        histogram.set_sample_sum(totals.total.as_secs_f64());
        histogram.set_bucket(buckets);
        let mut sample = labelled(metric, labels);
        sample.set_histogram(histogram);
        self.push(metric, sample);
    }

    fn push(&mut self, metric: &Metric, sample: proto::Metric) {
        let family = self.0.entry(metric.name).or_insert_with(|| {
            let mut family = proto::MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(metric.help.to_owned());
            family.set_field_type(match metric.kind {
                Kind::Counter => proto::MetricType::COUNTER,
                Kind::Gauge => proto::MetricType::GAUGE,
                Kind::Histogram => proto::MetricType::HISTOGRAM,
            });
            family
        });
        family.mut_metric().push(sample);
    }
}

fn labelled(metric: &Metric, values: &[&str]) -> proto::Metric {
    debug_assert_eq!(metric.labels.len(), values.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    proto::Metric::from_label(pairs.collect())
}
