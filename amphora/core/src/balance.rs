//! The arithmetic of choice, nothing else: given candidates with weights, which one.

mod least_connections;
pub(crate) mod rendezvous;
mod round_robin;

pub(crate) use least_connections::LeastConnections;
pub(crate) use rendezvous::Rendezvous;
pub(crate) use round_robin::RoundRobin;

/// A member that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Where its pool lists it.
    pub(crate) position: usize,
    /// Its share, at least 1.
    pub(crate) weight: u32,
    /// What it hashes by; the same wherever its pool lists it.
    pub(crate) seed: u64,
}

/// Spreads a number over all 64 bits: the finalizer of SplitMix64. A bijection; zero goes to zero.
pub(crate) const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
