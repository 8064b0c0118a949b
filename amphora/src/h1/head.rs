//! Heads of messages, out of the bytes they came in.

use bytes::Bytes;
use http::{
    HeaderMap, Method, Request, Response, StatusCode, Uri, Version, request::Parts, response,
};
use hyper::ext::ReasonPhrase;
use memchr::memchr;

use super::{
    fault::Fault,
    field::{self, line},
};
use crate::limits::{HTTP_HEAD_BYTES_MAX, HTTP_TARGET_BYTES_MAX};

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// With a chunk of no bytes.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    pub(crate) parts: Parts,
    pub(crate) framing: Framing,
    /// The client may send another on the same connection.
    pub(crate) keeps: bool,
    /// The client sends the body when it is told to go on (RFC 9110 section 10.1.1).
    pub(crate) expects_continue: bool,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct AnswerHead {
    pub(crate) parts: response::Parts,
    pub(crate) framing: Framing,
    /// The connection may carry another exchange.
    pub(crate) keeps: bool,
}

/// What an answer answers: to `HEAD` it has no body, whatever its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    ForHead,
    ForBody,
}

/// Looks for the end of a head that may come in pieces. What was looked at is not looked at again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Search {
    /// No line ends before it but those that were looked at.
    seen: usize,
    /// Where the last line looked at has ended.
    line: usize,
}

impl Search {
    /// Where the head ends that `bytes` begin with, once all of it is there.
    pub(crate) fn end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        while let Some(at) = memchr(b'\n', bytes.get(self.seen..).unwrap_or_default()) {
            let end = self.seen + at;
            if end == 0 || bytes.get(end - 1) != Some(&b'\r') {
                return Err(Fault::LineEnd);
            }
            let is_empty = end == self.line + 1;
            (self.seen, self.line) = (end + 1, end + 1);
            if end >= HTTP_HEAD_BYTES_MAX {
                return Err(self.too_long());
            }
            if is_empty {
                return Ok(Some(end + 1));
            }
        }
        self.seen = bytes.len();
        if bytes.len() >= HTTP_HEAD_BYTES_MAX {
            return Err(self.too_long());
        }
        Ok(None)
    }

    const fn too_long(&self) -> Fault {
        if self.line == 0 {
            Fault::TargetTooLong
        } else {
            Fault::HeadTooLong
        }
    }
}

/// Whether `bytes`, which may be no more than the beginning of a head, can be one of a request. What speaks something
/// else must not be waited for to end a line.
pub(crate) fn may_be_request(bytes: &[u8]) -> Result<(), Fault> {
    let start = bytes.iter().take(METHOD_BYTES_MAX);
    match start.copied().find(|byte| !is_token(*byte)) {
        Some(b' ') if bytes.first() != Some(&b' ') => Ok(()),
        None if bytes.len() < METHOD_BYTES_MAX => Ok(()),
        _ => Err(Fault::Method),
    }
}

/// Whether `bytes`, which may be no more than the beginning of a head, can be one of an answer.
pub(crate) fn may_be_answer(bytes: &[u8]) -> Result<(), Fault> {
    let start = bytes.get(..PROTOCOL.len()).unwrap_or(bytes);
    if PROTOCOL.starts_with(start) {
        Ok(())
    } else {
        Err(Fault::StartLine)
    }
}

/// The head of a request, from its first byte to the empty line's last. `fields` is empty and gets the fields.
pub(crate) fn request(head: &Bytes, mut fields: HeaderMap) -> Result<RequestHead, Fault> {
    let (start, next) = line(head)?;
    let method_end = memchr(b' ', start).ok_or(Fault::StartLine)?;
    let (method, rest) = parted(start, method_end)?;
    let method = Method::from_bytes(method).map_err(|_| Fault::Method)?;
    let target_end = memchr(b' ', rest).ok_or(Fault::StartLine)?;
    let (target, version) = parted(rest, target_end)?;
    if target.len() > HTTP_TARGET_BYTES_MAX {
        return Err(Fault::TargetTooLong);
    }
    let version = known_version(version)?;
    // A fragment is for the client alone, and nothing else has this sign (RFC 9112 section 3.2).
    if !target
        .iter()
        .all(|byte| matches!(byte, 0x21..=0x7e) && *byte != b'#')
    {
        return Err(Fault::Target);
    }
    let uri = Uri::from_maybe_shared(head.slice_ref(target)).map_err(|_| Fault::Target)?;
    let facts = field::read(head, next, version, &mut fields)?;
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.version, parts.headers) = (method, uri, version, fields);
    Ok(RequestHead {
        parts,
        framing: match (facts.chunked, facts.length) {
            (true, _) => Framing::Chunked,
            (false, None | Some(0)) => Framing::None,
            (false, Some(length)) => Framing::Length(length),
        },
        keeps: facts.keeps(version),
        expects_continue: facts.expects_continue && version == Version::HTTP_11,
    })
}

/// The head of an answer, from its first byte to the empty line's last. `fields` is empty and gets the fields.
pub(crate) fn answer(
    head: &Bytes,
    asked: Asked,
    mut fields: HeaderMap,
) -> Result<AnswerHead, Fault> {
    let (start, next) = line(head)?;
    let (version, rest) = parted(start, VERSION_BYTES)?;
    let version = known_version(version)?;
    let (status, reason) = match rest.split_at_checked(STATUS_BYTES) {
        Some((status, [])) => (status, &[][..]),
        Some((status, [b' ', reason @ ..])) => (status, reason),
        _ => return Err(Fault::StartLine),
    };
    let status = StatusCode::from_bytes(status).map_err(|_| Fault::StartLine)?;
    let facts = field::read(head, next, version, &mut fields)?;
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, fields);
    if status.canonical_reason().map(str::as_bytes) != Some(reason) {
        let reason =
            ReasonPhrase::try_from(head.slice_ref(reason)).map_err(|_| Fault::StartLine)?;
        parts.extensions.insert(reason);
    }
    let framing = match (facts.chunked, facts.length) {
        _ if asked == Asked::ForHead || is_bodiless(status) => Framing::None,
        (true, _) => Framing::Chunked,
        (false, Some(0)) => Framing::None,
        (false, Some(length)) => Framing::Length(length),
        (false, None) => Framing::UntilClose,
    };
    Ok(AnswerHead {
        parts,
        framing,
        keeps: facts.keeps(version) && framing != Framing::UntilClose,
    })
}

/// Whether answers of this status never have a body (RFC 9112 section 6.3).
pub(super) fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// What is before and what is behind the space at `at`.
fn parted(line: &[u8], at: usize) -> Result<(&[u8], &[u8]), Fault> {
    match line.split_at_checked(at) {
        Some((before @ [_, ..], [b' ', behind @ ..])) => Ok((before, behind)),
        _ => Err(Fault::StartLine),
    }
}

fn known_version(version: &[u8]) -> Result<Version, Fault> {
    match version {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Fault::Version),
        _ => Err(Fault::StartLine),
    }
}

/// RFC 9110 section 5.6.2.
pub(super) const fn is_token(byte: u8) -> bool {
    matches!(byte, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
        | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z')
}

const PROTOCOL: &[u8] = b"HTTP/1.";
const VERSION_BYTES: usize = 8;
const STATUS_BYTES: usize = 3;
/// No method in use is nearly as long.
const METHOD_BYTES_MAX: usize = 64;
