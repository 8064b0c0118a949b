//! Messages as they are sent.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version,
    header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING},
    response::Parts,
};
use hyper::ext::ReasonPhrase;

use super::head::{Asked, is_bodiless};

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// There is none.
    None,
    /// So many bytes are to be sent.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

impl Sender {
    /// Writes what goes ahead of a piece of the body. `None` if there is no room for the piece.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>, bytes: usize) -> Option<()> {
        match self {
            Self::None => None,
            Self::Length(left) => {
                *left = left.checked_sub(bytes as u64)?;
                Some(())
            }
            Self::Chunked => {
                hexadecimal(out, bytes);
                out.extend_from_slice(LINE_END);
                Some(())
            }
            Self::UntilClose => Some(()),
        }
    }

    /// What goes behind a piece of the body, which may be its last.
    pub(crate) const fn behind(&self, place: Place) -> &'static [u8] {
        match (self, place) {
            (Self::Chunked, Place::Within) => LINE_END,
            (Self::Chunked, Place::Last) => b"\r\n0\r\n\r\n",
            _ => b"",
        }
    }

    /// Writes the end of the body, with these fields behind it where there is a place for them.
    pub(crate) fn end(&self, out: &mut Vec<u8>, trailers: &HeaderMap) {
        if *self == Self::Chunked {
            out.extend_from_slice(b"0\r\n");
            for (name, value) in trailers {
                field(out, name, value);
            }
            out.extend_from_slice(LINE_END);
        }
    }

    /// Whether the body may end here.
    pub(crate) const fn may_end(&self) -> bool {
        !matches!(self, Self::Length(1..))
    }
}

/// Where in a body a piece of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Within,
    Last,
}

/// Writes the head of a request. Its fields say already how its body is framed.
pub(crate) fn request_head(out: &mut Vec<u8>, method: &Method, uri: &Uri, fields: &HeaderMap) {
    out.reserve(LINES_BYTES + fields.len() * FIELD_BYTES);
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in fields {
        field(out, name, value);
    }
    out.extend_from_slice(LINE_END);
}

/// Writes an interim answer (RFC 9110 section 15.2), for a client that speaks HTTP/1.1.
pub(crate) fn interim_head(out: &mut Vec<u8>, status: StatusCode, fields: &HeaderMap) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(LINE_END);
    for (name, value) in fields {
        field(out, name, value);
    }
    out.extend_from_slice(LINE_END);
}

/// To whom an answer goes, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toward<'a> {
    /// The version that the client speaks.
    pub(crate) version: Version,
    pub(crate) asked: Asked,
    /// The connection is kept as far as the client and we are concerned.
    pub(crate) keeps: bool,
    /// A `Date` for an answer without one (RFC 9110 section 6.6.1).
    pub(crate) date: &'a [u8],
}

/// Writes the head of an answer with a body of `length` bytes, or one that ends when it ends. Says how the body is to be
/// sent, and whether the connection can be kept.
pub(crate) fn answer_head(
    out: &mut Vec<u8>,
    answer: &Parts,
    length: Option<u64>,
    toward: Toward<'_>,
) -> (Sender, bool) {
    let Toward {
        version,
        asked,
        mut keeps,
        date,
    } = toward;
    let fields = &answer.headers;
    out.reserve(LINES_BYTES + fields.len() * FIELD_BYTES);
    status_line(out, answer, version);
    let bodiless = asked == Asked::ForHead || is_bodiless(answer.status);
    let sender = match length {
        _ if bodiless => Sender::None,
        Some(0) => Sender::None,
        Some(length) => Sender::Length(length),
        None if version == Version::HTTP_11 => Sender::Chunked,
        None => Sender::UntilClose,
    };
    keeps &= sender != Sender::UntilClose;
    let mut dated = false;
    let mut lengthy = false;
    let mut is_last = false;
    let is_upgrade = answer.status == StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in fields {
        match *name {
            CONTENT_LENGTH => {
                // The length of what would be sent to a GET; otherwise it is written below.
                if !bodiless || has_no_length(answer.status) || lengthy {
                    continue;
                }
                lengthy = true;
            }
            TRANSFER_ENCODING => continue,
            CONNECTION if !is_upgrade => {
                is_last |= value.as_bytes().eq_ignore_ascii_case(b"close");
                continue;
            }
            TRAILER if sender != Sender::Chunked => continue,
            DATE => dated = true,
            _ => {}
        }
        field(out, name, value);
    }
    keeps &= !is_last;
    match sender {
        Sender::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Sender::Length(length) => length_field(out, length),
        Sender::None if asked == Asked::ForBody && !bodiless => length_field(out, 0),
        // A sentence of ours that is not sent for HEAD's sake has a length all the same.
        Sender::None if !lengthy && !is_bodiless(answer.status) => {
            if let Some(length @ 1..) = length {
                length_field(out, length);
            }
        }
        Sender::None | Sender::UntilClose => {}
    }
    match (keeps, version) {
        _ if is_upgrade => {}
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, Version::HTTP_10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, _) => {}
    }
    if !dated {
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(date);
        out.extend_from_slice(LINE_END);
    }
    out.extend_from_slice(LINE_END);
    (sender, keeps)
}

fn status_line(out: &mut Vec<u8>, answer: &Parts, version: Version) {
    let reason = answer.extensions.get::<ReasonPhrase>();
    if version == Version::HTTP_11 && answer.status == StatusCode::OK && reason.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if version == Version::HTTP_10 {
        b"HTTP/1.0 "
    } else {
        b"HTTP/1.1 "
    });
    out.extend_from_slice(answer.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(match reason {
        Some(reason) => reason.as_bytes(),
        None => answer.status.canonical_reason().unwrap_or("").as_bytes(),
    });
    out.extend_from_slice(LINE_END);
}

/// RFC 9110 section 8.6.
fn has_no_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

fn length_field(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    let mut digits = [0; DIGITS_MAX];
    let mut at = digits.len();
    let mut rest = length;
    while let Some(place) = at.checked_sub(1).and_then(|at| digits.get_mut(at)) {
        // Below ten, so it fits.
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        at -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
    out.extend_from_slice(LINE_END);
}

fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    let digits = number.checked_ilog2().unwrap_or_default() / 4 + 1;
    for digit in (0..digits).rev() {
        let value = u32::try_from(number >> (digit * 4) & 0xf).unwrap_or_default();
        out.extend(char::from_digit(value, 16).and_then(|digit| u8::try_from(digit).ok()));
    }
}

fn field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(LINE_END);
}

const LINE_END: &[u8] = b"\r\n";
/// Of a common first line, and of what is added to every head.
const LINES_BYTES: usize = 128;
/// Of a common field.
const FIELD_BYTES: usize = 40;
/// Of the largest number.
const DIGITS_MAX: usize = 20;
