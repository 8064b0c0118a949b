//! HTTP/1.1 toward a member, polled by whoever waits for the answer.

use std::{
    io,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Method, StatusCode, request::Parts};
use http_body::{Body, Frame, SizeHint};
use krater_amphora_api::Cause;

use super::{
    outgoing::{self, Outgoing},
    progress::Interim,
};
use crate::{
    channel::{Buffers, Channel, Outflow, Pieces, Unsendable},
    h1::{
        AnswerHead, Asked, Fault, Next, Reader, Search, Sender, answer, may_be_answer,
        request_head, taken,
    },
    tls::is_refusal,
    wire::Wire,
};

/// A connection to a member and how far its present exchange has come.
pub(super) struct Http1 {
    pub(super) channel: Channel,
    sending: Sending,
    /// What had been sent over the connection when the present exchange began, and what had been received.
    sent_before: u64,
    received_before: u64,
    asked: Asked,
    search: Search,
    /// Interim answers to the present request.
    pub(super) interim: Interim,
    reader: Reader,
    /// The member keeps the connection after the present answer.
    keeps: bool,
}

/// What is left to be done about a request.
enum Sending {
    /// Nothing but to send what waits.
    Done,
    Body {
        body: Outflow<Outgoing>,
        /// A piece of the body that was taken from the client before anything was sent.
        first: Option<Bytes>,
    },
    /// The connection takes no more. The member may have answered all the same.
    Failed,
}

