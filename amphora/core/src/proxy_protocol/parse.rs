//! Reading a header: all or nothing, as the specification asks of receivers.

use core::net::SocketAddr;

use super::{
    Family, INET_STREAM, INET6_STREAM, LOCAL, Origin, PROXY, SIGNATURE, V1_BYTES_MAX, VERSION_2,
    Version, v4, v6,
};
use crate::limits;

/// What the beginning of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole header; the stream goes on after `length` bytes.
    Header {
        /// In which form.
        version: Version,
        /// What it says.
        origin: Origin,
        /// How long it is.
        length: usize,
    },
    /// The beginning of one: more bytes are needed.
    Incomplete,
}

/// Why a stream does not begin with a header. Whoever expects one ends the connection then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It begins with neither form.
    NoHeader,
    /// The line is longer than any line of version 1 can be, or the header than anybody needs.
    TooLong,
    /// The line is not of the form that version 1 has.
    BadLine,
    /// A version or command that does not exist.
    BadCommand,
    /// An address family or transport that does not exist.
    BadFamily,
    /// Too short for the addresses that it announces, or a field in it is longer than it is.
    BadLength,
    /// The checksum is another.
    BadChecksum,
}

/// Reads the header that `bytes` begins with.
///
/// # Errors
///
/// As soon as it is certain that there is none.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Fault> {
    if begins(bytes, &SIGNATURE) {
        binary(bytes)
    } else if begins(bytes, b"PROXY ") {
        line(bytes)
    } else {
        Err(Fault::NoHeader)
    }
}

/// Whether `bytes` begins with `start`, as far as it goes.
fn begins(bytes: &[u8], start: &[u8]) -> bool {
    bytes.iter().zip(start).all(|(here, there)| here == there)
}

fn line(bytes: &[u8]) -> Result<Parsed, Fault> {
    let bounded = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(end) = bounded.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() >= V1_BYTES_MAX {
            Err(Fault::TooLong)
        } else if bounded.contains(&b'\n') && !begins(bounded, b"PROXY UNKNOWN") {
            // Nothing that can still come makes a line of this.
            Err(Fault::BadLine)
        } else {
            Ok(Parsed::Incomplete)
        };
    };
    let words = bounded.get(b"PROXY ".len()..end).ok_or(Fault::BadLine)?;
    let words = core::str::from_utf8(words).map_err(|_| Fault::BadLine)?;
    Ok(Parsed::Header {
        version: Version::V1,
        origin: spoken(words).ok_or(Fault::BadLine)?,
        length: end + 2,
    })
}

/// What the words after `PROXY ` say. Whatever follows UNKNOWN is to be ignored.
fn spoken(words: &str) -> Option<Origin> {
    let mut words = words.split(' ');
    let family = match words.next()? {
        "TCP4" => Family::V4,
        "TCP6" => Family::V6,
        "UNKNOWN" => return Some(Origin::Own),
        _ => return None,
    };
    let source = family.address(words.next()?)?;
    let destination = family.address(words.next()?)?;
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    words.next().is_none().then(|| Origin::Relayed {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

/// Digits without a sign and without leading zeros.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading = word.len() > 1 && word.starts_with('0');
    (plain && !leading).then(|| word.parse().ok()).flatten()
}

fn binary(bytes: &[u8]) -> Result<Parsed, Fault> {
    let Some((head, rest)) = bytes.split_at_checked(SIGNATURE.len() + 4) else {
        return Ok(Parsed::Incomplete);
    };
    let Some(&[command, family, high, low]) = head.last_chunk() else {
        return Ok(Parsed::Incomplete);
    };
    if command != VERSION_2 | LOCAL && command != VERSION_2 | PROXY {
        return Err(Fault::BadCommand);
    }
    if !(family >> 4 <= 3 && family & 0xf <= 2) {
        return Err(Fault::BadFamily);
    }
    let length = usize::from(u16::from_be_bytes([high, low]));
    if head.len() + length > limits::PROXY_HEADER_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    let Some(body) = rest.get(..length) else {
        return Ok(Parsed::Incomplete);
    };
    let (origin, fields) = addresses(family, body).ok_or(Fault::BadLength)?;
    check_fields(head, body, fields)?;
    Ok(Parsed::Header {
        version: Version::V2,
        // Who sends LOCAL speaks of itself, whatever addresses it gives.
        origin: if command == VERSION_2 | LOCAL {
            Origin::Own
        } else {
            origin
        },
        length: head.len() + length,
    })
}

/// The addresses, and what follows them. Those that no TCP connection has say nothing to us.
fn addresses(family: u8, body: &[u8]) -> Option<(Origin, &[u8])> {
    match family {
        INET_STREAM => {
            let (addresses, fields) = body.split_first_chunk::<12>()?;
            let [a, b, c, d, e, f, g, h, i, j, k, l] = *addresses;
            let origin = Origin::Relayed {
                source: v4([a, b, c, d], u16::from_be_bytes([i, j])),
                destination: v4([e, f, g, h], u16::from_be_bytes([k, l])),
            };
            Some((origin, fields))
        }
        INET6_STREAM => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (&[i, j, k, l], fields) = rest.split_first_chunk::<4>()?;
            let origin = Origin::Relayed {
                source: v6(*source, u16::from_be_bytes([i, j])),
                destination: v6(*destination, u16::from_be_bytes([k, l])),
            };
            Some((origin, fields))
        }
        _ => {
            let length = match family >> 4 {
                1 => 12,
                2 => 36,
                3 => 216,
                _ => body.len(),
            };
            Some((Origin::Own, body.get(length..)?))
        }
    }
}

/// Every field is type, length and value; one of them may be a checksum over the whole header.
fn check_fields(head: &[u8], body: &[u8], mut fields: &[u8]) -> Result<(), Fault> {
    while !fields.is_empty() {
        let (&[kind, high, low], rest) = fields.split_first_chunk::<3>().ok_or(Fault::BadLength)?;
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Fault::BadLength)?;
        if kind == CHECKSUM {
            let said: [u8; 4] = value.try_into().map_err(|_| Fault::BadLength)?;
            let before = body.len() - rest.len() - said.len();
            let blank = body.get(..before).into_iter().flatten().chain(&[0; 4]);
            let whole = head.iter().chain(blank).chain(rest);
            if checksum(whole.copied()) != u32::from_be_bytes(said) {
                return Err(Fault::BadChecksum);
            }
        }
        fields = rest;
    }
    Ok(())
}

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: headers are short.
fn checksum(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg())
        })
    })
}

/// PP2_TYPE_CRC32C.
const CHECKSUM: u8 = 0x03;
