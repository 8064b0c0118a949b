//! The agent's settings: read strictly from a TOML file, overridden by flags, everything invalid reported at once.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use clap::Args;
use krater_amphora_api::AmphoraId;

use crate::{
    access::{self, Target},
    limits::{
        CONFIG_BYTES_MAX, CONTROLLERS_MAX, DRAIN_MAX, HEARTBEAT_MAX, HEARTBEAT_MIN, WORKERS_MAX,
    },
    network,
    strict::{Flaw, Object},
};

/// Everything the agent needs to know, typed and complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) id: AmphoraId,
    pub(crate) state_dir: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) authority: PathBuf,
    pub(crate) controllers: Vec<Controller>,
    pub(crate) workers: usize,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) heartbeat: Duration,
    pub(crate) drain: Duration,
    /// How long connections may go on in a process that has a successor.
    pub(crate) upgrade_drain: Duration,
    /// Resident bytes that such a process may have.
    pub(crate) upgrade_memory_max: u64,
    pub(crate) access_log: access::Settings,
    /// The network that it lives in, if not in the host's.
    pub(crate) network: Option<network::Settings>,
}

/// Where a controller takes reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Controller {
    /// Name or address, without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// What may be given on the command line instead of in the file; a flag wins.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// Identity of this amphora, a UUID.
    #[arg(long, value_name = "UUID")]
    pub(crate) id: Option<String>,
    /// Folder for what must survive a restart.
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<String>,
    /// Address and port the controller reaches the agent at.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<String>,
    /// PEM file with the certificate of this amphora.
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<String>,
    /// PEM file with its key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<String>,
    /// PEM file with the certificate of the fleet's authority.
    #[arg(long, value_name = "FILE")]
    pub(crate) authority: Option<String>,
    /// Controller to report to; may be repeated.
    #[arg(long = "controller", value_name = "HOST:PORT")]
    pub(crate) controllers: Vec<String>,
    /// Number of worker threads; one per core unless set.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<u64>,
    /// Address and port of the metrics endpoint.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) metrics: Option<String>,
    /// Time between two reports, like 5s.
    #[arg(long, value_name = "DURATION")]
    pub(crate) heartbeat: Option<String>,
    /// Time that connections get to end by themselves, like 10s.
    #[arg(long, value_name = "DURATION")]
    pub(crate) drain: Option<String>,
    /// Time that connections get to end in a process that has a successor, like 5m.
    #[arg(long, value_name = "DURATION")]
    pub(crate) upgrade_drain: Option<String>,
    /// Memory that such a process may have, like 1GiB.
    #[arg(long, value_name = "SIZE")]
    pub(crate) upgrade_memory_max: Option<String>,
    /// Where access logs go: stdout, file:/PATH, syslog+udp://ADDR:PORT or syslog+tcp://ADDR:PORT.
    #[arg(long, value_name = "TARGET")]
    pub(crate) access_log: Option<String>,
}

impl Config {
    /// Reads the file, lays the flags over it, and checks the result; or gives every reason why not.
    /// Without a file, flags must say all that is required.
    pub(crate) fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, Vec<Flaw>> {
        let text = match file {
            Some(file) => read_bounded(file).map_err(|reason| vec![Flaw::new("", reason)])?,
            None => String::new(),
        };
        Self::parse(&text, overrides)
    }

    /// [`Config::load`] for text at hand.
    pub(crate) fn parse(text: &str, overrides: &Overrides) -> Result<Self, Vec<Flaw>> {
        let table: serde_json::Value = toml::from_str(text)
            .map_err(|error| vec![Flaw::new("", error.to_string().trim_end())])?;
        let mut flaws = Vec::new();
        let config = Object::open(String::new(), table, &mut flaws)
            .and_then(|object| Self::assemble(object, overrides, &mut flaws));
        match config {
            Some(config) if flaws.is_empty() => Ok(config),
            _ => Err(flaws),
        }
    }

