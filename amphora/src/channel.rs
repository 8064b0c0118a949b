//! One end of an HTTP/1 connection: what was received over it and not used yet, and what waits to be sent.

use std::{
    cell::{Cell, RefCell},
    io::{self, IoSlice},
    mem,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWrite};

mod dialogue;
mod outflow;
mod trunk;

pub(crate) use dialogue::{Dialogue, Heard, Unfinished};
pub(crate) use outflow::{Outflow, Unsendable};
pub(crate) use trunk::Trunk;

use crate::{
    limits::{
        BIG_PIECES_BYTES_MAX, HEAD_BUFFERS_MAX, HTTP_BIG_BUFFER_BYTES_MAX, HTTP_BUFFER_BYTES_MAX,
        HTTP_COPY_BYTES_MAX, JOINED_BYTES_MAX, OUTBOX_BYTES_MAX, SPARE_FIELDS_MAX,
    },
    wire::Wire,
};

/// What the HTTP/1 connections of one worker share, so that idle ones hold no buffer.
pub(crate) struct Buffers {
    /// Where bytes are received. Large pieces are passed on as parts of it, and the whole is used again once they are
    /// gone.
    arrivals: RefCell<BytesMut>,
    /// Where heads are written.
    heads: RefCell<Vec<Vec<u8>>>,
    /// Where fields of heads are kept: empty, with room for those of common messages.
    fields: RefCell<Vec<HeaderMap>>,
    /// Bytes of pieces that wait to be sent, over all connections.
    waiting: Cell<usize>,
}

/// A connection's part in what all share.
struct Share {
    buffers: Rc<Buffers>,
    /// So much of [`Buffers::waiting`] is its own.
    waiting: usize,
}

/// How much may be received at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// As much as one of many answers may hold that a client does not take.
    #[default]
    Small,
    /// More, as long as little waits to be sent. Pieces have to go to a [`Channel`], which counts what waits.
    Large,
}

/// One end of a connection.
pub(crate) struct Channel {
    wire: Wire,
    share: Share,
    /// How much may be received at once.
    pub(crate) pieces: Pieces,
    /// What was received and not used yet.
    pub(crate) held: BytesMut,
    outbox: Outbox,
    /// The other side has ended its sending.
    ended: bool,
    /// What was written may wait in TLS.
    unflushed: bool,
    /// Bytes received and sent, in all.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// So many of them were taken account of.
    booked: (u64, u64),
}

/// What waits to be sent.
#[derive(Default)]
struct Outbox {
    /// Heads, and what is small enough to be copied.
    text: Vec<u8>,
    /// So much of it was sent.
    text_sent: usize,
    /// What follows it.
    piece: Bytes,
    /// What follows that.
    behind: &'static [u8],
}

impl Buffers {
    /// None yet.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            arrivals: RefCell::default(),
            heads: RefCell::default(),
            fields: RefCell::default(),
            waiting: Cell::new(0),
        })
    }

    /// How much to receive at once. Fewer and larger calls cost less, but what a client does not take stays in memory:
    /// so pieces are large only while few bytes wait to be sent.
    fn room(&self, pieces: Pieces) -> usize {
        match pieces {
            Pieces::Large if self.waiting.get() < BIG_PIECES_BYTES_MAX => HTTP_BIG_BUFFER_BYTES_MAX,
            _ => HTTP_BUFFER_BYTES_MAX,
        }
    }

    /// Room for the fields of a head.
    pub(crate) fn fields(&self) -> HeaderMap {
        self.fields.borrow_mut().pop().unwrap_or_default()
    }

    /// Takes back what fields were kept in.
    pub(crate) fn give_back(&self, mut fields: HeaderMap) {
        let mut spare = self.fields.borrow_mut();
        if spare.len() < HEAD_BUFFERS_MAX && fields.capacity() <= SPARE_FIELDS_MAX {
            fields.clear();
            spare.push(fields);
        }
    }
}

impl Share {
    /// Notes that a piece waits to be sent.
    fn add(&mut self, bytes: usize) {
        self.waiting += bytes;
        let waiting = &self.buffers.waiting;
        waiting.set(waiting.get() + bytes);
    }

    /// Notes that nothing waits any more.
    fn settle(&mut self) {
        let waiting = &self.buffers.waiting;
        waiting.set(waiting.get().saturating_sub(mem::take(&mut self.waiting)));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.settle();
    }
}

impl Channel {
    /// A connection over which nothing was said yet.
    pub(crate) fn new(wire: Wire, buffers: &Rc<Buffers>) -> Self {
        Self {
            wire,
            share: Share {
                buffers: Rc::clone(buffers),
                waiting: 0,
            },
            pieces: Pieces::default(),
            held: BytesMut::new(),
            outbox: Outbox::default(),
            ended: false,
            unflushed: false,
            received: 0,
            sent: 0,
            booked: (0, 0),
        }
    }

    /// What the connections of this worker share.
    pub(crate) fn buffers(&self) -> &Buffers {
        &self.share.buffers
    }

