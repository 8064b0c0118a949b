//! Counts the frames of a client that carry nothing, so that one who sends little else can be told to stop.
//!
//! All kinds draw on one budget: a burst is free, and so is what useful traffic brings along, such as the window updates
//! and pings of a download.

use std::time::Instant;

use super::frame::{DATA, END_STREAM, HEADERS, Head, RST_STREAM};
use crate::limits::{IDLE_FRAMES_BURST, IDLE_FRAMES_PER_FRAME, IDLE_FRAMES_PER_SECOND};

/// What a client may still send that carries nothing.
#[derive(Debug)]
pub(super) struct Census {
    spent: u32,
    /// When time was last credited.
    since: Instant,
}

/// The client has sent too much that carries nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flooded;

impl Census {
    /// Of a connection of which nothing was read.
    pub(super) fn new() -> Self {
        Self {
            spent: 0,
            since: Instant::now(),
        }
    }

    /// Allows the client what may come along with a frame of ours. What is not spent is lost: nobody saves up for a flood.
    pub(super) const fn earn(&mut self) {
        self.spent = self.spent.saturating_sub(IDLE_FRAMES_PER_FRAME);
    }

    /// Counts a frame.
    pub(super) fn count(&mut self, head: Head) -> Result<(), Flooded> {
        let cost = match head.kind {
            DATA if head.length > 0 || head.has(END_STREAM) => 0,
            HEADERS => 0,
            // A request was made and taken back: somebody has begun to work on it.
            RST_STREAM => 5,
            _ => 1,
        };
        self.spent = self.spent.saturating_add(cost);
        if self.is_over() { Err(Flooded) } else { Ok(()) }
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
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.spent = self.spent.saturating_sub(earned);
        }
        self.spent > IDLE_FRAMES_BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(kind: u8, flags: u8, length: usize) -> Head {
        Head {
            length,
            kind,
            flags,
            stream: 1,
        }
    }

    #[test]
    fn what_carries_something_costs_nothing() {
        let mut census = Census::new();
        for (kind, flags, length, spent) in [
            (HEADERS, 4, 300, 0),
            (DATA, 0, 70, 0),
            (DATA, END_STREAM, 0, 0),
            (DATA, 0, 0, 1),
            (6, 0, 8, 2),
            (0xfa, 0, 9, 3),
            (RST_STREAM, 0, 4, 8),
        ] {
            census.count(head(kind, flags, length)).unwrap();
            assert_eq!(census.spent, spent);
        }
    }

    #[test]
    fn a_burst_is_free_and_a_flood_is_not() {
        let mut census = Census::new();
        let ping = head(6, 0, 8);
        for _ in 0..IDLE_FRAMES_BURST {
            census.count(ping).unwrap();
        }
        assert_eq!(census.count(ping), Err(Flooded));
        census.earn();
        assert_eq!(census.count(ping), Ok(()));
    }
}
