//! The agent of a host: joins a deployment once, and from then on runs the amphorae that controllers want there.
//!
//! It starts what it has on its disk before anybody is asked, so that a host comes back while no controller is there; a
//! controller that is there is heard first, for a moment, since the host may have been given up meanwhile.

mod controllers;
mod enrol;
mod folder;
mod keys;
mod route;
mod segment;
mod tenants;
mod token;

use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use krater_amphora_api::{
    BootId, ContractVersion, HostFacts, HostNetworks, HostReceipt, HostReport, ShownPapers,
};
use krater_amphora_process::{Papers, ProcessError, ProcessSettings, Processes};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::LocalSet,
    time::sleep,
};
use tracing::{error, info, warn};
use uuid::Builder;

use self::{
    controllers::{AskError, Controllers},
    enrol::{EnrolError, Pinned},
    folder::{Folder, FolderError, Kept},
    tenants::Tenants,
    token::Token,
};
use crate::{
    agent::{chain, serve::serve_with},
    clock,
    config::Controller,
    identity::{Identity, IdentityError, Refresh},
    keep::{KeepError, StateLock},
    network,
};

pub(crate) use self::{controllers::parse_url, token::Token as JoinToken};

/// What a host needs to join.
#[derive(Debug)]
pub(crate) struct Join {
    /// Where everything is kept.
    pub(crate) state_dir: PathBuf,
    /// Controllers, any of them.
    pub(crate) controllers: Vec<Controller>,
    pub(crate) token: Token,
    /// Where the agent is reached; the address that leads to the controller, unless given.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    /// Where tunnels of other hosts reach this one; where its agent is, unless given.
    pub(crate) underlay: Option<IpAddr>,
    /// How people call it; the name of the system, unless given.
    pub(crate) name: Option<String>,
    /// Worker threads of each amphora.
    pub(crate) workers: Option<usize>,
    /// Join as another host, though this one has joined.
    pub(crate) again: bool,
}

/// A host that has joined.
pub(crate) struct Host {
    folder: Folder,
    kept: Kept,
    identity: Identity,
    _lock: StateLock,
}

/// Why a host does not join or run. Each is a sentence for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The state folder is in use, or cannot be used.
    #[error(transparent)]
    Lock(#[from] KeepError),
    /// A file cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// It has not joined.
    #[error("{} is of no host that joined a deployment: krater-amphora join", .0.display())]
    NotJoined(PathBuf),
    /// It was not let in.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// Its certificates cannot be used.
    #[error(
        "this host cannot show who it is; with a new token it joins again (krater-amphora join)"
    )]
    Identity(#[from] IdentityError),
    /// Processes cannot be run.
    #[error("amphorae cannot be run: {0}")]
    Processes(ProcessError),
    /// The system refuses something.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
    /// The deployment has given it up.
    #[error(
        "{0}: its amphorae were ended and its identity forgotten; to come back it joins with a new token"
    )]
    Removed(String),
}

impl Join {
    /// Joins, unless that was done before.
    pub(crate) fn run(self) -> Result<Host, HostError> {
        let lock = StateLock::acquire(&self.state_dir)?;
        let folder = Folder::new(self.state_dir.clone());
        match self.standing(&folder)? {
            Standing::Stranger => {}
            Standing::Good => {
                info!(
                    "this host has joined already: the token is not needed (--again joins as another host)"
                );
                return Host::of(folder, lock);
            }
            Standing::Over(reason) => {
                warn!(reason, "this host joins again, as another one");
            }
        }
        // Kept before it is used: whoever asks again after a crash is known by it.
        let key = folder.key_to_join()?;
        let runtime = runtime()?;
        let kept = runtime.block_on(async {
            let pinned = Pinned::new(self.token.fingerprint.clone());
            enrol::enrol(&self, &key, pinned).await
        })?;
        let papers = Papers {
            certificate_pem: kept.certificate_pem,
            key_pem: key.pem().to_owned(),
        };
        folder.write_joined(&kept.kept, &papers, &kept.authority_pem)?;
        info!(host = %kept.kept.host, agent = %kept.kept.agent, "this host has joined");
        Host::of(folder, lock)
    }

