//! What is never passed on: requests and answers that two readers could understand in two ways (RFC 9110, RFC 9112, RFC 9113).
//!
//! Judged are the bytes that the member saw. They are read by several witnesses, each lenient in its own way, as members
//! are; a request that was passed on must be the same single request to all of them.

mod answers;
mod fields;
mod ground;
mod http2;
mod requests;
mod slow;
mod witness;
