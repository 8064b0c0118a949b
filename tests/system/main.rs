//! The whole system as its users meet it: real programs, real sockets, a network namespace for each test.

mod calls;
mod capacity;
mod causes;
mod change;
mod crash;
mod datagrams;
mod disk;
mod documents;
mod failover;
mod faults;
mod health;
mod http;
mod journey;
mod network;
mod operator;
mod policies;
mod protocols;
mod refusal;
mod scene;
mod several;
mod standalone;
mod statistics;
mod timeouts;
mod tokens;
mod traffic;
mod treatment;
