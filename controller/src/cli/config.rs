//! `krater config …`.

use std::process::ExitCode;

use super::{ConfigVerb, refuse, say};
use crate::config::DEFAULTS;

pub(super) fn run(verb: ConfigVerb) -> ExitCode {
    let settings = match &verb {
        ConfigVerb::Default => {
            say(DEFAULTS);
            return ExitCode::SUCCESS;
        }
        ConfigVerb::Check { settings } | ConfigVerb::Show { settings } => settings,
    };
    match settings.load() {
        Ok(config) if matches!(verb, ConfigVerb::Show { .. }) => say(&config.print()),
        Ok(_) => say("The settings are fine.\n"),
        Err(flaws) => return refuse(&flaws),
    }
    ExitCode::SUCCESS
}
