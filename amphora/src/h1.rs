//! HTTP/1 as bytes: heads and bodies read out of what was received, and written (RFC 9112).
//!
//! Nothing here reads a socket or a clock, so all of it is tested as plain functions. It is strict: what two readers
//! could understand in two ways is refused, never repaired, since one of the two would be a member.

mod body;
mod chunked;
mod encode;
mod fault;
mod field;
mod head;

pub(crate) use body::{Next, Reader, taken};
pub(crate) use chunked::harmless;
pub(crate) use encode::{Place, Sender, Toward, answer_head, interim_head, request_head};
pub(crate) use fault::Fault;
pub(crate) use field::fault_of;
pub(crate) use head::{
    AnswerHead, Asked, Framing, RequestHead, Search, answer, may_be_answer, may_be_request, request,
};

#[cfg(test)]
mod tests;
