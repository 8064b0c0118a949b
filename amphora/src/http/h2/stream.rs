//! One request of an HTTP/2 connection, from its head to the last byte of its answer.

use std::{
    cell::Cell,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{FlowControl, Reason, RecvStream, SendStream, server::SendResponse};
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{DATE, EXPECT},
};
use http_body::Body;
use krater_amphora_api::Cause;
use tokio::time::Instant;

use super::head::{Malformed, as_http1, strip_answer};
use crate::{
    http::{
        body::Reply,
        clerk::{Assigned, Clerks},
        exchange, note, rewrite,
        session::Session,
    },
    limits::IDLE_FRAMES_PER_FRAME,
    local::{Ending, Local},
    upstream::{Outgoing, Progress, Turn},
};

/// A request under way, and since when it stands still.
pub(super) struct Stream {
    session: Rc<Session>,
    moved_at: Instant,
    /// It stands still and it is too late to say so.
    cut: bool,
    waker: Option<Waker>,
    work: Assigned<Call, ()>,
}

/// A request to be answered. `earned` is told how many frames the client may send for it besides.
pub(super) struct Call {
    pub(super) session: Rc<Session>,
    pub(super) request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) earned: Rc<Cell<u32>>,
}

thread_local! {
    /// Those of this worker.
    static CLERKS: Rc<Clerks<Call, ()>> = Clerks::new();
}

impl Stream {
    pub(super) fn new(call: Call) -> Self {
        Self {
            session: Rc::clone(&call.session),
            moved_at: Instant::now(),
            cut: false,
            waker: None,
            work: CLERKS.with(|clerks| clerks.assign(call, answer)),
        }
    }

    /// Gives the request up if it has stood still for too long. Answers when to look again.
    pub(super) fn look(&mut self, now: Instant) -> Instant {
        self.account();
        let Some(allowed) = self.session.allowance() else {
            return now + self.session.period();
        };
        if self.moved_at + allowed > now {
            return self.moved_at + allowed;
        }
        let progress = &self.session.progress;
        if progress.responding.get() {
            self.cut = true;
            let cause = match progress.turn.get() {
                Turn::Member => Cause::MemberStalled,
                _ => Cause::ClientTimeout,
            };
            self.session.verdict.set(Some(cause));
        } else {
            // The service finds it when it is polled, and gives up.
            progress.overdue.set(Some(progress.turn.get()));
        }
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
        self.moved_at = now;
        now + allowed
    }

    fn account(&mut self) {
        if self.session.progress.moved.take() {
            self.moved_at = Instant::now();
        }
    }
}

impl Future for Stream {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let stream = &mut *self;
        if stream.waker.is_none() {
            // It is the same for as long as the request lasts.
            stream.waker = Some(cx.waker().clone());
            stream.session.attend(cx.waker());
        }
        if stream.cut || stream.session.ending() == Ending::Now {
            // What is dropped half-way is reset.
            return Poll::Ready(());
        }
        let polled = Pin::new(&mut stream.work).poll(cx);
        stream.account();
        polled
    }
}

