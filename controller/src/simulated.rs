//! A controller as simulations run it (D52): the very parts and loops of the real one, without sockets, among what the
//! simulation gives it.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use krater_amphora_api::{AmphoraId, HostReceipt, HostReport, Report, ReportReceipt, SnapshotSpec};
use krater_controller_api::Application;
use krater_controller_core::{compile, secret::Secrets, tree::LoadBalancerTree, turns};
use krater_controller_store::Store;
use krater_driver::{ComputeDriver, NetworkDriver};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    clock,
    config::{Config, Overrides},
    controller::{Foundation, World, compile_defaults},
    dial::Dialer,
    intake::{Intake, NotTaken},
    pki::{Authority, tls::Credentials},
    trail::Trail,
};

pub use crate::realm::Omission;

/// What a controller is among.
pub struct Surroundings {
    /// Its settings, as a file would have them.
    pub settings: String,
    /// Its folder.
    pub state_dir: PathBuf,
    /// Which amphorae are its own to start and end.
    pub host: String,
    /// The database.
    pub store: Store,
    /// The way to agents.
    pub dialer: Arc<dyn Dialer>,
    /// Where amphorae run.
    pub compute: Arc<dyn ComputeDriver>,
    /// Where addresses come from.
    pub network: Arc<dyn NetworkDriver>,
    /// What is left out of it.
    pub omission: Omission,
}

/// A controller that runs. Dropping it ends its loops; the rest ends with its realm.
pub struct Controller {
    application: Arc<dyn Application>,
    intake: Arc<Intake>,
    defaults: compile::Defaults,
    _trail: Arc<Trail>,
    _tasks: JoinSet<()>,
}

impl Controller {
    /// Starts it, in the realm of the task that runs.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(surroundings: Surroundings) -> Result<Self, String> {
        let overrides = Overrides {
            state_dir: Some(surroundings.state_dir),
            ..Overrides::default()
        };
        let config = Config::parse(&surroundings.settings, &overrides)
            .map_err(|reasons| reasons.join("; "))?;
        let (now, folder) = (clock::now(), config.state_dir.join("pki"));
        let sentence = |error: &dyn std::error::Error| crate::cause::chain(error);
        let authority = Authority::open(&folder, now).map_err(|error| sentence(&error))?;
        let credentials = Credentials::load(&authority, now).map_err(|error| sentence(&error))?;
        let world = World {
            store: surroundings.store,
            authority: Arc::new(authority),
            credentials: Arc::new(credentials),
            dialer: surroundings.dialer,
            compute: surroundings.compute,
            deaths: watch::channel(0).1,
            network: surroundings.network,
            host: surroundings.host,
            omission: surroundings.omission,
        };
        let reports_to = SocketAddr::from(([127, 0, 0, 1], 1));
        let parts = Foundation::lay(&config, world, reports_to)
            .await
            .map_err(|error| sentence(&error))?;
        let (application, intake) = (Arc::clone(&parts.application), Arc::clone(&parts.intake));
        Ok(Self {
            application,
            intake,
            defaults: compile_defaults(&config),
            _trail: Arc::clone(&parts.trail),
            _tasks: parts.begin(&config),
        })
    }

    /// What is to be in force of a tree on one of its amphorae.
    #[must_use]
    pub fn wanted(&self, tree: &LoadBalancerTree, on: AmphoraId) -> SnapshotSpec {
        let (balancer, interval) = (&tree.load_balancer.value, self.defaults.advert_interval_ms);
        SnapshotSpec {
            announcement: turns::announcement(balancer, on, interval),
            ..compile::compile(tree, &self.defaults, &Secrets::default())
        }
    }

    /// What tenants ask.
    #[must_use]
    pub fn application(&self) -> Arc<dyn Application> {
        Arc::clone(&self.application)
    }

    /// Takes a report as it arrives from an amphora that has shown who it is.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub async fn take_report(&self, from: AmphoraId, body: &[u8]) -> Result<ReportReceipt, String> {
        let report: Report = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let taken = self.intake.take(from, report).await;
        taken.map_err(|error| error.to_string())
    }

    /// Takes what changed since a report, in the same way. `None`: it does not remember what that follows.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub async fn take_changes(
        &self,
        from: AmphoraId,
        body: &[u8],
    ) -> Result<Option<ReportReceipt>, String> {
        let changes = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        match self.intake.take_changes(from, changes) {
            Ok(receipt) => Ok(Some(receipt)),
            Err(NotTaken::NotFollowing) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes a report as it arrives from a host that has shown who it is.
    ///
    /// # Errors
    /// Why not, as a sentence.
    pub async fn take_host_report(&self, body: &[u8]) -> Result<HostReceipt, String> {
        let report: HostReport = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let taken = self.intake.take_host(report).await;
        taken.map_err(|error| error.to_string())
    }
}
