//! Who may connect: the allowed CIDRs of a listener, prepared so that a thousand of them cost ten comparisons, and how
//! often one source may.

use alloc::{format, string::String, vec::Vec};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod rate;

pub use rate::{Judgement, Source, SourceRate, WAYS};

/// Networks clients may come from; none at all means everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cidrs {
    v4: Vec<Range<u32>>,
    v6: Vec<Range<u128>>,
}

/// Addresses from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range<T> {
    first: T,
    last: T,
}

impl Cidrs {
    /// Reads CIDR notation; an address alone is a network of one, and host bits are masked away.
    ///
    /// # Errors
    ///
    /// A sentence per text that is not a network, each of them.
    pub fn parse(texts: &[String]) -> Result<Self, Vec<String>> {
        let mut cidrs = Self::default();
        let mut reasons = Vec::new();
        for text in texts {
            match network(text) {
                Some(Network::V4(range)) => cidrs.v4.push(range),
                Some(Network::V6(range)) => cidrs.v6.push(range),
                None => reasons.push(format!("{text:?} is not a network in CIDR notation")),
            }
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        cidrs.v4 = merged(cidrs.v4);
        cidrs.v6 = merged(cidrs.v6);
        Ok(cidrs)
    }

    /// Whether a client of that address may connect. An IPv4 client that reached an IPv6 socket counts as IPv4.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        if self.is_everybody() {
            return true;
        }
        match client.to_canonical() {
            IpAddr::V4(address) => contains(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.v6, address.to_bits()),
        }
    }

    /// The networks as first and last address of each, in order, none of them twice.
    pub fn ranges(&self) -> impl Iterator<Item = (IpAddr, IpAddr)> {
        let v4 = self.v4.iter().map(|range| {
            let address = |bits| IpAddr::V4(Ipv4Addr::from_bits(bits));
            (address(range.first), address(range.last))
        });
        let v6 = self.v6.iter().map(|range| {
            let address = |bits| IpAddr::V6(Ipv6Addr::from_bits(bits));
            (address(range.first), address(range.last))
        });
        v4.chain(v6)
    }

    /// `true` if nobody is refused because no network was named.
    #[must_use]
    pub const fn is_everybody(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

enum Network {
    V4(Range<u32>),
    V6(Range<u128>),
}

fn network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix_length(prefix)?)),
        None => (text, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => v4(address, prefix.unwrap_or(32)),
        IpAddr::V6(address) => v6(address, prefix.unwrap_or(128)),
    }
}

/// Digits only: `str::parse` would take a plus sign too.
fn prefix_length(text: &str) -> Option<u32> {
    let digits = (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn v4(address: Ipv4Addr, prefix: u32) -> Option<Network> {
    let host_bits = 32_u32.checked_sub(prefix)?;
    let hosts = u32::MAX.checked_shr(prefix).unwrap_or(0);
    debug_assert_eq!(hosts.count_ones(), host_bits);
    let first = address.to_bits() & !hosts;
    Some(Network::V4(Range {
        first,
        last: first | hosts,
    }))
}

/// A network inside `::ffff:0:0/96` is meant for IPv4 clients, which are looked up as such.
fn v6(address: Ipv6Addr, prefix: u32) -> Option<Network> {
    if let (Some(mapped), Some(prefix)) = (address.to_ipv4_mapped(), prefix.checked_sub(96)) {
        return v4(mapped, prefix);
    }
    let host_bits = 128_u32.checked_sub(prefix)?;
    let hosts = u128::MAX.checked_shr(prefix).unwrap_or(0);
    debug_assert_eq!(hosts.count_ones(), host_bits);
    let first = address.to_bits() & !hosts;
    Some(Network::V6(Range {
        first,
        last: first | hosts,
    }))
}

/// Sorts the ranges and joins those that overlap, so that a binary search by `first` is exact.
fn merged<T: Copy + Ord>(mut ranges: Vec<Range<T>>) -> Vec<Range<T>> {
    ranges.sort_unstable();
    ranges.dedup_by(|later, kept| {
        let overlaps = later.first <= kept.last;
        if overlaps {
            kept.last = kept.last.max(later.last);
        }
        overlaps
    });
    ranges.shrink_to_fit();
    ranges
}

fn contains<T: Copy + Ord>(ranges: &[Range<T>], address: T) -> bool {
    let after = ranges.partition_point(|range| range.first <= address);
    after
        .checked_sub(1)
        .and_then(|at| ranges.get(at))
        .is_some_and(|range| address <= range.last)
}

#[cfg(test)]
mod tests;
