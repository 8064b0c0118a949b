//! One amphora: kept running while it is to be there, ended and forgotten when it is not.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, LoadBalancerId};
use krater_controller_core::{
    model::{self, Tenancy},
    query::{AmphoraStatus, AmphoraView, ResourceId},
    retry,
};
use krater_controller_store::{AmphoraRecord, Fate, Heard, StoreError};
use krater_driver::{Allotment, AmphoraIdentity, AmphoraOrder, Segment};
use tokio::{
    sync::{Notify, SemaphorePermit, watch},
    time::{Instant, sleep},
};

use super::{Parts, lock};
use crate::{amphora_client::AmphoraClient, cause::chain, clock};

pub(super) struct Amphora {
    pub(super) id: AmphoraId,
    pub(super) client: AmphoraClient,
    record: Mutex<AmphoraRecord>,
    /// One at a time asks the compute driver about it.
    ensuring: tokio::sync::Mutex<()>,
    /// Why it could not be started, while that is so.
    trouble: Mutex<Option<String>>,
    /// The load balancer that has it to itself, and what it may take of its host for that, as it was looked up last.
    allotment: Mutex<Option<(LoadBalancerId, Allotment)>>,
    /// Where else its network is.
    peers: Mutex<Vec<IpAddr>>,
    /// Told when it is to be looked at again now.
    anew: Notify,
    /// Its certificate, as far as known.
    certified_until: Mutex<Option<Timestamp>>,
    renewing: AtomicBool,
    /// It carries nothing and is to go: nobody starts it any more.
    ending: watch::Sender<bool>,
    /// Since when it has carried nothing though it could.
    pub(super) idle_since: Mutex<Option<Instant>>,
    /// When what it carries was last made to be looked at since it is to go.
    pub(super) urged: Mutex<Option<Instant>>,
}

impl Amphora {
    /// The amphora of a record. Nothing is started.
    pub(super) fn of(record: AmphoraRecord, parts: &Parts) -> Arc<Self> {
        let dialer = Arc::clone(&parts.dialer);
        Arc::new(Self {
            id: record.id,
            client: AmphoraClient::start(record.id, dialer, parts.reports.clone()),
            record: Mutex::new(record),
            ensuring: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            allotment: Mutex::default(),
            peers: Mutex::default(),
            anew: Notify::new(),
            certified_until: Mutex::default(),
            renewing: AtomicBool::new(false),
            ending: watch::Sender::new(false),
            idle_since: Mutex::default(),
            urged: Mutex::default(),
        })
    }

    /// [`Amphora::of`] for one that was there before: where it was it is most likely still, and a stranger there cannot
    /// show its certificate.
    pub(super) fn found(record: AmphoraRecord, parts: &Parts) -> Arc<Self> {
        let agent = record.agent.clone();
        let amphora = Self::of(record, parts);
        if let Some(agent) = agent.and_then(|agent| agent.parse().ok()) {
            amphora.client.direct(agent);
        }
        amphora
    }

    /// Takes what another controller wrote down of it.
    pub(super) fn learn(&self, found: AmphoraRecord, parts: &Parts) {
        let agent = found.agent.as_ref().and_then(|agent| agent.parse().ok());
        {
            let mut record = lock(&self.record);
            // What is to go stays so, whatever was read at the same moment.
            if found.fate == Fate::Retires {
                record.fate = Fate::Retires;
            }
            if parts.attends_to(&found.host) && record.agent.is_some() {
                // Where it is this controller knows best.
                return;
            }
            let fate = record.fate;
            *record = AmphoraRecord { fate, ..found };
        }
        if let Some(agent) = agent {
            self.client.direct(agent);
        }
    }

    /// Whether it is this controller's to start and end: it is of its host, or of one that it attends to.
    pub(super) fn is_attended(&self, parts: &Parts) -> bool {
        parts.attends_to(&lock(&self.record).host)
    }

