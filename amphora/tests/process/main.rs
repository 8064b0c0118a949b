//! The program as a process: what users, controllers and operators see of it from outside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "all of this is tests: what fails here must say so at once"
)]

mod controller;
mod managed;
mod rig;
mod standalone;
mod supervised;
