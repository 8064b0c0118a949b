//! `[log]`: what is logged and how.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Flaws, Overrides, quoted};

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogFile {
    filter: Option<String>,
    format: Option<String>,
}

/// Takes the settings of the log.
pub(super) fn parse(file: LogFile, overrides: &Overrides, flaws: &mut Flaws) -> Option<Log> {
    let filter = overrides
        .log
        .clone()
        .or(file.filter)
        .unwrap_or_else(|| DEFAULT_FILTER.to_owned());
    let parsed = tracing_subscriber::EnvFilter::try_new(&filter).map_err(|error| error.to_string());
    let filter = flaws.keep("log.filter", parsed.map(|_| filter));
    let format = match file.format.as_deref() {
        None | Some("text") => Ok(LogFormat::Text),
        Some("json") => Ok(LogFormat::Json),
        Some(other) => Err(format!("{other:?} is neither \"text\" nor \"json\"")),
    };
    let format = flaws.keep("log.format", format);
    Some(Log {
        filter: filter?,
        format: format?,
    })
}

/// The settings as they are written.
pub(super) fn print(log: &Log, out: &mut String) {
    let (filter, format) = (quoted(&log.filter), log.format.name());
    let _ = write!(out, "\n[log]\nfilter = {filter}\nformat = \"{format}\"\n");
}

impl LogFormat {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

const DEFAULT_FILTER: &str = "info";
