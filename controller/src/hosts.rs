//! Hosts other than a controller's own: let in, heard of, asked to run amphorae, drained, removed.
//!
//! Any controller takes what a host says. One of those that share a database attends to what hosts are to run; if it
//! dies, another one does within the time of a lease. Asking twice does no harm.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{
    AmphoraId, CertificateRequest, Certified, EnrolRequest, Enrolled, HostAccessLog, HostAllotment,
    HostId, HostOrder, HostReceipt, HostReport, ShownPapers,
};
use krater_controller_core::{liveness, query::AmphoraStatus};
use krater_controller_store::{
    Enrolment, HostRecord, HostState, HostToken, Newcomer, SKEW_MAX, Store, StoreError,
};
use krater_driver::{AmphoraOrder, ComputeDriver};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::{client::HostClient, compute::HostCompute};
use crate::{
    board::Board,
    cause::chain,
    chance, clock,
    dial::Dialer,
    limits::{HEARSAY_LAG_MAX, HOST_EVENTS_MAX, HOST_WRITE_INTERVAL, SWEEP_INTERVAL},
    neighbours::{Duty, Neighbours},
    pki::{
        Authority, PkiError,
        request::{Request, hexadecimal},
    },
};

mod client;
mod compute;
mod networks;

pub(crate) use self::networks::{obstacle, standing};

/// All hosts of this deployment, but for those of controllers.
pub(crate) struct Hosts {
    parts: Parts,
    hosts: RwLock<BTreeMap<HostId, Arc<Host>>>,
    /// Whether what they are to run is this controller's to attend to.
    attending: Board<bool>,
    /// Before that nobody was listened to: silence counts from then on.
    since: Timestamp,
}

/// What the registry of hosts is made of.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) neighbours: Neighbours,
    pub(crate) authority: Arc<Authority>,
    /// Reaches their agents.
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) conduct: Conduct,
    /// How long a host may be silent.
    pub(crate) silence: Duration,
    /// Where hosts may be.
    pub(crate) zones: BTreeSet<String>,
}

/// How amphorae of hosts are run.
#[derive(Clone)]
pub(crate) struct Conduct {
    /// Where they report, if that was set: else where their host does.
    pub(crate) controllers: Vec<String>,
    pub(crate) heartbeat: Duration,
    pub(crate) drain: Duration,
    pub(crate) access_log: Option<HostAccessLog>,
    /// The port at which they take tunnels.
    pub(crate) tunnel_port: u16,
}

/// One host.
pub(crate) struct Host {
    pub(crate) id: HostId,
    record: Mutex<HostRecord>,
    report: Mutex<Option<HostReport>>,
    written: Mutex<Option<Instant>>,
    /// It was given up and not heard of since: nobody waits for it.
    given_up: AtomicBool,
    /// What happened to it lately, oldest first.
    events: Mutex<VecDeque<(Timestamp, String)>>,
    client: HostClient,
}

/// What a token is to let in.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenWish {
    pub(crate) zone: Option<String>,
    pub(crate) lifetime: Option<Duration>,
    pub(crate) load_balancers_max: Option<u32>,
    pub(crate) amphorae_max: Option<u32>,
}

/// A token that was made; it is told this once.
pub(crate) struct MadeToken {
    pub(crate) token: String,
    pub(crate) zone: String,
    pub(crate) expires_at: Timestamp,
}

/// Why a host is not given what it asks for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGiven {
    /// Nobody knows the token.
    #[error("this token is not known here: make one with krater host token, at this deployment")]
    UnknownToken,
    /// It was good once.
    #[error(
        "this token let a host in already: a token is good for one; make another with krater host token"
    )]
    UsedToken,
    /// It was good for a while.
    #[error("this token ended at {0}: make another with krater host token")]
    ExpiredToken(Timestamp),
    /// It speaks what this controller does not.
    #[error(
        "the host speaks version {0} of the contract, which is newer than this controller: update the controllers first"
    )]
    TooNew(u32),
    /// The host is none of this deployment.
    #[error("this deployment has no such host: let it join with a new token")]
    UnknownHost,
    /// The host was one.
    #[error("the host was removed from this deployment")]
    Removed,
    /// The amphora is none of the host's.
    #[error("the amphora is not one of this host")]
    Foreign,
    /// What it sent is no request for a certificate.
    #[error("{}", chain(.0))]
    Certificate(PkiError),
    /// The database.
    #[error("the controller cannot reach its database: try again")]
    Store(#[from] StoreError),
}

