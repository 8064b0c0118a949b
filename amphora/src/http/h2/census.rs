//! Counts the frames of a client that carry nothing, so that one who sends little else can be told to stop.
//!
//! The engine below answers each of them and bounds some kinds only. Here all kinds draw on one budget: a burst is
//! free, and so is what useful traffic brings along, such as the window updates and pings of a download. The count
//! looks at nine bytes of each frame and skips the rest, but for settings.
//!
//! Frames of a wrong size, and more of a request that was complete, are told by their names here (RFC 9113 sections 4.2
//! and 5.1); the engine has one word for all of them.

use std::{cell::Cell, rc::Rc, time::Instant};

use h2::Reason;

use crate::limits::{IDLE_FRAMES_BURST, IDLE_FRAMES_PER_SECOND};

/// What a client may still send that carries nothing.
#[derive(Debug)]
pub(super) struct Census {
    /// The head of the frame that is being read.
    head: [u8; HEAD_BYTES],
    /// How much of it has come.
    have: usize,
    /// What of the stream is skipped: payloads, and the preface at the beginning.
    skip: usize,
    /// How much of a setting's six bytes has come, and the settings that are still to come.
    setting: ([u8; SETTING_BYTES], usize),
    settings: usize,
    /// Streams that the client has ended lately.
    ended: [u32; ENDED_REMEMBERED],
    next_ended: usize,
    /// The head of a request is not complete: more of it has to come next.
    within_head: bool,
    fault: Option<Reason>,
    spent: u32,
    /// Frames that answers have earned the client since the last look.
    earned: Rc<Cell<u32>>,
    /// When time was last credited.
    since: Instant,
}

impl Census {
    /// Of a connection of which nothing was read.
    pub(super) fn new() -> Self {
        Self {
            head: [0; HEAD_BYTES],
            have: 0,
            skip: PREFACE_BYTES,
            setting: ([0; SETTING_BYTES], 0),
            settings: 0,
            ended: [0; ENDED_REMEMBERED],
            next_ended: 0,
            within_head: false,
            fault: None,
            spent: 0,
            earned: Rc::default(),
            since: Instant::now(),
        }
    }

    /// Where answers note what they allow the client to send besides.
    pub(super) fn earned(&self) -> Rc<Cell<u32>> {
        Rc::clone(&self.earned)
    }

    /// Takes in what was read.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        // What is not spent by the next read is lost: nobody saves up for a flood.
        self.credit(self.earned.take());
        while !bytes.is_empty() {
            if self.settings > 0 {
                bytes = self.read_settings(bytes);
                continue;
            }
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let wanted = HEAD_BYTES.saturating_sub(self.have).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(wanted).unwrap_or_default();
            if let Some(place) = self.head.get_mut(self.have..self.have + wanted) {
                place.copy_from_slice(head);
            }
            self.have += wanted;
            bytes = rest;
            if self.have == HEAD_BYTES {
                self.have = 0;
                self.count();
            }
        }
    }

    /// What the client is to be told as the last thing, if so.
    pub(super) fn fault(&mut self) -> Option<Reason> {
        if self.fault.is_none() && self.is_over() {
            self.fault = Some(Reason::ENHANCE_YOUR_CALM);
        }
        self.fault
    }

    /// Whether the client has spent more than it may. Time is credited only to whoever needs it.
    fn is_over(&mut self) -> bool {
        if self.spent <= IDLE_FRAMES_BURST {
            return false;
        }
        let now = Instant::now();
        let seconds = now.saturating_duration_since(self.since).as_secs();
        if seconds > 0 {
            self.since = now;
            let earned = seconds.saturating_mul(u64::from(IDLE_FRAMES_PER_SECOND));
            self.credit(u32::try_from(earned).unwrap_or(u32::MAX));
        }
        self.spent > IDLE_FRAMES_BURST
    }

    /// Looks at settings that come, as far as they are in `bytes`. Answers the rest.
    fn read_settings<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (setting, have) = &mut self.setting;
        let wanted = (SETTING_BYTES - *have).min(bytes.len());
        let (part, rest) = bytes.split_at_checked(wanted).unwrap_or_default();
        if let Some(place) = setting.get_mut(*have..*have + wanted) {
            place.copy_from_slice(part);
        }
        *have += wanted;
        if *have == SETTING_BYTES {
            *have = 0;
            self.settings -= 1;
            let [id_high, id_low, value @ ..] = *setting;
            let is_window = u16::from_be_bytes([id_high, id_low]) == INITIAL_WINDOW_SIZE;
            if is_window && u32::from_be_bytes(value) > STREAM_BITS {
                self.fault = self.fault.or(Some(Reason::FLOW_CONTROL_ERROR));
            }
        }
        rest
    }

    fn credit(&mut self, frames: u32) {
        self.spent = self.spent.saturating_sub(frames);
    }

    fn count(&mut self) {
        let [high, middle, low, kind, flags, stream @ ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let stream = u32::from_be_bytes(stream) & STREAM_BITS;
        if !has_right_size(kind, flags, self.skip) {
            self.fault = self.fault.or(Some(Reason::FRAME_SIZE_ERROR));
        }
        if kind == SETTINGS {
            self.settings = self.skip / SETTING_BYTES;
            self.skip %= SETTING_BYTES;
        }
        // Whatever comes within a head, or for no stream, is a worse mistake, and the engine has the word for it.
        let within_head = self.within_head && kind != CONTINUATION;
        self.within_head = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        let more = matches!(kind, DATA | HEADERS) && stream > 0 && !within_head;
        if more && self.ended.contains(&stream) {
            self.fault = self.fault.or(Some(Reason::STREAM_CLOSED));
        }
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if (ends || kind == RST_STREAM)
            && stream > 0
            && let Some(place) = self.ended.get_mut(self.next_ended)
        {
            *place = stream;
            self.next_ended = (self.next_ended + 1) % ENDED_REMEMBERED;
        }
        let cost = match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => 0,
            HEADERS => 0,
            // A request was made and taken back: somebody has begun to work on it.
            RST_STREAM => 5,
            _ => 1,
        };
        self.spent = self.spent.saturating_add(cost);
    }
}

