//! What goes wrong, one thing after the other, until the storm is over.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};

use crate::{
    amphora::{Amphora, Death},
    dice::Dice,
    net::{Node, Weather},
    scenario::Fault,
    system::System,
};

/// Has things go wrong for as long as the scenario says, and then has everything mended.
pub(crate) async fn rage(system: Arc<System>, mut dice: Dice) {
    let mut under_way = JoinSet::new();
    let until = system.scenario.storm;
    while system.trace.elapsed() < until {
        sleep(dice.millis(1..system.scenario.pause * 2)).await;
        let Some(fault) = dice.pick(&system.scenario.faults).copied() else {
            continue;
        };
        let turn = dice.fork("turn");
        under_way.spawn(strike(Arc::clone(&system), fault, turn));
    }
    under_way.shutdown().await;
    mend(&system).await;
}

/// Everything works again: what is down comes up, whatever was stopped goes on.
async fn mend(system: &Arc<System>) {
    system.trace.note(format_args!("the storm is over"));
    system.set_calm();
    system.net.heal();
    system.ground.set_failing(false);
    system.clock.set_right();
    for number in 0..system.controllers() {
        system.clock_of(number).set_right();
        system.put_out_fuse(number);
        if let Some(process) = system.process(number) {
            process.host.thaw();
        }
        if system.controller(number).is_none() {
            // Nobody waits any more for one that is just starting.
            system.kill(number);
        }
    }
    (0..system.machines()).for_each(|machine| system.ground.set_down(machine, false));
    for amphora in system.ground.amphorae() {
        if let Some(run) = amphora.run() {
            run.set_disk_full(false);
        }
        // A host that comes back asks first what is wanted of it.
        let agent = system.ground.agent_on(amphora.host);
        if agent.is_none_or(|agent| agent.serving().is_some() && agent.has(amphora.id)) {
            system.start_amphora(&amphora);
        }
    }
    for agent in system.ground.agents() {
        agent.start(system);
    }
    let mut starting = JoinSet::new();
    for number in 0..system.controllers() {
        let system = Arc::clone(system);
        starting.spawn(async move { system.start(number).await });
    }
    while starting.join_next().await.is_some() {}
}

async fn strike(system: Arc<System>, fault: Fault, mut dice: Dice) {
    let number = dice.index(system.controllers());
    system.trace.note(format_args!("fault: {fault:?} {number}"));
    match fault {
        Fault::Weather => weather(&system, dice).await,
        Fault::PartAgents => {
            let machine = Node::Machine(dice.index(system.machines()));
            part(&system, Node::Controller(number), machine, &mut dice).await;
        }
        Fault::PartMachine => part_machine(&system, dice).await,
        Fault::LoseMachine => lose(&system, dice).await,
        Fault::LoseTwoMachines => {
            let (one, other) = (dice.fork("one"), dice.fork("other"));
            let later = dice.millis(10..8_000);
            let other = async {
                sleep(later).await;
                lose(&system, other).await;
            };
            tokio::join!(biased; lose(&system, one), other);
        }
        Fault::KillAgent => kill_agent(&system, dice).await,
        Fault::PartDatabase => {
            part(&system, Node::Controller(number), Node::Database, &mut dice).await;
        }
        Fault::PartClients => {
            part(&system, Node::Controller(number), Node::Client, &mut dice).await;
        }
        Fault::CrashController => crash(&system, number, dice).await,
        Fault::FreezeController => freeze(&system, number, dice).await,
        Fault::KillAmphora => {
            let back = dice.millis(5..500);
            fell(&system, Death::Killed, back, dice).await;
        }
        Fault::PowerLoss => {
            let back = dice.millis(500..4_000);
            fell(&system, Death::PowerLoss, back, dice).await;
        }
        Fault::Outage => {
            let back = dice.millis(6_000..14_000);
            fell(&system, Death::Killed, back, dice).await;
        }
        Fault::StepClock => {
            let clock = system.clock_of(number);
            step(clock, dice).await;
        }
        Fault::StepDatabaseClock => step(&system.clock, dice).await,
        Fault::DiskFull => {
            let Some(amphora) = some_amphora(&system, &mut dice) else {
                return;
            };
            if let Some(run) = amphora.run() {
                run.set_disk_full(true);
                sleep(dice.millis(100..4_000)).await;
                run.set_disk_full(false);
            }
        }
        Fault::NoProcesses => {
            system.ground.set_failing(true);
            sleep(dice.millis(500..5_000)).await;
            system.ground.set_failing(false);
        }
    }
}

