//! A whole controller for tests, around a store in memory and an amphora that is only pretended.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use krater_amphora_api::{
    AmphoraId, Applied, BootId, Counters, Generation, ListenerReport, ListenerState,
    LoadBalancerId, LoadBalancerReport, MemberHealth, MemberReport, PoolReport, Rejection, Report,
    SnapshotSpec,
};
use krater_controller_api::{Application as _, Executed};
use krater_controller_core::{
    carried::Carried,
    command::{Command, NewLoadBalancer, NewPool, PoolRef},
    compile,
    envelope::Envelope,
    model::{
        Chosen, Description, LbAlgorithm, Name, PoolProtocol, ProjectId, Seat, Steering, Tags,
        Tenancy, Topology, VipRequest,
    },
    place::{self, Candidate, Choice, Deployment, HostRoom, Wish},
    plan::Agent,
    query::{AmphoraStatus, AmphoraView, Answer, Caller, Persona, Query, ResourceId},
    refusal::Refusal,
    tree::TreeView,
    vips::VipRules,
};
use krater_controller_store::{AmphoraRecord, Fate, Placement, Put, Store, StoreError};
use krater_driver::{Authenticator, SecretStore};
use krater_driver_local::{FileSecrets, LocalNetwork, NetworkConfig, NoAuth};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    amphora_client::{AgentError, Departure},
    application::{self, Application},
    clock,
    knowledge::Knowledge,
    metrics::Metrics,
    networking::Networking,
    placements::Placements,
    realm::Omission,
    reconcile::{self, Agents, Placed, Placing, Reconciler},
    vault::Vault,
};

mod pair;
mod waiting;
mod wishes;

pub(crate) use pair::{THIRD, info};
pub(crate) use wishes::{new_listener, new_member, pool_of};

/// The amphora there is.
pub(crate) const AMPHORA: AmphoraId = AmphoraId::new(Uuid::from_u128(0xa));
/// Another one, which load balancers may move to once [`Pretended::set_room_elsewhere`] says so.
pub(crate) const OTHER: AmphoraId = AmphoraId::new(Uuid::from_u128(0xb));

/// Amphorae that are only pretended: it holds what it is sent, unless it is told to misbehave.
pub(crate) struct Pretended {
    placements: Arc<Placements>,
    up: watch::Sender<bool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<(AmphoraId, LoadBalancerId), SnapshotSpec>,
    room_elsewhere: bool,
    room_for_three: bool,
    retiring: BTreeSet<AmphoraId>,
    /// What was pushed to and removed from where, in order.
    story: Vec<(&'static str, AmphoraId)>,
    pushes: u64,
    refusal: Option<(Vec<Rejection>, String)>,
    newer: Option<Generation>,
    port_trouble: Option<String>,
    silent: bool,
}

impl Pretended {
    fn new(placements: Arc<Placements>) -> Self {
        Self {
            placements,
            up: watch::Sender::new(true),
            state: Mutex::default(),
        }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }

    pub(crate) fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// Refuses every snapshot for these reasons, or no more.
    pub(crate) fn set_refusal(&self, refusal: Option<(Vec<Rejection>, String)>) {
        self.state().refusal = refusal;
    }

    /// Holds a generation that nobody sent.
    pub(crate) fn hold_newer(&self, generation: Generation) {
        self.state().newer = Some(generation);
    }

    /// Cannot have the ports of listeners, or can again.
    pub(crate) fn set_port_trouble(&self, reason: Option<&str>) {
        self.state().port_trouble = reason.map(str::to_owned);
    }

    /// Whether load balancers may go to [`OTHER`] too, where they must not be on [`AMPHORA`].
    pub(crate) fn set_room_elsewhere(&self, room: bool) {
        self.state().room_elsewhere = room;
    }

    pub(crate) fn set_retiring(&self, amphora: AmphoraId) {
        self.state().retiring.insert(amphora);
    }

    /// What was pushed to and removed from where, in order.
    pub(crate) fn story(&self) -> Vec<(&'static str, AmphoraId)> {
        self.state().story.clone()
    }

    /// Loses everything, as with a new disk.
    pub(crate) fn lose_everything(&self) {
        self.state().held.clear();
    }

    pub(crate) fn held(&self, id: LoadBalancerId) -> Option<SnapshotSpec> {
        self.held_by(AMPHORA, id)
    }

