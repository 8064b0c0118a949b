//! One run, from its seed to its verdict.

use std::{path::PathBuf, sync::Arc, time::Duration};

use krater_controller_core::{model::ProjectId, quota::Growth};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    client::Client,
    dice::Dice,
    ledger::Ledger,
    mutant::Mutant,
    panics,
    scenario::{LISTENERS_MAX, LOAD_BALANCERS_MAX, MEMBERS_MAX, POOLS_MAX, Scenario},
    settled, storm,
    system::System,
    trace::Trace,
};

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    /// Of the trace: two equal runs have the same.
    pub(crate) hash: u64,
    pub(crate) events: u64,
    /// How long it took, there.
    pub(crate) lasted: Duration,
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    /// What should not have been.
    pub(crate) findings: Vec<String>,
}

/// How a run is made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) mutant: Mutant,
    /// Tell what happens.
    pub(crate) is_told: bool,
}

/// Runs the world of a seed.
pub(crate) fn simulate(seed: u64, manner: Manner) -> Verdict {
    panics::heed();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let folder = tempfile::tempdir_in(scratch()).unwrap();
    let verdict = runtime.block_on(run(seed, manner, folder.path().to_owned()));
    drop(runtime);
    verdict
}

/// Files of a run live shortly: in memory, where there is such a place.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

async fn run(seed: u64, manner: Manner, folder: PathBuf) -> Verdict {
    let mut dice = Dice::new(seed);
    let scenario = Scenario::draw(&mut dice);
    let trace = Arc::new(Trace::begin(manner.is_told));
    trace.note(format_args!("{scenario:?}"));
    let system = System::build(
        scenario.clone(),
        manner.mutant,
        folder,
        &mut dice,
        Arc::clone(&trace),
    )
    .await;
    for number in 0..scenario.controllers {
        system.start(number).await;
    }
    for agent in system.ground.agents() {
        agent.start(&system);
    }
    let ledger = Arc::new(Ledger::default());
    let mut clients = JoinSet::new();
    for number in 0..scenario.clients {
        let project = format!("project-{}", number % scenario.projects);
        let client = Client {
            number,
            project: ProjectId::parse(&project).unwrap(),
            system: Arc::clone(&system),
            ledger: Arc::clone(&ledger),
            dice: dice.fork("client"),
        };
        clients.spawn(client.live());
    }
    let watching = tokio::spawn(watch(Arc::clone(&system)));
    storm::rage(Arc::clone(&system), dice.fork("storm")).await;
    while clients.join_next().await.is_some() {}
    settled::converge(&system, &ledger).await;
    for what in panics::take() {
        system.judge.find(format!("a task panicked: {what}"));
    }
    watching.abort();
    system.take_apart();
    let book = ledger.open();
    Verdict {
        seed,
        hash: trace.hash(),
        events: trace.events(),
        lasted: trace.elapsed(),
        acknowledged: book.acknowledged,
        refused: book.refused,
        unknown: book.unknown,
        findings: system.judge.findings(),
    }
}

/// Looks at the database whenever something settled, and from time to time.
async fn watch(system: Arc<System>) {
    let limits = limits();
    loop {
        system.judge.look(&system.store, &limits).await;
        tokio::select! {
            biased;
            () = system.settled.notified() => {}
            () = sleep(Duration::from_millis(500)) => {}
        }
    }
}

fn limits() -> Growth {
    Growth {
        load_balancer: LOAD_BALANCERS_MAX,
        listener: LISTENERS_MAX,
        pool: POOLS_MAX,
        member: MEMBERS_MAX,
        health_monitor: i64::MAX,
        l7_policy: i64::MAX,
        l7_rule: i64::MAX,
    }
}
