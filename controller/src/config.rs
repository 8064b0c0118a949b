//! The settings of the controller: read strictly from a TOML file, laid over by environment and flags, everything
//! invalid reported at once, before any socket opens.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs, io,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use krater_controller_core::{
    model::{ProjectId, UsualTreatment},
    quota::Limits,
    rules::Rules,
};
use krater_driver_local::NetworkConfig;
use serde::Deserialize;

pub(crate) use self::access_log::AccessLog;
use self::auth::{Auth, AuthFile};
pub(crate) use self::log::{Log, LogFormat};
pub(crate) use self::network::{Network, NetworkDriverName};
use self::quantity::{parse_bytes, parse_duration, print_bytes, print_duration};
pub(crate) use self::store::StoreConfig;

mod access_log;
pub(crate) mod auth;
mod fleet;
mod intake;
mod log;
mod network;
pub(crate) mod quantity;
mod quota;
mod retention;
mod rules;
pub(crate) mod secrets;
mod store;
mod treatment;
mod turns;

pub(crate) use self::retention::Retention;

/// Everything the controller needs to know, typed and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) state_dir: PathBuf,
    pub(crate) store: StoreConfig,
    pub(crate) api: Api,
    pub(crate) auth: Auth,
    pub(crate) intake: SocketAddr,
    /// Where amphorae send their reports: this controller and the others, `host:port`. Empty: this one alone.
    pub(crate) controllers: Vec<String>,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) fleet: Fleet,
    /// What tenants may ask for.
    pub(crate) rules: Rules,
    /// What projects may have for which nothing was set.
    pub(crate) quota: Limits,
    pub(crate) network: Network,
    pub(crate) secrets: secrets::Secrets,
    pub(crate) retention: Retention,
    /// How members and clients are treated where a flavor says nothing.
    pub(crate) treatment: UsualTreatment,
    pub(crate) turns: turns::Turns,
    pub(crate) access_log: AccessLog,
    pub(crate) log: Log,
}

/// The API's listener and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Api {
    pub(crate) listen: SocketAddr,
    pub(crate) base_uri: Option<String>,
    pub(crate) default_project: ProjectId,
    pub(crate) page_items_max: NonZeroUsize,
    pub(crate) connections_max: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) body_bytes_max: usize,
    pub(crate) healthcheck: bool,
}

/// The amphorae.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fleet {
    /// At least one.
    pub(crate) zones: Vec<Zone>,
    pub(crate) amphorae_max: usize,
    pub(crate) load_balancers_max: u32,
    pub(crate) amphora_binary: Option<PathBuf>,
    pub(crate) workers: Option<usize>,
    pub(crate) heartbeat: Duration,
    pub(crate) drain: Duration,
    pub(crate) silence: Duration,
    /// Whether amphorae run on the controller's own host too.
    pub(crate) on_this_host: bool,
    /// Whether what hosts carried that are lost is served elsewhere without being asked.
    pub(crate) repair: bool,
}

/// A zone that amphorae are in.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zone {
    pub(crate) name: String,
    /// Shared ones that are kept there; more come when these are full.
    pub(crate) amphorae: usize,
}

/// What flags and the environment say; they win over the file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) store_url: Option<String>,
    pub(crate) listen: Option<String>,
    pub(crate) intake: Option<String>,
    pub(crate) metrics: Option<String>,
    pub(crate) amphorae: Option<usize>,
    pub(crate) amphora_binary: Option<PathBuf>,
    pub(crate) log: Option<String>,
}

impl Config {
    /// Reads the file, if one is named, lays the overrides over it and checks the result.
    ///
    /// # Errors
    /// Every reason against it, one line each.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Vec<String>> {
        let file = match file {
            Some(path) => read(path).and_then(|text| {
                decode(&text).map_err(|reason| format!("{}: {reason}", path.display()))
            }),
            None => Ok(ConfigFile::default()),
        };
        Self::check(file.map_err(|reason| vec![reason])?, overrides)
    }

    /// [`Config::load`] for text at hand.
    pub(crate) fn parse(text: &str, overrides: &Overrides) -> Result<Self, Vec<String>> {
        Self::check(decode(text).map_err(|reason| vec![reason])?, overrides)
    }

    fn check(file: ConfigFile, overrides: &Overrides) -> Result<Self, Vec<String>> {
        let mut flaws = Flaws::default();
        let config = assemble(file, overrides, &mut flaws);
        match config {
            Some(config) if flaws.0.is_empty() => Ok(config),
            _ => Err(flaws.0),
        }
    }

    /// The settings as a file that reads back as the same settings.
    pub(crate) fn print(&self) -> String {
        print(self)
    }
}

/// Reasons against a configuration.
#[derive(Default)]
struct Flaws(Vec<String>);

