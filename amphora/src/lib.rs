//! The data plane process: sockets, HTTP, probes and the agent. It turns the core's answers into system calls.

mod agent;
pub mod cli;
mod clock;
mod config;
mod connect;
mod heartbeat;
mod housekeeper;
mod http;
mod identity;
mod keep;
mod limits;
mod listen;
mod log;
mod managed;
pub mod meter;
mod metrics;
pub mod plane;
mod probe;
mod relay;
mod standalone;
mod strict;
mod supervise;
mod tallies;
mod tcp;
#[cfg(test)]
mod testbed;
mod worker;
pub mod world;
