//! Performs the probes that monitors ask for, and feeds their outcomes back.
//!
//! One task serves all members: an agenda ordered by time instead of a sleeping task per member, and a bound on the
//! probes under way, so that thousands of members cost a timer and a few descriptors.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use krater_amphora_api::{LoadBalancerId, MemberHealth, MemberId, PoolId};
use krater_amphora_core::{
    monitor::{Monitor, MonitorConfig, Probe, ProbeFailure},
    snapshot::Snapshot,
    time::Instant,
};

mod failure;
mod http;
mod ping;
mod tcp;
mod tls;
mod udp_connect;

use crate::tls::{Connector, Offer};
use tcp::Target;

/// Which member of which load balancer.
pub(crate) type Key = (LoadBalancerId, MemberId);

/// Every monitored member of this amphora and when it is to be probed next.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    watches: HashMap<LoadBalancerId, HashMap<MemberId, Watch>>,
    /// Each watch is in here exactly once, under the time its monitor asks for.
    agenda: BTreeSet<(Instant, Key)>,
    /// Numbers the probes, so that the outcome of one that was overtaken is told from the current one.
    started: u64,
}

/// One monitored member.
#[derive(Debug)]
struct Watch {
    pool: PoolId,
    target: Target,
    tls: Option<Arc<Connector>>,
    config: Arc<MonitorConfig>,
    monitor: Monitor,
    /// Where the agenda has it.
    at: Instant,
    /// The probe under way.
    probe: Option<u64>,
    meter: Arc<ProbeMeter>,
}

/// Whom a probe is for, and what is spoken to it by TLS with.
type Whom = (Target, Option<Arc<Connector>>);

/// What probes of one member came to. Written by the housekeeper alone.
#[derive(Debug, Default)]
pub(crate) struct ProbeMeter {
    pub(crate) succeeded: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// Time the last probe took, in nanoseconds; zero before the first ended.
    pub(crate) last_nanoseconds: AtomicU64,
}

/// The meters of all monitored members.
pub(crate) type Meters = HashMap<Key, Arc<ProbeMeter>>;

/// A probe to be performed.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) key: Key,
    number: u64,
    target: Target,
    /// What the member is spoken to by TLS with, if it is.
    tls: Option<Arc<Connector>>,
    config: Arc<MonitorConfig>,
}

/// A probe that was performed.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) key: Key,
    number: u64,
    pub(crate) outcome: Result<(), ProbeFailure>,
    pub(crate) took: Duration,
}

/// What traffic and reports must learn about a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) pool: PoolId,
    pub(crate) member: MemberId,
    pub(crate) health: MemberHealth,
    pub(crate) reason: Option<String>,
}

impl Probes {
    /// Takes on the members of a snapshot: watches what is new, keeps what stayed with its verdict, drops what went.
    /// Pools that no listener uses are watched too. Answers what each member counts as now.
    /// `connector` knows what the members of a pool are spoken to by TLS with.
    pub(crate) fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        connector: impl Fn(PoolId) -> Option<Arc<Connector>>,
        now: Instant,
        mut entropy: impl FnMut() -> u64,
    ) -> Vec<Verdict> {
        let id = snapshot.load_balancer();
        let mut before = self.watches.remove(&id).unwrap_or_default();
        // Who was never probed and is not to be counts as what its pool says.
        if before.is_empty() && snapshot.pools().iter().all(|pool| pool.monitor.is_none()) {
            return Vec::new();
        }
        let mut after = HashMap::new();
        let mut verdicts = Vec::new();
        for pool in snapshot.pools() {
            let config = pool.monitor.clone().filter(|_| pool.enabled).map(Arc::new);
            let tls = config.as_ref().and_then(|_| connector(pool.id));
            for member in &pool.members {
                let held = before.remove(&member.id);
                if let Some(watch) = &held {
                    self.agenda.remove(&(watch.at, (id, member.id)));
                }
                let mut health = MemberHealth::NoMonitor;
                let mut reason = None;
                if let (Some(config), true) = (&config, member.enabled) {
                    // Who answers at a monitor address or port is spoken to plainly (reference 19.5).
                    let tls = tls.clone().filter(|_| !member.probed_apart);
                    let whom = (Target::of(pool, member), tls);
                    let mut watch = match held.filter(|watch| watch.pool == pool.id) {
                        Some(watch) => watch.reconfigured(config, whom, now),
                        None => Watch::new(pool.id, config, whom, now, entropy()),
                    };
                    watch.schedule((id, member.id), &mut self.agenda);
                    (health, reason) = watch.health();
                    after.insert(member.id, watch);
                }
                verdicts.push(Verdict {
                    pool: pool.id,
                    member: member.id,
                    health,
                    reason,
                });
            }
        }
        for (member, watch) in before {
            self.agenda.remove(&(watch.at, (id, member)));
        }
        if !after.is_empty() {
            self.watches.insert(id, after);
        }
        verdicts
    }

    /// Drops every member of a load balancer.
    pub(crate) fn forget(&mut self, id: LoadBalancerId) {
        for (member, watch) in self.watches.remove(&id).unwrap_or_default() {
            self.agenda.remove(&(watch.at, (id, member)));
        }
    }

    /// Starts what is due, at most `most` of it.
    pub(crate) fn start_due(&mut self, now: Instant, most: usize) -> Vec<Job> {
        let mut jobs = Vec::new();
        while jobs.len() < most {
            let Some((at, key)) = self.agenda.first().copied().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.agenda.remove(&(at, key));
            let Some(watch) = self
                .watches
                .get_mut(&key.0)
                .and_then(|members| members.get_mut(&key.1))
            else {
                continue;
            };
            self.started += 1;
            watch.monitor.handle_probe_started(now);
            watch.probe = Some(self.started);
            watch.schedule(key, &mut self.agenda);
            let config = Arc::clone(&watch.config);
            jobs.push(Job {
                key,
                number: self.started,
                target: watch.target,
                tls: watch.tls.clone(),
                config,
            });
        }
        jobs
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Takes an outcome in. Answers what is to be made known, if that changed.
    pub(crate) fn finish(&mut self, done: Done, now: Instant) -> Option<Verdict> {
        let (id, member) = done.key;
        let watch = self.watches.get_mut(&id)?.get_mut(&member)?;
        // Overtaken: what was asked, or whom, has changed since this probe began.
        if watch.probe != Some(done.number) {
            return None;
        }
        watch.probe = None;
        watch.meter.count(&done);
        let before = watch.health();
        watch.monitor.handle_outcome(now, done.outcome);
        self.agenda.remove(&(watch.at, done.key));
        watch.schedule(done.key, &mut self.agenda);
        let (health, reason) = watch.health();
        if (health, &reason) == (before.0, &before.1) {
            return None;
        }
        Some(Verdict {
            pool: watch.pool,
            member,
            health,
            reason,
        })
    }

    /// The pool of a member that is watched.
    pub(crate) fn pool_of(&self, (id, member): Key) -> Option<PoolId> {
        Some(self.watches.get(&id)?.get(&member)?.pool)
    }

    /// The probe counters of every monitored member.
    pub(crate) fn meters(&self) -> Meters {
        self.watches
            .iter()
            .flat_map(|(id, members)| {
                members
                    .iter()
                    .map(|(member, watch)| ((*id, *member), Arc::clone(&watch.meter)))
            })
            .collect()
    }
}

