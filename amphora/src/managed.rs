//! The amphora under a controller: what was kept is served first, then the agent listens and heartbeats begin.

use std::{
    cell::RefCell,
    io,
    path::Path,
    rc::Rc,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use krater_amphora_api::AmphoraId;
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
    keep::{Holder, Keep, KeepError, StateLock, Tenure},
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

/// The right to start, taken before anything is touched that another process may be using.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The state folder is this process's.
    State(StateLock),
    /// It will be, when the one before lets go.
    Succession(StateLock),
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

impl Claim {
    /// Takes it, or says who has it.
    pub(crate) fn take(state_dir: &Path, order: Order) -> Result<Self, StartError> {
        match order {
            Order::Begin => Ok(Self::State(StateLock::acquire(state_dir)?)),
            Order::Succeed => {
                Custody::look_for_supervisor().map_err(StartError::Unheard)?;
                Ok(Self::Succession(StateLock::acquire_succession(state_dir)?))
            }
        }
    }

    /// Waits until the state folder is this process's.
    fn fulfil(self, config: &Config) -> Result<StateLock, StartError> {
        match self {
            Self::State(lock) => Ok(lock),
            Self::Succession(place) => {
                // What could keep it from serving is found out while the one before it still does. What is kept is that
                // one's to touch.
                Identity::load(config)?;
                Custody::announce_readiness().map_err(StartError::Unheard)?;
                let lock = await_lock(&config.state_dir)?;
                // Not before: the one before lets go only while somebody waits for it.
                drop(place);
                Ok(lock)
            }
        }
    }
}

impl Managed {
    /// Comes to have the state folder and reads the certificates.
    ///
    /// Unusable certificates are refused only while nothing is kept: a fresh start that can never be told anything is
    /// a mistake, whereas traffic that was served before goes on being served.
    pub(crate) fn prepare(config: Config, claim: Claim) -> Result<Self, StartError> {
        let lock = claim.fulfil(&config)?;
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
        // To the end of this function, unless the folder is given up for a successor.
        let tenure = Tenure::new(lock);
        let shared = tenure.clone();
        let outcome = housekeeper::run(
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
                let kept = (keep, shared.clone());
                let agent = Agent::restore(Rc::clone(&housekeeper), kept, config.id, port, inside)
                    .map_err(io::Error::other)?;
                housekeeper.peers.keep_in(&config.state_dir);
                let keeping = Rc::clone(&agent);
                let _ = housekeeper.renounce();
                let tallies = Arc::clone(housekeeper.tallies());
                persist("network", &tallies, move || {
                    Rc::clone(&keeping).keep_network()
                });
                serve_metrics(&housekeeper, &config);
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
                exchange_sessions(&housekeeper, config.id, &identity);
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
                        _ = successions.recv() => if hand_over(&housekeeper, &shared, &config.state_dir).await {
                            return Ok(Finish::HandOver(config.upgrade_drain));
                        },
                    }
                }
            },
        );
        drop(tenure);
        outcome
    }
}

/// Exchanges sessions with the other amphorae that carry the same.
fn exchange_sessions(
    housekeeper: &Rc<Housekeeper>,
    own: AmphoraId,
    identity: &Rc<RefCell<Identity>>,
) {
    let peers = &housekeeper.peers;
    peers.take_part(own);
    let telling = Rc::clone(peers);
    persist("sessions", housekeeper.tallies(), move || {
        Rc::clone(&telling).tell()
    });
    let (dialing, identity) = (Rc::clone(peers), Rc::clone(identity));
    persist("session peers", housekeeper.tallies(), move || {
        Rc::clone(&dialing).dial(Rc::clone(&identity))
    });
}

/// Tells scrapers how it goes, if anybody wants to know.
fn serve_metrics(housekeeper: &Rc<Housekeeper>, config: &Config) {
    if let Some(address) = config.metrics {
        let endpoint = Rc::new(Endpoint {
            housekeeper: Rc::clone(housekeeper),
            amphora: Some(config.id),
            address,
        });
        persist("metrics", housekeeper.tallies(), move || {
            Rc::clone(&endpoint).serve()
        });
    }
}

/// Gives the state folder up, if somebody is there who serves from then on: a supervisor that has the sockets, and a
/// successor that waits for them. Anybody may send the signal, and at any time.
async fn hand_over(housekeeper: &Housekeeper, tenure: &Tenure, state_dir: &Path) -> bool {
    if housekeeper.is_held() != Ok(true) {
        warn!("told to hand over, but no supervisor holds the listening sockets: serving on");
        return false;
    }
    if !is_awaited(state_dir) {
        info!("told to hand over, but nobody waits to take over: a successor is asked for");
        // Who cannot be asked was told of above.
        let _ = housekeeper.ask_for_successor();
        return false;
    }
    housekeeper.peers.note().await;
    // The disk may take long, and who waits may have been given up by then.
    let is_given_up = tenure.give_up(|| is_awaited(state_dir)).await;
    if !is_given_up {
        housekeeper.peers.take_back();
        warn!("the successor is gone before it could take over: serving on");
    }
    is_given_up
}

/// Whether a living process waits to take over.
fn is_awaited(state_dir: &Path) -> bool {
    match StateLock::successor(state_dir) {
        Ok(holder) => holder != Holder::Nobody,
        Err(error) => {
            warn!(
                error = crate::agent::chain(&error),
                "it cannot be seen whether a successor waits"
            );
            false
        }
    }
}

/// Takes the state folder once the agent before lets go.
fn await_lock(state_dir: &Path) -> Result<StateLock, KeepError> {
    let deadline = Instant::now() + SUCCESSION_TIME_MAX;
    loop {
        match StateLock::acquire(state_dir) {
            Err(KeepError::Locked { .. }) if Instant::now() < deadline => {
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
