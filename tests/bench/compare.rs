//! krater beside other load balancers: processor time and memory of the proxy for the same work, in one run.
//!
//! Three networks joined by links hold clients, proxy and members. The proxy has one worker and one processor. Rounds
//! go over the peers forward and backward, so that a machine that grows busier does not favour whoever comes first;
//! what is shown is the median of the rounds.

mod account;
mod figures;
mod generate;
mod peers;
mod reload;
mod serve;
mod stage;
mod wire;
mod workload;

pub(crate) use account::pss_kib;

use std::{
    net::IpAddr, net::SocketAddr, os::unix::process::CommandExt, path::PathBuf, process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use rustix::{
    process::{Resource, getrlimit, setrlimit},
    thread::{CpuSet, sched_setaffinity},
};
use serde_json::json;

use crate::{
    Output,
    ending::{self, is_interrupted},
};
use account::Account;
use figures::Comparison;
use generate::Traffic;
use peers::Peer;
use stage::Stage;
use workload::Workload;

/// What to compare.
#[derive(Clone, Debug, Args)]
pub(crate) struct Settings {
    /// Workloads, in this order; all there are if none is named.
    #[arg(long, value_delimiter = ',')]
    workloads: Vec<String>,
    /// Peers; all that are installed if none is named.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// How often each peer is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of traffic that are counted each time.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Clients on another processor than the proxy: closer to life, less steady.
    #[arg(long)]
    apart: bool,
}

/// This program started by itself.
#[derive(Debug, Args)]
pub(crate) struct Player {
    /// The processor it runs on.
    #[arg(long)]
    processor: usize,
    /// The file of a control group it enters.
    #[arg(long)]
    group: Option<PathBuf>,
    #[command(subcommand)]
    role: PlayerRole,
}

#[derive(Debug, Subcommand)]
enum PlayerRole {
    /// Becomes another program.
    Launch {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Members.
    Serve { address: IpAddr },
    /// Clients.
    Generate {
        address: SocketAddr,
        seconds: f64,
        #[command(subcommand)]
        traffic: Traffic,
    },
}

/// Compares and prints.
pub(crate) fn run(settings: &Settings, output: Output) -> Result<()> {
    let workloads = choose(&settings.workloads, workload::ALL, |workload| workload.name)?;
    let peers = choose(&settings.peers, &Peer::ALL, |peer| peer.name())?;
    ensure!(settings.rounds > 0, "at least one round is needed");
    ensure!(
        (0.2..=30.0).contains(&settings.seconds),
        "seconds must be between 0.2 and 30"
    );
    let peers = installed(peers);
    ending::watch_signals()?;
    let stage = Stage::set(settings.apart)?;
    eprintln!("processor time by {}", Account::open("probe").describe());
    let mut all = Vec::new();
    for workload in workloads {
        let comparison = compare(&stage, workload, &peers, settings);
        ensure!(!is_interrupted(), "interrupted; nothing is left running");
        match output {
            Output::Table => print!("{}", comparison.text()),
            Output::Json => all.push(comparison.json()),
        }
    }
    if output == Output::Json {
        println!("{}", json!({"comparisons": all}));
    }
    Ok(())
}

fn compare(stage: &Stage, workload: Workload, peers: &[Peer], settings: &Settings) -> Comparison {
    let concerned = peers.iter().filter(|peer| workload.concerns(**peer));
    let mut comparison = Comparison {
        workload,
        rounds: concerned.map(|peer| (*peer, Vec::new())).collect(),
    };
    let rounds = workload.rounds(settings.rounds);
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..comparison.rounds.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let (peer, measured) = &mut comparison.rounds[at];
            if is_interrupted() {
                return comparison;
            }
            eprint!(
                "{} {}/{rounds} {:16} ",
                workload.name,
                round + 1,
                peer.name()
            );
            match workload.measure(stage, *peer, settings.seconds) {
                Ok(Some(figures)) => {
                    eprintln!("{:.2} {}", figures.cost, workload.unit());
                    measured.push(figures);
                }
                Ok(None) => eprintln!("left out: no control group can be made here"),
                Err(error) => eprintln!("failed: {error:#}"),
            }
        }
    }
    comparison
}

/// Those that are named, or all.
fn choose<T: Copy>(
    named: &[String],
    all: &[T],
    name: impl Fn(&T) -> &'static str,
) -> Result<Vec<T>> {
    if named.is_empty() {
        return Ok(all.to_vec());
    }
    let find = |wanted: &String| {
        let known = || all.iter().map(&name).collect::<Vec<_>>().join(", ");
        let found = all
            .iter()
            .find(|one| name(one).eq_ignore_ascii_case(wanted));
        found
            .copied()
            .with_context(|| format!("{wanted:?} is not known; known: {}", known()))
    };
    named.iter().map(find).collect()
}

fn installed(peers: Vec<Peer>) -> Vec<Peer> {
    let (there, missing): (Vec<Peer>, Vec<_>) =
        peers.into_iter().partition(|peer| peer.program().is_some());
    for peer in missing {
        eprintln!("{} is not installed and is left out", peer.name());
    }
    there
}

/// What a player does; returns at its end.
pub(crate) fn play(player: Player) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(player.processor);
    // A machine with one processor has nothing to choose.
    let _ = sched_setaffinity(None, &set);
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).context("raise the limit of open files")?;
    if let Some(group) = player.group {
        std::fs::write(&group, std::process::id().to_string())
            .with_context(|| format!("enter {}", group.display()))?;
    }
    match player.role {
        PlayerRole::Launch { command } => {
            let (program, arguments) = command.split_first().context("a program")?;
            let error = Command::new(program).args(arguments).exec();
            bail!("{program}: {error}");
        }
        PlayerRole::Serve { address } => serve::run(address),
        PlayerRole::Generate {
            address,
            seconds,
            traffic,
        } => generate::run(&traffic, address, Duration::from_secs_f64(seconds)),
    }
}
