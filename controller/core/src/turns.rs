//! How the two amphorae of a load balancer take turns at its addresses.

use alloc::vec::Vec;
use core::net::IpAddr;

use krater_amphora_api::{
    AmphoraId, AnnouncementReport, AnnouncementSpec, AnnouncementState, LinkAddress,
    LoadBalancerId, LoadBalancerReport, MemberHealth,
};

use crate::{
    model::{LoadBalancer, Seat, Topology, Turns},
    query::TurnView,
};

/// What of its addresses an amphora can be heard at by others on the network of a VIP; the lowest of several, so that
/// the answer does not depend on their order.
#[must_use]
pub fn own_address(addresses: &[LinkAddress], vip: IpAddr) -> Option<IpAddr> {
    let suits = |own: &&LinkAddress| own.address != vip && own.reaches(vip);
    let own = addresses.iter().filter(suits).map(|own| own.address);
    own.min()
}

/// How `amphora` takes turns, if it is one of the two of a load balancer that has two.
#[must_use]
pub fn announcement(
    balancer: &LoadBalancer,
    amphora: AmphoraId,
    interval_ms: u32,
) -> Option<AnnouncementSpec> {
    if balancer.steering.topology != Topology::ActiveStandby {
        return None;
    }
    let turns = balancer.steering.turns?;
    let seat = turns.seat(amphora)?;
    let (own, other) = match seat {
        Seat::First => (turns.first.1, turns.second.1),
        Seat::Second => (turns.second.1, turns.first.1),
    };
    Some(AnnouncementSpec {
        virtual_router: router(balancer.id),
        priority: priority(seat),
        advert_interval_ms: interval_ms,
        address: own,
        peers: Vec::from([other]),
        preempt: false,
    })
}

/// Who takes turns with `amphora` at a load balancer that has two, and so is told what it learns of sessions.
#[must_use]
pub fn other(balancer: &LoadBalancer, amphora: AmphoraId) -> Option<AmphoraId> {
    let turns = balancer.steering.turns?;
    let both = balancer.steering.topology == Topology::ActiveStandby;
    let other = match turns.seat(amphora).filter(|_| both)? {
        Seat::First => turns.second,
        Seat::Second => turns.first,
    };
    Some(other.0)
}

/// The same as it is shown.
#[must_use]
pub fn view(balancer: &LoadBalancer, amphora: AmphoraId) -> Option<TurnView> {
    let turns = balancer.steering.turns?;
    let seat = turns.seat(amphora)?;
    Some(TurnView {
        seat,
        address: turns.address(seat),
        vip: balancer.vip.address,
        vip_port: balancer.vip.port_id,
        router: router(balancer.id),
        priority: priority(seat),
    })
}

/// What is to be done about one of two that take turns, by what both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contest {
    /// Both have the addresses, since they do not hear each other: this one is to let go.
    Both(Seat),
    /// This one was told to, and still hears nobody.
    Aside(Seat),
    /// The same, and the other one has the addresses no longer.
    Over(Seat),
}

/// What each of the two says, if it is not silent.
#[must_use]
pub fn contest(
    first: Option<&LoadBalancerReport>,
    second: Option<&LoadBalancerReport>,
) -> Option<Contest> {
    type Turn<'a> = Option<&'a AnnouncementReport>;
    let has = |turn: Turn<'_>| turn.is_some_and(|turn| turn.state == AnnouncementState::Active);
    let is_aside = |turn: Turn<'_>| turn.is_some_and(|turn| turn.aside);
    let one = first.and_then(|report| report.announcement.as_ref());
    let other = second.and_then(|report| report.announcement.as_ref());
    if has(one) && has(other) {
        // Whoever reaches more members is less likely to be cut off from clients. Else it is whoever took over: it did so
        // because the other one was not heard, and neighbours believe who spoke last.
        let rank = |report, turn: Turn<'_>| (reaches(report), turn.and_then(|turn| turn.since_ms));
        return Some(Contest::Both(if rank(first, one) < rank(second, other) {
            Seat::First
        } else {
            Seat::Second
        }));
    }
    let left = |other: Turn<'_>, seat| {
        if has(other) {
            Contest::Aside(seat)
        } else {
            Contest::Over(seat)
        }
    };
    if is_aside(one) {
        Some(left(other, Seat::First))
    } else if is_aside(other) {
        Some(left(one, Seat::Second))
    } else {
        None
    }
}

/// How many members an amphora knows of that answer.
fn reaches(report: Option<&LoadBalancerReport>) -> usize {
    let pools = report.into_iter().flat_map(|report| &report.pools);
    let members = pools.flat_map(|pool| &pool.members);
    let answers = |health| matches!(health, MemberHealth::Up | MemberHealth::NoMonitor);
    members.filter(|member| answers(member.health)).count()
}