async fn answer(call: Call) {
    let Call {
        session,
        request,
        mut respond,
        earned,
    } = call;
    let (mut parts, mut body) = request.into_parts();
    if as_http1(&mut parts) == Err(Malformed) {
        let lane = session.guest.seat.lane();
        lane.request_errors.bump();
        lane.failures.count(Cause::ClientBadRequest);
        let cause = Some(Cause::ClientBadRequest);
        note::failure(&session.guest.seat, session.ends(), cause, None);
        respond.send_reset(Reason::PROTOCOL_ERROR);
        return;
    }
    let mut inflow = Inflow {
        flow: body.flow_control().clone(),
        expected: parts.headers.contains_key(EXPECT),
        continued: false,
    };
    let local = Rc::clone(&session.guest.local);
    let progress = Rc::clone(&session.progress);
    let body = Outgoing::from_stream(body, &parts.headers, &progress);
    let answer = {
        let mut answer = pin!(exchange::answer(session, parts, body));
        poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            inflow.settle(&progress, &mut respond);
            match polled {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                // The client has taken its request back.
                Poll::Pending if respond.poll_reset(cx).is_ready() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    };
    let Some(answer) = answer else { return };
    let (mut head, body) = answer.into_parts();
    strip_answer(&mut head.headers);
    date(&mut head.headers, &local);
    let over = body.is_end_stream();
    let Ok(sender) = respond.send_response(Response::from_parts(head, ()), over) else {
        return;
    };
    progress.moved.set(true);
    earn(&earned);
    if over {
        return;
    }
    let outflow = Outflow {
        body,
        sender,
        piece: Bytes::new(),
        earned,
    };
    outflow.run(&progress, &mut inflow).await;
}

/// Says when, of an answer that does not (RFC 9110 section 6.6.1).
fn date(headers: &mut HeaderMap, local: &Local) {
    if headers.contains_key(DATE) {
        return;
    }
    headers.insert(DATE, local.date.value(std::time::Instant::now()));
}

/// What a client sends with its request.
struct Inflow {
    flow: FlowControl,
    /// The client waits to be told that it may send.
    expected: bool,
    /// It was told so.
    continued: bool,
}

impl Inflow {
    /// Lets the client send as much as has gone to the member.
    fn settle(&mut self, progress: &Progress, respond: &mut SendResponse<Bytes>) {
        if self.expected && progress.wanted.get() {
            self.go_on(StatusCode::CONTINUE, HeaderMap::new(), respond);
        }
        for (status, mut fields) in progress.take_interim() {
            rewrite::interim(&mut fields);
            strip_answer(&mut fields);
            self.go_on(status, fields, respond);
        }
        self.release(progress);
    }

    /// Sends an interim answer; that the client may go on is told once.
    fn go_on(&mut self, status: StatusCode, fields: HeaderMap, respond: &mut SendResponse<Bytes>) {
        if status == StatusCode::CONTINUE {
            self.expected = false;
            if std::mem::replace(&mut self.continued, true) {
                return;
            }
        }
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        *interim.headers_mut() = fields;
        // Fails if the client has gone, which shows elsewhere.
        let _ = respond.send_informational(interim);
    }

    fn release(&mut self, progress: &Progress) {
        let held = progress.held.get();
        let freed = held.min(progress.delivered.take());
        if freed > 0 {
            progress.held.set(held - freed);
            // Fails only for more than was received.
            let _ = self.flow.release_capacity(freed);
        }
    }
}

/// An answer's body on its way to the client. The engine is given only what the client has room for, so what the client
/// does not take is seen here and holds the member back.
struct Outflow {
    body: Reply,
    sender: SendStream<Bytes>,
    /// What was read and not sent yet.
    piece: Bytes,
    earned: Rc<Cell<u32>>,
}

impl Outflow {
    async fn run(mut self, progress: &Progress, inflow: &mut Inflow) {
        poll_fn(|cx| {
            let polled = self.poll(cx, progress);
            inflow.release(progress);
            match polled {
                Poll::Pending if self.sender.poll_reset(cx).is_ready() => Poll::Ready(()),
                polled => polled,
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<()> {
        loop {
            if !self.piece.is_empty() {
                match self.poll_piece(cx, progress) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ended::No) => continue,
                    Poll::Ready(Ended::Yes) => return Poll::Ready(()),
                }
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    // Fails if the client has gone.
                    let _ = self.sender.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Err(_))) => {
                    // An answer cut short must not look like one that ended well.
                    self.sender.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(piece) => self.piece = piece,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        let _ = self.sender.send_trailers(trailers);
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    /// Sends what there is room for.
    fn poll_piece(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<Ended> {
        self.sender.reserve_capacity(self.piece.len());
        let mut room = self.sender.capacity();
        if room == 0 {
            room = match self.sender.poll_capacity(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(_) => return Poll::Ready(Ended::Yes),
            };
        }
        let part = self.piece.split_to(room.min(self.piece.len()));
        let last = self.piece.is_empty() && self.body.is_end_stream();
        if self.piece.is_empty() {
            // A client that makes room byte by byte moves nothing until it has taken a piece whole.
            progress.moved.set(true);
        }
        earn(&self.earned);
        match self.sender.send_data(part, last) {
            Ok(()) if !last => Poll::Ready(Ended::No),
            _ => Poll::Ready(Ended::Yes),
        }
    }
}

/// Allows the client what may come along with a frame.
fn earn(earned: &Cell<u32>) {
    earned.set(earned.get().saturating_add(IDLE_FRAMES_PER_FRAME));
}

/// Whether there is nothing more to send.
#[derive(Clone, Copy)]
enum Ended {
    No,
    Yes,
}
