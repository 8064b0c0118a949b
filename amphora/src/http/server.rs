//! A client connection of an HTTP listener, from its first byte to its last.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, Response, StatusCode, Version, header::TE};
use http_body::Body;
use krater_amphora_api::Cause;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};

use super::{
    body::Reply,
    clerk::Clerks,
    exchange, h2, note,
    refusal::{Refusal, head_timeout},
    rewrite,
    session::{Ends, Session},
    tunnel,
};
use crate::{
    channel::{Dialogue, Heard, Outflow},
    h1::{Asked, Fault, RequestHead, Toward, answer_head, interim_head},
    limits::{HANDSHAKE_TIME_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX},
    local::{Ending, Guest},
    tls::{Failed, Peer},
    upstream::{Outgoing, Turn},
    wire::Wire,
};

/// Serves one client connection to its end.
pub(crate) async fn serve(guest: Rc<Guest>, socket: TcpStream, ends: Ends) {
    match &guest.seat.state.tls {
        None => converse(guest, Wire::Plain(socket), ends, None).await,
        // Apart, so that plain connections have no room for a handshake with them.
        Some(_) => Box::pin(serve_sealed(guest, socket, ends)).await,
    }
}

/// Shakes hands, then serves what is spoken inside.
async fn serve_sealed(guest: Rc<Guest>, socket: TcpStream, ends: Ends) {
    let state = &guest.seat.state;
    let Some(acceptor) = &state.tls else {
        return;
    };
    let allowed = state.listener.timeouts.client_data.min(HANDSHAKE_TIME_MAX);
    match acceptor.accept(socket, allowed).await {
        // What is spoken inside shows in its first bytes, whatever ALPN has settled on.
        Ok((stream, peer)) => {
            let wire = Wire::Tls(stream);
            converse(guest, wire, ends, Some(Rc::new(peer))).await;
        }
        Err(Failed { cause, socket }) => {
            if let Some(cause) = cause {
                guest.seat.lane().failures.count(cause);
                note::failure(&guest.seat, ends, Some(cause), None);
                tracing::debug!(listener = %state.listener.id, peer = %ends.peer, cause = cause.name(), "a handshake failed");
            }
            if let Some(socket) = socket {
                linger(&mut Wire::Plain(socket)).await;
            }
        }
    }
}

/// Speaks HTTP/1 with a client.
async fn converse(guest: Rc<Guest>, wire: Wire, ends: Ends, tls: Option<Rc<Peer>>) {
    let session = Session::new(Rc::clone(&guest), ends, tls);
    let dialogue = Dialogue::new(wire, &guest.local.buffers);
    let end = {
        let conversation = Conversation {
            session: &session,
            dialogue: &dialogue,
        };
        Watch::new(&conversation)
            .run(pin!(conversation.run()))
            .await
    };
    if let Some(cause) = end.cause().filter(|_| !session.blamed.get()) {
        guest.seat.lane().failures.count(cause);
        note::failure(&guest.seat, ends, Some(cause), end.status());
    }
    // Nobody else has it any more: requests and their bodies are gone.
    let Some((wire, rest)) = Rc::into_inner(dialogue).map(Dialogue::into_parts) else {
        return;
    };
    if matches!(end, End::Http2) {
        // Apart, so that tasks that speak HTTP/1 need no room for it.
        return Box::pin(h2::serve(&session, wire, rest)).await;
    }
    let tunnel = (session.tunnel.take(), session.tunnelled.take());
    // Apart, so that those who wait for a request need no room for either.
    match (end, tunnel) {
        (End::Done, (Some(tunnel), draft)) => {
            Box::pin(tunnel::join(&guest, (wire, rest.freeze()), tunnel, draft)).await;
        }
        (end, _) => close(&session, wire, end).await,
    }
}

/// Why a connection has ended.
enum End {
    /// Everything was said.
    Done,
    /// What the client sent is no HTTP; it was told so, with that status.
    Malformed(u16),
    /// The client went away, in the middle of something or `idle`.
    Left { idle: bool },
    /// The next request did not begin, or its head did not end, in time.
    NoRequest { begun: bool },
    /// Nothing but HTTP/1 has: the client speaks HTTP/2.
    Http2,
    /// A body stopped moving after the head of the answer was sent; whose move it was.
    Stalled(Turn),
    /// The answer has broken off after its head was sent.
    Cut,
}