    pub(crate) fn held_by(&self, amphora: AmphoraId, id: LoadBalancerId) -> Option<SnapshotSpec> {
        self.state().held.get(&(amphora, id)).cloned()
    }

    pub(crate) fn pushes(&self) -> u64 {
        self.state().pushes
    }

    /// What it would say in a heartbeat.
    pub(crate) fn report(&self, boot: u128, sequence: u64) -> Report {
        let state = self.state();
        let load_balancers = state
            .held
            .iter()
            .filter(|((amphora, _), _)| *amphora == AMPHORA)
            .map(|(_, spec)| state.report_of(spec))
            .collect();
        Report {
            info: info(boot),
            sequence,
            load_balancers,
            metrics_port: None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn report_of(&self, spec: &SnapshotSpec) -> LoadBalancerReport {
        let state = || match &self.port_trouble {
            Some(reason) => ListenerState::Failed {
                reason: reason.clone(),
            },
            None => ListenerState::Open,
        };
        let listeners = spec.listeners.iter();
        let member = |id| MemberReport {
            id,
            health: MemberHealth::NoMonitor,
            reason: None,
            active_connections: 0,
            out: false,
        };
        LoadBalancerReport {
            announcement: None,
            id: spec.load_balancer,
            generation: spec.generation,
            listeners: listeners
                .map(|listener| ListenerReport {
                    id: listener.id,
                    state: state(),
                    counters: Counters::default(),
                    failures: Default::default(),
                })
                .collect(),
            pools: spec
                .pools
                .iter()
                .map(|pool| PoolReport {
                    id: pool.id,
                    members: pool.members.iter().map(|spec| member(spec.id)).collect(),
                })
                .collect(),
        }
    }
}

#[async_trait]
impl Agents for Pretended {
    async fn place(&self, id: LoadBalancerId, seat: Seat, wish: &Steering, _on: Uuid) -> Placing {
        let candidates = {
            let state = self.state();
            let all = [AMPHORA]
                .into_iter()
                .chain(state.room_elsewhere.then_some(OTHER))
                .chain(state.room_for_three.then_some(THIRD));
            all.filter(|amphora| !state.retiring.contains(amphora))
                .filter(|amphora| {
                    let places = self.placements.places(id).into_iter();
                    let mut others = places.filter(|(taken, _)| *taken != seat);
                    others.all(|(_, other)| other != *amphora)
                })
                .map(|amphora| Candidate {
                    amphora,
                    load: self.placements.count(amphora),
                    status: AmphoraStatus::Allocated,
                    zone: "local".to_owned(),
                    tenancy: Tenancy::Shared,
                    network: None,
                    load_balancers_max: None,
                    host: String::new(),
                    host_room: None,
                })
                .collect::<Vec<_>>()
        };
        let deployment = Deployment {
            zones: vec!["local".to_owned()],
            load_balancers_max: 1_000,
            amphorae_max: 1,
            amphorae: 1,
            hosts: vec![HostRoom::unbounded(String::new(), vec!["local".into()], 1)],
        };
        match place::choose(Wish::on_hosts(wish), &candidates, &deployment) {
            Choice::NoRoom(no_room) => Ok(Placed::Nowhere(no_room)),
            Choice::New { zone, .. } => panic!("there is no other amphora in {zone}"),
            Choice::Existing(amphora) => {
                let placement = Placement {
                    amphora,
                    load_balancers_max: wish.load_balancers_max,
                    seat,
                };
                let placed = self.placements.put(id, placement, None, None).await?;
                Ok(if placed == Put::Done {
                    Placed::On
                } else {
                    Placed::Gone
                })
            }
        }
    }

    async fn ensure(&self, _amphora: AmphoraId) -> Result<(), String> {
        Ok(())
    }

    async fn push(&self, amphora: AmphoraId, spec: &SnapshotSpec) -> Result<Applied, AgentError> {
        if !*self.up.borrow() {
            return Err(AgentError::Unreachable(
                "it is pretended to be down".to_owned(),
            ));
        }
        let mut state = self.state();
        if let Some((rejections, message)) = state.refusal.clone() {
            return Err(AgentError::Refused {
                rejections,
                message,
            });
        }
        let held = state
            .held
            .get(&(amphora, spec.load_balancer))
            .map(|spec| spec.generation)
            .max(state.newer);
        if let Some(held) = held.filter(|held| *held > spec.generation) {
            return Err(AgentError::Holds(held));
        }
        state.pushes += 1;
        state.story.push(("push", amphora));
        state
            .held
            .insert((amphora, spec.load_balancer), spec.clone());
        Ok(Applied {
            generation: spec.generation,
            report: state.report_of(spec),
        })
    }

    async fn remove(
        &self,
        amphora: AmphoraId,
        id: LoadBalancerId,
        _: Generation,
        _: Departure,
    ) -> Result<(), AgentError> {
        if !*self.up.borrow() {
            return Err(AgentError::Unreachable(
                "it is pretended to be down".to_owned(),
            ));
        }
        let mut state = self.state();
        state.story.push(("remove", amphora));
        state.held.remove(&(amphora, id));
        Ok(())
    }

    async fn reachable(&self, _amphora: AmphoraId) {
        let _ = self.up.subscribe().wait_for(|up| *up).await;
    }

    fn boot(&self, _amphora: AmphoraId) -> Option<BootId> {
        self.up.borrow().then(|| info(1).boot)
    }

    fn agent(&self, _amphora: AmphoraId) -> Agent {
        Agent::Known
    }

    fn address(&self, amphora: AmphoraId) -> Option<std::net::SocketAddr> {
        pair::agent_of(amphora)
    }

    fn is_silent(&self, amphora: AmphoraId) -> bool {
        self.state().silent && amphora == AMPHORA
    }

    async fn is_surely_silent(&self, amphora: AmphoraId) -> Result<bool, StoreError> {
        Ok(self.is_silent(amphora))
    }

    fn is_ours(&self, _amphora: AmphoraId) -> bool {
        true
    }

    fn is_retiring(&self, amphora: AmphoraId) -> bool {
        self.state().retiring.contains(&amphora)
    }

    async fn retire(&self, amphora: AmphoraId) -> Result<(), StoreError> {
        self.set_retiring(amphora);
        Ok(())
    }

    async fn stand_aside(
        &self,
        amphora: AmphoraId,
        _: LoadBalancerId,
        time: Duration,
    ) -> Result<(), AgentError> {
        let deed = if time.is_zero() { "go on" } else { "aside" };
        self.state().story.push((deed, amphora));
        Ok(())
    }

    async fn upgrade(&self, _: AmphoraId) -> Result<(), String> {
        Ok(())
    }

    async fn renew(&self, _: AmphoraId) -> Result<(), String> {
        Ok(())
    }

    fn views(&self, behind: &dyn Fn(AmphoraId) -> u64) -> Vec<AmphoraView> {
        let view = |id| AmphoraView {
            id,
            agent: "127.0.0.1:1".to_owned(),
            status: match (self.is_retiring(id), self.state().silent) {
                (true, _) => AmphoraStatus::PendingDelete,
                (false, true) => AmphoraStatus::Error,
                (false, false) => AmphoraStatus::Allocated,
            },
            last_seen: None,
            version: None,
            pid: None,
            metrics: None,
            load_balancers: self.placements.on(id),
            projects: Vec::new(),
            behind: behind(id),
            zone: "local".to_owned(),
            tenancy: Tenancy::Shared,
            created_at: clock::now(),
            updated_at: None,
            certified_until: None,
            is_renewing: false,
            turn: None,
            recent_failures: 0,
        };
        [AMPHORA, OTHER].map(view).into()
    }
}

/// What a controller for tests is built with.
pub(crate) struct Setting {
    /// The first subnet of the first is where load balancers go.
    pub(crate) networks: Vec<NetworkConfig>,
    pub(crate) rules: VipRules,
    /// Who says who callers are.
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) carried: Carried,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) topology: Topology,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            networks: vec![NetworkConfig::loopback()],
            rules: VipRules::default(),
            authenticator: Arc::new(NoAuth::new(ProjectId::parse("house").unwrap())),
            carried: Carried::release(),
            secrets: Arc::new(FileSecrets::new("/nonexistent".into())),
            topology: Topology::Single,
        }
    }
}

