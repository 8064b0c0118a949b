//! Where amphorae run, and how controllers reach them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, StatusCode};
use krater_amphora_api::{AmphoraId, HostId};
use krater_controller::dial::{Dialed, Dialer, Wire};
use krater_driver::{AmphoraOrder, ComputeDriver, DriverError, Endpoint};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    agent::Agent,
    amphora::{Amphora, Death, Parts, Run},
    dice::Dice,
    life::Life,
    net::{Net, Node},
    system::System,
};

/// All amphorae there are, on all machines.
pub(crate) struct Ground {
    folder: PathBuf,
    parts: Parts,
    /// Hosts that joined.
    agents: Vec<Arc<Agent>>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    amphorae: BTreeMap<AmphoraId, Arc<Amphora>>,
    /// Machines that have no power.
    down: BTreeSet<usize>,
    is_failing: bool,
}

impl Ground {
    pub(crate) fn new(
        folder: PathBuf,
        parts: Parts,
        agents: Vec<Arc<Agent>>,
        dice: Dice,
    ) -> Arc<Self> {
        let state = State {
            dice,
            amphorae: BTreeMap::new(),
            down: BTreeSet::new(),
            is_failing: false,
        };
        Arc::new(Self {
            folder,
            parts,
            agents,
            state: Mutex::new(state),
        })
    }

    /// All that are not gone for good.
    pub(crate) fn amphorae(&self) -> Vec<Arc<Amphora>> {
        let state = self.state.lock().unwrap();
        let all = state.amphorae.values();
        all.filter(|amphora| !amphora.is_released())
            .cloned()
            .collect()
    }

    pub(crate) fn amphora(&self, id: AmphoraId) -> Option<Arc<Amphora>> {
        self.state.lock().unwrap().amphorae.get(&id).cloned()
    }

    pub(crate) fn agents(&self) -> &[Arc<Agent>] {
        &self.agents
    }

    /// The agent of a machine, if it is one of those that joined.
    pub(crate) fn agent_on(&self, machine: usize) -> Option<&Arc<Agent>> {
        self.agents.iter().find(|agent| agent.machine == machine)
    }

    /// All that are on a machine.
    pub(crate) fn amphorae_on(&self, machine: usize) -> Vec<Arc<Amphora>> {
        let mut all = self.amphorae();
        all.retain(|amphora| amphora.host == machine);
        all
    }

    /// Whether a machine has no power.
    pub(crate) fn set_down(&self, machine: usize, is_down: bool) {
        let mut state = self.state.lock().unwrap();
        if is_down {
            state.down.insert(machine);
        } else {
            state.down.remove(&machine);
        }
    }

    pub(crate) fn is_down(&self, machine: usize) -> bool {
        self.state.lock().unwrap().down.contains(&machine)
    }

    /// Whether machines refuse to start anything.
    pub(crate) fn set_failing(&self, is_failing: bool) {
        self.state.lock().unwrap().is_failing = is_failing;
    }

    fn at(&self, address: SocketAddr) -> Option<Arc<Run>> {
        let state = self.state.lock().unwrap();
        let found = state.amphorae.values().find(|it| it.address == address)?;
        found.run()
    }

    /// The amphora of that id, made on the machine if it is new.
    pub(crate) fn obtain(&self, id: AmphoraId, host: usize) -> Result<Arc<Amphora>, DriverError> {
        let mut state = self.state.lock().unwrap();
        if state.is_failing {
            let sentence = "no processes are left".to_owned();
            return Err(DriverError::Transient(sentence));
        }
        if let Some(found) = state.amphorae.get(&id) {
            return Ok(Arc::clone(found));
        }
        let number = state.amphorae.len() as u16 + 1;
        let address = SocketAddr::from(([127, 0, 1, 1], 10_000 + number));
        let dice = state.dice.fork("amphora");
        let folder = self.folder.join(id.to_string());
        let amphora = Amphora::new(id, host, address, folder, self.parts.clone(), dice);
        state.amphorae.insert(id, Arc::clone(&amphora));
        Ok(amphora)
    }
}

/// A machine, as its controller uses it.
pub(crate) struct Machine {
    pub(crate) ground: Arc<Ground>,
    pub(crate) host: usize,
    pub(crate) system: Arc<System>,
}

