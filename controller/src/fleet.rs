//! The amphorae: decided on, started, found again, connected to, and let go.
//!
//! Each is on record before it is started, and until it has ended: whatever moment the controller dies at, the next
//! one keeps or ends it.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use krater_amphora_api::{
    AmphoraId, Applied, BootId, Generation, LoadBalancerId, Report, SnapshotSpec,
};
use krater_controller_core::{
    model::{Seat, Steering},
    plan::Agent,
    query::{AmphoraStatus, AmphoraView},
    repair::Sight,
};
use krater_controller_store::StoreError;
use krater_driver::{ComputeDriver, Segment};
use tokio::{
    sync::{Notify, Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use uuid::Uuid;

use self::amphora::{Amphora, Kept};
use crate::{
    amphora_client::{AgentError, Departure},
    cause::chain,
    clock,
    config::Zone,
    dial::Dialer,
    hosts::Hosts,
    knowledge::Knowledge,
    limits::SWEEP_INTERVAL,
    pki::{Authority, tls::Credentials},
    realm,
    reconcile::{Agents, Placed},
};

mod amphora;
mod orphans;
mod population;
mod spread;

pub(crate) use self::spread::Underlay;

/// All amphorae of this deployment.
pub(crate) struct Fleet {
    parts: Parts,
    amphorae: RwLock<BTreeMap<AmphoraId, Arc<Amphora>>>,
    /// Who is to be there, and who carries what, is decided by one at a time.
    deciding: tokio::sync::Mutex<()>,
    /// Somebody is to be kept, or to go.
    changed: Notify,
}

/// What a fleet is made of.
pub(crate) struct Parts {
    pub(crate) known: Knowledge,
    /// What runs amphorae on this host.
    pub(crate) compute: Arc<dyn ComputeDriver>,
    /// The hosts that have agents.
    pub(crate) hosts: Arc<Hosts>,
    /// Whether amphorae are to be on this host.
    pub(crate) here: Here,
    /// Changes when something that the compute driver started died.
    pub(crate) deaths: watch::Receiver<u64>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) credentials: Arc<Credentials>,
    /// Reaches the agents.
    pub(crate) dialer: Arc<dyn Dialer>,
    /// Where amphorae send their reports, `host:port`.
    pub(crate) controllers: Vec<String>,
    /// How long an amphora may be silent.
    pub(crate) silence: Duration,
    /// Takes the reports of amphorae that were just connected to.
    pub(crate) reports: mpsc::Sender<Report>,
    /// Where amphorae are, and how many shared ones are kept there.
    pub(crate) zones: Vec<Zone>,
    /// The most amphorae.
    pub(crate) amphorae_max: usize,
    /// The most load balancers on a shared amphora.
    pub(crate) load_balancers_max: u32,
    /// Which amphorae are this controller's to start and end, those of other hosts aside.
    pub(crate) host: String,
    /// The networks that load balancers live on, where those are not their hosts'.
    pub(crate) segments: BTreeMap<Uuid, Arc<Segment>>,
    /// Where tunnels reach hosts.
    pub(crate) underlay: Underlay,
    /// How many the controller's own host is asked to start at once.
    pub(crate) starts: Semaphore,
}

/// Whether amphorae are to be on the controller's own host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Here {
    /// They are.
    Wanted,
    /// Those that are there are to go.
    Unwanted,
}

impl Parts {
    /// Whether amphorae of the host are this controller's to start and end.
    fn attends_to(&self, host: &str) -> bool {
        host == self.host || self.hosts.attends_to(host)
    }

    /// What runs amphorae on the host.
    fn compute(&self, host: &str) -> Result<Arc<dyn ComputeDriver>, String> {
        if host == self.host {
            return Ok(Arc::clone(&self.compute));
        }
        let compute = self.hosts.compute(host);
        compute.ok_or_else(|| format!("there is no host {host}"))
    }
}

