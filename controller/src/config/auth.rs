//! Settings of who callers are.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use krater_controller_core::caller::RoleSet;
use krater_driver_local::TokenFile;
use krater_driver_openstack::{CacheSettings, KeystoneSettings, SecretString};
use serde::Deserialize;

use super::{Flaws, lasting, parse_duration, print_duration, quoted, within};

/// Who says who callers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    /// Nobody: everybody may do everything.
    None,
    /// A file of tokens.
    File {
        /// Where it is. Checked: it can be used.
        path: PathBuf,
        /// Which roles count.
        role_set: RoleSet,
    },
    /// An identity service.
    Keystone(Box<Keystone>),
}

/// An identity service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keystone {
    pub(crate) url: String,
    pub(crate) public_url: Option<String>,
    pub(crate) login: Login,
    pub(crate) secret: SecretSource,
    pub(crate) cafile: Option<PathBuf>,
    pub(crate) role_set: RoleSet,
    pub(crate) service_roles: BTreeSet<String>,
    pub(crate) timeout: Duration,
    pub(crate) cache: CacheSettings,
}

/// How krater logs in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Login {
    /// As a user in a project.
    Password {
        user: String,
        user_domain: String,
        project: String,
        project_domain: String,
    },
    /// By the id of an application credential.
    ApplicationCredential(String),
}

/// Where the secret of a login is. The secret itself is never part of the settings, so that nothing shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SecretSource {
    /// In a file of its own.
    File(PathBuf),
    /// In the environment.
    Environment,
}

impl SecretSource {
    /// The secret.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn read(&self) -> Result<SecretString, String> {
        let secret = match self {
            Self::File(path) => read_secret(path)?,
            Self::Environment => env::var(SECRET_VARIABLE)
                .map_err(|_| format!("{SECRET_VARIABLE} is not in the environment"))?,
        };
        Ok(SecretString::from(secret))
    }
}

impl Auth {
    const fn driver(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::File { .. } => "file",
            Self::Keystone(_) => "keystone",
        }
    }
}

impl Keystone {
    /// Where clients get tokens.
    pub(crate) fn identity_uri(&self) -> &str {
        self.public_url.as_deref().unwrap_or(&self.url)
    }

