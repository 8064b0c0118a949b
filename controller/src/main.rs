//! `krater`: the controller, and what operators type.

use std::process::ExitCode;

fn main() -> ExitCode {
    krater_controller::main()
}
