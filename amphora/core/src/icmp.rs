//! Port unreachable: what a client is told whose datagram nobody takes (RFC 792, RFC 4443), and how often.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    limits::{UNREACHABLES_AT_ONCE_MAX, UNREACHABLES_PER_SECOND_MAX},
    time::Instant,
};

/// A message that says that a port cannot be reached, from its ICMP header on. It quotes the headers of the datagram it
/// is about as far as a receiver needs them to find whose that was, and nothing of what was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreachable {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Unreachable {
    /// Answers a datagram of `client` to `door` that carried so many bytes. `None` if nobody may be answered so: who
    /// cannot have sent it, or who sent it to many (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    ///
    /// The sum over an ICMPv6 message is left to the system, since it covers addresses too.
    #[must_use]
    pub fn message(client: SocketAddr, door: SocketAddr, payload_bytes: usize) -> Option<Self> {
        if client.port() == 0 || !is_one_host(client.ip()) || !is_one_host(door.ip()) {
            return None;
        }
        let datagram = u16::try_from(payload_bytes).ok()?.checked_add(UDP_HEADER)?;
        let mut message = Self {
            bytes: [0; BYTES_MAX],
            length: 0,
        };
        match (client.ip(), door.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                message.put(&[3, 3, 0, 0, 0, 0, 0, 0]);
                let [high, low] = datagram.checked_add(IPV4_HEADER)?.to_be_bytes();
                let mut header = [
                    0x45, 0, high, low, 0, 0, 0, 0, HOPS, UDP, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                ];
                write(&mut header, 12, &from.octets());
                write(&mut header, 16, &to.octets());
                let sum = checksum(&header);
                write(&mut header, 10, &sum.to_be_bytes());
                message.put(&header);
                message.put_udp(client.port(), door.port(), datagram);
                let sum = checksum(message.as_bytes());
                write(&mut message.bytes, 2, &sum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                message.put(&[1, 4, 0, 0, 0, 0, 0, 0]);
                let [high, low] = datagram.to_be_bytes();
                message.put(&[0x60, 0, 0, 0, high, low, UDP, HOPS]);
                message.put(&from.octets());
                message.put(&to.octets());
                message.put_udp(client.port(), door.port(), datagram);
            }
            _ => return None,
        }
        Some(message)
    }

    /// The message, as a raw socket takes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn put_udp(&mut self, from: u16, to: u16, length: u16) {
        for field in [from, to, length, 0] {
            self.put(&field.to_be_bytes());
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        write(&mut self.bytes, self.length, bytes);
        self.length += bytes.len();
    }
}

/// How many messages may be sent: so many a second, and some at once after a rest. Whoever sends datagrams under false
/// addresses must not have us send more than that to strangers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// Until when what was sent is paid for.
    paid_until: Instant,
}

impl Budget {
    /// Spends one, if there is one.
    pub fn spend(&mut self, now: Instant) -> bool {
        let paid = self.paid_until.max(now);
        if paid.0 - now.0 > INTERVAL * (UNREACHABLES_AT_ONCE_MAX - 1) {
            return false;
        }
        self.paid_until = Instant(paid.0.saturating_add(INTERVAL));
        true
    }
}

/// The internet checksum (RFC 1071).
#[must_use]
pub fn checksum(packet: &[u8]) -> u16 {
    let sum: u32 = packet
        .chunks(2)
        .map(|pair| {
            u32::from(*pair.first().unwrap_or(&0)) << 8 | u32::from(*pair.get(1).unwrap_or(&0))
        })
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded & 0xffff).unwrap_or(u16::MAX)
}

/// Whether an address is that of one host, as far as can be told from it alone.
const fn is_one_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            // 0.0.0.0/8 is nobody's, 224.0.0.0/4 many's, 240.0.0.0/4 reserved or everybody's.
            first != 0 && first < 224 && !matches!(ip, Ipv4Addr::BROADCAST)
        }
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

fn write(into: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = into.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

const ICMP_HEADER: usize = 8;
const IPV4_HEADER: u16 = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: u16 = 8;
const BYTES_MAX: usize = ICMP_HEADER + IPV6_HEADER + UDP_HEADER as usize;
const UDP: u8 = 17;
/// What the datagram may have had left. Nobody looks at it.
const HOPS: u8 = 64;
const INTERVAL: u64 = 1_000_000_000 / UNREACHABLES_PER_SECOND_MAX;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_message_quotes_the_headers_of_the_datagram() {
        let message = Unreachable::message(at("192.0.2.1:4660"), at("192.0.2.53:53"), 2).unwrap();
        let bytes = message.as_bytes();
        assert_eq!(bytes.len(), 36);
        assert_eq!(bytes[..2], [3, 3]);
        // Who is whole sums up to nothing.
        assert_eq!((checksum(bytes), checksum(&bytes[8..28])), (0, 0));
        assert_eq!(bytes[8..12], [0x45, 0, 0, 30]);
        assert_eq!(bytes[20..28], [192, 0, 2, 1, 192, 0, 2, 53]);
        assert_eq!(bytes[28..], [0x12, 0x34, 0, 53, 0, 10, 0, 0]);

        let (client, door) = (at("[2001:db8::1]:4660"), at("[2001:db8::35]:53"));
        let message = Unreachable::message(client, door, 2).unwrap();
        let bytes = message.as_bytes();
        assert_eq!(bytes.len(), 56);
        assert_eq!(bytes[..8], [1, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[8..16], [0x60, 0, 0, 0, 0, 10, 17, 64]);
        assert_eq!((bytes[31], bytes[47]), (0x01, 0x35));
        assert_eq!(bytes[48..], [0x12, 0x34, 0, 53, 0, 10, 0, 0]);
    }

    #[test]
    fn nobody_is_answered_who_is_many_or_no_one() {
        let (client, door) = (at("192.0.2.1:9"), at("192.0.2.53:53"));
        for (client, door, payload) in [
            (at("224.0.0.1:9"), door, 0),
            (at("255.255.255.255:9"), door, 0),
            (at("0.0.0.0:9"), door, 0),
            (at("192.0.2.1:0"), door, 0),
            (client, at("239.1.1.1:53"), 0),
            (client, at("255.255.255.255:53"), 0),
            (at("[::]:9"), at("[2001:db8::35]:53"), 0),
            (at("[2001:db8::1]:9"), at("[ff02::1]:53"), 0),
            (client, at("[2001:db8::35]:53"), 0),
            (client, door, 65_508),
        ] {
            assert_eq!(
                Unreachable::message(client, door, payload),
                None,
                "{client} {door}"
            );
        }
        assert!(Unreachable::message(client, door, 65_507).is_some());
    }

    #[test]
    fn no_more_are_sent_than_the_budget_allows() {
        let mut budget = Budget::default();
        let start = Instant(7_000_000_000);
        let spent = (0..10_000).filter(|_| budget.spend(start)).count();
        assert_eq!(spent as u64, UNREACHABLES_AT_ONCE_MAX);
        let second = Duration::from_secs(1);
        let spent = (1..=1000)
            .filter(|millisecond| budget.spend(start.saturating_add(second * *millisecond / 1000)))
            .count();
        assert_eq!(spent as u64, UNREACHABLES_PER_SECOND_MAX);
        let rested = start.saturating_add(second * 60);
        let spent = (0..10_000).filter(|_| budget.spend(rested)).count();
        assert_eq!(spent as u64, UNREACHABLES_AT_ONCE_MAX);
    }
}
