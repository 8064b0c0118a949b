//! The controller: what `krater` is made of.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod controller;
mod demo;
mod run;
pub mod simulated;
mod up;

mod application;
mod fleet;
mod hosts;
mod intake;
mod knowledge;
mod neighbours;
mod networking;
mod operator;
mod reconcile;
mod repair;
mod request_log;
mod rotation;
mod scrape;
mod trail;
mod vault;

mod amphora_client;
pub mod dial;
mod hearing;
mod http_client;
mod seal;
mod serve;
mod signals;

mod census;
mod metrics;
mod placements;
mod settled;
mod sightings;

mod board;
mod cause;
mod chance;
mod clock;
mod config;
mod limits;
mod pki;
pub mod realm;
mod state_lock;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod testbed;

/// Does what was typed.
#[must_use]
pub fn main() -> ExitCode {
    cli::Cli::parse().run()
}
