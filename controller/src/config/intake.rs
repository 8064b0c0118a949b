//! Where amphorae send their reports.

use std::fmt::Write as _;

use serde::Deserialize;

use super::{Config, quoted};

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct IntakeFile {
    pub(super) listen: Option<String>,
    pub(super) controllers: Vec<String>,
}

/// The controllers that amphorae are told of. The error is a sentence.
pub(super) fn parse_controllers(all: Vec<String>) -> Result<Vec<String>, String> {
    if all.len() > CONTROLLERS_MAX {
        return Err(format!("{} are more than {CONTROLLERS_MAX}", all.len()));
    }
    let is_place = |text: &str| {
        text.rsplit_once(':').is_some_and(|(host, port)| {
            let is_name = |host: &str| {
                !host.is_empty()
                    && host
                        .bytes()
                        .all(|it| it.is_ascii_alphanumeric() || b".-".contains(&it))
            };
            let is_v6 = |host: &str| {
                let inner = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'));
                inner.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
            };
            (is_name(host) || is_v6(host)) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
    };
    match all.iter().find(|text| !is_place(text)) {
        Some(text) => Err(format!(
            "{text:?} is not a host and a port like controller-1.example.test:9877"
        )),
        None => Ok(all),
    }
}

/// Writes this section, and that of metrics, as they are read.
pub(super) fn print(config: &Config, out: &mut String) {
    let places: Vec<String> = config.controllers.iter().map(|it| quoted(it)).collect();
    let metrics = config
        .metrics
        .map_or_else(|| "off".to_owned(), |address| address.to_string());
    let _ = write!(
        out,
        "\n[intake]\nlisten = \"{}\"\ncontrollers = [{}]\n\n[metrics]\nlisten = \"{metrics}\"\n",
        config.intake,
        places.join(", ")
    );
}

/// Amphorae try one after the other.
const CONTROLLERS_MAX: usize = 16;
