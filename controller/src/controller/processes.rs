//! Amphorae as processes of this host: which program they are, and how they are run.

use std::{
    env, fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use krater_driver_local::{AccessLogSettings, ProcessCompute, ProcessSettings};

use super::StartError;
use crate::config::{AccessLog, Config};

pub(super) fn compute(config: &Config) -> Result<ProcessCompute, StartError> {
    let binary = match amphora_binary(config.fleet.amphora_binary.as_deref()) {
        // None is started here; those that run can be ended without it.
        Err(_) if !config.fleet.on_this_host => PathBuf::from(AMPHORA_BINARY),
        found => found?,
    };
    let settings = ProcessSettings {
        binary,
        directory: config.state_dir.join("amphorae"),
        workers: config.fleet.workers,
        heartbeat: config.fleet.heartbeat,
        drain: config.fleet.drain,
        access_log: access_log(&config.access_log),
        address: Ipv4Addr::LOCALHOST.into(),
    };
    let compute = ProcessCompute::new(settings).map_err(StartError::Compute)?;
    Ok(compute.over(config.network.vxlan.underlay()))
}

fn access_log(log: &AccessLog) -> Option<AccessLogSettings> {
    Some(AccessLogSettings {
        to: log.to.clone()?,
        file_bytes_max: log.file_bytes_max,
        files_max: log.files_max,
        facility: log.facility,
    })
}

/// The program that amphorae are: the one chosen, else the one beside this program.
fn amphora_binary(chosen: Option<&Path>) -> Result<PathBuf, StartError> {
    let path = match chosen {
        Some(path) => path.to_owned(),
        None => {
            let own = env::current_exe().map_err(|error| StartError::NoAmphoraBinary {
                looked_at: PathBuf::from(AMPHORA_BINARY),
                reason: format!("it is not known where this program is: {error}"),
            })?;
            own.with_file_name(AMPHORA_BINARY)
        }
    };
    let missing = |reason: String| StartError::NoAmphoraBinary {
        looked_at: path.clone(),
        reason,
    };
    let metadata = fs::metadata(&path).map_err(|error| missing(error.to_string()))?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(missing("it is not a program".to_owned()));
    }
    path.canonicalize()
        .map_err(|error| missing(error.to_string()))
}

const AMPHORA_BINARY: &str = "krater-amphora";
