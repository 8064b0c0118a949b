//! What a client is sent: answers, and whose turn it is (RFC 9113 sections 5.2 and 8.1).

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{
    engine::Engine,
    frame::{self, DATA, END_STREAM, FRAME_BYTES_MAX, Reason, STREAM_BITS},
    streams::{Key, Stream, Waits},
};
use crate::limits::STREAM_SEND_BYTES_MAX;

impl Engine {
    /// Sends the head of an answer; `ends` if it has no body.
    pub(super) fn answer(
        &mut self,
        key: Key,
        head: (StatusCode, &HeaderMap),
        date: Option<&[u8]>,
        ends: bool,
    ) {
        if !self.is_sending(key) {
            return;
        }
        let flags = if ends { END_STREAM } else { 0 };
        let text = self.out.text();
        self.encoder.answer(text, (key.id, flags), head, date);
        self.census.earn();
        if ends {
            self.finish(key);
        }
    }

    /// Answers a head that is longer than is served.
    pub(super) fn answer_too_large(&mut self, id: u32, ends: bool) {
        let head = (
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            &HeaderMap::new(),
        );
        let text = self.out.text();
        self.encoder.answer(text, (id, END_STREAM), head, None);
        if !ends {
            self.cut(id, Reason::NO_ERROR);
        }
    }

    /// Sends fields behind a body, and with them its end.
    pub(super) fn send_trailers(&mut self, key: Key, fields: &HeaderMap) {
        if self.is_sending(key) {
            self.encoder.trailers(self.out.text(), key.id, fields);
            self.census.earn();
            self.finish(key);
        }
    }

    /// Sends the end of a body.
    pub(super) fn send_end(&mut self, key: Key) {
        if self.is_sending(key) {
            frame::head(self.out.text(), 0, DATA, END_STREAM, key.id);
            self.census.earn();
            self.finish(key);
        }
    }

