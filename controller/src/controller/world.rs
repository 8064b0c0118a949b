//! What a controller is given of the world around it. A simulation gives it another one.

use std::{collections::BTreeMap, sync::Arc};

use krater_amphora_api::Report;
use krater_controller_store::Store;
use krater_driver::{ComputeDriver, NetworkDriver, Segment};
use krater_driver_local::{ConfigError, LocalNetwork, NoopNetwork};
use tokio::sync::{Semaphore, mpsc, watch};
use uuid::Uuid;

use super::{
    StartError, authority,
    hosting::{here, host},
    processes::compute,
};
use crate::{
    clock,
    config::{Config, NetworkDriverName},
    dial::{Dialer, Tls},
    fleet::{self, Underlay},
    hosts::Hosts,
    knowledge::Knowledge,
    limits::STARTS_AT_ONCE_MAX,
    pki::{Authority, tls::Credentials},
    realm::Omission,
};

/// The database, the fleet's certificates, and what amphorae and addresses are had from.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) authority: Arc<Authority>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) compute: Arc<dyn ComputeDriver>,
    /// Changes when something that the compute driver started died.
    pub(crate) deaths: watch::Receiver<u64>,
    pub(crate) network: Arc<dyn NetworkDriver>,
    /// Which amphorae are this controller's to start and end.
    pub(crate) host: String,
    pub(crate) omission: Omission,
}

impl World {
    /// As the settings say.
    pub(crate) async fn choose(config: &Config, store: Store) -> Result<Self, StartError> {
        let authority = Arc::new(authority(config, &store).await?);
        let credentials = Arc::new(Credentials::load(&authority, clock::now())?);
        let compute = compute(config)?;
        Ok(Self {
            store,
            authority,
            dialer: Arc::new(Tls::new(Arc::clone(&credentials))),
            credentials,
            deaths: compute.deaths(),
            compute: Arc::new(compute),
            network: network(config)?,
            host: host(config)?,
            omission: Omission::Nothing,
        })
    }

    /// What the fleet is made of.
    pub(super) fn fleet(
        self,
        config: &Config,
        (known, hosts): (Knowledge, Arc<Hosts>),
        controllers: Vec<String>,
        reports: mpsc::Sender<Report>,
    ) -> Result<fleet::Parts, StartError> {
        Ok(fleet::Parts {
            known,
            hosts,
            here: here(config),
            deaths: self.deaths,
            compute: self.compute,
            authority: self.authority,
            credentials: self.credentials,
            dialer: self.dialer,
            controllers,
            host: self.host,
            silence: config.fleet.silence,
            reports,
            zones: config.fleet.zones.clone(),
            amphorae_max: config.fleet.amphorae_max,
            load_balancers_max: config.fleet.load_balancers_max,
            segments: segments(config)?,
            underlay: Underlay {
                local: config.network.vxlan.local,
                peers: config.network.vxlan.peers.clone(),
            },
            starts: Semaphore::new(STARTS_AT_ONCE_MAX),
        })
    }
}

fn network(config: &Config) -> Result<Arc<dyn NetworkDriver>, StartError> {
    Ok(match config.network.driver {
        NetworkDriverName::Local => {
            Arc::new(LocalNetwork::new(&config.network.networks).map_err(unusable)?)
        }
        NetworkDriverName::Noop => Arc::new(NoopNetwork::new().map_err(unusable)?),
    })
}

/// The networks that load balancers live on, where those are not their hosts'.
fn segments(config: &Config) -> Result<BTreeMap<Uuid, Arc<Segment>>, StartError> {
    let local = LocalNetwork::new(&config.network.networks).map_err(unusable)?;
    let segments = local.segments().into_iter();
    Ok(segments
        .map(|segment| (segment.id, Arc::new(segment)))
        .collect())
}

fn unusable(errors: Vec<ConfigError>) -> StartError {
    let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
    StartError::Network(reasons.join("; "))
}
