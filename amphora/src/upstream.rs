//! Connections to members: one request at a time on each, and a pool of those that wait for the next.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    connect::Link,
    limits::{
        HTTP_BUFFER_BYTES_MAX, HTTP_HEAD_BYTES_MAX, IDLE_TIME_MAX, IDLE_UPSTREAMS_PER_MEMBER_MAX,
    },
    meter::MemberLane,
    tap::{Flow, Tap},
    wire::Wire,
    world::World,
};
use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{Builder, Connection, SendRequest},
};
use hyper_util::rt::TokioIo;

mod outgoing;
mod progress;

pub(crate) use outgoing::Outgoing;
pub(crate) use progress::{Progress, Turn};

/// An HTTP/1.1 connection to a member, driven by whoever uses it rather than by a task of its own.
pub(crate) struct Upstream {
    sender: SendRequest<Outgoing>,
    connection: Box<Connection<TokioIo<Tap>, Outgoing>>,
    flow: Rc<Flow>,
    link: Link,
    whose: Whose,
    /// It has served a request: the member may close it at any moment now.
    used: bool,
    /// The connection's future has ended and must not be polled again.
    ended: bool,
    received: u64,
    sent_at: Instant,
    idle_since: Instant,
}

/// Whose requests a connection may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Any client's.
    Anybody,
    /// Those of the client connection it was opened for: the member was told who the client is.
    OneClient,
}

/// What came of sending a request.
pub(crate) enum Sent {
    /// The head of the member's answer.
    Answered(Response<Incoming>),
    /// No byte of the request was sent; here it is again.
    Unsent(Box<Request<Outgoing>>),
    /// The connection broke after some of the request was sent. `silent` if not one byte of an answer had come.
    Broke { silent: bool },
    /// Somebody took too long.
    Overdue(Turn),
}

/// A member's end of a connection that no longer speaks HTTP.
pub(crate) struct Tunnel {
    pub(crate) wire: Wire,
    pub(crate) link: Link,
    /// What the member said right after its `101`.
    pub(crate) rest: Bytes,
}

impl Upstream {
    /// Speaks HTTP/1.1 over a fresh connection.
    pub(crate) async fn start(wire: Wire, link: Link, whose: Whose) -> hyper::Result<Self> {
        let (tap, flow) = Tap::new(wire);
        let (sender, connection) = Builder::new()
            .max_buf_size(HTTP_BUFFER_BYTES_MAX)
            .max_header_size(HTTP_HEAD_BYTES_MAX)
            .handshake(TokioIo::new(tap))
            .await?;
        let now = Instant::now();
        Ok(Self {
            sender,
            connection: Box::new(connection),
            flow,
            link,
            whose,
            used: false,
            ended: false,
            received: 0,
            sent_at: now,
            idle_since: now,
        })
    }

    /// The meters of the member, of this worker.
    pub(crate) fn lane(&self) -> &MemberLane {
        self.link.lane()
    }

    /// Whose requests it may carry.
    pub(crate) const fn whose(&self) -> Whose {
        self.whose
    }

    /// Whether it has served a request before.
    pub(crate) const fn is_used(&self) -> bool {
        self.used
    }

