//! A timing wheel: nodes by the tick at which they want to be looked at.
//!
//! Setting, unsetting and popping take constant time. A node whose time lies beyond a turn of the wheel comes up after
//! a turn and has to be set again.

use alloc::boxed::Box;

use super::ring::Rings;
use crate::time::Instant;

/// Nanoseconds of a tick.
pub(super) const TICK: u64 = 1 << 27;
/// Ticks of a turn, about two minutes.
const TICKS: u32 = 1_024;
/// The ring of those that are due and were not popped yet.
const DUE: u32 = TICKS;
const WORDS: usize = TICKS as usize / 64;

#[derive(Debug)]
pub(super) struct Wheel {
    rings: Rings,
    /// A bit for each tick that may have nodes.
    filled: Box<[u64; WORDS]>,
    /// All nodes up to this tick have been found due.
    cursor: u64,
}

impl Wheel {
    pub(super) fn new() -> Self {
        Self {
            rings: Rings::new(TICKS + 1),
            filled: Box::new([0; WORDS]),
            cursor: 0,
        }
    }

    /// One more node, with no time.
    pub(super) fn add(&mut self) {
        self.rings.add();
    }

    /// Has a node come up at the first tick that is not before `at`, or a turn from `now` if that is sooner.
    pub(super) fn set(&mut self, node: u32, at: Instant, now: Instant) {
        let first = self.cursor.max(now.0 / TICK) + 1;
        let last = first + u64::from(TICKS) - 2;
        let ring = ring_of(at.0.div_ceil(TICK).clamp(first, last));
        self.rings.move_to_back(ring, node);
        if let Some(word) = self.filled.get_mut(ring as usize / 64) {
            *word |= 1 << (ring % 64);
        }
    }

    /// Takes a node's time away.
    pub(super) fn unset(&mut self, node: u32) {
        self.rings.unlink(node);
    }

    /// A node that is due, which has no time after that.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let target = now.0 / TICK;
        // Each ring needs to be looked at no more than once, however long ago the last look was.
        self.cursor = self.cursor.max(target.saturating_sub(u64::from(TICKS)));
        loop {
            if let Some(node) = self.rings.front(DUE) {
                self.rings.unlink(node);
                return Some(node);
            }
            if self.cursor >= target {
                return None;
            }
            self.cursor += 1;
            self.collect(ring_of(self.cursor));
        }
    }

    /// When the first node may come up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.rings.front(DUE).is_some() {
            return Some(Instant(self.cursor.saturating_mul(TICK)));
        }
        let from = ring_of(self.cursor + 1);
        let ahead = self.filled_after(from)?;
        Some(Instant((self.cursor + 1 + ahead).saturating_mul(TICK)))
    }

    /// How many ticks after the one of ring `from` the first is that may have nodes.
    fn filled_after(&self, from: u32) -> Option<u64> {
        let (word, bit) = (from as usize / 64, from % 64);
        for step in 0..=WORDS {
            let at = (word + step) % WORDS;
            let mut bits = self.filled.get(at).copied().unwrap_or(0);
            if step == 0 {
                bits &= u64::MAX << bit;
            } else if step == WORDS {
                bits &= !(u64::MAX << bit);
            }
            if bits != 0 {
                let ring = at as u64 * 64 + u64::from(bits.trailing_zeros());
                let turn = u64::from(TICKS);
                return Some((ring + turn - u64::from(from)) % turn);
            }
        }
        None
    }

    /// Moves all nodes of a ring to those that are due.
    fn collect(&mut self, ring: u32) {
        let Some(word) = self.filled.get_mut(ring as usize / 64) else {
            return;
        };
        let bit = 1_u64 << (ring % 64);
        if *word & bit == 0 {
            return;
        }
        *word &= !bit;
        while let Some(node) = self.rings.front(ring) {
            self.rings.move_to_back(DUE, node);
        }
    }
}

const fn ring_of(tick: u64) -> u32 {
    let [a, b, ..] = (tick % TICKS as u64).to_le_bytes();
    u32::from_le_bytes([a, b, 0, 0])
}
