//! What hosts are told, and how this one is called among them.

use std::{fs, io, sync::Arc};

use axum::Router;
use krater_amphora_api::HostAccessLog;

use super::{AUTHORITY, Foundation, StartError, zone_names};
use crate::{
    chance,
    config::{AccessLog, Config, StoreConfig},
    dial::Dialer,
    fleet::Here,
    hosts::{Conduct, Parts},
    knowledge::Knowledge,
    operator::{
        authority::{self, Office},
        hosts::{self, Desk},
    },
    pki::Authority,
    rotation::Home,
};

/// What operators ask of hosts, and of the authority.
pub(super) fn router(parts: &Foundation) -> Router {
    let desk = Desk {
        application: parts.application.clone(),
        hosts: Arc::clone(&parts.hosts),
        fleet: Arc::clone(&parts.fleet),
        known: parts.known.clone(),
    };
    let office = Office {
        application: parts.application.clone(),
        rotation: Arc::clone(&parts.rotation),
        known: parts.known.clone(),
    };
    hosts::router(desk).merge(authority::router(office))
}

/// Where the authority rests.
pub(super) fn home(config: &Config, known: &Knowledge) -> Result<Home, StartError> {
    let StoreConfig::Server(server) = &config.store else {
        return Ok(Home::Folder);
    };
    Ok(Home::Database {
        store: known.store.clone(),
        key: server.seal_key().map_err(StartError::Secret)?,
        name: AUTHORITY,
    })
}

pub(super) fn parts(
    config: &Config,
    known: &Knowledge,
    authority: &Arc<Authority>,
    dialer: &Arc<dyn Dialer>,
) -> Parts {
    Parts {
        store: known.store.clone(),
        neighbours: known.neighbours.clone(),
        authority: Arc::clone(authority),
        dialer: Arc::clone(dialer),
        conduct: Conduct {
            controllers: config.controllers.clone(),
            heartbeat: config.fleet.heartbeat,
            drain: config.fleet.drain,
            access_log: access_log(&config.access_log),
            tunnel_port: config.network.vxlan.port,
        },
        silence: config.fleet.silence,
        zones: zone_names(config),
    }
}

pub(super) const fn here(config: &Config) -> Here {
    if config.fleet.on_this_host {
        Here::Wanted
    } else {
        Here::Unwanted
    }
}

fn access_log(log: &AccessLog) -> Option<HostAccessLog> {
    Some(HostAccessLog {
        to: log.to.clone()?,
        file_bytes_max: log.file_bytes_max as u64,
        files_max: log.files_max,
        facility: log.facility,
    })
}

/// Which amphorae are this controller's to start and end: those that it has folders of. Its name is made once.
pub(crate) fn host(config: &Config) -> Result<String, StartError> {
    if config.store == StoreConfig::Embedded {
        return Ok(String::new());
    }
    let path = config.state_dir.join("host");
    let failed =
        |error: io::Error| StartError::Secret(format!("cannot use {}: {error}", path.display()));
    match fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => {
            // The name is for people alone.
            let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = format!("{}-{}", name.trim(), chance::random_uuid().simple());
            fs::write(&path, &host).map_err(failed)?;
            Ok(host)
        }
    }
}