#[async_trait]
impl ComputeDriver for Machine {
    async fn ensure(&self, order: AmphoraOrder) -> Result<Endpoint, DriverError> {
        sleep(Duration::from_millis(5)).await;
        let amphora = self.ground.obtain(order.id, self.host)?;
        if amphora.is_released() {
            let sentence = "it was released".to_owned();
            return Err(DriverError::Permanent(sentence));
        }
        self.system.start_amphora(&amphora);
        Ok(Endpoint {
            agent: amphora.address,
            metrics: None,
        })
    }

    async fn release(&self, id: AmphoraId) -> Result<(), DriverError> {
        sleep(Duration::from_millis(5)).await;
        if let Some(amphora) = self.ground.amphora(id) {
            amphora.release();
        }
        Ok(())
    }

    async fn stop_all(&self) -> Result<(), DriverError> {
        let all = self.ground.amphorae().into_iter();
        all.filter(|amphora| amphora.host == self.host)
            .for_each(|amphora| amphora.end(Death::Killed));
        Ok(())
    }
}

/// A process that answers what controllers ask.
#[async_trait]
pub(crate) trait Answering: Send + Sync + 'static {
    fn life(&self) -> &Life;
    /// The machine it is on.
    fn machine(&self) -> usize;
    async fn answer(
        self: Arc<Self>,
        method: Method,
        path: String,
        body: Bytes,
    ) -> (StatusCode, Bytes);
}

/// The way of one controller to agents.
pub(crate) struct Ways {
    pub(crate) controller: usize,
    pub(crate) ground: Arc<Ground>,
    pub(crate) net: Arc<Net>,
}

#[async_trait]
impl Dialer for Ways {
    async fn dial(&self, _: AmphoraId, target: SocketAddr) -> Result<Dialed, String> {
        let found = self.ground.at(target);
        self.connect(found, target).await
    }

    async fn dial_host(&self, id: HostId, target: SocketAddr) -> Result<Dialed, String> {
        let agents = self.ground.agents();
        let mut agents = agents.iter();
        let found = agents.find(|agent| agent.id == id && agent.address == target);
        let found = found.and_then(|agent| agent.serving());
        self.connect(found, target).await
    }
}

impl Ways {
    async fn connect<P: Answering>(
        &self,
        found: Option<Arc<P>>,
        target: SocketAddr,
    ) -> Result<Dialed, String> {
        let here = Node::Controller(self.controller);
        // A machine that is away does not answer at all; one that is there and has no such process says so.
        let Some(run) = found else {
            sleep(Duration::from_millis(2)).await;
            return Err(format!("{target} cannot be reached: connection refused"));
        };
        let there = Node::Machine(run.machine());
        self.net.cross(here, there).await;
        self.net.cross(there, here).await;
        let wire = Line {
            here,
            there,
            net: Arc::clone(&self.net),
            run: Arc::clone(&run),
        };
        Ok(Dialed {
            wire: Arc::new(wire),
            ended: Box::pin(ended(run, Arc::clone(&self.net), here, there)),
        })
    }
}

/// Returns when the process has ended, or nothing gets through for longer than pings go unanswered.
async fn ended<P: Answering>(run: Arc<P>, net: Arc<Net>, here: Node, there: Node) {
    let silent = async {
        let mut missed = 0;
        while missed < 3 {
            sleep(Duration::from_millis(900)).await;
            let is_cut = net.is_cut(here, there) || net.is_cut(there, here);
            missed = if is_cut { missed + 1 } else { 0 };
        }
    };
    tokio::select! {
        biased;
        () = run.life().ended() => sleep(Duration::from_millis(1)).await,
        () = silent => {}
    }
}

/// A connection to one process.
struct Line<P> {
    here: Node,
    there: Node,
    net: Arc<Net>,
    run: Arc<P>,
}

#[async_trait]
impl<P: Answering> Wire for Line<P> {
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), String> {
        let (answered, answer) = oneshot::channel();
        let mut answered = Some(answered);
        // What comes twice is done twice; the first answer is the one that is waited for.
        for after in self.net.send(self.here, self.there) {
            let (run, method, path, body) = (
                Arc::clone(&self.run),
                method.clone(),
                path.to_owned(),
                body.clone(),
            );
            let answered = answered.take();
            let task = tokio::spawn(async move {
                sleep(after).await;
                let said = run.answer(method, path, body).await;
                if let Some(answered) = answered {
                    let _ = answered.send(said);
                }
            });
            self.run.life().adopt(task.abort_handle());
        }
        if answered.is_some() {
            // Lost: nobody will answer.
            std::future::pending::<()>().await;
        }
        let Ok(said) = answer.await else {
            return Err("the connection broke".to_owned());
        };
        self.net.cross(self.there, self.here).await;
        Ok(said)
    }
}
