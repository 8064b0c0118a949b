//! Everything of one run: machines with a controller each, amphorae, the database, the network, and who looks on.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use krater_amphora_api::{AmphoraId, BootId, HostId, Report, ReportReceipt, SnapshotSpec};
use krater_amphora_core::telling::Told;
use krater_controller::simulated::{Controller, Omission, Surroundings};
use krater_controller_core::{model::OfferId, tree::LoadBalancerTree};
use krater_controller_store::{Enrolment, HostToken, Newcomer, Store};
use krater_driver_local::NoopNetwork;
use tokio::{sync::Notify, time::sleep};

use crate::{
    agent::Agent,
    amphora::{Amphora, Death, Parts, Run},
    catalogue,
    database::{Exchange, Overview, Way},
    dice::Dice,
    ground::{Ground, Machine, Ways},
    host::{Clock, Host},
    judge::Judge,
    mutant::Mutant,
    net::{Net, Node},
    scenario::Scenario,
    trace::Trace,
};

/// A run.
pub(crate) struct System {
    pub(crate) scenario: Scenario,
    pub(crate) mutant: Mutant,
    pub(crate) trace: Arc<Trace>,
    pub(crate) judge: Arc<Judge>,
    pub(crate) net: Arc<Net>,
    pub(crate) ground: Arc<Ground>,
    /// Of load balancers that two amphorae take turns at.
    pub(crate) flavor: OfferId,
    /// The database as the one who looks on sees it.
    pub(crate) store: Store,
    pub(crate) clock: Arc<Clock>,
    /// Told when something settled.
    pub(crate) settled: Arc<Notify>,
    exchange: Arc<Exchange>,
    folder: PathBuf,
    places: Vec<Place>,
    calm: Mutex<bool>,
}

/// A machine that a controller runs on.
struct Place {
    clock: Arc<Clock>,
    fuse: Arc<Mutex<Option<u64>>>,
    state: Mutex<Seat>,
}

struct Seat {
    dice: Dice,
    process: Option<Process>,
}

/// A controller that runs, or is about to.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) host: Arc<Host>,
    pub(crate) controller: Option<Arc<Controller>>,
}

impl System {
    pub(crate) async fn build(
        scenario: Scenario,
        mutant: Mutant,
        folder: PathBuf,
        dice: &mut Dice,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let judge = Judge::new(Arc::clone(&trace));
        let net = Arc::new(Net::new(dice.fork("net")));
        let clock = Arc::new(Clock::new());
        let overview = Overview {
            clock: Arc::clone(&clock),
        };
        let store = Store::in_memory().await.unwrap();
        let store = store.simulated(Arc::new(overview)).unwrap();
        let parts = Parts {
            judge: Arc::clone(&judge),
            trace: Arc::clone(&trace),
            mutant,
        };
        let places = (0..scenario.controllers).map(|_| Place {
            clock: Arc::new(Clock::new()),
            fuse: Arc::default(),
            state: Mutex::new(Seat {
                dice: dice.fork("controller"),
                process: None,
            }),
        });
        let places = places.collect();
        let agents = joined(&scenario, &store, dice).await;
        let flavor = OfferId::new(dice.uuid());
        catalogue::offer_pairs(&store, flavor, dice.uuid()).await;
        let ground = dice.fork("ground");
        Arc::new(Self {
            exchange: Exchange::open(Arc::clone(&net), scenario.controllers),
            ground: Ground::new(folder.join("amphorae"), parts, agents, ground),
            flavor,
            scenario,
            mutant,
            trace,
            judge,
            net,
            store,
            clock,
            settled: Arc::default(),
            folder,
            places,
            calm: Mutex::new(false),
        })
    }

    /// How many controllers there are to be.
    pub(crate) const fn controllers(&self) -> usize {
        self.places.len()
    }

    /// A controller that runs; none while it does not.
    pub(crate) fn controller(&self, number: usize) -> Option<(Arc<Host>, Arc<Controller>)> {
        let process = self.seat(number).process.clone()?;
        if process.host.is_dead() {
            return None;
        }
        Some((process.host, process.controller?))
    }

