//! The fewest open connections in proportion to weight, by turns among equals.

use alloc::vec::Vec;

use super::{Candidate, RoundRobin};

/// Prefers the smallest `(load + 1) / weight`, and any idle candidate to all busy ones. Equals are settled by the
/// weighted turn, so that short connections which never pile up still come out in proportion to weight.
#[derive(Clone, Debug)]
pub(crate) struct LeastConnections {
    turns: RoundRobin,
}

impl LeastConnections {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        Self {
            turns: RoundRobin::new(candidates),
        }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        self.turns.candidates()
    }

    /// Looks at the one whose turn it is first, and is done if that one is idle; otherwise at each once.
    pub(crate) fn choose(
        &self,
        turn: u64,
        load: &dyn Fn(usize) -> u32,
        not: &[usize],
    ) -> Option<usize> {
        let (before, from) = self
            .candidates()
            .split_at_checked(self.turns.place(turn)?)?;
        let mut best: Option<(Score, usize)> = None;
        for candidate in from
            .iter()
            .chain(before)
            .filter(|candidate| !not.contains(&candidate.position))
        {
            let load = load(candidate.position);
            if load == 0 {
                return Some(candidate.position);
            }
            let score = Score {
                load: u64::from(load) + 1,
                weight: u64::from(candidate.weight),
            };
            if best.as_ref().is_none_or(|(least, _)| score.is_below(least)) {
                best = Some((score, candidate.position));
            }
        }
        best.map(|(_, position)| position)
    }
}

/// The quotient of load and weight, kept as the two so that comparing is exact.
struct Score {
    load: u64,
    weight: u64,
}

impl Score {
    const fn is_below(&self, other: &Self) -> bool {
        self.load * other.weight < other.load * self.weight
    }
}

#[cfg(test)]
mod tests;
