//! What a PROMETHEUS listener tells: the reference's series (19.13) of all that its load balancer has, read from the
//! meters when somebody asks.
//!
//! What is counted of the whole process, or not at all, is not told: `controller/DIFFERENCES.md` names it. A pool that
//! several listeners send to is told once, under the first of them, so that sums are right.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hashbrown::HashSet;
use krater_amphora_api::{Cause, ListenerState as Serving, PoolProtocol};
use krater_amphora_core::snapshot::Mode;

use crate::{
    meter::{Counter, ListenerLane, MemberTotals, Responses},
    world::{Balancer, ListenerState, MemberState, PoolState},
};

mod table;

use table::{Family, Meaning};

/// What was told of a load balancer a moment ago: many who ask at once cost little more than one.
pub(crate) fn recent(balancer: &Balancer) -> Option<Bytes> {
    let told = balancer.told.load();
    let (at, text) = told.as_deref()?;
    (at.elapsed() < FRESH).then(|| text.clone())
}

/// The series of a load balancer, as text. Ten thousand members make tens of megabytes: not for a thread that carries
/// traffic.
pub(crate) fn tell(balancer: &Balancer) -> Bytes {
    if let Some(text) = recent(balancer) {
        return text;
    }
    let text = Bytes::from(render(balancer));
    let now = Instant::now();
    balancer.told.store(Some(Arc::new((now, text.clone()))));
    text
}

/// All series of a load balancer in the text format of Prometheus, version 0.0.4.
fn render(balancer: &Balancer) -> String {
    let listeners: Vec<_> = balancer
        .listeners
        .iter()
        .map(|one| of_listener(one))
        .collect();
    let mut seen = HashSet::new();
    let mut pools = Vec::new();
    let mut members = Vec::new();
    for listener in &balancer.listeners {
        let by_policies = listener.listener.policies.pools();
        let by_policies = by_policies.filter_map(|id| listener.policy_pools.get(&id));
        let all = listener.pool.iter().chain(by_policies);
        for pool in all.filter(|pool| seen.insert(pool.pool.id)) {
            let label = format!("pool=\"{}:{}\"", pool.pool.id, listener.listener.id);
            for (member, settings) in pool.members.iter().zip(&pool.pool.members) {
                members.push(Told {
                    labels: format!("{label},member=\"{}\"", member.id),
                    of: OfMember {
                        totals: member.meter.totals(),
                        protocol: pool.pool.protocol,
                        weight: settings.weight.into(),
                        state: state_of(member, settings.enabled, settings.weight.into()),
                        aborts: member.meter.failures().of(Cause::MemberResetMidAnswer),
                    },
                });
            }
            pools.push(Told {
                labels: label,
                of: of_pool(pool),
            });
        }
    }
    let all = OfBalancer::over(balancer, &listeners);
    let mut text = String::new();
    write_all(
        table::LOAD_BALANCER,
        &[Told {
            labels: String::new(),
            of: all,
        }],
        &mut text,
    );
    write_all(table::LISTENER, &listeners, &mut text);
    write_all(table::POOL, &pools, &mut text);
    write_all(table::MEMBER, &members, &mut text);
    text
}

/// Something with the labels that it is told under.
struct Told<T> {
    labels: String,
    of: T,
}

/// What is told of a whole load balancer.
struct OfBalancer {
    connections: u64,
    requests: u64,
    active: u64,
    limit: u64,
    listeners: u64,
    connections_inside: u64,
    active_inside: u64,
}

/// What is told of a listener.
struct OfListener {
    state: usize,
    connections: u64,
    active: u64,
    limit: u64,
    bytes_in: u64,
    bytes_out: u64,
    rejected: u64,
    request_errors: u64,
    turned_away: u64,
    requests: u64,
    responses: [u64; Responses::CLASSES],
    /// It ends TLS.
    inside: bool,
}

/// What is told of a pool.
struct OfPool {
    totals: MemberTotals,
    protocol: PoolProtocol,
    state: usize,
    active: u64,
    backup: u64,
}

/// What is told of a member.
struct OfMember {
    totals: MemberTotals,
    protocol: PoolProtocol,
    weight: u64,
    state: usize,
    aborts: u64,
}

impl OfBalancer {
    fn over(balancer: &Balancer, listeners: &[Told<OfListener>]) -> Self {
        let sum = |read: fn(&OfListener) -> u64| listeners.iter().map(|one| read(&one.of)).sum();
        let inside = |read: fn(&OfListener) -> u64| {
            let inside = listeners.iter().filter(|one| one.of.inside);
            inside.map(|one| read(&one.of)).sum()
        };
        Self {
            connections: sum(|one| one.connections),
            requests: sum(|one| one.requests),
            active: sum(|one| one.active),
            limit: sum(|one| one.limit),
            listeners: balancer.listeners.len() as u64,
            connections_inside: inside(|one| one.connections),
            active_inside: inside(|one| one.active),
        }
    }
}