/// Why an exchange cannot be completed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The member has closed the connection in the middle of an answer, or ahead of it.
    #[error("the connection has ended too early")]
    Ended,
    /// The connection is broken.
    #[error("the connection is broken")]
    Connection(#[source] io::Error),
    /// The answer is malformed.
    #[error("{}", .0.reason())]
    Malformed(Fault),
    /// There are interim answers without end.
    #[error("too many interim answers")]
    Endless,
    /// The member has ended the answer, or the connection, as HTTP/2 knows it.
    #[error("the member has broken off")]
    Http2(#[source] h2::Error),
    /// The rest of the request does not come.
    #[error("the body of the request has broken off")]
    Body(#[source] outgoing::Broken),
    /// The request's body is not as long as its head says.
    #[error("the body of the request has another length than was said")]
    BodyLength,
}

impl Broken {
    /// Whether it is the client's doing.
    pub(crate) const fn blames_client(&self) -> bool {
        matches!(self, Self::Body(_) | Self::BodyLength)
    }

    /// Why that is a failure; `broke` if it is the connection that has broken.
    pub(crate) fn cause(&self, broke: Cause) -> Cause {
        match self {
            Self::Ended => broke,
            Self::Connection(error) => broken_by(error, broke),
            // What we found wrong ourselves was no HTTP/2.
            Self::Http2(error) if error.is_library() => Cause::MemberMalformed,
            Self::Http2(error) => error
                .get_io()
                .map_or(broke, |error| broken_by(error, broke)),
            Self::Malformed(_) | Self::Endless => Cause::MemberMalformed,
            Self::Body(error) if !outgoing::is_malformed(error) => Cause::ClientGone,
            Self::Body(_) | Self::BodyLength => Cause::ClientBadRequest,
        }
    }
}

/// Why a connection has broken: before an answer it may have been refused after the handshake was over here.
fn broken_by(error: &io::Error, broke: Cause) -> Cause {
    if broke == Cause::MemberResetBeforeAnswer && is_refusal(error) {
        Cause::MemberTlsRefused
    } else {
        broke
    }
}

/// What came of sending.
pub(super) enum Sent {
    /// All there is, or all that is taken.
    Some,
    /// The connection took not one byte.
    Nothing,
}

impl Http1 {
    pub(super) fn new(wire: Wire, buffers: &Rc<Buffers>) -> Self {
        Self {
            channel: Channel::new(wire, buffers),
            sending: Sending::Done,
            sent_before: 0,
            received_before: 0,
            asked: Asked::ForBody,
            search: Search::default(),
            interim: Interim::default(),
            reader: Reader::Done,
            keeps: true,
        }
    }

    /// Begins with a request. Nothing is sent yet.
    pub(super) fn begin(&mut self, parts: &Parts, body: Outgoing, pieces: Pieces) {
        let Parts {
            method,
            uri,
            headers,
            ..
        } = parts;
        self.channel.pieces = pieces;
        request_head(self.channel.text(), method, uri, headers);
        let sender = match body.size_hint().exact() {
            Some(0) => Sender::None,
            Some(length) => Sender::Length(length),
            None => Sender::Chunked,
        };
        self.sending = if sender == Sender::None {
            Sending::Done
        } else {
            Sending::Body {
                body: Outflow::new(body, sender, Some(headers)),
                first: None,
            }
        };
        self.asked = if *method == Method::HEAD {
            Asked::ForHead
        } else {
            Asked::ForBody
        };
        (self.sent_before, self.received_before) = (self.channel.sent, self.channel.received);
        (self.search, self.interim) = (Search::default(), Interim::default());
        self.keeps = false;
    }

    /// Whether bytes of the present request were sent.
    pub(super) const fn has_sent(&self) -> bool {
        self.channel.sent > self.sent_before
    }

    /// Whether nothing was received since the present request began.
    pub(super) const fn is_silent(&self) -> bool {
        self.channel.received == self.received_before
    }

    /// Takes back the body of a request of which nothing was sent.
    pub(super) fn take_back(&mut self) -> Outgoing {
        match std::mem::replace(&mut self.sending, Sending::Failed) {
            Sending::Body { body, first } => body.into_body().with_first(first),
            Sending::Done | Sending::Failed => Outgoing::Empty,
        }
    }

    /// Sends what there is of the request. Only what is wrong with its body is an error: a connection that takes no more
    /// shows in the answer.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Sent, Broken> {
        loop {
            self.gather(cx)?;
            if !self.channel.is_sending() {
                return Ok(Sent::Some);
            }
            let flushed = self.channel.poll_flush(cx);
            if let Poll::Ready(Err(error)) = &flushed {
                tracing::trace!(%error, "a member takes no more of a request");
                self.channel.give_up_sending();
                if !self.has_sent() {
                    return Ok(Sent::Nothing);
                }
                self.sending = Sending::Failed;
            }
            if self.has_sent()
                && let Sending::Body { body, first } = &mut self.sending
            {
                *first = None;
                if body.is_ended() {
                    self.sending = Sending::Done;
                }
            }
            if flushed.is_pending() || !matches!(self.sending, Sending::Body { .. }) {
                return Ok(Sent::Some);
            }
        }
    }

    /// Puts pieces of the body to what waits to be sent.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let has_sent = self.has_sent();
        while let Sending::Body { body, first } = &mut self.sending {
            if first.is_some() {
                // What was taken and cannot be given back would be lost if not one byte can be sent.
                return Ok(());
            }
            match body.poll_next(cx, &mut self.channel) {
                Poll::Pending | Poll::Ready(Ok(None)) => return Ok(()),
                Poll::Ready(Ok(Some(piece))) if !has_sent => *first = Some(piece),
                Poll::Ready(Ok(Some(_))) => {}
                Poll::Ready(Err(Unsendable::Broken(error))) => return Err(Broken::Body(error)),
                Poll::Ready(Err(Unsendable::Length)) => return Err(Broken::BodyLength),
            }
        }
        Ok(())
    }

    /// Waits for the head of the answer.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<AnswerHead, Broken>> {
        loop {
            if let Some(head) = self.head().map_err(Broken::Malformed)? {
                let status = head.parts.status;
                if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
                    self.reader = Reader::new(head.framing);
                    self.keeps = head.keeps && status != StatusCode::SWITCHING_PROTOCOLS;
                    return Poll::Ready(Ok(head));
                }
                if self.interim.take_in(status, head.parts.headers).is_none() {
                    return Poll::Ready(Err(Broken::Endless));
                }
                continue;
            }
            if !ready!(self.channel.poll_fill(cx)).map_err(Broken::Connection)? {
                return Poll::Ready(Err(Broken::Ended));
            }
        }
    }

    /// The head that has come, if all of it has.
    fn head(&mut self) -> Result<Option<AnswerHead>, Fault> {
        let held = &mut self.channel.held;
        may_be_answer(held)?;
        let Some(end) = self.search.end(held)? else {
            return Ok(None);
        };
        self.search = Search::default();
        let fields = self.channel.buffers().fields();
        answer(&taken(&mut self.channel.held, end), self.asked, fields).map(Some)
    }

    /// The next frame of the answer's body.
    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Err(broken) = self.poll_send(cx) {
            return Poll::Ready(Some(Err(broken)));
        }
        loop {
            let next = self.reader.next(&mut self.channel.held);
            match next.map_err(Broken::Malformed)? {
                Next::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Next::Trailers(fields) => return Poll::Ready(Some(Ok(Frame::trailers(fields)))),
                Next::End => return Poll::Ready(None),
                Next::More => {}
            }
            if !ready!(self.channel.poll_fill(cx)).map_err(Broken::Connection)? {
                let outcome = if self.reader.end() {
                    None
                } else {
                    Some(Err(Broken::Ended))
                };
                return Poll::Ready(outcome);
            }
        }
    }

    /// Whether the answer's body has been read to its end.
    pub(super) const fn is_answered(&self) -> bool {
        self.reader.is_done()
    }

    /// How much of the answer's body is to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        self.reader.size_hint()
    }

    /// Whether another request may be sent: nothing is under way, and nothing has come that nobody asked for, be it the
    /// end of the connection.
    pub(super) fn is_ready(&mut self) -> bool {
        // Polled with a waker that does nothing: whoever used it last must not be woken for it, and what the runtime has
        // heard of is noticed.
        let mut quiet = Context::from_waker(Waker::noop());
        self.keeps
            && self.reader.is_done()
            && matches!(self.sending, Sending::Done)
            && !self.channel.is_sending()
            && self.channel.held.is_empty()
            && self.channel.poll_fill(&mut quiet).is_pending()
    }

    /// The connection, and what was received over it and not used.
    pub(super) fn into_parts(self) -> (Wire, BytesMut) {
        self.channel.into_parts()
    }
}
