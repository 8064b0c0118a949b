//! How often one source may connect: a bounded table of sources, judged slot by slot.
//!
//! Each source has the moment until which its connections are paid for (the generic cell rate algorithm, ITU-T I.371):
//! one number, so that a slot is one word which whoever accepts changes by one comparison and exchange.

use core::net::IpAddr;

use crate::{
    balance::mixed,
    limits::{SOURCE_RATE_MAX, SOURCE_SETS},
    time::Instant,
};

/// How often one source may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceRate {
    per_second: u32,
}

/// A source as the table knows it: hashed, by a secret number so that nobody can choose whom they share a slot with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    set: usize,
    tag: u16,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is let in, once the slot at `way` of the set, still what it was, is `next`.
    Admit {
        /// Which slot of the set.
        way: usize,
        /// What it becomes.
        next: u64,
    },
    /// Its source has connected too often.
    Refuse,
}

/// Slots of a set: a source may be in any of them.
pub const WAYS: usize = 4;

impl SourceRate {
    /// So many connections a second on average, and as many at once after a second of rest. `None` if that is no rate:
    /// zero, or more than [`SOURCE_RATE_MAX`].
    #[must_use]
    pub const fn new(per_second: u32) -> Option<Self> {
        if per_second == 0 || per_second > SOURCE_RATE_MAX {
            None
        } else {
            Some(Self { per_second })
        }
    }

    /// Connections a second.
    #[must_use]
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// Judges a connection of the source, given the slots of its set.
    ///
    /// A source that has no slot takes the one that is paid for the shortest: one that nobody needs any more, or, with
    /// more sources at once than the table holds, that of whoever owes least.
    #[must_use]
    pub fn judge(self, source: Source, slots: &[u64; WAYS], now: Instant) -> Judgement {
        let now = (now.0 / 1_000) & PAID_MASK;
        let own = slots.iter().position(|slot| tag_of(*slot) == source.tag);
        let way = own.unwrap_or_else(|| {
            let by_debt = slots.iter().enumerate();
            by_debt
                .min_by_key(|(_, slot)| **slot & PAID_MASK)
                .map_or(0, |(way, _)| way)
        });
        let paid = match own {
            Some(way) => slots.get(way).map_or(0, |slot| slot & PAID_MASK).max(now),
            None => now,
        };
        let interval = 1_000_000 / u64::from(self.per_second);
        let tolerance = interval.saturating_mul(u64::from(self.per_second) - 1);
        if paid - now > tolerance {
            return Judgement::Refuse;
        }
        let next = (u64::from(source.tag) << PAID_BITS) | ((paid + interval) & PAID_MASK);
        Judgement::Admit { way, next }
    }
}

impl Source {
    /// The source that an address belongs to: an IPv4 address, or the 64 bits of an IPv6 network that one client has all
    /// addresses of.
    #[must_use]
    pub fn of(address: IpAddr, secret: u64) -> Self {
        let number = match address.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => {
                let [high, _] = halves(address.to_bits());
                // No IPv4 address is mistaken for it: these have 32 bits.
                high | (1 << 63)
            }
        };
        let hash = mixed(mixed(number ^ secret).wrapping_add(secret.rotate_left(32)));
        let [tag, _, set, _] = quarters(hash);
        Self {
            set: usize::from(set) % SOURCE_SETS,
            tag,
        }
    }

    /// Which set of slots it may be in: below [`SOURCE_SETS`].
    #[must_use]
    pub const fn set(self) -> usize {
        self.set
    }
}

const fn tag_of(slot: u64) -> u16 {
    let [tag, ..] = quarters(slot);
    tag
}

const fn halves(bits: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bits.to_be_bytes();
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes(rest),
    ]
}

const fn quarters(bits: u64) -> [u16; 4] {
    let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
    [
        u16::from_be_bytes([a, b]),
        u16::from_be_bytes([c, d]),
        u16::from_be_bytes([e, f]),
        u16::from_be_bytes([g, h]),
    ]
}

