//! A connection: its settings, its windows, how it ends.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use super::{
    census::Census,
    encode::Encoder,
    frame::{self, PING_BYTES, Reason, STREAM_BITS},
    head::Asked,
    hpack::Decoder,
    outbox::Outbox,
    receive::Reading,
    streams::{Key, Lost, Streams},
};
use crate::limits::{
    CONNECTION_WINDOW_BYTES, STREAM_HEAD_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX,
    STREAMS_WRONG_MAX,
};

/// A connection as its loop and those who answer its requests share it. It is borrowed for one call at a time.
pub(crate) type Line = Rc<RefCell<Engine>>;

/// One end of a connection, which has no socket: what is to be sent waits in its outbox.
pub(crate) struct Engine {
    pub(super) reading: Reading,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) census: Census,
    pub(super) streams: Streams,
    pub(crate) out: Outbox,
    /// The latest stream that the client has begun.
    pub(super) last: u32,
    pub(super) past: Past,
    /// Streams that had to be ended for what the client did wrong.
    wrong: usize,
    /// What the client takes of a stream before it has said more.
    pub(super) initial_window: u32,
    /// What the client takes of all streams together.
    pub(super) window: i64,
    /// What the client may send of all of them.
    pub(super) room: i64,
    /// What was taken of that and the client was not given room for again.
    owed: u32,
    /// Streams that the connection has no room for.
    pub(super) waiting: VecDeque<Key>,
    pub(super) farewell: Farewell,
    /// The client has said that it makes no further request.
    pub(super) is_left: bool,
    /// The last word was said.
    is_thrown: bool,
}

/// What comes next of what a client says.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly always the large one, and a box would cost every request an allocation"
)]
pub(crate) enum Heard {
    /// A request. Its body may have yet to come.
    Request(Key, Asked),
    /// One that says what none may say. Its stream was ended.
    Malformed,
    /// One with a head that is longer than is served. It was answered.
    TooLarge,
    /// Nothing yet: more has to be received.
    More,
}

/// How far a connection has come on its way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    Open,
    /// The client was told to make no further request, and asked whether it has heard.
    Announced,
    /// The client was told which request is the last.
    Told(u32),
}

/// Streams that are gone and for which frames may still be under way.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// What the client has ended lately: who sends more of one does so at once.
    ended: [u32; ENDED_REMEMBERED],
    next: usize,
    /// What was ended here, and the client may not have heard of yet.
    cut: VecDeque<u32>,
}

