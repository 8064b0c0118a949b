//! Bodies in chunks (RFC 9112 section 7.1), as they are read.

use bytes::{Buf, Bytes, BytesMut};
use http::{
    HeaderMap, Version,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
        CONTENT_TYPE, COOKIE, EXPECT, FORWARDED, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
    },
};

use krater_amphora_core::forwarded;

use super::{fault::Fault, field, head::Search};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_EXTENSION_BYTES_MAX};

/// How far a body in chunks has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In the size of a chunk, of which so many digits have come.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size of a chunk.
    Extension {
        size: u64,
        place: Place,
    },
    /// At the LF behind the size.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    /// At the CR LF behind a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers(Search),
    Done,
}

/// A place in extensions: `*( ";" name [ "=" ( token / quoted-string ) ] )`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind a semicolon: a name has to come.
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Value,
    Quoted,
    Escaped,
    AfterValue,
}

/// What came next of a body in chunks.
#[derive(Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// What followed the last chunk; the body is complete.
    Trailers(HeaderMap),
    /// The body is complete.
    End,
}

impl Decoder {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extensions: 0,
        }
    }

    /// Takes the next piece from the front of `held`; `None` if more has to come for it.
    pub(super) fn next(&mut self, held: &mut BytesMut) -> Result<Option<Piece>, Fault> {
        loop {
            match self.state {
                State::Data { left } => {
                    if held.is_empty() {
                        return Ok(None);
                    }
                    let take =
                        usize::try_from(left).map_or(held.len(), |left| left.min(held.len()));
                    let left = left - take as u64;
                    self.state = if left == 0 {
                        State::DataEnd
                    } else {
                        State::Data { left }
                    };
                    return Ok(Some(Piece::Data(held.split_to(take).freeze())));
                }
                State::DataEnd => match held.get(..2).unwrap_or(held) {
                    b"\r\n" => {
                        held.advance(2);
                        self.state = State::Size { size: 0, digits: 0 };
                    }
                    b"" | b"\r" => return Ok(None),
                    _ => return Err(Fault::ChunkEnd),
                },
                State::Trailers(search) => return self.trailers(search, held),
                State::Done => return Ok(Some(Piece::End)),
                State::Size { .. } | State::Extension { .. } | State::SizeEnd { .. } => {
                    let Some(byte) = held.first().copied() else {
                        return Ok(None);
                    };
                    held.advance(1);
                    self.state = self.after(byte)?;
                }
            }
        }
    }

    /// Whether all of the body was read.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The state after one more byte between two chunks.
    fn after(&mut self, byte: u8) -> Result<State, Fault> {
        match self.state {
            State::Size { size, digits } => match byte {
                b'\r' if digits > 0 => Ok(State::SizeEnd { size }),
                b';' if digits > 0 => Ok(State::Extension {
                    size,
                    place: Place::BeforeName,
                }),
                _ => {
                    let digit = char::from(byte).to_digit(16).ok_or(Fault::ChunkSize)?;
                    let size = size << 4 | u64::from(digit);
                    if size > CHUNK_BYTES_MAX || digits == DIGITS_MAX {
                        return Err(Fault::ChunkSize);
                    }
                    Ok(State::Size {
                        size,
                        digits: digits + 1,
                    })
                }
            },
            State::Extension { size, place } => {
                self.extensions += 1;
                if self.extensions > CHUNK_EXTENSION_BYTES_MAX {
                    return Err(Fault::ChunkExtension);
                }
                match place.after(byte)? {
                    Some(place) => Ok(State::Extension { size, place }),
                    None => Ok(State::SizeEnd { size }),
                }
            }
            State::SizeEnd { .. } if byte != b'\n' => Err(Fault::LineEnd),
            State::SizeEnd { size: 0 } => Ok(State::Trailers(Search::default())),
            State::SizeEnd { size } => Ok(State::Data { left: size }),
            state => Ok(state),
        }
    }

    fn trailers(
        &mut self,
        mut search: Search,
        held: &mut BytesMut,
    ) -> Result<Option<Piece>, Fault> {
        let Some(end) = search.end(held).map_err(no_target)? else {
            self.state = State::Trailers(search);
            return Ok(None);
        };
        self.state = State::Done;
        if end == EMPTY_LINE_BYTES {
            held.advance(end);
            return Ok(Some(Piece::End));
        }
        let section = held.split_to(end).freeze();
        let mut fields = HeaderMap::new();
        field::read(&section, 0, Version::HTTP_11, &mut fields)?;
        Ok(Some(Piece::Trailers(harmless(fields))))
    }
}

impl Place {
    /// The place after one more byte; `None` after the CR that ends the line.
    fn after(self, byte: u8) -> Result<Option<Self>, Fault> {
        let is_space = matches!(byte, b' ' | b'\t');
        let is_token = super::head::is_token(byte);
        Ok(Some(match (self, byte) {
            (Self::BeforeName, _) if is_space => self,
            (Self::BeforeName | Self::Name, _) if is_token => Self::Name,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::BeforeValue, _) if is_space => self,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::BeforeValue | Self::Value, _) if is_token => Self::Value,
            (Self::Quoted, b'"') => Self::AfterValue,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, b'\t' | b' '..=b'~' | 0x80..) => Self::Quoted,
            (Self::Name | Self::AfterName, _) if is_space => Self::AfterName,
            (Self::Value | Self::AfterValue, _) if is_space => Self::AfterValue,
            (Self::Name | Self::AfterName | Self::Value | Self::AfterValue, b';') => {
                Self::BeforeName
            }
            (Self::Name | Self::Value | Self::AfterValue, b'\r') => return Ok(None),
            _ => return Err(Fault::ChunkExtension),
        }))
    }
}

/// Lines that are too long mean something else ahead of a body.
const fn no_target(fault: Fault) -> Fault {
    match fault {
        Fault::TargetTooLong => Fault::HeadTooLong,
        fault => fault,
    }
}

/// Trailers without those that mean something only ahead of a body: how it is framed, where it goes, who sends it
/// (RFC 9110 section 6.5.1).
pub(crate) fn harmless(mut fields: HeaderMap) -> HeaderMap {
    for name in [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        FORWARDED,
        HOST,
        MAX_FORWARDS,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
        WWW_AUTHENTICATE,
    ] {
        fields.remove(name);
    }
    let ours: Vec<_> = fields
        .keys()
        .filter(|name| {
            let name = name.as_str();
            // Some take underscores for hyphens, and then it is any of them.
            name.contains('_')
                || forwarded::NAMES.contains(&name)
                || [
                    "x-forwarded-",
                    "x-ssl-",
                    "x-krater-",
                    "proxy-",
                    "keep-alive",
                ]
                .iter()
                .any(|start| name.starts_with(start))
        })
        .cloned()
        .collect();
    for name in ours {
        fields.remove(name);
    }
    fields
}

const EMPTY_LINE_BYTES: usize = 2;
/// As many as the largest size has, and a few zeros ahead.
const DIGITS_MAX: u8 = 16;