/// Microseconds since the origin of time: nine years of them.
const PAID_BITS: u32 = 48;
const PAID_MASK: u64 = (1 << PAID_BITS) - 1;

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    struct Table(Vec<[u64; WAYS]>);

    impl Table {
        fn new() -> Self {
            Self(vec![[0; WAYS]; SOURCE_SETS])
        }

        fn admits(&mut self, rate: SourceRate, address: IpAddr, now: Instant) -> bool {
            let source = Source::of(address, 7);
            let slots = &mut self.0[source.set()];
            match rate.judge(source, slots, now) {
                Judgement::Admit { way, next } => {
                    slots[way] = next;
                    true
                }
                Judgement::Refuse => false,
            }
        }
    }

    fn rate(per_second: u32) -> SourceRate {
        SourceRate::new(per_second).unwrap()
    }

    #[test]
    fn a_burst_of_a_second_is_let_in_and_then_the_rate() {
        let client = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        for per_second in [1, 3, 100, 30_000, SOURCE_RATE_MAX] {
            let mut table = Table::new();
            let mut now = Instant(50 * SECOND);
            let burst = (0..per_second * 2).filter(|_| table.admits(rate(per_second), client, now));
            assert_eq!(burst.count(), per_second as usize);
            // Asked ten times as often as is allowed, for ten seconds.
            let mut admitted = 0;
            for _ in 0..per_second * 100 {
                now = now.saturating_add(core::time::Duration::from_nanos(
                    SECOND / (u64::from(per_second) * 10),
                ));
                admitted += u32::from(table.admits(rate(per_second), client, now));
            }
            let expected = per_second * 10;
            assert!(
                admitted.abs_diff(expected) <= expected / 9 + 1,
                "{admitted} of {expected}"
            );
        }
    }

    #[test]
    fn nobody_pays_for_others_and_a_network_is_one_source() {
        let mut table = Table::new();
        let now = Instant(SECOND);
        let v4 = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
        let v6 = |net, host| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, net, 0, 0, 0, host));
        assert!(table.admits(rate(1), v4(1), now) && !table.admits(rate(1), v4(1), now));
        let mapped = IpAddr::V6(Ipv4Addr::new(10, 0, 0, 1).to_ipv6_mapped());
        assert!(!table.admits(rate(1), mapped, now));
        assert!(table.admits(rate(1), v4(2), now));
        assert!(table.admits(rate(1), v6(1, 1), now) && !table.admits(rate(1), v6(1, 2), now));
        assert!(table.admits(rate(1), v6(2, 1), now));
    }

    #[test]
    fn more_sources_than_the_table_holds_are_let_in() {
        let mut table = Table::new();
        let sources = u32::try_from(SOURCE_SETS * WAYS * 4).unwrap();
        let admitted = (0..sources)
            .filter(|number| table.admits(rate(1), Ipv4Addr::from_bits(*number).into(), Instant(0)))
            .count();
        // Two in the same set with the same tag are taken for one.
        assert!(
            admitted > sources as usize * 99 / 100,
            "{admitted} of {sources}"
        );
    }

    #[test]
    fn what_is_no_rate_is_none() {
        assert_eq!(SourceRate::new(0), None);
        assert_eq!(SourceRate::new(SOURCE_RATE_MAX + 1), None);
    }

    proptest! {
        /// Over any stretch of time no more are let in than the rate and one burst allow.
        #[test]
        fn a_source_never_gets_more_than_its_rate_and_a_burst(
            per_second in 1_u32..500,
            gaps in proptest::collection::vec(0_u64..SECOND / 4, 1..400),
        ) {
            let mut table = Table::new();
            let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
            let start = 10 * SECOND;
            let mut now = start;
            let mut admitted = 0_u64;
            for gap in gaps {
                now += gap;
                admitted += u64::from(table.admits(rate(per_second), client, Instant(now)));
            }
            // Intervals are whole microseconds: a rate of 499 is one of 499.3.
            let earned = (now - start) * u64::from(per_second + 1) / SECOND;
            prop_assert!(admitted <= earned + u64::from(per_second) + 1);
        }
    }
}
