//! The folder of one amphora: its identity, its settings, where it listens, its log.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    net::{IpAddr, SocketAddr, TcpListener},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use krater_amphora_api::AmphoraId;
use serde::{Deserialize, Serialize};

use crate::{
    AccessLogSettings, Endpoint, Order, ProcessError, ProcessSettings,
    papers::{Papers, write_whole},
    segment::{HEADING, quoted},
    supervisor,
};

/// The folder of one amphora.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Where an amphora listens, as it is kept.
#[derive(Serialize, Deserialize)]
struct KeptEndpoint {
    agent: SocketAddr,
    metrics: Option<SocketAddr>,
}

/// What became of a piece of housekeeping that may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Nothing was to be done, or it is.
    Done,
    /// It could not be done.
    Failed,
}

impl Folder {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.path.join("amphora.toml")
    }

    /// Where the amphora finds the other hosts on which its network is.
    pub(crate) fn peers_path(&self) -> PathBuf {
        self.path.join("peers")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.path.join("amphora.log")
    }

    /// What a living agent holds locked, with its process id inside.
    pub(crate) fn agent_lock(&self) -> PathBuf {
        self.path.join("state").join("lock")
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    pub(crate) fn make(&self) -> Result<(), ProcessError> {
        make_private(&self.path).map_err(|error| failed("make", &self.path, &error))
    }

    pub(crate) fn remove(&self) -> Result<(), ProcessError> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(failed("remove", &self.path, &error))
            }
            _ => Ok(()),
        }
    }

    /// Writes the identity where it differs. The agent reads its files again when they change.
    pub(crate) fn write_identity(&self, order: &Order) -> Result<(), ProcessError> {
        self.write("authority.pem", &order.authority_pem)?;
        let papers = Papers {
            certificate_pem: order.certificate_pem.clone(),
            key_pem: order.key_pem.clone(),
        };
        let written = papers.write(&self.path);
        written.map_err(|error| failed("write the identity in", &self.path, &error))
    }

    /// The settings of the amphora, as `krater-amphora` reads them.
    pub(crate) fn config(
        &self,
        order: &Order,
        endpoint: &Endpoint,
        settings: &ProcessSettings,
    ) -> String {
        let path = |name: &str| quoted(&self.path.join(name).to_string_lossy());
        let conduct = order.conduct.as_ref();
        let heartbeat = conduct.map_or(settings.heartbeat, |conduct| conduct.heartbeat);
        let drain = conduct.map_or(settings.drain, |conduct| conduct.drain);
        let access_log = conduct.map_or(&settings.access_log, |conduct| &conduct.access_log);
        let mut text = String::from("# Written by the controller; changes are undone.\n");
        let mut line = |key: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        line("id", quoted(&order.id.to_string()));
        line("state_dir", path("state"));
        line("listen", quoted(&endpoint.agent.to_string()));
        if let Some(metrics) = endpoint.metrics {
            line("metrics", quoted(&metrics.to_string()));
        }
        line("certificate", path("certificate.pem"));
        line("key", path("key.pem"));
        line("authority", path("authority.pem"));
        let controllers: Vec<String> = order
            .controllers
            .iter()
            .map(|controller| quoted(controller))
            .collect();
        line("controllers", format!("[{}]", controllers.join(", ")));
        if let Some(workers) = settings.workers {
            line("workers", workers.to_string());
        }
        line("heartbeat", quoted(&format!("{}ms", heartbeat.as_millis())));
        line("drain", quoted(&format!("{}ms", drain.as_millis())));
        if let Some(log) = access_log {
            let AccessLogSettings {
                to,
                file_bytes_max,
                files_max,
                facility,
            } = log;
            let _ = write!(
                text,
                "[access_log]\nto = {}\nfile_max = \"{file_bytes_max}B\"\nfiles_max = {files_max}\nfacility = {facility}\n",
                quoted(to),
            );
        }
        if let Some(segment) = &order.segment {
            segment.print(&self.peers_path(), &mut text);
        }
        text
    }

    /// Whether the amphora was started on a network that is not the host's.
    pub(crate) fn has_segment(&self) -> bool {
        let config = fs::read_to_string(self.config_path()).unwrap_or_default();
        config.lines().any(|line| line == HEADING.trim_end())
    }

    /// Writes the other hosts on which its network is; whether that changed anything.
    pub(crate) fn write_peers(&self, peers: &str) -> Result<bool, ProcessError> {
        let found = fs::read_to_string(self.peers_path());
        if found.is_ok_and(|found| found == peers) {
            return Ok(false);
        }
        self.write("peers", peers).map(|()| true)
    }

    pub(crate) fn has_config(&self, config: &str) -> bool {
        fs::read_to_string(self.config_path()).is_ok_and(|found| found == config)
    }

    pub(crate) fn write_config(&self, config: &str) -> Result<(), ProcessError> {
        self.write("amphora.toml", config)
    }

    pub(crate) fn write_pid(&self, pid: &str) -> Result<(), ProcessError> {
        self.write("supervisor.pid", pid)
    }

    pub(crate) fn read_pid(&self) -> Option<u32> {
        fs::read_to_string(self.path.join("supervisor.pid"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Whether a supervisor may have been started for it: where its agent is to listen is written down before.
    pub(crate) fn was_started(&self) -> bool {
        self.path.join("endpoint.json").exists()
    }

    /// Where the amphora listens, if that was decided.
    pub(crate) fn read_endpoint(&self) -> Option<Endpoint> {
        let text = fs::read_to_string(self.path.join("endpoint.json")).ok()?;
        let kept: KeptEndpoint = serde_json::from_str(&text).ok()?;
        Some(Endpoint {
            agent: kept.agent,
            metrics: kept.metrics,
        })
    }

    /// Decides where the amphora listens: where it did before, if nobody else came to listen there meanwhile. Only
    /// while its supervisor is not running; an agent may be.
    pub(crate) fn choose_endpoint(
        &self,
        id: AmphoraId,
        kept: Option<Endpoint>,
        on: IpAddr,
        ports: &PortsInUse,
    ) -> Result<Endpoint, ProcessError> {
        let lives = supervisor::agent_lives(self);
        let endpoint = match kept {
            Some(kept) if lives => kept,
            kept => {
                let kept_agent = kept.as_ref().map(|kept| kept.agent);
                let agent = ports.claim(id, on, kept_agent)?;
                let metrics = ports.claim(id, on, kept.as_ref().and_then(|kept| kept.metrics))?;
                if let Some(before) = kept_agent.filter(|before| *before != agent) {
                    tracing::warn!(amphora = %id, %before, now = %agent, "the agent's port is taken, another is used");
                }
                Endpoint {
                    agent,
                    metrics: Some(metrics),
                }
            }
        };
        ports.keep(&endpoint);
        let kept = KeptEndpoint {
            agent: endpoint.agent,
            metrics: endpoint.metrics,
        };
        let text = serde_json::to_string(&kept).map_err(|error| {
            ProcessError::Permanent(format!("cannot encode an endpoint: {error}"))
        })?;
        self.write("endpoint.json", &text)?;
        Ok(endpoint)
    }

    pub(crate) fn open_log(&self) -> Result<File, ProcessError> {
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.log());
        opened.map_err(|error| failed("write", &self.log(), &error))
    }

    /// Puts the log of earlier runs aside when it has become large; the one before that goes.
    pub(crate) fn rotate_log(&self) -> Result<(), ProcessError> {
        if fs::metadata(self.log()).is_ok_and(|found| found.len() > LOG_BYTES_KEPT) {
            fs::rename(self.log(), self.old_log())
                .map_err(|error| failed("rename", &self.log(), &error))?;
        }
        Ok(())
    }

    /// Cuts the log of a running amphora back when it has become too large. It is open for appending there, so that it
    /// goes on from the new end; lines written while it is copied are lost.
    pub(crate) fn trim_log(&self) -> Upkeep {
        let log = self.log();
        if !fs::metadata(&log).is_ok_and(|found| found.len() > LOG_BYTES_MAX) {
            return Upkeep::Done;
        }
        let cut = fs::copy(&log, self.old_log())
            .and_then(|_| OpenOptions::new().write(true).open(&log))
            .and_then(|file| file.set_len(0));
        if cut.is_ok() {
            Upkeep::Done
        } else {
            Upkeep::Failed
        }
    }

    /// The end of the log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(self.log())?;
            let start = file.metadata()?.len().saturating_sub(LOG_TAIL_BYTES);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        match read() {
            Ok(text) if !text.is_empty() => format!("{} ends with: {text}", self.log().display()),
            _ => format!("{} is empty", self.log().display()),
        }
    }

    fn old_log(&self) -> PathBuf {
        self.path.join("amphora.log.1")
    }

    /// Writes a file, unless it says the same already: whole or not at all, readable by us only.
    fn write(&self, name: &str, text: &str) -> Result<(), ProcessError> {
        let path = self.path.join(name);
        write_whole(&path, text).map_err(|error| failed("write", &path, &error))
    }
}

