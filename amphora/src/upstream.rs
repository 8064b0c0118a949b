//! Connections to members: one request at a time on each, and a pool of those that wait for the next.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use http::{request, response::Parts};
use http_body::{Frame, SizeHint};
use krater_amphora_api::MemberId;
use tokio::sync::Notify;

use crate::{
    channel::Buffers,
    connect::Link,
    limits::{
        IDLE_TIME_MAX, IDLE_UPSTREAMS_PER_MEMBER_MAX, SHARED_IDLE_TIME_MAX,
        SHARED_UPSTREAMS_PER_MEMBER_MAX,
    },
    meter::MemberLane,
    tls::Connector,
    wire::Wire,
    world::Held,
};
use krater_amphora_api::Cause;

mod http1;
mod http2;
mod outgoing;
mod progress;

pub(crate) use http1::Broken;
use http1::{Http1, Sent as Sending};
use http2::{Http2, Shared};
pub(crate) use outgoing::Outgoing;
pub(crate) use progress::{Progress, Turn};

/// A connection to a member as one exchange uses it: an HTTP/1.1 connection whole, driven by whoever uses it rather than by
/// a task of its own, or a place on one of HTTP/2 that others use as well.
pub(crate) struct Upstream {
    speech: Speech,
    link: Rc<Link>,
    /// The place at the member of the request under way.
    place: Option<Place>,
    whose: Whose,
    /// What it is sealed by, and the name that was asked for.
    sealed: Option<(Arc<Connector>, Option<Box<str>>)>,
    /// It has served a request: the member may close it at any moment now.
    used: bool,
    sent_at: Instant,
    idle_since: Instant,
}

/// What is spoken to a member.
enum Speech {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

/// Whose requests a connection may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Any client's.
    Anybody,
    /// Those of the client connection it was opened for: the member was told who the client is.
    OneClient,
}

/// What a connection to a member is sealed by, and the name that is asked for. Requests that want another seal, or ask for
/// another name, go over other connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal<'a> {
    pub(crate) connector: &'a Arc<Connector>,
    pub(crate) name: Option<&'a str>,
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
    pub(crate) link: Rc<Link>,
    /// What the member said right after its `101`.
    pub(crate) rest: Bytes,
    /// Its place at the member, as that of a request under way.
    pub(crate) place: Option<Place>,
}

/// A place for a request at a member, given back when dropped.
pub(crate) struct Place(Rc<Link>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.member.places.release(self.0.lane_number());
    }
}

