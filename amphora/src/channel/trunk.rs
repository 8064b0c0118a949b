//! One end of an HTTP/2 connection: what was received over it and not used yet; what its engine has for it is sent.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::{Buffers, Channel};
use crate::{
    h2::{Outbox, SLICES_MAX},
    limits::{HEAD_BUFFERS_MAX, OUTBOX_BYTES_MAX},
    wire::Wire,
};

/// One end of a connection that carries many requests at once.
pub(crate) struct Trunk {
    channel: Channel,
    /// The socket took less than there was when last written to.
    blocked: bool,
}

impl Trunk {
    /// A connection of which `begun` was read already.
    pub(crate) fn new(wire: Wire, begun: BytesMut, buffers: &Rc<Buffers>) -> Self {
        let mut channel = Channel::new(wire, buffers);
        channel.held = begun;
        Self {
            channel,
            blocked: false,
        }
    }

    /// What was received and not used yet.
    pub(crate) const fn held(&mut self) -> &mut BytesMut {
        &mut self.channel.held
    }

    /// Whether something waits for the client to take it.
    pub(crate) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Receives more. `false` if there will be no more.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.channel.poll_fill(cx)
    }

    /// Has `outbox` write to room that connections share.
    pub(crate) fn lend(&self, outbox: &mut Outbox) {
        if !outbox.has_room() {
            let mut heads = self.channel.share.buffers.heads.borrow_mut();
            outbox.give_room(heads.pop().unwrap_or_default());
        }
    }

    /// Sends what waits in `outbox`.
    pub(crate) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &mut Outbox,
    ) -> Poll<io::Result<()>> {
        self.blocked = true;
        while !outbox.is_empty() {
            let sent = ready!(self.poll_send(cx, outbox))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.channel.sent += sent as u64;
            outbox.advance(sent);
            self.channel.unflushed = self.channel.wire.is_sealed();
        }
        self.take_back(outbox.take_room());
        if self.channel.unflushed {
            ready!(Pin::new(&mut self.channel.wire).poll_flush(cx))?;
            self.channel.unflushed = false;
        }
        self.blocked = false;
        Poll::Ready(Ok(()))
    }

    /// Bytes received and sent since the last call.
    pub(crate) fn take_counts(&mut self) -> (u64, u64) {
        self.channel.take_counts()
    }

    /// The connection alone.
    pub(crate) fn into_wire(self) -> Wire {
        self.channel.into_parts().0
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, outbox: &Outbox) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices);
        let wire = Pin::new(&mut self.channel.wire);
        match slices.get(..count) {
            Some([only]) => wire.poll_write(cx, only),
            all => wire.poll_write_vectored(cx, all.unwrap_or_default()),
        }
    }

    fn take_back(&self, room: Vec<u8>) {
        let mut heads = self.channel.share.buffers.heads.borrow_mut();
        let is_usual = (1..=2 * OUTBOX_BYTES_MAX).contains(&room.capacity());
        if is_usual && heads.len() < HEAD_BUFFERS_MAX {
            heads.push(room);
        }
    }
}
