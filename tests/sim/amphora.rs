//! Amphorae as far as controllers see them: real specs, real snapshots, real rules of succession and real kept files; no
//! sockets and no traffic.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use krater_amphora::keep::Keep;
use krater_amphora_api::{
    AmphoraId, Applied, ApplyError, BootId, ContractVersion, Counters, Generation, Info,
    LinkAddress, ListenerId, ListenerReport, ListenerState, LoadBalancerId, LoadBalancerReport,
    MemberHealth, MemberReport, PoolReport, Rejection, Report, SnapshotSpec,
};
use krater_amphora_core::{
    snapshot::Snapshot,
    succession::{self, Held, Stale, Tombstones},
};
use serde::Serialize;
use tokio::{sync::Notify, time::sleep};

use crate::{
    dice::Dice, ground::Answering, judge::Judge, life::Life, mutant::Mutant, trace::Trace,
};

/// One amphora, with its disk. It outlives its processes.
pub(crate) struct Amphora {
    pub(crate) id: AmphoraId,
    /// The machine it is on.
    pub(crate) host: usize,
    pub(crate) address: SocketAddr,
    folder: PathBuf,
    parts: Parts,
    state: Mutex<State>,
    /// What was removed and is not durably so: it comes back if the power goes.
    removed: Mutex<BTreeMap<LoadBalancerId, Vec<u8>>>,
}

/// What all amphorae of a run share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) judge: Arc<Judge>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) mutant: Mutant,
}

struct State {
    dice: Dice,
    run: Option<Arc<Run>>,
    is_released: bool,
}

/// One run of its process.
pub(crate) struct Run {
    pub(crate) amphora: Arc<Amphora>,
    pub(crate) boot: BootId,
    keep: Keep,
    inner: Mutex<Inner>,
    pub(crate) life: Life,
    /// Something that a controller should learn at once.
    pub(crate) news: Notify,
}

struct Inner {
    dice: Dice,
    sequence: u64,
    held: BTreeMap<LoadBalancerId, SnapshotSpec>,
    tombstones: Tombstones,
    turns: BTreeMap<LoadBalancerId, Arc<tokio::sync::Mutex<()>>>,
    counters: BTreeMap<ListenerId, Counters>,
    /// Listeners whose ports others have.
    taken: BTreeMap<ListenerId, u32>,
    down: BTreeMap<krater_amphora_api::MemberId, bool>,
    is_disk_full: bool,
    unsettled: BTreeSet<LoadBalancerId>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// Killed: what it wrote is there.
    Killed,
    /// The power went: what was not synced may be whole, torn or gone.
    PowerLoss,
}

impl Amphora {
    pub(crate) fn new(
        id: AmphoraId,
        host: usize,
        address: SocketAddr,
        folder: PathBuf,
        parts: Parts,
        dice: Dice,
    ) -> Arc<Self> {
        let state = State {
            dice,
            run: None,
            is_released: false,
        };
        Arc::new(Self {
            id,
            host,
            address,
            folder,
            parts,
            state: Mutex::new(state),
            removed: Mutex::default(),
        })
    }