impl Fleet {
    /// Remembers the amphorae that were, decides on new ones until there are as many as are wanted, and on the end of
    /// those beyond that carry nothing. None is started or ended yet.
    pub(crate) async fn gather(parts: Parts) -> Result<Self, StoreError> {
        let records = parts.known.store.amphorae().await?;
        let mut amphorae = BTreeMap::new();
        for record in records {
            let sightings = &parts.known.sightings;
            sightings.expect(record.id, record.boot, clock::now());
            amphorae.insert(record.id, Amphora::found(record, &parts));
        }
        // Of those that are no more too: totals never fall (I11).
        parts
            .known
            .sightings
            .restore(parts.known.store.all_tallies().await?);
        let fleet = Self {
            parts,
            amphorae: RwLock::new(amphorae),
            deciding: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        };
        fleet.tend(population::Spares::EndNow).await?;
        Ok(fleet)
    }

    /// Keeps all amphorae running that are to be there, and ends the others, until dropped.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut keepers = JoinSet::new();
        let mut kept = HashSet::new();
        let mut ticks = interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            for (id, amphora) in self.all() {
                if amphora.is_attended(&self.parts) && kept.insert(id) {
                    let fleet = Arc::clone(&self);
                    keepers.spawn(realm::inherit(realm::present(), async move {
                        if amphora.keep(&fleet.parts).await == Kept::Ended {
                            fleet.strike_out(id);
                        }
                        id
                    }));
                }
            }
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                () = self.changed.notified() => {}
                Some(Ok(gone)) = keepers.join_next(), if !keepers.is_empty() => {
                    kept.remove(&gone);
                }
            }
            let tended = async {
                self.sync().await?;
                self.tend(population::Spares::EndAfterAWhile).await
            };
            if let Err(error) = tended.await {
                self.parts.known.metrics.store_errors.inc();
                tracing::error!(error = %chain(&error), "the fleet could not be tended");
            }
        }
    }

    /// Takes note of what other controllers did to the fleet and heard of it.
    pub(crate) async fn sync(&self) -> Result<(), StoreError> {
        if !self.parts.known.neighbours.may_be() {
            return Ok(());
        }
        let records = self.parts.known.store.amphorae().await?;
        let there: HashSet<AmphoraId> = records.iter().map(|record| record.id).collect();
        for record in records {
            let (id, last_seen) = (record.id, record.last_seen);
            match self.amphora(id) {
                Some(amphora) => amphora.learn(record, &self.parts),
                None => {
                    self.enter(Amphora::found(record, &self.parts));
                    self.changed.notify_one();
                }
            }
            let sightings = &self.parts.known.sightings;
            sightings.note_hearsay(id, last_seen, clock::now());
        }
        for (id, amphora) in self.all() {
            // Those of this controller go when they have ended, and a new one may be younger than what was read.
            if !there.contains(&id) && !amphora.is_attended(&self.parts) {
                self.strike_out(id);
            }
        }
        Ok(())
    }

    /// The hosts that have agents.
    #[cfg(test)]
    pub(crate) fn hosts(&self) -> Arc<Hosts> {
        Arc::clone(&self.parts.hosts)
    }

    /// The amphorae, in the order of their ids.
    pub(crate) fn ids(&self) -> Vec<AmphoraId> {
        self.all().into_iter().map(|(id, _)| id).collect()
    }

    /// Those that are not to go.
    pub(crate) fn staying(&self) -> Vec<AmphoraId> {
        let all = self.all().into_iter();
        all.filter(|(_, amphora)| !amphora.is_retiring())
            .map(|(id, _)| id)
            .collect()
    }

    /// Whether the amphora is one of ours.
    pub(crate) fn has(&self, id: AmphoraId) -> bool {
        self.amphora(id).is_some()
    }

    /// Whether the amphora is one of the host's, as far as is known here.
    pub(crate) fn is_on(&self, id: AmphoraId, host: &str) -> bool {
        self.amphora(id)
            .is_some_and(|amphora| amphora.record().host == host)
    }

    /// The amphorae of a host.
    pub(crate) fn on_host(&self, host: &str) -> Vec<AmphoraId> {
        let all = self.all().into_iter();
        all.filter(|(_, amphora)| amphora.record().host == host)
            .map(|(id, _)| id)
            .collect()
    }

    /// Has the amphorae of this host take what they are to show and to trust at present.
    pub(crate) async fn refresh_identities(&self) {
        for (_, amphora) in self.all() {
            if amphora.record().host == self.parts.host {
                // Why it fails is told where it happens, and it is tried again.
                let _ = amphora.start(&self.parts).await;
            }
        }
    }

    /// What is seen of each amphora, by both signals.
    pub(crate) fn sights(&self) -> Vec<Sight> {
        let sight = |(id, amphora): (AmphoraId, Arc<Amphora>)| {
            let host = amphora.record().host;
            let record = self.parts.hosts.named(&host);
            let status = self.presence(id);
            let heard = match &record {
                Some(record) => {
                    let of_host = self.parts.hosts.presence(record);
                    status == AmphoraStatus::Allocated || of_host == AmphoraStatus::Allocated
                }
                // One that is only just starting was not heard of yet.
                None => status != AmphoraStatus::Error,
            };
            Sight {
                amphora: id,
                heard,
                reached: amphora.client.boot().is_some(),
                expendable: record.is_some(),
                retiring: amphora.is_retiring(),
                host,
            }
        };
        self.all().into_iter().map(sight).collect()
    }

    /// Whether the amphora is there.
    pub(crate) fn status(&self, id: AmphoraId) -> AmphoraStatus {
        self.parts
            .known
            .sightings
            .status(id, clock::now(), self.parts.silence)
    }

    /// [`Fleet::status`] to the moment: whoever asks has just read what other controllers heard.
    fn presence(&self, id: AmphoraId) -> AmphoraStatus {
        let sightings = &self.parts.known.sightings;
        sightings.presence(id, clock::now(), self.parts.silence)
    }

    /// Whether an amphora that nobody had heard of for so long may have counted as lost soon: others are to be told at once
    /// that it was heard of. They write down each second whom they hear of otherwise.
    pub(crate) fn is_long(&self, pause: Duration) -> bool {
        pause + 2 * SWEEP_INTERVAL > self.parts.silence
    }

    /// Why the amphora could not be started, while that is so.
    pub(crate) fn trouble(&self, id: AmphoraId) -> Option<String> {
        self.amphora(id)?.trouble()
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

    /// Writes down what was heard of amphorae since this was done before.
    pub(crate) async fn note_heard(&self) -> Result<(), StoreError> {
        let heard = self.parts.known.sightings.unwritten_sights();
        for heard in &heard {
            if let Some(amphora) = self.amphora(heard.amphora) {
                amphora.note_heard(heard);
            }
        }
        self.parts.known.store.note_heard(&heard).await
    }

    /// Ends all amphorae but keeps what they need to resume.
    pub(crate) async fn stop_all(&self) -> Result<(), krater_driver::DriverError> {
        self.parts.compute.stop_all().await
    }

    fn all(&self) -> Vec<(AmphoraId, Arc<Amphora>)> {
        let amphorae = self.amphorae.read().unwrap_or_else(PoisonError::into_inner);
        amphorae
            .iter()
            .map(|(id, amphora)| (*id, Arc::clone(amphora)))
            .collect()
    }

    fn amphora(&self, id: AmphoraId) -> Option<Arc<Amphora>> {
        self.amphorae
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }
}