impl Upstream {
    /// Speaks HTTP/1.1 over a fresh connection.
    pub(crate) fn new(
        wire: Wire,
        link: Link,
        (whose, seal): (Whose, Option<Seal<'_>>),
        buffers: &Rc<Buffers>,
    ) -> Self {
        let now = Instant::now();
        Self {
            speech: Speech::Http1(Box::new(Http1::new(wire, buffers))),
            link: Rc::new(link),
            place: None,
            whose,
            sealed: seal.map(|seal| (Arc::clone(seal.connector), seal.name.map(Into::into))),
            used: false,
            sent_at: now,
            idle_since: now,
        }
    }

    /// A place on a connection that many use.
    fn over(shared: &Shared, whose: Whose) -> Self {
        let now = Instant::now();
        let (call, used) = shared.call();
        Self {
            speech: Speech::Http2(Box::new(call)),
            link: Rc::clone(&shared.link),
            place: None,
            whose,
            sealed: None,
            used,
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

    /// Gives the request that place, until its answer is complete or the connection is dropped.
    pub(crate) fn occupy(&mut self, place: Held<'_>) {
        if place.pass_on() {
            self.place = Some(Place(Rc::clone(&self.link)));
        }
    }

    /// Whether others use the connection as well.
    pub(crate) const fn is_shared(&self) -> bool {
        matches!(self.speech, Speech::Http2(_))
    }

    /// Whether it has served a request before.
    pub(crate) const fn is_used(&self) -> bool {
        self.used
    }

    /// How many connections may wait that lead where this one does.
    fn room(&self) -> usize {
        match self.whose {
            Whose::Anybody => {
                let link = &self.link;
                link.member.places.room(link.lane_number())
            }
            // They are few, and nobody else could use them.
            Whose::OneClient => usize::MAX,
        }
    }

    fn is_sealed_by(&self, seal: Option<Seal<'_>>) -> bool {
        match (&self.sealed, seal) {
            (None, None) => true,
            (Some((connector, name)), Some(seal)) => {
                Arc::ptr_eq(connector, seal.connector) && name.as_deref() == seal.name
            }
            _ => false,
        }
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
        match &mut self.speech {
            Speech::Http1(http) => http.begin(head, body, progress.pieces),
            Speech::Http2(call) => call.begin(head, body, self.link.member.address),
        }
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
            Err(turn) => {
                if let Speech::Http2(call) = &self.speech {
                    call.give_up();
                }
                return Sent::Overdue(turn);
            }
            Ok(Ok(head)) => {
                self.link.prove();
                return Sent::Answered(head);
            }
            Ok(Err(broken)) => broken,
        };
        if broken.blames_client() {
            return Sent::Unfinished(broken.cause(Cause::ClientGone));
        }
        let (has_sent, silent) = match &self.speech {
            Speech::Http1(http) => (http.has_sent(), http.is_silent()),
            Speech::Http2(call) => (call.has_sent(), call.is_silent()),
        };
        if !has_sent {
            return Sent::Unsent(match &mut self.speech {
                Speech::Http1(http) => http.take_back(),
                Speech::Http2(call) => call.take_back(),
            });
        }
        self.link.note_break();
        tracing::debug!(member = %self.link.member.id, error = %broken, "a member broke off");
        Sent::Broke {
            silent,
            cause: broken.cause(Cause::MemberResetBeforeAnswer),
        }
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Broken>> {
        match &mut self.speech {
            Speech::Http1(http) => {
                if let Sending::Nothing = http.poll_send(cx)? {
                    return Poll::Ready(Err(Broken::Ended));
                }
                http.poll_head(cx).map(|head| head.map(|head| head.parts))
            }
            Speech::Http2(call) => call.poll_head(cx),
        }
    }

    /// The next frame of the answer's body. To be called by whoever waits for it; the rest of the request is sent
    /// meanwhile.
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        progress: &Progress,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let frame = match &mut self.speech {
            Speech::Http1(http) => http.poll_frame(cx),
            Speech::Http2(call) => call.poll_frame(cx),
        };
        self.account(progress);
        frame
    }

    /// Whether the answer has come to its end.
    pub(crate) const fn is_answered(&self) -> bool {
        match &self.speech {
            Speech::Http1(http) => http.is_answered(),
            Speech::Http2(call) => call.is_answered(),
        }
    }

    /// How much of the answer's body is to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        match &self.speech {
            Speech::Http1(http) => http.size_hint(),
            Speech::Http2(call) => call.size_hint(),
        }
    }

    /// Lets go of HTTP after a `101`, which HTTP/2 does not know.
    pub(crate) fn into_tunnel(self) -> Option<Tunnel> {
        let Speech::Http1(http) = self.speech else {
            return None;
        };
        let (wire, rest) = http.into_parts();
        Some(Tunnel {
            wire,
            link: self.link,
            rest: rest.freeze(),
            place: self.place,
        })
    }

    /// Whether it can take another request, as far as can be known.
    fn is_ready(&mut self) -> bool {
        let Speech::Http1(http) = &mut self.speech else {
            // It goes back by being dropped.
            return false;
        };
        let is_ready = http.is_ready();
        self.book();
        is_ready
    }