/// The number of a load balancer's virtual router. Two may have the same: their addresses tell them apart.
#[must_use]
pub fn router(id: LoadBalancerId) -> u8 {
    let sum = id.uuid().into_bytes().into_iter().fold(0_u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    u8::try_from(sum % 255).unwrap_or_default() + 1
}

/// Who is preferred; as with Octavia.
#[must_use]
pub const fn priority(seat: Seat) -> u8 {
    match seat {
        Seat::First => 100,
        Seat::Second => 90,
    }
}

impl Turns {
    /// The place of an amphora, if it is one of the two.
    #[must_use]
    pub fn seat(&self, amphora: AmphoraId) -> Option<Seat> {
        match amphora {
            first if first == self.first.0 => Some(Seat::First),
            second if second == self.second.0 => Some(Seat::Second),
            _ => None,
        }
    }

    /// Who has that place.
    #[must_use]
    pub const fn amphora(&self, seat: Seat) -> AmphoraId {
        match seat {
            Seat::First => self.first.0,
            Seat::Second => self.second.0,
        }
    }

    /// Its own address.
    #[must_use]
    pub const fn address(&self, seat: Seat) -> IpAddr {
        match seat {
            Seat::First => self.first.1,
            Seat::Second => self.second.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use krater_amphora_api::{Generation, MemberId, MemberReport, PoolId, PoolReport};
    use uuid::Uuid;

    use super::*;
    use crate::sample::House;

    fn at(address: &str, prefix_bits: u8) -> LinkAddress {
        LinkAddress {
            address: address.parse().unwrap(),
            prefix_bits,
        }
    }

    #[test]
    fn an_amphora_is_heard_at_its_address_on_the_network_of_the_vip() {
        let vip = "10.9.0.100".parse().unwrap();
        let own = [
            at("127.0.0.1", 8),
            at("10.9.0.100", 32),
            at("10.9.0.100", 24),
            at("10.9.0.7", 24),
            at("10.9.0.3", 24),
            at("10.9.1.2", 24),
            at("fd00::1", 64),
        ];
        assert_eq!(own_address(&own, vip), "10.9.0.3".parse().ok());
        assert_eq!(own_address(&own, "10.10.0.1".parse().unwrap()), None);
        let six = "fd00::99".parse().unwrap();
        assert_eq!(own_address(&own, six), "fd00::1".parse().ok());
        assert!(at("0.0.0.1", 0).reaches(vip) && !at("10.9.0.3", 33).reaches(vip));
    }

    #[test]
    fn of_two_that_have_the_addresses_one_stands_aside_until_the_other_one_has_them_no_longer() {
        use AnnouncementState::{Active, Down, Standby};
        let says = |state, since_ms, aside, up: usize| LoadBalancerReport {
            id: LoadBalancerId::new(Uuid::from_u128(1)),
            generation: Generation::FIRST,
            listeners: Vec::new(),
            pools: vec![PoolReport {
                id: PoolId::new(Uuid::from_u128(2)),
                members: (0..3_usize)
                    .map(|number| MemberReport {
                        id: MemberId::new(Uuid::from_u128(3 + number as u128)),
                        health: if number < up {
                            MemberHealth::Up
                        } else {
                            MemberHealth::Down
                        },
                        reason: None,
                        active_connections: 0,
                        out: false,
                    })
                    .collect(),
            }],
            announcement: Some(AnnouncementReport {
                state,
                since_ms,
                aside,
                reason: None,
            }),
        };
        let has = |since_ms, up| says(Active, Some(since_ms), false, up);
        let of = |first: &LoadBalancerReport, second: &LoadBalancerReport| {
            contest(Some(first), Some(second))
        };
        // Whoever reaches more members stays, then whoever took over.
        assert_eq!(
            of(&has(1, 2), &has(2, 1)),
            Some(Contest::Both(Seat::Second))
        );
        assert_eq!(of(&has(1, 1), &has(2, 2)), Some(Contest::Both(Seat::First)));
        assert_eq!(of(&has(1, 3), &has(2, 3)), Some(Contest::Both(Seat::First)));
        assert_eq!(
            of(&has(2, 3), &has(1, 3)),
            Some(Contest::Both(Seat::Second))
        );
        assert_eq!(
            of(&has(1, 3), &has(1, 3)),
            Some(Contest::Both(Seat::Second))
        );
        let aside = says(Standby, None, true, 3);
        assert_eq!(of(&aside, &has(2, 0)), Some(Contest::Aside(Seat::First)));
        assert_eq!(of(&has(2, 0), &aside), Some(Contest::Aside(Seat::Second)));
        assert_eq!(
            contest(Some(&aside), None),
            Some(Contest::Over(Seat::First))
        );
        assert_eq!(
            contest(None, Some(&aside)),
            Some(Contest::Over(Seat::Second))
        );
        for state in [Standby, Down] {
            let other = says(state, None, false, 3);
            assert_eq!(of(&other, &aside), Some(Contest::Over(Seat::Second)));
            assert_eq!(of(&other, &has(1, 3)), None);
        }
        assert_eq!(contest(Some(&has(1, 3)), None), None);
        assert_eq!(contest(None, None), None);
    }

    #[test]
    fn each_of_two_is_told_of_the_other_one() {
        let mut balancer = House::empty().tree.load_balancer.value;
        let amphora = |number| AmphoraId::new(Uuid::from_u128(number));
        let address = |last| IpAddr::from([10, 9, 0, last]);
        balancer.steering.turns = Some(Turns {
            first: (amphora(1), address(1)),
            second: (amphora(2), address(2)),
        });
        assert_eq!(announcement(&balancer, amphora(1), 1_000), None);
        assert_eq!(other(&balancer, amphora(1)), None);
        balancer.steering.topology = Topology::ActiveStandby;
        let first = announcement(&balancer, amphora(1), 1_000).unwrap();
        let second = announcement(&balancer, amphora(2), 1_000).unwrap();
        assert_eq!((first.priority, second.priority), (100, 90));
        assert_eq!(first.virtual_router, second.virtual_router);
        assert_eq!((first.address, first.peers), (address(1), vec![address(2)]));
        assert_eq!(
            (second.address, second.peers),
            (address(2), vec![address(1)])
        );
        assert_eq!(announcement(&balancer, amphora(3), 1_000), None);
        let others = [1, 2, 3].map(|number| other(&balancer, amphora(number)));
        assert_eq!(others, [Some(amphora(2)), Some(amphora(1)), None]);
    }

    #[test]
    fn no_load_balancer_has_virtual_router_0() {
        for number in 0..2_000 {
            assert_ne!(router(LoadBalancerId::new(Uuid::from_u128(number))), 0);
        }
    }
}