    /// Keeps it running until it is to go and is forgotten, or until another controller attends to it.
    pub(super) async fn keep(&self, parts: &Parts) -> Kept {
        let mut attempts = 0;
        let mut deaths = parts.deaths.clone();
        let mut ending = self.ending.subscribe();
        while !*ending.borrow_and_update() {
            let handed_over = parts.hosts.duty_changed();
            if !self.is_attended(parts) {
                return Kept::HandedOver;
            }
            deaths.mark_unchanged();
            let pause = async {
                if self.start(parts).await.is_ok() {
                    attempts = 0;
                    tokio::select! {
                        biased;
                        () = lost(&self.client) => {}
                        Ok(()) = deaths.changed() => {}
                        () = self.anew.notified() => {}
                        () = sleep(IDENTITY_CHECK_INTERVAL) => {}
                    }
                } else {
                    attempts += 1;
                    sleep(retry::backoff(attempts)).await;
                }
            };
            tokio::select! {
                biased;
                () = pause => {}
                Ok(()) = ending.changed() => {}
                () = handed_over => {}
            }
        }
        self.end(parts).await;
        Kept::Ended
    }

    /// Has the compute driver start or find it.
    pub(super) async fn start(&self, parts: &Parts) -> Result<(), String> {
        let _alone = self.ensuring.lock().await;
        let _turn = self.turn(parts).await;
        if *self.ending.borrow() {
            return Err("it is being ended".to_owned());
        }
        let started = self.order(parts).await;
        let mut trouble = lock(&self.trouble);
        match &started {
            Ok(()) => *trouble = None,
            Err(reason) if trouble.as_ref() != Some(reason) => {
                tracing::error!(amphora = %self.id, %reason, "amphora cannot be started; it is tried again");
                *trouble = Some(reason.clone());
            }
            Err(_) => {}
        }
        started
    }

