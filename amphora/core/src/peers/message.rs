//! Messages as bytes: a header of kind and length, then what the kind consists of, numbers in network order.
//!
//! What comes from the other side is bounded before it is read, and is taken as a whole or not at all. Kinds that are not
//! known are passed over, so that a later release may say more.

use alloc::vec::Vec;

use krater_amphora_api::{MemberId, PoolId};

use super::Offer;
use crate::{
    affinity::{Key, Place},
    limits::{PEER_ENTRIES_MAX, PEER_MESSAGE_BYTES_MAX},
};

/// What one amphora says to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It is there.
    Alive,
    /// Its memory of a pool.
    Offer(PoolId, Offer),
    /// It would like to be told all of a pool once more.
    Want(PoolId),
    /// Clients that a pool keeps with its members.
    Told(Told),
    /// Something that this release knows nothing of.
    Unknown(u8),
}

/// Clients of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The pool.
    pub pool: PoolId,
    /// The check of the key that their hashes are by.
    pub check: u64,
    /// Whether whoever tells has the addresses of the load balancer.
    pub is_active: bool,
    /// The members that they are with.
    pub members: Vec<MemberId>,
    /// The clients.
    pub clients: Vec<Placed>,
}

/// A client and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What is kept of its hash.
    pub place: Place,
    /// Which of the members, less than there are.
    pub member: u16,
    /// Seconds since it came last.
    pub age: u32,
}

/// It is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Bytes of a header.
pub const HEADER_BYTES: usize = 5;

/// The kind of a message and how many bytes of it follow: no more than [`PEER_MESSAGE_BYTES_MAX`].
///
/// # Errors
/// It is longer.
pub const fn read_header(header: [u8; HEADER_BYTES]) -> Result<(u8, usize), Malformed> {
    let [kind, length @ ..] = header;
    let length = u32::from_be_bytes(length) as usize;
    if length > PEER_MESSAGE_BYTES_MAX {
        return Err(Malformed("it is too long"));
    }
    Ok((kind, length))
}

impl Message {
    /// Adds it to `out`, with its header.
    pub fn write(&self, out: &mut Vec<u8>) {
        let kind = match self {
            Self::Alive => ALIVE,
            Self::Offer(..) => OFFER,
            Self::Want(_) => WANT,
            Self::Told(_) => TOLD,
            Self::Unknown(kind) => *kind,
        };
        let start = out.len();
        out.push(kind);
        out.extend([0; 4]);
        match self {
            Self::Alive | Self::Unknown(_) => {}
            Self::Offer(pool, offer) => {
                out.extend(pool.to_bytes());
                out.extend(offer.likeness.to_be_bytes());
                let Key([first, second]) = offer.key;
                out.extend(first.to_be_bytes());
                out.extend(second.to_be_bytes());
                out.push(offer.knows_somebody.into());
                out.extend(offer.age.to_be_bytes());
            }
            Self::Want(pool) => out.extend(pool.to_bytes()),
            Self::Told(told) => told.write(out),
        }
        let length = out.len() - start - HEADER_BYTES;
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        for (to, from) in out.iter_mut().skip(start + 1).zip(length) {
            *to = from;
        }
    }

    /// Reads what follows a header.
    ///
    /// # Errors
    /// It is no message of that kind, or more than one.
    pub fn read(kind: u8, body: &[u8]) -> Result<Self, Malformed> {
        let mut rest = Reader(body);
        let message = match kind {
            ALIVE => Self::Alive,
            OFFER => Self::Offer(
                PoolId::from_bytes(rest.take()?),
                Offer {
                    likeness: rest.u64()?,
                    key: Key([rest.u64()?, rest.u64()?]),
                    knows_somebody: rest.flag()?,
                    age: rest.u32()?,
                },
            ),
            WANT => Self::Want(PoolId::from_bytes(rest.take()?)),
            TOLD => Self::Told(Told::read(&mut rest)?),
            unknown => return Ok(Self::Unknown(unknown)),
        };
        if rest.0.is_empty() {
            Ok(message)
        } else {
            Err(Malformed("something follows it"))
        }
    }
}

impl Told {
    fn write(&self, out: &mut Vec<u8>) {
        let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
        out.extend(self.pool.to_bytes());
        out.extend(self.check.to_be_bytes());
        out.push(self.is_active.into());
        out.extend(count(self.members.len()));
        out.extend(count(self.clients.len()));
        for member in &self.members {
            out.extend(member.to_bytes());
        }
        for client in &self.clients {
            out.extend(client.place.set.to_be_bytes());
            out.extend(client.place.tag.to_be_bytes());
            out.extend(client.member.to_be_bytes());
            out.extend(client.age.to_be_bytes());
        }
    }

    fn read(rest: &mut Reader<'_>) -> Result<Self, Malformed> {
        let pool = PoolId::from_bytes(rest.take()?);
        let (check, is_active) = (rest.u64()?, rest.flag()?);
        let (members, clients) = (usize::from(rest.u16()?), usize::from(rest.u16()?));
        if members > clients || clients > PEER_ENTRIES_MAX {
            return Err(Malformed("it tells too much at once"));
        }
        let mut told = Self {
            pool,
            check,
            is_active,
            members: Vec::with_capacity(members),
            clients: Vec::with_capacity(clients),
        };
        for _ in 0..members {
            told.members.push(MemberId::from_bytes(rest.take()?));
        }
        for _ in 0..clients {
            let place = Place {
                set: rest.u32()?,
                tag: rest.u32()?,
            };
            let (member, age) = (rest.u16()?, rest.u32()?);
            if place.tag >> 24 != 0 {
                return Err(Malformed("a tag has 24 bits"));
            }
            if usize::from(member) >= members {
                return Err(Malformed("a client is with nobody"));
            }
            told.clients.push(Placed { place, member, age });
        }
        Ok(told)
    }
}

/// Bytes that have not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Malformed> {
        let (first, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Malformed("it breaks off"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_be_bytes)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.take()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [_] => Err(Malformed("a flag is 0 or 1")),
        }
    }
}

const ALIVE: u8 = 0;
const OFFER: u8 = 1;
const WANT: u8 = 2;
const TOLD: u8 = 3;

#[cfg(test)]
mod tests;
