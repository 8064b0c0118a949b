//! One request: to which member, on which connection, again or not, and what the client is told.

use std::{io, rc::Rc, sync::Arc};

use http::{
    HeaderValue, Method, Request, Response, StatusCode, header::CONNECTION, request::Parts,
    response as answer,
};
use http_body::Body;
use krater_amphora_api::Cause;
use krater_amphora_core::proxy_protocol::{Header, Version, header_with_tls};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout_at},
};

use super::{
    body::{Ongoing, Reply},
    keeping::Kept,
    metrics,
    policy::{self, Route},
    refusal::Refusal,
    rewrite,
    session::Session,
};
use crate::{
    connect::{Attempts, Link, Load, dial},
    limits::{IDLE_TIME_MAX, IDLE_TIME_SAFE_MAX},
    seat::Seat,
    tls::{Offer, of_member},
    upstream::{Outgoing, Seal, Sent, Speaks, Turn, Upstream, Whose},
    wire::Wire,
    world::{Busy, Held, MemberState, PoolState},
};

/// Answers one request of a client, by a member if at all possible.
pub(super) async fn answer(session: Rc<Session>, parts: Parts, body: Outgoing) -> Response<Reply> {
    let seat = session.current_seat();
    let mut ongoing = Ongoing::new(&session, &seat, &parts);
    let route = rewrite::checked(parts).and_then(|parts| {
        // Policies look at what the client sent, not at what becomes of it.
        let route = policy::route(&seat.state, &parts, session.tls.as_deref())?;
        Ok((route, parts))
    });
    let mut response = match route {
        Ok((Route::Pool(pool), mut parts)) => {
            ongoing.note(|record| record.pool = Some(pool.pool.id));
            let kept = Kept::read(&mut parts.headers, pool, &seat.state);
            let client = (session.peer.ip(), session.tls.as_deref());
            let request = rewrite::request(parts, body, client, &seat.state, &pool.pool);
            match send(
                &session,
                &seat,
                (pool, kept.wanted()),
                request,
                &mut ongoing,
            )
            .await
            {
                Ok((mut answer, upstream)) => {
                    kept.answered_by(upstream.member(), pool, &mut answer.headers);
                    relay(&session, answer, upstream, ongoing)
                }
                Err(refusal) => refuse(&seat, refusal, ongoing),
            }
        }
        Ok((Route::Metrics, asked)) => {
            Box::pin(metrics::answer(&session, &seat, &asked, ongoing)).await
        }
        Ok((Route::Redirected(response), _)) => {
            ongoing.answered(response.status().as_u16());
            ongoing.complete();
            *response
        }
        Err(refusal) => refuse(&seat, refusal, ongoing),
    };
    if session.tls.is_some() {
        seat.tell_hsts(response.headers_mut());
    }
    if session.is_last() {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn refuse(seat: &Seat, refusal: Refusal, mut ongoing: Ongoing) -> Response<Reply> {
    let lane = seat.lane();
    if refusal.blames_client() {
        lane.request_errors.bump();
    }
    if refusal == Refusal::NoMember {
        lane.no_member.bump();
    }
    ongoing.answered(refusal.status().as_u16());
    ongoing.fails(refusal.cause());
    let response = refusal.response();
    let length = response.body().size_hint().exact().unwrap_or_default();
    ongoing.note(|record| record.bytes_out = length);
    response
}

/// The answer of a member as it goes to the client.
fn relay(
    session: &Rc<Session>,
    mut parts: answer::Parts,
    upstream: Upstream,
    mut ongoing: Ongoing,
) -> Response<Reply> {
    upstream.lane().responses.count(parts.status.as_u16());
    ongoing.answered(parts.status.as_u16());
    ongoing.note(|record| record.answered = Some(record.elapsed()));
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        rewrite::switching_answer(&mut parts.headers);
        ongoing.complete();
        session.tunnelled.replace(ongoing.take_draft());
        *session.tunnel.borrow_mut() = upstream.into_tunnel();
        return Response::from_parts(parts, Reply::Empty);
    }
    rewrite::answer(&mut parts.headers);
    parts.version = http::Version::HTTP_11;
    Response::from_parts(parts, Reply::relay(upstream, ongoing))
}

/// Has the request sent to one member after another until one answers, beginning with the one that is wanted.
async fn send(
    session: &Rc<Session>,
    seat: &Rc<Seat>,
    (pool, wanted): (&PoolState, Option<usize>),
    request: Request<Outgoing>,
    ongoing: &mut Ongoing,
) -> Result<(answer::Parts, Upstream), Refusal> {
    let (head, mut body) = request.into_parts();
    let mut attempts = Attempts::new(pool, session.peer, wanted);
    let mut unreached = None;
    loop {
        session.progress.turn.set(Turn::Ours);
        let Some(member) = attempts.next(seat).await else {
            return Err(unreached.map_or(Refusal::NoMember, Refusal::ConnectFailed));
        };
        let load = Load::new(pool, &member);
        session.is_with(Some(member.serial));
        ongoing.note(|record| {
            record.member = Some((member.id, member.address));
            record.tries = record.tries.saturating_add(1);
        });
        let way = Way {
            seat,
            member: &member,
            header: pool.pool.proxy_header(),
            seal: session.seal(pool.tls.as_ref()),
            offer: if rewrite::is_upgrade(&head) {
                Offer::Http1
            } else {
                Offer::Any
            },
        };
        match try_member(session, way, (&head, body), ongoing).await {
            Tried::Answered(answer, upstream) => {
                ongoing.carry(load);
                session.guest.local.buffers.give_back(head.headers);
                return Ok((answer, *upstream));
            }
            Tried::Unreached(unsent, cause) => {
                body = unsent;
                unreached = Some(cause);
            }
            Tried::Refused(refusal) => return Err(refusal),
        }
    }
}

/// To which member, under which listener, and how it is told for whom.
#[derive(Clone, Copy)]
struct Way<'a> {
    seat: &'a Seat,
    member: &'a Arc<MemberState>,
    header: Option<Version>,
    seal: Option<Seal<'a>>,
    /// A request that wants another protocol needs a connection of its own.
    offer: Offer,
}

