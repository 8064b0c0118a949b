//! Field lines, of heads and of trailers, and what those say that frame a message.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING},
};
use memchr::memchr;

use super::fault::Fault;
use crate::limits::HTTP_FIELDS_MAX;

/// What the fields of a head say about the message and its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) length: Option<u64>,
    pub(super) chunked: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
}

impl Facts {
    /// Whether the connection goes on after the message (RFC 9112 section 9.3).
    pub(super) fn keeps(&self, version: Version) -> bool {
        !self.close && (self.keep_alive || version == Version::HTTP_11)
    }

    fn note(&mut self, name: &HeaderName, value: &[u8], version: Version) -> Result<(), Fault> {
        match *name {
            CONTENT_LENGTH => {
                if self.chunked {
                    return Err(Fault::LengthAndCoding);
                }
                if self.length.replace(number(value)?).is_some() {
                    return Err(Fault::Length);
                }
            }
            TRANSFER_ENCODING => {
                if self.length.is_some() {
                    return Err(Fault::LengthAndCoding);
                }
                let known = value.eq_ignore_ascii_case(b"chunked");
                if !known || self.chunked || version != Version::HTTP_11 {
                    return Err(Fault::Coding);
                }
                self.chunked = true;
            }
            CONNECTION => {
                for option in value.split(|byte| *byte == b',') {
                    let option = option.trim_ascii();
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            EXPECT => self.expects_continue |= value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        Ok(())
    }
}

/// What is wrong with fields that came by HTTP/2, whose engine takes names that are no tokens, and white space around
/// values (RFC 9113 section 8.2.1).
pub(crate) fn fault_of(fields: &HeaderMap) -> Option<Fault> {
    fields.iter().find_map(|(name, value)| {
        let value = value.as_bytes();
        if name.as_str().contains('"') {
            Some(Fault::FieldName)
        } else {
            (value != value.trim_ascii()).then_some(Fault::FieldValue)
        }
    })
}

/// Reads field lines up to the empty line that ends them, from `at` on, into `fields`.
pub(super) fn read(
    section: &Bytes,
    mut at: usize,
    version: Version,
    fields: &mut HeaderMap,
) -> Result<Facts, Fault> {
    let mut facts = Facts::default();
    let mut count = 0;
    loop {
        let rest = section.get(at..).unwrap_or_default();
        let (line, next) = line(rest)?;
        if line.is_empty() {
            return Ok(facts);
        }
        count += 1;
        if count > HTTP_FIELDS_MAX {
            return Err(Fault::TooManyFields);
        }
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Fault::Folded);
        }
        let colon = memchr(b':', line).ok_or(Fault::FieldName)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Fault::FieldName)?;
        let name = HeaderName::from_bytes(name).map_err(|_| Fault::FieldName)?;
        let value = trimmed(value.get(1..).unwrap_or_default());
        facts.note(&name, value, version)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(value))
            .map_err(|_| Fault::FieldValue)?;
        // Bounded above, far below what the map can hold.
        fields
            .try_append(name, value)
            .map_err(|_| Fault::TooManyFields)?;
        at += next;
    }
}

/// The line that `rest` begins with, without its end, and where the next begins.
pub(super) fn line(rest: &[u8]) -> Result<(&[u8], usize), Fault> {
    let end = memchr(b'\n', rest).ok_or(Fault::LineEnd)?;
    match rest.get(..end) {
        Some([line @ .., b'\r']) => Ok((line, end + 1)),
        _ => Err(Fault::LineEnd),
    }
}

/// A value without the white space around it (RFC 9110 section 5.6.3).
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// A number of digits and nothing else.
fn number(digits: &[u8]) -> Result<u64, Fault> {
    if digits.is_empty() {
        return Err(Fault::Length);
    }
    let number = digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    });
    // What cannot be counted with signs somewhere else is not sent there.
    number
        .filter(|number| i64::try_from(*number).is_ok())
        .ok_or(Fault::Length)
}
