//! Counts the frames of a client that carry nothing, so that one who sends little else can be told to stop.
//!
//! The engine below answers each of them and bounds some kinds only. Here all kinds draw on one budget: a burst is
//! free, and so is what useful traffic brings along, such as the window updates and pings of a download. The count
//! looks at nine bytes of each frame and skips the rest.

use std::{cell::Cell, rc::Rc, time::Instant};

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

    /// Whether the client has spent more than it may. Time is credited only to whoever needs it.
    pub(super) fn is_over(&mut self) -> bool {
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

    fn credit(&mut self, frames: u32) {
        self.spent = self.spent.saturating_sub(frames);
    }

    fn count(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.head;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
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

const HEAD_BYTES: usize = 9;
const PREFACE_BYTES: usize = 24;

// RFC 9113 section 6.
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
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
                (7, 0, 0),
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
        assert!(!census.is_over());
        census.read(&ping);
        assert!(census.is_over());
        census.earned().set(2);
        census.read(&ping);
        assert!(!census.is_over());
    }
}