impl Engine {
    /// Of a connection over which nothing was said yet.
    pub(crate) fn new() -> Line {
        let mut out = Outbox::default();
        frame::settings(
            out.text(),
            &[
                (frame::MAX_CONCURRENT_STREAMS, STREAMS_MAX),
                (frame::INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
                (frame::MAX_HEADER_LIST_SIZE, STREAM_HEAD_BYTES_MAX),
            ],
        );
        let more = CONNECTION_WINDOW_BYTES - WINDOW_BYTES;
        frame::window_update(out.text(), 0, more);
        Rc::new(RefCell::new(Self {
            reading: Reading::Preface,
            decoder: Decoder::new(),
            encoder: Encoder::default(),
            census: Census::new(),
            streams: Streams::default(),
            out,
            last: 0,
            past: Past::default(),
            wrong: 0,
            initial_window: WINDOW_BYTES,
            window: i64::from(WINDOW_BYTES),
            room: i64::from(CONNECTION_WINDOW_BYTES),
            owed: 0,
            waiting: VecDeque::new(),
            farewell: Farewell::Open,
            is_left: false,
            is_thrown: false,
        }))
    }

    /// Asks the client to make no further request; those that are on their way are served.
    pub(crate) fn announce_end(&mut self) {
        if self.farewell == Farewell::Open {
            self.farewell = Farewell::Announced;
            let text = self.out.text();
            frame::goaway(text, STREAM_BITS, Reason::NO_ERROR);
            frame::ping(text, 0, LAST_QUESTION);
        }
    }

    /// Tells the client that this is the end, and why.
    fn tell_end(&mut self, reason: Reason) {
        frame::goaway(self.out.text(), self.last, reason);
        self.farewell = Farewell::Told(self.last);
    }

    /// Ends the connection, with whatever is under way.
    pub(crate) fn throw(&mut self, reason: Reason) {
        self.tell_end(reason);
        self.is_thrown = true;
    }

    /// Whether nothing more is to come, on either side.
    pub(crate) const fn is_over(&self) -> bool {
        (self.is_left || matches!(self.farewell, Farewell::Told(_))) && self.streams.is_empty()
    }

    /// The client has answered a question.
    pub(super) fn answered(&mut self, payload: [u8; PING_BYTES]) {
        if self.farewell == Farewell::Announced && payload == LAST_QUESTION {
            // Whatever it has asked before is here by now.
            self.tell_end(Reason::NO_ERROR);
        }
    }

    /// Ends a stream, with whatever of it is under way.
    pub(super) fn cut(&mut self, id: u32, reason: Reason) {
        if self.is_thrown {
            return;
        }
        frame::reset(self.out.text(), id, reason);
        self.past.note_cut(id);
    }

    /// Ends a stream for what the client did wrong. An error if it has done so far too often (CVE-2025-8671).
    pub(super) fn refuse(&mut self, id: u32, reason: Reason) -> Result<(), Reason> {
        self.cut(id, reason);
        if let Some(key) = self.streams.find(id) {
            self.lose(key, Lost::Wrong);
        }
        self.wrong += 1;
        if self.wrong > STREAMS_WRONG_MAX {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        Ok(())
    }

    /// Lets whoever answers a stream know that there is nobody to answer.
    pub(super) fn lose(&mut self, key: Key, lost: Lost) {
        self.streams.close(key);
        if let Some(stream) = self.streams.at(key) {
            stream.lost = Some(lost);
            stream.wake();
        }
    }

    /// Gives the client room for as much as was taken, of the connection as a whole.
    pub(super) fn release(&mut self, bytes: u32) {
        self.owed += bytes;
        // One word for many pieces.
        if self.owed >= CONNECTION_WINDOW_BYTES / 2 {
            let more = std::mem::take(&mut self.owed);
            self.room += i64::from(more);
            frame::window_update(self.out.text(), 0, more);
        }
    }

    /// Gives the client room for as much as was taken of a stream.
    pub(super) fn release_of(&mut self, key: Key, bytes: u32) {
        let Some(stream) = self.streams.at(key) else {
            return;
        };
        let bytes = bytes.min(stream.held);
        stream.held -= bytes;
        stream.owed += bytes;
        if stream.owed >= STREAM_WINDOW_BYTES / 2 && !stream.received && stream.lost.is_none() {
            let more = std::mem::take(&mut stream.owed);
            stream.room += i64::from(more);
            frame::window_update(self.out.text(), key.id, more);
        }
        self.release(bytes);
    }
}

impl Past {
    /// The client has ended a stream.
    pub(super) fn note_end(&mut self, id: u32) {
        if let Some(place) = self.ended.get_mut(self.next) {
            *place = id;
            self.next = (self.next + 1) % ENDED_REMEMBERED;
        }
    }

    /// Whether the client has ended a stream lately.
    pub(super) fn has_ended(&self, id: u32) -> bool {
        self.ended.contains(&id)
    }

    fn note_cut(&mut self, id: u32) {
        if self.cut.len() == CUT_REMEMBERED {
            self.cut.pop_front();
        }
        self.cut.push_back(id);
    }

    /// Whether a stream was ended here, so that what still comes of it means nothing.
    pub(super) fn was_cut(&self, id: u32) -> bool {
        self.cut.contains(&id)
    }
}

/// What either side takes before it has said more (RFC 9113 section 6.9.2).
const WINDOW_BYTES: u32 = 65_535;
/// The client's answer to it tells that it has heard what was said before.
const LAST_QUESTION: [u8; PING_BYTES] = *b"goodbye?";
const ENDED_REMEMBERED: usize = 16;
/// More than a client has under way at once.
const CUT_REMEMBERED: usize = STREAMS_MAX as usize + 28;