impl<'a> Way<'a> {
    /// The seal, if members may choose to speak HTTP/2 inside.
    fn shareable(&self) -> Option<Seal<'a>> {
        self.seal
            .filter(|seal| self.offer == Offer::Any && seal.connector.offers_http2())
    }

    const fn whose(&self) -> Whose {
        if self.header.is_some() {
            Whose::OneClient
        } else {
            Whose::Anybody
        }
    }
}

/// What came of one member.
enum Tried {
    Answered(answer::Parts, Box<Upstream>),
    /// Nothing was sent: another may be tried.
    Unreached(Outgoing, Cause),
    Refused(Refusal),
}

/// Sends the request to one member, on a waiting connection if there is one.
///
/// A request is never sent twice where that could matter. On a waiting connection it may meet the member's close on
/// its way. If no byte was sent, it is sent on a fresh connection. If it was sent and not one byte came back, it is
/// sent again, once, and only if repeating it changes nothing and it has no body (RFC 9110 section 9.2.2).
async fn try_member(
    session: &Rc<Session>,
    way: Way<'_>,
    (head, mut body): (&Parts, Outgoing),
    ongoing: &mut Ongoing,
) -> Tried {
    let is_repeatable = is_repeatable(head, &body);
    let patience = if is_repeatable {
        IDLE_TIME_MAX
    } else {
        IDLE_TIME_SAFE_MAX
    };
    let lane = session.guest.local.index;
    let place = match way.member.places.take(lane) {
        Some(place) => place,
        // Apart, so that requests that find a place need no room for waiting.
        None => match Box::pin(queue(way, lane)).await {
            Ok(place) => place,
            Err(Busy) => return Tried::Refused(Refusal::MemberBusy),
        },
    };
    let serial = way.member.serial;
    let upstreams = session.upstreams(way.whose());
    let mut waiting = way
        .shareable()
        .and_then(|seal| upstreams.share(serial, seal, way.whose()))
        .or_else(|| session.take_upstream(way.whose(), serial, way.seal, patience));
    // On a connection that many use every request but the first meets one that was used.
    let mut again = false;
    loop {
        session.progress.turn.set(Turn::Ours);
        let mut upstream = match waiting.take() {
            Some(upstream) => upstream,
            // Apart, so that requests that find a connection need no room for making one.
            None => match Box::pin(reach(session, way)).await {
                Ok(upstream) => upstream,
                Err(cause) => return Tried::Unreached(body, cause),
            },
        };
        ongoing.note(|record| record.connected = Some(record.elapsed()));
        let used = upstream.is_used() && !again;
        match upstream.exchange(head, body, &session.progress).await {
            Sent::Answered(answer)
                if answer.status != StatusCode::SWITCHING_PROTOCOLS
                    || rewrite::is_agreed(head, &answer.headers) =>
            {
                upstream.occupy(place);
                return Tried::Answered(answer, Box::new(upstream));
            }
            Sent::Answered(_) => {
                upstream.fails(Cause::MemberMalformed);
                return Tried::Refused(Refusal::MemberBroke(Cause::MemberMalformed));
            }
            // Only a connection that has served before can have been closed before anything was sent; a fresh one that
            // sends nothing is as good as none.
            Sent::Unsent(unsent) if used => body = unsent,
            Sent::Unsent(unsent) => {
                upstream.count(Cause::MemberResetBeforeAnswer);
                return Tried::Unreached(unsent, Cause::MemberResetBeforeAnswer);
            }
            Sent::Broke { silent: true, .. } if used && is_repeatable => body = Outgoing::Empty,
            Sent::Broke { cause, .. } => {
                upstream.fails(cause);
                return Tried::Refused(Refusal::MemberBroke(cause));
            }
            Sent::Unfinished(cause) => return Tried::Refused(Refusal::BadBody(cause)),
            Sent::Overdue(Turn::Client) => return Tried::Refused(Refusal::ClientTimeout),
            Sent::Overdue(_) => {
                upstream.fails(Cause::MemberTimeout);
                return Tried::Refused(Refusal::MemberTimeout);
            }
        }
        again = upstream.is_shared();
        way.seat.lane().retries.bump();
    }
}