    /// Whether the folder is of a host that controllers can believe still.
    fn standing(&self, folder: &Folder) -> Result<Standing, HostError> {
        let Some(kept) = folder.read()? else {
            return Ok(Standing::Stranger);
        };
        if self.again {
            return Ok(Standing::Over("it was told to".to_owned()));
        }
        Ok(match Host::identity(folder, &kept) {
            Ok(identity) if has_ended(identity.validity()) => {
                Standing::Over("its certificate has ended".to_owned())
            }
            Ok(_) => Standing::Good,
            Err(error) => Standing::Over(chain(&error)),
        })
    }
}

/// What a host is to its deployment, as far as its folder tells.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It has not joined.
    Stranger,
    /// It has joined.
    Good,
    /// It had joined, and nobody can believe it any more, for this reason.
    Over(String),
}

fn has_ended((_, to): (i64, i64)) -> bool {
    to <= clock::wall_seconds()
}

impl Host {
    /// The host of a state folder.
    pub(crate) fn open(state_dir: PathBuf, underlay: Option<IpAddr>) -> Result<Self, HostError> {
        let lock = StateLock::acquire(&state_dir)?;
        let mut host = Self::of(Folder::new(state_dir), lock)?;
        if underlay.is_some() && host.kept.underlay != underlay {
            host.kept.underlay = underlay;
            host.folder.write(&host.kept)?;
        }
        Ok(host)
    }

    fn of(folder: Folder, lock: StateLock) -> Result<Self, HostError> {
        let Some(kept) = folder.read()? else {
            return Err(HostError::NotJoined(folder.path().to_owned()));
        };
        let identity = Self::identity(&folder, &kept)?;
        if has_ended(identity.validity()) {
            error!("{ENDED}");
        }
        Ok(Self {
            folder,
            kept,
            identity,
            _lock: lock,
        })
    }

    fn identity(folder: &Folder, kept: &Kept) -> Result<Identity, IdentityError> {
        Identity::read(
            format!("krater:host:{}", kept.host),
            folder.identity_files(),
        )
    }

    /// Runs what controllers want here, until told to end. Amphorae go on.
    pub(crate) fn run(self) -> Result<(), HostError> {
        let runtime = runtime()?;
        LocalSet::new().block_on(&runtime, self.serve())
    }

    async fn serve(self) -> Result<(), HostError> {
        let Self {
            folder,
            kept,
            identity,
            _lock,
        } = self;
        let processes = Processes::new(ProcessSettings {
            binary: folder::own_program()
                .map_err(|error| HostError::System("find itself", error))?,
            directory: folder.amphorae(),
            workers: kept.workers,
            heartbeat: HEARTBEAT,
            drain: DRAIN,
            access_log: None,
            address: kept.agent.ip(),
        });
        let processes = processes.map_err(HostError::Processes)?;
        let identity = Rc::new(RefCell::new(identity));
        let controllers = Rc::new(Controllers::new(
            Rc::clone(&identity),
            kept.controllers.clone(),
        ));
        let facts = facts(&kept);
        if let Some(obstacle) = facts
            .networks
            .as_ref()
            .and_then(|its| its.obstacle.as_ref())
        {
            info!(
                obstacle,
                "this host gets no load balancers on networks of tenants"
            );
        }
        let tenants = Tenants::found(
            folder.amphorae(),
            processes,
            Rc::clone(&controllers),
            kept.underlay(),
        );
        let agent = Rc::new(Agent {
            facts,
            folder,
            kept: RefCell::new(kept),
            identity,
            controllers,
            tenants: Rc::new(tenants),
            renewing: tokio::sync::Mutex::default(),
        });
        let ended = agent.attend();
        let (mut term, mut int) = (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        );
        tokio::select! {
            removed = ended => {
                agent.end(&removed).await;
                Err(HostError::Removed(removed))
            }
            _ = term.recv() => Ok(()),
            _ = int.recv() => Ok(()),
        }
    }
}