/// Why no token is made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoToken {
    /// There is no such zone.
    #[error("there is no zone {0:?} here; there are: {1}")]
    Zone(String, String),
    /// It would last for too long.
    #[error("a token may last from one minute to one week")]
    Lifetime,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hosts {
    /// Remembers the hosts that were.
    pub(crate) async fn gather(parts: Parts) -> Result<Arc<Self>, StoreError> {
        let attending = parts.neighbours.take(Duty::Hosts).await?.is_some();
        let hosts = Self::new(parts, attending);
        hosts.learn().await?;
        Ok(hosts)
    }

    /// Without any, yet.
    pub(crate) fn new(parts: Parts, attending: bool) -> Arc<Self> {
        Arc::new(Self {
            parts,
            hosts: RwLock::default(),
            attending: Board::new(attending),
            since: clock::now(),
        })
    }

    /// Takes note of what other controllers heard, and of whose duty hosts are, until dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.parts.neighbours.may_be() {
                continue;
            }
            let looked = async {
                let taken = self.parts.neighbours.take(Duty::Hosts).await?.is_some();
                self.attending.change(|attending| {
                    let was = std::mem::replace(attending, taken);
                    was != taken
                });
                self.learn().await
            };
            if let Err(error) = looked.await {
                tracing::error!(error = %chain(&error), "hosts could not be looked up");
            }
        }
    }

    /// Makes a token that lets one host in.
    pub(crate) async fn make_token(&self, wish: TokenWish) -> Result<MadeToken, NoToken> {
        let zones = &self.parts.zones;
        let all = || zones.iter().cloned().collect::<Vec<_>>().join(", ");
        let zone = match (wish.zone, zones.first()) {
            (Some(zone), _) if zones.contains(&zone) => zone,
            (Some(zone), _) => return Err(NoToken::Zone(zone, all())),
            (None, Some(only)) if zones.len() == 1 => only.clone(),
            (None, _) => return Err(NoToken::Zone(String::new(), all())),
        };
        let lifetime = wish.lifetime.unwrap_or(TOKEN_LIFETIME);
        if !(TOKEN_LIFETIME_MIN..=TOKEN_LIFETIME_MAX).contains(&lifetime) {
            return Err(NoToken::Lifetime);
        }
        let now = clock::now();
        let expires_at = now.checked_add(lifetime).map_err(|_| NoToken::Lifetime)?;
        // Two ids have 244 random bits.
        let secret = format!(
            "{}{}",
            chance::random_uuid().simple(),
            chance::random_uuid().simple()
        );
        let token = HostToken {
            hash: hash(&secret),
            zone: zone.clone(),
            load_balancers_max: wish.load_balancers_max,
            amphorae_max: wish.amphorae_max,
            created_at: now,
            expires_at,
        };
        self.parts.store.put_host_token(&token).await?;
        Ok(MadeToken {
            token: format!("krater1.{secret}.{}", self.parts.authority.fingerprint()),
            zone,
            expires_at,
        })
    }

    /// Lets a host in, if its token says so.
    pub(crate) async fn enrol(&self, request: EnrolRequest) -> Result<Enrolled, NotGiven> {
        let EnrolRequest {
            token,
            request_pem,
            facts,
        } = request;
        if facts.contract > krater_amphora_api::ContractVersion::CURRENT {
            return Err(NotGiven::TooNew(facts.contract.0));
        }
        let request = Request::parse(&request_pem).map_err(NotGiven::Certificate)?;
        let newcomer = Newcomer {
            id: HostId::new(chance::random_uuid()),
            key_digest: request.key_digest(),
            facts,
        };
        let now = clock::now();
        let (store, hash) = (&self.parts.store, hash(&token));
        let record = match store.enrol_host(&hash, &newcomer, now).await? {
            Enrolment::Done(record) => *record,
            Enrolment::Unknown => return Err(NotGiven::UnknownToken),
            Enrolment::Used => return Err(NotGiven::UsedToken),
            Enrolment::Expired(at) => return Err(NotGiven::ExpiredToken(at)),
        };
        let authority = &self.parts.authority;
        let certificate = authority.certify_host(record.id, &request, now);
        let certificate_pem = certificate.map_err(NotGiven::Certificate)?;
        let host = record.id;
        tracing::info!(%host, name = record.facts.name, zone = record.zone, agent = record.facts.agent, "a host joined");
        self.enter(record);
        Ok(Enrolled {
            host,
            certificate_pem,
            authority_pem: authority.certificate_pem(),
            controllers: self.parts.conduct.controllers.clone(),
        })
    }

    /// Gives a host a certificate for itself or for an amphora of it; `is_its` says which are.
    pub(crate) async fn certify(
        &self,
        from: HostId,
        asked: CertificateRequest,
        is_its: impl Future<Output = Result<bool, StoreError>>,
    ) -> Result<Certified, NotGiven> {
        self.admitted(from).await?;
        let request = Request::parse(&asked.request_pem).map_err(NotGiven::Certificate)?;
        let authority = &self.parts.authority;
        let now = clock::now();
        let certificate = match asked.amphora {
            None => authority.certify_host(from, &request, now),
            Some(_) if !is_its.await? => return Err(NotGiven::Foreign),
            Some(amphora) => authority.certify_amphora(amphora, &request, now),
        };
        Ok(Certified {
            certificate_pem: certificate.map_err(NotGiven::Certificate)?,
            authority_pem: authority.certificate_pem(),
        })
    }

    /// Takes what a host says. Which of its amphorae nobody wants is for the caller to say.
    pub(crate) async fn take(&self, report: HostReport) -> Result<HostReceipt, NotGiven> {
        let host = self.admitted(report.host).await?;
        let now = clock::now();
        let is_news = {
            let mut record = lock(&host.record);
            let is_news = record.facts != report.facts || record.last_seen.is_none();
            record.facts = report.facts.clone();
            record.last_seen = Some(now);
            is_news
        };
        let facts = report.facts.clone();
        *lock(&host.report) = Some(report);
        // Often enough for other controllers, and at once after a pause: by this they tell who is lost.
        let interval = HOST_WRITE_INTERVAL.min(self.parts.silence / 5);
        let is_due = lock(&host.written).is_none_or(|at| at.elapsed() >= interval);
        if is_news || is_due {
            let begun = Instant::now();
            match self.parts.store.note_host(host.id, &facts, now).await {
                Ok(()) => *lock(&host.written) = Some(begun),
                // That costs nothing: the next one is written down.
                Err(error) => {
                    tracing::warn!(host = %host.id, error = %chain(&error), "what a host said could not be kept");
                }
            }
        }
        Ok(HostReceipt {
            authority_pem: self.parts.authority.certificate_pem(),
            controllers: self.parts.conduct.controllers.clone(),
            unwanted: Vec::new(),
        })
    }

    /// What is to become of a host. Answers whether there is such a host.
    pub(crate) async fn set_state(&self, id: HostId, state: HostState) -> Result<bool, StoreError> {
        let known = self.parts.store.set_host_state(id, state).await?;
        self.learn().await?;
        self.parts.neighbours.tell_fleet();
        Ok(known)
    }

    /// Takes note of what is in the database.
    pub(crate) async fn learn(&self) -> Result<(), StoreError> {
        let records = self.parts.store.hosts().await?;
        let there: BTreeSet<HostId> = records.iter().map(|record| record.id).collect();
        records.into_iter().for_each(|record| self.enter(record));
        // One that came in while the database was asked is not there, and stays.
        let is_over = |host: &Host| lock(&host.record).state == HostState::Removed;
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|id, host| there.contains(id) || !is_over(host));
        Ok(())
    }

    /// Those that are hosts of this deployment, oldest first.
    pub(crate) fn records(&self) -> Vec<HostRecord> {
        let mut records: Vec<HostRecord> = self.all().iter().map(|host| host.record()).collect();
        records.retain(|record| record.state != HostState::Removed);
        records.sort_by_key(|record| (record.enrolled_at, record.id));
        records
    }

    /// Whether a host is there, as it is shown: what other controllers hear comes late.
    pub(crate) fn status(&self, record: &HostRecord) -> AmphoraStatus {
        let lag = match self.parts.neighbours.may_be() {
            true => HEARSAY_LAG_MAX,
            false => Duration::ZERO,
        };
        self.judge(record, self.parts.silence + lag)
    }

    /// Whether a host is there, to the moment: right after [`Hosts::learn`].
    pub(crate) fn presence(&self, record: &HostRecord) -> AmphoraStatus {
        self.judge(record, self.parts.silence)
    }

    fn judge(&self, record: &HostRecord, silence: Duration) -> AmphoraStatus {
        // Who was never heard of is expected from the beginning on.
        let heard = record.last_seen.unwrap_or(record.enrolled_at);
        liveness::judge(Some(heard.max(self.since)), clock::now(), silence)
    }

    /// The host of this name, as amphorae are written down to be on it.
    pub(crate) fn named(&self, name: &str) -> Option<HostRecord> {
        Some(self.host(name.parse().ok()?)?.record())
    }

    /// Whether the name is a host's that this controller attends to.
    pub(crate) fn attends_to(&self, name: &str) -> bool {
        self.is_attending() && name.parse().is_ok_and(|id| self.host(id).is_some())
    }

    /// Returns when it begins or ends to be this controller's duty to attend to hosts.
    pub(crate) fn duty_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.attending.next()
    }

    /// Has the host of this name make other keys, for one of its amphorae or for itself and all; answers what they show
    /// then. The error is a sentence.
    pub(crate) async fn renew(
        &self,
        name: &str,
        amphora: Option<AmphoraId>,
    ) -> Result<Vec<ShownPapers>, String> {
        let host = self.found(name)?;
        let agent = host.record().facts.agent;
        let renewed = host.client.renew(&agent, amphora).await;
        renewed.map_err(|error| error.to_string())
    }

    /// What the host of this name and its amphorae show at present. The error is a sentence.
    pub(crate) async fn shown(&self, name: &str) -> Result<Vec<ShownPapers>, String> {
        let host = self.found(name)?;
        let agent = host.record().facts.agent;
        let shown = host.client.shown(&agent).await;
        shown.map_err(|error| error.to_string())
    }

    /// Whether it is this controller's duty to attend to hosts.
    pub(crate) fn is_attending(&self) -> bool {
        self.attending.look(|attending| *attending)
    }

    /// Waits for the host no more, until it is heard of again.
    pub(crate) fn give_up(&self, name: &str) {
        if let Some(host) = name.parse().ok().and_then(|id| self.host(id)) {
            host.given_up.store(true, Ordering::Release);
        }
    }

    /// Whether the host of this name was removed or is given up: nothing is asked of what was there any more, and what is to
    /// end there counts as ended. It is told when it shows up.
    pub(crate) fn is_over(&self, name: &str) -> bool {
        let host = name.parse().ok().and_then(|id| self.host(id));
        host.is_some_and(|host| {
            lock(&host.record).state == HostState::Removed || self.is_given_up(&host)
        })
    }

    fn is_given_up(&self, host: &Host) -> bool {
        if self.presence(&host.record()) != AmphoraStatus::Error {
            host.given_up.store(false, Ordering::Release);
        }
        host.given_up.load(Ordering::Acquire)
    }

    /// Remembers what happened to a host, for operators.
    pub(crate) fn note(&self, name: &str, what: String) {
        let Some(host) = name.parse().ok().and_then(|id| self.host(id)) else {
            return;
        };
        let mut events = lock(&host.events);
        events.push_back((clock::now(), what));
        while events.len() > HOST_EVENTS_MAX {
            events.pop_front();
        }
    }

    /// What happened to a host lately, oldest first.
    pub(crate) fn events(&self, id: HostId) -> Vec<(Timestamp, String)> {
        let host = self.host(id);
        host.map_or_else(Vec::new, |host| {
            lock(&host.events).iter().cloned().collect()
        })
    }

    /// How amphorae are run on the host of this name.
    pub(crate) fn compute(self: &Arc<Self>, name: &str) -> Option<Arc<dyn ComputeDriver>> {
        let host = self.host(name.parse().ok()?)?;
        Some(Arc::new(HostCompute::new(Arc::clone(self), host)))
    }

    /// Why an amphora does not run, as its host says, and when its certificate ends.
    pub(crate) fn hosted(
        &self,
        name: &str,
        amphora: AmphoraId,
    ) -> Option<krater_amphora_api::HostedAmphora> {
        let host = self.host(name.parse().ok()?)?;
        let report = lock(&host.report);
        let mut amphorae = report.as_ref()?.amphorae.iter();
        amphorae.find(|hosted| hosted.id == amphora).cloned()
    }

    fn order(&self, order: &AmphoraOrder) -> HostOrder {
        let conduct = &self.parts.conduct;
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        HostOrder {
            controllers: conduct.controllers.clone(),
            heartbeat_ms: milliseconds(conduct.heartbeat),
            drain_ms: milliseconds(conduct.drain),
            access_log: conduct.access_log.clone(),
            allotment: HostAllotment {
                memory_bytes: order.allotment.memory_bytes,
                cpu_percent: order.allotment.cpu_percent,
            },
            segment: order.segment.as_ref().map(|segment| {
                networks::ordered(segment, order.peers.clone(), conduct.tunnel_port)
            }),
        }
    }

    /// The host whose certificate was shown, if it is one of this deployment.
    async fn admitted(&self, id: HostId) -> Result<Arc<Host>, NotGiven> {
        if self.host(id).is_none() {
            // Another controller may have let it in just now.
            self.learn().await?;
        }
        let host = self.host(id).ok_or(NotGiven::UnknownHost)?;
        if lock(&host.record).state == HostState::Removed {
            return Err(NotGiven::Removed);
        }
        Ok(host)
    }

    /// Takes a record in, or what is new about it. When it cannot have been heard of yet, that was noted by a clock that
    /// was ahead, and nobody can tell when it was.
    fn enter(&self, mut found: HostRecord) {
        let now = clock::now();
        let latest = now.checked_add(SKEW_MAX).unwrap_or(now);
        found.last_seen = found.last_seen.filter(|at| *at <= latest);
        let mut hosts = self.hosts.write().unwrap_or_else(PoisonError::into_inner);
        match hosts.get(&found.id) {
            Some(host) => {
                let mut record = lock(&host.record);
                if record.last_seen > found.last_seen {
                    let (facts, last_seen) = (record.facts.clone(), record.last_seen);
                    *record = HostRecord {
                        facts,
                        last_seen,
                        ..found
                    };
                } else {
                    *record = found;
                }
            }
            None => {
                let client = HostClient::new(found.id, Arc::clone(&self.parts.dialer));
                let host = Host {
                    id: found.id,
                    record: Mutex::new(found),
                    report: Mutex::default(),
                    written: Mutex::default(),
                    given_up: AtomicBool::new(false),
                    events: Mutex::default(),
                    client,
                };
                hosts.insert(host.id, Arc::new(host));
            }
        }
    }

    fn found(&self, name: &str) -> Result<Arc<Host>, String> {
        let host = name.parse().ok().and_then(|id| self.host(id));
        host.ok_or_else(|| format!("there is no host {name}"))
    }

    fn host(&self, id: HostId) -> Option<Arc<Host>> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.get(&id).cloned()
    }

    fn all(&self) -> Vec<Arc<Host>> {
        let hosts = self.hosts.read().unwrap_or_else(PoisonError::into_inner);
        hosts.values().cloned().collect()
    }
}

impl Host {
    /// As it is known. One that was heard of by a clock that was set back since counts as heard of now.
    fn record(&self) -> HostRecord {
        let mut record = lock(&self.record);
        record.last_seen = record.last_seen.map(|at| at.min(clock::now()));
        record.clone()
    }
}

/// What is kept of a token's secret.
fn hash(secret: &str) -> String {
    hexadecimal(&Sha256::digest(secret.as_bytes()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Long enough to log in to a machine and paste it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);
const TOKEN_LIFETIME_MIN: Duration = Duration::from_secs(60);
const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests;
