//! The members of a pool that may be chosen now, prepared for the pool's algorithm.

use alloc::vec::Vec;
use core::net::SocketAddr;

use krater_amphora_api::{Algorithm, MemberId};

use crate::{
    balance::{Candidate, LeastConnections, Rendezvous, RoundRobin, rendezvous},
    conduct::Terms,
    limits::SHARE_FULL,
    snapshot::{Member, Pool},
};

/// The choosable members of one pool under present health.
///
/// I2: holds no member that is disabled, down or of weight 0. Backups are in it only while no primary can be, and
/// then all healthy ones (reference 19.3). Members that are out by their conduct are in it only while nobody else can
/// be: to be refused by some of them is better than to be refused by us. Immutable: a change of health builds another.
#[derive(Clone, Debug)]
pub struct Roster {
    order: Order,
    tier: Tier,
}

/// Which members a [`Roster`] was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Primaries can be chosen.
    Primary,
    /// No primary can be: backups stand in.
    Backup,
    /// Nobody can be chosen.
    Nobody,
}

/// What a choice depends on.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// Who asks.
    pub client: SocketAddr,
    /// A number that grows by one per choice in this pool, over all workers.
    pub turn: u64,
    /// Connections open now to the member at a position.
    pub load: &'a dyn Fn(usize) -> u32,
    /// Positions of members that were tried and failed: they are passed over.
    pub not: &'a [usize],
}

#[derive(Clone, Debug)]
enum Order {
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    SourceIp(Rendezvous),
    SourceIpPort(Rendezvous),
}

impl Roster {
    /// Gathers the members of `pool` that may be chosen, given which of them count as up.
    /// Time: n log n for n members.
    #[must_use]
    pub fn build(pool: &Pool, is_up: impl Fn(MemberId) -> bool) -> Self {
        Self::on_terms(pool, |id| is_up(id).then_some(Terms::GOOD))
    }

    /// The same given what is thought of the conduct of those that count as up; `None` of one that is down.
    #[must_use]
    pub fn on_terms(pool: &Pool, terms: impl Fn(MemberId) -> Option<Terms>) -> Self {
        let (candidates, tier) = if pool.enabled {
            choosable(&pool.members, terms)
        } else {
            (Vec::new(), Tier::Nobody)
        };
        let order = match pool.algorithm {
            Algorithm::RoundRobin => Order::RoundRobin(RoundRobin::new(candidates)),
            Algorithm::LeastConnections => {
                Order::LeastConnections(LeastConnections::new(candidates))
            }
            Algorithm::SourceIp => Order::SourceIp(Rendezvous::new(candidates)),
            Algorithm::SourceIpPort => Order::SourceIpPort(Rendezvous::new(candidates)),
        };
        Self { order, tier }
    }

    /// Chooses a member: its position in [`Pool::members`]. `None` if there is nobody, or everybody is in
    /// [`Choice::not`].
    ///
    /// Allocates nothing. Round robin takes constant time (logarithmic if its turns are too many to lay out), least
    /// connections constant time while members are idle and else one pass, source hashes one pass.
    #[must_use]
    pub fn choose(&self, choice: &Choice<'_>) -> Option<usize> {
        match &self.order {
            Order::RoundRobin(order) => order.choose(choice.turn, choice.not),
            Order::LeastConnections(order) => order.choose(choice.turn, choice.load, choice.not),
            Order::SourceIp(order) => {
                order.choose(rendezvous::key(choice.client.ip(), None), choice.not)
            }
            Order::SourceIpPort(order) => order.choose(
                rendezvous::key(choice.client.ip(), Some(choice.client.port())),
                choice.not,
            ),
        }
    }

    /// Positions of the members that may be chosen, ascending.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.candidates().iter().map(|candidate| candidate.position)
    }

    /// Number of members that may be chosen.
    #[must_use]
    pub fn len(&self) -> usize {
        self.candidates().len()
    }

    /// `true` if nobody can be chosen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.candidates().is_empty()
    }

    /// Whether primaries serve, or backups, or nobody.
    #[must_use]
    pub const fn tier(&self) -> Tier {
        self.tier
    }

    fn candidates(&self) -> &[Candidate] {
        match &self.order {
            Order::RoundRobin(order) => order.candidates(),
            Order::LeastConnections(order) => order.candidates(),
            Order::SourceIp(order) | Order::SourceIpPort(order) => order.candidates(),
        }
    }
}

fn choosable(
    members: &[Member],
    terms: impl Fn(MemberId) -> Option<Terms>,
) -> (Vec<Candidate>, Tier) {
    // In the order in which they are preferred.
    let mut ranks = [
        (Vec::new(), Tier::Primary),
        (Vec::new(), Tier::Backup),
        (Vec::new(), Tier::Primary),
        (Vec::new(), Tier::Backup),
    ];
    for (position, member) in members.iter().enumerate() {
        if !member.enabled || member.weight == 0 {
            continue;
        }
        let Some(Terms { out, share }) = terms(member.id) else {
            continue;
        };
        let candidate = Candidate {
            position,
            weight: u32::from(member.weight).saturating_mul(u32::from(share.max(1))),
            seed: rendezvous::seed(member.id),
        };
        let rank = 2 * usize::from(out) + usize::from(member.backup);
        if let Some((rank, _)) = ranks.get_mut(rank) {
            rank.push(candidate);
        }
    }
    let first = ranks.into_iter().find(|(rank, _)| !rank.is_empty());
    let (mut candidates, tier) = first.unwrap_or((Vec::new(), Tier::Nobody));
    if candidates
        .iter()
        .all(|candidate| is_whole(candidate.weight))
    {
        // Nobody begins slowly: weights as they are.
        for candidate in &mut candidates {
            candidate.weight /= u32::from(SHARE_FULL);
        }
    }
    (candidates, tier)
}

const fn is_whole(weight: u32) -> bool {
    weight.is_multiple_of(SHARE_FULL as u32)
}

#[cfg(test)]
mod tests;