    /// Books what has moved since the last call, and says so.
    fn account(&mut self, progress: &Progress) {
        let (moved, delivered) = match &mut self.speech {
            Speech::Http1(_) => {
                let (received, sent) = self.book();
                let delivered = usize::try_from(sent).unwrap_or(usize::MAX);
                (received + sent > 0, delivered)
            }
            Speech::Http2(call) => call.take_moved(),
        };
        if moved {
            progress.moved.set(true);
            progress.deliver(delivered);
        }
        progress.pass_on(match &mut self.speech {
            Speech::Http1(http) => &mut http.interim,
            Speech::Http2(call) => &mut call.interim,
        });
    }

    fn book(&mut self) -> (u64, u64) {
        let Speech::Http1(http) = &mut self.speech else {
            // Whoever drives the connection does.
            return (0, 0);
        };
        let (received, sent) = http.channel.take_counts();
        if received + sent > 0 {
            let lane = self.link.lane();
            lane.bytes_in.add(received);
            lane.bytes_out.add(sent);
        }
        (received, sent)
    }
}

/// Where those meet who need a connection to a member that many may use: one makes it, the others wait.
#[derive(Default)]
pub(crate) struct Gate {
    busy: Cell<bool>,
    opened: Notify,
    /// What the member was last found to speak HTTP/1 by: there is nothing to share then.
    http1: RefCell<Weak<Connector>>,
}

/// The right to make a connection; others may once it is dropped.
pub(crate) struct Passage<'a>(&'a Gate);

impl Gate {
    /// The right to make a connection, if nobody has it, or it is for HTTP/1 alone anyway.
    pub(crate) fn enter(&self, connector: &Arc<Connector>) -> Option<Option<Passage<'_>>> {
        if Weak::ptr_eq(&self.http1.borrow(), &Arc::downgrade(connector)) {
            return Some(None);
        }
        (!self.busy.replace(true)).then(|| Some(Passage(self)))
    }

    /// Whether it has something to remember.
    fn knows(&self) -> bool {
        self.http1.borrow().strong_count() > 0
    }

    /// Waits until somebody else has made a connection, or has failed to.
    pub(crate) async fn wait(&self) {
        self.opened.notified().await;
    }

    /// Notes what the member was found to speak.
    pub(crate) fn note(&self, connector: &Arc<Connector>, speaks: Speaks) {
        *self.http1.borrow_mut() = match speaks {
            Speaks::Http1 => Arc::downgrade(connector),
            Speaks::Http2 => Weak::new(),
        };
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.0.busy.set(false);
        self.0.opened.notify_waiters();
    }
}

/// What a member has chosen to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// Idle connections of one worker, or of one client, by
/// [`MemberState::serial`](crate::world::MemberState::serial).
pub(crate) struct Upstreams {
    idle: RefCell<HashMap<u64, Vec<Upstream>>>,
    /// Connections that many use.
    shared: RefCell<HashMap<u64, Vec<Shared>>>,
    /// Who makes the first of those, for others to wait for.
    gates: RefCell<HashMap<u64, Rc<Gate>>>,
    total: Cell<usize>,
    most: usize,
}