/// A host at work.
pub(crate) struct Agent {
    facts: HostFacts,
    folder: Folder,
    kept: RefCell<Kept>,
    identity: Rc<RefCell<Identity>>,
    controllers: Rc<Controllers>,
    tenants: Rc<Tenants>,
    /// Everything is renewed by one at a time.
    renewing: tokio::sync::Mutex<()>,
}

impl Agent {
    /// Does everything at once, until the deployment has given the host up; answers its words.
    async fn attend(self: &Rc<Self>) -> String {
        let address = self.facts.agent.parse();
        let Ok(address): Result<SocketAddr, _> = address else {
            return "its address cannot be understood".to_owned();
        };
        // Heard first: what nobody wants any more must not serve again, however short.
        let report = self.own_report();
        let first = self.controllers.post_to_all(REPORTS, &report).await;
        if matches!(first, Err(AskError::Silent(_))) {
            warn!("no controller answers: what was wanted here last is started");
        }
        if let Some(removed) = self.take_answer(first) {
            return removed;
        }
        let surface = Rc::clone(self);
        let answer = move |request| route::answer(Rc::clone(&surface), request);
        tokio::select! {
            removed = self.beat() => removed,
            () = self.renew() => String::new(),
            () = self.tenants.keep() => String::new(),
            () = serve_with((Rc::clone(&self.identity), None), address, "host agent", answer, std::future::pending) => String::new(),
        }
    }

    /// Reports, for ever, until the answer is that the host was removed.
    async fn beat(&self) -> String {
        loop {
            if let Some(removed) = self.report().await {
                return removed;
            }
            tokio::select! {
                () = sleep(HEARTBEAT) => {}
                () = self.tenants.news() => sleep(NEWS_PAUSE).await,
            }
        }
    }

    /// Sends one report and heeds the answer.
    async fn report(&self) -> Option<String> {
        let report = self.own_report();
        let answer = self.controllers.post(REPORTS, &report).await;
        self.take_answer(answer)
    }

    fn own_report(&self) -> HostReport {
        HostReport {
            host: self.kept.borrow().host,
            facts: self.facts.clone(),
            amphorae: self.tenants.list(),
        }
    }

    /// Heeds what a report was answered by; answers the words by which the host was removed, if it was.
    fn take_answer(&self, answer: Result<HostReceipt, AskError>) -> Option<String> {
        match answer {
            Ok(receipt) => {
                self.heed(receipt);
                None
            }
            Err(AskError::Gone(message)) => Some(message),
            Err(AskError::Refused(reason)) => {
                error!(
                    reason,
                    "the deployment refuses this host; what it runs goes on (krater-amphora join --again joins as another host)"
                );
                None
            }
            Err(error) => {
                warn!(error = chain(&error), "no controller took the report");
                None
            }
        }
    }

    fn heed(&self, receipt: HostReceipt) {
        let HostReceipt {
            authority_pem,
            controllers,
            unwanted,
        } = receipt;
        if let Err(error) = self.take_authority(&authority_pem) {
            warn!(
                error = chain(&error),
                "the authorities could not be taken over"
            );
        }
        if !controllers.is_empty() {
            self.take_controllers(controllers);
        }
        for amphora in unwanted {
            self.tenants.let_go(amphora);
        }
    }

    /// Takes over which authorities are to be trusted, and has the amphorae do so.
    fn take_authority(&self, authority_pem: &str) -> Result<(), HostError> {
        if authority_pem.is_empty() || !self.folder.note_authority(authority_pem)? {
            return Ok(());
        }
        info!("the authorities of the deployment changed");
        self.refresh();
        self.tenants.trust(authority_pem);
        Ok(())
    }

    fn take_controllers(&self, controllers: Vec<String>) {
        let parsed: Vec<Controller> = controllers
            .iter()
            .filter_map(|text| crate::config::parse_controller(text).ok())
            .collect();
        let mut kept = self.kept.borrow_mut();
        if parsed.is_empty() || kept.controllers == controllers {
            return;
        }
        kept.controllers = controllers;
        if let Err(error) = self.folder.write(&kept) {
            warn!(
                error = chain(&error),
                "the controllers could not be written down"
            );
        }
        self.controllers.direct(parsed);
    }

