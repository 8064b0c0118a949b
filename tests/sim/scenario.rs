//! What a run is made of, and what goes wrong in it: drawn from its seed. Not everything goes wrong in every run, or what
//! is rare would never be alone.

use std::{fmt::Write as _, time::Duration};

use crate::dice::Dice;

/// A run as it is planned.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) controllers: usize,
    pub(crate) clients: usize,
    pub(crate) projects: usize,
    /// Hosts that have joined, beside those of controllers.
    pub(crate) hosts: usize,
    /// Whether amphorae run on the hosts of controllers too.
    pub(crate) on_controllers: bool,
    /// Of a thousand load balancers, how many two amphorae take turns at.
    pub(crate) pairs: u64,
    /// Of a hundred requests, how many are failovers.
    pub(crate) failovers: u64,
    /// Shared amphorae that are kept.
    pub(crate) amphorae: usize,
    pub(crate) load_balancers_max: u32,
    /// How long things go wrong.
    pub(crate) storm: Duration,
    /// The mean pause between two faults, in milliseconds.
    pub(crate) pause: u64,
    /// The mean pause between two requests of a client, in milliseconds.
    pub(crate) think: u64,
    pub(crate) faults: Vec<Fault>,
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Messages are lost, come twice or late.
    Weather,
    /// A controller and a machine do not hear each other, one of them or both.
    PartAgents,
    /// A controller does not reach the database.
    PartDatabase,
    /// Clients do not reach a controller.
    PartClients,
    /// A controller dies at some await of the store.
    CrashController,
    /// A controller is stopped for a while.
    FreezeController,
    /// A process of an amphora is killed.
    KillAmphora,
    /// The machine of an amphora loses power: files are torn.
    PowerLoss,
    /// An amphora is away for so long that it counts as silent.
    Outage,
    /// The clock of a controller is stepped, there and back.
    StepClock,
    /// The clock of the database is stepped.
    StepDatabaseClock,
    /// The disk of an amphora is full.
    DiskFull,
    /// Nothing can be started.
    NoProcesses,
    /// A machine loses its power for a while.
    LoseMachine,
    /// One does, and another one soon after.
    LoseTwoMachines,
    /// Nobody hears a machine, nor does it hear anybody.
    PartMachine,
    /// The agent of a host dies and comes back.
    KillAgent,
}

impl Fault {
    pub(crate) const ALL: [Self; 17] = [
        Self::Weather,
        Self::PartAgents,
        Self::PartDatabase,
        Self::PartClients,
        Self::CrashController,
        Self::FreezeController,
        Self::KillAmphora,
        Self::PowerLoss,
        Self::Outage,
        Self::StepClock,
        Self::StepDatabaseClock,
        Self::DiskFull,
        Self::NoProcesses,
        Self::LoseMachine,
        Self::LoseTwoMachines,
        Self::PartMachine,
        Self::KillAgent,
    ];
}

impl Scenario {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let share = dice.within(150..700);
        let faults = Fault::ALL.into_iter();
        let mut faults: Vec<_> = faults.filter(|_| dice.per_mille(share)).collect();
        if dice.per_mille(300) {
            // Nothing but that, so that it is long and often.
            faults = vec![Fault::Weather];
        }
        let hosts = [0, 2, 2, 3, 4][dice.index(5)];
        let has_pairs = hosts > 0 && dice.per_mille(800);
        Self {
            hosts,
            on_controllers: hosts == 0 || dice.per_mille(300),
            pairs: if has_pairs {
                dice.within(300..1_001)
            } else {
                0
            },
            failovers: if has_pairs { [4, 12, 30] } else { [4, 4, 12] }[dice.index(3)],
            controllers: dice.within(1..4) as usize,
            clients: dice.within(2..5) as usize,
            projects: dice.within(1..3) as usize,
            amphorae: dice.within(1..4) as usize,
            load_balancers_max: dice.within(2..6) as u32,
            storm: dice.millis(6_000..16_000),
            pause: dice.within(150..1_500),
            think: dice.within(100..700),
            faults,
        }
    }

    /// The settings of each controller.
    pub(crate) fn settings(&self) -> String {
        let mut controllers = String::new();
        for number in 0..self.controllers {
            let _ = write!(controllers, "\"controller-{number}.test:9877\", ");
        }
        format!(
            "[intake]\ncontrollers = [{controllers}]\n\
            [fleet]\namphorae = {}\namphorae_max = 24\nload_balancers_max = {}\nheartbeat = \"1s\"\nsilence = \"6s\"\n\
            on_this_host = {}\n\
            [network]\ndriver = \"noop\"\n\
            [quota]\nload_balancer = {LOAD_BALANCERS_MAX}\nlistener = {LISTENERS_MAX}\npool = {POOLS_MAX}\nmember = {MEMBERS_MAX}\n",
            self.amphorae, self.load_balancers_max, self.on_controllers,
        )
    }
}

/// What a project may have: little, so that it is reached.
pub(crate) const LOAD_BALANCERS_MAX: i64 = 4;
pub(crate) const LISTENERS_MAX: i64 = 6;
pub(crate) const POOLS_MAX: i64 = 6;
pub(crate) const MEMBERS_MAX: i64 = 14;
