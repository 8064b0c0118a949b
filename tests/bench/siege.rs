//! Everything of a fleet is killed in turn, under checked traffic and edits: what is lost by it, and for how long.

use std::time::{Duration, Instant};

use clap::Args;
use krater_tests::{Blow, Outcome, Score, Siege, percentile};
use serde_json::{Value, json};

use crate::Output;

#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// Controllers on one PostgreSQL database.
    #[arg(long, default_value_t = 3)]
    controllers: usize,
    /// Hosts that amphorae run on, each in a network namespace.
    #[arg(long, default_value_t = 6)]
    hosts: usize,
    /// Load balancers: TCP and HTTP in turn, every third one a pair that takes turns (ACTIVE_STANDBY).
    #[arg(long, default_value_t = 24)]
    balancers: usize,
    /// How often each kind of kill is gone through, each time at another one; as often as there are hosts unless given.
    #[arg(long)]
    rounds: Option<usize>,
    /// What is killed: controller, database, amphora, supervisor, host-agent, host; all of them unless given.
    #[arg(long, value_delimiter = ',', value_parser = Blow::named)]
    kinds: Vec<Blow>,
    /// No kill begins after so many seconds.
    #[arg(long, default_value_t = 190)]
    seconds: u64,
    /// Milliseconds each client rests between two requests; there are two for each load balancer.
    #[arg(long, default_value_t = 40)]
    pause: u64,
    /// Milliseconds each of four writers rests between two rounds of edits.
    #[arg(long, default_value_t = 100)]
    edit_pause: u64,
}

pub(crate) fn run(settings: &Settings, output: Output) -> anyhow::Result<()> {
    let is_possible = (1..=20).contains(&settings.controllers)
        && (2..=80).contains(&settings.hosts)
        && (1..=140).contains(&settings.balancers);
    anyhow::ensure!(
        is_possible,
        "there can be 1 to 20 controllers, 2 to 80 hosts and 1 to 140 load balancers"
    );
    let start = Instant::now();
    let siege = Siege {
        controllers: settings.controllers,
        hosts: settings.hosts,
        balancers: settings.balancers,
        kinds: match settings.kinds.is_empty() {
            true => Blow::ALL.to_vec(),
            false => settings.kinds.clone(),
        },
        rounds: settings.rounds.unwrap_or(settings.hosts),
        time: Duration::from_secs(settings.seconds),
        pause: Duration::from_millis(settings.pause),
        edit_pause: Duration::from_millis(settings.edit_pause),
    };
    let outcome = siege.run(&|line| eprintln!("{line}"));
    match output {
        Output::Table => print!("{}", text(&siege, &outcome, start.elapsed())),
        Output::Json => println!("{}", to_json(&siege, &outcome)),
    }
    Ok(())
}

fn text(siege: &Siege, outcome: &Outcome, took: Duration) -> String {
    let mut text = format!(
        "{} controllers, {} hosts, {} load balancers; {:.0} s\n",
        siege.controllers,
        siege.hosts,
        siege.balancers,
        took.as_secs_f64(),
    );
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(outcome.scores.iter().map(|(blow, score)| row(*blow, score)));
    let widths: [usize; COLUMNS.len()] = std::array::from_fn(|at| {
        rows.iter()
            .map(|row| row[at].len())
            .max()
            .unwrap_or_default()
    });
    for row in &rows {
        text.push_str(&format!("  {:width$}", row[0], width = widths[0]));
        for (cell, width) in row.iter().zip(widths).skip(1) {
            text.push_str(&format!("  {cell:>width$}"));
        }
        text.push('\n');
    }
    for (name, value) in totals(outcome) {
        text.push_str(&format!("  {name}: {value}\n"));
    }
    for (blow, score) in &outcome.scores {
        for (reason, count) in &score.reasons {
            text.push_str(&format!("  {}: {count} x {reason}\n", name(*blow)));
        }
        for why in &score.unsettled {
            text.push_str(&format!(
                "  {}, not as it should be in time: {why}\n",
                name(*blow)
            ));
        }
    }
    for (what, lines) in [("lost", &outcome.lost_writes), ("stuck", &outcome.stuck)] {
        for line in lines.iter().take(LINES_MAX) {
            text.push_str(&format!("  {what}: {line}\n"));
        }
    }
    text
}

fn row(blow: Option<Blow>, score: &Score) -> [String; COLUMNS.len()] {
    let settled = settled_ms(score);
    let settled_text = |percent: f64| match settled.is_empty() {
        true => "-".to_owned(),
        false => percentile(&settled, percent).to_string(),
    };
    [
        name(blow).to_owned(),
        score.kills.to_string(),
        score.done.to_string(),
        score.lost.to_string(),
        score.refused.to_string(),
        score.wrong.to_string(),
        score.longest.as_millis().to_string(),
        score.longest_of_pairs.as_millis().to_string(),
        settled_text(50.0),
        settled_text(100.0),
    ]
}

fn settled_ms(score: &Score) -> Vec<u64> {
    let mut settled: Vec<u64> = score.settled.iter().copied().map(milliseconds).collect();
    settled.sort_unstable();
    settled
}

fn totals(outcome: &Outcome) -> Vec<(&'static str, Value)> {
    let settled = milliseconds(outcome.settled_after);
    vec![
        (
            "requests that came to a member twice",
            json!(outcome.doubled),
        ),
        ("edits acknowledged", json!(outcome.acknowledged)),
        (
            "edits refused or without an answer",
            json!(outcome.unanswered),
        ),
        (
            "acknowledged edits that were lost",
            json!(outcome.lost_writes.len()),
        ),
        (
            "objects PENDING or ERROR 60 s after the last kill",
            json!(outcome.stuck.len()),
        ),
        (
            "ms from the last kill until nothing was pending",
            json!(settled),
        ),
        ("kills that there was no time for", json!(outcome.left_out)),
    ]
}

fn to_json(siege: &Siege, outcome: &Outcome) -> Value {
    let kinds = outcome.scores.iter().map(|(blow, score)| {
        let settled = settled_ms(score);
        json!({
            "killed": blow.map(Blow::name), "kills": score.kills, "done": score.done, "lost": score.lost,
            "refused": score.refused, "wrong": score.wrong,
            "longest_gap_ms": milliseconds(score.longest),
            "longest_gap_of_pairs_ms": milliseconds(score.longest_of_pairs),
            "whole_after_ms": settled, "not_whole": score.unsettled, "reasons": score.reasons,
        })
    });
    let totals: serde_json::Map<String, Value> = totals(outcome)
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    json!({
        "controllers": siege.controllers, "hosts": siege.hosts, "load_balancers": siege.balancers,
        "kinds": kinds.collect::<Vec<_>>(), "totals": totals,
        "lost_writes": outcome.lost_writes, "stuck": outcome.stuck,
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn name(blow: Option<Blow>) -> &'static str {
    blow.map_or("(none)", Blow::name)
}

const COLUMNS: [&str; 10] = [
    "killed",
    "kills",
    "done",
    "lost under way",
    "refused",
    "wrong",
    "longest gap ms",
    "of pairs",
    "whole after ms",
    "at most",
];
const LINES_MAX: usize = 20;