async fn weather(system: &Arc<System>, mut dice: Dice) {
    let weather = match dice.within(0..3) {
        // What comes late comes after what was sent later: it is here that the old may overtake the new.
        0 => Weather {
            lost: dice.within(0..100),
            twice: dice.within(500..1_000),
            late: dice.within(300..700),
        },
        _ => Weather {
            lost: dice.within(0..300),
            twice: dice.within(0..300),
            late: dice.within(0..300),
        },
    };
    system.net.set_weather(weather);
    sleep(dice.millis(500..6_000)).await;
    system.net.set_weather(Weather::default());
}

/// Nothing gets through between two, one way or both, for a while.
async fn part(system: &Arc<System>, one: Node, other: Node, dice: &mut Dice) {
    let ways = match dice.within(0..3) {
        0 => vec![(one, other)],
        1 => vec![(other, one)],
        _ => vec![(one, other), (other, one)],
    };
    for (from, to) in &ways {
        system.net.cut(*from, *to);
    }
    sleep(dice.millis(200..9_000)).await;
    for (from, to) in ways {
        system.net.mend(from, to);
    }
}

/// Nothing gets through between a machine and all controllers.
async fn part_machine(system: &Arc<System>, mut dice: Dice) {
    let machine = dice.index(system.machines());
    let ways = |system: &System| {
        let controllers = (0..system.controllers()).filter(|number| *number != machine);
        controllers
            .map(|number| (Node::Machine(machine), Node::Controller(number)))
            .collect::<Vec<_>>()
    };
    for (one, other) in ways(system) {
        system.net.cut(one, other);
        system.net.cut(other, one);
    }
    sleep(dice.millis(500..14_000)).await;
    for (one, other) in ways(system) {
        system.net.mend(one, other);
        system.net.mend(other, one);
    }
}

/// A machine loses its power, most often one that carries load balancers.
async fn lose(system: &Arc<System>, mut dice: Dice) {
    let machine = dice.index(system.machines());
    let death = match dice.within(0..2) {
        0 => Death::Killed,
        _ => Death::PowerLoss,
    };
    let back = dice.millis(500..16_000);
    system.lose_machine(machine, death, back).await;
}

async fn kill_agent(system: &Arc<System>, mut dice: Dice) {
    let Some(agent) = dice.pick(system.ground.agents()) else {
        return;
    };
    agent.end();
    sleep(dice.millis(50..9_000)).await;
    if !system.ground.is_down(agent.machine) {
        agent.start(system);
    }
}

/// A controller ends at some await of the store, and is started again.
async fn crash(system: &Arc<System>, number: usize, mut dice: Dice) {
    let steps = dice.within(0..60);
    system.light_fuse(number, steps);
    sleep(dice.millis(50..3_000)).await;
    // Whatever it was doing.
    system.kill(number);
    sleep(dice.millis(10..4_000)).await;
    system.start(number).await;
}

async fn freeze(system: &Arc<System>, number: usize, mut dice: Dice) {
    let Some(process) = system.process(number) else {
        return;
    };
    while !process.host.freeze() {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(dice.millis(500..9_000)).await;
    process.host.thaw();
}

async fn fell(system: &Arc<System>, death: Death, back: Duration, mut dice: Dice) {
    if let Some(amphora) = some_amphora(system, &mut dice) {
        system.fell(amphora, death, back).await;
    }
}

fn some_amphora(system: &System, dice: &mut Dice) -> Option<Arc<Amphora>> {
    dice.pick(&system.ground.amphorae()).cloned()
}

/// A clock goes wrong, and right again.
async fn step(clock: &crate::host::Clock, mut dice: Dice) {
    let sign = if dice.per_mille(500) { 1 } else { -1 };
    let by = match dice.within(0..3) {
        0 => dice.millis(1..3_000),
        1 => dice.millis(3_000..120_000),
        _ => dice.millis(120_000..86_400_000),
    };
    clock.step(by, sign);
    sleep(dice.millis(300..8_000)).await;
    clock.step(by, -sign);
}
