//! A client's connection, as the loop that serves it and the body of its present request share it.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use super::{Buffers, Channel, outflow::Outlet};
use crate::{
    h1::{Fault, Framing, Next, Reader, RequestHead, Search, may_be_request, request, taken},
    limits::LEFTOVER_READS_MAX,
    wire::Wire,
};

/// A client's connection. Nothing of it stays borrowed between two calls.
pub(crate) struct Dialogue(RefCell<Client>);

struct Client {
    channel: Channel,
    search: Search,
    /// Nothing was understood yet.
    fresh: bool,
    /// An empty line ahead of the next request was passed over: one is (RFC 9112 section 2.2).
    skipped: bool,
    reader: Reader,
    /// The client waits to be told that its body is wanted.
    awaits_continue: bool,
    /// It was told so.
    continued: bool,
}

/// What a client comes to say next.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always the large one, and a box would cost every request an allocation"
)]
pub(crate) enum Heard {
    /// A request. Its body may have yet to come.
    Request(RequestHead),
    /// No request.
    Nonsense(Fault),
    /// HTTP/2. All that was received is the beginning of it.
    Http2,
    /// Nothing more.
    End,
    /// It went away in the middle of a head.
    Left,
}

/// Why the body of a request has ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    /// The client has ended its sending.
    #[error("the client has ended its sending")]
    Ended,
    /// The connection is broken.
    #[error("the connection of the client is broken")]
    Connection(#[source] io::Error),
    /// It is malformed.
    #[error("{}", .0.reason())]
    Malformed(Fault),
}

impl Dialogue {
    /// A connection over which nothing was said yet.
    pub(crate) fn new(wire: Wire, buffers: &Rc<Buffers>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Client {
            channel: Channel::new(wire, buffers),
            search: Search::default(),
            fresh: true,
            skipped: false,
            reader: Reader::Done,
            awaits_continue: false,
            continued: false,
        })))
    }

    /// Waits for the head of the next request.
    pub(crate) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Heard> {
        let client = &mut *self.0.borrow_mut();
        loop {
            if client.fresh && client.channel.held.starts_with(PREFACE) {
                return Poll::Ready(Heard::Http2);
            }
            match client.head() {
                Ok(Some(head)) => {
                    client.reader = Reader::new(head.framing);
                    client.awaits_continue = head.expects_continue && head.framing != Framing::None;
                    client.continued = false;
                    return Poll::Ready(Heard::Request(head));
                }
                Ok(None) => {}
                Err(fault) => return Poll::Ready(Heard::Nonsense(fault)),
            }
            match ready!(client.channel.poll_fill(cx)) {
                Ok(true) => {}
                // Whoever hangs up between two requests has done nothing wrong, however it is done.
                _ if client.channel.held.is_empty() => return Poll::Ready(Heard::End),
                _ => return Poll::Ready(Heard::Left),
            }
        }
    }

    /// Whether something has come of what nobody has asked for yet: of the next request, if none is under way.
    pub(crate) fn has_begun(&self) -> bool {
        !self.0.borrow().channel.held.is_empty()
    }

    /// The next frame of the present request's body.
    pub(crate) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Unfinished>>> {
        let client = &mut *self.0.borrow_mut();
        loop {
            let next = client.reader.next(&mut client.channel.held);
            match next.map_err(Unfinished::Malformed)? {
                Next::Data(data) => {
                    client.awaits_continue = false;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Next::Trailers(fields) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Next::End => return Poll::Ready(None),
                Next::More => {}
            }
            if client.awaits_continue {
                client.awaits_continue = false;
                client.continued = true;
                client.channel.text().extend_from_slice(CONTINUE);
            }
            if client.channel.is_sending()
                && let Poll::Ready(Err(error)) = client.channel.poll_flush(cx)
            {
                return Poll::Ready(Some(Err(Unfinished::Connection(error))));
            }
            if !ready!(client.channel.poll_fill(cx)).map_err(Unfinished::Connection)? {
                return Poll::Ready(Some(Err(Unfinished::Ended)));
            }
        }
    }

    /// Whether all of the present request was read.
    pub(crate) fn is_read(&self) -> bool {
        self.0.borrow().reader.is_done()
    }

    /// How much of the present request's body is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.0.borrow().reader.size_hint()
    }

    /// Ready when the client has ended its sending, which is looked for while nothing else is expected of it.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let client = &mut *self.0.borrow_mut();
        if !client.reader.is_done() || !client.channel.held.is_empty() {
            return Poll::Pending;
        }
        match ready!(client.channel.poll_fill(cx)) {
            // The next request has come early. It waits, and what follows it waits in the kernel.
            Ok(true) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// An answer is about to be sent: it is too late to ask for the body.
    pub(crate) fn begin_answer(&self) {
        // It may come all the same, so it counts as not read.
        self.0.borrow_mut().awaits_continue = false;
    }

    /// Whether the client is to be told to go on, on behalf of a member: it is told once.
    pub(crate) fn may_continue(&self) -> bool {
        let client = &mut *self.0.borrow_mut();
        client.awaits_continue = false;
        !std::mem::replace(&mut client.continued, true)
    }

    /// Whether something waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.0.borrow().channel.is_sending()
    }

    /// Takes out what is there of a body that nobody wanted. `true` if that was all of it, so that the next request can be
    /// read.
    pub(crate) fn skip_body(&self) -> bool {
        let client = &mut *self.0.borrow_mut();
        let mut quiet = Context::from_waker(Waker::noop());
        let mut reads = 0;
        loop {
            match client.reader.next(&mut client.channel.held) {
                Ok(Next::End) => return true,
                Ok(Next::Data(_) | Next::Trailers(_)) => {}
                Ok(Next::More) => {
                    reads += 1;
                    let filled = client.channel.poll_fill(&mut quiet);
                    if reads > LEFTOVER_READS_MAX || !matches!(filled, Poll::Ready(Ok(true))) {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
    }

    /// Has `write` write text to be sent.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        write(self.0.borrow_mut().channel.text())
    }

    /// Sends what waits to be sent.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().channel.poll_flush(cx)
    }

    /// Bytes received and sent since the last call.
    pub(crate) fn take_counts(&self) -> (u64, u64) {
        self.0.borrow_mut().channel.take_counts()
    }

    /// The connection, and what was received over it and not used.
    pub(crate) fn into_parts(self) -> (Wire, BytesMut) {
        self.0.into_inner().channel.into_parts()
    }
}

impl Outlet for &Dialogue {
    fn with<T>(&mut self, use_it: impl FnOnce(&mut Channel) -> T) -> T {
        use_it(&mut self.0.borrow_mut().channel)
    }
}

impl Client {
    /// The head that has come, if all of it has.
    fn head(&mut self) -> Result<Option<RequestHead>, Fault> {
        let held = &mut self.channel.held;
        if self.fresh && PREFACE.starts_with(held) {
            return Ok(None);
        }
        self.fresh = false;
        if !self.skipped && held.first() == Some(&b'\r') {
            match held.get(1) {
                None => return Ok(None),
                Some(b'\n') => {
                    held.advance(2);
                    self.skipped = true;
                }
                Some(_) => {}
            }
        }
        if held.is_empty() {
            return Ok(None);
        }
        may_be_request(held)?;
        let Some(end) = self.search.end(held)? else {
            return Ok(None);
        };
        self.search = Search::default();
        self.skipped = false;
        let fields = self.channel.buffers().fields();
        request(&taken(&mut self.channel.held, end), fields).map(Some)
    }
}

/// What clients of HTTP/2 begin with (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