    /// Starts the process of a controller, and again as long as it does not come up.
    pub(crate) async fn start(self: &Arc<Self>, number: usize) {
        loop {
            let host = {
                if self.ground.is_down(number) {
                    return;
                }
                let mut seat = self.seat(number);
                if seat.process.as_ref().is_some_and(|it| !it.host.is_dead()) {
                    return;
                }
                let dice = seat.dice.fork("process");
                let host = Host::boot(Arc::clone(&self.places[number].clock), dice);
                seat.process = Some(Process {
                    host: Arc::clone(&host),
                    controller: None,
                });
                host
            };
            self.trace.note(format_args!("controller {number} starts"));
            let starting = Controller::start(self.surroundings(number, &host));
            match host.run(starting).await {
                Some(Ok(controller)) => {
                    let mut seat = self.seat(number);
                    if let Some(process) = seat.process.as_mut()
                        && Arc::ptr_eq(&process.host, &host)
                    {
                        process.controller = Some(Arc::new(controller));
                    }
                    self.trace.note(format_args!("controller {number} is up"));
                    return;
                }
                Some(Err(why)) => {
                    host.kill();
                    self.trace
                        .note(format_args!("controller {number} does not start: {why}"));
                }
                None => self
                    .trace
                    .note(format_args!("controller {number} dies at its start")),
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn surroundings(self: &Arc<Self>, number: usize, host: &Arc<Host>) -> Surroundings {
        let way = Way {
            controller: number,
            host: Arc::clone(host),
            net: Arc::clone(&self.net),
            exchange: Arc::clone(&self.exchange),
            clock: Arc::clone(&self.clock),
            trace: Arc::clone(&self.trace),
            dice: Mutex::new(self.seat(number).dice.fork("database")),
            fuse: Arc::clone(&self.places[number].fuse),
            settled: Arc::clone(&self.settled),
        };
        Surroundings {
            settings: self.scenario.settings(),
            state_dir: self.folder.join(format!("controller-{number}")),
            host: format!("host-{number}"),
            store: self.store.simulated(Arc::new(way)).unwrap(),
            dialer: Arc::new(Ways {
                controller: number,
                ground: Arc::clone(&self.ground),
                net: Arc::clone(&self.net),
            }),
            compute: Arc::new(Machine {
                ground: Arc::clone(&self.ground),
                host: number,
                system: Arc::clone(self),
            }),
            network: Arc::new(NoopNetwork::new().unwrap()),
            omission: match self.mutant {
                Mutant::NeverSweeps => Omission::Sweep,
                Mutant::MovesBoth => Omission::Turns,
                _ => Omission::Nothing,
            },
        }
    }

    /// Ends the process of a controller after so many steps of its way to the database.
    pub(crate) fn light_fuse(&self, number: usize, steps: u64) {
        *self.places[number].fuse.lock().unwrap() = Some(steps);
    }

    /// Ends the process of a controller now, if it runs.
    pub(crate) fn kill(&self, number: usize) {
        *self.places[number].fuse.lock().unwrap() = None;
        let process = self.seat(number).process.take();
        if let Some(process) = process {
            process.host.kill();
        }
    }

    /// It does not end there after all.
    pub(crate) fn put_out_fuse(&self, number: usize) {
        *self.places[number].fuse.lock().unwrap() = None;
    }

    /// What is to be in force of a tree on an amphora, as far as somebody is there to say.
    pub(crate) fn wanted(&self, tree: &LoadBalancerTree, on: AmphoraId) -> Option<SnapshotSpec> {
        let mut all = (0..self.controllers()).filter_map(|number| self.controller(number));
        let (_, controller) = all.next()?;
        Some(controller.wanted(tree, on))
    }

    pub(crate) fn process(&self, number: usize) -> Option<Process> {
        self.seat(number).process.clone()
    }

    pub(crate) fn clock_of(&self, number: usize) -> &Clock {
        &self.places[number].clock
    }

    /// Starts the process of an amphora, unless it runs, and has it report.
    pub(crate) fn start_amphora(self: &Arc<Self>, amphora: &Arc<Amphora>) {
        if amphora.run().is_some() || self.ground.is_down(amphora.host) {
            return;
        }
        amphora.start();
        if let Some(run) = amphora.run() {
            let task = tokio::spawn(report(Arc::clone(self), Arc::clone(&run)));
            run.life.adopt(task.abort_handle());
        }
    }

    /// An amphora dies, and its supervisor, or its machine when it is back, starts it again.
    pub(crate) async fn fell(
        self: &Arc<Self>,
        amphora: Arc<Amphora>,
        death: Death,
        back: Duration,
    ) {
        amphora.end(death);
        if self.mutant == Mutant::ForgetsAtDeath {
            amphora.forget();
        }
        sleep(back).await;
        self.start_amphora(&amphora);
    }

    /// A machine loses its power, and gets it back.
    pub(crate) async fn lose_machine(
        self: &Arc<Self>,
        machine: usize,
        death: Death,
        back: Duration,
    ) {
        self.trace.note(format_args!("machine {machine} goes down"));
        self.ground.set_down(machine, true);
        if machine < self.controllers() {
            self.kill(machine);
        }
        if let Some(agent) = self.ground.agent_on(machine) {
            agent.end();
        }
        for amphora in self.ground.amphorae_on(machine) {
            amphora.end(death);
            if self.mutant == Mutant::ForgetsAtDeath {
                amphora.forget();
            }
        }
        sleep(back).await;
        self.ground.set_down(machine, false);
        if let Some(agent) = self.ground.agent_on(machine) {
            agent.start(self);
        }
        if machine < self.controllers() {
            self.start(machine).await;
        }
    }

    /// How many machines there are.
    pub(crate) fn machines(&self) -> usize {
        self.controllers() + self.ground.agents().len()
    }

    /// Ends everything. Its parts know each other, and would be there for ever.
    pub(crate) fn take_apart(&self) {
        (0..self.controllers()).for_each(|number| self.kill(number));
        self.ground.agents().iter().for_each(|agent| agent.end());
        let all = self.ground.amphorae().into_iter();
        all.for_each(|amphora| amphora.end(Death::Killed));
    }

    pub(crate) fn set_calm(&self) {
        *self.calm.lock().unwrap() = true;
    }

    pub(crate) fn is_calm(&self) -> bool {
        *self.calm.lock().unwrap()
    }

    fn seat(&self, number: usize) -> MutexGuard<'_, Seat> {
        self.places[number].state.lock().unwrap()
    }
}

/// The hosts that have joined before anything goes wrong, on machines beside those of controllers.
async fn joined(scenario: &Scenario, store: &Store, dice: &mut Dice) -> Vec<Arc<Agent>> {
    let mut agents = Vec::new();
    for number in 0..scenario.hosts {
        let id = HostId::new(dice.uuid());
        let agent = Agent::new(id, scenario.controllers + number, dice.fork("agent"));
        let now = Timestamp::from_microsecond(Clock::new().now_us()).unwrap();
        let token = HostToken {
            hash: id.to_string(),
            zone: "local".to_owned(),
            load_balancers_max: None,
            amphorae_max: None,
            created_at: now,
            expires_at: now + Duration::from_secs(60),
        };
        let newcomer = Newcomer {
            id,
            key_digest: id.to_string(),
            facts: agent.facts(BootId::new(dice.uuid())),
        };
        store.put_host_token(&token).await.unwrap();
        let enrolled = store.enrol_host(&token.hash, &newcomer, now).await.unwrap();
        assert!(matches!(enrolled, Enrolment::Done(_)));
        agents.push(agent);
    }
    agents
}

/// Reports for as long as the process lives, to whichever controller answers.
async fn report(system: Arc<System>, run: Arc<Run>) {
    let (mut current, mut told) = (run.amphora.host % system.controllers(), Told::default());
    loop {
        run.live(system.is_calm());
        let report = run.report();
        for _ in 0..system.controllers() {
            let delivered = tell(&system, &run, current, &mut told, &report);
            let delivered = tokio::time::timeout(REPORT_TIME_MAX, delivered).await;
            if matches!(delivered, Ok(Some(()))) {
                break;
            }
            told.forget();
            current = (current + 1) % system.controllers();
        }
        tokio::select! {
            biased;
            () = sleep(run.millis(900..1_100)) => {}
            () = run.news.notified() => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Tells a controller what changed, if it remembers the report before, or else everything. None if it is not taken.
async fn tell(
    system: &Arc<System>,
    run: &Arc<Run>,
    to: usize,
    told: &mut Told,
    report: &Report,
) -> Option<()> {
    if let Some(changes) = told.changes(report) {
        let words = Words::Changes(serde_json::to_vec(&changes).unwrap());
        if let Some(receipt) = deliver(system, run, to, words).await? {
            told.note_changes(report.clone(), &receipt);
            return Some(());
        }
    }
    let words = Words::Report(serde_json::to_vec(report).unwrap());
    let receipt = deliver(system, run, to, words).await??;
    told.note_report(report.clone(), &receipt);
    Some(())
}

/// What is brought to a controller.
#[derive(Clone)]
enum Words {
    Report(Vec<u8>),
    Changes(Vec<u8>),
}

/// Brings something to a controller. None if it is not taken; in place of a receipt if it does not remember what that
/// follows.
async fn deliver(
    system: &Arc<System>,
    run: &Arc<Run>,
    to: usize,
    words: Words,
) -> Option<Option<ReportReceipt>> {
    let (here, there) = (Node::Machine(run.amphora.host), Node::Controller(to));
    let id = run.amphora.id;
    let arrivals = system.net.send(here, there);
    let (first, again) = arrivals.split_first().unzip();
    for after in again.unwrap_or_default() {
        let (system, words, after) = (Arc::clone(system), words.clone(), *after);
        tokio::spawn(async move {
            sleep(after).await;
            take(&system, to, id, words).await;
        });
    }
    let Some(after) = first else {
        return std::future::pending().await;
    };
    sleep(*after).await;
    let taken = take(system, to, id, words).await;
    system.net.cross(there, here).await;
    taken
}

async fn take(
    system: &Arc<System>,
    to: usize,
    from: AmphoraId,
    words: Words,
) -> Option<Option<ReportReceipt>> {
    let (host, controller) = system.controller(to)?;
    let taken = host.run(async move {
        match words {
            Words::Report(body) => controller.take_report(from, &body).await.map(Some),
            Words::Changes(body) => controller.take_changes(from, &body).await,
        }
    });
    taken.await?.ok()
}

const REPORT_TIME_MAX: Duration = Duration::from_secs(5);
