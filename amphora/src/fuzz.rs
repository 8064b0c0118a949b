//! Messages of HTTP/1, and all that a client says by HTTP/2, taken through all of the codecs at once, without sockets:
//! for `tests/fuzz` and the benchmarks.
//!
//! What is called is what serves traffic; here it is only put one behind the other.

use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Version};
use http_body::SizeHint;

use crate::{
    h1::{
        Asked, Fault, Framing, Next, Place, Reader, Search, Sender, Toward, answer as read_answer,
        answer_head, harmless, may_be_answer, may_be_request, request as read_request,
        request_head,
    },
    h2::{Call, Engine, Heard},
    http::{fit_answer, untold},
};

/// A message that was taken through.
#[derive(Debug, PartialEq, Eq)]
pub struct Passed {
    /// As it is sent on.
    pub sent: Vec<u8>,
    /// How much of what was received it is.
    pub received: usize,
    /// The bytes of its body.
    pub body: Vec<u8>,
    /// Whether the connection it came over can be used again.
    pub keeps: bool,
}

/// The request that `received` begins with, as a member is sent it. What is received comes in pieces of so many bytes.
/// `None` if it is refused, or not all there.
#[must_use]
pub fn request(received: &[u8], piece: usize) -> Option<Passed> {
    let pieces = Pieces(received, piece);
    let end = pieces.head(may_be_request).ok()??;
    let head = Bytes::copy_from_slice(received.get(..end)?);
    let head = read_request(&head, HeaderMap::new()).ok()?;
    let body = pieces.body(head.framing, end).ok()??;
    let reader = Reader::new(head.framing);
    let parts = untold(head.parts, &reader.size_hint())?;
    let mut sent = Vec::new();
    request_head(&mut sent, &parts.method, &parts.uri, &parts.headers);
    let sender = match reader.size_hint().exact() {
        Some(0) => Sender::None,
        Some(length) => Sender::Length(length),
        None => Sender::Chunked,
    };
    let (received, keeps) = (body.end, head.keeps);
    body.send(sender, &mut sent).map(|body| Passed {
        sent,
        received,
        body,
        keeps,
    })
}

/// The answer to a request of that method that `received` begins with, as a client of HTTP/1.1 is sent it. What is
/// received comes in pieces of so many bytes, and then the connection ends.
#[must_use]
pub fn answer(received: &[u8], method: &Method, piece: usize) -> Option<Passed> {
    let pieces = Pieces(received, piece);
    let asked = if *method == Method::HEAD {
        Asked::ForHead
    } else {
        Asked::ForBody
    };
    let end = pieces.head(may_be_answer).ok()??;
    let head = Bytes::copy_from_slice(received.get(..end)?);
    let mut head = read_answer(&head, asked, HeaderMap::new()).ok()?;
    let body = pieces.body(head.framing, end).ok()??;
    fit_answer(&mut head.parts.headers);
    let toward = Toward {
        version: Version::HTTP_11,
        asked,
        keeps: true,
        date: DATE,
    };
    let length = Reader::new(head.framing).size_hint().exact();
    let mut sent = Vec::new();
    let (sender, _) = answer_head(&mut sent, &head.parts, length, toward);
    let (received, keeps) = (body.end, head.keeps);
    body.send(sender, &mut sent).map(|body| Passed {
        sent,
        received,
        body,
        keeps,
    })
}

/// What a client of HTTP/2 has said.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// Its requests that are whole, as a member is sent them by HTTP/1.
    pub requests: Vec<Vec<u8>>,
    /// Why its connection was ended, if it was.
    pub reason: Option<u32>,
}

