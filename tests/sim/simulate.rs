//! Runs many seeds, or one again: see `tests/sim/run --help`.

mod agent;
mod amphora;
mod catalogue;
mod client;
mod database;
mod dice;
mod ground;
mod host;
mod judge;
mod ledger;
mod life;
mod mutant;
mod net;
mod pairs;
mod panics;
mod run;
mod scenario;
mod settled;
mod storm;
mod system;
mod trace;
mod wish;

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use mutant::Mutant;
use run::{Manner, Verdict, simulate};

/// Whole deployments in one thread, from one seed.
#[derive(Parser)]
#[command(name = "tests/sim/run")]
struct Choice {
    /// Run this seed alone, and tell what happens.
    #[arg(long)]
    seed: Option<u64>,
    /// How many seeds.
    #[arg(long, default_value_t = 256)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many at once; as many as there are cores by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Go on after something was found.
    #[arg(long)]
    go_on: bool,
    /// Break a rule, by its number, to see that it is noticed.
    #[arg(long)]
    broken_rule: Option<usize>,
}

fn main() -> ExitCode {
    let choice = Choice::parse();
    let rule = choice
        .broken_rule
        .and_then(|number| Mutant::ALL.get(number));
    let mutant = rule.copied().unwrap_or_default();
    match choice.seed {
        Some(seed) => one(seed, mutant),
        None => many(&choice, mutant),
    }
}

fn one(seed: u64, mutant: Mutant) -> ExitCode {
    let manner = Manner {
        mutant,
        is_told: true,
    };
    let verdict = simulate(seed, manner);
    println!("{verdict:#?}");
    if verdict.findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What was seen so far.
#[derive(Default)]
struct Sum {
    runs: u64,
    lasted: Duration,
    acknowledged: u64,
    refused: u64,
    unknown: u64,
    found: Vec<Verdict>,
}

fn many(choice: &Choice, mutant: Mutant) -> ExitCode {
    let jobs = choice
        .jobs
        .or_else(|| thread::available_parallelism().ok().map(usize::from));
    let (next, end) = (AtomicU64::new(choice.from), choice.from + choice.seeds);
    let (sum, began) = (Mutex::new(Sum::default()), Instant::now());
    let manner = Manner {
        mutant,
        is_told: false,
    };
    thread::scope(|scope| {
        for _ in 0..jobs.unwrap_or(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let verdict = simulate(seed, manner);
                    if !note(&sum, verdict, began) && !choice.go_on {
                        next.store(end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let sum = sum.into_inner().unwrap();
    tell(&sum, began);
    if sum.found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Adds a run to the sum; says whether it found nothing.
fn note(sum: &Mutex<Sum>, verdict: Verdict, began: Instant) -> bool {
    let mut sum = sum.lock().unwrap();
    sum.runs += 1;
    sum.lasted += verdict.lasted;
    sum.acknowledged += verdict.acknowledged;
    sum.refused += verdict.refused;
    sum.unknown += verdict.unknown;
    let is_clean = verdict.findings.is_empty();
    if !is_clean {
        println!("seed {}: {}", verdict.seed, verdict.findings.join("\n    "));
        println!("  see it again: tests/sim/run --seed {}", verdict.seed);
        sum.found.push(verdict);
    }
    if sum.runs.is_multiple_of(100) {
        tell(&sum, began);
    }
    is_clean
}

fn tell(sum: &Sum, began: Instant) {
    println!(
        "{} runs in {:.0} s: {:.1} hours simulated, {} requests done, {} refused, {} without an answer; {} runs found something",
        sum.runs,
        began.elapsed().as_secs_f64(),
        sum.lasted.as_secs_f64() / 3_600.0,
        sum.acknowledged,
        sum.refused,
        sum.unknown,
        sum.found.len()
    );
}
