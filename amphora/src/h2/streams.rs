//! The streams of a connection: where each is, how far it has come, and what it may still send (RFC 9113 section 5).

use std::{collections::VecDeque, task::Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::limits::{JOINED_BYTES_MAX, STREAM_WINDOW_BYTES};

/// Where a stream is. It stays there until whoever answers it lets go of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    at: usize,
    pub(super) id: u32,
}

/// Why a stream will not be answered to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The client has taken it back.
    #[error("the client has taken its request back")]
    TakenBack,
    /// What came of it is malformed, or more than it may send.
    #[error("the request breaks the rules of HTTP/2")]
    Wrong,
}

/// A stream.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Its number; 0: it is nobody's.
    id: u32,
    /// What the client takes of it.
    pub(super) window: i64,
    /// What the client may send of it.
    pub(super) room: i64,
    /// What of that has come and was not taken yet.
    pub(super) held: u32,
    /// What was taken and the client was not given room for again.
    pub(super) owed: u32,
    /// What of its body is to come, if that is known.
    pub(super) left: Option<u64>,
    pub(super) inbox: Inbox,
    pub(super) trailers: Option<HeaderMap>,
    /// All of the request has come.
    pub(super) received: bool,
    /// All of the answer was put to what waits to be sent.
    pub(super) sent: bool,
    pub(super) lost: Option<Lost>,
    pub(super) waker: Option<Waker>,
    pub(super) waits: Waits,
}

/// What a stream waits for to send more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Waits {
    #[default]
    Nothing,
    /// The client to take more of it.
    Window,
    /// Its turn among those that the connection has no room for.
    Turn,
    /// Nothing: its turn has come.
    Called,
}

/// What has come of a body and was not taken yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pieces: VecDeque<Bytes>,
    /// Small pieces, joined: each would keep all of what it came in.
    small: BytesMut,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// By place: the number of whoever is there, if frames may still come for it.
    ids: Vec<u32>,
    places: Vec<Stream>,
    free: Vec<usize>,
    /// So many count for what a client may have at once.
    open: usize,
}

impl Stream {
    /// Lets whoever waits for it go on.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl Inbox {
    pub(super) fn put(&mut self, piece: Bytes) {
        if piece.len() <= JOINED_BYTES_MAX {
            self.small.extend_from_slice(&piece);
            return;
        }
        if !self.small.is_empty() {
            self.pieces.push_back(self.small.split().freeze());
        }
        self.pieces.push_back(piece);
    }

    pub(super) fn take(&mut self) -> Option<Bytes> {
        self.pieces
            .pop_front()
            .or_else(|| (!self.small.is_empty()).then(|| std::mem::take(&mut self.small).freeze()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.small.is_empty()
    }
}

impl Streams {
    /// How many there are that count for what a client may have at once.
    pub(super) const fn open(&self) -> usize {
        self.open
    }

    /// Whether nobody answers any.
    pub(super) const fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Adds one, of which the client takes so much.
    pub(super) fn add(&mut self, id: u32, window: i64) -> Key {
        let at = self.free.pop().unwrap_or_else(|| {
            self.places.push(Stream::default());
            self.ids.push(0);
            self.places.len() - 1
        });
        if let (Some(place), Some(known)) = (self.places.get_mut(at), self.ids.get_mut(at)) {
            (place.id, *known) = (id, id);
            (place.window, place.room) = (window, i64::from(STREAM_WINDOW_BYTES));
        }
        self.open += 1;
        Key { at, id }
    }

    /// The one of that number, if frames may still come for it.
    pub(super) fn find(&self, id: u32) -> Option<Key> {
        let at = self.ids.iter().position(|known| *known == id)?;
        (id > 0).then_some(Key { at, id })
    }

    pub(super) fn at(&mut self, key: Key) -> Option<&mut Stream> {
        self.places
            .get_mut(key.at)
            .filter(|stream| stream.id == key.id)
    }

    /// Has no further frames come for it: it is closed, as far as the protocol goes.
    pub(super) fn close(&mut self, key: Key) {
        if let Some(known) = self.ids.get_mut(key.at).filter(|known| **known == key.id) {
            *known = 0;
            self.open -= 1;
        }
    }

    /// Lets go of it. Answers what of it has come and was not taken.
    pub(super) fn remove(&mut self, key: Key) -> u32 {
        self.close(key);
        let Some(stream) = self.at(key) else {
            return 0;
        };
        let held = std::mem::take(stream).held;
        self.free.push(key.at);
        if self.is_empty() && self.places.len() > PLACES_KEPT {
            *self = Self::default();
        }
        held
    }

    /// All that frames may still come for.
    pub(super) fn each_open(&mut self) -> impl Iterator<Item = &mut Stream> {
        let known = self.ids.iter();
        let all = known.zip(&mut self.places);
        all.filter(|(id, _)| **id > 0).map(|(_, stream)| stream)
    }
}

/// Places that a connection keeps which has no request under way.
const PLACES_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_and_who_was_there_before_is_not_found() {
        let mut streams = Streams::default();
        let first = streams.add(1, 10);
        let second = streams.add(3, 10);
        assert_eq!((streams.find(1), streams.find(5)), (Some(first), None));
        assert_eq!((streams.find(0), streams.open()), (None, 2));
        streams.close(first);
        assert_eq!((streams.find(1), streams.open()), (None, 1));
        assert!(streams.at(first).is_some() && !streams.is_empty());
        streams.at(first).unwrap().held = 7;
        assert_eq!((streams.remove(first), streams.remove(first)), (7, 0));
        let third = streams.add(5, 20);
        assert_eq!(third.at, first.at);
        assert!(streams.at(first).is_none());
        let third = streams.at(third).unwrap();
        assert_eq!((third.held, third.window), (0, 20));
        assert_eq!(streams.each_open().count(), 2);
        streams.remove(second);
        assert_eq!(streams.open(), 1);
    }

    #[test]
    fn small_pieces_are_joined_and_all_come_out_in_order() {
        let mut inbox = Inbox::default();
        let large = vec![7; JOINED_BYTES_MAX + 1];
        for piece in [&b"ab"[..], b"c", &large, b"d", b"e"] {
            inbox.put(Bytes::copy_from_slice(piece));
        }
        let pieces: Vec<_> = std::iter::from_fn(|| inbox.take()).collect();
        assert_eq!(pieces, [&b"abc"[..], &large, b"de"]);
        assert!(inbox.is_empty());
    }
}
