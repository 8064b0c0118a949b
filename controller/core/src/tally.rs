//! Totals that never fall, from the counters of processes that die (I11).
//!
//! An amphora counts from the start of its process and says which run it is. Here each run's last count is kept and
//! added when the next run begins.

use krater_amphora_api::{BootId, Counters};

/// What one listener did on one amphora, over all runs of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Sum of all runs before this one. Its `active_connections` is always 0: they ended with their process.
    pub base: Counters,
    /// The run that is counted now.
    pub boot: BootId,
    /// What that run counted so far.
    pub last: Counters,
}

impl Tally {
    /// The total of all runs.
    #[must_use]
    pub fn total(&self) -> Counters {
        sum([self.base, self.last])
    }

    /// Never falls: of two tallies of one listener on one amphora the one that came further was counted later.
    #[must_use]
    pub fn progress(&self) -> u64 {
        let total = self.total();
        let parts = [
            total.bytes_in,
            total.bytes_out,
            total.request_errors,
            total.total_connections,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// The total while the amphora is silent: what it did is kept, but no connection counts as open.
    #[must_use]
    pub fn total_at_rest(&self) -> Counters {
        Counters {
            active_connections: 0,
            ..self.total()
        }
    }
}

/// Takes one more count into a tally. `previous` is `None` when nothing was counted before.
///
/// Within one run a counter that comes in lower than before keeps its old value: reports may overtake each other.
/// Open connections are a gauge and are taken as they come.
#[must_use]
pub fn tally(previous: Option<&Tally>, boot: BootId, now: Counters) -> Tally {
    match previous {
        None => Tally {
            base: Counters::default(),
            boot,
            last: now,
        },
        Some(previous) if previous.boot == boot => Tally {
            base: previous.base,
            boot,
            last: highest(previous.last, now),
        },
        Some(previous) => Tally {
            base: previous.total_at_rest(),
            boot,
            last: now,
        },
    }
}

/// Adds counters up, field by field: the listeners of a load balancer, or the amphorae of a listener.
#[must_use]
pub fn sum(parts: impl IntoIterator<Item = Counters>) -> Counters {
    parts
        .into_iter()
        .fold(Counters::default(), |sum, part| Counters {
            active_connections: sum
                .active_connections
                .saturating_add(part.active_connections),
            bytes_in: sum.bytes_in.saturating_add(part.bytes_in),
            bytes_out: sum.bytes_out.saturating_add(part.bytes_out),
            request_errors: sum.request_errors.saturating_add(part.request_errors),
            total_connections: sum.total_connections.saturating_add(part.total_connections),
        })
}

fn highest(last: Counters, now: Counters) -> Counters {
    Counters {
        active_connections: now.active_connections,
        bytes_in: last.bytes_in.max(now.bytes_in),
        bytes_out: last.bytes_out.max(now.bytes_out),
        request_errors: last.request_errors.max(now.request_errors),
        total_connections: last.total_connections.max(now.total_connections),
    }
}

#[cfg(test)]
mod tests;