impl End {
    /// Why it is a failure, if it is one that no request was counted for.
    const fn cause(&self) -> Option<Cause> {
        match self {
            Self::Done
            | Self::Http2
            | Self::Cut
            | Self::NoRequest { begun: false }
            | Self::Left { idle: true } => None,
            Self::Malformed(414 | 431) => Some(Cause::ClientHeadTooLarge),
            Self::Malformed(_) => Some(Cause::ClientBadRequest),
            Self::Left { idle: false } => Some(Cause::ClientGone),
            Self::NoRequest { begun: true } => Some(Cause::ClientTimeoutHead),
            Self::Stalled(Turn::Member) => Some(Cause::MemberStalled),
            Self::Stalled(_) => Some(Cause::ClientTimeout),
        }
    }
}

impl End {
    /// What the client was told, of what no request was.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Malformed(status) => Some(*status),
            Self::NoRequest { begun: true } => Some(Refusal::ClientTimeout.status().as_u16()),
            _ => None,
        }
    }
}

/// One request after another.
#[derive(Clone, Copy)]
struct Conversation<'a> {
    session: &'a Rc<Session>,
    dialogue: &'a Rc<Dialogue>,
}

/// What an answer has to know of its request.
#[derive(Clone, Copy)]
struct Asking {
    version: Version,
    asked: Asked,
    /// The client takes fields behind a body (RFC 9110 section 6.5.1).
    takes_trailers: bool,
    keeps: bool,
}

impl Conversation<'_> {
    async fn run(self) -> End {
        loop {
            self.session.blamed.set(false);
            let heard = poll_fn(|cx| match self.dialogue.poll_head(cx) {
                Poll::Pending if self.is_ending() && !self.dialogue.has_begun() => {
                    Poll::Ready(Heard::End)
                }
                heard => heard,
            });
            let kept = match heard.await {
                Heard::Request(head) => {
                    let job = Job {
                        session: Rc::clone(self.session),
                        dialogue: Rc::clone(self.dialogue),
                        head,
                    };
                    CLERKS.with(|clerks| clerks.assign(job, Job::run)).await
                }
                Heard::Nonsense(fault) => Err(Box::pin(self.refuse(fault)).await),
                Heard::Http2 => Err(End::Http2),
                Heard::End => Ok(false),
                Heard::Left => Err(End::Left {
                    idle: !self.dialogue.has_begun(),
                }),
            };
            match kept {
                Ok(true) => {}
                Ok(false) => return End::Done,
                Err(end) => return end,
            }
        }
    }

    /// Answers one request. Whether another may follow.
    async fn exchange(self, head: RequestHead) -> Result<bool, End> {
        let RequestHead { parts, keeps, .. } = head;
        let mut asking = Asking::new(&parts.method, parts.version, &parts.headers);
        let body = Outgoing::new(self.dialogue, &self.session.progress);
        let response = {
            let mut answer = pin!(exchange::answer(Rc::clone(self.session), parts, body));
            let response = poll_fn(|cx| {
                let polled = answer.as_mut().poll(cx);
                self.pass_on_interim(asking.version);
                match polled {
                    Poll::Ready(response) => Poll::Ready(Some(response)),
                    // Nobody waits for the answer any more (D21).
                    Poll::Pending => self.poll_gone(cx).map(|()| None),
                }
            });
            response.await.ok_or(End::Left { idle: false })?
        };
        asking.keeps = keeps && !self.is_ending();
        let keeps = self.respond(response, asking).await?;
        if self.session.tunnel.borrow().is_some() {
            return Ok(false);
        }
        if !self.dialogue.is_read() {
            if !self.dialogue.skip_body() {
                return Ok(false);
            }
            self.session.progress.unread.set(false);
        }
        Ok(keeps)
    }

    /// Writes interim answers of the member, for a client that knows such (RFC 9110 section 15.2).
    fn pass_on_interim(self, version: Version) {
        for (status, mut fields) in self.session.progress.take_interim() {
            let is_told = status != StatusCode::CONTINUE || self.dialogue.may_continue();
            if version == Version::HTTP_11 && is_told {
                rewrite::interim(&mut fields);
                self.dialogue
                    .write(|text| interim_head(text, status, &fields));
            }
        }
    }

    /// Sends what waits. Ready when the client has gone.
    fn poll_gone(self, cx: &mut Context<'_>) -> Poll<()> {
        if self.dialogue.is_sending()
            && let Poll::Ready(Err(_)) = self.dialogue.poll_flush(cx)
        {
            return Poll::Ready(());
        }
        self.dialogue.poll_gone(cx)
    }

    /// Tells a client what is wrong with its request.
    async fn refuse(self, fault: Fault) -> End {
        let progress = &self.session.progress;
        progress.turn.set(Turn::Client);
        progress.responding.set(true);
        let refusal = Refusal::Malformed(fault);
        let asking = Asking {
            version: Version::HTTP_11,
            asked: Asked::ForBody,
            takes_trailers: false,
            keeps: false,
        };
        let mut response = refusal.response();
        if self.session.tls.is_some() {
            let seat = self.session.current_seat();
            seat.tell_hsts(response.headers_mut());
        }
        match self.respond(response, asking).await {
            Ok(_) => End::Malformed(refusal.status().as_u16()),
            Err(end) => end,
        }
    }

    /// Sends an answer. Whether the connection is kept.
    async fn respond(self, response: Response<Reply>, asking: Asking) -> Result<bool, End> {
        let (parts, body) = response.into_parts();
        let local = &self.session.guest.local;
        let length = body.size_hint().exact();
        self.dialogue.begin_answer();
        let (sender, keeps) = local.date.with(std::time::Instant::now(), |date| {
            let toward = Toward {
                version: asking.version,
                asked: asking.asked,
                keeps: asking.keeps,
                date,
            };
            self.dialogue
                .write(|text| answer_head(text, &parts, length, toward))
        });
        let announced = asking.takes_trailers.then_some(&parts.headers);
        let mut flow = Outflow::new(body, sender, announced);
        local.buffers.give_back(parts.headers);
        poll_fn(|cx| self.poll_respond(cx, &mut flow)).await?;
        Ok(keeps)
    }

    fn poll_respond(
        self,
        cx: &mut Context<'_>,
        flow: &mut Outflow<Reply>,
    ) -> Poll<Result<(), End>> {
        loop {
            let waits = loop {
                match flow.poll_next(cx, &mut &**self.dialogue) {
                    Poll::Pending => break true,
                    Poll::Ready(Ok(Some(_))) => {}
                    Poll::Ready(Ok(None)) => break false,
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Cut)),
                }
            };
            match self.dialogue.poll_flush(cx) {
                Poll::Ready(Ok(())) if flow.is_ended() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) if !waits => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(End::Left { idle: false })),
                Poll::Ready(Ok(())) | Poll::Pending => {
                    return self
                        .dialogue
                        .poll_gone(cx)
                        .map(|()| Err(End::Left { idle: false }));
                }
            }
        }
    }

    /// Whether the connection is asked to end.
    fn is_ending(self) -> bool {
        self.session.guest.ending() >= Ending::Graceful
    }
}

