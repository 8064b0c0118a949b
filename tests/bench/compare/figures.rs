//! What was measured of one peer on one workload, and how it is shown.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::{peers::Peer, workload::Workload};

/// One round of one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    /// In the unit of the workload.
    pub(super) cost: f64,
    /// Done per second; bytes where that is what is counted.
    pub(super) rate: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// What was lost or broken.
    pub(super) errors: u64,
    /// Further figures, with their names.
    pub(super) extra: Vec<(&'static str, f64)>,
}

/// All rounds of all peers on one workload.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) workload: Workload,
    pub(super) rounds: Vec<(Peer, Vec<Figures>)>,
}

/// Over the rounds.
struct Row {
    peer: Peer,
    cost: f64,
    /// Between the dearest and the cheapest round, as a share of the median.
    spread: f64,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    errors: u64,
    extra: Vec<(&'static str, f64)>,
}

impl Comparison {
    fn rows(&self) -> Vec<Row> {
        let rows = self.rounds.iter().filter(|(_, rounds)| !rounds.is_empty());
        rows.map(|(peer, rounds)| {
            let of = |read: fn(&Figures) -> f64| median(rounds.iter().map(read).collect());
            let costs = rounds.iter().map(|figures| figures.cost);
            let cost = of(|figures| figures.cost);
            let range = costs.clone().fold(0.0, f64::max) - costs.fold(f64::INFINITY, f64::min);
            let extra = rounds[0].extra.iter().enumerate().map(|(at, (name, _))| {
                let values = rounds.iter().filter_map(|figures| figures.extra.get(at));
                (*name, median(values.map(|(_, value)| *value).collect()))
            });
            Row {
                peer: *peer,
                cost,
                spread: if cost > 0.0 { range / cost } else { 0.0 },
                rate: of(|figures| figures.rate),
                p50_us: of(|figures| figures.p50_us),
                p99_us: of(|figures| figures.p99_us),
                errors: rounds.iter().map(|figures| figures.errors).sum(),
                extra: extra.collect(),
            }
        })
        .collect()
    }

    /// The cost that counts as one: the cheapest HAProxy's, where there is none nginx's.
    fn base(&self, rows: &[Row]) -> Option<f64> {
        let cheapest = |of: fn(Peer) -> bool| {
            let costs = rows.iter().filter(|row| of(row.peer)).map(|row| row.cost);
            costs.reduce(f64::min)
        };
        let base = cheapest(Peer::is_haproxy).or_else(|| cheapest(|peer| peer == Peer::Nginx));
        base.filter(|base| *base > 0.0)
    }

    /// For people: no wider than a terminal.
    pub(super) fn text(&self) -> String {
        let rows = self.rows();
        let base = self.base(&rows);
        let mut text = format!("\n{}  {}\n", self.workload.name, self.workload.title);
        let _ = writeln!(
            text,
            "  {:16} {:>9} {:>6} {:>6} {:>9} {:>7} {:>7} {:>6}",
            "",
            self.workload.unit(),
            "ratio",
            "spread",
            "per s",
            "p50 us",
            "p99 us",
            "errors"
        );
        for row in &rows {
            let ratio = base.map_or_else(|| "-".into(), |base| format!("{:.2}", row.cost / base));
            let _ = writeln!(
                text,
                "  {:16} {:>9.2} {ratio:>6} {:>5.0}% {:>9} {:>7} {:>7} {:>6}",
                row.peer.name(),
                row.cost,
                row.spread * 100.0,
                short(row.rate),
                short(row.p50_us),
                short(row.p99_us),
                row.errors
            );
            for (name, value) in &row.extra {
                let _ = writeln!(text, "    {name}: {value:.1}");
            }
        }
        text
    }

    /// For programs: every round.
    pub(super) fn json(&self) -> Value {
        let rows = self.rows();
        let base = self.base(&rows);
        let peers: Map<String, Value> = rows
            .iter()
            .map(|row| {
                let rounds = self.rounds.iter().find(|(peer, _)| *peer == row.peer);
                let costs: Vec<f64> = rounds
                    .iter()
                    .flat_map(|(_, rounds)| rounds.iter().map(|figures| figures.cost))
                    .collect();
                let extra: Map<String, Value> = row
                    .extra
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), json!(value)))
                    .collect();
                let figures = json!({
                    "cost": row.cost, "ratio": base.map(|base| row.cost / base), "spread": row.spread,
                    "rounds": costs, "per_second": row.rate, "p50_us": row.p50_us, "p99_us": row.p99_us,
                    "errors": row.errors, "extra": extra,
                });
                (row.peer.name().to_owned(), figures)
            })
            .collect();
        json!({"workload": self.workload.name, "title": self.workload.title, "unit": self.workload.unit(), "peers": peers})
    }
}

/// The middle one; of an even number the mean of the two.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// A number with three digits and a letter; nothing for what was not measured.
fn short(number: f64) -> String {
    if number == 0.0 {
        return "-".into();
    }
    let (value, letter) = match number {
        number if number >= 1e9 => (number / 1e9, "G"),
        number if number >= 1e6 => (number / 1e6, "M"),
        number if number >= 1e3 => (number / 1e3, "k"),
        number => (number, ""),
    };
    let decimals = if value < 10.0 {
        2
    } else {
        usize::from(value < 100.0)
    };
    format!("{value:.decimals$}{letter}")
}
