//! Adverts as they travel (RFC 9568 section 5).

use alloc::vec::Vec;
use core::{net::IpAddr, time::Duration};

use crate::icmp::checksum;

/// What the active router of a virtual one says at each interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The number of the virtual router.
    pub router: u8,
    /// How much its sender is preferred; 0 means that it leaves.
    pub priority: u8,
    /// Time until the next one.
    pub interval: Interval,
    /// The addresses it has, of the family that it travels by: at least one.
    pub addresses: Vec<IpAddr>,
}

/// Time between two adverts, in hundredths of a second: 1 to 4095.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// So many milliseconds, if that is a number of hundredths that can be told.
    #[must_use]
    pub fn from_ms(ms: u32) -> Option<Self> {
        if !ms.is_multiple_of(10) {
            return None;
        }
        Self::from_centiseconds(u16::try_from(ms / 10).ok()?)
    }

    const fn from_centiseconds(number: u16) -> Option<Self> {
        if number == 0 || number > CENTISECONDS_MAX {
            None
        } else {
            Some(Self(number))
        }
    }

    /// How long that is.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

/// Whence and where to something travelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journey {
    /// Who sent it.
    pub source: IpAddr,
    /// Whom to.
    pub destination: IpAddr,
    /// The TTL or hop limit it arrived with.
    pub hops: u8,
}

/// Why bytes are no advert of ours to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// It came over a router, or from somebody who pretends that it did not.
    Hops,
    /// It ends too early, or goes on too long.
    Length,
    /// It is of another version, or no advert.
    Kind,
    /// It has no address, no number, or no interval.
    Empty,
    /// Its sum is wrong.
    Checksum,
}

impl Advert {
    /// Reads an advert that travelled so.
    ///
    /// Over IPv4 the sum may leave out the addresses it travelled between, as some do.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the first thing found.
    pub fn parse(bytes: &[u8], journey: Journey) -> Result<Self, Malformed> {
        if journey.hops != HOPS {
            return Err(Malformed::Hops);
        }
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(Malformed::Length);
        };
        let &[kind, router, priority, count, high, low, _, _] = header else {
            return Err(Malformed::Length);
        };
        if kind != VERSION_AND_TYPE {
            return Err(Malformed::Kind);
        }
        let each = match journey.source {
            IpAddr::V4(_) => 4,
            IpAddr::V6(_) => 16,
        };
        if rest.len() != usize::from(count) * each {
            return Err(Malformed::Length);
        }
        let sums = |pseudo: &[u8]| checksum(&[pseudo, bytes].concat()) == 0;
        let bare = journey.source.is_ipv4() && sums(&[]);
        if !bare && !sums(&pseudo_header(journey, bytes.len())) {
            return Err(Malformed::Checksum);
        }
        let interval = Interval::from_centiseconds(u16::from_be_bytes([high & 0x0f, low]));
        let (Some(interval), true) = (interval, router != 0 && count != 0) else {
            return Err(Malformed::Empty);
        };
        let addresses = rest.chunks_exact(each).filter_map(|bytes| {
            let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
                .ok()
        });
        Ok(Self {
            router,
            priority,
            interval,
            addresses: addresses.collect(),
        })
    }

    /// Writes it, to travel between these two. Addresses of another family than theirs, and those beyond 255, are not
    /// told.
    #[must_use]
    pub fn print(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let addresses = self.addresses.iter();
        let told: Vec<_> = addresses
            .filter(|address| address.is_ipv4() == source.is_ipv4())
            .take(usize::from(u8::MAX))
            .collect();
        let [high, low] = self.interval.0.to_be_bytes();
        let count = u8::try_from(told.len()).unwrap_or(u8::MAX);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 16 * told.len());
        bytes.extend([
            VERSION_AND_TYPE,
            self.router,
            self.priority,
            count,
            high,
            low,
            0,
            0,
        ]);
        for address in told {
            match address {
                IpAddr::V4(address) => bytes.extend(address.octets()),
                IpAddr::V6(address) => bytes.extend(address.octets()),
            }
        }
        let journey = Journey {
            source,
            destination,
            hops: HOPS,
        };
        let mut summed = pseudo_header(journey, bytes.len());
        summed.extend(&bytes);
        if let Some(place) = bytes.get_mut(6..8) {
            place.copy_from_slice(&checksum(&summed).to_be_bytes());
        }
        bytes
    }
}

/// What is summed up ahead of a message (RFC 8200 section 8.1, and the same for IPv4).
fn pseudo_header(journey: Journey, length: usize) -> Vec<u8> {
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut header = Vec::with_capacity(40);
    match (journey.source, journey.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            header.extend(source.octets());
            header.extend(destination.octets());
            header.extend([0, PROTOCOL]);
        }
        (source, destination) => {
            for address in [source, destination] {
                header.extend(match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
                    IpAddr::V6(address) => address.octets(),
                });
            }
            // Of the same sum as the order in which the standard has them.
            header.extend([0, PROTOCOL, 0, 0]);
        }
    }
    header.extend(length);
    header
}