/// Whether a frame of that kind may be of that size. Those of other kinds are of any size.
const fn has_right_size(kind: u8, flags: u8, size: usize) -> bool {
    match kind {
        PRIORITY => size == 5,
        RST_STREAM | WINDOW_UPDATE => size == 4,
        SETTINGS => size.is_multiple_of(SETTING_BYTES) && (flags & ACK == 0 || size == 0),
        PING => size == 8,
        _ => true,
    }
}

const HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;

/// Streams that are remembered as ended: who sends more of one does so at once.
const ENDED_REMEMBERED: usize = 16;

// RFC 9113 section 6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PRIORITY: u8 = 0x2;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const WINDOW_UPDATE: u8 = 0x8;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;
const ACK: u8 = 0x1;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const STREAM_BITS: u32 = 0x7fff_ffff;
const SETTING_BYTES: usize = 6;
const END_STREAM: u8 = 0x1;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags, 0, 0, 0, 1];
        frame.resize(HEAD_BYTES + payload, 0);
        frame
    }

    fn census() -> Census {
        let mut census = Census::new();
        census.read(&[0; PREFACE_BYTES]);
        census
    }

    #[test]
    fn frames_are_told_apart_however_the_stream_is_cut() {
        let stream: Vec<_> = [
            frame(SETTINGS, 0, 12),
            frame(HEADERS, 4, 300),
            frame(DATA, 0, 70_000),
            frame(DATA, END_STREAM, 0),
            frame(DATA, 0, 0),
            frame(6, 0, 8),
            frame(RST_STREAM, 0, 4),
        ]
        .concat();
        for size in [1, 2, 7, 9, 10, 4_096, usize::MAX] {
            let mut census = census();
            for piece in stream.chunks(size.min(stream.len())) {
                census.read(piece);
            }
            assert_eq!(
                (census.spent, census.have, census.skip),
                (8, 0, 0),
                "{size}"
            );
        }
    }

    #[test]
    fn a_burst_is_free_and_a_flood_is_not() {
        let mut census = census();
        let ping = frame(6, 0, 8);
        for _ in 0..IDLE_FRAMES_BURST {
            census.read(&ping);
        }
        assert_eq!(census.fault(), None);
        census.read(&ping);
        assert!(census.is_over());
        census.earned().set(2);
        census.read(&ping);
        assert_eq!(census.fault(), None);
    }
}
