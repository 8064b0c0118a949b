//! TLS on the data path: what a spec says of it, made ready for handshakes; the handshakes; what is known of a peer
//! afterwards.
//!
//! All that can fail for what a spec holds fails when it is made ready, before anything is put in force (I10). A
//! handshake reads what was made ready and shares nothing else with other threads, but for the keys of its tickets.

mod acceptor;
mod anybody;
mod connector;
mod failure;
mod heard;
pub(crate) mod material;
mod names;
mod peer;

pub use acceptor::Acceptor;
pub(crate) use acceptor::Failed;
pub(crate) use anybody::Anybody;
pub use connector::Connector;
pub(crate) use connector::Offer;
pub(crate) use failure::{is_refusal, of_member};
pub(crate) use peer::Peer;