impl Flaws {
    /// The value, or a note of why there is none.
    fn keep<T>(&mut self, setting: &str, parsed: Result<T, String>) -> Option<T> {
        parsed
            .map_err(|reason| self.0.push(format!("{setting}: {reason}")))
            .ok()
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    state_dir: Option<String>,
    store: store::StoreFile,
    api: ApiFile,
    auth: AuthFile,
    intake: intake::IntakeFile,
    metrics: MetricsFile,
    fleet: FleetFile,
    quota: quota::QuotaFile,
    rules: rules::RulesFile,
    network: network::NetworkFile,
    networks: Option<Vec<NetworkConfig>>,
    secrets: secrets::SecretsFile,
    retention: retention::RetentionFile,
    treatment: treatment::TreatmentFile,
    turns: turns::TurnsFile,
    access_log: access_log::AccessLogFile,
    log: log::LogFile,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ApiFile {
    listen: Option<String>,
    base_uri: Option<String>,
    default_project: Option<String>,
    page_items_max: Option<usize>,
    connections_max: Option<usize>,
    header_timeout: Option<String>,
    body_max: Option<String>,
    healthcheck: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MetricsFile {
    listen: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FleetFile {
    amphorae: Option<usize>,
    amphorae_max: Option<usize>,
    load_balancers_max: Option<u32>,
    zones: Option<Vec<Zone>>,
    amphora_binary: Option<String>,
    workers: Option<usize>,
    heartbeat: Option<String>,
    drain: Option<String>,
    silence: Option<String>,
    on_this_host: Option<bool>,
    repair: Option<bool>,
}

/// Takes every setting, so that all flaws are found, and only then gives up if one is missing.
fn assemble(file: ConfigFile, overrides: &Overrides, flaws: &mut Flaws) -> Option<Config> {
    let state_dir = overrides
        .state_dir
        .clone()
        .or_else(|| file.state_dir.map(PathBuf::from));
    let state_dir = flaws.keep("state_dir", state_dir.map_or_else(default_state_dir, Ok));
    let store = store::parse(file.store, overrides.store_url.clone(), flaws);
    let api = parse_api(file.api, overrides, flaws);
    let auth = auth::parse(file.auth, flaws);
    let intake = overrides
        .intake
        .clone()
        .or(file.intake.listen)
        .unwrap_or_else(|| DEFAULT_INTAKE.to_owned());
    let intake = flaws.keep("intake.listen", parse_address(&intake));
    let controllers = intake::parse_controllers(file.intake.controllers);
    let controllers = flaws.keep("intake.controllers", controllers);
    let metrics = overrides
        .metrics
        .clone()
        .or(file.metrics.listen)
        .unwrap_or_else(|| DEFAULT_METRICS.to_owned());
    let metrics = match metrics.as_str() {
        "off" => Some(None),
        text => flaws.keep("metrics.listen", parse_address(text)).map(Some),
    };
    let fleet = parse_fleet(file.fleet, overrides, flaws);
    let rules = rules::parse(file.rules, flaws);
    let quota = quota::parse(&file.quota, &mut flaws.0);
    let here = match &fleet {
        Some(fleet) if !fleet.on_this_host => network::OnThisHost::Unwanted,
        _ => network::OnThisHost::Wanted,
    };
    let network = network::parse(file.network, file.networks, here, flaws);
    let secrets = secrets::parse(file.secrets, auth.as_ref(), flaws);
    let retention = retention::parse(file.retention, flaws);
    let access_log = access_log::parse(file.access_log, flaws);
    let one_in = access_log.as_ref().and_then(AccessLog::usual_one_in);
    let treatment = treatment::parse(file.treatment, one_in, flaws);
    let turns = turns::parse(file.turns, flaws);
    let log = log::parse(file.log, overrides, flaws);
    Some(Config {
        state_dir: state_dir?,
        store: store?,
        api: api?,
        auth: auth?,
        intake: intake?,
        controllers: controllers?,
        metrics: metrics?,
        fleet: fleet?,
        rules: rules?,
        quota,
        network: network?,
        secrets: secrets?,
        retention: retention?,
        treatment: treatment?,
        turns: turns?,
        access_log: access_log?,
        log: log?,
    })
}

fn parse_api(file: ApiFile, overrides: &Overrides, flaws: &mut Flaws) -> Option<Api> {
    let listen = overrides
        .listen
        .clone()
        .or(file.listen)
        .unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let listen = flaws.keep("api.listen", parse_address(&listen));
    let base_uri = match file.base_uri {
        Some(uri) => flaws.keep("api.base_uri", parse_base_uri(uri)).map(Some),
        None => Some(None),
    };
    let project = file
        .default_project
        .unwrap_or_else(|| DEFAULT_PROJECT.to_owned());
    let project =
        ProjectId::parse(&project).ok_or_else(|| "must have 1 to 36 characters".to_owned());
    let default_project = flaws.keep("api.default_project", project);
    let page = NonZeroUsize::new(file.page_items_max.unwrap_or(1_000))
        .ok_or_else(|| "must be 1 or more".to_owned());
    let page_items_max = flaws.keep("api.page_items_max", page);
    let connections = within(file.connections_max.unwrap_or(1_024), 1, 100_000);
    let connections_max = flaws.keep("api.connections_max", connections);
    let header_timeout = file
        .header_timeout
        .map_or(Ok(Duration::from_secs(10)), |text| parse_duration(&text));
    let header_timeout = header_timeout.and_then(|timeout| {
        lasting(
            timeout,
            Duration::from_millis(100),
            Duration::from_secs(600),
        )
    });
    let header_timeout = flaws.keep("api.header_timeout", header_timeout);
    let body = file.body_max.map_or(Ok(114_688), |text| parse_bytes(&text));
    let body_bytes_max = flaws.keep(
        "api.body_max",
        body.and_then(|bytes| within(bytes, 1_024, 64 << 20)),
    );
    Some(Api {
        listen: listen?,
        base_uri: base_uri?,
        default_project: default_project?,
        page_items_max: page_items_max?,
        connections_max: connections_max?,
        header_timeout: header_timeout?,
        body_bytes_max: body_bytes_max?,
        healthcheck: file.healthcheck.unwrap_or(false),
    })
}

fn parse_fleet(file: FleetFile, overrides: &Overrides, flaws: &mut Flaws) -> Option<Fleet> {
    let most = within(file.amphorae_max.unwrap_or(64), 1, AMPHORAE_MAX);
    let amphorae_max = flaws.keep("fleet.amphorae_max", most);
    let most = match file.load_balancers_max.unwrap_or(1_000) {
        0 => Err("must be 1 or more".to_owned()),
        most => Ok(most),
    };
    let load_balancers_max = flaws.keep("fleet.load_balancers_max", most);
    let amphorae = overrides.amphorae.or(file.amphorae);
    let zones = parse_zones(file.zones, amphorae, amphorae_max, flaws);
    let workers = match file.workers {
        Some(workers) => flaws
            .keep("fleet.workers", within(workers, 1, WORKERS_MAX))
            .map(Some),
        None => Some(None),
    };
    let mut duration = |setting, text: Option<String>, default: Duration, least: Duration| {
        let parsed = text.map_or(Ok(default), |text| parse_duration(&text));
        flaws.keep(
            setting,
            parsed.and_then(|value| lasting(value, least, Duration::from_secs(3_600))),
        )
    };
    let second = Duration::from_secs(1);
    let heartbeat = duration(
        "fleet.heartbeat",
        file.heartbeat,
        second * 2,
        Duration::from_millis(100),
    );
    let drain = duration("fleet.drain", file.drain, second * 10, Duration::ZERO);
    let silence = duration(
        "fleet.silence",
        file.silence,
        second * 10,
        Duration::from_millis(200),
    );
    if let (Some(heartbeat), Some(silence)) = (heartbeat, silence)
        && silence < heartbeat * 2
    {
        let reason = format!(
            "must be at least twice fleet.heartbeat, which is {}",
            print_duration(heartbeat)
        );
        flaws.0.push(format!("fleet.silence: {reason}"));
    }
    let amphora_binary = overrides
        .amphora_binary
        .clone()
        .or_else(|| file.amphora_binary.map(PathBuf::from));
    Some(Fleet {
        zones: zones?,
        amphorae_max: amphorae_max?,
        load_balancers_max: load_balancers_max?,
        amphora_binary,
        workers: workers?,
        heartbeat: heartbeat?,
        drain: drain?,
        silence: silence?,
        on_this_host: file.on_this_host.unwrap_or(true),
        repair: file.repair.unwrap_or(true),
    })
}

/// The zones, or one that has all amphorae.
fn parse_zones(
    zones: Option<Vec<Zone>>,
    amphorae: Option<usize>,
    amphorae_max: Option<usize>,
    flaws: &mut Flaws,
) -> Option<Vec<Zone>> {
    let Some(zones) = zones else {
        let amphorae = within(
            amphorae.unwrap_or(1),
            1,
            amphorae_max.unwrap_or(AMPHORAE_MAX),
        );
        let amphorae = flaws.keep("fleet.amphorae", amphorae)?;
        let name = DEFAULT_ZONE.to_owned();
        return Some(vec![Zone { name, amphorae }]);
    };
    let mut names = BTreeSet::new();
    let total: usize = zones
        .iter()
        .fold(0, |total, zone| total.saturating_add(zone.amphorae));
    let reason = if amphorae.is_some() {
        Some("cannot stand beside fleet.amphorae: each zone says how many".to_owned())
    } else if zones.is_empty() {
        Some("there must be one at least".to_owned())
    } else if let Some(zone) = zones
        .iter()
        .find(|zone| !(1..=255).contains(&zone.name.chars().count()))
    {
        Some(format!("{:?} does not have 1 to 255 characters", zone.name))
    } else if let Some(zone) = zones.iter().find(|zone| !names.insert(&zone.name)) {
        Some(format!("{:?} is there twice", zone.name))
    } else {
        amphorae_max.filter(|most| total > *most).map(|most| {
            format!("{total} amphorae in all are more than fleet.amphorae_max, which is {most}")
        })
    };
    match reason {
        Some(reason) => {
            flaws.0.push(format!("fleet.zones: {reason}"));
            None
        }
        None => Some(zones),
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not an address and a port like 192.0.2.1:9876 or [::1]:9876")
    })
}

fn parse_base_uri(text: String) -> Result<String, String> {
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains([' ', '\r', '\n']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!(
            "{text:?} is not an address like https://lb.example.test"
        )),
    }
}

fn within(value: usize, least: usize, most: usize) -> Result<usize, String> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} is not between {least} and {most}"))
    }
}