    /// Moves bytes in both directions as far as they go. To be called by whoever waits for the answer or its body.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, progress: &Progress) {
        self.drive(cx);
        let (received, sent) = self.flow.take();
        if received + sent > 0 {
            progress.moved.set(true);
            self.received += received;
            self.lane().bytes_in.add(received);
            self.lane().bytes_out.add(sent);
        }
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended {
            // How it ended shows in the answer or its body.
            self.ended = self.connection.poll_without_shutdown(cx).is_ready();
        }
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        &mut self,
        request: Request<Outgoing>,
        progress: &Progress,
    ) -> Sent {
        let lane = self.link.lane();
        lane.requests.bump();
        if self.used {
            lane.reuses.bump();
        }
        self.used = true;
        self.received = 0;
        self.sent_at = Instant::now();
        progress.turn.set(Turn::Member);
        let mut answer = pin!(self.sender.try_send_request(request));
        let mut quiet = Context::from_waker(Waker::noop());
        let mut sending = true;
        let outcome = poll_fn(|cx| {
            // Once woken, the answer is likely there. Taken with a waker that does nothing, since the real one would be
            // left behind in what hyper drops with the answer, and each drop would have this task polled once more.
            if !sending {
                self.poll(&mut quiet, progress);
                if let Poll::Ready(outcome) = answer.as_mut().poll(&mut quiet) {
                    return Poll::Ready(Ok(outcome));
                }
            }
            sending = false;
            self.poll(cx, progress);
            // The answer is handed over by the connection, which was polled just now with the real waker.
            if let Poll::Ready(outcome) = answer.as_mut().poll(&mut quiet) {
                return Poll::Ready(Ok(outcome));
            }
            match progress.overdue.take() {
                Some(turn) => Poll::Ready(Err(turn)),
                None => Poll::Pending,
            }
        })
        .await;
        match outcome {
            Err(turn) => Sent::Overdue(turn),
            Ok(Ok(answer)) => {
                self.link.prove();
                Sent::Answered(answer)
            }
            Ok(Err(mut error)) => match error.take_message() {
                Some(request) => Sent::Unsent(Box::new(request)),
                None => {
                    self.link.note_break();
                    tracing::debug!(member = %self.link.member.id, error = %error.error(), "a member broke off");
                    Sent::Broke {
                        silent: self.received == 0,
                    }
                }
            },
        }
    }

    /// Lets go of HTTP after a `101`.
    pub(crate) fn into_tunnel(self) -> Tunnel {
        let parts = self.connection.into_parts();
        Tunnel {
            wire: parts.io.into_inner().into_wire(),
            link: self.link,
            rest: parts.read_buf,
        }
    }

    /// Whether it can take another request, as far as can be known.
    fn is_ready(&mut self) -> bool {
        // Polled with a waker that does nothing: whoever used it last must not be woken for it, and a close by the
        // member that the runtime has heard of is noticed.
        self.drive(&mut Context::from_waker(Waker::noop()));
        let (received, sent) = self.flow.take();
        self.lane().bytes_in.add(received);
        self.lane().bytes_out.add(sent);
        !self.ended && self.sender.is_ready()
    }
}

/// Idle connections of one worker, or of one client, by
/// [`MemberState::serial`](crate::world::MemberState::serial).
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<u64, Vec<Upstream>>>,
    total: Cell<usize>,
    most: usize,
}

impl Upstreams {
    /// None yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            idle: RefCell::default(),
            total: Cell::new(0),
            most,
        }
    }

    /// A connection to a member that waits for a request: the one used last, since the member is the least likely to
    /// have lost patience with it.
    ///
    /// None that has waited for longer than `patience`: who cannot send again what meets a close on its way had better
    /// not take the chance.
    pub(crate) fn take(&self, serial: u64, patience: Duration) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.get_mut(&serial)?;
        while let Some(mut upstream) = waiting.pop() {
            if upstream.idle_since.elapsed() > patience {
                // Those below it have waited for even longer.
                waiting.push(upstream);
                return None;
            }
            self.total.set(self.total.get() - 1);
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
        None
    }

    /// Takes back a connection whose answer is complete, and keeps it for the next request if it can take one and there
    /// is room.
    pub(crate) fn put(&self, mut upstream: Upstream) {
        let now = Instant::now();
        let took = now.saturating_duration_since(upstream.sent_at);
        upstream.lane().durations.count(took);
        if !upstream.is_ready() || self.total.get() >= self.most {
            return;
        }
        upstream.idle_since = now;
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(upstream.link.member.serial).or_default();
        if waiting.len() < IDLE_UPSTREAMS_PER_MEMBER_MAX {
            waiting.push(upstream);
            self.total.set(self.total.get() + 1);
        }
    }

    /// Closes what has waited for too long, and what members have closed.
    pub(crate) fn expire(&self, now: Instant) {
        self.keep(|_, upstream| {
            now.saturating_duration_since(upstream.idle_since) < IDLE_TIME_MAX
                && upstream.is_ready()
        });
    }

    /// Closes connections to members that are no longer there.
    pub(crate) fn retain(&self, world: &World) {
        if self.total.get() > 0 {
            let members = world.pools.values().flat_map(|pool| &pool.members);
            let serials: HashSet<_> = members.map(|member| member.serial).collect();
            self.keep(|serial, _| serials.contains(&serial));
        }
    }

    /// Closes connections to these members, by their serials.
    pub(crate) fn let_go(&self, members: &HashSet<u64>) {
        self.keep(|serial, _| !members.contains(&serial));
    }

    fn keep(&self, mut keep: impl FnMut(u64, &mut Upstream) -> bool) {
        let mut total = 0;
        self.idle.borrow_mut().retain(|serial, waiting| {
            waiting.retain_mut(|upstream| keep(*serial, upstream));
            total += waiting.len();
            !waiting.is_empty()
        });
        self.total.set(total);
    }
}
