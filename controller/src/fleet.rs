//! The amphorae: decided on, started, found again, connected to, and let go.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use krater_amphora_api::{
    AmphoraId, Applied, BootId, Generation, LoadBalancerId, Report, SnapshotSpec,
};
use krater_controller_core::{
    place::Candidate,
    plan::Agent,
    query::{AmphoraStatus, AmphoraView},
    retry,
};
use krater_controller_store::{AmphoraRecord, StoreError};
use krater_driver::{AmphoraOrder, ComputeDriver};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};

use crate::{
    amphora_client::{AgentError, AmphoraClient},
    cause::chain,
    chance, clock,
    knowledge::Knowledge,
    pki::{Authority, tls::Credentials},
    reconcile::Agents,
};

/// All amphorae of this deployment.
pub(crate) struct Fleet {
    parts: Parts,
    amphorae: RwLock<BTreeMap<AmphoraId, Arc<Amphora>>>,
}

/// What a fleet is made of.
pub(crate) struct Parts {
    pub(crate) known: Knowledge,
    pub(crate) compute: Arc<dyn ComputeDriver>,
    /// Changes when something that the compute driver started died.
    pub(crate) deaths: watch::Receiver<u64>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) credentials: Arc<Credentials>,
    /// Where amphorae send their reports, `host:port`.
    pub(crate) controllers: Vec<String>,
    /// How long an amphora may be silent.
    pub(crate) silence: Duration,
    /// Takes the reports of amphorae that were just connected to.
    pub(crate) reports: mpsc::Sender<Report>,
}

struct Amphora {
    record: Mutex<AmphoraRecord>,
    client: AmphoraClient,
    /// One at a time asks the compute driver about it.
    ensuring: tokio::sync::Mutex<()>,
    /// Why it could not be started, while that is so.
    trouble: Mutex<Option<String>>,
}

impl Fleet {
    /// Remembers the amphorae that were, decides on new ones until there are `wanted`, and lets go of those beyond
    /// that carry nothing. None is started yet.
    pub(crate) async fn gather(parts: Parts, wanted: usize) -> Result<Self, StoreError> {
        let mut records = parts.known.store.amphorae().await?;
        while records.len() < wanted {
            let id = AmphoraId::new(chance::random_uuid());
            let record = AmphoraRecord {
                id,
                created_at: clock::now(),
                agent: None,
                metrics: None,
                boot: None,
                version: None,
                pid: None,
                last_seen: None,
            };
            parts.known.store.put_amphora(&record).await?;
            records.push(record);
        }
        while records.len() > wanted
            && let Some(spare) = records
                .iter()
                .rposition(|record| parts.known.placements.count(record.id) == 0)
        {
            let record = records.remove(spare);
            parts.dismiss(record.id).await?;
        }
        let mut amphorae = BTreeMap::new();
        for record in records {
            parts
                .known
                .sightings
                .expect(record.id, record.boot, clock::now());
            parts
                .known
                .sightings
                .restore(parts.known.store.tallies_of(record.id).await?);
            let client = AmphoraClient::start(
                record.id,
                Arc::clone(&parts.credentials),
                parts.reports.clone(),
            );
            // Where it was before it is most likely still; a stranger there cannot show its certificate.
            if let Some(agent) = record.agent.as_deref().and_then(|agent| agent.parse().ok()) {
                client.direct(agent);
            }
            let amphora = Amphora {
                record: Mutex::new(record.clone()),
                client,
                ensuring: tokio::sync::Mutex::new(()),
                trouble: Mutex::new(None),
            };
            amphorae.insert(record.id, Arc::new(amphora));
        }
        Ok(Self {
            parts,
            amphorae: RwLock::new(amphorae),
        })
    }