fn lasting(value: Duration, least: Duration, most: Duration) -> Result<Duration, String> {
    if value < least || value > most {
        let (value, least, most) = (
            print_duration(value),
            print_duration(least),
            print_duration(most),
        );
        return Err(format!("{value} is not between {least} and {most}"));
    }
    Ok(value)
}

/// The XDG folder for state, or the system's when there is no home.
fn default_state_dir() -> Result<PathBuf, String> {
    let absolute = |name: &str| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    if let Some(base) = absolute("XDG_STATE_HOME") {
        return Ok(base.join("krater"));
    }
    match absolute("HOME") {
        Some(home) => Ok(home.join(".local/state/krater")),
        None => Ok(PathBuf::from("/var/lib/krater")),
    }
}

fn decode(text: &str) -> Result<ConfigFile, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    if fs::metadata(path).map_err(failed)?.len() > CONFIG_BYTES_MAX {
        return Err(format!(
            "{} has more than {CONFIG_BYTES_MAX} bytes",
            path.display()
        ));
    }
    fs::read_to_string(path).map_err(failed)
}

fn print(config: &Config) -> String {
    let mut out = format!(
        "state_dir = {}\n",
        quoted(&config.state_dir.display().to_string())
    );
    store::print(&config.store, &mut out);
    let api = &config.api;
    let _ = write!(out, "\n[api]\nlisten = \"{}\"\n", api.listen);
    if let Some(uri) = &api.base_uri {
        let _ = writeln!(out, "base_uri = {}", quoted(uri));
    }
    let _ = writeln!(
        out,
        "default_project = {}",
        quoted(api.default_project.as_str())
    );
    let _ = writeln!(
        out,
        "page_items_max = {}\nconnections_max = {}",
        api.page_items_max, api.connections_max
    );
    let _ = writeln!(
        out,
        "header_timeout = \"{}\"",
        print_duration(api.header_timeout)
    );
    let _ = writeln!(out, "body_max = \"{}\"", print_bytes(api.body_bytes_max));
    let _ = writeln!(out, "healthcheck = {}", api.healthcheck);
    auth::print(&config.auth, &mut out);
    intake::print(config, &mut out);
    fleet::print(&config.fleet, &mut out);
    quota::print(&config.quota, &mut out);
    rules::print(&config.rules, &mut out);
    treatment::print(&config.treatment, &mut out);
    turns::print(&config.turns, &mut out);
    access_log::print(&config.access_log, &mut out);
    retention::print(&config.retention, &mut out);
    log::print(&config.log, &mut out);
    secrets::print(&config.secrets, &mut out);
    network::print(&config.network, &mut out);
    out
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

const DEFAULT_LISTEN: &str = "127.0.0.1:9876";
const DEFAULT_INTAKE: &str = "127.0.0.1:9877";
const DEFAULT_METRICS: &str = "127.0.0.1:9878";
const DEFAULT_PROJECT: &str = "6b726174657200000000000000000001";
const DEFAULT_ZONE: &str = "local";
/// More than this for one controller is a mistake in the number: with 500 it is measured (`krater-bench fleet`).
const AMPHORAE_MAX: usize = 1_000;
/// As many as an amphora takes.
const WORKERS_MAX: usize = 256;
/// A settings file is kilobytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Every setting with its default and what it means; what `krater config default` prints.
pub(crate) const DEFAULTS: &str = include_str!("config/default.toml");

#[cfg(test)]
mod tests;
