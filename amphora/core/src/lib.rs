//! Every decision of the data plane, and nothing that needs a clock, a socket or chance: what a snapshot may say
//! ([`snapshot`]), which member serves a client ([`roster`]) and keeps it ([`affinity`]), what becomes of a request
//! ([`l7`]), whether a member is healthy ([`monitor`]), who may connect ([`gate`]), to whom a client's datagrams go
//! ([`flow`]), what it is told if nobody takes them ([`icmp`]), what changes between two snapshots ([`transition`]),
//! which thread serves a connection ([`spread`]), whose turn it is at an address ([`vrrp`]), what those who take turns
//! tell each other ([`peers`]), what members are told of clients ([`forwarded`], [`certificate`]) and browsers of
//! listeners ([`hsts`]), and controllers of all that ([`telling`]).
//!
//! Time comes in as [`time::Instant`], chance as a number; both are the edge's to take.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod affinity;
mod balance;
pub mod certificate;
pub mod conduct;
pub mod cookie;
pub mod flow;
pub mod forwarded;
pub mod gate;
pub mod hsts;
pub mod icmp;
pub mod l7;
pub mod limits;
pub mod monitor;
pub mod peers;
pub mod proxy_protocol;
pub mod roster;
pub mod snapshot;
pub mod spread;
pub mod succession;
pub mod telling;
pub mod time;
pub mod trace;
pub mod transition;
pub mod vrrp;

#[cfg(test)]
mod sample;
