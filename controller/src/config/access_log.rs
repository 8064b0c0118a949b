//! `[access_log]`: where amphorae tell of requests and connections.

use std::{fmt::Write as _, net::SocketAddr};

use krater_controller_core::limits::ACCESS_LOG_ONE_IN_MAX;
use serde::Deserialize;

use super::{
    Flaws,
    quantity::{parse_bytes, print_bytes},
    quoted, within,
};

/// Where amphorae tell of requests and connections, and of how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    /// As amphorae read it; `None`: nowhere.
    pub(crate) to: Option<String>,
    /// Requests or connections there are for one that is told, where a flavor says nothing; 0: none are.
    pub(crate) one_in: u32,
    pub(crate) file_bytes_max: usize,
    pub(crate) files_max: u8,
    pub(crate) facility: u8,
}

impl AccessLog {
    /// What load balancers have of it whose flavor says nothing; `None` if there is none.
    pub(super) fn usual_one_in(&self) -> Option<u32> {
        self.to.as_ref().map(|_| self.one_in)
    }
}

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AccessLogFile {
    to: Option<String>,
    one_in: Option<usize>,
    file_max: Option<String>,
    files_max: Option<usize>,
    facility: Option<usize>,
}

/// The settings, or notes of what is wrong with them.
pub(super) fn parse(file: AccessLogFile, flaws: &mut Flaws) -> Option<AccessLog> {
    let to = match file.to.as_deref() {
        None | Some(OFF) => Ok(None),
        Some(target) if is_target(target) => Ok(Some(target.to_owned())),
        Some(other) => Err(format!(
            "{other:?} is not off, stdout, file:/PATH, syslog+udp://ADDRESS:PORT or syslog+tcp://ADDRESS:PORT"
        )),
    };
    let to = flaws.keep("access_log.to", to);
    let most = usize::try_from(ACCESS_LOG_ONE_IN_MAX).unwrap_or(usize::MAX);
    let one_in = within(file.one_in.unwrap_or(1), 0, most);
    let one_in = one_in.and_then(|one_in| u32::try_from(one_in).map_err(|error| error.to_string()));
    let one_in = flaws.keep("access_log.one_in", one_in);
    let bytes = file.file_max.map_or(Ok(FILE_BYTES_USUAL), |text| {
        parse_bytes(&text).and_then(|bytes| within(bytes, FILE_BYTES_LEAST, FILE_BYTES_MOST))
    });
    let file_bytes_max = flaws.keep("access_log.file_max", bytes);
    let mut small = |setting, given: Option<usize>, usual: usize, most| {
        let kept = within(given.unwrap_or(usual), 0, most);
        let kept = kept.and_then(|kept| u8::try_from(kept).map_err(|error| error.to_string()));
        flaws.keep(setting, kept)
    };
    let files_max = small("access_log.files_max", file.files_max, 5, 255);
    let facility = small("access_log.facility", file.facility, 16, 23);
    Some(AccessLog {
        to: to?,
        one_in: one_in?,
        file_bytes_max: file_bytes_max?,
        files_max: files_max?,
        facility: facility?,
    })
}

/// Whether amphorae take it.
fn is_target(text: &str) -> bool {
    let collector = text
        .strip_prefix("syslog+udp://")
        .or_else(|| text.strip_prefix("syslog+tcp://"));
    match (text.strip_prefix("file:"), collector) {
        (Some(path), _) => path.starts_with('/'),
        (None, Some(collector)) => collector
            .parse()
            .is_ok_and(|address: SocketAddr| address.port() != 0),
        (None, None) => text == "stdout",
    }
}

/// Writes the section as it is read.
pub(super) fn print(log: &AccessLog, out: &mut String) {
    let AccessLog {
        to,
        one_in,
        file_bytes_max,
        files_max,
        facility,
    } = log;
    let to = quoted(to.as_deref().unwrap_or(OFF));
    let size = print_bytes(*file_bytes_max);
    let _ = write!(
        out,
        "\n[access_log]\nto = {to}\none_in = {one_in}\nfile_max = \"{size}\"\nfiles_max = {files_max}\n\
         facility = {facility}\n"
    );
}

const OFF: &str = "off";
const FILE_BYTES_USUAL: usize = 100 << 20;
/// A smaller file would be put aside all the time.
const FILE_BYTES_LEAST: usize = 1 << 20;
const FILE_BYTES_MOST: usize = 1 << 40;