/// A request to be answered.
struct Job {
    session: Rc<Session>,
    dialogue: Rc<Dialogue>,
    head: RequestHead,
}

impl Job {
    async fn run(self) -> Result<bool, End> {
        let Self {
            session,
            dialogue,
            head,
        } = self;
        let conversation = Conversation {
            session: &session,
            dialogue: &dialogue,
        };
        conversation.exchange(head).await
    }
}

thread_local! {
    /// Those of this worker.
    static CLERKS: Rc<Clerks<Job, Result<bool, End>>> = Clerks::new();
}

impl Asking {
    fn new(method: &Method, version: Version, fields: &HeaderMap) -> Self {
        let asked = if *method == Method::HEAD {
            Asked::ForHead
        } else {
            Asked::ForBody
        };
        let takes_trailers = fields.get_all(TE).iter().any(|line| {
            let mut codings = line.as_bytes().split(|byte| *byte == b',');
            codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
        Self {
            version,
            asked,
            takes_trailers,
            keeps: false,
        }
    }
}

/// Polls a connection and its timer.
///
/// There is one timer per connection, whatever it waits for. It fires at most once per shortest timeout, finds out
/// whose turn it is and since when, and is set anew; no request pays for setting or clearing it.
struct Watch<'a> {
    session: &'a Rc<Session>,
    dialogue: &'a Rc<Dialogue>,
    moved_at: Instant,
    /// Bytes of the next request have come.
    begun: bool,
}

impl<'a> Watch<'a> {
    fn new(conversation: &Conversation<'a>) -> Self {
        Self {
            session: conversation.session,
            dialogue: conversation.dialogue,
            moved_at: Instant::now(),
            begun: false,
        }
    }

