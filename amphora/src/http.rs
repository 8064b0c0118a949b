//! HTTP listeners: requests in, a member's answers out, each message written anew from its parsed form.
//!
//! One task serves a client connection whole: what the client says, the service below it, and whichever connection to a
//! member the present request uses are all polled in turn by that one task. Nothing is sent
//! between tasks and no connection to a member costs a task of its own.

mod body;
mod clerk;
mod exchange;
mod guard;
mod h2;
mod keeping;
mod metrics;
mod note;
mod policy;
mod refusal;
mod rewrite;
mod server;
mod session;
mod tunnel;

pub(crate) use note::turned_away;
pub(crate) use rewrite::{answer as fit_answer, untold};
pub(crate) use server::serve;
pub(crate) use session::Ends;

#[cfg(test)]
mod tests;
