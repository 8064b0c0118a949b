//! Header fields out of the blocks they come in (RFC 7541).

use bytes::Bytes;

use super::{
    huffman,
    table::{Entry, Said, Table},
};

/// What a block holds is none: the tables of both sides are no longer the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads the blocks of one client, each of which goes on with what those before it have named.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// Where names and values are unpacked.
    unpacked: Vec<u8>,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self {
            table: Table::new(),
            unpacked: Vec::new(),
        }
    }

    /// Reads a block and has `take` take its fields, with what each counts, as long as it wants more. A block that is not wanted any more is read
    /// no further, and no other can be.
    pub(super) fn read(
        &mut self,
        block: &[u8],
        mut take: impl FnMut(Said, usize) -> Wanted,
    ) -> Result<Wanted, Malformed> {
        let mut rest = block;
        let mut resizes = 0;
        let mut begun = false;
        while let Some(first) = rest.first().copied() {
            if first & RESIZE_MASK == RESIZE {
                // At the beginning, and twice at the most (RFC 7541 section 4.2).
                resizes += 1;
                if begun || resizes > RESIZES_MAX {
                    return Err(Malformed);
                }
                let size = number(&mut rest, 5)?;
                self.table.resize(size).ok_or(Malformed)?;
                continue;
            }
            begun = true;
            let (said, size) = if first & INDEXED != 0 {
                let index = number(&mut rest, 7)?;
                let known = self.table.at(index).ok_or(Malformed)?;
                (known.said.clone(), known.size)
            } else {
                let entry = self.literal(&mut rest, first & ADDED != 0)?;
                (entry.said, entry.size)
            };
            if take(said, size) == Wanted::No {
                return Ok(Wanted::No);
            }
        }
        if self.unpacked.capacity() > UNPACKED_BYTES_KEPT {
            self.unpacked = Vec::new();
        }
        Ok(Wanted::Yes)
    }

    /// A field with a value that is spelled out, which may be `added` to the table.
    fn literal(&mut self, rest: &mut &[u8], added: bool) -> Result<Entry, Malformed> {
        let index = number(rest, if added { 6 } else { 4 })?;
        self.unpacked.clear();
        let name = match index {
            0 => Some(text(rest, &mut self.unpacked)?),
            _ => None,
        };
        let entry = match name {
            Some(Text::Plain(name)) => {
                let value = value(rest, &mut self.unpacked)?;
                Entry::new(name, value)
            }
            Some(Text::Unpacked) => {
                let name_bytes = self.unpacked.len();
                let value = value(rest, &mut self.unpacked)?;
                let name = self.unpacked.get(..name_bytes).unwrap_or_default();
                Entry::new(name, value)
            }
            None => {
                let known = self.table.at(index).ok_or(Malformed)?;
                known.alike(value(rest, &mut self.unpacked)?)
            }
        };
        if added {
            self.table.add(entry.clone());
        }
        Ok(entry)
    }
}

/// Whether more is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    No,
}

/// A name or a value.
enum Text<'a> {
    /// As it is in the block.
    Plain(&'a [u8]),
    /// It was unpacked.
    Unpacked,
}

/// A text (RFC 7541 section 5.2), put behind what is in `unpacked` if it is coded.
fn text<'a>(rest: &mut &'a [u8], unpacked: &mut Vec<u8>) -> Result<Text<'a>, Malformed> {
    let is_coded = rest.first().ok_or(Malformed)? & CODED != 0;
    let length = number(rest, 7)?;
    let (text, behind) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = behind;
    if is_coded {
        huffman::decode(text, unpacked)?;
        Ok(Text::Unpacked)
    } else {
        Ok(Text::Plain(text))
    }
}

/// A value with memory of its own: it may stay for as long as the connection.
fn value(rest: &mut &[u8], unpacked: &mut Vec<u8>) -> Result<Bytes, Malformed> {
    let before = unpacked.len();
    Ok(match text(rest, unpacked)? {
        Text::Plain(text) => Bytes::copy_from_slice(text),
        Text::Unpacked => Bytes::copy_from_slice(unpacked.get(before..).unwrap_or_default()),
    })
}

/// A number that begins in the last so many bits of a byte (RFC 7541 section 5.1).
fn number(rest: &mut &[u8], bits: u32) -> Result<usize, Malformed> {
    let (first, behind) = rest.split_first().ok_or(Malformed)?;
    *rest = behind;
    let mask = (1_usize << bits) - 1;
    let mut number = usize::from(*first) & mask;
    if number < mask {
        return Ok(number);
    }
    for at in 0..NUMBER_BYTES_MAX {
        let (byte, behind) = rest.split_first().ok_or(Malformed)?;
        *rest = behind;
        number += usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(Malformed)
}

// RFC 7541 section 6.
const INDEXED: u8 = 0x80;
const ADDED: u8 = 0x40;
const RESIZE_MASK: u8 = 0xe0;
const RESIZE: u8 = 0x20;
const CODED: u8 = 0x80;

const RESIZES_MAX: u32 = 2;
/// Bytes of a number behind its first: 28 bits are more than anything here counts.
const NUMBER_BYTES_MAX: usize = 4;
/// What is kept of the room for what was unpacked: connections are many.
const UNPACKED_BYTES_KEPT: usize = 1_024;