impl Watch {
    fn new(
        pool: PoolId,
        config: &Arc<MonitorConfig>,
        (target, tls): Whom,
        now: Instant,
        jitter: u64,
    ) -> Self {
        let monitor = Monitor::new(config.as_ref().clone(), now, jitter);
        Self {
            pool,
            target,
            tls,
            config: Arc::clone(config),
            monitor,
            at: now,
            probe: None,
            meter: Arc::default(),
        }
    }

    fn reconfigured(
        mut self,
        config: &Arc<MonitorConfig>,
        (target, tls): Whom,
        now: Instant,
    ) -> Self {
        if self.config != *config {
            // A running probe still answers for the member if only timers changed.
            if self.config.probe != config.probe {
                self.probe = None;
            }
            self.monitor.reconfigure(config.as_ref().clone(), now);
        }
        // Shared by all members of the pool; keeping an old equal one would keep one per member.
        self.config = Arc::clone(config);
        let sealed_alike = self.tls.as_ref().map(Arc::as_ptr) == tls.as_ref().map(Arc::as_ptr);
        self.tls = tls;
        if self.target != target || !sealed_alike {
            self.target = target;
            self.probe = None;
            self.monitor.ask_anew(now);
        }
        self
    }

    fn schedule(&mut self, key: Key, agenda: &mut BTreeSet<(Instant, Key)>) {
        if let Some(at) = self.monitor.poll_timeout() {
            self.at = at;
            agenda.insert((at, key));
        }
    }

    /// Health, and why it is bad. A member that is still up has no reason to give.
    fn health(&self) -> (MemberHealth, Option<String>) {
        let health = self.monitor.health();
        (
            health,
            self.monitor
                .reason()
                .filter(|_| health == MemberHealth::Down),
        )
    }
}

impl ProbeMeter {
    fn count(&self, done: &Done) {
        let counter = if done.outcome.is_ok() {
            &self.succeeded
        } else {
            &self.failed
        };
        counter.fetch_add(1, Relaxed);
        self.last_nanoseconds.store(
            u64::try_from(done.took.as_nanos()).unwrap_or(u64::MAX),
            Relaxed,
        );
    }
}

impl Job {
    /// What the pool offers to be spoken inside TLS.
    fn offered(&self, offer: Offer) -> &[Vec<u8>] {
        self.tls
            .as_ref()
            .map_or(&[], |connector| connector.alpn(offer))
    }

    /// Probes, for no longer than the monitor's timeout.
    pub(crate) async fn perform(self) -> Done {
        let began = tokio::time::Instant::now();
        let time = tcp::Allowance {
            until: began + self.config.timeout,
            whole: self.config.timeout,
        };
        let outcome = match &self.config.probe {
            Probe::Tcp => tcp::probe(self.target, time).await,
            Probe::Ping => ping::probe(self.target.address.ip(), time).await,
            Probe::Http(request) => match &self.tls {
                None => http::probe(self.target, request, time).await,
                Some(connector) => tls::probe_http_by(connector, self.target, request, time).await,
            },
            Probe::Https(request) => {
                let offered = self.offered(Offer::Http1);
                tls::probe_http(self.target, request, offered, time).await
            }
            Probe::TlsHello { server_name } => {
                let asked = (server_name.as_deref(), self.offered(Offer::Any));
                tls::probe(self.target, asked, time).await
            }
            Probe::UdpConnect => udp_connect::probe(self.target.address, time).await,
        };
        Done {
            key: self.key,
            number: self.number,
            outcome,
            took: began.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests;
