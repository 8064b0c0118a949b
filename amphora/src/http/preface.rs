//! How a connection begins: by the preface of HTTP/2, or by anything else.
//!
//! Looking costs those who speak HTTP/1 one comparison for each read: what was read is looked at where it lies.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tap::Tap;

/// A connection whose first bytes are looked at before anybody else gets them.
pub(super) struct Opening {
    tap: Tap,
    stage: Stage,
}

enum Stage {
    /// All that came so far, held back, is the beginning of the preface.
    Unclear(Vec<u8>),
    /// HTTP/2: whoever reads gets nothing, until it is read from the beginning.
    Http2(Vec<u8>),
    /// This has to be read before anything else.
    Replay(Bytes),
    /// What comes is passed on.
    Clear,
}

impl Opening {
    /// A connection on which nothing was read. It is noted at its flow that the client speaks HTTP/2.
    pub(super) const fn new(tap: Tap) -> Self {
        Self {
            tap,
            stage: Stage::Unclear(Vec::new()),
        }
    }

    /// The same connection, to be read from its first byte on.
    pub(super) fn rewound(mut self) -> Self {
        if let Stage::Http2(held) = &mut self.stage {
            self.stage = Stage::Replay(std::mem::take(held).into());
        }
        self
    }

    /// The connection alone, without what was held back.
    pub(super) fn into_tap(self) -> Tap {
        self.tap
    }

    /// Judges what was read to `buffer` beyond the first `before` bytes, and takes it back out unless it is clear.
    fn judge(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let Stage::Unclear(held) = &mut self.stage else {
            return;
        };
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        let so_far = held.iter().chain(fresh);
        let agrees = so_far.zip(PREFACE).all(|(byte, wanted)| byte == wanted) && !fresh.is_empty();
        if !agrees && held.is_empty() {
            self.stage = Stage::Clear;
            return;
        }
        held.extend_from_slice(fresh);
        buffer.set_filled(before);
        if !agrees {
            self.stage = Stage::Replay(std::mem::take(held).into());
        } else if held.len() >= PREFACE.len() {
            self.stage = Stage::Http2(std::mem::take(held));
            self.tap.note_http2();
        }
    }
}

impl AsyncRead for Opening {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match &mut self.stage {
                Stage::Clear => return Pin::new(&mut self.tap).poll_read(cx, buffer),
                Stage::Http2(_) => return Poll::Pending,
                Stage::Replay(rest) => {
                    let part = rest.len().min(buffer.remaining());
                    buffer.put_slice(rest.get(..part).unwrap_or_default());
                    rest.advance(part);
                    if rest.is_empty() {
                        self.stage = Stage::Clear;
                    }
                    if part > 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                Stage::Unclear(_) => {
                    let before = buffer.filled().len();
                    ready!(Pin::new(&mut self.tap).poll_read(cx, buffer))?;
                    self.judge(buffer, before);
                    if matches!(self.stage, Stage::Clear) {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
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

/// What clients of HTTP/2 begin with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
