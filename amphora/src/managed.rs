//! The amphora under a controller: what was kept is served first, then the agent listens and heartbeats begin.

use std::{cell::RefCell, io, rc::Rc, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};
use tracing::{error, info};

use crate::{
    agent::{Agent, serve},
    config::Config,
    custody::Custody,
    heartbeat::Heartbeat,
    housekeeper::{self, persist},
    identity::Identity,
    keep::{Keep, KeepError, StateLock},
    metrics::Endpoint,
    network::Inside,
};

/// A managed amphora that holds its state folder and is ready to start.
#[derive(Debug)]
pub(crate) struct Managed {
    config: Config,
    keep: Keep,
    identity: Option<Identity>,
    _lock: StateLock,
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
}

impl Managed {
    /// Takes the state folder and reads the certificates.
    ///
    /// Unusable certificates are refused only while nothing is kept: a fresh start that can never be told anything is
    /// a mistake, whereas traffic that was served before goes on being served.
    pub(crate) fn prepare(config: Config) -> Result<Self, StartError> {
        let lock = StateLock::acquire(&config.state_dir)?;
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
            _lock: lock,
        })
    }

    /// Serves until told to end.
    pub(crate) fn run(self) -> io::Result<()> {
        let Self {
            config,
            keep,
            identity,
            _lock,
        } = self;
        housekeeper::run(
            config.workers,
            config.drain,
            config.access_log.clone(),
            move |housekeeper| async move {
                let mut hangups = signal(SignalKind::hangup())?;
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
                    housekeeper,
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
                while hangups.recv().await.is_some() {
                    info!(
                        "hangup: certificates are read again if they changed; other settings need a restart"
                    );
                    heartbeat.renew_identity();
                }
                Ok(())
            },
        )
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
