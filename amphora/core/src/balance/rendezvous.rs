//! Weighted rendezvous hashing: each client ranks all members for itself and takes its best.
//!
//! Rather than a ring or a modulus: taking one member away moves only the clients it had. Somebody pinned to a server
//! must not be reshuffled because somebody else's server died.

use alloc::vec::Vec;
use core::net::IpAddr;

use krater_amphora_api::MemberId;

use super::{Candidate, mixed};

/// Candidates to be ranked per client.
#[derive(Clone, Debug)]
pub(crate) struct Rendezvous {
    candidates: Vec<Candidate>,
    /// All weights are equal: the ranking by cost is that by hash, and no logarithm is needed.
    uniform: bool,
}

impl Rendezvous {
    pub(crate) fn new(candidates: Vec<Candidate>) -> Self {
        let uniform = candidates
            .windows(2)
            .all(|pair| matches!(pair, [left, right] if left.weight == right.weight));
        Self {
            candidates,
            uniform,
        }
    }

    pub(crate) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// The best of the client's ranking that is not in `not`.
    ///
    /// One pass, of a few instructions for each candidate: it is made once per connection, so that nothing has to be
    /// prepared, and rebuilt over thousands of table entries, whenever the health of one member changes.
    pub(crate) fn choose(&self, key: u64, not: &[usize]) -> Option<usize> {
        let choosable = self
            .candidates
            .iter()
            .filter(|candidate| not.is_empty() || !not.contains(&candidate.position));
        if self.uniform {
            largest_hash(choosable, key)
        } else {
            least_cost(choosable, key)
        }
    }
}

/// The candidate of the largest hash, which is the one of the least cost where all weigh the same.
fn largest_hash<'a>(
    mut candidates: impl Iterator<Item = &'a Candidate>,
    key: u64,
) -> Option<usize> {
    let first = candidates.next()?;
    let first = (mixed(first.seed ^ key), first.position);
    let best = candidates.fold(first, |best, candidate| {
        let hash = mixed(candidate.seed ^ key);
        if hash > best.0 {
            (hash, candidate.position)
        } else {
            best
        }
    });
    Some(best.1)
}

/// The candidate of the least `cost / weight`. The logarithm is taken only of hashes that may win, which are about as
/// many as the logarithm of how many candidates there are.
fn least_cost<'a>(mut candidates: impl Iterator<Item = &'a Candidate>, key: u64) -> Option<usize> {
    let first = candidates.next()?;
    let first = Ranked::new(first, mixed(first.seed ^ key));
    let best = candidates.fold(first, |best, candidate| {
        let hash = mixed(candidate.seed ^ key);
        if cost_at_least(hash) * best.weight > best.cost * u64::from(candidate.weight) {
            return best;
        }
        let next = Ranked::new(candidate, hash);
        if next.beats(&best) { next } else { best }
    });
    Some(best.position)
}

/// What a client is hashed by: its address, IPv4 the same in either form, and its port if the algorithm asks for it.
pub(crate) fn key(address: IpAddr, port: Option<u16>) -> u64 {
    let mapped = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let [a, b, c, d, e, f, g, h] = mapped.segments();
    let address = mixed(mixed(joined([a, b, c, d]) ^ SALT) ^ joined([e, f, g, h]));
    port.map_or(address, |port| mixed(address ^ (u64::from(port) + 1)))
}

/// What a member is hashed by: its id, which outlives changes of its pool.
pub(crate) fn seed(member: MemberId) -> u64 {
    let (high, low) = member.uuid().as_u64_pair();
    mixed(mixed(high ^ SALT) ^ low)
}

struct Ranked {
    cost: u64,
    weight: u64,
    hash: u64,
    position: usize,
}

impl Ranked {
    fn new(candidate: &Candidate, hash: u64) -> Self {
        Self {
            cost: cost(hash),
            weight: u64::from(candidate.weight),
            hash,
            position: candidate.position,
        }
    }

    /// The smaller `cost / weight` wins; the larger hash if they are equal.
    fn beats(&self, other: &Self) -> bool {
        let (here, there) = (self.cost * other.weight, other.cost * self.weight);
        here < there || (here == there && self.hash > other.hash)
    }
}

/// The negative logarithm (base 2, times 2^40) of `hash` as a fraction of 2^64. Divided by a weight it makes the
/// chance to be the smallest of many exactly proportional to that weight. At most 64 · 2^40: multiplied by a weight
/// it stays far within 64 bits.
fn cost(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = u64::from(hash.leading_zeros());
    let below_one = hash << zeros << 1;
    // Eight bits choose an entry of the table, twenty-four bits interpolate towards the next one. The chord errs by
    // 0.2 % of the cost at most, and never in the order of two hashes.
    let entry = (below_one >> 56) as usize & 0xff;
    let rest = (below_one >> 32) & 0xff_ffff;
    let (Some(low), Some(high)) = (LOGARITHMS.get(entry), LOGARITHMS.get(entry + 1)) else {
        return 0; // Unreachable: an entry of eight bits is one of the first 256 of 257.
    };
    let logarithm = low + (((high - low) * rest) >> 24);
    ((zeros + 1) << FRACTION_BITS) - logarithm
}

/// No more than [`cost`] of the same hash, without a logarithm: `-log2(x)` is at least `(1 - x) · log2(e)`, of which
/// 23/16 falls short.
const fn cost_at_least(hash: u64) -> u64 {
    ((!hash >> (64 - FRACTION_BITS)) * 23) >> 4
}

const fn joined(segments: [u16; 4]) -> u64 {
    let [a, b, c, d] = segments;
    (a as u64) << 48 | (b as u64) << 32 | (c as u64) << 16 | d as u64
}

/// Keeps the all-zero address and id from hashing to zero. Any odd-looking number does: the fraction of the golden
/// section.
const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

const FRACTION_BITS: u32 = 40;

/// log2(1 + i/256) times 2^40, for i from 0 to 256.
static LOGARITHMS: [u64; 257] = logarithms();

const fn logarithms() -> [u64; 257] {
    let mut table = [0; 257];
    let mut rest: &mut [u64] = &mut table;
    let mut numerator = 256;
    while let [entry, others @ ..] = rest {
        *entry = logarithm(numerator);
        numerator += 1;
        rest = others;
    }
    table
}

/// log2(numerator / 256) times 2^40, for a quotient from 1 to 2: one bit per squaring.
const fn logarithm(numerator: u128) -> u64 {
    if numerator == 512 {
        return 1 << FRACTION_BITS;
    }
    let mut number = numerator << (62 - 8);
    let mut bits = 0;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        number = (number * number) >> 62;
        bits <<= 1;
        if number >= 2 << 62 {
            number >>= 1;
            bits |= 1;
        }
        bit += 1;
    }
    bits
}

#[cfg(test)]
mod tests;