    /// Takes every field, so that all flaws are found, and only then gives up if a required one is missing.
    fn assemble(mut object: Object, flags: &Overrides, flaws: &mut Vec<Flaw>) -> Option<Self> {
        let mut reader = Reader {
            object: &mut object,
            flaws,
        };
        let id = reader.required("id", flags.id.as_deref(), |text| {
            text.parse().map_err(|_| format!("{text:?} is not a UUID"))
        });
        let state_dir = reader.required("state_dir", flags.state_dir.as_deref(), parse_path);
        let listen = reader.required("listen", flags.listen.as_deref(), parse_address);
        let certificate = reader.required("certificate", flags.certificate.as_deref(), parse_path);
        let key = reader.required("key", flags.key.as_deref(), parse_path);
        let authority = reader.required("authority", flags.authority.as_deref(), parse_path);
        let controllers = reader.controllers(&flags.controllers);
        let workers = reader.workers(flags.workers);
        let metrics = reader.optional("metrics", flags.metrics.as_deref(), parse_address);
        let heartbeat = reader.optional("heartbeat", flags.heartbeat.as_deref(), |text| {
            parse_duration_within(text, HEARTBEAT_MIN, HEARTBEAT_MAX)
        });
        let drain = reader.optional("drain", flags.drain.as_deref(), parse_drain);
        let upgrade_drain =
            reader.optional("upgrade_drain", flags.upgrade_drain.as_deref(), parse_drain);
        let memory_max = flags.upgrade_memory_max.as_deref();
        let upgrade_memory_max =
            reader.optional("upgrade_memory_max", memory_max, access::parse_bytes);
        let access_log = reader.access_log(flags.access_log.as_deref());
        let network = match object.take_value("network") {
            None => Some(None),
            Some(table) => network::read(object.path_of("network"), table, flaws).map(Some),
        };
        object.close(flaws);
        Some(Self {
            id: id?,
            state_dir: state_dir?,
            listen: listen?,
            certificate: certificate?,
            key: key?,
            authority: authority?,
            controllers,
            workers: workers.unwrap_or_else(workers_default),
            metrics,
            heartbeat: heartbeat.unwrap_or(HEARTBEAT_DEFAULT),
            drain: drain.unwrap_or(DRAIN_DEFAULT),
            upgrade_drain: upgrade_drain.unwrap_or(UPGRADE_DRAIN_DEFAULT),
            upgrade_memory_max: upgrade_memory_max.unwrap_or(UPGRADE_MEMORY_MAX_DEFAULT),
            access_log,
            network: network?,
        })
    }
}

/// Takes settings out of the file with flags laid over them.
struct Reader<'a> {
    object: &'a mut Object,
    flaws: &'a mut Vec<Flaw>,
}

impl Reader<'_> {
    fn optional<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let from_file = self.object.take::<String>(name, self.flaws);
        let text = flag.map(str::to_owned).or(from_file)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.flaws.push(Flaw::new(name, reason));
                None
            }
        }
    }

    fn required<T>(
        &mut self,
        name: &'static str,
        flag: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let before = self.flaws.len();
        let value = self.optional(name, flag, parse);
        if value.is_none() && self.flaws.len() == before {
            self.flaws.push(Flaw::new(name, "is required"));
        }
        value
    }

    fn controllers(&mut self, flags: &[String]) -> Vec<Controller> {
        let from_file = self
            .object
            .take::<Vec<String>>("controllers", self.flaws)
            .unwrap_or_default();
        let texts = if flags.is_empty() {
            from_file
        } else {
            flags.to_vec()
        };
        if texts.len() > CONTROLLERS_MAX {
            let reason = format!("{} are too many, at most {CONTROLLERS_MAX}", texts.len());
            self.flaws.push(Flaw::new("controllers", reason));
        }
        let mut controllers = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            match parse_controller(text) {
                Ok(controller) => controllers.push(controller),
                Err(reason) => self
                    .flaws
                    .push(Flaw::new(format!("controllers[{index}]"), reason)),
            }
        }
        controllers
    }

    /// Settings of access logs, or those that stand in for what is wrong and noted.
    fn access_log(&mut self, target: Option<&str>) -> access::Settings {
        let mut settings = access::Settings::default();
        let table = self.object.take_value("access_log");
        let table = table.unwrap_or_else(|| serde_json::Value::Object(Default::default()));
        let path = self.object.path_of("access_log");
        let Some(mut object) = Object::open(path, table, self.flaws) else {
            return settings;
        };
        let flaws = &mut *self.flaws;
        let mut read = |name: &'static str| {
            let text = object.take::<String>(name, flaws);
            (object.path_of(name), text)
        };
        let (to_path, to) = read("to");
        let (size_path, size) = read("file_max");
        let mut keep = |path, reason: String| self.flaws.push(Flaw::new(path, reason));
        match target.or(to.as_deref()).map(Target::parse) {
            Some(Ok(to)) => settings.to = to,
            Some(Err(reason)) => keep(to_path, reason),
            None => {}
        }
        match size.as_deref().map(access::parse_bytes) {
            Some(Ok(bytes)) if bytes >= LOG_FILE_BYTES_MIN => settings.file_bytes_max = bytes,
            Some(Ok(_)) => keep(size_path, "is less than 1MiB".to_owned()),
            Some(Err(reason)) => keep(size_path, reason),
            None => {}
        }
        for (name, most, setting) in [
            ("files_max", u8::MAX, &mut settings.files_max),
            ("facility", 23, &mut settings.facility),
        ] {
            match object.take::<u64>(name, self.flaws).map(u8::try_from) {
                Some(Ok(number)) if number <= most => *setting = number,
                Some(_) => {
                    let reason = format!("is not between 0 and {most}");
                    self.flaws.push(Flaw::new(object.path_of(name), reason));
                }
                None => {}
            }
        }
        object.close(self.flaws);
        settings
    }

    fn workers(&mut self, flag: Option<u64>) -> Option<usize> {
        let from_file = self.object.take::<u64>("workers", self.flaws);
        match parse_workers(flag.or(from_file)?) {
            Ok(workers) => Some(workers),
            Err(reason) => {
                self.flaws.push(Flaw::new("workers", reason));
                None
            }
        }
    }
}

