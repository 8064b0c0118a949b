//! The body of an answer on its way to the client: passed on frame by frame, nothing is read ahead of what the client
//! takes.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use krater_amphora_api::Cause;

use super::{note, session::Session};
use crate::{
    access::{Draft, Record},
    connect::Load,
    seat::Seat,
    upstream::{Broken, Turn, Upstream},
};
use bytes::Bytes;
use http::request::Parts;
use http_body::{Body, Frame, SizeHint};

/// The body of an answer.
pub(super) enum Reply {
    /// There is none.
    Empty,
    /// A sentence of ours.
    Text(Bytes),
    /// A member's.
    Member(Box<Relayed>),
}

/// A member's answer on its way to the client. Gives the member's connection back for further use once the body is
/// complete; dropped earlier, it takes the connection with it.
pub(super) struct Relayed {
    /// `None` once the body is complete.
    upstream: Option<Upstream>,
    ongoing: Ongoing,
}

/// A request being answered; dropping it ends the request.
pub(super) struct Ongoing {
    session: Rc<Session>,
    /// The listener under which the request runs (I4).
    seat: Rc<Seat>,
    since: Instant,
    outcome: Outcome,
    /// What is to be told of it in the access log, if it is.
    draft: Option<Draft>,
    _load: Option<Load>,
}

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Unknown,
    /// Its answer is complete.
    Answered,
    Failed(Cause),
}

impl Ongoing {
    /// A request whose head is complete now.
    pub(super) fn new(session: &Rc<Session>, seat: &Rc<Seat>, asked: &Parts) -> Self {
        session.progress.turn.set(Turn::Ours);
        session.progress.responding.set(false);
        session.progress.overdue.set(None);
        session.progress.taken.set(0);
        seat.lane().requests.bump();
        Self {
            session: Rc::clone(session),
            seat: Rc::clone(seat),
            since: Instant::now(),
            outcome: Outcome::Unknown,
            draft: note::of_request(session, seat, asked),
            _load: None,
        }
    }

    /// Notes something for the access log, if it is told there.
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(draft) = &mut self.draft {
            draft.note(note);
        }
    }

    /// What is told of it, to be ended by somebody else.
    pub(super) fn take_draft(&mut self) -> Option<Draft> {
        self.draft.take()
    }

    /// Counts the member as busy until the request ends.
    pub(super) fn carry(&mut self, load: Load) {
        self._load = Some(load);
    }

    /// Its answer is complete.
    pub(super) fn complete(&mut self) {
        if self.outcome == Outcome::Unknown {
            self.outcome = Outcome::Answered;
        }
    }

    /// It has failed.
    pub(super) fn fails(&mut self, cause: Cause) {
        self.outcome = Outcome::Failed(cause);
    }

    /// The answer's head is given to the client.
    pub(super) fn answered(&mut self, status: u16) {
        self.seat.lane().responses.count(status);
        self.note(|record| record.status = Some(status));
        self.session.progress.responding.set(true);
        self.session.progress.turn.set(Turn::Client);
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        self.session.progress.turn.set(Turn::Request);
        self.session.progress.responding.set(false);
        self.session.is_with(None);
        let lane = self.seat.lane();
        lane.durations.count(self.since.elapsed());
        let cause = match self.outcome {
            Outcome::Answered => None,
            Outcome::Failed(cause) => Some(cause),
            // It was given up on from outside.
            Outcome::Unknown => Some(self.session.given_up_for()),
        };
        if let Some(cause) = cause {
            lane.failures.count(cause);
            self.session.blamed.set(true);
        }
        if let Some(draft) = &mut self.draft {
            let bytes_in = self.session.progress.taken.get();
            draft.note(|record| (record.bytes_in, record.cause) = (bytes_in, cause));
        }
    }
}

impl Reply {
    /// The body of `upstream`'s answer; its connection is given back at once if there is none.
    pub(super) fn relay(upstream: Upstream, mut ongoing: Ongoing) -> Self {
        if upstream.is_answered() {
            ongoing.complete();
            ongoing.session.put_upstream(upstream);
            return Self::Empty;
        }
        Self::Member(Box::new(Relayed {
            upstream: Some(upstream),
            ongoing,
        }))
    }
}

impl Relayed {
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(upstream) = &mut self.upstream else {
            return Poll::Ready(None);
        };
        let progress = &self.ongoing.session.progress;
        let frame = upstream.poll_frame(cx, progress);
        let waits = if frame.is_pending() {
            Turn::Member
        } else {
            Turn::Client
        };
        progress.turn.set(waits);
        if upstream.is_answered() && !matches!(frame, Poll::Ready(Some(Err(_)))) {
            self.release();
        }
        frame
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upstream {
            Some(upstream) => upstream.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }

    /// The body is complete: its connection may serve another request.
    fn release(&mut self) {
        self.ongoing.complete();
        if let Some(upstream) = self.upstream.take() {
            self.ongoing.session.put_upstream(upstream);
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some(upstream) = &self.upstream
            && self.ongoing.session.given_up_for() == Cause::MemberStalled
        {
            upstream.fails(Cause::MemberStalled);
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Member(relayed) => {
                let frame = ready!(relayed.poll_body(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    let length = data.len() as u64;
                    relayed.ongoing.note(|record| record.bytes_out += length);
                }
                if let Some(Err(broken)) = &frame
                    && let Some(upstream) = relayed.upstream.take()
                {
                    let cause = broken.cause(Cause::MemberResetMidAnswer);
                    relayed.ongoing.fails(cause);
                    if !broken.blames_client() {
                        upstream.fails(cause);
                    }
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text) => text.is_empty(),
            Self::Member(relayed) => relayed.upstream.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Member(relayed) => relayed.size_hint(),
        }
    }
}