/// The number of the protocol in IP.
pub const PROTOCOL: u8 = 112;
/// What adverts are sent with, so that none can come over a router.
pub const HOPS: u8 = 255;
const VERSION_AND_TYPE: u8 = 0x31;
const HEADER_BYTES: usize = 8;
const CENTISECONDS_MAX: u16 = 0x0fff;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec;

    use super::*;

    fn journey(source: &str, destination: &str) -> Journey {
        Journey {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            hops: 255,
        }
    }

    fn either() -> impl Strategy<Value = (Journey, Vec<IpAddr>)> {
        let v4 = any::<[u8; 4]>().prop_map(IpAddr::from);
        let v6 = any::<[u8; 16]>().prop_map(IpAddr::from);
        let of = |(source, destination, addresses)| {
            let hops = 255;
            let journey = Journey {
                source,
                destination,
                hops,
            };
            (journey, addresses)
        };
        prop_oneof![
            (v4.clone(), v4.clone(), prop::collection::vec(v4, 1..9)).prop_map(of),
            (v6.clone(), v6.clone(), prop::collection::vec(v6, 1..9)).prop_map(of),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_and_no_bit_of_it_can_change(
            (journey, addresses) in either(), router in 1..=u8::MAX, priority: u8, interval in 1..=4095_u16, bit: prop::sample::Index,
        ) {
            let advert = Advert { router, priority, interval: Interval(interval), addresses };
            let mut bytes = advert.print(journey.source, journey.destination);
            prop_assert_eq!(Advert::parse(&bytes, journey), Ok(advert));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Advert::parse(&bytes, journey).is_err());
            let far = Journey { hops: 254, ..journey };
            prop_assert_eq!(Advert::parse(&bytes, far), Err(Malformed::Hops));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..64), (journey, _) in either()) {
            let _ = Advert::parse(&bytes, journey);
        }
    }

    #[test]
    fn an_advert_of_keepalived_is_read() {
        // Captured of keepalived 2.2.7: vrid 7, priority 90, 100 ms, one address.
        let on_its_way = journey("10.0.0.2", "10.0.0.1");
        let mut bytes = vec![0x31, 7, 90, 1, 0, 10, 0, 0, 10, 0, 0, 100];
        let mut summed = pseudo_header(on_its_way, bytes.len());
        summed.extend(&bytes);
        let sum = checksum(&summed).to_be_bytes();
        bytes[6..8].copy_from_slice(&sum);
        let read = Advert::parse(&bytes, on_its_way).unwrap();
        assert_eq!((read.router, read.priority), (7, 90));
        assert_eq!(read.interval.duration(), Duration::from_millis(100));
        assert_eq!(read.addresses, ["10.0.0.100".parse::<IpAddr>().unwrap()]);
        assert_eq!(read.print(on_its_way.source, on_its_way.destination), bytes);
        // Summed up without the addresses it travelled between.
        bytes[6..8].copy_from_slice(&[0, 0]);
        let sum = checksum(&bytes).to_be_bytes();
        bytes[6..8].copy_from_slice(&sum);
        assert_eq!(Advert::parse(&bytes, on_its_way), Ok(read));
    }

    #[test]
    fn what_is_no_advert_is_refused_by_the_first_thing_that_is_wrong() {
        let on_its_way = journey("fe80::2", "fe80::1");
        let good = Advert {
            router: 1,
            priority: 100,
            interval: Interval(100),
            addresses: vec!["fd00::1".parse().unwrap()],
        };
        let bytes = good.print(on_its_way.source, on_its_way.destination);
        let spoilt = |at: usize, value: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            Advert::parse(&bytes, on_its_way).unwrap_err()
        };
        assert_eq!(spoilt(0, 0x21), Malformed::Kind);
        assert_eq!(spoilt(3, 2), Malformed::Length);
        assert_eq!(spoilt(6, bytes[6] ^ 1), Malformed::Checksum);
        let short = Advert::parse(&bytes[..7], on_its_way);
        assert_eq!(short, Err(Malformed::Length));
        let nobody = Advert {
            router: 0,
            ..good.clone()
        };
        let bytes = nobody.print(on_its_way.source, on_its_way.destination);
        assert_eq!(Advert::parse(&bytes, on_its_way), Err(Malformed::Empty));
    }

    #[test]
    fn intervals_are_whole_hundredths_that_can_be_told() {
        let ms = |ms| Interval::from_ms(ms).map(|interval| interval.duration().as_millis());
        assert_eq!((ms(100), ms(40_950)), (Some(100), Some(40_950)));
        assert_eq!((ms(0), ms(5), ms(40_960)), (None, None, None));
    }
}