/// All that a client says by HTTP/2 with `received`, from its preface on. What is received comes in pieces of so many
/// bytes.
#[must_use]
pub fn conversation(received: &[u8], piece: usize) -> Said {
    let line = Engine::new();
    let mut held = BytesMut::new();
    let (mut asked, mut reason) = (Vec::new(), None);
    for part in received.chunks(piece.max(1)) {
        held.extend_from_slice(part);
        let end = loop {
            let heard = line.borrow_mut().next(&mut held, HeaderMap::new);
            match heard {
                Ok(Heard::Request(key, head)) => asked.push((Call::new(&line, key), head)),
                Ok(Heard::More) => break None,
                Ok(Heard::Malformed | Heard::TooLarge) => {}
                Err(reason) => break Some(reason),
            }
        };
        reason = end.map(|end| end.code());
        if reason.is_some() {
            break;
        }
    }
    let requests = asked
        .into_iter()
        .filter_map(|(call, head)| {
            let (body, trailers) = whole_body(&call)?;
            let length = head.parts.headers.contains_key("content-length");
            let hint = if length || body.is_empty() && trailers.is_empty() {
                SizeHint::with_exact(body.len() as u64)
            } else {
                SizeHint::default()
            };
            let parts = untold(head.parts, &hint)?;
            let mut sent = Vec::new();
            request_head(&mut sent, &parts.method, &parts.uri, &parts.headers);
            let received = Received {
                pieces: vec![body],
                trailers,
                end: 0,
            };
            let sender = match hint.exact() {
                Some(0) => Sender::None,
                Some(length) => Sender::Length(length),
                None => Sender::Chunked,
            };
            received.send(sender, &mut sent).map(|_| sent)
        })
        .collect();
    Said { requests, reason }
}

/// The body of a request and the fields behind it, if all of it has come.
fn whole_body(call: &Call) -> Option<(Bytes, HeaderMap)> {
    let Some(incoming) = call.incoming() else {
        return (!call.is_lost()).then(|| (Bytes::new(), HeaderMap::new()));
    };
    let mut body = Vec::new();
    loop {
        match incoming.poll_data(&Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(Ok(piece))) => body.extend_from_slice(&piece),
            Poll::Ready(None) => break,
            _ => return None,
        }
    }
    let trailers = incoming.take_trailers().map(harmless);
    Some((Bytes::from(body), trailers.unwrap_or_default()))
}

/// What is received, in pieces of so many bytes.
struct Pieces<'a>(&'a [u8], usize);

/// A body that was received.
struct Received {
    pieces: Vec<Bytes>,
    trailers: HeaderMap,
    /// Where it ends in what was received.
    end: usize,
}

impl Pieces<'_> {
    /// Where the head ends.
    fn head(&self, may_be: impl Fn(&[u8]) -> Result<(), Fault>) -> Result<Option<usize>, Fault> {
        let Self(received, piece) = *self;
        let mut search = Search::default();
        let mut there = 0;
        while there < received.len() {
            there = received.len().min(there + piece.max(1));
            let so_far = received.get(..there).unwrap_or_default();
            may_be(so_far)?;
            if let Some(end) = search.end(so_far)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The body that begins at `start`; `None` if it breaks off.
    fn body(&self, framing: Framing, start: usize) -> Result<Option<Received>, Fault> {
        let Self(received, piece) = *self;
        let mut rest = received.get(start..).unwrap_or_default();
        let mut held = BytesMut::new();
        let mut reader = Reader::new(framing);
        let (mut pieces, mut trailers) = (Vec::new(), HeaderMap::new());
        loop {
            match reader.next(&mut held)? {
                Next::Data(data) => pieces.push(data),
                Next::Trailers(fields) => trailers = fields,
                Next::End => break,
                Next::More if rest.is_empty() && reader.end() => break,
                Next::More if rest.is_empty() => return Ok(None),
                Next::More => {
                    let (now, later) = rest.split_at(rest.len().min(piece.max(1)));
                    held.extend_from_slice(now);
                    rest = later;
                }
            }
        }
        Ok(Some(Received {
            pieces,
            trailers,
            end: received.len() - rest.len() - held.len(),
        }))
    }
}

impl Received {
    /// Writes the body behind its head, and returns it. `None` if it is not as long as was said.
    fn send(self, mut sender: Sender, out: &mut Vec<u8>) -> Option<Vec<u8>> {
        let body = self.pieces.concat();
        if sender == Sender::None {
            return body.is_empty().then_some(body);
        }
        for piece in self.pieces.iter().filter(|piece| !piece.is_empty()) {
            sender.begin(out, piece.len())?;
            out.extend_from_slice(piece);
            out.extend_from_slice(sender.behind(Place::Within));
        }
        sender.may_end().then(|| sender.end(out, &self.trailers))?;
        Some(body)
    }
}

const DATE: &[u8] = b"Thu, 01 Jan 1970 00:00:00 GMT";
