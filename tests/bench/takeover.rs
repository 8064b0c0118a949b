//! How long nobody answers when addresses pass from one host to the other, by why: two amphorae, or keepalived with one
//! of them; probes each 5 ms through a router.

use std::time::{Duration, Instant};

use krater_tests::{Pair, PairedAmphora, Signal, percentile, until};

use crate::{Table, progress};

pub(crate) fn measure(runs: usize) -> Table {
    let mut table = Table::new(format!(
        "longest time without an answer when a VIP passes over, {runs} runs each: median and longest"
    ));
    for interval in [100, 1_000] {
        for event in Event::ALL {
            progress(&format!("{}, adverts each {interval} ms", event.name()));
            let mut gaps: Vec<u32> = (0..runs).map(|_| event.gap(interval)).collect();
            gaps.sort_unstable();
            let name = event.name();
            let name = |what: &str| format!("{name}, adverts each {interval} ms, {what}");
            table.add_us(name("median"), percentile(&gaps, 50.0));
            table.add_us(name("longest"), gaps.last().copied().unwrap_or_default());
        }
    }
    table
}

/// Why addresses pass over.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The process that carries traffic is killed.
    Killed,
    /// It and its supervisor are stopped, as the host were.
    Silent,
    /// The host loses its cable.
    Unplugged,
    /// The hosts do not hear each other, and the router hears the other one alone.
    Parted,
    /// The amphora is told to end.
    Planned,
}

impl Event {
    const ALL: [Self; 5] = [
        Self::Killed,
        Self::Silent,
        Self::Unplugged,
        Self::Parted,
        Self::Planned,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Killed => "proxy killed",
            Self::Silent => "host silent",
            Self::Unplugged => "cable pulled",
            Self::Parted => "parted",
            Self::Planned => "planned",
        }
    }

    fn gap(self, interval: u32) -> u32 {
        let pair = Pair::new();
        let mut a = pair.amphora(0, &pair.spec(0, 100, interval));
        pair.wait_held_by(0, BOUND);
        let b = pair.amphora(1, &pair.spec(1, 90, interval));
        pair.wait_served_by(0, BOUND);
        until("the other one listens", BOUND, || b.agent().is_some());
        let since = Instant::now();
        // It has heard the first one.
        until("some adverts later", BOUND, || {
            since.elapsed() > Duration::from_millis(u64::from(interval) * 3)
        });
        let after = Duration::from_millis(u64::from(interval) * 5);
        let (gap, _) = pair.gap(|| self.happen(&pair, &mut a), after);
        u32::try_from(gap.as_micros()).unwrap_or(u32::MAX)
    }

    fn happen(self, pair: &Pair, a: &mut PairedAmphora) {
        match self {
            Self::Killed => a.signal_agent(Signal::KILL),
            Self::Silent => {
                a.program().signal(Signal::STOP);
                a.signal_agent(Signal::STOP);
            }
            Self::Unplugged => pair.cable(0, false),
            Self::Parted => pair.part(0, false),
            Self::Planned => a.program().signal(Signal::TERM),
        }
    }
}

const BOUND: Duration = Duration::from_secs(60);