fn of_listener(state: &ListenerState) -> Told<OfListener> {
    let meter = &state.shared.meter;
    let sum = |read: fn(&ListenerLane) -> &Counter| meter.sum(read);
    let counters = meter.counters();
    let is_open = matches!(state.serving(), Serving::Open | Serving::Full);
    let responses = match state.listener.mode {
        Mode::Http => meter.responses(),
        Mode::Tcp | Mode::Udp => [0; Responses::CLASSES],
    };
    Told {
        labels: format!("listener=\"{}\"", state.listener.id),
        of: OfListener {
            state: usize::from(is_open),
            connections: counters.total_connections,
            active: counters.active_connections,
            limit: state.listener.connection_limit.into(),
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            rejected: meter.failures().of(Cause::LbPolicyRejected),
            request_errors: counters.request_errors,
            turned_away: sum(|lane| &lane.denied) + sum(|lane| &lane.too_often),
            requests: sum(|lane| &lane.requests),
            responses,
            inside: state.tls.is_some(),
        },
    }
}

fn of_pool(state: &PoolState) -> OfPool {
    let usable = |backup: bool| {
        let members = state.members.iter().zip(&state.pool.members);
        let usable = members.filter(|(member, settings)| {
            settings.backup == backup
                && state_of(member, settings.enabled, settings.weight.into()) == UP
        });
        usable.count() as u64
    };
    let is_up = state.pool.enabled && !state.roster.load().is_empty();
    OfPool {
        totals: state.totals(),
        protocol: state.pool.protocol,
        state: usize::from(is_up),
        active: usable(false),
        backup: usable(true),
    }
}

/// Which of [`table::MEMBER_STATES`] it is in.
fn state_of(member: &MemberState, enabled: bool, weight: u64) -> usize {
    if !enabled {
        MAINTENANCE
    } else if !member.counts_as_up() {
        DOWN
    } else if weight == 0 {
        DRAIN
    } else if member.conduct.terms().out {
        PASSED_OVER
    } else {
        UP
    }
}

/// Requests where a member speaks HTTP, else connections.
fn sessions(totals: &MemberTotals, protocol: PoolProtocol) -> u64 {
    if protocol == PoolProtocol::Http || totals.requests > 0 {
        totals.requests
    } else {
        totals.connected
    }
}

/// Seconds that answers took on average.
fn average(totals: &MemberTotals) -> f64 {
    let requests: u64 = totals.durations.buckets.iter().sum();
    let requests = u32::try_from(requests).unwrap_or(u32::MAX);
    let average = totals.durations.total.checked_div(requests);
    average.unwrap_or_default().as_secs_f64()
}

/// Writes the series of one level.
fn write_all<T>(families: &[Family<T>], all: &[Told<T>], text: &mut String) {
    for family in families {
        let Family { name, help, read } = family;
        if all.is_empty() {
            continue;
        }
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        // Writing to memory cannot fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        for one in all {
            match read {
                Meaning::Count(read) => {
                    let _ = writeln!(text, "{name}{} {}", braced(&one.labels), read(&one.of));
                }
                Meaning::Number(read) => {
                    let _ = writeln!(text, "{name}{} {}", braced(&one.labels), read(&one.of));
                }
                Meaning::State(names, read) => {
                    let now = read(&one.of);
                    for (place, state) in names.iter().enumerate() {
                        let (labels, is_it) = (&one.labels, u8::from(place == now));
                        let _ = writeln!(text, "{name}{{{labels},state=\"{state}\"}} {is_it}");
                    }
                }
                Meaning::ByCode(read) => {
                    for (class, count) in Responses::NAMES.iter().zip(read(&one.of)) {
                        let labels = &one.labels;
                        let _ = writeln!(text, "{name}{{{labels},code=\"{class}\"}} {count}");
                    }
                }
            }
        }
    }
}

fn braced(labels: &str) -> impl std::fmt::Display {
    std::fmt::from_fn(move |f| match labels {
        "" => Ok(()),
        labels => write!(f, "{{{labels}}}"),
    })
}

const DOWN: usize = 0;
const UP: usize = 1;
const MAINTENANCE: usize = 2;
const DRAIN: usize = 3;
const PASSED_OVER: usize = 4;

/// How long what was told is told again: nobody asks more often to learn something.
const FRESH: Duration = Duration::from_secs(1);
