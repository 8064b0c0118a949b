//! The amphora under a controller: what was kept is served first, then the agent listens and heartbeats begin.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{error, info, warn};

use crate::{
    agent::{Agent, serve},
    config::Config,
    custody::Custody,
    heartbeat::Heartbeat,
    housekeeper::{self, Finish, Housekeeper, persist},
    identity::Identity,
    keep::{Keep, KeepError, StateLock},
    limits::{SUCCESSION_PAUSE, SUCCESSION_TIME_MAX},
    metrics::Endpoint,
    network::Inside,
};

/// A managed amphora that holds its state folder and is ready to start.
#[derive(Debug)]
pub(crate) struct Managed {
    config: Config,
    keep: Keep,
    identity: Option<Identity>,
    lock: StateLock,
}

/// How an agent comes to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// There is none before it.
    Begin,
    /// One serves, and lets go as soon as this one could.
    Succeed,
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The state folder cannot be used.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The certificate files cannot be used, and nothing is kept that could be served meanwhile.
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    /// Nobody hears that it could take over.
    #[error("it cannot take over")]
    Unheard(#[source] io::Error),
}

impl Managed {
    /// Takes the state folder and reads the certificates.
    ///
    /// Unusable certificates are refused only while nothing is kept: a fresh start that can never be told anything is
    /// a mistake, whereas traffic that was served before goes on being served.
    pub(crate) fn prepare(config: Config, order: Order) -> Result<Self, StartError> {
        if order == Order::Succeed {
            // What could keep it from serving is found out while the one before it still does. What is kept is that
            // one's to touch.
            Identity::load(&config)?;
            Custody::announce_readiness().map_err(StartError::Unheard)?;
        }
        let lock = take_lock(&config, order)?;
        let keep = Keep::open(&config.state_dir)?;
        let identity = match Identity::load(&config) {
            Ok(identity) => Some(identity),
            Err(error) if keep.is_empty()? => return Err(error.into()),
            Err(_) => None,
        };
        Ok(Self {
            config,
            keep,
            identity,
            lock,
        })
    }

    /// Serves until told to end, or to hand over to a successor.
    pub(crate) fn run(self) -> io::Result<()> {
        let Self {
            config,
            keep,
            identity,
            lock,
        } = self;
        // Held to the end by this function, unless it is given up for a successor.
        let lock = Rc::new(RefCell::new(Some(lock)));
        let given_up = Rc::clone(&lock);
        housekeeper::run(
            config.workers,
            config.drain,
            config.access_log.clone(),
            move |housekeeper| async move {
                let mut hangups = signal(SignalKind::hangup())?;
                let mut successions = signal(SignalKind::user_defined2())?;
                let port = config.metrics.map(|address| address.port());
                // It cannot be ending: it is only just beginning.
                let _ = housekeeper.entrust(Custody::of_supervisor());
                housekeeper.turns().note_in(&config.state_dir);
                let inside = config.network.clone().map(Inside::open).transpose()?;
                let agent = Agent::restore(Rc::clone(&housekeeper), keep, config.id, port, inside)
                    .map_err(io::Error::other)?;
                let keeping = Rc::clone(&agent);
                let _ = housekeeper.renounce();
                let tallies = Arc::clone(housekeeper.tallies());
                persist("network", &tallies, move || {
                    Rc::clone(&keeping).keep_network()
                });
                if let Some(address) = config.metrics {
                    let endpoint = Endpoint {
                        housekeeper: Rc::clone(&housekeeper),
                        amphora: Some(config.id),
                        address,
                    };
                    let endpoint = Rc::new(endpoint);
                    persist("metrics", &tallies, move || Rc::clone(&endpoint).serve());
                }
                let identity = match identity {
                    Some(identity) => identity,
                    None => identity_when_usable(&config).await,
                };
                let identity = Rc::new(RefCell::new(identity));
                let heartbeat = Rc::new(Heartbeat {
                    agent: Rc::clone(&agent),
                    housekeeper: Rc::clone(&housekeeper),
                    identity: Rc::clone(&identity),
                    controllers: config.controllers,
                    interval: config.heartbeat,
                    current: RefCell::default(),
                });
                let beating = Rc::clone(&heartbeat);
                persist("heartbeat", &tallies, move || Rc::clone(&beating).beat());
                persist("agent", &tallies, move || {
                    serve::serve(Rc::clone(&agent), Rc::clone(&identity), config.listen)
                });
                loop {
                    tokio::select! {
                        _ = hangups.recv() => {
                            info!(
                                "hangup: certificates are read again if they changed; other settings need a restart"
                            );
                            heartbeat.renew_identity();
                        }
                        _ = successions.recv() => if may_hand_over(&housekeeper) {
                            drop(given_up.take());
                            return Ok(Finish::HandOver(config.upgrade_drain));
                        },
                    }
                }
            },
        )
    }
}

/// Whether somebody holds the sockets: else nobody would serve.
fn may_hand_over(housekeeper: &Housekeeper) -> bool {
    let is_held = housekeeper.is_held() == Ok(true);
    if !is_held {
        warn!("told to hand over, but no supervisor holds the listening sockets: serving on");
    }
    is_held
}

/// Takes the state folder; a successor once the agent before it lets go.
fn take_lock(config: &Config, order: Order) -> Result<StateLock, KeepError> {
    let deadline = Instant::now() + SUCCESSION_TIME_MAX;
    loop {
        match StateLock::acquire(&config.state_dir) {
            Err(KeepError::Locked { .. })
                if order == Order::Succeed && Instant::now() < deadline =>
            {
                thread::sleep(SUCCESSION_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

async fn identity_when_usable(config: &Config) -> Identity {
    loop {
        match Identity::load(config) {
            Ok(identity) => return identity,
            Err(error) => error!(
                error = crate::agent::chain(&error),
                "the certificate files cannot be used: serving what was kept, deaf to controllers until they can"
            ),
        }
        sleep(PAUSE).await;
    }
}

/// Between two attempts to read the certificates.
const PAUSE: Duration = Duration::from_secs(1);