/// Waits until the member may have another request, for as long as a connection to it may take.
async fn queue(way: Way<'_>, lane: usize) -> Result<Held<'_>, Busy> {
    let member = way.member.meter.of(lane);
    member.queued.bump();
    let deadline = Instant::now() + way.seat.state.listener.timeouts.member_connect;
    let place = way.member.places.wait(lane, deadline).await;
    if place.is_err() {
        member.failures.count(Cause::MemberBusy);
    }
    place
}

/// Makes a connection, or waits for somebody else to make one that many may use.
async fn reach(session: &Session, way: Way<'_>) -> Result<Upstream, Cause> {
    let deadline = Instant::now() + way.seat.state.listener.timeouts.member_connect;
    let Some(seal) = way.shareable() else {
        return connect(session, way, deadline).await;
    };
    let upstreams = session.upstreams(way.whose());
    let serial = way.member.serial;
    let gate = upstreams.gate(serial);
    loop {
        if let Some(upstream) = upstreams.share(serial, seal, way.whose()) {
            return Ok(upstream);
        }
        if let Some(_passage) = gate.enter(seal.connector) {
            let upstream = connect(session, way, deadline).await?;
            let speaks = if upstream.is_shared() {
                Speaks::Http2
            } else {
                Speaks::Http1
            };
            gate.note(seal.connector, speaks);
            return Ok(upstream);
        }
        let waited = timeout_at(deadline, gate.wait()).await;
        waited.map_err(|_| Cause::MemberConnectTimeout)?;
    }
}

/// Makes a connection: TCP, then the header that tells for whom it is, then the handshake of TLS; all of it in the time
/// for connecting.
async fn connect(session: &Session, way: Way<'_>, deadline: Instant) -> Result<Upstream, Cause> {
    let allowed = deadline.saturating_duration_since(Instant::now());
    let worker = session.guest.local.index;
    let (mut stream, link) = dial(way.member, worker, allowed).await?;
    let broke = Cause::MemberResetBeforeAnswer;
    if let Some(version) = way.header {
        // A fresh connection has room for it. One that has not is no use.
        let (plain, sealed);
        let header = match (version, &session.tls) {
            (Version::V2, Some(peer)) => {
                sealed = header_with_tls(session.origin(), &peer.proxied());
                sealed.as_slice()
            }
            _ => {
                plain = Header::new(version, session.origin());
                plain.as_bytes()
            }
        };
        let sent = timeout_at(deadline, stream.write_all(header)).await;
        if !matches!(sent, Ok(Ok(()))) {
            link.count(broke);
            return Err(broke);
        }
    }
    let wire = match way.seal {
        None => Wire::Plain(stream),
        Some(seal) => {
            let Seal { connector, name } = seal;
            let handshake = connector.connect(stream, way.member.address.ip(), name, way.offer);
            match timeout_at(deadline, Box::pin(handshake)).await {
                Ok(Ok(stream)) => Wire::Tls(stream),
                Ok(Err(error)) => {
                    let cause = of_member(&error);
                    fail(&link, cause, &error);
                    return Err(cause);
                }
                Err(_) => {
                    let cause = Cause::MemberTlsTimeout;
                    fail(&link, cause, &io::ErrorKind::TimedOut.into());
                    return Err(cause);
                }
            }
        }
    };
    if let Some(seal) = way.seal.filter(|_| wire.speaks_http2()) {
        let upstreams = session.upstreams(way.whose());
        let starting = upstreams.start_sharing((wire, link), seal, way.whose());
        return Box::pin(starting).await.ok_or(broke);
    }
    let buffers = &session.guest.local.buffers;
    let terms = (way.whose(), way.seal);
    Ok(Upstream::new(wire, link, terms, buffers))
}

/// Counts a handshake that failed like a connection that did.
fn fail(link: &Link, cause: Cause, error: &io::Error) {
    link.lane().connect_failures.bump();
    link.count(cause);
    link.note_break();
    tracing::debug!(member = %link.member.id, %error, "a member fails in the handshake of TLS");
}

/// Whether sending a request a second time changes nothing and costs nothing.
fn is_repeatable(head: &Parts, body: &Outgoing) -> bool {
    let idempotent = matches!(
        head.method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    idempotent && body.is_end_stream()
}