/// A controller with everything but sockets.
pub(crate) struct House {
    pub(crate) known: Knowledge,
    pub(crate) vault: Arc<Vault>,
    pub(crate) amphora: Arc<Pretended>,
    pub(crate) reconciler: Arc<Reconciler>,
    pub(crate) application: Arc<Application>,
    pub(crate) subnet: Uuid,
    pub(crate) caller: Caller,
}

impl House {
    pub(crate) async fn build() -> Self {
        Self::build_with(Setting::default()).await
    }

    /// With a setting of one's own.
    pub(crate) async fn build_with(setting: Setting) -> Self {
        let store = Store::in_memory().await.unwrap();
        for id in [AMPHORA, OTHER] {
            let record = AmphoraRecord {
                id,
                created_at: clock::now(),
                agent: Some("127.0.0.1:1".to_owned()),
                metrics: None,
                boot: None,
                version: None,
                pid: None,
                last_seen: None,
                zone: "local".to_owned(),
                tenancy: Tenancy::Shared,
                fate: Fate::Stays,
                updated_at: None,
                host: String::new(),
                network: None,
            };
            store.put_amphora(&record).await.unwrap();
        }
        let network: Arc<dyn krater_driver::NetworkDriver> =
            Arc::new(LocalNetwork::new(&setting.networks).unwrap());
        let subnet = network.networks().await.unwrap()[0].subnets[0].id;
        let known = Knowledge::gather(store, Metrics::declare().unwrap())
            .await
            .unwrap();
        let amphora = Arc::new(Pretended::new(Arc::clone(&known.placements)));
        let vault = Vault::new(setting.secrets);
        let reconciler = Reconciler::new(reconcile::Parts {
            known: known.clone(),
            vault: Arc::clone(&vault),
            agents: amphora.clone(),
            network: Arc::clone(&network),
            defaults: compile::Defaults::default(),
            omission: Omission::Nothing,
        });
        let project = ProjectId::parse("house").unwrap();
        let application = Application::new(application::Parts {
            known: known.clone(),
            networking: Networking {
                driver: network,
                rules: setting.rules,
            },
            authenticator: setting.authenticator,
            reconciler: Arc::clone(&reconciler),
            agents: amphora.clone(),
            vault: Arc::clone(&vault),
            carried: setting.carried,
            quota_defaults: krater_controller_core::quota::Limits::default(),
            rules: krater_controller_core::rules::Rules::default(),
            zones: ["local".to_owned()].into(),
            topology: setting.topology,
        });
        let caller = Caller::new("anybody", Some(project), Persona::Admin);
        Self {
            known,
            vault,
            amphora,
            reconciler,
            application: Arc::new(application),
            subnet,
            caller,
        }
    }

