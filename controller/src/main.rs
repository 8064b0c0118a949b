//! `krater`: the controller, and what operators type.

use std::process::ExitCode;

use clap::Parser as _;

mod cli;
mod controller;
mod demo;
mod run;
mod up;

mod application;
mod fleet;
mod intake;
mod knowledge;
mod neighbours;
mod networking;
mod operator;
mod reconcile;
mod request_log;
mod scrape;
mod trail;
mod vault;

mod amphora_client;
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

mod cause;
mod chance;
mod clock;
mod config;
mod limits;
mod pki;
mod state_lock;

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod testbed;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
