//! Bodies of messages, out of the bytes they came in.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::SizeHint;

use super::{
    chunked::{Decoder, Piece},
    fault::Fault,
    head::Framing,
};

/// How far a body has been read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader {
    /// All of it.
    Done,
    /// So many bytes are to come.
    Length(u64),
    Chunked(Decoding),
    /// What comes until the connection ends.
    UntilClose,
}

/// A body in chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decoding(Decoder);

/// What comes next of a body.
#[derive(Debug)]
pub(crate) enum Next {
    Data(Bytes),
    /// Fields behind the last byte of it.
    Trailers(HeaderMap),
    /// It is complete.
    End,
    /// Nothing yet: more has to be received.
    More,
}

impl Reader {
    /// A body that is framed like that and has yet to come.
    pub(crate) const fn new(framing: Framing) -> Self {
        match framing {
            Framing::None | Framing::Length(0) => Self::Done,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Decoding(Decoder::new())),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    /// Takes the next piece from the front of `held`, what was received.
    pub(crate) fn next(&mut self, held: &mut BytesMut) -> Result<Next, Fault> {
        match self {
            Self::Done => return Ok(Next::End),
            Self::Chunked(Decoding(decoder)) => {
                let piece = decoder.next(held)?;
                if decoder.is_done() {
                    *self = Self::Done;
                }
                return Ok(match piece {
                    Some(Piece::Data(data)) => Next::Data(data),
                    Some(Piece::Trailers(fields)) if fields.is_empty() => Next::End,
                    Some(Piece::Trailers(fields)) => Next::Trailers(fields),
                    Some(Piece::End) => Next::End,
                    None => Next::More,
                });
            }
            Self::Length(_) | Self::UntilClose => {}
        }
        if held.is_empty() {
            return Ok(Next::More);
        }
        let mut take = held.len();
        if let Self::Length(left) = self {
            take = usize::try_from(*left).map_or(take, |left| take.min(left));
            *left -= take as u64;
            if *left == 0 {
                *self = Self::Done;
            }
        }
        Ok(Next::Data(taken(held, take)))
    }

    /// The connection has ended: `true` if that is how this body ends.
    pub(crate) fn end(&mut self) -> bool {
        if matches!(self, Self::UntilClose) {
            *self = Self::Done;
        }
        self.is_done()
    }

    /// Whether all of it was read.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// How much is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }
}

/// The first bytes of `held`, which keeps no memory once it is empty.
pub(crate) fn taken(held: &mut BytesMut, count: usize) -> Bytes {
    if count == held.len() {
        std::mem::take(held).freeze()
    } else {
        held.split_to(count).freeze()
    }
}