#[async_trait]
impl Agents for Fleet {
    async fn place(
        &self,
        id: LoadBalancerId,
        seat: Seat,
        wish: &Steering,
        vip_network: Uuid,
    ) -> Result<Placed, StoreError> {
        self.find_place(id, seat, wish, vip_network).await
    }

    async fn ensure(&self, amphora: AmphoraId) -> Result<(), String> {
        match self.amphora(amphora) {
            Some(found) if found.is_attended(&self.parts) => found.start(&self.parts).await,
            // Its own controller starts it; whether that has happened the connection tells.
            Some(_) => Ok(()),
            None => Err(UNKNOWN.to_owned()),
        }
    }

    async fn push(&self, amphora: AmphoraId, spec: &SnapshotSpec) -> Result<Applied, AgentError> {
        let Some(found) = self.amphora(amphora) else {
            return Err(AgentError::Unreachable(UNKNOWN.to_owned()));
        };
        match (found.client.push(spec).await, found.trouble()) {
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
        departure: Departure,
    ) -> Result<(), AgentError> {
        // What is not there holds nothing.
        let Some(found) = self.amphora(amphora) else {
            return Ok(());
        };
        // Nor does what was never started: nobody knows where it would be, so nobody has given it anything.
        if found.is_attended(&self.parts) && found.record().agent.is_none() {
            return Ok(());
        }
        // Nor is anybody to wait for what was on a host that is no more.
        if self.parts.hosts.is_over(&found.record().host) {
            return Ok(());
        }
        let held = match found.client.remove(id, as_of, departure).await {
            Err(AgentError::Holds(held)) => held,
            other => return other,
        };
        // It is not wanted there at any generation: the database may be older than the amphora. Or another controller
        // has it back there since this one looked.
        let sure = self.parts.known.placements.be_sure_of(id).await;
        if sure.is_err() || self.parts.known.placements.is_on(id, amphora) {
            return Err(AgentError::Holds(held));
        }
        found.client.remove(id, held, departure).await
    }

    async fn stand_aside(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
        time: Duration,
    ) -> Result<(), AgentError> {
        match self.amphora(amphora) {
            Some(found) => found.client.stand_aside(id, time).await,
            None => Err(AgentError::Unreachable(UNKNOWN.to_owned())),
        }
    }

    async fn reachable(&self, amphora: AmphoraId) {
        self.reached(amphora).await;
    }

    fn boot(&self, amphora: AmphoraId) -> Option<BootId> {
        self.amphora(amphora)?.client.boot()
    }

    fn agent(&self, amphora: AmphoraId) -> Agent {
        match self.amphora(amphora) {
            Some(found) if found.record().agent.is_some() => Agent::Known,
            _ => Agent::Unknown,
        }
    }

    fn address(&self, amphora: AmphoraId) -> Option<SocketAddr> {
        self.amphora(amphora)?.record().agent?.parse().ok()
    }

    fn is_silent(&self, amphora: AmphoraId) -> bool {
        !self.has(amphora) || self.status(amphora) == AmphoraStatus::Error
    }

    async fn is_surely_silent(&self, amphora: AmphoraId) -> Result<bool, StoreError> {
        if !self.is_silent(amphora) {
            return Ok(false);
        }
        // Others may have heard of it while this process was stopped.
        self.sync().await?;
        Ok(self.is_silent(amphora))
    }

    fn is_ours(&self, amphora: AmphoraId) -> bool {
        self.amphora(amphora)
            .is_none_or(|found| found.is_attended(&self.parts))
    }

    fn is_retiring(&self, amphora: AmphoraId) -> bool {
        self.amphora(amphora)
            .is_some_and(|found| found.is_retiring())
    }

    async fn retire(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        let _alone = self.deciding.lock().await;
        match self.amphora(amphora) {
            Some(found) => self.let_retire(&found).await,
            None => Ok(()),
        }
    }

    async fn upgrade(&self, amphora: AmphoraId) -> Result<(), String> {
        let Some(found) = self.amphora(amphora) else {
            return Err(UNKNOWN.to_owned());
        };
        let asked = found.client.succeed().await;
        asked.map_err(|error| chain(&error))
    }

    async fn renew(&self, amphora: AmphoraId) -> Result<(), String> {
        match self.amphora(amphora) {
            Some(found) if !found.is_attended(&self.parts) => Err(format!(
                "the amphora belongs to {}: ask a controller there",
                found.record().host
            )),
            Some(found) => found.renew(&self.parts).await,
            None => Err(UNKNOWN.to_owned()),
        }
    }

    fn views(&self, behind: &dyn Fn(AmphoraId) -> u64) -> Vec<AmphoraView> {
        let view = |(id, amphora): (AmphoraId, Arc<Amphora>)| {
            let status = if amphora.is_retiring() {
                AmphoraStatus::PendingDelete
            } else {
                self.status(id)
            };
            amphora.view(&self.parts, status, behind(id))
        };
        self.all().into_iter().map(view).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const UNKNOWN: &str = "it is not an amphora of this controller any more";

#[cfg(test)]
pub(crate) mod tests;