    /// Its process, if it runs.
    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        self.state().run.clone()
    }

    pub(crate) fn is_released(&self) -> bool {
        self.state().is_released
    }

    /// Starts its process, unless it runs.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut state = self.state();
        if state.run.is_some() || state.is_released {
            return;
        }
        let mut dice = state.dice.fork("run");
        let boot = BootId::new(dice.uuid());
        let keep = Keep::open(&self.folder).unwrap();
        let snapshots = keep.load().unwrap();
        let mut held = BTreeMap::new();
        for snapshot in snapshots {
            let id = snapshot.load_balancer();
            let spec = self.kept(id, snapshot.generation());
            if let Some(spec) = spec {
                held.insert(id, spec);
            }
        }
        let generations: BTreeMap<_, _> = held
            .iter()
            .map(|(id, spec)| (*id, spec.generation))
            .collect();
        self.parts.trace.note(format_args!(
            "amphora {} starts with {generations:?}",
            self.id
        ));
        self.parts.judge.note_start(self.id, &generations);
        state.run = Some(Arc::new(Run {
            amphora: Arc::clone(self),
            boot,
            keep,
            inner: Mutex::new(Inner {
                dice,
                sequence: 0,
                held,
                tombstones: Tombstones::default(),
                turns: BTreeMap::new(),
                counters: BTreeMap::new(),
                taken: BTreeMap::new(),
                down: BTreeMap::new(),
                is_disk_full: false,
                unsettled: BTreeSet::new(),
            }),
            life: Life::default(),
            news: Notify::new(),
        }));
    }

    /// Ends its process.
    pub(crate) fn end(&self, death: Death) {
        let Some(run) = self.state().run.take() else {
            return;
        };
        self.parts
            .trace
            .note(format_args!("amphora {} ends: {death:?}", self.id));
        run.life.end();
        if death == Death::PowerLoss {
            self.lose_power();
        }
    }

    /// Ends it for ever, with all it has.
    pub(crate) fn release(&self) {
        self.end(Death::Killed);
        self.state().is_released = true;
        self.parts.judge.note_gone(self.id);
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Nothing of what it kept is there any more.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// The spec of a file that the real code could read: what it became there is not to be had from a snapshot.
    fn kept(&self, id: LoadBalancerId, generation: Generation) -> Option<SnapshotSpec> {
        ["next", "json"].iter().find_map(|extension| {
            let bytes = fs::read(self.file(id, extension)).ok()?;
            let spec: SnapshotSpec = serde_json::from_slice(&bytes).ok()?;
            (spec.generation == generation).then_some(spec)
        })
    }

    fn file(&self, id: LoadBalancerId, extension: &str) -> PathBuf {
        self.folder
            .join("load-balancers")
            .join(format!("{id}.{extension}"))
    }

    /// What the disk makes of what was not synced.
    fn lose_power(&self) {
        let mut dice = self.state().dice.fork("power");
        let folder = self.folder.join("load-balancers");
        let mut names: Vec<_> = fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort();
        for path in names {
            let is_synced = path
                .extension()
                .is_some_and(|extension| extension == "json");
            if is_synced {
                continue;
            }
            self.parts.judge.note_doubt(self.id);
            let bytes = fs::read(&path).unwrap_or_default();
            match dice.within(0..4) {
                0 => {}
                1 => drop(fs::remove_file(&path)),
                2 => drop(fs::write(&path, &bytes[..dice.index(bytes.len().max(1))])),
                _ => drop(fs::write(&path, vec![0; bytes.len()])),
            }
        }
        let removed = std::mem::take(&mut *self.removed.lock().unwrap());
        for (id, bytes) in removed {
            if dice.per_mille(500) {
                self.parts.judge.note_doubt(self.id);
                let _ = fs::write(self.file(id, "json"), bytes);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// Why something was not done: what the agent answers.
struct Refusal(StatusCode, String, Vec<Rejection>, Option<Generation>);

impl Refusal {
    fn new(status: StatusCode, message: &str) -> Self {
        Self(status, message.to_owned(), Vec::new(), None)
    }

    fn stale(stale: Stale) -> Self {
        let message = format!("generation {} is newer", stale.held);
        Self(StatusCode::CONFLICT, message, Vec::new(), Some(stale.held))
    }
}

#[async_trait]
impl Answering for Run {
    fn life(&self) -> &Life {
        &self.life
    }

    fn machine(&self) -> usize {
        self.amphora.host
    }

    async fn answer(
        self: Arc<Self>,
        method: Method,
        path: String,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        self.respond(method, path, body).await
    }
}

impl Run {
    /// Answers one request, as the agent does.
    async fn respond(
        self: &Arc<Self>,
        method: Method,
        path: String,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let (route, query) = path.split_once('?').unwrap_or((&path, ""));
        let segments: Vec<&str> = route.split('/').skip(1).collect();
        match (&method, segments.as_slice()) {
            (&Method::GET, ["v1", "info"]) => json(&self.info()),
            (&Method::GET, ["v1", "report"]) => json(&self.report()),
            (&Method::PUT, ["v1", "load-balancers", id]) => {
                let id = id.parse().unwrap();
                said(self.apply(id, body).await)
            }
            (&Method::DELETE, ["v1", "load-balancers", id]) => {
                let id = id.parse().unwrap();
                said(self.delete(id, query).await)
            }
            _ => (StatusCode::NOT_FOUND, Bytes::new()),
        }
    }

    async fn apply(self: &Arc<Self>, id: LoadBalancerId, body: Bytes) -> Result<Applied, Refusal> {
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        let mutant = self.amphora.parts.mutant;
        let spec: SnapshotSpec = serde_json::from_slice(&body)
            .map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, &error.to_string()))?;
        let generation = spec.generation;
        let judge = &self.amphora.parts.judge;
        judge.note_push(self.amphora.id, id, &spec);
        match self.follow(id, generation) {
            Ok(Held::Same) => return self.applied(id, generation),
            Err(stale) if mutant != Mutant::AcceptsOlder => return Err(Refusal::stale(stale)),
            _ => {}
        }
        let snapshot = Snapshot::parse(spec.clone()).map_err(|rejections| {
            let message = "the spec was refused".to_owned();
            Refusal(StatusCode::UNPROCESSABLE_ENTITY, message, rejections, None)
        })?;
        if mutant == Mutant::SettlesEarly {
            let report = self.inner().report_of(&spec);
            return Ok(Applied { generation, report });
        }
        drop(snapshot);
        self.disk().await?;
        self.keep.store(id, &body).unwrap();
        judge.note_kept(self.amphora.id, id, generation);
        self.disk().await?;
        {
            let mut inner = self.inner();
            inner.held.insert(id, spec);
            inner.tombstones.forget(id);
        }
        judge.note_applied(self.amphora.id, self.boot, id, generation);
        self.amphora.parts.trace.note(format_args!(
            "amphora {} applies {id} at {generation}",
            self.amphora.id
        ));
        self.settle_later(id);
        self.applied(id, generation)
    }

    async fn delete(self: &Arc<Self>, id: LoadBalancerId, query: &str) -> Result<(), Refusal> {
        let turn = self.turn(id);
        let _turn = turn.lock().await;
        let number = query.strip_prefix("generation=").unwrap();
        let (number, moved) = match number.strip_suffix("&moved=true") {
            Some(number) => (number, true),
            None => (number, false),
        };
        let generation = Generation::from_number(number.parse().unwrap()).unwrap();
        let held = self.follow(id, generation).map_err(Refusal::stale)?;
        if moved && held != Held::Nothing {
            sleep(Duration::from_millis(50)).await;
        }
        self.disk().await?;
        let file = fs::read(self.amphora.file(id, "json"));
        self.keep.discard(id).unwrap();
        if let Ok(bytes) = file {
            self.amphora.removed.lock().unwrap().insert(id, bytes);
        }
        self.amphora.parts.judge.note_discarded(self.amphora.id, id);
        {
            let mut inner = self.inner();
            inner.held.remove(&id);
            inner.tombstones.remember(id, generation, TOMBSTONES_MAX);
        }
        self.amphora.parts.trace.note(format_args!(
            "amphora {} lets go of {id} as of {generation}",
            self.amphora.id
        ));
        self.settle_later(id);
        Ok(())
    }

    /// Makes what is kept durable in a moment, whatever changes until then.
    fn settle_later(self: &Arc<Self>, id: LoadBalancerId) {
        if !self.inner().unsettled.insert(id) {
            return;
        }
        let run = Arc::clone(self);
        let task = tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            let _turn = run.turn(id).lock_owned().await;
            run.inner().unsettled.remove(&id);
            if run.keep.settle(id).is_ok() {
                run.amphora.removed.lock().unwrap().remove(&id);
            }
        });
        self.life.adopt(task.abort_handle());
    }

    fn follow(&self, id: LoadBalancerId, sent: Generation) -> Result<Held, Stale> {
        let inner = self.inner();
        let held = inner.held.get(&id).map(|spec| spec.generation);
        succession::follow(held, inner.tombstones.generation(id), sent)
    }

    /// Something that takes the disk a while.
    async fn disk(&self) -> Result<(), Refusal> {
        let (pause, is_full) = {
            let mut inner = self.inner();
            (inner.dice.millis(0..4), inner.is_disk_full)
        };
        if is_full {
            let message = "the spec cannot be kept: no space left on device";
            return Err(Refusal::new(StatusCode::INSUFFICIENT_STORAGE, message));
        }
        sleep(pause).await;
        Ok(())
    }

    fn turn(&self, id: LoadBalancerId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.inner().turns.entry(id).or_default())
    }

    fn applied(&self, id: LoadBalancerId, generation: Generation) -> Result<Applied, Refusal> {
        let mut inner = self.inner();
        let spec = inner.held.get(&id).cloned();
        let spec = spec.ok_or_else(|| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "ending"))?;
        let report = inner.report_of(&spec);
        Ok(Applied { generation, report })
    }

    fn info(&self) -> Info {
        Info {
            amphora: self.amphora.id,
            boot: self.boot,
            contract: ContractVersion::CURRENT,
            version: "0.0.0".to_owned(),
            pid: 1,
            workers: 1,
            // All of a machine have the address that it has on the network of the VIPs.
            addresses: vec![LinkAddress {
                address: [198, 19, 255, self.amphora.host as u8 + 1].into(),
                prefix_bits: 15,
            }],
        }
    }

    /// Everything there is to say.
    pub(crate) fn report(&self) -> Report {
        let info = self.info();
        let mut inner = self.inner();
        inner.sequence += 1;
        let held: Vec<_> = inner.held.values().cloned().collect();
        Report {
            info,
            sequence: inner.sequence,
            load_balancers: held.iter().map(|spec| inner.report_of(spec)).collect(),
            metrics_port: None,
        }
    }

    /// What it says of one load balancer.
    pub(crate) fn report_of(&self, id: LoadBalancerId) -> Option<LoadBalancerReport> {
        let mut inner = self.inner();
        let spec = inner.held.get(&id).cloned()?;
        Some(inner.report_of(&spec))
    }

    /// What it holds, and at which generation.
    pub(crate) fn held(&self) -> BTreeMap<LoadBalancerId, SnapshotSpec> {
        self.inner().held.clone()
    }

    /// Traffic, ports and members do as they like.
    pub(crate) fn live(&self, is_calm: bool) {
        let mut inner = self.inner();
        let Inner {
            dice,
            held,
            counters,
            taken,
            down,
            ..
        } = &mut *inner;
        let mut is_news = false;
        for spec in held.values() {
            for listener in &spec.listeners {
                // Nobody comes to some, and nothing is told of them.
                if dice.per_mille(500) {
                    let counters = counters.entry(listener.id).or_default();
                    counters.total_connections += dice.within(0..5);
                    counters.bytes_in += dice.within(0..1_000);
                    counters.bytes_out += dice.within(0..1_000);
                }
                if !is_calm && dice.per_mille(20) {
                    taken.insert(listener.id, 1);
                    is_news = true;
                } else if is_calm || dice.per_mille(300) {
                    is_news |= taken.remove(&listener.id).is_some();
                }
            }
            for member in spec.pools.iter().flat_map(|pool| &pool.members) {
                if dice.per_mille(if is_calm { 0 } else { 50 }) {
                    let is_down = down.entry(member.id).or_default();
                    *is_down = !*is_down;
                    is_news = true;
                }
            }
        }
        drop(inner);
        if is_news {
            self.news.notify_one();
        }
    }

    pub(crate) fn set_disk_full(&self, is_full: bool) {
        self.inner().is_disk_full = is_full;
    }

    /// A draw of its own.
    pub(crate) fn millis(&self, range: std::ops::Range<u64>) -> Duration {
        self.inner().dice.millis(range)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    fn report_of(&mut self, spec: &SnapshotSpec) -> LoadBalancerReport {
        let listeners = spec.listeners.iter().map(|listener| ListenerReport {
            id: listener.id,
            state: if self.taken.contains_key(&listener.id) {
                ListenerState::Failed {
                    reason: "the port is taken".to_owned(),
                }
            } else {
                ListenerState::Open
            },
            counters: self.counters.get(&listener.id).copied().unwrap_or_default(),
            failures: BTreeMap::new(),
        });
        let listeners = listeners.collect();
        let pools = spec.pools.iter().map(|pool| PoolReport {
            id: pool.id,
            members: pool
                .members
                .iter()
                .map(|member| MemberReport {
                    id: member.id,
                    health: match self.down.get(&member.id) {
                        _ if pool.monitor.is_none() => MemberHealth::NoMonitor,
                        Some(true) => MemberHealth::Down,
                        _ => MemberHealth::Up,
                    },
                    reason: None,
                    active_connections: 0,
                    out: false,
                })
                .collect(),
        });
        LoadBalancerReport {
            id: spec.load_balancer,
            announcement: None,
            generation: spec.generation,
            listeners,
            pools: pools.collect(),
        }
    }
}

fn said<T: Serialize>(outcome: Result<T, Refusal>) -> (StatusCode, Bytes) {
    match outcome {
        Ok(value) => json(&value),
        Err(Refusal(status, message, rejections, held)) => {
            let error = ApplyError {
                message,
                rejections,
                held,
            };
            (status, Bytes::from(serde_json::to_vec(&error).unwrap()))
        }
    }
}

pub(crate) fn json(value: &impl Serialize) -> (StatusCode, Bytes) {
    let text = serde_json::to_vec(value).unwrap();
    (StatusCode::OK, Bytes::from(text))
}

const TOMBSTONES_MAX: usize = 1_024;