/// Ports given to amphorae of this driver, so that no two get the same before they listen.
#[derive(Debug, Default)]
pub(crate) struct PortsInUse {
    ports: Mutex<BTreeSet<u16>>,
}

impl PortsInUse {
    /// A free port of the address: the one kept if it is free, else one derived from the id below those that
    /// the kernel gives to outgoing connections, so that it is still free after the amphora was down for a while.
    fn claim(
        &self,
        id: AmphoraId,
        on: IpAddr,
        kept: Option<SocketAddr>,
    ) -> Result<SocketAddr, ProcessError> {
        if let Some(kept) = kept
            && TcpListener::bind(kept).is_ok()
        {
            self.keep_port(kept.port());
            return Ok(kept);
        }
        let span = ephemeral_first().saturating_sub(PORT_FIRST).max(1);
        let seed = id.uuid().as_bytes().iter().fold(0_u32, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add((*byte).into())
        });
        for attempt in 0..PORT_ATTEMPTS {
            // Steps by a prime that shares no factor with a span of this size, so that each attempt is another port.
            let offset = seed.wrapping_add(attempt.wrapping_mul(7_919)) % u32::from(span);
            let port = PORT_FIRST.saturating_add(u16::try_from(offset).unwrap_or(0));
            let address = SocketAddr::new(on, port);
            if TcpListener::bind(address).is_ok() && self.keep_port(port) {
                return Ok(address);
            }
        }
        Err(ProcessError::Transient(format!(
            "no free port was found for the amphora at {on}"
        )))
    }

    /// Notes the ports of an amphora that runs.
    pub(crate) fn keep(&self, endpoint: &Endpoint) {
        for address in [Some(endpoint.agent), endpoint.metrics]
            .into_iter()
            .flatten()
        {
            self.keep_port(address.port());
        }
    }

    /// The ports may be another amphora's.
    pub(crate) fn give_back(&self, endpoint: &Endpoint) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        for address in [Some(endpoint.agent), endpoint.metrics]
            .into_iter()
            .flatten()
        {
            ports.remove(&address.port());
        }
    }

    /// `false` when it was noted before.
    fn keep_port(&self, port: u16) -> bool {
        self.ports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(port)
    }
}

/// Makes a folder that only we may enter, and those above it.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The amphorae that have a folder.
pub(crate) fn amphorae_in(directory: &Path) -> Result<Vec<AmphoraId>, ProcessError> {
    let entries = fs::read_dir(directory).map_err(|error| failed("read", directory, &error))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// Says what could not be done with which file. A full disk or a mode may change, so it is worth trying again.
pub(crate) fn failed(doing: &str, path: &Path, error: &io::Error) -> ProcessError {
    ProcessError::Transient(format!("cannot {doing} {}: {error}", path.display()))
}

/// The first port that the kernel may give to an outgoing connection.
fn ephemeral_first() -> u16 {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok())
        .unwrap_or(32_768)
}

/// Above the ports that services commonly have.
const PORT_FIRST: u16 = 12_000;
const PORT_ATTEMPTS: u32 = 1_000;
/// A log this large is put aside at the next start.
const LOG_BYTES_KEPT: u64 = 1 << 20;
/// A log this large is cut back at once: two of them must not fill a small disk.
const LOG_BYTES_MAX: u64 = 8 << 20;
/// As much of a log as fits an error message.
const LOG_TAIL_BYTES: u64 = 600;
