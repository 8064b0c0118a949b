//! What amphorae that take turns at a load balancer tell each other of the clients that they keep with members: messages
//! as bytes, and whose memory of a pool both go on with.
//!
//! A client travels as what a table keeps of its hash ([`crate::affinity::Entry`]): neither its address nor its cookie
//! can be told from that. Two memories tell each other something only if they hash by the same key, so the first thing
//! that two say of a pool is the key of each ([`Offer`]), and one of them takes on the other's ([`Accord`]).

mod accord;
mod batch;
mod message;

pub use accord::{Accord, Offer, Standing};
pub use batch::Batch;
pub use message::{HEADER_BYTES, Malformed, Message, Placed, Told, read_header};
