//! HTTP/2 with clients: many requests at once over one connection (RFC 9113).
//!
//! One task serves the connection, its requests and what of them is under way, as with HTTP/1; each request is a future
//! that is polled when something moved. The engine (`crate::h2`) keeps the protocol; here is what takes time: the socket,
//! and how long requests and the connection may stand still. In each turn all that has come is heard first, then
//! requests go on, and then all that they have to say is sent at once.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use krater_amphora_api::Cause;
use tokio::time::{Instant, Sleep, sleep};

use self::stream::{Job, Stream};
use super::{note, server::linger, session::Session};
use crate::{
    channel::Trunk,
    h2::{Call, Engine, Heard, Line, Reason},
    limits::{LINGER_TIME_MAX, STREAM_UNREAD_BYTES_MAX},
    local::Ending,
    wire::Wire,
};

mod stream;

/// Serves a client that speaks HTTP/2 to its end. `begun` is what was read of it already.
pub(super) async fn serve(session: &Rc<Session>, wire: Wire, begun: BytesMut) {
    let mut trunk = Trunk::new(wire, begun, &session.guest.local.buffers);
    let end = Watch::new(session, &mut trunk).run().await;
    let mut wire = trunk.into_wire();
    match end {
        End::Done => {}
        End::Wrong => fails(session, Cause::ClientBadRequest, None),
        End::Left => {
            session.guest.seat.lane().request_errors.bump();
            return;
        }
        End::Stalled => return wire.break_off(),
    }
    linger(&mut wire).await;
}

/// Counts what the client did wrong, and what it was told.
fn fails(session: &Session, cause: Cause, status: Option<u16>) {
    let lane = session.guest.seat.lane();
    lane.request_errors.bump();
    lane.failures.count(cause);
    if let Some(status) = status {
        lane.responses.count(status);
    }
    note::failure(&session.guest.seat, session.ends(), Some(cause), status);
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was said.
    Done,
    /// The client does not keep to the protocol, or sends what carries nothing; it was told so.
    Wrong,
    /// The client went away in the middle of something, or never began.
    Left,
    /// The client does not take what it is sent.
    Stalled,
}

/// Polls a connection, its requests and its timer. As with HTTP/1 there is one timer, which looks at most once per
/// shortest timeout who has stood still since when.
struct Watch<'a> {
    session: &'a Rc<Session>,
    trunk: &'a mut Trunk,
    line: Line,
    /// When something was last sent, or had not to wait.
    sent_at: Instant,
    /// When the last request ended.
    idle_since: Instant,
    course: Course,
}

/// What is to become of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Open,
    /// Told to make no further request, at that time.
    Leaving(Instant),
    /// Told that this is the end.
    Thrown(Reason),
}

impl<'a> Watch<'a> {
    fn new(session: &'a Rc<Session>, trunk: &'a mut Trunk) -> Self {
        let now = Instant::now();
        Self {
            session,
            trunk,
            line: Engine::new(),
            sent_at: now,
            idle_since: now,
            course: Course::Open,
        }
    }

    async fn run(&mut self) -> End {
        let mut streams = FuturesUnordered::new();
        let mut timer = pin!(sleep(self.session.period()));
        poll_fn(|cx| {
            loop {
                let end = self.poll_talk(cx, &mut streams);
                self.account();
                if end.is_ready() {
                    return end;
                }
                if self.session.retimed.take() {
                    timer.as_mut().reset(Instant::now() + self.session.period());
                }
                let due = ready!(self.poll_due(cx, timer.as_mut(), &mut streams));
                match due {
                    Due::Stalled => return Poll::Ready(End::Stalled),
                    Due::Idle => self.leave(),
                    Due::Gone => self.throw(Reason::NO_ERROR),
                    Due::Over => return Poll::Ready(End::Done),
                }
            }
        })
        .await
    }

    /// Hears, has requests go on, and sends, until there is nothing to be done of either. Ready when the connection has
    /// ended.
    fn poll_talk(
        &mut self,
        cx: &mut Context<'_>,
        streams: &mut FuturesUnordered<Stream>,
    ) -> Poll<End> {
        loop {
            self.ask_to_leave();
            self.trunk.lend(&mut self.line.borrow_mut().out);
            let was_full = self.is_full();
            let heard = match self.poll_hear(cx, streams) {
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                heard => heard.is_ready(),
            };
            if !matches!(self.course, Course::Thrown(_)) {
                let mut ended = false;
                while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {
                    ended = true;
                }
                if ended {
                    self.idle_since = Instant::now();
                }
            }
            let mut engine = self.line.borrow_mut();
            let engine = &mut *engine;
            match self.trunk.poll_flush(cx, &mut engine.out) {
                Poll::Ready(Err(_)) => return Poll::Ready(End::Left),
                Poll::Ready(Ok(())) => match self.course {
                    Course::Thrown(Reason::NO_ERROR) => return Poll::Ready(End::Done),
                    Course::Thrown(_) => return Poll::Ready(End::Wrong),
                    _ if engine.is_over() => return Poll::Ready(End::Done),
                    _ => {}
                },
                Poll::Pending => {}
            }
            let is_woken = engine.wake_next();
            let is_emptied = was_full && engine.out.len() <= STREAM_UNREAD_BYTES_MAX;
            if !heard && !is_woken && !is_emptied {
                return Poll::Pending;
            }
        }
    }

