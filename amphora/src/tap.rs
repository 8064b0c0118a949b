//! A connection that says how much went through it.

use std::{
    cell::Cell,
    io::{self, Write},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{limits::JOINED_BYTES_MAX, wire::Wire};

/// Bytes that went through a connection, as whoever uses it sees them, since somebody last took the number.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Flow {
    /// Bytes received and sent since the last call.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.received.take(), self.sent.take())
    }
}

/// A connection and its [`Flow`].
#[derive(Debug)]
pub(crate) struct Tap {
    wire: Wire,
    flow: Rc<Flow>,
}

impl Tap {
    pub(crate) fn new(wire: Wire) -> (Self, Rc<Flow>) {
        let flow = Rc::<Flow>::default();
        (
            Self {
                wire,
                flow: Rc::clone(&flow),
            },
            flow,
        )
    }

    fn sent(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = written {
            self.flow.sent.set(self.flow.sent.get() + written as u64);
        }
        written
    }
}

impl AsyncRead for Tap {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.wire).poll_read(cx, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.flow
                .received
                .set(self.flow.received.get() + read as u64);
        }
        outcome
    }
}

impl AsyncWrite for Tap {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(cx, bytes);
        self.sent(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        // A plain send is the cheaper call, by more than copying a small message costs; and most messages are small.
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let written = if let [slice] = slices {
            Pin::new(&mut self.wire).poll_write(cx, slice)
        } else if total <= JOINED_BYTES_MAX {
            let mut joined = [0; JOINED_BYTES_MAX];
            let mut room = &mut joined[..];
            for slice in slices {
                // Fits, since all of them do.
                let _ = room.write(slice);
            }
            let joined = joined.get(..total).unwrap_or_default();
            Pin::new(&mut self.wire).poll_write(cx, joined)
        } else {
            Pin::new(&mut self.wire).poll_write_vectored(cx, slices)
        };
        self.sent(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
