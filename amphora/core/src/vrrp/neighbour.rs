//! What tells the neighbours on a link who has an address from now on.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

/// The address of a network card.
pub type Hardware = [u8; 6];

/// A gratuitous ARP request as a whole Ethernet frame, to everybody on the link (RFC 5227 section 3).
#[must_use]
pub fn gratuitous_arp(hardware: Hardware, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::with_capacity(42);
    frame.extend(EVERYBODY);
    frame.extend(hardware);
    frame.extend([0x08, 0x06]);
    // Ethernet, IPv4, the lengths of their addresses, a request.
    frame.extend([0, 1, 0x08, 0x00, 6, 4, 0, 1]);
    frame.extend(hardware);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// An unsolicited neighbour advertisement that overrides, from its ICMPv6 header on, its sum left to the system (RFC 4861
/// section 4.4).
#[must_use]
pub fn unsolicited_advertisement(hardware: Hardware, address: Ipv6Addr) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend([136, 0, 0, 0, OVERRIDE, 0, 0, 0]);
    message.extend(address.octets());
    // The target's link-layer address, in one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(hardware);
    message
}

/// Where such advertisements go: all nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const EVERYBODY: Hardware = [0xff; 6];
const OVERRIDE: u8 = 0x20;

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Hardware = [2, 0, 0, 0, 0, 9];

    #[test]
    fn an_arp_names_the_card_and_the_address_twice() {
        let frame = gratuitous_arp(CARD, Ipv4Addr::new(10, 0, 0, 100));
        assert_eq!(frame.len(), 42);
        assert_eq!((&frame[..6], &frame[6..12]), (&[0xff; 6][..], &CARD[..]));
        assert_eq!(frame[28..32], frame[38..42]);
        assert_eq!(frame[22..28], CARD);
    }

    #[test]
    fn an_advertisement_overrides_and_carries_the_card() {
        let message = unsolicited_advertisement(CARD, "fd00::100".parse().unwrap());
        assert_eq!((message.len(), message[0], message[4]), (32, 136, 0x20));
        assert_eq!(message[24..26], [2, 1]);
        assert_eq!(message[26..], CARD);
    }
}