    /// Receives more. `false` if there will be no more.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        if self.held.is_empty() {
            // It would keep its part of the buffer.
            self.held = BytesMut::new();
        }
        let room = self.share.buffers.room(self.pieces);
        let mut arrivals = self.share.buffers.arrivals.borrow_mut();
        if arrivals.capacity() < room {
            arrivals.reserve(room);
        }
        // The buffer may have more room: it is the same for all.
        let mut room = (&mut *arrivals).limit(room);
        let read = ready!(pin!(self.wire.read_buf(&mut room)).poll(cx))?;
        self.received += read as u64;
        self.ended = read == 0;
        if !self.held.is_empty() {
            self.held.extend_from_slice(&arrivals);
            arrivals.clear();
        } else if read <= HTTP_COPY_BYTES_MAX {
            self.held = BytesMut::from(&arrivals[..]);
            arrivals.clear();
        } else {
            self.held = arrivals.split();
        }
        Poll::Ready(Ok(read > 0))
    }

    /// Where text to be sent is written.
    pub(crate) fn text(&mut self) -> &mut Vec<u8> {
        if self.outbox.text.capacity() == 0 {
            let mut heads = self.share.buffers.heads.borrow_mut();
            self.outbox.text = heads.pop().unwrap_or_default();
        }
        &mut self.outbox.text
    }

    /// Whether there is room for another piece.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.piece.is_empty() && self.outbox.text.len() < OUTBOX_BYTES_MAX
    }

    /// Has a piece sent, and `behind` after it. There must be room.
    pub(crate) fn push(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= JOINED_BYTES_MAX {
            // A plain send is the cheaper call, by more than copying costs.
            let text = self.text();
            text.extend_from_slice(&piece);
            text.extend_from_slice(behind);
        } else {
            self.share.add(piece.len());
            self.outbox.piece = piece;
            self.outbox.behind = behind;
        }
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.unflushed || !self.outbox.is_empty()
    }

    /// Forgets what waits to be sent: there is nobody to send it to.
    pub(crate) fn give_up_sending(&mut self) {
        self.outbox = Outbox::default();
        self.unflushed = false;
        self.share.settle();
    }

    /// Sends what waits to be sent.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let sent = ready!(self.outbox.poll_send(cx, &mut self.wire))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent as u64;
            self.outbox.advance(sent);
            self.unflushed = self.wire.is_sealed();
        }
        if self.outbox.text.capacity() > 0 {
            let mut text = mem::take(&mut self.outbox.text);
            self.outbox.text_sent = 0;
            text.clear();
            let mut heads = self.share.buffers.heads.borrow_mut();
            if heads.len() < HEAD_BUFFERS_MAX && text.capacity() <= 2 * OUTBOX_BYTES_MAX {
                heads.push(text);
            }
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
            self.unflushed = false;
        }
        self.share.settle();
        Poll::Ready(Ok(()))
    }

    /// Bytes received and sent since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        let (received, sent) = mem::replace(&mut self.booked, (self.received, self.sent));
        (self.received - received, self.sent - sent)
    }

    /// Lets go of the connection, with what was received and not used.
    pub(crate) fn into_parts(self) -> (Wire, BytesMut) {
        (self.wire, self.held)
    }
}

impl Outbox {
    fn is_empty(&self) -> bool {
        self.text.len() == self.text_sent && self.piece.is_empty() && self.behind.is_empty()
    }

    fn poll_send(&self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<io::Result<usize>> {
        let text = self.text.get(self.text_sent..).unwrap_or_default();
        let wire = Pin::new(wire);
        if self.piece.is_empty() && self.behind.is_empty() {
            return wire.poll_write(cx, text);
        }
        let slices = [text, &self.piece, self.behind].map(IoSlice::new);
        let some = match slices.iter().position(|slice| !slice.is_empty()) {
            Some(first) => slices.get(first..).unwrap_or_default(),
            None => &[],
        };
        match some {
            [only] => wire.poll_write(cx, only),
            [first, last] if last.is_empty() => wire.poll_write(cx, first),
            some => wire.poll_write_vectored(cx, some),
        }
    }

    fn advance(&mut self, sent: usize) {
        let of_text = sent.min(self.text.len() - self.text_sent);
        self.text_sent += of_text;
        let of_piece = (sent - of_text).min(self.piece.len());
        if of_piece == self.piece.len() {
            // It would keep its part of the buffer.
            self.piece = Bytes::new();
        } else {
            self.piece.advance(of_piece);
        }
        let of_rest = sent - of_text - of_piece;
        self.behind = self.behind.get(of_rest..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_large_only_while_little_waits_to_be_sent() {
        let buffers = Buffers::new();
        let share = || Share {
            buffers: Rc::clone(&buffers),
            waiting: 0,
        };
        let (mut slow, mut gone) = (share(), share());
        assert_eq!(buffers.room(Pieces::Large), HTTP_BIG_BUFFER_BYTES_MAX);
        slow.add(BIG_PIECES_BYTES_MAX);
        gone.add(1);
        assert_eq!(buffers.room(Pieces::Large), HTTP_BUFFER_BYTES_MAX);
        // What was sent, and what nobody waits for any more, counts no longer.
        slow.settle();
        assert_eq!(buffers.room(Pieces::Large), HTTP_BIG_BUFFER_BYTES_MAX);
        gone.add(BIG_PIECES_BYTES_MAX);
        drop(gone);
        assert_eq!(buffers.room(Pieces::Large), HTTP_BIG_BUFFER_BYTES_MAX);
        assert_eq!(buffers.waiting.get(), 0);
        assert_eq!(buffers.room(Pieces::Small), HTTP_BUFFER_BYTES_MAX);
    }
}
