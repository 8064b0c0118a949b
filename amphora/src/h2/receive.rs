//! What a client sends, frame by frame (RFC 9113 section 6).

use bytes::{Buf, BytesMut};
use http::HeaderMap;

use super::{
    engine::{Engine, Farewell, Heard},
    frame::{
        self, ACK, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, GOAWAY, HEAD_BYTES,
        HEADER_TABLE_SIZE, HEADERS, Head, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, PADDED, PING,
        PREFACE, PRIORITY, PRIORITY_BYTES, PUSH_PROMISE, RST_STREAM, Reason, SETTINGS, STREAM_BITS,
        WINDOW_UPDATE, WITH_PRIORITY,
    },
    head::{Assembly, Refused},
    hpack::Wanted,
    streams::{Key, Lost},
};
use crate::{
    h1::taken,
    limits::{STREAM_BLOCK_BYTES_MAX, STREAM_BLOCK_FRAMES_MAX, STREAMS_MAX},
};

/// Where in what a client sends its reader is.
#[derive(Debug)]
pub(super) enum Reading {
    /// Ahead of all.
    Preface,
    /// Ahead of the settings that have to come first.
    Settings,
    /// Ahead of a frame.
    Frame,
    /// Ahead of more of a head.
    Block(Block),
    /// Ahead of the length of what fills a piece of a body up.
    Padding(Head, Option<Key>),
    /// Within a piece of a body.
    Piece(Piece),
    /// Within what nobody wants.
    Skipped(usize),
}

/// A head of which more has to come.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    ends: bool,
    bytes: Vec<u8>,
    frames: usize,
}

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    key: Key,
    left: usize,
    padding: usize,
    ends: bool,
}

impl Engine {
    /// Takes what comes next from the front of `held`, what was received. `fields` gives room for a head's. An error ends the
    /// connection.
    pub(crate) fn next(
        &mut self,
        held: &mut BytesMut,
        mut fields: impl FnMut() -> HeaderMap,
    ) -> Result<Heard, Reason> {
        loop {
            match &mut self.reading {
                Reading::Preface => {
                    let Some(begin) = held.get(..PREFACE.len()) else {
                        return Ok(Heard::More);
                    };
                    if begin != PREFACE {
                        return Err(Reason::PROTOCOL_ERROR);
                    }
                    held.advance(PREFACE.len());
                    self.reading = Reading::Settings;
                }
                Reading::Skipped(left) => {
                    let now = held.len().min(*left);
                    held.advance(now);
                    *left -= now;
                    if *left > 0 {
                        return Ok(Heard::More);
                    }
                    self.reading = Reading::Frame;
                }
                Reading::Padding(head, key) => {
                    let (head, key) = (*head, *key);
                    if held.is_empty() {
                        return Ok(Heard::More);
                    }
                    let padding = usize::from(held.get_u8());
                    self.begin_piece(head, key, padding, 1)?;
                }
                Reading::Piece(piece) => {
                    let mut piece = *piece;
                    if !self.read_piece(&mut piece, held) {
                        self.reading = Reading::Piece(piece);
                        return Ok(Heard::More);
                    }
                }
                Reading::Settings | Reading::Frame | Reading::Block(_) => {
                    if let Some(heard) = self.next_frame(held, &mut fields)? {
                        return Ok(heard);
                    }
                }
            }
        }
    }

    /// Whether something has come of what is not complete.
    pub(crate) fn is_within(&self, held: &BytesMut) -> bool {
        !held.is_empty() || !matches!(self.reading, Reading::Frame)
    }