impl Upstreams {
    /// None yet, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            idle: RefCell::default(),
            shared: RefCell::default(),
            gates: RefCell::default(),
            total: Cell::new(0),
            most,
        }
    }

    /// A connection to a member that waits for a request: the one used last, since the member is the least likely to
    /// have lost patience with it.
    ///
    /// None that has waited for longer than `patience`: who cannot send again what meets a close on its way had better
    /// not take the chance.
    pub(crate) fn take(
        &self,
        serial: u64,
        seal: Option<Seal<'_>>,
        patience: Duration,
    ) -> Option<Upstream> {
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.get_mut(&serial)?;
        loop {
            // The last, but where many names are asked for.
            let at = waiting
                .iter()
                .rposition(|upstream| upstream.is_sealed_by(seal))?;
            if waiting.get(at)?.idle_since.elapsed() > patience {
                // Those below it have waited for even longer.
                return None;
            }
            let mut upstream = waiting.remove(at);
            self.total.set(self.total.get() - 1);
            if upstream.is_ready() {
                return Some(upstream);
            }
        }
    }

    /// A place on a connection that many use.
    pub(crate) fn share(&self, serial: u64, seal: Seal<'_>, whose: Whose) -> Option<Upstream> {
        let shared = self.shared.borrow();
        let mut all = shared.get(&serial)?.iter();
        let one = all.find(|shared| shared.is_open_to(seal))?;
        Some(Upstream::over(one, whose))
    }

    /// Speaks HTTP/2 over a fresh connection, and keeps it for all who may use it. The first place on it.
    pub(crate) async fn start_sharing(
        &self,
        (wire, link): (Wire, Link),
        seal: Seal<'_>,
        whose: Whose,
    ) -> Option<Upstream> {
        let serial = link.member.serial;
        let shared = Shared::start(wire, link, seal).await.ok()?;
        let upstream = Upstream::over(&shared, whose);
        let mut all = self.shared.borrow_mut();
        let all = all.entry(serial).or_default();
        all.retain(Shared::is_alive);
        if all.len() < SHARED_UPSTREAMS_PER_MEMBER_MAX {
            all.push(shared);
        }
        Some(upstream)
    }

    /// Where those meet who need a connection to a member that many may use.
    pub(crate) fn gate(&self, serial: u64) -> Rc<Gate> {
        Rc::clone(self.gates.borrow_mut().entry(serial).or_default())
    }

    /// Takes back a connection whose answer is complete, and keeps it for the next request if it can take one and there
    /// is room.
    pub(crate) fn put(&self, mut upstream: Upstream) {
        let now = Instant::now();
        let took = now.saturating_duration_since(upstream.sent_at);
        upstream.lane().durations.count(took);
        // Given back behind all else: whoever waits for it finds the connection.
        let _place = upstream.place.take();
        if !upstream.is_ready() || self.total.get() >= self.most {
            return;
        }
        upstream.idle_since = now;
        let mut idle = self.idle.borrow_mut();
        let waiting = idle.entry(upstream.link.member.serial).or_default();
        // With the place of this request.
        let room = upstream.room().saturating_add(1);
        if waiting.len() < IDLE_UPSTREAMS_PER_MEMBER_MAX.min(room) {
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
        self.keep_shared(|_, shared| {
            shared.is_alive()
                && shared
                    .idle_since()
                    .is_none_or(|since| now.saturating_duration_since(since) < SHARED_IDLE_TIME_MAX)
        });
        // Those of members that left while somebody still met there, too.
        let is_used = |gate: &Rc<Gate>| Rc::strong_count(gate) > 1 || gate.knows();
        self.gates.borrow_mut().retain(|_, gate| is_used(gate));
    }

    /// Closes connections to these members, by their serials.
    pub(crate) fn let_go(&self, members: &HashSet<u64>) {
        if members.is_empty() {
            return;
        }
        self.keep(|serial, _| !members.contains(&serial));
        self.keep_shared(|serial, _| !members.contains(&serial));
        self.gates
            .borrow_mut()
            .retain(|serial, _| !members.contains(serial));
    }

    fn keep_shared(&self, keep: impl Fn(u64, &Shared) -> bool) {
        self.shared.borrow_mut().retain(|serial, all| {
            all.retain(|shared| keep(*serial, shared));
            !all.is_empty()
        });
    }

    fn keep(&self, mut keep: impl FnMut(u64, &mut Upstream) -> bool) {
        let mut total = 0;
        self.idle.borrow_mut().retain(|serial, waiting| {
            waiting.retain_mut(|upstream| keep(*serial, upstream));
            // Other workers may have taken the places that these had: the oldest go.
            let room = waiting.first().map_or(0, Upstream::room);
            waiting.drain(..waiting.len().saturating_sub(room));
            total += waiting.len();
            !waiting.is_empty()
        });
        self.total.set(total);
    }
}
