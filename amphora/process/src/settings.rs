//! How amphorae are run.

use std::{net::IpAddr, path::PathBuf, time::Duration};

/// How amphorae are run.
#[derive(Clone, Debug)]
pub struct ProcessSettings {
    /// The program, `krater-amphora`.
    pub binary: PathBuf,
    /// Where each amphora gets a folder named by its id, e.g. `<state>/amphorae`. Made (mode 0700) when it is absent.
    pub directory: PathBuf,
    /// Worker threads of each amphora; one per core when `None`.
    pub workers: Option<usize>,
    /// Between two reports of an amphora.
    pub heartbeat: Duration,
    /// How long connections get to end by themselves when an amphora is stopped.
    pub drain: Duration,
    /// Where they tell of requests and connections; as they do without settings when `None`.
    pub access_log: Option<AccessLogSettings>,
    /// The address of this host that their agents and metrics endpoints listen at.
    pub address: IpAddr,
}

/// How one amphora is run where that is not as the settings say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conduct {
    /// Between two of its reports.
    pub heartbeat: Duration,
    /// How long connections get to end by themselves when it is stopped.
    pub drain: Duration,
    /// Where it tells of requests and connections; as it does without settings when `None`.
    pub access_log: Option<AccessLogSettings>,
}

/// Where amphorae tell of requests and connections, in their own words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AccessLogSettings {
    /// `stdout`, `file:/PATH`, `syslog+udp://ADDRESS:PORT` or `syslog+tcp://ADDRESS:PORT`.
    pub to: String,
    /// A file that has grown to this is put aside.
    pub file_bytes_max: usize,
    /// So many of those are kept.
    pub files_max: u8,
    /// The facility of syslog messages.
    pub facility: u8,
}
