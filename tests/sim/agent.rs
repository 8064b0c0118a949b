//! Hosts that have joined: the agent of each runs what controllers order there, and says so.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use krater_amphora_api::{
    AmphoraId, BootId, ContractVersion, HostFacts, HostId, HostReceipt, HostRefusal, HostReport,
    HostedAmphora,
};
use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{amphora::json, dice::Dice, ground::Answering, life::Life, net::Node, system::System};

/// One host, with its disk. It outlives its agent.
pub(crate) struct Agent {
    pub(crate) id: HostId,
    pub(crate) machine: usize,
    pub(crate) address: SocketAddr,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// What is to run there: on its disk.
    orders: BTreeSet<AmphoraId>,
    run: Option<Arc<Run>>,
}

/// One run of the agent.
pub(crate) struct Run {
    agent: Arc<Agent>,
    system: Arc<System>,
    boot: BootId,
    life: Life,
    news: Notify,
    inner: Mutex<Inner>,
}

struct Inner {
    dice: Dice,
    /// What this run has started, or found running.
    started: BTreeSet<AmphoraId>,
    /// A controller was heard, or none answers: it serves.
    is_serving: bool,
}

impl Agent {
    pub(crate) fn new(id: HostId, machine: usize, dice: Dice) -> Arc<Self> {
        let state = State {
            dice,
            orders: BTreeSet::new(),
            run: None,
        };
        Arc::new(Self {
            id,
            machine,
            address: SocketAddr::from(([127, 0, 2, machine as u8 + 1], 9_880)),
            state: Mutex::new(state),
        })
    }

    /// What it says of itself.
    pub(crate) fn facts(&self, boot: BootId) -> HostFacts {
        HostFacts {
            name: format!("machine-{}", self.machine),
            agent: self.address.to_string(),
            boot,
            contract: ContractVersion::CURRENT,
            version: "0.0.0".to_owned(),
            cores: 2,
            memory_bytes: 1 << 30,
            networks: None,
        }
    }

    /// Its agent, if it runs and serves.
    pub(crate) fn serving(&self) -> Option<Arc<Run>> {
        let run = self.state().run.clone()?;
        let is_serving = run.inner().is_serving;
        is_serving.then_some(run)
    }

    /// Whether the amphora is to run there.
    pub(crate) fn has(&self, amphora: AmphoraId) -> bool {
        self.state().orders.contains(&amphora)
    }

    /// What is to run there.
    pub(crate) fn orders(&self) -> Vec<AmphoraId> {
        self.state().orders.iter().copied().collect()
    }

    /// Starts its agent, unless it runs.
    pub(crate) fn start(self: &Arc<Self>, system: &Arc<System>) {
        let run = {
            let mut state = self.state();
            if state.run.is_some() {
                return;
            }
            let mut dice = state.dice.fork("agent");
            let run = Arc::new(Run {
                agent: Arc::clone(self),
                system: Arc::clone(system),
                boot: BootId::new(dice.uuid()),
                life: Life::default(),
                news: Notify::new(),
                inner: Mutex::new(Inner {
                    dice,
                    started: BTreeSet::new(),
                    is_serving: false,
                }),
            });
            state.run = Some(Arc::clone(&run));
            run
        };
        let living = tokio::spawn(Arc::clone(&run).live());
        run.life.adopt(living.abort_handle());
    }