    async fn run(mut self, mut conversation: Pin<&mut impl Future<Output = End>>) -> End {
        let mut timer = pin!(sleep(self.session.period()));
        poll_fn(|cx| {
            loop {
                let polled = conversation.as_mut().poll(cx);
                self.account();
                if polled.is_ready() {
                    return polled;
                }
                if self.session.retimed.take() {
                    // What the timer is set to may be far beyond a timeout that has become shorter.
                    timer.as_mut().reset(Instant::now() + self.session.period());
                }
                let turn = ready!(self.poll_overdue(cx, timer.as_mut()));
                match turn {
                    Turn::Request => return Poll::Ready(End::NoRequest { begun: self.begun }),
                    _ if self.session.progress.responding.get() => {
                        let end = End::Stalled(turn);
                        // The request under way ends with it.
                        self.session.verdict.set(end.cause());
                        return Poll::Ready(end);
                    }
                    // The exchange finds it when it is polled, and gives up.
                    turn => self.session.progress.overdue.set(Some(turn)),
                }
                self.moved_at = Instant::now();
            }
        })
        .await
    }

    /// Books what has moved since the last call.
    fn account(&mut self) {
        let (received, sent) = self.dialogue.take_counts();
        let progress = &self.session.progress;
        let member_moved = progress.moved.take();
        if received + sent == 0 && !member_moved {
            return;
        }
        let begun = progress.turn.get() == Turn::Request && self.dialogue.has_begun();
        if !(begun && self.begun) {
            // A head gets its time once, however often a byte of it comes.
            self.moved_at = Instant::now();
        }
        self.begun = begun;
        let lane = self.session.guest.seat.lane();
        lane.bytes_in.add(received);
        lane.bytes_out.add(sent);
    }

    /// Ready when somebody has taken too long: whose turn it was.
    fn poll_overdue(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<Turn> {
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            let next = match self.session.allowance() {
                Some(allowed) if self.moved_at + allowed <= now => {
                    timer.as_mut().reset(now + self.session.period());
                    return Poll::Ready(self.session.progress.turn.get());
                }
                Some(allowed) => (self.moved_at + allowed).min(now + self.session.period()),
                None => now + self.session.period(),
            };
            timer.as_mut().reset(next);
        }
    }
}

/// Ends a connection as `end` deserves.
async fn close(session: &Session, mut wire: Wire, end: End) {
    let lane = session.guest.seat.lane();
    match end {
        End::Done if !session.progress.unread.get() => return wire.say_goodbye(),
        End::Done => {}
        End::Malformed(status) => {
            lane.request_errors.bump();
            lane.responses.count(status);
        }
        End::Left { .. } => {
            lane.request_errors.bump();
            return;
        }
        // HTTP/2 is ended by whoever speaks it.
        End::NoRequest { begun: false } | End::Http2 => return wire.say_goodbye(),
        End::NoRequest { begun: true } => {
            lane.request_errors.bump();
            lane.responses
                .count(Refusal::ClientTimeout.status().as_u16());
            // It is a courtesy; a client that does not take it at once has not waited for it.
            let seat = session.current_seat();
            let hsts = seat.hsts().filter(|_| session.tls.is_some());
            if !wire.send_now(&head_timeout(hsts)) {
                return;
            }
        }
        End::Stalled(_) | End::Cut => {
            // An answer cut short must not look like one that ended well.
            wire.break_off();
            return;
        }
    }
    Box::pin(linger(&mut wire)).await;
}

/// Closes so that the client gets to read our last answer: a socket closed with unread data in it sends a reset, which
/// destroys what the client has not read yet (RFC 9112 section 9.6).
pub(super) async fn linger(wire: &mut Wire) {
    let drain = async {
        if wire.shutdown().await.is_err() {
            return;
        }
        let mut sink = [0; 1024];
        let mut drained = 0;
        while drained < LINGER_BYTES_MAX {
            match wire.read(&mut sink).await {
                Ok(read) if read > 0 => drained += read,
                _ => return,
            }
        }
    };
    // Elapsed: the client had its time.
    let _ = timeout(LINGER_TIME_MAX, drain).await;
}