/// Reads a duration with its unit in the value: `500ms`, `5s`, `2m`, `1h`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration like 500ms, 5s or 2m");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(wrong)
}

/// Reads the time that connections get to end by themselves.
pub(crate) fn parse_drain(text: &str) -> Result<Duration, String> {
    parse_duration_within(text, Duration::ZERO, DRAIN_MAX)
}

/// Reads a number of worker threads.
pub(crate) fn parse_workers(workers: u64) -> Result<usize, String> {
    usize::try_from(workers)
        .ok()
        .filter(|workers| (1..=WORKERS_MAX).contains(workers))
        .ok_or_else(|| format!("{workers} is not between 1 and {WORKERS_MAX}"))
}

/// One worker per core that this process may run on.
pub(crate) fn workers_default() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX))
}

fn parse_duration_within(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < least || duration > most {
        return Err(format!("{text} is not between {least:?} and {most:?}"));
    }
    Ok(duration)
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(PathBuf::from(text))
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let wrong =
        || format!("{text:?} is not an address and a port like 192.0.2.1:9443 or [::1]:9443");
    // Port 0 would be any port, which nobody could be told.
    text.parse()
        .ok()
        .filter(|address: &SocketAddr| address.port() != 0)
        .ok_or_else(wrong)
}

/// `host:port`, an IPv6 address in brackets.
pub(crate) fn parse_controller(text: &str) -> Result<Controller, String> {
    let wrong = || format!("{text:?} is not a host and a port like controller.example:9444");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(wrong)?;
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host = match bare {
        Some(inner) => inner
            .parse::<std::net::Ipv6Addr>()
            .map(|_| inner)
            .map_err(|_| wrong())?,
        None if host.is_empty() || host.contains([':', '/', '@', ' ']) => return Err(wrong()),
        None => host,
    };
    Ok(Controller {
        host: host.to_owned(),
        port,
    })
}

fn read_bounded(file: &Path) -> Result<String, String> {
    let size = std::fs::metadata(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?
        .len();
    if size > CONFIG_BYTES_MAX {
        return Err(format!(
            "{} has {size} bytes, at most {CONFIG_BYTES_MAX} are read",
            file.display()
        ));
    }
    std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))
}

/// A smaller file would be put aside all the time.
const LOG_FILE_BYTES_MIN: u64 = 1 << 20;
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);
/// The time connections get to end by themselves unless set otherwise.
pub(crate) const DRAIN_DEFAULT: Duration = Duration::from_secs(10);
const UPGRADE_DRAIN_DEFAULT: Duration = Duration::from_secs(300);
const UPGRADE_MEMORY_MAX_DEFAULT: u64 = 1 << 30;
/// The exit code of a process that refuses its settings: `EX_CONFIG` of the system's list.
pub(crate) const BAD_CONFIGURATION: u8 = 78;

/// Every setting with its default and what it means; what `config default` prints.
pub(crate) const DEFAULTS: &str = include_str!("config/default.toml");

#[cfg(test)]
mod tests;
