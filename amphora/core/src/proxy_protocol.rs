//! The PROXY protocol: a header ahead of a stream that says between whom the stream was before it was relayed.
//!
//! Version 1 is a line of text, version 2 binary. Printing is what members of PROXY and PROXYV2 pools are sent
//! (reference 19.5); reading is its inverse, for whoever has to understand such a stream. Source: "The PROXY protocol,
//! versions 1 & 2", HAProxy Technologies, sections 2.1 and 2.2.

use core::{
    fmt::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

mod parse;
mod tls;

pub use parse::{Fault, Parsed, parse};
pub use tls::{Certificate, Tls, header_with_tls};

/// Which form of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Between whom a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is relayed for a client.
    Relayed {
        /// The client.
        source: SocketAddr,
        /// Where the client connected to.
        destination: SocketAddr,
    },
    /// It comes from whoever sends the header, as health checks do, or nothing is known that the header can say.
    Own,
}

impl Origin {
    /// What can be said of a connection of `source` to `destination`. IPv4 in its IPv6 form is IPv4; a header has no
    /// words for two addresses of different families, so those are [`Origin::Own`].
    #[must_use]
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (source, destination) = (canonical(source), canonical(destination));
        if source.is_ipv4() == destination.is_ipv4() {
            Self::Relayed {
                source,
                destination,
            }
        } else {
            Self::Own
        }
    }
}

/// A header as it is sent, ahead of everything else.
#[derive(Clone, Copy)]
pub struct Header {
    bytes: [u8; V1_BYTES_MAX],
    length: usize,
}

impl Header {
    /// The header for a stream of that origin.
    #[must_use]
    pub fn new(version: Version, origin: Origin) -> Self {
        let mut header = Self {
            bytes: [0; V1_BYTES_MAX],
            length: 0,
        };
        match version {
            Version::V1 => header.text(origin),
            Version::V2 => header.binary(origin),
        }
        header
    }

    /// What is to be sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn text(&mut self, origin: Origin) {
        let written = match (origin, family(origin)) {
            (
                Origin::Relayed {
                    source,
                    destination,
                },
                Some(family),
            ) => write!(
                self,
                "PROXY {} {} {} {} {}\r\n",
                family.word(),
                source.ip(),
                destination.ip(),
                source.port(),
                destination.port()
            ),
            _ => self.write_str("PROXY UNKNOWN\r\n"),
        };
        debug_assert!(written.is_ok(), "the longest line fits");
    }

    fn binary(&mut self, origin: Origin) {
        self.push(&SIGNATURE);
        match origin {
            Origin::Relayed {
                source: SocketAddr::V4(source),
                destination: SocketAddr::V4(destination),
            } => self.addresses(
                INET_STREAM,
                &source.ip().octets(),
                &destination.ip().octets(),
                [source.port(), destination.port()],
            ),
            Origin::Relayed {
                source: SocketAddr::V6(source),
                destination: SocketAddr::V6(destination),
            } => self.addresses(
                INET6_STREAM,
                &source.ip().octets(),
                &destination.ip().octets(),
                [source.port(), destination.port()],
            ),
            _ => self.push(&[VERSION_2 | LOCAL, UNSPEC, 0, 0]),
        }
    }

    fn addresses(&mut self, family: u8, source: &[u8], destination: &[u8], ports: [u16; 2]) {
        let length = u16::try_from(source.len() + destination.len() + 4).unwrap_or_default();
        self.push(&[VERSION_2 | PROXY, family]);
        self.push(&length.to_be_bytes());
        self.push(source);
        self.push(destination);
        for port in ports {
            self.push(&port.to_be_bytes());
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let free = self.bytes.get_mut(self.length..self.length + bytes.len());
        if let Some(free) = free {
            free.copy_from_slice(bytes);
            self.length += bytes.len();
        }
    }
}

impl fmt::Write for Header {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let before = self.length;
        self.push(text.as_bytes());
        if self.length == before + text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.as_bytes().escape_ascii())
    }
}

/// The family that both addresses have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn word(self) -> &'static str {
        match self {
            Self::V4 => "TCP4",
            Self::V6 => "TCP6",
        }
    }

    fn address(self, text: &str) -> Option<IpAddr> {
        match self {
            Self::V4 => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            Self::V6 => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        }
    }
}

const fn family(origin: Origin) -> Option<Family> {
    match origin {
        Origin::Relayed {
            source: SocketAddr::V4(_),
            destination: SocketAddr::V4(_),
        } => Some(Family::V4),
        Origin::Relayed {
            source: SocketAddr::V6(_),
            destination: SocketAddr::V6(_),
        } => Some(Family::V6),
        _ => None,
    }
}

const fn v4(address: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = address;
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port))
}

const fn v6(address: [u8; 16], port: u16) -> SocketAddr {
    SocketAddr::V6(SocketAddrV6::new(
        Ipv6Addr::from_bits(u128::from_be_bytes(address)),
        port,
        0,
        0,
    ))
}

/// The longest line of version 1, its end included; no header that we print is longer.
const V1_BYTES_MAX: usize = 107;

/// How a header of version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version and command in one byte.
const VERSION_2: u8 = 0x20;
const LOCAL: u8 = 0x00;
const PROXY: u8 = 0x01;

/// Address family and transport in one byte.
const UNSPEC: u8 = 0x00;
const INET_STREAM: u8 = 0x11;
const INET6_STREAM: u8 = 0x21;

#[cfg(test)]
mod tests;
