//! Amphorae as processes of this host.
//!
//! Each has a folder of its own, and a supervisor (`krater-amphora supervise`) that starts the agent again when it
//! dies. Both outlive the controller (D10): a controller that starts finds them by their folders. Nothing here is
//! remembered elsewhere.

use std::{
    collections::BTreeMap,
    fmt::Display,
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use krater_amphora_api::AmphoraId;
use tokio::{process::Command, sync::watch};

use crate::{
    Endpoint, Order, ProcessError, ProcessSettings, cgroup,
    folder::{self, Folder, PortsInUse, Upkeep},
    segment::Segment,
    supervisor::{self, Ended, Supervisor},
};

/// Starts amphorae as processes of this host and finds those that an earlier controller started.
#[derive(Debug)]
pub struct Processes {
    settings: ProcessSettings,
    /// Canonical, since supervisors are recognised by the path of their configuration.
    directory: PathBuf,
    slots: Mutex<BTreeMap<AmphoraId, Arc<tokio::sync::Mutex<Slot>>>>,
    ports: PortsInUse,
    hasher: RandomState,
    deaths: watch::Sender<u64>,
}

/// What is known of one amphora.
#[derive(Debug, Default)]
struct Slot {
    running: Option<Running>,
    endpoint: Option<Endpoint>,
    /// Of the order that the running amphora has.
    fingerprint: Option<u64>,
    /// The other hosts that its network was last told to be on.
    peers: Option<String>,
    /// Deaths in a row, each soon after the start before it.
    quick_deaths: u32,
    /// How the last one went, for the error that a death in quick succession is told with.
    last_end: Option<String>,
    not_before: Option<Instant>,
    /// How long its connections get to end, where that is not as the settings say.
    drain: Option<Duration>,
}

#[derive(Debug)]
struct Running {
    supervisor: Supervisor,
    since: Instant,
    ended: Ended,
    /// Set before it is asked to end, so that its end is no news.
    asked: Arc<AtomicBool>,
}

impl Processes {
    /// Prepares to run amphorae under `settings.directory`; starts none.
    ///
    /// # Errors
    /// [`ProcessError::Permanent`] when the folder cannot be made.
    pub fn new(settings: ProcessSettings) -> Result<Self, ProcessError> {
        let directory = folder::make_private(&settings.directory)
            .and_then(|()| settings.directory.canonicalize())
            .map_err(|error| {
                ProcessError::Permanent(format!(
                    "cannot use {}: {error}",
                    settings.directory.display()
                ))
            })?;
        Ok(Self {
            settings,
            directory,
            slots: Mutex::default(),
            ports: PortsInUse::default(),
            hasher: RandomState::new(),
            deaths: watch::Sender::new(0),
        })
    }

    /// Counts supervisors that ended without having been asked to: a change is the time to call
    /// [`Processes::ensure`] again.
    #[must_use]
    pub fn deaths(&self) -> watch::Receiver<u64> {
        self.deaths.subscribe()
    }

    /// Whether the amphora's supervisor is running, as far as this driver started or found it.
    pub async fn is_alive(&self, id: AmphoraId) -> bool {
        self.slot(id)
            .lock()
            .await
            .running
            .as_ref()
            .is_some_and(|running| running.supervisor.is_alive())
    }

    /// Starts the amphora, or finds it running, and answers where its agent is (or will be within moments). Fresh
    /// key material replaces what it was started with.
    ///
    /// # Errors
    /// [`ProcessError`]; nothing half-started is left behind that a retry would not find.
    pub async fn ensure(&self, order: Order) -> Result<Endpoint, ProcessError> {
        let slot = self.slot(order.id);
        let mut slot = slot.lock().await;
        let fingerprint = self.fingerprint(&order);
        let peers = order.segment.as_ref().and_then(Segment::peers);
        // The fast way, made to be taken every second: no file is read or written.
        if slot
            .running
            .as_ref()
            .is_some_and(|running| running.supervisor.is_alive())
            && slot.fingerprint == Some(fingerprint)
            && slot.peers == peers
            && let Some(endpoint) = &slot.endpoint
        {
            if self.folder(order.id).trim_log() == Upkeep::Failed {
                tracing::debug!(amphora = %order.id, "the log of the amphora could not be cut back");
            }
            return Ok(endpoint.clone());
        }
        let endpoint = self.bring_up(&mut slot, order, fingerprint).await?;
        slot.peers = peers;
        Ok(endpoint)
    }

    /// Stops the amphora and forgets it, its configuration included. Absent counts as done.
    ///
    /// # Errors
    /// [`ProcessError`]
    pub async fn release(&self, id: AmphoraId) -> Result<(), ProcessError> {
        let slot = self.slot(id);
        let mut locked = slot.lock().await;
        let folder = self.folder(id);
        if folder.exists() {
            self.stop(&mut locked, &folder).await?;
            if folder.has_segment() {
                self.leave_network(id).await?;
            }
            cgroup::remove(id).await;
            folder.remove()?;
            tracing::info!(amphora = %id, "the amphora was stopped and forgotten");
        }
        if let Some(endpoint) = &locked.endpoint {
            self.ports.give_back(endpoint);
        }
        *locked = Slot::default();
        self.slots
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id);
        Ok(())
    }

    /// The amphorae that have a folder here.
    ///
    /// # Errors
    /// [`ProcessError`]
    pub fn found(&self) -> Result<Vec<AmphoraId>, ProcessError> {
        folder::amphorae_in(&self.directory)
    }

    /// Stops all amphorae but keeps what they need to resume.
    ///
    /// # Errors
    /// [`ProcessError`]
    pub async fn stop_all(&self) -> Result<(), ProcessError> {
        let ids = folder::amphorae_in(&self.directory)?;
        // All at once: each may take its time to drain.
        let stops = ids.into_iter().map(|id| async move {
            let slot = self.slot(id);
            let mut slot = slot.lock().await;
            self.stop(&mut slot, &self.folder(id)).await
        });
        let mut outcome = Ok(());
        for stopped in join_all(stops).await {
            outcome = outcome.and(stopped);
        }
        outcome
    }

    fn slot(&self, id: AmphoraId) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    fn folder(&self, id: AmphoraId) -> Folder {
        Folder::new(self.directory.join(id.to_string()))
    }

    /// A number that differs when the order does. Kept instead of the order, so that no key stays in memory.
    fn fingerprint(&self, order: &Order) -> u64 {
        self.hasher.hash_one((
            &order.authority_pem,
            &order.certificate_pem,
            &order.key_pem,
            &order.controllers,
            &order.conduct,
            &order.segment,
            &order.allotment,
        ))
    }

    /// The slow way of `ensure`: looks at everything, writes what differs, starts what is not running.
    async fn bring_up(
        &self,
        slot: &mut Slot,
        order: Order,
        fingerprint: u64,
    ) -> Result<Endpoint, ProcessError> {
        let id = order.id;
        let folder = self.folder(id);
        slot.note_end();
        folder.make()?;
        if slot.running.is_none()
            && folder.was_started()
            && let Some(supervisor) = Supervisor::find(&folder).await
        {
            tracing::info!(amphora = %id, pid = supervisor.pid(), "the amphora is running already");
            slot.running = Some(self.watch(supervisor, None));
        }
        folder.write_identity(&order)?;
        // Whoever is started finds them; whoever runs is told.
        let mut has_news = false;
        if let Some(peers) = order.segment.as_ref().and_then(Segment::peers) {
            let told = slot.peers.as_ref();
            has_news = told.is_some_and(|told| *told != peers);
            has_news |= folder.write_peers(&peers)?;
        }
        cgroup::prepare(id, order.allotment)?;
        let kept = folder.read_endpoint();
        if slot.running.is_some() {
            let config = kept
                .as_ref()
                .map(|endpoint| folder.config(&order, endpoint, &self.settings));
            if let (Some(endpoint), Some(config)) = (kept.clone(), config)
                && endpoint.agent.ip() == self.settings.address
                && folder.has_config(&config)
                && let Some(running) = &slot.running
            {
                cgroup::join(id, order.allotment, running.supervisor.pid())?;
                if has_news {
                    self.tell_peers(id, &folder).await?;
                }
                slot.drain = order.conduct.as_ref().map(|conduct| conduct.drain);
                self.ports.keep(&endpoint);
                slot.settle(endpoint.clone(), fingerprint);
                return Ok(endpoint);
            }
            tracing::info!(amphora = %id, "the settings of the amphora changed: it is started again");
            self.stop(slot, &folder).await?;
        }
        slot.may_start(&folder, id)?;
        let kept = kept.filter(|kept| kept.agent.ip() == self.settings.address);
        let endpoint = folder.choose_endpoint(id, kept, self.settings.address, &self.ports)?;
        folder.write_config(&folder.config(&order, &endpoint, &self.settings))?;
        folder.rotate_log()?;
        let (supervisor, child) = Supervisor::start(&self.settings.binary, &folder)?;
        tracing::info!(amphora = %id, pid = supervisor.pid(), agent = %endpoint.agent, "the amphora was started");
        let pid = supervisor.pid();
        slot.running = Some(self.watch(supervisor, Some(child)));
        slot.drain = order.conduct.as_ref().map(|conduct| conduct.drain);
        if let Err(error) = cgroup::join(id, order.allotment, pid) {
            // Nothing serves that is not held to what it may take.
            self.stop(slot, &folder).await?;
            return Err(error);
        }
        slot.settle(endpoint.clone(), fingerprint);
        Ok(endpoint)
    }

    /// Has the supervisor waited for: reaped if it is our child, and told about if nobody asked it to end.
    fn watch(&self, supervisor: Supervisor, child: Option<tokio::process::Child>) -> Running {
        let asked = Arc::new(AtomicBool::new(false));
        let ended = Ended::default();
        let waiting = supervisor.wait_for_end(child, ended.clone());
        let (deaths, unless) = (self.deaths.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            waiting.await;
            if !unless.load(Ordering::Acquire) {
                deaths.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        Running {
            supervisor,
            since: Instant::now(),
            ended,
            asked,
        }
    }

    /// Takes an amphora that has ended off its network, which its supervisor does unless it was killed.
    async fn leave_network(&self, id: AmphoraId) -> Result<(), ProcessError> {
        let mut command = Command::new(&self.settings.binary);
        command.args(["network", "leave", "--id", &id.to_string()]);
        let doing = format!("amphora {id} cannot be taken off its network");
        see_to(command, &doing).await
    }

    /// Has the tunnel of an amphora's network reach the hosts that it is to reach, now and not when its supervisor looks
    /// again.
    async fn tell_peers(&self, id: AmphoraId, folder: &Folder) -> Result<(), ProcessError> {
        let mut command = Command::new(&self.settings.binary);
        command
            .args(["network", "peers", "--config"])
            .arg(folder.config_path());
        let doing = format!("the network of amphora {id} cannot be told of other hosts");
        see_to(command, &doing).await
    }

    /// Stops the supervisor and its agent, with force when they do not go by themselves.
    async fn stop(&self, slot: &mut Slot, folder: &Folder) -> Result<(), ProcessError> {
        // The supervisor gives the agent its time to drain and a margin of 5 s, then kills it.
        let drain = slot.drain.unwrap_or(self.settings.drain);
        let patience = drain + Duration::from_secs(7);
        let running = slot.running.take().map(|running| {
            running.asked.store(true, Ordering::Release);
            running.supervisor
        });
        let supervisor = match running {
            Some(supervisor) => Some(supervisor),
            None => Supervisor::find(folder).await,
        };
        if let Some(supervisor) = supervisor {
            supervisor.stop(patience).await?;
        }
        supervisor::stop_agent(folder, patience).await?;
        slot.fingerprint = None;
        Ok(())
    }
}

impl Slot {
    fn settle(&mut self, endpoint: Endpoint, fingerprint: u64) {
        self.endpoint = Some(endpoint);
        self.fingerprint = Some(fingerprint);
    }

    /// Takes note of a supervisor that ended by itself; the sooner and the oftener, the longer until the next start.
    fn note_end(&mut self) {
        let Some(running) = self
            .running
            .take_if(|running| !running.supervisor.is_alive())
        else {
            return;
        };
        let how = running
            .ended
            .get()
            .cloned()
            .unwrap_or_else(|| "for an unknown reason".to_owned());
        if running.since.elapsed() >= QUICK_DEATH {
            self.quick_deaths = 0;
        }
        let wait = RESTART_WAIT.saturating_mul(self.quick_deaths.min(RESTART_WAIT_FACTOR_MAX));
        self.quick_deaths = self.quick_deaths.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
        self.last_end = Some(how);
    }

    /// Whether the time to start has come, after deaths in quick succession.
    fn may_start(&self, folder: &Folder, id: AmphoraId) -> Result<(), ProcessError> {
        match (self.not_before, &self.last_end) {
            (Some(moment), Some(how)) if moment > Instant::now() => {
                Err(ProcessError::Transient(format!(
                    "amphora {id} ended soon after its start ({how}) and will be started again; {}",
                    folder.log_tail()
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Runs the program to do something, which fails as the program says.
async fn see_to(mut command: Command, doing: &str) -> Result<(), ProcessError> {
    let failed = |what: &dyn Display| ProcessError::Transient(format!("{doing}: {what}"));
    let done = command.output().await.map_err(|error| failed(&error))?;
    if done.status.success() {
        return Ok(());
    }
    Err(failed(&String::from_utf8_lossy(&done.stderr).trim()))
}

/// Runs futures together and answers all their results, in order.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *output = Some(done),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    waiting
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

/// A supervisor that ends younger than this points to something that the next one will meet too.
const QUICK_DEATH: Duration = Duration::from_secs(5);
/// Waited for each such death in a row but the first, up to [`RESTART_WAIT_FACTOR_MAX`] times.
const RESTART_WAIT: Duration = Duration::from_millis(500);
const RESTART_WAIT_FACTOR_MAX: u32 = 20;

#[cfg(test)]
mod tests;