    /// Its turn among those that this host is asked to start: hundreds at once would keep the processors from whoever
    /// waits for the database. Other hosts start their own.
    async fn turn<'a>(&self, parts: &'a Parts) -> Option<SemaphorePermit<'a>> {
        if lock(&self.record).host != parts.host {
            return None;
        }
        // Nobody closes it.
        parts.starts.acquire().await.ok()
    }

    /// Gives it a new certificate though the old one is still good.
    pub(super) async fn renew(&self, parts: &Parts) -> Result<(), String> {
        self.renewing.store(true, Ordering::Release);
        let host = lock(&self.record).host.clone();
        let renewed = if host == parts.host {
            match parts.authority.forget(self.id) {
                Ok(()) => self.start(parts).await,
                Err(error) => Err(chain(&error)),
            }
        } else {
            parts.hosts.renew(&host, Some(self.id)).await.map(drop)
        };
        self.renewing.store(false, Ordering::Release);
        renewed
    }

    /// Takes note of what was heard of it.
    pub(super) fn note_heard(&self, heard: &Heard) {
        let mut record = lock(&self.record);
        record.last_seen = record.last_seen.max(Some(heard.at));
        if let Some((boot, version, pid)) = heard.run.clone() {
            if record.boot != Some(boot) {
                record.updated_at = Some(heard.at);
            }
            (record.boot, record.version, record.pid) = (Some(boot), Some(version), Some(pid));
        }
    }

    /// Writes down that it is to go.
    pub(super) async fn note_retiring(&self, parts: &Parts) -> Result<(), StoreError> {
        let now = clock::now();
        parts.known.store.note_retiring(self.id, now).await?;
        let mut record = lock(&self.record);
        (record.fate, record.updated_at) = (Fate::Retires, Some(now));
        parts.known.neighbours.tell_fleet();
        Ok(())
    }

    /// Has it ended: it is to go and carries nothing any more.
    pub(super) fn let_end(&self) {
        self.ending.send_if_modified(|ending| {
            let was = *ending;
            *ending = true;
            !was
        });
    }

    /// Has it looked at again now: what it carries is another one's.
    pub(super) fn look_again(&self) {
        self.anew.notify_one();
    }

    /// Takes note of where else its network is.
    pub(super) fn note_peers(&self, peers: &[IpAddr]) {
        let mut known = lock(&self.peers);
        if *known != peers {
            *known = peers.to_vec();
            self.look_again();
        }
    }

    /// Where else its network is, as far as noted.
    #[cfg(test)]
    pub(super) fn peers(&self) -> Vec<IpAddr> {
        lock(&self.peers).clone()
    }

    /// Whether [`Amphora::let_end`] was said.
    pub(super) fn may_end(&self) -> bool {
        *self.ending.borrow()
    }

    pub(super) fn record(&self) -> AmphoraRecord {
        lock(&self.record).clone()
    }

    pub(super) fn is_retiring(&self) -> bool {
        lock(&self.record).fate == Fate::Retires
    }

    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    pub(super) fn view(&self, parts: &Parts, status: AmphoraStatus, behind: u64) -> AmphoraView {
        let record = self.record();
        let portrait = parts.known.sightings.portrait(self.id);
        let info = portrait.info.as_ref();
        AmphoraView {
            id: self.id,
            agent: record.agent.clone().unwrap_or_default(),
            status,
            last_seen: portrait
                .last_seen
                .filter(|_| info.is_some())
                .or(record.last_seen),
            version: info.map(|info| info.version.clone()).or(record.version),
            pid: info.map(|info| info.pid).or(record.pid),
            metrics: metrics_url(
                record.metrics.as_deref(),
                record.agent.as_deref(),
                portrait.metrics_port,
            ),
            load_balancers: parts.known.placements.on(self.id),
            projects: Vec::new(),
            behind,
            zone: record.zone,
            tenancy: record.tenancy,
            created_at: record.created_at,
            updated_at: record.updated_at,
            certified_until: self.certified_until(parts),
            is_renewing: self.renewing.load(Ordering::Acquire),
            turn: None,
            recent_failures: parts.known.sightings.failures_of(self.id, clock::now()),
        }
    }

    fn certified_until(&self, parts: &Parts) -> Option<Timestamp> {
        let host = lock(&self.record).host.clone();
        match parts.hosts.hosted(&host, self.id) {
            Some(hosted) => Timestamp::from_second(hosted.certified_until?).ok(),
            None => *lock(&self.certified_until),
        }
    }

    async fn order(&self, parts: &Parts) -> Result<(), String> {
        let now = clock::now();
        let authority = &parts.authority;
        parts
            .credentials
            .renew(authority, now)
            .map_err(|error| chain(&error))?;
        let host = lock(&self.record).host.clone();
        let identity = if host == parts.host {
            let identity = authority.amphora(self.id, now);
            let identity = identity.map_err(|error| chain(&error))?;
            *lock(&self.certified_until) = Some(identity.not_after);
            Some(AmphoraIdentity {
                certificate_pem: identity.certificate_pem,
                key_pem: identity.key_pem,
            })
        } else {
            None
        };
        let peers = lock(&self.peers).clone();
        let order = AmphoraOrder {
            id: self.id,
            authority_pem: authority.certificate_pem(),
            identity,
            controllers: parts.controllers.clone(),
            segment: self.segment(parts)?,
            peers,
            allotment: self.allotment(parts).await?,
        };
        let endpoint = parts
            .compute(&host)?
            .ensure(order)
            .await
            .map_err(|error| chain(&error))?;
        self.client.direct(endpoint.agent);
        let (agent, metrics) = (
            endpoint.agent.to_string(),
            endpoint.metrics.map(|metrics| metrics.to_string()),
        );
        let moved = {
            let mut record = lock(&self.record);
            let moved = record.agent.as_ref() != Some(&agent) || record.metrics != metrics;
            (record.agent, record.metrics) = (Some(agent), metrics);
            if moved {
                record.updated_at = Some(now);
            }
            moved.then(|| record.clone())
        };
        match moved {
            Some(record) => parts
                .known
                .store
                .put_amphora(&record)
                .await
                .map_err(|error| chain(&error)),
            None => Ok(()),
        }
    }

    /// The network that it lives on.
    fn segment(&self, parts: &Parts) -> Result<Option<Arc<Segment>>, String> {
        let Some(id) = lock(&self.record).network else {
            return Ok(None);
        };
        match parts.segments.get(&id) {
            Some(segment) => Ok(Some(Arc::clone(segment))),
            None => Err(format!(
                "the network {id} that it lives on is not in the settings any more"
            )),
        }
    }

    /// What it may take of its host, as the flavor says of the load balancer that has it to itself, or that is leaving
    /// it. A load balancer keeps what its flavor said when it was made: it is looked up once.
    async fn allotment(&self, parts: &Parts) -> Result<Allotment, String> {
        if lock(&self.record).tenancy != Tenancy::Dedicated {
            return Ok(Allotment::default());
        }
        let known = *lock(&self.allotment);
        let before = known.map_or_else(Allotment::default, |(_, allotment)| allotment);
        let only = match parts.known.placements.on_or_leaving(self.id) {
            Some(only) if known.is_none_or(|(of, _)| of != only) => only,
            _ => return Ok(before),
        };
        let store = &parts.known.store;
        let found = store.view(ResourceId::LoadBalancer(only)).await;
        let Some(view) = found.map_err(|error| chain(&error))? else {
            return Ok(before);
        };
        let model::Allotment {
            memory_mib,
            cpu_percent,
        } = view.tree.load_balancer.value.steering.allotment;
        let allotment = Allotment {
            memory_bytes: memory_mib.map(|mib| u64::from(mib) << 20),
            cpu_percent,
        };
        *lock(&self.allotment) = Some((only, allotment));
        Ok(allotment)
    }

    /// Ends it and forgets it, however often it takes. The record goes last: what dies before that is done again.
    async fn end(&self, parts: &Parts) {
        let _alone = self.ensuring.lock().await;
        let mut attempts = 0;
        while let Err(reason) = self.try_end(parts).await {
            tracing::warn!(amphora = %self.id, %reason, "an amphora that is to go could not be ended; it is tried again");
            attempts += 1;
            sleep(retry::backoff(attempts)).await;
        }
        if let Err(error) = parts.authority.forget(self.id) {
            tracing::warn!(amphora = %self.id, error = %chain(&error), "the key of a former amphora could not be removed");
        }
        tracing::info!(amphora = %self.id, "amphora ended: it was to go and carried nothing any more");
    }

    async fn try_end(&self, parts: &Parts) -> Result<(), String> {
        let host = lock(&self.record).host.clone();
        let released = parts.compute(&host)?.release(self.id).await;
        released.map_err(|error| chain(&error))?;
        let forgotten = parts.known.store.forget_amphora(self.id).await;
        forgotten.map_err(|error| chain(&error))
    }
}

/// Why an amphora is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It has ended and is forgotten.
    Ended,
    /// Another controller attends to it.
    HandedOver,
}

/// Returns when there has been no connection for a while: longer than a restart by its own supervisor takes.
async fn lost(client: &AmphoraClient) {
    loop {
        let changed = client.changes();
        if client.boot().is_some() {
            changed.await;
            continue;
        }
        tokio::select! {
            biased;
            () = client.reachable() => {}
            () = sleep(LOST_AFTER) => return,
        }
    }
}

fn metrics_url(
    metrics: Option<&str>,
    agent: Option<&str>,
    reported_port: Option<u16>,
) -> Option<String> {
    if let Some(metrics) = metrics {
        return Some(format!("http://{metrics}/metrics"));
    }
    let (host, _) = agent?.rsplit_once(':')?;
    Some(format!("http://{host}:{}/metrics", reported_port?))
}

const LOST_AFTER: Duration = Duration::from_secs(1);
/// How often it is checked whether certificates are due: far more often than a third of their lifetime.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
