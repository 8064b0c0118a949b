//! Where what is known rests: a file of this host's, or a database that several controllers share.

use std::{env, fmt::Write as _, path::PathBuf, time::Duration};

use krater_controller_store::ServerSettings;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Flaws, lasting,
    quantity::{parse_duration, print_duration},
    quoted, within,
};
use crate::seal::{SealKey, secret_of_file};

/// The store, as chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoreConfig {
    /// SQLite in the state folder.
    Embedded,
    /// PostgreSQL.
    Server(Box<ServerConfig>),
}

/// A database on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerConfig {
    pub(crate) url: String,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) seal_key_file: Option<PathBuf>,
    pub(crate) connections_max: u32,
    pub(crate) statement_timeout: Duration,
}

/// The section as it is written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StoreFile {
    url: Option<String>,
    password_file: Option<String>,
    seal_key_file: Option<String>,
    connections_max: Option<usize>,
    statement_timeout: Option<String>,
}

impl ServerConfig {
    /// The settings with the secrets that files and the environment hold. The error is a sentence.
    pub(crate) fn settings(&self) -> Result<ServerSettings, String> {
        let password = match &self.password_file {
            Some(path) => Some(secret_of_file(path)?),
            None => env::var(PASSWORD_VARIABLE).ok().map(Zeroizing::new),
        };
        Ok(ServerSettings {
            url: self.url.clone(),
            password,
            connections_max: self.connections_max,
            statement_timeout: self.statement_timeout,
        })
    }

    /// What secrets in the database are sealed with. The error is a sentence.
    pub(crate) fn seal_key(&self) -> Result<SealKey, String> {
        let text = match &self.seal_key_file {
            Some(path) => secret_of_file(path)?,
            None => env::var(SEAL_KEY_VARIABLE).map(Zeroizing::new).map_err(|_| {
                format!(
                    "a key to seal secrets with is needed beside store.url, the same for all controllers: \
                    openssl rand -hex 32 makes one for store.seal_key_file or {SEAL_KEY_VARIABLE}"
                )
            })?,
        };
        SealKey::parse(&text)
    }
}

/// The settings, or notes of what is wrong with them.
pub(super) fn parse(
    file: StoreFile,
    url: Option<String>,
    flaws: &mut Flaws,
) -> Option<StoreConfig> {
    let timeout = file
        .statement_timeout
        .map_or(Ok(TIMEOUT_USUAL), |text| parse_duration(&text));
    let timeout = timeout.and_then(|timeout| {
        lasting(
            timeout,
            Duration::from_millis(100),
            Duration::from_secs(600),
        )
    });
    let statement_timeout = flaws.keep("store.statement_timeout", timeout);
    let connections = within(file.connections_max.unwrap_or(CONNECTIONS_USUAL), 2, 1_000)
        .and_then(|most| u32::try_from(most).map_err(|error| error.to_string()));
    let connections_max = flaws.keep("store.connections_max", connections);
    let Some(url) = url.or(file.url) else {
        for (name, is_set) in [
            ("store.password_file", file.password_file.is_some()),
            ("store.seal_key_file", file.seal_key_file.is_some()),
        ] {
            if is_set {
                flaws
                    .0
                    .push(format!("{name}: means nothing without store.url"));
            }
        }
        return Some(StoreConfig::Embedded);
    };
    flaws.keep(
        "store.url",
        ServerSettings::check_url(&url).map_err(|reason| format!("it {reason}")),
    )?;
    Some(StoreConfig::Server(Box::new(ServerConfig {
        url,
        password_file: file.password_file.map(PathBuf::from),
        seal_key_file: file.seal_key_file.map(PathBuf::from),
        connections_max: connections_max?,
        statement_timeout: statement_timeout?,
    })))
}

/// Writes the section as it is read.
pub(super) fn print(store: &StoreConfig, out: &mut String) {
    let StoreConfig::Server(server) = store else {
        return;
    };
    let _ = write!(out, "\n[store]\nurl = {}\n", quoted(&server.url));
    for (name, path) in [
        ("password_file", &server.password_file),
        ("seal_key_file", &server.seal_key_file),
    ] {
        if let Some(path) = path {
            let _ = writeln!(out, "{name} = {}", quoted(&path.display().to_string()));
        }
    }
    let _ = write!(
        out,
        "connections_max = {}\nstatement_timeout = \"{}\"\n",
        server.connections_max,
        print_duration(server.statement_timeout)
    );
}

const PASSWORD_VARIABLE: &str = "KRATER_STORE_PASSWORD";
const SEAL_KEY_VARIABLE: &str = "KRATER_SEAL_KEY";
const CONNECTIONS_USUAL: usize = 16;
const TIMEOUT_USUAL: Duration = Duration::from_secs(10);
