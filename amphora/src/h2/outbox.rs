//! What waits to be sent to a client: text, and pieces of bodies that are too large to be copied into it.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, Bytes};

use crate::limits::JOINED_BYTES_MAX;

/// What waits to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Frames, and pieces that are small enough to be copied.
    text: Vec<u8>,
    /// So much of it was sent.
    text_sent: usize,
    /// Pieces, each with how much of the text goes ahead of it.
    pieces: VecDeque<(usize, Bytes)>,
    /// Bytes of them.
    pieces_bytes: usize,
}

impl Outbox {
    /// Where text is written.
    pub(super) const fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Puts a piece behind what is there.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() <= JOINED_BYTES_MAX {
            self.text.extend_from_slice(&piece);
        } else {
            self.pieces_bytes += piece.len();
            self.pieces.push_back((self.text.len(), piece));
        }
    }

    /// Bytes that wait.
    pub(crate) const fn len(&self) -> usize {
        self.text.len() - self.text_sent + self.pieces_bytes
    }

    /// Whether nothing waits.
    pub(crate) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes where what waits is to `slices`, as far as they reach. Answers how many of them it took.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut from = self.text_sent;
        let mut places = slices.iter_mut();
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if !bytes.is_empty()
                && let Some(place) = places.next()
            {
                *place = IoSlice::new(bytes);
                count += 1;
            }
        };
        for (ahead, piece) in self.pieces.iter().take(SLICES_MAX / 2) {
            put(self.text.get(from..*ahead).unwrap_or_default());
            put(piece);
            from = *ahead;
        }
        if self.pieces.len() <= SLICES_MAX / 2 {
            put(self.text.get(from..).unwrap_or_default());
        }
        count
    }

    /// Notes that so many bytes were sent.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        while sent > 0 {
            let until = self
                .pieces
                .front()
                .map_or(self.text.len(), |(ahead, _)| *ahead);
            let of_text = sent.min(until - self.text_sent);
            self.text_sent += of_text;
            sent -= of_text;
            let Some((_, piece)) = self.pieces.front_mut().filter(|_| sent > 0) else {
                break;
            };
            let of_piece = sent.min(piece.len());
            piece.advance(of_piece);
            self.pieces_bytes -= of_piece;
            sent -= of_piece;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
        if self.text_sent >= SENT_BYTES_MAX {
            // A client that never takes all of it would have it grow.
            self.text.drain(..self.text_sent);
            for (ahead, _) in &mut self.pieces {
                *ahead -= self.text_sent;
            }
            self.text_sent = 0;
        }
    }

    /// Takes the room for text, with nothing in it, once all was sent.
    pub(crate) fn take_room(&mut self) -> Vec<u8> {
        let mut room = std::mem::take(&mut self.text);
        room.clear();
        self.text_sent = 0;
        room
    }

    /// Whether there is room for text already.
    pub(crate) const fn has_room(&self) -> bool {
        self.text.capacity() > 0
    }

    /// Gives room for text.
    pub(crate) fn give_room(&mut self, room: Vec<u8>) {
        if self.text.capacity() == 0 {
            self.text = room;
        }
    }
}

/// What is sent with one call, at the most.
pub(crate) const SLICES_MAX: usize = 33;
/// Text that was sent and is still there.
const SENT_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn waiting(outbox: &Outbox) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = outbox.slices(&mut slices);
        slices[..count]
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_sent_in_order_however_little_at_once(
            pieces in prop::collection::vec((0_usize..40_000, any::<u8>()), 1..60),
            step in 1_usize..90_000,
        ) {
            let mut outbox = Outbox::default();
            let (mut wanted, mut sent) = (Vec::new(), Vec::new());
            for (size, byte) in pieces {
                outbox.text().extend_from_slice(b"head");
                outbox.push(Bytes::from(vec![byte; size]));
                wanted.extend_from_slice(b"head");
                wanted.extend(std::iter::repeat_n(byte, size));
                let now = waiting(&outbox);
                let now = &now[..step.min(now.len())];
                sent.extend_from_slice(now);
                outbox.advance(now.len());
            }
            while !outbox.is_empty() {
                let now = waiting(&outbox);
                prop_assert!(!now.is_empty());
                outbox.advance(now.len());
                sent.extend_from_slice(&now);
            }
            prop_assert!(sent == wanted && waiting(&outbox).is_empty());
        }
    }
}
