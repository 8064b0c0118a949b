//! Settings of where secrets are.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use krater_driver_openstack::BarbicanSettings;
use serde::Deserialize;

use super::{Flaws, auth::Auth, lasting, parse_duration, print_duration, quoted};

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
    /// The key manager of a cloud.
    Barbican {
        /// Where it is. Checked: it is an address.
        url: String,
        /// Authorities that its certificate may be from.
        cafile: Option<PathBuf>,
        /// How long an answer may take.
        timeout: Duration,
    },
}

impl Secrets {
    /// The folder they are in, if it is one.
    pub(crate) fn folder(&self, state_dir: &Path) -> Option<PathBuf> {
        match &self.driver {
            SecretsDriver::File { path } => {
                Some(path.clone().unwrap_or_else(|| state_dir.join(FOLDER)))
            }
            SecretsDriver::Barbican { .. } => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SecretsFile {
    driver: Option<String>,
    refresh: Option<String>,
    file: FileFile,
    barbican: BarbicanFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BarbicanFile {
    url: Option<String>,
    cafile: Option<String>,
    timeout: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileFile {
    path: Option<String>,
}

/// `auth` is who krater is in the cloud, if it is somebody there.
pub(super) fn parse(file: SecretsFile, auth: Option<&Auth>, flaws: &mut Flaws) -> Option<Secrets> {
    let refresh = file.refresh.map_or(Ok(REFRESH_DEFAULT), |text| {
        lasting(parse_duration(&text)?, REFRESH_MIN, REFRESH_MAX)
    });
    let refresh = flaws.keep("secrets.refresh", refresh);
    let driver = match file.driver.as_deref() {
        None | Some("file") => Some(SecretsDriver::File {
            path: file.file.path.map(PathBuf::from),
        }),
        Some("barbican") => parse_barbican(file.barbican, auth, flaws),
        Some(other) => {
            let reason = format!("{other:?} is none of file, barbican");
            flaws.keep("secrets.driver", Err(reason))
        }
    };
    Some(Secrets {
        driver: driver?,
        refresh: refresh?,
    })
}

fn parse_barbican(
    file: BarbicanFile,
    auth: Option<&Auth>,
    flaws: &mut Flaws,
) -> Option<SecretsDriver> {
    if matches!(auth, Some(Auth::None | Auth::File { .. })) {
        let reason = "\"barbican\" needs auth.driver = \"keystone\": krater logs in as it says there, and callers show \
                      by their tokens what they may have krater read";
        flaws.0.push(format!("secrets.driver: {reason}"));
    }
    let url = match &file.url {
        Some(url) => BarbicanSettings::base(url)
            .map_err(|_| format!("{url:?} is not an address like {BARBICAN_EXAMPLE}")),
        None => Err(format!("must be given, e.g. {BARBICAN_EXAMPLE}")),
    };
    let url = flaws.keep("secrets.barbican.url", url);
    let timeout = file.timeout.map_or(Ok(TIMEOUT_DEFAULT), |text| {
        lasting(parse_duration(&text)?, TIMEOUT_MIN, TIMEOUT_MAX)
    });
    let timeout = flaws.keep("secrets.barbican.timeout", timeout);
    Some(SecretsDriver::Barbican {
        url: url?,
        cafile: file.cafile.map(PathBuf::from),
        timeout: timeout?,
    })
}

/// The settings as the file has them.
pub(super) fn print(secrets: &Secrets, out: &mut String) {
    let refresh = print_duration(secrets.refresh);
    let path = |path: &Path| quoted(&path.display().to_string());
    match &secrets.driver {
        SecretsDriver::File { path: folder } => {
            let _ = writeln!(
                out,
                "\n[secrets]\ndriver = \"file\"\nrefresh = \"{refresh}\""
            );
            if let Some(folder) = folder {
                let _ = writeln!(out, "[secrets.file]\npath = {}", path(folder));
            }
        }
        SecretsDriver::Barbican {
            url,
            cafile,
            timeout,
        } => {
            let _ = writeln!(
                out,
                "\n[secrets]\ndriver = \"barbican\"\nrefresh = \"{refresh}\"\n[secrets.barbican]\nurl = {}\ntimeout = \"{}\"",
                quoted(url),
                print_duration(*timeout)
            );
            if let Some(cafile) = cafile {
                let _ = writeln!(out, "cafile = {}", path(cafile));
            }
        }
    }
}

/// In the state folder.
const FOLDER: &str = "secrets";
const REFRESH_DEFAULT: Duration = Duration::from_secs(300);
/// Each time all secrets in use are read.
const REFRESH_MIN: Duration = Duration::from_secs(1);
const REFRESH_MAX: Duration = Duration::from_secs(86_400);
const BARBICAN_EXAMPLE: &str = "https://key-manager.example.test";
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use crate::config::{Config, Overrides};

    #[test]
    fn a_key_manager_needs_an_address_and_somebody_to_ask_as() {
        let parse = |text: &str| Config::parse(text, &Overrides::default());
        let flaws = parse("[secrets]\ndriver = \"barbican\"").unwrap_err();
        assert_eq!(flaws.len(), 2, "{flaws:?}");
        assert!(flaws[0].contains("needs auth.driver"), "{flaws:?}");
        assert!(flaws[1].starts_with("secrets.barbican.url: must be given"));
        let flaws = parse("[secrets]\ndriver = \"vault\"").unwrap_err();
        assert_eq!(
            flaws,
            ["secrets.driver: \"vault\" is none of file, barbican"]
        );
    }
}