    /// Takes the next frame, if all of it has come; of a piece of a body, or of what nobody knows, its head is enough. `None`
    /// if nothing has to be told of it.
    fn next_frame(
        &mut self,
        held: &mut BytesMut,
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Heard>, Reason> {
        let Some(head) = Head::parse(held) else {
            return Ok(Some(Heard::More));
        };
        if !head.has_right_size() {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        self.check_order(head)?;
        let is_known = head.kind <= CONTINUATION;
        let is_whole = held.len() >= HEAD_BYTES + head.length;
        if is_known && head.kind != DATA && !is_whole {
            return Ok(Some(Heard::More));
        }
        if matches!(self.reading, Reading::Settings) {
            self.reading = Reading::Frame;
        }
        let counted = self.census.count(head);
        counted.map_err(|_| Reason::ENHANCE_YOUR_CALM)?;
        if !is_known {
            held.advance(HEAD_BYTES);
            self.reading = Reading::Skipped(head.length);
            return Ok(None);
        }
        if head.kind == DATA {
            held.advance(HEAD_BYTES);
            return self.begin_data(head).map(|()| None);
        }
        let payload = held.get(HEAD_BYTES..HEAD_BYTES + head.length);
        let heard = self.take_frame(head, payload.unwrap_or_default(), fields);
        held.advance(HEAD_BYTES + head.length);
        heard
    }

    /// What may come now (RFC 9113 sections 3.4, 5.1 and 6.10).
    fn check_order(&self, head: Head) -> Result<(), Reason> {
        let is_right = match &self.reading {
            Reading::Settings => head.kind == SETTINGS && !head.has(ACK),
            Reading::Block(block) => head.kind == CONTINUATION && head.stream == block.stream,
            _ => head.kind != CONTINUATION && head.kind != PUSH_PROMISE,
        };
        let of_stream = matches!(
            head.kind,
            DATA | HEADERS | PRIORITY | RST_STREAM | CONTINUATION
        );
        let of_connection = matches!(head.kind, SETTINGS | PING | GOAWAY);
        if !is_right || of_stream && head.stream == 0 || of_connection && head.stream > 0 {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if matches!(head.kind, DATA | HEADERS) && self.past.has_ended(head.stream) {
            return Err(Reason::STREAM_CLOSED);
        }
        // Of what the client has not begun yet, nothing but a head is to come.
        let is_idle = head.stream > self.last || head.stream.is_multiple_of(2);
        let needs_begun = matches!(head.kind, DATA | RST_STREAM | WINDOW_UPDATE);
        if needs_begun && head.stream > 0 && is_idle {
            return Err(Reason::PROTOCOL_ERROR);
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        head: Head,
        payload: &[u8],
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Heard>, Reason> {
        match head.kind {
            HEADERS => return self.take_head(head, payload, fields),
            CONTINUATION => return self.go_on_with_head(head, payload, fields),
            SETTINGS if head.has(ACK) => {}
            SETTINGS => self.take_settings(payload)?,
            PING => {
                let payload = payload.first_chunk().copied().unwrap_or_default();
                if head.has(ACK) {
                    self.answered(payload);
                } else {
                    frame::ping(self.out.text(), ACK, payload);
                }
            }
            GOAWAY => self.is_left = true,
            WINDOW_UPDATE => self.take_window(head.stream, frame::number(payload) & STREAM_BITS)?,
            RST_STREAM => {
                self.past.note_end(head.stream);
                if let Some(key) = self.streams.find(head.stream) {
                    self.lose(key, Lost::TakenBack);
                }
            }
            PRIORITY if depends_on(payload) == head.stream => {
                self.refuse(head.stream, Reason::PROTOCOL_ERROR)?;
            }
            // Whoever is first is first (RFC 9113 section 5.3.2).
            _ => {}
        }
        Ok(None)
    }

    fn take_settings(&mut self, payload: &[u8]) -> Result<(), Reason> {
        let mut window = self.initial_window;
        for (id, value) in frame::listed(payload) {
            match id {
                // Nothing is in that table, but the client has to be told once that it may forget it.
                HEADER_TABLE_SIZE => self.encoder.note_table(value),
                ENABLE_PUSH if value > 1 => return Err(Reason::PROTOCOL_ERROR),
                INITIAL_WINDOW_SIZE if value > STREAM_BITS => {
                    return Err(Reason::FLOW_CONTROL_ERROR);
                }
                INITIAL_WINDOW_SIZE => window = value,
                MAX_FRAME_SIZE if !(SMALLEST_FRAME_SIZE..1 << 24).contains(&value) => {
                    return Err(Reason::PROTOCOL_ERROR);
                }
                _ => {}
            }
        }
        let more = i64::from(window) - i64::from(self.initial_window);
        self.initial_window = window;
        if more != 0 {
            self.shift_windows(more)?;
        }
        frame::settings_ack(self.out.text());
        Ok(())
    }

    /// Lets the client have `room` more of a stream, or of all of them. Room for nothing is a mistake, and for too much.
    fn take_window(&mut self, id: u32, more: u32) -> Result<(), Reason> {
        let largest = i64::from(STREAM_BITS);
        if id == 0 {
            if more == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.window += i64::from(more);
            if self.window > largest {
                return Err(Reason::FLOW_CONTROL_ERROR);
            }
            self.wake_next();
            return Ok(());
        }
        let Some(key) = self.streams.find(id) else {
            return Ok(());
        };
        let window = self.widen(key, i64::from(more));
        match (more, window) {
            (0, _) => self.refuse(id, Reason::PROTOCOL_ERROR),
            (_, window) if window > largest => self.refuse(id, Reason::FLOW_CONTROL_ERROR),
            _ => Ok(()),
        }
    }

    fn take_head(
        &mut self,
        head: Head,
        payload: &[u8],
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Heard>, Reason> {
        let (block, depends) = unpadded(head, payload).ok_or(Reason::PROTOCOL_ERROR)?;
        let ends = head.has(END_STREAM);
        let id = head.stream;
        let is_known = self.streams.find(id).is_some();
        if !is_known && (id <= self.last && !self.past.was_cut(id) || id.is_multiple_of(2)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if depends == Some(id) {
            // It is read for the tables' sake.
            self.read_block(block, HeaderMap::new())?;
            self.last = self.last.max(id);
            return self.refuse(id, Reason::PROTOCOL_ERROR).map(|()| None);
        }
        if head.has(END_HEADERS) {
            return self.take_block(id, ends, block, fields);
        }
        self.reading = Reading::Block(Block {
            stream: id,
            ends,
            bytes: block.to_vec(),
            frames: 1,
        });
        Ok(None)
    }

    fn go_on_with_head(
        &mut self,
        head: Head,
        payload: &[u8],
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Heard>, Reason> {
        let Reading::Block(mut block) = std::mem::replace(&mut self.reading, Reading::Frame) else {
            return Err(Reason::PROTOCOL_ERROR);
        };
        block.frames += 1;
        block.bytes.extend_from_slice(payload);
        let is_endless =
            block.frames > STREAM_BLOCK_FRAMES_MAX || block.bytes.len() > STREAM_BLOCK_BYTES_MAX;
        if is_endless {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        if head.has(END_HEADERS) {
            return self.take_block(block.stream, block.ends, &block.bytes, fields);
        }
        self.reading = Reading::Block(block);
        Ok(None)
    }

    fn read_block(&mut self, block: &[u8], fields: HeaderMap) -> Result<Assembly, Reason> {
        let mut assembly = Assembly::new(fields);
        match self
            .decoder
            .read(block, |said, size| assembly.take(said, size))
        {
            Ok(Wanted::Yes) => Ok(assembly),
            Ok(Wanted::No) => Err(Reason::ENHANCE_YOUR_CALM),
            Err(_) => Err(Reason::COMPRESSION_ERROR),
        }
    }

    /// Takes a head that is whole, or trailers.
    fn take_block(
        &mut self,
        id: u32,
        ends: bool,
        block: &[u8],
        fields: impl FnOnce() -> HeaderMap,
    ) -> Result<Option<Heard>, Reason> {
        if id <= self.last {
            let trailers = self.read_block(block, HeaderMap::new())?;
            if let Some(key) = self.streams.find(id) {
                self.take_trailers(key, ends, trailers)?;
            }
            return Ok(None);
        }
        self.last = id;
        let asked = self.read_block(block, fields())?;
        if ends {
            self.past.note_end(id);
        }
        if matches!(self.farewell, Farewell::Told(last) if id > last) {
            return Ok(None);
        }
        if self.streams.open() >= STREAMS_MAX as usize {
            return self.refuse(id, Reason::REFUSED_STREAM).map(|()| None);
        }
        match asked.into_request(ends) {
            Ok(asked) => {
                let key = self.streams.add(id, i64::from(self.initial_window));
                if let Some(stream) = self.streams.at(key) {
                    (stream.received, stream.left) = (ends, asked.length);
                }
                Ok(Some(Heard::Request(key, asked)))
            }
            Err(Refused::Malformed) => {
                self.refuse(id, Reason::PROTOCOL_ERROR)?;
                Ok(Some(Heard::Malformed))
            }
            Err(Refused::TooLarge) => {
                self.answer_too_large(id, ends);
                Ok(Some(Heard::TooLarge))
            }
        }
    }

    /// Fields behind a body, which end it (RFC 9113 section 8.1).
    fn take_trailers(&mut self, key: Key, ends: bool, trailers: Assembly) -> Result<(), Reason> {
        let Some(stream) = self.streams.at(key) else {
            return Ok(());
        };
        if stream.received {
            return Err(Reason::STREAM_CLOSED);
        }
        let is_short = stream.left.is_some_and(|left| left > 0);
        match trailers.into_trailers().filter(|_| ends && !is_short) {
            Some(trailers) => {
                (stream.received, stream.trailers) = (true, Some(trailers));
                stream.wake();
                self.past.note_end(key.id);
                Ok(())
            }
            None => self.refuse(key.id, Reason::PROTOCOL_ERROR),
        }
    }

    /// A piece of a body begins, whose size counts as a whole (RFC 9113 section 6.9.1).
    fn begin_data(&mut self, head: Head) -> Result<(), Reason> {
        let size = i64::try_from(head.length).unwrap_or(i64::MAX);
        if size > self.room {
            return Err(Reason::FLOW_CONTROL_ERROR);
        }
        self.room -= size;
        let key = self.streams.find(head.stream);
        let is_received = |engine: &mut Self, key| {
            let stream = engine.streams.at(key);
            stream.is_some_and(|stream| stream.received)
        };
        if key.is_some_and(|key| is_received(self, key)) {
            return Err(Reason::STREAM_CLOSED);
        }
        if head.has(PADDED) {
            if head.length == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.reading = Reading::Padding(head, key);
            return Ok(());
        }
        self.begin_piece(head, key, 0, 0)
    }

    /// It begins, with so much behind it that fills it up, and so much read of it already.
    fn begin_piece(
        &mut self,
        head: Head,
        key: Option<Key>,
        padding: usize,
        read: usize,
    ) -> Result<(), Reason> {
        let rest = head.length - read;
        let left = rest.checked_sub(padding).ok_or(Reason::PROTOCOL_ERROR)?;
        let size = u32::try_from(head.length).unwrap_or(u32::MAX);
        self.reading = Reading::Skipped(rest);
        let Some((key, stream)) = key.and_then(|key| Some((key, self.streams.at(key)?))) else {
            // Nobody wants it any more.
            self.release(size);
            return Ok(());
        };
        let fits = stream.left.is_none_or(|expected| left as u64 <= expected);
        let ends = head.has(END_STREAM);
        let is_short = ends && stream.left.is_some_and(|expected| expected > left as u64);
        let is_allowed = i64::from(size) <= stream.room;
        if !fits || is_short || !is_allowed {
            self.release(size);
            let reason = if is_allowed {
                Reason::PROTOCOL_ERROR
            } else {
                Reason::FLOW_CONTROL_ERROR
            };
            if ends {
                self.past.note_end(key.id);
            }
            return self.refuse(head.stream, reason);
        }
        stream.left = stream.left.map(|expected| expected - left as u64);
        stream.room -= i64::from(size);
        stream.held += size;
        self.reading = Reading::Piece(Piece {
            key,
            left,
            padding,
            ends,
        });
        self.release_of(key, u32::try_from(padding + read).unwrap_or(0));
        Ok(())
    }

    /// Passes on what has come of a piece. Whether that was all of it.
    fn read_piece(&mut self, piece: &mut Piece, held: &mut BytesMut) -> bool {
        let now = held.len().min(piece.left);
        piece.left -= now;
        let is_over = piece.left == 0;
        let stream = self.streams.at(piece.key);
        match stream {
            Some(stream) if stream.lost.is_none() => {
                if now > 0 {
                    stream.inbox.put(taken(held, now));
                    stream.wake();
                }
                if is_over && piece.ends {
                    stream.received = true;
                    stream.wake();
                }
            }
            _ => held.advance(now),
        }
        if is_over {
            if piece.ends {
                self.past.note_end(piece.key.id);
            }
            self.reading = Reading::Skipped(piece.padding);
        }
        is_over
    }
}

/// The block within the payload of a head, and what stream it says it depends on (RFC 9113 section 6.2).
fn unpadded(head: Head, payload: &[u8]) -> Option<(&[u8], Option<u32>)> {
    let mut block = payload;
    if head.has(PADDED) {
        let (padding, rest) = block.split_first()?;
        block = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    if !head.has(WITH_PRIORITY) {
        return Some((block, None));
    }
    let (priority, rest) = block.split_at_checked(PRIORITY_BYTES)?;
    Some((rest, Some(depends_on(priority))))
}

fn depends_on(priority: &[u8]) -> u32 {
    frame::number(priority) & STREAM_BITS
}

const SMALLEST_FRAME_SIZE: u32 = 16_384;
