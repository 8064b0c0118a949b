//! A client connection of an HTTP listener, from its first byte to its last.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1::{Builder, Connection},
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Sleep, sleep, timeout},
};

use super::{
    body::Reply,
    exchange, h2,
    preface::Opening,
    refusal::{HEAD_TIMEOUT, Refusal},
    session::{Ends, Session},
};
use crate::{
    limits::{HTTP_BUFFER_BYTES_MAX, HTTP_HEAD_BYTES_MAX, LINGER_BYTES_MAX, LINGER_TIME_MAX},
    local::{Ending, Guest},
    relay::{Relay, Side},
    tap::{Flow, Tap},
    upstream::{Outgoing, Tunnel, Turn},
    wire::Wire,
};

/// Serves one client connection to its end.
pub(crate) async fn serve(guest: Rc<Guest>, socket: TcpStream, ends: Ends) {
    converse(guest, Wire::Plain(socket), ends).await;
}

/// Speaks HTTP/1 with a client.
async fn converse(guest: Rc<Guest>, wire: Wire, ends: Ends) {
    let session = Session::new(Rc::clone(&guest), ends);
    let (tap, flow) = Tap::new(wire);
    let service = service_fn(|request: Request<Incoming>| {
        let (parts, body) = request.into_parts();
        let body = Outgoing::new(body, &session.progress);
        let answer = exchange::answer(Rc::clone(&session), parts, body);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = Builder::new()
        .max_buf_size(HTTP_BUFFER_BYTES_MAX)
        .max_header_size(HTTP_HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Opening::new(tap)), service);
    let mut watch = Watch::new(&session, &flow);
    let end = watch.run(&mut connection).await;
    let parts = connection.into_parts();
    let opening = parts.io.into_inner();
    if matches!(end, End::Http2) {
        // Apart, so that tasks that speak HTTP/1 need no room for it.
        return Box::pin(h2::serve(&session, opening, &flow)).await;
    }
    let wire = opening.into_tap().into_wire();
    let tunnel = session.tunnel.take();
    match (end, tunnel) {
        (End::Done, Some(tunnel)) => join(&guest, wire, parts.read_buf, tunnel).await,
        (end, _) => close(&session, wire, end).await,
    }
}

/// Why a connection has ended.
enum End {
    /// Everything was said.
    Done,
    /// What the client sent is no HTTP; hyper has told it so, with that status.
    Malformed(u16),
    /// The client went away in the middle of something.
    Left,
    /// The next request did not begin, or its head did not end, in time.
    NoRequest { begun: bool },
    /// Nothing but HTTP/1 has: the client speaks HTTP/2.
    Http2,
    /// A body stopped moving after the head of the answer was sent.
    Stalled,
}

/// Polls a connection and its timer.
///
/// There is one timer per connection, whatever it waits for. It fires at most once per shortest timeout, finds out
/// whose turn it is and since when, and is set anew; no request pays for setting or clearing it.
struct Watch<'a> {
    session: &'a Rc<Session>,
    flow: &'a Flow,
    moved_at: Instant,
    /// Bytes of the next request have come.
    begun: bool,
    graceful: bool,
}

impl<'a> Watch<'a> {
    fn new(session: &'a Rc<Session>, flow: &'a Flow) -> Self {
        Self {
            session,
            flow,
            moved_at: Instant::now(),
            begun: false,
            graceful: false,
        }
    }

    async fn run<S>(&mut self, connection: &mut Connection<TokioIo<Opening>, S>) -> End
    where
        S: HttpService<Incoming, ResBody = Reply> + Unpin,
        S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        S::Future: Unpin,
    {
        let mut timer = pin!(sleep(self.session.period()));
        poll_fn(|cx| {
            if !self.graceful && self.session.guest.ending() >= Ending::Graceful {
                self.graceful = true;
                Pin::new(&mut *connection).graceful_shutdown();
            }
            loop {
                let polled = connection.poll_without_shutdown(cx);
                self.account();
                if let Poll::Ready(outcome) = polled {
                    return Poll::Ready(self.judge(outcome));
                }
                if self.flow.is_http2() {
                    return Poll::Ready(End::Http2);
                }
                if self.session.retimed.take() {
                    // What the timer is set to may be far beyond a timeout that has become shorter.
                    timer.as_mut().reset(Instant::now() + self.session.period());
                }
                let turn = ready!(self.poll_overdue(cx, timer.as_mut()));
                match turn {
                    Turn::Request => return Poll::Ready(End::NoRequest { begun: self.begun }),
                    _ if self.session.progress.responding.get() => {
                        return Poll::Ready(End::Stalled);
                    }
                    // The service finds it when the connection polls it, and gives up.
                    turn => self.session.progress.overdue.set(Some(turn)),
                }
                self.moved_at = Instant::now();
            }
        })
        .await
    }

    /// Books what has moved since the last call.
    fn account(&mut self) {
        let (received, sent) = self.flow.take();
        let member_moved = self.session.progress.moved.take();
        if received + sent == 0 && !member_moved {
            return;
        }
        self.moved_at = Instant::now();
        if self.session.progress.turn.get() == Turn::Request {
            // A request that has come and been answered leaves nothing begun; what was received on the way to it does
            // not count, nor does the end of an answer.
            self.begun = received > 0 && sent == 0;
        }
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

    fn judge(&self, outcome: hyper::Result<()>) -> End {
        match outcome {
            Ok(()) => End::Done,
            // What hyper answers to it: RFC 6585 section 5, RFC 9110 section 15.5.15.
            Err(error) if error.is_parse_too_large() => End::Malformed(431),
            Err(error) if error.is_parse() => End::Malformed(400),
            Err(_) => End::Left,
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
        End::Left => {
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
            if !wire.send_now(HEAD_TIMEOUT) {
                return;
            }
        }
        End::Stalled => {
            // An answer cut short must not look like one that ended well.
            wire.break_off();
            return;
        }
    }
    linger(&mut wire).await;
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

/// Joins a client and a member that no longer speak HTTP.
async fn join(guest: &Guest, client: Wire, client_rest: Bytes, tunnel: Tunnel) {
    let Tunnel { wire, link, rest } = tunnel;
    guest.is_with(Some(link.member.serial));
    let (listener, member) = (guest.seat.lane(), link.lane());
    Relay::new(client, wire, guest.seat.state.listener.timeouts)
        .with_rest(Side::Client, &rest)
        .with_rest(Side::Member, &client_rest)
        .run(
            &guest.local.scratch,
            |side, bytes| match side {
                Side::Client => listener.bytes_in.add(bytes),
                Side::Member => member.bytes_in.add(bytes),
            },
            |side, bytes| match side {
                Side::Client => listener.bytes_out.add(bytes),
                Side::Member => member.bytes_out.add(bytes),
            },
        )
        .await;
}
