//! Connections to members: one request at a time on each, and a pool of those that wait for the next.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use http::{request, response::Parts};
use http_body::{Frame, SizeHint};
use krater_amphora_api::MemberId;

use crate::{
    channel::Buffers,
    connect::Link,
    limits::{IDLE_TIME_MAX, IDLE_UPSTREAMS_PER_MEMBER_MAX},
    meter::MemberLane,
    wire::Wire,
    world::World,
};
use krater_amphora_api::Cause;

mod http1;
mod outgoing;
mod progress;

pub(crate) use http1::Broken;
use http1::{Http1, Sent as Sending};
pub(crate) use outgoing::Outgoing;
pub(crate) use progress::{Progress, Turn};

/// An HTTP/1.1 connection to a member, driven by whoever uses it rather than by a task of its own.
pub(crate) struct Upstream {
    http: Http1,
    link: Link,
    whose: Whose,
    /// It has served a request: the member may close it at any moment now.
    used: bool,
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
    Answered(Parts),
    /// No byte of the request was sent; here is its body again.
    Unsent(Outgoing),
    /// The connection broke after some of the request was sent. `silent` if not one byte of an answer had come.
    Broke { silent: bool, cause: Cause },
    /// The client does not send the rest of its request.
    Unfinished(Cause),
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
    pub(crate) fn new(wire: Wire, link: Link, whose: Whose, buffers: &Rc<Buffers>) -> Self {
        let now = Instant::now();
        Self {
            http: Http1::new(wire, buffers),
            link,
            whose,
            used: false,
            sent_at: now,
            idle_since: now,
        }
    }

    /// The meters of the member, of this worker.
    pub(crate) fn lane(&self) -> &MemberLane {
        self.link.lane()
    }

    /// The member it leads to.
    pub(crate) fn member(&self) -> MemberId {
        self.link.member.id
    }

    /// Counts an answer that failed by the member.
    pub(crate) fn fails(&self, cause: Cause) {
        self.lane().response_errors.bump();
        self.count(cause);
    }

    /// Counts what failed by the member.
    pub(crate) fn count(&self, cause: Cause) {
        self.link.count(cause);
    }

    /// Whose requests it may carry.
    pub(crate) const fn whose(&self) -> Whose {
        self.whose
    }

    /// Whether it has served a request before.
    pub(crate) const fn is_used(&self) -> bool {
        self.used
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn exchange(
        &mut self,
        head: &request::Parts,
        body: Outgoing,
        progress: &Progress,
    ) -> Sent {
        let lane = self.link.lane();
        lane.requests.bump();
        if self.used {
            lane.reuses.bump();
        }
        self.used = true;
        self.sent_at = Instant::now();
        progress.turn.set(Turn::Member);
        self.http.begin(head, body);
        let outcome = poll_fn(|cx| {
            let polled = self.poll_exchange(cx);
            self.account(progress);
            match polled {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending => match progress.overdue.take() {
                    Some(turn) => Poll::Ready(Err(turn)),
                    None => Poll::Pending,
                },
            }
        })
        .await;
        let broken = match outcome {
            Err(turn) => return Sent::Overdue(turn),
            Ok(Ok(head)) => {
                self.link.prove();
                return Sent::Answered(head);
            }
            Ok(Err(broken)) => broken,
        };
        if broken.blames_client() {
            return Sent::Unfinished(broken.cause(Cause::ClientGone));
        }
        if !self.http.has_sent() {
            return Sent::Unsent(self.http.take_back());
        }
        self.link.note_break();
        tracing::debug!(member = %self.link.member.id, error = %broken, "a member broke off");
        Sent::Broke {
            silent: self.http.is_silent(),
            cause: broken.cause(Cause::MemberResetBeforeAnswer),
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Broken>> {
        if let Sending::Nothing = self.http.poll_send(cx)? {
            return Poll::Ready(Err(Broken::Ended));
        }
        self.http
            .poll_head(cx)
            .map(|head| head.map(|head| head.parts))
    }

    /// The next frame of the answer's body. To be called by whoever waits for it; the rest of the request is sent
    /// meanwhile.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = self.http.poll_frame(cx);
        self.account(progress);
        frame
    }

    /// Whether the answer has come to its end.
    pub(crate) const fn is_answered(&self) -> bool {
        self.http.is_answered()
    }

    /// How much of the answer's body is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.http.size_hint()
    }

    /// Lets go of HTTP after a `101`.
    pub(crate) fn into_tunnel(self) -> Tunnel {
        let (wire, rest) = self.http.into_parts();
        Tunnel {
            wire,
            link: self.link,
            rest: rest.freeze(),
        }
    }

    /// Whether it can take another request, as far as can be known.
    fn is_ready(&mut self) -> bool {
        let is_ready = self.http.is_ready();
        self.book();
        is_ready
    }

    /// Books what has moved since the last call, and says so.
    fn account(&mut self, progress: &Progress) {
        let (received, sent) = self.book();
        if received + sent > 0 {
            progress.moved.set(true);
            progress.deliver(usize::try_from(sent).unwrap_or(usize::MAX));
        }
    }

    fn book(&mut self) -> (u64, u64) {
        let (received, sent) = self.http.channel.take_counts();
        if received + sent > 0 {
            let lane = self.link.lane();
            lane.bytes_in.add(received);
            lane.bytes_out.add(sent);
        }
        (received, sent)
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
