//! Heads and trailers of answers as they are sent.
//!
//! Nothing is put into the client's table: looking for what may be there costs more than the bytes it spares, and what
//! is never remembered can be guessed by nobody (RFC 7541 section 7.1).

use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TE, TRANSFER_ENCODING, UPGRADE},
};

use super::{
    frame::{self, CONTINUATION, END_HEADERS, END_STREAM, FRAME_BYTES_MAX, HEAD_BYTES, HEADERS},
    table::KNOWN,
};

/// Writes blocks for one client.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    shrink: Shrink,
}

/// Whether the client was told that nothing will ever be in its table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shrink {
    /// It does not have to be.
    #[default]
    Needless,
    /// It wants a smaller table than it had, which has to be agreed to (RFC 7541 section 4.2).
    Due,
    Told,
}

impl Encoder {
    /// Notes how large the client wants its table to be at the most.
    pub(super) fn note_table(&mut self, size: u32) {
        if size < TABLE_BYTES && self.shrink == Shrink::Needless {
            self.shrink = Shrink::Due;
        }
    }

    /// Writes the head of an answer, with that `Date` if it has none of its own.
    pub(super) fn answer(
        &mut self,
        out: &mut Vec<u8>,
        (stream, flags): (u32, u8),
        (status, fields): (StatusCode, &HeaderMap),
        date: Option<&[u8]>,
    ) {
        self.write(out, stream, flags, |out| {
            put_status(out, status);
            let has_length = status != StatusCode::NO_CONTENT && !status.is_informational();
            let mut date = date;
            for (name, value) in fields {
                match *name {
                    // What only HTTP/1 says (RFC 9113 section 8.2.2).
                    CONNECTION | TRANSFER_ENCODING | UPGRADE | TE => continue,
                    // RFC 9110 section 8.6.
                    CONTENT_LENGTH if !has_length => continue,
                    DATE => date = None,
                    _ => {}
                }
                put(out, name, value);
            }
            if let Some(date) = date {
                put_text(out, DATE_INDEX, date);
            }
        });
    }

    /// Writes fields behind a body.
    pub(super) fn trailers(&mut self, out: &mut Vec<u8>, stream: u32, fields: &HeaderMap) {
        self.write(out, stream, END_STREAM, |out| {
            for (name, value) in fields {
                put(out, name, value);
            }
        });
    }

    /// Writes a block in as many frames as it takes.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        flags: u8,
        block: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = out.len();
        frame::head(out, 0, HEADERS, flags | END_HEADERS, stream);
        if self.shrink == Shrink::Due {
            self.shrink = Shrink::Told;
            out.push(RESIZE_TO_NOTHING);
        }
        block(out);
        let length = out.len() - start - HEAD_BYTES;
        if length <= FRAME_BYTES_MAX {
            if let Some(place) = out.get_mut(start..start + HEAD_BYTES) {
                place.copy_from_slice(&frame::head_bytes(
                    length,
                    HEADERS,
                    flags | END_HEADERS,
                    stream,
                ));
            }
            return;
        }
        let whole = out.split_off(start);
        let block = whole.get(HEAD_BYTES..).unwrap_or_default();
        let pieces = block.chunks(FRAME_BYTES_MAX);
        let last = pieces.len() - 1;
        for (at, piece) in pieces.enumerate() {
            let kind = if at == 0 { HEADERS } else { CONTINUATION };
            let of_first = if at == 0 { flags } else { 0 };
            let of_last = if at == last { END_HEADERS } else { 0 };
            frame::head(out, piece.len(), kind, of_first | of_last, stream);
            out.extend_from_slice(piece);
        }
    }
}

fn put_status(out: &mut Vec<u8>, status: StatusCode) {
    match STATUSES.iter().position(|known| *known == status.as_u16()) {
        Some(at) => number(out, INDEXED, 7, STATUS_INDEX + at),
        None => put_text(out, STATUS_INDEX, status.as_str().as_bytes()),
    }
}

fn put(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    let name = name.as_str();
    if matches!(name, "keep-alive" | "proxy-connection") {
        return;
    }
    // What is sensitive must not be remembered by anybody who passes it on (RFC 7541 section 7.1.3).
    let kind = if value.is_sensitive() { NEVER } else { 0 };
    match index_of(name) {
        Some(index) => number(out, kind, 4, index),
        None => {
            out.push(kind);
            text(out, name.as_bytes());
        }
    }
    text(out, value.as_bytes());
}

fn put_text(out: &mut Vec<u8>, index: usize, value: &[u8]) {
    number(out, 0, 4, index);
    text(out, value);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, 0, 7, text.len());
    out.extend_from_slice(text);
}

/// Writes a number that begins in the last so many bits of a byte (RFC 7541 section 5.1).
fn number(out: &mut Vec<u8>, kind: u8, bits: u32, number: usize) {
    let byte = |number: usize| u8::try_from(number & 0xff).unwrap_or_default();
    let mask = (1_usize << bits) - 1;
    if number < mask {
        out.push(kind | byte(number));
        return;
    }
    out.push(kind | byte(mask));
    let mut rest = number - mask;
    while rest >= 0x80 {
        out.push(byte(rest | 0x80));
        rest >>= 7;
    }
    out.push(byte(rest));
}

/// Where the standard has a name of a field.
fn index_of(name: &str) -> Option<usize> {
    let (from, to) = *BY_LENGTH.get(name.len())?;
    let places = PLACES.get(usize::from(from)..usize::from(to))?;
    let mut places = places.iter().map(|place| usize::from(*place));
    places.find(|place| {
        KNOWN
            .get(place - 1)
            .is_some_and(|(known, _)| *known == name)
    })
}

/// Names of fields that the standard knows, by how long they are: where in [`PLACES`] those of that length begin and end.
static BY_LENGTH: [(u8, u8); NAME_BYTES_MAX + 1] = sorted().0;
/// Their numbers.
static PLACES: [u8; FIELDS] = sorted().1;

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "done by the compiler, which refuses what does not fit"
)]
const fn sorted() -> ([(u8, u8); NAME_BYTES_MAX + 1], [u8; FIELDS]) {
    let mut by_length = [(0, 0); NAME_BYTES_MAX + 1];
    let mut places = [0; FIELDS];
    let (mut length, mut count) = (0, 0_u8);
    while length <= NAME_BYTES_MAX {
        let begin = count;
        let mut at = PSEUDO;
        while at < KNOWN.len() {
            if KNOWN[at].0.len() == length {
                places[count as usize] = at as u8 + 1;
                count += 1;
            }
            at += 1;
        }
        by_length[length] = (begin, count);
        length += 1;
    }
    (by_length, places)
}

/// The longest name that the standard knows.
const NAME_BYTES_MAX: usize = "access-control-allow-origin".len();
/// So many of what the standard knows are no fields but pseudo-fields.
const PSEUDO: usize = 14;
const FIELDS: usize = KNOWN.len() - PSEUDO;
const STATUS_INDEX: usize = 8;
const DATE_INDEX: usize = 33;
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
const INDEXED: u8 = 0x80;
const NEVER: u8 = 0x10;
/// What a client's table holds before anybody has said more.
const TABLE_BYTES: u32 = 4_096;
const RESIZE_TO_NOTHING: u8 = 0x20;
