//! One request of an HTTP/2 connection, from its head to the last byte of its answer.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body::Body;
use krater_amphora_api::Cause;
use tokio::time::Instant;

use crate::{
    h2::{Asked, Call, Reason},
    http::{
        body::Reply,
        clerk::{Assigned, Clerks},
        exchange, rewrite,
        session::Session,
    },
    local::Ending,
    upstream::{Outgoing, Progress, Turn},
};

/// A request under way, and since when it stands still.
pub(super) struct Stream {
    session: Rc<Session>,
    moved_at: Instant,
    /// It stands still and it is too late to say so.
    cut: bool,
    waker: Option<Waker>,
    work: Assigned<Job, ()>,
}

/// A request to be answered.
pub(super) struct Job {
    pub(super) session: Rc<Session>,
    pub(super) asked: Asked,
    pub(super) call: Call,
}

thread_local! {
    /// Those of this worker.
    static CLERKS: Rc<Clerks<Job, ()>> = Clerks::new();
}

impl Stream {
    pub(super) fn new(job: Job) -> Self {
        Self {
            session: Rc::clone(&job.session),
            moved_at: Instant::now(),
            cut: false,
            waker: None,
            work: CLERKS.with(|clerks| clerks.assign(job, answer)),
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

async fn answer(job: Job) {
    let Job {
        session,
        asked,
        call,
    } = job;
    if call.is_lost() {
        // It was taken back before anybody looked at it.
        return;
    }
    let Asked { parts, expects, .. } = asked;
    let mut inflow = Inflow {
        expected: expects,
        continued: false,
    };
    let is_for_head = parts.method == Method::HEAD;
    let local = Rc::clone(&session.guest.local);
    let progress = Rc::clone(&session.progress);
    let body = Outgoing::from_stream(call.incoming(), &parts.headers, &progress);
    let answer = {
        let mut answer = pin!(exchange::answer(session, parts, body));
        poll_fn(|cx| {
            let polled = answer.as_mut().poll(cx);
            inflow.settle(&progress, &call);
            match polled {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                // The client has taken its request back.
                Poll::Pending => call.poll_lost(cx).map(|()| None),
            }
        })
        .await
    };
    let Some(answer) = answer else { return };
    let (head, body) = answer.into_parts();
    let over = is_for_head || body.is_end_stream();
    local.date.with(std::time::Instant::now(), |date| {
        call.send_head(head.status, &head.headers, date, over);
    });
    local.buffers.give_back(head.headers);
    progress.moved.set(true);
    if over {
        return;
    }
    let outflow = Outflow {
        body,
        call,
        piece: Bytes::new(),
    };
    outflow.run(&progress).await;
}

/// What a client sends with its request.
struct Inflow {
    /// The client waits to be told that it may send.
    expected: bool,
    /// It was told so.
    continued: bool,
}

impl Inflow {
    /// Lets the client send as much as has gone to the member.
    fn settle(&mut self, progress: &Progress, call: &Call) {
        if self.expected && progress.wanted.get() {
            self.go_on(StatusCode::CONTINUE, &HeaderMap::new(), call);
        }
        for (status, mut fields) in progress.take_interim() {
            rewrite::interim(&mut fields);
            self.go_on(status, &fields, call);
        }
        release(progress, call);
    }

    /// Sends an interim answer; that the client may go on is told once.
    fn go_on(&mut self, status: StatusCode, fields: &HeaderMap, call: &Call) {
        if status == StatusCode::CONTINUE {
            self.expected = false;
            if std::mem::replace(&mut self.continued, true) {
                return;
            }
        }
        call.send_interim(status, fields);
    }
}

/// Lets the client send as much as has gone to the member.
fn release(progress: &Progress, call: &Call) {
    let held = progress.held.get();
    let freed = held.min(progress.delivered.take());
    if freed > 0 {
        progress.held.set(held - freed);
        call.release(freed);
    }
}

/// An answer's body on its way to the client. The engine is given only what the client has room for, so what the client
/// does not take is seen here and holds the member back.
struct Outflow {
    body: Reply,
    call: Call,
    /// What was read and not sent yet.
    piece: Bytes,
}

impl Outflow {
    async fn run(mut self, progress: &Progress) {
        poll_fn(|cx| {
            let polled = self.poll(cx, progress);
            release(progress, &self.call);
            match polled {
                Poll::Pending => self.call.poll_lost(cx),
                Poll::Ready(()) => Poll::Ready(()),
            }
        })
        .await;
    }

    fn poll(&mut self, cx: &mut Context<'_>, progress: &Progress) -> Poll<()> {
        loop {
            if !self.piece.is_empty() {
                let last = self.body.is_end_stream();
                ready!(self.call.poll_send(cx, &mut self.piece, last));
                // A client that makes room byte by byte moves nothing until it has taken a piece whole.
                progress.moved.set(true);
                if last || self.call.is_lost() {
                    return Poll::Ready(());
                }
            }
            let left = self.body.size_hint().exact().unwrap_or_default();
            if left > 0 && self.call.poll_window(cx).is_pending() {
                // There is more, and no room for it. What has no known length may have ended, which needs none.
                progress.turn.set(Turn::Client);
                return Poll::Pending;
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.call.send_end();
                    return Poll::Ready(());
                }
                Some(Err(_)) => {
                    // An answer cut short must not look like one that ended well.
                    self.call.break_off(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(piece) => self.piece = piece,
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.call.send_trailers(&trailers);
                        return Poll::Ready(());
                    }
                }
            }
        }
    }
}
