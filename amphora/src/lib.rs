//! The data plane process: sockets, HTTP, probes and the agent. It turns the core's answers into system calls.

mod agent;
mod channel;
pub mod cli;
mod clock;
mod config;
mod connect;
mod date;
mod h1;
mod heartbeat;
mod housekeeper;
mod http;
mod identity;
mod keep;
mod l4;
mod limits;
mod listen;
mod local;
mod log;
mod managed;
pub mod meter;
mod metrics;
mod order;
pub mod plane;
mod probe;
mod relay;
mod seat;
mod standalone;
mod strict;
mod supervise;
mod tallies;
mod tap;
#[cfg(test)]
mod testbed;
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "listeners come to use it with the next change")
)]
mod tls;
mod upstream;
mod wire;
mod worker;
pub mod world;
