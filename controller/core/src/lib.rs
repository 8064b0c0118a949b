//! The domain of the controller: what tenants may ask, whether it is admissible, what an amphora should do about it,
//! and what state that leaves things in. Pure decisions only: clocks, sockets, chance and storage are arguments or
//! live elsewhere.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

pub mod admit;
pub mod audit;
pub mod blame;
pub mod caller;
pub mod carried;
pub mod catalogue;
pub mod change;
pub mod cipher;
pub mod command;
pub mod compile;
pub mod envelope;
pub mod failures;
pub mod limits;
pub mod liveness;
pub mod matrix;
pub mod model;
pub mod network;
pub mod place;
pub mod plan;
pub mod policy;
pub mod query;
pub mod quota;
pub mod refusal;
pub mod repair;
pub mod resource;
pub mod retry;
pub mod rollup;
pub mod rules;
#[cfg(test)]
mod sample;
pub mod scan;
pub mod secret;
pub mod status;
pub mod tally;
pub mod tree;
pub mod turns;
pub mod vips;
