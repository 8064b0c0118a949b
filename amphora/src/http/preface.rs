//! A connection that was read from already, as if it had not been.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tap::Tap;

/// A connection and what was read of it to find out what it speaks.
pub(super) struct Opening {
    tap: Tap,
    begun: Bytes,
}

impl Opening {
    /// A connection of which `begun` was read.
    pub(super) const fn new(tap: Tap, begun: Bytes) -> Self {
        Self { tap, begun }
    }

    /// The connection alone.
    pub(super) fn into_tap(self) -> Tap {
        self.tap
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.begun.is_empty() {
            return Pin::new(&mut self.tap).poll_read(cx, buffer);
        }
        let part = self.begun.len().min(buffer.remaining());
        buffer.put_slice(self.begun.get(..part).unwrap_or_default());
        self.begun.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opening {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tap).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tap).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tap.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tap).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tap).poll_shutdown(cx)
    }
}