    /// Sends as much of `piece` as there is room for, with the end behind it if it is the `last`. Ready when that was all.
    pub(super) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        key: Key,
        piece: &mut Bytes,
        last: bool,
    ) -> Poll<()> {
        let is_crowded = !self.waiting.is_empty();
        let Some(stream) = self.streams.at(key).filter(|stream| is_open(stream)) else {
            // Whoever polls it looks at that next.
            piece.clear();
            return Poll::Ready(());
        };
        let is_called = stream.take_turn();
        let mut window = stream.window;
        let before = piece.len();
        // Those that wait go first, and each sends one frame when others wait.
        let mut frames = match (is_crowded, is_called) {
            (false, _) => usize::MAX,
            (true, true) => 1,
            (true, false) => 0,
        };
        while frames > 0 && !piece.is_empty() && self.out.len() < STREAM_SEND_BYTES_MAX {
            let room = usize::try_from(window.min(self.window)).unwrap_or_default();
            let part = piece.split_to(room.min(FRAME_BYTES_MAX).min(piece.len()));
            let Some(size) = i64::try_from(part.len()).ok().filter(|size| *size > 0) else {
                break;
            };
            (window, self.window) = (window - size, self.window - size);
            let flags = if last && piece.is_empty() {
                END_STREAM
            } else {
                0
            };
            frame::head(self.out.text(), part.len(), DATA, flags, key.id);
            self.out.push(part);
            self.census.earn();
            frames -= 1;
        }
        if let Some(stream) = self.streams.at(key).filter(|_| piece.len() < before) {
            stream.window = window;
        }
        if piece.is_empty() {
            if last {
                self.finish(key);
            }
            self.wake_next();
            return Poll::Ready(());
        }
        self.wait(cx, key);
        self.wake_next();
        Poll::Pending
    }

    /// Whether a piece of an answer could be sent now. There may be none yet, so whoever is called lets the next one go on.
    pub(super) fn has_window(&mut self, key: Key) -> bool {
        let is_roomy = self.window > 0 && self.out.len() < STREAM_SEND_BYTES_MAX;
        let Some(stream) = self.streams.at(key) else {
            return true;
        };
        if !is_open(stream) {
            return true;
        }
        if !is_roomy || stream.window <= 0 || stream.waits == Waits::Turn {
            return false;
        }
        if stream.take_turn() {
            self.wake_next();
        }
        true
    }

    /// Has a stream wait for room.
    pub(super) fn wait(&mut self, cx: &Context<'_>, key: Key) {
        if let Some(stream) = self.streams.at(key) {
            stream.attend(cx);
            if stream.window > 0 {
                if std::mem::replace(&mut stream.waits, Waits::Turn) != Waits::Turn {
                    self.waiting.push_back(key);
                }
            } else {
                stream.waits = Waits::Window;
            }
        }
    }

    /// Lets the next one go on that waits for the connection, if it has room. Whether one does.
    pub(crate) fn wake_next(&mut self) -> bool {
        while self.window > 0 && self.out.len() < STREAM_SEND_BYTES_MAX {
            let Some(key) = self.waiting.pop_front() else {
                return false;
            };
            let stream = self.streams.at(key);
            if let Some(stream) = stream.filter(|stream| stream.waits == Waits::Turn) {
                stream.waits = Waits::Called;
                stream.wake();
                return true;
            }
        }
        false
    }

    /// Lets the client take more of a stream. Answers how much it takes now.
    pub(super) fn widen(&mut self, key: Key, more: i64) -> i64 {
        let stream = self.streams.at(key);
        stream.map_or(0, |stream| widen(stream, more))
    }

    /// Lets the client take more, or less, of all streams (RFC 9113 section 6.9.2).
    pub(super) fn shift_windows(&mut self, more: i64) -> Result<(), Reason> {
        let mut largest = 0;
        for stream in self.streams.each_open() {
            largest = largest.max(widen(stream, more));
        }
        if largest > i64::from(STREAM_BITS) {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        Ok(())
    }

    /// Whoever answers a stream lets go of it: what is not complete is ended.
    pub(super) fn let_go(&mut self, key: Key) {
        let Some(stream) = self.streams.at(key) else {
            return;
        };
        let end = match (stream.sent, stream.received) {
            _ if stream.lost.is_some() => None,
            (true, true) => None,
            // The rest of the request is not wanted (RFC 9113 section 8.1).
            (true, false) => Some(Reason::NO_ERROR),
            (false, _) => Some(Reason::CANCEL),
        };
        if let Some(reason) = end {
            self.cut(key.id, reason);
        }
        let held = self.streams.remove(key);
        self.release(held);
        self.wake_next();
    }

    /// Ends a stream in the middle of its answer.
    pub(super) fn break_off(&mut self, key: Key, reason: Reason) {
        if self.is_sending(key) {
            self.cut(key.id, reason);
            self.finish(key);
            if let Some(stream) = self.streams.at(key) {
                stream.received = true;
            }
            self.streams.close(key);
        }
    }

    fn is_sending(&mut self, key: Key) -> bool {
        self.streams.at(key).is_some_and(|stream| is_open(stream))
    }

    /// All of an answer was put to what waits to be sent.
    fn finish(&mut self, key: Key) {
        if let Some(stream) = self.streams.at(key) {
            stream.sent = true;
            if stream.received {
                self.streams.close(key);
            }
        }
    }
}

impl Stream {
    /// Whether its turn has come, which it has but once. Whoever waits for it keeps its place, however often it is polled.
    fn take_turn(&mut self) -> bool {
        let is_called = self.waits == Waits::Called;
        if is_called {
            self.waits = Waits::Nothing;
        }
        is_called
    }

    /// Has whoever answers it woken when something comes of it.
    pub(super) fn attend(&mut self, cx: &Context<'_>) {
        let waker = self.waker.as_ref();
        if waker.is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }
}

fn is_open(stream: &Stream) -> bool {
    stream.lost.is_none() && !stream.sent
}

fn widen(stream: &mut Stream, more: i64) -> i64 {
    stream.window += more;
    if stream.waits == Waits::Window && stream.window > 0 {
        stream.waits = Waits::Nothing;
        stream.wake();
    }
    stream.window
}
