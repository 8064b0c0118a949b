//! Many listeners, and a configuration that changes: what a change costs, when it serves, who is lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::ending::is_interrupted;

use super::{
    figures::{Figures, median},
    peers::{Listener, Peer},
    serve::{MEMBERS, Role, name},
    stage::{FIRST_PORT, Running, Stage, finished, member, vip},
    workload::generator,
};

/// What differs from one configuration to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Changes {
    /// The one member of the first listener.
    One,
    /// The members of every listener.
    All,
}

/// `None` where what ended processes did cannot be counted, and the peer replaces its own.
pub(super) fn measure(stage: &Stage, peer: Peer, seconds: f64) -> Result<Option<Figures>> {
    let mut running = stage.start(peer, &listeners(0, Changes::One))?;
    if peer.replaces_processes() && !running.account.counts_the_dead() {
        return Ok(None);
    }
    thread::sleep(SETTLE);
    let mut figures = Figures::default();
    let idle = spent(&mut running, |_| {})?;
    figures.cost = cost(&mut running, peer, Changes::One, idle)?;
    let all = cost(&mut running, peer, Changes::All, idle)?;
    reload(&mut running, peer, 0, Changes::One);
    thread::sleep(SETTLE);
    let mut serves = Vec::new();
    for turn in 1..=TURNS {
        serves.push(time_to_serve(stage, &mut running, peer, turn)?);
    }
    figures.extra = vec![
        ("every listener changed, ms", all),
        ("serves after, ms", median(serves)),
        ("memory, MiB", running.memory_kib() as f64 / 1024.0),
    ];
    lose(stage, &mut running, peer, seconds, &mut figures)?;
    Ok(Some(figures))
}

/// Milliseconds of processor time of one reload, beyond what the peer spends anyway.
fn cost(running: &mut Running, peer: Peer, changes: Changes, idle: f64) -> Result<f64> {
    let mut costs = Vec::new();
    for turn in 1..=TURNS {
        let all = spent(running, |running| reload(running, peer, turn, changes))?;
        costs.push((all - idle).max(0.0));
    }
    Ok(median(costs))
}

/// Milliseconds of processor time from an action on until all that follows from it is over.
fn spent(running: &mut Running, action: impl FnOnce(&mut Running)) -> Result<f64> {
    ensure!(!is_interrupted(), "interrupted");
    let before = running.time();
    action(running);
    thread::sleep(SETTLE);
    Ok((running.time() - before).as_secs_f64() * 1000.0)
}

fn reload(running: &mut Running, peer: Peer, turn: usize, changes: Changes) {
    peer.configure(&running.folder, &listeners(turn, changes));
    if let Some(signal) = peer.reload_signal() {
        running.program.signal(signal);
    }
}

/// Milliseconds from the signal on until the new member answers, and nobody else any more.
fn time_to_serve(stage: &Stage, running: &mut Running, peer: Peer, turn: usize) -> Result<f64> {
    let wanted = name(which(turn));
    // Written before: this is the peer's time, not ours.
    peer.configure(&running.folder, &listeners(turn, Changes::One));
    let start = Instant::now();
    if let Some(signal) = peer.reload_signal() {
        running.program.signal(signal);
    }
    let mut since = None;
    while since.is_none_or(|since: Instant| since.elapsed() < STEADY) {
        ensure!(start.elapsed() < SERVE_MAX, "the change never serves");
        ensure!(!is_interrupted(), "interrupted");
        // One that is lost says nothing about who serves.
        if let Ok(letter) = stage.named(vip(FIRST_PORT)) {
            since = (letter == wanted).then(|| since.unwrap_or_else(Instant::now));
        }
    }
    let served = since.unwrap_or_else(Instant::now);
    thread::sleep(SETTLE);
    Ok((served - start).as_secs_f64() * 1000.0)
}

/// Short and long connections through another listener while the configuration changes.
fn lose(
    stage: &Stage,
    running: &mut Running,
    peer: Peer,
    seconds: f64,
    figures: &mut Figures,
) -> Result<()> {
    // Peers that start processes get time to end them.
    let time = (seconds * 8.0).max(RELOADS as f64 * 0.3);
    let target = vip(FIRST_PORT + 7);
    let short = stage.generate(&generator(&["connect", "4"], target, time))?;
    let long = stage.generate(&generator(&["message", "16"], target, time))?;
    let pause = Duration::from_secs_f64((time - 1.0) / RELOADS as f64);
    for turn in 0..RELOADS {
        let start = Instant::now();
        reload(running, peer, turn, Changes::One);
        thread::sleep(pause.saturating_sub(start.elapsed()));
        ensure!(!is_interrupted(), "interrupted");
    }
    for program in [short, long] {
        let seen = finished(program)?;
        figures.errors += seen["errors"].as_u64().unwrap_or_default();
    }
    Ok(())
}

/// The first listener has one member, which changes its name from turn to turn; the others have ten.
fn listeners(turn: usize, changes: Changes) -> Vec<Listener> {
    let address = |index: u8, role: Role, number: u16| (member(index), role.port(number)).into();
    let of = |listener: u16| match listener {
        0 => vec![address(0, Role::Name, which(turn))],
        _ => {
            let first = if changes == Changes::All {
                which(turn)
            } else {
                0
            };
            let members = (0..10).map(|index| {
                let number = (u16::from(index) + if index == 0 { first } else { 0 }) % MEMBERS;
                address(index, Role::Echo, number)
            });
            members.collect()
        }
    };
    (0..LISTENERS)
        .map(|listener| Listener {
            datagrams: false,
            address: vip(FIRST_PORT + listener),
            members: of(listener),
        })
        .collect()
}

fn which(turn: usize) -> u16 {
    u16::from(turn % 2 == 1)
}

const LISTENERS: u16 = 1000;
/// Reloads of which the median is taken.
const TURNS: usize = 3;
/// Reloads under traffic.
const RELOADS: usize = 50;
const SETTLE: Duration = Duration::from_secs(2);
/// How long the new member must be the only one that answers.
const STEADY: Duration = Duration::from_millis(100);
const SERVE_MAX: Duration = Duration::from_secs(20);