    /// Keeps all amphorae running, until dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut keepers = JoinSet::new();
        for id in self.ids() {
            let fleet = Arc::clone(&self);
            keepers.spawn(async move { fleet.keep_one(id).await });
        }
        while keepers.join_next().await.is_some() {}
    }

    /// The amphorae, in the order of their ids.
    pub(crate) fn ids(&self) -> Vec<AmphoraId> {
        self.amphorae
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .keys()
            .copied()
            .collect()
    }

    /// Whether the amphora is one of ours.
    pub(crate) fn has(&self, id: AmphoraId) -> bool {
        self.amphora(id).is_some()
    }

    /// Whether the amphora is there.
    pub(crate) fn status(&self, id: AmphoraId) -> AmphoraStatus {
        self.parts
            .known
            .sightings
            .status(id, clock::now(), self.parts.silence)
    }

    /// Why the amphora could not be started, while that is so.
    pub(crate) fn trouble(&self, id: AmphoraId) -> Option<String> {
        lock(&self.amphora(id)?.trouble).clone()
    }

    /// Returns when the amphora is connected.
    pub(crate) async fn reached(&self, id: AmphoraId) {
        match self.amphora(id) {
            Some(amphora) => amphora.client.reachable().await,
            None => std::future::pending().await,
        }
    }

    /// Whether the amphora is connected.
    pub(crate) fn is_reached(&self, id: AmphoraId) -> bool {
        self.boot(id).is_some()
    }

    /// Writes down what a report of an amphora said of it.
    pub(crate) async fn remember(&self, id: AmphoraId) -> Result<(), StoreError> {
        let Some(amphora) = self.amphora(id) else {
            return Ok(());
        };
        let portrait = self.parts.known.sightings.portrait(id);
        let record = {
            let mut record = lock(&amphora.record);
            if let Some(info) = portrait.info {
                record.boot = Some(info.boot);
                record.version = Some(info.version);
                record.pid = Some(info.pid);
            }
            record.last_seen = portrait.last_seen.or(record.last_seen);
            record.clone()
        };
        self.parts.known.store.put_amphora(&record).await
    }

    /// Ends all amphorae but keeps what they need to resume.
    pub(crate) async fn stop_all(&self) -> Result<(), krater_driver::DriverError> {
        self.parts.compute.stop_all().await
    }

    async fn keep_one(&self, id: AmphoraId) {
        let Some(amphora) = self.amphora(id) else {
            return;
        };
        let mut attempts = 0;
        let mut deaths = self.parts.deaths.clone();
        loop {
            deaths.mark_unchanged();
            match self.start(id, &amphora).await {
                Ok(()) => {
                    attempts = 0;
                    tokio::select! {
                        () = lost(&amphora.client) => {}
                        Ok(()) = deaths.changed() => {}
                        () = sleep(IDENTITY_CHECK_INTERVAL) => {}
                    }
                }
                Err(_) => {
                    attempts += 1;
                    sleep(retry::backoff(attempts)).await;
                }
            }
        }
    }

    /// Has the compute driver start or find the amphora.
    async fn start(&self, id: AmphoraId, amphora: &Amphora) -> Result<(), String> {
        let _alone = amphora.ensuring.lock().await;
        let started = self.order(id, amphora).await;
        let mut trouble = lock(&amphora.trouble);
        match &started {
            Ok(()) => *trouble = None,
            Err(reason) if trouble.as_ref() != Some(reason) => {
                tracing::error!(amphora = %id, %reason, "amphora cannot be started; it is tried again");
                *trouble = Some(reason.clone());
            }
            Err(_) => {}
        }
        started
    }

    async fn order(&self, id: AmphoraId, amphora: &Amphora) -> Result<(), String> {
        let now = clock::now();
        let authority = &self.parts.authority;
        self.parts
            .credentials
            .renew(authority, now)
            .map_err(|error| chain(&error))?;
        let identity = authority.amphora(id, now).map_err(|error| chain(&error))?;
        let order = AmphoraOrder {
            id,
            authority_pem: authority.certificate_pem().to_owned(),
            certificate_pem: identity.certificate_pem,
            key_pem: identity.key_pem,
            controllers: self.parts.controllers.clone(),
        };
        let endpoint = self
            .parts
            .compute
            .ensure(order)
            .await
            .map_err(|error| chain(&error))?;
        amphora.client.direct(endpoint.agent);
        let (agent, metrics) = (
            endpoint.agent.to_string(),
            endpoint.metrics.map(|metrics| metrics.to_string()),
        );
        let moved = {
            let mut record = lock(&amphora.record);
            let moved = record.agent.as_ref() != Some(&agent) || record.metrics != metrics;
            (record.agent, record.metrics) = (Some(agent), metrics);
            moved.then(|| record.clone())
        };
        match moved {
            Some(record) => self
                .parts
                .known
                .store
                .put_amphora(&record)
                .await
                .map_err(|error| chain(&error)),
            None => Ok(()),
        }
    }

    fn amphora(&self, id: AmphoraId) -> Option<Arc<Amphora>> {
        self.amphorae
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }
}