    /// Takes in what has come. Ready if something has, or if there will be nothing more.
    fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        streams: &mut FuturesUnordered<Stream>,
    ) -> Poll<Result<(), End>> {
        self.hear(streams);
        if self.is_full() || matches!(self.course, Course::Thrown(_)) {
            return Poll::Pending;
        }
        match ready!(self.trunk.poll_fill(cx)) {
            Ok(true) => {
                self.hear(streams);
                Poll::Ready(Ok(()))
            }
            Ok(false) if !self.line.borrow().is_within(self.trunk.held()) => {
                Poll::Ready(Err(End::Done))
            }
            _ => Poll::Ready(Err(End::Left)),
        }
    }

    /// Whether the client does not listen, so that it is not heard either.
    fn is_full(&self) -> bool {
        self.line.borrow().out.len() > STREAM_UNREAD_BYTES_MAX
    }

    /// Takes in what was received.
    fn hear(&mut self, streams: &mut FuturesUnordered<Stream>) {
        while !matches!(self.course, Course::Thrown(_)) {
            let buffers = &self.session.guest.local.buffers;
            let mut engine = self.line.borrow_mut();
            let heard = engine.next(self.trunk.held(), || buffers.fields());
            drop(engine);
            match heard {
                Ok(Heard::Request(key, asked)) => streams.push(Stream::new(Job {
                    session: self.session.of_one_request(),
                    asked,
                    call: Call::new(&self.line, key),
                })),
                Ok(Heard::Malformed) => fails(self.session, Cause::ClientBadRequest, None),
                Ok(Heard::TooLarge) => fails(self.session, Cause::ClientHeadTooLarge, Some(431)),
                Ok(Heard::More) => return,
                Err(reason) => {
                    tracing::debug!(peer = %self.session.peer, code = reason.code(), "a client breaks the rules of HTTP/2");
                    self.throw(reason);
                }
            }
        }
    }

    /// Lets the client know that it is to go elsewhere, once somebody wants that.
    fn ask_to_leave(&mut self) {
        let asked = self.session.guest.ending() >= Ending::Graceful || self.session.is_last();
        if asked && self.course == Course::Open {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.course = Course::Leaving(Instant::now());
        self.line.borrow_mut().announce_end();
    }

    fn throw(&mut self, reason: Reason) {
        self.course = Course::Thrown(reason);
        self.idle_since = Instant::now();
        self.line.borrow_mut().throw(reason);
    }

    /// Books what has moved since the last call.
    fn account(&mut self) {
        let (received, sent) = self.trunk.take_counts();
        let lane = self.session.guest.seat.lane();
        lane.bytes_in.add(received);
        lane.bytes_out.add(sent);
        if sent > 0 {
            self.sent_at = Instant::now();
        }
    }

    /// Ready when somebody has taken too long who cannot be told by the end of a request.
    fn poll_due(
        &mut self,
        cx: &mut Context<'_>,
        mut timer: Pin<&mut Sleep>,
        streams: &mut FuturesUnordered<Stream>,
    ) -> Poll<Due> {
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let mut next = now + self.session.period();
            for stream in streams.iter_mut() {
                next = next.min(stream.look(now));
            }
            let due = self.due(now, streams.is_empty(), &mut next);
            timer.as_mut().reset(next);
            if let Some(due) = due {
                return Poll::Ready(due);
            }
        }
    }

    /// What is due of the connection itself; if nothing is, `next` becomes the time to look again.
    fn due(&self, now: Instant, idle: bool, next: &mut Instant) -> Option<Due> {
        let allowed = self.session.timeouts().client_data;
        let blocked = self.trunk.is_blocked();
        let waits = [
            (blocked, self.sent_at + allowed, Due::Stalled),
            (
                idle && self.course == Course::Open,
                self.idle_since + allowed,
                Due::Idle,
            ),
            match self.course {
                // A client that has nothing under way and does not answer is not waited for.
                Course::Leaving(since) => (
                    idle,
                    since.max(self.idle_since) + LINGER_TIME_MAX,
                    Due::Gone,
                ),
                Course::Thrown(_) => (true, self.idle_since + LINGER_TIME_MAX, Due::Over),
                Course::Open => (false, now, Due::Over),
            },
        ];
        for (applies, at, due) in waits {
            if applies && at <= now {
                return Some(due);
            }
            if applies {
                *next = (*next).min(at);
            }
        }
        None
    }
}

/// What is due.
#[derive(Clone, Copy, Debug)]
enum Due {
    /// The client takes nothing more.
    Stalled,
    /// The client has asked nothing for too long.
    Idle,
    /// The client was told to leave and does not.
    Gone,
    /// The client was told that this is the end, and had its time.
    Over,
}