    /// Has certificates renewed in time, for ever.
    async fn renew(&self) {
        loop {
            let validity = self.identity.borrow().validity();
            let due = keys::is_due(validity, clock::wall_seconds());
            if due && let Err(error) = self.renew_own().await {
                if has_ended(validity) {
                    error!("{ENDED}");
                }
                warn!(
                    error = chain(&error),
                    "the certificate of this host could not be renewed; it is tried again"
                );
            }
            self.tenants.renew_due().await;
            sleep(RENEWAL_INTERVAL).await;
        }
    }

    /// Other keys and certificates for this host and all its amphorae, though the old ones are still good.
    async fn renew_all(&self) -> Result<(), String> {
        let Ok(_alone) = self.renewing.try_lock() else {
            return Err("everything is being renewed already".to_owned());
        };
        self.renew_own().await.map_err(|error| chain(&error))?;
        self.tenants.renew_all().await
    }

    /// What this host and its amphorae show and trust.
    fn shown(&self) -> Result<Vec<ShownPapers>, String> {
        let found = self.folder.identity().map_err(|error| chain(&error))?;
        let (papers, authority_pem) = found.ok_or("this host has no certificate")?;
        let own = keys::shown(None, &papers.certificate_pem, &authority_pem);
        Ok([own].into_iter().chain(self.tenants.shown()).collect())
    }

    async fn renew_own(&self) -> Result<(), HostError> {
        let key = keys::Key::make().map_err(EnrolError::Key)?;
        let certified = self
            .controllers
            .certify(None, &key)
            .await
            .map_err(EnrolError::Ask)?;
        let papers = Papers {
            certificate_pem: certified.certificate_pem,
            key_pem: key.pem().to_owned(),
        };
        self.folder
            .write_identity(&papers, &certified.authority_pem)?;
        self.refresh();
        Ok(())
    }

    fn refresh(&self) {
        match self.identity.borrow_mut().refresh() {
            Ok(Refresh::Unchanged) => {}
            Ok(Refresh::Renewed) => {
                info!("the certificate of this host was renewed");
                self.controllers.hang_up();
            }
            Err(error) => {
                warn!(%error, "changed certificate files cannot be used; those before stay in use")
            }
        }
    }

    /// Ends everything: the deployment has given the host up.
    async fn end(&self, words: &str) {
        error!(words, "this host was removed: all its amphorae are ended");
        self.tenants.release_all().await;
        if let Err(error) = self.folder.forget() {
            warn!(
                error = chain(&error),
                "the identity of this host could not be removed"
            );
        }
    }
}

fn facts(kept: &Kept) -> HostFacts {
    HostFacts {
        name: kept.name.clone(),
        agent: kept.agent.to_string(),
        boot: BootId::new(Builder::from_random_bytes(rand::random()).into_uuid()),
        contract: ContractVersion::CURRENT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: std::thread::available_parallelism()
            .ok()
            .and_then(|cores| u32::try_from(cores.get()).ok())
            .unwrap_or(1),
        memory_bytes: folder::memory_bytes(),
        networks: Some(HostNetworks {
            underlay: kept.underlay(),
            obstacle: network::obstacle(),
        }),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, HostError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| HostError::System("start", error))
}

fn listen(kind: SignalKind) -> Result<tokio::signal::unix::Signal, HostError> {
    signal(kind).map_err(|error| HostError::System("listen to signals", error))
}

/// Between two reports of a host.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After news, so that those of one moment travel together.
const NEWS_PAUSE: Duration = Duration::from_millis(20);
/// Until an order says otherwise.
const DRAIN: Duration = Duration::from_secs(10);
const REPORTS: &str = "/v1/hosts/reports";
/// Nobody but the host itself can tell: controllers end the handshake without hearing who it is.
const ENDED: &str = "the certificate of this host has ended, and no controller believes it any more; what it runs goes on, and with a new token it joins again (krater-amphora join)";
/// Between two looks at certificates: far more often than a third of their lifetime.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