impl Parts {
    async fn dismiss(&self, id: AmphoraId) -> Result<(), StoreError> {
        if let Err(error) = self.compute.release(id).await {
            // It stays on record: the next start tries again.
            tracing::warn!(amphora = %id, error = %chain(&error), "a spare amphora could not be ended");
            return Ok(());
        }
        self.known.store.forget_amphora(id).await?;
        if let Err(error) = self.authority.forget(id) {
            tracing::warn!(amphora = %id, error = %chain(&error), "the key of a former amphora could not be removed");
        }
        tracing::info!(amphora = %id, "amphora ended: it was one too many and carried nothing");
        Ok(())
    }
}

#[async_trait]
impl Agents for Fleet {
    async fn ensure(&self, amphora: AmphoraId) -> Result<(), String> {
        match self.amphora(amphora) {
            Some(found) => self.start(amphora, &found).await,
            None => Err("it is not an amphora of this controller any more".to_owned()),
        }
    }

    async fn push(&self, amphora: AmphoraId, spec: &SnapshotSpec) -> Result<Applied, AgentError> {
        let Some(found) = self.amphora(amphora) else {
            return Err(unknown());
        };
        let trouble = lock(&found.trouble).clone();
        match (found.client.push(spec).await, trouble) {
            // Why it is not there tells more than that it is not.
            (Err(AgentError::Unreachable(_)), Some(trouble)) => {
                Err(AgentError::Unreachable(trouble))
            }
            (outcome, _) => outcome,
        }
    }

    async fn remove(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
        as_of: Generation,
    ) -> Result<(), AgentError> {
        // What is not there holds nothing.
        let Some(found) = self.amphora(amphora) else {
            return Ok(());
        };
        match found.client.remove(id, as_of).await {
            // It is not wanted there at any generation: the database may be older than the amphora.
            Err(AgentError::Holds(held)) => found.client.remove(id, held).await,
            other => other,
        }
    }

    async fn reachable(&self, amphora: AmphoraId) {
        self.reached(amphora).await;
    }

    fn boot(&self, amphora: AmphoraId) -> Option<BootId> {
        self.amphora(amphora)?.client.boot()
    }

    fn agent(&self, amphora: AmphoraId) -> Agent {
        let known = self
            .amphora(amphora)
            .is_some_and(|found| lock(&found.record).agent.is_some());
        if known { Agent::Known } else { Agent::Unknown }
    }

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |amphora| Candidate {
            amphora,
            load: self.parts.known.placements.count(amphora),
            status: if self.is_reached(amphora) {
                AmphoraStatus::Allocated
            } else {
                self.status(amphora)
            },
        };
        self.ids().into_iter().map(candidate).collect()
    }

    fn is_silent(&self, amphora: AmphoraId) -> bool {
        self.status(amphora) == AmphoraStatus::Error
    }

    fn views(&self, behind: &dyn Fn(AmphoraId) -> u64) -> Vec<AmphoraView> {
        let ids = self.ids();
        let view = |id: AmphoraId| {
            let amphora = self.amphora(id)?;
            let record = lock(&amphora.record).clone();
            let portrait = self.parts.known.sightings.portrait(id);
            Some(AmphoraView {
                id,
                agent: record.agent.clone().unwrap_or_default(),
                status: self.status(id),
                last_seen: portrait
                    .last_seen
                    .filter(|_| portrait.info.is_some())
                    .or(record.last_seen),
                version: portrait
                    .info
                    .as_ref()
                    .map(|info| info.version.clone())
                    .or(record.version),
                pid: portrait.info.as_ref().map(|info| info.pid).or(record.pid),
                metrics: metrics_url(
                    record.metrics.as_deref(),
                    record.agent.as_deref(),
                    portrait.metrics_port,
                ),
                load_balancers: self.parts.known.placements.count(id),
                behind: behind(id),
            })
        };
        ids.into_iter().filter_map(view).collect()
    }
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

fn unknown() -> AgentError {
    AgentError::Unreachable("it is not an amphora of this controller any more".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const LOST_AFTER: Duration = Duration::from_secs(1);
/// How often it is checked whether certificates are due: far more often than a third of their lifetime.
const IDENTITY_CHECK_INTERVAL: Duration = Duration::from_secs(3_600);
