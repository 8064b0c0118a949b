//! A connection as HTTP is spoken over it: plain, or inside TLS.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::TlsStream;

/// A connection to a client or to a member. Which of both it is costs one comparison a call.
#[derive(Debug)]
pub(crate) enum Wire {
    /// What is written is what is sent.
    Plain(TcpStream),
    /// What is written is sealed first. The handshake is over.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Has the close of the socket break the connection off: what was cut short must not look like what ended well.
    pub(crate) fn break_off(&self) {
        // If it fails the peer is gone already.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }

    /// Whether it was settled in the handshake of TLS that HTTP/2 is spoken.
    pub(crate) fn speaks_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// Whether what is written may wait here to be sent, so that it has to be flushed.
    pub(crate) const fn is_sealed(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Says that nothing more is to come, as far as that can be said at once. Plain connections say it by their close.
    pub(crate) fn say_goodbye(&mut self) {
        if let Self::Tls(stream) = self {
            stream.get_mut().1.send_close_notify();
            let mut quiet = Context::from_waker(Waker::noop());
            // A client that does not take it at once has not waited for it.
            let _ = Pin::new(&mut **stream).poll_flush(&mut quiet);
        }
    }

    /// Sends as much of `bytes` as is taken at once. `false` if the connection takes none.
    pub(crate) fn send_now(&mut self, bytes: &[u8]) -> bool {
        let mut quiet = Context::from_waker(Waker::noop());
        matches!(
            Pin::new(self).poll_write(&mut quiet, bytes),
            Poll::Ready(Ok(_))
        )
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buffer),
            Self::Tls(stream) => {
                let outcome = Pin::new(&mut **stream).poll_read(cx, buffer);
                match outcome {
                    // Clients close without a word (RFC 9112 section 9.8); what is cut short shows in HTTP's own framing.
                    // An answer of a member may have none.
                    Poll::Ready(Err(error))
                        if error.kind() == io::ErrorKind::UnexpectedEof
                            && matches!(**stream, TlsStream::Server(_)) =>
                    {
                        Poll::Ready(Ok(()))
                    }
                    outcome => outcome,
                }
            }
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    /// Ends the sending; inside TLS with the word that it is the end.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
