//! HTTP/2 as bytes, for whoever serves it: frames, fields, streams and windows, without IO (RFC 9113).
//!
//! What was received goes in, requests come out; answers go in, what is to be sent comes out. Nothing here reads a
//! socket, and all of a connection is on one thread: its streams are places in a list, and who waits for one is woken by
//! what has come. It is strict: a request that two readers could understand in two ways is refused, never repaired.

mod call;
mod census;
mod encode;
mod engine;
mod frame;
mod head;
mod hpack;
mod huffman;
mod outbox;
mod receive;
mod send;
mod streams;
mod table;

pub(crate) use call::{Call, Incoming, Lost};
pub(crate) use engine::{Engine, Heard, Line};
pub(crate) use frame::Reason;
pub(crate) use head::Asked;
pub(crate) use outbox::{Outbox, SLICES_MAX};

#[cfg(test)]
mod tests;