    /// Ends its agent.
    pub(crate) fn end(&self) {
        let run = self.state().run.take();
        if let Some(run) = run {
            run.life.end();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Run {
    async fn live(self: Arc<Self>) {
        let number = self.agent.machine;
        self.note(format_args!("agent {number} starts"));
        // Heard first: what nobody wants any more must not serve again.
        let first = timeout(FIRST_WORD, self.ask_all()).await;
        if let Ok(Some(receipt)) = first {
            self.heed(receipt);
        }
        self.inner().is_serving = true;
        for amphora in self.agent.orders() {
            self.run_amphora(amphora);
        }
        let mut current = number % self.system.controllers();
        loop {
            for _ in 0..self.system.controllers() {
                let answered = timeout(ASK, self.ask(current)).await;
                if let Ok(Some(receipt)) = answered {
                    self.heed(receipt);
                    break;
                }
                current = (current + 1) % self.system.controllers();
            }
            let pause = self.inner().dice.millis(950..1_050);
            tokio::select! {
                biased;
                () = sleep(pause) => {}
                () = self.news.notified() => sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// The first answer of any controller.
    async fn ask_all(self: &Arc<Self>) -> Option<HostReceipt> {
        let mut asked = JoinSet::new();
        for controller in 0..self.system.controllers() {
            let run = Arc::clone(self);
            asked.spawn(async move { run.ask(controller).await });
        }
        while let Some(answer) = asked.join_next().await {
            if let Ok(Some(receipt)) = answer {
                return Some(receipt);
            }
        }
        None
    }

    async fn ask(&self, controller: usize) -> Option<HostReceipt> {
        let (here, there) = (
            Node::Machine(self.agent.machine),
            Node::Controller(controller),
        );
        let body = serde_json::to_vec(&self.report()).unwrap();
        let net = &self.system.net;
        net.cross(here, there).await;
        let (host, controller) = self.system.controller(controller)?;
        let taken = host.run(async move { controller.take_host_report(&body).await });
        let receipt = taken.await?.ok();
        net.cross(there, here).await;
        receipt
    }

    fn report(&self) -> HostReport {
        let orders = self.agent.orders().into_iter();
        HostReport {
            host: self.agent.id,
            facts: self.agent.facts(self.boot),
            amphorae: orders.map(|id| self.hosted(id)).collect(),
        }
    }

    fn hosted(&self, id: AmphoraId) -> HostedAmphora {
        let is_started = self.inner().started.contains(&id);
        let amphora = self.system.ground.amphora(id).filter(|_| is_started);
        HostedAmphora {
            id,
            agent: amphora.map(|amphora| amphora.address.to_string()),
            metrics: None,
            trouble: None,
            certified_until: None,
        }
    }

    fn heed(&self, receipt: HostReceipt) {
        for amphora in receipt.unwanted {
            self.note(format_args!("nobody wants amphora {amphora}"));
            self.release(amphora);
        }
    }

    /// Has an amphora run that is to run. The error is a sentence.
    fn run_amphora(&self, id: AmphoraId) -> Option<String> {
        let found = self.system.ground.obtain(id, self.agent.machine);
        match found {
            Err(error) => Some(error.to_string()),
            Ok(amphora) => {
                self.system.start_amphora(&amphora);
                if self.inner().started.insert(id) {
                    self.news.notify_one();
                }
                None
            }
        }
    }

    fn release(&self, id: AmphoraId) {
        if let Some(amphora) = self.system.ground.amphora(id) {
            amphora.release();
        }
        self.inner().started.remove(&id);
        self.agent.state().orders.remove(&id);
        self.news.notify_one();
    }

    fn note(&self, what: std::fmt::Arguments<'_>) {
        self.system.trace.note(what);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

#[async_trait]
impl Answering for Run {
    fn life(&self) -> &Life {
        &self.life
    }

    fn machine(&self) -> usize {
        self.agent.machine
    }

    async fn answer(
        self: Arc<Self>,
        method: Method,
        path: String,
        _: Bytes,
    ) -> (StatusCode, Bytes) {
        let id = path.strip_prefix("/v1/amphorae/");
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            return (StatusCode::NOT_FOUND, Bytes::new());
        };
        sleep(Duration::from_millis(5)).await;
        match method {
            Method::PUT => {
                self.agent.state().orders.insert(id);
                match self.run_amphora(id) {
                    None => json(&self.hosted(id)),
                    Some(message) => {
                        let (_, body) = json(&HostRefusal { message });
                        (StatusCode::SERVICE_UNAVAILABLE, body)
                    }
                }
            }
            Method::DELETE => {
                self.release(id);
                json(&Vec::<AmphoraId>::new())
            }
            _ => (StatusCode::METHOD_NOT_ALLOWED, Bytes::new()),
        }
    }
}

/// How long a controller is waited for before what is on the disk is started.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How long one has to answer.
const ASK: Duration = Duration::from_secs(5);
