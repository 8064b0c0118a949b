//! By turns, in proportion to weight, each member's turns spread evenly over the cycle.

use alloc::{boxed::Box, vec::Vec};

use super::{Candidate, mixed};
use crate::limits;

/// A fixed cycle of turns: in each run of as many turns as the weights (by their greatest common divisor) sum up to,
/// every candidate has exactly its share. It keeps no state: whoever counts the turns may share the counter.
#[derive(Clone, Debug)]
pub(crate) struct RoundRobin {
    candidates: Vec<Candidate>,
    cycle: Cycle,
}

#[derive(Clone, Debug)]
enum Cycle {
    /// Whose turn it is, turn by turn, as places in `candidates`.
    LaidOut(Box<[usize]>),
    /// Whose turn it is, computed: candidates stand on a line, each as long as its weight, and turns step along it
    /// by a distance that has no divisor in common with the whole, so that each point is met once per cycle.
    Computed {
        /// Where on the line each candidate ends.
        ends: Box<[u64]>,
        total: u64,
        step: u64,
    },
}

impl RoundRobin {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        let divisor = candidates
            .iter()
            .fold(0, |divisor, candidate| {
                gcd(divisor, u64::from(candidate.weight))
            })
            .max(1);
        let total: u64 = candidates
            .iter()
            .map(|candidate| u64::from(candidate.weight) / divisor)
            .sum();
        let few = usize::try_from(total).is_ok_and(|total| total <= limits::ROUND_ROBIN_TURNS_MAX);
        let cycle = if few {
            laid_out(&candidates, divisor)
        } else {
            computed(&candidates, divisor, total)
        };
        Self { candidates, cycle }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Whose turn it is, or, if that one is in `not`, one of the others by their weights.
    pub(crate) fn choose(&self, turn: u64, not: &[usize]) -> Option<usize> {
        let chosen = self.candidates.get(self.place(turn)?)?.position;
        if not.contains(&chosen) {
            self.choose_other(turn, not)
        } else {
            Some(chosen)
        }
    }

    /// The place in `candidates` whose turn it is.
    pub(super) fn place(&self, turn: u64) -> Option<usize> {
        match &self.cycle {
            Cycle::LaidOut(turns) => {
                let length = u64::try_from(turns.len()).ok()?;
                let at = usize::try_from(turn.checked_rem(length)?).ok()?;
                turns.get(at).copied()
            }
            Cycle::Computed { ends, total, step } => {
                // Both factors are below the sum of all weights, some millions: no overflow.
                let point = turn.checked_rem(*total)? * step % total;
                Some(ends.partition_point(|end| *end <= point))
            }
        }
    }

    /// Not simply the next in turn: all that a dead member sheds would fall on one neighbour.
    fn choose_other(&self, turn: u64, not: &[usize]) -> Option<usize> {
        let others = || {
            self.candidates
                .iter()
                .filter(|candidate| !not.contains(&candidate.position))
        };
        let total: u64 = others().map(|candidate| u64::from(candidate.weight)).sum();
        let mut left = mixed(turn).checked_rem(total)?;
        for candidate in others() {
            match left.checked_sub(u64::from(candidate.weight)) {
                Some(rest) => left = rest,
                None => return Some(candidate.position),
            }
        }
        None
    }
}

/// Candidates of one weight `w`, `m` of them, share `m·w` turns, and take them one after the other; turn `j` of a
/// class belongs at `(2j + 1) / 2mw` of the cycle. Merging the classes by that gives an order that is the plain one
/// for equal weights, and in which no candidate's turns crowd together.
fn laid_out(candidates: &[Candidate], divisor: u64) -> Cycle {
    let mut places: Vec<usize> = (0..candidates.len()).collect();
    let weight = |place: &usize| {
        candidates
            .get(*place)
            .map_or(0, |candidate| u64::from(candidate.weight) / divisor)
    };
    places.sort_by_key(weight);
    let mut turns: Vec<Turn> = Vec::new();
    for class in places.chunk_by(|left, right| weight(left) == weight(right)) {
        let Some(rounds) = class.first().map(weight) else {
            continue;
        };
        let members = class
            .iter()
            .enumerate()
            .map(|(rank, place)| (rank as u64, *place));
        let size = class.len() as u64;
        turns.extend((0..rounds).flat_map(|round| {
            let first = round * size;
            members.clone().map(move |(rank, place)| Turn {
                numerator: 2 * (first + rank) + 1,
                denominator: 2 * size * rounds,
                weight: rounds,
                place,
            })
        }));
    }
    turns.sort_unstable_by(|left, right| {
        let (here, there) = (
            left.numerator * right.denominator,
            right.numerator * left.denominator,
        );
        // Of two at the same point the heavier goes first: it is the one that has little room between its turns.
        here.cmp(&there)
            .then(right.weight.cmp(&left.weight))
            .then(left.place.cmp(&right.place))
    });
    Cycle::LaidOut(turns.into_iter().map(|turn| turn.place).collect())
}

/// A turn of one candidate, at `numerator / denominator` of the cycle.
struct Turn {
    numerator: u64,
    denominator: u64,
    weight: u64,
    place: usize,
}

/// A step near the golden section of the whole spreads any run of consecutive turns evenly over the line.
fn computed(candidates: &[Candidate], divisor: u64, total: u64) -> Cycle {
    let ends = candidates
        .iter()
        .scan(0_u64, |end, candidate| {
            *end += u64::from(candidate.weight) / divisor;
            Some(*end)
        })
        .collect();
    let golden = total * 618 / 1_000;
    let step = (golden.max(1)..)
        .find(|step| gcd(*step, total) == 1)
        .unwrap_or(1);
    Cycle::Computed { ends, total, step }
}

const fn gcd(mut left: u64, mut right: u64) -> u64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests;