    pub(crate) async fn execute(&self, command: Command) -> Result<Executed, Refusal> {
        let plain = &Envelope::default();
        let done = self.application.execute(&self.caller, command, plain);
        done.await
    }

    /// Creates a load balancer with a listener and an empty pool, and waits until it is in force.
    pub(crate) async fn serving(&self) -> TreeView {
        let executed = self
            .execute(Command::CreateLoadBalancer(Box::new(
                self.new_load_balancer(),
            )))
            .await
            .unwrap();
        let id = executed.view.tree.id();
        self.until(id, "in force", |view| !view.is_pending()).await
    }

    pub(crate) fn new_load_balancer(&self) -> NewLoadBalancer {
        NewLoadBalancer {
            project: None,
            name: Name::default(),
            description: Description::default(),
            admin_state_up: true,
            vip: VipRequest {
                subnet_id: Some(self.subnet),
                ..VipRequest::default()
            },
            provider: None,
            flavor_id: None,
            availability_zone: None,
            chosen: Chosen::default(),
            tags: Tags::default(),
            listeners: vec![new_listener(80, Some(PoolRef::New(0)))],
            pools: vec![NewPool {
                name: Name::default(),
                description: Description::default(),
                admin_state_up: true,
                protocol: PoolProtocol::Tcp,
                lb_algorithm: LbAlgorithm::RoundRobin,
                session_persistence: None,
                tls: Default::default(),
                tags: Tags::default(),
                members: Vec::new(),
                health_monitor: None,
            }],
        }
    }

    pub(crate) async fn view(&self, id: LoadBalancerId) -> Option<TreeView> {
        self.known
            .store
            .view(ResourceId::LoadBalancer(id))
            .await
            .unwrap()
    }

    /// What a GET answers.
    pub(crate) async fn get(&self, id: LoadBalancerId) -> Result<TreeView, Refusal> {
        match self
            .application
            .answer(&self.caller, Query::Tree(ResourceId::LoadBalancer(id)))
            .await?
        {
            Answer::Tree(view) => Ok(*view),
            other => panic!("{other:?}"),
        }
    }
}

/// Far more than anything here takes.
pub(crate) const BOUND: Duration = Duration::from_secs(20);
