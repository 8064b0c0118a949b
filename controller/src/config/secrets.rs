//! Settings of where secrets are.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{Flaws, lasting, parse_duration, print_duration, quoted};

/// Where the secrets are that listeners and pools refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Secrets {
    pub(crate) driver: SecretsDriver,
    /// How often all in use are read again though nothing was told to have changed.
    pub(crate) refresh: Duration,
}

/// Who has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretsDriver {
    /// A folder of this host.
    File {
        /// Where it is, if not in the state folder.
        path: Option<PathBuf>,
    },
}

impl Secrets {
    /// The folder they are in, if it is one.
    pub(crate) fn folder(&self, state_dir: &Path) -> Option<PathBuf> {
        match &self.driver {
            SecretsDriver::File { path } => {
                Some(path.clone().unwrap_or_else(|| state_dir.join(FOLDER)))
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretsFile {
    driver: Option<String>,
    refresh: Option<String>,
    file: FileFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileFile {
    path: Option<String>,
}

pub(super) fn parse(file: SecretsFile, flaws: &mut Flaws) -> Option<Secrets> {
    let refresh = file.refresh.map_or(Ok(REFRESH_DEFAULT), |text| {
        lasting(parse_duration(&text)?, REFRESH_MIN, REFRESH_MAX)
    });
    let refresh = flaws.keep("secrets.refresh", refresh);
    let driver = match file.driver.as_deref() {
        None | Some("file") => Some(SecretsDriver::File {
            path: file.file.path.map(PathBuf::from),
        }),
        Some(other) => {
            let reason = format!("{other:?} is not file");
            flaws.keep("secrets.driver", Err(reason))
        }
    };
    Some(Secrets {
        driver: driver?,
        refresh: refresh?,
    })
}

/// The settings as the file has them.
pub(super) fn print(secrets: &Secrets, out: &mut String) {
    let SecretsDriver::File { path } = &secrets.driver;
    let _ = writeln!(
        out,
        "\n[secrets]\ndriver = \"file\"\nrefresh = \"{}\"",
        print_duration(secrets.refresh)
    );
    if let Some(path) = path {
        let path = quoted(&path.display().to_string());
        let _ = writeln!(out, "[secrets.file]\npath = {path}");
    }
}

/// In the state folder.
const FOLDER: &str = "secrets";
const REFRESH_DEFAULT: Duration = Duration::from_secs(300);
/// Each time all secrets in use are read.
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(86_400);
