//! HTTP/2 with clients: many requests at once over one connection (RFC 9113).
//!
//! One task serves the connection, its requests and what of them is under way, as with HTTP/1; each request is a future
//! that is polled when something moved. The engine (the crate `h2`) keeps the protocol; what a client may cost beyond it
//! is bounded here: the time that requests and the connection may stand still, and frames that carry nothing.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use h2::{
    Reason,
    server::{Builder, Connection},
};
use krater_amphora_api::Cause;
use tokio::time::{Instant, Sleep, sleep, timeout};

use self::{
    lent::{Lender, Lent},
    stream::{Call, Stream},
};
use super::{note, preface::Opening, server::linger, session::Session};
use crate::{
    limits::{
        CONNECTION_WINDOW_BYTES, LINGER_TIME_MAX, STREAM_HEAD_BYTES_MAX, STREAM_SEND_BYTES_MAX,
        STREAM_WINDOW_BYTES, STREAMS_MAX, STREAMS_UNSEEN_RESET_MAX, STREAMS_WRONG_MAX,
    },
    local::Ending,
    tap::{Flow, Tap},
    wire::Wire,
};

mod census;
mod head;
mod lent;
mod stream;

/// Serves a client that speaks HTTP/2 to its end. `begun` is what was read of it already.
pub(super) async fn serve(session: &Rc<Session>, wire: Wire, begun: Bytes) {
    let (tap, flow) = Tap::new(wire);
    let lender = Lender::new(Opening::new(tap, begun));
    let end = converse(session, &lender, &flow).await;
    // The engine has let go of it.
    let Some(opening) = Rc::into_inner(lender).map(RefCell::into_inner) else {
        return;
    };
    let mut wire = opening.into_opening().into_tap().into_wire();
    match end {
        End::Done => {}
        End::Wrong => {
            let lane = session.guest.seat.lane();
            lane.request_errors.bump();
            lane.failures.count(Cause::ClientBadRequest);
            note::failure(
                &session.guest.seat,
                session.ends(),
                Some(Cause::ClientBadRequest),
                None,
            );
        }
        End::Left => {
            session.guest.seat.lane().request_errors.bump();
            return;
        }
        End::Stalled => return wire.break_off(),
    }
    linger(&mut wire).await;
}

/// Why a connection has ended.
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

async fn converse(session: &Rc<Session>, lender: &Rc<RefCell<Lender>>, flow: &Flow) -> End {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(STREAM_HEAD_BYTES_MAX)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(STREAM_SEND_BYTES_MAX)
        .max_pending_accept_reset_streams(STREAMS_UNSEEN_RESET_MAX)
        .max_local_error_reset_streams(Some(STREAMS_WRONG_MAX));
    let allowed = session.timeouts().client_data;
    let greeting = builder.handshake(Lent::new(lender));
    let Ok(Ok(mut connection)) = timeout(allowed, greeting).await else {
        return End::Left;
    };
    Watch::new(session, lender, flow).run(&mut connection).await
}

/// Polls a connection, its requests and its timer. As with HTTP/1 there is one timer, which looks at most once per
/// shortest timeout who has stood still since when.
struct Watch<'a> {
    session: &'a Rc<Session>,
    lender: &'a Rc<RefCell<Lender>>,
    flow: &'a Flow,
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
    fn new(session: &'a Rc<Session>, lender: &'a Rc<RefCell<Lender>>, flow: &'a Flow) -> Self {
        let now = Instant::now();
        Self {
            session,
            lender,
            flow,
            sent_at: now,
            idle_since: now,
            course: Course::Open,
        }
    }

    async fn run(&mut self, connection: &mut Connection<Lent, Bytes>) -> End {
        let mut streams = FuturesUnordered::new();
        let mut timer = pin!(sleep(self.session.period()));
        let earned = self.lender.borrow().census.earned();
        poll_fn(|cx| {
            loop {
                self.ask_to_leave(connection);
                while let Poll::Ready(Some(())) = streams.poll_next_unpin(cx) {
                    self.idle_since = Instant::now();
                }
                let polled = connection.poll_accept(cx);
                self.account();
                match polled {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        streams.push(Stream::new(Call {
                            session: self.session.of_one_request(),
                            request,
                            respond,
                            earned: Rc::clone(&earned),
                        }));
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(self.judge(&error)),
                    Poll::Ready(None) => return Poll::Ready(self.closed()),
                    Poll::Pending => {}
                }
                let fault = self.lender.borrow_mut().census.fault();
                if let (Some(reason), false) = (fault, matches!(self.course, Course::Thrown(_))) {
                    self.throw(connection, reason);
                    continue;
                }
                if self.session.retimed.take() {
                    timer.as_mut().reset(Instant::now() + self.session.period());
                }
                let due = ready!(self.poll_due(cx, timer.as_mut(), &mut streams));
                match due {
                    Due::Stalled => return Poll::Ready(End::Stalled),
                    Due::Idle => self.leave(connection),
                    Due::Gone => self.throw(connection, Reason::NO_ERROR),
                    Due::Over => return Poll::Ready(End::Done),
                }
            }
        })
        .await
    }

    /// Lets the client know that it is to go elsewhere, once somebody wants that.
    fn ask_to_leave(&mut self, connection: &mut Connection<Lent, Bytes>) {
        let asked = self.session.guest.ending() >= Ending::Graceful || self.session.is_last();
        if asked && self.course == Course::Open {
            self.leave(connection);
        }
    }

    fn leave(&mut self, connection: &mut Connection<Lent, Bytes>) {
        self.course = Course::Leaving(Instant::now());
        connection.graceful_shutdown();
    }

    fn throw(&mut self, connection: &mut Connection<Lent, Bytes>, reason: Reason) {
        self.course = Course::Thrown(reason);
        self.idle_since = Instant::now();
        self.lender.borrow_mut().deafen();
        connection.abrupt_shutdown(reason);
    }

    /// Books what has moved since the last call.
    fn account(&mut self) {
        let (received, sent) = self.flow.take();
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
        let blocked = self.lender.borrow().is_blocked();
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

    /// What it means that the engine has ended with an error.
    fn judge(&self, error: &h2::Error) -> End {
        match self.course {
            Course::Thrown(Reason::NO_ERROR) => End::Done,
            Course::Thrown(_) => End::Wrong,
            _ if error.is_io() => End::Left,
            _ => {
                tracing::debug!(peer = %self.session.peer, %error, "a client breaks the rules of HTTP/2");
                End::Wrong
            }
        }
    }

    /// What it means that the engine has ended in order.
    const fn closed(&self) -> End {
        match self.course {
            Course::Open | Course::Leaving(_) | Course::Thrown(Reason::NO_ERROR) => End::Done,
            Course::Thrown(_) => End::Wrong,
        }
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