    /// The settings of the driver, secret included.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn settings(&self) -> Result<KeystoneSettings, String> {
        use krater_driver_openstack::Login as Driver;
        let secret = self.secret.read()?;
        let login = match self.login.clone() {
            Login::Password {
                user,
                user_domain,
                project,
                project_domain,
            } => Driver::Password {
                user,
                user_domain,
                password: secret,
                project,
                project_domain,
            },
            Login::ApplicationCredential(id) => Driver::ApplicationCredential { id, secret },
        };
        Ok(KeystoneSettings {
            url: self.url.clone(),
            login,
            cafile: self.cafile.clone(),
            role_set: self.role_set,
            service_roles: self.service_roles.clone(),
            timeout: self.timeout,
            cache: self.cache.clone(),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AuthFile {
    driver: Option<String>,
    role_set: Option<String>,
    file: FileFile,
    keystone: KeystoneFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileFile {
    path: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct KeystoneFile {
    url: Option<String>,
    public_url: Option<String>,
    user: Option<String>,
    user_domain: Option<String>,
    project: Option<String>,
    project_domain: Option<String>,
    application_credential: Option<String>,
    secret_file: Option<String>,
    cafile: Option<String>,
    service_roles: Option<Vec<String>>,
    timeout: Option<String>,
    cache_tokens_max: Option<usize>,
    cache_lifetime: Option<String>,
    cache_refused: Option<String>,
    cache_outage: Option<String>,
}

pub(super) fn parse(file: AuthFile, flaws: &mut Flaws) -> Option<Auth> {
    let role_set = match file.role_set.as_deref() {
        None => Ok(RoleSet::default()),
        Some(name) => RoleSet::parse(name).ok_or_else(|| {
            let names: Vec<_> = RoleSet::ALL.iter().map(|set| set.name()).collect();
            format!("{name:?} is none of {}", names.join(", "))
        }),
    };
    let role_set = flaws.keep("auth.role_set", role_set);
    match file.driver.as_deref() {
        None | Some("none") => Some(Auth::None),
        Some("file") => {
            let role_set = role_set?;
            let path = file.file.path.map(PathBuf::from).ok_or_else(|| {
                "must be given: the file of tokens, see krater token --help".to_owned()
            });
            let usable = path.and_then(|path| {
                TokenFile::open(&path, role_set).map_err(|error| error.to_string())?;
                Ok(path)
            });
            let path = flaws.keep("auth.file.path", usable)?;
            Some(Auth::File { path, role_set })
        }
        Some("keystone") => {
            let keystone = parse_keystone(file.keystone, role_set, flaws)?;
            Some(Auth::Keystone(Box::new(keystone)))
        }
        Some(other) => {
            let reason = format!("{other:?} is none of none, file, keystone");
            flaws.keep("auth.driver", Err(reason))
        }
    }
}

fn parse_keystone(
    file: KeystoneFile,
    role_set: Option<RoleSet>,
    flaws: &mut Flaws,
) -> Option<Keystone> {
    let url = match &file.url {
        Some(url) => KeystoneSettings::base(url).map_err(|error| error.to_string()),
        None => Err("must be given, e.g. https://identity.example.test/v3".to_owned()),
    };
    let url = flaws.keep("auth.keystone.url", url);
    let public_url = match &file.public_url {
        Some(url) => {
            let parsed = KeystoneSettings::base(url).map_err(|error| error.to_string());
            flaws.keep("auth.keystone.public_url", parsed).map(Some)
        }
        None => Some(None),
    };
    let login = parse_login(&file, flaws);
    let secret = flaws.keep("auth.keystone.secret_file", secret_source(&file));
    let cafile = match file.cafile.clone().map(PathBuf::from) {
        Some(path) => {
            let readable = fs::metadata(&path)
                .map(|_| path.clone())
                .map_err(|error| format!("{}: {error}", path.display()));
            flaws.keep("auth.keystone.cafile", readable).map(Some)
        }
        None => Some(None),
    };
    let timeout = duration(
        "auth.keystone.timeout",
        file.timeout.as_deref(),
        Duration::from_secs(10),
        Duration::from_millis(100),
        flaws,
    );
    let cache = parse_cache(&file, flaws);
    let service_roles = file.service_roles;
    let service_roles = service_roles.unwrap_or_else(|| vec!["service".to_owned()]);
    Some(Keystone {
        url: url?,
        public_url: public_url?,
        login: login?,
        secret: secret?,
        cafile: cafile?,
        role_set: role_set?,
        service_roles: service_roles.into_iter().collect(),
        timeout: timeout?,
        cache: cache?,
    })
}

fn parse_login(file: &KeystoneFile, flaws: &mut Flaws) -> Option<Login> {
    let login = match (&file.user, &file.application_credential) {
        (Some(user), None) => file
            .project
            .clone()
            .ok_or_else(|| "auth.keystone.project must be given with a user".to_owned())
            .map(|project| Login::Password {
                user: user.clone(),
                user_domain: domain(file.user_domain.as_ref()),
                project,
                project_domain: domain(file.project_domain.as_ref()),
            }),
        (None, Some(_)) if file.project.is_some() => {
            Err("an application credential has a project of its own".to_owned())
        }
        (None, Some(id)) => Ok(Login::ApplicationCredential(id.clone())),
        _ => Err("either user or application_credential must be given".to_owned()),
    };
    flaws.keep("auth.keystone", login)
}

fn domain(given: Option<&String>) -> String {
    given.map_or_else(|| "Default".to_owned(), Clone::clone)
}

fn secret_source(file: &KeystoneFile) -> Result<SecretSource, String> {
    match &file.secret_file {
        Some(path) => {
            let path = PathBuf::from(path);
            read_secret(&path)?;
            Ok(SecretSource::File(path))
        }
        None if env::var(SECRET_VARIABLE).is_ok_and(|secret| !secret.is_empty()) => {
            Ok(SecretSource::Environment)
        }
        None => Err(format!(
            "must be given, or the secret itself as {SECRET_VARIABLE} in the environment"
        )),
    }
}

fn parse_cache(file: &KeystoneFile, flaws: &mut Flaws) -> Option<CacheSettings> {
    let default = CacheSettings::default();
    let tokens = file.cache_tokens_max.unwrap_or(default.tokens_max);
    let tokens_max = flaws.keep(
        "auth.keystone.cache_tokens_max",
        within(tokens, 1, TOKENS_MAX),
    );
    let mut time = |setting, text: &Option<String>, default| {
        duration(setting, text.as_deref(), default, Duration::ZERO, flaws)
    };
    let lifetime = time(
        "auth.keystone.cache_lifetime",
        &file.cache_lifetime,
        default.lifetime,
    );
    let refused = time(
        "auth.keystone.cache_refused",
        &file.cache_refused,
        default.refused,
    );
    let outage = time(
        "auth.keystone.cache_outage",
        &file.cache_outage,
        default.outage,
    );
    Some(CacheSettings {
        tokens_max: tokens_max?,
        lifetime: lifetime?,
        refused: refused?,
        outage: outage?,
    })
}

fn duration(
    setting: &str,
    text: Option<&str>,
    default: Duration,
    least: Duration,
    flaws: &mut Flaws,
) -> Option<Duration> {
    let parsed = text.map_or(Ok(default), parse_duration);
    flaws.keep(
        setting,
        parsed.and_then(|value| lasting(value, least, DURATION_MAX)),
    )
}

/// A secret is a line of a file that others cannot read.
fn read_secret(path: &Path) -> Result<String, String> {
    let failed = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
    let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
    if metadata.mode() & 0o007 != 0 {
        return Err(failed(
            &"everybody can reach it; take that away with chmod o-rwx",
        ));
    }
    if metadata.len() > SECRET_BYTES_MAX {
        return Err(failed(&format!("has more than {SECRET_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(failed(&"is empty"));
    }
    Ok(secret.to_owned())
}

pub(super) fn print(auth: &Auth, out: &mut String) {
    let _ = write!(out, "\n[auth]\ndriver = \"{}\"\n", auth.driver());
    match auth {
        Auth::None => {}
        Auth::File { path, role_set } => {
            let path = quoted(&path.display().to_string());
            let _ = writeln!(out, "role_set = \"{}\"", role_set.name());
            let _ = write!(out, "\n[auth.file]\npath = {path}\n");
        }
        Auth::Keystone(keystone) => {
            let _ = writeln!(out, "role_set = \"{}\"", keystone.role_set.name());
            print_keystone(keystone, out);
        }
    }
}

fn print_keystone(keystone: &Keystone, out: &mut String) {
    let _ = write!(out, "\n[auth.keystone]\nurl = {}\n", quoted(&keystone.url));
    let mut text = |name: &str, value: &str| {
        let _ = writeln!(out, "{name} = {}", quoted(value));
    };
    if let Some(url) = &keystone.public_url {
        text("public_url", url);
    }
    match &keystone.login {
        Login::Password {
            user,
            user_domain,
            project,
            project_domain,
        } => {
            text("user", user);
            text("user_domain", user_domain);
            text("project", project);
            text("project_domain", project_domain);
        }
        Login::ApplicationCredential(id) => text("application_credential", id),
    }
    if let SecretSource::File(path) = &keystone.secret {
        text("secret_file", &path.display().to_string());
    }
    if let Some(path) = &keystone.cafile {
        text("cafile", &path.display().to_string());
    }
    if keystone.secret == SecretSource::Environment {
        let _ = writeln!(out, "# The secret is {SECRET_VARIABLE} in the environment.");
    }
    let roles: Vec<String> = keystone
        .service_roles
        .iter()
        .map(|role| quoted(role))
        .collect();
    let _ = writeln!(out, "service_roles = [{}]", roles.join(", "));
    let cache = &keystone.cache;
    let _ = writeln!(out, "cache_tokens_max = {}", cache.tokens_max);
    for (name, value) in [
        ("timeout", keystone.timeout),
        ("cache_lifetime", cache.lifetime),
        ("cache_refused", cache.refused),
        ("cache_outage", cache.outage),
    ] {
        let _ = writeln!(out, "{name} = \"{}\"", print_duration(value));
    }
}

/// The password, or the secret of the application credential.
const SECRET_VARIABLE: &str = "KRATER_KEYSTONE_SECRET";
const SECRET_BYTES_MAX: u64 = 4_096;
/// A token that is remembered takes a few hundred bytes.
const TOKENS_MAX: usize = 1_000_000;
const DURATION_MAX: Duration = Duration::from_secs(24 * 3_600);
